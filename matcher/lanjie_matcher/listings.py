"""Listings (列入) and whether one is in force at an instant. Computed when asked; no job ever decides anything.

A listing begins at 00:00 of the later of service and entry on the list. It ends at the earliest of removal, repair,
revocation, the end its list type names, and the end of retention. Annulled, it was never in force.
"""

import datetime
import enum
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from lanjie_matcher.civil_time import day_of
from lanjie_matcher.subjects import SubjectKind

_DAY: Final = datetime.timedelta(days=1)


class EndsWith(enum.StrEnum):
    """What ends the listings of a list type, besides removal, repair, revocation and retention."""

    TERM = "term"
    PUBLICITY = "publicity"
    REMOVAL = "removal"


class Standing(enum.StrEnum):
    """Whether a listing is in force, and if not, why."""

    IN_FORCE = "in_force"
    NOT_BEGUN = "not_begun"
    STAYED = "stayed"
    REMOVED = "removed"
    REPAIRED = "repaired"
    REVOKED = "revoked"
    ANNULLED = "annulled"
    TERM_ENDED = "term_ended"
    PUBLICITY_ENDED = "publicity_ended"
    RETENTION_ENDED = "retention_ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """One act of one authority on one subject (Art. 31). Holds no identifier, no name and no related person.

    Dates are days in Asia/Shanghai, inclusive; instants are aware. `None` means not known. `recorded_on` is the day the
    ledger took it: the beginning of a listing whose source gives no date at all. `source_as_of` is the day up to which
    the source has vouched for it, where that is known.
    """

    id: str
    list_type: str
    subject_kind: SubjectKind
    recorded_on: datetime.date
    authority: str = ""
    decision_no: str = ""
    reason: str = ""
    basis: str = ""
    removal_conditions: str = ""
    remedies: str = ""
    source: str = ""
    source_as_of: datetime.date | None = None
    region: str = ""
    decision_date: datetime.date | None = None
    served_date: datetime.date | None = None
    listed_on: datetime.date | None = None
    expires_on: datetime.date | None = None
    publicity_until: datetime.date | None = None
    retention_until: datetime.date | None = None
    sanction_no: str = ""
    sanction_kind: str = ""
    sanction_from: datetime.date | None = None
    sanction_to: datetime.date | None = None
    removed_at: datetime.datetime | None = None
    repaired_at: datetime.datetime | None = None
    revoked_at: datetime.datetime | None = None
    reinstated_at: datetime.datetime | None = None
    annulled: bool = False
    stays: tuple[tuple[datetime.datetime, datetime.datetime | None], ...] = ()
    objection: bool = False

    @property
    def begins_on(self) -> datetime.date:
        """The first day: the later of service and entry; without both, the decision's; else the day of record."""
        known = [day for day in (self.served_date, self.listed_on) if day is not None]
        return max(known) if known else self.decision_date or self.recorded_on


def standing(listing: Listing, ends_with: EndsWith, at: datetime.datetime) -> Standing:
    """Return whether `listing` is in force at the instant `at`, by what is known now.

    Args:
        listing: the listing.
        ends_with: what its list type says ends it.
        at: an aware instant.
    """
    day = day_of(at)
    if listing.annulled:
        return Standing.ANNULLED
    if day < listing.begins_on:
        return Standing.NOT_BEGUN
    for ended_at, why in (
        (listing.removed_at, Standing.REMOVED),
        (listing.repaired_at, Standing.REPAIRED),
        (listing.revoked_at, Standing.REVOKED),
    ):
        if ended_at is not None and ended_at <= at and not _reinstated_since(listing, ended_at, at):
            return why
    if ends_with is EndsWith.TERM and _past(listing.expires_on, day):
        return Standing.TERM_ENDED
    if ends_with is EndsWith.PUBLICITY and _past(listing.publicity_until, day):
        return Standing.PUBLICITY_ENDED
    if _past(listing.retention_until, day):
        return Standing.RETENTION_ENDED
    if any(start <= at and (end is None or at < end) for start, end in listing.stays):
        return Standing.STAYED
    return Standing.IN_FORCE


def ended_by_date(listing: Listing, ends_with: Collection[EndsWith], today: datetime.date) -> bool:
    """Whether a listing has ended by date for good and long enough ago to leave the views.

    It decides nothing: an SDK that no longer holds the listing passes as of its own clock, which may be behind, so one
    whole day must lie between the last day of the listing and `today`. From 00:00 of the day before `today` on,
    `standing` is then neither in force nor stayed nor not begun, whichever of `ends_with` counts.

    Args:
        listing: the listing, by what is known now; every later event on it asks anew.
        ends_with: everything that may yet be said to end its list type, from the day before `today` on. Where that is
            nothing, the end of retention alone counts.
        today: day in Asia/Shanghai.
    """
    yesterday = today - _DAY
    if yesterday < listing.begins_on:
        return False
    if _past(listing.retention_until, yesterday):
        return True
    last_days = {EndsWith.TERM: listing.expires_on, EndsWith.PUBLICITY: listing.publicity_until}
    return bool(ends_with) and all(_past(last_days.get(each), yesterday) for each in ends_with)


def ended_by_event(listing: Listing) -> bool:
    """Whether an event has ended the listing for good as far as is known: it leaves the views.

    An event counts from its recording, whatever its instant. Whoever records one must therefore refuse an instant that
    lies in the future: the listing would leave the views while it is still in force.
    """
    ends = [end for end in (listing.removed_at, listing.repaired_at, listing.revoked_at) if end is not None]
    return listing.annulled or (bool(ends) and (listing.reinstated_at is None or max(ends) > listing.reinstated_at))


def _reinstated_since(listing: Listing, ended_at: datetime.datetime, at: datetime.datetime) -> bool:
    return listing.reinstated_at is not None and ended_at <= listing.reinstated_at <= at


def _past(last: datetime.date | None, day: datetime.date) -> bool:
    return last is not None and day > last
