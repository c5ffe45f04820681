"""`lanjie check` and `lanjie check-file`: the question at a counter, and the bidders of a tender in one file."""

import csv
import datetime
import io
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from lanjie_gateway.cli import receipts, render
from lanjie_gateway.cli.arguments import identifier_text, parse_instant
from lanjie_gateway.cli.gateway_file import (
    AsJson,
    CommandError,
    Target,
    open_client,
)
from lanjie_gateway.cli.private_files import replacing

if TYPE_CHECKING:
    import lanjie

MAX_NAME: Final = 256
PIECE_ROWS: Final = 10_000
"""Rows that are asked in one go, on one revision."""

HEADINGS: Final[Mapping[str, frozenset[str]]] = {
    "identifier": frozenset({"identifier", "subject", "标识", "主体标识"}),
    "id_kind": frozenset({"id_kind", "kind", "标识类型", "证件类型"}),
    "id_number": frozenset({"id_number", "number", "标识号码", "证件号码"}),
    "uscc": frozenset({"uscc", "统一社会信用代码"}),
    "name": frozenset({"name", "名称", "姓名", "主体名称", "单位名称", "供应商名称", "投标人名称"}),
}
"""Headings of the columns that are read, in lower case. A heading states the kind or a column does; digits never do."""

RESULT_COLUMNS: Final = ("outcome", "reason", "measures", "instruction", "decision_id", "revision", "warnings")
ROW_MALFORMED: Final = "row-malformed"
NOBODY: Final = "the gateway could not be asked, so an officer must look; is `lanjie serve` running? Then check again"

Matter = Annotated[str, typer.Option("--matter", help="Code of the business matter, e.g. procurement.supplier.")]
Purpose = Annotated[str, typer.Option("--purpose", help="Why it is asked (Art. 24), 1 to 200 characters.")]
AsOf = Annotated[
    str | None,
    typer.Option(
        "--as-of", metavar="INSTANT", help="As at this instant, ISO 8601; Asia/Shanghai when it names no zone."
    ),
]

ReceiptFile = Annotated[
    Path | None, typer.Option("--receipt", metavar="FILE", help="Write the signed receipt 核查凭证, JSON.")
]


def check(
    identifier: Annotated[str, typer.Argument(metavar="IDENT", help="kind:number; `-` reads it from standard input.")],
    *,
    matter: Matter,
    purpose: Purpose,
    name: Annotated[str, typer.Option(help="Name in the case file: a second factor, never a key.")] = "",
    case_no: Annotated[str, typer.Option(help="Number of the case.")] = "",
    role: Annotated[str, typer.Option(help="Part the subject plays: applicant, parent, ...")] = "",
    handling_region: Annotated[str, typer.Option(help="Region that handles the matter, six digits.")] = "",
    as_of: AsOf = None,
    receipt: ReceiptFile = None,
    authorisation: Annotated[
        str, typer.Option(metavar="ID", help="The subject's authorisation: asks under it, not ex officio (Art. 39).")
    ] = "",
    request_id: Annotated[str, typer.Option(help="Name of this question, to ask again after a lost answer.")] = "",
    target: Target,
    as_json: AsJson = False,
) -> None:
    """Check one subject; exit 0 whenever there is an answer, whatever it is."""
    from lanjie import InquiryMode

    at = parse_instant(as_of) if as_of is not None else None
    text = identifier_text(identifier)
    with open_client(target) as client:
        decision = client.check(
            text,
            matter=matter,
            purpose=purpose,
            name=name,
            case_no=case_no,
            role=role,
            handling_region=handling_region,
            as_of=at,
            mode=InquiryMode.AUTHORISED if authorisation else InquiryMode.EX_OFFICIO,
            authorisation_id=authorisation,
            request_id=request_id,
        )
        if receipt is not None:
            receipts.issue(client, receipt, [(decision, text)])
        why = nobody(client)
    if as_json:
        render.emit(render.decision_dict(decision))
    else:
        question = f"{decision.masked_identifier} · {matter} · {purpose}"
        render.console().print(render.decision_panel(decision, title="check 比对", question=question))
    if decision.source.name == "NONE":
        raise CommandError(why)


