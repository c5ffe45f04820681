"""Year files: the working days of a year, as the State Council's notice on its holidays states them (YAML).

    year: 2026
    example: false
    notice: {number: 国办发明电〔2025〕7号, date: 2025-11-04, issuer: 国务院办公厅}
    days_off: [{name: 元旦, from: 2026-01-01, to: 2026-01-03}]
    working_days: [2026-01-04]

Ranges hold their weekends, too. A day of the December before may be named: notices do that (the one for 2019 did).
"""

import datetime
from dataclasses import dataclass
from typing import Final

from lanjie_gateway.domain.catalogue_yaml import CatalogueRefused, Fault, Fields, YamlError, read_yaml
from lanjie_matcher.workdays import YearOfWork, core_days

MAX_BYTES: Final = 64 * 1024
MAX_RANGE: Final = 15
"""Days of one holiday; more is a slip of the pen."""
FIRST_YEAR: Final = 2000
LAST_YEAR: Final = 2100
STATUTORY_DAYS: Final = 13
"""Days off that the statute grants since 2025; weekends that they fall on are made up for."""
_STATUTE_FROM: Final = 2025
_MAX_NUMBER: Final = 64

_TOP: Final = frozenset({"year", "example", "notice", "days_off", "working_days"})
_NOTICE: Final = frozenset({"number", "date", "issuer"})
_HOLIDAY: Final = frozenset({"name", "from", "to"})
_SATURDAY: Final = 5
_DAY: Final = datetime.timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Holiday:
    """Days off in a row.

    Attributes:
        name: of the holiday.
        first: first day.
        last: last day, inclusive.
    """

    name: str
    first: datetime.date
    last: datetime.date

    @property
    def days(self) -> tuple[datetime.date, ...]:
        """All days of it."""
        return tuple(self.first + each * _DAY for each in range((self.last - self.first).days + 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class YearFile:
    """What a year file says.

    Attributes:
        year: the year.
        number: of the notice.
        date: of the notice.
        issuer: who gave the notice.
        holidays: days off, in the order of the file.
        working_days: weekend days that are worked, in order.
        example: invented, for trying things out.
    """

    year: int
    number: str
    date: datetime.date
    issuer: str
    holidays: tuple[Holiday, ...]
    working_days: tuple[datetime.date, ...]
    example: bool = False

    def days(self) -> YearOfWork:
        """Return the days as the calendar takes them."""
        off = frozenset(day for holiday in self.holidays for day in holiday.days)
        return YearOfWork(year=self.year, notice=self.number, days_off=off, working_days=frozenset(self.working_days))


def load(file: bytes, file_name: str) -> tuple[YearFile, tuple[str, ...]]:
    """Return what a year file says, and what in it is worth a look.

    Args:
        file: its bytes.
        file_name: its name, for messages.

    Raises:
        CatalogueRefused: it breaks rules; each is named with its place.
    """
    faults: list[Fault] = []
    made = _read(file, faults)
    if faults or made is None:
        raise CatalogueRefused(file_name, tuple(faults))
    return made, tuple(_warnings(made))


def _read(file: bytes, faults: list[Fault]) -> YearFile | None:
    if len(file) > MAX_BYTES:
        faults.append(Fault("file", "too-large", f"a year file has at most {MAX_BYTES} bytes"))
        return None
    try:
        content = read_yaml(file)
    except YamlError as error:
        faults.append(Fault("file", error.rule, str(error)))
        return None
    top = Fields(content, "file", _TOP, faults)
    year = top.number("year", FIRST_YEAR, LAST_YEAR)
    if not top.has("year"):
        top.fault("field-missing", "year is due")
    notice = Fields(top.raw("notice") or {}, "notice", _NOTICE, faults)
    number = notice.text("number", missing="notice-missing")
    if len(number) > _MAX_NUMBER:
        notice.fault("field-type", f"number has at most {_MAX_NUMBER} characters")
    date, issuer = notice.day("date", missing="notice-missing"), notice.text("issuer", missing="notice-missing")
    holidays = _holidays(top, faults)
    working_days = _working_days(top, faults)
    example = top.flag("example")
    if faults or year is None or date is None:
        return None
    made = YearFile(
        year=year,
        number=number,
        date=date,
        issuer=issuer,
        holidays=holidays,
        working_days=working_days,
        example=example,
    )
    _judge(made, faults)
    return made


def _holidays(top: Fields, faults: list[Fault]) -> tuple[Holiday, ...]:
    values = top.raw("days_off")
    if not isinstance(values, list) or not values:
        top.fault("field-missing" if values is None else "field-type", "days_off is a list of holidays, at least one")
        return ()
    found = []
    for place, value in enumerate(values):
        one = Fields(value, f"days_off[{place}]", _HOLIDAY, faults)
        name = one.text("name", missing="field-missing")
        first, last = one.day("from", missing="field-missing"), one.day("to", missing="field-missing")
        if first is None or last is None:
            continue
        if first > last:
            one.fault("range-order", "from is not after to")
        elif (last - first).days >= MAX_RANGE:
            one.fault("range-long", f"a holiday has at most {MAX_RANGE} days")
        else:
            found.append(Holiday(name=name, first=first, last=last))
    return tuple(found)


def _working_days(top: Fields, faults: list[Fault]) -> tuple[datetime.date, ...]:
    found = []
    # Absent is a fault, an empty list is not: some year may move no day.
    if top.raw("working_days") is None:
        top.fault("field-missing", "working_days is due; [] where no weekend day is worked")
    for text in top.texts("working_days"):
        # A mapping of one field reads and words it as any other day.
        day = Fields({"day": text}, f"working_days {text[:40]}", frozenset({"day"}), faults).day("day")
        if day is not None:
            found.append(day)
    return tuple(sorted(found))


def _judge(made: YearFile, faults: list[Fault]) -> None:
    """Note what single fields cannot show."""
    begin, end = datetime.date(made.year - 1, 12, 1), datetime.date(made.year, 12, 31)
    off: dict[datetime.date, str] = {}
    for holiday in made.holidays:
        if not begin <= holiday.first <= holiday.last <= end:
            faults.append(Fault(holiday.name, "day-outside", f"its days are of {made.year} or the December before"))
        for day in holiday.days:
            if day in off:
                faults.append(Fault(holiday.name, "overlap", f"{day} is in {off[day]}, too"))
            off[day] = holiday.name
    for day in made.working_days:
        entry = f"working_days {day}"
        if not begin <= day <= end:
            faults.append(Fault(entry, "day-outside", f"it is of {made.year} or the December before"))
        if day in off:
            faults.append(Fault(entry, "overlap", f"it is a day off of {off[day]}"))
        if day.weekday() < _SATURDAY:
            faults.append(Fault(entry, "weekend-only", "only a Saturday or Sunday is worked instead"))
    faults.extend(
        Fault("days_off", "core-day", f"{day} is off by the statute (全国年节及纪念日放假办法)")
        for day in sorted(core_days(made.year) - off.keys())
    )


def _warnings(made: YearFile) -> list[str]:
    """Return what breaks no rule and yet is rarely meant: the days lent and given back do not match the statute."""
    if made.year < _STATUTE_FROM:
        return []
    lent = sum(day.weekday() < _SATURDAY for holiday in made.holidays for day in holiday.days)
    granted = lent - len(made.working_days)
    if granted == STATUTORY_DAYS:
        return []
    told = f"{lent} weekdays off less {len(made.working_days)} weekend days worked are {granted}"
    return [f"{told}; the statute grants {STATUTORY_DAYS}: compare with the notice"]
