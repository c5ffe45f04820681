"""A ledger in memory that signs heads and makes updates, and a line that carries what a test puts on it."""

import datetime
import hashlib
from array import array
from collections import deque
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.timestamp_pb2 import Timestamp

from lanjie._keeper import SetKeeper
from lanjie.errors import LanjieError, Unavailable
from lanjie.v1 import screening_pb2
from lanjie.v1 import sync_pb2 as pb
from lanjie_matcher.fingerprints import ViewKey
from lanjie_matcher.identifiers import NORMALISATION
from lanjie_matcher.shards import Shards, changed, digests_of, encode_shard, encode_values, root_of, split
from lanjie_matcher.views import SIGNED_PREFIX
from tests.support.sdk import Clock

LINEAGE = "ab" * 16
CANARY = "canary:hit"


def clock() -> Clock:
    """Return a clock at an invented morning."""
    return Clock(datetime.datetime(2026, 3, 2, 1, 0, tzinfo=datetime.UTC))


def matter(code: str, start_date: str = "") -> pb.MatterScope:
    """Return a matter that is always in force, or from a day on."""
    return pb.MatterScope(code=code, rules=[pb.MatterRules(days=pb.DateSpan(start_date=start_date))])


def wire(scope: pb.ViewScope) -> bytes:
    """Return a scope as it travels."""
    return scope.SerializeToString(deterministic=True)


