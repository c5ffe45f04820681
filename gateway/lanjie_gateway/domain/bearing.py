"""What can bear on each matter on one day, whoever is asked about: the half of `decide` that turns on no listing.

1. A matter that no catalogue in force knows has nothing that bears: its answer is undetermined (Art. 45, 47).
2. A measure bears on the matters it names and on those they hold, through the codes by which a listing may name a list
   type that is in force (Art. 28-30, 47).
3. A local entry that repeats a higher one in force does not bear (Art. 2, 68).

Who handles the case where, and as what, is not asked here: a measure bears where some question could reach it.
"""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain

from lanjie_matcher.catalogues import CatalogueSet, Edition, ListType, Matter, Measure
from lanjie_matcher.subjects import ORGANISATION_KINDS, SubjectKind

CatalogueMeasure = tuple[str, str]
"""Id of a catalogue and code of a measure: on one day they name one measure."""


@dataclass(frozen=True, slots=True)
class Bearing:
    """A measure that can act, its edition, and the codes of listings through which it can."""

    edition: Edition
    measure: Measure
    through: frozenset[str]

    @property
    def kinds(self) -> frozenset[SubjectKind]:
        """The kinds of subjects it reaches; one that reaches organisations reaches all five kinds of them."""
        return reached_kinds(self.measure)


@dataclass(frozen=True, slots=True)
class LawOfDay:
    """What can bear on one day.

    Attributes:
        matters: matters that are known, by code.
        list_types: list types in force, by code and by alias.
        bearings: what bears on each known matter; a matter without any is not among the keys.
    """

    matters: Mapping[str, Matter]
    list_types: Mapping[str, ListType]
    bearings: Mapping[str, Mapping[CatalogueMeasure, Bearing]]

    def scope(self, matter: str) -> frozenset[tuple[str, SubjectKind]]:
        """The listings that can have an effect in a matter: (code of their list type, kind of their subject)."""
        return frozenset(
            (code, kind)
            for bearing in self.bearings.get(matter, {}).values()
            for code in bearing.through
            for kind in bearing.kinds
        )


def law_of_day(catalogues: CatalogueSet, day: datetime.date) -> LawOfDay:
    """Return what can bear on each matter on a day.

    Args:
        catalogues: every edition that counts.
        day: day in Asia/Shanghai.
    """
    # (1)
    known = {code: catalogues.matter(code, day) for code in catalogues.matter_codes()}
    matters = {code: matter for code, matter in known.items() if matter is not None}
    below: dict[str, list[str]] = {}
    for code in matters:
        for upper in catalogues.lineage(code, day):
            below.setdefault(upper, []).append(code)
    # (2)
    types = {code: catalogues.list_type(code, day) for code in catalogues.list_type_codes()}
    list_types = {code: each for code, each in types.items() if each is not None}
    codes: dict[str, set[str]] = {}
    for code, each in list_types.items():
        for name in (each.code, *each.aliases):
            codes.setdefault(name, set()).add(code)
    bearings: dict[str, dict[CatalogueMeasure, Bearing]] = {}
    for edition, measure in _measures(catalogues, day):
        through = frozenset(chain.from_iterable(codes.get(name, ()) for name in measure.list_types))
        if not through:
            continue
        bearing = Bearing(edition, measure, through)
        for matter in dict.fromkeys(chain.from_iterable(below.get(name, ()) for name in measure.matters)):
            bearings.setdefault(matter, {})[edition.id, measure.code] = bearing
    return LawOfDay(matters, list_types, bearings)


def reached_kinds(measure: Measure) -> frozenset[SubjectKind]:
    """Return the kinds of subjects that a measure's objects hold."""
    if SubjectKind.ORGANISATION in measure.objects:
        return measure.objects - {SubjectKind.ORGANISATION} | ORGANISATION_KINDS
    return measure.objects


def _measures(catalogues: CatalogueSet, day: datetime.date) -> list[tuple[Edition, Measure]]:
    return [
        (edition, measure)
        for edition in catalogues.editions
        if catalogues.in_force(edition, day)
        for measure in edition.measures
        # (3)
        if measure.repeats is None or not catalogues.defines(measure.repeats, edition.level, edition.region, day)
    ]
