"""What `lanjie status` shows of the lists: sources with their age, clocks of the law, and in words what is wrong."""

import datetime
from collections.abc import Iterable
from typing import Any, Final

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lanjie_gateway.cli import render

_ALARMS: Final = {
    "applied-on-advice": "a measure was applied where the answer only advised",
    "refused-without-interception": "a case was refused where the answer did not intercept",
    "outside-of-answer": "a measure or listing was named that the answer does not hold, and refused",
}


def lists_dict(status: Any) -> dict[str, Any]:
    """Return everything as JSON values."""
    return render.message_dict(status) | {"troubles": troubles(status)}


def lists_view(status: Any) -> RenderableType:
    """Return what a person looks at."""
    parts: list[RenderableType] = [Text(f"! {trouble}", style="bold yellow") for trouble in troubles(status)]
    parts.append(_table(status) if status.sources else Text("No source has delivered yet."))
    if status.duties:
        parts.append(_duties(status))
    return Group(*parts)


def troubles(status: Any) -> list[str]:
    """Return a line for each thing that is wrong with sources and duties, and one for what waits."""
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
    for duty in status.duties:
        if duty.overdue:
            lines.append(
                f"{duty.rule}: {duty.overdue:,} of {duty.open:,} overdue: {duty.bound}; `lanjie duties --overdue`"
            )
        elif duty.rule == "contested" and duty.open:
            lines.append(f"{duty.open:,} acts are contested by a second person: {duty.bound}")
    if status.missing_year:
        lines.append(
            f"the working days of {status.missing_year} are not published here: last days beyond are provisional; "
            "`lanjie calendar publish`"
        )
    lines += [
        f"{number:,} reports since the start: {_ALARMS.get(alarm, alarm)}; ask the department"
        for alarm, number in sorted(status.feedback_alarms.items())
        if number
    ]
    return lines


def _duties(status: Any) -> RenderableType:
    table = Table(box=box.SIMPLE_HEAD, title=Text("duties"), title_justify="left")
    for heading in ("rule", "open", "overdue", "provisional", "late in 12 months"):
        table.add_column(heading, justify="left" if heading == "rule" else "right")
    for duty in status.duties:
        numbers = (duty.open, duty.overdue, duty.provisional, duty.late)
        table.add_row(duty.rule, *(f"{each:,}" for each in numbers), style="yellow" if duty.overdue else "")
    return table


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
