"""Token buckets: the same in Redis and without it, shared where it is there, counted on where it is not."""

import asyncio
import datetime
import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

import lanjie
from lanjie._transport import translate
from lanjie.v1 import screening_pb2, screening_pb2_grpc, subject_pb2
from lanjie_gateway.adapters import redis_client
from lanjie_gateway.adapters.rate_buckets import RateBuckets, Rates
from lanjie_gateway.adapters.redis_client import AsyncClient
from lanjie_gateway.domain.errors import Unanswerable
from tests.support.gateway import running
from tests.support.subjects import uscc
from tests.support.valkey import Valkey, valkey

PER_MINUTE = 60


@pytest.fixture(scope="module")
def server() -> Iterator[Valkey]:
    with valkey() as running:
        yield running


@pytest.fixture(params=["here", "redis"])
async def client(server: Valkey, request: pytest.FixtureRequest) -> AsyncIterator[AsyncClient | None]:
    if request.param == "here":
        yield None
        return
    server.run("FLUSHALL")
    made = redis_client.connect(server.url, timeout=1.0)
    yield made
    await made.aclose()


async def granted(buckets: RateBuckets, department: str) -> range:
    """Draw until refused; return how often it may have been granted beyond a minute's worth, given the time it took."""
    begun = time.monotonic()
    for number in range(10_000):
        try:
            await buckets.draw(department, 1)
        except Unanswerable as error:
            refusal, count = error, number
            break
    else:
        raise AssertionError("never refused")
    assert refusal.reason == "OVERLOADED"
    assert 0 < int(refusal.metadata["retry_after_ms"]) <= 60_000
    flowed_in = int((time.monotonic() - begun) * PER_MINUTE / 60) + 1
    return range(count - flowed_in, count + 1)


async def test_a_minutes_worth_is_granted_and_no_more(client: AsyncClient | None) -> None:
    buckets = RateBuckets(Rates(department=PER_MINUTE), client)
    assert PER_MINUTE in await granted(buckets, "tax")
    assert PER_MINUTE in await granted(buckets, "court")


async def test_what_is_refused_costs_nothing_and_time_fills_the_bucket(client: AsyncClient | None) -> None:
    buckets = RateBuckets(Rates(department=6_000), client)
    await buckets.draw("tax", 6_000)
    with pytest.raises(Unanswerable) as caught:
        await buckets.draw("tax", 20)
    for _ in range(3):
        with pytest.raises(Unanswerable):
            await buckets.draw("tax", 6_000)
    await asyncio.sleep(int(caught.value.metadata["retry_after_ms"]) / 1000)
    await buckets.draw("tax", 20)


async def test_a_batch_of_more_than_a_minute_is_let_in_and_pays_its_size(client: AsyncClient | None) -> None:
    buckets = RateBuckets(Rates(department=10), client)
    await buckets.draw("tax", 500)
    with pytest.raises(Unanswerable) as caught:
        await buckets.draw("tax", 1)
    assert 48 * 60_000 < int(caught.value.metadata["retry_after_ms"]) <= 50 * 60_000


async def test_each_level_has_its_own_rate_and_all_give_or_none(client: AsyncClient | None) -> None:
    buckets = RateBuckets(Rates(department=12, credential=8, officer=4), client)

    async def draw(credential: str, officer: str, checks: int = 1) -> bool:
        try:
            await buckets.draw("tax", checks, credential=credential, officer=officer)
        except Unanswerable:
            return False
        return True

    assert await draw("sdk-1", "N1", 4)
    assert not await draw("sdk-1", "N1")
    # What the officer was refused was taken from nobody.
    assert await draw("sdk-1", "N2", 4)
    assert not await draw("sdk-1", "N3")
    assert await draw("sdk-2", "N3", 4)
    assert not await draw("sdk-3", "N4")
    assert not await draw("sdk-3", "")


