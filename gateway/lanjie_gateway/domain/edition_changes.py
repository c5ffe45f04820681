"""What an edition changes: the law without it and with it, on each day on which something may change (Art. 45).

They are compared on every day on which any edition or list type begins or has just ended, from the edition's first day
until an edition of the same catalogue follows that is published already. Between two such days nothing changes, so the
answer is whole: `decide` answers a question differently, with the edition and without, only in a matter that is named
here for its day. Editions that say the same in other places are no change.
"""

import dataclasses
import datetime
import enum
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from lanjie_gateway.domain.bearing import Bearing, LawOfDay, law_of_day
from lanjie_matcher.catalogues import CatalogueSet, Edition, Effect, ListType, Matter, Measure, Trigger
from lanjie_matcher.subjects import SubjectKind

_DAY: Final = datetime.timedelta(days=1)
_SHOWN: Final = 120
"""Characters of a value that are shown."""
_MEASURE_FIELDS: Final = tuple(
    field.name
    for field in dataclasses.fields(Measure)
    # Whether it bears on a matter, through which list types, and instead of which other entry, is told by itself.
    if field.name not in {"code", "list_types", "matters", "repeats"}
)
_LIST_TYPE_FIELDS: Final = tuple(field.name for field in dataclasses.fields(ListType))
_MATTER_FIELDS: Final = tuple(field.name for field in dataclasses.fields(Matter) if field.name != "code")
_READ: Final = ("code", "ends_with", "level", "region", "shared_with", "source_max_age_days")
"""What `decide` reads of a list type."""


class Change(enum.StrEnum):
    """What becomes of a measure in a matter, or of a list type."""

    GAINED = "gained"
    LOST = "lost"
    CHANGED = "changed"


class Turn(enum.StrEnum):
    """Which way a measure changes; one that is only worded otherwise turns no way."""

    STRENGTHENED = "strengthened"
    WEAKENED = "weakened"
    WIDENED = "widened"
    NARROWED = "narrowed"


@dataclass(frozen=True, slots=True)
class Altered:
    """A field that says something else; values as text, long ones cut."""

    field: str
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureChange:
    """A measure that a matter gains, loses, or has in another form.

    Attributes:
        catalogue: ``id@edition`` it stands in; for a lost one, stood in.
        effect_before: `None` for a gained one.
        effect_after: `None` for a lost one.
        turns: which ways it changes.
        list_types: codes of listings through which it acts or acted.
        fields: what says something else.
    """

    change: Change
    catalogue: str
    code: str
    title: str
    effect_before: Effect | None
    effect_after: Effect | None
    list_types: tuple[str, ...]
    turns: tuple[Turn, ...] = ()
    fields: tuple[Altered, ...] = ()


