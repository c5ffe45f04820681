"""`lanjie list add | amend | waiting | confirm | decline`: what one person enters and another confirms (Art. 61)."""

import datetime
import hashlib
import json
import time
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from lanjie_gateway.cli import render
from lanjie_gateway.cli.arguments import identifier_text
from lanjie_gateway.cli.gateway_file import (
    AsJson,
    CommandError,
    Listener,
    Person,
    Target,
)
from lanjie_gateway.cli.lists import (
    Document,
    ListingId,
    Reason,
    exit_code,
    recorded,
    show_receipt,
)

Cells = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="COLUMN=VALUE", help="A canonical column of a list file; again for each."),
]
Waiting = Annotated[str, typer.Argument(metavar="RECEIPT", help="Receipt of the import, or id of the act.")]


def add(
    identifier: Annotated[str, typer.Argument(metavar="IDENT", help="kind:number; `-` reads it from standard input.")],
    *,
    list_type: Annotated[str, typer.Option(help="List type.")],
    name: Annotated[str, typer.Option(help="Name of the subject.")] = "",
    cells: Cells = None,
    source: Annotated[str, typer.Option(help="Source; the department when left out.")] = "",
    target: Target,
    as_json: AsJson = False,
) -> None:
    """Enter one listing by hand, by the rules of a list file; it waits for another person's confirmation (exit 4)."""
    from lanjie.v1 import listing_pb2 as pb
    from lanjie_gateway.cli.admin import IMPORT_SECONDS, connect

    kind, separator, number = identifier_text(identifier).partition(":")
    if not separator:
        raise CommandError("an identifier is written kind:number, for instance uscc:9132…")
    row = {"id_kind": kind, "id_number": number, "list_type": list_type, "name": name, **_cells(cells)}
    file = (json.dumps(row, ensure_ascii=False) + "\n").encode()
    header = pb.ImportHeader(
        file_name=f"entered by hand, {row.get('decision_no') or 'no decision number'}"[:255],
        format=pb.FILE_FORMAT_JSONL,
        source=source,
        mode=pb.IMPORT_MODE_DELTA,
        strict=True,
        by_hand=True,
        sha256=hashlib.sha256(file).digest(),
        size=len(file),
    )
    requests = iter((pb.ImportRequest(header=header), pb.ImportRequest(data=file)))
    with connect(target.endpoint(Listener.ADMIN, Person.AUTHORITY)) as admin:
        receipt = admin.call(admin.listings.Import, requests, seconds=IMPORT_SECONDS).receipt
    show_receipt(receipt, target, as_json=as_json)
    raise typer.Exit(exit_code(receipt))


def amend(
    listing_id: ListingId,
    *,
    cells: Cells = None,
    reason: Reason,
    document: Document,
    target: Target,
    as_json: AsJson = False,
) -> None:
    """Correct what a listing says, by its document; it waits for another person's confirmation (exit 4)."""
    from lanjie.v1 import listing_pb2 as pb
    from lanjie_gateway.cli.admin import connect

    request = pb.RecordEventRequest(
        listing_id=listing_id,
        kind=pb.LISTING_EVENT_KIND_AMENDED,
        reason=reason,
        document=document,
        corrections=_cells(cells),
    )
    with connect(target.endpoint(Listener.ADMIN, Person.AUTHORITY)) as admin:
        answer = admin.call(admin.listings.RecordEvent, request)
    recorded("amend", answer, target, 0.0, as_json=as_json)


def waiting(
    receipt_id: Annotated[str, typer.Argument(metavar="[RECEIPT]", help="One, with what it would change.")] = "",
    *,
    target: Target,
    as_json: AsJson = False,
) -> None:
    """Show what waits for a second person: imports, and acts on one listing."""
    from lanjie.v1 import listing_pb2 as pb
    from lanjie_gateway.cli.admin import connect

    with connect(target.endpoint(Listener.ADMIN, Person.REVIEWER)) as admin:
        found = admin.call(admin.listings.ListWaiting, pb.ListWaitingRequest(receipt_id=receipt_id))
    if as_json:
        render.emit(
            {
                "imports": [render.message_dict(each) for each in found.imports],
                "acts": [render.message_dict(each) for each in found.acts],
                "listings": [render.listing_dict(each) for each in found.listings],
                "standing": render.listing_dict(found.standing) if found.HasField("standing") else None,
            }
        )
        return
    console = render.console()
    if not found.imports and not found.acts:
        typer.echo("nothing waits")
        return
    console.print(_table(found))
    if found.HasField("standing"):
        console.print(render.listing_panel(found.standing))
        for after in found.listings:
            console.print(_corrections(found.standing, after))
        return
    for each in found.listings:
        console.print(render.listing_panel(each))


