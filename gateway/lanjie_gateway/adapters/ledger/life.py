"""Events in the life of a listing, each a commit of its own with everything it changes (Art. 61, 64-66)."""

from typing import Any, Final

import sqlalchemy as sa

from lanjie_gateway.adapters.ledger import commits, duties, rotation
from lanjie_gateway.adapters.ledger.rows import Corrected
from lanjie_gateway.adapters.ledger.tables import BATCH, EVENT, LISTING
from lanjie_gateway.domain import events, packed, retention
from lanjie_gateway.domain.errors import Refused, not_found
from lanjie_gateway.domain.events import Act, EventKind
from lanjie_gateway.domain.history import Before, payload_of
from lanjie_matcher.listings import ended_by_event

_COMMITTED: Final = (
    sa.select(LISTING.c.id, LISTING.c.packed, LISTING.c.sealed, LISTING.c.wrapped_key)
    .join(BATCH, BATCH.c.id == LISTING.c.batch_id)
    .where(BATCH.c.revision.is_not(None))
)


def record(connection: sa.Connection, number: int, act: Act, now: int, corrected: Corrected | None = None) -> int:
    """Record one event as a commit of its own; arguments, result and errors as for `Ledger.record`.

    Args:
        connection: inside a transaction, whose last act this is.
        number: of the listing's row; `None` for none.
        act: what is ordered.
        now: microseconds.
        corrected: the listing after it, for a correction by hand.
    """
    events.require_complete(act)
    row = hold(connection, number)
    before = packed.unpack(row.packed)
    at = packed.instant(now) if act.effective_at is None else act.effective_at
    listing = events.apply(before.listing, act.kind, at, act.detail)
    due = duties.step(connection, row.id, act, listing, now)
    if act.kind is EventKind.REINSTATED and rotation.missing(connection, row.id, (of for of, _ in before.identities)):
        message = "its details can no longer be read: enter the listing anew"
        raise Refused("TRANSITION_ILLEGAL", message, state="unreadable", event=act.kind.value)
    after, changes = packed.PackedListing(listing, before.identities, before.name_token), {}
    if corrected is not None:
        facts = packed.unpack(corrected.packed)
        after = packed.PackedListing(events.amended(listing, facts.listing), before.identities, facts.name_token)
        changes = {"sealed": corrected.sealed, "wrapped_key": corrected.wrapped_key, "corrected": True}
    batch = commits.begin(connection, act.actor, now)
    connection.execute(
        LISTING.update()
        .where(LISTING.c.id == row.id)
        .values(
            changed_by=batch,
            packed=packed.pack(after),
            ended=ended_by_event(listing),
            annulled=listing.annulled,
            pruned=False,
            **changes,
        )
    )
    connection.execute(
        EVENT.insert().values(
            batch_id=batch,
            listing_id=row.id,
            kind=act.kind.value,
            effective_at=packed.micros(at),
            actor=act.actor,
            reason=act.reason,
            document=act.document,
            detail=dict(act.detail) or sa.null(),
            second=act.second or None,
            # The facts before a correction, as an import keeps them.
            payload=payload_of(Before(row.packed, row.sealed, row.wrapped_key)) if corrected is not None else None,
        )
    )
    duties.write(connection, batch, row.id, act, due)
    return commits.commit(connection, batch, now)


def hold(connection: sa.Connection, number: int) -> Any:
    """Return id and packed form of a listing that nobody else changes until the end of the transaction.

    Raises:
        Refused: NOT_FOUND.
    """
    # By a statement of its own: one that waits for a lock reads everything else as it was before.
    connection.execute(sa.select(LISTING.c.id).where(LISTING.c.id == number).with_for_update())
    row = connection.execute(_COMMITTED.where(LISTING.c.id == number)).first()
    # What was erased reads like what never was.
    if row is None or retention.erased(packed.unpack(row.packed)):
        raise not_found("no such listing")
    return row
