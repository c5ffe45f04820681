"""What an edition may say, given everything that is published already (Art. 29, 45, 46, 47).

Each rule notes all its faults; docs/catalogue-file.md has the table of rules.
"""

import dataclasses
import re
from collections.abc import Iterable, Sequence
from typing import Final

from lanjie_gateway.domain.catalogue_yaml import Fault
from lanjie_matcher.catalogues import CatalogueSet, Edition, Effect, Level, ListType, Measure
from lanjie_matcher.regions import NATION, REGION, covers

STRONGEST: Final = {
    1: Effect.RESTRICT,
    2: Effect.HEIGHTEN,
    3: Effect.RESTRICT,
    4: Effect.RESTRICT,
    5: Effect.RESTRICT,
    6: Effect.RESTRICT,
    7: Effect.DENY,
    9: Effect.DENY,
}
"""Strongest effect of each item of Art. 46; item 9 is as its cited local regulation says, item 8 is no interception."""

THIRD_PARTIES: Final = frozenset(
    "spouse child children family family_member relative affiliate subsidiary branch shareholder partner guarantor"
    " consortium_partner related_person related_persons employee third_party".split()
)
"""Targets that are not the listed subject, whatever they are called (Art. 47)."""

# A local regulation (地方性法规) is known by a place before 条例: "江苏省社会信用条例"; "城市", "上市" are no places.
_LOCAL_REGULATION: Final = re.compile(
    r"(?:^|[^\u4e00-\u9fff]|[和及与])[\u4e00-\u9fff]{2,8}?(?:省|自治区|自治州|(?<![城上都])市|特区)[\u4e00-\u9fff]*?条例"
)
_CONGRESS: Final = re.compile(r"人民代表大会|人大常委会")


def cites_local_regulation(*texts: str) -> bool:
    """Whether a text cites a local regulation: a place's 条例, or an act of a people's congress.

    A government's rule (办法, 规定) does not carry a list or a measure of its own (Art. 29, 46); a local regulation
    with such a name says which congress adopted it.
    """
    return any(_LOCAL_REGULATION.search(text) or _CONGRESS.search(text) for text in texts)


def region_fits(level: Level, region: str) -> bool:
    """Whether a region is one of its level: the nation, a province, a city."""
    if not REGION.fullmatch(region):
        return False
    if level is Level.NATIONAL:
        return region == NATION
    if region == NATION:
        return False
    if level is Level.PROVINCIAL:
        return region.endswith("0000")
    return region.endswith("00") and not region.endswith("0000")


def local_list_type(list_type: ListType, *, regulated: bool) -> Iterable[tuple[str, str]]:
    """Art. 29: a local list type stands in a local regulation and within one of three scopes. Rules and words."""
    if list_type.level is Level.NATIONAL:
        return
    if not regulated:
        yield "local-list-type-regulation", "a local list type cites the local regulation it stands in (Art. 29)"
    if list_type.scope is None:
        yield "local-list-type-scope", "a local list type names one of the three scopes of Art. 29"


def local_measure(measure: Measure, *, regulated: bool) -> Iterable[tuple[str, str]]:
    """Art. 46: a local entry is one of nine items, and no stronger than its item. Rules and words."""
    item = measure.art46_item
    if item is None:
        yield "art46-item", "a local entry names the item of Art. 46 it falls under, 1 to 9"
        return
    if item == 8:
        yield (
            "art46-8-not-interceptable",
            "revoking an honour is an act of the awarding body, not an interception (Art. 46(8))",
        )
        return
    if measure.effect > STRONGEST[item]:
        yield "effect-too-strong", f"item {item} of Art. 46 allows {STRONGEST[item].name.lower()} at most"
    if item == 9 and not regulated:
        yield "art46-9-regulation", "item 9 of Art. 46 cites the local regulation it rests on"


def check(edition: Edition, published: Sequence[Edition]) -> tuple[list[Fault], list[str]]:
    """Return the faults and the warnings of an edition among those published before."""
    faults: list[Fault] = []
    warnings: list[str] = []
    others = _alongside(edition, published)
    faults += _identity(edition, published)
    faults += _duplicates(edition)
    faults += _taken_codes(edition, others, warnings)
    faults += _references(edition, [each for each in others if _holds(each, edition)], warnings)
    faults += _cycles(edition, published)
    warnings += _order(edition, published)
    if edition.closing:
        warnings += _closes(edition, published)
    else:
        if not edition.measures:
            warnings.append("catalogue: it has no measures: its matters pass, unless another catalogue's bear on them")
        _drops(edition, published, warnings)
    return faults, warnings


def _alongside(edition: Edition, published: Sequence[Edition]) -> list[Edition]:
    """The editions of other catalogues that are in force on some day of this one."""
    known = CatalogueSet.of(published)
    last = edition.effective_to
    found = []
    for each in known.editions:
        ends = known.last_day(each)
        if each.id == edition.id or (last is not None and each.starts_on > last):
            continue
        if ends is None or ends >= edition.starts_on:
            found.append(each)
    return found


def _holds(other: Edition, edition: Edition) -> bool:
    return other.level >= edition.level and covers(other.region, edition.region)


def _identity(edition: Edition, published: Sequence[Edition]) -> Iterable[Fault]:
    for each in published:
        if each.id != edition.id:
            continue
        if each.edition == edition.edition:
            yield Fault("catalogue", "edition-exists", f"{edition.name} is published; a changed one is a new edition")
        if (each.level, each.region) != (edition.level, edition.region):
            yield Fault("catalogue", "level-region", f"the catalogue {edition.id} is of another level or region")
            return


def _list_codes(edition: Edition) -> list[str]:
    return [code for each in edition.list_types for code in (each.code, *each.aliases)]


