"""What a listing was at an earlier revision, from its facts as they are now and everything that happened to it.

1. A listing whose entry was committed later did not exist.
2. The facts are those that the first correction after the revision replaced, for it holds them as its payload; without
   one, those of now.
3. What events had done is told anew, by the same `events.apply` that did it then, from the events up to the revision.

The state of events inside a payload does not count: a correction that waited holds the one of the day it was staged.
"""

import datetime
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgpack

from lanjie_gateway.domain import events
from lanjie_gateway.domain.events import EventKind
from lanjie_gateway.domain.packed import PackedListing, unpack
from lanjie_matcher.listings import Listing, ended_by_event

PRUNED: Final = "pruned"
UNPRUNED: Final = "unpruned"
SILENT: Final = (PRUNED, UNPRUNED)
"""Kinds in ``event`` that only the view hears of."""
_PAYLOAD_VERSION: Final = 1
_NO_CHANGE: Final = (EventKind.LISTED, EventKind.AMENDED, EventKind.ERASED)
"""Kinds that do nothing to the state of events."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened:
    """One row of ``event``, in the order of revision and sequence.

    Attributes:
        revision: of its commit.
        kind: value of an `EventKind`, or one of `SILENT`.
        effective_at: aware instant it works from.
        detail: what the kind says beside that.
        payload: of a correction, the facts before it: see `payload_of`.
    """

    revision: int
    kind: str
    effective_at: datetime.datetime
    detail: Mapping[str, Any] | None = None
    payload: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Before:
    """The payload of a correction: the row as it was; the details are `None` once erased."""

    packed: bytes = field(repr=False)
    sealed: bytes | None = field(repr=False)
    wrapped_key: bytes | None = field(repr=False)


def payload_of(before: Before) -> bytes:
    """Return the bytes that the event of a correction keeps."""
    return bytes(msgpack.packb((_PAYLOAD_VERSION, before.packed, before.sealed, before.wrapped_key)))


def read_payload(payload: bytes) -> Before:
    """Return what `payload_of` kept.

    Raises:
        ValueError: another version.
    """
    version, *values = msgpack.unpackb(payload)
    if version != _PAYLOAD_VERSION:
        raise ValueError("a payload of another version")
    return Before(*values)


def facts_before(happened: Iterable[Happened], revision: int) -> Before | None:
    """Return the facts that the first correction after a revision replaced; `None` where those of now stood (2)."""
    payloads = (each.payload for each in happened if each.revision > revision and each.payload is not None)
    first = next(payloads, None)
    return None if first is None else read_payload(first)


def state_at(now: PackedListing, happened: Sequence[Happened], revision: int) -> PackedListing | None:
    """Return a listing as it was after the commit of a revision; `None` before its entry. Not for what was erased.

    Args:
        now: the listing as it is.
        happened: everything that ever happened to it, the entry first.
        revision: revision of the ledger.

    Raises:
        Refused: events that follow one another as they may not: the ledger was changed by other hands.
        ValueError: a payload of another version.
    """
    if not happened or happened[0].revision > revision:
        return None  # (1)
    before = facts_before(happened, revision)
    facts = now if before is None else unpack(before.packed)
    listing = _untouched(facts.listing)
    for event in happened:
        if event.revision <= revision:
            listing = _after(listing, event)  # (3)
    return PackedListing(listing, facts.identities, facts.name_token)


def in_view_at(now: PackedListing, happened: Sequence[Happened], revision: int) -> bool:
    """Whether a listing stood in the view of its companies after the commit of a revision. Raises as `state_at`."""
    state = state_at(now, happened, revision)
    if state is None or ended_by_event(state.listing):
        return False
    newest = [each.kind for each in happened if each.revision <= revision][-1]
    # Whatever comes after a prune brings the listing back.
    return newest != PRUNED


def _untouched(listing: Listing) -> Listing:
    return replace(
        listing,
        removed_at=None,
        repaired_at=None,
        revoked_at=None,
        reinstated_at=None,
        annulled=False,
        stays=(),
        objection=False,
    )


def _after(listing: Listing, event: Happened) -> Listing:
    if event.kind in SILENT or event.kind in _NO_CHANGE:
        return listing
    kind, at = EventKind(event.kind), event.effective_at
    if kind is EventKind.REMOVED:
        at = events.removal_instant(listing, at)
    return events.apply(listing, kind, at, event.detail or events.NO_DETAIL)
