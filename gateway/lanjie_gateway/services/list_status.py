"""How old the sources are, what waits, which clocks of the law run and have run out: for operators, and for alarms."""

import asyncio
import datetime
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from lanjie_gateway.adapters.ledger import Ledger, LedgerThread
from lanjie_gateway.domain.access import Principal, Role
from lanjie_gateway.domain.duties import DutyRule
from lanjie_gateway.domain.errors import Unanswerable
from lanjie_gateway.domain.feedback import Alarm
from lanjie_gateway.domain.source_ages import Delivery, Source, SourceAges, source_ages
from lanjie_gateway.services.duty import DutyCount, DutyService
from lanjie_matcher.catalogues import CatalogueSet
from lanjie_matcher.civil_time import day_of

READ_SECONDS: Final = 2.0
"""How long `ListStatusService.watch` waits for the ledger before it goes by what it knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListStatus:
    """State of the lists.

    Attributes:
        revision: of the ledger.
        today: day in Asia/Shanghai by which ages are counted.
        ages: of the sources.
        waiting: number of imports and acts that wait for a second person.
        waiting_since: aware instant at which the oldest of them began.
        duties: how many of each rule are open, overdue or were late.
        missing_year: year whose working days should be here by now; 0 for none.
        feedback_alarms: feedback that somebody has to look at, counted since the start.
    """

    revision: int
    today: datetime.date
    ages: SourceAges
    waiting: int
    waiting_since: datetime.datetime | None
    duties: Mapping[DutyRule, DutyCount]
    missing_year: int
    feedback_alarms: Mapping[Alarm, int]


@dataclass(frozen=True, slots=True)
class _Read:
    """What the ledger says at a revision."""

    revision: int
    deliveries: tuple[Delivery, ...]
    live: Mapping[Source, int]
    waiting: int
    waiting_since: datetime.datetime | None


class ListStatusService:
    """Tells the state of the lists; ages and last days are computed when asked.

    Args:
        ledger: the ledger's thread.
        catalogues: gives the catalogues as they stand.
        clock: aware instants.
        duties: counts the clocks of the law.
        missing_year: gives the year whose working days should be here by now, 0 for none.
        feedback_alarms: counts them since the start.
    """

    def __init__(
        self,
        ledger: LedgerThread,
        catalogues: Callable[[], CatalogueSet],
        clock: Callable[[], datetime.datetime],
        duties: DutyService,
        missing_year: Callable[[], int],
        *,
        feedback_alarms: Mapping[Alarm, int],
    ) -> None:
        self._ledger = ledger
        self._catalogues = catalogues
        self._clock = clock
        self._duties = duties
        self._missing_year = missing_year
        self._feedback_alarms = feedback_alarms
        self._known: tuple[_Read, Mapping[DutyRule, DutyCount]] | None = None

    async def get(self, principal: Principal) -> ListStatus:
        """Return the state of the lists, every live listing counted.

        Raises:
            Refused: NOT_PERMITTED.
            Unanswerable: LEDGER_UNAVAILABLE.
        """
        principal.require(Role.AGENCY)
        return self._status(await self._ledger.call(_read_all), await self._duties.overdue_by_rule())

    async def watch(self) -> ListStatus | None:
        """Return the state of the lists cheaply: `live` tells whether there are live listings, not how many.

        While the ledger cannot be read, what was known last grows older by the clock; `None` where nothing was.
        """
        try:
            async with asyncio.timeout(READ_SECONDS):
                read = await self._ledger.call(_read_on, self._known and self._known[0])
                self._known = read, await self._duties.overdue_by_rule()
        except (TimeoutError, Unanswerable):
            if self._known is None:
                return None
        return self._status(*self._known)

    def _status(self, read: _Read, duties: Mapping[DutyRule, DutyCount]) -> ListStatus:
        today = day_of(self._clock())
        return ListStatus(
            revision=read.revision,
            today=today,
            ages=source_ages(read.deliveries, read.live, self._catalogues(), today),
            waiting=read.waiting,
            waiting_since=read.waiting_since,
            duties=duties,
            missing_year=self._missing_year(),
            feedback_alarms=dict(self._feedback_alarms),
        )


def _read_all(ledger: Ledger) -> _Read:
    return _Read(ledger.head(), tuple(ledger.sources()), ledger.live_source_counts(), *ledger.count_waiting())


def _read_on(ledger: Ledger, known: _Read | None) -> _Read:
    head = ledger.head()
    if known is not None and head == known.revision:
        # Imports come to wait without a commit.
        return _Read(head, known.deliveries, known.live, *ledger.count_waiting())
    live = dict.fromkeys(ledger.live_sources(), 1)
    return _Read(head, tuple(ledger.sources()), live, *ledger.count_waiting())
