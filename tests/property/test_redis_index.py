"""The index in Redis answers as the table does, or says that it cannot, whatever Redis holds."""

import asyncio
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lanjie_gateway.adapters import redis_client
from lanjie_gateway.adapters.index import Entry, MovedError, TableIndex
from lanjie_gateway.adapters.redis_index import RedisIndex
from lanjie_gateway.adapters.shared_index import SharedIndex
from lanjie_gateway.domain.errors import Unanswerable
from tests.support.valkey import Valkey, valkey

KEY = bytes(range(32))
BUCKETS = [bytes([shard]) + bytes([number]) * 15 for shard in (0, 7, 255) for number in (1, 2)]

Commit = st.dictionaries(st.sampled_from(BUCKETS), st.sampled_from([b"", b"one", b"two", b"three"]), max_size=4)
Step = st.one_of(
    st.tuples(st.just("commit"), Commit),
    # The copy gets what the ledger has, or some of it, or what it had before.
    st.tuples(st.just("publish"), st.sets(st.sampled_from(BUCKETS))),
    st.tuples(st.just("damage"), st.sampled_from(["flush", "swap", "cut", "empty value"])),
    st.tuples(st.just("read"), st.integers(0, 3)),
)


@pytest.fixture(scope="module")
def server() -> Iterator[Valkey]:
    with valkey() as running:
        yield running


class Scene:
    """A ledger, both kinds of index, and a copy in Redis that anybody may spoil."""

    def __init__(self, server: Valkey) -> None:
        self.ledger: dict[bytes, tuple[int, bytes]] = {}
        self.reachable = True
        self.table = TableIndex()
        self.index = RedisIndex(self.fetch)
        self.server = server
        self.revision = 1
        for each in (self.table, self.index):
            each.advance(1, 0.0)

    async def fetch(self, buckets: Sequence[bytes]) -> list[Entry]:
        if not self.reachable:
            raise Unanswerable("INDEX_UNAVAILABLE", "away")
        return [(bucket, *self.ledger[bucket]) for bucket in buckets if bucket in self.ledger]

    def commit(self, changes: dict[bytes, bytes]) -> None:
        self.revision += 1
        entries = [(bucket, self.revision, value) for bucket, value in changes.items()]
        for bucket, revision, value in entries:
            self.ledger[bucket] = (revision, value)
        for each in (self.table, self.index):
            each.stage(self.revision, entries)
            each.advance(self.revision, float(self.revision))

    def publish(self, shared: SharedIndex, buckets: set[bytes]) -> None:
        with self.server.client() as client:
            for bucket in buckets & self.ledger.keys():
                revision, value = self.ledger[bucket]
                key = shared.codec.shard_key(bucket[0])
                if value:
                    client.hset(key, bucket, shared.codec.value(bucket, revision, value))
                else:
                    client.hdel(key, bucket)

    def damage(self, shared: SharedIndex, how: str) -> None:
        with self.server.client() as client:
            if how == "flush":
                client.flushall()
                return
            for bucket in BUCKETS:
                key = shared.codec.shard_key(bucket[0])
                held = client.hget(key, bucket)
                if held is None:
                    continue
                other = BUCKETS[(BUCKETS.index(bucket) + 1) % len(BUCKETS)]
                key = shared.codec.shard_key(other[0]) if how == "swap" else key
                value = {"swap": held, "cut": held[:-1], "empty value": b""}[how]
                client.hset(key, other if how == "swap" else bucket, value)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(Step, max_size=14), reachable=st.booleans())
def test_it_answers_as_the_table_does_or_not_at_all(
    server: Valkey,
    steps: list[tuple[str, object]],
    reachable: bool,  # noqa: FBT001  hypothesis gives it by name
) -> None:
    asyncio.run(_walk(server, steps, reachable=reachable))


async def _walk(server: Valkey, steps: list[tuple[str, object]], *, reachable: bool) -> None:
    server.run("FLUSHALL")
    shared = SharedIndex(redis_client.connect(server.url, timeout=5.0), lineage="a" * 32, epoch=1, key=KEY)
    scene = Scene(server)
    scene.reachable = reachable
    scene.index.shared = shared
    try:
        for kind, argument in [*steps, ("read", 0)]:
            if kind == "read":
                assert isinstance(argument, int)
                await _compare(scene, max(1, scene.revision - argument))
            else:
                getattr(scene, kind)(*((argument,) if kind == "commit" else (shared, argument)))
    finally:
        await shared.close()


async def _compare(scene: Scene, revision: int) -> None:
    newest = revision == scene.revision
    for bucket in BUCKETS:
        try:
            (found,) = await scene.index.read([bucket], scene.index.pin(revision))
        except MovedError as moved:
            assert not newest and moved.revision in range(revision + 1, scene.revision + 1)  # noqa: PT017, PT018  or not raised
        except Unanswerable:
            assert not scene.reachable
        else:
            assert found == scene.table.get(bucket, revision)
    if scene.reachable and newest:
        everything = await scene.index.read(BUCKETS, revision)
        assert everything == [scene.table.get(bucket, revision) for bucket in BUCKETS]
    assert len(scene.index) == len(scene.table)


async def test_a_worker_knows_after_a_load_what_there_must_be(server: Valkey) -> None:
    scene = Scene(server)
    for shard in (0, 7, 255):
        scene.index.load([(bucket, 1, b"listed") for bucket in BUCKETS if bucket[0] == shard])
    scene.ledger = dict.fromkeys(BUCKETS, (1, b"listed"))
    assert await scene.index.read([*BUCKETS, bytes(16)], 1) == [b"listed"] * len(BUCKETS) + [b""]
    assert scene.index.from_ledger == len(BUCKETS)
    scene.index.reset()
    assert await scene.index.read(BUCKETS, 1) == [b""] * len(BUCKETS)
