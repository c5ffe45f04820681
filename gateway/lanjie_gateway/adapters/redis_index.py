"""The exact index of a worker with little memory: the records lie in Redis, and it knows which one is right.

Of every bucket the worker holds 16 bytes in its own table: half of the token, and the revision of the newest commit
that changed it. The change feed keeps that table up, as it does `TableIndex`, so that

1. what stands in no row of the table has no listing: a pass never rests on absence in Redis;
2. a record from Redis is believed only if it names the bucket and exactly that revision: an empty, stale, damaged or
   mixed-up copy is told from the right one;
3. what Redis cannot give is read from the ledger, through control; if that fails too, the answer is undetermined.
"""

from array import array
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterable, Sequence

from lanjie_gateway.adapters.index import Entry, ExactIndex, MovedError
from lanjie_gateway.adapters.shared_codec import SHARDS, revision_of
from lanjie_gateway.adapters.shared_index import SharedIndex, SharedIndexError
from lanjie_gateway.domain.errors import Unanswerable

Fetch = Callable[[Sequence[bytes]], Awaitable[Sequence[Entry]]]
"""Reads buckets from the ledger as they are now; the emptied ones are among the answers."""


class RedisIndex(ExactIndex[int]):
    """Which record each bucket must have, and where to get it.

    Args:
        fetch: asks control.

    Attributes:
        shared: the copy in Redis; set when its ledger is known.
        from_redis: records read from there.
        from_ledger: records that had to come from the ledger; many of them mean that Redis is not well.
    """

    def __init__(self, fetch: Fetch) -> None:
        super().__init__()
        self.shared: SharedIndex | None = None
        self.from_redis = 0
        self.from_ledger = 0
        self._fetch = fetch
        self.reset()

    def __len__(self) -> int:
        return sum(map(len, self._places))

    def reset(self) -> None:
        """Forget everything that was loaded."""
        # By first byte of the token: bytes 1 to 8 of it, sorted, and the revisions beside them.
        self._places = [array("Q") for _ in range(SHARDS)]
        self._revisions = [array("Q") for _ in range(SHARDS)]

    def load(self, entries: Iterable[Entry]) -> None:
        """Take a whole shard from the ledger."""
        self._take((bucket, revision) for bucket, revision, value in entries if value)

    def take_copy(self, shard: dict[bytes, bytes]) -> None:
        """Take a whole shard of the copy in Redis: which revision each record has there."""
        self._take((bucket, revision_of(value)) for bucket, value in shard.items())

    def _take(self, rows: Iterable[tuple[bytes, int]]) -> None:
        # A token is as good in order as the part of it that is kept.
        ordered = sorted(rows)
        if ordered:
            shard = ordered[0][0][0]
            self._places[shard] = array("Q", [int.from_bytes(bucket[1:9]) for bucket, _ in ordered])
            self._revisions[shard] = array("Q", [revision for _, revision in ordered])

    async def read(self, buckets: Sequence[bytes], revision: int) -> list[bytes]:
        """Return the packed listings of buckets; reads from Redis, else from the ledger."""
        # (1)
        wanted = {bucket: due for bucket in buckets if (due := self._due(bucket, revision))}
        if not wanted:
            return [b""] * len(buckets)
        found = await self._from_redis(wanted)
        self.from_redis += len(found)
        missing = [bucket for bucket in wanted if bucket not in found]
        if missing:
            self.from_ledger += len(missing)
            found.update(await self._from_ledger(missing, revision))
        return [found.get(bucket, b"") for bucket in buckets]

    async def _from_redis(self, wanted: dict[bytes, int]) -> dict[bytes, bytes]:
        if self.shared is None:
            return {}
        try:
            answers = await self.shared.read(list(wanted))
        except SharedIndexError:
            return {}
        # (2)
        return {
            bucket: answer[1]
            for (bucket, due), answer in zip(wanted.items(), answers, strict=True)
            if answer is not None and answer[0] == due
        }

    async def _from_ledger(self, missing: Sequence[bytes], revision: int) -> dict[bytes, bytes]:
        # (3)
        found = {bucket: (changed, value) for bucket, changed, value in await self._fetch(missing)}
        if any(bucket not in found for bucket in missing):
            raise Unanswerable("INDEX_UNAVAILABLE", "the ledger does not have what this worker was told of")
        newest = max(changed for changed, _ in found.values())
        if newest > revision:
            raise MovedError(newest)
        return {bucket: value for bucket, (_, value) in found.items()}

    def _due(self, bucket: bytes, revision: int) -> int:
        """The revision that the record of a bucket must have; 0 where there must be none."""
        held = self.held_until(bucket, revision)
        if held is not None:
            return held
        place, row = self._row(bucket)
        places = self._places[bucket[0]]
        return self._revisions[bucket[0]][row] if row < len(places) and places[row] == place else 0

    def _row(self, bucket: bytes) -> tuple[int, int]:
        place = int.from_bytes(bucket[1:9])
        return place, bisect_left(self._places[bucket[0]], place)

    def _put(self, entry: Entry) -> int:
        bucket, changed, value = entry
        place, row = self._row(bucket)
        places, revisions = self._places[bucket[0]], self._revisions[bucket[0]]
        there = row < len(places) and places[row] == place
        old = revisions[row] if there else 0
        if value and there:
            revisions[row] = changed
        elif value:
            places.insert(row, place)
            revisions.insert(row, changed)
        elif there:
            del places[row], revisions[row]
        return old
