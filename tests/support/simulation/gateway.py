"""A gateway of the simulation: real views, rules and encoding, driven without gRPC and without waiting.

What `services.views` and `services.sync` do with asyncio stands here in plain calls: following the ledger, a view for
each generation of the key, the queue of a watching client, the time of its next heartbeat. Beside it a worker, which
answers hits.
"""

import datetime
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.message import DecodeError

from lanjie.errors import LanjieError, error_of
from lanjie.v1 import screening_pb2
from lanjie.v1 import sync_pb2 as pb
from lanjie_gateway.api import sync as api
from lanjie_gateway.domain.access import Role
from lanjie_gateway.domain.errors import Refused, Unanswerable
from lanjie_gateway.domain.view import View
from lanjie_gateway.domain.watching import Heartbeat, Offer, Position, Snapshots, Step, Whole, next_step
from lanjie_gateway.services import sync, views
from lanjie_gateway.services.sync import ANSWER_SECONDS, BEAT_SECONDS
from lanjie_gateway.services.views import GRACE_SECONDS, MatterSpans
from lanjie_matcher.catalogues import Matter, MatterSpan
from lanjie_matcher.decide import Outcome
from lanjie_matcher.identifiers import parse
from tests.support.callers import local
from tests.support.simulation import subjects
from tests.support.simulation.ledger import Commit, Policy, day_of

if TYPE_CHECKING:
    from tests.support.simulation.world import World

LINEAGE = "5a" * 16
MOST_BEHIND = 10.0
"""Seconds that a gateway may be behind and still call itself current."""
_ALWAYS = datetime.date(2020, 1, 1)
_SIGNING = Ed25519PrivateKey.from_private_bytes(b"simulated signing key, 32 bytes.")
TRUSTED = {"sign": _SIGNING.public_key().public_bytes_raw()}


def unavailable(reason: str = "") -> LanjieError:
    """The error of a call that did not get through."""
    return error_of("UNAVAILABLE", reason, "simulated", {})


def listed(commit: Commit) -> frozenset[int]:
    """Whom a gateway puts into the view at a commit."""
    return commit.listed


@dataclass(slots=True)
class Served:
    """One client that watches, as the gateway sees it."""

    told: "deque[tuple[Position, str]]" = field(default_factory=deque)
    asking: Position | None = None
    beat_at: float = 0.0
    greeted: bool = False
    step: Step | None = None
    sent_at: float = 0.0


