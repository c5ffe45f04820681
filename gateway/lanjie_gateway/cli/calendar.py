"""`lanjie calendar`: the working days of a year, and until when something has to be done (Art. 64-66)."""

from pathlib import Path
from typing import Annotated, Any

import typer

from lanjie_gateway.cli import render, signatures
from lanjie_gateway.cli.gateway_file import (
    AsJson,
    CommandError,
    Listener,
    Person,
    Target,
)

MAX_FILE_BYTES = 64 * 1024
app = typer.Typer(help="Working days: publish, show; deadlines.", no_args_is_help=True)


@app.command()
def publish(
    file: Annotated[Path, typer.Argument(help="Year file, YAML.")],
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the file only.")] = False,
    signing_key: signatures.SigningKeyFile = None,
    signature: signatures.SignatureFile = None,
    target: Target,
    as_json: AsJson = False,
) -> None:
    """Publish the working days of one year, signed; of one year the newest file counts."""
    from lanjie.v1 import calendar_pb2
    from lanjie_gateway.cli.admin import connect
    from lanjie_gateway.domain.signing import SignedKind

    try:
        content = file.read_bytes()
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}") from None
    if len(content) > MAX_FILE_BYTES:
        raise CommandError(f"{file} is larger than 64 KiB")
    signed = None
    if not dry_run:
        signed = signatures.signature_of(
            target, SignedKind.YEAR_FILE, content, signing_key=signing_key, signature=signature
        )
    with connect(target.endpoint(Listener.ADMIN, Person.MANAGER)) as admin:
        request = calendar_pb2.PublishYearRequest(
            file=content, file_name=file.name, dry_run=dry_run, **signatures.fields(signed)
        )
        answer = admin.call(admin.calendar.PublishYear, request)
    if as_json:
        render.emit({"year": render.message_dict(answer.year), "dry_run": dry_run, "warnings": list(answer.warnings)})
        return
    console = render.console()
    done = "would be published (dry run)" if dry_run else f"published, revision {answer.year.revision}"
    console.print(f"{answer.year.year} {done}", style="bold green")
    console.print(render.facts_panel(str(answer.year.year), _facts(answer.year)))
    for warning in answer.warnings:
        console.print(f"worth a look: {warning}", style="yellow")


@app.command()
def show(
    year: Annotated[int, typer.Argument(metavar="[YEAR]", min=0, max=9999, help="One year; all when left out.")] = 0,
    *,
    target: Target,
    as_json: AsJson = False,
) -> None:
    """Show the years whose working days are known."""
    from lanjie.v1 import calendar_pb2
    from lanjie_gateway.cli.admin import connect

    with connect(target.endpoint(Listener.ADMIN, Person.AGENCY)) as admin:
        answer = admin.call(admin.calendar.GetYears, calendar_pb2.GetYearsRequest(year=year))
    if as_json:
        render.emit(render.message_dict(answer))
        return
    console = render.console()
    for each in answer.years:
        console.print(render.facts_panel(str(each.year), _facts(each)))
    if answer.due_year:
        console.print(
            f"the file of {answer.due_year} is due: publish it as soon as the State Council's notice is out; "
            "until then dates in that year are provisional",
            style="yellow",
        )


@app.command()
def due(
    rule: Annotated[str, typer.Argument(help="Code of the deadline, e.g. revocation-notice.")],
    *,
    started: Annotated[str, typer.Option("--from", help="Day of the event, YYYY-MM-DD; it does not count.")],
    target: Target,
    as_json: AsJson = False,
) -> None:
    """Say until when something has to be done, by which text."""
    from lanjie.v1 import calendar_pb2
    from lanjie_gateway.cli.admin import connect

    with connect(target.endpoint(Listener.ADMIN, Person.AGENCY)) as admin:
        request = calendar_pb2.GetDueRequest(rule=rule, started_date=started)
        answer = admin.call(admin.calendar.GetDue, request)
    if as_json:
        render.emit({"rule": rule, "started_date": started, **render.message_dict(answer)})
        return
    console = render.console()
    facts = {
        "due": f"{answer.due_date}, to 24:00 Asia/Shanghai",
        "who": answer.bound,
        "starts": f"{started}: {answer.starts}",
        "period": f"{answer.number} {answer.unit.replace('_', ' ')}{' (assumed)' if answer.assumed else ''}",
        "source": answer.source,
    }
    console.print(render.facts_panel(rule, facts))
    if answer.provisional:
        console.print("provisional: the working days of a year it reaches into are not known yet", style="yellow")


def _facts(year: Any) -> dict[str, str]:
    return {
        "notice": f"{year.notice_number} {year.notice_date} {year.notice_issuer}",
        "example": "invented, for trying things out" if year.example else "",
        "published": f"revision {year.revision}, {year.actor}" if year.revision else "",
        "days off": "\n".join(f"{each.from_date} – {each.to_date}  {each.name}" for each in year.days_off),
        "worked": "  ".join(year.working_dates),
    }
