"""WatchService: messages to watches and alerts, and back."""

import contextlib
import datetime
import re
from collections.abc import AsyncIterator
from typing import Any

from lanjie.v1 import watch_pb2 as pb
from lanjie.v1 import watch_pb2_grpc
from lanjie_gateway.api.auth import caller
from lanjie_gateway.api.messages import date_text, timestamp
from lanjie_gateway.domain.alerts import AlertKind, KeptAlert, Watch
from lanjie_gateway.domain.errors import invalid_argument
from lanjie_gateway.services.watches import WatchService, watch_id

_LISTED = 100
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_KINDS = {kind: pb.AlertKind.Value(f"ALERT_KIND_{kind.name}") for kind in AlertKind}


class WatchServicer(watch_pb2_grpc.WatchServiceServicer):
    """Keeps watches and delivers alerts.

    Args:
        service: does it.
    """

    def __init__(self, service: WatchService) -> None:
        self._service = service

    async def Register(self, request: pb.RegisterRequest, context: Any) -> pb.RegisterResponse:
        """Begin a watch."""
        watch, repeated = await self._service.register(
            caller(context),
            request.identifier,
            matter=request.matter,
            case_no=request.case_no,
            purpose=request.purpose,
            from_on=_day(request.from_date, "from_date") if request.from_date else None,
            until_on=_day(request.until_date, "until_date"),
            region=request.handling_region,
        )
        return pb.RegisterResponse(watch=_watch(watch), repeated=repeated)

    async def List(self, request: pb.ListRequest, context: Any) -> pb.ListResponse:
        """List watches."""
        found = await self._service.watches(
            caller(context), ended=request.ended, after=request.after, limit=request.limit or _LISTED
        )
        return pb.ListResponse(watches=map(_watch, found))

    async def End(self, request: pb.EndRequest, context: Any) -> pb.EndResponse:
        """End a watch."""
        return pb.EndResponse(watch=_watch(await self._service.end(caller(context), request.watch_id)))

    async def CloseCase(self, request: pb.CloseCaseRequest, context: Any) -> pb.CloseCaseResponse:
        """Close a case."""
        repeated = await self._service.close_case(caller(context), request.matter, request.case_no)
        return pb.CloseCaseResponse(repeated=repeated)

    async def PullAlerts(self, request: pb.PullAlertsRequest, context: Any) -> pb.PullAlertsResponse:
        """Return alerts."""
        found = await self._service.pull(caller(context), request.after, request.limit or _LISTED)
        return pb.PullAlertsResponse(alerts=map(_alert, found))

    async def StreamAlerts(
        self, request: pb.StreamAlertsRequest, context: Any
    ) -> AsyncIterator[pb.StreamAlertsResponse]:
        """Bring alerts as they come."""
        async with contextlib.aclosing(self._service.stream(caller(context), request.after)) as stream:
            async for found in stream:
                yield pb.StreamAlertsResponse(alerts=map(_alert, found))

    async def Acknowledge(self, request: pb.AcknowledgeRequest, context: Any) -> pb.AcknowledgeResponse:
        """Acknowledge alerts."""
        done = await self._service.acknowledge(caller(context), request.up_to, list(request.numbers))
        return pb.AcknowledgeResponse(acknowledged=done)


def _day(text: str, field: str) -> datetime.date:
    if _DATE.fullmatch(text):
        with contextlib.suppress(ValueError):
            return datetime.date.fromisoformat(text)
    raise invalid_argument(field, "format", "a date is written YYYY-MM-DD")


def _watch(watch: Watch) -> pb.Watch:
    return pb.Watch(
        watch_id=watch_id(watch.number),
        masked_subject=watch.masked,
        matter=watch.question.matter,
        case_no=watch.case_no,
        purpose=watch.purpose,
        from_date=date_text(watch.from_on),
        until_date=date_text(watch.until_on),
        handling_region=watch.question.handling_region,
        ended_time=None if watch.ended_at is None else timestamp(watch.ended_at),
    )


def _alert(alert: KeptAlert) -> pb.Alert:
    return pb.Alert(
        number=alert.number,
        kind=_KINDS[alert.kind],
        matter=alert.matter,
        case_no=alert.case_no,
        watch_id=watch_id(alert.watch),
        decision_id=alert.decision_id,
        masked_subject=alert.masked,
        listing_id=alert.listing_id,
        list_type=alert.list_type,
        authority=alert.authority,
        decision_no=alert.decision_no,
        outcome_before=alert.outcome_before,
        outcome=alert.outcome,
        objection=alert.objection,
        revision=alert.revision,
        alert_time=timestamp(alert.made_at),
        acknowledged_time=None if alert.acknowledged_at is None else timestamp(alert.acknowledged_at),
    )
