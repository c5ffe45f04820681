"""A ledger as the law and the design have it, in plain Python: what `tests/property/test_ledger_model.py` compares with.

Nothing here knows tables, batches, keys or views. A listing is what its file last said and what was done to it since;
everything else is computed from those, when asked. Rows are dicts of the columns of a list file.
"""

import datetime
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
ENDS = (EventKind.REMOVED, EventKind.REPAIRED, EventKind.REVOKED)


@dataclass
class Entry:
    """A listing. `told` are its events as (kind, instant from which it works), in the order of their recording."""

    id: str
    said: Row
    version: str
    recorded: datetime.date
    entered: Instant
    told: list[tuple[EventKind, Instant]] = field(default_factory=list)

    def stretch(self) -> list[tuple[EventKind, Instant]]:
        """The events since the last reinstatement."""
        back = [place for place, (kind, _) in enumerate(self.told) if kind is EventKind.REINSTATED]
        return self.told[back[-1] :] if back else self.told

    def at(self, *kinds: EventKind) -> list[Instant]:
        """Instants of events of the stretch."""
        return [at for kind, at in self.stretch() if kind in kinds]

    def last(self, *kinds: EventKind) -> EventKind | None:
        """Kind of the last event that is one of these."""
        return next((kind for kind, _ in reversed(self.told) if kind in kinds), None)

    @property
    def annulled(self) -> bool:
        return any(kind is EventKind.ANNULLED for kind, _ in self.told)

    @property
    def ended(self) -> bool:
        return self.annulled or bool(self.at(*ENDS))

    @property
    def stayed(self) -> bool:
        return self.last(EventKind.STAYED, EventKind.STAY_LIFTED) is EventKind.STAYED

    @property
    def objected(self) -> bool:
        return self.last(EventKind.OBJECTION_OPENED, EventKind.OBJECTION_CLOSED) is EventKind.OBJECTION_OPENED

    @property
    def stay_began(self) -> Instant:
        return next(at for kind, at in reversed(self.told) if kind is EventKind.STAYED)

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

    def pauses(self) -> Iterator[tuple[Instant, Instant | None]]:
        """Every time without effect: a stay until it is lifted, an end until the reinstatement that followed it."""
        for place, (kind, at) in enumerate(self.told):
            closes = {EventKind.STAYED: EventKind.STAY_LIFTED, **dict.fromkeys(ENDS, EventKind.REINSTATED)}.get(kind)
            if closes is not None:
                yield at, next((until for later, until in self.told[place:] if later is closes), None)

    def in_force(self, at: Instant, ends_with: EndsWith) -> bool:
        by_date = self.begins <= day_of(at) <= self.last_day(ends_with)
        paused = any(since <= at and (until is None or at < until) for since, until in self.pauses())
        return by_date and not self.annulled and not paused


@dataclass(frozen=True)
class Move:
    """When a kind of event is legal, and the instant it may not lie before; at which it may lie only if told so."""

    allowed: Callable[[Entry], bool]
    earliest: Callable[[Entry], Iterable[Instant]] = lambda entry: ()
    inclusive: bool = True


def reinstated(entry: Entry) -> list[Instant]:
    return entry.at(EventKind.REINSTATED)


KINDS = {
    EventKind.OBJECTION_OPENED: Move(lambda entry: not entry.objected),
    EventKind.OBJECTION_CLOSED: Move(lambda entry: entry.objected),
    EventKind.STAYED: Move(lambda entry: not entry.ended and not entry.stayed),
    EventKind.STAY_LIFTED: Move(lambda entry: entry.stayed, lambda entry: [entry.stay_began]),
    EventKind.REPAIRED: Move(lambda entry: not entry.ended, reinstated, inclusive=False),
    EventKind.REMOVED: Move(lambda entry: not entry.ended, reinstated, inclusive=False),
    EventKind.REVOKED: Move(lambda entry: not entry.at(EventKind.REVOKED), reinstated, inclusive=False),
    EventKind.ANNULLED: Move(lambda entry: True),
    EventKind.REINSTATED: Move(lambda entry: entry.ended, lambda entry: entry.at(*ENDS)),
    **dict.fromkeys((EventKind.LISTED, EventKind.AMENDED, EventKind.ERASED), Move(lambda entry: False)),
}
"""The whole law of events: a kind is one row. Nothing follows an annulment."""


@dataclass
class Step:
    """What a row, or its absence, is going to do. `base` is what the listing said when the row met it."""

    line: int
    kind: EventKind
    key: tuple[str, ...]
    row: Row
    base: str = ""
    at: Instant | None = None


