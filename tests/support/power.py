"""A disk that loses power: what programs do to files is recorded, and any moment of it can be cut off.

What a cut leaves of the operations before it:

* A file holds what it held at its last sync. Of every write and truncation since, any part may have arrived: sectors of
  512 bytes survive one by one, reordered and torn, or in order with the last write torn. A sector is never half-written
  and its neighbours are never touched (SQLite's POWERSAFE_OVERWRITE, which its unix VFS claims too). Where a file grew,
  its length may have arrived without the data: zeros.
* Creations, removals and renames are entries of directories. ``ordered`` is ext4 and its like: they survive in order,
  and the sync of any file or directory makes all earlier ones durable. ``strict`` is no more than POSIX promises: each
  survives or not on its own until its own directory is synced; the sync of a file says nothing about its name.
* The directory at the root of the recording was made long before (at installation) and stays.
"""

import contextlib
import ctypes
import functools
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import apsw
import pytest

SECTOR: Final = 512
Op = tuple[Any, ...]
Image = dict[str, bytes | None]
"""Names below the root and their content; `None` for a directory."""


class _File:
    __slots__ = ("directory", "kept", "pending")

    def __init__(self, *, directory: bool) -> None:
        self.directory = directory
        self.kept = bytearray()
        self.pending: list[tuple[int, bytes | None]] = []

    def sync(self) -> None:
        for offset, data in self.pending:
            _apply(self.kept, offset, data)
        self.pending = []

    def left(self, rng: random.Random, chance: float, *, in_order: bool) -> bytes:
        image = bytearray(self.kept)
        last = rng.randint(0, len(self.pending))
        for number, (offset, data) in enumerate(self.pending):
            here = float(number < last) if in_order and number != last else chance
            if here == 1 or data is None:
                if rng.random() < here:
                    _apply(image, offset, data)
                continue
            start = 0
            while here and start < len(data):
                stop = min(start + SECTOR - (offset + start) % SECTOR, len(data))
                if rng.random() < here:
                    _apply(image, offset + start, data[start:stop])
                start = stop
        if rng.random() < 0.2:
            size = max((offset + len(data) for offset, data in self.pending if data is not None), default=0)
            image.extend(bytes(max(size - len(image), 0)))
        return bytes(image)


