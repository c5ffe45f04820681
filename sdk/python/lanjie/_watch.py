"""Watches of organisations, and alerts, as messages and back."""

import datetime
import enum
from collections.abc import Iterable
from dataclasses import dataclass

from lanjie._context import encodable
from lanjie.errors import InvalidArgument
from lanjie.v1 import watch_pb2 as pb
from lanjie_matcher.identifiers import Identifier


class AlertKind(enum.Enum):
    """What an alert tells; see ``watch.proto``."""

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
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """A watch as the gateway keeps it.

    Attributes:
        watch_id: its id.
        masked_subject: masked identifier.
        matter: code of the matter.
        case_no: number of the case.
        purpose: why.
        since: first day in Shanghai.
        until: last day, inclusive.
        ended_at: when the department ended it; `None` before.
        repeated: it was there before, just so.
    """

    watch_id: str
    masked_subject: str
    matter: str
    case_no: str
    purpose: str
    since: datetime.date
    until: datetime.date
    ended_at: datetime.datetime | None
    repeated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One thing that the department is to know of (Art. 48).

    Attributes:
        number: its number among those of the department, without gaps.
        kind: what it tells.
        matter: code of the matter.
        case_no: number of the case.
        watch_id: id of the watch; empty for a pass that was overtaken.
        decision_id: id of the decision that told the pass; empty for a watch.
        masked_subject: masked identifier of the organisation.
        listing_id: id of the listing.
        list_type: code of its list type.
        authority: who decided it.
        decision_no: number of its decision.
        outcome_before: name of what the listing alone bore before; ``PASS`` for nothing.
        outcome: the same now.
        objection: an objection is open (Art. 64).
        revision: of the ledger that it rests on.
        at: when it was so.
    """

    number: int
    kind: AlertKind
    matter: str
    case_no: str
    watch_id: str
    decision_id: str
    masked_subject: str
    listing_id: str
    list_type: str
    authority: str
    decision_no: str
    outcome_before: str
    outcome: str
    objection: bool
    revision: int
    at: datetime.datetime


def register_request(
    identifier: str | Identifier,
    *,
    matter: str,
    purpose: str,
    until: datetime.date,
    since: datetime.date | None,
    case_no: str,
    handling_region: str,
) -> pb.RegisterRequest:
    """Return the message that begins a watch.

    Raises:
        InvalidArgument: ``encoding``.
    """
    text = identifier.reveal() if isinstance(identifier, Identifier) else identifier
    for field, value in (("identifier", text), ("purpose", purpose), ("case_no", case_no)):
        encodable(field, value)
    return pb.RegisterRequest(
        identifier=text,
        matter=matter,
        purpose=purpose,
        until_date=until.isoformat(),
        from_date="" if since is None else since.isoformat(),
        case_no=case_no,
        handling_region=handling_region,
    )


def acknowledge_request(numbers: Iterable[int], up_to: int) -> pb.AcknowledgeRequest:
    """Return the message that acknowledges alerts.

    Raises:
        InvalidArgument: a number is none.
    """
    try:
        return pb.AcknowledgeRequest(numbers=numbers, up_to=up_to)
    except (TypeError, ValueError):
        raise InvalidArgument(
            "alerts are named by their numbers", metadata={"field": "numbers", "rule": "type"}
        ) from None


def read_watch(message: pb.Watch, *, repeated: bool = False) -> Watch:
    """Return a watch."""
    ended = message.ended_time.ToDatetime(datetime.UTC) if message.HasField("ended_time") else None
    return Watch(
        watch_id=message.watch_id,
        masked_subject=message.masked_subject,
        matter=message.matter,
        case_no=message.case_no,
        purpose=message.purpose,
        since=datetime.date.fromisoformat(message.from_date),
        until=datetime.date.fromisoformat(message.until_date),
        ended_at=ended,
        repeated=repeated,
    )


def read_alert(message: pb.Alert) -> Alert:
    """Return an alert; one of a kind that a newer gateway knows is told as `AlertKind.UNKNOWN`."""
    known = message.kind in pb.AlertKind.values() and message.kind
    name = pb.AlertKind.Name(message.kind).removeprefix("ALERT_KIND_") if known else "UNKNOWN"
    return Alert(
        number=message.number,
        kind=AlertKind[name],
        matter=message.matter,
        case_no=message.case_no,
        watch_id=message.watch_id,
        decision_id=message.decision_id,
        masked_subject=message.masked_subject,
        listing_id=message.listing_id,
        list_type=message.list_type,
        authority=message.authority,
        decision_no=message.decision_no,
        outcome_before=message.outcome_before,
        outcome=message.outcome,
        objection=message.objection,
        revision=message.revision,
        at=message.alert_time.ToDatetime(datetime.UTC),
    )