def _codes(edition: Edition) -> dict[str, list[str]]:
    codes = {
        "list type": _list_codes(edition),
        "matter": [each.code for each in edition.matters],
        "measure": [each.code for each in edition.measures],
    }
    # An entry without a code is a fault of its own.
    return {what: [code for code in those if code] for what, those in codes.items()}


def _duplicates(edition: Edition) -> Iterable[Fault]:
    for what, codes in _codes(edition).items():
        seen: set[str] = set()
        for code in codes:
            if code in seen:
                yield Fault(code, "duplicate-code", f"this {what} stands twice in the file")
            seen.add(code)


def _taken_codes(edition: Edition, others: Sequence[Edition], warnings: list[str]) -> Iterable[Fault]:
    for other in others:
        theirs = _codes(other)
        for what, codes in _codes(edition).items():
            for code in dict.fromkeys(codes):
                if code not in theirs[what]:
                    continue
                if other.level > edition.level:
                    yield Fault(code, "redefines-higher", f"{other.name} of a higher level defines this {what}")
                elif other.level is edition.level and other.region != edition.region:
                    # Codes are read without their region: two meanings would answer for each other's cases.
                    yield Fault(code, "duplicate-code", f"{other.name} of another region defines this {what}")
                else:
                    warnings.append(f"{code}: {other.name} defines this {what}, too")


def _references(edition: Edition, holders: Sequence[Edition], warnings: list[str]) -> Iterable[Fault]:
    near = (edition, *holders)
    list_types = {code for each in near for code in _list_codes(each)}
    matters = {matter.code for each in near for matter in each.matters}
    above = {measure.code: measure for each in holders if each.level > edition.level for measure in each.measures}
    for matter in edition.matters:
        if matter.broader is not None and matter.broader not in matters:
            yield Fault(matter.code, "matter-unknown", f"no catalogue in reach defines the matter {matter.broader}")
    for measure in edition.measures:
        for code in sorted(measure.list_types - list_types):
            yield Fault(measure.code, "list-type-unknown", f"no catalogue in reach defines the list type {code}")
        for code in sorted(measure.matters - matters):
            yield Fault(measure.code, "matter-unknown", f"no catalogue in reach defines the matter {code}")
        if measure.repeats is None:
            continue
        higher = above.get(measure.repeats)
        if higher is None:
            yield Fault(measure.code, "repeats-unknown", f"no higher catalogue in reach holds {measure.repeats}")
        elif not (measure.list_types <= higher.list_types and measure.objects <= higher.objects):
            warnings.append(
                f"{measure.code}: repeats {measure.repeats}, which names fewer list types or objects; what it gives"
                " way on is lost"
            )


def _cycles(edition: Edition, published: Sequence[Edition]) -> Iterable[Fault]:
    broader = {matter.code: matter.broader for each in (*published, edition) for matter in each.matters}
    for matter in edition.matters:
        up, steps = matter.broader, 0
        while up is not None and up != matter.code and steps <= len(broader):
            up, steps = broader.get(up), steps + 1
        if up == matter.code:
            yield Fault(matter.code, "broader-cycle", "a matter is not broader than itself")


def _drops(edition: Edition, published: Sequence[Edition], warnings: list[str]) -> None:
    # What a new edition leaves out stops acting, which may be meant and may be a slip.
    earlier = [each for each in published if each.id == edition.id and each.starts_on <= edition.starts_on]
    if not earlier:
        return
    before = max(earlier, key=lambda each: (each.starts_on, each.revision))
    now = _codes(edition)
    for what, codes in _codes(before).items():
        gone = [code for code in codes if code not in now[what]]
        warnings.extend(f"{code}: {before.name} has this {what}, this edition has not" for code in gone)


def _order(edition: Edition, published: Sequence[Edition]) -> Iterable[str]:
    """Where the edition stands among those of its catalogue: what replaces what, and what never acts."""
    first, last = edition.starts_on, edition.effective_to
    if last is not None and last < first:
        yield f"catalogue: it never acts: published on {first}, after its last day {last}"
    same = [each for each in published if each.id == edition.id]
    for each in same:
        if each.starts_on == first:
            yield f"catalogue: it replaces {each.name}, which begins on the same day, {first}"
    later = min((each.starts_on for each in same if each.starts_on > first), default=None)
    if later is not None:
        ending = max((each for each in same if each.starts_on == later), key=lambda each: each.revision)
        # Whoever corrects an edition that is not in force yet must begin on its day, not before.
        yield f"catalogue: {ending.name} is published, begins on {later} and ends this edition then"


def _closes(edition: Edition, published: Sequence[Edition]) -> Iterable[str]:
    """A file without entries repeals its catalogue: nothing of it acts any more, which may be meant or a slip."""
    day = edition.starts_on
    before = CatalogueSet.of(published)
    # Whatever its revision will be, it comes after everything that is published.
    newest = max((each.revision for each in published), default=0)
    after = CatalogueSet.of([*published, dataclasses.replace(edition, revision=newest + 1)])
    gone = [each for each in before.editions if each.id == edition.id and before.in_force(each, day)]
    if not gone:
        yield "catalogue: it has no entries, and no edition of this catalogue is in force on its first day"
        return
    measures = sum(len(each.measures) for each in gone)
    yield (
        f"catalogue: it has no entries, so it closes the catalogue {edition.id}: from {day} on none of its {measures}"
        " measures acts"
    )
    lost = [code for code in before.matter_codes() if before.matter(code, day) and not after.matter(code, day)]
    if lost:
        yield (
            f"catalogue: no other catalogue knows these matters, so they are UNDETERMINED (CATALOGUE_MISSING) from"
            f" {day} on, neither a pass nor an interception: {', '.join(lost)}"
        )
