"""Wires everything: control, worker, or both in one event loop for tests. Nothing else constructs services."""

import asyncio
import contextlib
import datetime
import fcntl
import hashlib
import importlib.metadata
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health
from grpc_reflection.v1alpha import reflection

from lanjie.v1 import (
    audit_pb2,
    audit_pb2_grpc,
    catalogue_pb2,
    catalogue_pb2_grpc,
    listing_pb2,
    listing_pb2_grpc,
    screening_pb2,
    screening_pb2_grpc,
    sync_pb2,
    sync_pb2_grpc,
)
from lanjie_gateway.adapters.feed import FeedClient, FeedHub
from lanjie_gateway.adapters.index import ExactIndex
from lanjie_gateway.adapters.keys import open_keys
from lanjie_gateway.adapters.ledger import Ledger, LedgerThread
from lanjie_gateway.adapters.segments import SegmentWriter
from lanjie_gateway.api.auth import Tokens
from lanjie_gateway.api.catalogue import CatalogueServicer
from lanjie_gateway.api.listing import ListingServicer
from lanjie_gateway.api.screening import ScreeningServicer
from lanjie_gateway.api.server import ADMIN_MESSAGE_BYTES, SCREENING_MESSAGE_BYTES, Gate, options
from lanjie_gateway.api.sync import InquiryServicer, SyncServicer
from lanjie_gateway.services.catalogue import CatalogueService
from lanjie_gateway.services.imports import ImportService
from lanjie_gateway.services.inquiries import InquiryService
from lanjie_gateway.services.listings import ListingService
from lanjie_gateway.services.screening import ScreeningService
from lanjie_gateway.services.sync import SyncService
from lanjie_gateway.settings import Settings
from lanjie_matcher.fingerprints import IndexKey

Clock = Callable[[], datetime.datetime]
LOCK_SECONDS = 10.0
DRAIN_SECONDS = 10.0
VERSION = importlib.metadata.version("lanjie-gateway")


class StateInUseError(RuntimeError):
    """Another gateway holds the state directory."""


def wall_clock() -> datetime.datetime:
    """Return the instant now. The only clock of production."""
    return datetime.datetime.now(datetime.UTC)


def socket_path(state: Path) -> Path:
    """Return the feed's unix socket. It stands in a short directory: such a path has at most 107 bytes."""
    name = f"lanjie-{os.getuid()}-{hash_of(str(state.resolve()))}"
    directory = Path(tempfile.gettempdir()) / name
    directory.mkdir(mode=0o700, exist_ok=True)
    if directory.stat().st_uid != os.getuid():
        raise StateInUseError(f"{directory} belongs to another user")
    return directory / "feed.sock"