def confirm(
    receipt_id: Waiting,
    *,
    target: Target,
    as_json: AsJson = False,
) -> None:
    """Commit what waits; by another person than the one who brought it (Art. 61)."""
    from lanjie.v1 import listing_pb2 as pb
    from lanjie_gateway.cli.admin import IMPORT_SECONDS, connect

    with connect(target.endpoint(Listener.ADMIN, Person.REVIEWER)) as admin:
        started = time.perf_counter()
        answer = admin.call(admin.listings.Confirm, pb.ConfirmRequest(receipt_id=receipt_id), seconds=IMPORT_SECONDS)
        milliseconds = (time.perf_counter() - started) * 1000
    if answer.HasField("act"):
        name = pb.ListingEventKind.Name(answer.act.kind).removeprefix("LISTING_EVENT_KIND_").lower()
        done = pb.RecordEventResponse(revision=answer.act.revision, listing=answer.listing)
        recorded(name, done, target, milliseconds, as_json=as_json)
        return
    show_receipt(answer.receipt, target, as_json=as_json)
    raise typer.Exit(exit_code(answer.receipt))


def decline(
    receipt_id: Waiting,
    *,
    reason: Reason,
    target: Target,
    as_json: AsJson = False,
) -> None:
    """Give up what waits; nothing of it is ever committed."""
    from lanjie.v1 import listing_pb2 as pb
    from lanjie_gateway.cli.admin import connect

    with connect(target.endpoint(Listener.ADMIN, Person.REVIEWER)) as admin:
        answer = admin.call(admin.listings.Decline, pb.DeclineRequest(receipt_id=receipt_id, reason=reason))
    if as_json:
        render.emit(render.message_dict(answer))
    else:
        typer.echo(f"declined: {receipt_id}")


def _cells(cells: list[str] | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for cell in cells or ():
        column, separator, value = cell.partition("=")
        if not separator or not column.strip():
            raise CommandError("--set wants COLUMN=VALUE; an empty VALUE clears the cell")
        found[column.strip()] = value
    return found


def _table(found: Any) -> Table:
    from lanjie.v1 import listing_pb2 as pb

    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("id", "what", "by", "since", "why"):
        # An id is to be copied.
        table.add_column(heading, overflow="fold", no_wrap=heading == "id")
    for receipt in found.imports:
        counts = f"{receipt.added:,} new, {receipt.amended:,} amended, {receipt.absent:,} ended"
        what = f"{receipt.file_name}: {counts}"
        since = _since(receipt.received_time)
        table.add_row(*map(Text, (receipt.receipt_id, what, receipt.importer, since, " ".join(receipt.reasons))))
    for act in found.acts:
        name = pb.ListingEventKind.Name(act.kind).removeprefix("LISTING_EVENT_KIND_").lower()
        columns = f" of {', '.join(act.corrected_columns)}" if act.corrected_columns else ""
        since = _since(act.proposed_time)
        what, why = f"{name}{columns}: {act.listing_id}", f"{act.reason} ({act.document})"
        table.add_row(*map(Text, (act.act_id, what, act.actor, since, why)))
    return table


def _corrections(before: Any, after: Any) -> Table:
    """Return what a correction would change, field by field."""
    table = Table(box=box.SIMPLE_HEAD, title=Text("would be corrected"), title_justify="left")
    for heading in ("field", "now", "then"):
        table.add_column(heading, overflow="fold")
    old, new = render.message_dict(before), render.message_dict(after)
    for name in new:
        if old[name] != new[name]:
            table.add_row(*map(Text, (name.replace("_", " "), str(old[name]), str(new[name]))))
    return table


def _since(stamp: Any) -> str:
    return render.local_time(stamp.ToDatetime(datetime.UTC))
