"""Control: one process, the ledger's only writer."""

import asyncio
import contextlib
import datetime
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import grpc

from lanjie.v1 import (
    access_pb2,
    access_pb2_grpc,
    audit_pb2,
    audit_pb2_grpc,
    calendar_pb2,
    calendar_pb2_grpc,
    catalogue_pb2,
    catalogue_pb2_grpc,
    feedback_pb2,
    feedback_pb2_grpc,
    ledger_pb2,
    ledger_pb2_grpc,
    listing_pb2,
    listing_pb2_grpc,
    receipt_pb2,
    receipt_pb2_grpc,
    rights_pb2,
    rights_pb2_grpc,
    statistics_pb2,
    statistics_pb2_grpc,
    sync_pb2,
    sync_pb2_grpc,
    watch_pb2,
    watch_pb2_grpc,
)
from lanjie_gateway.adapters import redis_client
from lanjie_gateway.adapters.feed_hub import FeedHub
from lanjie_gateway.adapters.keys import open_keys, view_keys
from lanjie_gateway.adapters.ledger import Changes, Ledger, LedgerThread
from lanjie_gateway.adapters.metrics import Metrics
from lanjie_gateway.adapters.person_counts import PersonCounts
from lanjie_gateway.adapters.shared_index import SharedIndex
from lanjie_gateway.adapters.state_lock import LEDGER, feed_socket, hold
from lanjie_gateway.api.access import AccessServicer
from lanjie_gateway.api.audit import AuditServicer
from lanjie_gateway.api.auth import Callers, Tokens
from lanjie_gateway.api.calendar import CalendarServicer
from lanjie_gateway.api.catalogue import CatalogueServicer
from lanjie_gateway.api.check_receipts import ReceiptServicer
from lanjie_gateway.api.feedback import FeedbackServicer
from lanjie_gateway.api.ledger import LedgerServicer
from lanjie_gateway.api.limit_metrics import LimitCollector
from lanjie_gateway.api.list_metrics import ListCollector
from lanjie_gateway.api.listing import ListingServicer
from lanjie_gateway.api.metrics import CertificateCollector, GatewayCollector
from lanjie_gateway.api.record_metrics import RecordCollector
from lanjie_gateway.api.rights import RightsServicer
from lanjie_gateway.api.server import ADMIN_MESSAGE_BYTES, Gate, GatedServer, options
from lanjie_gateway.api.statistics import StatisticsServicer
from lanjie_gateway.api.sync import InquiryServicer, SyncServicer
from lanjie_gateway.api.watch import WatchServicer
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
from lanjie_gateway.domain.askers import Caps
from lanjie_gateway.services.authorisations import AuthorisationService
from lanjie_gateway.services.backups import BackupService
from lanjie_gateway.services.calendar import CalendarService, deadlines_of
from lanjie_gateway.services.catalogue import CatalogueService
from lanjie_gateway.services.check_receipts import CheckReceiptService
from lanjie_gateway.services.complaints import ComplaintService
from lanjie_gateway.services.duty import DutyService
from lanjie_gateway.services.explaining import ExplanationService
from lanjie_gateway.services.feedback import FeedbackService
from lanjie_gateway.services.follower import Follower
from lanjie_gateway.services.grants import GrantService
from lanjie_gateway.services.imports import ImportService
from lanjie_gateway.services.inquiries import InquiryService
from lanjie_gateway.services.limits import LimitService, counting, frames_of
from lanjie_gateway.services.list_status import ListStatusService
from lanjie_gateway.services.listings import ListingService

if TYPE_CHECKING:
    from lanjie_gateway.adapters.ledger.journal import Journal
from lanjie_gateway.services.pruning import PruningService
from lanjie_gateway.services.publisher import IndexPublisher
from lanjie_gateway.services.records import RecordService
from lanjie_gateway.services.retention import RetentionService
from lanjie_gateway.services.rights import RightsService
from lanjie_gateway.services.rotation import RotationService
from lanjie_gateway.services.statistics import StatisticsService
from lanjie_gateway.services.sync import SyncService
from lanjie_gateway.services.views import ViewService
from lanjie_gateway.services.waiting import WaitingService
from lanjie_gateway.services.watches import AlertWorker, WatchService
from lanjie_gateway.settings import Settings
from lanjie_matcher.fingerprints import IndexKey

PUBLISH_SECONDS: Final = 5.0
"""How long a command of the publisher may take; nobody waits for it."""


