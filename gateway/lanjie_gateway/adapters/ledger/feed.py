"""What the change feed reads: buckets of the exact index, whole and by commit."""

import itertools
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

import sqlalchemy as sa

from lanjie_gateway.adapters.ledger.rows import BucketState, CommitInfo, GenerationGoneError, unsigned64
from lanjie_gateway.adapters.ledger.tables import BATCH, DELIVERY, EVENT, HEAD, LISTING, LISTING_KEY
from lanjie_gateway.domain import packed

_TWO_64: Final = 1 << 64
_SHARDS: Final = 256
_AWAY: Final = LISTING.c.ended.is_(True) | LISTING.c.pruned.is_(True) | LISTING.c.annulled.is_(True)
"""Listings that do not stand in the view."""
_CHANGED_BY = BATCH.alias("changed_by_batch")
_COLUMNS = (
    LISTING_KEY.c.bucket,
    LISTING_KEY.c.view_digest,
    LISTING_KEY.c.other_digest,
    LISTING_KEY.c.current,
    LISTING.c.packed,
    LISTING.c.ended | LISTING.c.pruned,
    LISTING.c.annulled,
    _CHANGED_BY.c.revision,
    # In the same statement, so that another host's switch of generations cannot come in between.
    *(sa.select(column).scalar_subquery() for column in (HEAD.c.view_slot, HEAD.c.generation, HEAD.c.other_generation)),
)
_VISIBLE = (
    # As the driver has them: converting each value is a quarter of what reading it costs.
    sa.select(*(sa.type_coerce(column, sa.types.NullType()) for column in _COLUMNS))
    .join(LISTING, LISTING.c.id == LISTING_KEY.c.listing_id)
    .join(BATCH, BATCH.c.id == LISTING.c.batch_id)
    .join(_CHANGED_BY, _CHANGED_BY.c.id == LISTING.c.changed_by)
    .where(BATCH.c.revision.is_not(None))
    .order_by(LISTING_KEY.c.bucket, LISTING_KEY.c.listing_id)
)


def shards(connection: sa.Connection, numbers: Sequence[int]) -> list[list[BucketState]]:
    """Return the buckets of shards that have listings, in order; tokens of a shard begin with its number."""
    found: dict[int, list[BucketState]] = {number: [] for number in numbers}
    # One statement for those that follow each other: an empty shard costs as much as the statement.
    for _, group in itertools.groupby(enumerate(numbers), lambda each: each[1] - each[0]):
        run = [number for _, number in group]
        rows = connection.execute(_VISIBLE.where(LISTING_KEY.c.bucket.between(_ends(run[0])[0], _ends(run[-1])[1])))
        for state in _states(rows):
            if state.value:
                found[state.bucket[0]].append(state)
    return list(found.values())


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
    states = list(_states(connection.execute(_VISIBLE.where(LISTING_KEY.c.bucket.in_(touched))).all()))
    return states, last if count == limit else None


def commits_after(connection: sa.Connection, revision: int, limit: int) -> list[CommitInfo]:
    """Return the commits after a revision, in order."""
    delivers = sa.exists().where(DELIVERY.c.batch_id == BATCH.c.id)
    rows = connection.execute(
        sa.select(BATCH.c.revision, BATCH.c.kind, BATCH.c.committed_at, BATCH.c.actor, delivers.label("delivers"))
        .where(BATCH.c.revision > revision)
        .order_by(BATCH.c.revision)
        .limit(limit)
    )
    return [
        CommitInfo(row.revision, row.kind, packed.instant(row.committed_at), row.actor, bool(row.delivers))
        for row in rows
    ]


def touched_since(
    connection: sa.Connection, generation: int, since: int, until: int, most: int
) -> tuple[list[tuple[int, int]], int]:
    """Return (revision, view digest) of the companies that commits touched, newest first, and where that begins.

    Args:
        connection: to the ledger.
        generation: of the view key.
        since: microseconds; older commits are left out.
        until: newest revision.
        most: entries at the most; a revision is told whole or not at all.

    Returns:
        The entries, and the revision after which they leave nothing out.

    Raises:
        GenerationGoneError: the ledger holds none under that key.
    """
    digest = digest_column(connection, generation)
    older = sa.select(sa.func.max(BATCH.c.revision)).where(BATCH.c.committed_at < since)
    begin = connection.execute(older).scalar() or 0
    rows = connection.execute(
        sa.select(BATCH.c.revision, digest)
        .join(EVENT, EVENT.c.batch_id == BATCH.c.id)
        .join(LISTING_KEY, LISTING_KEY.c.listing_id == EVENT.c.listing_id)
        .where(BATCH.c.revision > begin, BATCH.c.revision <= until, digest.is_not(None))
        .order_by(BATCH.c.revision.desc())
        .limit(most + 1)
    ).all()
    if len(rows) > most:
        begin = rows[-1].revision
    entries = [(revision, value + _TWO_64 if value < 0 else value) for revision, value in rows if revision > begin]
    return entries, begin


