"""The daily look at what time has ended (Art. 41, 48): a minute after a start, and after each 00:00 in Shanghai.

First what has ended leaves the view, then what is retained no longer is erased (`adapters.ledger.erasure`).
It decides nothing, so nothing depends on when it runs, or on which host: should two do so at once, each listing leaves
the view once (`adapters.ledger.pruning`). In slices, in the spare time of the ledger.
"""

import asyncio
import datetime
import functools
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from lanjie_gateway.adapters.ledger import Ledger, LedgerThread
from lanjie_matcher.catalogues import CatalogueSet
from lanjie_matcher.civil_time import day_of
from lanjie_matcher.listings import Listing, ended_by_date

POLL_SECONDS: Final = 60.0
"""How often it looks whether a day has begun; a clock that jumps or a machine that slept is noticed so too."""
PATIENCE_SECONDS: Final = 0.5
SLICE_ROWS: Final = 1_000
_DAY: Final = datetime.timedelta(days=1)
_log = structlog.get_logger("lanjie.pruning")


class PruningService:
    """Takes listings that ended by date out of the view, and erases those whose retention has ended.

    Args:
        ledger: the ledger's thread.
        catalogues: gives the catalogues as they stand.
        clock: aware instants.
        published: awaited after each commit with its revision.
        poll: seconds between two looks at the day.
    """

    def __init__(
        self,
        ledger: LedgerThread,
        catalogues: Callable[[], CatalogueSet],
        clock: Callable[[], datetime.datetime],
        published: Callable[[int], Awaitable[None]],
        poll: float = POLL_SECONDS,
    ) -> None:
        self._ledger = ledger
        self._catalogues = catalogues
        self._clock = clock
        self._published = published
        self._poll = poll
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.create_task(self._keep())

    async def close(self) -> None:
        """Stop; what is left is done at the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def run(self) -> bool:
        """Look at every listing once; return False if an edition was published meanwhile: look again."""
        catalogues = self._catalogues()
        today = day_of(self._clock())
        ended = _rule(catalogues, today)
        count = 0
        after: int | None = 0
        while after is not None:
            done = await self._ledger.spare(
                PATIENCE_SECONDS, Ledger.prune, after, SLICE_ROWS, ended, known=len(catalogues.editions)
            )
            if done is None:
                return False
            if done.revision is not None:
                await self._published(done.revision)
            count += done.count
            after = done.after
        _log.info("pruned", listings=count, erased=await self._erase(today))
        return True

    async def _erase(self, today: datetime.date) -> int:
        count = 0
        after: int | None = 0
        while after is not None:
            done = await self._ledger.spare(PATIENCE_SECONDS, Ledger.erase, after, SLICE_ROWS, today)
            if done.revision is not None:
                await self._published(done.revision)
            count += done.count
            after = done.after
        await self._ledger.call(Ledger.tidy)
        return count

    async def _keep(self) -> None:
        looked: datetime.date | None = None
        while True:
            # First of all, too: workers that read the ledger at a start go before.
            await asyncio.sleep(self._poll)
            today = day_of(self._clock())
            try:
                if looked != today and await self.run():
                    looked = today
            except Exception as error:  # noqa: BLE001  the view is larger than it need be, and that is all
                _log.warning("not_pruned", error=type(error).__name__)


def _rule(catalogues: CatalogueSet, today: datetime.date) -> Callable[[Listing], bool]:
    ends_with = functools.cache(lambda code: catalogues.ends_with_from(code, today - _DAY))
    return lambda listing: ended_by_date(listing, ends_with(listing.list_type), today)
