"""Watches (关注) and alerts (提醒): what a department hears about listings between its own inquiries (Art. 40, 47, 48).

1. A watch is about an organisation, for one matter of the department's grant, for a stated term of at most three years.
   It ends by its date, without a job; natural persons are watched by nobody (Art. 40).
2. A department hears of a listing only while it bears on the matter, as `decide` says of that listing alone, or once it
   has: when it ends, and while it is stayed after that. Of any other it hears nothing (Art. 40).
3. What time changes, and what a new measure list changes, is told at the next look.
4. A pass is looked back at while its case is open: until its department closes it; without a case number for 30 days.
"""

import datetime
import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from lanjie_gateway.domain.errors import Refused, invalid_argument
from lanjie_gateway.domain.events import EventKind
from lanjie_gateway.domain.packed import PackedListing
from lanjie_gateway.domain.retention import erased
from lanjie_matcher.catalogues import CatalogueSet
from lanjie_matcher.civil_time import day_of, last_day_after_months
from lanjie_matcher.decide import Outcome, Question, UnknownMatterError, decide
from lanjie_matcher.identifiers import Identifier
from lanjie_matcher.listings import EndsWith, Listing, Standing, standing

MAX_TERM_MONTHS: Final = 36
MAX_CASE_NO: Final = 64
MAX_PURPOSE: Final = 200
WITHOUT_CASE_NO: Final = datetime.timedelta(days=30)
"""How long a case without a number counts as open."""
KEPT: Final = datetime.timedelta(days=365)
"""How long an alert is kept after it was acknowledged."""


class AlertKind(enum.StrEnum):
    """What an alert tells; the names are those of `AlertKind` in watch.proto, in lower case."""

    STANDING = "standing"
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
    BEGAN = "began"
    ENDED_BY_DATE = "ended_by_date"
    MEASURES_CHANGED = "measures_changed"
    PASS_OVERTAKEN = "pass_overtaken"
    WITHHELD = "withheld"