@dataclass(frozen=True, slots=True)
class ScopeGrowth:
    """Listings that can have an effect in a matter now and could not before.

    A set of persons that a department holds for its matters must have grown by them before the edition takes effect. A
    listing that says only ``organisation`` may be of any kind: the number that is asked about tells.
    """

    list_type: str
    kinds: tuple[SubjectKind, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MatterChange:
    """What changes in one matter.

    Attributes:
        known_before: whether a catalogue in force knew it without the edition; if none does, answers are undetermined.
        known_after: the same with the edition.
        settings: what the matter's own definition says otherwise.
        read_otherwise: codes of listings that end otherwise, in other places, or are doubted at another age.
        grows: see `ScopeGrowth`.
        list_types: codes of all listings whose answers may change.
    """

    code: str
    name: str
    known_before: bool
    known_after: bool
    measures: tuple[MeasureChange, ...] = ()
    settings: tuple[Altered, ...] = ()
    read_otherwise: tuple[str, ...] = ()
    grows: tuple[ScopeGrowth, ...] = ()
    list_types: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ListTypeChange:
    """A list type that begins or ceases to be in force, or says something else."""

    change: Change
    code: str
    name: str
    fields: tuple[Altered, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """Days on which the same differs; `last_day` inclusive, `None` for no end in sight."""

    first_day: datetime.date
    last_day: datetime.date | None
    matters: tuple[MatterChange, ...]
    list_types: tuple[ListTypeChange, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EditionChanges:
    """What an edition changes.

    Attributes:
        new_matters: matters that nothing published before ever defined. Asking about them is an error until the commit;
            from the commit on it is answered, undetermined on days on which no catalogue in force knows them.
        periods: days on which something differs, in their order; days on which nothing does are in none.
    """

    new_matters: tuple[str, ...]
    periods: tuple[Period, ...]

    @property
    def list_types(self) -> frozenset[str]:
        """The codes of all listings whose answers may change."""
        return frozenset(code for period in self.periods for each in period.matters for code in each.list_types)


def edition_changes(published: Iterable[Edition], edition: Edition) -> EditionChanges:
    """Return what an edition changes among those published before it.

    Args:
        published: every edition published before.
        edition: the one to be published. It comes after all of them, whatever revision it states.
    """
    others = tuple(published)
    newest = max((each.revision for each in others), default=0)
    edition = dataclasses.replace(edition, revision=newest + 1)
    without, complete = CatalogueSet.of(others), CatalogueSet.of((*others, edition))
    days, end = _days(others, edition)
    periods: list[Period] = []
    for place, day in enumerate(days):
        matters, list_types = _compare(law_of_day(without, day), law_of_day(complete, day))
        following = days[place + 1] if place + 1 < len(days) else end
        last = following - _DAY if following is not None else None
        before = periods[-1] if periods else None
        if before is not None and (before.matters, before.list_types) == (matters, list_types):
            periods[-1] = dataclasses.replace(before, last_day=last)
        else:
            periods.append(Period(first_day=day, last_day=last, matters=matters, list_types=list_types))
    return EditionChanges(
        new_matters=tuple(code for code in complete.matter_codes() if not without.ever_knew(code)),
        periods=tuple(each for each in periods if each.matters or each.list_types),
    )


def _days(others: Sequence[Edition], edition: Edition) -> tuple[list[datetime.date], datetime.date | None]:
    """Return the days to compare, and the day from which an edition published before goes before this one."""
    first = edition.starts_on
    end = min((each.starts_on for each in others if each.id == edition.id and each.starts_on > first), default=None)
    days = {first}
    for each in (*others, edition):
        days.add(each.starts_on)
        days |= _following(each.effective_to)
        for list_type in each.list_types:
            days |= _following(list_type.effective_to)
            if list_type.effective_from is not None:
                days.add(list_type.effective_from)
    return sorted(day for day in days if first <= day and (end is None or day < end)), end


def _following(last: datetime.date | None) -> set[datetime.date]:
    # The last day there is has none after it.
    return {last + _DAY} if last is not None and last < datetime.date.max else set()


def _compare(before: LawOfDay, after: LawOfDay) -> tuple[tuple[MatterChange, ...], tuple[ListTypeChange, ...]]:
    found = (_matter_change(code, before, after) for code in sorted({*before.matters, *after.matters}))
    matters = tuple(each for each in found if each is not None)
    return matters, tuple(_list_type_changes(before.list_types, after.list_types))


def _matter_change(code: str, before: LawOfDay, after: LawOfDay) -> MatterChange | None:
    old, new = before.matters.get(code), after.matters.get(code)
    had, has = before.bearings.get(code, {}), after.bearings.get(code, {})
    measures = []
    for key in sorted({*had, *has}):
        change = _measure_change(had.get(key), has.get(key))
        if change is not None:
            measures.append(change)
    through = {name for each in (*had.values(), *has.values()) for name in each.through}
    otherwise = tuple(sorted(name for name in through if _read_otherwise(name, before, after)))
    settings = _altered(old, new, _MATTER_FIELDS) if old is not None and new is not None else ()
    known = old is not None, new is not None
    if not measures and not otherwise and not settings and known[0] == known[1]:
        return None
    named = new or old
    touched = {*otherwise, *(name for each in measures for name in each.list_types)}
    return MatterChange(
        code=code,
        name=_text(named.name) if named is not None else code,
        known_before=known[0],
        known_after=known[1],
        measures=tuple(measures),
        settings=settings,
        read_otherwise=otherwise,
        grows=_growth(before.scope(code), after.scope(code)),
        list_types=tuple(sorted(touched)),
    )


def _read_otherwise(code: str, before: LawOfDay, after: LawOfDay) -> bool:
    # One that comes into force or ceases to be gives measures to the matter, or takes them: that is told there.
    old, new = before.list_types.get(code), after.list_types.get(code)
    return old is not None and new is not None and any(getattr(old, name) != getattr(new, name) for name in _READ)


def _measure_change(before: Bearing | None, after: Bearing | None) -> MeasureChange | None:
    """Return how a measure differs in a matter on which it bears before, after, or both; `None` where it does not."""
    stands = after or before
    if stands is None:
        return None
    fields: tuple[Altered, ...] = ()
    turns: tuple[Turn, ...] = ()
    change = Change.GAINED if before is None else Change.LOST
    if before is not None and after is not None:
        change = Change.CHANGED
        fields = (
            *_altered(before.measure, after.measure, _MEASURE_FIELDS),
            *_altered(before.edition, after.edition, ("level", "region")),
        )
        if before.through != after.through:
            fields = (Altered("list_types", _text(before.through), _text(after.through)), *fields)
        if not fields:
            return None
        turns = _turns(before, after)
    return MeasureChange(
        change=change,
        catalogue=stands.edition.name,
        code=stands.measure.code,
        title=_text(stands.measure.title),
        effect_before=before.measure.effect if before is not None else None,
        effect_after=after.measure.effect if after is not None else None,
        list_types=tuple(sorted({name for each in (before, after) if each is not None for name in each.through})),
        turns=turns,
        fields=fields,
    )


def _turns(before: Bearing, after: Bearing) -> tuple[Turn, ...]:
    old, new = before.measure, after.measure
    found = set()
    if old.effect != new.effect:
        found.add(Turn.STRENGTHENED if new.effect > old.effect else Turn.WEAKENED)
    for less, more in (
        (before.through, after.through),
        (before.kinds, after.kinds),
        (old.roles, new.roles),
    ):
        found |= _way(narrower=bool(less - more), wider=bool(more - less))
    # Nobody named is anybody; nothing to wait for is no condition.
    anybody = not old.implementers, not new.implementers
    found |= _way(
        narrower=not anybody[1] and (anybody[0] or bool(old.implementers - new.implementers)),
        wider=not anybody[0] and (anybody[1] or bool(new.implementers - old.implementers)),
    )
    at_once = old.trigger is Trigger.LISTING, new.trigger is Trigger.LISTING
    found |= _way(
        narrower=not at_once[1] and (at_once[0] or bool(old.decision_kinds - new.decision_kinds)),
        wider=not at_once[0] and (at_once[1] or bool(new.decision_kinds - old.decision_kinds)),
    )
    terms = [math.inf if each.term_months is None else each.term_months for each in (old, new)]
    found |= _way(narrower=terms[1] < terms[0], wider=terms[1] > terms[0])
    return tuple(turn for turn in Turn if turn in found)


def _way(*, narrower: bool, wider: bool) -> set[Turn]:
    return {turn for turn, there in ((Turn.NARROWED, narrower), (Turn.WIDENED, wider)) if there}


def _growth(
    before: frozenset[tuple[str, SubjectKind]], after: frozenset[tuple[str, SubjectKind]]
) -> tuple[ScopeGrowth, ...]:
    kinds: dict[str, set[SubjectKind]] = {}
    for code, kind in after - before:
        kinds.setdefault(code, set()).add(kind)
    return tuple(
        ScopeGrowth(code, tuple(kind for kind in SubjectKind if kind in kinds[code])) for code in sorted(kinds)
    )


def _list_type_changes(before: Mapping[str, ListType], after: Mapping[str, ListType]) -> Iterable[ListTypeChange]:
    for code in sorted({*before, *after}):
        old, new = before.get(code), after.get(code)
        stands = new or old
        # An earlier name goes with its list type, unless it comes to name another one.
        named = {each.code for each in (old, new) if each is not None}
        if stands is None or (code not in named and len(named) == 1):
            continue
        fields = _altered(old, new, _LIST_TYPE_FIELDS) if old is not None and new is not None else ()
        change = Change.GAINED if old is None else Change.LOST if new is None else Change.CHANGED
        if fields or change is not Change.CHANGED:
            yield ListTypeChange(change=change, code=code, name=_text(stands.name), fields=fields)


def _altered(before: object, after: object, names: Iterable[str]) -> tuple[Altered, ...]:
    pairs = ((name, getattr(before, name), getattr(after, name)) for name in names)
    return tuple(Altered(name, _text(old), _text(new)) for name, old, new in pairs if old != new)


def _text(value: Any) -> str:
    """Return a value as the file has it, cut to what can be shown."""
    if value is None:
        text = ""
    elif isinstance(value, enum.IntEnum):
        text = value.name.lower()
    elif isinstance(value, frozenset):
        text = ", ".join(sorted(value))
    elif isinstance(value, tuple):
        text = ", ".join(value)
    else:
        text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
