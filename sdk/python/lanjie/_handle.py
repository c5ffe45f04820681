"""Holds the runtime of a client: made at the first use, gone after `close`, new in a child process."""

import os
import threading
import weakref

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
        with _mutex:
            _handles.add(self)

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


_handles: "weakref.WeakSet[Handle]" = weakref.WeakSet()
_mutex = threading.Lock()
"""Held while a handle is made, and through a fork."""
_forking: list[Handle] = []


def _before() -> None:
    _mutex.acquire()
    _forking.extend(_handles)
    for handle in _forking:
        handle.before_fork()


def _after_in_parent() -> None:
    while _forking:
        _forking.pop().after_fork_in_parent()
    _mutex.release()


def _after_in_child() -> None:
    global _mutex  # noqa: PLW0603  the one before is held by a thread that may be gone
    while _forking:
        _forking.pop().after_fork_in_child()
    _mutex = threading.Lock()


if hasattr(os, "register_at_fork"):
    # Once, for what is told at a fork is never forgotten, and clients come and go.
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
