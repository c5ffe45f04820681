"""Events in the life of a listing, and which may follow which (Art. 61, 64-66).

1. Objection (Art. 64): a mark that changes nothing else; one open at a time. Where the entry was wrong and is deleted,
   it was never in force.
2. Stay: a court or reconsideration organ suspends a listing that runs; one at a time, with a known end or without.
3. Removal and repair (Art. 66) end a listing that runs; only one that runs is corrected.
4. Revocation (Art. 65) ends it from its own date, which may lie before another end; once.
5. Annulment: it was never in force. Nothing follows but what tells of it: a review, the withdrawal of publicity.
6. Reinstatement needs a listing that has ended, and works from its own date, not before the end. Another end after it
   does not undo the time between.
7. Notices, applications and their refusal, reviews and withdrawals change no answer; see `domain.duties`.
"""

import datetime
import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final

from lanjie_gateway.domain import event_detail
from lanjie_gateway.domain.errors import invalid_argument
from lanjie_gateway.domain.event_detail import ObjectionOutcome, illegal
from lanjie_matcher.civil_time import day_of, start_of
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
    REVIEWED = "reviewed"
    NOTICED = "noticed"
    REPAIR_APPLIED = "repair_applied"
    REPAIR_REFUSED = "repair_refused"
    PUBLICITY_WITHDRAWN = "publicity_withdrawn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One event as somebody orders it.

    Attributes:
        kind: what happened.
        effective_at: aware instant it works from; `None` for the commit.
        actor: who orders it.
        reason: why (Art. 61).
        document: number of the document that orders it (Art. 61).
        detail: what this kind says besides, as JSON values.
        second: who confirmed it before it was recorded; empty where nobody had to.
    """

    kind: EventKind
    effective_at: datetime.datetime | None = None
    actor: str
    reason: str
    document: str
    detail: Mapping[str, Any] = field(default_factory=dict)
    second: str = ""


BY_IMPORT: Final = frozenset({EventKind.LISTED})
"""Kinds that only a list file brings."""

BURDENS: Final = frozenset({EventKind.AMENDED, EventKind.STAY_LIFTED, EventKind.REINSTATED})
"""Kinds that may put a burden on the subject: by hand they wait for a second person, as an entry by hand does."""


_AFTER_ANNULMENT: Final = frozenset({EventKind.REVIEWED, EventKind.PUBLICITY_WITHDRAWN})
NO_DETAIL: Final[Mapping[str, Any]] = MappingProxyType({})
_DAY: Final = datetime.timedelta(days=1)


def state_of(listing: Listing, at: datetime.datetime) -> str:
    """Return the state of a listing as events know it: ``listed``, ``stayed``, ``ended`` or ``annulled``.

    Args:
        listing: the listing.
        at: aware instant; a stay that has ended by itself before it is none.
    """
    if listing.annulled:
        return "annulled"
    if ended_by_event(listing):
        return "ended"
    return "listed" if _running_stay(listing, at) is None else "stayed"


def require_complete(act: Act) -> None:
    """Raise unless an act says what its kind has to say beside reason and document; see `domain.event_detail`.

    Raises:
        Refused: ARGUMENT_INVALID.
    """
    match act.kind:
        case EventKind.OBJECTION_CLOSED:
            event_detail.require_reply(act.detail)
        case EventKind.NOTICED:
            event_detail.notice_of(act.detail)
        case EventKind.REVIEWED:
            event_detail.review_of(act.detail)
        case _:
            pass


def apply(
    listing: Listing, kind: EventKind, effective_at: datetime.datetime, detail: Mapping[str, Any] = NO_DETAIL
) -> Listing:
    """Return the listing after an event.

    Args:
        listing: the listing before it.
        kind: what happened.
        effective_at: aware instant from which it works.
        detail: what the kind says besides, see `domain.event_detail`.

    Raises:
        Refused: TRANSITION_ILLEGAL when the state does not allow it; ARGUMENT_INVALID when it would work before what
            it follows.
    """
    state = state_of(listing, effective_at)
    if not _allowed(listing, kind, state, effective_at):
        raise illegal(state, kind.value, f"a listing that is {state} takes no event {kind}")
    match kind:
        case EventKind.OBJECTION_OPENED:
            return replace(listing, objection=True)
        case EventKind.OBJECTION_CLOSED:
            wrong = event_detail.outcome_of(detail) is ObjectionOutcome.DELETED
            return replace(listing, objection=False, annulled=listing.annulled or wrong)
        case EventKind.STAYED:
            return replace(listing, stays=(*listing.stays, (effective_at, _stay_end(effective_at, detail))))
        case EventKind.STAY_LIFTED:
            return _lifted(listing, effective_at)
        case EventKind.ANNULLED:
            # What was objected to is gone.
            return replace(listing, annulled=True, objection=False)
        case EventKind.REINSTATED:
            _not_before(effective_at, max(_ends(listing)), "the listing ended later")
            return replace(listing, reinstated_at=effective_at)
        case EventKind.REPAIRED | EventKind.REVOKED | EventKind.REMOVED:
            return _ended(listing, kind, effective_at)
        case _:
            # What a correction says is a matter of the facts (`amended`); the others change no answer (7).
            return listing


def removal_instant(listing: Listing, at: datetime.datetime) -> datetime.datetime:
    """Return the instant from which a removal by the listing's own source works.

    At the same instant as a reinstatement, and recorded after it, the end works right after it.
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


