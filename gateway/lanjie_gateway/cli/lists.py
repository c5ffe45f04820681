"""`lanjie list`: imports, and the events in the life of a listing."""

import datetime
import hashlib
import shlex
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Final, Literal

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
from lanjie_gateway.cli.profiles import list_format, read_profile

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp

    from lanjie.v1.listing_pb2 import ImportHeader, ImportReceipt, ImportRequest
    from lanjie_gateway.cli.admin import Connection

PIECE_BYTES: Final = 256 * 1024
DONE, REFUSED, QUARANTINE, WAITING = 0, 2, 3, 4
PURPOSE: Final = "list administration"

app = typer.Typer(help="Lists: import files, find listings, record what happens to them.", no_args_is_help=True)

ListingId = Annotated[str, typer.Argument(metavar="ID", help="Id of the listing; `list find` tells it.")]
Reason = Annotated[str, typer.Option("--reason", help="Why (Art. 61), 1 to 500 characters.")]
Document = Annotated[str, typer.Option("--document", help="Number of the document that orders it (Art. 61).")]
Day = Annotated[
    datetime.datetime | None,
    typer.Option("--date", formats=["%Y-%m-%d"], help="Day it works from; the commit when left out."),
]
Purpose = Annotated[str, typer.Option("--purpose", help="Why it is asked (Art. 24), 1 to 200 characters.")]


@app.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(help="List file: .csv, .jsonl or .xlsx; canonical columns, or a profile's.")],
    *,
    profile: Annotated[
        str, typer.Option(help="How the file's own shape is read: name of a bundled profile, or a TOML file.")
    ] = "",
    list_type: Annotated[str, typer.Option(help="List type of rows that name none; wins over the profile's.")] = "",
    source: Annotated[str, typer.Option(help="Source of rows that name none; wins over the profile's.")] = "",
    mode: Annotated[
        Literal["delta", "full"] | None,
        typer.Option(help="full: the complete list of one type; what is missing is removed. delta when left out."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse the file if any row is bad.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would happen, commit nothing.")] = False,
    as_of: Annotated[
        str | None, typer.Option(metavar="INSTANT", help="full only: complete as of this instant, ISO 8601.")
    ] = None,
    target: Target,
    as_json: AsJson = False,
) -> None:
    """Import a file in one transaction: its good rows are all in or none.

    Exit codes: 0 done, 2 refused, 3 done with quarantine, 4 waiting for another person's confirmation.
    """
    from lanjie_gateway.cli.admin import connect

    known, data = read_profile(profile) if profile else (None, b"")
    how: str = mode or (known.mode if known else "") or "delta"
    if as_of is not None and how != "full":
        raise CommandError("--as-of goes with --mode full")
    header = import_header(
        file,
        list_type=list_type or (known.list_type if known else ""),
        source=source or (known.source if known else ""),
        mode=how,
        strict=strict,
        dry_run=dry_run,
    )
    header.profile = data
    if as_of is not None:
        header.as_of_time.CopyFrom(_timestamp(parse_instant(as_of)))
    with connect(target.endpoint(Listener.ADMIN, Person.AUTHORITY)) as admin:
        receipt = send_file(admin, file, header, quiet=as_json)
    show_receipt(receipt, target, as_json=as_json)
    raise typer.Exit(exit_code(receipt))


def import_header(file: Path, *, list_type: str, source: str, mode: str, strict: bool, dry_run: bool) -> "ImportHeader":
    """Return the header of an import; reads the file once for its digest.

    Raises:
        CommandError: the file cannot be read, or its format is not known.
    """
    from lanjie.v1 import listing_pb2 as pb

    file_format = f"FILE_FORMAT_{list_format(file).upper()}"
    try:
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").digest()
            size = content.tell()
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}") from None
    return pb.ImportHeader(
        file_name=file.name,
        format=pb.FileFormat.Value(file_format),
        list_type=list_type,
        source=source,
        mode=pb.IMPORT_MODE_FULL if mode == "full" else pb.IMPORT_MODE_DELTA,
        strict=strict,
        dry_run=dry_run,
        sha256=digest,
        size=size,
    )


def send_file(admin: "Connection", file: Path, header: "ImportHeader", *, quiet: bool) -> "ImportReceipt":
    """Stream a file to the gateway and return its receipt.

    Raises:
        lanjie.LanjieError: the gateway refused the file.
    """
    from lanjie_gateway.cli.admin import IMPORT_SECONDS

    with file.open("rb") as content, render.progress(hidden=quiet) as bar:
        task = bar.add_task(f"sending {file.name}", total=max(header.size, 1))

        def sent(count: int) -> None:
            bar.advance(task, count)
            if bar.tasks[0].finished:
                # The gateway reads as it receives; what is left is checking and the commit.
                bar.update(task, description="the gateway checks and commits", total=None)

        answer = admin.call(admin.listings.Import, _pieces(content, header, sent), seconds=IMPORT_SECONDS)
    receipt: ImportReceipt = answer.receipt
    return receipt


