"""The one thread that uses the ledger; everybody else asks it and waits without blocking the event loop."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from lanjie_gateway.adapters.keys import KeyRing
from lanjie_gateway.adapters.ledger.ledger import Ledger
from lanjie_gateway.adapters.ledger.rows import BucketState, LedgerError

_P = ParamSpec("_P")
_T = TypeVar("_T")
GRACE_SECONDS: Final = 0.01
"""Without a call for so long, nobody is about to make the next one of several."""
TOGETHER: Final = 16
_ENTRIES: Final = 1_000


class LedgerThread:
    """A ledger in a thread of its own. Calls are served one after the other, in order; work in its spare time beside.

    Args:
        open_ledger: opens the ledger; called in the thread by `start`.
    """

    def __init__(self, open_ledger: Callable[[], Ledger]) -> None:
        self._open_ledger = open_ledger
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger")
        self._ledger: Ledger | None = None
        self._calls = 0
        self._called = float("-inf")

    @property
    def lineage(self) -> str:
        """Identity of the ledger."""
        return self._opened.lineage

    @property
    def epoch(self) -> int:
        """Timeline of the ledger's revisions."""
        return self._opened.epoch

    @property
    def generation(self) -> int:
        """Generation of the view key of `keys`; a switch changes it between two calls."""
        return self._opened.generation

    @property
    def shared(self) -> bool:
        """Whether other hosts may write the ledger too."""
        return self._opened.shared

    @property
    def keys(self) -> KeyRing:
        """The keys that fit the ledger."""
        return self._opened.keys

    async def start(self) -> None:
        """Open the ledger.

        Raises:
            LedgerError: see `Ledger.open`.
        """
        self._ledger = await asyncio.get_running_loop().run_in_executor(self._executor, self._open_ledger)

    async def call(self, function: Callable[Concatenate[Ledger, _P], _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run ``function(ledger, ...)`` in the thread. A call once begun is carried out."""
        self._calls += 1
        try:
            return await self._run(function, *args, **kwargs)
        finally:
            self._calls -= 1
            self._called = time.monotonic()

    async def spare(
        self, patience: float, function: Callable[Concatenate[Ledger, _P], _T], *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        """Do the same in a quiet moment: for a step of long work.

        Whoever makes several calls in a row, such as a removal, then waits for one such step instead of one each.
        """
        await self.quiet(patience)
        return await self._run(function, *args, **kwargs)

    async def quiet(self, patience: float) -> None:
        """Wait until nobody calls, at most `patience` seconds."""
        until = time.monotonic() + patience
        while True:
            now = time.monotonic()
            quiet_from = (now if self._calls else self._called) + GRACE_SECONDS
            left = min(quiet_from, until) - now
            if left <= 0:
                return
            await asyncio.sleep(left)

    async def _run(self, function: Callable[Concatenate[Ledger, _P], _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        ledger = self._opened

        def run() -> _T:
            return function(ledger, *args, **kwargs)

        return await asyncio.get_running_loop().run_in_executor(self._executor, run)

    async def close(self) -> None:
        """Close the ledger after the calls under way."""
        ledger, self._ledger = self._ledger, None
        if ledger is not None:
            await asyncio.get_running_loop().run_in_executor(self._executor, ledger.close)
        self._executor.shutdown(wait=True)

    @property
    def _opened(self) -> Ledger:
        if self._ledger is None:
            raise LedgerError("the ledger is not open")
        return self._ledger


async def read_shards(
    call: Callable[..., Awaitable[Any]], numbers: Iterable[int]
) -> AsyncIterator[tuple[Sequence[int], int, list[list[BucketState]]]]:
    """Read shards of the exact index, small ones several at once: each turn of a busy thread costs more than they do.

    Args:
        call: `LedgerThread.call`, or one that tries again.
        numbers: of the shards.

    Yields:
        Some of the numbers, the ledger's head as it was before their shards were read, and these.
    """
    left, size = list(numbers), 1
    while left:
        part, left = left[:size], left[size:]
        head, shards = await call(_head_and_shards, part)
        yield part, head, shards
        size = min(TOGETHER, 1 + _ENTRIES // max(1, *map(len, shards)))


def _head_and_shards(ledger: Ledger, numbers: Sequence[int]) -> tuple[int, list[list[BucketState]]]:
    return ledger.head(), ledger.shards(numbers)
