"""A tender's file of checks is proved offline; a receipt says what the records say, to who asked (Art. 39, 40)."""

import dataclasses
import datetime
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lanjie
from lanjie.v1 import audit_pb2 as pb
from lanjie_gateway.adapters.ledger import Ledger
from lanjie_gateway.api.sync import _pass
from lanjie_gateway.cli.slip import page
from lanjie_gateway.domain.access import Role
from lanjie_gateway.domain.errors import Refused
from lanjie_gateway.domain.events import EventKind
from lanjie_matcher.fingerprints import ViewKey
from lanjie_matcher.identifiers import parse
from lanjie_matcher.receipts import items_of, opened
from tests.integration.test_answers import DATA, NOW, PURPOSE, row
from tests.support.answers import act
from tests.support.gateway import RunningGateway, person, running
from tests.support.serve import run
from tests.support.subjects import citizen, uscc

LISTED, PERSON, FREE = uscc(1), citizen(1), uscc(3)
CLERK = person("inquirer", Role.INQUIRER)
SUPPLIER: dict[str, Any] = {"matter": "procurement.supplier", "purpose": PURPOSE}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with running(tmp_path_factory.mktemp("receipts"), NOW) as made:
        made.publish(DATA / "national.yaml")
        made.import_rows([row(LISTED, "COURT"), row(PERSON, "COURT")])
        yield made


@pytest.fixture(scope="module")
def client(gateway: RunningGateway) -> Iterator[lanjie.Client]:
    with gateway.client() as client:
        client.wait_ready(10)
        yield client


def trusted(gateway: RunningGateway) -> dict[str, bytes]:
    keys = json.loads(gateway.file.read_text())["trusted_keys"]
    return {name: bytes.fromhex(value) for name, value in keys.items()}


def test_a_receipt_says_what_was_answered(gateway: RunningGateway, client: lanjie.Client) -> None:
    asked = [LISTED, FREE, PERSON]
    answers = [(client.check(each, **SUPPLIER), each) for each in asked]
    assert [decision.source.name for decision, _ in answers] == ["GATEWAY", "LOCAL", "GATEWAY"]
    file = client.receipt(answers)
    content = opened(file, trusted(gateway))
    assert [(each["outcome"], each["decision"], each["source"]) for each in content["items"]] == [
        ("INTERCEPT", answers[0][0].decision_id, "gateway"),
        ("PASS", answers[1][0].decision_id, "local"),
        ("INTERCEPT", answers[2][0].decision_id, "gateway"),
    ]
    assert content["items"][0]["record"] == answers[0][0].record_digest.hex()
    assert content["items"][0]["subject"] == answers[0][0].masked_identifier
    assert content["measures"]["N-1"]["basis"] == answers[0][0].measures[0].basis
    assert set(content["listings"]) == {each.listing_id for each in (*answers[0][0].listings, *answers[2][0].listings)}
    assert [len(items_of(content, each)) for each in asked] == [1, 1, 0], "a person's number is proved by nobody"
    for number in (LISTED, FREE, PERSON):
        assert number.partition(":")[2].encode() not in file
    again = opened(client.receipt(answers), trusted(gateway))
    assert (again["id"], again["salt"] == content["salt"]) == (content["id"], False)


def test_a_receipt_is_of_the_answer_and_not_of_today(gateway: RunningGateway, tmp_path: Path) -> None:
    with running(tmp_path, NOW) as own, own.client(local=False) as client:
        own.publish(DATA / "national.yaml")
        own.import_rows([row(LISTED, "COURT", source_record_id="r1", remedies="")])
        decision = client.check(LISTED, **SUPPLIER)
        before = opened(client.receipt([(decision, LISTED)]), trusted(own))
        (told,) = before["listings"].values()
        assert told["remedies"] == decision.listings[0].remedies != "", "no document and no list type says any"
        reviewer = person("reviewer", Role.AUTHORITY)
        receipt = own.import_rows([row(LISTED, "COURT", source_record_id="r1", authority="另一测试机关")])
        if receipt.revision == 0:
            own.run(own.inner.control.imports.confirm(receipt.receipt_id, reviewer))
        own.clock.at += datetime.timedelta(minutes=1)
        act(own, decision.listings[0].listing_id, EventKind.REMOVED)
        assert client.check(LISTED, **SUPPLIER).outcome.name == "PASS"
        after = opened(client.receipt([(decision, LISTED)]), trusted(own))
        assert after["listings"] == before["listings"]
        assert after["id"] == before["id"]


