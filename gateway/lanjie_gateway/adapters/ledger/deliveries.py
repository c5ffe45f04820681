"""Which source vouched for which list type, and up to which day: written with an import, it counts with its commit."""

import datetime
from collections.abc import Iterable
from typing import Final

import sqlalchemy as sa

from lanjie_gateway.adapters.ledger import commits
from lanjie_gateway.adapters.ledger.tables import BATCH, DELIVERY, LISTING
from lanjie_gateway.domain import packed
from lanjie_gateway.domain.source_ages import Delivery, Source

_PAIR: Final = (DELIVERY.c.list_type, DELIVERY.c.source)
_HIDDEN: Final = sa.select(BATCH.c.id).where(BATCH.c.revision.is_(None), BATCH.c.inserts.is_(True))


def stage(connection: sa.Connection, batch: int, sources: Iterable[Source], vouched_on: int) -> None:
    """Write what an import delivers; call it once, after its last chunk.

    Args:
        connection: inside a transaction of its own.
        batch: the batch of the import.
        sources: every (list type, source) that its good rows name, and a complete list's own.
        vouched_on: ordinal of the day up to which they vouch.

    Raises:
        Unanswerable: the import has lost its turn, see `commits.fence`.
    """
    commits.fence(connection, batch, commits.STAGING)
    rows = [
        {"batch_id": batch, "list_type": list_type, "source": source, "vouched_on": vouched_on}
        for list_type, source in sorted(sources)
    ]
    if rows:
        connection.execute(DELIVERY.insert(), rows)


def of_batch(connection: sa.Connection, batch: int) -> int | None:
    """Return the ordinal of the day up to which an import vouched; `None` where nobody knows."""
    found = sa.select(sa.func.max(DELIVERY.c.vouched_on)).where(DELIVERY.c.batch_id == batch)
    return connection.execute(found).scalar()


def vouched(connection: sa.Connection, revision: int) -> dict[Source, int]:
    """Return the newest vouched day of every source by list type, as an ordinal, as of a revision."""
    rows = connection.execute(
        sa.select(*_PAIR, sa.func.max(DELIVERY.c.vouched_on))
        .join(BATCH, BATCH.c.id == DELIVERY.c.batch_id)
        .where(BATCH.c.revision <= revision)
        .group_by(*_PAIR)
    )
    return {(list_type, source): day for list_type, source, day in rows}


def raised(connection: sa.Connection, revision: int) -> dict[Source, int]:
    """Return what the commit of a revision adds to `vouched`: later days only."""
    earlier, before = DELIVERY.alias(), BATCH.alias()
    known = (
        sa.exists()
        .where(earlier.c.list_type == DELIVERY.c.list_type, earlier.c.source == DELIVERY.c.source)
        .where(earlier.c.vouched_on >= DELIVERY.c.vouched_on)
        .where(before.c.id == earlier.c.batch_id, before.c.revision < revision)
    )
    rows = connection.execute(
        sa.select(*_PAIR, DELIVERY.c.vouched_on)
        .join(BATCH, BATCH.c.id == DELIVERY.c.batch_id)
        .where(BATCH.c.revision == revision, ~known)
    )
    return {(list_type, source): day for list_type, source, day in rows}


def newest(connection: sa.Connection, revision: int | None = None) -> list[Delivery]:
    """Return the last word of every source by list type, by now or as of a revision, in order."""
    seen = BATCH.c.revision.is_not(None) if revision is None else BATCH.c.revision <= revision
    last = (
        sa.select(
            *_PAIR,
            sa.func.max(DELIVERY.c.vouched_on).label("vouched_on"),
            sa.func.max(BATCH.c.revision).label("revision"),
        )
        .join(BATCH, BATCH.c.id == DELIVERY.c.batch_id)
        .where(seen)
        .group_by(*_PAIR)
    ).subquery()
    rows = connection.execute(
        sa.select(last, BATCH.c.committed_at)
        .join(BATCH, BATCH.c.revision == last.c.revision)
        .order_by(last.c.list_type, last.c.source)
    )
    return [
        Delivery(
            list_type=row.list_type,
            source=row.source,
            vouched_on=datetime.date.fromordinal(row.vouched_on),
            delivered_at=packed.instant(row.committed_at),
            revision=row.revision,
        )
        for row in rows
    ]


def live_counts(connection: sa.Connection) -> dict[Source, int]:
    """Return the number of live listings that are seen, by list type and source. Reads an entry for each of them."""
    rows = connection.execute(
        sa.select(LISTING.c.list_type, LISTING.c.source, sa.func.count())
        .where(LISTING.c.ended.is_(False), LISTING.c.batch_id.not_in(_HIDDEN))
        .group_by(LISTING.c.list_type, LISTING.c.source)
    )
    return {(list_type, source): count for list_type, source, count in rows}


def live(connection: sa.Connection) -> set[Source]:
    """Return the (list type, source) with live listings that are seen: from one to the next, never through a list."""
    place = sa.tuple_(LISTING.c.list_type, LISTING.c.source)
    order = (
        sa.select(LISTING.c.list_type, LISTING.c.source)
        .where(LISTING.c.ended.is_(False), LISTING.c.batch_id.not_in(_HIDDEN))
        .order_by(LISTING.c.list_type, LISTING.c.source)
        .limit(1)
    )
    found: set[Source] = set()
    row = connection.execute(order).first()
    while row is not None:
        found.add((row.list_type, row.source))
        after = sa.tuple_(sa.literal(row.list_type), sa.literal(row.source))
        row = connection.execute(order.where(place > after)).first()
    return found


def waiting(connection: sa.Connection) -> tuple[int, int | None]:
    """Return how many imports wait for a second person, and the microseconds at which the oldest of them began."""
    # A batch without a revision is found by the index over revisions: there are few of them.
    rows = sa.select(sa.func.count(), sa.func.min(BATCH.c.begun_at)).where(
        BATCH.c.revision.is_(None), BATCH.c.state == commits.WAITING
    )
    count, since = connection.execute(rows).one()
    return count, since
