"""The answers of the main job as one table, through the SDK against a running gateway."""

import contextlib
import datetime
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import lanjie
from lanjie_gateway.adapters.ledger import Ledger
from lanjie_gateway.adapters.redis_index import RedisIndex
from lanjie_gateway.domain.access import Role
from lanjie_gateway.domain.view import View
from lanjie_matcher.civil_time import SHANGHAI
from lanjie_matcher.identifiers import parse
from tests.support.gateway import RunningGateway, person, running
from tests.support.shared import reaches
from tests.support.subjects import citizen, org_code, uscc
from tests.support.valkey import valkey

DATA = Path(__file__).parents[1] / "data"
NOW = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
TODAY = NOW.astimezone(SHANGHAI).date()
PURPOSE = "test of the answers"
PERSON_FILES = ("procurement.supplier", "tendering.bidder")


def day(offset: int) -> str:
    """Return the day so many days from today."""
    return (TODAY + datetime.timedelta(days=offset)).isoformat()


def row(identifier: str, list_type: str, **facts: str) -> dict[str, str]:
    """Return a row with the facts a decision document holds."""
    kind, _, number = identifier.partition(":")
    return {
        "id_kind": kind,
        "id_number": number,
        "list_type": list_type,
        "decision_no": f"测试〔2026〕{number[-6:]}号",
        "authority": "测试机关",
        "reason": "测试事由",
        "basis": "测试依据",
        "decision_date": day(-40),
        "served_date": day(-35),
        "listed_on": day(-30),
        "removal_conditions": "履行义务后申请移出",
        "remedies": "六十日内申请行政复议，六个月内提起行政诉讼",
        "source": "test",
        **facts,
    }


@dataclass(frozen=True)
class Case:
    """One line of the table."""

    name: str
    subject: str
    matter: str
    outcome: str
    rows: list[dict[str, str]] = field(default_factory=list)
    ask: dict[str, Any] = field(default_factory=dict)
    measures: tuple[str, ...] = ()
    reason: str = ""
    warning: str = ""


LAW_FIRM = uscc(11, "31320000")
BRANCH, HEAD_OFFICE = uscc(12), uscc(13)
OPERATOR = citizen(2)

