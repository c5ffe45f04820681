"""Statistics for those who answer for the checks: the agency and managers of all, departments of their own."""

import datetime
import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from lanjie_gateway.adapters.ledger import Ledger, LedgerThread
from lanjie_gateway.domain import statistics
from lanjie_gateway.domain.access import Principal, Role
from lanjie_gateway.domain.duties import DutyRule
from lanjie_gateway.domain.errors import invalid_argument, not_found
from lanjie_gateway.domain.feedback import Asked
from lanjie_gateway.domain.statistics import DIMENSIONS, Line
from lanjie_gateway.services.duty import DutyService
from lanjie_gateway.services.feedback import FeedbackService
from lanjie_matcher.catalogues import CatalogueSet
from lanjie_matcher.civil_time import day_of, start_of
from lanjie_matcher.listings import Listing, ended_by_date

AHEAD_DAYS: Final = 30
"""How far ahead listings that end are counted."""
MAX_MONTHS: Final = 36
_PAGE: Final = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Statistics of some months.

    Attributes:
        lines: groups by their values.
        overdue_duties: duties of listings that are past their last day, by rule.
        open_objections: objections without a reply.
        ending: listings that end by date within the next 30 days, by list type.
    """

    since: str
    until: str
    by: tuple[str, ...]
    lines: Mapping[tuple[str, ...], Line]
    overdue_duties: Mapping[str, int]
    open_objections: int
    ending: Mapping[str, int]


class StatisticsService:
    """Counts.

    Args:
        ledger: the record.
        duties: of listings.
        feedback: of answers.
        catalogues: published editions, which say what ends a list type.
        clock: aware instants.
    """

    def __init__(
        self,
        ledger: LedgerThread,
        duties: DutyService,
        feedback: FeedbackService,
        catalogues: Callable[[], CatalogueSet],
        clock: Callable[[], datetime.datetime],
    ) -> None:
        self._ledger = ledger
        self._duties = duties
        self._feedback = feedback
        self._catalogues = catalogues
        self._clock = clock

    async def report(
        self, principal: Principal, *, by: Sequence[str], since: str = "", until: str = "", department: str = ""
    ) -> Report:
        """Count the answers of some months, and what was done about them, by groups.

        Args:
            principal: the caller.
            by: some of `DIMENSIONS`, in the order of the groups' values.
            since: first month, YYYY-MM; this one when empty.
            until: last month; this one when empty.
            department: of one department; a department sees its own alone.

        Raises:
            Refused: NOT_PERMITTED; ARGUMENT_INVALID; NOT_FOUND: another department.
        """
        principal.require(Role.INQUIRER, Role.AGENCY, Role.MANAGER)
        sees_all = bool(principal.roles & {Role.AGENCY, Role.MANAGER})
        if not sees_all:
            if department not in ("", principal.department):
                raise not_found("no such department")
            department = principal.department
        if len(set(by)) != len(by) or not set(by) <= set(DIMENSIONS):
            raise invalid_argument("by", "unknown", f"group by some of {', '.join(DIMENSIONS)}, each once")
        this = statistics.month_of(self._clock())
        first, last = _months(since or this, until or this)
        await self._feedback.load()
        department = department.replace("\0", "")
        usage = await self._ledger.call(Ledger.usage, first, last, department)
        asked = await self._asked(_begin(first), _begin(_after(last)), department)
        lines = statistics.grouped(by, usage, asked, self._feedback.overdue_before())
        counts = await self._duties.overdue_by_rule() if sees_all else {}
        return Report(
            since=first,
            until=last,
            by=tuple(by),
            lines=lines,
            overdue_duties={rule.value: each.overdue for rule, each in counts.items() if each.overdue},
            open_objections=counts[DutyRule.OBJECTION_REPLY].open if counts else 0,
            ending=await self._ending() if sees_all else {},
        )

    async def _asked(self, since: datetime.datetime, until: datetime.datetime, department: str) -> list[Asked]:
        # In pages: whoever records an event waits no longer than for one of them.
        found: list[Asked] = []
        after = ("", "")
        while page := await self._ledger.call(
            Ledger.feedback_between, since, until, department, after=after, limit=_PAGE
        ):
            found += page
            after = (page[-1].decision_id, page[-1].listing)
        return found

    async def _ending(self) -> Mapping[str, int]:
        ends = _ending(self._catalogues(), day_of(self._clock()))
        counts: Counter[str] = Counter()
        after: int | None = 0
        while after is not None:
            part, after = await self._ledger.call(Ledger.count_live, after, _PAGE, ends)
            counts.update(part)
        return dict(sorted(counts.items()))


def _ending(catalogues: CatalogueSet, today: datetime.date) -> Callable[[Listing], bool]:
    """Return whether the last day of a listing is one of the next `AHEAD_DAYS`, today included."""
    ends_with = functools.cache(lambda code: catalogues.ends_with_from(code, today))
    begin, end = today + datetime.timedelta(days=1), today + datetime.timedelta(days=AHEAD_DAYS + 1)

    def ends(listing: Listing) -> bool:
        rule = ends_with(listing.list_type)
        return not ended_by_date(listing, rule, begin) and ended_by_date(listing, rule, end)

    return ends


def _months(since: str, until: str) -> tuple[str, str]:
    for field, month in (("since", since), ("until", until)):
        try:
            _after(month)
        except (ValueError, OverflowError):
            raise invalid_argument(field, "format", "a month is written YYYY-MM") from None
        if len(month) != len("2026-01"):
            raise invalid_argument(field, "format", "a month is written YYYY-MM")
    if since > until:
        raise invalid_argument("until", "order", "the last month is before the first")
    if (int(until[:4]) - int(since[:4])) * 12 + int(until[5:]) - int(since[5:]) >= MAX_MONTHS:
        raise invalid_argument("since", "range", f"at most {MAX_MONTHS} months at a time")
    return since, until


def _begin(month: str) -> datetime.datetime:
    return start_of(datetime.date.fromisoformat(f"{month}-01"))


def _after(month: str) -> str:
    first = datetime.date.fromisoformat(f"{month}-01")
    return (first + datetime.timedelta(days=31)).isoformat()[:7]
