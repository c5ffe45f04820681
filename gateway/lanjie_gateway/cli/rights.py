"""`lanjie subject`, `lanjie authorisation` and `lanjie complaint`: what subjects may know, allow and complain of."""

import datetime
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lanjie_gateway.cli import render
from lanjie_gateway.cli.arguments import identifier_text, parse_instant
from lanjie_gateway.cli.gateway_file import (
    AsJson,
    CommandError,
    Listener,
    Person,
    Target,
)
from lanjie_gateway.cli.private_files import replacing

if TYPE_CHECKING:
    from lanjie_gateway.cli.admin import Connection

subject = typer.Typer(name="subject", help="What a subject may know of itself (Art. 63).", no_args_is_help=True)
authorisation = typer.Typer(
    name="authorisation", help="What subjects authorise departments to ask (Art. 39, 69).", no_args_is_help=True
)
complaint = typer.Typer(name="complaint", help="Complaints of subjects (Art. 60).", no_args_is_help=True)
Ident = Annotated[str, typer.Argument(metavar="IDENT", help="kind:number; `-` reads it from standard input.")]


@subject.command()
def report(
    identifier: Ident,
    *,
    proof: Annotated[
        str, typer.Option(help="How the subject was identified: METHOD:REFERENCE, e.g. id-document:D-2026-17.")
    ],
    proved_at: Annotated[str | None, typer.Option(metavar="INSTANT", help="When, ISO 8601; now when left out.")] = None,
    also: Annotated[list[str] | None, typer.Option(help="Another number of the same subject; `-` reads it.")] = None,
    before: Annotated[str | None, typer.Option(metavar="INSTANT", help="Inquiries before this instant only.")] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page to print, in Chinese.")] = None,
    target: Target,
    as_json: AsJson = False,
) -> None:
    """Tell a subject who asked about it, when, for which matter and with which result, and what is listed of it."""
    from lanjie.v1 import rights_pb2 as pb

    method, _, reference = proof.partition(":")
    # The gateway's clock may be a moment behind this one; what lies ahead of it is refused.
    proved = parse_instant(proved_at) if proved_at else datetime.datetime.now(datetime.UTC) - _MOMENT
    request = pb.SubjectReportRequest(identifier=identifier_text(identifier))
    request.other_identifiers.extend(map(identifier_text, also or []))
    request.proof.method, request.proof.reference = method, reference
    request.proof.proved_time.FromDatetime(proved.astimezone(datetime.UTC))
    if before:
        request.before_time.FromDatetime(parse_instant(before).astimezone(datetime.UTC))
    with _rights(target) as (connection, service):
        answer = connection.call(service.SubjectReport, request)
    if html is not None:
        from lanjie_gateway.cli.report_page import page

        with replacing(html) as file:  # what it says is the subject's alone
            file.write(page(answer))
    if as_json:
        render.emit(render.message_dict(answer))
    elif html is None:
        _show_report(answer)
    else:
        render.console().print(f"report {answer.record_id}: {html}{_older(answer)}")


@subject.command()
def listings(
    identifier: Ident,
    *,
    purpose: Annotated[str, typer.Option(help="Why it is asked (Art. 24), 1 to 200 characters.")],
    case_no: Annotated[str, typer.Option(help="Number of the case.")],
    target: Target,
    as_json: AsJson = False,
) -> None:
    """Read the listings in force of a subject with the persons marked beside them (Art. 32), by a grant for it."""
    from lanjie.v1 import rights_pb2 as pb

    request = pb.ReadListingsRequest(identifier=identifier_text(identifier), purpose=purpose, case_no=case_no)
    with _rights(target, Person.INQUIRER) as (connection, service):
        answer = connection.call(service.ReadListings, request)
    if as_json:
        render.emit(render.message_dict(answer))
        return
    for each in answer.listings:
        facts = _listing_facts(each.listing)
        facts["measures"] = "\n".join(f"{one.code} {one.title}" for one in each.measures)
        facts["related persons"] = "\n".join(each.related_persons)
        render.console().print(render.facts_panel("listing", facts))
    render.console().print(f"{len(answer.listings)} in force · record {answer.record_id}")


@authorisation.command()
def register(
    identifier: Ident,
    *,
    matter: Annotated[list[str], typer.Option(help="Code of a matter; once for each.")],
    purpose: Annotated[str, typer.Option(help="Purpose; each inquiry states the same.")],
    document: Annotated[Path, typer.Option(help="The document the subject signed; only its digest is sent.")],
    document_number: Annotated[str, typer.Option(help="Its number.")],
    document_date: Annotated[str, typer.Option(metavar="DATE", help="Its date, YYYY-MM-DD.")],
    valid_until: Annotated[str, typer.Option(metavar="DATE", help="Last day, at most a year after the document.")],
    uses: Annotated[int, typer.Option(min=1, max=10, help="How many inquiries.")] = 1,
    department: Annotated[str, typer.Option(help="Department, where the agency registers for it.")] = "",
    target: Target,
    as_json: AsJson = False,
) -> None:
    """Register a subject's authorisation: one subject, named matters, one document (Art. 69)."""
    from lanjie.v1 import rights_pb2 as pb

    try:
        digest = hashlib.sha256(document.read_bytes()).digest()
    except OSError as error:
        raise CommandError(f"{document} cannot be read: {error.strerror}") from None
    request = pb.RegisterAuthorisationRequest(
        department=department,
        identifier=identifier_text(identifier),
        matters=matter,
        purpose=purpose,
        document_number=document_number,
        document_date=document_date,
        document_sha256=digest,
        valid_until_date=valid_until,
        uses=uses,
    )
    person = Person.AGENCY if department else Person.INQUIRER
    with _rights(target, person) as (connection, service):
        _show(connection.call(service.RegisterAuthorisation, request).authorisation, as_json=as_json)


