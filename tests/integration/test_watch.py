"""Watches tell a department of what bears on its matter, and of passes that no longer hold (Art. 40, 47, 48)."""

import dataclasses
import datetime
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

import lanjie
from lanjie._transport import translate
from lanjie.v1 import watch_pb2, watch_pb2_grpc
from lanjie_gateway.adapters.ledger import Ledger
from lanjie_gateway.domain.access import Role
from lanjie_gateway.domain.alerts import KeptAlert
from lanjie_gateway.domain.errors import Refused
from lanjie_gateway.domain.events import EventKind
from lanjie_gateway.services import watches
from lanjie_matcher.identifiers import parse
from tests.integration.test_answers import DATA, NOW, PURPOSE, TODAY, day, row
from tests.support.gateway import RunningGateway, person, running
from tests.support.grants import give, grant
from tests.support.serve import run
from tests.support.subjects import citizen, uscc

CLERK = person("inquirer", Role.INQUIRER)
AUTHORITY = person("authority", Role.AUTHORITY)
MATTER = "procurement.supplier"
UNTIL = TODAY + datetime.timedelta(days=365)


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.long)])
def database(request: pytest.FixtureRequest) -> dict[str, str]:
    return {"ledger_url": request.getfixturevalue("postgres").database()} if request.param == "postgresql" else {}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, database) -> Iterator[RunningGateway]:
    with running(tmp_path_factory.mktemp("watch"), NOW, **database) as made:
        made.publish(DATA / "national.yaml")
        yield made


@pytest.fixture
def gateway(shared: RunningGateway) -> RunningGateway:
    """A gateway without watches and unacknowledged alerts, whose clock has stood still."""
    service = shared.inner.control.watches
    for each in shared.run(service.watches(CLERK, limit=1_000)):
        shared.run(service.end(CLERK, f"w{each.number}"))
    settle(shared)
    shared.run(service.acknowledge(CLERK, 1 << 40, []))
    return shared


@pytest.fixture
def client(gateway: RunningGateway) -> Iterator[lanjie.Client]:
    with gateway.client(local=False) as client:
        yield client


def settle(gateway: RunningGateway) -> None:
    gateway.run(gateway.inner.control.inquiries.load())
    gateway.run(gateway.inner.control.alerts.catch_up())


def told(gateway: RunningGateway, after: int = 0, who=CLERK) -> list[KeptAlert]:
    settle(gateway)
    return gateway.run(gateway.inner.control.watches.pull(who, after, 1_000))


def kinds(gateway: RunningGateway, after: int = 0) -> list[str]:
    return [each.kind.value for each in told(gateway, after)]


def record(gateway: RunningGateway, listing_id: str, kind: EventKind, **order) -> None:
    listings = gateway.inner.control.listings
    gateway.run(
        listings.record_event(
            listing_id,
            kind,
            reason="测试",
            document="测试文号",
            effective_date="",
            principal=AUTHORITY,
            **order,
        )
    )


def listing_of(gateway: RunningGateway, subject: str) -> str:
    return gateway.run(gateway.inner.control.ledger.call(Ledger.find, parse(subject)))[0].id