def check_file(
    file: Annotated[
        Path, typer.Argument(metavar="IN", help="CSV, UTF-8: `identifier`, or `id_kind,id_number`, or `uscc`.")
    ],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="CSV to write: the rows with their answers.")],
    matter: Matter,
    purpose: Purpose,
    case_no: Annotated[str, typer.Option(help="Number of the case, the same for all rows.")] = "",
    role: Annotated[str, typer.Option(help="Part the subjects play: applicant when left out.")] = "",
    handling_region: Annotated[str, typer.Option(help="Region that handles the matter, six digits.")] = "",
    as_of: AsOf = None,
    receipt: ReceiptFile = None,
    target: Target,
    as_json: AsJson = False,
) -> None:
    """Check every row of a file. A malformed row is UNDETERMINED(IDENTIFIER_INVALID) of its own, the others answer."""
    at = parse_instant(as_of) if as_of is not None else None
    if output.exists() and output.samefile(file):
        raise CommandError("the output would overwrite the input")
    table = read_table(file)
    asked = {
        "matter": matter,
        "purpose": purpose,
        "case_no": case_no,
        "role": role,
        "handling_region": handling_region,
        "as_of": at,
    }
    tally = Tally()
    started = time.perf_counter()
    with open_client(target) as client, render.progress(hidden=as_json, steps=True) as bar:
        task = bar.add_task("checking", total=len(table.rows))
        with replacing(output, marked=table.marked) as stream:
            answers: list[tuple[lanjie.Decision, str]] = []
            told = _answers(client, table.rows, asked)
            kept = told if receipt is None else _kept(told, answers)
            write_answers(stream, table, kept, tally, lambda: bar.advance(task))
        if receipt is not None and answers:
            receipts.issue(client, receipt, answers)
        why = nobody(client)
    _show_tally(tally, output, at, time.perf_counter() - started, as_json=as_json)
    if tally.unanswered:
        raise CommandError(f"{tally.unanswered:,} rows: {why}")


def nobody(client: "lanjie.Client") -> str:
    """Return the line for a gateway that could not be asked; it tells what is wrong with a certificate."""
    why = client.sync_status().last_error
    return f"{NOBODY}; {why}" if "certificate" in why or "TLS" in why else NOBODY


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row: its cells as they were, and what is asked about. `text` is empty where the row cannot be read."""

    cells: list[str] = field(repr=False)
    text: str = field(repr=False)
    name: str = field(repr=False)
    malformed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A file of subjects."""

    heading: list[str]
    rows: list[Row]
    marked: bool
    """Whether it begins with a byte order mark, as spreadsheets write it; its answers then do, too."""


@dataclass(slots=True)
class Tally:
    """What a file came to."""

    outcomes: Counter[str] = field(default_factory=Counter)
    malformed: int = 0
    unanswered: int = 0
    revisions: set[int] = field(default_factory=set)

    def count(self, decision: "lanjie.Decision") -> None:
        """Count one answer."""
        self.outcomes[decision.outcome.name] += 1
        if decision.reason is not None and decision.reason.name == "IDENTIFIER_INVALID":
            self.malformed += 1
        elif decision.source.name == "NONE":
            self.unanswered += 1
        elif decision.revision:
            self.revisions.add(decision.revision)


def read_table(file: Path) -> Table:
    """Read a file of subjects.

    Raises:
        CommandError: it cannot be read, is not UTF-8 or no CSV, has no rows, or no column with identifiers.
    """
    try:
        text = file.read_bytes().decode("utf-8")
        marked = text.startswith("\ufeff")
        # A carriage return within a cell is not quoted again, and would end its row before the answer.
        text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
        lines = [cells for cells in csv.reader(io.StringIO(text, newline=""), strict=True) if any(cells)]
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise CommandError(f"{file.name} is not UTF-8 (byte {error.start}); save it as CSV UTF-8") from None
    except csv.Error as error:
        raise CommandError(f"{file.name} is no CSV: {error}") from None
    if len(lines) < 2:
        raise CommandError(f"{file.name} has no rows" if lines else f"{file.name} is empty")
    heading = lines[0]
    places = _places(heading)
    rows = [_row(cells, len(heading), places) for cells in lines[1:]]
    return Table(heading=heading, rows=rows, marked=marked)


