"""The set on disk, shared by the processes of a counter that use one state directory.

Rules of this module:

* one process leads: it holds the lock, speaks with the gateway and writes; the others follow what it wrote. The lock
  ends with its process, and the next one takes it;
* every file is the old one or the new one, never a mixture: written aside, synced, renamed. What is read is checked
  against its digest, and a set against the root of its signed head, by `lanjie_matcher.views`;
* the head is on disk before anybody answers by it: after a crash no older head is taken for news;
* contacts go through a mapped page, because a heartbeat is no reason to write a file. The page is worth nothing unless
  somebody leads: whoever takes the lead empties it first. Its instants are of a clock that starts with the machine, so
  a page of another start, or of another machine that shares the directory, is not read.

Layout: ``ROOT/LINEAGE/`` with ``leader.lock``, ``beat``, ``current``, ``base-ROOT``, ``bloom-ROOT``, all 0600. A base
is a whole set as it once was: a header, 256 counts, the fingerprints. ``current`` is an `Update` of sync.proto with its
SHA-256 before it: the changes that lead from the base to the set of its head, with key and scope. So a commit of a
thousand changes writes a few kilobytes, and the base is written anew when they have become many.
"""

import contextlib
import hashlib
import mmap
import os
import re
import struct
import sys
import zlib
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from google.protobuf.message import DecodeError

from lanjie._files import private_directory, release_lock, reserve, take_lock, write_whole
from lanjie.v1 import sync_pb2 as pb
from lanjie_matcher.filters import BloomFilter
from lanjie_matcher.shards import SHARDS, RefusedError, Shards, decode_values, encode_values

_CURRENT_MAGIC: Final = b"LJVIEW01"
_BASE_MAGIC: Final = b"LJBASE01"
_BASE: Final = struct.Struct(f"<8sI{SHARDS}I")
_BLOOM_MAGIC: Final = b"LJBLOOM2"
_BLOOM: Final = struct.Struct("<8sQQ32s8x")
_BEAT: Final = struct.Struct("<QdI")
_BEAT_BYTES: Final = 64
_HEX_NAME: Final = re.compile(r"[0-9a-f]{32}")


class Beat(NamedTuple):
    """What the leader tells those who follow.

    Attributes:
        tag: of the ``current`` that it goes with.
        contact: monotonic seconds of the contact that last confirmed it.
    """

    tag: int
    contact: float


@dataclass(frozen=True, slots=True)
class Base:
    """A whole set as it stands on disk.

    Attributes:
        root: its root.
        bits: width of its fingerprints.
        shards: the set.
    """

    root: bytes
    bits: int
    shards: Shards


@dataclass(frozen=True, slots=True)
class Stored:
    """What ``current`` says.

    Attributes:
        tag: of the file.
        update: head, scope, root of the base, and the changes to it; without a base it is the head of an erased set.
        adds: fingerprints to put into the base.
        removals: fingerprints to take out.
    """

    tag: int
    update: pb.Update
    adds: "array[int]"
    removals: "array[int]"


