"""Duties (时限事项): which event opens and closes which clock of the law, and from which day (Art. 41, 60, 61, 64-66).

1. An objection opens the duty to reply (Art. 64); its closing, or an annulment, closes it.
2. A notice that the instrument was revoked, altered or found void opens the agency's duty to apply it (Art. 65), from
   the day it arrived, and tells of the provider's own: from the day of the instrument, closed by the notice itself.
   Revocation, annulment and correction apply it. Without a notice the revocation itself is the provider's word.
3. An application for repair opens the duty to decide (Art. 66); repair or refusal closes it, and so does any other end.
4. Repair, revocation and annulment open the duty to withdraw what is still published (Art. 41, 66), once.
5. What ends or suspends a listing by hand is looked at by a second person afterwards (Art. 61), who is not the one that
   acted. A contested act stands until a document of its own undoes it; until then it is shown.

Only the beginning of a clock and what stopped it are kept. When it is due is computed when asked.
"""

import datetime
import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from lanjie_gateway.domain import event_detail
from lanjie_gateway.domain.errors import Refused
from lanjie_gateway.domain.event_detail import ObjectionOutcome, Verdict, illegal
from lanjie_gateway.domain.events import Act, EventKind
from lanjie_matcher.listings import Listing, ended_by_event


class DutyRule(enum.StrEnum):
    """Rules; all but the last are codes of `lanjie_matcher.deadlines`, the last one has no day."""

    OBJECTION_REPLY = "objection-reply"
    REVOCATION_NOTICE = "revocation-notice"
    REVOCATION_APPLY = "revocation-apply"
    REPAIR_DECISION = "repair-decision"
    PUBLICITY_WITHDRAWAL = "publicity-withdrawal"
    REMOVAL_REVIEW = "removal-review"
    CONTESTED = "contested"


