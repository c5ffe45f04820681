"""Checks under churn: every answer is compared with what an independent model says at the revision the answer names.

    python -m loadtests.churn [--checks 1000000] [--listings 5000] [--state DIR] [--json]

Subjects come and go, some on two lists at once, while callers ask: one by one at the gateway, in files at one pinned
revision, and locally. Besides being right at its revision, an answer of the gateway may not be older than what had been
acknowledged when it was asked for.
"""

import argparse
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import lanjie
from loadtests import gateway
from loadtests.beside import Beside
from loadtests.gateway import PURPOSE, SEED, Desk
from loadtests.population import COURT, MATTERS, WAGE, Live, Model, Population
from loadtests.table import Row, report, row

MOVING, STILL = 300, 300
FILE = 400
LEAST = 3
OUTCOMES = ("PASS", "RESTRICT", "INTERCEPT")
Answer = tuple[str, str, int, str]


class Churn(Beside):
    """Lists and removes subjects that were free, one after the other, until the block is left.

    Args:
        file: of the gateway.
        population: whose listings are there.
        subjects: come and go.
        pause: seconds between two changes: to list one starts a parser, which takes a core for a fifth of a second.

    Attributes:
        model: what was acknowledged.
        changes: how many were.
    """

    def __init__(self, file: Path, population: Population, subjects: Sequence[str], pause: float = 0.0) -> None:
        super().__init__()
        self._pause = pause
        self._desk = Desk(file, population)
        self._subjects = subjects
        self._rng = random.Random(1)
        self._ids: dict[str, dict[str, str]] = {}
        self.model = Model()
        self.changes = 0

    def _ended(self) -> None:
        self._desk.__exit__()

    def _work(self) -> None:
        while not self._stop.wait(self._pause):
            self.change()

    def change(self) -> None:
        """Make one change and take its acknowledgement into the model."""
        subject, list_type = self._rng.choice(self._subjects), self._rng.choice((WAGE, COURT))
        held = self._ids.setdefault(subject, {})
        if list_type in held:
            revision = self._desk.remove(held.pop(list_type))
        else:
            revision = self._desk.enter(subject, list_type)
            (held[list_type],) = self._desk.ids(subject, list_type)
        live: Live = tuple(held)
        self.model.change(subject, revision, live)
        self.changes += 1


class Callers:
    """Ask in three ways and keep what they were told."""

    def __init__(self, churn: Churn, subjects: Sequence[str], client: lanjie.Client, remote: lanjie.Client) -> None:
        self._churn = churn
        self._subjects = subjects
        self._client = client
        self._remote = remote
        self.answers: list[Answer] = []
        self.sources: Counter[str] = Counter()
        self.undetermined = self.stale = 0

    def run(self, checks: int, threads: int = 2) -> None:
        """Ask so many questions, and on until the list has changed some times."""
        lanes = [threading.Thread(target=self._lane, args=(number, checks // threads)) for number in range(threads)]
        for lane in lanes:
            lane.start()
        for lane in lanes:
            lane.join()

    def _lane(self, seed: int, checks: int) -> None:
        rng, asked = random.Random(seed), 0
        while asked < checks or (self._churn.changes < LEAST and self._churn.failed is None):
            floor = self._churn.model.revision
            matter = rng.choice(MATTERS)
            got: list[tuple[str, lanjie.Decision]] = []
            if rng.random() < 0.02:
                file = rng.choices(self._subjects, k=FILE)
                got += zip(file, self._remote.check_many(file, matter=matter, purpose=PURPOSE), strict=True)
            else:
                client = self._remote if rng.random() < 0.2 else self._client
                for subject in rng.choices(self._subjects, k=10):
                    got.append((subject, client.check(subject, matter=matter, purpose=PURPOSE)))
            asked += len(got)
            for subject, decision in got:
                self._take(subject, matter, decision, floor)

    def _take(self, subject: str, matter: str, decision: lanjie.Decision, floor: int) -> None:
        if decision.outcome is lanjie.Outcome.UNDETERMINED:
            self.undetermined += 1
            return
        self.sources[decision.source.name] += 1
        self.answers.append((subject, matter, decision.revision, decision.outcome.name))
        if decision.source is lanjie.Source.GATEWAY and decision.revision < floor:
            self.stale += 1


def measured(file: Path, population: Population, checks: int) -> list[Row]:
    """Run churn and callers; return what came of it."""
    subjects = [*population.companies[:MOVING], *population.companies[MOVING:][:STILL]]
    with (
        tempfile.TemporaryDirectory(prefix="lanjie-churn-") as scratch,
        lanjie.Client.from_file(file, state_dir=Path(scratch)) as client,
        lanjie.Client.from_file(file, state_dir=Path(scratch), local=False) as remote,
    ):
        client.wait_ready(60)
        with Churn(file, population, subjects[:MOVING]) as churn:
            callers, begun = Callers(churn, subjects, client, remote), time.monotonic()
            callers.run(checks)
            seconds = time.monotonic() - begun
    return list(_rows(churn, callers, seconds))


def _rows(churn: Churn, callers: Callers, seconds: float) -> Iterator[Row]:
    told = callers.sources.total()
    wrong = churn.model.differences(callers.answers)
    print(f"churn: {dict(callers.sources)}, {seconds:.0f} s, first differences: {wrong[:3]}", file=sys.stderr)
    yield row(f"churn: differences from the model, {told:,} answers", [len(wrong)], "", 0, 0)
    yield row("churn: answers older than what was acknowledged", [callers.stale], "", 0, 0)
    yield row("churn: undetermined", [callers.undetermined], "", None, 0)
    yield row("churn: changes", [churn.changes], "", None, 0)


def short(file: Path, population: Population, full: bool) -> list[Row]:  # noqa: FBT001  an argument of the command line
    """Run what `./run bench` runs of churn."""
    return measured(file, population, 100_000 if full else 10_000)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.churn", description=__doc__)
    parser.add_argument("--checks", type=int, default=1_000_000)
    parser.add_argument("--listings", type=int, default=5_000)
    parser.add_argument("--state", type=Path, help="state directory filled by loadtests.gateway")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lanjie-churn-") as scratch:
        state = options.state or Path(scratch) / "state"
        if options.state is None:
            gateway.fill(state, options.listings)
        with gateway.serving(state) as file:
            rows = measured(file, Population(SEED, options.listings), options.checks)
    report(rows, "churn", as_json=options.json)


if __name__ == "__main__":
    main()