def _pieces(content: BinaryIO, header: "ImportHeader", sent: Callable[[int], None]) -> Iterator["ImportRequest"]:
    from lanjie.v1 import listing_pb2 as pb

    yield pb.ImportRequest(header=header)
    while piece := content.read(PIECE_BYTES):
        yield pb.ImportRequest(data=piece)
        sent(len(piece))


def exit_code(receipt: "ImportReceipt") -> int:
    """Return the exit code that tells what became of a file."""
    from lanjie.v1 import listing_pb2 as pb

    if receipt.state == pb.IMPORT_STATE_REFUSED:
        return REFUSED
    if receipt.state == pb.IMPORT_STATE_WAITING:
        return WAITING
    return QUARANTINE if receipt.quarantined else DONE


def show_receipt(receipt: "ImportReceipt", target: Target, *, as_json: bool) -> None:
    """Show what became of a file and, when it waits, what to type next."""
    from lanjie.v1 import listing_pb2 as pb

    command = confirm_command(receipt.receipt_id, target) if exit_code(receipt) == WAITING else ""
    if as_json:
        values = render.message_dict(receipt)
        render.emit(values | ({"confirm_command": command} if command else {}))
        return
    console = render.console()
    titles = {DONE: "done", REFUSED: "refused", QUARANTINE: "done with quarantine", WAITING: "waiting for confirmation"}
    title = "dry run" if receipt.state == pb.IMPORT_STATE_DRY_RUN else titles[exit_code(receipt)]
    console.print(render.receipt_panel(receipt, f"import: {title}"))
    if receipt.quarantined:
        console.print(render.quarantine_table(receipt))
    if command:
        console.print("Nothing is committed. Another person of the authority confirms with:")
        # Not wrapped: it is to be copied.
        typer.echo(f"  {command}")


def confirm_command(receipt_id: str, target: Target) -> str:
    """Return the command that confirms a waiting import."""
    # The gateway file names a second person of department `local` only.
    named = target.gateway_file is not None and target.token_file is None
    extra = [] if named else ["--token-file", "THEIR_TOKEN_FILE"]
    if target.tls is not None:
        extra = ["--tls-cert", "THEIR_CERTIFICATE", "--tls-key", "THEIR_KEY"]
    return shlex.join(["lanjie", "list", "confirm", receipt_id, *target.arguments(), *extra])


@app.command()
def find(
    identifier: Annotated[str, typer.Argument(metavar="IDENT", help="kind:number; `-` reads it from standard input.")],
    *,
    purpose: Purpose = PURPOSE,
    target: Target,
    as_json: AsJson = False,
) -> None:
    """Find the listings of one identifier, the ended ones included."""
    from lanjie.v1 import listing_pb2 as pb
    from lanjie_gateway.cli.admin import connect

    with connect(target.endpoint(Listener.ADMIN, Person.AUTHORITY)) as admin:
        request = pb.FindRequest(identifier=identifier_text(identifier), purpose=purpose)
        found = admin.call(admin.listings.Find, request).listings
    if as_json:
        render.emit([render.listing_dict(each) for each in found])
    elif found:
        render.console().print(render.listings_table(found))
    else:
        typer.echo("no listings")


@app.command()
def show(
    listing_id: ListingId,
    *,
    purpose: Purpose = PURPOSE,
    target: Target,
    as_json: AsJson = False,
) -> None:
    """Show one listing and its events."""
    from lanjie.v1 import listing_pb2 as pb
    from lanjie_gateway.cli.admin import connect

    with connect(target.endpoint(Listener.ADMIN, Person.AUTHORITY)) as admin:
        answer = admin.call(admin.listings.Get, pb.GetRequest(listing_id=listing_id, purpose=purpose))
    if as_json:
        values = render.listing_dict(answer.listing)
        parts = {"events": answer.events, "complaints": answer.complaints}
        told = {name: [render.message_dict(each) for each in part] for name, part in parts.items()}
        render.emit(values | told)
    else:
        render.console().print(render.listing_panel(answer.listing, answer.events))
        for each in answer.complaints:
            render.console().print(render.facts_panel("complaint", render.message_dict(each)))


