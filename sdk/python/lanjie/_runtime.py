"""What runs behind a client in one process: the transport, the thread that syncs, the thread that uploads, the spool.

One thread alone drives the sync, another the uploads, so that neither waits for the other. `local` is replaced as a
whole: the threads that check see one set with its own spool, never a mixture. After a fork the child has none of this
and makes its own when it asks.
"""

import contextlib
import datetime
import enum
import functools
import logging
import random
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from lanjie._core import Core, Local
from lanjie._inquiries import Uploader
from lanjie._keeper import SetKeeper
from lanjie._options import Options
from lanjie._spool import Spool
from lanjie._sync import SyncDriver
from lanjie._transport import AsyncTransport, Endpoint, GrpcAsyncTransport, GrpcTransport, Transport
from lanjie.decision import instant_of
from lanjie.errors import LanjieError, Unavailable
from lanjie.v1 import feedback_pb2, receipt_pb2, screening_pb2, watch_pb2
from lanjie_matcher.filters import SortedFilter

BATCHES_A_ROUND: Final = 40
TAKE_OVER_SECONDS: Final = 300.0
UPLOAD_SECONDS: Final = 5.0
CLOSE_SECONDS: Final = 30.0
"""So long a client that closes goes on uploading."""
WAIT_SECONDS: Final = 0.2
"""How long one round waits for news; a client that is closed ends it at once."""
BUILD_SECONDS: Final = 0.05
"""How long a filter is built before news are looked at again."""
_ROUNDS: Final = 8
_log = logging.getLogger("lanjie")
_log.addHandler(logging.NullHandler())


