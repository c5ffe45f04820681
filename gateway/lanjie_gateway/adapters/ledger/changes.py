"""What commits changed, read once for all who follow the ledger: the workers' feed, the SDKs' view, the shared copy."""

import asyncio
from collections.abc import Sequence
from typing import Final

from lanjie_gateway.adapters.ledger.ledger import Ledger
from lanjie_gateway.adapters.ledger.rows import BucketState
from lanjie_gateway.adapters.ledger.thread import LedgerThread

PAGE: Final = 1_000
"""Events that one page reads: a removal that comes meanwhile waits for one page."""
_KEPT: Final = 32
_Page = tuple[list[BucketState], int | None]


class Changes:
    """Pages of the buckets that commits touched, each kept for a while: who follows comes by within moments.

    A page is as the ledger was when it was read: at its commit, or at a later one. So whoever has taken a page has
    something whole only with all commits up to `newest` of it.
    """

    def __init__(self, ledger: LedgerThread) -> None:
        self._ledger = ledger
        self._pages: dict[tuple[int, int], asyncio.Future[_Page]] = {}

    async def page(self, revision: int, after: int) -> _Page:
        """Return buckets that a commit touched, and the cursor to go on with: `Ledger.changed`.

        Raises:
            Unanswerable: the ledger cannot be reached.
        """
        # Others wait for it too, and are not cancelled with this one.
        states, cursor = await asyncio.shield(self._reading(revision, after))
        if cursor is not None:
            # The next one is read while this one is sent.
            self._reading(revision, cursor)
        return states, cursor

    def _reading(self, revision: int, after: int) -> "asyncio.Future[_Page]":
        place = revision, after
        reading = self._pages.get(place)
        if reading is None or (reading.done() and (reading.cancelled() or reading.exception() is not None)):
            reading = asyncio.ensure_future(self._ledger.call(Ledger.changed, revision, after, PAGE))
            self._pages[place] = reading
            if len(self._pages) > _KEPT:
                del self._pages[next(iter(self._pages))]
        return reading


def newest(states: Sequence[BucketState]) -> int:
    """Return the newest commit that is in some bucket; 0 for none."""
    return max((state.revision for state in states), default=0)
