"""Measure lists (措施清单, Art. 45-47) as `decide` reads them.

A catalogue is published in editions. Of one catalogue the edition whose time has come last is in force; an edition
acts from the later of its effective day and its publication, because an unpublished list has no effect (Art. 45).
Published again at a later revision, an edition gives way to its newer text like to any other successor.
"""

import datetime
import enum
import functools
import itertools
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from lanjie_matcher.listings import EndsWith
from lanjie_matcher.regions import NO_OVERRIDES, covers
from lanjie_matcher.subjects import SubjectKind

_P = ParamSpec("_P")
_T = TypeVar("_T")
_DAY: Final = datetime.timedelta(days=1)
_REMEMBERED: Final = 20_000
"""What a set remembers of what it said; then it begins anew."""
_LONGEST_CODE: Final = 64
"""Characters of the longest code that is remembered: what callers make up beyond would fill the memory."""


class Level(enum.IntEnum):
    """Level of a catalogue or list type; a higher one overrides a lower (Art. 2, 68)."""

    NATIONAL = 3
    PROVINCIAL = 2
    MUNICIPAL = 1


class Effect(enum.IntEnum):
    """Effect of a measure, in order of strength."""

    ADVISE = 1
    HEIGHTEN = 2
    RESTRICT = 3
    DENY = 4


class Trigger(enum.StrEnum):
    """Whether being listed is the condition itself, or only points at a decision that sets measure and term."""

    LISTING = "listing"
    LISTING_AND_DECISION = "listing+decision"


APPLICANT = "applicant"
"""The part of the party of the case itself; what a measure acts on that names no part (Art. 47: no third parties)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListType:
    """A kind of serious list (名单类型): data, never an enum (Art. 28-30).

    Attributes:
        remedies: what a subject may do against a listing that states none itself (Art. 31, 71).
        objection_channel: where a subject objects to what a listing says (Art. 64).
        shared_with: departments its listings are shared with (Art. 35, 39); `None` for all that may ask.
    """

    code: str
    name: str
    authority: str
    basis: str
    standard: str
    level: Level
    region: str
    scope: int | None = None
    ends_with: EndsWith = EndsWith.TERM
    required_fields: tuple[str, ...] = ()
    source_max_age_days: int | None = None
    effective_from: datetime.date | None = None
    effective_to: datetime.date | None = None
    aliases: tuple[str, ...] = ()
    remedies: str = ""
    objection_channel: str = ""
    shared_with: frozenset[str] | None = None

    def is_shared_with(self, department: str | None) -> bool:
        """Whether its listings may be told to a department; `None` stands for every unit."""
        return self.shared_with is None or department is None or department in self.shared_with

    def in_force_on(self, day: datetime.date) -> bool:
        """Whether the list type itself is in force."""
        return _within(day, self.effective_from, self.effective_to)


@dataclass(frozen=True, slots=True, kw_only=True)
class Matter:
    """A business matter (事项).

    Attributes:
        high_consequence: an SDK asks the gateway unless its set is fresh.
        stale_pass: with a stale set and no gateway, absence is a flagged pass; otherwise it is undetermined.
        person_files: a batch may ask about natural persons; otherwise they are asked about one by one (Art. 40).
    """

    code: str
    name: str
    broader: str | None = None
    implementation_codes: tuple[str, ...] = ()
    case_no_required: bool = False
    as_of_allowed: bool = False
    high_consequence: bool = False
    stale_pass: bool = False
    person_files: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One entry of a published measure list (惩戒措施, Art. 45-46).

    `term_months` counts from the beginning of the listing; `None` means while listed, or while the decision runs.
    """

    code: str
    title: str
    content: str
    objects: frozenset[SubjectKind]
    list_types: frozenset[str]
    matters: frozenset[str]
    effect: Effect
    instruction: str
    trigger: Trigger
    decision_kinds: frozenset[str] = frozenset()
    term_months: int | None = None
    officer_verifies: tuple[str, ...] = ()
    implementers: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset({APPLICANT})
    measure_class: int = 1
    art46_item: int | None = None
    department: str = ""
    basis: str = ""
    repeats: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Edition:
    """One published edition of one catalogue."""

    id: str
    edition: str
    level: Level
    region: str
    example: bool
    publication_number: str
    publication_date: datetime.date
    effective_from: datetime.date
    effective_to: datetime.date | None = None
    filing_number: str | None = None
    list_types: tuple[ListType, ...] = ()
    matters: tuple[Matter, ...] = ()
    measures: tuple[Measure, ...] = ()
    revision: int = 0
    approver: str = ""
    filing_date: datetime.date | None = None

    @property
    def closing(self) -> bool:
        """Whether it has no entry at all: the catalogue is repealed, and nothing takes its place."""
        return not (self.list_types or self.matters or self.measures)

    @property
    def name(self) -> str:
        """``id@edition``, as answers name it."""
        return f"{self.id}@{self.edition}"

    @property
    def starts_on(self) -> datetime.date:
        """The first day it acts: never before its publication (Art. 45)."""
        return max(self.effective_from, self.publication_date)


