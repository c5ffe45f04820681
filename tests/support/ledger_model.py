"""A ledger as the law and the design have it, in plain Python; `tests/property/test_ledger_model.py` compares with it.

Nothing here knows tables, batches, keys or views. A listing is what its file last said and what was done to it since;
everything else is computed from those, when asked. Rows are dicts of the columns of a list file.
"""

import copy
import datetime
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lanjie_gateway.domain.events import EventKind
from lanjie_matcher.civil_time import day_of, start_of
from lanjie_matcher.listings import EndsWith

DAY = datetime.timedelta(days=1)
TICK = datetime.timedelta(microseconds=1)
ALTERED, ADDED, FLOOR, BAD = 0.34, 0.5, 3, 0.34
"""What makes a file wait: as in design.md 8, but in the measure of a world of ten listings."""
Instant = datetime.datetime
Row = Mapping[str, str]
Detail = Mapping[str, Any]
NOTHING: Detail = {}


Pause = tuple[Instant, Instant | None]


@dataclass
class Entry:
    """A listing: what its file last said, what was done to it since, and what is still to be done about it.

    Attributes:
        told: its events as (kind, instant from which it works), in the order of their recording.
        ends: what has ended it since it was last reinstated, at `back`.
        gaps: the times between an end and a reinstatement.
        clocks: what somebody has to do; `reviews` are the revisions that a second person has to look at.
        amended: when it was last corrected, by a file or by hand.
        stated: the day that the complete list stated which said so.
        corrected: since its objection was opened. `asked`: the withdrawal of publicity, since `back`.
        taken: how often files have corrected it.
    """

    id: str
    said: Row
    version: str
    recorded: datetime.date
    entered: Instant
    told: list[tuple[EventKind, Instant]] = field(default_factory=list)
    ends: list[tuple[EventKind, Instant]] = field(default_factory=list)
    gaps: list[Pause] = field(default_factory=list)
    stays: list[Pause] = field(default_factory=list)
    back: Instant | None = None
    amended: Instant | None = None
    stated: datetime.date | None = None
    annulled: bool = False
    erased: bool = False
    objected: bool = False
    corrected: bool = False
    asked: bool = False
    taken: int = 0
    clocks: set[str] = field(default_factory=set)
    reviews: list[int] = field(default_factory=list)

    @property
    def ended(self) -> bool:
        return self.annulled or bool(self.ends)

    def newer(self, as_of: Instant, version: str) -> bool:
        """Whether what is said of it is from after the instant of a complete list whose row has a version."""
        since = (self.amended or self.entered) > as_of and (self.stated is None or self.stated > day_of(as_of))
        return since and not older(self.version, version)

    def base(self, kind: EventKind) -> object:
        """What an act that waits rests on: a correction on the facts, what undoes an end or a stay on those."""
        ends = sorted(self.ends), self.back, self.annulled, list(self.stays)
        return self.taken if kind is EventKind.AMENDED else ends

    def stay(self, at: Instant) -> int | None:
        """Place of the stay that has not ended at an instant; once the listing has ended, of one without an end."""
        return next((p for p, (_, end) in enumerate(self.stays) if not end or (at < end and not self.ended)), None)

    def tell(
        self, kind: EventKind, at: Instant, detail: Detail = NOTHING, *, by_hand: int = 0, today: Any = None
    ) -> None:
        """Take an event that is legal; `by_hand` is its revision where a person ordered it, on the day `today`."""
        self.told.append((kind, at))
        deleted = detail.get("outcome") == "deleted"
        self.clocks -= set(CLOSES.get(kind, ())) | (set(CLOSES[EventKind.ANNULLED]) if deleted else set())
        self.corrected = kind is EventKind.AMENDED or (self.corrected and kind is not EventKind.OBJECTION_OPENED)
        if kind in OPENS:
            self.clocks.add(OPENS[kind])
        if kind is EventKind.OBJECTION_OPENED or kind is EventKind.OBJECTION_CLOSED:
            self.objected = kind is EventKind.OBJECTION_OPENED
        if kind is EventKind.ANNULLED or deleted:
            self.annulled, self.objected = True, False
        if kind is EventKind.STAYED:
            until = detail.get("until")
            self.stays.append((at, start_of(datetime.date.fromisoformat(until) + DAY) if until else None))
        if kind is EventKind.STAY_LIFTED:
            place = self.stay(at) or 0
            self.stays[place] = (self.stays[place][0], at)
        if kind in ENDS:
            self.ends.append((kind, at))
        if kind is EventKind.REINSTATED:
            self.gaps.append((min(end for _, end in self.ends), at))
            self.back, self.ends, self.asked = at, [], False
        if (kind in UNPUBLISHES or deleted) and not self.asked and (self.day("publicity_until") or today) >= today:
            self.clocks.add("publicity")
            self.asked = True
        if by_hand and (kind in (*ENDS, EventKind.ANNULLED, EventKind.STAYED) or deleted):
            self.reviews.append(by_hand)

    def day(self, column: str) -> datetime.date | None:
        return datetime.date.fromisoformat(self.said[column]) if self.said.get(column) else None

    @property
    def begins(self) -> datetime.date:
        known = [day for column in ("listed_on", "served_date") if (day := self.day(column))]
        return max(known) if known else self.day("decision_date") or self.recorded

    def last_day(self, ends_with: EndsWith) -> datetime.date:
        """The last day: of retention, or the one that the list type names."""
        named = {EndsWith.TERM: "expires_on", EndsWith.PUBLICITY: "publicity_until"}.get(ends_with, "")
        return min(self.day(column) or datetime.date.max for column in ("retention_until", named))

    def in_force(self, at: Instant, ends_with: EndsWith) -> bool:
        by_date = self.begins <= day_of(at) <= self.last_day(ends_with)
        pauses = [*self.stays, *self.gaps, *((end, None) for _, end in self.ends)]
        paused = any(since <= at and (until is None or at < until) for since, until in pauses)
        return by_date and not self.annulled and not paused


