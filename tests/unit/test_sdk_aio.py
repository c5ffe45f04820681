"""The asynchronous client answers as the blocking one does."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

import lanjie
from lanjie import Outcome, Source, UndeterminedReason
from lanjie.testing import FakeGateway
from tests.support.sdk import ASK
from tests.support.subjects import citizen, uscc


@pytest.mark.asyncio
async def test_local_remote_and_unreachable(tmp_path):
    gateway = FakeGateway(person_files=[ASK["matter"]])
    gateway.list_subject(uscc(1))
    async with gateway.async_client(state_dir=tmp_path) as client:
        await client.wait_ready(10)
        assert (await client.check(uscc(2), **ASK)).source is Source.LOCAL
        assert (await client.check(uscc(1), **ASK, name="甲")).outcome is Outcome.INTERCEPT
        many = await client.check_many([uscc(1), uscc(3), "x", citizen(1)], **ASK)
        assert [decision.outcome.name for decision in many] == ["INTERCEPT", "PASS", "UNDETERMINED", "PASS"]
        with pytest.raises(lanjie.InvalidIdentifier):
            await client.check("uscc:1", **ASK)
        with pytest.raises(lanjie.UnknownMatter):
            await client.check(uscc(1), matter="no.such", purpose="x")
        gateway.reachable = False
        assert (await client.check(uscc(1), **ASK)).reason is UndeterminedReason.UNAVAILABLE
        many = await client.check_many([uscc(1)], **ASK)
        assert many[0].outcome is Outcome.UNDETERMINED
        assert client.sync_status().count == 2
        gateway.reachable = True
    assert len(gateway.local_passes) == 2
    with pytest.raises(lanjie.ClientClosed):
        await client.check(uscc(1), **ASK)


@pytest.mark.asyncio
async def test_who_waits_for_alerts_takes_no_thread_from_others(tmp_path):
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    gateway = FakeGateway()

    async def follow(client):
        return [alert async for alert in client.alerts(follow=True)]

    async with gateway.async_client(state_dir=tmp_path) as client:
        await client.wait_ready(10)
        gone, follows = (asyncio.create_task(follow(client)) for _ in range(2))
        await asyncio.sleep(0.1)
        gone.cancel()
        assert await asyncio.wait_for(client.watches(), 5) == ()
    with pytest.raises(lanjie.ClientClosed):
        await asyncio.wait_for(follows, 10)
