"""`lanjie grant`: which department may ask what (Art. 21, 24, 39, 40)."""

import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from lanjie_gateway.cli import render
from lanjie_gateway.cli.gateway_file import (
    AsJson,
    CommandError,
    Listener,
    Person,
    Target,
)

EXIT_WAITING = 4
MAX_FILE_BYTES = 1 << 20
app = typer.Typer(
    help="Which department may ask what: set, show, list, end; a second person confirms.", no_args_is_help=True
)
Department = Annotated[str, typer.Argument(help="Code of the department.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; it is kept.")]
ActId = Annotated[str, typer.Argument(metavar="ID", help="Id of the waiting grant, as `grant waiting` shows it.")]


@app.command("set")
def set_(
    file: Annotated[Path, typer.Argument(help="Grant file, TOML; docs/operations.md has the form.")],
    *,
    reason: Reason,
    target: Target,
    as_json: AsJson = False,
) -> None:
    """Set the grant of a department; what widens it waits for a second person (exit code 4)."""
    from lanjie.v1 import access_pb2 as pb

    try:
        content = file.read_bytes()
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}") from None
    if len(content) > MAX_FILE_BYTES:
        raise CommandError(f"{file} is larger than 1 MiB")
    answer = _call(target, "SetGrant", pb.SetGrantRequest(file=content, reason=reason))
    if as_json:
        render.emit(render.message_dict(answer))
    else:
        console = render.console()
        if answer.act.state == "waiting":
            again = " ".join(target.arguments())
            console.print(
                f"{answer.act.act_id} waits for another person: it widens {', '.join(answer.widens)}", style="yellow"
            )
            typer.echo(f"lanjie grant confirm {answer.act.act_id} {again}")
        else:
            console.print(f"{answer.act.department}: set, revision {answer.act.revision}", style="bold green")
        for warning in answer.warnings:
            console.print(f"worth a look: {warning}", style="yellow")
    if answer.act.state == "waiting":
        raise typer.Exit(EXIT_WAITING)


@app.command()
def end(
    department: Department,
    *,
    reason: Reason,
    document: Annotated[str, typer.Option("--document", help="Number of the document it rests on.")],
    target: Target,
    as_json: AsJson = False,
) -> None:
    """End the grant of a department at once."""
    from lanjie.v1 import access_pb2 as pb

    request = pb.EndGrantRequest(department=department, reason=reason, document=document)
    answer = _call(target, "EndGrant", request)
    _show_act(answer, f"{department}: ended, revision {answer.act.revision}", as_json=as_json)


@app.command()
def show(
    department: Department,
    *,
    target: Target,
    as_json: AsJson = False,
) -> None:
    """Show the grant of a department."""
    from lanjie.v1 import access_pb2 as pb

    (act,) = _call(target, "GetGrants", pb.GetGrantsRequest(department=department)).acts
    if as_json:
        render.emit(render.message_dict(act))
    else:
        render.console().print(render.facts_panel(department, _facts(act)))


@app.command("list")
def list_(
    *,
    target: Target,
    as_json: AsJson = False,
) -> None:
    """List the grants that stand."""
    from lanjie.v1 import access_pb2 as pb

    _show_acts(_call(target, "GetGrants", pb.GetGrantsRequest()), as_json=as_json)


@app.command()
def history(
    department: Department,
    *,
    target: Target,
    as_json: AsJson = False,
) -> None:
    """Show everything that was ever granted to a department, ended and declined."""
    from lanjie.v1 import access_pb2 as pb

    _show_acts(_call(target, "GetGrantHistory", pb.GetGrantHistoryRequest(department=department)), as_json=as_json)


@app.command()
def waiting(
    *,
    target: Target,
    as_json: AsJson = False,
) -> None:
    """List the grants that wait for a second person."""
    from lanjie.v1 import access_pb2 as pb

    _show_acts(_call(target, "GetWaitingGrants", pb.GetWaitingGrantsRequest()), as_json=as_json)