def hash_of(text: str) -> str:
    """Return a short name for a path."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class Control:
    """The ledger's writer: admin and feed listeners, the change feed, the loading of inquiry records."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._stack = contextlib.AsyncExitStack()
        self.feed_address = ""
        self.admin_address = ""
        self.gateway_file = settings.state / "gateway.json"

    async def start(self) -> None:
        """Open the ledger and serve.

        Raises:
            StateInUseError: another gateway holds the state.
            KeysLostError: a key of a state in use is missing.
        """
        state = self._settings.state
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        await self._lock(state / "lock")
        self.gateway_file.unlink(missing_ok=True)
        self.ledger = LedgerThread(
            lambda: Ledger.open(
                self._settings.ledger, lambda epoch, fresh: open_keys(state / "keys", epoch, fresh=fresh), self._clock
            )
        )
        await self.ledger.start()
        self._stack.push_async_callback(self.ledger.close)
        keys = self.ledger.keys
        self._tokens = Tokens(state / "tokens", keys.token, self._settings.region)

        self.catalogues = CatalogueService(self.ledger, self._published, allow_examples=self._settings.allow_examples)
        await self.catalogues.load_all()
        self.sync = SyncService(self.ledger, keys, self.catalogues.current, self._clock)
        await self.sync.start()
        self.hub = FeedHub(socket_path(state), self.ledger, self._worker_ready)
        await self.hub.start()
        self._stack.push_async_callback(self.hub.close)
        self.inquiries = InquiryService(self.ledger, state / "inquiry", self._clock)
        await self.inquiries.start()
        self._stack.push_async_callback(self.inquiries.close)
        shared = (self.ledger, keys, self.catalogues.current, self._clock, self._published)
        self.listings = ListingService(*shared)
        self.imports = ImportService(*shared)

        feed = grpc.aio.server(interceptors=[Gate(self._tokens)], options=options(ADMIN_MESSAGE_BYTES))
        sync_pb2_grpc.add_SyncServiceServicer_to_server(SyncServicer(self.sync), feed)
        audit_pb2_grpc.add_InquiryServiceServicer_to_server(InquiryServicer(self.inquiries), feed)
        self.feed_address = await self._listen(feed, self._settings.feed, sync_pb2, audit_pb2)
        admin = grpc.aio.server(interceptors=[Gate(self._tokens)], options=options(ADMIN_MESSAGE_BYTES))
        listing_pb2_grpc.add_ListingServiceServicer_to_server(ListingServicer(self.listings, self.imports), admin)
        catalogue_pb2_grpc.add_CatalogueServiceServicer_to_server(CatalogueServicer(self.catalogues), admin)
        self.admin_address = await self._listen(admin, self._settings.admin, listing_pb2, catalogue_pb2)

    async def close(self) -> None:
        """Drain and stop."""
        self.gateway_file.unlink(missing_ok=True)
        await self._stack.aclose()

    async def _published(self, revision: int) -> None:
        await self.sync.follow(revision)
        await self.hub.announce(revision)

    async def _listen(self, server: grpc.aio.Server, address: str, *modules: object) -> str:
        await _describe(server, *modules)
        port = server.add_insecure_port(address)
        await server.start()
        self._stack.push_async_callback(server.stop, DRAIN_SECONDS)
        return f"{address.rpartition(':')[0]}:{port}"

    async def _lock(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self._stack.callback(os.close, descriptor)
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StateInUseError(f"another gateway holds {path.parent}") from None
                await asyncio.sleep(0.05)
            else:
                return

    def _worker_ready(self, screening: str) -> None:
        keys = self.ledger.keys
        content = {
            "lineage": self.ledger.lineage,
            "epoch": self.ledger.epoch,
            "screening": screening,
            "feed": self.feed_address,
            "admin": self.admin_address,
            "tokens": {person: str(path.resolve()) for person, path in self._tokens.files.items()},
            "trusted_keys": {keys.signing_key_id: keys.signing_public.hex()},
            "pid": os.getpid(),
            "version": VERSION,
        }
        aside = self.gateway_file.with_suffix(".tmp")
        aside.write_text(json.dumps(content, indent=2) + "\n")
        aside.chmod(0o600)
        aside.replace(self.gateway_file)


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
        self._health = await _describe(server, screening_pb2)
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


class Gateway:
    """Control and worker in one event loop, for tests."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.control = Control(settings, clock)
        self.worker = Worker(settings, clock)

    async def __aenter__(self) -> Self:
        await self.control.start()
        await self.worker.start(self.control.ledger.epoch, self.control.feed_address)
        await self.worker.ready()
        while not self.control.gateway_file.exists():  # noqa: ASYNC110  written by the feed's next turn
            await asyncio.sleep(0.01)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.worker.close()
        await self.control.close()


def build(settings: Settings, *, clock: Clock = wall_clock) -> Gateway:
    """Return a whole gateway for one event loop. Production has no way to move the clock; tests hand one in here."""
    return Gateway(settings, clock)


async def _describe(server: grpc.aio.Server, *modules: object) -> health.HealthServicer:
    """Add health and reflection."""
    servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    names = [
        service.full_name
        for module in modules
        for service in module.DESCRIPTOR.services_by_name.values()  # type: ignore[attr-defined]
    ]
    reflection.enable_server_reflection((*names, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    await servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    return servicer
