"""Measures the sync: how large its messages are, how soon a commit works everywhere, what a resync costs a caller.

    ./run exec python -m loadtests.sync [--listings N] [--sdks N] [--restarted N] [--commits N] [--state DIR]
        [--parts local gateway] [--json]

`./run bench` runs a short form. Everything is real but for one thing: sizes, filters and the resync are measured on a
set of random digests, which a gateway cannot tell from those of subjects. Bounded in count and time, loopback only.
"""

import argparse
import concurrent.futures
import contextlib
import datetime
import functools
import itertools
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import lanjie
from lanjie._runtime import Seam
from lanjie.v1 import audit_pb2, screening_pb2
from lanjie.v1 import sync_pb2 as pb
from lanjie_gateway.api.sync import UpdateEncoder
from lanjie_gateway.domain.access import Principal, Role
from lanjie_gateway.domain.grants import LOCAL_GRANT
from lanjie_gateway.domain.view import BITS, View
from lanjie_gateway.domain.watching import Delta, Heartbeat, Offer, Position, Step, Whole
from lanjie_gateway.services.views import MatterSpans, manifest_of
from lanjie_matcher.catalogues import Matter, MatterSpan
from lanjie_matcher.filters import BloomFilter, LocalFilter, ScreenedFilter, SortedFilter
from lanjie_matcher.shards import split
from loadtests import gateway
from loadtests.gateway import PURPOSE, Desk
from loadtests.population import WAGE, Population
from loadtests.table import Row, report, row

LINEAGE = "ab" * 16
MATTER = "tendering.bidder"
ASKER = Principal(
    department="local", person="bench", roles=frozenset({Role.INQUIRER}), region="320000", grant=LOCAL_GRANT
)
PER_PROCESS = 25
ROUNDS = 5
CALLS_SECONDS = 1.5


class InventedViews:
    """The gateway's side of the sync over a set of random digests: no ledger, no network."""

    def __init__(self, count: int, seed: int) -> None:
        self._random = random.Random(seed)
        self.members = [self._random.getrandbits(64) for _ in range(count)]
        self.set = View(b"v" * 32)
        self.set.load(self.members, 10)
        self._private = Ed25519PrivateKey.generate()
        self._encoder = UpdateEncoder(
            lambda offer: manifest_of(offer, datetime.datetime.now(datetime.UTC)), self._sign, self._matters
        )

    @property
    def public(self) -> bytes:
        """The key that signs its heads."""
        return self._private.public_key().public_bytes_raw()

    def _sign(self, message: bytes) -> tuple[str, bytes]:
        return "bench", self._private.sign(message)

    def _matters(self) -> list[MatterSpans]:
        always = MatterSpan(Matter(code=MATTER, name=MATTER), datetime.date(2020, 1, 1), None)
        return [MatterSpans(MATTER, (always,))]

    def offer(self) -> Offer:
        """Return the view as it may be offered."""
        return Offer(lineage=LINEAGE, epoch=1, generation=1, view=self.set, catalogue_revision=1)

    def updates(self, step: Step) -> list[bytes]:
        """Return a step as it travels."""
        position = Position(catalogue_revision=0 if isinstance(step, Whole) else 1)
        return [update.SerializeToString() for update in self._encoder.of(step, position, ASKER)]

    def change(self, adds: int, removals: int) -> Delta:
        """Commit so many changes; return the delta from before."""
        before, root = self.set.revision, self.set.head()[0]
        for _ in range(adds):
            self.set.put(self._random.getrandbits(64), listed=True)
        for digest in self._random.sample(self.members, removals):
            self.set.put(digest, listed=False)
        self.set.advance(before + 1)
        changes = self.set.changes_since(before)
        assert changes is not None
        return Delta(self.offer(), root, changes)


