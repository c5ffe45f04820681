"""Limits on natural persons at a whole gateway: counted for all workers, kept over a restart, lifted by a document."""

import asyncio
import datetime
import json
import sqlite3
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import lanjie
from lanjie_gateway.adapters import person_counts, redis_client
from lanjie_gateway.adapters.ledger import Ledger
from lanjie_gateway.adapters.person_counts import PersonCounts
from lanjie_gateway.domain.access import Role
from lanjie_gateway.domain.askers import Asker
from lanjie_gateway.domain.detectors import Level, traits
from lanjie_gateway.domain.errors import GatewayError, Refused
from lanjie_gateway.domain.subject_report import Proof
from lanjie_matcher.civil_time import SHANGHAI
from lanjie_matcher.fingerprints import IndexKey
from lanjie_matcher.identifiers import parse
from tests.support.gateway import RunningGateway, joined, person, running
from tests.support.load import wage_row
from tests.support.serve import run, serving
from tests.support.subjects import citizen, uscc
from tests.support.valkey import valkey

DATA = Path(__file__).parents[1] / "data"
AT = datetime.datetime(2026, 11, 3, 10, tzinfo=SHANGHAI)
ASK: dict[str, Any] = {"matter": "tendering.bidder", "purpose": "test"}
AGENCY = person("agency", Role.AGENCY)


def somebody(number: int) -> str:
    """Return persons who share neither birth date nor half month."""
    born = datetime.date(1960, 1, 5) + datetime.timedelta(days=61 * number)
    return citizen(100 + number * 7 % 800, born.strftime("%Y%m%d"))


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[RunningGateway]:
    with running(tmp_path / "state", AT, persons_per_day=20, redis_url="none") as made:
        made.publish(DATA / "national.yaml")
        yield made


def ask(client: lanjie.Client, *subjects: str, **context: Any) -> list[str]:
    return [client.check(each, **ASK, **context).outcome.name for each in subjects]


def stopped(client: lanjie.Client, subject: str, **context: Any) -> bool:
    try:
        client.check(subject, **ASK, **context)
    except lanjie.PermissionDenied as error:
        return error.reason == "DAILY_CAP"
    return False


def records(gateway: RunningGateway, kind: str) -> list[dict[str, Any]]:
    control = gateway.inner.control
    gateway.run(_twice(control.limits.keep))
    rows = gateway.run(control.ledger.call(Ledger.inquiries, 10_000))
    return [json.loads(row.record) for row in rows if row.kind == kind]


async def _twice(act: Callable[[], Awaitable[None]]) -> None:
    """At once, as where a trip is written while the time for it comes: nothing may be told twice or lost."""
    await asyncio.gather(act(), act())


def test_a_cap_counts_distinct_persons_of_a_day_and_no_companies(gateway: RunningGateway) -> None:
    with gateway.client() as client:
        assert ask(client, *map(somebody, range(20))) == ["PASS"] * 20
        assert ask(client, *map(somebody, range(20)), *map(uscc, range(1, 60))) == ["PASS"] * 79
        assert stopped(client, somebody(20))
        with pytest.raises(lanjie.PermissionDenied):
            client.check_many([uscc(1), somebody(21)], **ASK)
        assert ask(client, somebody(3), uscc(70)) == ["PASS", "PASS"]
        gateway.clock.at += datetime.timedelta(days=1)
        assert ask(client, somebody(20)) == ["PASS"]
    (trip,) = records(gateway, "trip")
    assert (trip["detector"], trip["persons"], trip["outcome"]) == ("cap", 20, "ALARM")
    assert not {"subject", "bucket", "id_kind"}.intersection(trip)


