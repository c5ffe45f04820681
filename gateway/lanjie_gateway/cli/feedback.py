"""`lanjie report` and `lanjie feedback`: what was done about an answer, and which answers nobody has reported on."""

import datetime
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lanjie_gateway.cli import render
from lanjie_gateway.cli.gateway_file import AsJson, Listener, Person, Target

if TYPE_CHECKING:
    from rich.console import RenderableType


def report(
    decision_id: Annotated[str, typer.Argument(metavar="DECISION_ID", help="Id of the decision, as the answer told.")],
    *,
    officer: Annotated[str, typer.Option(help="Who handled the case, by number.")],
    applied: Annotated[
        list[str] | None, typer.Option(help="Code of a measure that was carried out; repeat it.")
    ] = None,
    listing: Annotated[list[str] | None, typer.Option(help="Listing it is about; all of the answer if none.")] = None,
    reason: Annotated[
        str,
        typer.Option(
            help="Why others were not: repaired, objection, identity, irrelevant, discretion, not_competent, "
            "other_measure, withdrawn, other."
        ),
    ] = "",
    text: Annotated[str, typer.Option(help="The same in words; no number of a subject.")] = "",
    case_refused: Annotated[bool, typer.Option("--case-refused", help="The application was refused for it.")] = False,
    confirmed_by: Annotated[str, typer.Option(help="Officer who confirmed measures against a person first.")] = "",
    confirmed_at: Annotated[
        datetime.datetime | None, typer.Option(formats=["%Y-%m-%dT%H:%M"], help="When he did, time of Shanghai.")
    ] = None,
    correct: Annotated[bool, typer.Option("--correct", help="It takes the place of an earlier report.")] = False,
    target: Target,
    as_json: AsJson = False,
) -> None:
    """Tell what was done about an answer with an effect; the same again changes nothing."""
    from lanjie.v1 import feedback_pb2 as pb
    from lanjie_gateway.cli.admin import connect
    from lanjie_matcher.civil_time import SHANGHAI

    request = pb.ReportRequest(
        decision_id=decision_id,
        listing_ids=listing or (),
        applied_measures=applied or (),
        reason=reason,
        text=text,
        officer_id=officer,
        case_refused=case_refused,
        confirmed_by=confirmed_by,
        corrects=correct,
    )
    if confirmed_at is not None:
        request.confirmed_time.FromDatetime(confirmed_at.replace(tzinfo=SHANGHAI).astimezone(datetime.UTC))
    with connect(target.endpoint(Listener.FEED, Person.INQUIRER)) as feed:
        taken = feed.call(feed.feedback.Report, request)
    if as_json:
        render.emit(render.message_dict(taken))
        return
    for each in taken.listings:
        told = pb.Disposition.Name(each.disposition).removeprefix("DISPOSITION_").lower().replace("_", " ")
        measures = f": {', '.join(each.applied_measures)}" if each.applied_measures else ""
        again = " (told before)" if each.repeated else ""
        typer.echo(f"{each.listing_id or 'undetermined'}  {told}{measures}{again}")
        for alarm in each.alarms:
            typer.echo(f"  alarm: {alarm}", err=True)


def feedback(
    *,
    department: Annotated[str, typer.Option(help="Of one department; the agency sees all.")] = "",
    overdue: Annotated[bool, typer.Option("--overdue", help="Those alone whose last day is past.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="At most so many.")] = 100,
    target: Target,
    as_json: AsJson = False,
) -> None:
    """List answers with an effect that nobody has reported on, the oldest first, and count them by department."""
    from lanjie.v1 import feedback_pb2 as pb
    from lanjie_gateway.cli.admin import connect

    with connect(target.endpoint(Listener.FEED, Person.AGENCY)) as feed:
        request = pb.ListOutstandingRequest(department=department, overdue=overdue, limit=limit)
        found = feed.call(feed.feedback.ListOutstanding, request)
    if as_json:
        render.emit(render.message_dict(found))
    elif found.counts:
        render.console().print(_table("by department", ("department", "of a day", "older", "overdue"), _counts(found)))
        headings = ("decision", "listing", "department", "matter", "outcome", "measures", "due")
        render.console().print(_table("oldest first", headings, _rows(found.outstanding)))
    else:
        typer.echo("nothing is outstanding")


def _counts(found: Any) -> Iterable[Sequence[str]]:
    return ((each.department, str(each.of_a_day), str(each.older), str(each.overdue)) for each in found.counts)


def _rows(outstanding: Any) -> Iterable[Sequence[str]]:
    for each in outstanding:
        due = f"{each.due_date} overdue" if each.overdue else each.due_date
        measures = ", ".join(each.measures) + (" (an officer confirms)" if each.confirmation_required else "")
        yield each.decision_id, each.listing_id, each.department, each.matter, each.outcome, measures, due


def _table(title: str, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> "RenderableType":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, title=Text(title), title_justify="left")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table