class Control:
    """The ledger's writer: admin and feed listeners, the change feed, the loading of inquiry records."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._stack = contextlib.AsyncExitStack()
        self.feed = self.admin = Places(plain="")
        self.screening_tls = settings.advertised(settings.listen)
        self.metrics_address = ""
        self._screening = ""
        self._ready = 0
        self._serving = False
        self.gateway_file = settings.state / "gateway.json"

    @property
    def feed_address(self) -> str:
        """Where the feed is in the clear, on this machine."""
        return self.feed.plain

    @property
    def admin_address(self) -> str:
        """The same for the admin listener."""
        return self.admin.plain

    async def start(self) -> None:
        """Open the ledger and serve.

        Raises:
            StateInUseError: another gateway holds the state.
            KeysLostError: a key of a state in use is missing.
            Refused: the file of deadlines cannot be used.
            CertificateError: the certificate files cannot be used.
        """
        deadlines = deadlines_of(self._settings.deadlines)
        state = self._settings.state
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._stack.enter_context(hold(state, LEDGER))
        self.gateway_file.unlink(missing_ok=True)
        self.ledger = LedgerThread(
            lambda: Ledger.open(
                self._settings.ledger, lambda number, fresh: open_keys(state / "keys", number, fresh=fresh), self._clock
            )
        )
        await self.ledger.start()
        self._stack.push_async_callback(self.ledger.close)
        self.changes = Changes(self.ledger)
        keys = self.ledger.keys
        self._open_door(keys.token)

        self.catalogues = CatalogueService(
            self.ledger, self._published, self._clock, allow_examples=self._settings.allow_examples
        )
        self.calendar = CalendarService(
            *(self.ledger, self._published, self._clock, deadlines), allow_examples=self._settings.allow_examples
        )
        self.grants = GrantService(self.ledger, self.catalogues.current, self._published)
        self.metrics = Metrics()
        self.views = ViewService(
            *(self.ledger, self.changes, self.catalogues, self.grants, self._clock),
            current=self._current,
            awaited=self._awaited,
            told=self.metrics.told.observe,
        )
        self.sync = SyncService(self.views, self._clock)
        self.inquiries = InquiryService(self.ledger, state / "inquiry", self._clock, self.grants)
        await self.inquiries.start()
        self._stack.push_async_callback(self.inquiries.close)
        self.limits = await self._start_limits()
        self.hub = FeedHub(*(feed_socket(state), self.ledger, self.changes), self._worker_ready, frames_of(self.limits))
        journal = await self._open_journal()
        self.publisher = self._open_publisher(journal)
        self.alerts = self._open_alerts(journal)
        self.follower = Follower(
            *(self.ledger, journal),
            catalogues=self.catalogues,
            calendar=self.calendar,
            grants=self.grants,
            views=self.views,
            hub=self.hub,
            shared=self._share,
        )
        self.authorisations = AuthorisationService(self.ledger, self.catalogues.current, self._clock)
        self.hub.serve("consume", self.authorisations.consume)
        await self.follower.begin()
        await self.hub.start()
        self._stack.push_async_callback(self.hub.close)
        self._stack.push_async_callback(self.views.close)
        await self.follower.start()
        self._stack.push_async_callback(self.follower.close)
        self.records = RecordService(self.ledger, state, self._load_records, self._clock)
        await self.records.start()
        self._stack.push_async_callback(self.records.close)
        self._open_services(state)

        await self._serve_feed()
        await self._serve_admin()
        if self._settings.metrics:
            await self._serve_metrics()
        self._serving = True
        self._tell_ready()

    def _open_services(self, state: Path) -> None:
        """Make what the listeners serve, over the ledger that is open."""
        self.explanations = ExplanationService(self.ledger, self.catalogues.current, self.inquiries.load, self._clock)
        shared = (self.ledger, self.catalogues.current, self._clock, self._published)
        count = counting(self.limits, IndexKey(self.ledger.keys.index))
        self.listings = ListingService(*shared, count)
        self.imports = ImportService(*shared)
        self.waiting = WaitingService(*shared)
        self.duties = DutyService(self.ledger, self.calendar, self._clock)
        self.receipts = CheckReceiptService(
            *(self.ledger, self.catalogues.current),
            view_keys=lambda: view_keys(state / "keys"),
            load=self.inquiries.load,
            clock=self._clock,
        )
        self.feedback = FeedbackService(self.ledger, self.calendar, self.inquiries.load, self._clock)
        self.statistics = StatisticsService(
            self.ledger, self.duties, self.feedback, self.catalogues.current, self._clock
        )
        self.lists = ListStatusService(
            *(*shared[:3], self.duties, self.calendar.due_year), feedback_alarms=self.feedback.alarms
        )
        self.rights = RightsService(
            *(self.ledger, self.catalogues.current, self.inquiries.load, self._clock),
            listings=self.listings,
            duties=self.duties,
            view_keys=lambda: view_keys(state / "keys"),
            count=count,
        )
        self.complaints = ComplaintService(self.ledger, self._clock)
        self.watches = WatchService(
            self.ledger, self.catalogues.current, self.alerts, self._clock, self.grants.book.resolve
        )
        self.alerts.start()
        self._stack.push_async_callback(self.alerts.close)
        pruning = PruningService(*shared)
        pruning.start()
        self._stack.push_async_callback(pruning.close)
        self.retention = RetentionService(
            *(self.ledger, self._settings.retention, self._clock, self.records.checkpoint),
            archived_only=self._settings.erase_archived_only,
        )
        self.retention.start()
        self._stack.push_async_callback(self.retention.close)

    def _open_door(self, token_key: bytes) -> None:
        """Know who calls, and show who we are."""
        departments, region = departments_of(self._settings), self._settings.region
        self._tokens = Tokens(self._settings.state / "tokens", token_key, region, departments)
        self._callers = Callers(self._tokens, departments, region, self._granted)
        self.certificates = certificates_of(self._settings, self._clock)
        if self.certificates is not None:
            self.certificates.start()
            self._stack.push_async_callback(self.certificates.close)

    def _granted(self, name: str) -> Principal | None:
        return self.grants.book.identify(name)

    async def _serve_feed(self) -> None:
        feed = GatedServer(Gate(self._callers, self.grants.book.resolve), options(ADMIN_MESSAGE_BYTES))
        sync_pb2_grpc.add_SyncServiceServicer_to_server(
            SyncServicer(self.sync, self.views, self.grants.book.resolve, self._clock), feed
        )
        audit_pb2_grpc.add_InquiryServiceServicer_to_server(InquiryServicer(self.inquiries), feed)
        feedback_pb2_grpc.add_FeedbackServiceServicer_to_server(FeedbackServicer(self.feedback), feed)
        receipt_pb2_grpc.add_ReceiptServiceServicer_to_server(ReceiptServicer(self.receipts), feed)
        rights_pb2_grpc.add_RightsServiceServicer_to_server(self._rights_servicer(), feed)
        watch_pb2_grpc.add_WatchServiceServicer_to_server(WatchServicer(self.watches), feed)
        self.feed = await self._listen(
            *(feed, "feed", sync_pb2, audit_pb2, feedback_pb2, receipt_pb2, rights_pb2, watch_pb2),
            without="AuditService",
        )
        self._stack.push_async_callback(self.sync.close)
        self._stack.callback(self.watches.close)

    def _rights_servicer(self) -> RightsServicer:
        names = {department.code: department.name for department in departments_of(self._settings)}
        return RightsServicer(
            *(self.rights, self.authorisations, self.complaints),
            catalogues=self.catalogues.current,
            clock=self._clock,
            bound=self.duties.bound,
            department=lambda code: names.get(code, ""),
            objection_channel=self._settings.objection_channel,
        )

    async def _serve_admin(self) -> None:
        admin = GatedServer(Gate(self._callers, self.grants.book.resolve), options(ADMIN_MESSAGE_BYTES))
        listing_pb2_grpc.add_ListingServiceServicer_to_server(
            ListingServicer(self.listings, self.imports, self.waiting, self.duties, self.complaints), admin
        )
        catalogue_pb2_grpc.add_CatalogueServiceServicer_to_server(CatalogueServicer(self.catalogues), admin)
        calendar_pb2_grpc.add_CalendarServiceServicer_to_server(CalendarServicer(self.calendar), admin)
        rotation = RotationService(self.ledger, self._settings.state / "keys", self._published, self.views.only_newest)
        self._stack.push_async_callback(rotation.close)
        backups = BackupService(self.ledger, self._settings.state, self._settings.ledger, VERSION, self._clock)
        ledger_pb2_grpc.add_LedgerServiceServicer_to_server(
            LedgerServicer(
                *(backups, rotation, self.views, self.sync),
                lists=self.lists,
                limits=self.limits,
                certificates=self.certificates,
            ),
            admin,
        )
        access_pb2_grpc.add_AccessServiceServicer_to_server(AccessServicer(self.grants), admin)
        statistics_pb2_grpc.add_StatisticsServiceServicer_to_server(StatisticsServicer(self.statistics), admin)
        audit_pb2_grpc.add_AuditServiceServicer_to_server(
            AuditServicer(self.explanations, self.records, self.retention, lambda: self.inquiries.spool_faults), admin
        )
        self.admin = await self._listen(
            *(
                admin,
                "admin",
                listing_pb2,
                catalogue_pb2,
                calendar_pb2,
                ledger_pb2,
                audit_pb2,
                access_pb2,
                statistics_pb2,
            ),
            without="InquiryService",
        )

    async def _serve_metrics(self) -> None:
        loop = asyncio.get_running_loop()
        self.metrics.add(GatewayCollector(self.views, self.sync, self.hub, self._settings.workers, loop))
        self.metrics.add(ListCollector(self.lists, loop))
        if self.certificates is not None:
            self.metrics.add(CertificateCollector(self.certificates))
        self.metrics.add(LimitCollector(self.limits, loop))
        self.metrics.add(RecordCollector(self.records))
        self.metrics_address = await self.metrics.listen(self._settings.metrics)
        self._stack.push_async_callback(self.metrics.close)

    async def _start_limits(self) -> LimitService:
        settings, counts = self._settings, None
        if settings.has_redis:
            client = redis_client.connect(settings.redis_url, timeout=PUBLISH_SECONDS)
            self._stack.push_async_callback(client.aclose)
            counts = PersonCounts(client, IndexKey(self.ledger.keys.index))
        caps = Caps(
            department=settings.persons_per_day,
            officer=settings.persons_per_day_officer,
            act=settings.detectors == "act",
        )
        limits = LimitService(
            self.ledger, self.inquiries.load, self.calendar.current, self._clock, caps=caps, counts=counts
        )
        await limits.start()
        self._stack.push_async_callback(limits.close)
        return limits

    async def _load_records(self) -> None:
        await self.inquiries.load()

    def _awaited(self, generation: int) -> bool:
        return self.sync.awaits(generation)

    async def close(self) -> None:
        """Drain and stop."""
        self.gateway_file.unlink(missing_ok=True)
        await self._stack.aclose()

    async def _open_journal(self) -> "Journal | None":
        if not self.ledger.shared:
            return None
        # Imported here: an embedded ledger does not pay for PostgreSQL's client.
        from lanjie_gateway.adapters.ledger.journal import Journal  # noqa: PLC0415

        journal = Journal(self._settings.ledger)
        await journal.start()
        self._stack.push_async_callback(journal.close)
        return journal

    def _open_publisher(self, journal: "Journal | None") -> IndexPublisher | None:
        if not self._settings.has_redis:
            return None
        client = redis_client.connect(self._settings.redis_url, timeout=PUBLISH_SECONDS)
        shared = SharedIndex(client, lineage=self.ledger.lineage, epoch=self.ledger.epoch, key=self.ledger.keys.index)

        self._stack.push_async_callback(shared.close)

        async def may_publish() -> bool:
            return journal is None or await journal.try_lock("shared index")

        publisher = IndexPublisher(self.ledger, self.changes, shared, may_publish)
        self._stack.push_async_callback(publisher.close)
        return publisher

    def _open_alerts(self, journal: "Journal | None") -> AlertWorker:
        async def may_work() -> bool:
            return journal is None or await journal.try_lock("alerts")

        retro = datetime.timedelta(days=self._settings.retro_days)
        return AlertWorker(self.ledger, self.catalogues.current, may_work, retro)

    def _share(self, revision: int) -> None:
        self.alerts.wake(revision)
        if self.publisher is not None:
            self.publisher.wake(revision)

    def _current(self) -> bool:
        return self.follower.current()

    async def _published(self, revision: int) -> None:
        await self.follower.published(revision)

    async def _listen(self, server: grpc.aio.Server, name: str, *modules: object, without: str = "") -> Places:
        await describe(server, *modules, without=without)
        places = listen(server, self._settings, name, self.certificates)
        await server.start()
        self._stack.push_async_callback(server.stop, DRAIN_SECONDS)
        return places

    def _worker_ready(self, screening: str) -> None:
        self._screening = screening
        self._ready += 1
        if self.publisher is not None and self._ready == 1:
            # Not before: a worker that has to read the ledger comes first.
            self.publisher.start()
        self._tell_ready()

    def _tell_ready(self) -> None:
        """Write the gateway file as soon as every worker and every listener of control is there."""
        if not self._serving or self._ready < self._settings.workers:
            return
        keys = self.ledger.keys
        content = {
            "lineage": self.ledger.lineage,
            "epoch": self.ledger.epoch,
            "screening": self._screening,
            "feed": self.feed.plain,
            "admin": self.admin.plain,
            "metrics": self.metrics_address,
            "tokens": {person: str(path.resolve()) for person, path in self._tokens.files.items()},
            "signing_key": str(self._tokens.signing_key.resolve()),
            "trusted_keys": {keys.signing_key_id: keys.signing_public.hex()},
            "ledger": "postgresql" if self.ledger.shared else "sqlite",
            "index": self._settings.index,
            "redis": self._settings.has_redis,
            "workers": self._settings.workers,
            "pid": os.getpid(),
            "version": VERSION,
        }
        if self.feed.socket:
            screening = f"unix:{self._settings.socket('listen')}"
            content["sockets"] = {"screening": screening, "feed": self.feed.socket, "admin": self.admin.socket}
        if self.certificates is not None:
            content["tls"] = {"screening": self.screening_tls, "feed": self.feed.tls, "admin": self.admin.tls}
        aside = self.gateway_file.with_suffix(".tmp")
        aside.write_text(json.dumps(content, indent=2) + "\n")
        aside.chmod(0o600)
        aside.replace(self.gateway_file)
