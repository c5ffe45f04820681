"""Buckets for the shared copy, made from numbers, and ways to compare it with a ledger."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from lanjie_gateway.adapters.ledger import BucketState, Changes, Ledger, LedgerThread
from lanjie_gateway.adapters.redis_client import connect
from lanjie_gateway.adapters.shared_codec import Codec, packed_of, revision_of
from lanjie_gateway.adapters.shared_index import SharedIndex, SharedIndexError
from lanjie_gateway.services.publisher import IndexPublisher
from tests.support.ledger import open_ledger, take
from tests.support.valkey import Valkey

KEY = b"shared index key".ljust(32, b".")


def state(shard: int, number: int, revision: int = 1, value: bytes | None = None) -> BucketState:
    bucket = bytes([shard]) + number.to_bytes(15)
    return BucketState(bucket, revision, b"listings of %d" % number if value is None else value, None, listed=True)


def states(shard: int, count: int) -> list[BucketState]:
    return [state(shard, number) for number in range(count)]


def all_of(ledger: Ledger) -> dict[bytes, tuple[int, bytes]]:
    """What the ledger has now."""
    return {each.bucket: (each.revision, each.value) for shard in ledger.shards(range(256)) for each in shard}


async def commit(thread: LedgerThread, *rows: Mapping[str, str]) -> int:
    """Commit rows; return the revision."""
    revision = (await thread.call(lambda ledger: take(ledger, *rows))).revision
    assert revision is not None
    return revision


async def loaded(shared: SharedIndex) -> tuple[int, list[int], dict[bytes, tuple[int, bytes]]] | None:
    """What a worker would take from the copy."""
    taken: dict[bytes, tuple[int, bytes]] = {}
    answer = await shared.load(
        lambda shard: taken.update((bucket, (revision_of(raw), packed_of(raw))) for bucket, raw in shard.items())
    )
    return (*answer, taken) if answer is not None else None


@contextlib.asynccontextmanager
async def ledger_thread(state_directory: Path) -> AsyncIterator[LedgerThread]:
    """A ledger of its own in its thread."""
    thread = LedgerThread(lambda: open_ledger(state_directory))
    await thread.start()
    try:
        yield thread
    finally:
        await thread.close()


@contextlib.asynccontextmanager
async def opened(url: str, **changes: Any) -> AsyncIterator[SharedIndex]:
    """A reader of the copy at `url`."""
    kept: dict[str, Any] = {"lineage": "aa", "epoch": 1, "key": KEY, "timeout": 2.0, **changes}
    shared = SharedIndex(connect(url, timeout=kept["timeout"]), **kept)
    try:
        yield shared
    finally:
        await shared.close()


async def may() -> bool:
    """Every host may publish."""
    return True


@contextlib.asynccontextmanager
async def publisher(thread: LedgerThread, shared: SharedIndex, beat: float = 0.05) -> AsyncIterator[IndexPublisher]:
    """A running publisher."""
    made = IndexPublisher(thread, Changes(thread), shared, may, beat=beat)
    made.start()
    try:
        yield made
    finally:
        await made.close()


async def reaches(publisher: IndexPublisher, revision: int, seconds: float) -> bool:
    """Wait until the copy is complete up to `revision`, at most `seconds`; return whether it is."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while publisher.status()["revision"] < revision:
                publisher.wake(revision)
                await asyncio.sleep(0.01)
    return bool(publisher.status()["revision"] >= revision)


async def becomes_same(thread: LedgerThread, shared: SharedIndex, seconds: float = 20) -> None:
    """Wait until a worker that loads gets exactly the ledger's state."""
    want = (await thread.call(Ledger.head), list[int](), await thread.call(all_of))
    async with asyncio.timeout(seconds):
        while await loaded_or_none(shared) != want:  # noqa: ASYNC110  Redis tells nobody that it is right again
            await asyncio.sleep(0.1)


async def loaded_or_none(shared: SharedIndex) -> tuple[int, list[int], dict[bytes, tuple[int, bytes]]] | None:
    """What a worker would take; `None` also while Redis cannot be reached."""
    with contextlib.suppress(SharedIndexError):
        return await loaded(shared)
    return None


def damage(server: Valkey, codec: Codec, buckets: list[bytes], fault: str, kept: bytes = b"") -> None:
    """Do to the server what servers, hands and disks do."""
    first, second = buckets[0], buckets[-1]
    key, other = codec.shard_key(first[0]), codec.shard_key(second[0])
    match fault:
        case "flush":
            server.run("FLUSHALL")
        case "killed":
            server.restart()
        case "stale":
            server.restart(kept)
        case "field":
            server.run("HDEL", key, first)
        case "value":
            server.run("HSET", key, first, (server.run("HGET", key, first) or b"?")[:-1])
        case "swap":
            server.run("HSET", key, first, server.run("HGET", other, second) or b"")
        case "type":
            server.run("SET", key, "something else")
        case "head":
            server.run("UNLINK", codec.head_key)
            server.run("HSET", codec.head_key, "a", "b")
        case "seal":
            server.run("HSET", key, "@", server.run("HGET", other, "@") or b"")
