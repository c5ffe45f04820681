"""Says what each SDK is sent next, and knows what each has (Art. 48).

`domain.watching` holds the rules of who is sent what, `services.views` what there is to send; here are the clients that
ask and watch.
"""

import asyncio
import datetime
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field, replace
from typing import Final

from lanjie_gateway.domain.errors import Unanswerable
from lanjie_gateway.domain.watching import Delta, Heartbeat, Offer, Position, Snapshots, Step, Wait, Whole, next_step
from lanjie_gateway.services.views import ViewService
from lanjie_matcher.ages import BEATS, DEFAULT_BOUNDS

BEAT_SECONDS: Final = DEFAULT_BOUNDS.fresh / BEATS
ANSWER_SECONDS: Final = 60.0
"""How long a client may take to answer an update."""
PLACE_SECONDS: Final = 60.0
"""How long a snapshot keeps others waiting: a client on a slow line goes on reading without its place."""
MOST_WATCHING: Final = 5_000
KNOWN_SDKS: Final = 10_000
KNOWN_FOR: Final = datetime.timedelta(days=2)
_ADMISSION_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a client says: what it has, and why it refused the update before, if it did."""

    sdk_id: str
    position: Position
    refusal: str = ""

    @property
    def wanted(self) -> Position:
        """What the next step starts from: nothing after a refusal, so that the same update is not sent again."""
        return replace(self.position, root=b"") if self.refusal else self.position


@dataclass(slots=True, kw_only=True)
class Sdk:
    """One client as this gateway knows it.

    Attributes:
        sdk_id: what it calls itself; another one of another department may do the same.
        department: whose credentials it uses.
        position: what it said it has.
        watching: its streams now.
        since: monotonic seconds of its first contact here.
        last_contact: when it last spoke.
        last_refusal: why it refused an update; empty once it took one.
    """

    sdk_id: str
    department: str
    position: Position = field(default_factory=Position)
    watching: int = 0
    since: float
    last_contact: datetime.datetime
    last_refusal: str = ""


class SyncService:
    """See the module.

    Args:
        views: what there is to send.
        clock: aware instants.

    Attributes:
        counts: updates sent and refusals heard since the start, by name.
        sent_bytes: bytes of the updates sent since the start, by kind; whoever sends them counts here.
    """

    def __init__(self, views: ViewService, clock: Callable[[], datetime.datetime]) -> None:
        self._views = views
        self._clock = clock
        self._snapshots = Snapshots()
        # For each snapshot on its way, by identity, what takes its place back in time.
        self._places: dict[int, asyncio.TimerHandle] = {}
        self._packing = asyncio.Lock()
        # By department and name, in the order of their last contact.
        self._sdks: dict[tuple[str, str], Sdk] = {}
        self._watching = 0
        self._closing = False
        self.counts: Counter[str] = Counter()
        self.sent_bytes: Counter[str] = Counter()

    async def close(self) -> None:
        """Let everybody who watches go: a server that stops would wait for them."""
        self._closing = True
        self._views.stir()

    def awaits(self, generation: int) -> bool:
        """Whether a client that watches has a set, and not yet that of a generation."""
        return any(
            sdk.watching and sdk.position.root and sdk.position.generation != generation for sdk in self._sdks.values()
        )

    async def pull(self, report: Report, department: str) -> AsyncGenerator[Step, None]:
        """Yield the one step that leads a client to the newest set; a snapshot keeps its place until this is closed."""
        self._note(report, department)
        await self._views.whole()
        step = next_step(report.wanted, self._views.offers(), self._snapshots)
        try:
            yield await self._prepared(step)
        finally:
            self._let_go(step)

    async def watch(
        self, told: "asyncio.Queue[Report | None]", department: str
    ) -> AsyncGenerator[tuple[Step, Position], None]:
        """Yield steps for as long as the client answers each; every step goes with the position it starts from.

        A client that refuses an update is sent a whole set; one that refuses that is let go.

        Args:
            told: what the client says: its greeting, then one answer a step; `None` when it has gone.
            department: whose credentials it uses.

        Raises:
            Unanswerable: NOT_CURRENT; OVERLOADED when too many watch.
        """
        if self._watching >= MOST_WATCHING:
            raise Unanswerable("OVERLOADED", "too many SDKs watch this gateway", retry_after_ms="1000")
        self._watching += 1
        known: Sdk | None = None
        step: Step | None = None
        try:
            while (report := await _answer(told)) is not None:
                self._let_go(step)
                answered, step = step, None
                sdk = self._note(report, department, answered)
                greeting = known is None
                if known is not sdk:
                    sdk.watching += 1
                    if known is not None:
                        known.watching -= 1
                    known = sdk
                if report.refusal and isinstance(answered, Whole):
                    # There is nothing else to send. When it comes again is its own affair.
                    return
                step = await self._due(report.wanted, at_once=greeting)
                yield await self._prepared(step), report.position
        finally:
            self._let_go(step)
            self._watching -= 1
            if known is not None:
                known.watching -= 1

    def sdks(self) -> list[Sdk]:
        """Return the clients seen within the last days, most recent contact first."""
        self._forget(KNOWN_SDKS)
        return list(reversed(self._sdks.values()))

    def lag(self, sdk: Sdk) -> tuple[int, float]:
        """Return (revisions, seconds since the first of them) that a client has not got.

        When a commit was made is known from the start of this gateway on: what is older counts from there. To a client
        without a set of this ledger and epoch all is news, from its first contact on.
        """
        position, offer, now = sdk.position, self._views.newest(), time.monotonic()
        revision = offer.view.revision
        if (position.lineage, position.epoch) != (offer.lineage, offer.epoch):
            return revision, now - sdk.since
        if position.revision >= revision:
            return 0, 0.0
        made = self._views.made(position.revision)
        return revision - position.revision, 0.0 if made is None else now - made

    async def _due(self, position: Position, *, at_once: bool) -> Step:
        """Return the next step for a client: at once if there is news for it, else the next heartbeat."""
        beat_at = time.monotonic() + (0.0 if at_once else BEAT_SECONDS)
        while True:
            if self._closing:
                raise Unanswerable("NOT_CURRENT", "this gateway is stopping")
            await self._views.whole()
            stirred = self._views.stirred
            offers = self._views.offers()
            step = next_step(position, offers, self._snapshots)
            left = beat_at - time.monotonic()
            if left <= 0 or not (isinstance(step, Heartbeat) and _knows(position, step.offer)):
                return step
            if step.offer is not offers[0]:
                # A client of the old generation waits for its place.
                left = min(left, _ADMISSION_SECONDS)
            try:
                async with asyncio.timeout(left):
                    await stirred.wait()
            except TimeoutError:
                continue

    def _note(self, report: Report, department: str, answered: Step | None = None) -> Sdk:
        now = self._clock()
        sdk = self._sdks.pop((department, report.sdk_id), None)
        if sdk is None:
            self._forget(KNOWN_SDKS - 1)
            sdk = Sdk(sdk_id=report.sdk_id, department=department, since=time.monotonic(), last_contact=now)
        self._sdks[department, report.sdk_id] = sdk
        sdk.position, sdk.last_contact = report.position, now
        if report.refusal:
            sdk.last_refusal = report.refusal
            self.counts[f"refused-{report.refusal}"] += 1
        elif sdk.last_refusal and (_took(answered) or report.position.root == self._views.view.head()[0]):
            # A greeting alone says nothing: it also comes after a stream that ended with a refusal.
            sdk.last_refusal = ""
        return sdk

    def _forget(self, most: int) -> None:
        """Forget whoever was silent for days, and where more than `most` are known those who were silent longest."""
        now = self._clock()
        gone: list[tuple[str, str]] = []
        for name, sdk in self._sdks.items():
            if now - sdk.last_contact <= KNOWN_FOR and len(self._sdks) - len(gone) <= most:
                break
            if not sdk.watching:
                gone.append(name)
        for name in gone:
            del self._sdks[name]

    async def _prepared(self, step: Step) -> Step:
        self.counts[_NAMES[type(step)]] += 1
        if isinstance(step, Whole):
            loop = asyncio.get_running_loop()
            self._places[id(step)] = loop.call_later(PLACE_SECONDS, self._let_go, step)
            async with self._packing:
                for _ in step.offer.view.packing():
                    await asyncio.sleep(0)
            await self._views.whole()
        return step

    def _let_go(self, step: Step | None) -> None:
        place = self._places.pop(id(step), None)
        if place is not None:
            place.cancel()
            self._snapshots.done()


_NAMES: Final[dict[type, str]] = {Heartbeat: "heartbeat", Delta: "delta", Whole: "snapshot", Wait: "wait"}
KINDS: Final = tuple(_NAMES.values())
"""Names of the kinds of updates, as they are counted."""


async def _answer(told: "asyncio.Queue[Report | None]") -> Report | None:
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await told.get()
    except TimeoutError:
        return None


def _took(answered: Step | None) -> bool:
    """Whether a client that refuses nothing has taken something."""
    return answered is not None and not isinstance(answered, Wait)


def _knows(position: Position, offer: Offer) -> bool:
    """Whether a heartbeat would tell a client nothing but the time."""
    return (position.revision, position.catalogue_revision) == (offer.view.revision, offer.catalogue_revision)
