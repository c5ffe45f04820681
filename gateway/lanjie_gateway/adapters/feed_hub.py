"""Control's side of the change feed: it tells its workers every commit, gapless, over a unix socket.

From control: ``["begin", lineage, epoch]``, ``["load", [[bucket, value], ...]]`` for the initial state,
``["slice", revision, [[bucket, value], ...]]``, ``["catalogues", [[file name, file, revision], ...]]``,
``["commit", revision]``, and ``["head", revision]`` every `BEAT_SECONDS`. From a worker: ``["hello", address]`` and
``["ack", revision]``.

`feed_client` has the worker's side. A worker that has not heard from control for three beats, or stays behind the head
for `LAG_SECONDS`, cannot prove that it is current and refuses to answer.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from lanjie_gateway.adapters.feed_client import BEAT_SECONDS, LAG_SECONDS, SLICE
from lanjie_gateway.adapters.frames import read_frame, write_frame
from lanjie_gateway.adapters.ledger import Ledger, LedgerThread

PAGE: Final = 5_000
SHARDS: Final = 256
ACK_SECONDS: Final = LAG_SECONDS + 3 * BEAT_SECONDS
"""Longer than a worker answers while it is behind: whoever waited this long is not contradicted any more."""
_log = structlog.get_logger("lanjie.feed")


@dataclass(slots=True, eq=False)
class _Worker:
    writer: asyncio.StreamWriter
    address: str = ""
    sent: int = 0
    acked: int = -1
    wake: asyncio.Event = field(default_factory=asyncio.Event)


class FeedHub:
    """Control's side.

    Args:
        path: unix socket.
        ledger: the ledger's thread.
        on_ready: called with the screening address of a worker that has caught up for the first time.
    """

    def __init__(self, path: Path, ledger: LedgerThread, on_ready: Callable[[str], None]) -> None:
        self._path = path
        self._ledger = ledger
        self._on_ready = on_ready
        self._workers: set[_Worker] = set()
        self._head = 0
        self._acked = asyncio.Condition()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen for workers."""
        self._head = await self._ledger.call(Ledger.head)
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, path=str(self._path))
        self._path.chmod(0o600)

    async def close(self) -> None:
        """Stop listening and let all workers go."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._path.unlink(missing_ok=True)

    async def announce(self, revision: int) -> None:
        """Tell every worker of a commit and return when all live ones have applied it.

        One that has not within `ACK_SECONDS` is not waited for: it refuses by itself, being behind for too long.
        """
        self._head = max(self._head, revision)
        for worker in self._workers:
            worker.wake.set()
        try:
            async with asyncio.timeout(ACK_SECONDS), self._acked:
                await self._acked.wait_for(lambda: all(worker.acked >= revision for worker in self._ready()))
        except TimeoutError:
            _log.warning("worker_behind", revision=revision)

    def _ready(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker.acked >= 0]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        worker = _Worker(writer)
        self._workers.add(worker)
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  a stream callback always runs in one
        self._tasks.add(task)
        sender = asyncio.create_task(self._send(worker))
        try:
            while (frame := await read_frame(reader)) is not None:
                if frame[0] == "hello":
                    worker.address = frame[1]
                elif frame[0] == "ack":
                    first = worker.acked < 0
                    async with self._acked:
                        worker.acked = frame[1]
                        self._acked.notify_all()
                    if first:
                        self._on_ready(worker.address)
        except (ConnectionError, OSError):
            pass
        finally:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)
            self._workers.discard(worker)
            self._tasks.discard(task)
            async with self._acked:
                self._acked.notify_all()
            writer.close()

    async def _send(self, worker: _Worker) -> None:
        try:
            await self._load(worker)
            while True:
                while worker.sent < self._head:
                    await self._send_commits(worker)
                await write_frame(worker.writer, ["head", self._head])
                worker.wake.clear()
                if worker.sent >= self._head:
                    try:
                        await asyncio.wait_for(worker.wake.wait(), BEAT_SECONDS)
                    except TimeoutError:
                        continue
        except (ConnectionError, OSError):
            worker.writer.close()

    async def _load(self, worker: _Worker) -> None:
        # Values are absolute, so a commit that lands between two pages is simply sent again as a change.
        revision = await self._ledger.call(Ledger.head)
        await write_frame(worker.writer, ["begin", self._ledger.lineage, self._ledger.epoch])
        for number in range(SHARDS):
            shard = await self._ledger.call(Ledger.shard, number)
            await write_frame(worker.writer, ["load", [[state.bucket, state.value] for state in shard]])
        await self._send_catalogues(worker)
        await write_frame(worker.writer, ["commit", revision])
        worker.sent = revision

    async def _send_commits(self, worker: _Worker) -> None:
        for commit in await self._ledger.call(Ledger.commits_after, worker.sent, 100):
            if commit.kind == "catalogue":
                await self._send_catalogues(worker)
            cursor: int | None = 0
            while cursor is not None:
                states, cursor = await self._ledger.call(Ledger.changed, commit.revision, cursor, PAGE)
                for place in range(0, len(states), SLICE):
                    slice_ = [[state.bucket, state.value] for state in states[place : place + SLICE]]
                    await write_frame(worker.writer, ["slice", commit.revision, slice_])
            await write_frame(worker.writer, ["commit", commit.revision])
            worker.sent = commit.revision
            self._head = max(self._head, commit.revision)

    async def _send_catalogues(self, worker: _Worker) -> None:
        stored = await self._ledger.call(Ledger.editions)
        stored.sort(key=lambda edition: edition.revision)
        await write_frame(worker.writer, ["catalogues", [[e.file_name, e.file, e.revision] for e in stored]])