def test_a_watch_tells_of_the_whole_life_of_a_listing_that_bears(
    gateway: RunningGateway, client: lanjie.Client
) -> None:
    subject = uscc(1)
    watch = client.watch(subject, matter=MATTER, purpose="履约期间", case_no="合同1", until=UNTIL)
    assert (watch.case_no, watch.until, watch.repeated) == ("合同1", UNTIL, False)
    assert subject.partition(":")[2] not in repr(watch)
    assert client.watch(subject, matter=MATTER, purpose="履约期间", case_no="合同1", until=UNTIL).repeated
    assert told(gateway) == []
    gateway.import_rows([row(subject, "COURT"), row(uscc(9), "COURT"), row(subject, "WAGE", decision_no="W")])
    listing = next(
        each.id
        for each in gateway.run(gateway.inner.control.ledger.call(Ledger.find, parse(subject)))
        if each.packed.listing.list_type == "COURT"
    )
    (alert,) = told(gateway)
    assert (alert.kind.value, alert.listing_id, alert.outcome_before, alert.outcome) == (
        "listed",
        listing,
        "PASS",
        "INTERCEPT",
    )
    assert (alert.case_no, alert.list_type, alert.authority) == ("合同1", "COURT", "测试机关")
    assert alert.masked == parse(subject).masked
    for kind in (EventKind.OBJECTION_OPENED, EventKind.STAYED, EventKind.REPAIRED):
        record(gateway, listing, kind)
    assert kinds(gateway, alert.number) == ["objection_opened", "stayed", "repaired"]
    record(gateway, listing, EventKind.REVOKED)
    assert len(told(gateway)) == 4  # it bore no more: nothing is told
    records = gateway.run(gateway.inner.control.ledger.call(Ledger.inquiries))
    leaves = [json.loads(each.record) for each in records]
    assert [each["kind"] for each in leaves[-5:]] == ["watch", "alert", "alert", "alert", "alert"]


@pytest.mark.parametrize(
    ("asked", "rule"),
    [
        ({"subject": citizen(1)}, ""),
        ({"until": TODAY + datetime.timedelta(days=1_200)}, "range"),
        ({"until": TODAY - datetime.timedelta(days=1)}, "order"),
        ({"since": datetime.date(9998, 1, 1), "until": datetime.date(9999, 12, 31)}, "range"),
        ({"purpose": " "}, "length"),
        ({"case_no": "x" * 65}, "length"),
    ],
)
def test_what_is_no_watch_is_refused(gateway: RunningGateway, client: lanjie.Client, asked, rule) -> None:
    values: dict[str, Any] = {"subject": uscc(1), "matter": MATTER, "purpose": "履约期间", "until": UNTIL, **asked}
    subject = values.pop("subject")
    with pytest.raises(lanjie.LanjieError) as error:
        client.watch(subject, **values)
    assert error.value.metadata.get("rule", "") == rule
    assert subject.partition(":")[2] not in str(error.value)
    assert (rule == "") == isinstance(error.value, lanjie.PermissionDenied)


def test_a_department_sees_its_own_and_what_its_grant_covers(gateway: RunningGateway, client: lanjie.Client) -> None:
    watch = client.watch(uscc(10), matter=MATTER, purpose="履约期间", until=UNTIL)
    gateway.import_rows([row(uscc(10), "COURT")])
    service = gateway.inner.control.watches
    elsewhere = dataclasses.replace(CLERK, department="elsewhere")
    narrowed = CLERK.granted(dataclasses.replace(grant("housing", matters=["school.enrol"]), department="local"))
    assert told(gateway, who=elsewhere) == []
    (left,) = told(gateway, who=narrowed)
    assert (left.kind.value, left.listing_id, left.masked, left.matter) == ("withheld", "", "", MATTER)
    with pytest.raises(Refused) as refused:
        gateway.run(service.register(narrowed, uscc(10), matter=MATTER, until_on=UNTIL, purpose="x"))
    assert refused.value.reason == "NOT_PERMITTED"
    with pytest.raises(Refused) as refused:
        gateway.run(service.end(elsewhere, watch.watch_id))
    assert refused.value.reason == "NOT_FOUND"
    with pytest.raises(Refused):
        gateway.run(service.pull(person("agency", Role.AGENCY), 0, 10))


def test_a_stream_tells_nothing_that_its_grant_left_meanwhile(gateway: RunningGateway, client: lanjie.Client) -> None:
    give(gateway, "housing", regions=["320000"], matters=[MATTER], valid_until=UNTIL.isoformat())
    service, resolve = gateway.inner.control.watches, gateway.inner.control.grants.book.resolve
    clerk = resolve(dataclasses.replace(CLERK, department="housing", grant=None))
    gateway.run(service.register(clerk, uscc(15), matter=MATTER, until_on=UNTIL, purpose="履约期间"))

    async def first() -> list[KeptAlert]:
        return await anext(service.stream(clerk, 0))

    gateway.import_rows([row(uscc(15), "COURT")])
    settle(gateway)
    assert [each.matter for each in gateway.run(first()) if each.listing_id] == [MATTER]
    gateway.run(gateway.inner.control.grants.end("housing", "x", "x", person("agency", Role.AGENCY)))
    assert {each.kind.value for each in gateway.run(first())} == {"withheld"}