def test_a_walk_is_stopped_recorded_and_forgotten_by_no_restart(tmp_path: Path) -> None:
    with running(tmp_path / "state", AT, persons_per_day=20, redis_url="none") as gateway:
        gateway.publish(DATA / "national.yaml")
        with gateway.client() as client:
            walk = [citizen(number, "19850612") for number in range(1, 20)]
            with pytest.raises(lanjie.PermissionDenied):
                client.check_many(walk, officer="N1", **ASK)
            assert stopped(client, somebody(1), officer="N1")
            # Whoever shares the credential goes on.
            assert ask(client, somebody(1), officer="N2") == ["PASS"]
        assert "sequence" in {each["detector"] for each in records(gateway, "trip")}
        assert all(each["officer"] == "N1" for each in records(gateway, "trip"))
    with running(tmp_path / "state", AT, persons_per_day=20, redis_url="none") as again:
        (limits,) = again.inner.control.limits.get(AGENCY)
        assert (limits.persons, limits.level) == (1, Level.STOP)
        with again.client() as client:
            assert stopped(client, somebody(2), officer="N1")
            assert ask(client, *map(somebody, range(20)), officer="N2") == ["PASS"] * 20
            assert stopped(client, somebody(30), officer="N2")


def test_the_agency_lifts_the_limits_for_the_day(gateway: RunningGateway) -> None:
    service = gateway.inner.control.limits
    with gateway.client() as client:
        ask(client, *map(somebody, range(20)))
        assert stopped(client, somebody(20))
        with pytest.raises(Refused, match="agency"):
            gateway.run(service.lift("local", "exam", "doc 1", person("inquirer", Role.INQUIRER)))
        with pytest.raises(Refused, match="document"):
            gateway.run(service.lift("local", "exam", " ", AGENCY))
        record = gateway.run(service.lift("local", "entrance exam", "doc 1", AGENCY))
        assert ask(client, somebody(20)) == ["PASS"]
        gateway.clock.at += datetime.timedelta(days=1)
        assert ask(client, *map(somebody, range(20))) == ["PASS"] * 20
        assert stopped(client, somebody(20))
    (kept,) = records(gateway, "lift")
    assert (kept["id"], kept["reason"], kept["document"], kept["person"]) == (
        record,
        "entrance exam",
        "doc 1",
        "agency",
    )


def test_a_matter_without_a_catalogue_in_force_stops_nobody(tmp_path: Path) -> None:
    with running(tmp_path / "state", AT, redis_url="none") as gateway:
        gateway.publish(DATA / "national.yaml", DATA / "future.yaml")
        with gateway.client() as client:
            for number in range(20):
                answer = client.check(somebody(number), **{**ASK, "matter": "exit.control"})
                assert answer.reason is lanjie.UndeterminedReason.CATALOGUE_MISSING
            assert ask(client, *map(somebody, range(20, 30))) == ["PASS"] * 10
        assert records(gateway, "trip") == []
    with running(tmp_path / "state", AT, redis_url="none") as again:
        assert again.inner.control.limits.get(AGENCY)[0].persons == 30
        with again.client() as client:
            assert ask(client, *map(somebody, range(30, 50))) == ["PASS"] * 20
        assert records(again, "trip") == []


def test_persons_of_a_batch_that_takes_none_are_not_counted_after_a_restart_either(tmp_path: Path) -> None:
    with running(tmp_path / "state", AT, persons_per_day=20, redis_url="none") as gateway:
        gateway.publish(DATA / "national.yaml")
        with gateway.client() as client:
            found = client.check_many(map(somebody, range(30)), **{**ASK, "matter": "funds.fiscal"})
            assert {each.reason for each in found} == {lanjie.UndeterminedReason.PERSON_FILE}
            assert ask(client, somebody(30)) == ["PASS"]
    with running(tmp_path / "state", AT, persons_per_day=20, redis_url="none") as again:
        assert again.inner.control.limits.get(AGENCY)[0].persons == 1
        with again.client() as client:
            assert ask(client, *map(somebody, range(31, 50))) == ["PASS"] * 19
        assert records(again, "trip") == []


