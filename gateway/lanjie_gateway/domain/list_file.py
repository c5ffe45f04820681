"""Rules of a list file, row by row (Art. 3, 31, 34, 62). docs/import-rules.md lists them for operators.

1. Art. 62: columns of prohibited data, and columns nobody knows, refuse the file. So do columns of market credit
   information (Art. 4, 33), and a row that calls itself anything but information on dishonesty is not taken.
2. Art. 34: the identifier is stated with its kind; nothing is inferred, repaired or guessed. Check digits warn nobody
   here: codes that fail them were lawfully issued. Masked and spreadsheet-mangled numbers are kept out.
3. Art. 31: what a list type requires must be there.
4. Art. 3, 26: nobody under sixteen; at sixteen and seventeen only what was reviewed with caution.
5. Art. 32, 47: related persons are marks; they are kept sealed and have no effect.
6. Art. 26-31, 61: a department writes its own list types, within its region, from its own source.
7. Art. 40: what a row says of its own persons is masked in the texts that answers show; a column that holds no text
   and holds a citizen number stands in the wrong place.

No error carries a value of the file: a message names line, column and rule only.
"""

import datetime
import enum
import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from lanjie_gateway.domain.access import WriteScope, is_of
from lanjie_gateway.domain.packed import pack_details, pack_entry
from lanjie_matcher import identifiers as ids
from lanjie_matcher.identifiers import Identifier, IdentifierError
from lanjie_matcher.masking import holds_personal_number, masked_text
from lanjie_matcher.regions import REGION
from lanjie_matcher.subjects import SubjectKind, kind_by_code, normalise_name

TEXT_COLUMNS: Final = tuple(
    "decision_no authority authority_uscc reason basis removal_conditions remedies measure_hints region sanction_no "
    "sanction_kind source_record_id source_version".split()
)
DATE_COLUMNS: Final = tuple(
    "notice_date decision_date served_date listed_on expires_on publicity_until retention_until sanction_from "
    "sanction_to".split()
)
OTHER_COLUMNS: Final = tuple(
    (
        "op subject_kind name id_kind id_number other_ids list_type source related_persons record_class cautious_review"
    ).split()
)
COLUMNS: Final = frozenset((*TEXT_COLUMNS, *DATE_COLUMNS, *OTHER_COLUMNS))
"""The canonical columns; any order, any may be missing but `KEY_COLUMNS`."""

KEY_COLUMNS: Final = ("id_kind", "id_number")
NOT_PERMITTED: Final = "the department does not write this: another list type, region or source"
PROHIBITED: Final = tuple(
    "religion faith gene dna fingerprint blood disease illness medical health biometric "
    "宗教 信仰 基因 指纹 血型 疾病 病史 生物识别 "
    "income deposit savings securities commercial_insurance insurance_policy insurance_amount real_estate "
    "house_property tax_amount tax_paid "
    "收入 存款 有价证券 证券账户 股票 商业保险 保险金额 保单 不动产 房产 房屋产权 纳税额 纳税数额 纳税金额".split()
)
"""What Art. 62 forbids to collect, as words of column names: the second half without consent, which no file holds."""
MARKET_CREDIT: Final = tuple(
    "credit_score credit_rating credit_limit loan 信用评分 信用分 征信 授信 贷款 信贷 信用卡".split()
)
"""Market credit information (Art. 4), which is no public credit information, as words of column names."""

_LIMITS: Final = {
    **dict.fromkeys("reason basis removal_conditions remedies related_persons".split(), 4_000),
    "source_record_id": 128,
    **dict.fromkeys("source source_version list_type".split(), 64),
}
_LIMIT: Final = 256
_SHORTEST: Final = 64
_FREE_TEXTS: Final = tuple("reason basis removal_conditions remedies measure_hints".split())
_CODES: Final = tuple("decision_no authority sanction_no sanction_kind source_version".split())
_CITIZEN_PLACES: Final = 18
_ID_KINDS: Final = frozenset(ids.IdentifierKind)
_LISTED_FROM: Final = 16
_ADULT_FROM: Final = 18
_YES: Final = frozenset({"true", "1", "是"})
_DISHONESTY: Final = frozenset({"dishonesty", "失信信息"})
_ORDER: Final = (
    ("notice_date", "decision_date"),
    ("decision_date", "served_date"),
    ("decision_date", "listed_on"),
    ("listed_on", "expires_on"),
    ("listed_on", "publicity_until"),
    ("listed_on", "retention_until"),
    ("sanction_from", "sanction_to"),
)
_FORBIDDEN: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_SCIENTIFIC: Final = re.compile(r"[0-9](\.[0-9]+)?[Ee]\+[0-9]+")
_DATE: Final = re.compile(r"([0-9]{4})-?([0-9]{2})-?([0-9]{2})")


