"""The driver of sync: moves bytes between a feed and `lanjie_matcher.views`, which alone decides what is taken.

Obligations:

1. Nothing is read of a manifest before a trusted key is seen to have signed it.
2. What is refused leaves the state as it was; the set is asked for again, whole, and the feed is looked up again.
3. Only a set whose head was confirmed within `FRESH_SECONDS`, and has not expired, gives local answers.
4. A contact counts from when it was begun, so that a slow answer never looks fresher than it is.
5. (epoch, revision) never goes down within a lineage, even if the gateway forgets.
6. Building a filter never holds the interpreter for long: slices, and a breath after each.
"""

import datetime
import logging
import time
from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, Protocol

from lanjie.errors import GatewayFault, LanjieError, Unavailable
from lanjie.v1 import screening_pb2
from lanjie.v1 import sync_pb2 as pb
from lanjie_matcher.filters import BloomFilter, LocalFilter, SortedFilter
from lanjie_matcher.views import (
    ED25519,
    MAX_COUNT,
    SHARDS,
    Manifest,
    RefusedError,
    ViewState,
    accept_snapshot,
    decode_shard,
    verify_signatures,
)

VIEW: Final = "companies"
FRESH_SECONDS: Final = 45.0
MAX_BACK_OFF: Final = 30.0
PULL_SECONDS: Final = 60.0
DISCOVER_SECONDS: Final = 600.0
"""The feed is looked up again this often even when all is well."""
SLICE: Final = 200
_EPOCH_DAY: Final = datetime.date(1970, 1, 1).toordinal()
_ALWAYS: Final = 1 << 31
_log = logging.getLogger("lanjie")


class Feed(Protocol):
    """What the driver needs of a transport."""

    def discover(self, timeout: float) -> screening_pb2.DiscoverResponse:
        """Ask where the feed is."""
        ...

    def pull(self, feed: str, request: pb.PullRequest, timeout: float) -> Iterator[pb.PullResponse]:
        """Ask for head and set."""
        ...


@dataclass(frozen=True, slots=True)
class MatterRule:
    """What the local path must know of a matter. Spans hold days since 1970-01-01 in Asia/Shanghai, inclusive."""

    case_no_required: bool
    spans: tuple[tuple[int, int], ...]

    def in_force(self, day: int) -> bool:
        """Whether a catalogue in force knows the matter on a day."""
        for first, last in self.spans:  # noqa: SIM110  a generator costs more than the whole look-up, at every check
            if first <= day <= last:
                return True
        return False


@dataclass(frozen=True, slots=True)
class LocalView:
    """A verified set, ready to be probed, and how long it may answer.

    Attributes:
        state: the set and its head.
        filter: what is probed.
        matters: by code; an absent one was never defined.
        covers_companies: absence of a company from the set is an answer.
        contact: monotonic seconds at which the contact that last confirmed it began.
        applied: the same for the contact that brought the set.
        fresh_until: monotonic seconds up to which it gives local answers.
    """

    state: ViewState
    filter: LocalFilter
    matters: Mapping[str, MatterRule]
    covers_companies: bool
    contact: float
    applied: float
    fresh_until: float