CASES = [
    Case(
        "listed and measured",
        uscc(1),
        "procurement.supplier",
        "INTERCEPT",
        [row(uscc(1), "COURT")],
        measures=("N-1",),
    ),
    Case(
        "a part of blanks is the applicant",
        uscc(1),
        "procurement.supplier",
        "INTERCEPT",
        ask={"role": " "},
        measures=("N-1",),
    ),
    Case("listed without a measure for this matter", uscc(2), "school.enrol", "PASS", [row(uscc(2), "COURT")]),
    Case("not listed", uscc(3), "procurement.supplier", "PASS"),
    Case(
        "wage list, bidding in another city",
        uscc(4),
        "tendering.bidder",
        "RESTRICT",
        [row(uscc(4), "WAGE", region="320100", expires_on=day(700))],
        {"handling_region": "320500"},
        ("N-2",),
    ),
    Case(
        "person on the wage list in his own right",
        citizen(1),
        "tendering.bidder",
        "RESTRICT",
        [row(citizen(1), "WAGE")],
        measures=("N-2",),
    ),
    Case(
        "person only marked beside a company",
        OPERATOR,
        "tendering.bidder",
        "PASS",
        [row(uscc(5), "WAGE", related_persons=f"法定代表人:{OPERATOR}")],
    ),
    Case(
        "defaulter as applicant",
        citizen(3),
        "registry.legal_rep",
        "INTERCEPT",
        [row(citizen(3), "COURT")],
        measures=("N-7",),
    ),
    Case("defaulter as parent", citizen(3), "registry.legal_rep", "PASS", ask={"role": "parent"}),
    Case(
        "a parent's default never refuses a child's school", citizen(3), "school.enrol", "PASS", ask={"role": "parent"}
    ),
    Case(
        "two listings, one ended",
        uscc(6),
        "procurement.supplier",
        "INTERCEPT",
        [
            row(uscc(6), "COURT", decision_no="测试〔2026〕甲号"),
            row(uscc(6), "TAX", decision_no="测试〔2023〕乙号", publicity_until=day(-1)),
        ],
        measures=("N-1",),
    ),
    Case(
        "municipal measure in its city",
        uscc(7),
        "preference.commitment",
        "RESTRICT",
        [row(uscc(7), "WAGE")],
        {"handling_region": "320102"},
        ("M-1",),
    ),
    Case(
        "municipal measure from another city",
        uscc(7),
        "preference.commitment",
        "PASS",
        ask={"handling_region": "320500"},
    ),
    Case(
        "national and different provincial; the provincial repeat gives way to the national",
        uscc(8),
        "funds.fiscal",
        "INTERCEPT",
        [row(uscc(8), "WAGE")],
        measures=("P-1", "N-5"),
    ),
    Case(
        "provincial entry that repeats, alone",
        citizen(4),
        "funds.fiscal",
        "RESTRICT",
        [row(citizen(4), "WAGE")],
        measures=("N-5",),
    ),
    Case(
        "sanction running",
        uscc(20),
        "procurement.supplier",
        "INTERCEPT",
        [row(uscc(20), "PROC", sanction_kind="procurement_ban", sanction_from=day(-10), sanction_to=day(0))],
        measures=("N-3",),
    ),
    Case(
        "sanction ended",
        uscc(21),
        "procurement.supplier",
        "PASS",
        [row(uscc(21), "PROC", sanction_kind="procurement_ban", sanction_from=day(-10), sanction_to=day(-1))],
    ),
    Case(
        "sanction not begun",
        uscc(22),
        "procurement.supplier",
        "PASS",
        [row(uscc(22), "PROC", sanction_kind="procurement_ban", sanction_from=day(1), sanction_to=day(9))],
    ),
    Case(
        "sanction of unknown term",
        uscc(23),
        "procurement.supplier",
        "UNDETERMINED",
        [row(uscc(23), "PROC", sanction_kind="procurement_ban")],
        reason="FACTS_MISSING",
    ),
    Case(
        "sanction of unknown kind",
        uscc(24),
        "procurement.supplier",
        "UNDETERMINED",
        [row(uscc(24), "PROC", sanction_from=day(-10), sanction_to=day(9))],
        reason="FACTS_MISSING",
    ),
    Case(
        "sanction of another kind",
        uscc(25),
        "procurement.supplier",
        "PASS",
        [row(uscc(25), "PROC", sanction_kind="food_licence_revocation", sanction_from=day(-9), sanction_to=day(9))],
    ),
    Case(
        "publicity ended, list type ends with publicity",
        uscc(26),
        "procurement.supplier",
        "PASS",
        [row(uscc(26), "TAX", publicity_until=day(-1), expires_on=day(99))],
    ),
    Case(
        "publicity ended, list type ends with removal",
        uscc(27),
        "procurement.supplier",
        "INTERCEPT",
        [row(uscc(27), "COURT", publicity_until=day(-1), expires_on=day(-1))],
        measures=("N-1",),
    ),
    Case(
        "publicity ended, list type ends with its term",
        uscc(28),
        "tendering.bidder",
        "RESTRICT",
        [row(uscc(28), "WAGE", publicity_until=day(-1), expires_on=day(0))],
        measures=("N-2",),
    ),
    Case(
        "term ended, list type ends with its term",
        uscc(29),
        "tendering.bidder",
        "PASS",
        [row(uscc(29), "WAGE", expires_on=day(-1))],
    ),
    Case(
        "law firm known only as an organisation: the code tells",
        LAW_FIRM,
        "license.food",
        "PASS",
        [row(org_code(LAW_FIRM), "WAGE", subject_kind="organisation")],
    ),
    Case(
        "law firm known only as an organisation: nothing tells",
        org_code(LAW_FIRM),
        "license.food",
        "UNDETERMINED",
        reason="FACTS_MISSING",
    ),
    Case(
        "measure of a broader matter",
        uscc(30),
        "license.food",
        "HEIGHTEN",
        [row(uscc(30), "WAGE")],
        measures=("N-6",),
    ),
    Case(
        "passport with its country",
        "passport:USA:X1234567",
        "tendering.bidder",
        "RESTRICT",
        [row("passport:USA:X1234567", "WAGE", subject_kind="natural_person")],
        measures=("N-2",),
    ),
    Case("the same passport number of another country", "passport:GBR:X1234567", "tendering.bidder", "PASS"),
    Case(
        "branch with its own code",
        BRANCH,
        "tendering.bidder",
        "RESTRICT",
        [row(BRANCH, "WAGE")],
        measures=("N-2",),
    ),
    Case("its head office is another subject", HEAD_OFFICE, "tendering.bidder", "PASS"),
    Case(
        "served, objection period running",
        uscc(31),
        "tendering.bidder",
        "RESTRICT",
        [row(uscc(31), "WAGE", served_date=day(0), listed_on=day(0))],
        measures=("N-2",),
    ),
    Case(
        "not yet served",
        uscc(32),
        "tendering.bidder",
        "PASS",
        [row(uscc(32), "WAGE", served_date=day(1))],
    ),
    Case(
        "another code with the organisation code of one that is listed under both",
        uscc(36, "92320199"),
        "tendering.bidder",
        "PASS",
        [row(uscc(36), "WAGE", other_ids=org_code(uscc(36)))],
    ),
    Case(
        "the organisation code of the one listed under both",
        org_code(uscc(36)),
        "tendering.bidder",
        "RESTRICT",
        measures=("N-2",),
    ),
    Case("no catalogue in force", uscc(1), "exit.control", "UNDETERMINED", reason="CATALOGUE_MISSING"),
    Case(
        "another name for a person",
        citizen(5),
        "tendering.bidder",
        "UNDETERMINED",
        [row(citizen(5), "WAGE", name="张示例")],
        {"name": "李示例"},
        reason="NAME_MISMATCH",
    ),
    Case(
        "the person's own name, written wide",
        citizen(5),
        "tendering.bidder",
        "RESTRICT",
        ask={"name": "张 示例"},
        measures=("N-2",),
    ),
    Case(
        "another name for an organisation",
        uscc(33),
        "tendering.bidder",
        "RESTRICT",
        [row(uscc(33), "WAGE", name="南京示例甲有限公司")],
        {"name": "南京示例乙有限公司"},
        ("N-2",),
        warning="name-mismatch",
    ),
    Case(
        "individual business",
        uscc(34, "92320199"),
        "tendering.bidder",
        "RESTRICT",
        [row(uscc(34, "92320199"), "WAGE")],
        measures=("N-2",),
    ),
    Case(
        "failed check digit still matches",
        "uscc:" + uscc(35)[5:-1] + ("0" if uscc(35)[-1] != "0" else "1"),
        "tendering.bidder",
        "RESTRICT",
        [row("uscc:" + uscc(35)[5:-1] + ("0" if uscc(35)[-1] != "0" else "1"), "WAGE")],
        measures=("N-2",),
        warning="check-digit",
    ),
]