def test_a_department_has_so_many_streams_of_alerts_and_no_more(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watches, "MOST_STREAMS", 2)
    monkeypatch.setattr(watches, "HEARTBEAT_SECONDS", 0.5)
    token = (gateway.state / "tokens" / "inquirer.token").read_text().strip()

    async def opened(count: int) -> list[str]:
        said: list[str] = []
        async with grpc.aio.insecure_channel(json.loads(gateway.file.read_text())["feed"]) as channel:
            stub: Any = watch_pb2_grpc.WatchServiceStub(channel)
            kept = []
            for _ in range(count):
                call = stub.StreamAlerts(
                    watch_pb2.StreamAlertsRequest(), metadata=(("authorization", f"Bearer {token}"),)
                )
                try:
                    await call.read()
                    said.append("OK")
                except grpc.aio.AioRpcError as error:
                    said.append(translate(error).reason)
                kept.append(call)
        return said

    for _ in range(2):
        # Whoever goes makes room.
        assert gateway.run(opened(3)) == ["OK", "OK", "OVERLOADED"]
        deadline = time.monotonic() + 20
        while any(gateway.inner.control.watches._streams.values()):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_acknowledged_alerts_come_no_more_and_others_again(gateway: RunningGateway, client: lanjie.Client) -> None:
    for number in range(11, 15):
        client.watch(uscc(number), matter=MATTER, purpose="履约期间", until=UNTIL)
    gateway.import_rows([row(uscc(number), "COURT") for number in range(11, 15)])
    first = told(gateway)[0].number
    assert [each.number - first for each in told(gateway)] == [0, 1, 2, 3]
    seen = []
    for alert in client.alerts():
        seen.append(alert.number - first)
        if len(seen) == 2:
            break
    # The one in hand was not done with.
    assert (seen, [each.number - first for each in told(gateway)]) == ([0, 1], [1, 2, 3])
    assert client.acknowledge(numbers=[first + 2]) == 1
    assert [each.number - first for each in client.alerts()] == [1, 3]
    assert (told(gateway), client.acknowledge(up_to=first + 9)) == ([], 0)


def test_a_new_listing_finds_who_was_told_pass(gateway: RunningGateway, client: lanjie.Client) -> None:
    company, owner, other = uscc(21), citizen(21), uscc(22)
    asked: dict[str, Any] = {"purpose": PURPOSE}
    hit = client.check(company, matter=MATTER, case_no="案1", **asked)
    client.check(company, matter="school.enrol", case_no="案1", **asked)
    client.check(company, matter=MATTER, case_no="案2", **asked)
    client.check(other, matter=MATTER, **asked)
    by_person = client.check(owner, matter=MATTER, case_no="案3", **asked)
    assert (client.close_case("案2", matter=MATTER), client.close_case("案2", matter=MATTER)) == (False, True)
    settle(gateway)
    gateway.import_rows([row(company, "COURT"), row(owner, "COURT", name="张示例")])
    found = told(gateway)
    assert {(each.decision_id, each.kind.value) for each in found} == {
        (hit.decision_id, "pass_overtaken"),
        (by_person.decision_id, "pass_overtaken"),
    }
    assert {each.masked for each in found} == {parse(company).masked, ""}
    record(gateway, listing_of(gateway, company), EventKind.REPAIRED)
    assert len(told(gateway)) == 2


