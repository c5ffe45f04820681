"""A look at the live listings of the record, slice by slice, so that whoever records an event waits for one alone."""

from collections import Counter
from collections.abc import Callable

import sqlalchemy as sa

from lanjie_gateway.adapters.ledger.tables import BATCH, LISTING
from lanjie_gateway.domain import packed
from lanjie_matcher.listings import Listing


def count(
    connection: sa.Connection, after: int, limit: int, counts: Callable[[Listing], bool]
) -> tuple[Counter[str], int | None]:
    """Count live listings of a slice by list type; see `Ledger.count_live`."""
    live = LISTING.c.ended.is_(False) & LISTING.c.annulled.is_(False)
    rows = connection.execute(
        sa.select(LISTING.c.id, LISTING.c.list_type, LISTING.c.packed)
        .join(BATCH, BATCH.c.id == LISTING.c.batch_id)
        .where(LISTING.c.id > after, live, BATCH.c.revision.is_not(None))
        .order_by(LISTING.c.id)
        .limit(limit)
    ).all()
    found = Counter(row.list_type for row in rows if counts(packed.unpack(row.packed).listing))
    return found, rows[-1].id if len(rows) == limit else None