class ViewStore:
    """The set of one ledger on disk. Used by one thread.

    Args:
        root: state directory of the counter.
        lineage: identity of the ledger, 32 hexadecimal digits.

    Raises:
        RefusedError: ``lineage``: it is no name for a directory.
        OSError: the directory cannot be made.
    """

    def __init__(self, root: Path, lineage: str) -> None:
        if not _HEX_NAME.fullmatch(lineage):
            raise RefusedError("lineage", "a lineage has 32 hexadecimal digits")
        self.lineage = lineage
        self._directory = root / lineage
        private_directory(self._directory)
        self._lock: int | None = None
        self._sound: Base | None = None
        self._page: mmap.mmap | None = None
        self._boot = _boot()

    @staticmethod
    def newest(root: Path) -> str:
        """Return the lineage of the set that was written last below a state directory; empty where there is none."""
        written = [path for path in root.glob("*/current") if _HEX_NAME.fullmatch(path.parent.name)]
        found = [(path.stat().st_mtime_ns, path.parent.name) for path in written]
        return max(found)[1] if found else ""

    @property
    def leads(self) -> bool:
        """Whether this process leads."""
        return self._lock is not None

    def lead(self) -> bool:
        """Take the lead unless another process has it; return whether this one leads now.

        Raises:
            OSError: the directory cannot be written.
        """
        if self._lock is None:
            page = self._mapped()
            try:
                self._lock = take_lock(self._directory / "leader.lock", os.O_CREAT)
            except OSError:
                return False
            page[:] = bytes(_BEAT_BYTES)
            # Whoever was killed while it wrote left a part of a set, or a whole one with its key.
            for path in self._directory.glob("*.new"):
                path.unlink(missing_ok=True)
        return True

    def keep(self, update: pb.Update, base: Base | None, adds: "array[int]", removals: "array[int]") -> int:
        """Write head, scope and changes, and before them the base if it is not there yet; return the tag.

        Args:
            update: head and scope.
            base: the set that is changed; `None` to keep the head alone, of a set that was erased.
            adds: fingerprints to put into the base, sorted.
            removals: fingerprints to take out, sorted.

        Raises:
            OSError: it could not be written; what was there stands.
        """
        written = pb.Update(kind=pb.UPDATE_KIND_DELTA, head=update.head)
        if not self._directory.is_dir():
            # Deleted under a client that runs: without a place no news would be taken any more.
            private_directory(self._directory)
        if base is not None:
            written.scope = update.scope
            written.base_root = base.root
            for target, values in ((written.adds, adds), (written.removals, removals)):
                target.count, target.planes = len(values), encode_values(values, base.bits)
            if base is not self._sound or not self._path("base", base.root).exists():
                # Not only "if it is not there": what is there may be damaged.
                self._write_base(base)
                self._sound = base
        body = written.SerializeToString()
        digest = hashlib.sha256(body).digest()
        write_whole(self._directory / "current", (_CURRENT_MAGIC, digest, body))
        self._sound = base
        self.tidy(written.base_root)
        return _tag(digest)

    def load(self) -> Stored | None:
        """Read what was written last; `None` where nothing ever was.

        Raises:
            RefusedError: ``encoding``: it was damaged.
            OSError: it cannot be read.
        """
        try:
            content = (self._directory / "current").read_bytes()
        except FileNotFoundError:
            return None
        digest, body = content[8:40], content[40:]
        if content[:8] != _CURRENT_MAGIC or hashlib.sha256(body).digest() != digest:
            raise RefusedError("encoding", "the set on disk was damaged")
        try:
            update = pb.Update.FromString(body)
        except DecodeError:
            raise RefusedError("encoding", "the set on disk cannot be read") from None
        bits = pb.Manifest.FromString(update.head.manifest).bits
        # The head of a set that was erased comes without changes.
        adds, removals = (
            decode_values(part.count, part.planes, bits) if part.count else array("Q")
            for part in (update.adds, update.removals)
        )
        return Stored(_tag(digest), update, adds, removals)

    def base(self, root: bytes) -> Base:
        """Read a base; whoever takes it compares its root.

        Raises:
            RefusedError: ``truncated`` or ``encoding``: it was damaged, or it gave way to another meanwhile.
            OSError: it cannot be read.
        """
        try:
            content = memoryview(self._path("base", root).read_bytes())
        except FileNotFoundError:
            raise RefusedError("truncated", "the set on disk is not there any more") from None
        if len(content) < _BASE.size:
            raise RefusedError("truncated", "the set on disk ends early")
        magic, bits, *counts = _BASE.unpack_from(content)
        if magic != _BASE_MAGIC or len(content) != _BASE.size + 8 * sum(counts):
            raise RefusedError("encoding", "the set on disk was damaged")
        shards, place = [], _BASE.size
        for count in counts:
            shard = array("Q", bytes(content[place : place + 8 * count]))
            if sys.byteorder == "big":
                shard.byteswap()
            shards.append(shard)
            place += 8 * count
        return Base(root, bits, tuple(shards))

    def found_sound(self, base: Base) -> None:
        """Hear that a base that was read is the set of its head: it need not be written again."""
        self._sound = base

    def keep_bloom(self, base: Base, bloom: BloomFilter) -> None:
        """Write the image of a filter that holds just the base, for all who follow to map.

        Raises:
            OSError: it could not be written.
        """
        image = bloom.image()
        digest = _image_digest(bloom.capacity, bloom.count, image)
        header = _BLOOM.pack(_BLOOM_MAGIC, bloom.capacity, bloom.count, digest)
        write_whole(self._path("bloom", base.root), (header, image))

    def bloom(self, base: Base) -> BloomFilter | None:
        """Map the image of the filter of a base: one copy in memory for all processes. `None` where there is none.

        A filter that forgot a subject would pass it, so an image that was damaged is none.
        """
        try:
            with self._path("bloom", base.root).open("rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            magic, capacity, count, digest = _BLOOM.unpack_from(mapped)
            image = memoryview(mapped)[_BLOOM.size :]
            if magic != _BLOOM_MAGIC or _image_digest(capacity, count, image) != digest:
                return None
            return BloomFilter(capacity, image, count)
        except (OSError, ValueError, struct.error):
            return None

    def erase(self) -> int:
        """Erase key and set, and return the new tag; what stays is the head: no older one is ever taken for news.

        Raises:
            OSError: it could not be erased.
        """
        try:
            stored = self.load()
        except RefusedError:
            stored = None
        self.tidy(b"")  # first: on a full disk it makes the room that the head needs
        if stored is not None:
            return self.keep(stored.update, None, array("Q"), array("Q"))
        # Nothing there, or nothing that can be read, not even its head.
        (self._directory / "current").unlink(missing_ok=True)
        return 0

    @classmethod
    def erase_older(cls, root: Path, lineage: str, before: float) -> None:
        """Erase the sets of other ledgers that were written before an instant, in seconds since 1970.

        Raises:
            OSError: one could not be erased.
        """
        for path in root.glob("*/base-*"):
            other, current = path.parent.name, path.with_name("current")
            if other == lineage or not _HEX_NAME.fullmatch(other):
                continue
            if (current if current.exists() else path).stat().st_mtime >= before:
                continue
            store = cls(root, other)
            if store.lead():
                store.erase()
            store.close()

    def tidy(self, root: bytes) -> None:
        """Delete every base and filter but those of a root; a writer that was killed may have left others."""
        kept = {self._path(kind, root).name for kind in ("base", "bloom")} if root else set()
        for path in (*self._directory.glob("base-*"), *self._directory.glob("bloom-*")):
            if path.name not in kept:
                path.unlink(missing_ok=True)

    def tell(self, beat: Beat) -> None:
        """Tell those who follow of a contact."""
        packed = struct.pack("<Qd", *beat)
        self._mapped()[: _BEAT.size] = packed + zlib.crc32(packed, self._boot).to_bytes(4, "little")

    def told(self) -> Beat | None:
        """Return what the leader told last; `None` when nothing, or when it is being written just now."""
        tag, contact, crc = _BEAT.unpack_from(self._mapped())
        sound = zlib.crc32(struct.pack("<Qd", tag, contact), self._boot) == crc
        return Beat(tag, contact) if tag and sound else None

    def close(self) -> None:
        """Give up the lead."""
        if self._page is not None:
            self._page.close()
            self._page = None
        if self._lock is not None:
            release_lock(self._lock)
            self._lock = None

    def _path(self, kind: str, root: bytes) -> Path:
        return self._directory / f"{kind}-{root[:16].hex()}"

    def _write_base(self, base: Base) -> None:
        header = _BASE.pack(_BASE_MAGIC, base.bits, *map(len, base.shards))
        write_whole(self._path("base", base.root), (header, *map(_little, base.shards)))

    def _mapped(self) -> mmap.mmap:
        if self._page is None:
            path = self._directory / "beat"
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)
            try:
                if os.fstat(descriptor).st_size < _BEAT_BYTES:
                    reserve(descriptor, _BEAT_BYTES)
                self._page = mmap.mmap(descriptor, _BEAT_BYTES)
            finally:
                os.close(descriptor)
        return self._page


def _image_digest(capacity: int, count: int, image: bytes | memoryview) -> bytes:
    # With its numbers: a damaged capacity is memory that nobody has.
    digest = hashlib.sha256(struct.pack("<QQ", capacity, count))
    digest.update(image)
    return digest.digest()


def _boot() -> int:
    """Return a number that tells this start of this machine, and its clock, from others; 0 where nothing tells it."""
    told = b""
    with contextlib.suppress(OSError):
        told += Path("/proc/sys/kernel/random/boot_id").read_bytes()
        told += bytes(Path("/proc/self/ns/time").readlink())
    return zlib.crc32(told)


def _little(shard: "array[int]") -> bytes:
    if sys.byteorder == "big":
        shard = array("Q", shard)
        shard.byteswap()
    return shard.tobytes()


def _tag(digest: bytes) -> int:
    # Zero says that there is nothing.
    return int.from_bytes(digest[:8], "little") | 1
