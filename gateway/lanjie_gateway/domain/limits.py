"""Limits on asking about natural persons (Art. 39, 40, 43): daily caps, and what the detectors call for.

`DepartmentLimits` is one department's day, in order; the blocks carry the numbers:

1. A new day in Shanghai begins with nothing: no count, no throttle, no stop. What was usual is learnt from the old one.
2. Who was asked about today may be asked about again, by the same asker, whatever holds: a case is brought to its end.
3. What a person of the agency lifted for the day holds no longer; the detectors go on telling.
4. A stop that was called for earlier today, or the cap of distinct persons, refuses all that is new.
5. A throttle lets new persons through one by one, some a minute; a batch pays for its size afterwards. Who goes on as
   fast as before, as no officer would, is stopped by that.
6. The detectors see each new person: first the asker's own, then the department's, whose steps lie twice as high.
7. Whatever reaches a further step is a trip. One that stops refuses the question it was found by.

Companies never come here. Nothing here names a person: see `detectors`.
"""

import datetime
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from lanjie_gateway.domain.askers import Asker, Caps, Trip
from lanjie_gateway.domain.detectors import (
    DETECTORS,
    Baseline,
    Level,
    Neighbourhood,
    Outcomes,
    Tally,
    Traits,
    is_off,
)
from lanjie_gateway.domain.errors import GatewayError, Refused, Unanswerable
from lanjie_matcher.civil_time import SHANGHAI, day_of
from lanjie_matcher.workdays import WorkCalendar

THROTTLED_SECONDS: Final = 10.0
"""One new person in so many seconds while throttled."""
DEPARTMENT_FACTOR: Final = 2
MOST_ASKERS: Final = 256
MOST_TRIPS: Final = 100
DAILY_CAP: Final = "DAILY_CAP"
_EVERYBODY: Final = ""
_USUAL_CAP: Final = Caps().department
_COUNTED: Final = 0.9
"""Share of a gateway's own persons that a count over all has at least: it is right to about one in a hundred."""
_LONG_AGO: Final = datetime.datetime.min.replace(tzinfo=datetime.UTC)
_SHARED: Final = frozenset({"sequence", "prefix", "mask", "hits"})
"""Detectors whose steps lie higher for a department than for one asker; `sweep` is a share."""


@dataclass(slots=True)
class _Scope:
    """One asker's, or the department's, day; the outcomes outlast it."""

    near: Neighbourhood
    outcomes: Outcomes = field(default_factory=Outcomes)
    tally: Tally = field(default_factory=Tally)
    seen: set[bytes] = field(default_factory=set)
    levels: dict[str, Level] = field(default_factory=dict)
    insisted: int = 0
    paid_until: datetime.datetime = _LONG_AGO

    @property
    def level(self) -> Level:
        return max(self.levels.values(), default=Level.NONE)


