"""A worker's side of the change feed (see `feed_hub` for the frames)."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from lanjie_gateway.adapters.frames import read_frame, write_frame
from lanjie_gateway.adapters.index import ExactIndex
from lanjie_gateway.domain.catalogue_file import load
from lanjie_matcher.catalogues import CatalogueSet, Edition

BEAT_SECONDS: Final = 1.0
LAG_SECONDS: Final = 60.0
SLICE: Final = 500


def read_editions(files: Sequence[tuple[str, bytes, int]]) -> list[Edition]:
    """Return the editions of stored files, in order of publication. They were checked when they were published."""
    editions: list[Edition] = []
    for name, file, revision in files:
        edition, _ = load(file, name, editions)
        editions.append(replace(edition, revision=revision))
    return editions


class FeedClient:
    """A worker's side: keeps its index up with control and knows whether it can prove it.

    Args:
        path: control's unix socket.
        index: the worker's index; replaced content arrives before the first commit only.
        address: where this worker answers checks.
        monotonic: monotonic seconds; a test's clock stands still where it wants.
    """

    def __init__(
        self, path: Path, index: ExactIndex, address: str, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._path = path
        self._index = index
        self._address = address
        self._monotonic = monotonic
        self._heard = float("-inf")
        self._behind_since: float | None = None
        self._ready = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.lineage = ""
        self.epoch = 0

    async def start(self) -> None:
        """Connect and follow until `close`."""
        self._task = asyncio.create_task(self._follow())

    async def close(self) -> None:
        """Stop following."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def ready(self) -> None:
        """Wait for the initial state."""
        await self._ready.wait()

    def current(self) -> bool:
        """Whether the worker can prove that it knows the list as control does."""
        now = self._monotonic()
        if now - self._heard > 3 * BEAT_SECONDS:
            return False
        return self._behind_since is None or now - self._behind_since <= LAG_SECONDS

    async def _follow(self) -> None:
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(str(self._path), limit=2**20)
            except OSError:
                await asyncio.sleep(0.05)
                continue
            try:
                if self._ready.is_set():
                    # What was missed is unknown: only a new process starts from a clean index.
                    raise SystemExit("control went away; this worker starts over")
                await write_frame(writer, ["hello", self._address])
                while (frame := await read_frame(reader)) is not None:
                    await self._apply(frame, writer)
            except (ConnectionError, OSError):
                pass
            finally:
                writer.close()

    async def _apply(self, frame: list[Any], writer: asyncio.StreamWriter) -> None:
        self._heard = self._monotonic()
        kind = frame[0]
        if kind == "begin":
            self.lineage, self.epoch = frame[1], frame[2]
        elif kind == "load":
            for place in range(0, len(frame[1]), SLICE):
                for bucket, value in frame[1][place : place + SLICE]:
                    self._index.load(bucket, value)
                await asyncio.sleep(0)
        elif kind == "slice":
            self._index.stage(frame[1], frame[2])
        elif kind == "catalogues":
            self._index.stage_catalogues(CatalogueSet.of(read_editions([(n, f, r) for n, f, r in frame[1]])))
        elif kind == "commit":
            self._index.advance(frame[1], self._monotonic())
            await write_frame(writer, ["ack", frame[1]])
            self._ready.set()
        elif kind == "head":
            self._index.compact(self._monotonic())
        if kind in ("slice", "commit", "head"):
            behind = self._index.revision < frame[1]
            self._behind_since = (self._behind_since or self._heard) if behind else None
