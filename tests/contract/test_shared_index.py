"""The shared copy and its publisher over a real ledger and a real server."""

import asyncio
import contextlib

import pytest

from lanjie_gateway.adapters.ledger import Changes, Ledger
from lanjie_gateway.adapters.ledger import changes as changes_module
from lanjie_gateway.adapters.shared_codec import UNKNOWN
from lanjie_gateway.adapters.shared_copy import SharedCopy
from lanjie_gateway.adapters.shared_index import SharedIndex, SharedIndexError
from lanjie_gateway.domain.errors import Unanswerable
from lanjie_gateway.services import publisher as publisher_module
from lanjie_gateway.services.publisher import IndexPublisher
from tests.support.ledger import cells
from tests.support.shared import (
    all_of,
    becomes_same,
    commit,
    damage,
    ledger_thread,
    loaded,
    loaded_or_none,
    opened,
    publisher,
    reaches,
    state,
    states,
)
from tests.support.valkey import proxy, valkey

SECONDS = 20


@pytest.fixture(scope="module")
def server():
    with valkey() as made:
        yield made


@pytest.fixture(autouse=True)
def empty(server):
    server.run("FLUSHALL")


async def written(shared: SharedIndex, count: int = 2, revision: int = 1) -> SharedCopy:
    copy = SharedCopy(shared)
    await copy.survey()
    for number in range(256):
        assert await copy.replace(number, states(number, count), floor=revision)
    assert await copy.finish(revision)
    return copy


@contextlib.asynccontextmanager
async def publishing(state_directory, server, beat=0.05):
    """A ledger, its publisher and a reader."""
    async with (
        ledger_thread(state_directory) as thread,
        opened(server.url, lineage=thread.lineage) as shared,
        publisher(thread, shared, beat) as running,
    ):
        yield thread, running, shared


async def same(thread, shared) -> bool:
    """Whether a worker that loads now gets exactly the ledger's state."""
    want = (await thread.call(Ledger.head), list[int](), await thread.call(all_of))
    return await loaded_or_none(shared) == want


async def test_commits_reach_the_copy(tmp_path, server):
    async with publishing(tmp_path, server) as (thread, running, shared):
        assert await reaches(running, 0, SECONDS)
        revision = await commit(thread, *map(cells, range(1, 40)))
        assert await reaches(running, revision, SECONDS)
        assert await same(thread, shared)
        revision = await commit(thread, cells(3, op="D"), cells(4, reason="other"))
        running.wake(revision)
        assert await reaches(running, revision, SECONDS)
        assert await same(thread, shared)
        held = await thread.call(all_of)
        assert running.status() == {"state": "current", "revision": revision, "entries": len(held)}
        assert await shared.read(list(held)) == list(held.values())


async def test_large_commit_makes_all_shards_again(tmp_path, server, monkeypatch):
    monkeypatch.setattr(publisher_module, "_LARGE", 20)
    monkeypatch.setattr(changes_module, "PAGE", 7)
    async with publishing(tmp_path, server) as (thread, running, shared):
        for first in (1, 100):
            assert await reaches(running, await commit(thread, *map(cells, range(first, first + 60))), SECONDS)
            assert await same(thread, shared)


async def test_big_shard_is_made_again_in_pieces_and_checked_in_pieces(server):
    async with opened(server.url) as shared:
        copy = await written(shared)
        assert await copy.replace(7, states(7, 1_203), 1)
        assert await copy.finish(1)
        assert await copy.verify(7)
        answer = await loaded(shared)
        assert answer is not None
        assert (answer[:2], len(answer[2])) == ((1, []), 1_203 + 2 * 255)
        server.run("HDEL", shared.codec.shard_key(7), state(7, 600).bucket)
        assert not await copy.verify(7)
        assert await copy.replace(7, states(7, 1_203), 1)
        assert await copy.verify(7)