def test_a_local_pass_is_found_when_it_arrives_before_or_after_the_listing(gateway: RunningGateway) -> None:
    early, late = uscc(31), uscc(32)
    options: dict[str, Any] = {"state_dir": gateway.state / "local", "upload_interval": 3_600}
    with lanjie.Client.from_file(gateway.file, **options) as client:
        client.wait_ready()
        passed = [client.check(each, matter=MATTER, purpose=PURPOSE, case_no="案") for each in (early, late)]
        assert {each.source for each in passed} == {lanjie.Source.LOCAL}
        gateway.import_rows([row(late, "COURT")])
        assert told(gateway) == []
    settle(gateway)
    gateway.import_rows([row(early, "COURT", decision_no="2")])
    found = told(gateway)
    assert [each.kind.value for each in found] == ["pass_overtaken", "pass_overtaken"]
    assert {each.masked for each in found} == {parse(early).masked, parse(late).masked}


def test_the_commands_watch_and_follow(gateway: RunningGateway) -> None:
    added = run(
        *("watch", "add", uscc(41), "--matter", MATTER, "--purpose", "履约期间", "--until", UNTIL.isoformat()),
        *("--case-no", "合同1", "--json"),
        gateway_file=gateway.file,
    )
    assert added.code == 0, added.err
    watch_id = added.json["watch"]["watch_id"]
    gateway.import_rows([row(uscc(41), "COURT")])
    settle(gateway)
    assert "合同1" in run("watch", "list", gateway_file=gateway.file).out
    shown = run("alerts", "--ack", gateway_file=gateway.file)
    assert (shown.code, "listed" in shown.out, uscc(41).partition(":")[2] in shown.out) == (0, True, False)
    assert run("alerts", "--json", gateway_file=gateway.file).json == []
    assert run("watch", "end", watch_id, gateway_file=gateway.file).code == 0
    closed = run("case", "close", "合同1", "--matter", MATTER, gateway_file=gateway.file)
    assert closed.code == 0, closed.err
    refused = run(
        *("watch", "add", citizen(1), "--matter", MATTER, "--purpose", "x", "--until", UNTIL.isoformat()),
        gateway_file=gateway.file,
    )
    assert (refused.code, "Art. 40" in refused.err) == (2, True)


async def test_the_asynchronous_client_follows(gateway: RunningGateway) -> None:
    async with lanjie.AsyncClient.from_file(gateway.file, state_dir=gateway.state / "aio", local=False) as aio:
        await aio.watch(uscc(42), matter=MATTER, purpose="履约期间", until=UNTIL)
        gateway.import_rows([row(uscc(42), "COURT")])
        gateway.run(gateway.inner.control.alerts.catch_up())
        async for alert in aio.alerts(follow=True):
            assert alert.kind is lanjie.AlertKind.LISTED
            await aio.acknowledge([alert.number])
            break
    assert told(gateway) == []


def test_who_follows_waits_where_there_are_too_many_streams(
    gateway: RunningGateway, client: lanjie.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watches, "MOST_STREAMS", 0)
    client.watch(uscc(43), matter=MATTER, purpose="履约期间", until=UNTIL)
    with ThreadPoolExecutor(1) as hands:
        first = hands.submit(lambda: next(client.alerts(follow=True)))
        with pytest.raises(TimeoutError):
            first.result(0.5)
        monkeypatch.setattr(watches, "MOST_STREAMS", 1)
        gateway.import_rows([row(uscc(43), "COURT")])
        gateway.run(gateway.inner.control.alerts.catch_up())
        assert first.result(20).kind is lanjie.AlertKind.LISTED
    told(gateway)


