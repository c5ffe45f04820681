"""`lanjie profile`: the bundled profiles, and what one makes of a file, without a gateway."""

import datetime
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from lanjie_gateway.cli import render
from lanjie_gateway.cli.gateway_file import AsJson, CommandError

if TYPE_CHECKING:
    from lanjie_gateway.adapters.list_records import ListReader
    from lanjie_gateway.domain.list_file import FileRules, ListingDraft, ListTypeRule, RowRefused
    from lanjie_gateway.domain.profile import Profile

FORMATS: Final = {".csv": "csv", ".jsonl": "jsonl", ".xlsx": "xlsx"}
"""Formats of list files by suffix, as `FileFormat` names them."""
SHOWN: Final = 1_000
QUARANTINE: Final = 3

app = typer.Typer(help="Profiles: how files in their own shapes are read.", no_args_is_help=True)


def read_profile(name: str) -> "tuple[Profile, bytes]":
    """Return a profile and its bytes.

    Args:
        name: name of a bundled one, or the path of a TOML file.

    Raises:
        CommandError: there is none, or it breaks a rule.
    """
    from lanjie_gateway.domain.profile import Profile, ProfileRefused

    path = Path(name)
    try:
        if path.suffix == ".toml":
            data = path.read_bytes()
        elif name in _bundled():
            data = _bundled()[name]
        else:
            raise CommandError(f"no such bundled profile; known are {', '.join(_bundled())}, or give a .toml file")
    except OSError as error:
        raise CommandError(f"{name} cannot be read: {error.strerror}") from None
    try:
        return Profile.load(data), data
    except ProfileRefused as error:
        raise CommandError(f"{name}: {error} (rule {error.rule})") from None


def list_format(file: Path) -> str:
    """Return the format of a list file by its suffix.

    Raises:
        CommandError: it is none of ours.
    """
    found = FORMATS.get(file.suffix.lower())
    if found is None:
        hint = "; save an .xls workbook as .xlsx" if file.suffix.lower() in {".xls", ".et", ".ods"} else ""
        raise CommandError(f"{file.name}: the format goes by the suffix; known are {', '.join(FORMATS)}{hint}")
    return found


def _bundled() -> dict[str, bytes]:
    folder = resources.files("lanjie_gateway") / "profiles"
    files = sorted(folder.iterdir(), key=lambda file: file.name)
    return {file.name.removesuffix(".toml"): file.read_bytes() for file in files if file.name.endswith(".toml")}


@app.command("list")
def list_profiles(*, as_json: AsJson = False) -> None:
    """List the bundled profiles."""
    known = [read_profile(name)[0] for name in _bundled()]
    rows = [{"name": one.name, "title": one.title, "description": one.description} for one in known]
    if as_json:
        render.emit(rows)
        return
    for row in rows:
        typer.echo(f"{row['name']:20} {row['title']}: {row['description']}")


@app.command()
def show(name: Annotated[str, typer.Argument(help="Name of a bundled profile.")]) -> None:
    """Print a profile, to copy and adapt."""
    typer.echo(read_profile(name)[1].decode(), nl=False)


@dataclass(slots=True)
class _Trial:
    """What a file would be."""

    rows: int = 0
    good: list[dict[str, str]] = field(default_factory=list)
    bad: list[dict[str, Any]] = field(default_factory=list)
    quarantined: int = 0
    rules: Counter[str] = field(default_factory=Counter)


