"""Finding inquiry records (Art. 39, 63): by columns where there is one, else in the record."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from lanjie_gateway.adapters.ledger import tree
from lanjie_gateway.adapters.ledger.tables import INQUIRY
from lanjie_gateway.domain import packed
from lanjie_gateway.domain.records import instant

STEP: Final = 10_000
"""Places that one step of a search goes through."""
_SLICE: Final = 500
_LEFT: Final = ("decision_id", "kind", "department", "outcome")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which records are wanted; what is empty does not narrow.

    Attributes:
        since: microseconds, inclusive; `before`: exclusive; 0 for none.
        most: records of a page.
        after: place to go on at.
        tokens: of the subject.
    """

    department: str = ""
    person: str = ""
    matter: str = ""
    outcome: str = ""
    kind: str = ""
    decision_id: str = ""
    since: int = 0
    before: int = 0
    most: int = 100
    after: int = 0
    tokens: frozenset[bytes] = frozenset()

    def about(self, tokens: frozenset[bytes]) -> "Wanted":
        """Return the same about one subject."""
        return dataclasses.replace(self, tokens=tokens)

    def from_on(self, place: int, most: int) -> "Wanted":
        """Return the rest of the same."""
        return dataclasses.replace(self, after=place, most=most)

    def said(self) -> dict[str, Any]:
        """Return what narrows, the subject apart, for the record of the search."""
        names = ("department", "person", "matter", "outcome", "kind", "decision_id", "since", "before", "after")
        return {name: getattr(self, name) for name in names if getattr(self, name)}


def find(connection: sa.Connection, wanted: Wanted) -> tuple[list[tuple[int, Mapping[str, Any]]], int, bool]:
    """Do one step of a search.

    Returns:
        (place, fields) of records, the place to go on at, 0 for the end, and whether the page is full: another record
        stands at that place.
    """
    columns = (INQUIRY.c.tree_index, INQUIRY.c.record, *(INQUIRY.c[name] for name in _LEFT), INQUIRY.c.decided_at)
    query = sa.select(*columns).order_by(INQUIRY.c.tree_index)
    for name in ("department", "matter", "outcome", "kind", "decision_id"):
        if value := getattr(wanted, name):
            query = query.where(INQUIRY.c[name] == value)
    if wanted.tokens:
        query = query.where(INQUIRY.c.subject_token.in_(wanted.tokens))
    if wanted.since:
        query = query.where(INQUIRY.c.decided_at >= wanted.since)
    if wanted.before:
        query = query.where(INQUIRY.c.decided_at < wanted.before)
    behind = 0
    if not (wanted.tokens or wanted.decision_id):
        # These have an index. All else goes through the records, and everybody else waits as long.
        behind = wanted.after + STEP
        query = query.where(INQUIRY.c.tree_index < behind)
    found: list[tuple[int, Mapping[str, Any]]] = []
    after = wanted.after
    while True:
        rows = connection.execute(query.where(INQUIRY.c.tree_index >= after).limit(_SLICE)).all()
        for row in rows:
            if len(found) == wanted.most:
                return found, row.tree_index, True
            fields = _fields(row.record) if row.record else _left(row)
            if not wanted.person or fields.get("person") == wanted.person:
                found.append((row.tree_index, fields))
            after = row.tree_index + 1
        if len(rows) < _SLICE:
            return found, behind if behind < tree.state(connection).size else 0, False


def _left(row: Any) -> Mapping[str, Any]:
    """Return what is left of a record that was erased."""
    return {
        "id": row.decision_id,
        "at": instant(packed.instant(row.decided_at)),
        **{name: getattr(row, name) for name in ("kind", "department", "outcome")},
    }


def _fields(record: bytes) -> Mapping[str, Any]:
    try:
        fields = json.loads(record)
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}