ENDS = (EventKind.REMOVED, EventKind.REPAIRED, EventKind.REVOKED)
UNPUBLISHES = (EventKind.REPAIRED, EventKind.REVOKED, EventKind.ANNULLED)
OPENS = {EventKind.OBJECTION_OPENED: "objection", EventKind.NOTICED: "notice", EventKind.REPAIR_APPLIED: "repair"}
CLOSES = {
    EventKind.OBJECTION_CLOSED: ("objection",),
    EventKind.AMENDED: ("notice",),
    EventKind.REVOKED: ("notice", "repair"),
    EventKind.REMOVED: ("repair",),
    EventKind.REPAIRED: ("repair",),
    EventKind.REPAIR_REFUSED: ("repair",),
    EventKind.ANNULLED: ("objection", "notice", "repair"),
    EventKind.PUBLICITY_WITHDRAWN: ("publicity",),
    EventKind.REINSTATED: ("publicity",),
}
"""Which events begin and end the clocks of the law."""


@dataclass(frozen=True)
class Move:
    """When a kind of event is legal, and the instants it may not lie before; nor at, if not `inclusive`."""

    allowed: Callable[[Entry, Instant], object]
    earliest: Callable[[Entry, Instant], Iterable[Instant | None]] = lambda entry, at: ()
    inclusive: bool = True


def running(entry: Entry, at: Instant) -> bool:
    return not entry.ended


def back(entry: Entry, at: Instant) -> list[Instant | None]:
    return [] if entry.ended else [entry.back]


_STAY = Move(lambda entry, at: running(entry, at) and entry.stay(at) is None)
_LIFT = Move(lambda entry, at: entry.stay(at) is not None, lambda e, at: [e.stays[e.stay(at) or 0][0], *back(e, at)])
KINDS = {
    EventKind.AMENDED: Move(running),
    EventKind.OBJECTION_OPENED: Move(lambda entry, at: not entry.objected),
    EventKind.OBJECTION_CLOSED: Move(lambda entry, at: entry.objected),
    EventKind.STAYED: _STAY,
    EventKind.STAY_LIFTED: _LIFT,
    EventKind.REPAIRED: Move(running, back, inclusive=False),
    EventKind.REMOVED: Move(running, back, inclusive=False),
    EventKind.REVOKED: Move(
        lambda e, at: all(kind is not EventKind.REVOKED for kind, _ in e.ends), back, inclusive=False
    ),
    EventKind.ANNULLED: Move(lambda entry, at: True),
    EventKind.REINSTATED: Move(lambda entry, at: entry.ended, lambda entry, at: [end for _, end in entry.ends]),
    EventKind.NOTICED: Move(lambda entry, at: running(entry, at) and "notice" not in entry.clocks),
    EventKind.REPAIR_APPLIED: Move(lambda entry, at: running(entry, at) and "repair" not in entry.clocks),
    EventKind.REPAIR_REFUSED: Move(lambda entry, at: running(entry, at) and "repair" in entry.clocks),
    EventKind.REVIEWED: Move(lambda entry, at: entry.reviews),
    EventKind.PUBLICITY_WITHDRAWN: Move(lambda entry, at: entry.ended and "publicity" in entry.clocks),
    **dict.fromkeys((EventKind.LISTED, EventKind.ERASED), Move(lambda entry, at: False)),
}
"""The law of events: a kind is one row."""
AFTER_ANNULMENT = (EventKind.REVIEWED, EventKind.PUBLICITY_WITHDRAWN)