class DepartmentLimits:
    """One department. Times are given; every method may be called with a later one only.

    Args:
        department: its code.
        caps: of the gateway.
        calendar: gives the working days as they are known.

    Attributes:
        baseline: what is usual for it.
        trips: of the day; the first `MOST_TRIPS` are kept.
        lifted_by: who lifted its limits for the day; empty for nobody.
        elsewhere: distinct persons of the day over all gateways, as far as they are told.
        added: persons added since somebody emptied it; whoever counts over all gateways does.
        cap: distinct persons of a day.
    """

    def __init__(self, department: str, caps: Caps, calendar: Callable[[], WorkCalendar]) -> None:
        self.department = department
        self.baseline = Baseline()
        self.trips: list[Trip] = []
        self.lifted_by = ""
        self.elsewhere = 0
        self.added: list[bytes] = []
        self.cap = caps.department
        self._caps = caps
        self._calendar = calendar
        self._day = datetime.date.min
        self._whole = self._department_scope()
        self._judged: set[bytes] = set()
        self._askers: OrderedDict[str, _Scope] = OrderedDict()

    @property
    def day(self) -> datetime.date:
        """Day in Shanghai that is counted."""
        return self._day

    @property
    def tally(self) -> Tally:
        """Persons of the day, as this gateway counted them."""
        return self._whole.tally

    @property
    def persons(self) -> int:
        """Distinct persons of the day, those of other gateways included as far as they are told."""
        return max(len(self._whole.seen), self.elsewhere)

    @property
    def usual(self) -> float:
        """Persons of a usual day of this kind, worked or not."""
        return self.baseline.usual(working=self._calendar().is_working_day(self._day))

    @property
    def rate(self) -> float:
        """Share of persons with an outcome other than a pass that is usual for it."""
        return self._whole.outcomes.rate

    @rate.setter
    def rate(self, usual: float) -> None:
        self._whole.outcomes.rate = usual

    @property
    def level(self) -> Level:
        """The strongest that holds for the department or one of its askers."""
        strongest = max(scope.level for scope in (self._whole, *self._askers.values()))
        if not self._caps.act:
            strongest = min(strongest, Level.ALARM)
        return Level.NONE if self.lifted_by else strongest

    def turn(self, at: datetime.datetime) -> bool:
        """Begin the day of an instant, if it is a later one (1); return whether it was."""
        today = day_of(at)
        if today <= self._day:
            return False
        if self._day != datetime.date.min:
            calendar = self._calendar()
            while self._day < today:
                # A day without a question counts too; after a year of none nothing is left to learn.
                self.baseline.learn(self._whole.tally, working=calendar.is_working_day(self._day))
                self._whole.tally = Tally()
                self._day = max(self._day + datetime.timedelta(days=1), today - datetime.timedelta(days=366))
        self._day = today
        outcomes = self._whole.outcomes
        self._whole = self._department_scope()
        # Who found many with leave goes on tomorrow as ever; only what is usual for the department is kept of it. That
        # nobody is found for weeks is usual where few are listed: it is held against a day alone.
        self._whole.outcomes = Outcomes(outcomes.rate, hits=0.0 if self.lifted_by else outcomes.hits)
        self._askers.clear()
        self._judged.clear()
        self.added.clear()
        self.trips.clear()
        self.lifted_by, self.elsewhere = "", 0
        return True

    def ask(self, asker: Asker, persons: Iterable[Traits], at: datetime.datetime) -> GatewayError | None:
        """Take a question about natural persons; return why it may not be answered, `None` if it may.

        Returns:
            DAILY_CAP; OVERLOADED with the time to wait.
        """
        self.turn(at)
        own = self._asker(asker)
        fresh = list({each.person: each for each in persons if each.person not in own.seen}.values())
        if not fresh:
            return None  # (2)
        new = [each for each in fresh if each.person not in self._whole.seen]
        self.cap = asker.persons_per_day or self._caps.department
        holds = not self.lifted_by  # (3)
        refusal = self._refused(asker, own, len(fresh), len(new), at) if holds else None
        if refusal is not None:
            return refusal
        for scope, name, seen in ((own, asker.scope, fresh), (self._whole, _EVERYBODY, new)):
            self._look(asker, scope, name, seen, at)
            if holds and self._acts(scope) is Level.STOP:  # (7)
                # What one asker is stopped by is not the department's walk as well.
                return _stopped()
        own.seen.update(each.person for each in fresh)
        self._whole.seen.update(each.person for each in new)
        self.added += [each.person for each in new]
        return None

    def told(self, asker: Asker, outcomes: Iterable[tuple[bytes, bool]], at: datetime.datetime) -> None:
        """Take the outcomes for persons that were asked about: whether it was another than a pass.

        Each person's first outcome of the day counts.
        """
        self.turn(at)
        usual = self.usual
        scopes = ((self._asker(asker), asker.scope), (self._whole, _EVERYBODY))
        for person, hit in outcomes:
            if person in self._judged:
                continue
            self._judged.add(person)
            for scope, name in scopes:
                scope.outcomes.see(hit=hit, known=bool(self.lifted_by))
                scores = {"hits": scope.outcomes.hits}
                if len(self._whole.seen) > max(500.0, 2 * usual):
                    scores["misses"] = scope.outcomes.misses
                self._trip(asker, scope, name, scores, at)

    def restore(self, asker: Asker, person: bytes, at: datetime.datetime, *, hit: bool | None) -> None:
        """Take a person that a record says was asked about today; its number's parts are not known any more.

        Args:
            asker: who asked.
            person: keyed hash of the number.
            at: when.
            hit: whether the outcome was another than a pass; `None` where it counts for nothing.
        """
        for scope in (self._asker(asker), self._whole):
            if person not in scope.seen:
                scope.seen.add(person)
                self._count(scope, at)
                if hit is not None and person not in self._judged:
                    scope.outcomes.see(hit=hit)
        if hit is not None:
            self._judged.add(person)

    def hold(self, trip: Trip) -> None:
        """Take a trip of today that was kept."""
        scope = self._whole if trip.scope == _EVERYBODY else self._scope(trip.scope)
        scope.levels[trip.detector] = max(trip.level, scope.levels.get(trip.detector, Level.NONE))
        self.trips.append(trip)

    def count_elsewhere(self, number: int) -> None:
        """Take how many distinct persons all gateways count; where those of this one are lost, it adds them again."""
        self.elsewhere = max(number, self.elsewhere)
        if number < _COUNTED * len(self._whole.seen):
            self.added = list(self._whole.seen)

    def _asker(self, asker: Asker) -> _Scope:
        return self._scope(asker.scope)

    def _scope(self, name: str) -> _Scope:
        found = self._askers.get(name)
        if found is None:
            if len(self._askers) >= MOST_ASKERS:
                self._forget_one()
            # What is usual for the department is usual for those who ask for it.
            found = self._askers[name] = _Scope(Neighbourhood(512), Outcomes(self.rate))
        self._askers.move_to_end(name)
        return found

    def _forget_one(self) -> None:
        """Forget the asker that was quiet longest; not one that is held back, while there is another."""
        quiet = next((name for name, scope in self._askers.items() if not scope.levels), next(iter(self._askers)))
        del self._askers[quiet]

    @staticmethod
    def _department_scope() -> _Scope:
        return _Scope(Neighbourhood(4_096))

    def _acts(self, *scopes: _Scope) -> Level:
        return max(scope.level for scope in scopes) if self._caps.act else Level.NONE

    def _refused(self, asker: Asker, own: _Scope, fresh: int, new: int, at: datetime.datetime) -> GatewayError | None:
        """(4), (5)."""
        if self._acts(own, self._whole) is Level.STOP:
            return _stopped()
        # A grant that allows the department more allows in proportion more to the officer who brings the file.
        more = max(1.0, self.cap / self._caps.department) if self._caps.department else 1.0
        for scope, name, cap, would_be in (
            (own, asker.scope, int(self._caps.officer * more) if asker.officer else 0, len(own.seen) + fresh),
            (self._whole, _EVERYBODY, self.cap, self.persons + new),
        ):
            if cap and would_be > cap:
                self._trip(asker, scope, name, {"cap": would_be}, at, capped=True)
                return _stopped()
        waits = [
            (scope.paid_until - at).total_seconds()
            for scope in (own, self._whole)
            if self._acts(scope) is Level.THROTTLE
        ]
        if waits and max(waits) > 0:
            own.insisted += 1
            self._trip(asker, own, asker.scope, {"insistence": own.insisted}, at)
            message = "checks of natural persons are slowed down"
            return Unanswerable("OVERLOADED", message, retry_after_ms=str(int(max(waits) * 1000) + 1))
        for scope in (own, self._whole):
            if self._acts(scope) is Level.THROTTLE:
                scope.paid_until = at + datetime.timedelta(seconds=THROTTLED_SECONDS * fresh)
        return None

    def _look(self, asker: Asker, scope: _Scope, name: str, new: Sequence[Traits], at: datetime.datetime) -> None:
        """(6)."""
        worst: dict[str, float] = {}
        for each in new:
            self._count(scope, at)
            for detector, score in scope.near.see(each).items():
                worst[detector] = max(score, worst.get(detector, 0.0))
        if not name:
            working = self._calendar().is_working_day(self._day)
            worst.update(self.baseline.scores(scope.tally, at, working=working))
            # Steps are made for the usual cap: who is granted more may ask for more at once.
            worst["volume"] /= max(1.0, self.cap / _USUAL_CAP)
        self._trip(asker, scope, name, worst, at)

    def _count(self, scope: _Scope, at: datetime.datetime) -> None:
        scope.tally.hours[at.astimezone(SHANGHAI).hour] += 1
        scope.tally.off_hours += is_off(at, self._calendar())

    def _trip(
        self,
        asker: Asker,
        scope: _Scope,
        name: str,
        scores: Mapping[str, float],
        at: datetime.datetime,
        *,
        capped: bool = False,
    ) -> None:
        """(7): what reaches a further step than before today."""
        for detector, score in scores.items():
            factor = DEPARTMENT_FACTOR if not name and detector in _SHARED else 1
            level = Level.ALARM if capped else DETECTORS[detector].level(score / factor)
            if level <= scope.levels.get(detector, Level.NONE):
                continue
            scope.levels[detector] = level
            if len(self.trips) < MOST_TRIPS:
                self.trips.append(
                    Trip(
                        at=at,
                        department=self.department,
                        person=asker.person,
                        officer=asker.officer,
                        scope=name,
                        detector=detector,
                        level=level,
                        score=round(score, 2),
                        persons=scope.tally.persons,
                    )
                )


def _stopped() -> GatewayError:
    # The same for a cap and a stop: who walks learns nothing of what gave him away.
    return Refused(DAILY_CAP, "no further natural persons may be checked today; the agency can lift this")
