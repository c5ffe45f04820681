"""Two hosts on one PostgreSQL: what is committed on either is the law on both, and a host cut off says so."""

import contextlib
import datetime
import functools
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psycopg
import pytest

import lanjie
from lanjie_gateway.adapters.ledger.database import parameters
from lanjie_gateway.adapters.redis_index import RedisIndex
from lanjie_gateway.domain.access import Role
from lanjie_gateway.domain.errors import Unanswerable
from tests.support.gateway import RunningGateway, joined, person, running
from tests.support.load import MATTER, wage_row
from tests.support.postgres import PostgresServer
from tests.support.shared import reaches
from tests.support.signing import signed_year
from tests.support.subjects import uscc
from tests.support.valkey import cluster, valkey
from tests.support.years import INVENTED

pytestmark = pytest.mark.drill

DATA = Path(__file__).parents[1] / "data"
NOW = datetime.datetime.now(datetime.UTC)
AUTHORITY = person("authority", Role.AUTHORITY)


@contextlib.contextmanager
def two_hosts(directory: Path, url: str, **settings: str) -> Iterator[tuple[RunningGateway, RunningGateway]]:
    with running(directory / "a", NOW, ledger_url=url, **settings) as first:
        joined(directory / "a", directory / "b")
        with running(directory / "b", NOW, ledger_url=url, **settings) as second:
            yield first, second


@pytest.fixture
def hosts(tmp_path: Path, postgres: PostgresServer) -> Iterator[tuple[RunningGateway, RunningGateway]]:
    with valkey() as redis, two_hosts(tmp_path, postgres.database(), redis_url=redis.url) as both:
        yield both


