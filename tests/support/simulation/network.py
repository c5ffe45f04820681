"""The network of the simulation: serialised messages, and what happens to them on their way.

`Faults` are rates from 0 to 1, by update. What a schedule keeps up for ever stands in `lasting`. Whoever sits in the
network may also replay whatever passed there, or freeze the clients: let through nothing, and answer with what once
passed.
"""

import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError

from lanjie.errors import GatewayFault, error_of
from lanjie.v1 import audit_pb2, feedback_pb2, receipt_pb2, screening_pb2, watch_pb2
from lanjie.v1 import sync_pb2 as pb
from lanjie_matcher.shards import decode_values, encode_values
from tests.support.simulation.gateway import LINEAGE, Gateway, unavailable
from tests.support.simulation.subjects import BITS

if TYPE_CHECKING:
    from tests.support.simulation.counter import Process
    from tests.support.simulation.world import World

REMEMBERED = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """Rates; `delay` is the most seconds a message may take, `lasting` an asymmetric fault that never heals.

    `lasting` is ``""``, ``watch-refused``, ``watch-deaf`` (nothing arrives at the client) or ``watch-mute`` (nothing
    arrives at the gateway).
    """

    drop: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    delay: float = 0.0
    truncate: float = 0.0
    corrupt: float = 0.0
    replay: float = 0.0
    forge: float = 0.0
    cut: float = 0.0
    cut_silently: float = 0.0
    refuse: float = 0.0
    lasting: str = ""

    @property
    def loyal(self) -> bool:
        """Whether a message, if it arrives, arrives once, as it was sent, and in its turn."""
        return not (self.duplicate or self.reorder or self.truncate or self.corrupt or self.replay or self.forge)


class Stream:
    """A stream between a client and a gateway; the transport of a client takes it for a `Watch`."""

    def __init__(self, network: "Network", gateway: Gateway) -> None:
        self._network = network
        self.gateway = gateway
        self._up: list[tuple[float, bytes]] = []
        self._down: list[tuple[float, bytes]] = []
        self._silent = False
        self._ended = False
        self._last = 0.0
        self.idle = False

    def send(self, request: pb.WatchRequest) -> None:
        """Part of `Watch`."""
        if self._ended:
            raise unavailable()
        self._network.acknowledge(request.state)
        if self._network.frozen:
            at = self._network.now + self._network.random.uniform(1, 20)
            self._down += [(at, each) for each in self._network.old(request.state)]
        elif not self._silent and self._network.faults.lasting != "watch-mute":
            for at, message in self._network.carried([request.SerializeToString()]):
                self._up.append((at, message))

    def receive(self, timeout: float) -> pb.WatchResponse | None:
        """Part of `Watch`; what is there now."""
        self.idle = False
        now = self._network.now
        arrived = min((each for each in self._down if each[0] <= now), default=None, key=lambda each: each[0])
        if arrived is None:
            if self._ended:
                raise unavailable()
            self.idle = True
            return None
        self._down.remove(arrived)
        try:
            return pb.WatchResponse.FromString(arrived[1])
        except DecodeError:
            raise error_of("INTERNAL", "", "", {}) from None

    def waits(self) -> bool:
        """Whether nothing is there for the client now."""
        return not self._ended and all(at > self._network.now for at, _ in self._down)

    def close(self) -> None:
        """Part of `Watch`."""
        self.gateway.hang_up(self)
        self._ended, self._up, self._down = True, [], []
        self._network.streams.pop(self, None)

    def end(self) -> None:
        """The gateway's end is gone, and the client is told, unless the stream was cut silently."""
        if not self._silent:
            self._ended = True

    def cut(self, *, silently: bool) -> None:
        """Cut it."""
        self.gateway.hang_up(self)
        self._silent, self._up = True, []
        self._ended = self._ended or not silently

    def bring(self, messages: list[bytes]) -> None:
        """Carry what the gateway sends."""
        network = self._network
        network.remember(messages)
        if self._silent or network.frozen or network.faults.lasting == "watch-deaf":
            return
        for at, message in network.carried(messages, downwards=True):
            # In its turn, unless this one is to overtake.
            self._last = max(self._last, at)
            overtakes = network.faults.reorder and network.random.random() < network.faults.reorder
            self._down.append((at if overtakes else self._last, message))

    def pump(self) -> None:
        """Bring to the gateway what has arrived there."""
        due = [each for each in self._up if each[0] <= self._network.now]
        for each in due:
            self._up.remove(each)
            if self.gateway.up and not self._silent:
                self.gateway.hear(self, each[1])


