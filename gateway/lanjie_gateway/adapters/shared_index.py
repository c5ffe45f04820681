"""The shared copy of the exact index in Valkey/Redis (design.md 6). Never the record: who reads it checks it.

Nothing that Redis says is believed without its mac, and absence is never believed from Redis alone. One writer,
`shared_copy`, keeps it up; `shared_codec` describes what stands in it.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final, TypeVar

from redis.exceptions import ResponseError

from lanjie_gateway.adapters.redis_client import FAILURES, AsyncClient, close
from lanjie_gateway.adapters.shared_codec import SHARDS, Codec

PAUSE_SECONDS: Final = 0.5
"""After a failed read nobody asks for so long: a dead Redis must not cost every check the whole timeout."""
READ_BUCKETS: Final = 1_000
_FLIGHTS: Final = 4
_AHEAD: Final = 3
_BULK_SECONDS: Final = 10.0
_T = TypeVar("_T")


class SharedIndexError(Exception):
    """Redis cannot be reached within the timeout, or does not answer as Redis would."""


@dataclass(slots=True, eq=False)
class _Flight:
    """Buckets that several callers read together."""

    buckets: set[bytes] = field(default_factory=set)
    task: "asyncio.Task[dict[bytes, tuple[int, bytes]]] | None" = None


class SharedIndex:
    """Reader of the copy of one ledger and epoch. Used from one event loop.

    Args:
        client: see `redis_client.connect`; closed by `close`.
        lineage: identity of the ledger.
        epoch: its epoch.
        key: the gateway's index key, 32 bytes.
        timeout: seconds a read may take in all.
    """

    def __init__(self, client: AsyncClient, *, lineage: str, epoch: int, key: bytes, timeout: float = 1.0) -> None:
        self._client = client
        self.codec = Codec(lineage, epoch, key)
        self._lineage = lineage
        self._epoch = epoch
        self._timeout = timeout
        self._flight: _Flight | None = None
        self._flights = asyncio.Semaphore(_FLIGHTS)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._open_again = 0.0

    async def close(self) -> None:
        """End the reads under way and close the client."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(*FAILURES):
            await close(self._client)

    async def read(self, buckets: Sequence[bytes]) -> list[tuple[int, bytes] | None]:
        """Return revision and packed listings of each bucket; `None` for absent and for not to be believed.

        Callers of the same turn of the event loop share one pipeline; it runs in a task of its own, so that a cancelled
        caller spoils nobody's read.

        Raises:
            SharedIndexError: Redis cannot be reached, or could not just now.
        """
        if asyncio.get_running_loop().time() < self._open_again:
            raise SharedIndexError("Redis failed a moment ago")
        flight = self._flight
        if flight is None or len(flight.buckets) + len(buckets) > READ_BUCKETS:
            flight = self._flight = _Flight()
        flight.buckets.update(buckets)
        if flight.task is None:
            flight.task = self._spawn(self._fly(flight))
        values = await asyncio.shield(flight.task)
        return [values.get(bucket) for bucket in buckets]

    async def _fly(self, flight: _Flight) -> dict[bytes, tuple[int, bytes]]:
        try:
            async with asyncio.timeout(self._timeout), self._flights:
                # Until now others could join.
                if self._flight is flight:
                    self._flight = None
                return await self._get(flight.buckets)
        except (SharedIndexError, TimeoutError) as error:
            if self._flight is flight:
                self._flight = None
            self._open_again = asyncio.get_running_loop().time() + PAUSE_SECONDS
            raise SharedIndexError(f"Redis does not answer: {type(error).__name__}") from None

    async def _get(self, buckets: Iterable[bytes]) -> dict[bytes, tuple[int, bytes]]:
        groups = by_shard(buckets, lambda bucket: bucket)
        replies = await self.pipeline(("HMGET", self.codec.shard_key(number), *group) for number, group in groups)
        values = {}
        for (_, group), reply in zip(groups, replies, strict=True):
            for bucket, raw in zip(group, list_of(reply, len(group)), strict=True):
                if (value := self.codec.open_value(bucket, raw)) is not None:
                    values[bucket] = value
        return values

    async def load(self, take: Callable[[dict[bytes, bytes]], None]) -> tuple[int, list[int]] | None:
        """Read the whole copy, shard by shard.

        Args:
            take: gets one whole shard at a time, proved sound: its values by bucket, see `shared_codec`. A revision in
                them may be newer than the one returned.

        Returns:
            The revision up to which all that was handed over is complete, and the numbers of the shards that were not
            sound and must come from the ledger; `None` without a believable head. The revision of a ledger that has
            lost commits may be behind it: the caller compares.

        Raises:
            SharedIndexError: Redis cannot be reached; what was handed over so far is sound, but not all there is.
        """
        head = self.codec.open_head((await self.pipeline([("GET", self.codec.head_key)]))[0])
        if head is None:
            return None
        lost = []
        async with contextlib.aclosing(self._shards()) as shards:
            async for number, reply in shards:
                # The hash over a shard lets the loop read the next ones meanwhile.
                seal = await asyncio.to_thread(self.codec.open_shard, number, reply)
                if seal is not None and head.covers(number, seal):
                    take(reply)
                else:
                    lost.append(number)
        return head.revision, lost

    async def _shards(self) -> AsyncGenerator[tuple[int, Any], None]:
        """Read all shards, a few ahead, in order."""
        ahead = [self._spawn(self.whole(number)) for number in range(_AHEAD)]
        try:
            for number in range(SHARDS):
                if (following := number + _AHEAD) < SHARDS:
                    ahead.append(self._spawn(self.whole(following)))
                yield number, await ahead.pop(0)
        finally:
            for task in ahead:
                task.cancel()

    async def whole(self, number: int) -> Any:
        """Return what HGETALL gives for a shard."""
        return (await self.pipeline([("HGETALL", self.codec.shard_key(number))]))[0]

    async def revision(self) -> int | None:
        """Return the revision of the head, `None` without a believable one.

        Raises:
            SharedIndexError: Redis cannot be reached.
        """
        head = self.codec.open_head((await self.pipeline([("GET", self.codec.head_key)]))[0])
        return head.revision if head is not None else None

    async def sweep(self) -> int:
        """Remove the copies of older epochs of this ledger; return how many keys went."""
        prefix = f"lanjie:{self._lineage}:".encode()
        removed = 0
        try:
            async for key in self._client.scan_iter(match=prefix + b"*", count=1_000):
                epoch = key.removeprefix(prefix).partition(b":")[0]
                if epoch.isdigit() and int(epoch) < self._epoch:
                    await self.pipeline([("UNLINK", key)])
                    removed += 1
        except FAILURES as error:
            raise SharedIndexError(f"Redis does not answer: {type(error).__name__}") from None
        return removed

    async def pipeline(self, commands: Iterable[tuple[Any, ...]]) -> list[Any]:
        """Send commands together; the wrong type is an answer like absence, every other error is none."""
        pipeline = self._client.pipeline(transaction=False)
        count = 0
        for command in commands:
            pipeline.execute_command(*command)
            count += 1
        if not count:
            return []
        try:
            async with asyncio.timeout(max(_BULK_SECONDS, self._timeout)):
                replies = list_of(await pipeline.execute(raise_on_error=False), count)
        except FAILURES as error:
            raise SharedIndexError(f"Redis does not answer: {type(error).__name__}") from None
        for number, reply in enumerate(replies):
            if isinstance(reply, ResponseError) and str(reply).startswith("WRONGTYPE"):
                replies[number] = None
            elif isinstance(reply, Exception):
                raise SharedIndexError(f"Redis refuses: {type(reply).__name__}")
        return replies

    def _spawn(self, work: Coroutine[Any, Any, _T]) -> "asyncio.Task[_T]":
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # a failed read whose callers have all gone is nobody's concern


_S = TypeVar("_S")


def by_shard(items: Iterable[_S], token: Callable[[_S], bytes]) -> list[tuple[int, list[_S]]]:
    """Group by the shard of each item's bucket token."""

    def number(item: _S) -> int:
        return token(item)[0]

    return [(shard, list(group)) for shard, group in groupby(sorted(items, key=number), number)]


def list_of(reply: Any, length: int) -> list[Any]:
    """Return a reply that must be a list of this length; the wrong type stands for nothing there."""
    if reply is None:
        return [None] * length
    if not isinstance(reply, list) or len(reply) != length:
        raise SharedIndexError("Redis answers something else")
    return reply
