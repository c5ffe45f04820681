"""CalendarService: messages to year files and terms, and back."""

from typing import Any

from lanjie.v1 import calendar_pb2 as pb
from lanjie.v1 import calendar_pb2_grpc
from lanjie_gateway.api.auth import caller
from lanjie_gateway.api.messages import signature_of, timestamp
from lanjie_gateway.domain.access import Role
from lanjie_gateway.domain.errors import invalid_argument
from lanjie_gateway.services.calendar import CalendarService, YearRecord
from lanjie_gateway.services.event_facts import parsed_day


class CalendarServicer(calendar_pb2_grpc.CalendarServiceServicer):
    """Serves working days and deadlines.

    Args:
        service: publishes, reads and counts.
    """

    def __init__(self, service: CalendarService) -> None:
        self._service = service

    async def PublishYear(self, request: pb.PublishYearRequest, context: Any) -> pb.PublishYearResponse:
        """Publish the working days of a year."""
        record, warnings = await self._service.publish(
            request.file,
            request.file_name or "year",
            caller(context),
            signature=signature_of(request),
            dry_run=request.dry_run,
        )
        return pb.PublishYearResponse(year=_message(record), warnings=warnings)

    async def GetYears(self, request: pb.GetYearsRequest, context: Any) -> pb.GetYearsResponse:
        """List the years, or read one."""
        records = await self._service.get(request.year, caller(context))
        return pb.GetYearsResponse(years=[_message(record) for record in records], due_year=self._service.due_year())

    async def GetDue(self, request: pb.GetDueRequest, context: Any) -> pb.GetDueResponse:
        """Say until when something has to be done."""
        caller(context).require(*Role)
        rule = self._service.deadlines.get(request.rule)
        if rule is None:
            known = ", ".join(self._service.deadlines)
            raise invalid_argument("rule", "unknown", f"no deadline has this name; known are {known}")
        started_on = parsed_day("started_date", request.started_date)
        due, period = self._service.due(request.rule, started_on), rule.period_on(started_on)
        return pb.GetDueResponse(
            due_date=due.day.isoformat(),
            provisional=due.provisional,
            number=period.number,
            unit=period.unit.value,
            source=str(period.source),
            assumed=period.assumed,
            bound=rule.bound,
            starts=rule.starts,
        )


def _message(record: YearRecord) -> pb.WorkYear:
    year, stored = record.year, record.stored
    message = pb.WorkYear(
        year=year.year,
        notice_number=year.number,
        notice_date=year.date.isoformat(),
        notice_issuer=year.issuer,
        example=year.example,
        days_off=[
            pb.Holiday(name=each.name, from_date=each.first.isoformat(), to_date=each.last.isoformat())
            for each in year.holidays
        ],
        working_dates=[each.isoformat() for each in year.working_days],
        sha256=record.sha256,
    )
    if stored is not None:
        message.revision = stored.revision
        message.actor = stored.actor
        message.signer = stored.signed.actor if stored.signed is not None else ""
        message.published_time.CopyFrom(timestamp(stored.published_at))
    return message
