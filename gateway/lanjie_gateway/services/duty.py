"""Duties as those see them who have to act: when each is due, by the working days known now (Art. 60, 61, 64-66).

Nothing of it is kept: a duty is provisional as long as its year is not published, and certain right after.
"""

import datetime
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from lanjie_gateway.adapters.ledger import Ledger, LedgerThread, StoredDuty
from lanjie_gateway.domain.access import Principal, Role
from lanjie_gateway.domain.duties import DutyRule, DutyView
from lanjie_gateway.domain.errors import invalid_argument
from lanjie_gateway.services.calendar import CalendarService
from lanjie_matcher.deadlines import overdue

MOST: Final = 10_000
"""Duties that one answer holds."""
LATE_SINCE: Final = datetime.timedelta(days=365)
"""How long a duty that was done too late is counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DutyCount:
    """Duties of one rule.

    Attributes:
        bound: who has to act, in words.
        open: not done yet.
        overdue: of these, past their last day.
        provisional: of the open ones, the last day hangs on a year that is not published yet.
        late: done after their last day within the last twelve months.
    """

    bound: str
    open: int
    overdue: int
    provisional: int
    late: int


class DutyService:
    """Lists and counts duties.

    Args:
        ledger: the record.
        calendar: working days and deadlines.
        clock: aware instants.
    """

    def __init__(self, ledger: LedgerThread, calendar: CalendarService, clock: Callable[[], datetime.datetime]) -> None:
        self._ledger = ledger
        self._calendar = calendar
        self._clock = clock

    async def find(
        self, principal: Principal, *, overdue_only: bool = False, rule: str = "", late: bool = False
    ) -> list[DutyView]:
        """Return duties that are not done, the one that is due last first; of more than 10,000 those due first.

        An authority is told those about listings that it may change (Art. 40).

        Args:
            principal: the caller.
            overdue_only: those alone whose last day is past.
            rule: those of one rule alone.
            late: those too that were done too late within the last twelve months.

        Raises:
            Refused: NOT_PERMITTED; ARGUMENT_INVALID: no such rule.
        """
        principal.require(Role.AUTHORITY, Role.AGENCY, Role.MANAGER)
        if rule and rule not in set(DutyRule):
            raise invalid_argument("rule", "unknown", "there is no such rule")
        found = await self._read((rule,) if rule else (), late=late, principal=principal)
        kept = [each for each in found if not overdue_only or each.overdue or each.late]
        kept.sort(key=lambda each: (each.due_on or datetime.date.max, each.started_on, each.revision), reverse=True)
        return kept[-MOST:]

    async def of_listings(self, listing_ids: Iterable[str]) -> list[DutyView]:
        """Return the clocks that run for listings."""
        return [self._view(each) for each in await self._ledger.call(Ledger.duties_of, list(listing_ids))]

    async def overdue_by_rule(self) -> Mapping[DutyRule, DutyCount]:
        """Return how many duties of each rule are open, overdue, and were done too late; for status and metrics."""
        found = await self._read((), late=True)
        counts = {}
        for rule in DutyRule:
            mine = [each for each in found if each.rule is rule]
            counts[rule] = DutyCount(
                bound=self.bound(rule),
                open=sum(each.closed_on is None for each in mine),
                overdue=sum(each.overdue for each in mine),
                provisional=sum(each.provisional and each.closed_on is None for each in mine),
                late=sum(each.late for each in mine),
            )
        return counts

    def bound(self, rule: DutyRule) -> str:
        """Return who has to act, in words."""
        if rule is DutyRule.CONTESTED:
            return "the unit that acted: a document of its own undoes the act, or it stands"
        return self._calendar.deadlines[rule.value].bound

    async def _read(self, rules: tuple[str, ...], *, late: bool, principal: Principal | None = None) -> list[DutyView]:
        since = self._clock() - LATE_SINCE if late else None
        stored = await self._ledger.call(Ledger.duties, since, rules=rules)
        views = [
            self._view(each) for each in stored if principal is None or principal.reaches(each.list_type, each.region)
        ]
        return [each for each in views if each.closed_on is None or each.late]

    def _view(self, stored: StoredDuty) -> DutyView:
        rule = DutyRule(stored.rule)
        due = None if rule is DutyRule.CONTESTED else self._calendar.due(stored.rule, stored.started_on)
        closed = stored.closed_on
        return DutyView(
            rule=rule,
            listing_id=stored.listing_id,
            list_type=stored.list_type,
            started_on=stored.started_on,
            due_on=None if due is None else due.day,
            provisional=due is not None and due.provisional,
            overdue=due is not None and closed is None and overdue(due, self._clock()),
            closed_on=closed,
            late=due is not None and closed is not None and closed > due.day,
            revision=stored.revision,
        )
