"""`lanjie receipt`: verify a receipt of checks offline, show it, print it."""

import datetime
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from lanjie_gateway.cli import render
from lanjie_gateway.cli.gateway_file import AsJson, CommandError, GatewayFile, Target
from lanjie_gateway.cli.private_files import replacing

if TYPE_CHECKING:
    import lanjie
    from lanjie_matcher.identifiers import Identifier

NOT_PROVED: Final = 1
SHOWN: Final = 20
PART: Final = 5_000
"""Answers that one receipt holds; a larger file gets several."""

app = typer.Typer(no_args_is_help=True, help="Receipts of checks 核查凭证: verify and print them, offline.")

File = Annotated[Path, typer.Argument(metavar="FILE", help="Receipt, JSON.")]
Key = Annotated[
    list[str] | None,
    typer.Option("--key", metavar="ID:HEX", help="Public key of a gateway that is trusted; repeat it."),
]


@app.command()
def verify(
    file: File,
    *,
    key: Key = None,
    identifier: Annotated[
        list[str] | None, typer.Option(help="An organisation that must be in it, kind:number; repeat it.")
    ] = None,
    gateway_file: GatewayFile = None,
    as_json: AsJson = False,
) -> None:
    """Prove a receipt by the gateway's public key alone; no gateway is asked. Exit 1 when it proves nothing."""
    from lanjie_matcher.receipts import ReceiptError, items_of

    try:
        content = _opened(file, key or [], gateway_file)
    except ReceiptError as error:
        if as_json:
            render.emit({"proved": False, "rule": error.rule})
            raise typer.Exit(NOT_PROVED) from None
        raise CommandError(f"{file}: {error}", NOT_PROVED) from None
    missing = [each for each in identifier or [] if not items_of(content, _text(each))]
    if as_json:
        render.emit({"proved": not missing, "missing": len(missing), "receipt": content})
    else:
        _tell(content)
        for place, each in enumerate(identifier or []):
            typer.echo(f"organisation {place + 1}: {'not in the receipt' if each in missing else 'in the receipt'}")
    if missing:
        raise typer.Exit(NOT_PROVED)


@app.command()
def show(
    file: File,
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="HTML page to write, for print or PDF.")],
    key: Key = None,
    gateway_file: GatewayFile = None,
) -> None:
    """Write the slip 核查凭证 of a receipt: Chinese, A4, without scripts. A receipt that proves nothing gets none."""
    from lanjie_gateway.cli.slip import page
    from lanjie_matcher.receipts import ReceiptError

    try:
        content = _opened(file, key or [], gateway_file)
    except ReceiptError as error:
        raise CommandError(f"{file}: {error}", NOT_PROVED) from None
    with replacing(output) as stream:
        stream.write(page(content))
    typer.echo(f"slip: {output}")


def issue(
    client: "lanjie.Client", path: Path, answers: Sequence[tuple["lanjie.Decision", "str | Identifier"]]
) -> list[Path]:
    """Write the receipts of answers; return their files: `path`, or numbered ones where there are too many for one.

    What is no identifier was asked of nobody and stands in no receipt.

    Raises:
        CommandError: nobody answered one of them, or a file cannot be written.
        lanjie.LanjieError: the gateway issued none.
    """
    asked = [(decision, about) for decision, about in answers if not _is_malformed(decision)]
    if any(decision.source.name == "NONE" for decision, _ in asked):
        raise CommandError("no receipt: not all rows were answered")
    if not asked:
        raise CommandError("no receipt: no row holds an identifier")
    parts = [asked[place : place + PART] for place in range(0, len(asked), PART)]
    made = []
    for number, part in enumerate(parts, 1):
        target = path if len(parts) == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")
        content = client.receipt(part, timeout=60.0).decode()
        with replacing(target) as stream:
            stream.write(content)
        made.append(target)
    return made


def _is_malformed(decision: "lanjie.Decision") -> bool:
    return decision.reason is not None and decision.reason.name == "IDENTIFIER_INVALID"


def _opened(file: Path, keys: Iterable[str], gateway_file: Path | None) -> dict[str, Any]:
    from lanjie_matcher.receipts import opened

    trusted: dict[str, bytes] = {}
    for each in keys:
        name, _, digits = each.partition(":")
        try:
            trusted[name] = bytes.fromhex(digits)
        except ValueError:
            raise CommandError("a key is written ID:HEX, as in gateway.json") from None
    if not trusted:
        known = Target(gateway_file=gateway_file).content().get("trusted_keys", {})
        trusted = {name: bytes.fromhex(digits) for name, digits in known.items()}
    try:
        return opened(file.read_bytes(), trusted)
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}") from None


def _text(identifier: str) -> str:
    from lanjie_matcher.identifiers import IdentifierError, parse

    try:
        return parse(identifier).reveal()
    except IdentifierError as error:
        raise CommandError(f"an identifier cannot be read: {error}") from None


def _tell(content: dict[str, Any]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    facts = {
        "receipt": content["id"],
        "department": content["department"],
        "matter": f"{content['matter']} {content['matter_name']}",
        "purpose": content.get("purpose", ""),
        "case": content.get("case_no", ""),
        "issued": render.local_time(datetime.datetime.fromisoformat(content["issued"])),
        "catalogues": ", ".join(content["catalogues"]),
        "answers": str(len(content["items"])),
    }
    console = render.console()
    console.print(render.facts_panel("proved: a trusted gateway signed this", facts))
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("subject", "outcome", "measures", "as of", "revision", "decision"):
        table.add_column(heading, overflow="fold")
    for item in content["items"][:SHOWN]:
        measures = ", ".join(item.get("measures", ()))
        as_of = render.local_time(datetime.datetime.fromisoformat(item["as_of"]))
        row = (item["subject"], item["outcome"], measures, as_of, str(item["revision"]), item["decision"])
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)
    if (more := len(content["items"]) - SHOWN) > 0:
        console.print(f"and {more:,} more")
