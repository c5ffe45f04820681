"""Keeps the shared copy of the exact index (`adapters.shared_index`) up with the ledger.

1. One host publishes, the one that holds the lock; should two, the copy's own seals keep them from spoiling each
   other's work.
2. At start, and whenever the copy is not what this publisher left there (emptied, restarted, an older copy promoted,
   damaged), it takes stock: sound shards stay, the others are made again from the ledger, and the commits after the
   head's revision follow.
3. Commits never wait for Redis. Where it or the ledger cannot be reached, the publisher tries again, with growing
   pauses.
4. Beside following, it looks at head and seals every beat, and at some shards value by value: damage that no commit
   touches is found within 4 beats in a small copy and 256 in a large one.
5. No step holds the event loop or the ledger's thread for long: control serves calls meanwhile.
"""

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

import structlog

from lanjie_gateway.adapters.ledger import BucketState, Changes, CommitInfo, Ledger, LedgerThread, read_shards
from lanjie_gateway.adapters.shared_codec import SHARDS
from lanjie_gateway.adapters.shared_copy import SharedCopy
from lanjie_gateway.adapters.shared_index import SharedIndex

BEAT_SECONDS: Final = 2.0
FIRST_PAUSE: Final = 0.2
LAST_PAUSE: Final = 5.0
PATIENCE_SECONDS: Final = 1.0
_COMMITS: Final = 100
_LARGE: Final = 20_000
"""Changed buckets from which making all shards again may be cheaper than changing them."""
_WRITTEN: Final = 1_000
_VERIFIED: Final = 64
_VERIFIED_ENTRIES: Final = 2_000
_WAITING_SECONDS: Final = 0.05
_log = structlog.get_logger("lanjie.publisher")


