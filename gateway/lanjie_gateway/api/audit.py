"""AuditService: explanations to messages."""

from typing import Any

from lanjie.v1 import audit_pb2 as pb
from lanjie.v1 import audit_pb2_grpc
from lanjie_gateway.api.auth import caller
from lanjie_gateway.api.messages import date_text, timestamp
from lanjie_gateway.domain.explanation import Answered, Explanation, Step
from lanjie_gateway.services.explaining import ExplanationService
from lanjie_matcher.listings import Listing


class AuditServicer(audit_pb2_grpc.AuditServiceServicer):
    """Tells why something was answered.

    Args:
        service: explains answers.
    """

    def __init__(self, service: ExplanationService) -> None:
        self._service = service

    async def Explain(self, request: pb.ExplainRequest, context: Any) -> pb.ExplainResponse:
        """Explain one past answer."""
        return _message(await self._service.explain(request.decision_id, request.purpose, caller(context)))


def _message(found: Explanation) -> pb.ExplainResponse:
    message = pb.ExplainResponse(
        decision_id=found.decision_id,
        kind=found.kind,
        decided_time=timestamp(found.decided_at),
        department=found.department,
        matter=found.matter,
        role=found.role,
        handling_region=found.region,
        lineage=found.lineage,
        epoch=min(found.epoch, 0xFFFF_FFFF),
        revision=found.revision,
        reproduced=found.reproduced,
        recorded=_answer(found.recorded),
        differences=found.differences,
        obstacles=found.obstacles,
        steps=map(_step, found.steps),
        listings=map(_listing, found.listings),
        record_id=found.record_id,
    )
    if found.as_of is not None:
        message.as_of_time.CopyFrom(timestamp(found.as_of))
    if found.replayed is not None:
        message.replayed.CopyFrom(_answer(found.replayed))
    return message


def _answer(answer: Answered) -> pb.ExplainedAnswer:
    return pb.ExplainedAnswer(
        outcome=answer.outcome,
        reason=answer.reason,
        measures=answer.measures,
        listings=answer.listings,
        catalogues=answer.catalogues,
        warnings=answer.warnings,
    )


def _step(step: Step) -> pb.ExplainedStep:
    message = pb.ExplainedStep(number=step.number, title=step.title, article=step.article)
    for finding, text in step.findings:
        message.findings.add(
            verdict=finding.verdict,
            text=text,
            listing_id=finding.listing,
            measure=finding.measure,
            catalogue=finding.edition,
            detail=finding.detail,
        )
    return message


def _listing(listing: Listing) -> pb.ExplainedListing:
    return pb.ExplainedListing(
        listing_id=listing.id,
        list_type=listing.list_type,
        authority=listing.authority,
        decision_no=listing.decision_no,
        begins_date=date_text(listing.begins_on),
    )