class Network:
    """See the module.

    Attributes:
        faults: as they are now.
        frozen: whether the clients are frozen.
        streams: those that are open.
    """

    def __init__(self, world: "World", rng: random.Random, faults: Faults) -> None:
        self._world = world
        self.random = rng
        self.faults = faults
        self.frozen = False
        self.speaking: Process | None = None
        self.streams: dict[Stream, None] = {}
        self._passed: deque[list[bytes]] = deque(maxlen=REMEMBERED)
        self._deltas: deque[list[bytes]] = deque(maxlen=3)

    @property
    def now(self) -> float:
        """Seconds of the simulation."""
        return self._world.now

    def acknowledge(self, state: pb.ClientState) -> None:
        """Note what a client says it has on its disk."""
        if self.speaking is not None:
            self._world.judge.acknowledged(self.speaking, state)

    def happens(self, rate: float) -> bool:
        """Whether something of a rate happens."""
        return rate > 0 and self.random.random() < rate

    def remember(self, messages: list[bytes]) -> None:
        """Keep what passes, for those who replay it."""
        self._passed.append(messages)
        if self.faults.replay and _kind(messages[0]) == pb.UPDATE_KIND_DELTA:
            self._deltas.append(messages)

    def old(self, state: pb.ClientState) -> list[bytes]:
        """What once passed and fits a client best: a heartbeat for its set, and not always the newest."""
        fitting = [each for each in self._passed if _fits(each[0], state)]
        if not fitting:
            return []
        return fitting[-1] if self.random.random() < 0.5 else self.random.choice(fitting)

    def carried(self, messages: list[bytes], *, downwards: bool = False) -> Iterator[tuple[float, bytes]]:
        """Yield what arrives of messages, and when."""
        faults = self.faults
        if downwards and self._passed and self.happens(faults.replay):
            # Rather a late change that was meant for somebody else.
            among = self._deltas if self._deltas and self.random.random() < 0.5 else self._passed
            messages = [*self.random.choice(among), *messages][:: self.random.choice((1, 1, -1))]
        # One message of an update at most, else hardly any snapshot would ever arrive whole.
        unlucky = self.random.randrange(len(messages))
        for place, message in enumerate(messages):
            at = self.now + (self.random.uniform(0, faults.delay) if faults.delay else 0.0)
            if place != unlucky:
                yield at, message
            elif not self.happens(faults.drop):
                for _ in range(2 if self.happens(faults.duplicate) else 1):
                    yield at, self._harmed(message, downwards=downwards)

    def _harmed(self, message: bytes, *, downwards: bool) -> bytes:
        faults = self.faults
        if self.happens(faults.truncate):
            return message[: self.random.randrange(len(message) + 1)]
        if message and self.happens(faults.corrupt):
            place = self.random.randrange(len(message))
            harm = 1 << self.random.randrange(8)
            return message[:place] + bytes([message[place] ^ harm]) + message[place + 1 :]
        if downwards and self.happens(faults.forge):
            return _forged(message, self.random)
        return message


