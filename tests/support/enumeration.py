"""Who asks about natural persons: counters on their days, and twelve who walk through numbers. Invented throughout."""

import datetime
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from lanjie_gateway.domain.askers import Asker, Caps, Trip
from lanjie_gateway.domain.detectors import Traits, traits
from lanjie_gateway.domain.errors import GatewayError
from lanjie_gateway.domain.limits import DepartmentLimits
from lanjie_gateway.services.calendar import bundled
from lanjie_matcher.civil_time import SHANGHAI
from lanjie_matcher.fingerprints import IndexKey
from lanjie_matcher.identifiers import citizen_check, parse
from lanjie_matcher.workdays import WorkCalendar

KEY: Final = IndexKey(bytes(range(32)))
CALENDAR: Final = WorkCalendar.of(each.year.days() for each in bundled())
HIT_RATE: Final = 0.006
"""Share of checks that find somebody, as a city reported it."""
CHECKS_A_CASE: Final = 5.3
DEPARTMENTS: Final = {"housing": (90, "329901"), "transport": (40, "329902"), "labour": (160, "329903")}
"""Cases a day and home county of three departments."""
_SECOND: Final = datetime.timedelta(seconds=1)


def number(region: str, born: str, order: int) -> str:
    """Return an invented citizen number with a sound check digit."""
    body = f"{region}{born}{order:03d}"
    return body + citizen_check(body)


def somebody(rng: random.Random, home: str) -> str:
    """Return the number of a party: mostly of the county, of working age, on the first of January more than is due."""
    region = home if rng.random() < 0.7 else f"3299{rng.randrange(10, 99)}"
    day = datetime.date(1955, 1, 1) + datetime.timedelta(days=int(rng.triangular(0, 18_600, 11_000)))
    born = day.replace(month=1, day=1) if rng.random() < 0.02 else day
    return number(region, born.strftime("%Y%m%d"), min(999, int(rng.expovariate(1 / 120))))


@dataclass
class Province:
    """The departments of a gateway, each with its limits; the persons of `listed` are found."""

    caps: Caps = field(default_factory=Caps)
    listed: set[str] = field(default_factory=set)
    departments: dict[str, DepartmentLimits] = field(default_factory=dict)
    trips: list[Trip] = field(default_factory=list)
    known: dict[str, Traits] = field(default_factory=dict)

    def of(self, department: str) -> DepartmentLimits:
        """Return a department."""
        if department not in self.departments:
            self.departments[department] = DepartmentLimits(department, self.caps, lambda: CALENDAR)
        return self.departments[department]

    def ask(self, at: datetime.datetime, asker: Asker, *numbers: str) -> GatewayError | None:
        """Ask about persons, as one batch; the outcomes follow at once."""
        limits = self.of(asker.department)
        limits.turn(at)
        before = len(limits.trips)
        seen = [self._traits(each) for each in numbers]
        refusal = limits.ask(asker, seen, at)
        if refusal is None:
            found = [(each.person, text in self.listed) for each, text in zip(seen, numbers, strict=True)]
            limits.told(asker, found, at)
        self.trips += limits.trips[before:]
        return refusal

    def _traits(self, text: str) -> Traits:
        found = self.known.get(text)
        if found is None:
            found = self.known[text] = traits(parse(f"citizen:{text}"), KEY)
        return found


def working_day(day: datetime.date) -> bool:
    """Whether a day is worked."""
    return CALENDAR.is_working_day(day)


def traffic(
    rng: random.Random, province: Province, first: datetime.date, days: int, *, file_on: int = -1, scale: float = 1.0
) -> Iterator[tuple[datetime.datetime, Asker, list[str]]]:
    """Yield what three departments ask in so many days, in order.

    Office hours, month-end peaks, a few late and Saturday cases, and on the first working day from `file_on` on a file
    of 800 persons.
    """
    file_due = False
    for place in range(days):
        day = first + place * datetime.timedelta(days=1)
        asked: list[tuple[datetime.datetime, Asker, list[str]]] = []
        for department, (usual, home) in DEPARTMENTS.items():
            cases = usual * scale
            if not working_day(day):
                # A window on duty.
                cases = rng.randrange(8) if day.weekday() == 5 else 0
            elif (day + datetime.timedelta(days=4)).month != day.month:
                cases *= rng.uniform(1.6, 2.2)
            for _ in range(int(rng.gauss(cases, cases**0.5))):
                hour = min(19.4, max(8.0, rng.choice((rng.gauss(10, 1), rng.gauss(15, 1.2)))))
                asked += _case(rng, province, department, home, _at(day, hour))
        file_due = file_due or place == file_on
        if file_due and working_day(day):
            file_due = False
            asked += _file(rng, province, _at(day, 10.5))
        asked.sort(key=lambda each: each[0])
        yield from asked


def _case(
    rng: random.Random, province: Province, department: str, home: str, at: datetime.datetime
) -> Iterator[tuple[datetime.datetime, Asker, list[str]]]:
    asker = Asker(department=department, person=f"counter-{rng.randrange(2)}", officer=f"N{rng.randrange(6)}")
    parties = [somebody(rng, home) for _ in range(rng.choice((1, 1, 1, 2, 3)))]
    province.listed.update(each for each in parties if rng.random() < HIT_RATE)
    for place in range(round(rng.gauss(CHECKS_A_CASE, 1.5))):
        yield at + place * 90 * _SECOND, asker, [parties[place % len(parties)]]


def _file(
    rng: random.Random, province: Province, at: datetime.datetime
) -> Iterator[tuple[datetime.datetime, Asker, list[str]]]:
    persons = [somebody(rng, DEPARTMENTS["transport"][1]) for _ in range(800)]
    province.listed.update(each for each in persons if rng.random() < HIT_RATE)
    asker = Asker(department="transport", person="back-office", officer="N7")
    for place in range(0, 800, 300):
        yield at + place * _SECOND / 300, asker, persons[place : place + 300]


def _at(day: datetime.date, hour: float) -> datetime.datetime:
    return datetime.datetime(day.year, day.month, day.day, tzinfo=SHANGHAI) + datetime.timedelta(hours=hour)