@pytest.fixture(scope="module", params=["sqlite-memory", "sqlite-redis", "postgresql-memory", "postgresql-redis"])
def gateway(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[RunningGateway]:
    """Every backend of the ledger with every home of the exact index: the answers are the same."""
    ledger, _, index = request.param.partition("-")
    with contextlib.ExitStack() as stack:
        settings = {"index": index}
        if ledger == "postgresql":
            settings["ledger_url"] = request.getfixturevalue("postgres").database()
        if index == "redis":
            settings["redis_url"] = stack.enter_context(valkey()).url
        gateway = stack.enter_context(running(tmp_path_factory.mktemp("answers"), NOW, **settings))
        gateway.publish(*(DATA / f"{name}.yaml" for name in ("national", "provincial", "municipal", "future")))
        receipt = gateway.import_rows([each for case in CASES for each in case.rows])
        assert not receipt.quarantine, receipt.quarantine
        publisher = gateway.inner.control.publisher
        assert publisher is None or gateway.run(reaches(publisher, receipt.revision, 10))
        yield gateway


@pytest.fixture(scope="module", params=["bloom", "sorted", "remote"])
def client(gateway: RunningGateway, request: pytest.FixtureRequest) -> Iterator[lanjie.Client]:
    options = {"local": False} if request.param == "remote" else {"filter": request.param}
    with gateway.client(**options) as client:
        if request.param != "remote":
            client.wait_ready(timeout=10)
        yield client


def ask(client: lanjie.Client, case: Case) -> lanjie.Decision:
    return client.check(case.subject, matter=case.matter, purpose=PURPOSE, **case.ask)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_answer(client: lanjie.Client, case: Case) -> None:
    decision = ask(client, case)
    assert decision.outcome.name == case.outcome
    assert tuple(measure.code for measure in decision.measures) == case.measures
    assert (decision.reason.name if decision.reason else "") == case.reason
    assert not case.warning or case.warning in decision.warnings
    if case.outcome == "PASS":
        assert not decision.measures
        assert not decision.listings
    if case.outcome == "UNDETERMINED":
        assert decision.resolve_by is not None
    assert decision.instruction
    assert case.subject.partition(":")[2] not in repr(decision)


def test_batch_gives_the_same_answers(client: lanjie.Client) -> None:
    by_matter: dict[str, list[Case]] = {}
    for case in CASES:
        if not case.ask:
            by_matter.setdefault(case.matter, []).append(case)
    for matter, cases in by_matter.items():
        items = [case.subject for case in cases]
        many = client.check_many([*items, "uscc:nonsense"], matter=matter, purpose=PURPOSE)
        # Persons come in files where the matter says so only; the companies beside them are answered all the same.
        apart = [parse(item).is_person and matter not in PERSON_FILES for item in items]
        told = ["UNDETERMINED" if alone else case.outcome for case, alone in zip(cases, apart, strict=True)]
        assert [decision.outcome.name for decision in many] == [*told, "UNDETERMINED"]
        for decision, alone in zip(many, apart, strict=False):
            assert (decision.reason is lanjie.UndeterminedReason.PERSON_FILE) is alone
            assert not (alone and (decision.measures or decision.listings))
        assert many[-1].reason is lanjie.UndeterminedReason.IDENTIFIER_INVALID
        assert len({decision.revision for decision in many if decision.source is lanjie.Source.GATEWAY}) == 1


def test_an_effect_tells_everything_it_rests_on(client: lanjie.Client) -> None:
    decision = ask(client, CASES[0])
    (measure,), (listing,) = decision.measures, decision.listings
    assert measure.basis == "测试采购法第二十二条"
    assert measure.department == "采购人"
    assert measure.catalogue == "test-national@2026"
    assert listing.authority == "测试机关"
    assert listing.decision_no.startswith("测试")
    assert listing.reason == "测试事由"
    assert listing.basis == "测试依据"
    assert listing.removal_conditions == "履行义务后申请移出"
    assert "行政复议" in listing.remedies
    assert decision.record_digest
    assert decision.decision_id


def test_a_natural_person_is_confirmed_by_an_officer(client: lanjie.Client) -> None:
    case = next(case for case in CASES if case.name == "defaulter as applicant")
    decision = ask(client, case)
    assert decision.confirmation_required
    assert decision.officer_verifies == ("债务数额较大且到期未清偿",)


def test_an_unknown_matter_is_an_error(client: lanjie.Client) -> None:
    for subject in (uscc(1), uscc(3)):
        with pytest.raises(lanjie.UnknownMatter):
            client.check(subject, matter="no.such.matter", purpose=PURPOSE)


@pytest.mark.parametrize(
    "ask",
    [{"mode": lanjie.InquiryMode.AUTHORISED, "authorisation_id": "a1"}, {"mode": lanjie.InquiryMode.SELF}],
    ids=["authorised", "self"],
)
def test_without_the_subjects_word_no_other_mode_is_answered(client: lanjie.Client, ask: dict[str, Any]) -> None:
    for subject in (uscc(1), uscc(3)):
        with pytest.raises(lanjie.PermissionDenied):
            client.check(subject, matter="tendering.bidder", purpose=PURPOSE, **ask)


def test_purpose_and_case_number_are_required(client: lanjie.Client) -> None:
    for subject in (uscc(1), uscc(3)):
        with pytest.raises(lanjie.LanjieError):
            client.check(subject, matter="tendering.bidder", purpose=" ")
        with pytest.raises(lanjie.LanjieError):
            client.check(subject, matter="case.wanted", purpose=PURPOSE)
        assert client.check(subject, matter="case.wanted", purpose=PURPOSE, case_no="1").outcome.name == "PASS"


@pytest.mark.parametrize(
    "text", ["91320199", "uscc:", "uscc:9132019900000", "citizen:320199198013010019", "uscc:9132****0000T0012X"]
)
def test_a_malformed_identifier_is_a_named_error(client: lanjie.Client, text: str) -> None:
    with pytest.raises(lanjie.InvalidIdentifier) as caught:
        client.check(text, matter="tendering.bidder", purpose=PURPOSE)
    assert caught.value.rule
    assert isinstance(caught.value, ValueError)


def test_forms_of_one_identifier_answer_alike(client: lanjie.Client) -> None:
    number = uscc(4).removeprefix("uscc:")
    wide = "".join(chr(ord(c) + 0xFEE0) for c in number)
    spaced = f"{number[:4]} {number[4:8]}-{number[8:]}"
    for text in (f"uscc:{number.lower()}", f"uscc:{wide}", f"uscc: {spaced} ", org_code(uscc(4)), f"USCC:{number}"):
        decision = client.check(text, matter="tendering.bidder", purpose=PURPOSE)
        assert decision.outcome.name == "RESTRICT", text


def test_the_same_number_under_another_kind_does_not_match(client: lanjie.Client) -> None:
    number = citizen(1).removeprefix("citizen:")
    decision = client.check(f"permanent_resident:9{number[1:]}", matter="tendering.bidder", purpose=PURPOSE)
    assert decision.outcome.name == "PASS"
    tax = uscc(4).removeprefix("uscc:")
    assert client.check(f"tax_no:{tax}", matter="tendering.bidder", purpose=PURPOSE).outcome.name == "PASS"


def test_a_bid_opening_is_judged_as_of_its_instant(client: lanjie.Client) -> None:
    case = next(case for case in CASES if case.name == "sanction ended")
    then = NOW - datetime.timedelta(days=5)
    decision = client.check(case.subject, matter=case.matter, purpose=PURPOSE, as_of=then)
    assert decision.outcome.name == "INTERCEPT"
    assert decision.as_of == then
    with pytest.raises(lanjie.LanjieError):
        client.check(case.subject, matter="school.enrol", purpose=PURPOSE, as_of=then)


def test_ends_are_inclusive_to_midnight_without_any_job(tmp_path: Path) -> None:
    with running(tmp_path, NOW) as gateway:
        gateway.publish(DATA / "national.yaml")
        gateway.import_rows([row(uscc(40), "WAGE", expires_on=day(3))])
        midnight = datetime.datetime.combine(TODAY + datetime.timedelta(days=4), datetime.time(), SHANGHAI)
        with gateway.client(local=False) as client:

            def outcome() -> str:
                return client.check(uscc(40), matter="tendering.bidder", purpose=PURPOSE).outcome.name

            gateway.clock.at = midnight - datetime.timedelta(seconds=1)
            assert outcome() == "RESTRICT"
            gateway.clock.at = midnight
            assert outcome() == "PASS"


def test_a_removed_subject_passes_at_once(tmp_path: Path) -> None:
    with running(tmp_path, NOW) as gateway:
        gateway.publish(DATA / "national.yaml")
        gateway.import_rows([row(uscc(41), "WAGE"), row(uscc(42), "WAGE")])
        authority = person("authority", Role.AUTHORITY)
        with gateway.client() as client:
            client.wait_ready(timeout=10)
            before = client.check(uscc(41), matter="tendering.bidder", purpose=PURPOSE)
            assert before.outcome.name == "RESTRICT"
            removed = gateway.run(
                gateway.inner.control.listings.remove(
                    before.listings[0].listing_id, "已改正", "测试移出〔2026〕1号", "", authority
                )
            )
            after = client.check(uscc(41), matter="tendering.bidder", purpose=PURPOSE)
            assert after.outcome.name == "PASS"
            assert removed is not None
            other = client.check(uscc(42), matter="tendering.bidder", purpose=PURPOSE)
            assert other.outcome.name == "RESTRICT"


def test_every_answer_leaves_a_record(tmp_path: Path) -> None:
    with running(tmp_path, NOW) as gateway:
        gateway.publish(DATA / "national.yaml")
        gateway.import_rows([row(uscc(43), "WAGE")])
        with gateway.client() as client:
            client.wait_ready(timeout=10)
            ids = {
                client.check(subject, matter="tendering.bidder", purpose=PURPOSE).decision_id
                for subject in (uscc(43), uscc(44), citizen(9))
            }
        gateway.run(gateway.inner.control.inquiries.load())
        rows = gateway.run(gateway.inner.control.ledger.call(Ledger.inquiries, 100, 0))
        assert ids <= {each.decision_id for each in rows}
        assert {each.kind for each in rows} == {"gateway", "local"}
        text = b"".join(each.record for each in rows)
        assert uscc(43)[5:].encode() not in text


def test_with_the_index_in_redis_the_answers_come_from_there(gateway: RunningGateway, client: lanjie.Client) -> None:
    index = gateway.inner.worker.index
    if not isinstance(index, RedisIndex):
        pytest.skip("the worker has a table of its own")
    deadline = time.monotonic() + 20
    while True:
        before = index.from_ledger
        for case in CASES:
            ask(client, case)
        if index.from_ledger == before:
            break
        # On a busy machine one late answer sends the next half second to the ledger.
        assert time.monotonic() < deadline, "the records come from the ledger"
        time.sleep(0.5)
    assert index.from_redis


def test_the_view_read_at_a_start_is_the_view_kept_since(gateway: RunningGateway) -> None:
    control = gateway.inner.control
    kept = control.views.view
    fresh = View(kept.raw_key)
    fresh.load(gateway.run(control.ledger.call(Ledger.listed_digests)), kept.revision)
    assert fresh.head() == kept.head()
    assert kept.head()[1] > len([case for case in CASES if case.rows]) / 2


def test_a_batch_whose_answers_fill_more_than_a_message_is_answered(tmp_path: Path) -> None:
    subject, texts = uscc(1), dict.fromkeys(("reason", "basis", "removal_conditions", "remedies"), "文" * 4000)
    with running(tmp_path, NOW) as gateway, gateway.client(local=False, timeout=20) as client:
        gateway.publish(DATA / "national.yaml")
        gateway.import_rows([row(subject, "COURT", source_record_id=f"r{number}", **texts) for number in range(12)])
        ask: dict[str, Any] = {"matter": "procurement.supplier", "purpose": PURPOSE}
        assert len(client.check(subject, **ask).listings) == 12
        many = client.check_many([subject] * 40 + [uscc(2)], **ask)
        assert [each.outcome.name for each in many] == ["INTERCEPT"] * 40 + ["PASS"]
