"""Inquiry records in the ledger (Art. 39), each once, and how far their sources were read."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

from lanjie_gateway.adapters.ledger import bulk, database, feedback, passes, tree, usage
from lanjie_gateway.adapters.ledger.rows import InquiryRow
from lanjie_gateway.adapters.ledger.tables import INQUIRY, INQUIRY_SOURCE
from lanjie_gateway.domain import packed
from lanjie_gateway.domain.record_retention import ERASED
from lanjie_gateway.domain.records import COLUMNS

_AT_ONCE: Final = 500
_COLUMNS: Final = ("source", *COLUMNS, "record", "digest", "tree_index")


def add(
    connection: sa.Connection, source: str, position: int, rows: Sequence[InquiryRow], chain: bytes | None = None
) -> None:
    """Keep records and the position of their source; known ones are passed over.

    Args:
        connection: of the ledger.
        source: segment or spool.
        position: how far it is read with these.
        rows: records, in their order.
        chain: hash of the spool's chain up to there.
    """
    if rows:
        held = tree.held(connection)
        fresh = _unknown(connection, source, rows)
        if fresh:
            values = [(source, *_values(row), place) for place, row in enumerate(fresh, held.size)]
            bulk.insert(connection, INQUIRY, _COLUMNS, values)
            tree.grow(connection, held, [row.digest for row in fresh])
            feedback.open_for(connection, fresh)
            usage.count(connection, fresh)
            passes.note(connection, fresh)
    put = database.insert(connection, INQUIRY_SOURCE).values(source=source, position=position, chain=chain)
    # Never back: an upload may be overtaken by its repetition, which had more.
    further = INQUIRY_SOURCE.c.position < put.excluded.position
    further_on = {"position": put.excluded.position, "chain": put.excluded.chain}
    connection.execute(put.on_conflict_do_update(index_elements=["source"], set_=further_on, where=further))


def add_apart(connection: sa.Connection, rows: Mapping[str, InquiryRow]) -> list[InquiryRow]:
    """Keep each record as the only one of its source; return those that were not there."""
    new = {source: row for source, row in rows.items() if not position(connection, source)}
    for source, row in new.items():
        add(connection, source, row.sequence, [row])
    return list(new.values())


def _unknown(connection: sa.Connection, source: str, rows: Sequence[InquiryRow]) -> list[InquiryRow]:
    numbers = [row.sequence for row in rows]
    within = sa.select(INQUIRY.c.sequence).where(
        INQUIRY.c.source == source, INQUIRY.c.sequence.between(min(numbers), max(numbers))
    )
    known = set(connection.execute(within).scalars())
    return [row for row in {row.sequence: row for row in reversed(rows)}.values() if row.sequence not in known][::-1]


def position(connection: sa.Connection, source: str) -> int:
    """Return how far a source was read; 0 where it never was."""
    found = sa.select(INQUIRY_SOURCE.c.position).where(INQUIRY_SOURCE.c.source == source)
    return int(connection.execute(found).scalar() or 0)


def chain(connection: sa.Connection, source: str) -> bytes | None:
    """Return the hash of a spool's chain up to its position; `None` where it has none."""
    return connection.execute(sa.select(INQUIRY_SOURCE.c.chain).where(INQUIRY_SOURCE.c.source == source)).scalar()


def not_kept(connection: sa.Connection, source: str, passes: Mapping[int, tuple[int, bytes]]) -> set[int]:
    """Return those of the numbers of a spool that stand for other passes than these, or for none.

    Args:
        connection: of the ledger.
        source: the spool.
        passes: instant in microseconds and subject's token, by number.
    """
    columns = (INQUIRY.c.sequence, INQUIRY.c.decided_at, INQUIRY.c.subject_token, INQUIRY.c.outcome)
    within = INQUIRY.c.sequence.between(min(passes), max(passes))
    rows = connection.execute(sa.select(*columns).where(INQUIRY.c.source == source, within))
    kept = {row.sequence: None if row.outcome == ERASED else (row.decided_at, bytes(row.subject_token)) for row in rows}
    return {number for number, said in passes.items() if number not in kept or kept[number] not in (None, said)}


def spool_name(connection: sa.Connection, spool: str) -> str:
    """Return what the records of a spool are named by: its first 12 digits, or all where another source had these."""
    source, short = f"sdk-{spool}", spool[:12]
    first = sa.select(INQUIRY.c.decision_id).where(INQUIRY.c.source == source).order_by(INQUIRY.c.sequence).limit(1)
    if (own := connection.execute(first).scalar()) is not None:
        return str(own).rpartition("-")[0]
    name = INQUIRY_SOURCE.c.source
    same = name.in_([short, f"control-{short}"]) | name.between(f"sdk-{short}{'0' * 20}", f"sdk-{short}{'f' * 20}")
    return spool if connection.execute(sa.select(name).where(same).limit(1)).scalar() else short


def read(connection: sa.Connection, limit: int, after: int) -> list[InquiryRow]:
    """Return records in the order they were kept, behind the `after` first ones."""
    rows = connection.execute(sa.select(INQUIRY).order_by(INQUIRY.c.id).limit(limit).offset(after))
    return [_row(row) for row in rows]


def find(connection: sa.Connection, decision_id: str) -> list[InquiryRow]:
    """Return the records of a decision id, in the order they were kept; several where a spool's name was made up."""
    rows = connection.execute(sa.select(INQUIRY).where(INQUIRY.c.decision_id == decision_id).order_by(INQUIRY.c.id))
    return [_row(row) for row in rows]


def find_many(connection: sa.Connection, decision_ids: Sequence[str]) -> list[InquiryRow]:
    """Return the records of some decision ids, in no order."""
    found = []
    for place in range(0, len(decision_ids), _AT_ONCE):
        some = INQUIRY.c.decision_id.in_(decision_ids[place : place + _AT_ONCE])
        found += [_row(row) for row in connection.execute(sa.select(INQUIRY).where(some))]
    return found


def of_subject(connection: sa.Connection, tokens: Sequence[bytes], before: int | None, limit: int) -> list[InquiryRow]:
    """Return the records about a subject, the newest first.

    Args:
        connection: of the ledger.
        tokens: everything that records may name the subject by: index tokens, and view digests of every generation.
        before: those alone that were answered before this, in microseconds.
        limit: how many at most.
    """
    query = sa.select(INQUIRY).where(INQUIRY.c.subject_token.in_(tokens))
    if before is not None:
        query = query.where(INQUIRY.c.decided_at < before)
    rows = connection.execute(query.order_by(INQUIRY.c.decided_at.desc(), INQUIRY.c.id.desc()).limit(limit))
    return [_row(row) for row in rows]


def _row(row: Any) -> InquiryRow:
    return InquiryRow(
        sequence=row.sequence,
        decision_id=row.decision_id,
        decided_at=packed.instant(row.decided_at),
        department=row.department,
        matter=row.matter,
        outcome=row.outcome,
        kind=row.kind,
        subject_token=row.subject_token,
        record=row.record,
        digest=row.digest,
    )


def _values(row: InquiryRow) -> tuple[Any, ...]:
    return (
        row.sequence,
        row.decision_id,
        packed.micros(row.decided_at),
        row.department,
        # The record has it as the SDK sent it; PostgreSQL keeps no text with a NUL in it.
        row.matter.replace("\0", "\N{REPLACEMENT CHARACTER}"),
        row.outcome,
        row.kind,
        row.subject_token,
        row.record,
        row.digest,
    )
