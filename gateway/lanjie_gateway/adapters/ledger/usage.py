"""How many answers there were, counted as their records come in (`lanjie_gateway.domain.statistics`)."""

import datetime
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

from lanjie_gateway.adapters.ledger import database
from lanjie_gateway.adapters.ledger.rows import InquiryRow
from lanjie_gateway.adapters.ledger.tables import INQUIRY, USAGE
from lanjie_gateway.domain import packed
from lanjie_gateway.domain.records import fields_of
from lanjie_gateway.domain.statistics import LOCAL, Usage, month_of

_KINDS: Final = ("gateway", LOCAL)
_KEY: Final = tuple(column.name for column in USAGE.primary_key.columns)


def count(connection: sa.Connection, rows: Sequence[InquiryRow]) -> None:
    """Count records that were not kept before, in the transaction that keeps them.

    A record that replaces another takes back the count of an answer that never left.
    """
    counts: Counter[tuple[str, ...]] = Counter()
    for row in rows:
        if row.kind not in _KINDS:
            continue
        fields = row.fields()
        counts[_key(row.decided_at, row.department, row.kind, row.outcome, fields)] += 1
        if replaced := fields.get("replaces"):
            counts.update(_taken_back(connection, rows, replaced))
    values = [{**dict(zip(_KEY, key, strict=True)), "answers": number} for key, number in counts.items() if number]
    if values:
        put = database.insert(connection, USAGE)
        more = {"answers": USAGE.c.answers + put.excluded.answers}
        connection.execute(put.on_conflict_do_update(index_elements=list(_KEY), set_=more), values)


def _taken_back(connection: sa.Connection, rows: Sequence[InquiryRow], replaced: str) -> Mapping[tuple[str, ...], int]:
    for row in rows:
        if row.decision_id == replaced:
            return {_key(row.decided_at, row.department, row.kind, row.outcome, row.fields()): -1}
    columns = (INQUIRY.c.decided_at, INQUIRY.c.department, INQUIRY.c.kind, INQUIRY.c.outcome, INQUIRY.c.record)
    kept = sa.select(*columns).where(INQUIRY.c.decision_id == replaced, INQUIRY.c.kind == "gateway").limit(1)
    found = connection.execute(kept).first()
    if found is None:
        return {}
    at, department, kind, outcome, record = found
    return {_key(packed.instant(at), department, kind, outcome, fields_of(record)): -1}


def _key(at: datetime.datetime, department: str, kind: str, outcome: str, fields: Mapping[str, Any]) -> tuple[str, ...]:
    # What an SDK reports was not looked at when it was written; PostgreSQL keeps no text with a NUL in it.
    matter = str(fields.get("matter", "")).replace("\0", "\N{REPLACEMENT CHARACTER}")
    region = str(fields.get("region", ""))
    return (month_of(at), department, matter, region if region.isdecimal() and len(region) == 6 else "", kind, outcome)


def read(connection: sa.Connection, since: str, until: str, department: str) -> list[Usage]:
    """Return the counts of some months, both included, of one department or all (empty)."""
    query = sa.select(USAGE).where(USAGE.c.month.between(since, until), USAGE.c.answers != 0)
    if department:
        query = query.where(USAGE.c.department == department)
    return [Usage(**row) for row in connection.execute(query).mappings()]
