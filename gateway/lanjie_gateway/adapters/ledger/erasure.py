"""Erasure when retention has ended (Art. 41): the data key goes, and with it whatever it opens.

1. Slices in the order of ids, each looked at by `domain.retention.erasable` and committed by itself: interrupted
   anywhere, what is erased is erased, and the rest is for the next time.
2. Only what has left the view already, and what nobody has to do anything about any more.
3. With the listing go the facts before its corrections, what waits to change it, and what was written to its subject.
   That it was there, what happened to it, who did so and why, stays (Art. 61).
4. A change that an import has staged loses its content after the last slice; it is never applied, for the listing has
   ended.
5. Its fingerprints, which tell nobody anything without the view key, stay until no SDK can ask for a change that is
   older: one that was away would not hear that they have left the view.
"""

import datetime
from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa

from lanjie_gateway.adapters.ledger import commits
from lanjie_gateway.adapters.ledger.pruning import ACTOR
from lanjie_gateway.adapters.ledger.rows import Pruned
from lanjie_gateway.adapters.ledger.tables import (
    BATCH,
    DUTY,
    EVENT,
    LISTING,
    LISTING_KEY,
    PROPOSAL,
    STAGED_CHANGE,
    STAGED_KEY,
)
from lanjie_gateway.domain import duties, packed, retention
from lanjie_gateway.domain.duties import DutyRule
from lanjie_gateway.domain.events import EventKind

DIGESTS_KEPT: Final = datetime.timedelta(days=31)
"""A day more than the journal of a view goes back."""
_MICROSECOND: Final = datetime.timedelta(microseconds=1)
_NO_TOKEN: Final = bytes(16)
_NOTHING: Final = {"sealed": sa.null(), "wrapped_key": sa.null()}
_ERASED: Final = LISTING.c.sealed.is_(None) & LISTING.c.wrapped_key.is_(None) & LISTING.c.annulled.is_(True)


def erase(connection: sa.Connection, after: int, limit: int, today: datetime.date, now: int) -> Pruned:
    """Look at one slice; arguments and result as for `Ledger.erase`."""
    some = sa.select(LISTING.c.id).where(LISTING.c.id > after).order_by(LISTING.c.id).limit(limit).subquery()
    last, count = connection.execute(sa.select(sa.func.max(some.c.id), sa.func.count())).one()
    if not count:
        return Pruned(None, 0, None)
    slice_ = (LISTING.c.id > after) & (LISTING.c.id <= last)
    found = {row.id: row for row in connection.execute(_candidates().where(slice_))}
    due = [number for number, row in found.items() if retention.erasable(packed.unpack(row.packed).listing, today)]
    numbers = _held(connection, {number: found[number].changed_by for number in due})
    batch = _erase(connection, numbers, {each: found[each].packed for each in numbers}, now) if numbers else None
    _forget_digests(connection, slice_, now)
    revision = None if batch is None else commits.commit(connection, batch, now)
    return Pruned(revision, len(numbers), last if count == limit else None)


def _candidates() -> Any:
    # (2)
    waits = sa.exists().where(
        DUTY.c.listing_id == LISTING.c.id, DUTY.c.closed_by.is_(None), DUTY.c.rule != DutyRule.CONTESTED.value
    )
    return (
        sa.select(LISTING.c.id, LISTING.c.changed_by, LISTING.c.packed)
        .join(BATCH, BATCH.c.id == LISTING.c.batch_id)
        .where(LISTING.c.ended | LISTING.c.pruned | LISTING.c.annulled, ~_ERASED, BATCH.c.revision.is_not(None), ~waits)
    )


def _held(connection: sa.Connection, found: dict[int, int]) -> list[int]:
    """Hold those of the listings that nobody changes or has changed since they were read, in order."""
    if not found:
        return []
    rows = sa.select(LISTING.c.id, LISTING.c.changed_by).where(LISTING.c.id.in_(found)).order_by(LISTING.c.id)
    held = connection.execute(rows.with_for_update(skip_locked=True))
    return [row.id for row in held if row.changed_by == found[row.id]]


