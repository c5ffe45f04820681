"""Holds the runtime of a client: made at the first use, gone after `close`, new in a child process."""

import os
import threading
import weakref
from collections.abc import Callable

from lanjie._options import Options
from lanjie._runtime import Runtime, Seam
from lanjie.errors import ClientClosed


class Handle:
    """See the module. Thread-safe.

    Attributes:
        options: of the client.
        seam: what tests replace.
        runtime: the runtime, `None` when there is none now; `running` makes one.
    """

    def __init__(self, options: Options, seam: Seam | None) -> None:
        self.options = options
        self.seam = seam or Seam()
        self.runtime: Runtime | None = None
        self._lock = threading.Lock()
        self._inherited: list[Runtime] = []
        self._closed = False
        _watch_forks(self)

    def running(self) -> Runtime:
        """Return the runtime, made if need be.

        Raises:
            ClientClosed: the client was closed.
        """
        with self._lock:
            if self._closed:
                raise ClientClosed("the client was closed")
            if self.runtime is None:
                self.runtime = Runtime(self.options, self.seam)
            return self.runtime

    def close(self, timeout: float) -> None:
        """Close the runtime, see `Runtime.close`; there will be no other."""
        with self._lock:
            self._closed = True
            runtime, self.runtime = self.runtime, None
        if runtime is not None:
            runtime.close(timeout)

    def before_fork(self) -> None:
        """Let nobody make or close a runtime meanwhile: the child would find half of one."""
        self._lock.acquire()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """Forget what belongs to the parent."""
        self._lock = threading.Lock()
        if self.runtime is not None:
            # Kept, so that no finaliser runs on channels whose threads are gone.
            self._inherited.append(self.runtime)
            self.runtime.abandon()
            self.runtime = None


def _watch_forks(handle: Handle) -> None:
    """Have the handle told of every fork, for as long as it lives."""
    reference = weakref.ref(handle)

    def telling(tell: Callable[[Handle], None]) -> Callable[[], None]:
        def told() -> None:
            alive = reference()
            if alive is not None:
                tell(alive)

        return told

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(
            before=telling(Handle.before_fork),
            after_in_parent=telling(Handle.after_fork_in_parent),
            after_in_child=telling(Handle.after_fork_in_child),
        )
