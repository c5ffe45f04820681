"""The driver of sync: moves bytes between a gateway and the keeper of the set, which decides what is taken.

Obligations:

1. A contact counts from when it was asked for, so that a slow answer never looks fresher than it is.
2. An update is acknowledged when it is on disk. One that is refused is answered with the reason, and a whole set is
   asked for where that may help.
3. A stream that is silent for as long as a set stays fresh is dead, whatever its connection says; so is one that does
   not answer its greeting soon.
4. Where a stream does not get through, the state is pulled, in turns with trying again.
5. Another ledger, or a restored one, has other revisions: the set held is dropped at once.
6. Nothing is granted any more: key and set are erased, and every question goes to the gateway (Art. 39, 40).
"""

import logging
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from lanjie._keeper import SetKeeper
from lanjie._transport import Watch
from lanjie.errors import GatewayFault, LanjieError, PermissionDenied, Unavailable
from lanjie.v1 import screening_pb2
from lanjie.v1 import sync_pb2 as pb
from lanjie_matcher.ages import BEATS, DEFAULT_BOUNDS
from lanjie_matcher.shards import SHARDS, RefusedError

PULL_SECONDS: Final = 60.0
BEAT_SECONDS: Final = DEFAULT_BOUNDS.fresh / BEATS
DISCOVER_SECONDS: Final = 600.0
"""The feed is looked up again this often even when all is well."""
FOLLOW_SECONDS: Final = 0.05
"""How often those who follow look at what the leader told."""
GREETING_SECONDS: Final = 10.0
"""How long a stream may take to answer its greeting."""
FIRST_BACK_OFF: Final = 0.5
MAX_BACK_OFF: Final = 10.0
_FEW: Final = 2
_REFUSALS: Final = {
    name.removeprefix("REFUSAL_REASON_").lower(): pb.RefusalReason.Value(name) for name, _ in pb.RefusalReason.items()
}
_CURABLE: Final = frozenset("rollback key bits oversize count root canary encoding truncated gap scope".split())
"""Refusals that a whole set may cure; what breaks any other rule breaks it again with a whole set."""
_log = logging.getLogger("lanjie")


class Feed(Protocol):
    """What the driver needs of a transport. Every method raises only `LanjieError`; timeouts are seconds."""

    def discover(self, timeout: float) -> screening_pb2.DiscoverResponse:
        """Ask where the feed is."""
        ...

    def pull(self, feed: str, request: pb.PullRequest, timeout: float) -> Iterator[pb.PullResponse]:
        """Ask for the newest state once."""
        ...

    def watch(self, feed: str) -> Watch:
        """Open a stream."""
        ...


