"""Control: one process, the ledger's only writer."""

import contextlib
import json
import os

import grpc

from lanjie.v1 import (
    audit_pb2,
    audit_pb2_grpc,
    catalogue_pb2,
    catalogue_pb2_grpc,
    listing_pb2,
    listing_pb2_grpc,
    sync_pb2,
    sync_pb2_grpc,
)
from lanjie_gateway.adapters.feed_hub import FeedHub
from lanjie_gateway.adapters.keys import open_keys
from lanjie_gateway.adapters.ledger import Ledger, LedgerThread
from lanjie_gateway.adapters.state_lock import LEDGER, hold
from lanjie_gateway.api.auth import Tokens
from lanjie_gateway.api.catalogue import CatalogueServicer
from lanjie_gateway.api.listing import ListingServicer
from lanjie_gateway.api.server import ADMIN_MESSAGE_BYTES, Gate, options
from lanjie_gateway.api.sync import InquiryServicer, SyncServicer
from lanjie_gateway.bootstrap.shared import DRAIN_SECONDS, VERSION, Clock, describe, socket_path
from lanjie_gateway.services.catalogue import CatalogueService
from lanjie_gateway.services.imports import ImportService
from lanjie_gateway.services.inquiries import InquiryService
from lanjie_gateway.services.listings import ListingService
from lanjie_gateway.services.sync import SyncService
from lanjie_gateway.settings import Settings


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
        self._stack.enter_context(hold(state, LEDGER))
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
        await describe(server, *modules)
        port = server.add_insecure_port(address)
        await server.start()
        self._stack.push_async_callback(server.stop, DRAIN_SECONDS)
        return f"{address.rpartition(':')[0]}:{port}"

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
