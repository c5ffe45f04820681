"""How old what a source says is: up to which day it vouched for a list type, and whether that is too long ago.

1. A source vouches with every delivery, whether its rows changed anything or not: with a complete list for the day it
   is complete as of, with changes for the day they came, because it would have sent a removal with them.
2. It is overdue once the day up to which it vouched is more days ago than its list type allows: from 00:00 in Shanghai.
3. Sources that matter are those with live listings, and the one that vouched last for its list type: a source that was
   given up, and that nothing rests on, raises no alarm for ever.
4. A list type that allows no age but for which nobody ever delivered is overdue too: whoever is listed there passes.

An answer warns of an old source where a listing bears on it (`lanjie_matcher.decide`). A listing that should have come
and did not is seen by nobody but the operator, so these ages are told to them.
"""

import dataclasses
import datetime
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lanjie_matcher.catalogues import CatalogueSet, ListType

Source = tuple[str, str]
"""Code of a list type, and name of a source that delivers it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """The last word of a source on a list type: of its deliveries that vouch for the latest day, the last.

    Attributes:
        vouched_on: newest day up to which it vouched.
        delivered_at: aware instant of the commit.
        revision: of that commit.
    """

    list_type: str
    source: str
    vouched_on: datetime.date
    delivered_at: datetime.datetime
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceAge:
    """How old what one source says of one list type is.

    Attributes:
        list_type: code as the catalogues of today have it; as delivered where they have none.
        list_type_name: its name; empty where no catalogue in force today has it.
        delivery: its last word; `None` where only listings are known: no file came, or an older version took it.
        live: listings that no event has ended.
        age_days: days since the day up to which it vouched; `None` without a delivery.
        max_age_days: what the list type allows; `None` for no limit.
        matters: see the module (3).
        overdue: see the module (2).
    """

    list_type: str
    list_type_name: str
    source: str
    delivery: Delivery | None
    live: int
    age_days: int | None
    max_age_days: int | None
    matters: bool
    overdue: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeAge:
    """How old the sources of one list type are.

    Attributes:
        list_type: its code.
        age_days: of its oldest source that matters (3); `None` where none has delivered.
        overdue: whether one of those is overdue, or none has delivered though an age is set (4).
    """

    list_type: str
    age_days: int | None
    overdue: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceAges:
    """All sources, the list types in force today that nobody delivered, and all list types; each by code."""

    sources: tuple[SourceAge, ...]
    undelivered: tuple[ListType, ...]
    list_types: tuple[TypeAge, ...]


def source_ages(
    deliveries: Iterable[Delivery], live: Mapping[Source, int], catalogues: CatalogueSet, today: datetime.date
) -> SourceAges:
    """Return how old the sources are on a day.

    Args:
        deliveries: the last word of each source.
        live: number of live listings by list type and source; those without any need not be there.
        catalogues: every edition ever published.
        today: day in Asia/Shanghai.
    """
    in_force = _in_force(catalogues, today)
    words: dict[Source, Delivery] = {}
    for each in deliveries:
        place = (_code(catalogues, each.list_type, today), each.source)
        words[place] = _later(words[place], each) if place in words else each
    counts: Counter[Source] = Counter()
    for (list_type, source), count in live.items():
        counts[_code(catalogues, list_type, today), source] += count
    last: dict[str, datetime.date] = {}
    for (code, _), word in words.items():
        last[code] = max(last.get(code, word.vouched_on), word.vouched_on)

    sources = [
        _source_age(
            *(place, in_force.get(place[0]), words.get(place)),
            live=counts[place],
            last=last.get(place[0]),
            today=today,
        )
        for place in sorted(words.keys() | counts.keys())
    ]
    return SourceAges(
        sources=tuple(sources),
        undelivered=tuple(each for code, each in sorted(in_force.items()) if code not in last),
        list_types=tuple(
            _type_age(code, in_force.get(code), [each for each in sources if each.list_type == code])
            for code in sorted(in_force.keys() | last.keys())
        ),
    )


def _source_age(
    place: Source,
    list_type: ListType | None,
    word: Delivery | None,
    *,
    live: int,
    last: datetime.date | None,
    today: datetime.date,
) -> SourceAge:
    age = None if word is None else max(0, (today - word.vouched_on).days)
    limit = list_type.source_max_age_days if list_type else None
    # (3)
    matters = word is not None and (live > 0 or word.vouched_on == last)
    return SourceAge(
        list_type=place[0],
        list_type_name=list_type.name if list_type else "",
        source=place[1],
        delivery=word,
        live=live,
        age_days=age,
        max_age_days=limit,
        matters=matters,
        # (2)
        overdue=matters and age is not None and limit is not None and age > limit,
    )


def _type_age(code: str, list_type: ListType | None, sources: Sequence[SourceAge]) -> TypeAge:
    age = max((each.age_days for each in sources if each.matters and each.age_days is not None), default=None)
    # (4)
    never = age is None and list_type is not None and list_type.source_max_age_days is not None
    return TypeAge(list_type=code, age_days=age, overdue=never or any(each.overdue for each in sources))


def _in_force(catalogues: CatalogueSet, today: datetime.date) -> dict[str, ListType]:
    known = (catalogues.list_type(code, today) for code in catalogues.list_type_codes())
    return {each.code: each for each in known if each is not None}


def _code(catalogues: CatalogueSet, code: str, today: datetime.date) -> str:
    known = catalogues.list_type(code, today)
    return known.code if known else code


def _later(one: Delivery, other: Delivery) -> Delivery:
    """Return two words under two codes of one list type as one."""
    newer = one if one.revision > other.revision else other
    return dataclasses.replace(newer, vouched_on=max(one.vouched_on, other.vouched_on))