def record(
    admin: "Connection", listing_id: str, kind: str, *, reason: str, document: str, day: str = "", **said: Any
) -> Any:
    """Record an event of a listing; a removal has a call of its own.

    Args:
        admin: the admin listener.
        listing_id: id of the listing.
        kind: name of the `ListingEventKind` without its prefix.
        reason: why, 1 to 500 characters (Art. 61).
        document: number of the document that orders it.
        day: day it works from, YYYY-MM-DD; the commit when empty.
        said: fields of `RecordEventRequest` that this kind takes besides.

    Raises:
        lanjie.LanjieError: the gateway refused it.
    """
    from lanjie.v1 import listing_pb2 as pb

    facts: dict[str, Any] = {
        "listing_id": listing_id,
        "reason": reason,
        "document": document,
        "effective_date": day,
        **said,
    }
    if kind == "REMOVED":
        return admin.call(admin.listings.Remove, pb.RemoveRequest(**facts))
    number = pb.ListingEventKind.Value(f"LISTING_EVENT_KIND_{kind}")
    return admin.call(admin.listings.RecordEvent, pb.RecordEventRequest(kind=number, **facts))


def recorded(name: str, answer: Any, target: Target, milliseconds: float, *, as_json: bool) -> None:
    """Show what became of an event; where it waits for a second person, say what to type next and end with exit 4."""
    waits = type(answer).__name__ == "RecordEventResponse" and answer.HasField("waiting")
    command = confirm_command(answer.waiting.act_id, target) if waits else ""
    if as_json:
        values = {"revision": answer.revision, "listing": render.listing_dict(answer.listing)}
        if waits:
            values |= {"waiting": render.message_dict(answer.waiting), "confirm_command": command}
        render.emit(values)
    elif waits:
        render.console().print(
            f"{name}: waits as {answer.waiting.act_id}; nothing is recorded. Another person confirms:"
        )
        typer.echo(f"  {command}")
    else:
        console = render.console()
        console.print(f"{name}: committed as revision {answer.revision} and in effect, {milliseconds:.0f} ms")
        console.print(render.listings_table([answer.listing]))
    if waits:
        raise typer.Exit(WAITING)


def carry_out(
    name: str,
    kind: str,
    listing_id: str,
    target: Target,
    *,
    as_json: bool,
    person: Person = Person.AUTHORITY,
    **facts: Any,
) -> None:
    """Record an event and show what came of it; `facts` as for `record`."""
    from lanjie_gateway.cli.admin import connect

    with connect(target.endpoint(Listener.ADMIN, person)) as admin:
        started = time.perf_counter()
        answer = record(admin, listing_id, kind, **facts)
        milliseconds = (time.perf_counter() - started) * 1000
    recorded(name, answer, target, milliseconds, as_json=as_json)


def _add_event_command(name: str, kind: str, help_text: str) -> None:
    def command(
        listing_id: ListingId,
        *,
        reason: Reason,
        document: Document,
        date: Day = None,
        target: Target,
        as_json: AsJson = False,
    ) -> None:
        day = date.date().isoformat() if date is not None else ""
        carry_out(name, kind, listing_id, target, as_json=as_json, reason=reason, document=document, day=day)

    app.command(name, help=help_text)(command)


for _name, _kind, _help in (
    ("remove", "REMOVED", "Remove a listing (移出); it stops working at the commit."),
    ("repair", "REPAIRED", "Record the repair of credit (信用修复, Art. 66)."),
    ("revoke", "REVOKED", "Record that the instrument was revoked (撤销, Art. 65): ends from its date."),
    ("annul", "ANNULLED", "Record that the instrument was found void: the listing was never in force."),
    ("lift-stay", "STAY_LIFTED", "Record that the stay was lifted; waits for a second person (exit 4)."),
    ("object", "OBJECTION_OPENED", "Open an objection (异议, Art. 64): a mark, it changes nothing else."),
    ("apply-repair", "REPAIR_APPLIED", "Record that repair was applied for (Art. 66)."),
    ("refuse-repair", "REPAIR_REFUSED", "Record that repair was refused (Art. 66)."),
    ("withdraw-publicity", "PUBLICITY_WITHDRAWN", "Record that what was published was withdrawn (Art. 41, 66)."),
    (
        "reinstate",
        "REINSTATED",
        "Reinstate by a document of its own, from its date; waits for a second person (exit 4).",
    ),
):
    _add_event_command(_name, _kind, _help)


def _timestamp(at: datetime.datetime) -> "Timestamp":
    from google.protobuf.timestamp_pb2 import Timestamp as Message

    stamp = Message()
    stamp.FromDatetime(at.astimezone(datetime.UTC))
    return stamp