async def test_publisher_goes_on_from_what_is_there(tmp_path, server, monkeypatch):
    async with publishing(tmp_path, server) as (thread, running, _):
        assert await reaches(running, await commit(thread, *map(cells, range(1, 20))), SECONDS)
    made = []
    monkeypatch.setattr(SharedCopy, "replace", lambda *_: made.append(1))
    async with publishing(tmp_path, server) as (thread, running, shared):
        assert await reaches(running, await commit(thread, cells(30)), SECONDS)
        assert await same(thread, shared)
    assert made == []


@pytest.mark.parametrize(
    "faults",
    ["flush stale value seal", pytest.param("killed field swap type head", marks=pytest.mark.long)],
)
async def test_publisher_heals_the_copy(tmp_path, faults):
    with valkey() as server:
        async with publishing(tmp_path, server, beat=0.01) as (thread, running, shared):
            assert await reaches(running, await commit(thread, *map(cells, range(1, 30))), SECONDS)
            kept = server.keep()
            revision = await commit(thread, *(cells(number, reason="other") for number in range(10, 40)))
            assert await reaches(running, revision, SECONDS)
            now = await thread.call(all_of)
            for fault in faults.split():
                damage(server, shared.codec, sorted(now), fault, kept)
                answer = await loaded_or_none(shared)
                if answer is not None and answer[0] == revision:
                    # All that it hands over is right, and all that it keeps back it names.
                    assert {bucket: now.get(bucket) for bucket in answer[2]} == answer[2]
                    assert {bucket[0] for bucket in now.keys() - answer[2].keys()} <= set(answer[1])
                await becomes_same(thread, shared)


async def test_dead_server_holds_up_nobody_and_is_caught_up_with(tmp_path):
    with valkey() as server:
        async with publishing(tmp_path, server) as (thread, running, shared):
            assert await reaches(running, 0, SECONDS)
            server.kill()
            revision = await commit(thread, *map(cells, range(1, 5)))
            running.wake(revision)
            assert not await reaches(running, revision, 0.3)
            assert running.status()["state"] == "unreachable"
            server.restart()
            assert await reaches(running, revision, SECONDS)
            await becomes_same(thread, shared)


async def test_publisher_outlives_a_server_that_dies_while_shards_are_made(tmp_path, server, monkeypatch):
    real = SharedCopy.replace
    refusals = 3

    async def replace(copy, number, *rest):
        nonlocal refusals
        if refusals and number:
            refusals -= 1
            await asyncio.sleep(0)
            raise SharedIndexError("away")
        return await real(copy, number, *rest)

    monkeypatch.setattr(SharedCopy, "replace", replace)
    async with publishing(tmp_path, server, beat=0.01) as (thread, running, shared):
        assert await reaches(running, 0, SECONDS)
        # Long enough for the publisher to rest: a task that takes a timeout for its own end is gone then.
        await asyncio.sleep(0.1)
        revision = await commit(thread, cells(1))
        assert await reaches(running, revision, SECONDS)
        assert await same(thread, shared)
    assert not refusals


async def test_damage_is_found_while_commits_never_cease(tmp_path, server, monkeypatch):
    real = SharedCopy.finish
    async with publishing(tmp_path, server, beat=0.01) as (thread, running, shared):
        await commit(thread, cells(1))
        touched = {bucket[0] for bucket in await thread.call(all_of)}
        assert await reaches(running, await commit(thread, *map(cells, range(2, 30))), SECONDS)
        untouched = next(bucket for bucket in await thread.call(all_of) if bucket[0] not in touched)
        often = 0

        async def finish(copy, revision):
            nonlocal often
            often += 1
            await commit(thread, cells(1, reason=f"reason {often}"))
            return await real(copy, revision)

        monkeypatch.setattr(SharedCopy, "finish", finish)
        running.wake(await commit(thread, cells(1, reason="the first")))
        server.run("UNLINK", shared.codec.shard_key(untouched[0]))
        async with asyncio.timeout(SECONDS):
            while often < 3 or (await shared.read([untouched]))[0] is None:  # noqa: ASYNC110  Redis tells nobody of it
                await asyncio.sleep(0.01)
        monkeypatch.setattr(SharedCopy, "finish", real)