class InventedTransport:
    """Brings prepared messages to an SDK, one a call."""

    def __init__(self, sync: InventedViews) -> None:
        self.snapshot = sync.updates(Whole(sync.offer()))
        self.heartbeat = lambda: sync.updates(Heartbeat(sync.offer()))
        self._next: Iterator[bytes] = iter(())

    def discover(self, timeout: float) -> screening_pb2.DiscoverResponse:
        """See `Transport`."""
        del timeout
        return screening_pb2.DiscoverResponse(feed_address="127.0.0.1:1", lineage=LINEAGE, epoch=1, revision=10)

    def watch(self, feed: str) -> "InventedTransport":
        """See `Transport`."""
        del feed
        return self

    def send(self, request: pb.WatchRequest) -> None:
        """See `Watch`."""
        self._next = iter(() if request.state.root else self.snapshot)

    def receive(self, timeout: float) -> pb.WatchResponse | None:
        """See `Watch`."""
        raw = next(self._next, None)
        if raw is None:
            time.sleep(timeout)
            return None
        return pb.WatchResponse(update=pb.Update.FromString(raw))

    def upload(self, feed: str, request: audit_pb2.UploadLocalPassesRequest, timeout: float) -> Any:
        """See `Transport`."""
        del feed, timeout
        return audit_pb2.UploadLocalPassesResponse(acknowledged_sequence=request.passes[-1].sequence)

    def close(self) -> None:
        """See `Transport`."""


def sizes(sync: InventedViews) -> list[Row]:
    """Measure what travels."""
    delta = sum(map(len, sync.updates(sync.change(1_000, 300))))
    beat = sum(map(len, sync.updates(Heartbeat(sync.offer()))))
    fresh = View(b"v" * 32)
    fresh.load(itertools.chain.from_iterable(sync.set._digests), sync.set.revision)
    sync.set = fresh
    whole = sum(map(len, sync.updates(Whole(sync.offer()))))
    count, million = len(sync.members), len(sync.members) / 1e6
    return [
        row(f"delta, 1,000 adds + 300 removals on {count:,}", [delta], "B", 6_000, 0),
        row("snapshot, a million fingerprints", [whole / million / 1e6], "MB", 2.8),
        row("heartbeat", [beat], "B", None, 0),
    ]


