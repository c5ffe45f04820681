"""Deadlines of the law as data: who has to do what within which time, and by which text (docs/deadlines.md).

The periods change (three of these did within a year), so each has its source and the day from which it holds,
and a gateway may state its own (`deadlines_with`). When something is due is computed when asked, never kept.

1. Regulations Art. 65: the provider tells of a revocation within five working days; the agency applies it within two.
2. Regulations Art. 66 and 国办发〔2025〕22号: three working days to decide on a repair, ten to answer the applicant.
3. Regulations Art. 64: an objection is checked "within the prescribed time". What time is prescribed stands in no text
   we hold: seven working days are **assumed**, until a gateway's own file says otherwise.
4. Administrative Penalty Law Art. 48: a published penalty that was changed or annulled is withdrawn within three days;
   by Art. 85 of that law its days up to seven are working days.
5. Ours: the second person looks at a removal within one working day after it (Art. 61 asks that none be unlawful; the
   number is our own choice, so it is **assumed**).
6. Ours too: a department tells within five working days what it did about an answer with an effect (**assumed**).
"""

import dataclasses
import datetime
import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from lanjie_matcher.civil_time import day_of
from lanjie_matcher.workdays import Due, WorkCalendar


class Unit(enum.StrEnum):
    """What a period counts."""

    WORKING_DAYS = "working_days"
    DAYS = "days"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The text that sets a period.

    Attributes:
        law: its title.
        article: where in it; empty where the text has none.
        document: its document number; empty where it has none.
    """

    law: str
    article: str = ""
    document: str = ""

    def __str__(self) -> str:
        return " ".join(part for part in (self.law, self.document, self.article) if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """How long, by which text, and from when: until the next period of the rule begins.

    Attributes:
        number: of units; at least one.
        unit: working days or calendar days.
        source: the text.
        valid_from: first day on which it holds; `None` where that is not known.
        assumed: the number is in no text we hold.
    """

    number: int
    unit: Unit
    source: Source
    valid_from: datetime.date | None = None
    assumed: bool = False

    def due(self, started_on: datetime.date, calendar: WorkCalendar) -> Due:
        """Return the last day of a term that an event of a day started."""
        count = calendar.after if self.unit is Unit.WORKING_DAYS else calendar.days_after
        return count(started_on, self.number)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadline:
    """One rule.

    Attributes:
        code: its short name.
        bound: who has to act.
        starts: the event that starts the term; its day does not count.
        periods: at least one, by the days from which they hold.
    """

    code: str
    bound: str
    starts: str
    periods: tuple[Period, ...]

    def period_on(self, day: datetime.date) -> Period:
        """Return the period for what started on a day; the first one for what started before any."""
        began = [each for each in self.periods if each.valid_from is None or each.valid_from <= day]
        return began[-1] if began else self.periods[0]


_REGULATIONS: Final = "Social Credit Regulations of Jiangsu (江苏省社会信用条例)"
_IN_FORCE: Final = datetime.date(2022, 1, 1)
_REPAIR: Final = Source(law="Plan on the credit repair system", document="国办发〔2025〕22号")
_REPAIR_FROM: Final = datetime.date(2025, 6, 22)


def _working_days(number: int, source: Source, valid_from: datetime.date | None, *, assumed: bool = False) -> Period:
    return Period(number=number, unit=Unit.WORKING_DAYS, source=source, valid_from=valid_from, assumed=assumed)


_TABLE: Final = (
    # (1)
    Deadline(
        code="revocation-notice",
        bound="the provider of the information",
        starts="the instrument that revokes, alters or annuls takes effect",
        periods=(_working_days(5, Source(law=_REGULATIONS, article="Art. 65"), _IN_FORCE),),
    ),
    Deadline(
        code="revocation-apply",
        bound="the public credit information agency",
        starts="the provider's notice arrives",
        periods=(_working_days(2, Source(law=_REGULATIONS, article="Art. 65"), _IN_FORCE),),
    ),
    # (2)
    Deadline(
        code="repair-decision",
        bound="the department that identified the breach",
        starts="the application for repair is taken",
        periods=(_working_days(3, _REPAIR, _REPAIR_FROM),),
    ),
    Deadline(
        code="repair-answer",
        bound="Credit China",
        starts="the application for repair arrives",
        periods=(_working_days(10, _REPAIR, _REPAIR_FROM),),
    ),
    # (3)
    Deadline(
        code="objection-reply",
        bound="the provider or the agency that took the objection",
        starts="the objection arrives",
        periods=(_working_days(7, Source(law=_REGULATIONS, article="Art. 64"), _IN_FORCE, assumed=True),),
    ),
    # (4)
    Deadline(
        code="publicity-withdrawal",
        bound="the authority that published the penalty",
        starts="the penalty is changed, annulled, found unlawful or invalid",
        periods=(
            _working_days(
                *(3, Source(law="Administrative Penalty Law (行政处罚法)", article="Art. 48, 85")),
                datetime.date(2021, 7, 15),
            ),
        ),
    ),
    # (5)
    Deadline(
        code="removal-review",
        bound="a second person of the unit that removed",
        starts="the removal",
        periods=(_working_days(1, Source(law="lanjie: a second person after each removal"), None, assumed=True),),
    ),
    # (6)
    Deadline(
        code="feedback",
        bound="the department that asked",
        starts="an answer with an effect",
        periods=(_working_days(5, Source(law="lanjie: feedback on an answer with an effect"), None, assumed=True),),
    ),
)
DEADLINES: Final[Mapping[str, Deadline]] = MappingProxyType({each.code: each for each in _TABLE})
"""Every rule by its code."""


def deadlines_with(
    overrides: Iterable[tuple[str, Period]], table: Mapping[str, Deadline] = DEADLINES
) -> Mapping[str, Deadline]:
    """Return the table with other periods for some rules.

    A period that says from which day it holds leaves what started before to those before it; one that does not takes
    the place of all.

    Args:
        overrides: codes of rules and their periods.
        table: the rules.

    Raises:
        KeyError: no rule has that code.
    """
    made = dict(table)
    for code, period in overrides:
        kept: tuple[Period, ...] = ()
        if period.valid_from is not None:
            since = period.valid_from
            kept = tuple(each for each in made[code].periods if each.valid_from is None or each.valid_from < since)
        made[code] = dataclasses.replace(made[code], periods=(*kept, period))
    return MappingProxyType(made)


def due(
    rule: str | Deadline,
    started_on: datetime.date,
    calendar: WorkCalendar,
    *,
    table: Mapping[str, Deadline] = DEADLINES,
) -> Due:
    """Return the last day of a term.

    Args:
        rule: a deadline or its code.
        started_on: day in Shanghai of the event; it does not count.
        calendar: working days.
        table: where a code is looked up.

    Raises:
        KeyError: no rule has that code.
    """
    found = table[rule] if isinstance(rule, str) else rule
    return found.period_on(started_on).due(started_on, calendar)


def overdue(last: Due, now: datetime.datetime) -> bool:
    """Whether a term has run out: 24:00 in Shanghai of its last day has passed.

    Args:
        last: the last day.
        now: an aware instant.
    """
    return day_of(now) > last.day
