"""`lanjie watch`, `lanjie alerts` and `lanjie case`: organisations that are watched, and what is told of them."""

import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from lanjie_gateway.cli import render
from lanjie_gateway.cli.gateway_file import AsJson, Listener, Person, Target

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lanjie.v1 import watch_pb2
    from lanjie_gateway.cli.admin import Connection

app = typer.Typer(help="Watch organisations for a matter and a term.", no_args_is_help=True)
cases = typer.Typer(help="Cases whose passes are looked back at while they are open.", no_args_is_help=True)
_PAGE = 100
_Matter = Annotated[str, typer.Option(help="Code of the matter.")]
_Day = datetime.datetime | None


@app.command()
def add(
    identifier: Annotated[str, typer.Argument(metavar="KIND:NUMBER", help="Identifier of an organisation.")],
    *,
    matter: _Matter,
    purpose: Annotated[str, typer.Option(help="Why it is watched (Art. 24).")],
    until: Annotated[datetime.datetime, typer.Option(formats=["%Y-%m-%d"], help="Last day; three years at most.")],
    since: Annotated[_Day, typer.Option("--from", formats=["%Y-%m-%d"], help="First day; today if none.")] = None,
    case_no: Annotated[str, typer.Option(help="Number of the case or contract.")] = "",
    region: Annotated[str, typer.Option(help="Region of the handling authority; the department's own if none.")] = "",
    target: Target,
    as_json: AsJson = False,
) -> None:
    """Watch an organisation; again with another term or purpose, the watch takes those."""
    from lanjie.v1 import watch_pb2 as pb
    from lanjie_gateway.cli.admin import connect

    request = pb.RegisterRequest(
        identifier=identifier,
        matter=matter,
        case_no=case_no,
        purpose=purpose,
        from_date="" if since is None else since.date().isoformat(),
        until_date=until.date().isoformat(),
        handling_region=region,
    )
    with connect(target.endpoint(Listener.FEED, Person.INQUIRER)) as feed:
        response = feed.call(feed.watches.Register, request)
    if as_json:
        render.emit(render.message_dict(response))
    else:
        typer.echo(_line(response.watch) + (" (watched before)" if response.repeated else ""))


@app.command("list")
def list_(
    *,
    ended: Annotated[bool, typer.Option("--ended", help="Those too that have ended.")] = False,
    target: Target,
    as_json: AsJson = False,
) -> None:
    """List the department's watches, the newest first."""
    from lanjie.v1 import watch_pb2 as pb
    from lanjie_gateway.cli.admin import connect

    found: list[pb.Watch] = []
    with connect(target.endpoint(Listener.FEED, Person.INQUIRER)) as feed:
        while True:
            after = found[-1].watch_id if found else ""
            page = feed.call(feed.watches.List, pb.ListRequest(ended=ended, after=after, limit=_PAGE)).watches
            found += page
            if len(page) < _PAGE:
                break
    if as_json:
        render.emit([render.message_dict(each) for each in found])
    for each in () if as_json else found:
        typer.echo(_line(each))


@app.command()
def end(
    watch_id: Annotated[str, typer.Argument(metavar="WATCH_ID", help="Id of the watch.")],
    *,
    target: Target,
    as_json: AsJson = False,
) -> None:
    """End a watch before its term."""
    from lanjie.v1 import watch_pb2 as pb
    from lanjie_gateway.cli.admin import connect

    with connect(target.endpoint(Listener.FEED, Person.INQUIRER)) as feed:
        watch = feed.call(feed.watches.End, pb.EndRequest(watch_id=watch_id)).watch
    if as_json:
        render.emit(render.message_dict(watch))
    else:
        typer.echo(_line(watch))


@cases.command()
def close(
    case_no: Annotated[str, typer.Argument(metavar="CASE_NO", help="Number of the case.")],
    *,
    matter: _Matter,
    target: Target,
    as_json: AsJson = False,
) -> None:
    """Close a case: a listing that comes later is not held against its passes any more."""
    from lanjie.v1 import watch_pb2 as pb
    from lanjie_gateway.cli.admin import connect

    with connect(target.endpoint(Listener.FEED, Person.INQUIRER)) as feed:
        response = feed.call(feed.watches.CloseCase, pb.CloseCaseRequest(matter=matter, case_no=case_no))
    if as_json:
        render.emit({"repeated": response.repeated})
    else:
        typer.echo("closed before" if response.repeated else "closed")


def alerts(
    *,
    after: Annotated[int, typer.Option(min=0, help="Those with a greater number.")] = 0,
    follow: Annotated[
        bool, typer.Option("--follow", help="Wait for more; one JSON object a line with --json.")
    ] = False,
    acknowledge: Annotated[bool, typer.Option("--ack", help="Acknowledge what was shown.")] = False,
    target: Target,
    as_json: AsJson = False,
) -> None:
    """Show alerts that are not acknowledged, in order."""
    import json

    from lanjie.v1 import watch_pb2 as pb
    from lanjie_gateway.cli.admin import connect

    shown = []
    with connect(target.endpoint(Listener.FEED, Person.INQUIRER)) as feed:
        if follow:
            stream = feed.stream(feed.watches.StreamAlerts, pb.StreamAlertsRequest(after=after), seconds=None)
        else:
            stream = _pages(feed, after)
        for page in stream:
            for each in page.alerts:
                if not as_json:
                    typer.echo(_alert_line(each))
                elif follow:
                    typer.echo(json.dumps(render.message_dict(each), ensure_ascii=False))
                else:
                    shown.append(render.message_dict(each))
            if acknowledge and page.alerts:
                numbers = [each.number for each in page.alerts]
                feed.call(feed.watches.Acknowledge, pb.AcknowledgeRequest(numbers=numbers))
    if as_json and not follow:
        render.emit(shown)


def _pages(feed: "Connection", after: int) -> "Iterator[watch_pb2.PullAlertsResponse]":
    from lanjie.v1 import watch_pb2 as pb

    while True:
        page = feed.call(feed.watches.PullAlerts, pb.PullAlertsRequest(after=after, limit=_PAGE))
        yield page
        if len(page.alerts) < _PAGE:
            return
        after = page.alerts[-1].number


def _line(watch: "watch_pb2.Watch") -> str:
    ended = f"  ended {watch.ended_time.ToDatetime():%Y-%m-%d}" if watch.HasField("ended_time") else ""
    case = f"  {watch.case_no}" if watch.case_no else ""
    term = f"{watch.from_date} to {watch.until_date}"
    return render.printable(f"{watch.watch_id}  {watch.masked_subject}  {watch.matter}{case}  {term}{ended}")


def _alert_line(alert: "watch_pb2.Alert") -> str:
    from lanjie.v1 import watch_pb2 as pb

    kind = pb.AlertKind.Name(alert.kind).removeprefix("ALERT_KIND_").lower().replace("_", " ")
    about = alert.watch_id or f"decision {alert.decision_id}"
    parts = [str(alert.number), kind, alert.matter, alert.case_no, about, alert.masked_subject]
    parts += [alert.list_type, alert.authority, alert.decision_no]
    if alert.outcome:
        parts.append(f"{alert.outcome_before} -> {alert.outcome}")
    if alert.objection:
        parts.append("objection open")
    return render.printable("  ".join(part for part in parts if part))