def _apply(image: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        del image[offset:]
    else:
        image.extend(bytes(max(offset - len(image), 0)))
        image[offset : offset + len(data)] = data


class Disk:
    """What is on the disk for sure, and what is on its way there.

    Args:
        strict: see above.
        lying: it says that it has synced, and has not.
    """

    def __init__(self, *, strict: bool = False, lying: bool = False) -> None:
        self._strict = strict
        self._lying = lying
        self._names: dict[str, _File] = {}
        self._kept: dict[str, _File | None] = {}
        self._moves: list[dict[str, _File | None]] = []
        self.marks: dict[str, int] = {}

    def play(self, op: Op) -> None:
        getattr(self, op[0])(*op[1:])

    def mark(self, kind: str, number: int) -> None:
        """Something was acknowledged here."""
        self.marks[kind] = number

    def make(self, name: str) -> None:
        self._move({name: _File(directory=False)})

    def make_directory(self, name: str) -> None:
        self._move({name: _File(directory=True)})

    def unlink(self, name: str) -> None:
        self._move({name: None})

    def rename(self, old: str, new: str) -> None:
        self._move({old: None, new: self._names[old]})

    def write(self, name: str, offset: int, data: bytes) -> None:
        self._names[name].pending.append((offset, data))

    def truncate(self, name: str, size: int) -> None:
        self._names[name].pending.append((size, None))

    def sync(self, name: str) -> None:
        if not self._lying:
            self._names[name].sync()
            self._settle(None)

    def sync_directory(self, name: str) -> None:
        if not self._lying:
            self._settle(name)

    def cut(self, rng: random.Random) -> Image:
        """Return what is found when the power is back; the disk itself goes on."""
        if self._strict:
            moves = [move for move in self._moves if rng.random() < 0.5]
        else:
            moves = self._moves[: rng.randint(0, len(self._moves))]
        names = dict(self._kept)
        for move in moves:
            names.update(move)
        chance = rng.choice((0.0, 0.1, 0.5, 0.9, 1.0))
        in_order = rng.random() < 0.3
        image: Image = {}
        for name, file in sorted(names.items()):
            parent = name.rpartition("/")[0]
            if file is not None and (not parent or parent in image):
                image[name] = None if file.directory else file.left(rng, chance, in_order=in_order)
        return image

    def all_arrived(self) -> Image:
        """Return what is found when everything arrived."""
        for file in self._names.values():
            file.sync()
        return {name: None if file.directory else bytes(file.kept) for name, file in self._names.items()}

    def _move(self, move: dict[str, _File | None]) -> None:
        self._moves.append(move)
        for name, file in move.items():
            if file is None:
                del self._names[name]
            else:
                self._names[name] = file

    def _settle(self, directory: str | None) -> None:
        left = []
        for move in self._moves:
            if self._strict and next(iter(move)).rpartition("/")[0] != directory:
                left.append(move)
            else:
                self._kept.update(move)
        self._moves = left


def put(image: Image, directory: Path) -> None:
    """Write what a cut left into an empty directory."""
    for name, content in image.items():
        if content is None:
            (directory / name).mkdir()
        else:
            (directory / name).write_bytes(content)


def read(directory: Path) -> Image:
    """Return what is below a directory; SQLite's shared memory is memory."""
    return {
        str(path.relative_to(directory)): None if path.is_dir() else path.read_bytes()
        for path in directory.rglob("*")
        if not path.name.endswith("-shm")
    }


class Recorder:
    """Records what happens below `root`: through `os` while `watching`, and through SQLite files opened with `vfs`."""

    def __init__(self, root: Path) -> None:
        self._root = f"{root.resolve()}/"
        self._descriptors: dict[int, str] = {}
        self._directories: set[int] = set()
        self._written: set[int] = set()
        self.vfs = f"power-{id(self)}"
        self.tape: list[Op] = []

    def name(self, path: Any) -> str | None:
        """Return the name below the root, empty for the root, `None` elsewhere."""
        full = f"{os.path.realpath(os.fspath(path))}/"
        return full[len(self._root) : -1] if full.startswith(self._root) else None

    def mark(self, kind: str, number: int) -> None:
        self.tape.append(("mark", kind, number))

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        names = "open write fsync fdatasync close mkdir replace rename unlink".split()
        with pytest.MonkeyPatch.context() as patch, _directory_syncs(self):
            for name in names:
                patch.setattr(os, name, functools.partial(getattr(self, f"_{name}"), getattr(os, name)))
            registered = _Vfs(self)
            yield
            registered.unregister()

    def _open(self, real: Any, path: Any, flags: int, *more: Any, **named: Any) -> int:
        existed = os.path.lexists(path)
        descriptor: int = real(path, flags, *more, **named)
        self._descriptors.pop(descriptor, None)
        self._written.discard(descriptor)
        self._directories.discard(descriptor)
        name = self.name(path)
        if name is not None:
            self._descriptors[descriptor] = name
            if os.path.isdir(path):  # noqa: PTH112  pathlib's would come back here
                self._directories.add(descriptor)
            elif not existed:
                self.tape.append(("make", name))
            elif flags & os.O_TRUNC:
                self.tape.append(("truncate", name, 0))
        return descriptor

    def _write(self, real: Any, descriptor: int, data: bytes) -> int:
        written: int = real(descriptor, data)
        if descriptor in self._descriptors:
            offset = os.lseek(descriptor, 0, os.SEEK_CUR) - written
            self.tape.append(("write", self._descriptors[descriptor], offset, bytes(data[:written])))
            self._written.add(descriptor)
        return written

    def _fsync(self, real: Any, descriptor: int) -> None:
        name = self._descriptors.get(descriptor)
        if name is not None and descriptor in self._directories:
            self.tape.append(("sync_directory", name))
        elif name is not None:
            if descriptor not in self._written:  # written by a file object, past os.write
                self.tape.append(("write", name, 0, Path(self._root, name).read_bytes()))
            # What is written while the sync runs in another thread is not part of it.
            self.tape.append(("sync", name))
        real(descriptor)

    _fdatasync = _fsync

    def _close(self, real: Any, descriptor: int) -> None:
        self._descriptors.pop(descriptor, None)
        real(descriptor)

    def _mkdir(self, real: Any, path: Any, *more: Any, **named: Any) -> None:
        real(path, *more, **named)
        name = self.name(path)
        if name is not None:
            self.tape.append(("make_directory", name))

    def _replace(self, real: Any, old: Any, new: Any, **named: Any) -> None:
        source = self.name(old)
        real(old, new, **named)
        if source is not None:
            self.tape.append(("rename", source, self.name(new)))

    _rename = _replace

    def _unlink(self, real: Any, path: Any, **named: Any) -> None:
        name = self.name(path)
        real(path, **named)
        if name is not None:
            self.tape.append(("unlink", name))


class _Vfs(apsw.VFS):
    """SQLite's own unix VFS, listened to."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        super().__init__(recorder.vfs, "")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        seen = apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_WAL
        known = self._recorder.name(path) if path is not None and flags[0] & seen else None
        existed = path is not None and os.path.lexists(path)
        file = _VfsFile(self._recorder.tape, known, name, flags)
        if known is not None and not existed:
            self._recorder.tape.append(("make", known))
        return file

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: FBT001
        known = self._recorder.name(filename)
        if known is not None:
            self._recorder.tape.append(("unlink", known))
        super().xDelete(filename, syncdir)


class _VfsFile(apsw.VFSFile):
    def __init__(self, tape: list[Op], known: str | None, name: Any, flags: list[int]) -> None:
        self._tape = tape
        self._known = known
        super().__init__("", name, flags)

    def xWrite(self, data: Any, offset: int) -> None:
        self._record("write", offset, bytes(data))
        super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:
        self._record("truncate", newsize)
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:
        self._record("sync")
        super().xSync(flags)

    def _record(self, verb: str, *values: Any) -> None:
        if self._known is not None:
            self._tape.append((verb, self._known, *values))


@contextlib.contextmanager
def _directory_syncs(recorder: Recorder) -> Iterator[None]:
    # The unix VFS syncs a directory without asking the VFS above it: after the first sync of a journal or log that it
    # made, and after some removals. It can be seen where it opens the directory for that.
    kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(ctypes.c_int))
    unix = apsw.VFS(f"{recorder.vfs}-calls", "")
    address = unix.xGetSystemCall("openDirectory")
    assert address is not None
    real = kind(address)

    def opened(path: bytes, descriptor: Any) -> int:
        name = recorder.name(Path(path.decode()).parent)
        if name is not None:
            recorder.tape.append(("sync_directory", name))
        return int(real(path, descriptor))

    callback = kind(opened)
    assert unix.xSetSystemCall("openDirectory", ctypes.cast(callback, ctypes.c_void_p).value or 0)
    try:
        yield
    finally:
        unix.xSetSystemCall("openDirectory", address)
        unix.unregister()
