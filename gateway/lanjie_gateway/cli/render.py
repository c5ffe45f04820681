"""What commands show: tables for people, the same facts as JSON for programs.

Everything here takes answers as they are; nothing is decided. Cells are plain text: what an authority wrote into a
reason is never read as markup, nor by the terminal as a command. Identifiers arrive masked.
"""

import contextlib
import dataclasses
import datetime
import enum
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import typer
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from lanjie_gateway.cli import editions
from lanjie_gateway.cli.render_events import event_says
from lanjie_matcher.civil_time import SHANGHAI

if TYPE_CHECKING:
    from lanjie.decision import Decision, ListingEvidence, Measure

PIPE_WIDTH: Final = 110
"""Columns when the output is no terminal and `COLUMNS` is not set."""

_CONTROLS: Final = (
    (0, 8),
    (11, 31),
    (0x7F, 0x9F),
    (0x61C, 0x61C),
    (0x200E, 0x200F),
    (0x202A, 0x202E),
    (0x2066, 0x2069),
)
_UNPRINTABLE: Final = dict.fromkeys(code for first, last in _CONTROLS for code in range(first, last + 1))
"""Characters that tell a terminal what to do, and those that turn the direction of what follows."""

OUTCOMES: Final[Mapping[str, tuple[str, str]]] = {
    "PASS": ("通过", "bold green"),
    "ADVISE": ("提示", "bold cyan"),
    "HEIGHTEN": ("从严", "bold yellow"),
    "RESTRICT": ("限制", "bold magenta"),
    "INTERCEPT": ("拦截", "bold white on red"),
    "UNDETERMINED": ("待核", "bold black on yellow"),
}
"""Outcomes with their Chinese word and style, weakest first."""

_LISTING_LINES: Final = (
    ("authority", "authority 机关"),
    ("decision_no", "decision 文号"),
    ("decision_date", "decided 决定日"),
    ("listed_on", "listed 列入日"),
    ("expires_on", "until 期限至"),
    ("reason", "reason 事由"),
    ("basis", "basis 依据"),
    ("removal_conditions", "removal 移出条件"),
    ("remedies", "remedies 救济"),
)


def printable(text: str) -> str:
    """Return a text without what a terminal would take for more than a text."""
    return text.translate(_UNPRINTABLE)


class _Console(Console):
    """Leaves out of all texts what is not `printable`; rich itself leaves escape sequences in."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for each in super().render(renderable, options):
            yield each if each.control else Segment(printable(each.text), each.style)


def console(*, stderr: bool = False) -> Console:
    """Return a console that is plain when it is no terminal, and takes neither markup nor commands from data."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH
    return _Console(stderr=stderr, markup=False, highlight=False, emoji=False, width=width)


def emit(value: object) -> None:
    """Print JSON on one line."""
    typer.echo(json.dumps(value, ensure_ascii=False))


def progress(*, hidden: bool, steps: bool = False) -> Progress:
    """Return a progress bar on standard error; nothing when hidden or no terminal."""
    err = console(stderr=True)
    done = MofNCompleteColumn() if steps else TaskProgressColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), done, TimeElapsedColumn())
    return Progress(*columns, console=err, disable=hidden or not err.is_terminal, transient=True)


