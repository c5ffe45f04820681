"""ListingService over gRPC: messages in, messages out; all rules are in the services."""

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import grpc

from lanjie.v1 import listing_pb2, listing_pb2_grpc, subject_pb2
from lanjie_gateway.adapters.ledger import Proposal, StoredEvent, is_act
from lanjie_gateway.api.auth import caller
from lanjie_gateway.api.messages import date_text, instant_in, timestamp
from lanjie_gateway.domain.duties import DutyView
from lanjie_gateway.domain.errors import invalid_argument
from lanjie_gateway.domain.event_detail import InstrumentNotice, ObjectionOutcome, Verdict
from lanjie_gateway.domain.events import BURDENS, EventKind
from lanjie_gateway.domain.import_rules import FileFormat, ImportHeader, ImportMode, ImportState, Receipt
from lanjie_gateway.domain.profile import MAX_BYTES as MAX_PROFILE
from lanjie_gateway.services.complaints import ComplaintService
from lanjie_gateway.services.duty import DutyService
from lanjie_gateway.services.event_facts import EventFacts
from lanjie_gateway.services.imports import ImportService
from lanjie_gateway.services.listings import ListingService, ListingView, stated
from lanjie_gateway.services.waiting import WaitingService
from lanjie_matcher.civil_time import day_of
from lanjie_matcher.subjects import SubjectKind

_MAX_DATA: Final = 256 * 1024
_FORMATS: Final = {
    listing_pb2.FILE_FORMAT_CSV: FileFormat.CSV,
    listing_pb2.FILE_FORMAT_JSONL: FileFormat.JSONL,
    listing_pb2.FILE_FORMAT_XLSX: FileFormat.XLSX,
}
_MODES: Final = {
    listing_pb2.IMPORT_MODE_UNSPECIFIED: ImportMode.DELTA,
    listing_pb2.IMPORT_MODE_DELTA: ImportMode.DELTA,
    listing_pb2.IMPORT_MODE_FULL: ImportMode.FULL,
}
_STATES: Final = {state: listing_pb2.ImportState.Value(f"IMPORT_STATE_{state.name}") for state in ImportState}
_KINDS: Final = {kind: subject_pb2.SubjectKind.Value(f"SUBJECT_KIND_{kind.name}") for kind in SubjectKind}
_EVENTS: Final = {kind: listing_pb2.ListingEventKind.Value(f"LISTING_EVENT_KIND_{kind.name}") for kind in EventKind}
_EVENT_OF: Final = {number: kind for kind, number in _EVENTS.items()}
_OUTCOMES: Final = {
    each: listing_pb2.ObjectionOutcome.Value(f"OBJECTION_OUTCOME_{each.name}") for each in ObjectionOutcome
}
_OUTCOME_OF: Final = {number: each for each, number in _OUTCOMES.items()}
_NOTICES: Final = {
    each: listing_pb2.InstrumentNotice.Value(f"INSTRUMENT_NOTICE_{each.name}") for each in InstrumentNotice
}
_NOTICE_OF: Final = {number: each for each, number in _NOTICES.items()}


