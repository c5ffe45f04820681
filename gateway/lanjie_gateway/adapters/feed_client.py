"""A worker's side of the change feed (see `feed_hub` for the frames)."""

import asyncio
import contextlib
import datetime
import itertools
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import structlog

from lanjie_gateway.adapters.frames import packed_frame, read_frame, write_frame
from lanjie_gateway.adapters.index import Entry, ExactIndex
from lanjie_gateway.adapters.shared_codec import SHARDS
from lanjie_gateway.domain.catalogue_file import load
from lanjie_gateway.domain.errors import GatewayError, Unanswerable
from lanjie_gateway.domain.grants import GrantSet, from_json
from lanjie_matcher.catalogues import CatalogueSet, Edition

BEAT_SECONDS: Final = 1.0
LAG_SECONDS: Final = 60.0
FETCH_SECONDS: Final = 1.0
ASK_SECONDS: Final = 1.5
"""Less than an SDK waits: the ledger may be behind an import, and an answer that nobody hears helps nobody."""
TELL_SECONDS: Final = 0.05
SLICE: Final = 500
_day: Final = datetime.date.fromordinal
_log = structlog.get_logger("lanjie.feed")

Preload = Callable[[str, int], Awaitable[tuple[int, Sequence[int]]]]
"""Given lineage and epoch, fills the index from the shared copy: (revision it is complete to, shards it is not).
Revision 0 where there is no copy to believe."""


def read_editions(files: Sequence[tuple[str, bytes, int]]) -> list[Edition]:
    """Return the editions of stored files, in order of publication. They were checked when they were published."""
    editions: list[Edition] = []
    for name, file, revision in files:
        edition, _ = load(file, name, editions)
        editions.append(replace(edition, revision=revision))
    return editions


async def no_copy(_lineage: str, _epoch: int) -> tuple[int, Sequence[int]]:
    """Fill nothing: everything comes from control."""
    return 0, range(SHARDS)


