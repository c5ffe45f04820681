"""`lanjie limits`: what departments asked about natural persons today, which limits they reached, and lifting them."""

import datetime
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lanjie_gateway.cli import render
from lanjie_gateway.cli.gateway_file import AsJson, Listener, Person, Target

app = typer.Typer(no_args_is_help=True, help="Limits on asking about natural persons.")
_COLOURS = {"ALARM": "yellow", "THROTTLE": "yellow", "STOP": "red"}


@app.command()
def show(
    department: Annotated[
        str, typer.Argument(metavar="[DEPARTMENT]", help="Code of one department; all when left out.")
    ] = "",
    *,
    target: Target,
    as_json: AsJson = False,
) -> None:
    """Show how many natural persons departments asked about today, and which limits they reached."""
    from lanjie.v1 import ledger_pb2
    from lanjie_gateway.cli.admin import connect

    with connect(target.endpoint(Listener.ADMIN, Person.AGENCY)) as admin:
        answer = admin.call(admin.ledger.GetLimits, ledger_pb2.GetLimitsRequest(department=department))
    if as_json:
        render.emit(limits_dict(answer))
    else:
        render.console().print(limits_view(answer, trips=True))


@app.command()
def lift(
    department: Annotated[str, typer.Argument(help="Code of the department.")],
    *,
    reason: Annotated[
        str, typer.Option("--reason", help="Why, 1 to 500 characters; no names and numbers of subjects.")
    ],
    document: Annotated[str, typer.Option("--document", help="Document it rests on, 1 to 200 characters.")],
    target: Target,
    as_json: AsJson = False,
) -> None:
    """Lift a department's limits on natural persons until the end of the day in Shanghai; leaves a record."""
    from lanjie.v1 import ledger_pb2
    from lanjie_gateway.cli.admin import connect

    request = ledger_pb2.LiftLimitsRequest(department=department, reason=reason, document=document)
    with connect(target.endpoint(Listener.ADMIN, Person.AGENCY)) as admin:
        answer = admin.call(admin.ledger.LiftLimits, request)
    if as_json:
        render.emit({"record_id": answer.record_id, "limits": render.message_dict(answer.limits)})
        return
    console = render.console()
    console.print(f"{department}: limits lifted until 24:00 Asia/Shanghai, record {answer.record_id}", style="green")


def limits_dict(answer: Any) -> dict[str, Any]:
    """Return everything as JSON values."""
    return render.message_dict(answer) | {"troubles": troubles(answer)}


def limits_view(answer: Any, *, trips: bool = False) -> RenderableType:
    """Return what a person looks at; `trips` adds each limit that was reached."""
    parts: list[RenderableType] = [Text(f"! {trouble}", style="bold yellow") for trouble in troubles(answer)]
    if not answer.departments:
        parts.append(Text("No department has asked about natural persons."))
        return Group(*parts)
    table = Table(box=box.SIMPLE_HEAD, title=Text(f"natural persons asked about on {answer.today_date}"))
    for heading in ("department", "persons", "cap", "usual", "off hours", "level", "lifted by"):
        table.add_column(heading, justify="right" if heading in ("persons", "cap", "usual", "off hours") else "left")
    for each in answer.departments:
        numbers = (each.persons, each.persons_per_day, round(each.usual_persons), each.off_hours)
        shown = (each.department, *(f"{number:,}" for number in numbers), each.level, each.lifted_by)
        table.add_row(*shown, style=_COLOURS.get(each.level, ""))
    parts.append(table)
    if trips and any(each.trips for each in answer.departments):
        parts.append(_trips(answer))
    return Group(*parts)


def troubles(answer: Any) -> list[str]:
    """Return a line for each department with a limit that was reached today."""
    lines = []
    for each in answer.departments:
        if not each.trips:
            continue
        detectors = ", ".join(sorted({trip.detector for trip in each.trips}))
        state = {"THROTTLE": "slowed down", "STOP": "stopped"}.get(each.level, "alarm only")
        state = f"lifted by {each.lifted_by}" if each.lifted_by else state
        lines.append(
            f"{each.department} asked about natural persons in a way that needs a look ({detectors}; {state}): "
            f"`lanjie limits show {each.department}`"
        )
    return lines


def _trips(answer: Any) -> RenderableType:
    table = Table(box=box.SIMPLE_HEAD, title=Text("limits reached"))
    for heading in ("when", "department", "whose", "by", "detector", "level", "score", "persons"):
        table.add_column(heading, justify="right" if heading in ("score", "persons") else "left", overflow="fold")
    for each in answer.departments:
        for trip in each.trips:
            table.add_row(
                render.local_time(trip.trip_time.ToDatetime(datetime.UTC)),
                each.department,
                trip.scope or "the department",
                " ".join(filter(None, (trip.person, trip.officer))),
                trip.detector,
                trip.level,
                f"{trip.score:g}",
                f"{trip.persons:,}",
            )
    return table
