"""Whoever follows the ledger is at every revision that it states what the ledger was there, however commits race."""

import asyncio
import random
import tempfile
from array import array
from pathlib import Path
from typing import Any

import pytest

from lanjie_gateway.adapters.feed_hub import FeedHub
from lanjie_gateway.adapters.frames import read_frame, write_frame
from lanjie_gateway.adapters.ledger import Changes, Ledger, LedgerThread
from lanjie_gateway.domain.errors import Unanswerable
from lanjie_gateway.domain.view import View
from lanjie_gateway.services.views import ViewService
from tests.support.ledger import Clock, cells, open_ledger, take
from tests.support.shared import all_of

COMPANIES = 4
COMMITS = 12
SEEDS = [0, 1, *(pytest.param(seed, marks=pytest.mark.drill) for seed in range(2, 10))]


class Racing(LedgerThread):
    """A ledger in which others commit between two reads; what it was at each revision is kept."""

    def __init__(self, state: Path, seed: int) -> None:
        super().__init__(lambda: open_ledger(state))
        self._rng = random.Random(seed)
        self._left = COMMITS
        self.reads = 0
        self.values: dict[int, dict[bytes, bytes]] = {}
        self.digests: dict[int, array[int]] = {}

    async def start(self) -> None:
        await super().start()
        await super().call(self._write)

    async def call(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        self.reads += function is Ledger.changed
        while self._left and self._rng.random() < 0.4:
            await super().call(self._write)
        if self._rng.random() < 0.1:
            raise Unanswerable("LEDGER_UNAVAILABLE", "invented")
        return await super().call(function, *args, **kwargs)

    async def head(self) -> int:
        while self._left:
            await super().call(self._write)
        return await super().call(Ledger.head)

    def _write(self, ledger: Ledger) -> None:
        self._left -= 1
        company, version = self._rng.randrange(COMPANIES), COMMITS - self._left
        row = cells(company, source_record_id=f"{company}", source_version=f"{version}", name=f"示例企业{version}号")
        take(ledger, {**row, "op": self._rng.choice(["U", "D"])})
        revision = ledger.head()
        self.values[revision] = {bucket: value for bucket, (_, value) in all_of(ledger).items()}
        self.digests[revision] = ledger.listed_digests()


async def _free(_: Any, __: Any) -> None:
    return None


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_worker_is_told_of_every_revision_what_it_was(seed: int, tmp_path: Path) -> None:
    thread = Racing(tmp_path, seed)
    await thread.start()
    with tempfile.TemporaryDirectory() as short:
        path = Path(short) / "feed.sock"
        hub = FeedHub(path, thread, Changes(thread), lambda _: None, (_free, lambda *_: None))
        await hub.start()
        reader, writer = await asyncio.open_unix_connection(str(path))
        held: dict[bytes, bytes] = {}
        at = 0
        told = False
        while not told or at < hub.head:
            frame = await read_frame(reader)
            assert frame is not None
            if frame[0] == "begin":
                await write_frame(writer, ["have", "127.0.0.1:1", 0, list(range(256))])
            elif frame[0] in ("load", "slice"):
                held.update((bucket, value) for bucket, _, value in frame[-1])
            elif frame[0] == "commit":
                at = frame[1]
                assert {bucket: value for bucket, value in held.items() if value} == thread.values[at]
                if not told:
                    told = True
                    hub.tell(await thread.head())
        assert at == max(thread.values)
        writer.close()
        await hub.close()
    await thread.close()


async def test_a_worker_that_cannot_be_told_more_is_let_go_to_start_over(tmp_path: Path) -> None:
    thread = LedgerThread(lambda: open_ledger(tmp_path))
    await thread.start()

    class Spoilt(Changes):
        async def page(self, *_: Any) -> Any:
            raise KeyError

    with tempfile.TemporaryDirectory() as short:
        path = Path(short) / "feed.sock"
        hub = FeedHub(path, thread, Spoilt(thread), lambda _: None, (_free, lambda *_: None))
        await hub.start()
        reader, writer = await asyncio.open_unix_connection(str(path))
        async with asyncio.timeout(10):
            while (frame := await read_frame(reader)) is not None:
                if frame[0] == "begin":
                    await write_frame(writer, ["have", "127.0.0.1:1", 0, list(range(256))])
                elif frame[0] == "commit":
                    await thread.call(lambda ledger: take(ledger, cells(1)))
                    hub.tell(await thread.call(Ledger.head))
        writer.close()
        await hub.close()
    await thread.close()


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_view_is_at_every_revision_what_the_list_was(seed: int, tmp_path: Path) -> None:
    thread = Racing(tmp_path, seed)
    await thread.start()
    services: Any = None, None
    views = ViewService(
        *(thread, Changes(thread), *services, Clock()),
        current=lambda: True,
        awaited=lambda _: False,
        told=lambda _: None,
    )

    async def compare() -> None:
        while True:
            await views.whole()
            expected = View(thread.keys.view)
            expected.load(thread.digests[views.view.revision], views.view.revision)
            assert views.view.head() == expected.head()
            await asyncio.sleep(0)

    await _insisted(views.start)
    comparing = asyncio.create_task(compare())
    head = await thread.head()
    await _insisted(lambda: views.follow(head))
    await asyncio.sleep(0)
    assert views.view.revision == head
    comparing.cancel()
    (ended,) = await asyncio.gather(comparing, return_exceptions=True)
    assert isinstance(ended, asyncio.CancelledError), ended
    await thread.close()


async def _insisted(work: Any) -> Any:
    while True:
        try:
            return await work()
        except Unanswerable:
            continue


async def test_a_page_is_read_once_for_all_and_a_failed_one_again(tmp_path: Path) -> None:
    thread = Racing(tmp_path, 1)
    await thread.start()
    changes = Changes(thread)
    waiting = [asyncio.ensure_future(changes.page(1, 0)) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    first = await _insisted(lambda: changes.page(1, 0))
    reads = thread.reads
    assert await changes.page(1, 0) == first
    assert thread.reads == reads
    await thread.close()