class FeedClient:
    """A worker's side: keeps its index up with control and knows whether it can prove it.

    Args:
        path: control's unix socket.
        index: the worker's index; filled before the first commit only.
        address: where this worker answers checks.
        preload: fills the index before control does.
        monotonic: monotonic seconds, of the machine as control has them; a test's clock stands still where it wants.
        on_grants: given the grants whenever they are others.
    """

    def __init__(
        self,
        path: Path,
        index: ExactIndex[Any],
        address: str,
        preload: Preload = no_copy,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        on_grants: Callable[[GrantSet], None] = lambda _: None,
    ) -> None:
        self._path = path
        self._index = index
        self._address = address
        self._preload = preload
        self._monotonic = monotonic
        self._on_grants = on_grants
        self._heard = float("-inf")
        self._behind_since: float | None = None
        self._ready = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._untold = b""
        self.lineage = ""
        self.epoch = 0

    async def start(self) -> None:
        """Connect and follow until `close`."""
        self._task = asyncio.create_task(self._follow())

    async def close(self) -> None:
        """Stop following."""
        self._tell()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def ready(self) -> None:
        """Wait for the initial state."""
        await self._ready.wait()

    def current(self) -> bool:
        """Whether the worker can prove that it knows the list as the ledger does."""
        now = self._monotonic()
        # Beats come while what a copy in Redis lacked is still on its way, before there is a catalogue or a commit.
        if not self._ready.is_set() or now - self._heard > 3 * BEAT_SECONDS:
            return False
        return self._behind_since is None or now - self._behind_since <= LAG_SECONDS

    async def fetch(self, buckets: Sequence[bytes]) -> Sequence[Entry]:
        """Read buckets from the ledger, through control.

        Raises:
            Unanswerable: INDEX_UNAVAILABLE, no answer within `FETCH_SECONDS`.
        """
        try:
            entries: Sequence[Entry] | None = await self._question(FETCH_SECONDS, "get", list(buckets))
        except (TimeoutError, OSError):
            entries = None
        if entries is None:
            raise Unanswerable("INDEX_UNAVAILABLE", "neither the shared index nor the ledger can be read now")
        return entries

    async def may_ask(self, asker: Sequence[Any], persons: Sequence[Any]) -> None:
        """Have control count natural persons before they are answered about.

        Raises:
            GatewayError: DAILY_CAP, OVERLOADED; NOT_CURRENT without an answer within `FETCH_SECONDS`: nobody is
                answered about uncounted.
        """
        try:
            refusal = await self._question(FETCH_SECONDS, "persons", list(asker), list(persons))
        except (TimeoutError, OSError):
            raise Unanswerable("NOT_CURRENT", "this worker cannot count the persons asked about") from None
        if refusal is not None:
            reason, message, metadata = refusal
            raise GatewayError(reason, message, **metadata)

    def tell_outcomes(self, asker: Sequence[Any], outcomes: Sequence[Any]) -> None:
        """Tell control whether persons had another outcome than a pass; a control that is gone need not hear it.

        It is told before it is asked anything more, and within `TELL_SECONDS`.
        """
        if not self._untold:
            asyncio.get_running_loop().call_later(TELL_SECONDS, self._tell)
        self._untold += packed_frame(["outcomes", list(asker), list(outcomes)])

    def _tell(self) -> None:
        untold, self._untold = self._untold, b""
        if untold and self._writer is not None:
            with contextlib.suppress(OSError):
                self._writer.write(untold)

    async def _question(self, seconds: float, kind: str, *about: Any) -> Any:
        number = next(self._numbers)
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(seconds):
                if self._writer is None:
                    raise ConnectionError
                untold, self._untold = self._untold, b""
                self._writer.write(untold + packed_frame([kind, number, *about]))
                await self._writer.drain()
                return await answer
        finally:
            self._asked.pop(number, None)

    async def ask(self, what: str, argument: Any) -> Any:
        """Ask a service of control; see `FeedHub.serve`.

        Raises:
            Unanswerable: LEDGER_UNAVAILABLE, no answer within `ASK_SECONDS`. What was asked for may be done all the
                same.
        """
        try:
            answer = await self._question(ASK_SECONDS, "ask", what, argument)
        except (TimeoutError, OSError):
            answer = None
        if answer is None:
            raise Unanswerable("LEDGER_UNAVAILABLE", "the ledger cannot be asked now, try again")
        return answer

    async def _follow(self) -> None:
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(str(self._path), limit=2**20)
            except OSError:
                await asyncio.sleep(0.05)
                continue
            if self._ready.is_set():
                writer.close()
                # What was missed is unknown: only a new process starts from a clean index.
                raise SystemExit("control went away; this worker starts over")
            try:
                self._writer = writer
                while (frame := await read_frame(reader)) is not None:
                    await self._apply(frame, writer)
            except (ConnectionError, OSError):
                pass
            except Exception as error:  # noqa: BLE001  who cannot follow starts over: nothing else would wake it
                _log.error("feed_not_followed", error=type(error).__name__)
            finally:
                self._writer = None
                writer.close()

    async def _apply(self, frame: list[Any], writer: asyncio.StreamWriter) -> None:
        kind = frame[0]
        if kind in ("got", "told", "may"):
            answer = self._asked.get(frame[1])
            if answer is not None and not answer.done():
                answer.set_result(frame[2])
        elif kind == "begin":
            self.lineage, self.epoch = frame[1], frame[2]
            # A control that died halfway may have left what the ledger no longer has.
            self._index.reset()
            revision, unsound = await self._preload(self.lineage, self.epoch)
            await write_frame(writer, ["have", self._address, revision, list(unsound)])
        elif kind == "reset":
            self._index.reset()
        elif kind == "load":
            self._index.load(frame[1])
            await asyncio.sleep(0)
        elif kind in ("slice", "catalogues", "grants", "sources"):
            self._stage(frame)
        elif kind == "commit":
            self._index.advance(frame[1], self._monotonic())
            await write_frame(writer, ["ack", frame[1]])
            self._ready.set()
        elif kind == "head":
            # Only this frame says that control knew the newest revision, and when: it may have lain in the socket while
            # this process was stopped.
            self._heard = frame[2]
            self._index.compact(self._monotonic())
        if kind in ("slice", "commit", "head"):
            behind = self._index.revision < frame[1]
            self._behind_since = (self._behind_since or self._monotonic()) if behind else None

    def _stage(self, frame: list[Any]) -> None:
        kind = frame[0]
        if kind == "slice":
            self._index.stage(frame[1], frame[2])
        elif kind == "catalogues":
            self._index.stage_catalogues(CatalogueSet.of(read_editions([(n, f, r) for n, f, r in frame[1]])))
        elif kind == "grants":
            # At once, not with the commit: nobody goes on by what was taken away.
            self._on_grants(GrantSet.made([from_json(content, made) for content, made in frame[2]], frame[1]))
        else:
            self._index.stage_sources({(t, source): _day(day) for t, source, day in frame[1]})
