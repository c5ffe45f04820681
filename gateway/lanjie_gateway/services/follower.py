"""Everything derived follows the ledger, whoever committed: this gateway, or another host on the same database.

1. A commit of this gateway is told at once and waited for; one of another host is heard of through the journal
   (NOTIFY, and a look every beat).
2. Workers hear of a revision first, then catalogues and the view of the SDKs follow: an SDK that knows a revision finds
   a worker that knows it too, or is about to.
3. The shared copy comes last and is waited for by nobody: workers know which of its records are right.
4. A beat goes out only when the newest revision of the ledger was just seen. Without beats workers and SDKs stop
   answering by themselves (Art. 48: what cannot be proved fresh is asked for, not passed).
5. A ledger that is older than what was told is another one: an older copy of the database has taken its place. What
   workers and SDKs hold of the revisions that were lost would hide what gets those revisions next, so there is no beat
   any more, whatever comes; a restart reads everything anew.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final, Protocol

import structlog

from lanjie_gateway.adapters.feed_client import BEAT_SECONDS, LAG_SECONDS
from lanjie_gateway.adapters.feed_hub import FeedHub
from lanjie_gateway.adapters.ledger import Ledger, LedgerThread
from lanjie_gateway.domain.errors import Unanswerable
from lanjie_gateway.services.calendar import CalendarService
from lanjie_gateway.services.catalogue import CatalogueService
from lanjie_gateway.services.grants import GrantService
from lanjie_gateway.services.views import ViewService

RETRY_SECONDS: Final = 0.2
_log = structlog.get_logger("lanjie.follower")


class Journal(Protocol):
    """Where commits of other hosts are heard of; a ledger of one's own (SQLite) has none."""

    async def head(self) -> int:
        """Return the newest revision, read now."""
        ...

    async def heard(self, timeout: float) -> None:
        """Wait for word of a commit, at most `timeout` seconds."""
        ...


class Follower:
    """Keeps catalogues, calendar, grants, view, workers and the shared copy up with the ledger.

    Args:
        ledger: the ledger's thread.
        journal: word of other hosts' commits; `None` where this gateway is the only writer.
        catalogues: published editions.
        calendar: working days.
        grants: who may ask what.
        views: of the SDKs.
        hub: the feed of the workers.
        shared: told of every revision, for the copy in Redis.
    """

    def __init__(
        self,
        ledger: LedgerThread,
        journal: Journal | None,
        *,
        catalogues: CatalogueService,
        calendar: CalendarService,
        grants: GrantService,
        views: ViewService,
        hub: FeedHub,
        shared: Callable[[int], None],
    ) -> None:
        self._ledger = ledger
        self._journal = journal
        self._catalogues = catalogues
        self._calendar = calendar
        self._grants = grants
        self._views = views
        self._hub = hub
        self._shared = shared
        self._followed = 0
        self._told = 0
        self._seen = float("-inf")
        self._fell_back = False
        self._behind_since: float | None = None
        self._one_at_a_time = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self._news = asyncio.Event()

    async def begin(self) -> None:
        """Read what workers need to start, so that they may do so while `start` reads the rest.

        Raises:
            CatalogueRefused: see `CatalogueService.load_all`.
        """
        self._followed = await self._ledger.call(Ledger.head)
        await self._catalogues.load_all()
        await self._calendar.load_all()
        await self._grants.load_all()
        self._hub.tell(self._followed)

    async def start(self) -> None:
        """Read the view, then follow until `close`."""
        await self._views.start()
        self._tell(self._followed)
        self._shared(self._followed)
        self._tasks = [asyncio.create_task(self._beat()), asyncio.create_task(self._keep_up())]

    async def close(self) -> None:
        """Stop following."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def current(self) -> bool:
        """Whether the newest revision of the ledger was just seen, and the view is not behind it for too long."""
        now = time.monotonic()
        if self._journal is not None and now - self._seen > 3 * BEAT_SECONDS:
            return False
        return self._behind_since is None or now - self._behind_since <= LAG_SECONDS

    async def published(self, revision: int) -> None:
        """Follow a commit of this gateway; return when every live local worker has applied it (1)."""
        self._tell(revision)
        await self._catch_up(revision)
        await self._hub.applied(revision)

    def _tell(self, revision: int) -> None:
        # (2)
        if revision > self._told:
            self._told = revision
            self._behind_since = self._behind_since or time.monotonic()
            self._hub.tell(revision)
            self._news.set()

    async def _catch_up(self, revision: int) -> None:
        async with self._one_at_a_time:
            if revision > self._followed:
                await self._follow_files(revision)
                await self._views.follow(revision)
                self._followed = revision
                # (3)
                self._shared(revision)
            if self._followed >= self._told:
                self._behind_since = None

    async def _follow_files(self, revision: int) -> None:
        after = self._followed
        while after < revision:
            commits = await self._ledger.call(Ledger.commits_after, after, 1_000)
            # What this host published itself is at hand already, with all that came before it.
            if any(commit.kind == "catalogue" and commit.revision > self._catalogues.newest for commit in commits):
                await self._catalogues.load_all()
            if any(commit.kind == "calendar" and commit.revision > self._calendar.newest for commit in commits):
                await self._calendar.load_all()
            if any(commit.kind == "grant" and commit.revision > self._grants.newest for commit in commits):
                await self._grants.load_all()
            after = commits[-1].revision

    async def _beat(self) -> None:
        failing = False
        while True:
            try:
                if self._journal is not None:
                    await self._look(self._journal)
                # (4)
                self._hub.beat(time.monotonic() if self._journal is None else self._seen)
                failing = False
            except Exception as error:  # noqa: BLE001  without beats nobody answers, and nothing else brings them back
                failing = _log_once(error, failing=failing)
            if self._journal is None:
                await asyncio.sleep(BEAT_SECONDS)
            else:
                await self._journal.heard(BEAT_SECONDS)
                # A storm of commits, or a broken connection, may not become a storm of questions.
                await asyncio.sleep(RETRY_SECONDS if failing else 0.01)

    async def _look(self, journal: Journal) -> None:
        begun, told = time.monotonic(), self._told
        head = await journal.head()
        if head < told and not self._fell_back:
            self._fell_back = True
            _log.error("ledger_fell_back", told=told, head=head)
        if self._fell_back:
            raise Unanswerable("NOT_CURRENT", "the ledger is older than what was told of it")  # (5)
        self._tell(head)
        self._seen = begun

    async def _keep_up(self) -> None:
        failing = False
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                await self._catch_up(self._told)
                failing = False
            except Exception as error:  # noqa: BLE001  the view stays behind, so SDKs soon ask instead of passing
                failing = _log_once(error, failing=failing)
                self._news.set()
                await asyncio.sleep(RETRY_SECONDS)


def _log_once(error: Exception, *, failing: bool) -> bool:
    if not failing:
        _log.error("not_following", reason=error.reason if isinstance(error, Unanswerable) else type(error).__name__)
    return True
