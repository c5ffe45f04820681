"""Acts that wait for a second person before they work (Art. 61): nobody sees them in an answer until then.

1. A proposal is held against the state as it is: what could not be recorded now is refused now.
2. Another person confirms it; the act is recorded by that very transaction, or the proposal goes on waiting.
3. A correction is of the facts that its proposer saw, sealed ones among them: had they been corrected since, it is
   outdated. So is what would undo an end or a stay, had the ends or stays changed since.
4. Settled proposals keep who, when and why, and lose what they would have changed.
"""

import hashlib
from typing import Any, Final

import sqlalchemy as sa

from lanjie_gateway.adapters.ledger import life
from lanjie_gateway.adapters.ledger.rows import Corrected, Proposal
from lanjie_gateway.adapters.ledger.tables import PROPOSAL
from lanjie_gateway.domain import events, packed
from lanjie_gateway.domain.errors import Refused, not_found
from lanjie_gateway.domain.events import Act, EventKind
from lanjie_matcher.listings import Listing

WAITING: Final = "waiting"
CONFIRMED: Final = "confirmed"
DECLINED: Final = "declined"
MOST_WAITING: Final = 1_000
"""Proposals that may wait at a time, and that one look shows."""


def propose(connection: sa.Connection, number: int, act: Act, corrected: Corrected | None, now: int) -> Proposal:
    """Let an act wait; return the proposal.

    Raises:
        Refused: NOT_FOUND, TRANSITION_ILLEGAL or ARGUMENT_INVALID as the act itself would be (1); OVERLOADED where too
            many wait; IMPORT_OUTDATED: the facts were corrected while this was made.
    """
    events.require_complete(act)
    row = life.hold(connection, number)
    if corrected is not None and corrected.base != facts_of(row.packed, row.sealed):
        raise Refused("IMPORT_OUTDATED", "the listing was corrected since; propose it again")
    listing = packed.unpack(row.packed).listing
    at = packed.instant(now) if act.effective_at is None else act.effective_at
    events.apply(listing, act.kind, at, act.detail)
    if len(waiting(connection)) >= MOST_WAITING:
        raise Refused("OVERLOADED", f"{MOST_WAITING} acts wait already; settle some of them", retry_after_ms="0")
    values: dict[str, Any] = {
        "listing_id": row.id,
        "kind": act.kind.value,
        "state": WAITING,
        "base_content": _base(row, act.kind),
        "effective_at": None if act.effective_at is None else packed.micros(act.effective_at),
        "detail": dict(act.detail) or sa.null(),
        "actor": act.actor,
        "reason": act.reason,
        "document": act.document,
        "proposed_at": now,
    }
    if corrected is not None:
        values |= {
            "packed": corrected.packed,
            "sealed": corrected.sealed,
            "wrapped_key": corrected.wrapped_key,
        }
    made = connection.execute(PROPOSAL.insert().values(**values).returning(PROPOSAL.c.id)).scalar_one()
    return _held(connection, made)


def confirm(connection: sa.Connection, number: int, person: str, now: int) -> Proposal:
    """Record a waiting act; return the proposal, which tells the revision. A second confirmation returns it unchanged.

    Raises:
        Refused: NOT_FOUND; SECOND_PERSON_REQUIRED; IMPORT_OUTDATED: it was declined, or what it is about has changed
            since (3); or as `life.record`.
    """
    proposal = _held(connection, number)
    if proposal.act.actor == person:
        raise Refused("SECOND_PERSON_REQUIRED", "another person than the one who proposed it confirms (Art. 61)")
    if proposal.state == CONFIRMED:
        return proposal
    if proposal.state != WAITING:
        raise Refused("IMPORT_OUTDATED", "the act no longer waits; propose it again")
    row = life.hold(connection, proposal.number)
    at = packed.instant(now) if proposal.act.effective_at is None else proposal.act.effective_at
    # What is no longer possible at all is told as such.
    events.apply(packed.unpack(row.packed).listing, proposal.act.kind, at, proposal.act.detail)
    if _base(row, proposal.act.kind) != proposal.base:
        raise Refused("IMPORT_OUTDATED", "the listing has changed since; propose it again")
    act = Act(
        kind=proposal.act.kind,
        effective_at=proposal.act.effective_at,
        actor=proposal.act.actor,
        reason=proposal.act.reason,
        document=proposal.act.document,
        detail=proposal.act.detail,
        second=person,
    )
    revision = life.record(connection, proposal.number, act, now, proposal.corrected)
    _settle(connection, number, CONFIRMED, person, now, revision=revision)
    return _held(connection, number)