class Publisher:
    """Makes heads and updates of a set that changes, as a gateway does.

    Attributes:
        fields: what every head says; a test changes it.
        matters: of the scope.
    """

    def __init__(
        self, clock: Clock, count: int = 300, *, lineage: str = LINEAGE, key: bytes = bytes(range(32))
    ) -> None:
        self.clock = clock
        self.key = key
        self.bits = 40
        self.signing = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
        self.trust = {"sign-1": self.signing.public_key().public_bytes_raw()}
        self.fields: dict[str, Any] = {
            "view": "companies",
            "lineage": lineage,
            "epoch": 1,
            "generation": 1,
            "revision": 10,
            "bits": self.bits,
            "prf": pb.PRF_ALGORITHM_BLAKE2B_64,
            "digest": pb.DIGEST_ALGORITHM_SHA256,
            "key_id": "view-1",
            "normalisation": NORMALISATION,
            "canaries_hit": [CANARY],
            "canaries_miss": ["canary:miss"],
            "bounds": pb.AgeBounds(fresh_seconds=45, soft_seconds=900, stale_seconds=86_400, purge_seconds=172_800),
        }
        self.catalogue_revision = 5
        self.scope_fields: dict[str, Any] = {}
        self.shards: Shards = ()
        self.publish([CANARY, *(f"org:{number:09d}" for number in range(count))])

    @property
    def root(self) -> bytes:
        """Root of the set as it is now."""
        return _root(tuple(shard.tobytes() for shard in self.shards), self.bits)

    @property
    def values(self) -> set[int]:
        """The set as it is now."""
        return {value for shard in self.shards for value in shard}

    def fingerprint(self, key: str) -> int:
        """Return the fingerprint of a canonical key."""
        return ViewKey(self.key, self.bits).fingerprint(key)

    def publish(self, members: Iterable[str]) -> None:
        """Begin with a whole set."""
        self.shards = split(sorted({self.fingerprint(member) for member in members}), self.bits)

    def head(self, **changes: Any) -> pb.SignedManifest:
        """Sign a head of the set as it is now."""
        told = {
            "root": self.root,
            "count": sum(map(len, self.shards)),
            "key_check": ViewKey(self.key, self.bits).key_check(),
            "issued_time": stamp(self.clock.at),
            "expires_time": stamp(self.clock.at + datetime.timedelta(minutes=10)),
            **self.fields,
            "scope_digest": hashlib.sha256(wire(self.scope())).digest(),
            **changes,
        }
        raw = pb.Manifest(**told).SerializeToString(deterministic=True)
        signed = pb.Signature(
            key_id="sign-1",
            algorithm=pb.SIGNATURE_ALGORITHM_ED25519,
            value=self.signing.sign(SIGNED_PREFIX + raw),
        )
        return pb.SignedManifest(manifest=raw, signatures=[signed])

    def scope(self) -> pb.ViewScope:
        """Return key and scope."""
        told = {
            "key": self.key,
            "covers": ["company"],
            "matters": [matter("procurement.supplier")],
            "catalogue_revision": self.catalogue_revision,
            **self.scope_fields,
        }
        return pb.ViewScope(**told)

    def heartbeat(self, **changes: Any) -> pb.Update:
        """Return a head alone."""
        return pb.Update(kind=pb.UPDATE_KIND_HEARTBEAT, head=self.head(**changes))

    def snapshot(self, parts: int = 1, **changes: Any) -> list[pb.Update]:
        """Return the whole set in so many parts."""
        made = [pb.Update(kind=pb.UPDATE_KIND_SNAPSHOT) for _ in range(parts)]
        made[0].head.CopyFrom(self.head(**changes))
        made[0].scope = wire(self.scope())
        made[-1].last = True
        for number, shard in enumerate(self.shards):
            part = made[number * parts // len(self.shards)]
            part.shards.add(number=number, count=len(shard), planes=_planes(shard.tobytes(), self.bits))
        return made

    def commit(self, adds: Iterable[int] = (), removals: Iterable[int] = (), **changes: Any) -> pb.Update:
        """Change the set, and return the delta."""
        update = pb.Update(kind=pb.UPDATE_KIND_DELTA, base_root=self.root)
        added, removed = sorted(set(adds)), sorted(set(removals))
        self.shards, _ = changed(self.shards, added, removed, self.bits)
        self.fields["revision"] += 1
        fill(update, added, removed, self.bits)
        update.head.CopyFrom(self.head(**changes))
        return update

    def keeper(self, state_dir: Path, *, use_bloom: bool = False, turned: bool = True) -> SetKeeper:
        """Return a keeper on its clock, turned to its ledger and leading if nobody else does."""
        made = SetKeeper(
            state_dir, self.trust, use_bloom=use_bloom, monotonic=self.clock.monotonic, now=lambda: self.clock.at
        )
        if turned:
            made.open(self.fields["lineage"])
            made.lead()
        return made


@cache
def _planes(raw: bytes, bits: int) -> bytes:
    return encode_shard(array("Q", raw), bits)


@cache
def _root(raw: tuple[bytes, ...], bits: int) -> bytes:
    return root_of(digests_of((array("Q", each) for each in raw), bits))


def fill(update: pb.Update, adds: Iterable[int], removals: Iterable[int], bits: int = 40) -> None:
    """Put changes into an update."""
    for target, values in ((update.adds, array("Q", adds)), (update.removals, array("Q", removals))):
        target.count, target.planes = len(values), encode_values(values, bits)


def stamp(at: datetime.datetime) -> Timestamp:
    """Return an instant as a message."""
    made = Timestamp()
    made.FromDatetime(at)
    return made


class Line:
    """A `Feed` that a test fills by hand.

    Attributes:
        reachable: whether the gateway is found.
        streams: streams get through; else they end at once.
        pulled: answers of the next pulls, and then errors.
        watches: streams opened so far.
    """

    def __init__(self, publisher: Publisher) -> None:
        self.publisher = publisher
        self.reachable = True
        self.streams = True
        self.discovered = 0
        self.pulls: list[pb.PullRequest] = []
        self.pulled: deque[list[pb.Update]] = deque()
        self.watches: list[Stream] = []

    def discover(self, timeout: float) -> screening_pb2.DiscoverResponse:
        """See `Feed`."""
        del timeout
        self.discovered += 1
        if not self.reachable:
            raise Unavailable("away")
        fields = self.publisher.fields
        return screening_pb2.DiscoverResponse(
            feed_address="feed", lineage=fields["lineage"], epoch=fields["epoch"], revision=fields["revision"]
        )

    def pull(self, feed: str, request: pb.PullRequest, timeout: float) -> Iterator[pb.PullResponse]:
        """See `Feed`."""
        del feed, timeout
        self.pulls.append(request)
        if not self.pulled:
            raise Unavailable("no pull")
        for update in self.pulled.popleft():
            yield pb.PullResponse(update=update)

    def watch(self, feed: str) -> "Stream":
        """See `Feed`."""
        del feed
        self.watches.append(Stream(alive=self.streams))
        return self.watches[-1]


class Stream:
    """A `Watch` that brings what a test puts into `inbox`: updates, or an error that ends it.

    Attributes:
        said: what the client said.
        closed: whether the client ended it.
    """

    def __init__(self, *, alive: bool) -> None:
        self.inbox: deque[pb.Update | LanjieError] = deque()
        self.said: list[pb.WatchRequest] = []
        self.closed = False
        if not alive:
            self.inbox.append(Unavailable("the proxy takes no stream"))

    def send(self, request: pb.WatchRequest) -> None:
        """See `Watch`."""
        self.said.append(request)

    def receive(self, timeout: float) -> pb.WatchResponse | None:
        """See `Watch`."""
        del timeout
        if not self.inbox:
            return None
        found = self.inbox.popleft()
        if isinstance(found, LanjieError):
            raise found
        return pb.WatchResponse(update=found)

    def close(self) -> None:
        """See `Watch`."""
        self.closed = True