class Gateway:
    """See the module. Its memory is lost with `stop`.

    Attributes:
        behind: seconds by which it follows the ledger late.
    """

    def __init__(self, world: "World", *, places: int, recalled: int) -> None:
        self._world = world
        self._places = places
        self._recalled = recalled
        self.up = False
        self.behind = 0.0
        self.views: dict[int, View] = {}
        self._rotated: dict[int, float] = {}
        self._encoder = api.UpdateEncoder(
            lambda offer: views.manifest_of(offer, self._world.true_time()),
            lambda message: ("sign", _SIGNING.sign(message)),
            self._matters,
        )
        self.start()

    def start(self) -> None:
        """Read the view from the ledger, and the journal as far as it is kept."""
        ledger = self._world.ledger
        self.up, self.epoch, self.revision = True, ledger.epoch, 0
        self.snapshots = Snapshots(self._places)
        self.served: dict[Any, Served] = {}
        self.revision = self._newest().revision
        self.views = {ledger.generation: self._loaded(ledger.generation)}
        self._rotated = {ledger.generation: float("-inf")}

    def stop(self) -> None:
        """Die: every stream ends."""
        self.up = False
        self.served.clear()

    def _newest(self) -> Commit:
        seen = self._world.now - self.behind
        commits, revision = self._world.ledger.past[self.epoch], self.revision
        while revision + 1 < len(commits) and commits[revision + 1].at <= seen:
            revision += 1
        return commits[revision]

    def _loaded(self, generation: int) -> View:
        """As `SyncService._load`: the whole set, and the journal of what touched it, newest first."""
        commits = self._world.ledger.past[self.epoch][: self.revision + 1]
        view = View(subjects.view_key(generation))
        view.load(_digests(generation, listed(commits[-1])), self.revision)
        touched = [(each.revision, number) for each in reversed(commits) for number in _companies(each.touched)]
        begin = touched[self._recalled][0] if len(touched) > self._recalled else 0
        entries = [(revision, subjects.digest(generation, number)) for revision, number in touched if revision > begin]
        view.recall(entries, begin)
        return view

    def follow(self) -> None:
        """Take every commit that has reached this gateway."""
        ledger, now = self._world.ledger, self._world.now
        if not self.up or ledger.epoch != self.epoch:
            return
        for commit in ledger.commits[self.revision + 1 : self._newest().revision + 1]:
            here = listed(commit)
            for generation, view in self.views.items():
                for number in _companies(commit.touched):
                    view.put(subjects.digest(generation, number), listed=number in here)
                view.advance(commit.revision)
            self.revision = commit.revision
        if ledger.generation not in self.views and ledger.rotated_at <= now - self.behind:
            self.views[ledger.generation] = self._loaded(ledger.generation)
            self._rotated[ledger.generation] = now
        newest = max(self.views)
        if len(self.views) > 1 and now - self._rotated[newest] > GRACE_SECONDS:
            self.views = {newest: self.views[newest]}

    def offers(self) -> tuple[Offer, ...]:
        """As `SyncService.offers`."""
        superseded = self._world.ledger.superseded_at(self.epoch, self.revision)
        if superseded is not None and self._world.now - superseded > MOST_BEHIND:
            raise Unanswerable("NOT_CURRENT", "this gateway cannot prove that its view is current")
        catalogue = self._world.ledger.past[self.epoch][self.revision].catalogue
        return tuple(
            Offer(
                lineage=LINEAGE,
                epoch=self.epoch,
                generation=generation,
                view=self.views[generation],
                catalogue_revision=catalogue,
            )
            for generation in sorted(self.views, reverse=True)
        )

    def pull(self, request: bytes) -> list[bytes]:
        """Answer a pull."""
        self.require_up()
        try:
            report = api._report(pb.PullRequest.FromString(request).state, 0)
            step = next_step(report.position, self.offers(), self.snapshots)
        except (DecodeError, Refused, Unanswerable) as error:
            raise unavailable() from error
        try:
            return self._wire(step, report.position)
        finally:
            self._let_go(step)

    def hear(self, stream: Any, request: bytes) -> None:
        """Hear a client that watches; a message that cannot be read ends its stream."""
        served = self.served.setdefault(stream, Served())
        try:
            message = pb.WatchRequest.FromString(request)
            served.told.append((api._report(message.state, message.refusal).position, ""))
        except (DecodeError, Refused, Unanswerable):
            self.hang_up(stream)
            stream.end()

    def hang_up(self, stream: Any) -> None:
        """Forget a stream."""
        served = self.served.pop(stream, None)
        if served is not None:
            self._let_go(served.step)

    def serve(self) -> None:
        """Send what is due to those who watch."""
        for stream, served in list(self.served.items()):
            try:
                self._serve(stream, served)
            except Unanswerable:
                self.hang_up(stream)
                stream.end()

    def check(self, request: screening_pb2.CheckRequest, lag: float) -> screening_pb2.CheckResponse:
        """Answer a question as a worker does that is `lag` seconds behind."""
        self.require_up()
        ledger, now = self._world.ledger, self._world.now
        commit = max((each for each in ledger.commits if each.at <= now - lag or not each.revision), key=_revision)
        if request.at_least_revision > commit.revision:
            raise unavailable("REVISION_NOT_REACHED")
        key, day = parse(request.subject.identifier).key, day_of(now)
        found = [each for each in commit.entries.values() if subjects.identifier(each.subject).key == key]
        outcome = Outcome.INTERCEPT if any(each.in_force(day) for each in found) else Outcome.PASS
        decision = screening_pb2.Decision(
            outcome=screening_pb2.Outcome.Value(f"OUTCOME_{outcome.name}"),
            source=screening_pb2.SOURCE_GATEWAY,
            revision=commit.revision,
            epoch=ledger.epoch,
            lineage=LINEAGE,
        )
        decision.as_of_time.FromDatetime(self._world.true_time())
        return screening_pb2.CheckResponse(decision=decision)

    def require_up(self) -> None:
        """Refuse a call to a gateway that is not there."""
        if not self.up:
            raise unavailable()

    def _serve(self, stream: Any, served: Served) -> None:
        now = self._world.now
        if served.asking is None:
            if not served.told:
                if served.step is not None and now - served.sent_at > ANSWER_SECONDS:
                    self.hang_up(stream)
                    stream.end()
                return
            self._let_go(served.step)
            served.step = None
            served.asking, _ = served.told.popleft()
            served.beat_at = now + (BEAT_SECONDS if served.greeted else 0.0)
            served.greeted = True
        step = next_step(served.asking, self.offers(), self.snapshots)
        if now < served.beat_at and isinstance(step, Heartbeat) and sync._knows(served.asking, step.offer):
            return
        position, served.asking = served.asking, None
        served.step, served.sent_at = step, now
        stream.bring(self._wire(step, position))

    def _wire(self, step: Step, position: Position) -> list[bytes]:
        self._world.judge.step(step, position)
        messages = (
            pb.WatchResponse(update=update) for update in self._encoder.of(step, position, local(Role.INQUIRER))
        )
        return [message.SerializeToString() for message in messages]

    def _let_go(self, step: Step | None) -> None:
        if isinstance(step, Whole):
            self.snapshots.done()

    def _matters(self) -> list[MatterSpans]:
        policies = self._world.ledger.past[self.epoch][self.revision].policies
        return [
            MatterSpans(code, (MatterSpan(_matter(code, policy), _ALWAYS, None),)) for code, policy in policies.items()
        ]


def _matter(code: str, policy: Policy) -> Matter:
    return Matter(code=code, name=code, high_consequence=policy.high_consequence, stale_pass=policy.stale_pass)


def _revision(commit: Commit) -> int:
    return commit.revision


def _companies(numbers: frozenset[int]) -> Iterator[int]:
    return (number for number in sorted(numbers) if number < subjects.COMPANIES)


def _digests(generation: int, numbers: frozenset[int]) -> Iterator[int]:
    return (subjects.digest(generation, number) for number in _companies(numbers))