BY_EVENT: Final[Mapping[str, AlertKind]] = {
    kind.value: AlertKind(kind.value) for kind in EventKind if kind.value in set(AlertKind)
}
"""What a watch tells of the kinds of events; of the others, which change no answer, nothing."""
LOOKED_BACK: Final = frozenset({"listed", "amended", "stay_lifted", "reinstated"})
"""Kinds of events after which a listing may bear that did not before."""
_ENDS: Final = frozenset({Standing.TERM_ENDED, Standing.PUBLICITY_ENDED, Standing.RETENTION_ENDED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """One watch.

    Attributes:
        number: of its row; 0 before it is kept.
        kind: kind of the identifier.
        subject: index token of the full identifier.
        bucket: index token of its canonical key.
        question: what is asked of each listing; its instant does not count.
        from_on: first day in Shanghai.
        until_on: last day, inclusive.
        ended_at: when the department ended it.
        masked: masked identifier; empty where it was not unsealed.
    """

    number: int = 0
    department: str
    kind: str
    subject: bytes = field(repr=False)
    bucket: bytes = field(repr=False)
    question: Question
    case_no: str
    purpose: str
    from_on: datetime.date
    until_on: datetime.date
    made_at: datetime.datetime
    actor: str
    ended_at: datetime.datetime | None = None
    masked: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Borne:
    """What one listing bears on a matter, at one instant.

    Attributes:
        outcome: name of the outcome if it were the only listing; ``PASS`` for nothing.
        measures: codes of what applies, or would if a fact were known.
        stands: whether it is in force, or why not.
        listing: the listing.
    """

    outcome: str
    measures: tuple[str, ...]
    stands: Standing
    listing: Listing

    @property
    def bears(self) -> bool:
        """Whether there is anything."""
        return self.outcome != Outcome.PASS.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a watch was last told of a listing; once it has borne, until its end."""

    outcome: str
    measures: tuple[str, ...]


NOTHING: Final = Known(outcome=Outcome.PASS.name, measures=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert before it has a number.

    Attributes:
        watch: number of the watch; 0 for a pass that was overtaken.
        decision_id: of that pass.
        bucket: index token of the organisation's key; empty for a natural person.
    """

    department: str
    kind: AlertKind
    matter: str
    case_no: str
    listing: Listing
    outcome_before: str
    outcome: str
    watch: int = 0
    decision_id: str = ""
    bucket: bytes = field(default=b"", repr=False)
    subject: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptAlert:
    """An alert as its department gets it."""

    number: int
    department: str
    kind: AlertKind
    matter: str
    case_no: str = ""
    watch: int = 0
    decision_id: str = ""
    listing_id: str = ""
    list_type: str = ""
    authority: str = ""
    decision_no: str = ""
    outcome_before: str = ""
    outcome: str = ""
    objection: bool = False
    revision: int = 0
    made_at: datetime.datetime
    acknowledged_at: datetime.datetime | None = None
    masked: str = ""

    def withheld(self) -> "KeptAlert":
        """What is left of it for a department whose grant does not cover the matter any more."""
        return KeptAlert(
            number=self.number,
            department=self.department,
            kind=AlertKind.WITHHELD,
            matter=self.matter,
            case_no=self.case_no,
            made_at=self.made_at,
            acknowledged_at=self.acknowledged_at,
        )


def require_watchable(
    identifier: Identifier, *, purpose: str, case_no: str, from_on: datetime.date, until_on: datetime.date
) -> None:
    """Raise unless such a watch may be (1).

    Raises:
        Refused: NOT_PERMITTED for a natural person; ARGUMENT_INVALID.
    """
    if identifier.is_person:
        raise Refused("NOT_PERMITTED", "natural persons are not watched (Art. 40)", required="organisation")
    require_purpose(purpose)
    require_case_no(case_no)
    if until_on < from_on:
        raise invalid_argument("until_date", "order", "a watch ends on its first day or later")
    if from_on.year + MAX_TERM_MONTHS // 12 > datetime.MAXYEAR or until_on > last_day_after_months(
        from_on, MAX_TERM_MONTHS
    ):
        raise invalid_argument("until_date", "range", "a watch lasts three years at most")


def require_purpose(purpose: str) -> None:
    """Raise unless a purpose is stated (Art. 24)."""
    if not purpose.strip() or len(purpose) > MAX_PURPOSE or "\0" in purpose:
        raise invalid_argument("purpose", "length", f"a purpose has 1 to {MAX_PURPOSE} characters")


def require_case_no(case_no: str, *, least: int = 0) -> None:
    """Raise unless a text can be the number of a case."""
    if not least <= len(case_no) <= MAX_CASE_NO or "\0" in case_no:
        raise invalid_argument("case_no", "length", f"a case number has {least} to {MAX_CASE_NO} characters")


def borne(listing: Listing, catalogues: CatalogueSet, question: Question, at: datetime.datetime) -> Borne:
    """Return what one listing bears on a matter at an instant (2).

    Args:
        listing: the listing.
        catalogues: editions published by then.
        question: matter, region, role and kinds; its own instant does not count.
        at: aware instant.
    """
    asked = replace(question, at=at)
    try:
        ruling = decide([listing], catalogues, asked)
    except UnknownMatterError:
        ruling = None
    list_type = catalogues.list_type(listing.list_type, day_of(at))
    stands = standing(listing, list_type.ends_with if list_type is not None else EndsWith.TERM, at)
    if ruling is None or not ruling.listings:
        return Borne(outcome=Outcome.PASS.name, measures=(), stands=stands, listing=listing)
    codes = {each.measure.code for each in ruling.measures} | {each.measure.code for each in ruling.missing}
    return Borne(outcome=ruling.outcome.name, measures=tuple(sorted(codes)), stands=stands, listing=listing)


def subjects_listings(
    states: Iterable[PackedListing | None], kind: str, subject: bytes, bucket: bytes
) -> list[PackedListing]:
    """Return those of the states of listings of a bucket that are about an identifier."""
    return [
        state for state in states if state is not None and not erased(state) and state.concerns(kind, subject, bucket)
    ]


def tells(known: Known | None, now: Borne) -> bool:
    """Whether a watch hears of an event on a listing (2): it bears, or was known to."""
    return now.bears or known is not None


def after(known: Known | None, now: Borne) -> Known | None:
    """Return what a watch knows of a listing from now on; `None` for nothing, or no more."""
    if now.bears:
        return Known(outcome=now.outcome, measures=now.measures)
    # A stayed listing may work again: its end is told too.
    return NOTHING if known is not None and now.stands is Standing.STAYED else None


def seen(known: Known | None, now: Borne, *, first: bool, began: bool) -> AlertKind | None:
    """Return what a look tells of a listing that no event of the moment is about (3); `None` for nothing.

    Args:
        known: what was told before.
        now: what is.
        first: the watch begins with this look.
        began: the listing began, or a stay of it ended, after the look before.
    """
    was = NOTHING if known is None else known
    if (was.outcome, was.measures) == (now.outcome, now.measures):
        gone = known is not None and not now.bears and now.stands is not Standing.STAYED
        return AlertKind.ENDED_BY_DATE if gone else None
    if first:
        return AlertKind.STANDING
    if now.bears and was.outcome == Outcome.PASS.name:
        return AlertKind.BEGAN if began or known is not None else AlertKind.MEASURES_CHANGED
    if not now.bears and now.stands in _ENDS:
        return AlertKind.ENDED_BY_DATE
    if not now.bears and now.stands is Standing.STAYED:
        return AlertKind.STAYED
    return AlertKind.MEASURES_CHANGED


def begins_later(listing: Listing, today: datetime.date) -> datetime.date | None:
    """Return the next day on which a listing may begin to work that does not today; `None` for none (3)."""
    days = [listing.begins_on]
    days += [day_of(end) for _, end in listing.stays if end is not None]
    return min((day for day in days if day > today), default=None)


def is_open(
    case_no: str, decided_at: datetime.datetime, closed_at: datetime.datetime | None, now: datetime.datetime
) -> bool:
    """Whether the case of a pass is open (4)."""
    if case_no:
        return closed_at is None or closed_at < decided_at
    return now - decided_at <= WITHOUT_CASE_NO
