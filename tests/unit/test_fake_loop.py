"""The double keeps watches, tells alerts and issues receipts as a gateway does, as far as a department's tests ask."""

import contextlib
import datetime
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import lanjie
from lanjie.testing import FakeGateway
from lanjie_gateway.cli.slip import page
from lanjie_matcher.civil_time import day_of
from lanjie_matcher.receipts import items_of, opened
from tests.support.subjects import citizen, uscc

MATTER = "procurement.supplier"
ASK: dict[str, Any] = {"matter": MATTER, "purpose": "bid review"}
TERM: dict[str, Any] = {"matter": MATTER, "purpose": "contract", "until": day_of(datetime.datetime.now(datetime.UTC))}
LISTED, FREE, OTHER = uscc(1), uscc(2), uscc(3)


@pytest.fixture
def gateway() -> FakeGateway:
    made = FakeGateway(matters=[MATTER, "other"])
    made.list_subject(LISTED)
    return made


@pytest.fixture
def client(gateway: FakeGateway) -> Iterator[lanjie.Client]:
    with gateway.client() as client:
        client.wait_ready()
        yield client


def test_a_watch_tells_until_it_ends(gateway: FakeGateway, client: lanjie.Client) -> None:
    watch = client.watch(FREE, **TERM, case_no="1")
    assert client.watch(FREE, **TERM, case_no="1").repeated
    client.watch(FREE, **{**TERM, "matter": "other"})
    assert [each.watch_id for each in client.watches()] == ["w2", "w1"]
    assert client.watch(LISTED, **TERM).watch_id == "w3"
    gateway.list_subject(FREE, matter=MATTER, outcome=lanjie.Outcome.RESTRICT)
    gateway.remove_subject(FREE)
    told = list(client.alerts(acknowledge=False))
    assert [(each.number, each.kind.name, each.outcome, each.watch_id) for each in told] == [
        (1, "STANDING", "INTERCEPT", "w3"),
        (2, "LISTED", "RESTRICT", "w1"),
        (3, "REMOVED", "PASS", "w1"),
    ]
    assert (client.acknowledge([2]), [each.number for each in client.alerts()]) == (1, [1, 3])
    assert client.end_watch(watch.watch_id).ended_at is not None
    gateway.list_subject(FREE)
    assert [each.watch_id for each in client.alerts()] == ["w2"]
    assert FREE.partition(":")[2] not in repr(told)


def test_what_is_no_watch_is_refused(client: lanjie.Client) -> None:
    with pytest.raises(lanjie.PermissionDenied, match="40"):
        client.watch(citizen(1), **TERM)
    with pytest.raises(lanjie.UnknownMatter):
        client.watch(FREE, **{**TERM, "matter": "unknown"})
    with pytest.raises(lanjie.InvalidArgument):
        client.watch(FREE, **{**TERM, "until": TERM["until"] - datetime.timedelta(days=1)})
    with pytest.raises(lanjie.NotFound):
        client.end_watch("w9")


def test_a_pass_that_no_longer_holds_is_told_once(gateway: FakeGateway, client: lanjie.Client) -> None:
    local = client.check(FREE, **ASK, case_no="1")
    closed = client.check(FREE, **ASK, case_no="2")
    assert {local.source, closed.source} == {lanjie.Source.LOCAL}
    assert (client.close_case("2", matter=MATTER), client.close_case("2", matter=MATTER)) == (False, True)
    with gateway.client(local=False) as asking:
        asked = asking.check(OTHER, **ASK)
    client.receipt([(local, FREE)])
    for subject in (FREE, OTHER, FREE):
        gateway.list_subject(subject)
    told = [(each.kind.name, each.decision_id) for each in client.alerts()]
    assert told == [("PASS_OVERTAKEN", local.decision_id), ("PASS_OVERTAKEN", asked.decision_id)]


def test_a_receipt_is_proved_by_the_key_that_is_trusted(gateway: FakeGateway, client: lanjie.Client) -> None:
    answers = [(client.check(each, **ASK), each) for each in (LISTED, FREE)]
    file = client.receipt(answers)
    content = opened(file, gateway.trust)
    assert [(each["outcome"], each["source"]) for each in content["items"]] == [
        ("INTERCEPT", "gateway"),
        ("PASS", "local"),
    ]
    assert all(len(items_of(content, each)) == 1 for each in (LISTED, FREE))
    assert opened(client.receipt(answers), gateway.trust)["id"] == content["id"]
    assert "信用核查凭证" in page(content)
    assert LISTED.partition(":")[2].encode() not in file
    with pytest.raises(lanjie.NotFound):
        client.receipt([(answers[0][0], FREE)])
    with pytest.raises(lanjie.InvalidArgument, match="several"):
        client.receipt(answers * 2_501)
    with pytest.raises(lanjie.InvalidArgument, match="differ"):
        client.receipt([answers[0], (client.check(LISTED, **{**ASK, "matter": "other"}), LISTED)])


def test_who_follows_hears_at_once_and_goes_with_the_client(gateway: FakeGateway) -> None:
    heard = list[str]()
    with gateway.client(local=False) as client:
        client.watch(FREE, **TERM)

        def follow() -> None:
            with contextlib.suppress(lanjie.ClientClosed):
                for alert in client.alerts(follow=True):
                    heard.append(alert.kind.name)
                heard.append("ended")

        following = threading.Thread(target=follow)
        following.start()
        gateway.list_subject(FREE)
        while not gateway.alerts[0].HasField("acknowledged_time"):
            time.sleep(0.001)
    following.join(10)
    assert (heard, following.is_alive()) == (["LISTED"], False)
