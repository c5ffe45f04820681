"""What Prometheus hears of the lists: the age of their sources, what waits, the clocks of the law, odd feedback."""

import asyncio
from collections.abc import Iterable

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from lanjie_gateway.api.metrics import ANSWER_SECONDS
from lanjie_gateway.domain.feedback import Alarm
from lanjie_gateway.services.list_status import ListStatusService


class ListCollector(Collector):
    """Asks for the state of the lists in control's event loop; the listener asks from threads of its own.

    Args:
        lists: the state of the lists.
        loop: in which it lives.
    """

    def __init__(self, lists: ListStatusService, loop: asyncio.AbstractEventLoop) -> None:
        self._lists = lists
        self._loop = loop

    def collect(self) -> Iterable[Metric]:
        """Return all metrics.

        Raises:
            TimeoutError: the event loop does not come to it.
        """
        status = asyncio.run_coroutine_threadsafe(self._lists.watch(), self._loop).result(ANSWER_SECONDS)
        if status is None:
            return ()
        age = GaugeMetricFamily(
            "lanjie_source_age_days",
            "Days since the oldest source of a list type that matters has vouched for it.",
            labels=["list_type"],
        )
        overdue = GaugeMetricFamily(
            "lanjie_source_overdue",
            "1 while a source of a list type is older than the list type allows, or none ever delivered.",
            labels=["list_type"],
        )
        for each in status.ages.list_types:
            if each.age_days is not None:
                age.add_metric([each.list_type], each.age_days)
            overdue.add_metric([each.list_type], int(each.overdue))
        waiting = GaugeMetricFamily("lanjie_waiting", "Imports and acts that wait for a second person.")
        waiting.add_metric([], status.waiting)
        duties = GaugeMetricFamily(
            "lanjie_duties",
            "Duties of each rule: open, overdue of these, and done too late within twelve months.",
            labels=["rule", "state"],
        )
        for rule, count in status.duties.items():
            for state in ("open", "overdue", "provisional", "late"):
                duties.add_metric([rule.value, state], getattr(count, state))
        year = GaugeMetricFamily("lanjie_calendar_missing_year", "Year whose working days should be here; 0 for none.")
        year.add_metric([], status.missing_year)
        alarms = CounterMetricFamily(
            "lanjie_feedback_alarms", "Feedback that somebody has to look at, since the start.", labels=["alarm"]
        )
        for alarm in Alarm:
            alarms.add_metric([alarm.value], status.feedback_alarms.get(alarm, 0))
        return age, overdue, waiting, duties, year, alarms
