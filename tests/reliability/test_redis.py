"""Readers under load while Redis is emptied, killed, replaced by an older copy, slow, lying or cut off: whatever they
believe is what the ledger had at the revision that comes with it, and what they are not told they know."""

import asyncio
import contextlib
import random
import time

import pytest

from lanjie_gateway.adapters import shared_index
from lanjie_gateway.adapters.ledger import Ledger
from lanjie_gateway.adapters.shared_index import SharedIndex, SharedIndexError
from tests.support.ledger import cells
from tests.support.shared import becomes_same, commit, ledger_thread, opened, publisher, reaches
from tests.support.valkey import Proxy, Valkey, proxy, valkey

pytestmark = pytest.mark.drill

COMPANIES = 60
READERS = 6
SECONDS = 30


class Truth:
    """Every state that a bucket ever had, by revision; what must not be believed is anything else."""

    def __init__(self) -> None:
        self.known: dict[tuple[bytes, int], tuple[int, bytes]] = {}
        self.now: dict[bytes, tuple[int, bytes]] = {}
        self.head = 0

    async def learn(self, thread, revision: int) -> None:
        page, _ = await thread.call(Ledger.changed, revision, 0, 1_000)
        self.head = revision
        for each in page:
            self.now[each.bucket] = self.known[each.bucket, each.revision] = each.revision, each.value

    def right(self, bucket: bytes, answer: tuple[int, bytes]) -> bool:
        return self.known.get((bucket, answer[0])) == answer


class Readers:
    """They read at random, and some of them are cancelled in the middle of it."""

    def __init__(self, shared: SharedIndex, truth: Truth) -> None:
        self.shared, self.truth = shared, truth
        self.believed = self.absent = self.failed = self.cancelled = 0
        self.wrong: list[str] = []
        self.cancelling = self.done = False

    async def run(self) -> None:
        dice = random.Random(random.random())
        while True:
            buckets = dice.sample(sorted(self.truth.now), dice.choice((1, 1, 3, 20)))
            reading = asyncio.create_task(self.shared.read(buckets))
            if self.cancelling and dice.random() < 0.5:
                asyncio.get_running_loop().call_later(dice.random() * 0.002, reading.cancel)
            try:
                answers = await reading
            except SharedIndexError:
                self.failed += 1
                await asyncio.sleep(0.01)
                continue
            except asyncio.CancelledError:
                if self.done:
                    raise
                self.cancelled += 1
                continue
            for bucket, answer in zip(buckets, answers, strict=True):
                if answer is None:
                    self.absent += 1
                elif self.truth.right(bucket, answer):
                    self.believed += 1
                else:
                    self.wrong.append(f"{bucket.hex()} at {answer[0]}")
            await asyncio.sleep(0.01)


async def fail(fault: str, server: Valkey, between: Proxy, kept: bytes, readers: Readers) -> None:
    match fault:
        case "flushed":
            server.run("FLUSHALL")
        case "killed":
            await asyncio.to_thread(server.restart)
        case "stale":
            await asyncio.to_thread(server.restart, kept)
        case "cancelled":
            readers.cancelling = True
            await asyncio.sleep(0.1)
            readers.cancelling = False
        case _:
            between.mode = fault
            await asyncio.sleep(0.15)
            between.mode = "pass"


async def drill(state_directory, fault: str, rounds: int) -> None:
    truth, times = Truth(), []
    with valkey() as server:
        async with (
            ledger_thread(state_directory) as thread,
            proxy(server) as (between, url),
            opened(server.url, lineage=thread.lineage) as own,
            opened(url, lineage=thread.lineage, timeout=0.1) as shared,
            publisher(thread, own, beat=0.02) as running,
        ):
            await truth.learn(thread, await commit(thread, *map(cells, range(COMPANIES))))
            assert await reaches(running, truth.head, SECONDS)
            readers = Readers(shared, truth)
            tasks = [asyncio.create_task(readers.run()) for _ in range(READERS)]
            kept = server.keep()
            for turn in range(rounds):
                await truth.learn(thread, await commit(thread, cells(turn % COMPANIES, reason=f"reason {turn}")))
                began = time.perf_counter()
                await fail(fault, server, between, kept, readers)
                await recovered(shared, truth)
                times.append(time.perf_counter() - began)
                assert readers.wrong == []
            readers.done = True
            for task in tasks:
                task.cancel()
            await becomes_same(thread, shared, SECONDS)
            await asyncio.gather(*tasks, return_exceptions=True)
    times.sort()
    print(
        f"{fault}: {rounds} rounds, {readers.believed} values believed, 0 wrong, {readers.absent} absent,"
        f" {readers.failed} reads failed, {readers.cancelled} cancelled;"
        f" whole again after {times[len(times) // 2]:.2f} s (median), {times[-1]:.2f} s (longest)"
    )
    assert readers.believed > rounds
    if fault == "cancelled":
        assert readers.cancelled > rounds
    elif fault not in ("flushed", "lies"):
        assert readers.failed > 0


async def recovered(shared: SharedIndex, truth: Truth) -> None:
    """Wait until the head says so and every bucket is read as the ledger has it."""
    buckets = sorted(truth.now)
    want = [truth.now[bucket] for bucket in buckets]
    async with asyncio.timeout(SECONDS):
        while await whole_or_none(shared, buckets) != (truth.head, want):  # noqa: ASYNC110  Redis tells nobody
            await asyncio.sleep(0.02)


async def whole_or_none(shared: SharedIndex, buckets: list[bytes]):
    with contextlib.suppress(SharedIndexError):
        return await shared.revision(), await shared.read(buckets)
    return None


FAULTS = ["flushed", "killed", "stale", "slow", "garbage", "lies", "cut", "cancelled"]


@pytest.mark.parametrize("fault", FAULTS)
async def test_no_wrong_value_is_believed(tmp_path, fault, monkeypatch):
    monkeypatch.setattr(shared_index, "PAUSE_SECONDS", 0.02)
    await drill(tmp_path, fault, 2)


@pytest.mark.long
@pytest.mark.parametrize("fault", FAULTS)
async def test_no_wrong_value_is_believed_in_500_rounds(tmp_path, fault):
    await drill(tmp_path, fault, 500)