@dataclass
class Step:
    """What a row, or its absence, will do. `base` is what the listing says then, `version` the one it will have."""

    line: int
    kind: EventKind
    key: tuple[str, ...]
    row: Row
    base: str = ""
    at: Instant | None = None
    version: str = ""


@dataclass
class Plan:
    """A file that was read and not committed."""

    received: Instant
    steps: list[Step] = field(default_factory=list)
    bad: set[tuple[int, str]] = field(default_factory=set)
    told: dict[tuple[str, ...], str] = field(default_factory=dict)
    rows: int = 0
    as_of: Instant | None = None


class Outdated(Exception):
    """The file no longer fits what is known."""


@dataclass
class Model:
    """All listings by key, and the editions as (first day, revision, what ends each list type)."""

    entries: dict[tuple[str, ...], Entry] = field(default_factory=dict)
    editions: list[tuple[datetime.date, int, Mapping[str, EndsWith]]] = field(default_factory=list)
    revision: int = 0

    def ends_with(self, list_type: str, day: datetime.date) -> EndsWith:
        return max((each for each in self.editions if each[0] <= day), key=lambda each: each[:2])[2][list_type]

    def known_from(self, day: datetime.date) -> list[datetime.date]:
        """That day, and the first days of the editions after it."""
        return [day, *(first for first, _, _ in self.editions if first > day)]

    def by_id(self) -> dict[str, Entry]:
        return {entry.id: entry for entry in self.entries.values()}

    def may_act(self, entry: Entry, since: datetime.date) -> bool:
        """Whether a listing may be in force on a day or later, by what is known now: it must be in the view."""
        kind = entry.said["list_type"]
        days = [max(each, entry.begins) for each in self.known_from(since)]
        return not entry.ended and any(day <= entry.last_day(self.ends_with(kind, day)) for day in days)

    def past(self, entry: Entry, since: datetime.date) -> bool:
        """Whether whatever may be said to end it, from a day on, lies before that day."""
        kind = entry.said["list_type"]
        # An edition that another one has replaced before its first day counts: it keeps in the view, that is all.
        named = {self.ends_with(kind, since), *(ends[kind] for first, _, ends in self.editions if first > since)}
        return entry.begins <= since and all(entry.last_day(each) < since for each in named)

    def refusal(self, entry: Entry, kind: EventKind, at: Instant, detail: Detail) -> str:
        """Return the name of the refusal an event meets; empty where it is recorded."""
        if entry.erased:
            return "NOT_FOUND"
        move = KINDS[kind]
        if (entry.annulled and kind not in AFTER_ANNULMENT) or not move.allowed(entry, at):
            return "TRANSITION_ILLEGAL"
        earliest = [first for first in move.earliest(entry, at) if first is not None]
        if any(at < first or (at == first and not move.inclusive) for first in earliest):
            return "ARGUMENT_INVALID"
        return "TRANSITION_ILLEGAL" if detail.get("outcome") == "corrected" and not entry.corrected else ""

    def erasable(self, entry: Entry, today: datetime.date) -> bool:
        """Whether a listing whose retention has ended is erased: a whole day later, and when nothing is left to do."""
        last = entry.day("retention_until")
        return not entry.erased and last is not None and last < today - DAY and not entry.clocks and not entry.reviews

    # List files.

    def read(
        self, rows: Sequence[Row], received: Instant, complete: tuple[str, str] | None, as_of: Instant | None = None
    ) -> Plan:
        """Meet the rows with what is known; of a complete list, (list type, source) and its instant are told."""
        plan = Plan(received, rows=len(rows), as_of=as_of)
        for line, row in enumerate(rows, 2):
            key, op, entry = key_of(row), row["op"], self.entries.get(key_of(row))
            if complete and (op == "D" or (row["list_type"], row["source"]) != complete):
                plan.bad.add((line, "op" if op == "D" else "other-list"))
            elif key in plan.told:
                if plan.told[key] != saying(row):
                    plan.bad.add((line, "duplicate-key"))
            elif entry is None and op == "D":
                plan.bad.add((line, "delete-unknown"))
            else:
                plan.told[key] = saying(row)
                self._meet(plan, line, row, entry)
        return plan

    def end_absent(self, plan: Plan, list_type: str, source: str, as_of: Instant) -> None:
        """End what a complete list does not hold, once all of it was read."""
        for key, entry in self.entries.items():
            mine = (entry.said["list_type"], entry.said["source"]) == (list_type, source) and key not in plan.told
            late = max(entry.entered, entry.back or entry.entered, entry.amended or entry.entered) > as_of
            if mine and not late and not entry.ended:
                plan.steps.append(Step(0, EventKind.REMOVED, key, entry.said, saying(entry.said), as_of))

    def _meet(self, plan: Plan, line: int, row: Row, entry: Entry | None) -> None:
        key = key_of(row)
        if entry is None:
            plan.steps.append(Step(line, EventKind.LISTED, key, row))
        elif row["op"] == "D":
            if not entry.ended:
                plan.steps.append(Step(line, EventKind.REMOVED, key, row, saying(entry.said), plan.received))
        elif entry.ended:
            plan.bad.add((line, "ended-not-resurrected"))
        elif older(row["source_version"], entry.version):
            plan.bad.add((line, "stale-version"))
        elif saying(row) != saying(entry.said):
            if plan.as_of and entry.newer(plan.as_of, row["source_version"]):
                plan.bad.add((line, "stale-version"))
                return
            version = row["source_version"] or entry.version
            plan.steps.append(Step(line, EventKind.AMENDED, key, row, saying(entry.said), version=version))

    def waits(self, plan: Plan, *, complete: bool) -> bool:
        """Whether another person must look first."""
        live = Counter(entry.said["list_type"] for entry in self.entries.values() if not entry.ended)
        added = Counter(step.row["list_type"] for step in plan.steps if step.kind is EventKind.LISTED)
        altering = [step for step in plan.steps if step.kind is EventKind.AMENDED or (step.at and not step.line)]
        altered = Counter(step.row["list_type"] for step in altering)
        stood = [(step, self.entries[step.key].said["list_type"]) for step in altering]
        altered += Counter(code for step, code in stood if code != step.row["list_type"])
        if not added and not altered and plan.steps:
            return False
        return (
            any(count > ALTERED * live[code] for code, count in altered.items())
            or any(live[code] and count > max(FLOOR, ADDED * live[code]) for code, count in added.items())
            or len(plan.bad) > BAD * plan.rows
            or (complete and bool(plan.bad))
        )

    def commit(self, plan: Plan, now: Instant, batch: int) -> None:
        """Carry a plan out. Raises `Outdated`, with nothing changed."""
        todo = [step for step in plan.steps if self._still(plan, step)]
        self.revision += 1
        for step in todo:
            if step.kind is EventKind.LISTED:
                number = f"{batch << 32 | step.line:016x}"
                made = Entry(number, step.row, step.row["source_version"], day_of(plan.received), now)
                self.entries[step.key] = made
            entry, at = self.entries[step.key], step.at or now
            if step.kind is EventKind.AMENDED:
                entry.said, entry.version, entry.amended = step.row, step.version, now
                entry.taken += 1
            if step.kind in {EventKind.LISTED, EventKind.AMENDED}:
                entry.stated = day_of(plan.as_of) if plan.as_of else None
            entry.tell(step.kind, max(at, entry.back + TICK) if step.at and entry.back else at)

    def _still(self, plan: Plan, step: Step) -> bool:
        """Whether a step is still to be done: what happened to its listing since the file was read stands."""
        entry = self.entries.get(step.key)
        if (entry is None) is not (step.kind is EventKind.LISTED):
            raise Outdated
        if entry is None:
            return True
        # What is from before a reinstatement says nothing of the time after.
        if entry.ended or (step.at and entry.back and entry.back > step.at):
            if step.kind is EventKind.AMENDED:
                plan.bad.add((step.line, "ended-not-resurrected"))
            return False
        stale = step.kind is EventKind.AMENDED and older(step.version, entry.version)
        if stale or saying(entry.said) != step.base:
            raise Outdated
        return True