def test_whoever_did_not_ask_or_states_another_subject_gets_none(
    gateway: RunningGateway, client: lanjie.Client
) -> None:
    one, other = client.check(LISTED, **SUPPLIER), client.check(PERSON, **SUPPLIER)
    service = gateway.inner.control.receipts
    stranger = dataclasses.replace(CLERK, department="elsewhere")
    for who, asked in (
        (stranger, [(one.decision_id, LISTED)]),
        (CLERK, [(one.decision_id, FREE)]),
        (CLERK, [(one.decision_id, "")]),
        (CLERK, [(one.decision_id, LISTED), (other.decision_id, LISTED)]),
        (CLERK, [("nothing-1", LISTED)]),
    ):
        with pytest.raises(Refused) as error:
            gateway.run(service.issue(who, asked))
        assert (error.value.reason, str(error.value)) == ("NOT_FOUND", "no such decision")
    elsewhere = client.check(LISTED, matter="tendering.bidder", purpose=PURPOSE)
    with pytest.raises(lanjie.InvalidArgument) as mixed:
        client.receipt([(one, LISTED), (elsewhere, LISTED)])
    assert mixed.value.metadata["rule"] == "mixed"
    with pytest.raises(Refused, match="1 to 5,000 answers: ask for several"):
        gateway.run(service.issue(CLERK, [(one.decision_id, LISTED)] * 5_001))
    with pytest.raises(Refused):
        gateway.run(service.issue(person("agency", Role.AGENCY), [(one.decision_id, LISTED)]))


def test_what_a_spool_or_a_caller_may_state_ends_in_a_receipt_or_a_refusal(tmp_path: Path, ledger_url: str) -> None:
    with running(tmp_path / "a", NOW, ledger_url=ledger_url) as gateway:
        control = gateway.inner.control
        key = ViewKey(control.ledger.keys.view, 24)
        one = pb.LocalPass(sequence=1, view_digest=key.digest64(parse(FREE).key), generation=1)
        gateway.run(control.inquiries.upload(CLERK, "ab" * 16, control.ledger.lineage, [_pass(one)]))
        with pytest.raises(Refused, match="no such decision"):
            gateway.run(control.receipts.issue(CLERK, [("a\0b", FREE)]))
        made = gateway.run(control.receipts.issue(CLERK, [("abababababab-1", FREE)]))
        content = opened(made, trusted(gateway))
        assert (content["matter"], content["items"][0]["outcome"]) == ("", "PASS")
        assert "abababababab-1" in page(content)


def test_a_receipt_leaves_a_record(gateway: RunningGateway, client: lanjie.Client) -> None:
    decision = client.check(LISTED, **SUPPLIER)
    content = opened(client.receipt([(decision, LISTED)]), trusted(gateway))
    kept = [json.loads(each.record) for each in gateway.run(gateway.inner.control.ledger.call(Ledger.inquiries))]
    assert [each["answers"] for each in kept if each.get("receipt") == content["id"]] == [1]


def test_the_bidders_of_a_tender_are_proved_offline(gateway: RunningGateway, tmp_path: Path) -> None:
    bidders, receipt, slip = tmp_path / "in.csv", tmp_path / "receipt.json", tmp_path / "slip.html"
    numbers = [uscc(number).partition(":")[2] for number in range(1, 40)]
    bidders.write_text("uscc\n" + "\n".join([*numbers, "not a code"]) + "\n")
    asked = ("--matter", "procurement.supplier", "--purpose", PURPOSE, "--as-of", NOW.isoformat())
    done = run(
        *("check-file", str(bidders), "-o", str(tmp_path / "out.csv"), *asked, "--receipt", str(receipt)),
        gateway_file=gateway.file,
    )
    assert done.code == 0, done.err
    (key,) = (f"{name}:{value.hex()}" for name, value in trusted(gateway).items())
    assert receipt.stat().st_mode & 0o077 == 0
    proved = run("receipt", "verify", str(receipt), "--key", key, "--identifier", LISTED, "--json")
    assert (proved.code, proved.json["proved"]) == (0, True), proved.err
    items = proved.json["receipt"]["items"]
    assert [each["outcome"] for each in items].count("INTERCEPT") == 1
    assert len(items) == len(numbers), "what is no identifier was asked of nobody"
    assert run("receipt", "verify", str(receipt), "--key", key, "--identifier", uscc(99)).code == 1
    assert run("receipt", "verify", str(receipt), "--key", key).code == 0
    assert run("receipt", "show", str(receipt), "--key", key, "-o", str(slip)).code == 0
    assert slip.stat().st_mode & 0o077 == 0
    text = slip.read_text()
    assert "信用核查凭证" in text
    assert not any(number in text for number in numbers)
    receipt.write_text(receipt.read_text().replace("INTERCEPT", "PASS"))
    spoiled = run("receipt", "verify", str(receipt), "--key", key)
    assert (spoiled.code, "signature" in spoiled.err or "(id)" in spoiled.err) == (1, True)
    assert run("receipt", "show", str(receipt), "--key", key, "-o", str(slip)).code == 1
