"""Corrections of a listing by hand (Art. 61, 64, 65): the rules of a list file, for one listing that is there already.

1. What a listing is keyed by is not corrected: identifiers, list type, source and record; without a record id the
   decision number, and without that the day of entry. Whoever was listed by mistake is deleted, and the right one is
   entered.
2. The corrected listing obeys every rule of a row; what its list type requires may be absent only where it was before.
3. It says something else than before.
"""

import dataclasses
import datetime
from collections.abc import Mapping
from typing import Final

from lanjie_gateway.domain.errors import Refused, invalid_argument
from lanjie_gateway.domain.list_file import (
    DATE_COLUMNS,
    TEXT_COLUMNS,
    FileRules,
    ListingDraft,
    ListTypeRule,
    RowRefused,
    read_row,
)
from lanjie_gateway.domain.packed import Details
from lanjie_matcher.listings import Listing

CORRECTABLE: Final = frozenset((*TEXT_COLUMNS, *DATE_COLUMNS, "name", "subject_kind", "related_persons")) - {
    "source_record_id",
    "source_version",
}
"""Canonical columns that a correction by hand may set."""
_SEALED: Final = frozenset({"authority_uscc", "measure_hints", "notice_date", "source_record_id"})


def cells_of(listing: Listing, details: Details) -> dict[str, str]:
    """Return the row of canonical columns that a listing stands for; empty cells are left out."""
    identifiers = [each.partition(":") for each in details.identifiers]
    values = {
        "id_kind": identifiers[0][0],
        "id_number": identifiers[0][2],
        "other_ids": ";".join("".join(each) for each in identifiers[1:]),
        "subject_kind": listing.subject_kind.value,
        "list_type": listing.list_type,
        "source": listing.source,
        "name": details.name,
        "related_persons": ";".join(details.related_persons),
    }
    for column in (*TEXT_COLUMNS, *DATE_COLUMNS):
        if column != "source_version":
            value = getattr(details if column in _SEALED else listing, column)
            values[column] = "" if value is None else str(value)
    return {column: value for column, value in values.items() if value}


def corrected(
    listing: Listing,
    details: Details,
    changes: Mapping[str, str],
    required_fields: tuple[str, ...],
    today: datetime.date,
) -> ListingDraft:
    """Return a listing as it stands after a correction.

    Args:
        listing: as it stands.
        details: what is sealed of it.
        changes: new cells by canonical column; an empty one clears the cell.
        required_fields: of its list type today.
        today: day in Asia/Shanghai.

    Raises:
        Refused: ARGUMENT_INVALID with the column and the rule.
    """
    # (1)
    for column in changes:
        if column not in CORRECTABLE:
            raise _keyed()
    before = cells_of(listing, details)
    # (2)
    rule = ListTypeRule(code=listing.list_type, required_fields=tuple(c for c in required_fields if c in before))
    rules = FileRules(
        list_types={listing.list_type: rule}, list_type="", source="", complete=False, today=today, source_as_of=None
    )
    try:
        draft = read_row({**before, **_reviewed(before, rules), **changes}, 1, rules)
    except RowRefused as error:
        raise invalid_argument(f"corrections.{error.column}", error.rule, str(error)) from None
    # (1) Under another key the source's next word about it would list the subject a second time.
    texts, dates = {**draft.texts, "decision_no": listing.decision_no}, {**draft.dates, "listed_on": listing.listed_on}
    if draft.key_text() != dataclasses.replace(draft, texts=texts, dates=dates).key_text():
        raise _keyed()
    # (3)
    if all(cell_of(draft, column) == before.get(column, "") for column in changes):
        raise invalid_argument("corrections", "nothing", "the listing says this already")
    return draft


def _keyed() -> Refused:
    message = "only what a decision document says can be corrected, not what the listing is keyed by"
    return invalid_argument("corrections", "column", message)


def _reviewed(before: Mapping[str, str], rules: FileRules) -> Mapping[str, str]:
    # The review is said when somebody is entered, and not kept: who is listed at that age was reviewed.
    try:
        read_row(before, 1, rules)
    except RowRefused as error:
        if error.rule == "cautious-review":
            return {"cautious_review": "true"}
    return {}


def cell_of(draft: ListingDraft, column: str) -> str:
    """Return what a draft says in a correctable column; empty for nothing."""
    if column in draft.dates:
        day = draft.dates[column]
        return "" if day is None else str(day)
    if column in draft.texts:
        return draft.texts[column]
    return {"name": draft.name, "subject_kind": draft.subject_kind.value}.get(column, ";".join(draft.related_persons))