class SyncDriver:
    """Keeps a `LocalView` current. Not thread-safe: one thread drives it, any thread may read `view`.

    Args:
        feed: the transport.
        trusted: raw Ed25519 public keys by key id.
        sdk_id: name of this instance, 32 hexadecimal digits.
        use_bloom: probe a Bloom filter once it is built, else the sorted set.
        monotonic: seconds of a clock that never goes back.
        now: aware instant of the wall clock.
        timeout: seconds for a call that is not a pull.
    """

    def __init__(
        self,
        feed: Feed,
        trusted: Mapping[str, bytes],
        sdk_id: str,
        *,
        use_bloom: bool,
        monotonic: Callable[[], float],
        now: Callable[[], datetime.datetime],
        timeout: float,
    ) -> None:
        self.view: LocalView | None = None
        self.feed_address = ""
        self.min_wait = 0.0
        self.failures = 0
        self.last_error = ""
        self.discovered = False
        self._feed = feed
        self._trusted = trusted
        self._sdk_id = sdk_id
        self._use_bloom = use_bloom
        self._monotonic = monotonic
        self._now = now
        self._timeout = timeout
        self._lineage = ""
        self._look_up_at = float("-inf")
        self._high_water: dict[str, tuple[int, int]] = {}
        self._building: Iterator[LocalFilter | None] | None = None
        self._whole = False

    def look_up_again(self) -> None:
        """Look the feed up at the next step: an answer did not fit the state held here. Any thread may call it."""
        self._look_up_at = float("-inf")

    def step(self) -> bool:
        """Do one round: find the feed, pull, take what holds. Never raises; returns whether all was well."""
        try:
            if self._monotonic() >= self._look_up_at:
                self._discover()
            if self.feed_address and self._trusted:
                self._pull()
        except (LanjieError, RefusedError) as error:
            self.failures += 1
            self.last_error = str(error)
            self.look_up_again()
            self._whole = isinstance(error, RefusedError)
            level = logging.INFO if isinstance(error, Unavailable) else logging.WARNING
            _log.log(level, "sync failed: %s", error)
            return False
        except Exception as error:  # noqa: BLE001  a broken answer may not end the thread; its text may hold anything
            self.failures += 1
            self.last_error = type(error).__name__
            self.look_up_again()
            self._whole = True
            _log.warning("sync failed: %s", self.last_error)
            return False
        self.failures = 0
        self.last_error = ""
        return True

    def build_some(self) -> bool:
        """Go on with the filter that is being built, one slice; return whether there is more to do."""
        if self._building is None:
            return False
        made = next(self._building)
        if made is None:
            return True
        self._building = None
        if self.view is not None:
            self.view = replace(self.view, filter=made)
        return False

    def delay(self, poll_interval: float, jitter: float) -> float:
        """Return seconds to wait before the next step.

        Args:
            poll_interval: seconds between polls when all is well.
            jitter: from 0 to 1, so that clients do not come in step.
        """
        wait = max(poll_interval, self.min_wait)
        if self.failures:
            wait = min(wait * 2 ** min(self.failures - 1, 10), MAX_BACK_OFF)
        return wait * (0.8 + 0.2 * jitter)

    def _discover(self) -> None:
        found = self._feed.discover(self._timeout)
        self.feed_address = found.feed_address
        self._lineage = found.lineage
        held = self.view.state.manifest if self.view else None
        if held is not None and (found.lineage != held.lineage or found.epoch > held.epoch):
            # Another ledger, or a restored one: its revisions are not comparable with those of the set held.
            _log.warning("the gateway's ledger is another than the set's: the set is dropped")
            self.view = None
            self._building = None
        self.discovered = True
        self._look_up_at = self._monotonic() + DISCOVER_SECONDS

    def _pull(self) -> None:
        begun = self._monotonic()
        view = self.view
        request = pb.PullRequest(view=VIEW, sdk_id=self._sdk_id)
        if view is not None and not self._whole:
            held = view.state.manifest
            request.lineage, request.epoch = held.lineage, held.epoch
            request.revision, request.root = held.revision, held.root
        messages = self._feed.pull(self.feed_address, request, PULL_SECONDS)
        first = next(messages, None)
        if first is None:
            raise GatewayFault("the feed answered nothing")
        head = read_head(first.head, self._trusted)  # (1)
        self._require_rising(head)
        now = self._now()
        if first.kind == pb.PULL_KIND_HEARTBEAT and view is not None:
            state = view.state.confirm(head, now)
            applied, probe = view.applied, view.filter
        elif first.kind == pb.PULL_KIND_SNAPSHOT:
            shards = _read_shards(first, messages, head.bits)
            previous = view.state if view is not None else None
            state = accept_snapshot(head, first.scope.key, shards, previous, now)
            applied, probe = begun, SortedFilter(state.values)
        else:
            raise RefusedError("encoding", "the pull is of a kind that does not fit")
        self._whole = False
        self._high_water[head.lineage] = (head.epoch, head.revision)
        self.min_wait = float(first.scope.min_wait_seconds)
        left = (head.expires_at - now).total_seconds()
        self.view = LocalView(
            state=state,
            filter=probe,
            matters={each.code: _rule(each) for each in first.scope.matters},
            covers_companies="company" in first.scope.covers,
            contact=begun,
            applied=applied,
            fresh_until=begun + min(FRESH_SECONDS, left),  # (3), (4)
        )
        if applied == begun:
            self._building = build_bloom(state.values) if self._use_bloom else None

    def _require_rising(self, head: Manifest) -> None:
        if head.view != VIEW or head.lineage != self._lineage:
            raise RefusedError("lineage", "the head is of another view or ledger")
        if (head.epoch, head.revision) < self._high_water.get(head.lineage, (0, 0)):  # (5)
            raise RefusedError("rollback", "the head is older than one that was seen")


