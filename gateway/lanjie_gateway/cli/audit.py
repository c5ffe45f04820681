"""`lanjie audit`: are the inquiry records whole, what do they say, and what a witness wants (Art. 39, 43, 61)."""

import base64
import contextlib
import datetime
import functools
import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TextIO

import typer

from lanjie_gateway.cli import render
from lanjie_gateway.cli.arguments import identifier_text
from lanjie_gateway.cli.gateway_file import (
    AsJson,
    CommandError,
    Listener,
    Person,
    Target,
)
from lanjie_gateway.cli.private_files import replacing

if TYPE_CHECKING:
    from lanjie.v1 import audit_pb2
    from lanjie_gateway.domain.verification import Report

BROKEN: Final = 1
LONG_SECONDS: Final = 86_400.0
MOST: Final = (1 << 63) - 1
"""Of places, and of records."""
app = typer.Typer(help="Verify, search, export, archive and end the inquiry records (Art. 39).", no_args_is_help=True)

Purpose = Annotated[str, typer.Option("--purpose", help="Why it is asked (Art. 24), 1 to 200 characters.")]


@app.command()
def verify(
    *,
    state: Annotated[Path | None, typer.Option("--state", help="State directory that no gateway serves now.")] = None,
    ledger_url: Annotated[
        str | None, typer.Option("--ledger-url", help="PostgreSQL instead of the file below the state; needs a key.")
    ] = None,
    key: Annotated[str | None, typer.Option("--key", help="Public signing key, hexadecimal.")] = None,
    since: Annotated[
        int, typer.Option("--since", min=0, max=MOST, help="Begin at a checkpoint with so many records.")
    ] = 0,
    witnessed: Annotated[Path | None, typer.Option("--witnessed", help="A checkpoint that a witness kept.")] = None,
    export_file: Annotated[
        Path | None, typer.Option("--export", help="A file of `audit export` or `audit archive`.")
    ] = None,
    target: Target,
    as_json: AsJson = False,
) -> None:
    """Recompute every record, the tree and each checkpoint; exit 1 and the first bad place when something is wrong.

    Asks a running gateway; `--state` and `--ledger-url` read the ledger themselves.
    """
    if export_file is not None:
        _verify_export(export_file, key, as_json=as_json)
        return
    note = _witnessed(witnessed)
    done = since
    try:
        with render.steps(hidden=as_json) as step:

            def told(now: int, total: int) -> None:
                nonlocal done
                done = now
                step("records", now, total)

            if state is not None or ledger_url is not None:
                report = _offline(state, ledger_url, _public(state, key), (since, note), told)
            else:
                report = _online(target, since, note, told)
    except KeyboardInterrupt:
        raise CommandError(f"interrupted; go on with --since {done}", 2) from None
    if as_json:
        render.emit(report)
    else:
        _show(report)
    if report["findings"]:
        raise typer.Exit(BROKEN)