async def test_ledger_out_of_reach_is_tried_again(tmp_path, server, monkeypatch):
    real = Ledger.head
    failures: list[int] = []

    def head(ledger):
        if len(failures) < 2:
            failures.append(1)
            raise Unanswerable("LEDGER_UNAVAILABLE", "the ledger cannot be reached")
        return real(ledger)

    monkeypatch.setattr(Ledger, "head", head)
    async with publishing(tmp_path, server) as (_, running, _):
        assert await reaches(running, 0, SECONDS)
    assert len(failures) == 2


async def test_host_without_the_lock_only_looks_on(tmp_path, server):
    ours = False

    async def may_publish() -> bool:
        return ours

    async with publishing(tmp_path, server) as (thread, running, _), opened(server.url, lineage=thread.lineage) as own:
        looker = IndexPublisher(thread, Changes(thread), own, may_publish, beat=0.05)
        looker.start()
        revision = await commit(thread, cells(1))
        running.wake(revision)
        assert await reaches(looker, revision, SECONDS)
        assert looker.status()["state"] == "not ours"
        await running.close()
        ours = True
        assert await reaches(looker, await commit(thread, cells(2)), SECONDS)
        assert looker.status()["state"] == "current"
        await looker.close()
        assert await same(thread, own)


async def test_copy_of_a_future_that_the_ledger_lost_is_withdrawn(tmp_path, server):
    async with ledger_thread(tmp_path) as thread, opened(server.url, lineage=thread.lineage) as shared:
        await written(shared, revision=1_000)
        async with publisher(thread, shared) as running:
            assert await reaches(running, 0, SECONDS)
        assert await same(thread, shared)


async def test_older_epochs_are_swept_and_newer_and_other_ledgers_stay(server):
    for epoch in (1, 2, 3):
        async with opened(server.url, epoch=epoch) as shared:
            await written(shared)
    async with opened(server.url, lineage="bb") as shared:
        await written(shared)
    server.run("SET", "lanjie:aa:rate:1", "x")
    async with opened(server.url, epoch=2) as shared:
        assert await shared.sweep() == 257
    assert server.run("DBSIZE") == 3 * 257 + 1


async def test_another_key_lineage_or_epoch_is_not_believed(server):
    async with opened(server.url) as shared:
        await written(shared)
        async with opened(server.url, key=bytes(32)) as other:
            assert await loaded(other) is None
            assert await other.read([state(1, 1).bucket]) == [None]
        for changes in ({"lineage": "bb"}, {"epoch": 2}):
            async with opened(server.url, **changes) as other:
                for number in range(256):
                    server.run("COPY", shared.codec.shard_key(number), other.codec.shard_key(number))
                server.run("COPY", shared.codec.head_key, other.codec.head_key)
                assert await loaded(other) is None
                assert (await SharedCopy(other).survey()).sound == frozenset()


async def believed(shared) -> tuple[int, list[int]] | None:
    answer = await loaded(shared)
    return answer[:2] if answer is not None else None


async def test_shard_behind_the_head_is_not_believed_even_if_whole(server):
    """One node of a cluster falls back to an older state; its shards are consistent in themselves."""
    async with opened(server.url) as shared:
        copy = await written(shared)
        key = shared.codec.shard_key(5)
        old = server.run("DUMP", key)
        assert await copy.apply([state(5, 0, 2, b""), state(5, 1, 3, b"x")]) == set()
        server.run("COPY", key, "midway")
        assert await copy.finish(2)
        assert await copy.apply([state(5, 1, 3, b"y")]) == set()
        assert await copy.finish(3)
        server.run("RESTORE", key, 0, old, "REPLACE")
        assert await believed(shared) == (3, [5])
        server.run("COPY", "midway", key, "REPLACE")
        assert await believed(shared) == (3, [5])
        assert not await copy.intact()
        assert await copy.apply([state(5, 7, 4, b"z")]) == {5}
        assert not await copy.finish(4)
        assert await copy.replace(5, states(5, 3), 4)
        assert await copy.finish(4)
        assert await believed(shared) == (4, [])


