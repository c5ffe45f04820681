"""Profiles: how a file in its own shape is read (TOML). docs/profiles.md is their manual.

A profile says which headers stand for which canonical column, how dates and codes are written, and which columns are
known and left out. It adds no facts and weakens no rule: what it yields goes through `list_file.read_row`.

1. Art. 62: no profile makes a column of prohibited data acceptable, not even to leave it out.
2. Art. 34: kinds of identifiers are stated, by column or by a code of a named scheme; nothing is inferred from digits.
3. Art. 32, 47: legal representatives and other related persons become marks, whatever the profile says.
"""

import re
import tomllib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn, Self

from lanjie_gateway.domain.cells import DATE_FORMS
from lanjie_gateway.domain.list_file import COLUMNS, DATE_COLUMNS, prohibited_word
from lanjie_matcher.identifiers import PERSON_KINDS, IdentifierKind

MAX_BYTES: Final = 64 * 1024
ENCODINGS: Final = {"utf-8": "utf-8-sig", "gb18030": "gb18030"}
"""Encodings of text files, and the codec of their first line."""
USCC_OR_ORG_CODE: Final = "uscc_or_org_code"
"""A column that holds either code of a company: 18 places are a USCC, anything else an organisation code."""

SCHEMES: Final[Mapping[str, Mapping[str, str]]] = {
    # One code means different papers in different schemes; "" is a paper that is no identifier here.
    "return-table": {
        "1": "citizen",
        "2": "officer_card",
        "3": "passport",
        "4": "hk_macao_pass",
        "5": "taiwan_pass",
        # Residence permits of Hong Kong, Macao and Taiwan residents carry numbers of the citizens' layout (81-83).
        "6": "citizen",
        "7": "",
    },
    "cb16": {
        "10": "citizen",
        "20": "officer_card",
        "30": "",
        "40": "passport",
        "52": "hk_macao_pass",
        "54": "hk_macao_pass",
        "56": "taiwan_pass",
        "90": "",
    },
    "gat517": {
        "111": "citizen",
        "114": "officer_card",
        "414": "passport",
        "511": "taiwan_pass",
        "516": "hk_macao_pass",
    },
}
"""Certificate codes by scheme: the 1-7 set of return tables, CB16 of the business registries, GA/T 517."""

_GIVEN: Final = frozenset({"id_kind", "id_number", "other_ids", "related_persons"})
_KINDS: Final = frozenset({*(kind.value for kind in IdentifierKind), USCC_OR_ORG_CODE})
_COMPANY_KINDS: Final = _KINDS - {kind.value for kind in PERSON_KINDS}
_LONGEST_HEADER: Final = 1_000
_MARKS: Final = re.compile(r"^\*+|(\*+|\((必填|选填|可选)\))+$")


class ProfileRefused(Exception):
    """A profile cannot be used.

    Attributes:
        key: path of the key at fault; empty where the whole file is.
        rule: name of the rule: ``too-large``, ``encoding``, ``toml``, ``key-unknown``, ``key-missing``, ``type``,
            ``value``, ``column-unknown``, ``column-prohibited``, ``header-twice``.
    """

    def __init__(self, key: str, rule: str, message: str) -> None:
        super().__init__(f"profile, {key}: {message}" if key else f"profile: {message}")
        self.key = key
        self.rule = rule


