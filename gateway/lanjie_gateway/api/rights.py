"""RightsService: reports, readings, authorisations and complaints to messages."""

import datetime
from collections.abc import Callable
from typing import Any

from lanjie.v1 import rights_pb2 as pb
from lanjie.v1 import rights_pb2_grpc
from lanjie_gateway.adapters.ledger import StoredEvent
from lanjie_gateway.api.auth import caller
from lanjie_gateway.api.messages import date_text, instant_in, timestamp
from lanjie_gateway.domain.access import Principal
from lanjie_gateway.domain.authorisations import Authorisation
from lanjie_gateway.domain.complaints import Complaint
from lanjie_gateway.domain.duties import DutyView
from lanjie_gateway.domain.events import EventKind
from lanjie_gateway.domain.remedies import channel_of, remedies_of
from lanjie_gateway.domain.subject_report import Proof, ReportedInquiry
from lanjie_gateway.services.authorisations import AuthorisationService, Order
from lanjie_gateway.services.complaints import ComplaintService
from lanjie_gateway.services.rights import OwnListing, ReadListing, Report, RightsService
from lanjie_matcher.catalogues import CatalogueSet
from lanjie_matcher.civil_time import day_of
from lanjie_matcher.identifiers import parse


class RightsServicer(rights_pb2_grpc.RightsServiceServicer):
    """Serves what subjects may know, allow and complain of.

    Args:
        rights: reports and readings.
        authorisations: of subjects.
        complaints: of subjects.
        catalogues: gives the catalogues as they stand.
        clock: aware instants.
        bound: who has to act by the rule of a duty, in words.
        department: name of a department by its code; empty where it is not known.
        objection_channel: where to object to listings whose list type names no channel.
        granted: gives a caller with what its department is granted now.
    """

    def __init__(
        self,
        rights: RightsService,
        authorisations: AuthorisationService,
        complaints: ComplaintService,
        *,
        catalogues: Callable[[], CatalogueSet],
        clock: Callable[[], datetime.datetime],
        bound: Callable[[Any], str],
        department: Callable[[str], str],
        objection_channel: str,
        granted: Callable[[Principal], Principal] = lambda principal: principal,
    ) -> None:
        self._rights = rights
        self._authorisations = authorisations
        self._complaints = complaints
        self._catalogues = catalogues
        self._clock = clock
        self._bound = bound
        self._department = department
        self._channel = objection_channel
        self._granted = granted

    async def RegisterAuthorisation(
        self, request: pb.RegisterAuthorisationRequest, context: Any
    ) -> pb.RegisterAuthorisationResponse:
        """Register an authorisation."""
        order = Order(
            department=request.department,
            identifier=request.identifier,
            matters=request.matters,
            purpose=request.purpose,
            document_no=request.document_number,
            document_date=request.document_date,
            document_sha256=request.document_sha256,
            valid_until=request.valid_until_date,
            uses=request.uses,
        )
        kept = await self._authorisations.register(order, self._caller(context))
        return pb.RegisterAuthorisationResponse(authorisation=_authorisation(kept))

    async def WithdrawAuthorisation(
        self, request: pb.WithdrawAuthorisationRequest, context: Any
    ) -> pb.WithdrawAuthorisationResponse:
        """End an authorisation."""
        left = await self._authorisations.withdraw(request.authorisation_id, request.reason, self._caller(context))
        return pb.WithdrawAuthorisationResponse(authorisation=_authorisation(left))

    async def GetAuthorisation(self, request: pb.GetAuthorisationRequest, context: Any) -> pb.GetAuthorisationResponse:
        """Read an authorisation."""
        found = await self._authorisations.get(request.authorisation_id, self._caller(context))
        return pb.GetAuthorisationResponse(authorisation=_authorisation(found))

    async def SubjectReport(self, request: pb.SubjectReportRequest, context: Any) -> pb.SubjectReportResponse:
        """Tell a subject who asked about it, and what is listed of it."""
        report = await self._rights.report(
            request.identifier,
            request.other_identifiers,
            Proof(
                method=request.proof.method,
                proved_at=instant_in(request.proof, "proved_time"),
                reference=request.proof.reference,
            ),
            instant_in(request, "before_time"),
            self._caller(context),
        )
        return self._report(report)

    async def ReadListings(self, request: pb.ReadListingsRequest, context: Any) -> pb.ReadListingsResponse:
        """Read listings in force with the persons marked beside them."""
        record_id, read = await self._rights.read(
            request.identifier, request.purpose, request.case_no, self._caller(context)
        )
        return pb.ReadListingsResponse(record_id=record_id, listings=map(self._read, read))

    async def AddComplaint(self, request: pb.AddComplaintRequest, context: Any) -> pb.AddComplaintResponse:
        """Take a complaint."""
        kept = await self._complaints.add(request.identifier, request.about, request.text, self._caller(context))
        return pb.AddComplaintResponse(complaint=_complaint(kept))

    async def ListComplaints(self, request: pb.ListComplaintsRequest, context: Any) -> pb.ListComplaintsResponse:
        """Read complaints."""
        found = await self._complaints.find(self._caller(context), about=request.about, closed=request.closed)
        return pb.ListComplaintsResponse(complaints=map(_complaint, found))

    async def CloseComplaint(self, request: pb.CloseComplaintRequest, context: Any) -> pb.CloseComplaintResponse:
        """Close a complaint."""
        done = await self._complaints.close(
            request.complaint_id, request.outcome, request.reply, request.accountability, self._caller(context)
        )
        return pb.CloseComplaintResponse(complaint=_complaint(done))

    def _caller(self, context: Any) -> Principal:
        return self._granted(caller(context))

    def _report(self, report: Report) -> pb.SubjectReportResponse:
        return pb.SubjectReportResponse(
            record_id=report.record_id,
            made_time=timestamp(report.made_at),
            masked_identifiers=report.masked_identifiers,
            inquiries=map(self._inquiry, report.inquiries),
            more=report.more,
            listings=map(self._listing, report.listings),
            notes=report.notes,
            objection_channel=channel_of(None, self._channel),
            complaints=map(_own_complaint, report.complaints),
            authorisations=map(_authorisation, report.authorisations),
        )

    def _inquiry(self, each: ReportedInquiry) -> pb.ReportedInquiry:
        matter = self._catalogues().matter(each.matter, day_of(each.at))
        return pb.ReportedInquiry(
            decision_id=each.decision_id,
            decided_time=timestamp(each.at),
            department=each.department,
            department_name=self._department(each.department),
            role=each.role,
            matter=each.matter,
            matter_name=matter.name if matter else "",
            mode=each.mode,
            outcome=each.outcome,
            measures=each.measures,
            listing_ids=each.listings,
            source=each.source,
            revision=each.revision,
            overtaken=each.overtaken,
        )

    def _listing(self, own: OwnListing) -> pb.ReportedListing:
        listing = own.view.listing
        list_type = self._catalogues().list_type(listing.list_type, day_of(self._clock()))
        return pb.ReportedListing(
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
            source=listing.source,
            in_force=not own.view.not_in_force,
            not_in_force_reason=own.view.not_in_force,
            removal_conditions=listing.removal_conditions,
            remedies=remedies_of(listing, list_type),
            objection_channel=channel_of(list_type, self._channel),
            objection=listing.objection,
            events=map(_event, own.events),
            duties=map(self._duty, own.duties),
        )

    def _duty(self, duty: DutyView) -> pb.ReportedDuty:
        return pb.ReportedDuty(
            rule=duty.rule.value,
            bound=self._bound(duty.rule),
            started_date=date_text(duty.started_on),
            due_date=date_text(duty.due_on),
            overdue=duty.overdue,
        )

    def _read(self, each: ReadListing) -> pb.ReadListing:
        return pb.ReadListing(
            listing=self._listing(OwnListing(view=each.view)),
            measures=[
                pb.ReadMeasure(
                    code=measure.code, title=measure.title, catalogue=edition.name, matters=sorted(measure.matters)
                )
                for edition, measure in each.measures
            ],
            related_persons=each.related_persons,
        )