async def test_a_grant_has_a_rate_of_its_own(client: AsyncClient | None) -> None:
    buckets = RateBuckets(Rates(department=10), client)
    await buckets.draw("tax", 100, granted=100)
    with pytest.raises(Unanswerable):
        await buckets.draw("tax", 1, granted=100)
    unlimited = RateBuckets(Rates(), client)
    await unlimited.draw("court", 5, granted=5)
    with pytest.raises(Unanswerable):
        await unlimited.draw("court", 1, granted=5)


async def test_who_an_officer_is_does_not_stand_in_redis(server: Valkey) -> None:
    server.run("FLUSHALL")
    made = redis_client.connect(server.url, timeout=1.0)
    await RateBuckets(Rates(officer=5), made).draw("tax", 1, credential="sdk", officer="N-4711")
    keys = await made.keys("*")
    await made.aclose()
    assert len(keys) == 1
    assert b"4711" not in keys[0]


async def test_no_limit_asks_nobody() -> None:
    nowhere = redis_client.connect("unix:///nowhere/at/all", timeout=1.0)
    for _ in range(3):
        await RateBuckets(Rates(), nowhere).draw("tax", 500)


async def test_all_workers_draw_on_one_bucket(server: Valkey) -> None:
    server.run("FLUSHALL")
    clients = [redis_client.connect(server.url, timeout=1.0) for _ in range(2)]
    first, second = (RateBuckets(Rates(department=PER_MINUTE), client) for client in clients)
    await first.draw("tax", PER_MINUTE - 2)
    assert 2 in await granted(second, "tax")
    for each in clients:
        await each.aclose()


async def test_without_redis_each_counts_for_itself() -> None:
    nowhere = redis_client.connect("unix:///nowhere/at/all", timeout=1.0)
    assert PER_MINUTE in await granted(RateBuckets(Rates(department=PER_MINUTE), nowhere), "tax")


def test_a_client_that_asks_too_much_is_told_neither_yes_nor_no(tmp_path: Path) -> None:
    at = datetime.datetime(2026, 11, 2, tzinfo=datetime.UTC)
    with running(tmp_path, at, checks_per_minute=2) as gateway:
        gateway.publish(Path(__file__).parents[1] / "data" / "national.yaml")
        with gateway.client(local=False) as client:

            def check() -> lanjie.Decision:
                return client.check(uscc(1), matter="tendering.bidder", purpose="test")

            assert [check().outcome.name for _ in range(3)] == ["PASS", "PASS", "UNDETERMINED"]
            assert check().warnings == ("rate-limited",)


def test_what_is_refused_without_a_look_does_not_use_up_what_the_department_may_ask(tmp_path: Path) -> None:
    at = datetime.datetime(2026, 11, 2, tzinfo=datetime.UTC)
    with running(tmp_path, at, checks_per_minute=5) as gateway:
        gateway.publish(Path(__file__).parents[1] / "data" / "national.yaml")
        context = screening_pb2.InquiryContext(matter="tendering.bidder", purpose="test")
        many = screening_pb2.BatchCheckRequest(context=context, subjects=[subject_pb2.Subject(identifier="x")] * 10_000)

        async def refused(person: str, times: int) -> set[str]:
            token = (gateway.state / "tokens" / f"{person}.token").read_text().strip()
            said = (("authorization", f"Bearer {token}"),)
            reasons = set()
            async with grpc.aio.insecure_channel(json.loads(gateway.file.read_text())["screening"]) as channel:
                stub: Any = screening_pb2_grpc.ScreeningServiceStub(channel)
                for _ in range(times):
                    with pytest.raises(grpc.aio.AioRpcError) as caught:
                        await stub.BatchCheck(many, metadata=said)
                    reasons.add(translate(caught.value).reason)
            return reasons

        assert gateway.run(refused("authority", 9)) == {"NOT_PERMITTED"}
        assert gateway.run(refused("inquirer", 1)) == {"ARGUMENT_INVALID"}
        with gateway.client(local=False) as client:
            assert client.check(uscc(1), matter="tendering.bidder", purpose="test").outcome.name == "PASS"