async def test_second_writer_cannot_overwrite_what_it_has_not_seen(server):
    async with opened(server.url) as one, opened(server.url) as two:
        first = await written(one)
        second = SharedCopy(two)
        await second.survey()
        assert await first.apply([state(5, 0, 2, b"x")]) == set()
        assert await second.apply([state(5, 0, 1, b"old")]) == {5}
        assert await first.apply([state(5, 0, 3, b"y")]) == set()
        assert not await second.replace(5, states(5, 1), 1)
        assert await one.read([state(5, 0).bucket]) == [(3, b"y")]


async def test_callers_of_one_turn_share_a_pipeline_and_a_cancelled_one_spoils_nothing(server, monkeypatch):
    async with opened(server.url) as shared:
        await written(shared)
        sent = []
        real = shared.pipeline

        def pipeline(commands):
            sent.append(1)
            return real(commands)

        monkeypatch.setattr(shared, "pipeline", pipeline)
        reads = [asyncio.create_task(shared.read([state(number, 1).bucket])) for number in range(100)]
        await asyncio.sleep(0)
        for read in reads[::2]:
            read.cancel()
        answers = await asyncio.gather(*reads, return_exceptions=True)
        assert answers[1::2] == [[(1, state(number, 1).value)] for number in range(1, 100, 2)]
        assert all(isinstance(answer, asyncio.CancelledError) for answer in answers[::2])
        assert len(sent) == 1


async def test_after_a_failure_nobody_waits_for_a_while():
    with valkey() as server:
        async with proxy(server) as (between, url), opened(url, timeout=0.2) as shared:
            await written(shared)
            between.mode = "drop"
            with pytest.raises(SharedIndexError, match="does not answer"):
                await shared.read([state(1, 1).bucket])
            with pytest.raises(SharedIndexError, match="a moment ago"):
                await shared.read([state(1, 1).bucket])
            between.mode = "pass"
            await asyncio.sleep(0.6)
            assert await shared.read([state(1, 1).bucket]) == [(1, state(1, 1).value)]


async def test_damaged_values_are_absent(server):
    async with opened(server.url) as shared:
        await written(shared)
        bucket, other = state(1, 0).bucket, state(1, 1).bucket
        key = shared.codec.shard_key(1)
        good = server.run("HGET", key, bucket)
        for bad in (b"", good[:20], good[:-1], good + b"x", bytes(8) + good[8:], server.run("HGET", key, other)):
            server.run("HSET", key, bucket, bad)
            assert await shared.read([bucket, other]) == [None, (1, state(1, 1).value)]
        server.run("SET", key, "text")
        assert await shared.read([bucket, state(2, 0).bucket]) == [None, (1, state(2, 0).value)]


A, B, C, NEW = (state(5, number).bucket for number in (0, 1, 2, 9))
"""Three buckets of a shard, and one that it has not."""


def flipped(shard: dict[bytes, bytes], at: int) -> dict[bytes, bytes]:
    value = bytearray(shard[B])
    value[at] ^= 1
    return {**shard, B: bytes(value)}


def renamed(value: bytes, bucket: bytes) -> bytes:
    return value[:16] + bucket + value[32:]