def _allowed(listing: Listing, kind: EventKind, state: str, at: datetime.datetime) -> bool:
    if state == "annulled":
        return kind in _AFTER_ANNULMENT
    running = state in {"listed", "stayed"}
    return {
        EventKind.AMENDED: running,
        EventKind.OBJECTION_OPENED: not listing.objection,
        EventKind.OBJECTION_CLOSED: listing.objection,
        EventKind.STAYED: state == "listed",
        EventKind.STAY_LIFTED: _liftable(listing, at) is not None,
        EventKind.REPAIRED: running,
        EventKind.REMOVED: running,
        EventKind.REVOKED: running or listing.revoked_at is None,
        EventKind.ANNULLED: True,
        EventKind.REINSTATED: state == "ended",
        EventKind.REVIEWED: True,
        EventKind.NOTICED: running,
        EventKind.REPAIR_APPLIED: running,
        EventKind.REPAIR_REFUSED: running,
        EventKind.PUBLICITY_WITHDRAWN: state == "ended",
    }.get(kind, False)


def _stay_end(start: datetime.datetime, detail: Mapping[str, Any]) -> datetime.datetime | None:
    until = event_detail.until_of(detail)
    if until is None:
        return None
    if until < day_of(start):
        raise invalid_argument("until_date", "order", "a stay ends on its first day or later")
    if until == datetime.date.max:
        raise invalid_argument("until_date", "range", "a stay that lasts until it is lifted states no last day")
    return start_of(until + _DAY)


def _lifted(listing: Listing, at: datetime.datetime) -> Listing:
    place = _liftable(listing, at) or 0
    start = listing.stays[place][0]
    _not_before(at, start, "the stay began later")
    if listing.reinstated_at is not None and not ended_by_event(listing):
        _not_before(at, listing.reinstated_at, "the listing was reinstated later")
    return replace(listing, stays=(*listing.stays[:place], (start, at), *listing.stays[place + 1 :]))


def _liftable(listing: Listing, at: datetime.datetime) -> int | None:
    """Return the place of the stay that may be lifted; of a listing that has ended only one without an end.

    Never the time between an end and a reinstatement, see `_with_gap`: it has an end, and lies before a reinstatement.
    """
    if ended_by_event(listing):
        return next((place for place, (_, end) in enumerate(listing.stays) if end is None), None)
    return _running_stay(listing, at)


def _running_stay(listing: Listing, at: datetime.datetime) -> int | None:
    """Return the place of the stay that has not ended at an instant, begun or not; there is one at the most."""
    return next((place for place, (_, end) in enumerate(listing.stays) if end is None or at < end), None)


def _ended(listing: Listing, kind: EventKind, effective_at: datetime.datetime) -> Listing:
    if listing.reinstated_at is not None and not ended_by_event(listing):
        # An end that worked before a reinstatement would be undone by it, so the new one cannot lie there.
        _after(effective_at, listing.reinstated_at, "the listing was reinstated later")
        listing = _with_gap(listing, listing.reinstated_at)
    if kind is EventKind.REPAIRED:
        return replace(listing, repaired_at=effective_at)
    if kind is EventKind.REVOKED:
        return replace(listing, revoked_at=effective_at)
    return replace(listing, removed_at=effective_at)


def _with_gap(listing: Listing, reinstated_at: datetime.datetime) -> Listing:
    # (6) A listing has room for one end of each kind: the time between an earlier end and its reinstatement is kept as
    # one that it did not work in, before the stays, so that an open one stays the last.
    gap = (min(_ends(listing)), reinstated_at)
    return replace(
        listing, removed_at=None, repaired_at=None, revoked_at=None, reinstated_at=None, stays=(gap, *listing.stays)
    )


def _ends(listing: Listing) -> list[datetime.datetime]:
    return [end for end in (listing.removed_at, listing.repaired_at, listing.revoked_at) if end is not None]


def _not_before(effective_at: datetime.datetime, earliest: datetime.datetime, message: str) -> None:
    if effective_at < earliest:
        raise invalid_argument("effective_date", "order", f"the event would work too early: {message}")


def _after(effective_at: datetime.datetime, earliest: datetime.datetime, message: str) -> None:
    if effective_at <= earliest:
        raise invalid_argument("effective_date", "order", f"the event would work too early: {message}")
