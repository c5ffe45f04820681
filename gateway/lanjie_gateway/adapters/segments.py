r"""Inquiry records on their way to the ledger (Art. 39): each worker appends to a segment file of its own.

An answer with an effect leaves only when its record is on disk; concurrent answers share one `fdatasync`. A pass leaves
when its record is written: it survives the death of the process and reaches the disk within a second. Control reads the
segments into the ledger and deletes a closed one when all of it is there. One is closed when it is large or a day old:
what the ledger erases must not stay here.

A segment is ``LJSEG1\\n`` and frames: length and CRC-32 of the record, four bytes each, big-endian, then the record.
"""

import asyncio
import fcntl
import os
import queue
import secrets
import threading
import time
import zlib
from pathlib import Path
from typing import Final

import structlog

from lanjie_gateway.adapters.keys import sync_directory
from lanjie_gateway.domain.errors import Unanswerable

MAGIC: Final = b"LJSEG1\n"
SEGMENT_BYTES: Final = 64 * 1024 * 1024
OPEN_SECONDS: Final = 86_400.0
SYNC_SECONDS: Final = 1.0
_HEAD: Final = 8
_log = structlog.get_logger("lanjie.records")


class SegmentWriter:
    """A worker's segment. Used from one event loop.

    Args:
        directory: ``DIR/inquiry``.
        keep: seconds for which a segment with records stays open, by the tick.
    """

    def __init__(self, directory: Path, keep: float = OPEN_SECONDS) -> None:
        self._keep = keep
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory
        self._waiting: list[asyncio.Future[None]] = []
        self._on_its_way: list[asyncio.Future[None]] = []
        self._thread: threading.Thread | None = None
        # `None` ends the thread.
        self._wanted: queue.SimpleQueue[asyncio.AbstractEventLoop | None] = queue.SimpleQueue()
        self._ticker: asyncio.Task[None] | None = None
        self._dirty = False
        self._broken = False
        self._open()

    def _open(self) -> None:
        """Begin a new segment; where none can be made, nothing has changed.

        Raises:
            OSError: none can be made.
        """
        name = secrets.token_hex(6)
        path = self._directory / f"{name}.segment"
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        try:
            # The lock tells control that the segment may still grow; it goes with the process.
            fcntl.flock(file, fcntl.LOCK_EX)
            os.write(file, MAGIC)
            os.fsync(file)
            for directory in (self._directory, self._directory.parent):
                sync_directory(directory)
        except OSError:
            # What is written behind half a beginning would be read by nobody.
            os.close(file)
            path.unlink(missing_ok=True)
            raise
        self.name, self._file = name, file
        self._sequence = 0
        self._size = len(MAGIC)
        self._opened = time.monotonic()

    def start(self) -> None:
        """Begin to sync written passes every second."""
        self._ticker = asyncio.create_task(self._tick())

    def next_id(self) -> str:
        """Return the name of the next record: segment and number, unique for ever."""
        self._sequence += 1
        return f"{self.name}-{self._sequence}"

    def append(self, record: bytes) -> None:
        """Write a record so that it survives the death of this process.

        Raises:
            Unanswerable: RECORD_NOT_DURABLE; no answer may leave.
        """
        if self._broken:
            raise Unanswerable("RECORD_NOT_DURABLE", "inquiry records cannot be written")
        frame = len(record).to_bytes(4, "big") + zlib.crc32(record).to_bytes(4, "big") + record
        try:
            written = os.write(self._file, frame)
        except OSError:
            written = -1
        if written != len(frame):
            self._broken = True
            _log.error("record_not_written")
            raise Unanswerable("RECORD_NOT_DURABLE", "inquiry records cannot be written")
        self._dirty = True
        self._size += len(frame)

    def durable(self) -> "asyncio.Future[None]":
        """Begin to bring everything appended so far to the disk; the future is done when it is there.

        It raises Unanswerable, RECORD_NOT_DURABLE. After one failed sync nothing is acknowledged any more, and the
        process ends within a second.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        if not self._on_its_way:
            self._begin()
        return future

    async def close(self) -> None:
        """Sync and close."""
        if self._ticker is not None:
            self._ticker.cancel()
            await asyncio.gather(self._ticker, return_exceptions=True)
        if self._thread is not None:
            self._wanted.put(None)
            await asyncio.to_thread(self._thread.join)
        if not self._broken:
            os.fdatasync(self._file)
        os.close(self._file)

    def _begin(self) -> None:
        self._on_its_way, self._waiting = self._waiting, []
        if self._thread is None:
            self._thread = threading.Thread(target=self._sync_as_wanted, name="records", daemon=True)
            self._thread.start()
        self._wanted.put(asyncio.get_running_loop())

    def _sync_as_wanted(self) -> None:
        # A thread of its own: through an executor the way there and back takes longer than a quick disk.
        while (loop := self._wanted.get()) is not None:
            self._sync()
            loop.call_soon_threadsafe(self._synced)

    def _synced(self) -> None:
        done, self._on_its_way = self._on_its_way, []
        for future in done:
            if future.done():
                continue
            if self._broken:
                future.set_exception(Unanswerable("RECORD_NOT_DURABLE", "inquiry records cannot be written"))
            else:
                future.set_result(None)
        if self._waiting:
            self._begin()
        elif (self._size > SEGMENT_BYTES or self._old) and not self._broken:
            # Passes may have come while the last sync ran, and no later one reaches this file.
            self._sync()
            if not self._broken:
                self._begin_another()

    def _begin_another(self) -> None:
        full = self._file
        try:
            self._open()
        except OSError:
            # The one that is open takes records as long as it can; the next sync tries again.
            _log.warning("segment_not_made")
            return
        os.close(full)

    @property
    def _old(self) -> bool:
        return self._size > len(MAGIC) and time.monotonic() - self._opened > self._keep

    def _sync(self) -> None:
        self._dirty = False
        try:
            os.fdatasync(self._file)
        except OSError:
            self._broken = True
            _log.error("record_not_synced")

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(SYNC_SECONDS)
            if self._broken:
                # What follows what is half-written would be read by nobody; a new process begins with a new file.
                raise SystemExit("inquiry records cannot be written; this worker starts over")
            if (self._dirty or self._old) and not self._broken:
                await self.durable()


def segments(directory: Path) -> list[Path]:
    """Return all segments, oldest first."""
    return sorted(directory.glob("*.segment"), key=lambda path: (path.stat().st_mtime_ns, path.name))


def read_records(path: Path, position: int, most: int = 2_000) -> tuple[list[bytes], int]:
    """Return the whole records from a byte position on, and the position behind them.

    What a power cut left half-written at the end is not returned: its answer never left.
    """
    records: list[bytes] = []
    with path.open("rb") as file:
        position = max(position, len(MAGIC))
        file.seek(position)
        while len(records) < most:
            head = file.read(_HEAD)
            size = int.from_bytes(head[:4], "big")
            record = file.read(size) if len(head) == _HEAD else b""
            # A file may have grown without its data; zeros have the checksum of nothing.
            if size == 0 or len(record) < size or zlib.crc32(record) != int.from_bytes(head[4:], "big"):
                break
            records.append(record)
            position += _HEAD + size
    return records, position


def is_closed(path: Path) -> bool:
    """Whether no process writes the segment any more."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        if not os.fstat(descriptor).st_size:
            return False  # its worker has made it, and may not have locked it yet: it writes when it has
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True