@contextlib.contextmanager
def steps(*, hidden: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Show one bar for the step under way; yield what is told (step, done, total), total 0 for not known."""
    with progress(hidden=hidden) as bar:
        task = bar.add_task("beginning", total=None)
        yield lambda part, done, total: bar.update(task, description=part, completed=done, total=total or None)


def outcome_text(name: str) -> Text:
    """Return an outcome as a coloured word in both languages."""
    chinese, style = OUTCOMES.get(name, ("", "bold"))
    return Text(f" {chinese} {name} ", style=style)


def decision_panel(decision: "Decision", *, title: str = "", question: str = "") -> RenderableType:
    """Return one answer as a clerk reads it: the outcome, what to do, then what it rests on."""
    name = decision.outcome.name
    parts: list[RenderableType] = [outcome_text(name), Text(decision.instruction, style="bold")]
    if question:
        parts.insert(0, Text(question, style="dim"))
    if decision.reason is not None:
        parts.append(Text(f"reason: {decision.reason.name}; an officer must look, the case goes on"))
    if decision.resolve_by is not None:
        parts.append(Text(f"settle by {local_time(decision.resolve_by)}"))
    parts.extend(
        Text(f"missing in the record: {fact.fact} (for measure {fact.measure_code})") for fact in decision.missing_facts
    )
    if decision.confirmation_required:
        parts.append(Text("An officer decides, with name and time, before this is carried out.", style="yellow"))
    parts.extend(Text(f"find out first: {each}", style="yellow") for each in decision.officer_verifies)
    if decision.measures:
        parts.append(_measures_table(decision.measures))
    parts.extend(_listing_grid(listing) for listing in decision.listings)
    if decision.listings:
        parts.append(Text(f"objection 异议渠道: {decision.objection_channel}"))
    parts.append(_footer(decision))
    style = OUTCOMES.get(name, ("", ""))[1].split(" on ")[-1].removeprefix("bold ")
    return Panel(Group(*parts), title=Text(title) if title else None, border_style=style, box=box.ROUNDED)


def _measures_table(measures: "Sequence[Measure]") -> Table:
    table = Table(box=box.SIMPLE_HEAD, title=Text("measures 惩戒措施"), title_justify="left", expand=True)
    for heading, ratio in (("code", 3), ("title", 5), ("effect", 2), ("basis", 6), ("department", 4)):
        table.add_column(heading, ratio=ratio, overflow="fold", min_width=8)
    for each in measures:
        table.add_row(each.code, each.title, each.effect.name.lower(), each.basis, each.department)
    return table


def _listing_grid(listing: "ListingEvidence") -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row("listing 列入", f"{listing.list_type_name or listing.list_type} ({listing.list_type})")
    for attribute, label in _LISTING_LINES:
        if value := getattr(listing, attribute):
            grid.add_row(label, str(value))
    if listing.objection:
        grid.add_row("objection 异议", Text("open; it changes nothing else (Art. 64)", style="yellow"))
    return grid


def _footer(decision: "Decision") -> Text:
    facts = [f"revision {decision.revision}", f"as of {local_time(decision.as_of)}", decision.source.name.lower()]
    if decision.decision_id:
        facts.append(f"decision {decision.decision_id}")
    if decision.warnings:
        facts.append(f"warnings: {', '.join(decision.warnings)}")
    return Text("\n" + " · ".join(facts), style="dim")


def decision_dict(decision: "Decision") -> dict[str, Any]:
    """Return one answer as JSON values, all of its public facts."""
    values: dict[str, Any] = plain(decision)
    return values


def plain(value: Any) -> Any:
    """Return a value of the SDK as JSON values: enums by name, instants and days in ISO 8601, bytes in hexadecimal."""
    if isinstance(value, enum.Enum):
        return value.name
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, Iterable):
        return [plain(each) for each in value]
    return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}


def message_dict(message: Message) -> dict[str, Any]:
    """Return a message as JSON values: numbers stay numbers, enums lose their prefix, every field is there."""
    return {field.name: _message_value(message, field) for field in message.DESCRIPTOR.fields}


def _message_value(message: Message, field: Any) -> Any:
    value = getattr(message, field.name)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return dict(sorted(value.items()))
    if field.is_repeated:
        return [_single(each, field) for each in value]
    if field.has_presence and not message.HasField(field.name):
        return None
    return _single(value, field)


def _single(value: Any, field: Any) -> Any:
    if isinstance(value, Timestamp):
        return value.ToDatetime(datetime.UTC).isoformat()
    if isinstance(value, Message):
        return message_dict(value)
    if isinstance(value, bytes):
        return value.hex()
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return known.name.removeprefix(_enum_prefix(field.enum_type.name)) if known else value
    return value


def _enum_prefix(name: str) -> str:
    return "".join(f"_{letter}" if letter.isupper() else letter for letter in name).lstrip("_").upper() + "_"


def listing_dict(listing: Message) -> dict[str, Any]:
    """Return a listing as JSON values, its id as `id`."""
    values = message_dict(listing)
    return {"id": values.pop("listing_id"), **values}


def edition_dict(edition: Message) -> dict[str, Any]:
    """Return an edition as JSON values; the file itself as text where it was asked for."""
    values = message_dict(edition)
    file = bytes.fromhex(values.pop("file"))
    return values | ({"file": file.decode("utf-8", "replace")} if file else {})


def local_time(at: datetime.datetime) -> str:
    """Return an instant as people here read it, Asia/Shanghai."""
    return at.astimezone(SHANGHAI).strftime("%Y-%m-%d %H:%M:%S +08:00")


def facts_panel(title: str, facts: Mapping[str, Any]) -> Panel:
    """Return names and values in a frame; empty ones are left out."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in facts.items():
        if value not in ("", None, [], ()):
            grid.add_row(name.replace("_", " "), str(value).lower() if isinstance(value, bool) else str(value))
    return Panel(grid, title=Text(title), box=box.ROUNDED)


def receipt_panel(receipt: Any, title: str) -> RenderableType:
    """Return what became of an import."""
    facts = message_dict(receipt)
    shown = {name: facts[name] for name in ("receipt_id", "state", "file_name", "received_time")}
    shown["revision"] = facts["revision"] or "none: nothing is committed"
    counts = " · ".join(
        f"{facts[name]:,} {name}"
        for name in ("rows", "added", "amended", "removed", "absent", "unchanged", "quarantined")
    )
    shown["counts"] = counts
    if receipt.repeated_file:
        shown["repeated"] = "this file was taken before; this is its first receipt"
    for number, reason in enumerate(receipt.reasons, 1):
        shown[f"reason {number}"] = reason
    return facts_panel(title, shown)


def quarantine_table(receipt: Any, limit: int = 20) -> RenderableType:
    """Return the first quarantined rows by line, column and rule."""
    table = Table(
        box=box.SIMPLE_HEAD, title=Text(f"quarantine: {receipt.quarantined:,} rows not taken"), title_justify="left"
    )
    table.add_column("line", justify="right")
    for heading in ("column", "rule", "message"):
        table.add_column(heading, overflow="fold")
    for row in receipt.quarantine[:limit]:
        table.add_row(str(row.line), row.column, row.rule, row.message)
    if receipt.quarantined > limit:
        table.caption = Text(f"the first {min(limit, len(receipt.quarantine))}; --json gives up to 1,000")
    return table


def listings_table(listings: Sequence[Any]) -> RenderableType:
    """Return listings, newest first, one line each."""
    table = Table(box=box.SIMPLE_HEAD, expand=True)
    for heading in ("id", "subject", "list type", "authority", "decision", "listed", "state"):
        table.add_column(heading, overflow="fold", no_wrap=heading == "id")
    for each in listings:
        table.add_row(
            each.listing_id,
            "\n".join((each.name, *each.masked_identifiers)).strip(),
            each.list_type,
            each.authority,
            each.decision_no,
            each.listed_date,
            _state(each),
        )
    return table


def _state(listing: Any) -> Text:
    mark = " · objection open" if listing.objection else ""
    if listing.in_force:
        return Text(f"in force{mark}", style="red")
    return Text(f"not in force: {listing.not_in_force_reason.replace('_', ' ')}{mark}", style="green")


def listing_panel(listing: Any, events: Iterable[Any] = ()) -> RenderableType:
    """Return one listing with its life."""
    facts = listing_dict(listing)
    facts["masked_identifiers"] = ", ".join(facts["masked_identifiers"])
    facts["related_persons"] = facts["related_persons"] or ""
    table = Table(box=box.SIMPLE_HEAD, title=Text("events"), title_justify="left")
    for heading in ("event", "works from", "recorded", "by", "reason", "document", "says", "revision"):
        table.add_column(heading, overflow="fold")
    for event in events:
        values = message_dict(event)
        table.add_row(
            values["kind"].lower().replace("_", " "),
            *(
                local_time(getattr(event, name).ToDatetime(datetime.UTC))
                for name in ("effective_time", "recorded_time")
            ),
            event.actor,
            event.reason,
            event.document,
            event_says(event),
            str(event.revision),
        )
    parts: list[RenderableType] = [facts_panel("listing", facts)]
    return Group(*parts, table) if table.row_count else Group(*parts)


def editions_table(found: Iterable[Any]) -> RenderableType:
    """Return editions of catalogues, one line each."""
    table = Table(box=box.SIMPLE_HEAD, expand=True)
    for heading in ("catalogue", "level", "publication", "state", "list types", "matters", "measures"):
        table.add_column(heading, overflow="fold", no_wrap=heading == "catalogue")
    for each in found:
        example = "\n(example, invented)" if each.example else ""
        table.add_row(
            f"{each.catalogue_id}@{each.edition}{example}",
            f"{each.level}\n{each.region}",
            editions.publication_text(each),
            editions.life_text(each),
            *(str(count) for count in (each.list_types, each.matters, each.measures)),
        )
    return table


def counts_table(title: str, counts: Mapping[str, int]) -> RenderableType:
    """Return outcomes and how often each was the answer, strongest first."""
    table = Table(box=box.SIMPLE_HEAD, title=Text(title), title_justify="left")
    table.add_column("outcome")
    table.add_column("rows", justify="right")
    for name in reversed(tuple(OUTCOMES)):
        if counts.get(name):
            table.add_row(outcome_text(name), f"{counts[name]:,}")
    return table