@dataclass(frozen=True, slots=True)
class Opening:
    """A clock that begins.

    Attributes:
        rule: which.
        started_on: day in Shanghai of what started it.
        closed: the same commit stops it.
    """

    rule: DutyRule
    started_on: datetime.date
    closed: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """What one event does to the duties of its listing."""

    opens: tuple[Opening, ...] = ()
    closes: frozenset[DutyRule] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the record holds of a listing's duties when an event comes.

    Attributes:
        open: rules with a clock that runs.
        withdrawn: the withdrawal of publicity was asked for since the listing was last reinstated.
        reviewed_actor: who ordered the act that a review is about; `None` where its clock does not run.
        corrected: the facts were corrected since the objection was opened.
    """

    open: frozenset[DutyRule] = frozenset()
    withdrawn: bool = False
    reviewed_actor: str | None = None
    corrected: bool = False


_ENDS: Final = frozenset({EventKind.REMOVED, EventKind.REPAIRED, EventKind.REVOKED, EventKind.ANNULLED})
_UNPUBLISHES: Final = frozenset({EventKind.REPAIRED, EventKind.REVOKED, EventKind.ANNULLED})
_CLOSED_BY_END: Final = frozenset({DutyRule.REPAIR_DECISION})
_CLOSED_BY_ANNULMENT: Final = frozenset({DutyRule.OBJECTION_REPLY, DutyRule.REVOCATION_APPLY, DutyRule.REPAIR_DECISION})
_CLOSED_BY: Final[Mapping[EventKind, frozenset[DutyRule]]] = {
    EventKind.OBJECTION_CLOSED: frozenset({DutyRule.OBJECTION_REPLY}),
    EventKind.AMENDED: frozenset({DutyRule.REVOCATION_APPLY}),
    EventKind.REVOKED: _CLOSED_BY_END | {DutyRule.REVOCATION_APPLY},
    EventKind.REMOVED: _CLOSED_BY_END,
    EventKind.REPAIRED: _CLOSED_BY_END,
    EventKind.REPAIR_REFUSED: frozenset({DutyRule.REPAIR_DECISION}),
    EventKind.ANNULLED: _CLOSED_BY_ANNULMENT,
    EventKind.PUBLICITY_WITHDRAWN: frozenset({DutyRule.PUBLICITY_WITHDRAWAL}),
    EventKind.STAY_LIFTED: frozenset({DutyRule.CONTESTED}),
    EventKind.REINSTATED: frozenset({DutyRule.CONTESTED, DutyRule.PUBLICITY_WITHDRAWAL}),
}
_NEEDS: Final[Mapping[EventKind, DutyRule]] = {
    EventKind.REPAIR_REFUSED: DutyRule.REPAIR_DECISION,
    EventKind.PUBLICITY_WITHDRAWN: DutyRule.PUBLICITY_WITHDRAWAL,
}
_ONE_AT_A_TIME: Final[Mapping[EventKind, DutyRule]] = {
    EventKind.NOTICED: DutyRule.REVOCATION_APPLY,
    EventKind.REPAIR_APPLIED: DutyRule.REPAIR_DECISION,
}
CLOSED_BY_IMPORT: Final[Mapping[EventKind, frozenset[DutyRule]]] = {
    kind: _CLOSED_BY[kind] for kind in (EventKind.AMENDED, EventKind.REMOVED)
}
"""What the rows of a list file close (2, 3). They open nothing: a file has rules of its own for a second person."""


def step(act: Act, after: Listing, day: datetime.date, today: datetime.date, known: Known) -> Step:
    """Return what an event by hand does to the duties of its listing.

    Args:
        act: the event; `events.apply` has allowed it.
        after: the listing after it.
        day: day in Shanghai that the event works from.
        today: day in Shanghai of its commit.
        known: what the record holds.

    Raises:
        Refused: TRANSITION_ILLEGAL: the clock that it would begin runs already, or the one that it would stop does not;
            SECOND_PERSON_REQUIRED: who acted looks at the own act; ARGUMENT_INVALID.
    """
    kind = act.kind
    if kind in _NEEDS and _NEEDS[kind] not in known.open:
        raise illegal(f"no {_NEEDS[kind]} open", kind.value, f"nothing waits for an event {kind}")
    if kind in _ONE_AT_A_TIME and _ONE_AT_A_TIME[kind] in known.open:
        raise illegal(f"{_ONE_AT_A_TIME[kind]} open", kind.value, f"an earlier event {kind} is still being dealt with")
    if kind is EventKind.REVIEWED:
        return _reviewed(act, today, known)
    deleted = False
    if kind is EventKind.OBJECTION_CLOSED:
        outcome = event_detail.outcome_of(act.detail)
        deleted = outcome is ObjectionOutcome.DELETED
        if outcome is ObjectionOutcome.CORRECTED and not known.corrected:
            message = "the facts were not corrected since the objection was opened: record the correction first"
            raise illegal("not corrected", kind.value, message)
    opens = [*_begun(act, day, known)]
    if (kind in _UNPUBLISHES or deleted) and not known.withdrawn and _published(after, today):
        opens.append(Opening(DutyRule.PUBLICITY_WITHDRAWAL, day))  # (4)
    if (kind in _ENDS or kind is EventKind.STAYED or deleted) and not act.second:
        # (5) From the day it was recorded: it may work from an earlier one.
        opens.append(Opening(DutyRule.REMOVAL_REVIEW, today))
    return Step(tuple(opens), _closed(kind, after, deleted=deleted) & known.open)


def _closed(kind: EventKind, after: Listing, *, deleted: bool) -> frozenset[DutyRule]:
    if kind is EventKind.STAY_LIFTED and ended_by_event(after):
        # What was contested may be the end.
        return frozenset()
    return _CLOSED_BY.get(kind, frozenset()) | (_CLOSED_BY_ANNULMENT if deleted else frozenset())


def _begun(act: Act, day: datetime.date, known: Known) -> tuple[Opening, ...]:
    match act.kind:
        case EventKind.OBJECTION_OPENED:
            return (Opening(DutyRule.OBJECTION_REPLY, day),)  # (1)
        case EventKind.NOTICED:
            _, instrument = event_detail.notice_of(act.detail)
            return (  # (2)
                Opening(DutyRule.REVOCATION_NOTICE, instrument, closed=True),
                Opening(DutyRule.REVOCATION_APPLY, day),
            )
        case EventKind.REVOKED | EventKind.ANNULLED if DutyRule.REVOCATION_APPLY not in known.open:
            return (Opening(DutyRule.REVOCATION_NOTICE, day, closed=True),)
        case EventKind.REPAIR_APPLIED:
            return (Opening(DutyRule.REPAIR_DECISION, day),)  # (3)
        case _:
            return ()


def _reviewed(act: Act, today: datetime.date, known: Known) -> Step:
    # (5)
    revision, verdict = event_detail.review_of(act.detail)
    if known.reviewed_actor is None:
        raise illegal("no removal-review open", act.kind.value, f"no act of revision {revision} waits for a review")
    if known.reviewed_actor == act.actor:
        raise Refused("SECOND_PERSON_REQUIRED", "another person than the one who acted looks at it")
    contested = (Opening(DutyRule.CONTESTED, today),) if verdict is Verdict.CONTESTED else ()
    return Step(contested, frozenset({DutyRule.REMOVAL_REVIEW}))


def _published(listing: Listing, today: datetime.date) -> bool:
    return listing.publicity_until is None or listing.publicity_until >= today


@dataclass(frozen=True, slots=True, kw_only=True)
class DutyView:
    """A clock as it stands when asked.

    Attributes:
        due_on: last day, to 24:00; `None` where the rule has none.
        provisional: the working days of its time are not published yet.
        overdue: it runs, and the last day is past.
        closed_on: day in Shanghai on which it was stopped.
        late: it was stopped after the last day.
        revision: of the commit that opened it.
    """

    rule: DutyRule
    listing_id: str
    list_type: str
    started_on: datetime.date
    due_on: datetime.date | None
    provisional: bool
    overdue: bool
    closed_on: datetime.date | None
    late: bool
    revision: int


TEXTS: Final = frozenset({EventKind.OBJECTION_CLOSED, EventKind.AMENDED})
"""Kinds whose detail holds what was written to or about the subject."""


def lasting(kind: EventKind, detail: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what of an event's detail outlives the listing (Art. 41)."""
    if kind not in TEXTS:
        return detail
    return {name: value for name, value in detail.items() if name == "outcome"}
