"""Something that goes on in a thread while something else is measured."""

import abc
import threading
from typing import Self


class Beside(abc.ABC):
    """Works in a thread from where a block is entered until it is left; a failure there is raised where it is left.

    Attributes:
        failed: what ended the work before its time.
    """

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._guarded)
        self.failed: Exception | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._ended()
        if self.failed is not None:
            raise self.failed

    @abc.abstractmethod
    def _work(self) -> None:
        """Work until `_stop` is set."""

    def _ended(self) -> None:  # noqa: B027  most have nothing to give back
        """Give back what the work had, after its end."""

    def _guarded(self) -> None:
        try:
            self._work()
        except Exception as error:  # noqa: BLE001  raised again where the block is left
            self.failed = error