def _erase(connection: sa.Connection, numbers: Sequence[int], before: dict[int, bytes], now: int) -> int:
    batch = commits.begin(connection, ACTOR, now)
    for number in numbers:
        left = packed.pack(retention.tombstone(packed.unpack(before[number]).listing))
        values = {"changed_by": batch, "packed": left, "content": _NO_TOKEN, "source_version": "", **_NOTHING}
        values |= {"ended": True, "annulled": True, "pruned": False}
        connection.execute(LISTING.update().where(LISTING.c.id == number).values(values))
    connection.execute(LISTING_KEY.update().where(LISTING_KEY.c.listing_id.in_(numbers)).values(current=False))
    # (3)
    connection.execute(EVENT.update().where(EVENT.c.listing_id.in_(numbers)).values(payload=None))
    _forget_texts(connection, numbers)
    _forget_proposals(connection, numbers, now)
    contested = DUTY.c.listing_id.in_(numbers) & DUTY.c.closed_by.is_(None)
    connection.execute(DUTY.update().where(contested).values(closed_by=batch))
    told = {"batch_id": batch, "kind": EventKind.ERASED.value, "actor": ACTOR}
    told |= {"reason": retention.REASON, "document": retention.DOCUMENT}
    connection.execute(EVENT.insert(), [{**told, "listing_id": number} for number in numbers])
    return batch


def _forget_texts(connection: sa.Connection, numbers: Sequence[int]) -> None:
    rows = connection.execute(
        sa.select(EVENT.c.seq, EVENT.c.kind, EVENT.c.detail).where(
            EVENT.c.listing_id.in_(numbers), EVENT.c.kind.in_([kind.value for kind in duties.TEXTS])
        )
    ).all()
    for row in rows:
        left = duties.lasting(EventKind(row.kind), row.detail or {})
        connection.execute(EVENT.update().where(EVENT.c.seq == row.seq).values(detail=dict(left) or sa.null()))


def _forget_proposals(connection: sa.Connection, numbers: Sequence[int], now: int) -> None:
    mine = PROPOSAL.update().where(PROPOSAL.c.listing_id.in_(numbers))
    connection.execute(mine.values(packed=None, detail=sa.null(), base_content=_NO_TOKEN, **_NOTHING))
    settled = {"state": "declined", "settled_by": ACTOR, "settled_at": now, "settled_reason": retention.REASON}
    connection.execute(mine.where(PROPOSAL.c.state == "waiting").values(settled))


def forget_staged(connection: sa.Connection) -> None:
    """Take the content of everything that imports have staged about listings that are erased (4)."""
    rows = connection.execute(
        sa.select(STAGED_CHANGE.c.batch_id, LISTING.c.id, LISTING.c.packed)
        .join(LISTING, LISTING.c.id == STAGED_CHANGE.c.listing_id)
        .where(STAGED_CHANGE.c.sealed.is_not(None), _ERASED)
    ).all()
    for row in rows:
        one = (STAGED_CHANGE.c.batch_id == row.batch_id) & (STAGED_CHANGE.c.listing_id == row.id)
        values = {"packed": row.packed, "payload": None, "content": _NO_TOKEN, "source_version": "", **_NOTHING}
        connection.execute(STAGED_CHANGE.update().where(one).values(values))
        keys = (STAGED_KEY.c.batch_id == row.batch_id) & (STAGED_KEY.c.listing_id == row.id)
        connection.execute(STAGED_KEY.delete().where(keys))


def _forget_digests(connection: sa.Connection, slice_: Any, now: int) -> None:
    # (5)
    before = now - DIGESTS_KEPT // _MICROSECOND
    old = (
        sa.select(LISTING.c.id)
        .join(BATCH, BATCH.c.id == LISTING.c.changed_by)
        .where(slice_, _ERASED, BATCH.c.committed_at < before)
    )
    held = LISTING_KEY.c.view_digest.is_not(None) | LISTING_KEY.c.other_digest.is_not(None)
    connection.execute(
        LISTING_KEY.update().where(LISTING_KEY.c.listing_id.in_(old), held).values(view_digest=None, other_digest=None)
    )
