"""Word of other hosts' commits over a real PostgreSQL: heard at once, never lost for long, never in a busy loop."""

import asyncio
import time

import pytest

from lanjie_gateway.adapters.ledger.journal import Journal
from lanjie_gateway.domain.errors import Unanswerable
from tests.support.ledger import cells, open_ledger, take
from tests.support.postgres import PostgresServer


@pytest.fixture
async def journal(shared_url):
    made = Journal(shared_url)
    await made.start()
    await made.heard(10)
    yield made
    await made.close()


@pytest.fixture
def ledger(tmp_path, shared_url):
    made = open_ledger(tmp_path, url=shared_url)
    yield made
    made.close()


async def test_a_commit_is_heard_and_seen(ledger, journal):
    assert await journal.head() == 0
    waiting = asyncio.create_task(journal.heard(30))
    await asyncio.sleep(0)
    begun = time.monotonic()
    await asyncio.to_thread(take, ledger, cells(1))
    await waiting
    assert time.monotonic() - begun < 25
    assert await journal.head() == 1


async def test_what_is_told_while_nobody_waits_is_heard_later(ledger, journal):
    await asyncio.to_thread(take, ledger, cells(1))
    begun = time.monotonic()
    await journal.heard(30)
    assert time.monotonic() - begun < 25


async def test_a_quiet_ledger_keeps_nobody_waiting_for_longer_than_asked(ledger, journal):
    await journal.heard(0.2)
    begun = time.monotonic()
    await journal.heard(0.2)
    assert time.monotonic() - begun >= 0.15


async def test_cut_connections_heal(ledger, journal, postgres, shared_url):
    assert await journal.head() == 0
    for revision in range(1, 6):
        waiting = asyncio.create_task(journal.heard(30))
        await asyncio.sleep(0)
        postgres.cut(shared_url)
        # The break itself is heard.
        await waiting
        await journal.heard(30)
        await asyncio.to_thread(take, ledger, cells(revision))
        await journal.heard(30)
        assert await journal.head() == revision


async def taken(journal):
    """Take the lock as soon as the server has noticed that the connection which had it is gone."""
    async with asyncio.timeout(20):
        while not await journal.try_lock("publish"):  # noqa: ASYNC110  the server tells nobody
            await asyncio.sleep(0.01)


async def test_a_lock_is_one_hosts_until_its_connection_ends(ledger, journal, postgres, shared_url):
    other = Journal(shared_url)
    assert await journal.try_lock("publish")
    assert await journal.try_lock("publish")
    assert not await other.try_lock("publish")
    assert await other.try_lock("something else")
    await journal.close()
    await taken(other)
    postgres.cut(shared_url)
    # Asked again, it is held again, by the connection that is there now.
    await taken(other)
    assert not await journal.try_lock("publish")
    await other.close()
    await taken(journal)


@pytest.mark.drill
async def test_a_server_that_is_gone_is_said_to_be_and_waited_for(tmp_path):
    server = PostgresServer()
    try:
        server.start()
        url = server.database()
        ledger = open_ledger(tmp_path, url=url)
        journal = Journal(url)
        await journal.start()
        await journal.heard(10)
        assert await journal.head() == 0
        server.stop()
        await journal.heard(10)
        asked = 0
        begun = time.monotonic()
        while time.monotonic() - begun < 1:
            with pytest.raises(Unanswerable) as error:
                await journal.head()
            assert error.value.reason == "LEDGER_UNAVAILABLE"
            await journal.heard(0.3)
            asked += 1
        assert asked <= 5
        server.start()
        await journal.heard(30)
        assert await journal.head() == 0
        server.stop()
        with pytest.raises(Unanswerable):
            ledger.head()
        server.start()
        take(ledger, cells(1))
        assert await journal.head() == 1
        await journal.close()
        ledger.close()
    finally:
        server.close()


async def test_a_standby_is_waited_for_until_it_has_taken_over(tmp_path):
    server = PostgresServer()
    try:
        server.start()
        url = server.database()
        ledger = open_ledger(tmp_path, url=url)
        server.restart_as_standby()
        journal = Journal(url)
        await journal.start()
        with pytest.raises(Unanswerable):
            await journal.head()
        with pytest.raises(Unanswerable) as written:
            await asyncio.to_thread(take, ledger, cells(1))
        assert written.value.reason == "LEDGER_UNAVAILABLE"
        await asyncio.sleep(0.3)
        server.admin("SELECT pg_promote()")
        assert await journal.head() == 0
        # It listens again by itself.
        for number in range(1, 20):
            await journal.heard(0.3)
            waiting = asyncio.create_task(journal.heard(5))
            await asyncio.sleep(0)
            begun = time.monotonic()
            await asyncio.to_thread(take, ledger, cells(number))
            await waiting
            if time.monotonic() - begun < 4:
                break
        else:
            raise AssertionError("nothing is heard any more")
        await journal.close()
        ledger.close()
    finally:
        server.close()