class Op(enum.StrEnum):
    """What a row asks for: enter, correct, remove. `INSERT` and `UPDATE` are taken alike: the key decides."""

    INSERT = "I"
    UPDATE = "U"
    DELETE = "D"


class RowRefused(Exception):
    """A row goes into quarantine.

    Attributes:
        column: column at fault; empty where the whole row is.
        rule: name of the rule.
    """

    def __init__(self, column: str, rule: str, message: str) -> None:
        super().__init__(message)
        self.column = column
        self.rule = rule


class FileRefused(Exception):
    """The file cannot be taken as a whole.

    Attributes:
        rule: name of the rule.
        line: line of the file, from 1; 0 where none is to blame.
    """

    def __init__(self, rule: str, line: int, message: str) -> None:
        super().__init__(message)
        self.rule = rule
        self.line = line


_OPS: Final = {text: op for op in Op for text in (op.value, op.value.lower())}
REMOVES: Final = frozenset({"D", "d"})
REMOVED_BY: Final = frozenset(
    "op id_kind id_number list_type decision_no listed_on region source source_record_id source_version".split()
)
"""What tells which listing a removal is about, and whose it is."""
_KINDS: Final = {kind.value: kind for kind in SubjectKind}


@dataclass(frozen=True, slots=True, kw_only=True)
class ListTypeRule:
    """What an import needs to know of a list type: its code (aliases point here too) and what it requires.

    `first_code` is an earlier code that its listings are keyed by; empty where it never had another one.
    """

    code: str
    required_fields: tuple[str, ...] = ()
    first_code: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRules:
    """What holds for all rows of a file.

    Attributes:
        list_types: list types in force on `today`, by code and alias.
        list_type: code for rows that name none; the only one of a complete list.
        source: source for rows that name none; the only one of a complete list.
        complete: the file is the complete list of one type from one source.
        today: day in Asia/Shanghai.
        source_as_of: day up to which the source vouches for the rows, where the order says so.
        writes: scope of the department that brings the file; `None` for everything.
        department: its code, which its sources begin with.
    """

    list_types: Mapping[str, ListTypeRule]
    list_type: str
    source: str
    complete: bool
    today: datetime.date
    source_as_of: datetime.date | None = None
    writes: WriteScope | None = None
    department: str = ""


@dataclass(slots=True, kw_only=True)
class ListingDraft:
    """A row that obeys all rules. `texts` and `dates` are by column name.

    Not frozen: a million are made in one import, and freezing costs more than filling.
    """

    line: int
    op: Op
    identifiers: tuple[Identifier, ...]
    name: str = field(repr=False)
    subject_kind: SubjectKind
    list_type: str
    source: str
    source_as_of: datetime.date | None
    related_persons: tuple[str, ...] = field(repr=False)
    texts: Mapping[str, str] = field(repr=False)
    dates: Mapping[str, datetime.date | None]
    first_code: str = ""

    def key_text(self) -> str:
        """Return the text whose keyed hash identifies the listing: a correction of it amends, never doubles."""
        if self.texts["source_record_id"]:
            return f"record\x1f{self.source}\x1f{self.texts['source_record_id']}"
        subject = self.identifiers[0].key
        # Under a new code its list type is still the same one.
        list_type = self.first_code or self.list_type
        decision = normalise_name(self.texts["decision_no"])
        if decision:
            return f"decision\x1f{subject}\x1f{list_type}\x1f{decision}"
        listed_on = self.dates["listed_on"]
        return f"listed\x1f{subject}\x1f{list_type}\x1f{listed_on or ''}"

    def content_text(self) -> str:
        """Return the text whose keyed hash tells whether two rows say the same."""
        said = [each.reveal() for each in self.identifiers]
        said += (self.name, self.subject_kind, self.list_type, self.source)
        said += self.related_persons
        said += self.texts.values()
        said += [str(day) for day in self.dates.values()]
        return "\x1f".join(said)

    def packed(
        self,
        listing_id: str,
        recorded_on: datetime.date,
        identities: Sequence[tuple[str, bytes]],
        name_token: bytes | None,
    ) -> bytes:
        """Return the packed form of the listing this row enters."""
        return pack_entry(
            listing_id=listing_id,
            list_type=self.list_type,
            subject_kind=self.subject_kind,
            recorded_on=recorded_on,
            source=self.source,
            source_as_of=self.source_as_of,
            texts=self.texts,
            dates=self.dates,
            identities=identities,
            name_token=name_token,
        )

    def details(self) -> bytes:
        """Return what is stored sealed, packed as `Details` are."""
        return pack_details(
            identifiers=[each.reveal() for each in self.identifiers],
            name=self.name,
            related_persons=self.related_persons,
            authority_uscc=self.texts["authority_uscc"],
            notice_date=self.dates["notice_date"],
            measure_hints=self.texts["measure_hints"],
            source_record_id=self.texts["source_record_id"],
        )


