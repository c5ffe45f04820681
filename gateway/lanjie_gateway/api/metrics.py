"""What the gateway says of itself to Prometheus, read at the moment it is asked for."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Final

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeHistogramMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from lanjie_gateway.adapters.certificates import Certificates
from lanjie_gateway.adapters.feed_hub import FeedHub
from lanjie_gateway.api.sync import REFUSALS
from lanjie_gateway.services.sync import KINDS, SyncService
from lanjie_gateway.services.views import ViewService

ANSWER_SECONDS: Final = 5.0
_SLICE: Final = 200
_LAG_BUCKETS: Final = (0.0, 1.0, 5.0, 15.0, 45.0, 900.0, 86_400.0)
"""Seconds: none; then the ages at which a set is good for less, and some before the first of them."""


class GatewayCollector(Collector):
    """Reads control's services in their event loop; the listener asks from threads of its own.

    Args:
        views: of the SDKs.
        sync: the SDKs.
        hub: the workers.
        workers: how many there are to be.
        loop: in which these live.
    """

    def __init__(
        self, views: ViewService, sync: SyncService, hub: FeedHub, workers: int, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._views = views
        self._sync = sync
        self._hub = hub
        self._workers = workers
        self._loop = loop

    def collect(self) -> Iterable[Metric]:
        """Return all metrics.

        Raises:
            TimeoutError: the event loop does not come to it.
        """
        return asyncio.run_coroutine_threadsafe(self._read(), self._loop).result(ANSWER_SECONDS)

    async def _read(self) -> list[Metric]:
        return [*self._gateway(), *self._view(), *self._counts(), *[each async for each in self._sdks()]]

    def _gateway(self) -> Iterable[Metric]:
        ready = self._hub.ready()
        yield _gauge("lanjie_ledger_revision", "Newest revision of the ledger that this gateway knows.", self._hub.head)
        workers = GaugeMetricFamily("lanjie_workers", "Screening workers of this gateway.", labels=["state"])
        workers.add_metric(["configured"], self._workers)
        workers.add_metric(["ready"], len(ready))
        yield workers
        behind = max((self._hub.head - acked for acked in ready), default=0)
        yield _gauge("lanjie_worker_max_lag_revisions", "Revisions that the slowest worker has not applied.", behind)

    def _view(self) -> Iterable[Metric]:
        offer = self._views.newest()
        view = offer.view
        yield _gauge(
            "lanjie_sync_current",
            "1 while this gateway can prove that its view is current.",
            int(self._views.current()),
        )
        yield _gauge("lanjie_sync_view_revision", "Revision of the view that SDKs are offered.", view.revision)
        yield _gauge("lanjie_sync_view_epoch", "Epoch of the ledger; a restore begins a new one.", offer.epoch)
        yield _gauge("lanjie_sync_view_generation", "Generation of the view key.", offer.generation)
        yield _gauge("lanjie_sync_view_fingerprints", "Fingerprints in the view, canaries included.", view.head()[1])
        yield _gauge(
            "lanjie_sync_journal_from_revision", "SDKs with less than this revision take a snapshot.", view.journal_from
        )

    def _counts(self) -> Iterable[Metric]:
        counts = self._sync.counts
        updates = CounterMetricFamily("lanjie_sync_updates", "Updates sent to SDKs.", labels=["kind"])
        sent = CounterMetricFamily("lanjie_sync_sent_bytes", "Bytes of the updates sent to SDKs.", labels=["kind"])
        for kind in KINDS:
            updates.add_metric([kind], counts[kind])
            sent.add_metric([kind], self._sync.sent_bytes[kind])
        refusals = CounterMetricFamily(
            "lanjie_sync_refusals", "Updates that SDKs refused, by their reason.", labels=["reason"]
        )
        for reason in REFUSALS:
            refusals.add_metric([reason], counts[f"refused-{reason}"])
        return updates, sent, refusals

    async def _sdks(self) -> AsyncIterator[Metric]:
        known = self._sync.sdks()
        refusing = 0
        lags: list[tuple[int, float]] = []
        for place, sdk in enumerate(known):
            if place % _SLICE == 0:
                # Thousands of them may not hold up the others.
                await asyncio.sleep(0)
            refusing += bool(sdk.last_refusal)
            if sdk.watching:
                lags.append(self._sync.lag(sdk))
        sdks = GaugeMetricFamily(
            "lanjie_sync_sdks", "SDKs: watching now, known for two days, refusing their last update.", labels=["state"]
        )
        for state, number in (("watching", len(lags)), ("known", len(known)), ("refusing", refusing)):
            sdks.add_metric([state], number)
        yield sdks
        revisions = max((revisions for revisions, _ in lags), default=0)
        seconds = [seconds for _, seconds in lags]
        yield _gauge("lanjie_sync_max_lag_revisions", "Revisions that the last SDK watching has not got.", revisions)
        yield _gauge(
            "lanjie_sync_max_lag_seconds",
            "Time since the first commit that the last SDK watching has not got.",
            max(seconds, default=0.0),
        )
        yield GaugeHistogramMetricFamily(
            "lanjie_sync_lag_seconds",
            "SDKs watching now, by the time since the first commit that they have not got.",
            buckets=[
                *((str(most), sum(each <= most for each in seconds)) for most in _LAG_BUCKETS),
                ("+Inf", len(seconds)),
            ],
            gsum_value=sum(seconds),
        )


class CertificateCollector(Collector):
    """Reads how long the certificates of the listeners are good for.

    Args:
        certificates: of control; workers use the same files.
    """

    def __init__(self, certificates: Certificates) -> None:
        self._certificates = certificates

    def collect(self) -> Iterable[Metric]:
        """Return all metrics."""
        now = self._certificates.now
        left = GaugeMetricFamily(
            "lanjie_certificate_days_left",
            "Days until the certificate of the listeners ends, and the first of the authorities of clients.",
            labels=["certificate"],
        )
        left.add_metric(["gateway"], self._certificates.days_left(now.ends_at))
        left.add_metric(["client_ca"], self._certificates.days_left(now.client_ca_ends_at))
        yield left
        yield _gauge(
            "lanjie_certificate_fault",
            "1 while the certificate files as they lie cannot be used, and the old go on.",
            int(bool(self._certificates.fault)),
        )


def _gauge(name: str, help_text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, help_text, value=value)
