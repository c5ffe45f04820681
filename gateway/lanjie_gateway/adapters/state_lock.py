"""Who holds a state directory. A lock goes with its process, however that ends."""

import contextlib
import fcntl
import os
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
def hold(state: Path, name: str) -> Iterator[None]:
    """Hold a lock of a state directory; blocks for at most `WAIT_SECONDS`.

    Raises:
        StateInUseError: another process keeps it.
    """
    descriptor = os.open(state / name, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        deadline = time.monotonic() + WAIT_SECONDS
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
