"""Whole lives of listings: everything that `domain.history` needs to tell what they were at an earlier revision.

A key that a correction took from a listing stays in ``listing_key``, not current. Whether it was the listing's key at a
revision stands in the identifiers of then: those of the first correction after it, which are sealed in its payload.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from lanjie_gateway.adapters.ledger import feed
from lanjie_gateway.adapters.ledger.rows import signed64
from lanjie_gateway.adapters.ledger.tables import BATCH, EVENT, LISTING, LISTING_KEY
from lanjie_gateway.domain import packed
from lanjie_gateway.domain.events import EventKind
from lanjie_gateway.domain.history import Before, Happened, facts_before
from lanjie_gateway.domain.packed import PackedListing

BucketsOf = Callable[[bytes, Before], frozenset[bytes] | None]
"""Gives the buckets of sealed details by their natural key; `None` where they cannot be read any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """One listing with everything that happened to it.

    Attributes:
        listing_id: its id.
        now: the listing as it is.
        happened: its events in order, its entry first, those of the view included.
        keyed: whether it stood under the key that was asked for at the revision that was asked for; `None` where that
            cannot be told, because its identifiers were erased.
    """

    listing_id: str
    now: PackedListing
    happened: tuple[Happened, ...] = field(repr=False)
    keyed: bool | None

    def erased_since(self, revision: int) -> bool:
        """Whether its data were erased after a revision, at the end of retention (Art. 41)."""
        return any(each.kind == EventKind.ERASED and each.revision > revision for each in self.happened)


def of_bucket(connection: sa.Connection, bucket: bytes, revision: int, buckets_of: BucketsOf) -> list[Life]:
    """Return the lives of all listings whose key stands or stood in a bucket, by id."""
    return _lives(connection, LISTING_KEY.c.bucket == bucket, revision, buckets_of)


def of_digest(
    connection: sa.Connection, generation: int, digest: int, revision: int, buckets_of: BucketsOf
) -> list[Life]:
    """Return the lives of all listings of companies whose key has a view digest, by id.

    Raises:
        GenerationGoneError: the ledger holds no digests under the key of that generation any more.
    """
    column = feed.digest_column(connection, generation)
    return _lives(connection, column == signed64(digest), revision, buckets_of)


def of_listings(connection: sa.Connection, numbers: Collection[int]) -> list[Life]:
    """Return the lives of listings by their numbers, whatever their keys; nothing is said of those."""
    return [_life(row, happened, keyed=None) for row, happened in _rows(connection, numbers).values()]


def unchanged(connection: sa.Connection, numbers: Collection[int], revision: int) -> dict[int, PackedListing]:
    """Return those of the listings to which nothing happened after a revision: as they are is as they were at it."""
    rows = connection.execute(
        sa.select(LISTING.c.id, LISTING.c.packed)
        .join(BATCH, BATCH.c.id == LISTING.c.changed_by)
        .where(LISTING.c.id.in_(numbers), BATCH.c.revision <= revision)
    )
    return {row.id: packed.unpack(row.packed) for row in rows}


def _lives(connection: sa.Connection, where: Any, revision: int, buckets_of: BucketsOf) -> list[Life]:
    keys = connection.execute(
        sa.select(LISTING_KEY.c.listing_id, LISTING_KEY.c.bucket, LISTING_KEY.c.current).where(where)
    ).all()
    found = _rows(connection, {key.listing_id for key in keys})
    lives: dict[int, Life] = {}
    for key in keys:
        if key.listing_id not in found:
            continue  # of an import that nobody sees
        row, happened = found[key.listing_id]
        before = facts_before(happened, revision)
        then = None if before is None else buckets_of(row.natural_key, before)
        keyed = bool(key.current) if before is None else None if then is None else key.bucket in then
        lives[key.listing_id] = _life(row, happened, keyed=keyed)
    return [lives[number] for number in sorted(lives)]


def _rows(connection: sa.Connection, numbers: Collection[int]) -> dict[int, tuple[Any, tuple[Happened, ...]]]:
    listings = connection.execute(
        sa.select(LISTING.c.id, LISTING.c.natural_key, LISTING.c.packed)
        .join(BATCH, BATCH.c.id == LISTING.c.batch_id)
        .where(LISTING.c.id.in_(numbers), BATCH.c.revision.is_not(None))
        .order_by(LISTING.c.id)
    ).all()
    told: dict[int, list[Happened]] = {row.id: [] for row in listings}
    events = connection.execute(
        sa.select(EVENT, BATCH.c.revision, BATCH.c.committed_at)
        .join(BATCH, BATCH.c.id == EVENT.c.batch_id)
        .where(EVENT.c.listing_id.in_(list(told)), BATCH.c.revision.is_not(None))
        .order_by(BATCH.c.revision, EVENT.c.seq)
    )
    for event in events:
        at = event.committed_at if event.effective_at is None else event.effective_at
        told[event.listing_id].append(
            Happened(
                revision=event.revision,
                kind=event.kind,
                effective_at=packed.instant(at),
                detail=event.detail,
                payload=event.payload,
            )
        )
    return {row.id: (row, tuple(told[row.id])) for row in listings}


def _life(row: Any, happened: tuple[Happened, ...], *, keyed: bool | None) -> Life:
    return Life(listing_id=f"{row.id:016x}", now=packed.unpack(row.packed), happened=happened, keyed=keyed)