def plain_header(text: str) -> str:
    """Return a header as it is compared: NFKC, lower case, no blanks, no mark of a required column."""
    # Of a cell that is no header the beginning tells as much, and a long text of combining marks would take for ever.
    return _MARKS.sub("", "".join(unicodedata.normalize("NFKC", text[:_LONGEST_HEADER]).casefold().split()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A canonical column and the headers that stand for it; `values` maps what its cells say."""

    column: str
    headers: tuple[str, ...]
    required: bool = False
    dates: tuple[str, ...] = ()
    values: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A column of numbers and how its kind is known.

    Attributes:
        kind: kind of all numbers; empty where `kind_headers` name the column that tells.
        scheme: name of the certificate scheme; empty where only `codes` map.
        codes: kind by cell of the kind column, scheme and own codes together; empty kinds identify nobody.
        country_headers: column of a passport's country.
        countries: its cells as three letters; others stay as they are.
    """

    headers: tuple[str, ...]
    required: bool = False
    kind: str = ""
    kind_headers: tuple[str, ...] = ()
    scheme: str = ""
    codes: Mapping[str, str] = field(default_factory=dict)
    country_headers: tuple[str, ...] = ()
    countries: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Related:
    """Columns of a related person: a mark, never an identifier, never an effect."""

    role: str
    headers: tuple[str, ...]
    certificate: Certificate | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How a file is read; the fields are the keys of the TOML file."""

    name: str
    title: str
    description: str = ""
    sheet: str = ""
    header_within: int = 20
    encoding: str = "utf-8"
    delimiter: str = ","
    skip_rows_where: tuple[str, ...] = ()
    empty_values: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    list_type: str = ""
    source: str = ""
    mode: str = ""
    constants: Mapping[str, str] = field(default_factory=dict)
    columns: tuple[Column, ...] = ()
    identifiers: tuple[Certificate, ...] = ()
    related: tuple[Related, ...] = ()
    record_id: tuple[str, ...] = ()
    separator: str = "#"

    @classmethod
    def load(cls, data: bytes) -> Self:
        """Read a profile.

        Raises:
            ProfileRefused: with key and rule.
        """
        if len(data) > MAX_BYTES:
            raise ProfileRefused("", "too-large", f"it has more than {MAX_BYTES} bytes")
        try:
            top = _Table(tomllib.loads(data.decode("utf-8-sig")), "")
        except UnicodeDecodeError:
            raise ProfileRefused("", "encoding", "it is not UTF-8") from None
        except (ValueError, RecursionError) as error:
            raise ProfileRefused("", "toml", f"it is not TOML: {error}") from None
        forms = top.words("dates", DATE_FORMS[:3], among=DATE_FORMS)
        defaults, record = top.table("defaults"), top.table("record_id")
        made = cls(
            name=top.text("name", needed=True),
            title=top.text("title", needed=True),
            description=top.text("description"),
            sheet=top.text("sheet"),
            header_within=top.whole("header_within", 20),
            encoding=top.text("encoding", "utf-8", among=tuple(ENCODINGS)),
            delimiter=top.text("delimiter", ",", among=(",", ";", "\t", "|")),
            skip_rows_where=top.words("skip_rows_where"),
            empty_values=top.words("empty_values"),
            ignore=top.headers("ignore"),
            list_type=defaults.text("list_type"),
            source=defaults.text("source"),
            mode=defaults.text("mode", among=("", "delta", "full")),
            constants=_constants(top.mapping("constants")),
            columns=tuple(_column(name, table, forms) for name, table in top.tables_of("columns")),
            identifiers=tuple(_certificate(table) for table in top.tables("identifiers")),
            related=tuple(_related(table) for table in top.tables("related")),
            record_id=record.words("md5"),
            separator=record.text("separator", "#"),
        )
        for table in (defaults, record, top):
            table.end()
        _whole(made)
        return made


class _Table:
    """A TOML table that is emptied key by key: what is left over is unknown."""

    def __init__(self, values: Mapping[str, Any], at: str) -> None:
        self._values = dict(values)
        self.at = at

    def refuse(self, key: str, rule: str, message: str) -> NoReturn:
        raise ProfileRefused(self.path(key), rule, message)

    def path(self, key: str) -> str:
        return f"{self.at}.{key}" if self.at else key

    def has(self, key: str) -> bool:
        return key in self._values

    def text(self, key: str, default: str = "", *, among: tuple[str, ...] = (), needed: bool = False) -> str:
        if needed and key not in self._values:
            self.refuse(key, "key-missing", "the key is missing")
        value = self._values.pop(key, default)
        if not isinstance(value, str):
            self.refuse(key, "type", "a text is due")
        if (among and value not in among) or (needed and not value):
            self.refuse(key, "value", f"one of {', '.join(map(repr, among))} is due" if among else "it is empty")
        return value

    def whole(self, key: str, default: int) -> int:
        value = self._values.pop(key, default)
        if not isinstance(value, int) or isinstance(value, bool):
            self.refuse(key, "type", "a whole number is due")
        if not 1 <= value <= 200:
            self.refuse(key, "value", "1 to 200 is due")
        return value

    def flag(self, key: str) -> bool:
        value = self._values.pop(key, False)
        if not isinstance(value, bool):
            self.refuse(key, "type", "true or false is due")
        return value

    def words(self, key: str, default: tuple[str, ...] = (), *, among: tuple[str, ...] = ()) -> tuple[str, ...]:
        value = self._values.pop(key, list(default))
        if not isinstance(value, list) or not all(isinstance(word, str) and word.strip() for word in value):
            self.refuse(key, "type", "a list of texts is due, none of them empty")
        if among and not set(value) <= set(among):
            self.refuse(key, "value", f"known are {', '.join(among)}")
        return tuple(value)

    def headers(self, key: str = "headers", *, needed: bool = False) -> tuple[str, ...]:
        if needed and key not in self._values:
            self.refuse(key, "key-missing", "the key is missing")
        found = self.words(key)
        if needed and not found:
            self.refuse(key, "value", "it is empty")
        for header in found:
            if not plain_header(header):
                self.refuse(key, "value", "a header says nothing")
            if prohibited_word(plain_header(header)):
                self.refuse(key, "column-prohibited", "data that may not be kept (Art. 62) is never read nor left out")
        return found

    def mapping(self, key: str) -> Mapping[str, str]:
        value = self._values.pop(key, {})
        if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
            self.refuse(key, "type", "a table of texts is due")
        return {unicodedata.normalize("NFKC", name): text for name, text in value.items()}

    def table(self, key: str) -> "_Table":
        value = self._values.pop(key, {})
        if not isinstance(value, dict):
            self.refuse(key, "type", "a table is due")
        return _Table(value, self.path(key))

    def tables(self, key: str) -> "list[_Table]":
        value = self._values.pop(key, [])
        if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
            self.refuse(key, "type", "a list of tables is due")
        return [_Table(each, f"{self.path(key)}[{place}]") for place, each in enumerate(value, 1)]

    def tables_of(self, key: str) -> "list[tuple[str, _Table]]":
        value = self._values.get(key, {})
        names = self.table(key)
        return [(name, names.table(name)) for name in value]

    def end(self) -> None:
        for key in self._values:
            self.refuse(key, "key-unknown", "no such key")


def _column(name: str, table: _Table, forms: tuple[str, ...]) -> Column:
    if name not in COLUMNS or name in _GIVEN:
        raise ProfileRefused(
            table.at, "column-unknown", "none of the canonical columns that a profile fills by [columns]"
        )
    made = Column(
        column=name,
        headers=table.headers(needed=True),
        required=table.flag("required"),
        dates=table.words("dates", forms, among=DATE_FORMS) if name in DATE_COLUMNS else (),
        values=table.mapping("values"),
    )
    table.end()
    return made


def _certificate(table: _Table) -> Certificate:
    scheme = table.text("scheme", among=("", *SCHEMES))
    own = table.mapping("codes")
    shared = SCHEMES.get(scheme, {})
    made = Certificate(
        headers=table.headers(needed=True),
        required=table.flag("required"),
        kind=table.text("kind"),
        kind_headers=table.headers("kind_headers"),
        scheme=scheme,
        codes={**shared, **own},
        country_headers=table.headers("country_headers"),
        countries=table.mapping("countries"),
    )
    if shared.keys() & own.keys():
        table.refuse("codes", "value", "a code of the scheme means what the scheme says")
    if not {made.kind, *made.codes.values()} <= {*_KINDS, ""}:
        table.refuse("kind" if made.kind not in _KINDS else "codes", "value", "no such kind of identifier")
    if bool(made.kind) == bool(made.kind_headers) or bool(made.kind_headers) != bool(made.codes):
        table.refuse("kind", "value", "either kind, or kind_headers with a scheme or codes")
    table.end()
    return made


def _related(table: _Table) -> Related:
    inner = table.table("certificate") if table.has("certificate") else None
    made = Related(
        role=table.text("role", needed=True),
        headers=table.headers(needed=True),
        certificate=_certificate(inner) if inner is not None else None,
    )
    table.end()
    return made


def _constants(values: Mapping[str, str]) -> Mapping[str, str]:
    for name in values:
        if name not in COLUMNS or name in _GIVEN:
            raise ProfileRefused(f"constants.{name}", "column-unknown", "none of the canonical columns")
    return values


def _whole(profile: Profile) -> None:
    if not profile.identifiers:
        raise ProfileRefused("identifiers", "key-missing", "a subject is told by an identifier (Art. 34)")
    # One header may fill several canonical columns; a person's number never serves two ends.
    used = {plain_header(header) for column in profile.columns for header in column.headers}
    apart = [("ignore", profile.ignore)]
    for key, certificates in (
        ("identifiers", profile.identifiers),
        ("related", tuple(each.certificate for each in profile.related if each.certificate)),
    ):
        apart += [(key, each.headers) for each in certificates]
    apart += [("related", each.headers) for each in profile.related]
    for key, headers in apart:
        for header in map(plain_header, headers):
            if header in used:
                raise ProfileRefused(key, "header-twice", "a header stands for two things")
            used.add(header)
    for part in profile.record_id:
        if part not in _COMPANY_KINDS and part not in {column.column for column in profile.columns}:
            raise ProfileRefused(
                "record_id.md5", "value", "parts are columns of the profile, or the kind of a company's identifier"
            )