def test_a_number_in_the_place_of_an_officers_is_kept_nowhere_and_his_limits_hold_after_a_restart(
    tmp_path: Path,
) -> None:
    officer = somebody(50).partition(":")[2]
    with running(tmp_path / "state", AT, redis_url="none") as gateway:
        gateway.publish(DATA / "national.yaml")
        with gateway.client() as client, pytest.raises(lanjie.PermissionDenied):
            client.check_many([citizen(number, "19850612") for number in range(1, 20)], officer=officer, **ASK)
        (limits,) = gateway.inner.control.limits.get(AGENCY)
        assert limits.trips
        assert officer not in repr(limits.trips)
        gateway.run(gateway.inner.control.limits.keep())
        assert officer not in repr(gateway.run(gateway.inner.control.ledger.call(Ledger.limit_days)))
    with running(tmp_path / "state", AT, redis_url="none") as again, again.client() as client:
        assert stopped(client, somebody(2), officer=officer)
        assert ask(client, somebody(2), officer="N2") == ["PASS"]


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_a_lift_at_midnight_holds_for_no_other_day(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    service = gateway.inner.control.limits
    gateway.clock.at = AT.replace(hour=23, minute=59)
    with gateway.client() as client:
        ask(client, *map(somebody, range(20)))
    (limits,) = service.get(AGENCY)

    async def call(*_: Any) -> str:
        # Another department's question begins the day for all while the ledger is busy.
        gateway.clock.at += datetime.timedelta(hours=1)
        service.today()
        return "local/agency"

    monkeypatch.setattr(service._ledger, "call", call)
    asker = Asker(department="local", person="inquirer")
    lifts = service.lift("local", "exam", "doc 1", AGENCY)
    asks = service.ask(asker, [traits(parse(somebody(20)), IndexKey(bytes(32)))])
    gateway.run(lifts if where == "here" else asks)
    (asks if where == "here" else lifts).close()
    assert limits.lifted_by == ""


def test_a_record_that_was_altered_keeps_no_counter_waiting(tmp_path: Path) -> None:
    with running(tmp_path / "state", AT, redis_url="none") as gateway:
        gateway.publish(DATA / "national.yaml")
        with gateway.client() as client:
            assert ask(client, *map(somebody, range(4))) == ["PASS"] * 4
        gateway.run(gateway.inner.control.inquiries.load())
    with sqlite3.connect(tmp_path / "state" / "ledger.sqlite3") as ledger:
        rows = ledger.execute("SELECT id FROM inquiry WHERE kind = 'gateway' ORDER BY id").fetchall()
        for (number,), said in zip(rows[:3], (b"\xff", b'{"id_kind": "citizen"}', "text"), strict=True):
            ledger.execute("UPDATE inquiry SET record = ? WHERE id = ?", (said, number))
    with running(tmp_path / "state", AT, redis_url="none") as again, again.client() as client:
        assert again.inner.control.limits.get(AGENCY)[0].persons == 1
        assert ask(client, somebody(9)) == ["PASS"]


def test_reports_and_readings_are_no_way_around_the_limits(tmp_path: Path) -> None:
    """Art. 40, 63: a desk that reports, and a reader of listings, walk through persons as little as a counter does."""

    def told(gateway: RunningGateway, subject: str, *others: str, reads: bool = False) -> str:
        rights = gateway.inner.control.rights
        proof = Proof(method="id-document", proved_at=gateway.clock(), reference="D-1")
        asked = (
            rights.read(subject, "test", "1", AGENCY) if reads else rights.report(subject, others, proof, None, AGENCY)
        )
        try:
            gateway.run(asked)
        except GatewayError as error:
            return error.reason
        return "told"

    with running(tmp_path / "state", AT, persons_per_day=20, redis_url="none") as gateway:
        gateway.publish(DATA / "national.yaml")
        with gateway.client() as client:
            assert ask(client, *map(somebody, range(6))) == ["PASS"] * 6
        assert [told(gateway, somebody(number)) for number in range(12)] == ["told"] * 12
        assert [told(gateway, somebody(number), reads=True) for number in range(10, 15)] == ["told"] * 5
        assert told(gateway, somebody(15), *map(somebody, range(16, 20))) == "told"
        assert [told(gateway, somebody(20)), told(gateway, somebody(3), somebody(21))] == ["DAILY_CAP"] * 2
        assert told(gateway, somebody(20), reads=True) == "DAILY_CAP"
        assert [told(gateway, uscc(number)) for number in range(1, 30)] == ["told"] * 29
        assert told(gateway, somebody(3)) == "told"
        (trip,) = records(gateway, "trip")
        assert (trip["detector"], trip["person"]) == ("cap", "agency")
        assert not {"subject", "id_kind"}.intersection(trip)
    with running(tmp_path / "state", AT, persons_per_day=20, redis_url="none") as again:
        assert again.inner.control.limits.get(AGENCY)[0].persons == 20
        assert [told(again, somebody(number)) for number in (19, 20)] == ["told", "DAILY_CAP"]
        again.run(again.inner.control.limits.lift("local", "desk of the day", "doc 1", AGENCY))
        walk = [told(again, citizen(number, "19850612")) for number in range(1, 20)]
        assert walk == ["told"] * 19, "lifted for the day"
        assert "sequence" in {each["detector"] for each in records(again, "trip")}


def test_whoever_walks_down_the_list_is_stopped_by_what_he_finds(tmp_path: Path) -> None:
    with running(tmp_path / "state", AT, redis_url="none") as gateway:
        gateway.publish(DATA / "national.yaml")
        listed = map(somebody, range(40))
        gateway.import_rows(
            [
                {**wage_row("", number), "id_kind": "citizen", "id_number": each.partition(":")[2]}
                for number, each in enumerate(listed)
            ]
        )
        with gateway.client() as client:
            for number in range(40):
                # Slow enough for whoever is slowed down.
                gateway.clock.at += datetime.timedelta(seconds=15)
                if stopped(client, somebody(number)):
                    break
                assert ask(client, somebody(number)) == ["RESTRICT"]
        assert 10 <= number <= 20
        assert {each["detector"] for each in records(gateway, "trip")} >= {"hits"}


def test_nobody_is_answered_about_uncounted(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(_kind: str, *_: Any) -> Any:
        raise TimeoutError

    monkeypatch.setattr(gateway.inner.worker.feed, "_question", silent)
    with gateway.client() as client:
        assert ask(client, somebody(1), uscc(1)) == ["UNDETERMINED", "PASS"]


def test_trips_are_shown_to_the_agency_and_to_prometheus(tmp_path: Path) -> None:
    with running(tmp_path / "state", AT, redis_url="none", metrics="127.0.0.1:0") as gateway:
        gateway.publish(DATA / "national.yaml")
        with gateway.client() as client, pytest.raises(lanjie.PermissionDenied):
            client.check_many([citizen(number, "19850612") for number in range(1, 20)], officer="N1", **ASK)
        shown = run("limits", "show", "--json", gateway_file=gateway.file).json
        (limits,) = shown["departments"]
        assert (limits["department"], limits["level"], limits["persons_per_day"]) == ("local", "STOP", 2_000)
        assert {each["officer"] for each in limits["trips"]} == {"N1"}
        assert "local" in shown["troubles"][0]
        assert "sequence" in run("limits", "show", "local", gateway_file=gateway.file).out
        assert run("status", "--json", gateway_file=gateway.file).json["limits"]["troubles"] == shown["troubles"]
        lifted = run(
            *("limits", "lift", "local", "--reason", "exam", "--document", "doc 1", "--json"), gateway_file=gateway.file
        )
        assert lifted.json["limits"]["lifted_by"] == "local/agency"
        assert run("limits", "show", "nobody", gateway_file=gateway.file).code == 2
        address = json.loads(gateway.file.read_text())["metrics"]
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(f"http://{address}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        assert 'lanjie_limit_trips_total{department="local",detector="sequence"} 1.0' in text


async def test_gateways_on_one_redis_count_together_and_name_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    with valkey() as server:
        client = redis_client.connect(server.url, timeout=1.0)
        key = IndexKey(bytes(range(32)))
        one, other = PersonCounts(client, key), PersonCounts(client, key)
        tokens = [number.to_bytes(16, "big") for number in range(200)]
        assert await one.add("tax", AT.date(), tokens[:100]) in range(97, 104)
        assert await other.add("tax", AT.date(), tokens[50:]) in range(194, 207)
        assert await other.add("court", AT.date(), []) == 0
        await client.aclose()
    nowhere = redis_client.connect("unix:///nowhere/at/all", timeout=0.2)
    alone = PersonCounts(nowhere, key)
    logged: list[str] = []
    monkeypatch.setattr(person_counts._log, "warning", lambda event, **_: logged.append(event), raising=False)
    # It is tried four times a second for each department.
    assert [await alone.add("tax", AT.date(), tokens) for _ in range(3)] == [None] * 3
    assert logged == ["persons_counted_here"]


def test_what_redis_loses_is_counted_again(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"persons_per_day": 20}
    asker = Asker(department="local", person="inquirer")

    def asked(gateway: RunningGateway, *numbers: int) -> list[bool]:
        limits, key = gateway.inner.control.limits, IndexKey(bytes(32))
        seen = [gateway.run(limits.ask(asker, [traits(parse(somebody(each)), key)])) is None for each in numbers]
        gateway.run(limits.share())
        return seen

    with valkey() as server, running(tmp_path / "a", AT, redis_url=server.url, **settings) as one:
        joined(tmp_path / "a", tmp_path / "b")
        with running(tmp_path / "b", AT, redis_url=server.url, **settings) as other:
            assert asked(one, *range(9)) + asked(other, *range(9, 18)) == [True] * 18
            server.run("FLUSHALL")
            assert asked(one, 18) + asked(other, 19) == [True] * 2
            deadline = time.monotonic() + 20
            while any(each.inner.control.limits.get(AGENCY)[0].persons < 20 for each in (one, other)):
                assert time.monotonic() < deadline
                # A question about nobody new has the host hear how many there are.
                assert asked(one, 0) + asked(other, 9) == [True] * 2
            assert asked(one, 20) + asked(other, 21) == [False] * 2


def test_any_host_lifts_the_limits_of_a_department_that_asked_another(tmp_path: Path, shared_url: str) -> None:
    settings: dict[str, Any] = {"ledger_url": shared_url, "persons_per_day": 20, "redis_url": "none"}
    asker, key = Asker(department="local", person="inquirer"), IndexKey(bytes(32))
    with running(tmp_path / "a", AT, **settings) as one:
        joined(tmp_path / "a", tmp_path / "b")
        with running(tmp_path / "b", AT, **settings) as other:

            def asked(number: int) -> bool:
                limits = other.inner.control.limits
                return other.run(limits.ask(asker, [traits(parse(somebody(number)), key)])) is None

            assert [asked(number) for number in range(21)] == [True] * 20 + [False]
            other.run(other.inner.control.limits.keep())
            with pytest.raises(Refused, match="no such department"):
                one.run(one.inner.control.limits.lift("nobody", "exam", "doc 1", AGENCY))
            one.run(one.inner.control.limits.lift("local", "exam", "doc 1", AGENCY))
            other.clock.at += datetime.timedelta(seconds=10)
            assert asked(20)


@pytest.mark.long
def test_workers_count_together(tmp_path: Path) -> None:
    with serving(tmp_path / "state", "--allow-examples", workers="2", persons_per_day="20") as file:
        assert run("catalogue", "publish", str(DATA / "national.yaml"), gateway_file=file).code == 0
        answered = 0
        for number in range(6):
            # Each has a connection of its own: the kernel deals them out to the workers.
            with lanjie.Client.from_file(file, state_dir=tmp_path / f"sdk-{number}") as client:
                answered += sum(not stopped(client, somebody(number * 5 + each)) for each in range(5))
        assert answered == 20
