"""Services of two hosts on one PostgreSQL: files and catalogues wait for each other; `lanjie migrate`."""

import asyncio
import datetime
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from lanjie_gateway.adapters.ledger import Ledger
from lanjie_gateway.adapters.ledger.database import NEWEST, parameters
from lanjie_gateway.adapters.state_lock import LEDGER, hold
from lanjie_gateway.cli.app import main
from lanjie_gateway.domain.access import Role
from lanjie_gateway.domain.errors import Unanswerable
from lanjie_gateway.domain.import_rules import ImportState
from lanjie_gateway.services import imports
from lanjie_gateway.services.catalogue import CatalogueService
from tests.support.gateway import running
from tests.support.ledger import cells, csv_file, desk, person
from tests.support.load import MATTER, wage_row
from tests.support.postgres import PostgresServer
from tests.support.signing import signed
from tests.support.subjects import uscc

CATALOGUES = Path(__file__).parents[2] / "examples" / "catalogues"


def file_of(*numbers: int, **changes: str) -> bytes:
    return csv_file([cells(number, **changes) for number in numbers])


async def test_files_of_two_hosts_follow_one_another(tmp_path: Path, shared_url: str) -> None:
    async with desk(tmp_path, url=shared_url) as one, desk(tmp_path, url=shared_url) as two:
        same = file_of(*range(20))
        files = [(one, same), (two, same), (one, file_of(*range(30, 40))), (two, file_of(*range(40, 50)))]
        done = await asyncio.gather(*(host.take(file) for host, file in files))
        assert [each.state for each in done] == [ImportState.COMMITTED] * 4
        assert done[0].receipt_id == done[1].receipt_id
        assert sorted(each.revision for each in done[1:]) == [1, 2, 3]
        assert len(await two.find(35)) == len(await one.find(45)) == len(await one.find(5)) == 1


async def test_a_file_waits_for_its_turn_and_not_for_ever(
    tmp_path: Path, shared_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "TURN_SECONDS", 0.6)
    async with desk(tmp_path, url=shared_url) as one, desk(tmp_path, url=shared_url) as two:
        assert await one.thread.call(Ledger.hold_imports)
        with pytest.raises(Unanswerable) as late:
            await two.take(file_of(1))
        assert late.value.reason == "OVERLOADED"
        waiting = asyncio.create_task(two.take(file_of(1)))
        await asyncio.sleep(0.2)
        await one.thread.call(Ledger.end_import)
        assert (await waiting).revision == 1


async def test_one_host_confirms_what_another_took(tmp_path: Path, shared_url: str) -> None:
    async with desk(tmp_path, url=shared_url) as one, desk(tmp_path, url=shared_url) as two:
        await one.take(file_of(*range(20)))
        parked = await one.take(file_of(*range(10), reason="corrected"))
        assert parked.state is ImportState.WAITING
        both = await asyncio.gather(
            two.imports.confirm(parked.receipt_id, person("bert")),
            one.imports.confirm(parked.receipt_id, person("carl")),
        )
        assert [each.revision for each in both] == [2, 2]
        assert (await two.take(file_of(77))).revision == 3


async def test_a_caller_that_leaves_while_it_waits_for_its_turn_leaves_no_turn_behind(
    tmp_path: Path, shared_url: str
) -> None:
    async with desk(tmp_path, url=shared_url) as one, desk(tmp_path, url=shared_url) as two:
        for _ in range(5):
            task = asyncio.create_task(one.take(file_of(1)))
            await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert (await two.take(file_of(2))).state is ImportState.COMMITTED


@pytest.mark.drill
async def test_a_lost_ledger_is_what_the_caller_hears(tmp_path: Path) -> None:
    server = PostgresServer()
    try:
        server.start()
        async with desk(tmp_path, url=server.database()) as host:

            async def broken(*args: Any, **kwargs: Any) -> Any:
                await asyncio.to_thread(server.stop)
                return await real(*args, **kwargs)

            real, host.imports._stage = host.imports._stage, broken  # type: ignore[method-assign]
            with pytest.raises(Unanswerable) as lost:
                await host.take(file_of(1))
            assert lost.value.reason == "LEDGER_UNAVAILABLE"
            host.imports._stage = real  # type: ignore[method-assign]
            server.start()
            assert (await host.take(file_of(1))).revision == 1
    finally:
        server.close()


