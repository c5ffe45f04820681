"""Worker: answers checks. It loads no database."""

import contextlib

import grpc
from grpc_health.v1 import health_pb2

from lanjie.v1 import screening_pb2, screening_pb2_grpc
from lanjie_gateway.adapters.feed_client import FeedClient
from lanjie_gateway.adapters.index import ExactIndex
from lanjie_gateway.adapters.keys import open_keys
from lanjie_gateway.adapters.segments import SegmentWriter
from lanjie_gateway.api.auth import Tokens
from lanjie_gateway.api.screening import ScreeningServicer
from lanjie_gateway.api.server import SCREENING_MESSAGE_BYTES, Gate, options
from lanjie_gateway.bootstrap.shared import DRAIN_SECONDS, VERSION, Clock, describe, socket_path
from lanjie_gateway.services.screening import ScreeningService
from lanjie_gateway.settings import Settings
from lanjie_matcher.fingerprints import IndexKey


class Worker:
    """Answers checks from its own index, which follows control's feed."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._stack = contextlib.AsyncExitStack()
        self.index = ExactIndex()
        self.address = ""

    async def start(self, epoch: int, feed_address: str) -> None:
        """Serve; ready when `ready` returns.

        Args:
            epoch: epoch of the ledger, for the keys.
            feed_address: what `Discover` says of the feed listener.
        """
        state = self._settings.state
        keys = open_keys(state / "keys", epoch, fresh=False)
        self.records = SegmentWriter(state / "inquiry")
        self.records.start()
        self._stack.push_async_callback(self.records.close)
        tokens = Tokens(state / "tokens", keys.token, self._settings.region)
        server = grpc.aio.server(interceptors=[Gate(tokens)], options=options(SCREENING_MESSAGE_BYTES))
        port = server.add_insecure_port(self._settings.listen)
        self.address = f"{self._settings.listen.rpartition(':')[0]}:{port}"
        self.feed = FeedClient(socket_path(state), self.index, self.address)
        service = ScreeningService(
            index=self.index,
            key=IndexKey(keys.index),
            records=self.records,
            clock=self._clock,
            current=self.feed.current,
            ledger=lambda: (self.feed.lineage, self.feed.epoch),
        )

        def discover() -> screening_pb2.DiscoverResponse:
            return screening_pb2.DiscoverResponse(
                feed_address=feed_address,
                lineage=self.feed.lineage,
                epoch=self.feed.epoch,
                revision=self.index.revision,
                version=VERSION,
            )

        screening_pb2_grpc.add_ScreeningServiceServicer_to_server(ScreeningServicer(service, discover), server)
        self._health = await describe(server, screening_pb2)
        await self._health.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
        await server.start()
        self._stack.push_async_callback(server.stop, DRAIN_SECONDS)
        await self.feed.start()
        self._stack.push_async_callback(self.feed.close)

    async def ready(self) -> None:
        """Wait until the initial state is there, then say so to health checks."""
        await self.feed.ready()
        await self._health.set("", health_pb2.HealthCheckResponse.SERVING)
        await self._health.set("lanjie.v1.ScreeningService", health_pb2.HealthCheckResponse.SERVING)

    async def close(self) -> None:
        """Drain: health first, then no new calls, then the rest."""
        await self._health.enter_graceful_shutdown()
        await self._stack.aclose()
