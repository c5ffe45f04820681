"""ScreeningService: messages to questions, answers to messages."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from lanjie.v1 import screening_pb2 as pb
from lanjie.v1 import screening_pb2_grpc
from lanjie_gateway.api.auth import caller, came_by
from lanjie_gateway.api.decisions import Messages
from lanjie_gateway.api.messages import instant_in
from lanjie_gateway.domain.access import Principal, Role
from lanjie_gateway.services.screening import MAX_BATCH, Inquiry, Party, ScreeningService
from lanjie_matcher.catalogues import APPLICANT
from lanjie_matcher.grants import Claim

MODES: Final = {
    pb.INQUIRY_MODE_UNSPECIFIED: "ex_officio",
    pb.INQUIRY_MODE_EX_OFFICIO: "ex_officio",
    pb.INQUIRY_MODE_AUTHORISED: "authorised",
    pb.INQUIRY_MODE_SELF: "self",
}
_INQUIRIES: Final = 1_024
"""Contexts that are remembered."""
_REMEMBERED_BYTES: Final = 4_096
"""Longest of them: whatever may be asked is shorter, and what is refused is not worth the memory."""


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
        self._messages = Messages(objection_channel)
        self._inquiries: dict[bytes, Inquiry] = {}

    # Both answer serialised, as the gate allows.
    async def Check(self, request: pb.CheckRequest, context: Any) -> bytes:  # type: ignore[override]
        """Answer one question."""
        asker, inquiry = caller(context), self._inquiry(request.context)
        asker.require(Role.INQUIRER)
        await self._draw(asker, inquiry.officer.officer, 1)
        party = Party(identifier=request.subject.identifier, name=request.subject.name)
        answered = self._service.check(asker, party, inquiry, request.at_least_revision, shape=self._messages.entry)
        return await answered

    async def BatchCheck(self, request: pb.BatchCheckRequest, context: Any) -> bytes:  # type: ignore[override]
        """Answer questions that share a context."""
        asker, inquiry = caller(context), self._inquiry(request.context)
        asker.require(Role.INQUIRER)
        checks = len(request.subjects)
        # What is refused for its size, below, does not cost the department hours.
        await self._draw(asker, inquiry.officer.officer, checks if checks <= MAX_BATCH else 1)
        entries, revision = await self._service.check_batch(
            asker,
            [Party(identifier=each.identifier, name=each.name) for each in request.subjects],
            inquiry,
            at_least_revision=request.at_least_revision,
            pinned=request.pinned_revision,
            shape=self._messages.entry,
        )
        return b"".join((*entries, pb.BatchCheckResponse(revision=revision).SerializeToString()))

    async def Discover(self, request: pb.DiscoverRequest, context: Any) -> pb.DiscoverResponse:
        """Say where the other services listen."""
        del request
        caller(context)
        return self._discover(came_by(context))

    def _inquiry(self, context: pb.InquiryContext) -> Inquiry:
        """Return what was asked; the same context again gives the same object, whose admission is remembered."""
        said = context.SerializeToString()
        if len(said) > _REMEMBERED_BYTES:
            return _inquiry(context)
        known = self._inquiries.get(said)
        if known is None:
            if len(self._inquiries) >= _INQUIRIES:
                self._inquiries.clear()
            known = self._inquiries[said] = _inquiry(context)
        return known


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
    return Inquiry(
        matter=context.matter,
        purpose=context.purpose,
        mode=MODES.get(context.mode, "unknown"),
        case_no=context.case_no,
        # Blanks name no part: they would be one that no measure names.
        role=context.role.strip() or APPLICANT,
        handling_region=context.handling_region,
        officer=officer_claim(context),
        as_of=instant_in(context, "as_of_time"),
        authorisation=context.authorisation_id,
        request=context.request_id,
    )
