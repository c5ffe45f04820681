"""What of the record lies outside of a writer's scope (Art. 26-31, 61): its imports leave it alone."""

from typing import Any, Final

import sqlalchemy as sa

from lanjie_gateway.adapters.ledger.tables import LISTING, STAGED_CHANGE
from lanjie_gateway.domain import packed
from lanjie_gateway.domain.access import WriteScope
from lanjie_gateway.domain.staged import numbers_of

SLICE_ROWS: Final = 2_000


def fault(list_type: str, value: bytes, writes: WriteScope) -> str:
    """Return which column of a packed listing lies outside; empty for none."""
    return writes.fault(list_type, packed.unpack(value).listing.region)


def foreign(connection: sa.Connection, numbers: dict[int, bytes], writes: WriteScope | None) -> dict[bytes, str]:
    """Return the listings of a chunk that are not the writer's, by natural key, and the column that says so.

    Args:
        connection: inside the chunk's transaction.
        numbers: natural keys by row number.
        writes: the writer's scope; `None` for everything.
    """
    if writes is None or not numbers:
        return {}
    rows = connection.execute(
        sa.select(LISTING.c.id, LISTING.c.list_type, LISTING.c.packed).where(LISTING.c.id.in_(numbers))
    )
    return {numbers[row.id]: column for row in rows if (column := fault(row.list_type, row.packed, writes))}


def strays(connection: sa.Connection, batch: int, after: int, writes: WriteScope) -> tuple[bool, int | None]:
    """Look through some of what an import entered or would change, as its listings were and as they would be.

    Args:
        connection: inside a transaction.
        batch: the import.
        after: cursor; 0 at the beginning, then what the last call gave.
        writes: a scope.

    Returns:
        Whether anything lies outside, and the cursor to go on with, `None` when done.
    """
    entered = sa.select(LISTING.c.id, LISTING.c.list_type, LISTING.c.packed).where(
        LISTING.c.id.between(*numbers_of(batch))
    )
    staged = sa.select(STAGED_CHANGE.c.listing_id, STAGED_CHANGE.c.list_type, STAGED_CHANGE.c.packed)
    before = sa.select(LISTING.c.id, LISTING.c.list_type, LISTING.c.packed).join(
        STAGED_CHANGE, STAGED_CHANGE.c.listing_id == LISTING.c.id
    )
    mine = STAGED_CHANGE.c.batch_id == batch
    parts: tuple[tuple[Any, Any], ...] = (
        (entered, LISTING.c.id),
        (staged.where(mine), STAGED_CHANGE.c.listing_id),
        (before.where(mine), LISTING.c.id),
    )
    ends: list[int] = []
    for part, number in parts:
        rows = connection.execute(part.where(number > after).order_by(number).limit(SLICE_ROWS)).all()
        if any(fault(row.list_type, row.packed, writes) for row in rows):
            return True, None
        if len(rows) == SLICE_ROWS:
            ends.append(rows[-1][0])
    # The others were read to their end, or further than this.
    return False, min(ends, default=None)
