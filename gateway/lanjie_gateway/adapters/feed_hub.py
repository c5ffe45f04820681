"""Control's side of the change feed: it tells its workers every commit, gapless, over a unix socket.

From control: ``["begin", lineage, epoch]``. When the worker has said what it took from the shared copy: ``["reset"]``
if that is of no use, ``["load", entries]`` for each shard that it lacks, ``["catalogues", [[file name, file, revision],
...]]``, ``["grants", revision, [[grant, revision], ...]]`` (all that stand), ``["sources", [[list type, source, day],
...]]`` (up to which it has vouched, an ordinal), ``["commit", revision]``. For each commit: catalogues, grants and
sources where it changes them, ``["slice", revision, entries]`` and the commit; where a bucket was read so late that a
later commit is in it, only that one's: no revision is told with something of a later one. With every beat
``["head", revision, monotonic seconds]``, of the instant at which the ledger was asked.
``["got", number, entries or nil]`` answers a read, ``["told", number, answer or nil]`` a question to a service of
control, ``["may", number, nil or [reason, message, metadata]]`` one about natural persons.

From a worker: ``["have", address, revision, shards it lacks]``, ``["ack", revision]``, ``["get", number, [bucket,
...]]``, ``["ask", number, what, argument]``, ``["persons", number, asker, [traits, ...]]`` before it answers about
natural persons, and ``["outcomes", asker, [[person, whether it was another outcome than a pass], ...]]`` afterwards. An
entry is ``[bucket, revision, packed listings]``.

`feed_client` has the worker's side. A beat says that control knew the newest revision of the ledger at that moment. A
worker without one for three beats, or behind the head for `LAG_SECONDS`, cannot prove that it is current and refuses.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import structlog

from lanjie_gateway.adapters.feed_client import BEAT_SECONDS, LAG_SECONDS, SLICE
from lanjie_gateway.adapters.frames import read_frame, write_frame
from lanjie_gateway.adapters.ledger import (
    BucketState,
    Changes,
    CommitInfo,
    Ledger,
    LedgerThread,
    newest,
    read_shards,
)
from lanjie_gateway.adapters.shared_codec import SHARDS
from lanjie_gateway.domain.errors import GatewayError, Unanswerable
from lanjie_gateway.domain.grants import as_json
from lanjie_gateway.domain.source_ages import Source

ACK_SECONDS: Final = LAG_SECONDS + 3 * BEAT_SECONDS
"""Longer than a worker answers while it is behind: whoever waited this long is not contradicted any more."""
RETRY_SECONDS: Final = 0.2
Ask = Callable[[Sequence[Any], Sequence[Any]], Awaitable[GatewayError | None]]
"""Given an asker and traits as frames have them, says why a question about natural persons may not be answered."""
Tell = Callable[[Sequence[Any], Sequence[Any]], None]
"""Takes an asker and outcomes as frames have them."""
Service = Callable[[Any], Awaitable[Any]]
_P = ParamSpec("_P")
_T = TypeVar("_T")
_log = structlog.get_logger("lanjie.feed")


@dataclass(slots=True, eq=False)
class _Worker:
    """One worker. `whole_at`: newest commit of which it was sent something."""

    writer: asyncio.StreamWriter
    address: str = ""
    sent: int = 0
    whole_at: int = 0
    acked: int = -1
    beats: int = 0
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    have: "asyncio.Future[tuple[int, list[int]]]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class FeedHub:
    """Control's side.

    Args:
        path: unix socket.
        ledger: the ledger's thread.
        changes: what its commits changed.
        on_ready: called with the screening address of a worker that has caught up for the first time.
        limits: on natural persons.
    """

    def __init__(
        self,
        path: Path,
        ledger: LedgerThread,
        changes: Changes,
        on_ready: Callable[[str], None],
        limits: tuple[Ask, Tell],
    ) -> None:
        self._path = path
        self._ask_limits, self._tell_limits = limits
        self._ledger = ledger
        self._changes = changes
        self._on_ready = on_ready
        self._workers: set[_Worker] = set()
        self._head = 0
        self._beats = 0
        self._seen = 0.0
        self._acked = asyncio.Condition()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._services: dict[str, Service] = {}

    def serve(self, what: str, service: "Service") -> None:
        """Let workers ask a service of control; an argument and an answer are what a frame can hold."""
        self._services[what] = service

    async def start(self) -> None:
        """Listen for workers."""
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

    @property
    def head(self) -> int:
        """Newest revision that was told."""
        return self._head

    def ready(self) -> list[int]:
        """Return the revision that each worker has applied, of those that have caught up once."""
        return [worker.acked for worker in self._ready()]

    def tell(self, revision: int) -> None:
        """Begin to tell every worker of the commits up to `revision`."""
        self._head = max(self._head, revision)
        self._wake()

    def beat(self, seen: float) -> None:
        """Tell every worker that the head told last was the newest revision at an instant, in monotonic seconds."""
        self._beats += 1
        self._seen = seen
        self._wake()

    async def applied(self, revision: int) -> None:
        """Return when all live workers have applied a commit.

        One that has not within `ACK_SECONDS` is not waited for: it refuses by itself, being behind for too long.
        """
        try:
            async with asyncio.timeout(ACK_SECONDS), self._acked:
                await self._acked.wait_for(lambda: all(worker.acked >= revision for worker in self._ready()))
        except TimeoutError:
            _log.warning("worker_behind", revision=revision)

    def _wake(self) -> None:
        for worker in self._workers:
            worker.wake.set()

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
                await self._heard(worker, frame)
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

    async def _heard(self, worker: _Worker, frame: list[Any]) -> None:
        if frame[0] == "have":
            worker.address = frame[1]
            worker.have.set_result((frame[2], frame[3]))
        elif frame[0] == "get":
            self._begin(self._get(worker, frame[1], frame[2]))
        elif frame[0] == "ask":
            self._begin(self._ask_service(worker, *frame[1:]))
        elif frame[0] == "persons":
            self._begin(self._may(worker, *frame[1:]))
        elif frame[0] == "outcomes":
            self._tell_limits(frame[1], frame[2])
        elif frame[0] == "ack":
            first = worker.acked < 0
            async with self._acked:
                worker.acked = frame[1]
                self._acked.notify_all()
            if first:
                self._on_ready(worker.address)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ask_service(self, worker: _Worker, number: int, what: str, argument: Any) -> None:
        try:
            answer = await self._services[what](argument)
        except Unanswerable:
            answer = None
        except Exception as error:  # noqa: BLE001  one question must not end the feed of a worker
            _log.error("not_told", what=what, error=type(error).__name__)
            answer = None
        try:
            await write_frame(worker.writer, ["told", number, answer])
        except OSError:
            worker.writer.close()

    async def _may(self, worker: _Worker, number: int, asker: Sequence[Any], persons: Sequence[Any]) -> None:
        refusal = await self._ask_limits(asker, persons)
        answer = None if refusal is None else [refusal.reason, str(refusal), refusal.metadata]
        try:
            await write_frame(worker.writer, ["may", number, answer])
        except OSError:
            worker.writer.close()

    async def _get(self, worker: _Worker, number: int, buckets: list[bytes]) -> None:
        try:
            entries = _entries(await self._ledger.call(Ledger.buckets, buckets))
        except Unanswerable:
            entries = None
        try:
            await write_frame(worker.writer, ["got", number, entries])
        except OSError:
            worker.writer.close()

    async def _send(self, worker: _Worker) -> None:
        try:
            await self._load(worker)
            while True:
                worker.wake.clear()
                while worker.sent < max(self._head, worker.whole_at):
                    await self._send_commits(worker)
                await self._send_beat(worker)
                await worker.wake.wait()
        except OSError:
            worker.writer.close()
        except Exception as error:  # noqa: BLE001  whoever is told nothing more starts over
            _log.error("not_told", what="commits", error=type(error).__name__)
            worker.writer.close()

    async def _load(self, worker: _Worker) -> None:
        await write_frame(worker.writer, ["begin", self._ledger.lineage, self._ledger.epoch])
        copied, lacks = await worker.have
        # Values are absolute, so a commit that lands between two shards is simply sent again as a change.
        revision = await self._ask(Ledger.head)
        if not 0 < copied <= revision:
            copied, lacks = revision, list(range(SHARDS))
            await write_frame(worker.writer, ["reset"])
        async for _, _, shards in read_shards(self._ask, lacks):
            for states in filter(None, shards):
                worker.whole_at = max(worker.whole_at, newest(states))
                await write_frame(worker.writer, ["load", _entries(states)])
        # One commit for all that was missed: a half caught-up worker must not answer.
        for missed in await self._commits(copied, revision):
            await self._send_changes(worker, missed)
        await self._send_catalogues(worker)
        await self._send_grants(worker)
        await _send_sources(worker, await self._ask(Ledger.vouched, revision))
        await _commit(worker, revision)

    async def _send_commits(self, worker: _Worker) -> None:
        for commit in await self._commits(worker.sent, max(self._head, worker.whole_at)):
            if commit.kind == "catalogue":
                await self._send_catalogues(worker)
            if commit.kind == "grant":
                await self._send_grants(worker)
            if commit.delivers and (raised := await self._ask(Ledger.raised, commit.revision)):
                await _send_sources(worker, raised)
            await self._send_changes(worker, commit)
            await _commit(worker, commit.revision)

    async def _send_changes(self, worker: _Worker, commit: CommitInfo) -> None:
        revision = commit.revision
        # The others change nothing in the exact index; what they touch, they touch for the view's sake.
        cursor: int | None = 0 if commit.kind == "listings" else None
        while cursor is not None:
            states, cursor = await self._reached(partial(self._changes.page, revision, cursor))
            worker.whole_at = max(worker.whole_at, newest(states))
            entries = _entries(states)
            for place in range(0, len(entries), SLICE):
                await write_frame(worker.writer, ["slice", revision, entries[place : place + SLICE]])
            await self._send_beat(worker)

    async def _commits(self, after: int, until: int) -> list[CommitInfo]:
        found: list[CommitInfo] = []
        while after < until:
            page = await self._ask(Ledger.commits_after, after, 1_000)
            if not page:
                # Told of before it can be read: nothing is left out, however long it takes.
                await asyncio.sleep(RETRY_SECONDS)
                continue
            found += page
            after = page[-1].revision
        return found

    async def _send_beat(self, worker: _Worker) -> None:
        if worker.beats != self._beats:
            worker.beats = self._beats
            await write_frame(worker.writer, ["head", self._head, self._seen])

    async def _send_catalogues(self, worker: _Worker) -> None:
        stored = await self._ask(Ledger.editions)
        stored.sort(key=lambda edition: edition.revision)
        await write_frame(worker.writer, ["catalogues", [[e.file_name, e.file, e.revision] for e in stored]])

    async def _send_grants(self, worker: _Worker) -> None:
        newest = {act.department: act for act in await self._ask(Ledger.grant_acts) if act.revision}
        standing = [[as_json(act.grant), act.revision] for act in newest.values() if act.grant is not None]
        revision = max((act.revision for act in newest.values()), default=0)
        await write_frame(worker.writer, ["grants", revision, standing])

    async def _ask(self, function: Callable[Concatenate[Ledger, _P], _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return await self._reached(lambda: self._ledger.call(function, *args, **kwargs))

    async def _reached(self, ask: Callable[[], Awaitable[_T]]) -> _T:
        """Ask the ledger until it can be reached; the worker is without beats meanwhile and knows it."""
        while True:
            try:
                return await ask()
            except Unanswerable:
                await asyncio.sleep(RETRY_SECONDS)


async def _commit(worker: _Worker, revision: int) -> None:
    """Let the worker answer at a revision, unless it was sent something of a later one already: then that one does."""
    worker.sent = revision
    if revision >= worker.whole_at:
        await write_frame(worker.writer, ["commit", revision])


async def _send_sources(worker: _Worker, days: Mapping[Source, int]) -> None:
    await write_frame(worker.writer, ["sources", [[*source, day] for source, day in days.items()]])


def _entries(states: list[BucketState]) -> list[tuple[bytes, int, bytes]]:
    return [(state.bucket, state.revision, state.value) for state in states]