def read_header(cells: Sequence[str], line: int = 1, *, list_type_given: bool) -> list[str]:
    """Return the column names of a header line, or the keys of an object.

    Args:
        cells: names as the file has them.
        line: line of the file.
        list_type_given: whether the order names the list type, so that the column may be missing.

    Raises:
        FileRefused: ``column-prohibited``, ``column-unknown``, ``column-twice``, ``column-missing``. A name that is not
            ours is told by its place only: a file without a header would put its first subject there.
    """
    names = [cell.strip().lower() for cell in cells]
    for place, name in enumerate(names, 1):
        if name in COLUMNS:
            continue
        word = prohibited_word(name)
        if word:
            raise FileRefused(
                "column-prohibited", line, f"column {place} ({word}): such data may not be kept (Art. 4, 62)"
            )
        raise FileRefused("column-unknown", line, f"column {place} is none of the canonical columns")
    if len(set(names)) != len(names):
        raise FileRefused("column-twice", line, "a column stands twice")
    needed = KEY_COLUMNS if list_type_given else (*KEY_COLUMNS, "list_type")
    for name in needed:
        if name not in names:
            raise FileRefused("column-missing", line, f"the column {name} is missing")
    return names


def prohibited_word(name: str) -> str:
    """Return the word of `PROHIBITED` or `MARKET_CREDIT` that a column's name holds, in lower case; else nothing."""
    return next((word for word in (*PROHIBITED, *MARKET_CREDIT) if word in name), "")


def read_row(row: Mapping[str, str], line: int, rules: FileRules) -> ListingDraft:
    """Read one row.

    Args:
        row: cells by canonical column name; missing ones count as empty.
        line: line of the file, from 1.
        rules: what holds for the file.

    Raises:
        RowRefused: the row goes into quarantine.
    """
    if row.get("op", "").strip() in REMOVES:
        # A removal is never held up by what it says besides.
        row = {column: row[column] for column in REMOVED_BY & row.keys()}
    cells = _clean(row)
    op = _op(cells, rules)
    rule, source = _belonging(cells, rules)
    identifiers = _identifiers(cells)
    kind = _subject_kind(cells.get("subject_kind", ""), identifiers)
    texts = {column: cells.get(column, "") for column in TEXT_COLUMNS}
    dates = {column: _date(cells[column], column) if column in cells else None for column in DATE_COLUMNS}
    if op is not Op.DELETE:
        for column in rule.required_fields:
            if column not in cells:
                raise RowRefused(column, "required-field", "the list type requires this column (Art. 31)")
        _in_order(dates)
        _of_age(identifiers, dates, rules.today, cells.get("cautious_review", ""))
        if cells.get("record_class", "dishonesty") not in _DISHONESTY:
            raise RowRefused("record_class", "record-class", "a list holds information on dishonesty alone (Art. 4)")
        if texts["region"] and not REGION.fullmatch(texts["region"]):
            raise RowRefused("region", "region", "a region has six digits (GB/T 2260)")
        if len(source) >= _CITIZEN_PLACES and holds_personal_number(source):
            raise RowRefused("source", "personal-number", "the column holds the number of a person (Art. 40)")
    related = _parts(cells.get("related_persons", ""))
    name = cells.get("name", "")
    _without_persons(op, texts, own_words(identifiers, name if kind is SubjectKind.NATURAL_PERSON else "", related))
    if rules.writes is not None:
        texts["region"] = _permitted(rule.code, source, texts["region"], rules.writes, rules.department)
    return ListingDraft(
        line=line,
        op=op,
        identifiers=identifiers,
        name=name,
        subject_kind=kind,
        list_type=rule.code,
        source=source,
        source_as_of=rules.source_as_of,
        related_persons=related,
        texts=texts,
        dates=dates,
        first_code=rule.first_code,
    )