def _places(heading: Sequence[str]) -> dict[str, int]:
    places: dict[str, int] = {}
    for place, cell in enumerate(heading):
        for meaning, names in HEADINGS.items():
            if cell.strip().lower() in names:
                if meaning in places:
                    raise CommandError(f"two columns say {meaning}: number {places[meaning] + 1} and {place + 1}")
                places[meaning] = place
    if not ("identifier" in places or "uscc" in places or {"id_kind", "id_number"} <= places.keys()):
        raise CommandError(
            "no column with identifiers: the first line names `identifier`, `id_kind,id_number`, or `uscc`"
        )
    return places


def _row(cells: list[str], width: int, places: Mapping[str, int]) -> Row:
    name = cells[places["name"]].strip() if "name" in places and len(cells) == width else ""
    if len(cells) != width or len(name) > MAX_NAME:
        # A row with a cell too many or too few may have its number in another column: nothing is guessed.
        return Row(cells=(cells + [""] * width)[:width], text="", name="", malformed=True)
    if "identifier" in places:
        text = cells[places["identifier"]]
    elif "id_kind" in places and "id_number" in places:
        text = f"{cells[places['id_kind']].strip()}:{cells[places['id_number']]}"
    else:
        text = f"uscc:{cells[places['uscc']]}"
    return Row(cells=cells, text=text, name=name)


def _answers(
    client: "lanjie.Client", rows: Sequence[Row], asked: Mapping[str, Any]
) -> Iterator[tuple[Row, "lanjie.Decision"]]:
    for place in range(0, len(rows), PIECE_ROWS):
        piece = rows[place : place + PIECE_ROWS]
        names = [row.name for row in piece]
        yield from zip(piece, client.check_many([row.text for row in piece], names=names, **asked), strict=True)


def _kept(
    told: Iterator[tuple[Row, "lanjie.Decision"]], answers: list[tuple["lanjie.Decision", str]]
) -> Iterator[tuple[Row, "lanjie.Decision"]]:
    """Pass answers on and keep what a receipt is made of."""
    for row, decision in told:
        answers.append((decision, row.text))
        yield row, decision


def write_answers(
    stream: Any,
    table: Table,
    answers: Iterator[tuple[Row, "lanjie.Decision"]],
    tally: Tally,
    advance: Any,
) -> None:
    """Write the rows as they came, each with its answer; columns of an earlier answer are replaced."""
    kept = [place for place, heading in enumerate(table.heading) if heading not in ("row", *RESULT_COLUMNS)]
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["row", *(table.heading[place] for place in kept), *RESULT_COLUMNS])
    for number, (row, decision) in enumerate(answers, 1):
        warnings = [*decision.warnings, *([ROW_MALFORMED] if row.malformed else [])]
        writer.writerow(
            [
                number,
                *(row.cells[place] for place in kept),
                decision.outcome.name,
                decision.reason.name if decision.reason is not None else "",
                " ".join(measure.code for measure in decision.measures),
                decision.instruction,
                decision.decision_id,
                decision.revision or "",
                " ".join(warnings),
            ]
        )
        tally.count(decision)
        advance()


def _show_tally(tally: Tally, output: Path, as_of: datetime.datetime | None, seconds: float, *, as_json: bool) -> None:
    rows = tally.outcomes.total()
    if as_json:
        render.emit(
            {
                "rows": rows,
                "outcomes": {name: tally.outcomes[name] for name in render.OUTCOMES},
                "malformed": tally.malformed,
                "unanswered": tally.unanswered,
                "revisions": sorted(tally.revisions),
                "as_of": as_of.isoformat() if as_of is not None else None,
                "output": str(output),
                "seconds": round(seconds, 3),
            }
        )
        return
    console = render.console()
    console.print(render.counts_table(f"{rows:,} rows checked in {seconds:.1f} s", tally.outcomes))
    revisions = ", ".join(str(revision) for revision in sorted(tally.revisions)) or "none"
    console.print(f"revision {revisions}" + (f" · as of {render.local_time(as_of)}" if as_of is not None else ""))
    if tally.malformed:
        console.print(
            f"{tally.malformed:,} without a usable identifier: UNDETERMINED, an officer must look", style="yellow"
        )
    console.print(f"answers: {output}")
