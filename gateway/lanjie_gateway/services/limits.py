"""Limits on asking about natural persons, for all workers of this gateway (Art. 39, 40, 43).

Control holds the counts: a worker asks before it answers about persons, so that no share of a walk is out of sight, and
a worker that starts anew forgets nothing. `domain.limits` has the rules.

1. A new process begins with what today's inquiry records say, and with what was tripped and lifted today.
2. Every trip is an inquiry record of its own (kind ``trip``), a line of the log and a count; it names no subject.
3. A person of the agency lifts a department's limits for the day, with reason and document, and leaves a record
   (kind ``lift``).
4. Distinct persons are counted over all gateways on one Redis, and told again where it has lost them; without it each
   counts for itself.
"""

import asyncio
import contextlib
import datetime
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import structlog

from lanjie_gateway.adapters.feed_hub import Ask, Tell
from lanjie_gateway.adapters.ledger import Ledger, LedgerThread, LimitDay
from lanjie_gateway.adapters.person_counts import PersonCounts
from lanjie_gateway.domain import packed
from lanjie_gateway.domain.access import Principal, Role
from lanjie_gateway.domain.askers import Asker, Caps, Trip, granted_limits, trip_dict, trip_of
from lanjie_gateway.domain.detectors import Tally, Traits, traits
from lanjie_gateway.domain.errors import GatewayError, invalid_argument, not_found
from lanjie_gateway.domain.limits import DepartmentLimits
from lanjie_gateway.services.own_records import OwnRecords
from lanjie_matcher.civil_time import day_of, start_of
from lanjie_matcher.decide import Reason
from lanjie_matcher.fingerprints import IndexKey
from lanjie_matcher.identifiers import PERSON_KINDS, Identifier
from lanjie_matcher.workdays import WorkCalendar

SHARE_SECONDS: Final = 0.25
KEEP_SECONDS: Final = 1.0
LOOK_SECONDS: Final = 5.0
"""How long a refusal may rest on what was known before another host lifted it."""
PAGE: Final = 5_000
MAX_REASON: Final = 500
MAX_DOCUMENT: Final = 200
_PASS: Final = "PASS"
_NOTHING_FOUND_OUT: Final = Reason.CATALOGUE_MISSING.name
_NOT_LOOKED_UP: Final = Reason.PERSON_FILE.name
_UNTOLD: Final = frozenset({"report", "reading"})
"""Kinds of records whose outcome no detector looks at; see `counting`."""
_log = structlog.get_logger("lanjie.limits")