def _clean(row: Mapping[str, str]) -> dict[str, str]:
    # Only cells that say something; control characters and halves of surrogates are no text.
    cells = {column: text for column, value in row.items() if (text := value.strip())}
    if not cells:
        return cells
    whole = "".join(cells.values())
    if not whole.isprintable() and _FORBIDDEN.search(whole):
        column = next(column for column, value in cells.items() if _FORBIDDEN.search(value))
        raise RowRefused(column, "characters", "the cell holds control characters")
    if max(map(len, cells.values())) > _SHORTEST:
        for column, value in cells.items():
            limit = _LIMITS.get(column, _LIMIT)
            if len(value) > limit:
                raise RowRefused(column, "too-long", f"the cell has more than {limit} characters")
    return cells


def _op(cells: Mapping[str, str], rules: FileRules) -> Op:
    op = _OPS.get(cells.get("op", "I"))
    if op is None:
        raise RowRefused("op", "op", "an operation is I, U or D")
    if rules.complete and op is Op.DELETE:
        raise RowRefused("op", "op", "a complete list has no removals: what it does not hold is removed")
    return op


def _belonging(cells: Mapping[str, str], rules: FileRules) -> tuple[ListTypeRule, str]:
    code = cells.get("list_type") or rules.list_type
    if not code:
        raise RowRefused("list_type", "required-field", "the row names no list type, nor does the order")
    rule = rules.list_types.get(code)
    if rule is None:
        raise RowRefused("list_type", "list-type-unknown", "no catalogue in force today defines this list type")
    source = cells.get("source") or rules.source
    if rules.complete:
        whole = rules.list_types.get(rules.list_type)
        if whole is None or whole.code != rule.code:
            raise RowRefused("list_type", "other-list", "a complete list is of one list type")
        if source != rules.source:
            raise RowRefused("source", "other-list", "a complete list is from one source")
    return rule, source


def _permitted(list_type: str, source: str, region: str, writes: WriteScope, department: str) -> str:
    """Return the region of a row within a scope (6): the writer's own where it names none, so that the record tells."""
    region = region or writes.region
    column = writes.fault(list_type, region) or ("" if is_of(source, department) else "source")
    if column:
        raise RowRefused(column, "not-permitted", NOT_PERMITTED)
    return region


def _identifiers(cells: Mapping[str, str]) -> tuple[Identifier, ...]:
    for column in KEY_COLUMNS:
        if column not in cells:
            raise RowRefused(column, "required-field", "a listing names its subject by kind and number (Art. 34)")
    found = [read_identifier(cells["id_kind"], cells["id_number"], "id_number")]
    for text in _parts(cells.get("other_ids", "")):
        kind, separator, number = text.partition(":")
        if not separator:
            raise RowRefused("other_ids", "identifier-kind-missing", "each is written kind:number")
        other = read_identifier(kind, number, "other_ids")
        if other not in found:
            found.append(other)
    return tuple(found)


def read_identifier(kind: str, number: str, column: str) -> Identifier:
    """Return an identifier of a row.

    Raises:
        RowRefused: ``identifier-...``, ``masked`` or ``lost-precision``, about `column`.
    """
    try:
        made = ids.make(kind, number)
    except IdentifierError as error:
        at = "id_kind" if error.rule == "kind-unknown" and column == "id_number" else column
        if _SCIENTIFIC.fullmatch(number.strip()):
            raise _rounded(column) from None
        rule = "masked" if error.rule == "masked" else f"identifier-{error.rule}"
        raise RowRefused(at, rule, str(error)) from None
    if "check-digit" in made.warnings:
        digits = made.reveal().partition(":")[2]
        if len(digits) == 18 and digits.isdigit() and digits.endswith("000"):
            raise _rounded(column)
        if made.kind is ids.IdentifierKind.USCC and holds_personal_number(digits):
            # It would name a person as a company, and put the number where companies' numbers go.
            raise RowRefused(column, "personal-number", "the number of a person is stated as a company's")
    return made


def _rounded(column: str) -> RowRefused:
    return RowRefused(column, "lost-precision", "a spreadsheet has rounded this number; take it from the source")