TAMPERINGS = {
    "renamed": lambda s: {A: s[A], NEW: s[B], C: s[C]},
    "renamed inside too": lambda s: {A: s[A], NEW: renamed(s[B], NEW), C: s[C]},
    "renamed in order": lambda s: {A: s[A], B: s[B], NEW: s[C]},
    "renamed in order, inside too": lambda s: {A: s[A], B: s[B], NEW: renamed(s[C], NEW)},
    "swapped": lambda s: {A: s[B], B: s[A], C: s[C]},
    "swapped, names kept": lambda s: {A: renamed(s[B], A), B: renamed(s[A], B), C: s[C]},
    "flipped in the mac": lambda s: flipped(s, 0),
    "flipped in the revision": lambda s: flipped(s, 15),
    "flipped in the name": lambda s: flipped(s, 31),
    "flipped in the listings": lambda s: flipped(s, -1),
    "dropped": lambda s: {A: s[A], C: s[C]},
    "dropped and added": lambda s: {A: s[A], C: s[C], NEW: renamed(s[B], NEW)},
    "added": lambda s: {**s, NEW: renamed(s[B], NEW)},
    "added of nothing": lambda s: {b"": b"", **s},
    "merged": lambda s: {A: s[A] + B + s[B], C: s[C]},
    "merged side by side": lambda s: {A + B: s[A] + s[B], C: s[C]},
    "cut elsewhere": lambda s: {A[:-1]: A[-1:] + s[A], B: s[B], C: s[C]},
    "emptied": lambda s: {},
}


async def sealed(server, shared, copy, *, known: bool) -> None:
    """Shard 5 with a known content, or made one without."""
    if not known:
        assert await copy.apply([state(5, 0)]) == set()
    seal = shared.codec.open_seal(5, server.run("HGET", shared.codec.shard_key(5), "@"))
    assert (seal.content != UNKNOWN) is known


@pytest.mark.parametrize("known", [True, pytest.param(False, marks=pytest.mark.long)])
async def test_no_shard_that_was_tampered_with_is_believed(server, known):
    """By somebody who can write to Redis and lacks the key."""
    async with opened(server.url) as shared:
        copy = await written(shared, 3)
        key = shared.codec.shard_key(5)
        for name, tampering in TAMPERINGS.items():
            await sealed(server, shared, copy, known=known)
            good = server.run("HGETALL", key)
            seal = good.pop(b"@")
            server.run("UNLINK", key)
            bad = {b"@": seal, **tampering(good)}
            server.run("HSET", key, *(each for pair in bad.items() for each in pair))
            assert await believed(shared) == (1, [5]), name
            assert not await copy.verify(5), name
            assert await copy.replace(5, states(5, 3), 1), name
        assert await believed(shared) == (1, [])


@pytest.mark.parametrize("count", [3, 1_203])
async def test_content_of_a_changed_shard_comes_back(server, monkeypatch, count):
    async with opened(server.url) as shared:
        copy = await written(shared)
        assert await copy.replace(5, states(5, count), 1)
        await sealed(server, shared, copy, known=True)
        await sealed(server, shared, copy, known=False)
        assert await copy.verify(5)
        await sealed(server, shared, copy, known=True)
        assert await copy.intact()
        monkeypatch.setattr(shared.codec, "digest", None)  # no value by itself is looked at any more
        assert await believed(shared) == (1, [])
        assert await copy.verify(5)
        # Another writer goes on from there.
        found = SharedCopy(shared)
        assert len((await found.survey()).sound) == 256
        assert await found.intact()


@pytest.mark.parametrize("other_writer", [False, True])
async def test_shard_that_changes_while_its_content_is_written(server, monkeypatch, other_writer):
    async with opened(server.url) as shared:
        copy = await written(shared)
        await sealed(server, shared, copy, known=False)
        second = SharedCopy(shared)
        await second.survey()
        real = shared.pipeline

        async def pipeline(commands):
            commands = list(commands)
            if commands[0][0] == "EVAL":
                monkeypatch.setattr(shared, "pipeline", real)
                if other_writer:
                    assert await second.apply([state(5, 7, 2, b"x")]) == set()
                else:
                    server.run("HDEL", shared.codec.shard_key(5), A)
            return await real(commands)

        monkeypatch.setattr(shared, "pipeline", pipeline)
        assert await copy.verify(5) is not other_writer
        assert await believed(shared) == (1, [] if other_writer else [5])
        assert not await copy.verify(5)
        assert await copy.replace(5, states(5, 2), 1)
        assert await believed(shared) == (1, [])