class SyncDriver:
    """Keeps a set current. Not thread-safe: one thread drives it.

    Args:
        feed: the transport.
        keeper: of the set.
        sdk_id: name of this instance, 32 hexadecimal digits.
        local: whether a set is wanted at all.
        monotonic: seconds of a clock that never goes back.
        jitter: from 0 to 1, so that clients do not come in step.
        timeout: seconds for a call that is neither pull nor watch.

    Attributes:
        feed_address: of the gateway's feed; empty when it names none.
        discovered: whether the gateway was ever found.
        taken: updates taken since the start.
        failures: rounds that failed since the last one that did not.
        last_error: why the last one failed; empty when it did not.
    """

    def __init__(
        self,
        feed: Feed,
        keeper: SetKeeper,
        sdk_id: str,
        *,
        local: bool,
        monotonic: Callable[[], float],
        jitter: Callable[[], float],
        timeout: float,
    ) -> None:
        self.feed_address = ""
        self.discovered = False
        self.taken = 0
        self.failures = 0
        self.last_error = ""
        self._feed = feed
        self._keeper = keeper
        self._sdk_id = sdk_id
        self._local = local
        self._monotonic = monotonic
        self._jitter = jitter
        self._timeout = timeout
        self._look_up_at = float("-inf")
        self._watch: Watch | None = None
        self._parts: list[pb.Update] = []
        self._asked = self._heard = 0.0
        self._ask_at = float("inf")
        self._dial_at = float("-inf")
        self._pull_next = False
        self._whole = False
        self._interrupted = False

    def look_up_again(self) -> None:
        """Look the feed up at the next step: an answer did not fit the state held here. Any thread may call it."""
        self._look_up_at = float("-inf")

    def step(self, wait: float) -> float:
        """Do one round. Never raises.

        Args:
            wait: seconds to wait for a message, where there is a stream.

        Returns:
            Seconds after which the next round is due.
        """
        try:
            return self._step(wait)
        except (LanjieError, RefusedError) as error:
            if self._interrupted:
                self._interrupted = False
                self.close()
                return 0.0
            if isinstance(error, PermissionDenied):  # (6)
                self._keeper.discard()
            level = logging.INFO if isinstance(error, Unavailable) else logging.WARNING
            self._failed(str(error), level)
        except Exception as error:  # noqa: BLE001  a broken answer may not end the thread; its text may hold anything
            self._failed(type(error).__name__, logging.WARNING)
        return max(self._dial_at - self._monotonic(), 0.0)

    def interrupt(self) -> None:
        """End a round that waits for a message, which is no failure; any thread may call it."""
        watch = self._watch
        if watch is not None:
            self._interrupted = True
            watch.close()

    def close(self) -> None:
        """End the stream."""
        watch, self._watch = self._watch, None
        self._parts = []
        self._ask_at = float("inf")
        if watch is not None:
            watch.close()

    def _step(self, wait: float) -> float:
        now = self._monotonic()
        self._keeper.purge()
        if now >= self._look_up_at and (self._watch is not None or now >= self._dial_at):
            self._discover()
        if self._keeper.opened and not self._keeper.lead():
            self.close()
            if self._keeper.follow():
                self._well()
            return FOLLOW_SECONDS
        if not (self._keeper.opened and self.feed_address):
            return max(self._look_up_at, self._dial_at, now) - now
        if self._watch is None:
            return self._dial() if now >= self._dial_at else self._dial_at - now
        if now >= self._ask_at:
            self._ask()
        response = self._watch.receive(wait)
        if response is not None:
            self._heard = self._monotonic()
            self._receive(response.update)
        elif self._ask_at == float("inf") and self._monotonic() - self._heard > self._patience:  # (3)
            raise Unavailable("the feed is silent")
        return 0.0

    @property
    def _patience(self) -> float:
        """Seconds without a word after which a stream is dead; until its first update, something may swallow it."""
        return GREETING_SECONDS if self._pull_next else DEFAULT_BOUNDS.fresh

    def _discover(self) -> None:
        try:
            found = self._feed.discover(self._timeout)
        except LanjieError:
            self._look_up_at = self._monotonic() + MAX_BACK_OFF
            if self._watch is not None or (self._keeper.opened and not self._keeper.leads):
                # News comes all the same: over the stream, or from the one that leads.
                return
            if self._local:
                self._keeper.recall()
            raise
        self.feed_address = found.feed_address
        self.discovered = True
        # It is there: however long it was away, that is no reason to wait long now.
        self.failures = min(self.failures, _FEW)
        self._look_up_at = self._monotonic() + DISCOVER_SECONDS
        self._drop_other_past(found)
        if self._local and found.feed_address:
            self._keeper.open(found.lineage)
            self._drop_other_past(found)  # what lay on the disk

    def _drop_other_past(self, found: screening_pb2.DiscoverResponse) -> None:
        """Drop a set of another ledger, or of what a restored one was before (5)."""
        held = self._keeper.view.state.manifest if self._keeper.view is not None else None
        if held is not None and (found.lineage != held.lineage or found.epoch > held.epoch):
            _log.warning("the gateway's ledger is another than the set's: the set is dropped")
            self._keeper.discard()
            # Now: another ledger has another place on disk, and nobody would look at this one again.
            self._keeper.purge()
            self.close()

    def _dial(self) -> float:
        """Open a stream, or pull where the last one brought nothing (4)."""
        if self._pull_next:
            self._pull_next = False
            self._pull()
            self._dial_at = self._monotonic() + BEAT_SECONDS * (0.5 + self._jitter())
            return self._dial_at - self._monotonic()
        self._pull_next = True
        self._watch = self._feed.watch(self.feed_address)
        self._ask()
        return 0.0

    def _pull(self) -> None:
        self._asked = self._monotonic()
        request = pb.PullRequest(state=self._keeper.state(self._sdk_id, whole=self._whole))
        parts = [response.update for response in self._feed.pull(self.feed_address, request, PULL_SECONDS)]
        if not parts:
            raise GatewayFault("the feed answered nothing")
        if parts[0].kind == pb.UPDATE_KIND_WAIT:
            raise Unavailable("the gateway asks to wait")
        self._take(parts)

    def _ask(self, refusal: str = "") -> None:
        """Say what is held; the answer to it is a contact of now (1)."""
        if self._watch is None:
            return
        self._asked = self._heard = self._monotonic()
        self._ask_at = float("inf")
        state = self._keeper.state(self._sdk_id, whole=self._whole)
        self._watch.send(pb.WatchRequest(state=state, refusal=_REFUSALS[refusal or "unspecified"]))

    def _receive(self, update: pb.Update) -> None:
        if update.kind == pb.UPDATE_KIND_WAIT:
            self._parts = []
            self._asked = self._monotonic()
            self._ask_at = self._asked + (update.min_wait.ToMilliseconds() / 1_000) * (1.0 + self._jitter())
            return
        self._parts.append(update)
        if update.kind == pb.UPDATE_KIND_SNAPSHOT and not update.last and len(self._parts) < SHARDS:
            return
        parts, self._parts = self._parts, []
        whole = parts[0].kind == pb.UPDATE_KIND_SNAPSHOT
        try:
            self._take(parts)
        except RefusedError as error:
            self._ask(error.reason)
            if whole or error.reason not in _CURABLE:
                raise
            self.last_error = str(error)
            _log.warning("an update was refused, a whole set is asked for: %s", error)
            return
        self._ask()  # (2)

    def _take(self, parts: list[pb.Update]) -> None:
        try:
            self._keeper.take(parts, self._asked)
        except RefusedError as error:
            self._whole = error.reason in _CURABLE
            raise
        self.taken += 1
        self._well()
        self._whole = self._pull_next = False

    def _well(self) -> None:
        self.failures = 0
        self.last_error = ""

    def _failed(self, why: str, level: int) -> None:
        self.close()
        self.failures += 1
        self.last_error = why
        self.look_up_again()
        wait = min(FIRST_BACK_OFF * 2 ** min(self.failures - 1, 10), MAX_BACK_OFF)
        self._dial_at = self._monotonic() + wait * (0.5 + 0.5 * self._jitter())
        _log.log(level, "sync failed: %s", why)
