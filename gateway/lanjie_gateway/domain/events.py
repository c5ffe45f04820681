"""Events in the life of a listing, and which may follow which (Art. 61, 64-66).

1. Objection (Art. 64): a mark that changes nothing else; one open at a time.
2. Stay: a court or reconsideration organ suspends a listing that runs; one at a time.
3. Removal and repair (Art. 66) end a listing that runs.
4. Revocation (Art. 65) ends it from its own date, which may lie before another end; once.
5. Annulment: it was never in force. Nothing follows.
6. Reinstatement needs a listing that has ended, and works from its own date, not before the end.
"""

import datetime
import enum
from dataclasses import replace
from typing import Final

from lanjie_gateway.domain.errors import Refused, invalid_argument
from lanjie_matcher.listings import Listing, ended_by_event

_MICROSECOND: Final = datetime.timedelta(microseconds=1)


class EventKind(enum.StrEnum):
    """Kinds of events; the names are those of `ListingEventKind` in listing.proto, in lower case."""

    LISTED = "listed"
    AMENDED = "amended"
    OBJECTION_OPENED = "objection_opened"
    OBJECTION_CLOSED = "objection_closed"
    STAYED = "stayed"
    STAY_LIFTED = "stay_lifted"
    REPAIRED = "repaired"
    REVOKED = "revoked"
    ANNULLED = "annulled"
    REMOVED = "removed"
    REINSTATED = "reinstated"
    ERASED = "erased"


BY_IMPORT: Final = frozenset({EventKind.LISTED, EventKind.AMENDED})
"""Kinds that only a list file brings."""


def state_of(listing: Listing) -> str:
    """Return the state of a listing as events know it: ``listed``, ``stayed``, ``ended`` or ``annulled``."""
    if listing.annulled:
        return "annulled"
    if ended_by_event(listing):
        return "ended"
    return "stayed" if _stayed(listing) else "listed"


def apply(listing: Listing, kind: EventKind, effective_at: datetime.datetime) -> Listing:
    """Return the listing after an event.

    Args:
        listing: the listing before it.
        kind: what happened.
        effective_at: aware instant from which it works.

    Raises:
        Refused: TRANSITION_ILLEGAL when the state does not allow it; ARGUMENT_INVALID when it would work before what
            it follows.
    """
    state = state_of(listing)
    if not _allowed(listing, kind, state):
        raise Refused(
            "TRANSITION_ILLEGAL", f"a listing that is {state} takes no event {kind}", state=state, event=kind.value
        )
    match kind:
        case EventKind.OBJECTION_OPENED | EventKind.OBJECTION_CLOSED:
            return replace(listing, objection=kind is EventKind.OBJECTION_OPENED)
        case EventKind.STAYED:
            return replace(listing, stays=(*listing.stays, (effective_at, None)))
        case EventKind.STAY_LIFTED:
            start = listing.stays[-1][0]
            _not_before(effective_at, start, "the stay began later")
            return replace(listing, stays=(*listing.stays[:-1], (start, effective_at)))
        case EventKind.ANNULLED:
            return replace(listing, annulled=True)
        case EventKind.REINSTATED:
            _not_before(effective_at, max(_ends(listing)), "the listing ended later")
            return replace(listing, reinstated_at=effective_at)
        case _:
            return _ended(listing, kind, effective_at)


def removal_instant(listing: Listing, at: datetime.datetime) -> datetime.datetime:
    """Return the instant from which a removal by the listing's own source works.

    A complete list may be older than a reinstatement; the end then works right after it.
    """
    if listing.reinstated_at is not None and at <= listing.reinstated_at:
        return listing.reinstated_at + _MICROSECOND
    return at


def amended(before: Listing, corrected: Listing) -> Listing:
    """Return a correction by the source, which keeps the id, the day of record and everything events have done."""
    return replace(
        corrected,
        id=before.id,
        recorded_on=before.recorded_on,
        removed_at=before.removed_at,
        repaired_at=before.repaired_at,
        revoked_at=before.revoked_at,
        reinstated_at=before.reinstated_at,
        annulled=before.annulled,
        stays=before.stays,
        objection=before.objection,
    )


def _allowed(listing: Listing, kind: EventKind, state: str) -> bool:
    if state == "annulled":
        return False
    running = state in {"listed", "stayed"}
    return {
        EventKind.OBJECTION_OPENED: not listing.objection,
        EventKind.OBJECTION_CLOSED: listing.objection,
        EventKind.STAYED: state == "listed",
        EventKind.STAY_LIFTED: _stayed(listing),
        EventKind.REPAIRED: running,
        EventKind.REMOVED: running,
        EventKind.REVOKED: running or listing.revoked_at is None,
        EventKind.ANNULLED: True,
        EventKind.REINSTATED: state == "ended",
    }.get(kind, False)


def _ended(listing: Listing, kind: EventKind, effective_at: datetime.datetime) -> Listing:
    # An end that worked before a reinstatement would be undone by it, so the new one cannot lie there.
    if listing.reinstated_at is not None and not ended_by_event(listing):
        _after(effective_at, listing.reinstated_at, "the listing was reinstated later")
    if kind is EventKind.REPAIRED:
        return replace(listing, repaired_at=effective_at)
    if kind is EventKind.REVOKED:
        return replace(listing, revoked_at=effective_at)
    return replace(listing, removed_at=effective_at)


def _ends(listing: Listing) -> list[datetime.datetime]:
    return [end for end in (listing.removed_at, listing.repaired_at, listing.revoked_at) if end is not None]


def _stayed(listing: Listing) -> bool:
    return bool(listing.stays) and listing.stays[-1][1] is None


def _not_before(effective_at: datetime.datetime, earliest: datetime.datetime, message: str) -> None:
    if effective_at < earliest:
        raise invalid_argument("effective_date", "order", f"the event would work too early: {message}")


def _after(effective_at: datetime.datetime, earliest: datetime.datetime, message: str) -> None:
    if effective_at <= earliest:
        raise invalid_argument("effective_date", "order", f"the event would work too early: {message}")
