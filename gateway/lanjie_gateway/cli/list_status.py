"""What `lanjie status` shows of the lists: every source with its age, and in words what is wrong."""

import datetime
from collections.abc import Iterable
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lanjie_gateway.cli import render


def lists_dict(status: Any) -> dict[str, Any]:
    """Return everything as JSON values."""
    return render.message_dict(status) | {"troubles": troubles(status)}


def lists_view(status: Any) -> RenderableType:
    """Return what a person looks at."""
    parts: list[RenderableType] = [Text(f"! {trouble}", style="bold yellow") for trouble in troubles(status)]
    parts.append(_table(status) if status.sources else Text("No source has delivered yet."))
    return Group(*parts)


def troubles(status: Any) -> list[str]:
    """Return a line for each thing that is wrong with the sources, and one for imports that wait."""
    lines = [
        f"{each.source} has vouched for {each.list_type} up to {each.vouched_date} only, {_days(each.age_days)} ago; "
        f"{_days(each.max_age_days)} allowed: new listings may be missing, answers say verify-at-source"
        for each in status.sources
        if each.overdue
    ]
    if never := [each.list_type for each in status.undelivered if each.max_age_days]:
        lines.append(f"no delivery is known for {_listed(never)}, which must be kept fresh: listings may be missing")
    if others := [each.list_type for each in status.undelivered if not each.max_age_days]:
        lines.append(f"no delivery is known for {_listed(others)}")
    if number := status.waiting:
        since = render.local_time(status.oldest_waiting_time.ToDatetime(datetime.UTC))
        waits = "1 import or act waits" if number == 1 else f"{number:,} imports and acts wait"
        lines.append(f"{waits} for a second person, the oldest since {since}: `lanjie list waiting`")
    return lines


def _table(status: Any) -> RenderableType:
    table = Table(box=box.SIMPLE_HEAD, expand=True)
    for heading, numeric in (
        *(("list type", False), ("source", False), ("live", True), ("vouched up to", False)),
        *(("age", True), ("allowed", True), ("last delivery", False)),
    ):
        table.add_column(heading, justify="right" if numeric else "left", overflow="fold")
    for each in status.sources:
        known = bool(each.vouched_date)
        table.add_row(
            f"{each.list_type} {each.list_type_name}".strip(),
            each.source,
            f"{each.live_listings:,}",
            each.vouched_date or "not known",
            f"{each.age_days:,} d" if known else "-",
            f"{each.max_age_days:,} d" if each.max_age_days else "-",
            render.local_time(each.delivered_time.ToDatetime(datetime.UTC)) if known else "-",
            style="yellow" if each.overdue else "",
        )
    return table


def _listed(codes: Iterable[str]) -> str:
    return ", ".join(sorted(codes))


def _days(number: int) -> str:
    return "1 day" if number == 1 else f"{number:,} days"
