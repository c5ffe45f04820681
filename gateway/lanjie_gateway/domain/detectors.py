"""What tells somebody who walks through natural persons from somebody who handles cases (Art. 39, 40, 43).

1. Only keyed hashes of parts of a number come here, and how far an order code lies from the last one: no number, and
   nothing it could be made from without the key.
2. Only *persons not asked about before on the same day* are looked at: a case asks about its party several times.
3. What is kept of one scope (an asker, a department) is bounded, whatever it asks. A table that is full loses one from
   each count (Misra and Gries): counts are then too low by little, and never too high.
4. Each detector has a score and three steps: an alarm, a slower pace, a stop.
5. A department counts double: five askers who share a walk are found by it, one asker is found on his own.

Persons who answer to a few matters of one county share birth dates by chance only: of 1,300 in a day some pairs, now
and then three, and ten never. `docs/adr/0015-…` says where the steps come from and whom they do not find.
"""

import datetime
import enum
from collections import deque
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from math import inf
from typing import Final, NamedTuple

from lanjie_matcher.civil_time import SHANGHAI
from lanjie_matcher.fingerprints import IndexKey
from lanjie_matcher.identifiers import Identifier, IdentifierKind
from lanjie_matcher.workdays import WorkCalendar

ORDER_STEP: Final = 2
"""Order codes of one birth date that lie no further apart are a walk: men's are odd, women's even."""
NEIGHBOURS: Final = 8
"""How many persons before are looked at for the same half month of birth."""
SWEEP_WEIGHT: Final = 1 / 32
BASE_RATE: Final = 0.006
"""Share of persons with an outcome other than a pass, where a department's own is not known yet."""
OPEN_FROM: Final = 7
OPEN_UNTIL: Final = 20
"""Hours in Shanghai between which counters work, generously."""
_LEARNT_DAYS: Final = 5
_DAY_WEIGHT: Final = 0.2
_MAX_SCORE: Final = 40.0


class Level(enum.IntEnum):
    """What a score calls for."""

    NONE = 0
    ALARM = 1
    THROTTLE = 2
    STOP = 3


@dataclass(frozen=True, slots=True)
class Steps:
    """Scores from which on an alarm, a slower pace and a stop are due (4)."""

    alarm: float
    throttle: float = inf
    stop: float = inf

    def level(self, score: float) -> Level:
        """Return what a score calls for."""
        if score < self.alarm:
            return Level.NONE
        return Level.STOP if score >= self.stop else Level.THROTTLE if score >= self.throttle else Level.ALARM


DETECTORS: Final[Mapping[str, Steps]] = {
    "sequence": Steps(6, 9, 12),
    "prefix": Steps(10, 16, 24),
    "mask": Steps(10, 14, 20),
    "sweep": Steps(0.5, 0.65, 0.75),
    "hits": Steps(4, 8, 15),
    "misses": Steps(4, 7),
    "off_hours": Steps(30, 200, 600),
    "volume": Steps(1_000, 1_500),
    "pace": Steps(5),
    "insistence": Steps(30, inf, 100),
}
"""All detectors. ``sequence``: a run of neighbouring order codes; ``prefix``: persons of one region and birth date;
``mask``: persons with the same first six and last four places; ``sweep``: share of persons born in the same half month
and region as one of the last eight; ``hits``, ``misses``: outcomes far above and below the own rate; ``off_hours``:
persons at night and on days that are not worked; ``volume``: persons of a day beyond thrice the own measure of such a
day so far; ``pace``: hours of a day with more than thrice the own measure; ``insistence``: questions refused while
slowed down."""


class Traits(NamedTuple):
    """What of a person's number is looked at: keyed hashes, save for the order code (1).

    Attributes:
        person: of the whole number.
        prefix: of region and birth date, or of all but the last three characters.
        half: of region and half month of birth.
        mask: of the first six and the last four places.
        order: order code; -1 where the number has none.
    """

    person: bytes
    prefix: bytes
    half: bytes
    mask: bytes
    order: int


def traits(identifier: Identifier, key: IndexKey) -> Traits:
    """Return the traits of a natural person's identifier (1)."""
    text = identifier.reveal()
    number = text.partition(":")[2]
    if identifier.kind is IdentifierKind.CITIZEN:
        prefix, order = number[:14], number[14:17]
        half = f"{number[:12]}{number[12:14] > '15'}"
    else:
        prefix, order = number[:-3], number[-3:]
        half = number[:-4]
    return Traits(
        key.token(text),
        key.token(f"prefix:{prefix}"),
        key.token(f"half:{half}"),
        key.token(f"mask:{number[:6]}:{number[-4:]}"),
        int(order) if order.isascii() and order.isdigit() else -1,
    )


@dataclass(slots=True)
class _Cell:
    persons: int = 0
    order: int = -1
    run: int = 0


