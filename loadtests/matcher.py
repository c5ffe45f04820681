"""Measures the local path: its stages one by one, the whole check, batches, and what Redis takes for the look-up alone.

    ./run exec python -m loadtests.matcher [--listings N] [--items N] [--json]

`./run bench` runs a short form. The client is the real one on a set of random digests, with its records in a mapped
file; only its threads rest. Every subject is another one, so nothing stays in a cache that would not at a counter.
Stages are timed in loops of `LOOP` calls, of which the median counts; checks and Redis call by call. All of them take
turns in one process.
"""

import argparse
import functools
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pybloom_live
import redis

import lanjie
from lanjie import _batch
from lanjie._core import Local
from lanjie._runtime import Runtime, Seam
from lanjie_matcher.filters import LocalFilter
from lanjie_matcher.identifiers import normalise, parse
from loadtests.sync import MATTER, InventedTransport, InventedViews
from loadtests.table import Row, print_table, row
from tests.support.subjects import citizen, org_code, uscc
from tests.support.valkey import valkey

ROUNDS = 5
LOOP = 200
LOOPS = 20
HUNDRED = 100
ASK = {"matter": MATTER, "purpose": "measurement"}
Timed = dict[str, list[float]]


@contextmanager
def local_client(listings: int) -> Iterator[lanjie.Client]:
    """A client with a fresh set of so many random digests and its Bloom filter, without threads."""
    views = InventedViews(listings, 3)
    transport = InventedTransport(views)
    seam = Seam(transport=lambda _: transport, thread=False)  # type: ignore[arg-type, return-value]
    with (
        tempfile.TemporaryDirectory(prefix="lanjie-matcher-") as scratch,
        lanjie.Client("127.0.0.1:1", trust={"bench": views.public}, state_dir=scratch, seam=seam) as client,
    ):
        runtime = client._handle.running()
        while runtime.local is None:
            runtime.poll_now()
        runtime.build_filter()
        yield client


def freshened(runtime: Runtime) -> Local:
    """Make the set fresh again, and forget the records: nobody uploads them here."""
    local = runtime.local
    assert local is not None
    local.spool.acknowledge(local.spool._sequence)
    runtime.local = Local(local.view.confirmed(runtime.core.now()[1]), local.spool)
    return runtime.local


def looped(call: Callable[[Any], Any], items: Sequence[Any]) -> float:
    """Return the microseconds of processor time of a call: the median over loops, less the loop itself."""
    times = []
    for first in range(0, min(len(items), LOOP * LOOPS), LOOP):
        part = items[first : first + LOOP]
        started = time.thread_time()
        for item in part:
            call(item)
        middle = time.thread_time()
        for _ in part:
            pass
        times.append((2 * middle - started - time.thread_time()) / len(part) * 1e6)
    return statistics.median(times)


def one_by_one(call: Callable[[Any], Any], items: Sequence[Any]) -> float:
    """Return the median microseconds of single calls, the clock's own included."""
    times = []
    for item in items:
        started = time.perf_counter()
        call(item)
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1e6


def stages(runtime: Runtime, subjects: Sequence[str]) -> dict[str, tuple[Callable[[Any], Any], Sequence[Any]]]:
    """Return the stages by name, each with what it is called on."""
    local = freshened(runtime)
    view, spool = local.view, local.spool
    key = view.state.key
    numbers = range(LOOP * LOOPS)
    digests = [key.digest(parse(text).key) for text in subjects]
    probes = [key.narrow(int.from_bytes(digest, "big")) for digest in digests]
    members = [value for shard in view.state.shards for value in shard]
    library = pybloom_live.BloomFilter(capacity=len(members), error_rate=1e-4)
    for member in members[: 20 * LOOP]:
        library.add(member)
    screened: Any = view.filter
    probed: dict[str, Any] = {
        "Bloom bits, then the set": screened,
        "sorted set": screened.exact,
        "pybloom-live's own": library,
        "Python set": frozenset(members),
    }
    full_width = ["".join(chr(ord(each) + 0xFEE0) for each in text[5:]) for text in subjects]
    return {
        "normalise, plain": (normalise, [text[5:] for text in subjects]),
        "normalise, full width": (normalise, full_width),
        "parse, uscc": (parse, subjects),
        "parse, uscc in lower case": (parse, [text.lower() for text in subjects]),
        "parse, org_code": (parse, [org_code(text) for text in subjects]),
        "parse, citizen": (parse, [citizen(number % 1000) for number in numbers]),
        "parse, passport": (parse, [f"passport:USA:A{number:07d}" for number in numbers]),
        "keyed digest": (key.digest, [parse(text).key for text in subjects]),
        **{f"probe of a miss, {name}": (functools.partial(_probe, each), probes) for name, each in probed.items()},
        "record": (lambda digest: spool.append(1, digest, (1, 1, 1, 0), b"context"), digests),
    }


def _probe(probed: LocalFilter, fingerprint: int) -> bool:
    return fingerprint in probed


