"""What the change feed reads: buckets of the exact index, whole and by commit."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

import sqlalchemy as sa

from lanjie_gateway.adapters.ledger.rows import BucketState, CommitInfo, unsigned64
from lanjie_gateway.adapters.ledger.tables import BATCH, EVENT, LISTING, LISTING_KEY
from lanjie_gateway.domain import packed

_TWO_64: Final = 1 << 64
_CHANGED_BY = BATCH.alias("changed_by_batch")
_VISIBLE = (
    sa.select(
        LISTING_KEY.c.bucket,
        LISTING_KEY.c.view_digest,
        LISTING_KEY.c.current,
        LISTING.c.packed,
        LISTING.c.ended,
        LISTING.c.annulled,
        _CHANGED_BY.c.revision,
    )
    .join(LISTING, LISTING.c.id == LISTING_KEY.c.listing_id)
    .join(BATCH, BATCH.c.id == LISTING.c.batch_id)
    .join(_CHANGED_BY, _CHANGED_BY.c.id == LISTING.c.changed_by)
    .where(BATCH.c.revision.is_not(None))
    .order_by(LISTING_KEY.c.bucket, LISTING_KEY.c.listing_id)
)


def shard(connection: sa.Connection, number: int) -> list[BucketState]:
    """Return the buckets with listings whose token begins with the byte `number`, in order."""
    first, last = bytes([number]) + bytes(15), bytes([number]) + b"\xff" * 15
    rows = connection.execute(_VISIBLE.where(LISTING_KEY.c.bucket.between(first, last)))
    return [state for state in _states(rows) if state.value]


def buckets(connection: sa.Connection, tokens: Sequence[bytes]) -> list[BucketState]:
    """Return those of the buckets that ever held a listing, in order."""
    return list(_states(connection.execute(_VISIBLE.where(LISTING_KEY.c.bucket.in_(tokens)))))


def changed(connection: sa.Connection, revision: int, after: int, limit: int) -> tuple[list[BucketState], int | None]:
    """Return buckets that a commit touched, as they are now, and where to go on."""
    batch = connection.execute(sa.select(BATCH.c.id).where(BATCH.c.revision == revision)).scalar()
    if batch is None:
        return [], None
    slice_ = (
        sa.select(EVENT.c.seq, EVENT.c.listing_id)
        .where(EVENT.c.batch_id == batch, EVENT.c.seq > after)
        .order_by(EVENT.c.seq)
        .limit(limit)
    ).subquery()
    last, count = connection.execute(sa.select(sa.func.max(slice_.c.seq), sa.func.count())).one()
    if not count:
        return [], None
    # One statement, so that a commit of a million listings does not send each of its keys back and forth.
    touched = sa.select(LISTING_KEY.c.bucket).join(slice_, slice_.c.listing_id == LISTING_KEY.c.listing_id)
    states = list(_states(connection.execute(_VISIBLE.where(LISTING_KEY.c.bucket.in_(touched)))))
    return states, last if count == limit else None


def commits_after(connection: sa.Connection, revision: int, limit: int) -> list[CommitInfo]:
    """Return the commits after a revision, in order."""
    rows = connection.execute(
        sa.select(BATCH.c.revision, BATCH.c.kind, BATCH.c.committed_at, BATCH.c.actor)
        .where(BATCH.c.revision > revision)
        .order_by(BATCH.c.revision)
        .limit(limit)
    )
    return [CommitInfo(row.revision, row.kind, packed.instant(row.committed_at), row.actor) for row in rows]


def listed_digests(connection: sa.Connection) -> set[int]:
    """Return the view digests of all companies with a listing that no event has ended."""
    hidden = sa.select(BATCH.c.id).where(BATCH.c.revision.is_(None))
    # The few that do not count are set aside first: to look every key's listing up would take ten times as long.
    ended = set(
        connection.execute(
            sa.select(LISTING.c.id).where(
                LISTING.c.ended.is_(True) | LISTING.c.annulled.is_(True) | LISTING.c.batch_id.in_(hidden)
            )
        ).scalars()
    )
    rows = connection.execution_options(yield_per=10_000).execute(
        sa.select(LISTING_KEY.c.view_digest, LISTING_KEY.c.listing_id).where(
            LISTING_KEY.c.view_digest.is_not(None), LISTING_KEY.c.current.is_(True)
        )
    )
    return {digest + _TWO_64 if digest < 0 else digest for digest, listing in rows if listing not in ended}


def _states(rows: Iterable[Any]) -> Iterator[BucketState]:
    # A start reads every listing through here: columns by place, not by name.
    for bucket, group in groupby(rows, key=itemgetter(0)):
        values = []
        listed = False
        digest = None
        newest = 0
        for _, view_digest, current, value, ended, annulled, revision in group:
            newest = max(newest, revision)
            digest = view_digest if digest is None else digest
            # A corrected identifier leaves its old key behind, so that the old bucket is told too.
            if current and not annulled:
                values.append(value)
                listed = listed or not ended
        yield BucketState(bucket, newest, packed.join(values), unsigned64(digest), listed)