@dataclass
class Plan:
    """A file that was read and not committed."""

    received: Instant
    steps: list[Step] = field(default_factory=list)
    bad: set[tuple[int, str]] = field(default_factory=set)
    rows: int = 0
    reasons: bool = False


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
        named = {self.ends_with(entry.said["list_type"], day) for day in self.known_from(since)}
        return entry.begins <= since and all(entry.last_day(each) < since for each in named)

    def refusal(self, entry: Entry, kind: EventKind, at: Instant) -> str:
        """Return the name of the refusal an event meets; empty where it is recorded."""
        move = KINDS[kind]
        if entry.annulled or not move.allowed(entry):
            return "TRANSITION_ILLEGAL"
        early = any(at < first or (at == first and not move.inclusive) for first in move.earliest(entry))
        return "ARGUMENT_INVALID" if early else ""

    # List files.

    def read(self, rows: Sequence[Row], received: Instant, complete: tuple[str, str, Instant] | None) -> Plan:
        """Meet the rows with what is known; of a complete list, (list type, source, as of) are told."""
        plan = Plan(received, rows=len(rows))
        told: dict[tuple[str, ...], str] = {}
        for line, row in enumerate(rows, 2):
            key, op, entry = key_of(row), row["op"], self.entries.get(key_of(row))
            if complete and (op == "D" or (row["list_type"], row["source"]) != complete[:2]):
                plan.bad.add((line, "op" if op == "D" else "other-list"))
            elif key in told:
                if told[key] != saying(row):
                    plan.bad.add((line, "duplicate-key"))
            elif entry is None and op == "D":
                plan.bad.add((line, "delete-unknown"))
            else:
                told[key] = saying(row)
                self._meet(plan, line, row, entry)
        for key, entry in self.entries.items() if complete else ():
            mine = (entry.said["list_type"], entry.said["source"]) == complete[:2] and key not in told
            late = max([entry.entered, *reinstated(entry)]) > complete[2]
            if mine and not late and not entry.ended:
                plan.steps.append(Step(0, EventKind.REMOVED, key, entry.said, saying(entry.said), complete[2]))
        return plan

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
            plan.steps.append(Step(line, EventKind.AMENDED, key, row, saying(entry.said)))

    def waits(self, plan: Plan, complete: bool) -> bool:
        """Whether another person must look first."""
        live = Counter(entry.said["list_type"] for entry in self.entries.values() if not entry.ended)
        added = Counter(step.row["list_type"] for step in plan.steps if step.kind is EventKind.LISTED)
        altered = Counter(
            step.row["list_type"] for step in plan.steps if step.kind is EventKind.AMENDED or step.at and not step.line
        )
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
        todo = []
        for step in plan.steps:
            entry = self.entries.get(step.key)
            if step.kind is EventKind.LISTED:
                if entry is not None:
                    raise Outdated
                todo.append((step, entry))
                continue
            assert entry is not None
            if entry.ended or (step.at and any(back > step.at for back in reinstated(entry))):
                # What happened since stands, and a file from before a reinstatement says nothing of the time after.
                if step.kind is EventKind.AMENDED:
                    plan.bad.add((step.line, "ended-not-resurrected"))
                continue
            stale = step.kind is EventKind.AMENDED and older(step.row["source_version"], entry.version)
            if stale or saying(entry.said) != step.base:
                raise Outdated
            todo.append((step, entry))
        self.revision += 1
        for step, entry in todo:
            if entry is None:
                number = f"{batch << 32 | step.line:016x}"
                entry = Entry(number, step.row, step.row["source_version"], day_of(plan.received), now)
                self.entries[step.key] = entry
            elif step.kind is EventKind.AMENDED:
                entry.said, entry.version = step.row, step.row["source_version"] or entry.version
            entry.told.append((step.kind, max([step.at or now, *(back + TICK for back in reinstated(entry) if step.at)])))


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
    turns = [start_of(day) for day in days] + [at for _, at in entry.told]
    return {at for turn in turns for at in (turn, turn - TICK, turn + TICK)}


def copied(model: Model) -> Model:
    """A model of its own."""
    entries = {key: _copy(entry) for key, entry in model.entries.items()}
    return Model(entries, list(model.editions), model.revision)


def _copy(entry: Entry) -> Entry:
    fields: dict[str, Any] = {**vars(entry), "told": list(entry.told)}
    return Entry(**fields)
