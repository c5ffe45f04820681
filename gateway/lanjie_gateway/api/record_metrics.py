"""What Prometheus hears of the inquiry records."""

from collections.abc import Iterable

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from lanjie_gateway.services.records import RecordService


class RecordCollector(Collector):
    """Tells what the last check of the records found.

    Args:
        records: keeps them.
    """

    def __init__(self, records: RecordService) -> None:
        self._records = records

    def collect(self) -> Iterable[Metric]:
        """Return all metrics."""
        broken = GaugeMetricFamily(
            "lanjie_records_broken", "Things that are wrong with the inquiry records; 0 is sound."
        )
        broken.add_metric([], len(self._records.findings))
        checked = GaugeMetricFamily("lanjie_records_checked_time_seconds", "When they were checked last; 0 for never.")
        checked.add_metric([], self._records.checked_at.timestamp() if self._records.checked_at else 0)
        return broken, checked
