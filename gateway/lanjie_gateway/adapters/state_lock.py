"""Who holds a state directory, and where its unix sockets stand. A lock goes with its process, however that ends."""

import contextlib
import fcntl
import hashlib
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

WAIT_SECONDS: Final = 10.0
SERVE: Final = "serve.lock"
"""Held by the supervisor, so that the workers of another `serve` never meet this one's control."""
LEDGER: Final = "ledger.lock"
"""Held by control: after a kill the next one waits here until the last writer is gone."""


class StateInUseError(RuntimeError):
    """Another gateway holds the state directory."""


@contextlib.contextmanager
def hold(state: Path, name: str, wait: float = WAIT_SECONDS) -> Iterator[None]:
    """Hold a lock of a state directory; blocks for at most `wait` seconds.

    Raises:
        StateInUseError: another process keeps it.
    """
    descriptor = os.open(state / name, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        deadline = time.monotonic() + wait
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StateInUseError(f"another gateway holds {state}") from None
                time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)


def socket_directory(state: Path) -> Path:
    """Return the private directory of a state's unix sockets. It is a short one: a socket's path has at most 107 bytes.

    Raises:
        StateInUseError: somebody else made it, or may enter it: anybody can make a directory or a link of that name.
    """
    name = f"lanjie-{os.getuid()}-{hashlib.sha256(str(state.resolve()).encode()).hexdigest()[:12]}"
    directory = Path(tempfile.gettempdir()) / name
    directory.mkdir(mode=0o700, exist_ok=True)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise StateInUseError(f"{directory} is not a directory of this user alone (0700)")
    return directory


def feed_socket(state: Path) -> Path:
    """Return control's socket for its workers."""
    return socket_directory(state) / "feed.sock"