def filters(sync: InventedViews, probes: int) -> list[Row]:
    """Race the filters on the same probes, each against the set itself."""
    values = array("Q", sorted({sync.set.key.narrow(digest) for digest in sync.members}))
    shards = split(values, BITS)
    exact = SortedFilter(shards, BITS)
    bloom = BloomFilter(int(len(values) * 1.1))
    bloom.add_some(iter(values), len(values))
    screened = ScreenedFilter(bloom, exact)
    members, rng = frozenset(values), random.Random(5)
    asked = [rng.getrandbits(BITS) for _ in range(probes)] + rng.sample(values, min(len(values), probes // 10))
    false = sum(probe in bloom and probe not in members for probe in asked)
    wrong = sum((probe in exact) is not (probe in members) for probe in asked)
    wrong += sum((probe in screened) is not (probe in members) for probe in asked)
    wrong += sum(probe in members and probe not in bloom for probe in asked)
    misses = asked[: probes // 2]
    timed: dict[str, list[float]] = {"sorted set": [], "Bloom bits": [], "Bloom, hits looked up": []}
    for _ in range(ROUNDS):
        raced: tuple[LocalFilter, ...] = (exact, bloom, screened)
        for name, probed in zip(timed, raced, strict=True):
            started = time.perf_counter()
            for probe in misses:
                probe in probed  # noqa: B015  it is what is timed
            timed[name].append((time.perf_counter() - started) / len(misses) * 1e6)
    return [
        *(row(f"probe of a miss, {name}", values, "us", None) for name, values in timed.items()),
        row(f"wrong answers of {len(asked):,} probes, all filters", [wrong], "", 0, 0),
        row("false hits of the Bloom bits", [false / probes * 1e4], "of 10,000", 1.5),
    ]


def resync(sync: InventedViews) -> list[Row]:
    """Measure what a caller feels while the whole set is taken again and its filter is built."""
    result: dict[str, list[float]] = {}
    transport = InventedTransport(sync)
    with tempfile.TemporaryDirectory(prefix="lanjie-sync-") as scratch:
        client = lanjie.Client(
            "127.0.0.1:1",
            trust={"bench": sync.public},
            state_dir=scratch,
            seam=Seam(transport=lambda _: transport),  # type: ignore[arg-type, return-value]
        )
        with client:
            client.wait_ready(60)
            runtime = client._handle.running()
            for _ in range(ROUNDS):
                for name, pause in (("back to back", 0.0), ("every 0.5 ms", 0.0005)):
                    _wait(lambda: client.sync_status().filter == "bloom", 120)
                    quiet = _calls(client, pause, lambda: True)
                    with runtime._round:
                        runtime._driver.close()
                        runtime._driver._whole = True
                        taken = runtime._driver.taken
                    # Until the set is taken, and for a while after: its filter is being built then.
                    busy = _calls(client, pause, functools.partial(_more_than, runtime, taken))
                    label = f"caller's p99 in a full resync of {len(sync.members):,} / quiet, {name}"
                    result.setdefault(label, []).append(busy / quiet)
    return [row(name, values, "x", 2.0) for name, values in result.items()]


def _more_than(runtime: Any, taken: int) -> bool:
    return bool(runtime._driver.taken > taken)


def _calls(client: lanjie.Client, pause: float, enough: Callable[[], bool]) -> float:
    """Return the 99th percentile of a local check in seconds, over a second at least and until `enough`."""
    times, begun = [], time.perf_counter()
    while time.perf_counter() < begun + CALLS_SECONDS or not enough():
        if time.perf_counter() > begun + 60:
            raise SystemExit("the set was not taken in a minute")
        if pause:
            time.sleep(pause)
        started = time.perf_counter()
        client.check("uscc:91320199MA0000001A", matter=MATTER, purpose=PURPOSE)
        times.append(time.perf_counter() - started)
    return statistics.quantiles(times, n=100)[98]


def _wait(done: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise SystemExit("it took too long")
        time.sleep(0.02)


class Counters:
    """So many SDKs, in processes of their own."""

    def __init__(self, file: Path, states: Path, count: int) -> None:
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-m", "loadtests.sync_clients", str(file), str(states / f"{place:02d}"), str(size)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=gateway.ROOT,
            )
            for place, size in enumerate(_portions(count))
        ]

    def _lines(self) -> list[dict[str, Any]]:
        with concurrent.futures.ThreadPoolExecutor(len(self._processes)) as readers:
            return [json.loads(line) for line in readers.map(lambda each: each.stdout.readline(), self._processes)]

    def fresh(self) -> tuple[list[float], list[str]]:
        """Wait until all are fresh; return the seconds each took and what went wrong meanwhile."""
        lines = self._lines()
        return [each for line in lines for each in line["fresh"]], [each for line in lines for each in line["errors"]]

    def seen(self, revision: int) -> list[float]:
        """Wait until all have a revision; return the instants at which they had it."""
        times: list[float] = []
        while not times:
            lines = self._lines()
            assert len({line["revision"] for line in lines}) == 1
            times = [each for line in lines for each in line["seen"]] if lines[0]["revision"] == revision else []
        return times

    def close(self) -> None:
        """End them."""
        for process in self._processes:
            with contextlib.suppress(OSError):
                process.stdin.close()  # type: ignore[union-attr]
        for process in self._processes:
            process.wait(60)
            process.stdout.close()  # type: ignore[union-attr]


def _portions(count: int) -> list[int]:
    return [min(PER_PROCESS, count - first) for first in range(0, count, PER_PROCESS)]


def effective(file: Path, sdks: int, commits: int) -> list[Row]:
    """Measure how soon listings and removals work in all SDKs: from the instant of their commit."""
    delays: dict[str, list[float]] = {"listing": [], "removal": []}
    # Others than in an earlier run on the same state.
    population = Population(time.time_ns(), 0, free=commits)
    with (
        tempfile.TemporaryDirectory(prefix="lanjie-sdks-") as scratch,
        counters(file, Path(scratch), sdks) as connected,
        Desk(file, population) as desk,
    ):
        connected.fresh()
        for subject in population.companies:
            desk.enter(subject, WAGE)
            (listing,) = desk.ids(subject, WAGE)
            desk.remove(listing)
            wall = time.time() - time.monotonic()
            for name, event in zip(delays, desk.events(listing), strict=True):
                committed = event.recorded_time.ToNanoseconds() / 1e9 - wall
                delays[name].extend(each - committed for each in connected.seen(event.revision))
    name = "committed -> effective in {} SDKs, {}, {}"
    return [
        row(name.format(sdks, what, label), [value * 1e3], "ms", target, 0)
        for what, values in delays.items()
        for label, value, target in (("p50", statistics.median(values), None), ("p99", _p99(values), 1_000))
    ]


def restarted(file: Path, sdks: int) -> list[Row]:
    """Measure how soon SDKs that start all at once are fresh, first without a set and then with the one they left."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="lanjie-herd-") as scratch:
        for what in ("without a set", "with their set"):
            with counters(file, Path(scratch), sdks) as herd:
                seconds, errors = herd.fresh()
            for error in errors:
                print(f"error: {error}", file=sys.stderr)
            rows.append(row(f"{sdks} SDKs started together {what}, last one fresh", [max(seconds)], "s", 60, 1))
            rows.append(row(f"errors of these {sdks}", [len(errors)], "", 0, 0))
    return rows


@contextlib.contextmanager
def counters(file: Path, states: Path, count: int) -> Iterator[Counters]:
    """Run so many SDKs."""
    made = Counters(file, states, count)
    try:
        yield made
    finally:
        made.close()


def _p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100)[98]


def short(file: Path, full: bool) -> list[Row]:  # noqa: FBT001  an argument of the command line
    """Measure what `./run bench` shows of the sync: sizes, filters, the resync, and a few SDKs of a gateway."""
    invented = InventedViews(1_000_000, 3)
    rows = [*sizes(invented), *filters(invented, 1_000_000 if full else 200_000), *resync(invented)]
    return rows + effective(file, 100 if full else 20, 5)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.sync", description=__doc__)
    parser.add_argument("--listings", type=int, default=1_000_000, help="size of the invented set")
    parser.add_argument("--sdks", type=int, default=100, help="SDKs connected while commits are made")
    parser.add_argument("--restarted", type=int, default=200, help="SDKs restarted together; 0 for none")
    parser.add_argument("--commits", type=int, default=10, help="listings, and removals, to commit")
    parser.add_argument("--state", type=Path, help="state directory filled by loadtests.gateway; else 20,000")
    parser.add_argument("--parts", nargs="+", choices=["local", "gateway"], default=["local", "gateway"])
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    rows: list[Row] = []
    if "local" in options.parts:
        views = InventedViews(options.listings, 3)
        rows += [*sizes(views), *filters(views, 1_000_000), *resync(views)]
    if "gateway" in options.parts:
        rows += _with_gateway(options)
    report(rows, "sync", as_json=options.json)


def _with_gateway(options: argparse.Namespace) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="lanjie-gateway-") as scratch:
        state = options.state or Path(scratch) / "state"
        if options.state is None:
            gateway.fill(state, 20_000)
        with gateway.serving(state) as file:
            rows = effective(file, options.sdks, options.commits)
            return [*rows, *restarted(file, options.restarted)] if options.restarted else rows


if __name__ == "__main__":
    main()