def key_of(row: Row) -> tuple[str, ...]:
    """What tells a listing: the source's own number; else subject, list type and decision; else those and the day."""
    if row["source_record_id"]:
        return row["source"], row["source_record_id"]
    subject = row["id_number"][8:17] if row["id_kind"] == "uscc" else row["id_number"]
    return subject, row["list_type"], row["decision_no"] or f"listed {row['listed_on']}"


def saying(row: Row) -> str:
    """What a row says; to remove says nothing."""
    return "" if row["op"] == "D" else repr(sorted((name, cell) for name, cell in row.items() if name != "op"))


def older(version: str, known: str) -> bool:
    """Whether a version of a record comes before another; without one, nobody can tell."""
    if version.isdecimal() and known.isdecimal():
        return int(version) < int(known)
    return bool(version and known) and version < known


def boundaries(entry: Entry, model: Model) -> set[Instant]:
    """Instants at which anything about a listing may turn, and those right before."""
    days = [entry.begins, *(first for first, _, _ in model.editions)]
    days += [last + DAY for each in EndsWith if (last := entry.last_day(each)) < datetime.date.max]
    turns = [start_of(day) for day in days] + [at for _, at in entry.told] + [end for _, end in entry.stays if end]
    return {at for turn in turns for at in (turn, turn - TICK, turn + TICK)}


def copied(model: Model) -> Model:
    """A model of its own."""
    return copy.deepcopy(model)
