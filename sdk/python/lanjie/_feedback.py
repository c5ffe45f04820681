"""What follows an answer: feedback on what was done about it, and the receipt of it, as messages and back."""

import datetime
import enum
from collections.abc import Iterable
from dataclasses import dataclass

from lanjie._context import encodable
from lanjie.decision import Decision
from lanjie.errors import InvalidArgument
from lanjie.v1 import feedback_pb2 as pb
from lanjie.v1 import receipt_pb2
from lanjie_matcher.identifiers import Identifier


class Disposition(enum.Enum):
    """What became of the measures that a listing bears in an answer."""

    APPLIED = "applied"
    PARTLY = "partly"
    NOT_APPLIED = "not_applied"


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """What the gateway took for one listing of an answer.

    Attributes:
        listing_id: id of the listing; empty for an undetermined answer.
        disposition: what became of its measures.
        applied: codes of those that were applied.
        alarms: what somebody has to look at: ``applied-on-advice``, ``refused-without-interception``.
        repeated: the same was told before; nothing changed.
    """

    listing_id: str
    disposition: Disposition
    applied: tuple[str, ...]
    alarms: tuple[str, ...]
    repeated: bool


def request_of(
    decision_id: str,
    *,
    officer: str,
    applied: Iterable[str],
    listings: Iterable[str],
    reason: str,
    text: str,
    case_refused: bool,
    confirmed_by: str,
    confirmed_at: datetime.datetime | None,
    corrects: bool,
) -> pb.ReportRequest:
    """Return the message of a report.

    Raises:
        InvalidArgument: ``zone``, ``encoding``, or codes given as one text.
    """
    for field, value in (("applied", applied), ("listings", listings)):
        if isinstance(value, str):
            raise InvalidArgument(f"{field} is a list of codes", metadata={"field": field, "rule": "type"})
    said = {"decision_id": decision_id, "officer": officer, "reason": reason, "text": text}
    for field, value in {**said, "confirmed_by": confirmed_by}.items():
        encodable(field, value)
    request = pb.ReportRequest(
        decision_id=decision_id,
        listing_ids=listings,
        applied_measures=applied,
        reason=reason,
        text=text,
        officer_id=officer,
        case_refused=case_refused,
        confirmed_by=confirmed_by,
        corrects=corrects,
    )
    if confirmed_at is not None:
        if confirmed_at.tzinfo is None:
            raise InvalidArgument("an instant states its zone", metadata={"field": "confirmed_at", "rule": "zone"})
        request.confirmed_time.FromDatetime(confirmed_at.astimezone(datetime.UTC))
    return request


def read_response(response: pb.ReportResponse) -> tuple[Feedback, ...]:
    """Return what the gateway took, by listing."""
    return tuple(
        Feedback(
            listing_id=each.listing_id,
            disposition=Disposition[pb.Disposition.Name(each.disposition).removeprefix("DISPOSITION_")],
            applied=tuple(each.applied_measures),
            alarms=tuple(each.alarms),
            repeated=each.repeated,
        )
        for each in response.listings
    )


def receipt_request(answers: Iterable[tuple[Decision, str | Identifier]]) -> receipt_pb2.IssueRequest:
    """Return the message that asks for the receipt of answers, each with the identifier it is about.

    Raises:
        InvalidArgument: ``encoding``.
    """
    request = receipt_pb2.IssueRequest()
    for decision, identifier in answers:
        text = identifier.reveal() if isinstance(identifier, Identifier) else identifier
        encodable("identifier", text)
        request.items.add(decision_id=decision.decision_id, identifier=text)
    return request