def listed_digests(connection: sa.Connection, generation: int) -> "array[int]":
    """Return the view digests of all companies in the view, under the key of a generation: sorted, each once.

    Raises:
        GenerationGoneError: the ledger holds none under that key.
    """
    digest = digest_column(connection, generation)
    hidden = sa.select(BATCH.c.id).where(BATCH.c.revision.is_(None))
    # The few that do not count are set aside first: to look every key's listing up would take ten times as long.
    ended = set(connection.execute(sa.select(LISTING.c.id).where(_AWAY | LISTING.c.batch_id.in_(hidden))).scalars())
    rows = connection.execution_options(yield_per=10_000).execute(
        sa.select(digest, LISTING_KEY.c.listing_id).where(digest.is_not(None), LISTING_KEY.c.current.is_(True))
    )
    # A million integers as objects would take five times the room, so only one part of them is sorted at a time.
    parts = [array("Q") for _ in range(_SHARDS)]
    for value, listing in rows:
        if listing not in ended:
            unsigned = value + _TWO_64 if value < 0 else value
            parts[unsigned >> 56].append(unsigned)
    whole = array("Q")
    for number, part in enumerate(parts):
        whole.extend(sorted(set(part)))
        parts[number] = whole[:0]
    return whole


def listed_digests_of(connection: sa.Connection, generation: int, number: int) -> "array[int]":
    """Return those of `listed_digests` whose bucket's token begins with the byte `number`."""
    digest = digest_column(connection, generation)
    rows = connection.execute(
        sa.select(digest)
        .join(LISTING, LISTING.c.id == LISTING_KEY.c.listing_id)
        .join(BATCH, BATCH.c.id == LISTING.c.batch_id)
        .where(LISTING_KEY.c.bucket.between(*_ends(number)), digest.is_not(None), LISTING_KEY.c.current.is_(True))
        .where(~_AWAY, BATCH.c.revision.is_not(None))
    )
    return array("Q", sorted({value + _TWO_64 if value < 0 else value for value in rows.scalars()}))


def digest_column(connection: sa.Connection, generation: int) -> sa.Column[int]:
    """Return the column that holds the view digests under the key of a generation.

    Raises:
        GenerationGoneError: the ledger holds none under that key.
    """
    head = connection.execute(sa.select(HEAD.c.view_slot, HEAD.c.generation, HEAD.c.other_generation)).one()
    if generation not in (head.generation, head.other_generation):
        raise GenerationGoneError(generation)
    return slot(head.view_slot if generation == head.generation else 1 - head.view_slot)


def _ends(number: int) -> tuple[bytes, bytes]:
    return bytes([number]) + bytes(15), bytes([number]) + b"\xff" * 15


def slot(number: int) -> sa.Column[int]:
    """Return the column of view digests that a slot names."""
    return LISTING_KEY.c.other_digest if number else LISTING_KEY.c.view_digest


def _states(rows: Iterable[Any]) -> Iterator[BucketState]:
    # A start reads every listing through here: columns by place, not by name.
    for bucket, group in groupby(rows, key=itemgetter(0)):
        values = []
        listed = False
        one = other = None
        newest = 0
        for row in group:
            (_, first, second, current, value, ended, annulled, revision, _, _, _) = row
            newest = max(newest, revision)
            one = first if one is None else one
            other = second if other is None else other
            # A corrected identifier leaves its old key behind, so that the old bucket is told too.
            if current and not annulled:
                values.append(value)
                listed = listed or not ended
        at, generation, other_generation = row[-3:]
        if at:
            one, other = other, one
        yield BucketState(
            *(bucket, newest, packed.join(values), unsigned64(one), listed, generation),
            *(None if other_generation is None else unsigned64(other), other_generation),
        )