@app.command()
def witness(
    *,
    old: Annotated[Path | None, typer.Option("--from", help="The checkpoint that the witness has.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="File to write.")] = None,
    target: Target,
) -> None:
    """Print the newest checkpoint with the proof that it continues an earlier one, as C2SP tlog-witness has it."""
    from lanjie.v1 import audit_pb2
    from lanjie_gateway.cli.admin import connect
    from lanjie_gateway.domain.checkpoints import with_proof

    size = _size_of(_witnessed(old)) if old is not None else 0
    with connect(target.endpoint(Listener.ADMIN, Person.AGENCY)) as admin:
        found = admin.call(admin.audit.GetWitness, audit_pb2.GetWitnessRequest(old_size=size))
    if not found.note:
        raise CommandError("there is no checkpoint yet: nothing was recorded")
    text = with_proof(found.note, found.old_size, list(found.proof))
    if output is None:
        typer.echo(text, nl=False)
    else:
        output.write_text(text, encoding="utf-8")


@app.command()
def search(
    subject: Annotated[str, typer.Argument(metavar="[IDENT]", help="The subject, kind:number; `-` reads it.")] = "",
    *,
    purpose: Purpose,
    department: Annotated[str, typer.Option(help="Department that asked.")] = "",
    person: Annotated[str, typer.Option(help="Person or token that asked.")] = "",
    matter: Annotated[str, typer.Option(help="Matter.")] = "",
    outcome: Annotated[str, typer.Option(help="Outcome, for instance INTERCEPT.")] = "",
    kind: Annotated[str, typer.Option(help="gateway, local or another kind of record.")] = "",
    decision_id: Annotated[str, typer.Option("--decision", help="Id of a decision.")] = "",
    since: Annotated[datetime.datetime | None, typer.Option("--from", help="Not before, UTC.")] = None,
    before: Annotated[datetime.datetime | None, typer.Option("--to", help="Before, UTC.")] = None,
    page_size: Annotated[int, typer.Option(min=1, max=1_000, help="Records of a page.")] = 100,
    page: Annotated[int, typer.Option(min=0, max=MOST, help="Where to go on, as the page before told.")] = 0,
    target: Target,
    as_json: AsJson = False,
) -> None:
    """Find inquiry records; the subject is not shown, and the search leaves a record of its own."""
    from lanjie.v1 import audit_pb2
    from lanjie_gateway.cli.admin import connect

    request = audit_pb2.SearchRecordsRequest(
        purpose=purpose,
        subject=identifier_text(subject),
        department=department,
        person=person,
        matter=matter,
        outcome=outcome,
        kind=kind,
        decision_id=decision_id,
        page_size=page_size,
        page_token=page,
    )
    for field, value in (("from_time", since), ("to_time", before)):
        if value is not None:
            getattr(request, field).FromDatetime(value.replace(tzinfo=datetime.UTC))
    with connect(target.endpoint(Listener.ADMIN, Person.AGENCY)) as admin:
        found = admin.call(admin.audit.SearchRecords, request, seconds=LONG_SECONDS)
    if as_json:
        render.emit(render.message_dict(found))
        return
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    columns = ("index", "decision_id", "kind", "department", "person", "matter", "purpose", "outcome")
    for heading in ("when", *columns):
        table.add_column(heading, overflow="fold")
    for each in found.records:
        when = render.local_time(each.decided_time.ToDatetime(datetime.UTC))
        table.add_row(when, *(str(getattr(each, name)) for name in columns))
    render.console().print(table)
    if found.next_page_token:
        render.console().print(f"more: --page {found.next_page_token}")


@app.command()
def export(
    *,
    output: Annotated[Path, typer.Option("-o", "--output", help="File to write, JSON lines.")],
    purpose: Purpose,
    start: Annotated[int, typer.Option("--start", min=0, max=MOST, help="First place in the tree.")] = 0,
    end: Annotated[int, typer.Option("--end", min=0, max=MOST, help="Behind the last place; 0 for all.")] = 0,
    target: Target,
) -> None:
    """Write records with proofs: `lanjie audit verify --export FILE --key HEX` needs no gateway."""
    from lanjie.v1 import audit_pb2
    from lanjie_gateway.cli.admin import connect

    request = audit_pb2.ExportRecordsRequest(purpose=purpose, start=start, end=end)
    _not_there(output)
    with replacing(output) as file, connect(target.endpoint(Listener.ADMIN, Person.AGENCY)) as admin:
        for answer in admin.stream(admin.audit.ExportRecords, request, seconds=LONG_SECONDS):
            if answer.note:
                file.write(json.dumps({"checkpoint": answer.note}, ensure_ascii=False) + "\n")
            for each in answer.records:
                line = _line(each)
                line["proof"] = [base64.b64encode(step).decode() for step in each.proof]
                file.write(json.dumps(line, ensure_ascii=False) + "\n")


@app.command()
def archive(
    *,
    output: Annotated[Path, typer.Option("-o", "--output", help="File to write, JSON lines.")],
    purpose: Purpose,
    until: Annotated[
        datetime.datetime | None,
        typer.Option("--until", help="Records from before this day; those that end within 31 days when left out."),
    ] = None,
    start: Annotated[
        int | None,
        typer.Option("--start", min=0, max=MOST, help="First place; else where the archives before end."),
    ] = None,
    target: Target,
    as_json: AsJson = False,
) -> None:
    """Write records before they end: `lanjie audit verify --export FILE --key HEX` needs no gateway."""
    from lanjie.v1 import audit_pb2
    from lanjie_gateway.adapters.keys import sync_directory
    from lanjie_gateway.cli.admin import connect
    from lanjie_matcher.civil_time import start_of

    request = audit_pb2.ArchiveRecordsRequest(purpose=purpose, start=start)
    if until is not None:
        request.until_time.FromDatetime(start_of(until.date()))
    _not_there(output)
    with connect(target.endpoint(Listener.ADMIN, Person.AGENCY)) as admin:
        with replacing(output) as file:
            answers = admin.stream(admin.audit.ArchiveRecords, request, seconds=LONG_SECONDS)
            head = next(answers).head
            edge = [base64.b64encode(step).decode() for step in head.edge]
            facts = {"checkpoint": head.note, "start": head.start, "edge": edge}
            file.write(json.dumps(facts, ensure_ascii=False) + "\n")
            for answer in answers:
                for each in answer.records:
                    file.write(json.dumps(_line(each), ensure_ascii=False) + "\n")
            # The gateway erases what it is told of: it must be on the disk by then, and be what it says.
            file.flush()
            os.fsync(file.fileno())
        sync_directory(output.absolute().parent)
        found = _read_export(output, None)
        if found["first_bad"] is not None:
            raise CommandError(f"{output} is not whole from {found['first_bad']} on; nothing was archived", BROKEN)
        with output.open("rb") as written:
            sha256 = hashlib.file_digest(written, "sha256").digest()
        told = audit_pb2.NoteArchiveRequest(purpose=purpose, start=head.start, end=found["size"], sha256=sha256)
        noted = admin.call(admin.audit.NoteArchive, told)
    shown = {**found, "sha256": sha256.hex(), "archived": noted.archived}
    render.emit(shown) if as_json else render.console().print(render.facts_panel("archive", shown))


@app.command()
def erase(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Erase nothing, and tell what would go.")] = False,
    target: Target,
    as_json: AsJson = False,
) -> None:
    """Erase what records say whose retention has ended, as the gateway does every day."""
    from lanjie.v1 import audit_pb2
    from lanjie_gateway.cli.admin import connect

    request = audit_pb2.EndRetentionRequest(dry_run=dry_run)
    with connect(target.endpoint(Listener.ADMIN, Person.AGENCY)) as admin:
        *_, last = admin.stream(admin.audit.EndRetention, request, seconds=LONG_SECONDS)
    if as_json:
        render.emit(render.message_dict(last))
        return
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("rule", "days", "from before", "would go" if dry_run else "erased", "held", "to be archived first"):
        table.add_column(heading, overflow="fold")
    for each in last.ended:
        day = render.local_time(each.before_time.ToDatetime(datetime.UTC))
        table.add_row(each.rule, *map(str, (each.days, day, each.count, each.held, each.unarchived)))
    render.console().print(table)


def _not_there(output: Path) -> None:
    if output.exists():
        raise CommandError(f"{output} is there: give a new name")


def _line(each: "audit_pb2.ExportedRecord") -> dict[str, Any]:
    line: dict[str, Any] = {"index": each.index, "digest": each.digest.hex()}
    if each.record:
        # One that was altered into no text does not end the file: its digest tells of it.
        line["record"] = each.record.decode(errors="replace")
    return line


def _verify_export(path: Path, key: str | None, *, as_json: bool) -> None:
    """Say whether every record of an export or an archive is in the tree of its checkpoint, and that one signed."""
    facts = _read_export(path, _public(None, key))
    render.emit(facts) if as_json else render.console().print(render.facts_panel("export", facts))
    if facts["first_bad"] is not None:
        raise typer.Exit(BROKEN)


def _read_export(path: Path, public: bytes | None) -> dict[str, Any]:
    """Return what a file holds, and the first place that is wrong.

    Args:
        path: of the file.
        public: key that must have signed its checkpoint; `None` to look at no signature.

    Raises:
        CommandError: it has no such checkpoint.
    """
    from lanjie_gateway.domain.checkpoints import Checkpoint, NoteError
    from lanjie_gateway.domain.merkle import Range, leaf_hash, root_of_inclusion

    found, bad, erased = 0, None, 0
    # What is no UTF-8 is no JSON either, and wrong at its place.
    with _readable(path) as file:
        try:
            head = json.loads(file.readline())
            note = head["checkpoint"]
            checkpoint = Checkpoint.read(note) if public is None else Checkpoint.open(note, note.split("\n")[0], public)
            # An archive has no proofs: all of it, behind what came before, is the tree of the checkpoint.
            tree = None
            if "edge" in head:
                tree = Range(head["start"], [base64.b64decode(step, validate=True) for step in head["edge"]])
            begun = tree.size if tree is not None else None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, NoteError) as error:
            raise CommandError(f"{path} has no checkpoint signed with that key: {type(error).__name__}", 1) from None
        following = begun
        for number, line in enumerate(file):
            index = number if following is None else following
            try:
                each = json.loads(line)
                digest = bytes.fromhex(each["digest"])
                right = following in (None, each["index"])
                if "record" in each:
                    right = right and leaf_hash(each["record"].encode()) == digest
                else:
                    erased += 1
                if tree is not None:
                    tree.append(digest)
                else:
                    proof = [base64.b64decode(step, validate=True) for step in each["proof"]]
                    right = (
                        right and root_of_inclusion(each["index"], checkpoint.size, digest, proof) == checkpoint.root
                    )
                index = each["index"] if following is None else following
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                right = False
            if not right and bad is None:
                bad = index
            following, found = index + 1, found + 1
    if tree is not None and bad is None and (tree.size, tree.root()) != (checkpoint.size, checkpoint.root):
        # Which record it is cannot be told: whoever altered it made its digest fit.
        bad = begun
    return {"records": found, "erased": erased, "size": checkpoint.size, "first_bad": bad}


def _readable(path: Path) -> TextIO:
    try:
        return path.open(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}") from None


def _online(target: Target, since: int, note: str, told: Any) -> dict[str, Any]:
    from lanjie.v1 import audit_pb2
    from lanjie_gateway.cli.admin import connect

    request = audit_pb2.VerifyRecordsRequest(since=since, witnessed=note)
    last = audit_pb2.VerifyRecordsResponse()
    with connect(target.endpoint(Listener.ADMIN, Person.AGENCY)) as admin:
        for last in admin.stream(admin.audit.VerifyRecords, request, seconds=LONG_SECONDS):
            told(last.done, last.total)
    report = last.report
    return {
        **{name: getattr(report, name) for name in ("start", "size", "erased", "checkpoints", "proven", "newest")},
        "findings": [
            {"index": each.index, "last": each.last, "fault": each.fault, "text": each.text} for each in report.findings
        ],
        "notes": list(report.notes),
    }


def _offline(
    state: Path | None, ledger_url: str | None, public: bytes, wanted: tuple[int, str], told: Any
) -> dict[str, Any]:
    import sqlalchemy as sa

    from lanjie_gateway.adapters.examination import carry_out, examine
    from lanjie_gateway.adapters.ledger.database import reading
    from lanjie_gateway.adapters.ledger.tables import HEAD
    from lanjie_gateway.adapters.record_files import RecordFiles
    from lanjie_gateway.adapters.state_lock import LEDGER, StateInUseError, hold
    from lanjie_gateway.settings import Settings

    url = ledger_url or Settings(state=state or Path()).ledger
    since, note = wanted
    try:
        with contextlib.ExitStack() as stack:
            if state is not None and url.startswith("sqlite"):
                stack.enter_context(hold(state, LEDGER, wait=1.0))
            connection = stack.enter_context(reading(url))
            lineage = connection.execute(sa.select(HEAD.c.lineage)).scalar_one()
            files = RecordFiles(state) if state is not None else None
            clock = functools.partial(datetime.datetime.now, datetime.UTC)
            steps = examine(lineage, public, files, clock=clock, since=since, witnessed=note)
            return report_dict(carry_out(steps, connection, told))
    except StateInUseError:
        raise CommandError(f"a gateway serves {state}: ask it with --gateway-file {state}/gateway.json") from None
    except (sa.exc.ArgumentError, ImportError):
        raise CommandError("--ledger-url is no URL of a ledger: postgresql+psycopg://...") from None
    except OSError as error:
        raise CommandError(f"{state} cannot be read: {error.strerror}") from None
    except sa.exc.DBAPIError as error:
        kind = type(error.orig).__name__
        raise CommandError(f"the ledger cannot be read ({kind}): is it there, and of this version?") from None


def report_dict(report: "Report") -> dict[str, Any]:
    """Return a report for programs, as a running gateway gives it."""
    names = ("start", "size", "erased", "checkpoints", "proven", "newest")
    return {
        **{name: getattr(report, name) for name in names},
        "findings": [
            {"index": each.index, "last": each.last, "fault": each.fault.value, "text": each.text}
            for each in report.findings
        ],
        "notes": list(report.notes),
    }


def _show(report: dict[str, Any]) -> None:
    from rich.text import Text

    console = render.console()
    facts = {name: report[name] for name in ("size", "start", "proven", "checkpoints", "erased")}
    console.print(render.facts_panel("inquiry records 查询记录", facts))
    for note in report["notes"]:
        console.print(Text(f"note: {note}", style="yellow"))
    for each in report["findings"]:
        where = f"{each['index']:,}" if each["index"] == each["last"] else f"{each['index']:,} to {each['last']:,}"
        console.print(Text(f"{each['fault']} at {where}: {each['text']}", style="bold red"))
    if not report["findings"]:
        console.print(Text("sound: every record is as it was kept", style="bold green"))


def _witnessed(path: Path | None) -> str:
    from lanjie_gateway.domain.checkpoints import NoteError, note_in

    if path is None:
        return ""
    try:
        return note_in(path.read_text(encoding="utf-8"))[0]
    except (OSError, ValueError, NoteError) as error:
        raise CommandError(f"{path} holds no checkpoint: {type(error).__name__}") from None


def _size_of(note: str) -> int:
    from lanjie_gateway.domain.checkpoints import Checkpoint, NoteError

    try:
        return min(Checkpoint.read(note).size, MOST)
    except NoteError:
        raise CommandError("that is no checkpoint") from None


def _public(state: Path | None, key: str | None) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    try:
        if key is not None:
            return bytes.fromhex(key)
        if state is not None:
            raw = (state / "keys" / "signing").read_bytes()
            return Ed25519PrivateKey.from_private_bytes(raw).public_key().public_bytes_raw()
    except (OSError, ValueError):
        raise CommandError("the signing key cannot be read") from None
    raise CommandError("give --key HEX: the public key of the gateway, `trusted_keys` of its gateway.json")
