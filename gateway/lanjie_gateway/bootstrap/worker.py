"""Worker: answers checks. It loads no database."""

import contextlib
import dataclasses
import gc
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from grpc_health.v1 import health_pb2

from lanjie.v1 import screening_pb2, screening_pb2_grpc
from lanjie_gateway.adapters import redis_client
from lanjie_gateway.adapters.feed_client import FeedClient, no_copy
from lanjie_gateway.adapters.index import ExactIndex, TableIndex
from lanjie_gateway.adapters.keys import newest_generation, open_keys
from lanjie_gateway.adapters.rate_buckets import RateBuckets, Rates
from lanjie_gateway.adapters.redis_index import RedisIndex
from lanjie_gateway.adapters.segments import SegmentWriter
from lanjie_gateway.adapters.shared_index import SharedIndex, SharedIndexError
from lanjie_gateway.adapters.state_lock import feed_socket
from lanjie_gateway.api.auth import Callers, Tokens
from lanjie_gateway.api.screening import ScreeningServicer
from lanjie_gateway.api.server import SCREENING_MESSAGE_BYTES, Gate, GatedServer, options
from lanjie_gateway.bootstrap.shared import (
    DRAIN_SECONDS,
    VERSION,
    Clock,
    Places,
    certificates_of,
    departments_of,
    describe,
    listen,
)
from lanjie_gateway.domain.access import Principal
from lanjie_gateway.domain.askers import granted_limits
from lanjie_gateway.domain.authorisations import Wanted
from lanjie_gateway.services.access import GrantBook
from lanjie_gateway.services.person_gate import PersonGate
from lanjie_gateway.services.screening import ScreeningService
from lanjie_gateway.settings import Settings
from lanjie_matcher.fingerprints import IndexKey

READ_SECONDS: Final = 0.05
"""How long an answer waits for Redis before it asks the ledger."""
LOAD_SECONDS: Final = 5.0
"""The same for one shard when a worker starts."""
READ_BACK_SECONDS: Final = 60.0
"""How long a starting worker waits for a starting Redis that reads its file; the ledger would take longer."""


class Worker:
    """Answers checks from its own index, which follows control's feed."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._stack = contextlib.AsyncExitStack()
        self.index: ExactIndex[Any] = RedisIndex(self._fetch) if settings.index == "redis" else TableIndex()
        self.places = Places(plain="")
        self.grants = GrantBook()

    @property
    def address(self) -> str:
        """Where it listens in the clear, on this machine."""
        return self.places.plain

    async def start(self, feed: Places) -> None:
        """Serve; ready when `ready` returns.

        Args:
            feed: what `Discover` says of the feed listener, to each in the way he came.

        Raises:
            CertificateError: the certificate files cannot be used.
        """
        state = self._settings.state
        # A worker makes no fingerprints, so any view key will do.
        directory = state / "keys"
        keys = self._keys = open_keys(directory, newest_generation(directory), fresh=False)
        self.certificates = certificates_of(self._settings, self._clock)
        self.records = SegmentWriter(state / "inquiry")
        self.records.start()
        self._stack.push_async_callback(self.records.close)
        departments, region = departments_of(self._settings), self._settings.region
        callers = Callers(
            *(Tokens(state / "tokens", keys.token, region, departments), departments, region),
            granted=self.grants.identify,
        )
        server = GatedServer(Gate(callers, self.grants.resolve), options(SCREENING_MESSAGE_BYTES, shared_port=True))
        self.places = listen(server, self._settings, "listen", self.certificates)
        preload = self._preload if self._settings.has_redis else no_copy
        self.feed = FeedClient(feed_socket(state), self.index, self.address, preload, on_grants=self.grants.take)
        service = ScreeningService(
            index=self.index,
            key=IndexKey(keys.index),
            records=self.records,
            clock=self._clock,
            current=self.feed.current,
            ledger=lambda: (self.feed.lineage, self.feed.epoch),
            gate=PersonGate(IndexKey(keys.index), self.feed.may_ask, self.feed.tell_outcomes),
            grants=self.grants.resolve,
            consume=self._consume,
        )

        def discover(way: str) -> screening_pb2.DiscoverResponse:
            return screening_pb2.DiscoverResponse(
                feed_address=getattr(feed, way) or feed.plain,
                lineage=self.feed.lineage,
                epoch=self.feed.epoch,
                revision=self.index.revision,
                version=VERSION,
            )

        screening_pb2_grpc.add_ScreeningServiceServicer_to_server(
            ScreeningServicer(service, discover, self._draw(), self._settings.objection_channel), server
        )
        self._health = await describe(server, screening_pb2)
        await self._health.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
        await server.start()
        self._stack.push_async_callback(server.stop, DRAIN_SECONDS)
        if self.certificates is not None:
            self.certificates.start()
            self._stack.push_async_callback(self.certificates.close)
        await self.feed.start()
        self._stack.push_async_callback(self.feed.close)

    async def ready(self) -> None:
        """Wait until the initial state is there, then say so to health checks."""
        await self.feed.ready()
        # What was loaded stays; the collector need not look at it again.
        gc.freeze()
        await self._health.set("", health_pb2.HealthCheckResponse.SERVING)
        await self._health.set("lanjie.v1.ScreeningService", health_pb2.HealthCheckResponse.SERVING)

    async def close(self) -> None:
        """Drain: health first, then no new calls, then the rest."""
        await self._health.enter_graceful_shutdown()
        await self._stack.aclose()

    def _draw(self) -> Callable[[Principal, str, int], Awaitable[None]]:
        settings = self._settings
        client = None
        if settings.has_redis:
            client = redis_client.connect(settings.redis_url, timeout=READ_SECONDS)
            self._stack.push_async_callback(client.aclose)
        rates = Rates(
            department=settings.checks_per_minute,
            credential=settings.checks_per_minute_credential,
            officer=settings.checks_per_minute_officer,
        )
        buckets = RateBuckets(rates, client)

        async def draw(asker: Principal, officer: str, checks: int) -> None:
            granted = granted_limits(asker).checks_per_minute
            await buckets.draw(asker.department, checks, credential=asker.person, officer=officer, granted=granted)

        return draw

    async def _preload(self, lineage: str, epoch: int) -> tuple[int, Sequence[int]]:
        """Fill the index from the copy in Redis; what of it cannot be believed comes from control."""

        def shared(seconds: float) -> SharedIndex:
            client = redis_client.connect(self._settings.redis_url, timeout=seconds)
            return SharedIndex(client, lineage=lineage, epoch=epoch, key=self._keys.index, timeout=seconds)

        if isinstance(self.index, RedisIndex):
            self.index.shared = shared(READ_SECONDS)
            self._stack.push_async_callback(self.index.shared.close)
        waiting = redis_client.connect(self._settings.redis_url, timeout=LOAD_SECONDS)
        await redis_client.settle(waiting, READ_BACK_SECONDS)
        await redis_client.close(waiting)
        loader = shared(LOAD_SECONDS)
        # A million records make no cycles, and looking for some among them takes as long as reading them.
        gc.disable()
        try:
            loaded = await loader.load(self.index.take_copy)
        except SharedIndexError:
            loaded = None
        finally:
            gc.enable()
            await loader.close()
        return loaded or await no_copy(lineage, epoch)

    async def _consume(self, wanted: Wanted) -> bool:
        return bool(await self.feed.ask("consume", dataclasses.asdict(wanted)))

    async def _fetch(self, buckets: Sequence[bytes]) -> Sequence[tuple[bytes, int, bytes]]:
        return await self.feed.fetch(buckets)
