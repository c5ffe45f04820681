"""Which source vouched for which list type, and up to which day: written with an import, it counts with its commit."""

import datetime
from collections.abc import Iterable, Iterator
from typing import Any, Final

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
    return {source: word.vouched_on for source, word in _words(connection, BATCH.c.revision <= revision)}


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
    """Return the delivery of every source by list type that vouched last, by now or as of a revision, in order."""
    seen = BATCH.c.revision.is_not(None) if revision is None else BATCH.c.revision <= revision
    return [
        Delivery(
            list_type=list_type,
            source=source,
            vouched_on=datetime.date.fromordinal(word.vouched_on),
            delivered_at=packed.instant(word.committed_at),
            revision=word.revision,
        )
        for (list_type, source), word in _words(connection, seen)
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
    """Return the (list type, source) with live listings that are seen; reads hardly more than one for each."""
    return {
        (list_type, source)
        for list_type, source in _pairs(connection, LISTING)
        if connection.execute(
            sa.select(LISTING.c.id)
            .where(LISTING.c.list_type == list_type, LISTING.c.source == source)
            .where(LISTING.c.ended.is_(False), LISTING.c.batch_id.not_in(_HIDDEN))
            .limit(1)
        ).first()
    }


def waiting(connection: sa.Connection) -> tuple[int, int | None]:
    """Return how many imports wait for a second person, and the microseconds at which the oldest of them began."""
    # A batch without a revision is found by the index over revisions: there are few of them.
    rows = sa.select(sa.func.count(), sa.func.min(BATCH.c.begun_at)).where(
        BATCH.c.revision.is_(None), BATCH.c.state == commits.WAITING
    )
    count, since = connection.execute(rows).one()
    return count, since


def _words(connection: sa.Connection, seen: sa.ColumnElement[bool]) -> Iterator[tuple[Source, Any]]:
    """Give of every source by list type the delivery that vouched for the latest day, and of those the last one."""
    for pair in list(_pairs(connection, DELIVERY)):
        word = connection.execute(
            sa.select(DELIVERY.c.vouched_on, BATCH.c.revision, BATCH.c.committed_at)
            .join(BATCH, BATCH.c.id == DELIVERY.c.batch_id)
            .where(DELIVERY.c.list_type == pair[0], DELIVERY.c.source == pair[1], seen)
            .order_by(DELIVERY.c.vouched_on.desc(), BATCH.c.revision.desc())
            .limit(1)
        ).first()
        if word is not None:
            yield pair, word


def _pairs(connection: sa.Connection, table: sa.Table) -> Iterator[Source]:
    """Give each (list type, source) of a table with an index over both, in order, by a step from one to the next.

    To group them would read every row, and there are millions. Two statements, because SQLite compares two columns at
    once with the first of them only.
    """
    list_type, source = table.c.list_type, table.c.source
    order = sa.select(list_type, source).order_by(list_type, source).limit(1)
    row = connection.execute(order).first()
    while row is not None:
        yield row.list_type, row.source
        following = connection.execute(order.where(list_type == row.list_type, source > row.source)).first()
        row = following or connection.execute(order.where(list_type > row.list_type)).first()
