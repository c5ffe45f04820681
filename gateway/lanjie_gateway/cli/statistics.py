"""`lanjie statistics`: how many checks there were, what they met, and what was done about it."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from lanjie_gateway.cli import render
from lanjie_gateway.cli.gateway_file import (
    AsJson,
    CommandError,
    Listener,
    Person,
    Target,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

COUNTS: Final = {
    "checks": "checks",
    "local": "local",
    "hits": "hits",
    "effects": "effects",
    "asked": "asked",
    "applied": "all",
    "partly": "some",
    "not_applied": "none",
    "outstanding": "open",
    "overdue": "late",
    "median_hours": "hours",
}
"""Columns of a line behind its group, and their headings on a screen: of the listings that ask for feedback, those of
which all, some or none of the measures were applied. In a file `outcomes` and `reasons` follow them."""
_FORMATS: Final = (".csv", ".xlsx")


def statistics(
    *,
    by: Annotated[
        str, typer.Option(help="Groups: some of department,matter,region,month,list_type,measure.")
    ] = "department",
    since: Annotated[str, typer.Option(metavar="YYYY-MM", help="First month; this one if not given.")] = "",
    until: Annotated[str, typer.Option(metavar="YYYY-MM", help="Last month; this one if not given.")] = "",
    department: Annotated[str, typer.Option(help="Of one department.")] = "",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the lines to a .csv or .xlsx file.")
    ] = None,
    target: Target,
    as_json: AsJson = False,
) -> None:
    """Count checks, hits and effects by groups, and what departments did about them."""
    from lanjie.v1 import statistics_pb2 as pb
    from lanjie_gateway.cli.admin import connect

    if output is not None and output.suffix.lower() not in _FORMATS:
        raise CommandError(f"{output} is neither .csv nor .xlsx")
    groups = [name for each in by.split(",") if (name := each.strip())]
    with connect(target.endpoint(Listener.ADMIN, Person.AGENCY)) as admin:
        request = pb.GetStatisticsRequest(group_by=groups, since_month=since, until_month=until, department=department)
        found = admin.call(admin.statistics.GetStatistics, request)
    if output is not None:
        _write(output, _cells(groups, found.lines))
    if as_json:
        render.emit({"group_by": groups, **render.message_dict(found)})
        return
    console = render.console()
    console.print(_table(f"{found.since_month} to {found.until_month}", groups, found.lines))
    facts = {f"overdue: {rule}": str(number) for rule, number in sorted(found.overdue_duties.items())}
    facts["objections open"] = str(found.open_objections)
    facts |= {f"ending in 30 days: {name}": str(number) for name, number in sorted(found.ending_soon.items())}
    console.print(render.facts_panel("of the list", facts))


def _table(title: str, groups: Sequence[str], lines: Any) -> "RenderableType":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    # Where the screen is narrow the codes of the groups are folded: a heading that is cut off says nothing.
    table = Table(box=box.SIMPLE_HEAD, title=Text(title), title_justify="left", padding=(0, 1, 0, 0))
    for heading in groups:
        table.add_column(heading, overflow="fold")
    for heading in COUNTS.values():
        table.add_column(heading, justify="right", no_wrap=True)
    for line in lines:
        table.add_row(*(Text(each) for each in line.key), *(_shown(line, name) for name in COUNTS))
    return table


def _shown(line: Any, name: str) -> str:
    value = _count(line, name)
    if value is None:
        return "–"
    return f"{value:.1f}" if isinstance(value, float) else f"{value:,}"


def _count(line: Any, name: str) -> int | float | None:
    field = line.DESCRIPTOR.fields_by_name[name]
    if field.has_presence and not line.HasField(name):
        return None
    value: int | float = getattr(line, name)
    return value


def _cells(groups: Sequence[str], lines: Any) -> Iterable[list[Any]]:
    """Yield the rows of a file, the heading first; outcomes and reasons have a column each."""
    outcomes = sorted({name for line in lines for name in line.outcomes})
    reasons = sorted({name for line in lines for name in line.reasons})
    yield [*groups, *COUNTS, *(f"outcome {name}" for name in outcomes), *(f"reason {name}" for name in reasons)]
    for line in lines:
        yield [
            *line.key,
            *(_count(line, name) for name in COUNTS),
            *(line.outcomes.get(name, 0) for name in outcomes),
            *(line.reasons.get(name, 0) for name in reasons),
        ]


def _write(path: Path, rows: Iterable[list[Any]]) -> None:
    if path.suffix.lower() == ".xlsx":
        content = _workbook(rows)
    else:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows([_plain(cell) for cell in row] for row in rows)
        # With a mark: spreadsheets read Chinese in a file without one as something else.
        content = text.getvalue().encode("utf-8-sig")
    try:
        path.write_bytes(content)
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}") from None


def _plain(cell: Any) -> Any:
    # The matter of a local pass is what an SDK sent: nothing a spreadsheet takes for a formula.
    if not isinstance(cell, str):
        return cell
    # The writer quotes no carriage return, and a reader ends the row there.
    text = cell.replace("\r", " ")
    return f"'{text}" if text.lstrip()[:1] in tuple("=+-@") else text


def _workbook(rows: Iterable[list[Any]]) -> bytes:
    import xlsxwriter

    made = io.BytesIO()
    as_text = {"strings_to_formulas": False, "strings_to_urls": False}
    with xlsxwriter.Workbook(made, {"in_memory": True, **as_text}) as workbook:
        sheet = workbook.add_worksheet("statistics")
        for number, row in enumerate(rows):
            sheet.write_row(number, 0, row)
    return made.getvalue()