@authorisation.command()
def show(
    authorisation_id: Annotated[str, typer.Argument(metavar="ID")],
    *,
    target: Target,
    as_json: AsJson = False,
) -> None:
    """Show an authorisation and what is left of it."""
    from lanjie.v1 import rights_pb2 as pb

    request = pb.GetAuthorisationRequest(authorisation_id=authorisation_id)
    with _rights(target) as (connection, service):
        _show(connection.call(service.GetAuthorisation, request).authorisation, as_json=as_json)


@authorisation.command()
def withdraw(
    authorisation_id: Annotated[str, typer.Argument(metavar="ID")],
    *,
    reason: Annotated[str, typer.Option(help="Number of the subject's request, or the reason.")],
    target: Target,
    as_json: AsJson = False,
) -> None:
    """End an authorisation at the subject's request, at once."""
    from lanjie.v1 import rights_pb2 as pb

    request = pb.WithdrawAuthorisationRequest(authorisation_id=authorisation_id, reason=reason)
    with _rights(target) as (connection, service):
        _show(connection.call(service.WithdrawAuthorisation, request).authorisation, as_json=as_json)


@complaint.command("add")
def add_complaint(
    identifier: Ident,
    *,
    about: Annotated[str, typer.Option(help="listing:ID, decision:ID or department:CODE.")],
    text: Annotated[str, typer.Option(help="What is complained of, at most 2,000 characters.")],
    target: Target,
    as_json: AsJson = False,
) -> None:
    """Take a complaint of a subject."""
    from lanjie.v1 import rights_pb2 as pb

    request = pb.AddComplaintRequest(identifier=identifier_text(identifier), about=about, text=text)
    with _rights(target) as (connection, service):
        _show(connection.call(service.AddComplaint, request).complaint, as_json=as_json)


@complaint.command("list")
def list_complaints(
    *,
    about: Annotated[str, typer.Option(help="Those about this alone.")] = "",
    closed: Annotated[bool, typer.Option("--closed", help="The closed ones too.")] = False,
    target: Target,
    as_json: AsJson = False,
) -> None:
    """List complaints, the oldest first."""
    from lanjie.v1 import rights_pb2 as pb

    request = pb.ListComplaintsRequest(about=about, closed=closed)
    with _rights(target) as (connection, service):
        found = connection.call(service.ListComplaints, request).complaints
    if as_json:
        render.emit([render.message_dict(each) for each in found])
        return
    for each in found:
        _show(each, as_json=False)
    render.console().print(f"{len(found)} complaints")


@complaint.command("close")
def close_complaint(
    complaint_id: Annotated[str, typer.Argument(metavar="ID")],
    *,
    outcome: Annotated[str, typer.Option(help="founded, partly_founded or unfounded.")],
    reply: Annotated[str, typer.Option(help="Reply to the subject, at most 2,000 characters.")],
    accountability: Annotated[str, typer.Option(help="Who is held to account, and how; due unless unfounded.")] = "",
    target: Target,
    as_json: AsJson = False,
) -> None:
    """Close a complaint with its outcome and the reply."""
    from lanjie.v1 import rights_pb2 as pb

    request = pb.CloseComplaintRequest(
        complaint_id=complaint_id, outcome=outcome, reply=reply, accountability=accountability
    )
    with _rights(target) as (connection, service):
        _show(connection.call(service.CloseComplaint, request).complaint, as_json=as_json)


_MOMENT = datetime.timedelta(seconds=5)


@contextmanager
def _rights(target: Target, person: Person = Person.AGENCY) -> "Iterator[tuple[Connection, Any]]":
    from lanjie_gateway.cli.admin import connect

    with connect(target.endpoint(Listener.FEED, person)) as connection:
        yield connection, connection.rights


def _show(message: Any, *, as_json: bool) -> None:
    values = render.message_dict(message)
    if as_json:
        render.emit(values)
    else:
        render.console().print(render.facts_panel(message.DESCRIPTOR.name.lower(), values))


def _show_report(answer: Any) -> None:
    from rich import box
    from rich.table import Table

    console = render.console()
    table = Table(box=box.SIMPLE_HEAD, title="who asked 查询记录", title_justify="left")
    for heading in ("when", "department", "matter", "mode", "result", "measures", "source"):
        table.add_column(heading, overflow="fold")
    for each in answer.inquiries:
        when = render.local_time(each.decided_time.ToDatetime(datetime.UTC))
        outcome = each.outcome + (" (never left)" if each.overtaken else "")
        by = f"{each.department_name or each.department} ({each.role})"
        table.add_row(when, by, each.matter, each.mode, outcome, " ".join(each.measures), each.source)
    console.print(table)
    for each in answer.listings:
        console.print(render.facts_panel("listing 列入", _listing_facts(each)))
    for note in answer.notes:
        console.print(note)
    console.print(f"{', '.join(answer.masked_identifiers)} · record {answer.record_id}{_older(answer)}")


def _older(answer: Any) -> str:
    """Return how to read on, to the microsecond: by the second that is shown some would be left out."""
    if not answer.more:
        return ""
    return f" · older inquiries: --before {answer.inquiries[-1].decided_time.ToDatetime(datetime.UTC).isoformat()}"


def _listing_facts(listing: Any) -> dict[str, Any]:
    facts = render.listing_dict(listing)
    facts["events"] = "\n".join(f"{each.kind} {each.document}" for each in listing.events)
    facts["duties"] = "\n".join(f"{each.rule} until {each.due_date}" for each in listing.duties)
    return facts