@app.command()
def confirm(
    act_id: ActId,
    *,
    target: Target,
    as_json: AsJson = False,
) -> None:
    """Let a waiting grant work, as another person than the one who set it."""
    from lanjie.v1 import access_pb2 as pb

    answer = _call(target, "ConfirmGrant", pb.ConfirmGrantRequest(act_id=act_id), Person.CONTROLLER)
    _show_act(answer, f"{answer.act.department}: set, revision {answer.act.revision}", as_json=as_json)


@app.command()
def decline(
    act_id: ActId,
    *,
    reason: Reason,
    target: Target,
    as_json: AsJson = False,
) -> None:
    """Give a waiting grant up."""
    from lanjie.v1 import access_pb2 as pb

    answer = _call(target, "DeclineGrant", pb.DeclineGrantRequest(act_id=act_id, reason=reason), Person.CONTROLLER)
    _show_act(answer, f"{act_id}: declined", as_json=as_json)


def _call(target: Target, method: str, request: Any, person: Person = Person.AGENCY) -> Any:
    from lanjie_gateway.cli.admin import connect

    with connect(target.endpoint(Listener.ADMIN, person)) as admin:
        return admin.call(getattr(admin.access, method), request)


def _show_act(answer: Any, line: str, *, as_json: bool) -> None:
    if as_json:
        render.emit(render.message_dict(answer))
    else:
        typer.echo(line)


def _show_acts(answer: Any, *, as_json: bool) -> None:
    if as_json:
        render.emit([render.message_dict(act) for act in answer.acts])
        return
    if not answer.acts:
        typer.echo("no grants")
        return
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("id", "department", "what", "matters", "regions", "days", "by", "when", "why"):
        table.add_column(heading, overflow="fold", no_wrap=heading == "id")
    for act in answer.acts:
        grant = act.grant
        days = f"{grant.valid_from_date} – {grant.valid_until_date}" if act.HasField("grant") else ""
        who = f"{act.actor}, {act.second}" if act.second else act.actor
        when = render.local_time((act.settled_time if act.revision else act.brought_time).ToDatetime(datetime.UTC))
        what = f"{act.kind}, {act.state}"
        matters, regions = " ".join(grant.matters), " ".join(grant.regions)
        why = f"{act.reason} ({act.document})"
        table.add_row(*map(Text, (act.act_id, act.department, what, matters, regions, days, who, when, why)))
    render.console().print(table)


def _facts(act: Any) -> dict[str, str]:
    from lanjie.v1 import screening_pb2

    grant = act.grant
    modes = (screening_pb2.InquiryMode.Name(mode).removeprefix("INQUIRY_MODE_").lower() for mode in grant.modes)
    return {
        "name": f"{grant.name} ({grant.unit.replace('_', ' ')})",
        "matters": " ".join(grant.matters),
        "modes": " ".join(modes),
        "handling region": f"{grant.region}, within {' '.join(grant.regions)}",
        "implementer": " ".join(grant.implementer_kinds) or "of no kind",
        "days": f"{grant.valid_from_date} – {grant.valid_until_date}, to 24:00 Asia/Shanghai",
        "officers": _officers(grant),
        "reads listings": "yes" if grant.reads_listings else "no",
        "certificates": "\n".join(f"{san} is {person}" for san, person in sorted(grant.identities.items())),
        "checks a minute": str(grant.checks_per_minute or "default"),
        "persons a day": str(grant.persons_per_day or "default"),
        "document": f"{grant.document}, {grant.document_date}",
        "set by": f"{act.actor}{', confirmed by ' + act.second if act.second else ''}, revision {act.revision}",
        "reason": act.reason,
    }


def _officers(grant: Any) -> str:
    known = " ".join(grant.officers) or "any that the counter system vouches for"
    return f"{known}; {'a signed claim is required' if grant.officers_required else 'a claim may be unsigned'}"