def build_bloom(values: "array[int]") -> Iterator[LocalFilter | None]:
    """Build a Bloom filter in slices: yields `None` while there is more to do, then the filter (6)."""
    bloom = BloomFilter(len(values))
    rest = iter(values)
    while bloom.add_some(rest, SLICE) == SLICE:
        time.sleep(0)
        yield None
    yield bloom


def read_head(head: pb.SignedManifest, trusted: Mapping[str, bytes]) -> Manifest:
    """Verify and then read a signed manifest.

    Raises:
        RefusedError: ``signature``, ``encoding`` or ``algorithm``.
    """
    algorithms = {pb.SIGNATURE_ALGORITHM_ED25519: ED25519}
    signatures = [(each.key_id, algorithms.get(each.algorithm, ""), each.value) for each in head.signatures]
    verify_signatures(head.manifest, signatures, trusted)
    message = pb.Manifest.FromString(head.manifest)
    if message.prf != pb.PRF_ALGORITHM_BLAKE2B_64 or message.digest != pb.DIGEST_ALGORITHM_SHA256:
        raise RefusedError("algorithm", "the set was made with algorithms that are not known here")
    return Manifest(
        view=message.view,
        lineage=message.lineage,
        epoch=message.epoch,
        revision=message.revision,
        root=message.root,
        count=message.count,
        bits=message.bits,
        key_id=message.key_id,
        key_check=message.key_check,
        normalisation=message.normalisation,
        canaries_hit=tuple(message.canaries_hit),
        canaries_miss=tuple(message.canaries_miss),
        issued_at=message.issued_time.ToDatetime(datetime.UTC),
        expires_at=message.expires_time.ToDatetime(datetime.UTC),
    )


def _read_shards(first: pb.PullResponse, rest: Iterator[pb.PullResponse], bits: int) -> "list[array[int]]":
    """Decode the shards of a snapshot as they come, in order and bounded.

    Raises:
        RefusedError: the stream is not 256 shards in order.
        LanjieError: the stream broke.
    """
    shards: list[array[int]] = []
    count = 0
    message: pb.PullResponse | None = first
    while message is not None:
        count += message.count
        if message.kind != pb.PULL_KIND_SNAPSHOT or message.shard != len(shards) or count > MAX_COUNT:
            raise RefusedError("encoding", "the shards do not follow each other")
        shards.append(decode_shard(message.shard, message.count, message.planes, bits))
        if message.last:
            break
        message = next(rest, None)
    if len(shards) != SHARDS:
        raise RefusedError("truncated", f"{len(shards)} of {SHARDS} shards")
    return shards


def _rule(message: pb.MatterScope) -> MatterRule:
    spans = tuple((_day(span.start_date, -_ALWAYS), _day(span.end_date, _ALWAYS)) for span in message.in_force)
    return MatterRule(message.case_no_required, spans)


def _day(text: str, otherwise: int) -> int:
    if not text:
        return otherwise
    try:
        return datetime.date.fromisoformat(text).toordinal() - _EPOCH_DAY
    except ValueError:
        raise RefusedError("encoding", "a day of the scope is no date") from None
