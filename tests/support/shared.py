"""Buckets for the shared copy, made from numbers, and ways to compare it with a ledger."""

from lanjie_gateway.adapters.ledger import BucketState, Ledger
from lanjie_gateway.adapters.shared_index import SharedIndex

KEY = b"shared index key".ljust(32, b".")


def state(shard: int, number: int, revision: int = 1, value: bytes | None = None) -> BucketState:
    bucket = bytes([shard]) + number.to_bytes(15)
    return BucketState(bucket, revision, b"listings of %d" % number if value is None else value, None, listed=True)


def states(shard: int, count: int) -> list[BucketState]:
    return [state(shard, number) for number in range(count)]


def all_of(ledger: Ledger) -> dict[bytes, tuple[int, bytes]]:
    """What the ledger has now."""
    return {each.bucket: (each.revision, each.value) for number in range(256) for each in ledger.shard(number)}


async def loaded(shared: SharedIndex) -> tuple[int, list[int], dict[bytes, tuple[int, bytes]]] | None:
    """What a worker would take from the copy."""
    taken: dict[bytes, tuple[int, bytes]] = {}
    answer = await shared.load(lambda entries: taken.update((bucket, (r, value)) for bucket, r, value in entries))
    return (*answer, taken) if answer is not None else None
