"""Keeps the companies' view up with the ledger (Art. 48): what SDKs are sent, whoever asks for it and when.

Nothing that is committed is ever held back from a view, and nobody is sent half a commit.

After a rotation of the view key there are two views, of the new generation and of the one before. Both follow the
ledger until the clients that watch have the new one, for a minute at the most.
"""

import asyncio
import bisect
import datetime
import time
from array import array
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from lanjie_gateway.adapters.keys import KeyRing
from lanjie_gateway.adapters.ledger import BucketState, Changes, GenerationGoneError, Ledger, LedgerThread, newest
from lanjie_gateway.domain.errors import Unanswerable
from lanjie_gateway.domain.view import BITS, View
from lanjie_gateway.domain.watching import Offer
from lanjie_gateway.services.catalogue import CatalogueService
from lanjie_gateway.services.grants import GrantService
from lanjie_matcher.catalogues import MatterSpan
from lanjie_matcher.identifiers import NORMALISATION
from lanjie_matcher.shards import SHARDS
from lanjie_matcher.views import Manifest

COMPANIES: Final = "companies"
EXPIRES: Final = datetime.timedelta(minutes=10)
"""How long a head is news: an old one that somebody plays again is noticed after this time."""
SETTLE_SECONDS: Final = 20.0
"""How long a client may wait for a large commit: with a heartbeat before it, less than a set stays fresh."""
GRACE_SECONDS: Final = 60.0
"""How long a generation of the view key is served beside its successor."""
JOURNAL_DAYS: Final = 30
_LOOK_SECONDS: Final = 0.2
_COMMITS_KEPT: Final = 10_000


@dataclass(frozen=True, slots=True)
class MatterSpans:
    """A matter ever defined, and how catalogues in force define it on which days."""

    code: str
    spans: tuple[MatterSpan, ...]