class SimTransport:
    """The `Transport` of one process."""

    def __init__(self, world: "World", process: "Process") -> None:
        self._world = world
        self._process = process

    def discover(self, timeout: float) -> screening_pb2.DiscoverResponse:
        """See `Transport`. A frozen client hears what it would like to hear."""
        network = self._world.network
        if not network.frozen:
            self._reach().require_up()
        epoch = self._process.epoch if network.frozen else self._world.ledger.epoch
        return screening_pb2.DiscoverResponse(feed_address="feed", lineage=LINEAGE, epoch=epoch)

    def pull(self, feed: str, request: pb.PullRequest, timeout: float) -> Iterator[pb.PullResponse]:
        """See `Transport`."""
        network = self._world.network
        network.acknowledge(request.state)
        if network.frozen:
            messages = network.old(request.state)
        else:
            messages = self._reach().pull(request.SerializeToString())
            network.remember(messages)
            messages = [message for _, message in network.carried(messages, downwards=True)]
            self._world.pass_time(network.faults.delay)
        if not messages:
            raise unavailable()
        try:
            return iter([pb.PullResponse.FromString(message) for message in messages])
        except DecodeError:
            raise error_of("INTERNAL", "", "", {}) from None

    def watch(self, feed: str) -> Stream:
        """See `Transport`."""
        network = self._world.network
        if network.faults.lasting == "watch-refused":
            raise unavailable()
        gateway = self._world.any_gateway() if network.frozen else self._reach()
        if not network.frozen:
            gateway.require_up()
        stream = Stream(network, gateway)
        network.streams[stream] = None
        self._process.stream = stream
        return stream

    def check(self, request: screening_pb2.CheckRequest, timeout: float) -> screening_pb2.CheckResponse:
        """See `Transport`."""
        if self._world.network.frozen:
            raise unavailable()
        return self._reach().check(request, self._world.worker_lag())

    def batch_check(self, request: screening_pb2.BatchCheckRequest, timeout: float) -> screening_pb2.BatchCheckResponse:
        """See `Transport`."""
        raise unavailable()

    def report(self, feed: str, request: feedback_pb2.ReportRequest, timeout: float) -> feedback_pb2.ReportResponse:
        """See `Transport`. Nobody reports in a simulation."""
        raise NotImplementedError

    def receipt(self, feed: str, request: receipt_pb2.IssueRequest, timeout: float) -> receipt_pb2.IssueResponse:
        """See `Transport`. Nobody asks for receipts in a simulation."""
        raise NotImplementedError

    def watching(self, feed: str, method: str, request: Any, timeout: float) -> Any:
        del feed, method, request, timeout
        raise GatewayFault("this gateway in memory keeps no watches")

    def follow_alerts(
        self, feed: str, request: watch_pb2.StreamAlertsRequest
    ) -> Iterator[watch_pb2.StreamAlertsResponse]:
        del feed, request
        raise GatewayFault("this gateway in memory keeps no watches")

    def upload(
        self, feed: str, request: audit_pb2.UploadLocalPassesRequest, timeout: float
    ) -> audit_pb2.UploadLocalPassesResponse:
        """See `Transport`."""
        raise unavailable()

    def close(self) -> None:
        """See `Transport`."""

    def _reach(self) -> Gateway:
        network = self._world.network
        if network.happens(network.faults.refuse):
            raise unavailable()
        return self._world.any_gateway()


def _kind(message: bytes) -> int:
    return pb.WatchResponse.FromString(message).update.kind


def _fits(message: bytes, state: pb.ClientState) -> bool:
    update = pb.WatchResponse.FromString(message).update
    if update.kind == pb.UPDATE_KIND_SNAPSHOT:
        return not state.root
    head = pb.Manifest.FromString(update.head.manifest)
    if update.kind == pb.UPDATE_KIND_DELTA:
        return update.base_root == state.root
    return bool(state.root) and head.root == state.root and head.epoch == state.epoch


def _forged(message: bytes, rng: random.Random) -> bytes:
    """What somebody would send who cannot sign: a head of a later revision, or a set with a subject less."""
    made = pb.WatchResponse.FromString(message)
    update = made.update
    parts: list[pb.Fingerprints | pb.Shard] = [update.adds, update.removals, *update.shards]
    full = [each for each in parts if each.count]
    if full and rng.random() < 0.7:
        harmed = rng.choice(full)
        bits = BITS - 8 if isinstance(harmed, pb.Shard) else BITS
        values = decode_values(harmed.count, harmed.planes, bits)
        del values[rng.randrange(len(values))]
        harmed.count, harmed.planes = len(values), encode_values(values, bits)
    elif update.HasField("head"):
        head = pb.Manifest.FromString(update.head.manifest)
        head.revision += rng.randint(1, 1_000)
        update.head.manifest = head.SerializeToString()
    return made.SerializeToString()
