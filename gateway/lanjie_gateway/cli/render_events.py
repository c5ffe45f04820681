"""What events say beside reason and document, and the duties they open, for people to read."""

import datetime
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text


def event_says(event: Any) -> str:
    """Return what an event says besides, a line each; empty where it says nothing."""
    from lanjie.v1 import listing_pb2 as pb

    lines = []
    if event.until_date:
        lines.append(f"until {event.until_date}, 24:00")
    if event.objection_outcome:
        lines.append(_word(pb.ObjectionOutcome.Name(event.objection_outcome), "OBJECTION_OUTCOME_"))
    if event.reply:
        lines.append(f"reply: {event.reply}")
    if event.notice:
        notice = _word(pb.InstrumentNotice.Name(event.notice), "INSTRUMENT_NOTICE_")
        lines.append(f"instrument {notice} from {event.instrument_date}")
    if event.reviewed_revision:
        verdict = "contested" if event.contested else "agreed"
        lines.append(f"revision {event.reviewed_revision}: {verdict}")
    if event.second_person:
        lines.append(f"confirmed by {event.second_person}")
    return "\n".join(lines)


def duties_table(duties: Sequence[Any], today: datetime.date) -> RenderableType:
    """Return duties, one line each: what, who, on which listing, by when."""
    table = Table(box=box.SIMPLE_HEAD, expand=True)
    for heading in ("duty", "who", "listing", "since", "due", "state"):
        table.add_column(heading, overflow="fold", no_wrap=heading == "listing")
    for each in duties:
        due = f"{each.due_date}\nprovisional" if each.provisional else each.due_date
        listing = f"{each.listing_id}\n{each.list_type}"
        table.add_row(each.rule, each.bound, listing, each.started_date, due, _state(each, today))
    return table


def _state(duty: Any, today: datetime.date) -> Text:
    if duty.late:
        return Text(f"done on {duty.closed_date}, {_days(duty.due_date, duty.closed_date)} too late", style="yellow")
    if duty.overdue:
        return Text(f"overdue by {_days(duty.due_date, today.isoformat())}", style="bold red")
    if not duty.due_date:
        return Text("contested, and not undone", style="yellow")
    return Text("open")


def _days(since: str, until: str) -> str:
    count = (datetime.date.fromisoformat(until) - datetime.date.fromisoformat(since)).days
    return f"{count} day" if count == 1 else f"{count} days"


def _word(name: str, prefix: str) -> str:
    return name.removeprefix(prefix).lower()
