"""FeedbackService: messages to reports, and back."""

from typing import Any

from lanjie.v1 import feedback_pb2 as pb
from lanjie.v1 import feedback_pb2_grpc
from lanjie_gateway.api.auth import caller
from lanjie_gateway.api.messages import date_text, instant_in, timestamp
from lanjie_gateway.domain.feedback import Disposition, Report, Settled
from lanjie_gateway.services.feedback import FeedbackService, Outstanding

_DISPOSITIONS = {
    Disposition.APPLIED: pb.DISPOSITION_APPLIED,
    Disposition.PARTLY: pb.DISPOSITION_PARTLY,
    Disposition.NOT_APPLIED: pb.DISPOSITION_NOT_APPLIED,
}
_LISTED = 100


class FeedbackServicer(feedback_pb2_grpc.FeedbackServiceServicer):
    """Takes feedback.

    Args:
        service: keeps it.
    """

    def __init__(self, service: FeedbackService) -> None:
        self._service = service

    async def Report(self, request: pb.ReportRequest, context: Any) -> pb.ReportResponse:
        """Take what was done about one answer."""
        settled, record_id = await self._service.report(caller(context), request.decision_id, _report(request))
        return pb.ReportResponse(listings=map(_listing, settled), record_id=record_id)

    async def ListOutstanding(self, request: pb.ListOutstandingRequest, context: Any) -> pb.ListOutstandingResponse:
        """List what is missing."""
        found, counts = await self._service.outstanding(
            caller(context), request.department, overdue_only=request.overdue, limit=request.limit or _LISTED
        )
        return pb.ListOutstandingResponse(
            outstanding=map(_outstanding, found),
            counts=[
                pb.OutstandingCount(department=name, of_a_day=each.of_a_day, older=each.older, overdue=each.overdue)
                for name, each in sorted(counts.items())
            ],
        )


def _report(request: pb.ReportRequest) -> Report:
    confirmed = instant_in(request, "confirmed_time")
    return Report(
        officer=request.officer_id,
        applied=frozenset(request.applied_measures),
        listings=frozenset(request.listing_ids),
        reason=request.reason,
        text=request.text,
        case_refused=request.case_refused,
        confirmed_by=request.confirmed_by,
        confirmed_at=confirmed,
        corrects=request.corrects,
    )


def _listing(settled: Settled) -> pb.ListingFeedback:
    return pb.ListingFeedback(
        listing_id=settled.asked.listing,
        disposition=_DISPOSITIONS[settled.disposition],
        applied_measures=sorted(settled.report.applied),
        alarms=[alarm.value for alarm in settled.alarms],
        repeated=settled.repeated,
    )


def _outstanding(found: Outstanding) -> pb.OutstandingFeedback:
    asked = found.asked
    return pb.OutstandingFeedback(
        decision_id=asked.decision_id,
        listing_id=asked.listing,
        department=asked.department,
        matter=asked.matter,
        outcome=asked.outcome,
        measures=asked.measures,
        confirmation_required=asked.person,
        decided_time=timestamp(asked.decided_at),
        due_date=date_text(found.due_on),
        overdue=found.overdue,
    )
