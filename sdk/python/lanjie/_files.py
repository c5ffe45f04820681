"""Files that survive their processes: locks that end with them, content that is whole or not there."""

import os
import sys
from collections.abc import Iterable
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_locks: set[int] = set()
"""Descriptors of the locks that this process holds."""


def private_directory(path: Path) -> None:
    """Make a directory for its owner only; those above the last two are made as the process makes them.

    Raises:
        OSError: it cannot be made.
    """
    path.parent.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # One by one: `parents` would make those in between with the mode of the process.
    for each in (path.parent, path):
        each.mkdir(mode=0o700, exist_ok=True)


def take_lock(path: Path, flags: int) -> int:
    """Open and lock a file, 0600; the lock ends with the process, however it ends.

    Args:
        path: of the file.
        flags: for `os.open`, beside reading and writing.

    Returns:
        The descriptor, for `release_lock`. A child process has no part in it.

    Raises:
        OSError: another process holds it, or took it over and deleted it meanwhile.
    """
    descriptor = os.open(path, os.O_RDWR | flags, 0o600)
    _locks.add(descriptor)
    try:
        if sys.platform == "win32":
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_ino != path.stat().st_ino:
                raise FileNotFoundError(path)
    except OSError:
        release_lock(descriptor)
        raise
    return descriptor


def release_lock(descriptor: int) -> None:
    """Give a lock back. In a child process nothing is left to be given back: the lock is the parent's."""
    if descriptor in _locks:
        _locks.discard(descriptor)
        os.close(descriptor)


def _forked() -> None:
    # A lock belongs to the open file, which a child shares: it would outlive the parent in a child that keeps it open.
    # Here, and not with those who took them: one may have been taken a moment ago by a thread that is gone now.
    while _locks:
        os.close(_locks.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def reserve(descriptor: int, size: int) -> None:
    """Take space for a file beforehand: a mapped write that finds the disk full is no error but ends the process.

    Raises:
        OSError: there is none.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.write(descriptor, bytes(size))


def write_whole(path: Path, parts: Iterable[bytes]) -> None:
    """Write a file, 0600: the old content or the new one, whatever happens; on the disk when this returns.

    Raises:
        OSError: it could not be written; the old content stands.
    """
    aside = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o600)
        with os.fdopen(descriptor, "wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise
    if sys.platform != "win32":
        # The name is an entry of the directory.
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