class Neighbourhood:
    """Which numbers of a day lie near one another, within one scope; bounded (3).

    Args:
        most: entries of each of its two tables.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._cells: dict[bytes, _Cell] = {}
        self._masks: dict[bytes, int] = {}
        self._halves: deque[bytes] = deque(maxlen=NEIGHBOURS)
        self._sweep = 0.0

    def see(self, each: Traits) -> dict[str, float]:
        """Take a person not seen before today; return the scores that concern it."""
        cell = self._cells.get(each.prefix)
        if cell is None:
            if len(self._cells) >= self._most:
                _lose_one(self._cells)
            cell = self._cells[each.prefix] = _Cell()
        cell.persons += 1
        near = each.order >= 0 and cell.order >= 0 and abs(each.order - cell.order) <= ORDER_STEP
        cell.run = cell.run + 1 if near else 1
        cell.order = each.order
        if each.mask not in self._masks and len(self._masks) >= self._most:
            self._masks = {mask: count - 1 for mask, count in self._masks.items() if count > 1}
        masked = self._masks[each.mask] = self._masks.get(each.mask, 0) + 1
        self._sweep += SWEEP_WEIGHT * ((each.half in self._halves) - self._sweep)
        self._halves.append(each.half)
        return {"sequence": cell.run, "prefix": cell.persons, "mask": masked, "sweep": self._sweep}


def _lose_one(cells: MutableMapping[bytes, _Cell]) -> None:
    for prefix, cell in list(cells.items()):
        cell.persons -= 1
        if cell.persons <= 0:
            del cells[prefix]


@dataclass(slots=True)
class Outcomes:
    """Two cumulative sums over outcomes: far more hits than usual, far fewer than usual.

    Attributes:
        rate: own share of hits, learnt slowly, never below half of `BASE_RATE`.
        hits: score; every hit adds, every miss takes off what several times the own rate would bring.
        misses: score of the day; every miss adds half of what the own rate would bring, every hit takes one off.
    """

    rate: float = BASE_RATE
    hits: float = 0.0
    misses: float = 0.0

    def see(self, *, hit: bool, known: bool = False) -> None:
        """Take the outcome for a person; of a `known` file, one that was looked at, what is usual is always learnt."""
        usual = max(0.05, 3 * self.rate)
        self.hits = min(_MAX_SCORE, max(0.0, self.hits + hit - usual))
        self.misses = min(_MAX_SCORE, max(0.0, self.misses - 1 if hit else self.misses + self.rate / 2))
        if known or not self.hits:
            # A walk through a list must not become the measure of itself.
            self.rate = max(BASE_RATE / 2, self.rate + 0.001 * (hit - self.rate))


def is_off(at: datetime.datetime, calendar: WorkCalendar) -> bool:
    """Whether an instant lies outside office hours in Shanghai: at night, or on a day that is not worked."""
    local = at.astimezone(SHANGHAI)
    return not OPEN_FROM <= local.hour < OPEN_UNTIL or not calendar.is_working_day(local.date())


@dataclass(slots=True)
class Tally:
    """Persons of one scope and day, each once.

    Attributes:
        hours: by hour in Shanghai.
        off_hours: of these, outside office hours.
    """

    hours: list[int] = field(default_factory=lambda: [0] * 24)
    off_hours: int = 0

    @property
    def persons(self) -> int:
        """All of the day."""
        return sum(self.hours)


@dataclass(slots=True)
class Baseline:
    """What a department usually asks about: persons by hour, on days that are worked and on others.

    Attributes:
        worked: mean of each hour on working days.
        other: the same on other days.
        off_hours: mean of persons outside office hours, over all days.
        days: working days learnt from.
    """

    worked: list[float] = field(default_factory=lambda: [0.0] * 24)
    other: list[float] = field(default_factory=lambda: [0.0] * 24)
    off_hours: float = 0.0
    days: int = 0

    def learn(self, day: Tally, *, working: bool) -> None:
        """Take a day that is over; the newer the day, the more it weighs.

        A day counts as four times the usual at most: a walk must not become the measure of itself.
        """
        mean = self.worked if working else self.other
        for hour, count in enumerate(day.hours):
            most = 4 * mean[hour] + 20 if self.days >= _LEARNT_DAYS else inf
            mean[hour] += _DAY_WEIGHT * (min(count, most) - mean[hour])
        self.off_hours += _DAY_WEIGHT * (min(day.off_hours, 4 * self.off_hours + 10) - self.off_hours)
        self.days += working

    def scores(self, day: Tally, at: datetime.datetime, *, working: bool) -> Iterator[tuple[str, float]]:
        """Yield the scores of a day so far."""
        mean = self.worked if working else self.other
        hour = at.astimezone(SHANGHAI).hour
        yield "off_hours", day.off_hours - 3 * self.off_hours
        yield "volume", day.persons - 3 * sum(mean[: hour + 1])
        if self.days >= _LEARNT_DAYS:
            yield "pace", sum(count > max(25.0, 3 * usual) for count, usual in zip(day.hours, mean, strict=True))

    def usual(self, *, working: bool) -> float:
        """Return the persons of a usual day."""
        return sum(self.worked if working else self.other)
