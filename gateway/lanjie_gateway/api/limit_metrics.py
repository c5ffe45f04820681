"""What Prometheus hears of the limits on natural persons. Departments are labels here, as nowhere else."""

import asyncio
from collections.abc import Iterable

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from lanjie_gateway.api.metrics import ANSWER_SECONDS
from lanjie_gateway.services.limits import LimitService


class LimitCollector(Collector):
    """Reads the limits in control's event loop; the listener asks from threads of its own.

    Args:
        limits: on natural persons.
        loop: in which they live.
    """

    def __init__(self, limits: LimitService, loop: asyncio.AbstractEventLoop) -> None:
        self._limits = limits
        self._loop = loop

    def collect(self) -> Iterable[Metric]:
        """Return all metrics.

        Raises:
            TimeoutError: the event loop does not come to it.
        """
        return asyncio.run_coroutine_threadsafe(self._read(), self._loop).result(ANSWER_SECONDS)

    async def _read(self) -> list[Metric]:
        trips = CounterMetricFamily(
            "lanjie_limit_trips",
            "Limits on natural persons that were reached, each step once a day.",
            labels=["department", "detector"],
        )
        for (department, detector), number in sorted(self._limits.tripped.items()):
            trips.add_metric([department, detector], number)
        persons = GaugeMetricFamily(
            "lanjie_persons_today", "Distinct natural persons asked about today in Shanghai.", labels=["department"]
        )
        for each in self._limits.today():
            persons.add_metric([each.department], each.persons)
        return [trips, persons]
