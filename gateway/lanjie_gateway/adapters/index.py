"""The exact index of a worker: bucket -> packed listings, with a short memory of what was there before.

One mechanism serves two needs (docs/adr/0005): a commit of a million rows arrives in slices and becomes readable at
once, and the parts of a batch are judged on one revision although commits go on between them. Every overwritten entry
is remembered with the revision that replaced it; a read at an older revision takes it from there. Memories older than
`HOLD_SECONDS` are dropped, slice by slice.

`TableIndex` holds the records themselves; they stay bytes, because objects would cost a garbage collector pause of a
tenth of a second a million. `redis_index.RedisIndex` holds only which record each bucket must have (docs/adr/0007).
"""

import asyncio
import datetime
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Generic, TypeVar

from lanjie_gateway.adapters.shared_codec import packed_of
from lanjie_gateway.domain.errors import Refused
from lanjie_matcher.catalogues import CatalogueSet

HOLD_SECONDS: Final = 60.0
Entry = tuple[bytes, int, bytes]
"""Bucket, revision of the newest commit that changed it, packed listings (empty for none)."""
Sources = Mapping[tuple[str, str], datetime.date]
"""By code of a list type and name of a source, the day up to which it has vouched."""
_T = TypeVar("_T")
_V = TypeVar("_V")


class MovedError(Exception):
    """What was asked for changed after the revision it was asked at.

    Attributes:
        revision: at which it can be read.
    """

    def __init__(self, revision: int) -> None:
        super().__init__(f"changed at revision {revision}")
        self.revision = revision


