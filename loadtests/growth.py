"""Measures what growth costs: checks, memory and a worker's load at 10 k to 10 M listings, each against 10 k beside it.

    python -m loadtests.growth [--sizes 100000 1000000] [--json]

Sets, filters and indexes are built directly, on random digests and one packed listing under a million names: neither
tells them from those of subjects. Every size has processes of its own, so that their memory is theirs alone.
"""

import argparse
import asyncio
import contextlib
import datetime
import gc
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import lanjie
from lanjie._runtime import Seam
from lanjie_gateway.adapters.index import Entry, TableIndex
from lanjie_gateway.adapters.ledger import BucketState
from lanjie_gateway.adapters.redis_client import connect
from lanjie_gateway.adapters.segments import SegmentWriter
from lanjie_gateway.adapters.shared_copy import SharedCopy
from lanjie_gateway.adapters.shared_index import SharedIndex
from lanjie_gateway.cli import invented
from lanjie_gateway.domain.catalogue_file import load
from lanjie_gateway.domain.packed import DATE_FIELDS, TEXT_FIELDS, PackedListing, join, pack
from lanjie_gateway.services.screening import Inquiry, Party, ScreeningService
from lanjie_matcher.catalogues import CatalogueSet
from lanjie_matcher.fingerprints import IndexKey
from lanjie_matcher.listings import Listing
from lanjie_matcher.subjects import SubjectKind
from loadtests.gateway import PURPOSE, ROOT, Usage
from loadtests.population import WAGE, Population
from loadtests.sync import ASKER, MATTER, InventedTransport, InventedViews
from loadtests.table import Row, report, row
from tests.support.valkey import valkey

BASE = 10_000
ROUNDS = 5
CALLS = 2_000
KEY = b"k" * 32
COPY_MOST = 1_000_000
"""Up to here the copy in Redis is measured: ten million take 8 GB there."""


def _value() -> bytes:
    """Return the packed listing of a typical row."""
    cells = Population(1, 0, free=0).row("uscc:91320199MA0000001A", WAGE, "1-0000001")
    days = {name: datetime.date.fromisoformat(cells[name]) if cells[name] else None for name in DATE_FIELDS}
    listing = Listing(
        id="0" * 26,
        list_type=WAGE,
        subject_kind=SubjectKind.ENTERPRISE,
        recorded_on=datetime.datetime.now(datetime.UTC).date(),
        source=cells["source"],
        **{name: cells[name] for name in TEXT_FIELDS},  # type: ignore[arg-type]
        **days,  # type: ignore[arg-type]
    )
    return join([pack(PackedListing(listing, (("uscc", bytes(16)),), bytes(16)))])


def _entries(count: int, first: int | None = None) -> Iterator[Entry]:
    rng, value = random.Random(9), _value()
    for _ in range(count):
        bucket = rng.randbytes(16) if first is None else bytes((first,)) + rng.randbytes(15)
        # A copy each: in a worker no two records are one object.
        yield bucket, 1, bytes(bytearray(value))


def _service(count: int, directory: Path) -> ScreeningService:
    index = TableIndex()
    index.load(_entries(count))
    path = ROOT / "examples" / "catalogues" / "national-example.yaml"
    edition, _ = load(path.read_bytes(), path.name, [])
    index.stage_catalogues(CatalogueSet.of([edition]))
    index.advance(1, 0.0)
    return ScreeningService(
        index=index,
        key=IndexKey(KEY),
        records=SegmentWriter(directory),
        clock=lambda: datetime.datetime.now(datetime.UTC),
        current=lambda: True,
        ledger=lambda: ("ab" * 16, 1),
        grants=lambda asker: asker,
    )


def _subjects() -> list[str]:
    rng = random.Random(13)
    return [f"uscc:{invented.uscc(rng)}" for _ in range(CALLS)]


async def _p50(ask: Callable[[str], Awaitable[Any]], subjects: list[str]) -> float:
    times = []
    for subject in subjects:
        begun = time.perf_counter()
        answer = await ask(subject)
        times.append(time.perf_counter() - begun)
        if answer != "PASS":
            raise SystemExit("a wrong answer")
    return statistics.median(times) * 1e6


async def _race(asks: tuple[Callable[[str], Awaitable[Any]], ...]) -> list[list[float]]:
    """Return the medians of both, in turns."""
    subjects = _subjects()
    return [[await _p50(ask, subjects) for ask in asks] for _ in range(ROUNDS)]


def gateway_side(size: int) -> dict[str, Any]:
    """Measure the gateway's answer without its transport, record written, on the index of a worker."""
    with tempfile.TemporaryDirectory(prefix="lanjie-growth-") as scratch:
        small = _service(BASE, Path(scratch) / "small")
        before = Usage.of(os.getpid()).megabytes
        big = _service(size, Path(scratch) / "big")
        grown = Usage.of(os.getpid()).megabytes - before
        gc.freeze()

        def asker(service: ScreeningService) -> Callable[[str], Awaitable[str]]:
            inquiry = Inquiry(matter=MATTER, purpose=PURPOSE)

            async def ask(subject: str) -> str:
                return await service.check(
                    ASKER, Party(identifier=subject), inquiry, shape=lambda answer: answer.ruling.outcome.name
                )

            return ask

        times = asyncio.run(_race((asker(small), asker(big))))
    return {"gateway": times, "index MB": grown}


