"""The spool: inquiry records of local passes on disk, until the gateway has them (Art. 39).

Rules of this module:

* a local pass leaves only after its record was written; where it cannot be written, the gateway is asked instead;
* a record survives ``kill -9`` of the process: it goes into a mapped file, with a checksum that tells a torn one;
* records of one spool are numbered from 1 without a gap;
* a spool belongs to one process at a time, which holds its lock; the spool of a dead process is taken over;
* what is uploaded is a chain: each pass is hashed with the hash before it, from the name of the spool on, when it is
  uploaded; the hash before the first record of a segment stands beside it, for whoever takes the spool over;
* space is taken beforehand, so that a full disk is an error here and never a crash of a mapped write.

Layout: ``ROOT/LINEAGE/spool/ID.lock`` and ``ROOT/LINEAGE/spool/ID/FIRST.segment``, all 0600, ID of 32 hexadecimal
digits. A segment is a header and frames; a frame is a checksum, what passes of one instant share, their context, and
their digests, eight bytes each. Its context is left out where it is that of the frame before it in the segment. A first
number of 0 ends the segment. The checksum is Adler-32: in a frame of one pass it shows every changed byte, and every
front or end that is missing.
"""

import contextlib
import hashlib
import mmap
import os
import re
import secrets
import struct
import threading
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NamedTuple

from lanjie._files import private_directory, release_lock, reserve, take_lock

SEGMENT_BYTES: Final = 1024 * 1024
LIMIT_BYTES: Final = 64 * 1024 * 1024
"""Most a spool holds; with more, local passes stop."""
_CHAIN_BYTES: Final = 32
MAX_CONTEXT: Final = 0xFFFE
_SAME: Final = 0xFFFF
DIGEST_BYTES: Final = 8
_MAGIC: Final = b"LJSPOOL3"
_CHECK: Final = struct.Struct("<I")
_FRAME: Final = struct.Struct("<QqIIQIHH")
"""First number, nanoseconds, epoch, generation, revision, age of the set, bytes of context, count."""
_ONE: Final = struct.Struct(f"{_FRAME.format}{DIGEST_BYTES}s")
"""A frame of one pass, without its context."""
_HEX_NAME: Final = re.compile(r"[0-9a-f]{32}")


class Record(NamedTuple):
    """One local pass. `context` is a serialised `InquiryContext`."""

    sequence: int
    unix_nanos: int
    view_digest: int
    epoch: int
    generation: int
    revision: int
    set_age: int
    context: bytes


class Basis(NamedTuple):
    """What a pass rests on: the set, and how many seconds ago it was last confirmed."""

    epoch: int
    generation: int
    revision: int
    set_age: int