class IndexPublisher:
    """The publisher of one ledger.

    Args:
        ledger: the ledger's thread.
        changes: what its commits changed.
        shared: the copy.
        may_publish: whether this host is the one that publishes; asked again and again.
        beat: seconds between two looks at the copy.
    """

    def __init__(
        self,
        ledger: LedgerThread,
        changes: Changes,
        shared: SharedIndex,
        may_publish: Callable[[], Awaitable[bool]],
        beat: float = BEAT_SECONDS,
    ) -> None:
        self._ledger = ledger
        self._changes = changes
        self._shared = shared
        self._copy = SharedCopy(shared)
        self._may_publish = may_publish
        self._beat = beat
        self._state = "starting"
        self._position: int | None = None
        self._revision = -1
        self._looked = 0.0
        self._next = 0
        self._swept = False
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to publish."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Stop; what was begun is taken up by the next publisher."""
        while self._task is not None and not self._task.done():
            # Again and again: Python 3.11's wait_for, which redis-py sends through, can lose a cancellation.
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=_WAITING_SECONDS)

    def wake(self, revision: int) -> None:
        """Hear of a commit, of whatever host."""
        if revision > self._revision:
            self._wake.set()

    def status(self) -> dict[str, Any]:
        """Return what operators see.

        ``state``: ``starting``, ``building N/256``, ``current``, ``unreachable`` or ``not ours`` (another host
        publishes); ``revision``: up to which the copy is known to be complete, -1 for unknown; ``entries``: buckets.
        """
        return {"state": self._state, "revision": self._revision, "entries": self._copy.entries}

    async def _run(self) -> None:
        pause = FIRST_PAUSE
        while True:
            self._wake.clear()
            try:
                behind = await self._keep_up() if await self._may_publish() else await self._look_on()
                pause = FIRST_PAUSE
                rest = 0.0 if behind else self._beat
            except Exception as error:  # noqa: BLE001  (3) whatever it was, nobody else keeps the copy up
                if self._state != "unreachable":
                    _log.warning("shared_index_not_kept_up", error=type(error).__name__)
                self._state, self._position, self._revision = "unreachable", None, -1
                await asyncio.sleep(pause)
                rest, pause = 0.0, min(2 * pause, LAST_PAUSE)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(rest):
                    await self._wake.wait()

    async def _look_on(self) -> bool:
        """(1) Another host publishes: only see how far it is."""
        self._state, self._position = "not ours", None
        self._revision = await self._shared.revision() or 0
        return False

    async def _keep_up(self) -> bool:
        """Look at the copy when it is time, and bring it on; return whether commits may be left."""
        now = asyncio.get_running_loop().time()
        if self._position is not None and now >= self._looked + self._beat:
            self._looked = now
            if not await self._healthy():
                _log.warning("shared_index_not_as_left")
                self._position = None
        if self._position is None:
            await self._take_stock()
            self._looked = asyncio.get_running_loop().time()
        behind = await self._follow(self._position or 0)
        if not self._swept:
            self._swept = True
            await self._shared.sweep()
        return behind

    async def _healthy(self) -> bool:
        # (4)
        if not await self._copy.intact():
            return False
        for _ in range(min(_VERIFIED, 1 + _VERIFIED_ENTRIES * SHARDS // max(1, self._copy.entries))):
            self._next = (self._next + 1) % SHARDS
            if not await self._copy.verify(self._next):
                await self._rebuild([self._next])
                return False  # so that its new seal gets into a new head
        return True

    async def _take_stock(self) -> None:
        # (2)
        self._revision = -1
        found = await self._copy.survey()
        # Before the shards are read, so that each of them has at least these commits.
        head = await self._ledger.call(Ledger.head)
        if found.revision is None or found.revision > head or not found.sound:
            await self._copy.retract()
            await self._rebuild(range(SHARDS))
            self._position = head
        else:
            await self._rebuild(sorted(set(range(SHARDS)) - found.sound))
            self._position = found.revision
        await self._say(self._position)

    async def _rebuild(self, numbers: Iterable[int]) -> None:
        wanted = list(numbers)
        done = 0
        self._state = f"building 0/{len(wanted)}"
        async for part, floor, shards in read_shards(functools.partial(self._ledger.spare, PATIENCE_SECONDS), wanted):
            replacing = (self._copy.replace(number, states, floor) for number, states in zip(part, shards, strict=True))
            # Not a TaskGroup: in Python 3.11 one whose child fails leaves its parent's count of cancellations raised,
            # and the next timeout then ends the task instead of itself.
            for made in await asyncio.gather(*replacing, return_exceptions=True):
                if isinstance(made, BaseException):
                    raise made
                if not made:
                    raise MovedAwayError
            done += len(part)
            self._state = f"building {done}/{len(wanted)}"

    async def _follow(self, position: int) -> bool:
        """Bring the copy some commits nearer to the ledger's head; return whether more may have come meanwhile."""
        commits = await self._ledger.call(Ledger.commits_after, position, _COMMITS)
        if not commits:
            return False
        if await self._apply_all(commits):
            position = commits[-1].revision
        else:
            position = await self._ledger.call(Ledger.head)
            await self._rebuild(range(SHARDS))
        await self._say(position)
        return True

    async def _apply_all(self, commits: list[CommitInfo]) -> bool:
        """Apply commits; return False if making all shards again is cheaper."""
        states: dict[bytes, BucketState] = {}
        changed = 0
        for commit in commits:
            after: int | None = 0 if commit.kind == "listings" else None
            while after is not None:
                if after:
                    # A big commit reaches workers and SDKs first.
                    await self._ledger.quiet(PATIENCE_SECONDS)
                page, after = await self._changes.page(commit.revision, after)
                states.update((state.bucket, state) for state in page)
                changed += len(page)
                if changed > max(_LARGE, self._copy.entries // 4):
                    return False
                if len(states) >= _WRITTEN:
                    await self._apply(states)
                    states = {}
        await self._apply(states)
        return True

    async def _apply(self, states: dict[bytes, BucketState]) -> None:
        if states:
            await self._rebuild(sorted(await self._copy.apply(states.values())))

    async def _say(self, revision: int) -> None:
        if not await self._copy.finish(revision):
            raise MovedAwayError
        self._position, self._revision, self._state = revision, revision, "current"


class MovedAwayError(Exception):
    """Somebody else writes the copy too; take stock again."""