@app.command("try")
def try_file(
    file: Annotated[Path, typer.Argument(help="List file: .csv, .jsonl or .xlsx.")],
    *,
    profile: Annotated[str, typer.Option(help="Bundled profile or TOML file; canonical columns if left out.")] = "",
    rows: Annotated[int, typer.Option(min=0, max=SHOWN, help="Rows to show.")] = 5,
    list_type: Annotated[str, typer.Option(help="List type of rows that name none.")] = "",
    catalogue: Annotated[
        list[Path] | None, typer.Option(help="Catalogue files, higher ones first: their list types and requirements.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Read a file as an import would, and tell what it makes of it; nothing is sent anywhere.

    Rows are compared with each other, not with a ledger. Exit codes: 0 all rows good, 2 the file is refused, 3 rows
    would be quarantined.
    """
    from lanjie_gateway.adapters.list_records import ListReader
    from lanjie_gateway.domain.list_file import FileRefused

    known = read_profile(profile)[0] if profile else None
    list_type = list_type or (known.list_type if known else "")
    rules = _rules(list_type, catalogue or [])
    file_format = list_format(file)
    try:
        with file.open("rb") as source:
            reader = ListReader(source, file_format, profile=known, list_type_given=bool(list_type))
            trial = _tried(reader, rules, rows)
    except FileRefused as error:
        at = f", line {error.line}" if error.line else ""
        raise CommandError(f"{file.name} is refused{at}: {error} (rule {error.rule})") from None
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}") from None
    columns = [
        {"place": each.place, "header": each.header, "becomes": each.becomes}
        for each in (reader.layout.readings if reader.layout else ())
    ]
    found = {"sheet": reader.sheet, "header_line": reader.header_line, "columns": columns}
    if as_json:
        counts = {"rows": trial.rows, "good": trial.rows - trial.quarantined, "quarantined": trial.quarantined}
        render.emit({**found, **counts, "rules": dict(trial.rules), "shown": trial.good, "quarantine": trial.bad})
    else:
        _print(found, trial)
    raise typer.Exit(QUARANTINE if trial.quarantined else 0)


def _rules(list_type: str, files: list[Path]) -> "FileRules":
    from lanjie_gateway.domain.catalogue_file import CatalogueRefused, load
    from lanjie_gateway.domain.list_file import FileRules, ListTypeRule
    from lanjie_matcher.catalogues import Edition
    from lanjie_matcher.civil_time import SHANGHAI

    editions: list[Edition] = []
    for file in files:
        try:
            editions.append(load(file.read_bytes(), file.name, editions)[0])
        except CatalogueRefused as error:
            raise CommandError(str(error)) from None
        except OSError as error:
            raise CommandError(f"{file} cannot be read: {error.strerror}") from None
    types: Mapping[str, ListTypeRule] = {
        code: ListTypeRule(code=one.code, required_fields=one.required_fields)
        for edition in editions
        for one in edition.list_types
        for code in (one.code, *one.aliases)
    }
    if list_type and files and list_type not in types:
        raise CommandError("none of the catalogues defines the list type")
    return FileRules(
        list_types=types if files else _AnyListType(),
        list_type=list_type,
        source="trial",
        complete=False,
        today=datetime.datetime.now(SHANGHAI).date(),
    )


class _AnyListType(Mapping[str, "ListTypeRule"]):
    """Without a catalogue every list type is taken as it stands, and requires nothing."""

    def __getitem__(self, code: str) -> "ListTypeRule":
        from lanjie_gateway.domain.list_file import ListTypeRule

        return ListTypeRule(code=code)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def _tried(reader: "ListReader", rules: "FileRules", rows: int) -> _Trial:
    from lanjie_gateway.domain.list_file import FileRefused, RowRefused, read_row

    trial = _Trial()
    seen: dict[int, int] = {}
    for line, record in reader:
        trial.rows += 1
        if isinstance(record, RowRefused):
            _note(trial, line, record)
            continue
        try:
            draft = read_row(record, line, rules)
        except RowRefused as error:
            _note(trial, line, reader.blame(error))
            continue
        said = hash(draft.content_text())
        if seen.setdefault(hash(draft.key_text()), said) != said:
            message = "an earlier row has the same key and says something else"
            _note(trial, line, RowRefused("", "duplicate-key", message))
        elif len(trial.good) < rows:
            trial.good.append(_masked(line, draft))
    if trial.rows == 0:
        raise FileRefused("no-rows", 0, "the file has a header and no rows")
    return trial


def _note(trial: _Trial, line: int, error: "RowRefused") -> None:
    trial.quarantined += 1
    trial.rules[error.rule] += 1
    if len(trial.bad) < SHOWN:
        trial.bad.append({"line": line, "column": error.column, "rule": error.rule, "message": str(error)})


def _masked(line: int, draft: "ListingDraft") -> dict[str, str]:
    """Return the canonical cells of a row that say something; identifiers and names masked (Art. 40)."""
    from lanjie_matcher.masking import masked_name, masked_number, masked_text

    cells = {
        "line": str(line),
        "op": draft.op.value,
        "subject_kind": draft.subject_kind.value,
        "name": masked_name(draft.name),
        "identifiers": ", ".join(map(masked_number, draft.identifiers)),
        "list_type": draft.list_type,
        **{name: masked_text(text) for name, text in draft.texts.items()},
        **{name: str(day) for name, day in draft.dates.items() if day},
        "related_persons": f"{len(draft.related_persons)} marks" if draft.related_persons else "",
    }
    return {name: text for name, text in cells.items() if text}


def _print(found: Mapping[str, Any], trial: _Trial) -> None:
    from rich.table import Table

    console = render.console()
    where = f"sheet {found['sheet']}, " if found["sheet"] else ""
    console.print(f"{where}header in line {found['header_line']}" if found["header_line"] else "one object a line")
    if found["columns"]:
        table = Table("place", "column of the file", "read as", title="columns")
        for each in found["columns"]:
            table.add_row(str(each["place"]), each["header"], each["becomes"])
        console.print(table)
    for cells in trial.good:
        table = Table("canonical column", "cell", title=f"line {cells['line']}")
        for name, text in itertools.islice(cells.items(), 1, None):
            table.add_row(name, text)
        console.print(table)
    if trial.bad:
        table = Table("line", "column", "rule", "why", title=f"{trial.quarantined} rows would be quarantined")
        for each in trial.bad[:50]:
            table.add_row(str(each["line"]), each["column"], each["rule"], each["message"])
        console.print(table)
    console.print(f"{trial.rows} rows, {trial.rows - trial.quarantined} good, {trial.quarantined} for quarantine")
