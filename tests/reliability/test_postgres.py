"""PostgreSQL cut off and restarted under load: nothing acknowledged is lost, no revision missing, no half file seen.

Four faults here, one hundred and fifty under ``./run check --long``.
"""

import asyncio
import contextlib
import random
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lanjie_gateway.adapters.ledger import Ledger
from lanjie_gateway.adapters.ledger.database import transaction
from lanjie_gateway.domain.access import Role
from lanjie_gateway.domain.errors import Refused, Unanswerable
from lanjie_gateway.domain.import_rules import ImportState
from tests.support.hosts import Writer, doubles, revisions
from tests.support.ledger import Desk, cells, csv_file, desk, open_ledger, person, take
from tests.support.postgres import PostgresServer

pytestmark = pytest.mark.drill

ROWS = 300
FAULTS = [4, pytest.param(150, marks=pytest.mark.long)]


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A server of the test's own, which it may stop."""
    made = PostgresServer()
    try:
        made.start()
        yield made
    finally:
        made.close()


def fault(server: PostgresServer, url: str, chance: random.Random) -> None:
    """Cut the connections, or stop the server as a crash would and start it again after a while."""
    if chance.random() < 0.5:
        server.cut(url)
    else:
        server.stop(chance.choice([signal.SIGQUIT, signal.SIGQUIT, signal.SIGINT]))
        time.sleep(chance.uniform(0, 0.2))
        server.start()


@pytest.mark.parametrize("faults", FAULTS)
def test_hosts_lose_nothing_that_was_acknowledged(tmp_path: Path, server: PostgresServer, faults: int) -> None:
    chance = random.Random(faults)
    url = server.database()
    hosts = [open_ledger(tmp_path, url=url) for _ in range(2)]
    take(hosts[0], *(cells(number) for number in range(20)))
    writers = [Writer(ledger, seed) for seed, ledger in enumerate(hosts)]
    with ThreadPoolExecutor(len(writers)) as pool:
        for _ in range(faults):
            until = time.monotonic() + 0.2
            running = [pool.submit(writer.run, until + 0.4) for writer in writers]
            time.sleep(max(0.0, until - time.monotonic()) * chance.random())
            fault(server, url, chance)
            for each in running:
                each.result(60)
    told = revisions(hosts[0])
    assert told == list(range(1, hosts[1].head() + 1))
    acknowledged = [1, *writers[0].acknowledged, *writers[1].acknowledged]
    assert len(set(acknowledged)) == len(acknowledged)
    assert set(acknowledged) <= set(told)
    assert doubles(hosts[0]) == []
    lost = sum(writer.lost for writer in writers)
    print(f"{faults} faults, {lost} calls unanswered, {len(acknowledged)} of {len(told)} commits acknowledged")
    assert lost > 0
    for ledger in hosts:
        ledger.close()


async def imported(host: Desk, file: bytes, name: str) -> int:
    """Bring a file until it is taken; return its revision."""
    while True:
        with contextlib.suppress(Unanswerable):
            done = await host.take(file, file_name=name)
            assert done.state is ImportState.COMMITTED
            assert done.counts.added == ROWS
            return int(done.revision)
        await asyncio.sleep(0.02)


async def removed(host: Desk, number: int) -> int | None:
    """Remove a listing until that is acknowledged; `None` when an earlier attempt turns out to have worked."""
    while True:
        try:
            (found,) = await host.find(number)
            revision, _ = await host.listings.remove(
                found.listing.id, "paid up", "No. 9", "", person("bert", Role.AUTHORITY)
            )
        except Unanswerable:
            await asyncio.sleep(0.02)
        except Refused as error:
            if error.reason != "TRANSITION_ILLEGAL":
                raise
            return None
        else:
            return revision


def halves(ledger: Ledger) -> list[int]:
    """Sizes of the files that are seen."""
    with transaction(ledger._engine) as connection:
        rows = connection.exec_driver_sql(
            "SELECT count(*) FROM listing JOIN batch ON batch.id = batch_id WHERE revision > 0 GROUP BY batch_id"
        )
        return [size for (size,) in rows]


@pytest.mark.parametrize("faults", FAULTS)
async def test_services_take_files_and_removals_through_faults(
    tmp_path: Path, server: PostgresServer, faults: int
) -> None:
    chance = random.Random(faults + 1)
    url = server.database()
    over = asyncio.Event()
    taken: list[int] = []
    gone: list[int | None] = []
    sizes: set[int] = set()

    async def bring(host: Desk, lane: int) -> None:
        file = 0
        while not over.is_set():
            first = (lane * 10_000 + file) * ROWS
            rows = [cells(number) for number in range(first, first + ROWS)]
            revision = await imported(host, csv_file(rows), f"list-{lane}-{file}.csv")
            taken.append(revision)
            assert revision == await imported(host, csv_file(rows), f"list-{lane}-{file}.csv")
            gone.extend([await removed(host, first), await removed(host, first + 1)])
            file += 1

    async def watch(host: Desk) -> None:
        while not over.is_set():
            with contextlib.suppress(Unanswerable):
                sizes.update(await host.thread.call(halves))
            await asyncio.sleep(0.01)

    async with desk(tmp_path, url=url) as one, desk(tmp_path, url=url) as two, asyncio.TaskGroup() as group:
        for lane, host in enumerate((one, two)):
            group.create_task(bring(host, lane))
        group.create_task(watch(two))
        for _ in range(faults):
            await asyncio.sleep(chance.uniform(0.05, 0.4))
            await asyncio.to_thread(fault, server, url, chance)
        over.set()
    ledger = open_ledger(tmp_path, url=url)
    told = revisions(ledger)
    assert told == list(range(1, len(told) + 1))
    acknowledged = [*taken, *(revision for revision in gone if revision is not None)]
    assert set(acknowledged) <= set(told)
    assert len(told) == len(taken) + len(gone)
    assert set(halves(ledger)) == {ROWS}
    assert sizes <= {ROWS}
    assert doubles(ledger) == []
    print(f"{faults} faults, {len(taken)} files, {len(gone)} removals, {gone.count(None)} of them found done")
    ledger.close()