class ExactIndex(ABC, Generic[_V]):
    """Buckets, catalogues and sources by revision; `_V` is what is held of a bucket. Used from one event loop."""

    def __init__(self) -> None:
        self.revision = 0
        self._oldest = 0
        # bucket -> ((revision that replaced it, what was held until then), ...), oldest first
        self._before: dict[bytes, tuple[tuple[int, _V], ...]] = {}
        self._touched: deque[tuple[int, list[bytes]]] = deque()
        self._advanced: deque[tuple[int, float]] = deque()
        self._catalogues: list[tuple[int, CatalogueSet]] = [(0, CatalogueSet())]
        self._next_catalogues: CatalogueSet | None = None
        self._sources: list[tuple[int, Sources]] = [(0, {})]
        self._next_sources: Sources | None = None
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of buckets with listings."""

    @abstractmethod
    def reset(self) -> None:
        """Forget everything that was loaded."""

    @abstractmethod
    def load(self, entries: Iterable[Entry]) -> None:
        """Take a whole shard from the ledger, in any order; nothing reads before the first `advance`."""

    @abstractmethod
    def take_copy(self, shard: dict[bytes, bytes]) -> None:
        """Take a whole shard of the copy in Redis, proved sound, its values as they stand there (`shared_codec`)."""

    @abstractmethod
    async def read(self, buckets: Sequence[bytes], revision: int) -> list[bytes]:
        """Return the packed listings of buckets at a revision that `pin` gave; empty for none.

        Raises:
            MovedError: one of them can only be read at a later revision.
            Unanswerable: INDEX_UNAVAILABLE.
        """

    @abstractmethod
    def _put(self, entry: Entry) -> _V:
        """Hold the new state of a bucket; return what was held of it."""

    def stage(self, revision: int, slice_: Sequence[Entry]) -> None:
        """Take a slice of the commit `revision`; readers see it after `advance` only."""
        before = self._before
        for entry in slice_:
            bucket = entry[0]
            old = self._put(entry)
            history = before.get(bucket, ())
            if not history or history[-1][0] < revision:
                before[bucket] = (*history, (revision, old))
        self._touched.append((revision, [entry[0] for entry in slice_]))

    def stage_catalogues(self, catalogues: CatalogueSet) -> None:
        """Take the catalogues of the commit that comes next."""
        self._next_catalogues = catalogues

    def stage_sources(self, sources: Sources) -> None:
        """Take the days up to which sources vouch with the commit that comes next: all of them before the first one."""
        known = self._sources[-1][1] if self.revision else {}
        self._next_sources = {**known, **sources}

    def advance(self, revision: int, now: float) -> None:
        """Make everything staged for `revision` readable at once.

        Args:
            revision: the commit.
            now: monotonic seconds.
        """
        if self._next_catalogues is not None:
            self._catalogues.append((revision, self._next_catalogues))
            self._next_catalogues = None
        if self._next_sources is not None:
            self._sources.append((revision, self._next_sources))
            self._next_sources = None
        if self.revision == 0:
            self._oldest = revision
        self.revision = revision
        self._advanced.append((revision, now))
        for entry in [entry for entry in self._waiting if entry[0] <= revision]:
            self._waiting.remove(entry)
            if not entry[1].done():
                entry[1].set_result(None)

    def compact(self, now: float, most: int = 2_000) -> None:
        """Forget, a slice of at most `most` buckets a call, what no pinned read may ask for any more."""
        while len(self._advanced) > 1 and self._advanced[1][1] <= now - HOLD_SECONDS:
            self._advanced.popleft()
            self._oldest = self._advanced[0][0]
        _forget(self._catalogues, self._oldest)
        _forget(self._sources, self._oldest)
        budget = most
        while self._touched and self._touched[0][0] <= self._oldest and budget > 0:
            _, buckets = self._touched.popleft()
            for bucket in buckets:
                kept = tuple(entry for entry in self._before.get(bucket, ()) if entry[0] > self._oldest)
                if kept:
                    self._before[bucket] = kept
                else:
                    self._before.pop(bucket, None)
            budget -= len(buckets)

    def held_until(self, bucket: bytes, revision: int) -> _V | None:
        """Return what was held of a bucket at an older revision; `None` where it has not changed since."""
        if self._before:
            for until, held in self._before.get(bucket, ()):
                if revision < until:
                    return held
        return None

    def stands(self, buckets: Iterable[bytes], revision: int) -> bool:
        """Return whether what was read of buckets at a revision, and its catalogues, is what the newest one says.

        What is staged and not yet readable does not count; what is no longer remembered does.
        """
        if revision == self.revision:
            return True
        if revision < self._oldest or self.catalogues(revision) is not self.catalogues(self.revision):
            return False
        return not any(revision < until <= self.revision for each in buckets for until, _ in self._before.get(each, ()))

    def catalogues(self, revision: int) -> CatalogueSet:
        """Return the catalogues at a revision that `pin` gave."""
        return _at(self._catalogues, revision)

    def sources(self, revision: int) -> Sources:
        """Return the days up to which sources had vouched at a revision that `pin` gave."""
        return _at(self._sources, revision)

    def pin(self, revision: int) -> int:
        """Return the revision to read at: the one asked for, or the newest for 0.

        Raises:
            Refused: REVISION_COMPACTED, the revision is no longer (or not yet) held.
        """
        if revision == 0:
            return self.revision
        if not self._oldest <= revision <= self.revision:
            raise compacted(self._oldest)
        return revision

    async def reached(self, revision: int, timeout: float) -> bool:
        """Wait until `revision` is readable, at most `timeout` seconds; return whether it is."""
        if self.revision >= revision:
            return True
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((revision, future))
        try:
            await asyncio.wait_for(future, timeout)
        except TimeoutError:
            self._waiting = [entry for entry in self._waiting if entry[1] is not future]
            return False
        return True


class TableIndex(ExactIndex[bytes]):
    """The records of every bucket in the worker's own memory; reads never wait."""

    def __init__(self) -> None:
        super().__init__()
        self.reset()

    def __len__(self) -> int:
        return len(self._values) + len(self._copied)

    def reset(self) -> None:
        """Forget everything that was loaded."""
        self._values: dict[bytes, bytes] = {}
        # As they stand in Redis: to cut a million values to their packed listings takes a fifth of a start.
        self._copied: dict[bytes, bytes] = {}

    def load(self, entries: Iterable[Entry]) -> None:
        """Take a whole shard from the ledger."""
        self._values.update((bucket, value) for bucket, _, value in entries if value)

    def take_copy(self, shard: dict[bytes, bytes]) -> None:
        """Take a whole shard of the copy in Redis."""
        self._copied.update(shard)

    def get(self, bucket: bytes, revision: int) -> bytes:
        """Return the packed listings of one bucket at a revision that `pin` gave; empty for none."""
        held = self.held_until(bucket, revision)
        return self._newest(bucket) if held is None else held

    async def read(self, buckets: Sequence[bytes], revision: int) -> list[bytes]:
        """Return the packed listings of buckets."""
        return [self.get(bucket, revision) for bucket in buckets]

    def _newest(self, bucket: bytes) -> bytes:
        value = self._values.get(bucket)
        if value is None:
            copied = self._copied.get(bucket)
            return b"" if copied is None else packed_of(copied)
        return value

    def _put(self, entry: Entry) -> bytes:
        bucket, _, value = entry
        old = self._newest(bucket)
        self._copied.pop(bucket, None)
        if value:
            self._values[bucket] = value
        else:
            self._values.pop(bucket, None)
        return old


def _at(kept: Sequence[tuple[int, _T]], revision: int) -> _T:
    for since, value in reversed(kept):
        if since <= revision:
            return value
    return kept[0][1]


def _forget(kept: list[tuple[int, _T]], oldest: int) -> None:
    while len(kept) > 1 and kept[1][0] <= oldest:
        kept.pop(0)


def compacted(oldest: int) -> Refused:
    """Return the refusal of a pinned revision that cannot be read any more."""
    message = "the pinned revision is no longer good for an answer; start the batch again"
    return Refused("REVISION_COMPACTED", message, oldest=str(oldest))