def decline(connection: sa.Connection, number: int, person: str, reason: str, now: int) -> Proposal:
    """Give a waiting act up; whoever proposed it may do so too.

    Raises:
        Refused: NOT_FOUND; IMPORT_OUTDATED: it waits no longer.
    """
    if _held(connection, number).state != WAITING:
        raise Refused("IMPORT_OUTDATED", "the act no longer waits")
    _settle(connection, number, DECLINED, person, now, settled_reason=reason)
    return _held(connection, number)


def find(connection: sa.Connection, number: int) -> Proposal | None:
    """Return a proposal, settled or not."""
    row = connection.execute(sa.select(PROPOSAL).where(PROPOSAL.c.id == number)).first()
    return None if row is None else _proposal(row)


def waiting(connection: sa.Connection) -> list[Proposal]:
    """Return the proposals that wait, oldest first."""
    rows = sa.select(PROPOSAL).where(PROPOSAL.c.state == WAITING).order_by(PROPOSAL.c.id).limit(MOST_WAITING)
    return [_proposal(row) for row in connection.execute(rows)]


def _held(connection: sa.Connection, number: int) -> Proposal:
    row = connection.execute(sa.select(PROPOSAL).where(PROPOSAL.c.id == number).with_for_update()).first()
    if row is None:
        raise not_found("no such receipt")
    return _proposal(row)


def _settle(connection: sa.Connection, number: int, state: str, person: str, now: int, **more: Any) -> None:
    connection.execute(
        PROPOSAL.update()
        .where(PROPOSAL.c.id == number)
        # (4)
        .values(state=state, settled_by=person, settled_at=now, packed=None, sealed=None, wrapped_key=None, **more)
    )


def _base(row: Any, kind: EventKind) -> bytes:
    """Return what tells whether a listing still is what a proposal was made of (3)."""
    if kind is EventKind.AMENDED:
        return facts_of(row.packed, row.sealed)
    of = packed.unpack(row.packed).listing
    ends = (of.removed_at, of.repaired_at, of.revoked_at, of.reinstated_at, of.annulled, of.stays)
    return hashlib.sha256(repr(ends).encode()).digest()[:16]


def facts_of(value: bytes, sealed: bytes | None) -> bytes:
    """Return what tells the facts of a listing, whatever events have done to it (3)."""
    listing = packed.unpack(value).listing
    bare = Listing(id=listing.id, list_type="", subject_kind=listing.subject_kind, recorded_on=listing.recorded_on)
    facts = packed.pack(packed.PackedListing(events.amended(bare, listing), (), None))
    return hashlib.sha256(facts + (sealed or b"")).digest()[:16]


def _proposal(row: Any) -> Proposal:
    corrected = None
    if row.packed is not None:
        corrected = Corrected(packed=row.packed, sealed=row.sealed, wrapped_key=row.wrapped_key, base=row.base_content)
    return Proposal(
        id=f"p{row.id:06d}",
        number=row.listing_id,
        act=Act(
            kind=EventKind(row.kind),
            effective_at=None if row.effective_at is None else packed.instant(row.effective_at),
            actor=row.actor,
            reason=row.reason,
            document=row.document,
            detail=row.detail or {},
        ),
        state=row.state,
        base=row.base_content,
        corrected=corrected,
        proposed_at=packed.instant(row.proposed_at),
        settled_by=row.settled_by or "",
        revision=row.revision or 0,
    )
