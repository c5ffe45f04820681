"""After any history of commits, faults, killed publishers and publishers at once, no wrong state is believed, and the
copy becomes what the ledger has."""

import asyncio
import contextlib

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from lanjie_gateway.adapters.ledger import Ledger, LedgerThread
from lanjie_gateway.adapters.shared_codec import Codec
from lanjie_gateway.adapters.shared_index import SharedIndex
from lanjie_gateway.domain.events import Act, EventKind
from lanjie_matcher.identifiers import parse
from tests.support.core import uscc
from tests.support.ledger import cells, open_ledger, take
from tests.support.shared import KEY, all_of, becomes_same, damage, loaded_or_none, opened, publisher, reaches
from tests.support.valkey import Valkey, valkey

COMPANIES = 14
numbers = st.lists(st.integers(1, COMPANIES), min_size=1, max_size=4, unique=True)
commits = st.tuples(st.just("commit"), numbers, st.booleans())
faults = st.tuples(
    st.just("fault"), st.sampled_from(["flush", "field", "value", "swap", "type", "head", "seal"]), st.integers(0, 99)
)
rollbacks = st.tuples(st.just("rollback"), st.integers(0, 2**32))
keeps = st.tuples(st.just("keep"))
killed = st.tuples(st.just("publish"), st.integers(0, 700), st.just(1))
run = st.tuples(st.just("publish"), st.none(), st.integers(1, 2))
histories = st.lists(st.one_of(commits, commits, faults, rollbacks, keeps, killed, run), min_size=3, max_size=12)


@pytest.fixture(scope="module")
def server():
    with valkey() as made:
        yield made


@pytest.fixture(scope="module")
def thread(tmp_path_factory):
    made = LedgerThread(lambda: open_ledger(tmp_path_factory.mktemp("ledger")))
    asyncio.run(made.start())
    yield made
    asyncio.run(made.close())


class History:
    """Carries out a history; the ledger goes on from one to the next, the copy begins empty."""

    def __init__(self, server: Valkey, thread: LedgerThread, shared: SharedIndex) -> None:
        self.server, self.thread, self.shared = server, thread, shared
        self.count = 0
        self.kept: dict[bytes, bytes] = {}

    async def commit(self, companies, gone) -> None:
        self.count += 1
        rows = [cells(number, reason=f"reason {self.count}") for number in companies]
        if gone:
            await self.thread.call(annul, companies)
        else:
            await self.thread.call(lambda ledger: take(ledger, *rows))

    async def fault(self, name, which) -> None:
        buckets = sorted(await self.thread.call(all_of))
        if buckets or name in ("flush", "head"):
            at = which % max(1, len(buckets))
            damage(self.server, self.shared.codec, [*buckets[at:], *buckets[:at]] or [bytes(16)], name)

    async def keep(self) -> None:
        self.kept = {key: self.server.run("DUMP", key) for key in self.server.run("KEYS", "*")}

    async def rollback(self, which) -> None:
        """Some keys, or all, as they were once: a replica that was behind is promoted, here and there in a cluster."""
        for number, (key, value) in enumerate(sorted(self.kept.items())):
            if which % 3 == 0 or which >> number % 32 & 1:
                self.server.run("RESTORE", key, 0, value, "REPLACE")

    async def publish(self, limit, publishers) -> None:
        """Publish until the ledger's head is reached, or until the publisher is killed at a command."""
        async with contextlib.AsyncExitStack() as stack:
            running = []
            for _ in range(publishers):
                shared = await stack.enter_async_context(opened(self.server.url, lineage=self.thread.lineage))
                if limit is not None:
                    die_after(shared, limit)
                running.append(await stack.enter_async_context(publisher(self.thread, shared, 0.02)))
            head = await self.thread.call(Ledger.head)
            await asyncio.gather(*(reached(each, head) for each in running))

    async def check(self) -> None:
        """What a worker believes, with the commits since, is what the ledger has, but for the shards named as lost."""
        answer = await loaded_or_none(self.shared)
        want = await self.thread.call(all_of)
        have = {} if answer is None else dict(answer[2])
        since = await self.thread.call(Ledger.commits_after, answer[0] if answer is not None else 0, 10_000)
        for info in since if answer is not None else ():
            page, _ = await self.thread.call(Ledger.changed, info.revision, 0, 1_000)
            have.update({each.bucket: (each.revision, each.value) for each in page})
        lost = set(range(256)) if answer is None else set(answer[1])
        assert {b: v for b, v in have.items() if v[1] and b[0] not in lost} == {
            b: v for b, v in want.items() if b[0] not in lost
        }


