"""StatisticsService: counts to messages."""

from typing import Any

from lanjie.v1 import statistics_pb2 as pb
from lanjie.v1 import statistics_pb2_grpc
from lanjie_gateway.api.auth import caller
from lanjie_gateway.domain.feedback import Disposition
from lanjie_gateway.domain.statistics import Line
from lanjie_gateway.services.statistics import StatisticsService


class StatisticsServicer(statistics_pb2_grpc.StatisticsServiceServicer):
    """Tells counts.

    Args:
        service: counts.
    """

    def __init__(self, service: StatisticsService) -> None:
        self._service = service

    async def GetStatistics(self, request: pb.GetStatisticsRequest, context: Any) -> pb.GetStatisticsResponse:
        """Count the answers of some months."""
        found = await self._service.report(
            caller(context),
            by=tuple(request.group_by),
            since=request.since_month,
            until=request.until_month,
            department=request.department,
        )
        return pb.GetStatisticsResponse(
            since_month=found.since,
            until_month=found.until,
            lines=[_line(key, line) for key, line in found.lines.items()],
            overdue_duties=found.overdue_duties,
            open_objections=found.open_objections,
            ending_soon=found.ending,
        )


def _line(key: tuple[str, ...], line: Line) -> pb.StatisticsLine:
    return pb.StatisticsLine(
        key=key,
        checks=line.checks,
        local=line.local,
        hits=line.hits,
        outcomes=line.outcomes,
        effects=line.effects,
        asked=line.asked,
        applied=line.told[Disposition.APPLIED],
        partly=line.told[Disposition.PARTLY],
        not_applied=line.told[Disposition.NOT_APPLIED],
        reasons=line.reasons,
        outstanding=line.outstanding,
        overdue=line.overdue,
        median_hours=line.median_hours,
    )
