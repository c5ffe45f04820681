"""ScreeningService: messages to questions, answers to messages."""

import datetime
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from lanjie.v1 import screening_pb2 as pb
from lanjie.v1 import screening_pb2_grpc
from lanjie_gateway.api.auth import caller, came_by
from lanjie_gateway.api.messages import date_text, timestamp
from lanjie_gateway.domain.access import Principal
from lanjie_gateway.domain.records import DIGEST_ALGORITHM
from lanjie_gateway.domain.remedies import channel_of, remedies_of, told
from lanjie_gateway.services.screening import Answer, Inquiry, Party, ScreeningService
from lanjie_matcher.catalogues import APPLICANT, Effect, ListType
from lanjie_matcher.civil_time import day_of
from lanjie_matcher.decide import Applied, Outcome
from lanjie_matcher.grants import Claim
from lanjie_matcher.listings import Listing

MODES: Final = {
    pb.INQUIRY_MODE_UNSPECIFIED: "ex_officio",
    pb.INQUIRY_MODE_EX_OFFICIO: "ex_officio",
    pb.INQUIRY_MODE_AUTHORISED: "authorised",
    pb.INQUIRY_MODE_SELF: "self",
}
_EFFECTS: Final = {
    Effect.ADVISE: pb.EFFECT_ADVISE,
    Effect.HEIGHTEN: pb.EFFECT_HEIGHTEN,
    Effect.RESTRICT: pb.EFFECT_RESTRICT,
    Effect.DENY: pb.EFFECT_DENY,
}


class ScreeningServicer(screening_pb2_grpc.ScreeningServiceServicer):
    """Serves checks.

    Args:
        service: answers them.
        discover: what `Discover` says of this gateway, to those who came by ``tls``, ``socket`` or ``plain``.
        draw: takes the tokens of a caller and its officer for some checks; refuses when there are none.
        objection_channel: where to object to listings whose list type names no channel.
    """

    def __init__(
        self,
        service: ScreeningService,
        discover: Callable[[str], pb.DiscoverResponse],
        draw: Callable[[Principal, str, int], Awaitable[None]],
        objection_channel: str = "",
    ) -> None:
        self._service = service
        self._discover = discover
        self._draw = draw
        self._channel = objection_channel

    async def Check(self, request: pb.CheckRequest, context: Any) -> pb.CheckResponse:
        """Answer one question."""
        await self._draw(caller(context), request.context.officer.officer_id, 1)
        answer = await self._service.check(
            caller(context),
            Party(identifier=request.subject.identifier, name=request.subject.name),
            _inquiry(request.context),
            request.at_least_revision,
        )
        return pb.CheckResponse(decision=_decision(answer, self._channel))

    async def BatchCheck(self, request: pb.BatchCheckRequest, context: Any) -> pb.BatchCheckResponse:
        """Answer questions that share a context."""
        await self._draw(caller(context), request.context.officer.officer_id, len(request.subjects))
        answers, revision = await self._service.check_batch(
            caller(context),
            [Party(identifier=each.identifier, name=each.name) for each in request.subjects],
            _inquiry(request.context),
            at_least_revision=request.at_least_revision,
            pinned=request.pinned_revision,
        )
        return pb.BatchCheckResponse(
            decisions=[_decision(answer, self._channel) for answer in answers], revision=revision
        )

    async def Discover(self, request: pb.DiscoverRequest, context: Any) -> pb.DiscoverResponse:
        """Say where the other services listen."""
        del request
        caller(context)
        return self._discover(came_by(context))


def _decision(answer: Answer, channel: str) -> pb.Decision:
    ruling = answer.ruling
    remedies, channels = told(ruling.listings, partial(_list_type, answer), channel)
    decision = pb.Decision(
        outcome=pb.Outcome.Value(f"OUTCOME_{ruling.outcome.name}"),
        instruction=ruling.instruction,
        measures=[_measure(each) for each in ruling.measures],
        listings=[_listing(each, answer, channel) for each in ruling.listings],
        confirmation_required=ruling.confirmation_required,
        officer_verifies=ruling.officer_verifies,
        missing_facts=[
            pb.MissingFact(listing_id=each.listing.id, measure_code=each.measure.code, fact=each.fact)
            for each in ruling.missing
        ],
        warnings=answer.warnings,
        source=pb.SOURCE_GATEWAY,
        revision=answer.revision,
        epoch=answer.epoch,
        lineage=answer.lineage,
        as_of_time=timestamp(answer.as_of),
        decided_time=timestamp(answer.decided_at),
        decision_id=answer.decision_id,
        record_digest=answer.record_digest,
        digest_algorithm=DIGEST_ALGORITHM,
        catalogue_editions=ruling.editions,
        masked_identifier=answer.masked,
        remedies=remedies,
        objection_channel=channels,
    )
    if ruling.outcome is Outcome.UNDETERMINED:
        assert ruling.reason is not None and answer.resolve_by is not None  # noqa: S101, PT018  they come together
        decision.undetermined_reason = pb.UndeterminedReason.Value(f"UNDETERMINED_REASON_{ruling.reason.name}")
        decision.resolve_by_time.CopyFrom(timestamp(answer.resolve_by))
    return decision


def officer_claim(context: pb.InquiryContext) -> Claim:
    """Return what a question says of the officer at the counter."""
    claim = context.officer
    return Claim(
        officer=claim.officer_id,
        expires=claim.expires_time.seconds,
        signature=claim.signature,
        algorithm=claim.algorithm,
    )


def _inquiry(context: pb.InquiryContext) -> Inquiry:
    as_of = context.as_of_time.ToDatetime(datetime.UTC) if context.HasField("as_of_time") else None
    return Inquiry(
        matter=context.matter,
        purpose=context.purpose,
        mode=MODES.get(context.mode, "unknown"),
        case_no=context.case_no,
        role=context.role or APPLICANT,
        handling_region=context.handling_region,
        officer=officer_claim(context),
        as_of=as_of,
        authorisation=context.authorisation_id,
        request=context.request_id,
    )


def _measure(applied: Applied) -> pb.AppliedMeasure:
    measure, edition = applied.measure, applied.edition
    return pb.AppliedMeasure(
        code=measure.code,
        title=measure.title,
        content=measure.content,
        effect=_EFFECTS[measure.effect],
        basis=measure.basis,
        department=measure.department,
        instruction=measure.instruction,
        catalogue=edition.name,
        publication=f"{edition.publication_number} {edition.publication_date.isoformat()}",
        listing_ids=[listing.id for listing in applied.listings],
    )


def _list_type(answer: Answer, code: str) -> ListType | None:
    return answer.catalogues.list_type(code, day_of(answer.as_of))


def _listing(listing: Listing, answer: Answer, channel: str) -> pb.ListingEvidence:
    list_type = _list_type(answer, listing.list_type)
    return pb.ListingEvidence(
        listing_id=listing.id,
        list_type=listing.list_type,
        list_type_name=list_type.name if list_type else "",
        authority=listing.authority,
        decision_no=listing.decision_no,
        decision_date=date_text(listing.decision_date),
        listed_date=date_text(listing.listed_on),
        expires_date=date_text(listing.expires_on),
        reason=listing.reason,
        basis=listing.basis,
        removal_conditions=listing.removal_conditions,
        remedies=remedies_of(listing, list_type),
        objection=listing.objection,
        source=listing.source,
        sanction_no=listing.sanction_no,
        sanction_end_date=date_text(listing.sanction_to),
        objection_channel=channel_of(list_type, channel),
    )