def test_days_go_by(tmp_path) -> None:
    """A bidder listed after the opening shows by watch and not as of it; dates tell on their day; watches end."""
    bidder, dated, short, later, left, old, forgotten, passed = map(uscc, range(1, 9))
    opening: dict[str, Any] = {
        "matter": MATTER,
        "purpose": PURPOSE,
        "case_no": "标1",
        "as_of": NOW - datetime.timedelta(hours=2),
    }
    term: dict[str, Any] = {"matter": MATTER, "purpose": "履约期间", "until": UNTIL}
    with running(tmp_path, NOW) as gateway, gateway.client(local=False) as client:
        gateway.publish(DATA / "national.yaml")
        before = client.check(bidder, **opening)
        client.watch(bidder, **term, case_no="标1")
        client.watch(dated, **{**term, "matter": "tendering.bidder"})
        client.watch(short, **{**term, "until": TODAY})
        client.watch(later, **term, since=TODAY + datetime.timedelta(days=3))
        ended = client.watch(left, **term)
        for subject in (old, forgotten):
            client.check(subject, matter=MATTER, purpose=PURPOSE)
        client.check(passed, matter="tendering.bidder", purpose=PURPOSE, case_no="标2")
        assert client.end_watch(ended.watch_id).ended_at is not None
        facts = {"served_date": day(0), "listed_on": day(2), "expires_on": day(5)}
        gateway.import_rows([row(each, "WAGE", **facts) for each in (dated, passed)])
        assert told(gateway) == []
        told_on: dict[int, tuple[int, str, str, str]] = {}
        eve = before
        for offset in range(1, 8):
            gateway.clock.at += datetime.timedelta(days=1)
            if offset == 1:
                # It is known to be listed, and passes: it begins tomorrow.
                eve = client.check(passed, matter="tendering.bidder", purpose=PURPOSE)
                new = [row(bidder, "COURT", served_date=day(1), listed_on=day(1))]
                gateway.import_rows([*new, *(row(each, "COURT") for each in (short, later, left))])
                assert [len(client.watches()), len(client.watches(ended=True))] == [3, 5]
            for each in told(gateway):
                found = (offset, each.kind.value, each.masked, each.case_no or each.decision_id)
                told_on.setdefault(each.number, found)
        assert {before.outcome, client.check(bidder, **opening).outcome} == {lanjie.Outcome.PASS}
        assert list(told_on.values()) == [
            (1, "listed", parse(bidder).masked, "标1"),
            (2, "pass_overtaken", parse(passed).masked, "标2"),
            (2, "pass_overtaken", parse(passed).masked, eve.decision_id),
            (2, "began", parse(dated).masked, ""),
            (3, "standing", parse(later).masked, ""),
            (6, "ended_by_date", parse(dated).masked, ""),
        ]
        # A case without a number is open for thirty days.
        gateway.clock.at += datetime.timedelta(days=22)
        gateway.import_rows([row(old, "COURT", decision_no="O")])
        assert kinds(gateway, 6) == ["pass_overtaken"]
        gateway.clock.at += datetime.timedelta(days=2)
        gateway.import_rows([row(forgotten, "COURT", decision_no="F")])
        assert kinds(gateway, 7) == []


def test_a_clock_that_was_ahead_and_was_set_right_does_not_end_the_alerts(tmp_path) -> None:
    early, late, dated = map(uscc, range(1, 4))
    term: dict[str, Any] = {"matter": MATTER, "purpose": "履约期间", "until": UNTIL}
    with running(tmp_path, NOW) as gateway, gateway.client(local=False) as client:
        gateway.publish(DATA / "national.yaml")
        client.watch(early, **term)
        assert told(gateway) == []
        gateway.clock.at += datetime.timedelta(days=3_650)
        settle(gateway)
        gateway.clock.at = NOW
        settle(gateway)
        client.watch(late, **term)
        client.watch(dated, **{**term, "matter": "tendering.bidder"})
        gateway.import_rows([row(early, "COURT"), row(late, "COURT")])
        gateway.import_rows([row(dated, "WAGE", served_date=day(0), listed_on=day(2), expires_on=day(5))])
        assert kinds(gateway) == ["listed", "listed"]
        for _ in range(7):
            gateway.clock.at += datetime.timedelta(days=1)
            settle(gateway)
        assert kinds(gateway, 2) == ["began", "ended_by_date"]
        # A host whose clock is a little behind does not bring yesterday back.
        gateway.clock.at -= datetime.timedelta(days=1)
        assert kinds(gateway, 4) == []