def annul(ledger: Ledger, companies) -> None:
    """Empty buckets."""
    for number in companies:
        for listing in ledger.find(parse(f"uscc:{uscc(number)}")):
            if not listing.packed.listing.annulled:
                ledger.record(
                    listing.id, Act(kind=EventKind.ANNULLED, actor="tax/bert", reason="wrong", document="No. 9")
                )


def die_after(shared: SharedIndex, limit: int) -> None:
    """Cancel whoever sends one command more than `limit`."""
    real, left = shared.pipeline, [limit]

    async def pipeline(sent):
        left[0] -= 1
        if left[0] < 0:
            raise asyncio.CancelledError
        return await real(sent)

    shared.pipeline = pipeline  # type: ignore[method-assign]


async def reached(running, head: int) -> None:
    async with asyncio.timeout(30):
        while not running._task.done() and not await reaches(running, head, 0.1):
            pass


def carry_out(server, thread, history) -> None:
    async def whole() -> None:
        server.run("FLUSHALL")
        async with opened(server.url, lineage=thread.lineage) as shared:
            made = History(server, thread, shared)
            for name, *arguments in history:
                await getattr(made, name)(*arguments)
                if name != "commit":
                    await made.check()
            async with publisher(thread, shared, 0.01):
                await becomes_same(thread, shared)

    asyncio.run(whole())


common = settings(
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@settings(common, max_examples=2, derandomize=True, database=None)
@given(history=histories)
def test_any_history(server, thread, history):
    carry_out(server, thread, history)


@pytest.mark.long
@settings(common, max_examples=200)
@given(history=histories)
def test_many_histories(server, thread, history):
    carry_out(server, thread, history)


short = st.binary(max_size=3).map(lambda drawn: bytes(each % 2 for each in drawn))


@given(shard=st.dictionaries(short, short, max_size=4), other=st.dictionaries(short, short, max_size=4), data=st.data())
def test_content_tells_any_two_shards_apart(shard, other, data):
    codec = Codec("aa", 1, KEY)

    def recut(whole: bytes, count: int) -> list[bytes]:
        cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), min_size=count - 1, max_size=count - 1)))
        return [whole[since:until] for since, until in zip([0, *cuts], [*cuts, len(whole)], strict=True)]

    fields = sorted(shard)
    count = data.draw(st.integers(1, 5))
    columns = recut(b"".join(fields), count), recut(b"".join(map(shard.__getitem__, fields)), count)
    pairs = recut(b"".join(part for field in fields for part in (field, shard[field])), 2 * count)
    for each in (other, dict(zip(*columns, strict=True)), dict(zip(pairs[::2], pairs[1::2], strict=True))):
        assert (codec.content(each) == codec.content(shard)) is (each == shard)


@given(shard=st.dictionaries(short, short), odd=st.one_of(st.none(), st.integers(), st.lists(short), st.text()))
def test_content_of_what_is_not_bytes_is_none(shard, odd):
    codec = Codec("aa", 1, KEY)
    assert codec.content({**shard, b"odd": odd}) is None
    if not isinstance(odd, list):
        assert codec.content({b"even": b"", odd: b""}) is None
