"""A soak: 60 % of the measured capacity for minutes, with imports, removals and SDKs that restart, and what grew.

    python -m loadtests.soak MINUTES [--share 0.6] [--listings 20000] [--json]

Memory, files and threads of every process are looked at every few seconds; their slopes are fitted over the last two
thirds. Every answer is compared with the model as in `churn`, and in the end every answer, local ones included, must
have its inquiry record in the ledger.
"""

import argparse
import asyncio
import contextlib
import os
import random
import sqlite3
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import lanjie
from lanjie.v1 import screening_pb2 as pb
from loadtests import gateway, openloop
from loadtests.beside import Beside
from loadtests.churn import MOVING, Churn
from loadtests.gateway import PURPOSE, Usage
from loadtests.openloop import Checks, Load, Wire
from loadtests.population import MATTERS, Model, Population
from loadtests.table import Row, report, row

LOOK_SECONDS = 2.0
CAPACITY_SECONDS = 20.0
RESTART_SECONDS = 15.0
"""How long an SDK lives."""
PAUSE = 0.002
CHANGE_SECONDS = 0.5
SETTLE_SECONDS = 600.0
"""How long records may take to reach the ledger after the load."""


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the slope of the straight line through points that fits best, per unit of the first coordinate."""
    if len(points) < 2:
        return 0.0
    mean = [sum(axis) / len(points) for axis in zip(*points, strict=True)]
    spread = sum((x - mean[0]) ** 2 for x, _ in points)
    return sum((x - mean[0]) * (y - mean[1]) for x, y in points) / spread if spread else 0.0


class Records:
    """Which records were promised, by source and number: a bit each, for there are millions."""

    def __init__(self) -> None:
        self._promised: dict[str, bytearray] = defaultdict(bytearray)

    def promise(self, decision_id: str) -> None:
        """Take the id of an answer: name of its source and number there."""
        source, _, number = decision_id.rpartition("-")
        bits, place = self._promised[source], int(number)
        if place >> 3 >= len(bits):
            bits.extend(bytes((place >> 3) + 1024 - len(bits)))
        bits[place >> 3] |= 1 << (place & 7)

    def missing(self, recorded: Iterable[str]) -> int:
        """Return how many promised records are not among these."""
        left = {source: bytearray(bits) for source, bits in self._promised.items()}
        for decision_id in recorded:
            source, _, number = decision_id.rpartition("-")
            bits, place = left.get(source), int(number)
            if bits is not None and place >> 3 < len(bits):
                bits[place >> 3] &= ~(1 << (place & 7))
        return sum(int.from_bytes(bits, "little").bit_count() for bits in left.values())


class Sampled(Beside):
    """Looks at processes every few seconds, from a thread."""

    def __init__(self, pids: dict[str, int]) -> None:
        super().__init__()
        self._pids = pids
        self.seen: dict[str, list[tuple[float, Usage]]] = defaultdict(list)

    def _work(self) -> None:
        begun = time.monotonic()
        while not self._stop.wait(LOOK_SECONDS):
            for name, pid in self._pids.items():
                self.seen[name].append(((time.monotonic() - begun) / 60, Usage.of(pid)))

    def rows(self, minutes: float) -> list[Row]:
        """Return growth over the last two thirds; what is flat stays within a tenth of its memory for half an hour."""
        rows = []
        for name, seen in self.seen.items():
            late, end = seen[len(seen) // 3 :], seen[-1][1]

            def grown(what: str, late: Sequence[tuple[float, Usage]] = late) -> float:
                return slope([(minute, getattr(usage, what)) for minute, usage in late])

            megabytes = grown("megabytes")
            rows.append(row(f"soak: {name}, memory at the end", [end.megabytes], "MB", None, 0))
            rows.append(row(f"soak: {name}, memory a minute", [megabytes], "MB", None, 3))
            rows.append(row(f"soak: {name}, that for 30 minutes", [megabytes * 30 / end.megabytes * 100], "%", 10, 1))
            rows += [
                row(f"soak: {name}, {what} more over the run", [grown(what) * minutes], "", 1, 1)
                for what in ("files", "threads")
            ]
        return rows


class Counters(Beside):
    """One SDK after the other, each for a while, with local answers; every one leaves its records to be uploaded."""

    def __init__(self, file: Path, state: Path, subjects: Sequence[str], records: Records, model: Model) -> None:
        super().__init__()
        self._file, self._state, self._subjects = file, state, subjects
        self._records, self._model = records, model
        self._open: list[tuple[str, str, int, str]] = []
        self.answers = self.wrong = self.lives = self.unsent = 0
        self.undetermined: Counter[str] = Counter()

    def _ended(self) -> None:
        # What the others left is uploaded by the next process, as everywhere, and takes the time it takes.
        with lanjie.Client.from_file(self._file, state_dir=self._state) as client:
            client.wait_ready(60)
            until = time.monotonic() + SETTLE_SECONDS
            # Each spool has a lock; one is the client's own.
            while (unsent := len(list(self._state.glob("*/spool/*.lock"))) - 1) > 0 and time.monotonic() < until:
                time.sleep(1)
            self.unsent = unsent

    def _work(self) -> None:
        rng = random.Random(3)
        while not self._stop.is_set():
            with lanjie.Client.from_file(self._file, state_dir=self._state) as client:
                self._live(client, rng)
            self.lives += 1

    def _live(self, client: lanjie.Client, rng: random.Random) -> None:
        until = time.monotonic() + RESTART_SECONDS
        while time.monotonic() < until and not self._stop.wait(PAUSE):
            subject, matter = rng.choice(self._subjects), rng.choice(MATTERS)
            decision = client.check(subject, matter=matter, purpose=PURPOSE)
            if decision.outcome is lanjie.Outcome.UNDETERMINED:
                self.undetermined[decision.reason.name if decision.reason is not None else ""] += 1
                continue
            self._records.promise(decision.decision_id)
            self.answers += 1
            self._open.append((subject, matter, decision.revision, decision.outcome.name))
            if len(self._open) > 1_000:
                self.settle()

    def settle(self) -> None:
        """Judge what the model knows of by now, and forget it."""
        known = self._model.revision
        self.wrong += len(self._model.differences(each for each in self._open if each[2] <= known))
        self._open = [each for each in self._open if each[2] > known]


def measured(file: Path, population: Population, minutes: float, share: float) -> list[Row]:
    """Soak a gateway."""
    records, wrong, pids = Records(), 0, {role: pids[0] for role, pids in gateway.children(file).items()}
    moving = population.companies[:MOVING]
    # The load asks about the others, whose answers stand still.
    population.companies = population.companies[MOVING:]
    checks = Checks(population, 1)

    def heard(number: int, answer: bytes) -> None:
        nonlocal wrong
        wrong += checks.wrong([(number, answer)])
        records.promise(pb.CheckResponse.FromString(answer).decision.decision_id)

    async def most() -> float:
        wire, begun = Wire.of(file), time.monotonic()
        load = await openloop.closed(wire, checks.requests, openloop.IN_FLIGHT, CAPACITY_SECONDS)
        await wire.channel.close()
        # What a gateway can bear for long includes that control reads the records in.
        gateway.settle(pids["control"])
        return load.answered / (time.monotonic() - begun)

    async def loads() -> Load:
        wire = Wire.of(file)
        load = await openloop.offered(wire, checks.requests, capacity * share, minutes * 60, heard)
        await wire.channel.close()
        return load

    gateway.settle(pids["control"])
    capacity = asyncio.run(most())
    with (
        tempfile.TemporaryDirectory(prefix="lanjie-soak-") as scratch,
        Churn(file, population, moving, CHANGE_SECONDS) as churn,
        Counters(file, Path(scratch), [*moving, *population.companies[:MOVING]], records, churn.model) as counters,
        Sampled(pids | {"driver and SDK": os.getpid()}) as sampled,
    ):
        load = asyncio.run(loads())
    counters.settle()
    deadline = time.monotonic() + SETTLE_SECONDS
    while (lost := records.missing(_recorded(file))) and time.monotonic() < deadline:
        time.sleep(1)
    answers = load.answered + counters.answers
    unanswered = counters.undetermined + load.failed
    for reason, count in unanswered.most_common(5):
        print(f"{count:,} not answered: {reason}", file=sys.stderr)
    return [
        row("soak: capacity, 16 at a time, records read in", [capacity], "/s", None, 0),
        row("soak: offered", [load.due / load.seconds], "/s", None, 0),
        row("soak: p50 from the instant due", [load.latency.percentile(0.5)], "us", None, 0),
        row("soak: p99 from the instant due", [load.latency.percentile(0.99)], "us", None, 0),
        row("soak: sent late, p99", [load.late.percentile(0.99)], "us", None, 0),
        row(f"soak: wrong answers of {answers:,}", [wrong + counters.wrong], "", 0, 0),
        row("soak: lost calls", [load.lost], "", 0, 0),
        row("soak: failed calls and undetermined answers", [unanswered.total()], "", None, 0),
        row("soak: lost records", [lost], "", 0, 0),
        row("soak: spools that were not uploaded in the end", [counters.unsent], "", 0, 0),
        row("soak: SDKs that lived and died", [counters.lives], "", None, 0),
        row("soak: listings and removals", [churn.changes], "", None, 0),
        *sampled.rows(minutes),
    ]


def _recorded(file: Path) -> Iterable[str]:
    path = f"file:{file.parent / 'ledger.sqlite3'}?mode=ro"
    with contextlib.closing(sqlite3.connect(path, uri=True)) as ledger:
        kinds = "SELECT decision_id FROM inquiry WHERE kind IN ('gateway', 'local')"
        return [decision_id for (decision_id,) in ledger.execute(kinds)]


def main() -> None:
    """Soak and print."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.soak", description=__doc__)
    parser.add_argument("minutes", type=float)
    parser.add_argument("--share", type=float, default=0.6, help="of the capacity")
    parser.add_argument("--listings", type=int, default=20_000)
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lanjie-soak-") as scratch:
        population = gateway.fill(Path(scratch) / "state", options.listings)
        with gateway.serving(Path(scratch) / "state", redis_url="") as file:
            rows = measured(file, population, options.minutes, options.share)
    report(rows, f"soak of {options.minutes:g} minutes", as_json=options.json)


if __name__ == "__main__":
    main()