class LimitService:
    """Counts persons and refuses.

    Args:
        ledger: the ledger's thread.
        load: brings records that workers have written into the ledger.
        calendar: gives the working days as they are known.
        clock: aware instants.
        caps: of the gateway.
        counts: over all gateways; `None` for this one alone.

    Attributes:
        tripped: trips since the start, by department and detector.
    """

    def __init__(
        self,
        ledger: LedgerThread,
        load: Callable[[], Awaitable[object]],
        calendar: Callable[[], WorkCalendar],
        clock: Callable[[], datetime.datetime],
        *,
        caps: Caps,
        counts: PersonCounts | None = None,
    ) -> None:
        self.tripped: Counter[tuple[str, str]] = Counter()
        self._ledger = ledger
        self._load = load
        self._calendar = calendar
        self._clock = clock
        self._caps = caps
        self._counts = counts
        self._departments: dict[str, DepartmentLimits] = {}
        self._changed: set[str] = set()
        self._unshared: set[str] = set()
        self._new: list[Trip] = []
        self._keeping = asyncio.Lock()
        self._looked: dict[str, datetime.datetime] = {}
        self._records = OwnRecords(ledger, clock)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin with what is known of today (1)."""
        now = self._clock()
        today = day_of(now)
        await self._load()
        for row in await self._ledger.call(Ledger.limit_days):
            limits = self._of(row.department)
            limits.turn(min(start_of(datetime.date.fromordinal(row.day)), now))
            if row.day >= today.toordinal():
                limits.lifted_by = row.lifted_by
                for values in row.trips:
                    limits.hold(trip_of(row.department, values))
            else:
                limits.tally.hours[:] = row.hours
                limits.tally.off_hours = row.off_hours
            limits.rate = row.rate or limits.rate
        for limits in self._departments.values():
            limits.turn(now)
        await self._restore(start_of(today))
        self._tasks = [asyncio.create_task(self._every(KEEP_SECONDS, self.keep))]
        if self._counts is not None:
            self._tasks.append(asyncio.create_task(self._every(SHARE_SECONDS, self.share)))

    async def close(self) -> None:
        """Stop, after what is new was kept."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(GatewayError):
            await self.keep()

    async def ask(self, asker: Asker, persons: Sequence[Traits]) -> GatewayError | None:
        """Return why a question about natural persons may not be answered; `None` if it may."""
        limits, now = self._of(asker.department), self._clock()
        refusal = self._heard(limits, lambda: limits.ask(asker, persons, now))
        if refusal is not None and await self._lifted_elsewhere(limits, now):
            refusal = self._heard(limits, lambda: limits.ask(asker, persons, now))
        return refusal

    def told(self, asker: Asker, outcomes: Sequence[tuple[bytes, bool]]) -> None:
        """Take the outcomes for persons that were asked about: whether it was another than a pass."""
        limits = self._of(asker.department)
        self._heard(limits, lambda: limits.told(asker, outcomes, self._clock()))

    async def lift(self, department: str, reason: str, document: str, principal: Principal) -> str:
        """Lift the limits of a department until the end of the day in Shanghai (3); return the id of the record.

        Raises:
            Refused: NOT_PERMITTED, ARGUMENT_INVALID; NOT_FOUND where it has not asked about anybody today.
            Unanswerable: LEDGER_UNAVAILABLE.
        """
        principal.require(Role.AGENCY)
        for field, value, most in (("reason", reason, MAX_REASON), ("document", document, MAX_DOCUMENT)):
            if not value.strip() or len(value) > most:
                raise invalid_argument(field, "length", f"{field} has 1 to {most} characters")
        if department not in self._departments:
            # It may have asked another host alone.
            rows = await self._ledger.call(Ledger.limit_days)
            if all(row.department != department for row in rows):
                raise not_found("no such department has asked about natural persons")
        limits = self._of(department)
        limits.turn(self._clock())
        day = limits.day
        record_id = await self._records.leave(
            "lift",
            "LIFTED",
            department=department,
            person=principal.person,
            fields={
                "reason": reason,
                "document": document,
                "persons": limits.persons,
                "level": limits.level.name,
                "by": principal.department,
            },
        )
        if limits.day == day:
            limits.lifted_by = principal.actor
        await self._ledger.call(Ledger.keep_limit_days, [_row(limits)])
        _log.warning("limits_lifted", department=department, by=principal.actor)
        return record_id

    def get(self, principal: Principal, department: str = "") -> list[DepartmentLimits]:
        """Return the limits of all departments that asked about persons, or of one.

        Raises:
            Refused: NOT_PERMITTED; NOT_FOUND where one is asked for and has not asked about anybody.
        """
        principal.require(Role.AGENCY)
        if department and department not in self._departments:
            raise not_found("no such department has asked about natural persons")
        return [each for each in self.today() if department in ("", each.department)]

    def day(self) -> datetime.date:
        """Return the day in Shanghai that is counted."""
        return day_of(self._clock())

    def today(self) -> list[DepartmentLimits]:
        """Return the limits of all departments that asked about persons, by code, as of now."""
        now = self._clock()
        for each in self._departments.values():
            each.turn(now)
        return [each for _, each in sorted(self._departments.items())]

    async def keep(self) -> None:
        """Write what is new: records of trips (2), and the numbers of the day.

        Raises:
            Unanswerable: LEDGER_UNAVAILABLE; nothing is lost, the next time brings it.
        """
        async with self._keeping:  # Whoever came second would tell of the same trip again.
            await self._keep()

    async def _keep(self) -> None:
        while self._new:
            trip = self._new[0]
            await self._records.leave(
                "trip",
                trip.level.name,
                department=trip.department,
                person=trip.person,
                fields=trip_dict(trip),
                at=trip.at,
            )
            self._new.pop(0)
        changed, self._changed = self._changed, set()
        try:
            if changed:
                rows = [_row(self._departments[name]) for name in changed]
                await self._ledger.call(Ledger.keep_limit_days, rows)
        except GatewayError:
            self._changed |= changed
            raise

    async def share(self) -> None:
        """Tell the others of new persons, and hear how many there are in all (4)."""
        if self._counts is None:
            return
        unshared, self._unshared = self._unshared, set()
        for name in unshared:
            limits = self._departments[name]
            day, added = limits.day, limits.added[:]
            number = await self._counts.add(name, day, added)
            if number is None:
                self._unshared.add(name)
            elif limits.day == day:
                del limits.added[: len(added)]
                limits.count_elsewhere(number)
                if limits.added:
                    self._unshared.add(name)

    def _of(self, department: str) -> DepartmentLimits:
        found = self._departments.get(department)
        if found is None:
            found = self._departments[department] = DepartmentLimits(department, self._caps, self._calendar)
        return found

    def _heard(self, limits: DepartmentLimits, act: Callable[[], GatewayError | None]) -> GatewayError | None:
        limits.turn(self._clock())
        before = len(limits.trips)
        refusal = act()
        for trip in limits.trips[before:]:
            self._new.append(trip)
            self.tripped[trip.department, trip.detector] += 1
            _log.warning(
                "limit_trip",
                department=trip.department,
                detector=trip.detector,
                level=trip.level.name,
                persons=trip.persons,
                whole=not trip.scope,
            )
        self._changed.add(limits.department)
        if self._counts is None:
            limits.added.clear()
        else:
            self._unshared.add(limits.department)
        return refusal

    async def _lifted_elsewhere(self, limits: DepartmentLimits, now: datetime.datetime) -> bool:
        """Whether another host has lifted the limits since; asked for now and then only."""
        looked = self._looked.get(limits.department)
        if looked is not None and (now - looked).total_seconds() < LOOK_SECONDS:
            return False
        self._looked[limits.department] = now
        day = limits.day
        with contextlib.suppress(GatewayError):
            found = await self._ledger.call(Ledger.limits_lifted_by, limits.department, day.toordinal())
            if limits.day == day:
                limits.lifted_by = limits.lifted_by or found
        return bool(limits.lifted_by)

    async def _restore(self, since: datetime.datetime) -> None:
        """Count who was asked about today, from the records (1), newest first."""
        before: int | None = None
        while True:
            records, before = await self._ledger.call(Ledger.answered_since, packed.micros(since), before, PAGE)
            for record in records:
                # What was altered is for the audit to say: it keeps no counter waiting.
                with contextlib.suppress(KeyError, TypeError, ValueError):
                    self._restore_one(record)
            if before is None:
                return
            await asyncio.sleep(0)

    def _restore_one(self, record: bytes) -> None:
        if b'"id_kind":"uscc"' in record or b'"id_kind":"org_code"' in record:
            return
        fields = json.loads(record)
        if fields.get("id_kind") in PERSON_KINDS and fields.get("reason") != _NOT_LOOKED_UP:
            asker = Asker(department=fields["department"], person=fields["person"], officer=fields.get("officer", ""))
            limits, at = self._of(asker.department), datetime.datetime.fromisoformat(fields["at"])
            limits.turn(self._clock())
            told = fields.get("kind") not in _UNTOLD and fields.get("reason") != _NOTHING_FOUND_OUT
            hit = fields["outcome"] != _PASS if told else None
            limits.restore(asker, bytes.fromhex(fields["subject"]), at, hit=hit)

    async def _every(self, seconds: float, act: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                await act()
            except Exception as error:  # noqa: BLE001  counters go on; the next turn tries again
                _log.error("limits_not_kept", error=type(error).__name__)


def counting(limits: LimitService, key: IndexKey) -> Callable[[Principal, Sequence[Identifier]], Awaitable[None]]:
    """Return how control itself counts the natural persons among those it is asked about; what refuses is raised.

    Outcomes are not told: who comes for a report of himself is often listed.
    """

    async def count(principal: Principal, subjects: Sequence[Identifier]) -> None:
        persons = [traits(each, key) for each in subjects if each.is_person]
        if not persons:
            return
        cap = granted_limits(principal).persons_per_day
        asker = Asker(department=principal.department, person=principal.person, persons_per_day=cap)
        refusal = await limits.ask(asker, persons)
        if refusal is not None:
            raise refusal

    return count


def frames_of(limits: LimitService) -> tuple[Ask, Tell]:
    """Return how the feed hands a worker's frames to the limits."""

    async def ask(asker: Sequence[Any], persons: Sequence[Any]) -> GatewayError | None:
        return await limits.ask(_asker(*asker), [Traits(*each) for each in persons])

    def tell(asker: Sequence[Any], outcomes: Sequence[Any]) -> None:
        limits.told(_asker(*asker), [(person, bool(hit)) for person, hit in outcomes])

    return ask, tell


def _asker(department: str, person: str, officer: str, persons_per_day: int) -> Asker:
    return Asker(department=department, person=person, officer=officer, persons_per_day=persons_per_day)


def _row(limits: DepartmentLimits) -> LimitDay:
    tally: Tally = limits.tally
    return LimitDay(
        department=limits.department,
        day=limits.day.toordinal(),
        off_hours=tally.off_hours,
        hours=list(tally.hours),
        rate=limits.rate,
        trips=[trip_dict(each) for each in limits.trips],
        lifted_by=limits.lifted_by,
    )