class Spool:
    """The spool of one process. Thread-safe. Made by `create` or `left_behind`.

    Attributes:
        sdk_id: its name, 32 hexadecimal digits.
        first_hash: hash before its first record.
        chain: hash of the chain up to what is acknowledged; `None` where it was lost.
        block: number of the last upload by this process.
        lineage: the ledger it belongs to.
    """

    def __init__(self, directory: Path, lineage: str, lock: int, limit_bytes: int, segment_bytes: int) -> None:
        self.sdk_id = directory.name
        self.lineage = lineage
        self._directory = directory
        self._lock_descriptor: int | None = lock
        self._most = max(limit_bytes // segment_bytes, 1)
        self._segment_bytes = segment_bytes
        self._mutex = threading.Lock()
        self._segments: list[_Segment] = []
        self._tail: _Segment | None = None
        self._sequence = 0
        self._cursor = _Cursor()
        self.first_hash = hashlib.sha256(b"lanjie spool v1 " + self.sdk_id.encode()).digest()
        self.chain: bytes | None = self.first_hash
        self.block = 0

    @classmethod
    def create(
        cls, root: Path, lineage: str, *, limit_bytes: int = LIMIT_BYTES, segment_bytes: int = SEGMENT_BYTES
    ) -> "Spool":
        """Make an empty spool and its first segment.

        Raises:
            OSError: the directory cannot be written or locked.
            ValueError: the lineage is no name for a directory.
        """
        if not _HEX_NAME.fullmatch(lineage):
            raise ValueError("a lineage has 32 hexadecimal digits")
        parent = root / lineage / "spool"
        private_directory(parent)
        directory = parent / secrets.token_hex(16)
        # The lock comes before the directory: nobody takes over a spool that is only just being made.
        lock = take_lock(_lock_path(directory), os.O_CREAT | os.O_EXCL)
        try:
            spool = cls(directory, lineage, lock, limit_bytes, segment_bytes)
            spool._grow(1)
        except OSError:
            # It is tried again and again: what is left each time would use up a full disk's last names.
            with contextlib.suppress(OSError):
                directory.rmdir()
            release_lock(lock)
            with contextlib.suppress(OSError):
                _lock_path(directory).unlink()
            raise
        return spool

    @classmethod
    def left_behind(cls, root: Path, lineage: str) -> Iterator["Spool"]:
        """Take over the spools of dead processes of a ledger, one after the other. The taker closes each."""
        parent = root / lineage / "spool"
        # One without its lock, too: somebody may have deleted what looked like a lock that was left over.
        for directory in sorted({path.with_suffix("") for path in parent.glob("*")}):
            if not _HEX_NAME.fullmatch(directory.name):
                continue
            try:
                lock = take_lock(_lock_path(directory), os.O_CREAT if directory.is_dir() else 0)
            except OSError:
                continue  # its process lives, or another taker was faster
            spool = cls(directory, lineage, lock, LIMIT_BYTES, SEGMENT_BYTES)
            for segment in sorted(each for each in directory.glob("*.segment") if each.stem.isdecimal()):
                with contextlib.suppress(OSError, ValueError):
                    spool._segments.append(_Segment.open(segment))
            spool._find_chain()
            yield spool

    @property
    def unsent(self) -> int:
        """Number of records written and not acknowledged, of this process."""
        return self._sequence - self._cursor.acknowledged

    @property
    def unreadable(self) -> int:
        """Bytes behind the last whole record: damaged by a power cut or a disk. Of earlier segments a gap tells."""
        if not self._segments:
            return 0
        segment, first = self._segments[-1], len(self._segments) == 1
        end, context = (self._cursor.offset, self._cursor.context) if first else (_HEADER_BYTES, b"")
        for _, after in segment.frames(end, context):
            end = after
        return len(segment.map[end:].rstrip(b"\0"))

    def append(self, unix_nanos: int, digest: bytes, basis: tuple[int, int, int, int], context: bytes) -> int:
        """Write the record of one local pass and return its number, 0 when full; arguments as of `append_many`."""
        epoch, generation, revision, age = basis
        with self._mutex:
            tail, number = self._tail, self._sequence + 1
            if tail is not None and context == tail.context and tail.used <= tail.last:
                # As `_Segment.write` does it, at once.
                body = _pack_one(number, unix_nanos, epoch, generation, revision, age, _SAME, 1, digest)
                used = tail.used
                end = used + _ONE_BYTES
                tail.map[used:end] = _pack_check(_checksum(body)) + body
                tail.used, self._sequence = end, number
                return number
        return next(iter(self.append_many(unix_nanos, digest, basis, context)), 0)

    def append_many(self, unix_nanos: int, digests: bytes, basis: tuple[int, int, int, int], context: bytes) -> range:
        """Write records of local passes of one instant and return their numbers: fewer, from the front, when full.

        Args:
            unix_nanos: the instant.
            digests: of the passes, one behind the other.
            basis: as in `Basis`.
            context: serialised `InquiryContext`.
        """
        with self._mutex:
            first = self._sequence + 1
            while digests and len(context) <= MAX_CONTEXT:
                written = self._write(_Frame(self._sequence + 1, unix_nanos, *basis, context, digests))
                if not written:
                    break
                self._sequence += written
                digests = digests[written * DIGEST_BYTES :]
            return range(first, self._sequence + 1)

    def pending(self, most: int) -> list[Record]:
        """Return the first records that are not acknowledged; their numbers are consecutive.

        One thread alone may read and acknowledge. Those that append do not wait for it: a record is whole once its
        length is there.
        """
        with self._mutex:
            segments = list(self._segments)
        found: list[Record] = []
        cursor = self._cursor
        for place, segment in enumerate(segments):
            start, context = (cursor.offset, cursor.context) if place == 0 else (_HEADER_BYTES, b"")
            for frame, _ in segment.frames(start, context):
                for record in frame.records(cursor.acknowledged):
                    # A damaged frame leaves a gap; what is behind it goes in an upload of its own.
                    if found and record.sequence != found[-1].sequence + 1:
                        return found
                    found.append(record)
                    if len(found) == most:
                        return found
        return found

    def acknowledge(self, sequence: int, hashes: Mapping[int, bytes] | None = None) -> None:
        """Forget every record up to a number, and delete the segments that hold nothing else; see `pending`.

        Args:
            sequence: number of the last record that the gateway has.
            hashes: of the chain behind each record of the upload, by its number.
        """
        known = {**(hashes or {}), **({self._cursor.acknowledged: self.chain} if self.chain else {})}
        self.chain = known.get(sequence)
        while self._segments:
            segment = self._segments[0]
            for frame, after in segment.frames(self._cursor.offset, self._cursor.context):
                if frame.last > sequence:
                    self._cursor = replace(self._cursor, acknowledged=max(self._cursor.acknowledged, sequence))
                    return
                self._cursor = _Cursor(frame.last, after, frame.context)
            with self._mutex:
                if segment is self._segments[-1]:
                    return
                self._keep_chain(self._segments[1], known.get(self._cursor.acknowledged))
                segment.delete()
                del self._segments[0]
            self._cursor = _Cursor(self._cursor.acknowledged)

    def close(self) -> None:
        """Give the spool back: deleted when everything is acknowledged, else left to be taken over."""
        with self._mutex:
            if self._lock_descriptor is None:
                return
            segments, self._segments, self._tail = self._segments, [], None
            start, context = self._cursor.offset, self._cursor.context
            empty = len(segments) <= 1 and not any(True for each in segments for _ in each.frames(start, context))
            for segment in segments:
                segment.delete() if empty else segment.release()
            if empty:
                with contextlib.suppress(OSError):
                    for path in self._directory.glob("*.chain"):
                        path.unlink()
                    # A segment that could not be read stays, and with it the directory.
                    self._directory.rmdir()
            gone = not self._directory.exists()
            release_lock(self._lock_descriptor)
            self._lock_descriptor = None
            if gone:
                with contextlib.suppress(OSError):
                    _lock_path(self._directory).unlink(missing_ok=True)

    def abandon(self) -> None:
        """Let go without a trace, in a child process: spool and lock are the parent's."""
        if self._lock_descriptor is not None:
            release_lock(self._lock_descriptor)
            self._lock_descriptor = None
        segments, self._segments, self._tail = self._segments, [], None
        for segment in segments:
            segment.release()

    def _keep_chain(self, behind: "_Segment", chain: bytes | None) -> None:
        """Keep the hash before a segment, before the one in front of it goes."""
        if chain is not None:
            with contextlib.suppress(OSError):
                # Without it the gateway is told that the chain is not known, and nothing is lost.
                behind.path.with_suffix(".chain").write_bytes(chain)
                for path in self._directory.glob("*.chain"):
                    if path.name < behind.path.with_suffix(".chain").name:
                        path.unlink()

    def _find_chain(self) -> None:
        """Find the hash before the first record of a spool that is taken over."""
        if not self._segments or int(self._segments[0].path.stem) == 1:
            return
        try:
            kept = self._segments[0].path.with_suffix(".chain").read_bytes()
        except OSError:
            kept = b""
        self.chain = kept if len(kept) == _CHAIN_BYTES else None

    def _write(self, frame: "_Frame") -> int:
        """Write what has room of a frame, in a new segment if need be; return how many passes of it."""
        if self._tail is None:
            return 0
        written = self._tail.write(frame)
        if not written and len(self._segments) < self._most:
            with contextlib.suppress(OSError):
                written = self._grow(frame.first).write(frame)
        return written

    def _grow(self, first: int) -> "_Segment":
        # It may have been deleted under a process that runs.
        private_directory(self._directory)
        self._tail = _Segment.create(self._directory, first, self._segment_bytes)
        self._segments.append(self._tail)
        return self._tail


_HEADER_BYTES: Final = 32
_MOST_DIGESTS: Final = 0xFFFF * DIGEST_BYTES
_FRAME_BYTES: Final = _CHECK.size + _FRAME.size
_ONE_BYTES: Final = _CHECK.size + _ONE.size
_pack_one: Final = _ONE.pack
_pack_check: Final = _CHECK.pack
_checksum: Final = zlib.adler32


@dataclass(frozen=True, slots=True)
class _Cursor:
    """How far the first segment is acknowledged."""

    acknowledged: int = 0
    offset: int = _HEADER_BYTES
    context: bytes = b""


class _Frame(NamedTuple):
    """Passes of one instant; fields as in `Record`, the first number and all digests in place of one."""

    first: int
    unix_nanos: int
    epoch: int
    generation: int
    revision: int
    set_age: int
    context: bytes
    digests: bytes

    @property
    def last(self) -> int:
        return self.first + len(self.digests) // DIGEST_BYTES - 1

    def records(self, after: int) -> Iterator[Record]:
        """Yield the passes behind a number."""
        for place in range(max(after + 1 - self.first, 0), len(self.digests) // DIGEST_BYTES):
            digest = int.from_bytes(self.digests[place * DIGEST_BYTES : (place + 1) * DIGEST_BYTES], "big")
            yield Record(self.first + place, self.unix_nanos, digest, *self[2:6], self.context)


class _Segment:
    """One mapped file.

    Attributes:
        map: its bytes.
        used: how many of them.
        last: where the last frame of one pass may begin.
        context: of the last frame; `None` before the first.
    """

    __slots__ = ("context", "last", "map", "path", "used")

    def __init__(self, path: Path, mapped: mmap.mmap) -> None:
        self.path = path
        self.map = mapped
        self.used = _HEADER_BYTES
        self.last = len(mapped) - _ONE_BYTES
        self.context: bytes | None = None

    @classmethod
    def create(cls, directory: Path, first: int, size: int) -> "_Segment":
        path = directory / f"{first:020d}.segment"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
        try:
            reserve(descriptor, size)
            mapped = mmap.mmap(descriptor, size)
        except OSError:
            path.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)
        mapped[: len(_MAGIC)] = _MAGIC
        return cls(path, mapped)

    @classmethod
    def open(cls, path: Path) -> "_Segment":
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if mapped[: len(_MAGIC)] != _MAGIC:
            mapped.close()
            raise ValueError("no segment")
        return cls(path, mapped)

    def write(self, frame: _Frame) -> int:
        """Write what has room of a frame; return how many passes of it."""
        same = frame.context == self.context
        told = b"" if same else frame.context
        room = len(self.map) - self.used - _FRAME_BYTES - len(told)
        count = min(room, len(frame.digests), _MOST_DIGESTS) // DIGEST_BYTES
        if count < 1:
            return 0
        body = _FRAME.pack(*frame[:6], _SAME if same else len(told), count)
        body += told + frame.digests[: count * DIGEST_BYTES]
        end = self.used + _CHECK.size + len(body)
        self.map[self.used : end] = _pack_check(_checksum(body)) + body
        self.used, self.context = end, frame.context
        return count

    def frames(self, offset: int, context: bytes) -> Iterator[tuple[_Frame, int]]:
        """Yield frames with the offset behind each, up to the end or to the first that is damaged."""
        size = len(self.map)
        while offset + _FRAME_BYTES <= size:
            (check,) = _CHECK.unpack_from(self.map, offset)
            first, *fields, length, count = _FRAME.unpack_from(self.map, offset + _CHECK.size)
            told = 0 if length == _SAME else length
            end = offset + _FRAME_BYTES + told + count * DIGEST_BYTES
            body = self.map[offset + _CHECK.size : end]
            if not first or not count or end > size or _checksum(body) != check:
                return
            payload, offset = body[_FRAME.size :], end
            if length != _SAME:
                context = payload[:told]
            yield _Frame._make((first, *fields, context, payload[told:])), offset

    def release(self) -> None:
        self.map.close()

    def delete(self) -> None:
        self.map.close()
        # A disk that was made read-only keeps it: what is told twice is told once.
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)


def _lock_path(directory: Path) -> Path:
    return directory.with_suffix(".lock")