def _subject_kind(stated: str, identifiers: Sequence[Identifier]) -> SubjectKind:
    kind = _KINDS.get(stated.lower()) if stated else SubjectKind.ORGANISATION
    if kind is None:
        raise RowRefused("subject_kind", "subject-kind", "unknown kind of subject")
    person = identifiers[0].is_person
    if not stated and person:
        kind = SubjectKind.NATURAL_PERSON
    if person is not (kind is SubjectKind.NATURAL_PERSON):
        raise RowRefused("subject_kind", "subject-kind", "the kind of subject contradicts the kind of identifier")
    for other in identifiers[1:]:
        # An individual business and its operator are two; only a record that names both links them.
        if other.is_person is not person and kind is not SubjectKind.INDIVIDUAL_BUSINESS:
            raise RowRefused("other_ids", "subject-kind", "the other identifiers are of another kind of subject")
    if kind is SubjectKind.ORGANISATION:
        told = [tells for each in identifiers if not each.is_person and (tells := kind_by_code(each)) is not None]
        return told[0] if told else kind
    return kind


def _date(text: str, column: str) -> datetime.date:
    day = _day(text)
    if day is None:
        raise RowRefused(column, "date", "a date is written yyyy-mm-dd or yyyymmdd")
    return day


@functools.lru_cache(maxsize=8192)
def _day(text: str) -> datetime.date | None:
    match = _DATE.fullmatch(text)
    if match is None or len(text) == 9:
        return None
    try:
        return datetime.date(int(match[1]), int(match[2]), int(match[3]))
    except ValueError:
        return None


def own_words(identifiers: Sequence[Identifier], name: str, related_persons: Sequence[str]) -> tuple[str, ...]:
    """Return the names and numbers of natural persons that a record states, as they may stand in its texts (7)."""
    numbers = [each.reveal().rpartition(":")[2] for each in identifiers if each.is_person]
    # A mark is written "name", "role:name" or "role:name:kind:number".
    parts = [each.replace("：", ":").split(":") for each in related_persons]
    named = [part.strip() for part_of in parts for part in part_of[len(part_of) > 1 :]]
    # Kinds and countries are no names: what is ASCII and short says nothing of a person.
    known = [word for word in (*numbers, name, *named) if len(word) > (4 if word.isascii() else 1)]
    return tuple(word for word in known if word not in _ID_KINDS)


def _without_persons(op: Op, texts: dict[str, str], own: tuple[str, ...]) -> None:
    # Nor is a removal held up by how this is written.
    for column in () if op is Op.DELETE else _CODES:
        if len(texts[column]) >= _CITIZEN_PLACES and holds_personal_number(texts[column]):
            raise RowRefused(column, "personal-number", "the column holds the number of a person (Art. 40)")
    for column in _FREE_TEXTS:
        if texts[column]:
            texts[column] = masked_text(texts[column], own)


def _in_order(dates: Mapping[str, datetime.date | None]) -> None:
    for first, second in _ORDER:
        earlier, later = dates[first], dates[second]
        if earlier is not None and later is not None and later < earlier:
            raise RowRefused(second, "date-order", f"{second} lies before {first}")


def _of_age(
    identifiers: Sequence[Identifier], dates: Mapping[str, datetime.date | None], today: datetime.date, reviewed: str
) -> None:
    if len(identifiers) == 1 and not identifiers[0].is_person:
        return
    known = [day for day in (dates["listed_on"], dates["decision_date"]) if day is not None]
    day = min(known, default=today)
    for each in identifiers:
        born = ids.birth_date(each)
        if born is None:
            continue
        if _younger(born, _LISTED_FROM, day):
            # The operator of an individual business stands among its other identifiers, and is found by them.
            column = "id_number" if each is identifiers[0] else "other_ids"
            raise RowRefused(column, "minor", "nobody under sixteen is listed (Art. 3)")
        if reviewed.lower() not in _YES and _younger(born, _ADULT_FROM, day):
            message = "under eighteen somebody is listed after a cautious review only (Art. 26)"
            raise RowRefused("cautious_review", "cautious-review", message)


def _younger(born: datetime.date, years: int, day: datetime.date) -> bool:
    return (day.year - years, day.month, day.day) < (born.year, born.month, born.day)


def _parts(text: str) -> tuple[str, ...]:
    if not text:
        return ()
    return tuple(part for each in text.replace("；", ";").split(";") if (part := each.strip()))