class SyncState(enum.Enum):
    """What the local set is good for (`lanjie_matcher.ages`)."""

    OFF = "off"
    """Local answers are switched off, no key is trusted, or the gateway names no feed: everything is asked."""
    STARTING = "starting"
    """No set yet: everything is asked."""
    FRESH = "fresh"
    """Companies that are not in the set pass locally."""
    SOFT = "soft"
    """No contact for 45 seconds: they do so still, flagged, but for matters of high consequence."""
    STALE = "stale"
    """No contact for 15 minutes: the gateway is asked first."""
    EXPIRED = "expired"
    """No contact for 24 hours: everything is asked. After 48 hours key and set are erased."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncStatus:
    """State of the local set; instants are aware, `None` before the first.

    Attributes:
        state: what it is good for.
        revision: revision of the ledger at which the set is this one.
        epoch: epoch of the ledger.
        generation: generation of the view key.
        lineage: identity of the ledger.
        count: number of fingerprints.
        filter: ``bloom`` or ``sorted``: what is probed now.
        leads: whether this process speaks with the gateway; otherwise it follows one that does.
        age_seconds: seconds since the set was last confirmed; `None` without a set.
        last_contact: when a head was last confirmed.
        last_applied: when a set was last taken.
        issued: when the head in use was signed: the list's own time.
        unsent: inquiry records of local passes that the gateway has not got yet.
        last_error: why the last round failed; empty when it did not.
    """

    state: SyncState
    revision: int = 0
    epoch: int = 0
    generation: int = 0
    lineage: str = ""
    count: int = 0
    filter: str = ""
    leads: bool = False
    age_seconds: float | None = None
    last_contact: datetime.datetime | None = None
    last_applied: datetime.datetime | None = None
    issued: datetime.datetime | None = None
    unsent: int = 0
    last_error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seam:
    """What tests replace: the transport, the clocks, chance, the threads."""

    transport: Callable[[Endpoint], Transport] = GrpcTransport
    async_transport: Callable[[Endpoint], AsyncTransport] = GrpcAsyncTransport
    # Goes on while the machine sleeps, where the system can tell; a set does not stay fresh over a suspended night.
    monotonic: Callable[[], float] = (
        functools.partial(time.clock_gettime, time.CLOCK_BOOTTIME)
        if hasattr(time, "CLOCK_BOOTTIME")
        else time.monotonic
    )
    unix_nanos: Callable[[], int] = time.time_ns
    jitter: Callable[[], float] = random.random
    thread: bool = True


@dataclass(slots=True)
class _Signals:
    """How other threads speak to the threads."""

    stop: threading.Event = field(default_factory=threading.Event)
    wake: threading.Event = field(default_factory=threading.Event)
    changed: threading.Condition = field(default_factory=threading.Condition)


class Runtime:
    """See the module. `core` and `transport` are for any thread.

    Args:
        options: of the client.
        seam: what tests replace.
    """

    def __init__(self, options: Options, seam: Seam) -> None:
        self.core = Core(seam.monotonic, seam.unix_nanos, options.officer_signer)
        self.transport = seam.transport(options.endpoint)
        self.local: Local | None = None
        self._options = options
        self._seam = seam
        self._signals = _Signals()
        self._round = threading.Lock()
        self._keeper = SetKeeper(
            options.state_dir,
            options.trusted,
            use_bloom=options.use_bloom,
            monotonic=seam.monotonic,
            now=lambda: instant_of(seam.unix_nanos()),
        )
        self._driver = SyncDriver(
            self.transport,
            self._keeper,
            secrets.token_hex(16),
            local=options.local and bool(options.trusted),
            monotonic=seam.monotonic,
            jitter=seam.jitter,
            timeout=options.timeout,
        )
        self._uploader = Uploader(
            lambda request: self.transport.upload(self._driver.feed_address, request, UPLOAD_SECONDS)
        )
        self._spool: Spool | None = None
        self._spool_use = threading.Lock()
        self._take_over_at = float("-inf")
        self._newest = ("", 0)
        self._switch = threading.Lock()
        self._told = SyncState.STARTING
        self._threads: list[threading.Thread] = []
        self._start()

    def poll_now(self) -> bool:
        """Take what is there and upload what is there, in the calling thread; return whether all was well."""
        with self._round:
            taken = self._driver.taken
            for _ in range(_ROUNDS):
                self._driver.step(0.0)
                if self._driver.failures or self._driver.taken != taken or not self._keeper.leads:
                    break
            self._publish()
        well = not self._driver.last_error
        if well:
            self._upload()
        self._tell()
        return well

    def build_filter(self) -> None:
        """Finish the filter that is being built, in the calling thread."""
        with self._round:
            while self._keeper.build_some():
                pass
            self._publish()

    def suspect(self, error: LanjieError) -> None:
        """Hear of an error; one that says that our revision is unknown over there makes the thread look again."""
        if error.metadata.get("rule") == "tls":
            # A person has to see to it, and `check` answers UNDETERMINED.
            self._driver.last_error = str(error)
        if error.reason == "REVISION_NOT_REACHED":
            self._driver.look_up_again()
            self._signals.wake.set()

    def heard(self, decisions: Sequence[screening_pb2.Decision]) -> None:
        """Hear of decisions of the gateway: a later epoch of the ledger ends the local answers of the set held here."""
        local = self.local
        held = local.view.state.manifest if local is not None else None
        if held is not None and any(each.lineage == held.lineage and each.epoch > held.epoch for each in decisions):
            with self._switch:
                self._newest = (held.lineage, max(each.epoch for each in decisions))
                self.local = None
            self._driver.look_up_again()
            self._signals.wake.set()

    def report(self, request: feedback_pb2.ReportRequest, timeout: float) -> feedback_pb2.ReportResponse:
        """Tell the gateway's feed what was done about an answer.

        Raises:
            LanjieError: it was not taken.
        """
        return self.transport.report(self._feed(timeout), request, timeout)

    def receipt(self, request: receipt_pb2.IssueRequest, timeout: float) -> bytes:
        """Ask the gateway's feed for the receipt of answers; those that were passed here are uploaded first.

        Raises:
            LanjieError: there is none.
        """
        feed = self._feed(timeout)
        self._upload()
        return self.transport.receipt(feed, request, timeout).receipt

    def watching(self, method: str, request: Any, timeout: float) -> Any:
        """Call a method of the gateway's WatchService.

        Raises:
            LanjieError: it was refused.
        """
        return self.transport.watching(self._feed(timeout), method, request, timeout)

    def follow_alerts(self, after: int, timeout: float) -> Iterator[watch_pb2.StreamAlertsResponse]:
        """Take alerts behind a number as they come, until the stream breaks.

        Raises:
            LanjieError: it broke.
        """
        request = watch_pb2.StreamAlertsRequest(after=after)
        return self.transport.follow_alerts(self._feed(timeout), request)

    def _feed(self, timeout: float) -> str:
        feed = self._driver.feed_address or self.transport.discover(timeout).feed_address
        if not feed:
            raise Unavailable("the gateway names no feed")
        return feed

    def wait_ready(self, timeout: float) -> None:
        """Wait until the set is fresh, or, where local answers are off, until the gateway was found.

        Raises:
            Unavailable: it did not happen in time.
        """
        with self._signals.changed:
            ready = self._signals.changed.wait_for(self._is_ready, timeout)
        if not ready:
            why = self._driver.last_error or self.status().state.value
            raise Unavailable(f"not ready after {timeout:g} s: {why}")

    def status(self) -> SyncStatus:
        """Return the state of the local set."""
        driver, spool, view = self._driver, self._spool, self._keeper.view
        unsent = spool.unsent if spool is not None else 0
        if view is None:
            off = (
                not self._options.local or not self._options.trusted or (driver.discovered and not driver.feed_address)
            )
            without = SyncState.EXPIRED if self._keeper.erased else SyncState.STARTING
            return SyncStatus(state=SyncState.OFF if off else without, unsent=unsent, last_error=driver.last_error)
        head = view.state.manifest
        now, wall = self._seam.monotonic(), instant_of(self._seam.unix_nanos())
        return SyncStatus(
            state=SyncState(view.age(now).value),
            revision=head.revision,
            epoch=head.epoch,
            generation=head.generation,
            lineage=head.lineage,
            count=head.count,
            filter="sorted" if isinstance(view.filter, SortedFilter) else "bloom",
            leads=self._keeper.leads,
            age_seconds=now - view.contact,
            last_contact=wall - datetime.timedelta(seconds=now - view.contact),
            last_applied=wall - datetime.timedelta(seconds=now - view.applied),
            issued=head.issued_at,
            unsent=unsent,
            last_error=driver.last_error,
        )

    def close(self, timeout: float) -> None:
        """Stop the threads, upload what is left as far as the gateway takes it, and give everything back.

        Args:
            timeout: seconds after which no further batch is uploaded.
        """
        until = self._seam.monotonic() + timeout
        self.local = None
        if not self._stop(UPLOAD_SECONDS):
            # One waits for the feed: cut off, it ends with the error it gets.
            self.transport.close()
            self._stop(UPLOAD_SECONDS)
        with self._round:
            # The last round of the thread may have published it again.
            self.local = None
            self._driver.close()
            if self._spool is not None and self._driver.feed_address:
                with contextlib.suppress(LanjieError):
                    while self._seam.monotonic() < until and not self._uploader.drain(self._spool, 1):
                        pass
            self._close_spool()
            self._keeper.close()
        self.transport.close()

    def abandon(self) -> None:
        """Let go in a child process: threads are gone; channels, spool and lead are the parent's."""
        self.local = None
        self._keeper.close()
        if self._spool is not None:
            self._spool.abandon()
            self._spool = None

    def _start(self) -> None:
        # With a stop of their own: threads of before a fork that are late still end.
        self._signals.stop = stop = threading.Event()
        if self._seam.thread:
            for name, target in (("lanjie-sync", self._run_sync), ("lanjie-upload", self._run_uploads)):
                self._threads.append(threading.Thread(target=target, args=(stop,), name=name, daemon=True))
                self._threads[-1].start()

    def _stop(self, patience: float) -> bool:
        """Have the threads end; return whether they did within `patience` seconds each."""
        self._signals.stop.set()
        self._signals.wake.set()
        self._driver.interrupt()
        for thread in self._threads:
            # A listener is called by one of them, and may fork.
            if thread is not threading.current_thread():
                thread.join(patience)
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        return not self._threads

    def _is_ready(self) -> bool:
        state = self.status().state
        # The set may be fresh a moment before it can be used: its spool is made in between.
        usable = state is SyncState.FRESH and self.local is not None
        return usable or (state is SyncState.OFF and self._driver.discovered)

    def _run_sync(self, stop: threading.Event) -> None:
        signals, building = self._signals, False
        while not stop.is_set():
            with self._round:
                due = self._driver.step(0.0 if building else WAIT_SECONDS)
                self._publish()
                building = self._build()
            self._tell()
            if due > 0 and not building:
                signals.wake.wait(min(due, 1.0))
                signals.wake.clear()

    def _build(self) -> bool:
        """Go on with the filter for a while, news in between; return whether there is more to do."""
        until = time.monotonic() + BUILD_SECONDS
        while building := self._keeper.build_some():
            if time.monotonic() >= until or self._signals.stop.is_set():
                return building
        self._publish()
        return building

    def _run_uploads(self, stop: threading.Event) -> None:
        while not stop.wait(self._options.upload_interval):
            self._upload()

    def _tell(self) -> None:
        """Wake those who wait for readiness, and tell the listener of a new state."""
        with self._signals.changed:
            self._signals.changed.notify_all()
        state = self.status().state
        if state is self._told:
            return
        self._told = state
        if self._options.on_sync_change is not None:
            try:
                self._options.on_sync_change(self.status())
            except Exception as error:  # noqa: BLE001  a listener may not end the thread; its text may hold anything
                _log.error("the listener failed: %s", type(error).__name__)

    def _publish(self) -> None:
        """Make what the keeper holds visible to the threads that check, with a spool of the same ledger."""
        view = self._keeper.view
        if view is None:
            self.local = None
            return
        lineage = view.state.manifest.lineage
        if self._spool is None or self._spool.lineage != lineage:
            self.local = None
            self._close_spool()
            try:
                self._spool = Spool.create(self._options.state_dir, lineage)
            except (OSError, ValueError) as error:
                # Without a spool there is no local pass: everything is asked.
                self._driver.last_error = f"no spool: {type(error).__name__}"
                _log.error("no spool for local passes: %s", type(error).__name__)
                return
        with self._switch:
            lineage, epoch = self._newest
            held = view.state.manifest
            dropped = held.lineage == lineage and held.epoch < epoch
            if dropped:
                self.local = None
            elif self.local is None or self.local.view is not view:
                self.local = Local(view, self._spool)

    def _upload(self) -> None:
        with self._spool_use:
            spool = self._spool
            if spool is None or not self._driver.feed_address:
                return
            try:
                self._uploader.drain(spool, BATCHES_A_ROUND)
                now = self._seam.monotonic()
                if now >= self._take_over_at:
                    self._take_over_at = now + TAKE_OVER_SECONDS
                    self._uploader.take_over(self._options.state_dir, spool.lineage)
            except LanjieError as error:
                _log.warning("records of local passes wait: %s", error)
                # Who follows hears of a feed that moved from nobody else.
                self._driver.look_up_again()
                self._signals.wake.set()
            except Exception as error:  # noqa: BLE001  whatever lies on the disk, own records go on; its text may hold any
                _log.warning("records of local passes wait: %s", type(error).__name__)

    def _close_spool(self) -> None:
        with self._spool_use:
            spool, self._spool = self._spool, None
            if spool is not None:
                spool.close()