def sdk_side(size: int) -> dict[str, Any]:
    """Measure the SDK's local pass on both filters."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="lanjie-growth-") as scratch:
        sets = [InventedViews(count, 3) for count in (BASE, size)]
        for name in ("Bloom", "sorted"):
            with contextlib.ExitStack() as stack:
                asks = []
                for number, views in enumerate(sets):
                    transport = InventedTransport(views)
                    client = stack.enter_context(
                        lanjie.Client(
                            "127.0.0.1:1",
                            trust={"bench": views.public},
                            state_dir=Path(scratch) / f"{name}{number}",
                            filter=name.lower(),
                            upload_interval=3_600,
                            seam=Seam(transport=lambda _, transport=transport: transport),  # type: ignore[misc]
                        )
                    )
                    client.wait_ready(600)
                    while name == "Bloom" and client.sync_status().filter != "bloom":
                        time.sleep(0.05)
                    asks.append(_asking(client))
                found[name] = asyncio.run(_race((asks[0], asks[1])))
                stored = [path for path in (Path(scratch) / f"{name}1").rglob("*") if path.is_file()]
                found[f"{name} MB"] = sum(path.stat().st_size for path in stored if "spool" not in str(path)) / 1e6
    return found


def _asking(client: lanjie.Client) -> Callable[[str], Awaitable[str]]:
    async def ask(subject: str) -> str:
        return client.check(subject, matter=MATTER, purpose=PURPOSE).outcome.name

    return ask


async def copy_side(size: int) -> dict[str, Any]:
    """Fill a copy in Redis, and have a new process load it as a worker does."""
    with valkey() as server:
        shared = SharedIndex(connect(server.url, timeout=30), lineage="ab", epoch=1, key=KEY, timeout=30)
        copy = SharedCopy(shared)
        for number in range(256):
            entries = _entries(size // 256, number)
            states = [BucketState(bucket, revision, value, None, listed=True) for bucket, revision, value in entries]
            await copy.replace(number, states, 1)
        await copy.finish(1)
        await shared.close()
        return {f"copy {name}": value for name, value in _child("--load", server.url).items()}


async def load_copy(url: str) -> dict[str, Any]:
    """Load the copy into an index, as a starting worker does."""
    before, index = Usage.of(os.getpid()).megabytes, TableIndex()
    shared = SharedIndex(connect(url, timeout=30), lineage="ab", epoch=1, key=KEY, timeout=30)
    gc.disable()
    begun = time.perf_counter()
    await shared.load(index.take_copy)
    seconds = time.perf_counter() - begun
    await shared.close()
    return {"s": seconds, "MB": Usage.of(os.getpid()).megabytes - before, "entries": len(index)}


def _child(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "loadtests.growth", *arguments]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=ROOT).stdout)
    return found


def series(sizes: list[int]) -> list[Row]:
    """Return the rows of a series."""
    rows = []
    for size in sizes:
        found: dict[str, Any] = {}
        for side in ("gateway", "sdk", *(("copy",) if size <= COPY_MOST else ())):
            found |= _child("--side", side, "--sizes", str(size))
        for name, told in (("Bloom", "local pass, Bloom"), ("sorted", "local pass, sorted"), ("gateway", "gateway")):
            ratios = [big / small for small, big in found[name]]
            # The design promises it of the Bloom filter and of the gateway's dict.
            target = None if name == "sorted" else 1.2
            rows.append(row(f"{told} on {size:,} / on {BASE:,}, p50", ratios, "x", target))
        millions = size / 1e6
        rows.append(
            row(f"gateway on {size:,}, p50 without transport", [big for _, big in found["gateway"]], "us", None)
        )
        rows.append(row(f"SDK's set on {size:,}, a million", [found["Bloom MB"] / millions], "MB", None))
        rows.append(row(f"worker's index on {size:,}, a million", [found["index MB"] / millions], "MB", None, 0))
        if "copy s" in found:
            rows.append(row(f"worker's load of {found['copy entries']:,} from Redis", [found["copy s"]], "s", None))
    return rows


def short(full: bool) -> list[Row]:  # noqa: FBT001  an argument of the command line
    """Measure what `./run bench` shows of growth."""
    return series([100_000, 1_000_000, 10_000_000] if full else [100_000, 1_000_000])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.growth", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--side", choices=["gateway", "sdk", "copy"], help=argparse.SUPPRESS)
    parser.add_argument("--load", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.load:
        print(json.dumps(asyncio.run(load_copy(options.load))))
    elif options.side == "copy":
        print(json.dumps(asyncio.run(copy_side(options.sizes[0]))))
    elif options.side:
        print(json.dumps({"gateway": gateway_side, "sdk": sdk_side}[options.side](options.sizes[0])))
    else:
        report(series(options.sizes), "growth", as_json=options.json)


if __name__ == "__main__":
    main()
