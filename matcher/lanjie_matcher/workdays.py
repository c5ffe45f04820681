"""Working days: what the clocks of the law count in (Civil Code 201, 203; Social Credit Regulations Art. 65).

1. The day of the event does not count (Civil Code 201).
2. A term whose last day is none to work on ends with the next working day (203), at 24:00 in Shanghai.
3. A year is known when the State Council's notice on its holidays is: days off, and weekend days worked instead.
4. Of any other year only the days that the statute itself names are off (全国年节及纪念日放假办法 as of 2025-01-01,
   国务院令第795号). What such a day has a part in is provisional, and is computed anew once the year is known: nothing
   of it is kept.

Holidays by the moon or the sun are tabled for some years ahead, so that a provisional day of a February is not a week
off. What no table can know is which weekends will be worked and which day makes up for a holiday on a weekend.
"""

import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Self

_DAY: Final = datetime.timedelta(days=1)
_FRIDAY: Final = 4
_FIXED: Final = ((1, 1), (5, 1), (5, 2), (10, 1), (10, 2), (10, 3))
"""New Year, Labour Day, National Day."""
_FIXED_BEFORE: Final = ((1, 1), (5, 1), (10, 1), (10, 2), (10, 3))
"""What every form of the statute had before 2025."""
_STATUTE_FROM: Final = 2025
_MOVING: Final[Mapping[int, tuple[tuple[int, int], ...]]] = {
    # Spring Festival (its first day), Qingming, Dragon Boat Festival, Mid-Autumn Festival.
    2025: ((1, 29), (4, 4), (5, 31), (10, 6)),
    2026: ((2, 17), (4, 5), (6, 19), (9, 25)),
    2027: ((2, 6), (4, 5), (6, 9), (9, 15)),
    2028: ((1, 26), (4, 4), (5, 28), (10, 3)),
    2029: ((2, 13), (4, 4), (6, 16), (9, 22)),
    2030: ((2, 3), (4, 5), (6, 5), (9, 12)),
    2031: ((1, 23), (4, 5), (6, 24), (10, 1)),
    2032: ((2, 11), (4, 4), (6, 12), (9, 19)),
    2033: ((1, 31), (4, 4), (6, 1), (9, 8)),
    2034: ((2, 19), (4, 5), (6, 20), (9, 27)),
    2035: ((2, 8), (4, 5), (6, 10), (9, 16)),
    2036: ((1, 28), (4, 4), (5, 30), (10, 4)),
}
"""Holidays by the lunar calendar and the solar term, by almanac."""
_SPRING_FESTIVAL: Final = (-1, 0, 1, 2)
"""The eve to the third day, counted from the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class YearOfWork:
    """What the notice on the holidays of one year says.

    Attributes:
        year: the year. Its notice may also name days of the December before.
        notice: number of the notice.
        days_off: all days of its holidays, weekends among them.
        working_days: weekend days that are worked instead.
    """

    year: int
    notice: str
    days_off: frozenset[datetime.date]
    working_days: frozenset[datetime.date]


@dataclass(frozen=True, slots=True)
class Due:
    """The last day of a term; it lasts to 24:00 in Shanghai.

    Attributes:
        day: the last day.
        provisional: it hangs on a year whose notice is not known, and may move when it is.
    """

    day: datetime.date
    provisional: bool


@lru_cache(maxsize=64)
def core_days(year: int) -> frozenset[datetime.date]:
    """Return the days that are off by the statute itself, as far as they are fixed or tabled here (4)."""
    fixed = _FIXED if year >= _STATUTE_FROM else _FIXED_BEFORE
    days = {datetime.date(year, month, day) for month, day in fixed}
    if year in _MOVING:
        first, *others = (datetime.date(year, month, day) for month, day in _MOVING[year])
        days.update(others, (first + each * _DAY for each in _SPRING_FESTIVAL))
    return frozenset(days)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkCalendar:
    """Working days by the years that are known. Make with `WorkCalendar.of`.

    Attributes:
        years: the known years.
        days_off: the days off that their notices name.
        working_days: the weekend days that are worked.
    """

    years: frozenset[int]
    days_off: frozenset[datetime.date]
    working_days: frozenset[datetime.date]

    @classmethod
    def of(cls, years: Iterable[YearOfWork]) -> Self:
        """Return the calendar of some years; of two for the same year the last counts.

        A notice prevails in the December before its year, too: the one for 2019 took the 31st.
        """
        known = {each.year: each for each in years}
        off: frozenset[datetime.date] = frozenset()
        on: frozenset[datetime.date] = frozenset()
        for _, each in sorted(known.items()):
            off = (off - each.working_days) | each.days_off
            on = (on - each.days_off) | each.working_days
        return cls(years=frozenset(known), days_off=off, working_days=on)

    def is_working_day(self, day: datetime.date) -> bool:
        """Whether a day is worked: by its notice (3), or as far as it can be told without one (4)."""
        if day in self.working_days:
            return True
        if day in self.days_off or (day.year not in self.years and day in core_days(day.year)):
            return False
        return day.weekday() <= _FRIDAY

    def after(self, day: datetime.date, number: int) -> Due:
        """Return the last day of a term of working days.

        It is provisional when a day from the one after the event to the last is of a year that is not known.

        Args:
            day: of the event, which does not count (1).
            number: working days, at least one.

        Raises:
            ValueError: fewer than one. No day raises; at the end of time a term ends there.
        """
        _at_least_one(number)
        at, provisional = day, False
        while number and at < datetime.date.max:
            at += _DAY
            provisional = provisional or at.year not in self.years
            number -= self.is_working_day(at)
        return Due(at, provisional or number > 0)

    def days_after(self, day: datetime.date, number: int) -> Due:
        """Return the last day of a term of calendar days.

        It is provisional when its last day, or one that it moved over (2), is of a year that is not known: which of
        the days before are worked does not matter.

        Args:
            day: of the event, which does not count (1).
            number: days, at least one.

        Raises:
            ValueError: fewer than one.
        """
        _at_least_one(number)
        at = datetime.date.fromordinal(min(day.toordinal() + number, datetime.date.max.toordinal()))
        provisional = at.year not in self.years
        while not self.is_working_day(at) and at < datetime.date.max:
            at += _DAY
            provisional = provisional or at.year not in self.years
        return Due(at, provisional)


def _at_least_one(number: int) -> None:
    if number < 1:
        raise ValueError("a term has at least one day")