def _remembered(
    method: "Callable[Concatenate[CatalogueSet, _P], _T]",
) -> "Callable[Concatenate[CatalogueSet, _P], _T]":
    """Say the same of the same day again without looking: a set and its editions never change."""
    name = method.__name__

    @functools.wraps(method)
    def say(self: "CatalogueSet", /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        key = (name, *args, *kwargs.items())
        said = self._said.get(key, _NOTHING)
        if said is _NOTHING:
            said = method(self, *args, **kwargs)
            if all(len(each) <= _LONGEST_CODE for each in args if isinstance(each, str)):
                if len(self._said) >= _REMEMBERED:
                    self._said.clear()
                self._said[key] = said
        return said  # type: ignore[no-any-return]

    return say


_NOTHING: Final = object()


@dataclass(frozen=True, slots=True)
class _Entry:
    edition: Edition
    measure: Measure


@dataclass(frozen=True, slots=True)
class MatterSpan:
    """How a matter is defined from a day to another, both inclusive; `None` is open."""

    matter: Matter
    first: datetime.date
    last: datetime.date | None


@dataclass(frozen=True, slots=True)
class CatalogueSet:
    """All editions ever published, indexed for `decide`. Build with `CatalogueSet.of`."""

    editions: tuple[Edition, ...] = ()
    region_overrides: Mapping[str, str] = field(default_factory=lambda: NO_OVERRIDES)
    _last_days: dict[tuple[str, int], datetime.date | None] = field(default_factory=dict)
    _entries: dict[str, list[_Entry]] = field(default_factory=dict)
    _list_types: dict[str, tuple[tuple[Edition, ListType], ...]] = field(default_factory=dict)
    _matters: dict[str, tuple[tuple[Edition, Matter], ...]] = field(default_factory=dict)
    _codes: dict[str, tuple[Edition, ...]] = field(default_factory=dict)
    _said: dict[Hashable, Any] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, editions: Iterable[Edition], region_overrides: Mapping[str, str] = NO_OVERRIDES) -> "CatalogueSet":
        """Index editions. A later edition of the same catalogue ends the one before it."""
        ordered = tuple(sorted(editions, key=lambda edition: (edition.id, edition.starts_on, edition.revision)))
        made = cls(ordered, region_overrides)
        for place, edition in enumerate(ordered):
            following = next((later for later in ordered[place + 1 :] if later.id == edition.id), None)
            last = edition.effective_to
            if following is not None:
                cut = following.starts_on - _DAY
                last = cut if last is None else min(last, cut)
            made._last_days[edition.name, edition.revision] = last
            for list_type in edition.list_types:
                for code in (list_type.code, *list_type.aliases):
                    made._list_types[code] = (*made._list_types.get(code, ()), (edition, list_type))
            for matter in edition.matters:
                made._matters[matter.code] = (*made._matters.get(matter.code, ()), (edition, matter))
            for measure in edition.measures:
                made._codes[measure.code] = (*made._codes.get(measure.code, ()), edition)
                # Not by matter, too: a list of many types and matters would have them all times each other.
                for code in measure.list_types:
                    made._entries.setdefault(code, []).append(_Entry(edition, measure))
        return made

    def in_force(self, edition: Edition, day: datetime.date) -> bool:
        """Whether an edition is in force on a day."""
        return _within(day, edition.starts_on, self._last_days[edition.name, edition.revision])

    def last_day(self, edition: Edition) -> datetime.date | None:
        """The last day of an edition: its own, or the day before its successor's first."""
        return self._last_days[edition.name, edition.revision]

    def successor(self, edition: Edition) -> Edition | None:
        """The edition of the same catalogue that begins next; of several that begin on one day, the one that acts."""
        later = [each for each in self.editions[self.editions.index(edition) + 1 :] if each.id == edition.id]
        return [each for each in later if each.starts_on == later[0].starts_on][-1] if later else None

    def ever_knew(self, matter: str) -> bool:
        """Whether any edition ever defined the matter."""
        return matter in self._matters

    def matter_codes(self) -> list[str]:
        """All matters ever defined, sorted."""
        return sorted(self._matters)

    @_remembered
    def matter(self, code: str, day: datetime.date) -> Matter | None:
        """The matter as the highest catalogue in force on a day defines it."""
        return _highest(self, self._matters.get(code, ()), day)

    def matter_editions(self, code: str) -> list[Edition]:
        """The editions that define the matter."""
        return [edition for edition, _ in self._matters.get(code, ())]

    def matter_spans(self, code: str) -> "list[MatterSpan]":
        """The days on which catalogues in force know the matter, in order, and how they define it then."""
        firsts = set()
        for edition in self.matter_editions(code):
            last = self.last_day(edition)
            firsts |= {edition.starts_on, *([last + _DAY] if last is not None and last < datetime.date.max else [])}
        bounds = sorted(firsts)
        return [
            MatterSpan(matter, first, after - _DAY if after is not None else None)
            for first, after in itertools.zip_longest(bounds, bounds[1:])
            if (matter := self.matter(code, first)) is not None
        ]

    @_remembered
    def list_type(self, code: str, day: datetime.date) -> ListType | None:
        """The list type as the highest catalogue in force on a day defines it, by code or alias."""
        known = [(edition, each) for edition, each in self._list_types.get(code, ()) if each.in_force_on(day)]
        return _highest(self, known, day)

    def ends_with_from(self, code: str, day: datetime.date) -> frozenset[EndsWith]:
        """Everything that ends a list type, by code or alias, in any edition that is in force on a day or later."""
        return frozenset(
            each.ends_with
            for edition, each in self._list_types.get(code, ())
            if _within(day, None, self.last_day(edition)) and _within(day, None, each.effective_to)
        )

    def list_type_codes(self) -> list[str]:
        """All codes and aliases of list types ever defined, sorted."""
        return sorted(self._list_types)

    def first_code(self, list_type: ListType) -> str:
        """The code that a list type was first published under, if an earlier one is among its aliases."""
        names = {list_type.code, *list_type.aliases}
        known = [(edition.revision, each.code) for edition in self.editions for each in edition.list_types]
        return min((each for each in known if each[1] in names), default=(0, list_type.code))[1]

    def entries(self, list_type: ListType, matter: str, day: datetime.date) -> tuple[tuple[Edition, Measure], ...]:
        """The measures in force that day that name the list type (or an alias) and the matter (or a broader one)."""
        return self._naming(list_type.code, list_type.aliases, matter, day)

    @_remembered
    def _naming(
        self, code: str, aliases: tuple[str, ...], matter: str, day: datetime.date
    ) -> tuple[tuple[Edition, Measure], ...]:
        held_by = frozenset(self.lineage(matter, day))
        found: dict[tuple[str, int, str], tuple[Edition, Measure]] = {}
        for named in (code, *aliases):
            for entry in self._entries.get(named, ()):
                if self.in_force(entry.edition, day) and not held_by.isdisjoint(entry.measure.matters):
                    found[entry.edition.name, entry.edition.revision, entry.measure.code] = entry.edition, entry.measure
        return tuple(found.values())

    @_remembered
    def lineage(self, matter: str, day: datetime.date) -> tuple[str, ...]:
        """The matter and those that hold it, by the editions of that day: a later one may not widen a measure early."""
        codes: list[str] = []
        code: str | None = matter
        while code is not None and code not in codes:
            codes.append(code)
            known = self.matter(code, day)
            code = known.broader if known else None
        return tuple(codes)

    @_remembered
    def defines(self, measure: str, above: Level, region: str, day: datetime.date) -> bool:
        """Whether a catalogue above a level that is in force on a day, and covers the region, holds the measure."""
        return any(
            e.level > above and self.in_force(e, day) and covers(e.region, region, self.region_overrides)
            for e in self._codes.get(measure, ())
        )


def newly_ended(before: CatalogueSet, edition: Edition, day: datetime.date) -> frozenset[str]:
    """The list types, by code and alias, that an edition ends by something that nothing published says from a day on.

    Args:
        before: what was published before.
        edition: what is to be published.
        day: an edition whose last day lies before it does not count.
    """
    return frozenset(
        code
        for each in edition.list_types
        for code in (each.code, *each.aliases)
        if each.ends_with not in before.ends_with_from(code, day)
    )


def _highest(catalogues: CatalogueSet, known: Iterable[tuple[Edition, _T]], day: datetime.date) -> _T | None:
    found = [(edition.level, value) for edition, value in known if catalogues.in_force(edition, day)]
    return max(found, key=lambda pair: pair[0])[1] if found else None


def _within(day: datetime.date, first: datetime.date | None, last: datetime.date | None) -> bool:
    return (first is None or first <= day) and (last is None or day <= last)