def _authorisation(found: Authorisation) -> pb.Authorisation:
    message = pb.Authorisation(
        authorisation_id=found.id,
        department=found.department,
        masked_identifier=parse(found.identifier).masked,
        matters=found.matters,
        purpose=found.purpose,
        document_number=found.document_no,
        document_date=date_text(found.document_date),
        valid_until_date=date_text(found.valid_until),
        uses=found.uses,
        used=found.used,
        registered_time=timestamp(found.registered_at),
    )
    if found.withdrawn_at is not None:
        message.withdrawn_time.CopyFrom(timestamp(found.withdrawn_at))
    return message


def _complaint(found: Complaint) -> pb.Complaint:
    message = pb.Complaint(
        complaint_id=found.id,
        about=found.about,
        masked_identifier=parse(found.identifier).masked,
        text=found.text,
        received_time=timestamp(found.received_at),
        received_by=found.received_by,
        outcome=found.outcome or "",
        reply=found.reply,
        accountability=found.accountability,
        closed_by=found.closed_by,
    )
    if found.closed_at is not None:
        message.closed_time.CopyFrom(timestamp(found.closed_at))
    return message


def _own_complaint(found: Complaint) -> pb.ReportedComplaint:
    return pb.ReportedComplaint(
        complaint_id=found.id,
        received_date=date_text(day_of(found.received_at)),
        about=found.about,
        outcome=found.outcome or "",
        reply=found.reply,
    )


def _event(event: StoredEvent) -> pb.ReportedEvent:
    closed = event.kind is EventKind.OBJECTION_CLOSED
    return pb.ReportedEvent(
        kind=event.kind.value,
        effective_time=timestamp(event.effective_at),
        reason=event.reason,
        document=event.document,
        outcome=str(event.detail.get("outcome", "")) if closed else "",
        reply=str(event.detail.get("reply", "")) if closed else "",
    )