async def test_catalogues_published_at_once_are_judged_one_after_the_other(tmp_path: Path, shared_url: str) -> None:
    async def told(revision: int) -> None:
        pass

    async with desk(tmp_path, url=shared_url) as one, desk(tmp_path, url=shared_url) as two:
        services = [CatalogueService(host.thread, told, host.clock, allow_examples=True) for host in (one, two)]
        manager = person("mara", Role.MANAGER)
        national = (CATALOGUES / "national-example.yaml").read_bytes()
        both = await asyncio.gather(
            *(each.publish(national, "national.yaml", manager, signature=signed(national)) for each in services)
        )
        assert [each.revision for each in both] == [1, 1]
        # The other edition refers to what the first one defines.
        other = (CATALOGUES / "jiangsu-example.yaml").read_bytes()
        done = await services[1].publish(other, "jiangsu.yaml", manager, signature=signed(other))
        assert done.revision == 2


Migrate = Callable[..., tuple[int, str, str]]


@pytest.fixture
def migrate(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Migrate:
    """`lanjie migrate`: exit code, output, errors."""

    def run(*arguments: str, url: str = "") -> tuple[int, str, str]:
        monkeypatch.setenv("LANJIE_LEDGER_URL", url)
        monkeypatch.setattr(sys, "argv", ["lanjie", "migrate", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


def test_migrate_brings_postgresql_up_and_says_what_it_did(postgres: PostgresServer, migrate: Migrate) -> None:
    url = postgres.empty()
    assert migrate(url=url)[:2] == (0, f"schema: empty → {NEWEST}\n")
    assert migrate(url=url)[:2] == (0, f"schema: {NEWEST}, nothing to do\n")
    postgres.drop(url)
    code, _, error = migrate(url=url)
    assert code == 2
    assert error.startswith("error: the ledger's database cannot be reached")


def test_migrate_leaves_a_state_in_use_alone(tmp_path: Path, migrate: Migrate) -> None:
    assert migrate()[0] == 2
    with hold(tmp_path, LEDGER):
        code, _, error = migrate("--state", str(tmp_path))
    assert (code, list(tmp_path.glob("ledger.sqlite3"))) == (2, [])
    assert "another gateway holds" in error
    assert migrate("--state", str(tmp_path))[:2] == (0, f"schema: empty → {NEWEST}\n")


def test_a_host_whose_ledger_fell_back_refuses_until_it_starts_again(tmp_path: Path, shared_url: str) -> None:
    national = Path(__file__).parents[1] / "data" / "national.yaml"

    def fall_back(by: int) -> None:
        # As a copy of the database does that had not heard of the last commits when it took over.
        with psycopg.connect(**parameters(shared_url)) as connection:
            connection.execute("UPDATE head SET revision = revision - %s", [by])

    now = datetime.datetime.now(datetime.UTC)
    with running(tmp_path / "a", now, ledger_url=shared_url, redis_url="none") as gateway:
        gateway.publish(national)
        lost = gateway.import_rows([wage_row(uscc(700), 1)]).revision
        follower, worker = gateway.inner.control.follower, gateway.inner.worker
        assert follower.current()
        assert worker.feed.current()
        fall_back(1)
        deadline = time.monotonic() + 30
        while follower.current() or worker.feed.current():
            assert time.monotonic() < deadline, "it answers by what the ledger does not have"
            time.sleep(0.05)
        # Somebody's next commit gets the revision that was lost.
        fall_back(-2)
        time.sleep(2.5)
        assert not follower.current()
        assert not worker.feed.current()
        with gateway.client(local=False) as client:
            decision = client.check(uscc(700), matter=MATTER, purpose="test")
            assert decision.outcome.name == "UNDETERMINED"
    assert lost == 2