def test_two_hosts_read_from_a_cluster_and_do_without_one_of_its_nodes(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    with cluster() as (nodes, url), two_hosts(tmp_path, postgres.database(), redis_url=url, index="redis") as hosts:
        first, second = hosts
        first.publish(DATA / "national.yaml")
        receipt = first.import_rows([wage_row(uscc(780 + number), 1) for number in range(30)])
        until(lambda: second.inner.worker.index.revision == receipt.revision, "the commit is not followed")
        for host in hosts:
            publisher = host.inner.control.publisher
            assert publisher is not None
            assert host.run(reaches(publisher, receipt.revision, 30))
        with first.client(local=False) as one, second.client(local=False) as other:
            for client in (one, other):
                assert {outcome(client, uscc(780 + number)) for number in range(30)} == {"RESTRICT"}
            for client, host in ((one, first), (other, second)):
                index = host.inner.worker.index
                assert isinstance(index, RedisIndex)
                # On a busy machine Redis may be left alone for a moment after a late answer.
                until(functools.partial(reads, client, index), "Redis is not read")
            nodes[2].kill()
            for client in (one, other):
                seen = {outcome(client, uscc(780 + number)) for number in range(30)}
                assert seen <= {"RESTRICT", "UNDETERMINED"}


def reads(client: lanjie.Client, index: RedisIndex) -> bool:
    return outcome(client, uscc(780)) == "RESTRICT" and index.from_redis > 0


def outcome(client: lanjie.Client, subject: str) -> str:
    return client.check(subject, matter=MATTER, purpose="test").outcome.name


def is_restricted(client: lanjie.Client, subject: str) -> bool:
    return outcome(client, subject) == "RESTRICT"


def until(met: Callable[[], bool], what: str, seconds: float = 20.0) -> float:
    """Wait until it is so; return how long it took."""
    begun = time.monotonic()
    while not met():
        assert time.monotonic() - begun < seconds, what
        time.sleep(0.002)
    return time.monotonic() - begun


def remove(gateway: RunningGateway, listing_id: str) -> int:
    listings = gateway.inner.control.listings
    revision, _ = gateway.run(listings.remove(listing_id, "已改正", "测试移出〔2026〕1号", "", AUTHORITY))
    return revision


def test_two_hosts_agree_soon_after_a_commit_on_either(
    hosts: tuple[RunningGateway, RunningGateway],
) -> None:
    first, second = hosts
    first.publish(DATA / "national.yaml")
    lags = []
    with first.client(local=False) as one, second.client(local=False) as other:
        until(lambda: second.inner.worker.index.revision == 1, "the catalogue is not there")
        sides = [(first, one, other), (second, other, one)]
        for number in range(10):
            here, near, far = sides[number % 2]
            subject = uscc(700 + number)
            assert outcome(far, subject) == "PASS"
            here.import_rows([wage_row(subject, 1)])
            decision = near.check(subject, matter=MATTER, purpose="test")
            assert decision.outcome.name == "RESTRICT"
            lags.append(until(partial(is_restricted, far, subject), "not listed there"))
            revision = remove(sides[1 - number % 2][0], decision.listings[0].listing_id)
            assert outcome(far, subject) == "PASS"
            # Whoever names the revision reads his own write, on whichever host.
            after = near.check(subject, matter=MATTER, purpose="test", at_least_revision=revision)
            assert after.outcome.name == "PASS"
    print(f"the other host agreed after {statistics.median(lags) * 1e3:.0f} ms, {max(lags) * 1e3:.0f} ms at most")
    ledgers = [gateway.inner.control.ledger for gateway in hosts]
    assert ledgers[0].lineage == ledgers[1].lineage


def test_the_views_of_the_sdks_are_one(hosts: tuple[RunningGateway, RunningGateway]) -> None:
    first, second = hosts
    first.publish(DATA / "national.yaml")
    second.import_rows([wage_row(uscc(750 + number), 1) for number in range(5)])
    views = [gateway.inner.control.views.view for gateway in hosts]
    until(lambda: views[0].revision == views[1].revision == 2, "the views are not up to date")
    assert views[0].head() == views[1].head()
    with first.client() as client:
        client.wait_ready(timeout=10)
        assert outcome(client, uscc(751)) == "RESTRICT"
        # Working days that one host publishes are known on the other, and move nothing but the revision.
        manager = person("manager", Role.MANAGER)
        second.run(
            second.inner.control.calendar.publish(INVENTED, "2027.yaml", manager, signature=signed_year(INVENTED))
        )
        until(lambda: 2027 in first.inner.control.calendar.current().years, "the year is not known there")
        until(lambda: views[0].revision == first.inner.worker.index.revision == 3, "the commit is not followed")
        assert views[0].head() == views[1].head()
        assert outcome(client, uscc(751)) == "RESTRICT"


def test_a_host_without_its_database_answers_nothing_and_recovers(tmp_path: Path, postgres: PostgresServer) -> None:
    url = postgres.database()
    with two_hosts(tmp_path, url) as (first, second):
        first.publish(DATA / "national.yaml")
        first.import_rows([wage_row(uscc(760), 1)])
        with first.client(local=False) as client:
            assert outcome(client, uscc(760)) == "RESTRICT"
            with _out_of_reach(postgres, url):
                until(lambda: outcome(client, uscc(760)) == "UNDETERMINED", "it answers without its ledger")
                until(lambda: not second.inner.worker.feed.current(), "the other host thinks that it is current")
                with pytest.raises(Unanswerable):
                    first.import_rows([wage_row(uscc(761), 1)])
            until(lambda: outcome(client, uscc(760)) == "RESTRICT", "it does not recover")
            first.import_rows([wage_row(uscc(761), 1)])
            assert outcome(client, uscc(761)) == "RESTRICT"


def test_a_host_whose_database_answered_with_an_error_for_a_moment_recovers(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    """A table that is away while a database is restored in its place is no lost connection."""
    url = postgres.database()
    with running(tmp_path / "a", NOW, ledger_url=url, redis_url="none") as gateway:
        gateway.publish(DATA / "national.yaml")
        with gateway.client(local=False) as client, psycopg.connect(**parameters(url), autocommit=True) as admin:
            assert outcome(client, uscc(1)) == "PASS"
            admin.execute("ALTER TABLE head RENAME TO away")
            until(lambda: outcome(client, uscc(1)) == "UNDETERMINED", "it goes on without its head")
            admin.execute("ALTER TABLE away RENAME TO head")
            until(lambda: outcome(client, uscc(1)) == "PASS", "it does not come back")


@pytest.mark.long
def test_alerts_come_once_whichever_host_was_asked_and_whichever_goes(tmp_path: Path, shared_url: str) -> None:
    """Watched and passed on one host, listed on the other, told on both; then the first one goes."""
    until_on = NOW.date() + datetime.timedelta(days=30)
    with contextlib.ExitStack() as late, contextlib.ExitStack() as early:
        first = early.enter_context(running(tmp_path / "a", NOW, ledger_url=shared_url))
        joined(tmp_path / "a", tmp_path / "b")
        second = late.enter_context(running(tmp_path / "b", NOW, ledger_url=shared_url))
        one = early.enter_context(first.client(local=False))
        other = late.enter_context(second.client(local=False))
        first.publish(DATA / "national.yaml")
        until(lambda: second.inner.worker.index.revision == 1, "the catalogue is not there")

        def told(client: lanjie.Client) -> list[lanjie.Alert]:
            return list(client.alerts(acknowledge=False))

        def ask(client: lanjie.Client, gateway: RunningGateway, number: int) -> set[tuple[str, str]]:
            watch = client.watch(uscc(number), matter=MATTER, purpose="履约期间", until=until_on).watch_id
            passed = client.check(uscc(number + 1), matter=MATTER, purpose="test").decision_id
            gateway.run(gateway.inner.control.inquiries.load())
            return {(watch, ""), ("", passed)}

        wanted = ask(other, second, 770)
        first.import_rows([wage_row(uscc(number), 1) for number in (770, 771)])
        until(lambda: len(told(other)) == 2, "nothing was told")
        assert {(each.watch_id, each.decision_id) for each in told(one)} == wanted
        assert one.acknowledge(up_to=2) == 2
        assert told(other) == []
        ask(one, first, 772)
        early.close()
        wanted = ask(other, second, 774)
        second.import_rows([wage_row(uscc(number), 1) for number in range(772, 776)])
        until(lambda: len(told(other)) == 4, "nothing was told")
        assert [each.number for each in told(other)] == [3, 4, 5, 6]
        assert wanted < {(each.watch_id, each.decision_id) for each in told(other)}


@contextlib.contextmanager
def _out_of_reach(postgres: PostgresServer, url: str) -> Iterator[None]:
    """Nobody gets a connection to the database, and those there were are cut."""
    name = url.partition("@/")[2].partition("?")[0]
    postgres.admin(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    postgres.cut(url)
    try:
        yield
    finally:
        postgres.admin(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
