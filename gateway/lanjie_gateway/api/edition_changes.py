"""What an edition changes, as a message (CatalogueService.Publish)."""

from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeVar

from lanjie.v1 import catalogue_pb2 as pb
from lanjie_gateway.api.messages import date_text
from lanjie_gateway.domain.edition_changes import Altered, EditionChanges, ListTypeChange, MatterChange, MeasureChange
from lanjie_matcher.catalogues import Effect

MAX_BYTES: Final = 2 * 1024 * 1024
"""Longest account of what changes; a client takes 4 MiB unless told otherwise."""
_Told = TypeVar("_Told", pb.MatterChange, pb.ListTypeChange)
_Changed = TypeVar("_Changed", MatterChange, ListTypeChange)


def changes_message(
    changes: EditionChanges, live: Mapping[str, int], *, max_bytes: int = MAX_BYTES
) -> pb.EditionChanges:
    """Return the changes as a message; what does not fit is counted.

    Args:
        changes: what changes.
        live: live listings by code of their list type.
        max_bytes: longest account, about.
    """
    message = pb.EditionChanges(listings=sum(live.get(code, 0) for code in changes.list_types))
    left = max_bytes

    def fit(made: Callable[[_Changed], _Told], found: Iterable[_Changed]) -> Iterable[_Told]:
        nonlocal left
        for each in found:
            told = made(each)
            size = told.ByteSize()
            if size > left:
                message.left_out += 1
                continue
            left -= size
            yield told

    for period in changes.periods:
        message.periods.append(
            pb.ChangePeriod(
                first_date=period.first_day.isoformat(),
                last_date=date_text(period.last_day),
                matters=fit(lambda each: _matter(each, live), period.matters),
                list_types=fit(_list_type, period.list_types),
            )
        )
    for code in changes.new_matters:
        if len(code) * 4 <= left:
            message.new_matters.append(code)
            left -= len(code) * 4
    return message


def _matter(change: MatterChange, live: Mapping[str, int]) -> pb.MatterChange:
    return pb.MatterChange(
        matter=change.code,
        name=change.name,
        known_before=change.known_before,
        known_after=change.known_after,
        measures=[_measure(each) for each in change.measures],
        settings=_fields(change.settings),
        read_otherwise=change.read_otherwise,
        grows=[pb.ScopeGrowth(list_type=each.list_type, kinds=each.kinds) for each in change.grows],
        listings=[pb.ListTypeListings(list_type=code, live=live.get(code, 0)) for code in change.list_types],
    )


def _measure(change: MeasureChange) -> pb.MeasureChange:
    return pb.MeasureChange(
        change=change.change,
        catalogue=change.catalogue,
        code=change.code,
        title=change.title,
        effect_before=_effect(change.effect_before),
        effect_after=_effect(change.effect_after),
        turns=change.turns,
        list_types=change.list_types,
        fields=_fields(change.fields),
    )


def _list_type(change: ListTypeChange) -> pb.ListTypeChange:
    return pb.ListTypeChange(change=change.change, code=change.code, name=change.name, fields=_fields(change.fields))


def _fields(altered: Iterable[Altered]) -> list[pb.AlteredField]:
    return [pb.AlteredField(field=each.field, before=each.before, after=each.after) for each in altered]


def _effect(effect: Effect | None) -> str:
    return "" if effect is None else effect.name.lower()