def checks(client: lanjie.Client, runtime: Runtime, subjects: Sequence[str], timed: Timed) -> None:
    """Time whole checks, with either filter, and with a case of its own for each."""
    local = freshened(runtime)
    screened: Any = local.view.filter

    def check(text: str) -> Any:
        return client.check(text, **ASK)  # type: ignore[arg-type]

    assert check(subjects[0]).source is lanjie.Source.LOCAL
    _note(timed, "whole check, Bloom, p50", one_by_one(check, subjects))
    cases = iter(range(len(subjects)))
    _note(
        timed,
        "whole check, Bloom, a case number of its own, p50",
        one_by_one(lambda text: client.check(text, case_no=f"{next(cases)}", **ASK), subjects[:LOOP]),  # type: ignore[arg-type]
    )
    runtime.local = Local(replace(local.view, filter=screened.exact), local.spool)
    _note(timed, "whole check, sorted, p50", one_by_one(check, subjects))
    runtime.local = local


def batches(client: lanjie.Client, runtime: Runtime, items: Sequence[str], timed: Timed) -> None:
    """Time batches, with NumPy and without: time of one processor, by identifier."""
    for name, many in (("with NumPy", 0), ("without NumPy", len(items) + 1)):
        _batch.MANY = many  # type: ignore[misc]
        client.check_many(items[:HUNDRED], **ASK)  # type: ignore[arg-type]
        freshened(runtime)
        started = time.thread_time()
        answers = client.check_many(items, **ASK)  # type: ignore[arg-type]
        _note(timed, f"check_many {name}, by identifier", (time.thread_time() - started) / len(items) * 1e6)
        assert answers[-1].source is lanjie.Source.LOCAL


def waiting(client: lanjie.Client, runtime: Runtime, items: Sequence[str], timed: Timed) -> None:
    """Time how long another thread waits for its turn while a batch is answered."""
    freshened(runtime)
    waits, done = [], threading.Event()

    def other() -> None:
        while not done.is_set():
            started = time.perf_counter()
            time.sleep(0.0005)
            waits.append(time.perf_counter() - started - 0.0005)

    thread = threading.Thread(target=other)
    thread.start()
    client.check_many(items, **ASK)  # type: ignore[arg-type]
    done.set()
    thread.join()
    _note(timed, "wait of another thread during check_many, median", statistics.median(waits) * 1e6)


def look_ups(client: "redis.Redis", subjects: Sequence[str], timed: Timed) -> None:
    """Time what a user would pick instead: a field of a hash, and members of a set in batches of a hundred."""
    _note(timed, "redis-py HGET, p50", one_by_one(lambda text: client.hget("listed", text), subjects[: LOOP * 5]))
    hundreds = [subjects[first : first + HUNDRED] for first in range(0, LOOP * 10, HUNDRED)]
    took = one_by_one(lambda texts: client.smismember("members", texts), hundreds)
    _note(timed, "redis-py SMISMEMBER of 100, by identifier", took / HUNDRED)


def _note(timed: Timed, name: str, value: float) -> None:
    timed.setdefault(name, []).append(value)


TARGETS = {
    "whole check, Bloom, p50": 4.0,
    "whole check, sorted, p50": 3.5,
    "whole check, Bloom / redis-py HGET": 0.2,
    "check_many with NumPy, by identifier": 1.0,
    "check_many without NumPy, by identifier": 2.5,
    "check_many with NumPy / SMISMEMBER of 100": 1.0,
}
RATIOS = {
    "whole check, Bloom / redis-py HGET": ("whole check, Bloom, p50", "redis-py HGET, p50"),
    "check_many with NumPy / SMISMEMBER of 100": (
        "check_many with NumPy, by identifier",
        "redis-py SMISMEMBER of 100, by identifier",
    ),
    "check_many without NumPy / SMISMEMBER of 100": (
        "check_many without NumPy, by identifier",
        "redis-py SMISMEMBER of 100, by identifier",
    ),
}


def measure(listings: int, items: int) -> list[Row]:
    """Run all in turns; return the rows."""
    timed: Timed = {}
    subjects = [uscc(number) for number in range(LOOP * LOOPS)]
    many = [uscc(number) for number in range(items)]
    before = _batch.MANY
    with local_client(listings) as client, valkey() as server, server.client() as other:
        runtime = client._handle.running()
        listed = [uscc(number, "91320198") for number in range(10_000)]
        other.hset("listed", mapping=dict.fromkeys(listed, "1"))
        other.sadd("members", *listed)
        parts = stages(runtime, subjects)
        try:
            for _ in range(ROUNDS):
                for name, (call, asked) in parts.items():
                    _note(timed, name, looped(call, asked))
                checks(client, runtime, subjects, timed)
                look_ups(other, subjects, timed)
                batches(client, runtime, many, timed)
                waiting(client, runtime, many, timed)
        finally:
            _batch.MANY = before  # type: ignore[misc]
        freshened(runtime)
    for name, (above, below) in RATIOS.items():
        timed[name] = [one / another for one, another in zip(timed[above], timed[below], strict=True)]
    return [row(name, values, "x" if name in RATIOS else "us", TARGETS.get(name)) for name, values in timed.items()]


def short(full: bool) -> list[Row]:  # noqa: FBT001  an argument of the command line
    """Measure what `./run bench` shows of the local path."""
    return measure(1_000_000 if full else 100_000, 100_000 if full else 20_000)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.matcher", description=__doc__)
    parser.add_argument("--listings", type=int, default=1_000_000, help="size of the invented set")
    parser.add_argument("--items", type=int, default=100_000, help="identifiers of a batch")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    rows = measure(options.listings, options.items)
    if options.json:
        print(json.dumps({"rows": rows}, indent=2))
    else:
        print_table(rows, f"local path, medians of {ROUNDS} rounds in turns")


if __name__ == "__main__":
    main()