class ListingServicer(listing_pb2_grpc.ListingServiceServicer):
    """Listings and imports.

    Args:
        listings: finds, reads and ends listings.
        imports: takes files.
        waiting: what waits for a second person.
        duties: lists what events oblige to.
        complaints: of subjects; none are told without it.
    """

    def __init__(
        self,
        listings: ListingService,
        imports: ImportService,
        waiting: WaitingService,
        duties: DutyService,
        complaints: ComplaintService | None = None,
    ) -> None:
        self._listings = listings
        self._imports = imports
        self._waiting = waiting
        self._duties = duties
        self._complaints = complaints

    async def Import(
        self, request_iterator: AsyncIterator[listing_pb2.ImportRequest], context: grpc.aio.ServicerContext[Any, Any]
    ) -> listing_pb2.ImportResponse:
        """Take one file: a header, then its bytes."""
        principal = caller(context)
        requests = aiter(request_iterator)
        first = await anext(requests, None)
        if first is None or first.WhichOneof("part") != "header":
            raise invalid_argument("header", "required", "the first message is the header")
        receipt = await self._imports.run(_header(first.header), _data(requests), principal)
        return listing_pb2.ImportResponse(receipt=_receipt(receipt))

    async def Confirm(
        self, request: listing_pb2.ConfirmRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> listing_pb2.ConfirmResponse:
        """Commit what waits."""
        if is_act(request.receipt_id):
            act = await self._waiting.confirm(request.receipt_id, caller(context))
            view = await self._listings.seen(act.listing_id, caller(context))
            return listing_pb2.ConfirmResponse(act=_act(act), listing=_listing(view))
        receipt = await self._imports.confirm(request.receipt_id, caller(context))
        return listing_pb2.ConfirmResponse(receipt=_receipt(receipt))

    async def Decline(
        self, request: listing_pb2.DeclineRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> listing_pb2.DeclineResponse:
        """Give up what waits."""
        stated("reason", request.reason, 500)
        if is_act(request.receipt_id):
            act = await self._waiting.decline(request.receipt_id, request.reason, caller(context))
            return listing_pb2.DeclineResponse(act=_act(act))
        receipt = await self._imports.decline(request.receipt_id, request.reason, caller(context))
        return listing_pb2.DeclineResponse(receipt=_receipt(receipt))

    async def ListWaiting(
        self, request: listing_pb2.ListWaitingRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> listing_pb2.ListWaitingResponse:
        """Show what waits."""
        principal = caller(context)
        if not request.receipt_id:
            return listing_pb2.ListWaitingResponse(
                imports=[_receipt(each) for each in await self._imports.waiting(principal)],
                acts=[_act(each) for each in await self._waiting.all(principal)],
            )
        if is_act(request.receipt_id):
            act, after = await self._waiting.show(request.receipt_id, principal)
            corrected = [] if after is None else [_listing(self._listings.view(after, principal))]
            standing = _listing(await self._listings.seen(act.listing_id, principal))
            return listing_pb2.ListWaitingResponse(acts=[_act(act)], listings=corrected, standing=standing)
        receipt = await self._imports.receipt(request.receipt_id, principal)
        staged = await self._imports.staged(receipt) if receipt.state is ImportState.WAITING else []
        return listing_pb2.ListWaitingResponse(
            imports=[_receipt(receipt)], listings=[_listing(self._listings.view(each, principal)) for each in staged]
        )

    async def Find(
        self, request: listing_pb2.FindRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> listing_pb2.FindResponse:
        """Find the listings of one identifier."""
        found = await self._listings.find(request.identifier, request.purpose, caller(context))
        return listing_pb2.FindResponse(listings=[_listing(view) for view in found])

    async def Get(
        self, request: listing_pb2.GetRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> listing_pb2.GetResponse:
        """Read one listing with its events."""
        view, events = await self._listings.get(request.listing_id, request.purpose, caller(context))
        complaints = await self._complaints.about_listing(request.listing_id) if self._complaints else []
        return listing_pb2.GetResponse(
            listing=_listing(view),
            events=[_event(event) for event in events],
            complaints=[
                listing_pb2.ComplaintMark(
                    complaint_id=each.id,
                    received_date=date_text(day_of(each.received_at)),
                    outcome=each.outcome or "",
                    accountability=each.accountability,
                )
                for each in complaints
            ],
        )

    async def Remove(
        self, request: listing_pb2.RemoveRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> listing_pb2.RemoveResponse:
        """Remove one listing."""
        revision, view = await self._listings.remove(
            request.listing_id, request.reason, request.document, request.effective_date, caller(context)
        )
        return listing_pb2.RemoveResponse(revision=revision, listing=_listing(view))

    async def RecordEvent(
        self, request: listing_pb2.RecordEventRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> listing_pb2.RecordEventResponse:
        """Record another event."""
        principal = caller(context)
        kind = _EVENT_OF.get(request.kind)
        if kind is None:
            raise invalid_argument("kind", "required", "the kind of event is missing")
        if kind in BURDENS:
            grounds = (request.reason, request.document, request.effective_date)
            act = self._listings.act(kind, grounds, principal)
            waiting = await self._waiting.propose(request.listing_id, act, dict(request.corrections), principal)
            view = await self._listings.seen(request.listing_id, principal)
            return listing_pb2.RecordEventResponse(listing=_listing(view), waiting=_act(waiting))
        revision, view = await self._listings.record_event(
            request.listing_id,
            kind,
            reason=request.reason,
            document=request.document,
            effective_date=request.effective_date,
            principal=principal,
            facts=_facts(request),
        )
        return listing_pb2.RecordEventResponse(revision=revision, listing=_listing(view))

    async def ListDuties(
        self, request: listing_pb2.ListDutiesRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> listing_pb2.ListDutiesResponse:
        """List what events oblige to."""
        found = await self._duties.find(
            caller(context), overdue_only=request.overdue, rule=request.rule, late=request.late
        )
        return listing_pb2.ListDutiesResponse(duties=[_duty(each, self._duties.bound(each.rule)) for each in found])


async def _data(requests: AsyncIterator[listing_pb2.ImportRequest]) -> AsyncIterator[bytes]:
    async for request in requests:
        if request.WhichOneof("part") != "data":
            raise invalid_argument("data", "order", "after the header only bytes of the file follow")
        if len(request.data) > _MAX_DATA:
            raise invalid_argument("data", "too-long", "a message holds at most 256 KiB of the file")
        yield request.data


def _header(header: listing_pb2.ImportHeader) -> ImportHeader:
    file_format = _FORMATS.get(header.format)
    if file_format is None:
        raise invalid_argument("format", "required", "the format of the file is missing or unknown")
    mode = _MODES.get(header.mode)
    if mode is None:
        raise invalid_argument("mode", "unknown", "the mode is unknown")
    if len(header.profile) > MAX_PROFILE:
        raise invalid_argument("profile", "too-large", "a profile has at most 64 KiB")
    as_of = instant_in(header, "as_of_time")
    return ImportHeader(
        file_name=header.file_name,
        format=file_format,
        list_type=header.list_type,
        source=header.source,
        mode=mode,
        as_of=as_of,
        strict=header.strict,
        dry_run=header.dry_run,
        sha256=header.sha256,
        size=header.size,
        profile=header.profile,
        by_hand=header.by_hand,
    )


def _receipt(receipt: Receipt) -> listing_pb2.ImportReceipt:
    counts = receipt.counts
    return listing_pb2.ImportReceipt(
        receipt_id=receipt.receipt_id,
        state=_STATES[receipt.state],
        revision=receipt.revision,
        rows=counts.rows,
        added=counts.added,
        amended=counts.amended,
        removed=counts.removed,
        absent=counts.absent,
        unchanged=counts.unchanged,
        quarantined=counts.quarantined,
        quarantine=[
            listing_pb2.QuarantinedRow(line=row.line, column=row.column, rule=row.rule, message=row.message)
            for row in receipt.quarantine
        ],
        reasons=receipt.reasons,
        repeated_file=receipt.repeated,
        file_name=receipt.file_name,
        received_time=timestamp(receipt.received_at),
        importer=receipt.importer,
    )


def _act(proposal: Proposal) -> listing_pb2.WaitingAct:
    act = proposal.act
    return listing_pb2.WaitingAct(
        act_id=proposal.id,
        listing_id=proposal.listing_id,
        kind=_EVENTS[act.kind],
        effective_date="" if act.effective_at is None else date_text(day_of(act.effective_at)),
        actor=act.actor,
        proposed_time=timestamp(proposal.proposed_at),
        reason=act.reason,
        document=act.document,
        corrected_columns=act.detail.get("columns", ()),
        state=proposal.state,
        settled_by=proposal.settled_by,
        revision=proposal.revision,
    )


def _listing(view: ListingView) -> listing_pb2.Listing:
    listing, details = view.listing, view.details
    return listing_pb2.Listing(
        listing_id=listing.id,
        masked_identifiers=view.masked_identifiers,
        name=view.name,
        subject_kind=_KINDS[listing.subject_kind],
        list_type=listing.list_type,
        decision_no=listing.decision_no,
        authority=listing.authority,
        authority_uscc=details.authority_uscc,
        reason=listing.reason,
        basis=listing.basis,
        notice_date=date_text(details.notice_date),
        decision_date=date_text(listing.decision_date),
        served_date=date_text(listing.served_date),
        listed_date=date_text(listing.listed_on),
        expires_date=date_text(listing.expires_on),
        publicity_end_date=date_text(listing.publicity_until),
        retention_end_date=date_text(listing.retention_until),
        removal_conditions=listing.removal_conditions,
        remedies=listing.remedies,
        measure_hints=details.measure_hints,
        region=listing.region,
        sanction_no=listing.sanction_no,
        sanction_kind=listing.sanction_kind,
        sanction_start_date=date_text(listing.sanction_from),
        sanction_end_date=date_text(listing.sanction_to),
        source=listing.source,
        source_record_id=details.source_record_id,
        source_version=view.source_version,
        related_persons=view.related_persons,
        in_force=not view.not_in_force,
        not_in_force_reason=view.not_in_force,
        objection=listing.objection,
        revision=view.revision,
    )


def _event(event: StoredEvent) -> listing_pb2.ListingEvent:
    return listing_pb2.ListingEvent(
        kind=_EVENTS[event.kind],
        effective_time=timestamp(event.effective_at),
        recorded_time=timestamp(event.recorded_at),
        actor=event.actor,
        reason=event.reason,
        document=event.document,
        revision=event.revision,
        second_person=event.second,
        **_told(event.detail),
    )


def _told(detail: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of an event that its detail fills."""
    told = {name: detail[key] for name, key in _TOLD.items() if key in detail}
    if "outcome" in detail:
        told["objection_outcome"] = _OUTCOMES[ObjectionOutcome(detail["outcome"])]
    if "what" in detail:
        told["notice"] = _NOTICES[InstrumentNotice(detail["what"])]
    return told | {"contested": detail.get("verdict") == Verdict.CONTESTED}


_TOLD: Final = {
    "until_date": "until",
    "reply": "reply",
    "instrument_date": "instrument_date",
    "reviewed_revision": "revision",
}


def _facts(request: listing_pb2.RecordEventRequest) -> EventFacts:
    # An enum value that is not known here says nothing, and is missed where it is required.
    return EventFacts(
        until_date=request.until_date,
        objection_outcome=_OUTCOME_OF.get(request.objection_outcome),
        reply=request.reply,
        notice=_NOTICE_OF.get(request.notice),
        instrument_date=request.instrument_date,
        reviewed_revision=request.reviewed_revision,
        contested=request.contested,
    )


def _duty(view: DutyView, bound: str) -> listing_pb2.Duty:
    return listing_pb2.Duty(
        rule=view.rule.value,
        listing_id=view.listing_id,
        list_type=view.list_type,
        bound=bound,
        started_date=date_text(view.started_on),
        due_date=date_text(view.due_on),
        provisional=view.provisional,
        overdue=view.overdue,
        closed_date=date_text(view.closed_on),
        late=view.late,
        revision=view.revision,
    )