class ViewService:
    """See the module.

    Args:
        ledger: the ledger's thread.
        changes: what its commits changed.
        catalogues: the catalogues as published.
        grants: the grants as they stand; what SDKs may ask goes with their set.
        clock: aware instants.
        current: whether the newest revision of the ledger was just seen.
        awaited: whether a client that watches has yet to take a generation.
        told: called with the seconds from word of a commit to telling who watches.

    Attributes:
        current: as given.
        stirred: set when there is news, and another one then takes its place.
    """

    def __init__(
        self,
        ledger: LedgerThread,
        changes: Changes,
        catalogues: CatalogueService,
        grants: GrantService,
        clock: Callable[[], datetime.datetime],
        *,
        current: Callable[[], bool],
        awaited: Callable[[int], bool],
        told: Callable[[float], None],
    ) -> None:
        self._ledger = ledger
        self._changes = changes
        self._catalogues = catalogues
        self._grants = grants
        self._clock = clock
        self.current = current
        self._awaited = awaited
        self._told = told
        self._views: dict[int, View] = {}
        self._followed = 0
        # Newest commit of which something is in the views.
        self._whole_at = 0
        self._outrun = False
        self._retiring: asyncio.Task[None] | None = None
        self.stirred = asyncio.Event()
        self._settled = asyncio.Event()
        self._commits: deque[tuple[int, float]] = deque(maxlen=_COMMITS_KEPT)

    @property
    def view(self) -> View:
        """The view of the newest generation."""
        return self._views[max(self._views)]

    async def start(self) -> None:
        """Read the whole set from the ledger, and the journal of the last days."""
        self._followed = await self._load()
        self._commits.append((self._followed, time.monotonic()))
        await self.follow(await self._ledger.call(Ledger.head))
        self._settled.set()

    async def follow(self, revision: int) -> None:
        """Take every commit up to `revision`, and tell who watches.

        Raises:
            KeysLostError: another host has made a view key that is not here; until it is, this one has no newer view.
        """
        begun, before = time.monotonic(), self._followed
        while self._followed < max(revision, self._whole_at):
            commits = await self._ledger.call(Ledger.commits_after, self._followed, 100)
            if not commits:
                # Told of before it can be read.
                await asyncio.sleep(_LOOK_SECONDS)
            for commit in commits:
                if commit.kind == "view":
                    await self._ledger.call(Ledger.refresh_generation)
                    await self._begin_generation()
                else:
                    await self._take(commit.revision)
                self._settle(commit.revision)
        for view in self._views.values():
            view.trim(_journal_entries(view), 0)
        self.stir()
        if self._followed > before:
            self._told(time.monotonic() - begun)

    async def close(self) -> None:
        """Stop serving a generation that is giving way."""
        if self._retiring is not None:
            self._retiring.cancel()
            await asyncio.gather(self._retiring, return_exceptions=True)

    async def only_newest(self) -> None:
        """Return when no client is served the view of the generation before any more."""
        if self._retiring is not None:
            await self._retiring

    def offers(self) -> tuple[Offer, ...]:
        """Return the views that may be offered, the newest generation first.

        Raises:
            Unanswerable: NOT_CURRENT. An SDK must not take an old view for a fresh one.
        """
        if not (self._views and self.current()):
            raise Unanswerable("NOT_CURRENT", "this gateway cannot prove that its view is current")
        return tuple(self._offer(generation) for generation in sorted(self._views, reverse=True))

    def newest(self) -> Offer:
        """Return the view of the newest generation, current or not."""
        return self._offer(max(self._views))

    async def whole(self) -> None:
        """Return when no commit is half in the view: nobody is sent a part of one under the revision before it.

        Raises:
            Unanswerable: NOT_CURRENT, the rest of it cannot be read.
        """
        try:
            async with asyncio.timeout(SETTLE_SECONDS):
                while not self._settled.is_set():
                    await self._settled.wait()
        except TimeoutError:
            raise Unanswerable("NOT_CURRENT", "a large commit is still being taken") from None

    def made(self, revision: int) -> float | None:
        """Return the monotonic seconds of the first commit after a revision; `None` where there is none.

        Known from the start of this gateway on: what is older counts from there.
        """
        place = bisect.bisect_right(self._commits, revision, key=lambda commit: commit[0])
        return self._commits[place][1] if place < len(self._commits) else None

    def manifest(self, offer: Offer) -> Manifest:
        """Return the head of a view, as of now."""
        return manifest_of(offer, self._clock())

    def sign(self, message: bytes) -> tuple[str, bytes]:
        """Return (key id, signature)."""
        keys = self._ledger.keys
        return keys.signing_key_id, keys.sign(message)

    def matters(self) -> list[MatterSpans]:
        """Return every matter ever defined, with its days: those to come too, so that 00:00 needs no message."""
        catalogues = self._catalogues.current()
        return [MatterSpans(code, tuple(catalogues.matter_spans(code))) for code in catalogues.matter_codes()]

    def _offer(self, generation: int) -> Offer:
        return Offer(
            lineage=self._ledger.lineage,
            epoch=self._ledger.epoch,
            generation=generation,
            view=self._views[generation],
            catalogue_revision=max(self._catalogues.newest, self._grants.newest),
        )

    async def _load(self) -> int:
        """Make the view of the newest generation; return the revision from which it has to be followed."""
        while True:
            revision, keys, digests = await self._ledger.call(_whole_view)
            view = View(keys.view)
            await asyncio.to_thread(view.load, digests, revision)
            await self._read_late()
            since = self._clock() - datetime.timedelta(days=JOURNAL_DAYS)
            try:
                touched = await self._ledger.call(Ledger.touched_since, since, revision, _journal_entries(view))
            except GenerationGoneError:
                # Another host has switched meanwhile.
                await self._ledger.call(Ledger.refresh_generation)
                continue
            view.recall(*touched)
            self._views = {keys.generation: view}
            return revision

    async def _begin_generation(self) -> None:
        """Make the view of the new generation beside the one before, which goes on until `_retire`."""
        keys = self._ledger.keys
        if keys.generation in self._views:
            return
        view = View(keys.view)
        revision = await self._ledger.call(Ledger.head)
        digests = array("Q")
        for number in range(SHARDS):
            # In parts, so that removals come in between; what they change is followed again.
            digests.extend(await self._ledger.call(Ledger.listed_digests_of, number))
        await asyncio.to_thread(view.load, digests, revision)
        await self._read_late()
        self._settled.clear()
        self._views[keys.generation] = view
        if self._retiring is not None:
            self._retiring.cancel()
        self._retiring = asyncio.create_task(self._retire())

    async def _read_late(self) -> None:
        """Hear that a set was read in steps: what was committed meanwhile may be in it."""
        self._whole_at = max(self._whole_at, await self._ledger.call(Ledger.head))

    async def _retire(self) -> None:
        newest = max(self._views)
        until = time.monotonic() + GRACE_SECONDS
        while time.monotonic() < until and self._awaited(newest):  # noqa: ASYNC110  clients come and go without telling
            await asyncio.sleep(_LOOK_SECONDS)
        self._views = {newest: self._views[newest]}
        self.stir()

    async def _take(self, revision: int) -> None:
        cursor: int | None = 0
        while cursor is not None:
            states, cursor = await self._changes.page(revision, cursor)
            self._whole_at = max(self._whole_at, newest(states))
            self._settled.clear()
            for state in states:
                self._put(state)
        if self._outrun:
            await self._ledger.call(Ledger.refresh_generation)
            await self._load()
            self._outrun = False

    def _put(self, state: BucketState) -> None:
        for generation, view in list(self._views.items()):
            try:
                digest = state.digest(generation)
            except GenerationGoneError:
                if len(self._views) > 1:
                    del self._views[generation]
                else:
                    # Other hosts have rotated faster than this one heard of it: nothing is left to follow.
                    self._outrun = True
                continue
            if digest is not None:
                view.put(digest, listed=state.listed)

    def _settle(self, revision: int) -> None:
        """Say that a commit is in the views; they are not sent while there is something of a later one in them."""
        self._followed = revision
        if revision < self._whole_at:
            return
        for view in self._views.values():
            view.advance(revision)
        self._commits.append((revision, time.monotonic()))
        self._settled.set()

    def stir(self) -> None:
        """Wake everybody who waits for news."""
        stirred, self.stirred = self.stirred, asyncio.Event()
        stirred.set()


def manifest_of(offer: Offer, now: datetime.datetime) -> Manifest:
    """Return the head of a view that is signed at the aware instant `now`."""
    root, count = offer.view.head()
    hits, misses = offer.view.canaries()
    return Manifest(
        view=COMPANIES,
        lineage=offer.lineage,
        epoch=offer.epoch,
        generation=offer.generation,
        revision=offer.view.revision,
        root=root,
        count=count,
        bits=BITS,
        key_id=f"view-{offer.generation}",
        key_check=offer.view.key.key_check(),
        normalisation=NORMALISATION,
        canaries_hit=hits,
        canaries_miss=misses,
        issued_at=now,
        expires_at=now + EXPIRES,
    )


def _whole_view(ledger: Ledger) -> "tuple[int, KeyRing, array[int]]":
    """Return (head, keys, digests under their view key); a commit may come in between, and is followed later."""
    while True:
        revision, keys = ledger.head(), ledger.keys
        try:
            return revision, keys, ledger.listed_digests()
        except GenerationGoneError:
            ledger.refresh_generation()


def _journal_entries(view: View) -> int:
    return max(10_000, view.head()[1] // 5)
