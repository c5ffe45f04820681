"""What a subject may know and allow (Art. 31, 32, 39, 60, 63, 64, 69, 71), through real gateways and clients."""

import dataclasses
import datetime
import html.parser
import json
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import lanjie
from lanjie_gateway.adapters.ledger import InquiryRow, Ledger
from lanjie_gateway.domain.access import Principal, Role
from lanjie_gateway.domain.complaints import ComplaintOutcome
from lanjie_gateway.domain.errors import Refused, Unanswerable
from lanjie_gateway.domain.events import EventKind
from lanjie_gateway.domain.grants import Grant, Mode
from lanjie_gateway.domain.records import instant, leaf
from lanjie_gateway.domain.remedies import CHANNEL, STATUTORY
from lanjie_gateway.domain.subject_report import Proof
from lanjie_gateway.services.authorisations import Order
from lanjie_matcher.identifiers import parse
from tests.support.answers import act, records, row
from tests.support.gateway import RunningGateway, person, running
from tests.support.grants import give
from tests.support.serve import run
from tests.support.subjects import citizen, org_code, uscc

DATA = Path(__file__).parents[1] / "data"
NOW = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
SECOND = datetime.timedelta(seconds=1)
TODAY = NOW.astimezone(datetime.timezone(datetime.timedelta(hours=8))).date()
ASK: dict[str, Any] = {"matter": "tendering.bidder", "purpose": "test of rights"}
AGENCY = person("agency", Role.AGENCY)
PROOF = Proof(method="id-document", proved_at=NOW, reference="D-17")
LISTED, LISTED_PERSON, OFFICER = uscc(1), citizen(1), citizen(9)
DEPARTMENTS = """
[departments.market]
name = "示例市场监管局"
region = "320100"
persons = {anna = {roles = ["inquirer"]}}

[departments.tender]
name = "示例招标办"
region = "320500"
persons = {bert = {roles = ["inquirer"]}}
"""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with running(tmp_path_factory.mktemp("rights"), NOW) as gateway:
        gateway.publish(DATA / "national.yaml")
        gateway.import_rows(
            [
                row(LISTED, "WAGE", name="示例企业", related_persons=f"法定代表人:{OFFICER};实际控制人:李示例"),
                row(LISTED_PERSON, "WAGE", remedies=""),
                row(uscc(2), "COURT"),
            ]
        )
        yield gateway


@pytest.fixture(scope="module")
def client(gateway: RunningGateway) -> Iterator[lanjie.Client]:
    with gateway.client(local=False) as client:
        yield client


def report(gateway: RunningGateway, identifier: str, who: Principal = AGENCY, **changes: Any) -> Any:
    asked = {"others": (), "proof": PROOF, "before": None, **changes}
    return gateway.run(gateway.inner.control.rights.report(identifier, principal=who, **asked))


def inquirer(department: str, *modes: Mode, reads_listings: bool = False, last: datetime.date = TODAY) -> Principal:
    grant = Grant(
        department=department,
        name=department,
        regions=frozenset({"320000"}),
        matters=frozenset({ASK["matter"]}),
        modes=frozenset(modes),
        reads_listings=reads_listings,
        valid_from=TODAY - datetime.timedelta(days=1),
        valid_until=last,
    )
    roles = frozenset({Role.INQUIRER})
    return Principal(department=department, person="eva", roles=roles, region="320000", grant=grant)


def order(number: int, identifier: str = LISTED, **changes: Any) -> Order:
    facts = {
        "department": "",
        "identifier": identifier,
        "matters": [ASK["matter"]],
        "purpose": ASK["purpose"],
        "document_no": f"授〔2026〕{number}号",
        "document_date": TODAY.isoformat(),
        "document_sha256": number.to_bytes(32, "big"),
        "valid_until": TODAY.isoformat(),
        "uses": 0,
        **changes,
    }
    return Order(**facts)


def register(gateway: RunningGateway, wanted: Order, who: Principal | None = None) -> Any:
    who = who or person("inquirer", Role.INQUIRER)
    return gateway.run(gateway.inner.control.authorisations.register(wanted, who))


def test_article_63_a_report_lists_local_and_remote_inquiries_of_three_departments_through_rotation_and_restart(
    tmp_path: Path,
) -> None:
    state, file = tmp_path / "state", tmp_path / "departments.toml"
    file.write_text(DEPARTMENTS, encoding="utf-8")
    passed, settings = uscc(900), {"departments": file}
    departments = {"local": "inquirer", "market": "market/anna", "tender": "tender/bert"}

    def clients(gateway: RunningGateway, **options: Any) -> Iterator[lanjie.Client]:
        for department, path in departments.items():
            token = (state / "tokens" / f"{path}.token").read_text().strip()
            own = {"state_dir": tmp_path / department, "upload_interval": 0.05, **options}
            with lanjie.Client.from_file(gateway.file, token=token, **own) as client:
                if own.get("local", True):
                    client.wait_ready(10)
                yield client

    with running(state, NOW, **settings) as gateway:
        gateway.publish(DATA / "national.yaml")
        gateway.import_rows([row(LISTED, "WAGE")])
        for department in ("market", "tender"):
            first, last = (str((NOW + datetime.timedelta(days=days)).date()) for days in (-30, 30))
            since: dict[str, Any] = {"valid_from": first, "document": {"number": "1", "date": first}}
            give(gateway, department, matters=[ASK["matter"]], regions=["320000"], valid_until=last, **since)
        for client in clients(gateway):
            assert client.check(passed, **ASK).source is lanjie.Source.LOCAL
            assert client.check(LISTED, **ASK).outcome is lanjie.Outcome.RESTRICT
        for client in clients(gateway, local=False):
            assert client.check(org_code(passed), **ASK).source is lanjie.Source.GATEWAY
        assert run("rotate-view-key", "--json", "--gateway-file", str(gateway.file)).json["generation"] == 2
    with running(state, NOW, **settings) as gateway:
        for client in clients(gateway):
            assert client.check(passed, **ASK).source is lanjie.Source.LOCAL
    with running(state, NOW, **settings) as gateway:
        told = [each for each in report(gateway, passed).inquiries if each.outcome == "PASS"]
        for department in departments:
            mine = sorted(each.source for each in told if each.department == department)
            assert mine == ["gateway", "local", "local"]
        assert {(each.matter, each.mode, each.role) for each in told} == {(ASK["matter"], "ex_officio", "inquirer")}
        found = report(gateway, LISTED)
        hits = [each for each in found.inquiries if each.outcome == "RESTRICT"]
        assert {each.department for each in hits} == set(departments)
        assert {(each.measures, each.listings) for each in hits} == {(("N-2",), (found.listings[0].view.listing.id,))}
        # What was asked by the organisation code alone needs the USCC to be found as a whole, and the report says so.
        by_code = report(gateway, org_code(passed))
        assert any("统一社会信用代码" in note for note in by_code.notes)
        assert not any("统一社会信用代码" in note for note in report(gateway, passed).notes)
        whole = report(gateway, org_code(passed), others=[passed])
        assert {each.decision_id for each in told} <= {each.decision_id for each in whole.inquiries}


def test_article_63_a_report_leaves_a_record_and_names_nobody(gateway: RunningGateway, client: lanjie.Client) -> None:
    asked = client.check(LISTED, **ASK, officer="A-4711")
    first = report(gateway, LISTED)
    assert asked.decision_id in {each.decision_id for each in first.inquiries}, "just written by a worker"
    (kept,) = [each for each in report(gateway, LISTED).inquiries if each.decision_id == first.record_id]
    assert (kept.outcome, kept.mode, kept.role, kept.matter) == ("REPORTED", "self", "agency", "")
    assert records(gateway)[first.record_id]["proof"]["reference"] == "D-17"
    shown = repr([dataclasses.asdict(each) for each in first.inquiries])
    assert "A-4711" not in shown
    assert "test of rights" not in shown
    assert LISTED.partition(":")[2] not in repr(first)


def test_article_63_own_listings_come_whole_until_their_retention_ends(gateway: RunningGateway) -> None:
    subject = uscc(20)
    gateway.import_rows([row(subject, "COURT"), row(subject, "TAX", retention_until="2026-02-01")])
    (own,) = report(gateway, subject).listings
    assert own.view.listing.list_type == "COURT"
    act(gateway, own.view.listing.id, EventKind.OBJECTION_OPENED)
    (own,) = report(gateway, subject).listings
    assert [each.kind for each in own.events] == [EventKind.LISTED, EventKind.OBJECTION_OPENED]
    assert [each.rule.value for each in own.duties] == ["objection-reply"]
    assert own.duties[0].due_on is not None


def test_article_63_a_long_report_is_read_on_and_leaves_none_out(tmp_path: Path) -> None:
    subject = uscc(23)
    with running(tmp_path / "state", NOW) as gateway:
        (token,) = gateway.run(gateway.inner.control.ledger.call(Ledger.tokens_of, [parse(subject)]))
        said = {"department": "market", "matter": ASK["matter"], "outcome": "INTERCEPT", "subject": token.hex()}
        said |= {"listings": [f"{number:016x}" for number in range(60)]}
        # Answers of one batch have one instant, and a page ends in the middle of one.
        rows = [
            InquiryRow.of(leaf({**said, "id": f"abcd-{number}", "at": instant(NOW - number // 7 * SECOND / 7)}))
            for number in range(1, 10_051)
        ]
        gateway.run(gateway.inner.control.ledger.call(Ledger.add_inquiries, "abcd", len(rows), rows))
        asked = ("subject", "report", subject, "--proof", "id-document:D", "--proved-at", NOW.isoformat())
        at = ("--gateway-file", str(gateway.file))
        first = run(*asked, *at, "--html", str(tmp_path / "page.html"))
        assert first.code == 0, first.err
        before = first.out.split("--before")[1].strip()
        told = {each.decision_id for each in report(gateway, subject).inquiries if each.department == "market"}
        rest = run(*asked, "--before", before, "--json", *at).json
        told |= {each["decision_id"] for each in rest["inquiries"]}
        assert told == {row.decision_id for row in rows}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"method": "face"}, "proof.method"),
        ({"proved_at": None}, "proof.proved_time"),
        ({"proved_at": NOW - datetime.timedelta(days=2)}, "proof.proved_time"),
        ({"proved_at": NOW + datetime.timedelta(minutes=1)}, "proof.proved_time"),
        ({"reference": " "}, "proof.reference"),
        ({"reference": f"ID {LISTED_PERSON.partition(':')[2]}"}, "proof.reference"),
        ({"reference": "ID " + "-".join(textwrap.wrap(LISTED_PERSON.partition(":")[2], 6))}, "proof.reference"),
    ],
)
def test_art39_a_report_needs_a_real_name_proof_without_biometric_data(
    gateway: RunningGateway, changes: dict[str, Any], field: str
) -> None:
    with pytest.raises(Refused) as caught:
        report(gateway, LISTED, proof=dataclasses.replace(PROOF, **changes))
    assert caught.value.metadata["field"] == field


def test_art39_only_the_agency_and_a_real_name_desk_report(gateway: RunningGateway) -> None:
    assert report(gateway, LISTED, inquirer("desk", Mode.SELF)).listings
    yesterday = TODAY - datetime.timedelta(days=1)
    for who in (
        inquirer("desk", Mode.EX_OFFICIO, Mode.AUTHORISED),
        inquirer("desk", Mode.SELF, last=yesterday),
        person("authority", Role.AUTHORITY),
        Principal(department="desk", person="eva", roles=frozenset({Role.INQUIRER}), region="320000"),
    ):
        for subject in (LISTED, uscc(901)):
            with pytest.raises(Refused) as caught:
                report(gateway, subject, who)
            assert caught.value.reason == "NOT_PERMITTED"


def test_article_63_who_is_named_as_another_number_of_a_subject_hears_of_it(gateway: RunningGateway) -> None:
    one, victim = citizen(51), citizen(52)
    told = report(gateway, one, others=[victim])
    for each in (one, victim):
        assert [(asked.mode, asked.department) for asked in report(gateway, each).inquiries] == [("self", "local")]
    assert told.record_id in {asked.decision_id for asked in report(gateway, one).inquiries}


def test_art39_a_check_is_no_self_inquiry(client: lanjie.Client) -> None:
    for subject in (LISTED, uscc(901)):
        with pytest.raises(lanjie.PermissionDenied, match="report"):
            client.check(subject, **ASK, mode=lanjie.InquiryMode.SELF)


def test_art39_an_authorisation_is_used_once_and_a_lost_answer_costs_none(
    gateway: RunningGateway, client: lanjie.Client
) -> None:
    kept = register(gateway, order(1, uses=2))
    authorised = {**ASK, "mode": lanjie.InquiryMode.AUTHORISED, "authorisation_id": kept.id}
    first = client.check(LISTED, **authorised)
    assert first.outcome is lanjie.Outcome.RESTRICT
    record = records(gateway)[first.decision_id]
    assert (record["mode"], record["authorisation"]) == ("authorised", kept.id)
    # Asked again because the answer was lost: the same use.
    assert client.check(LISTED, **authorised).outcome is first.outcome
    again, refusals = {"request_id": record["request"]}, set()
    # One use is left: what is refused is refused for what it asks.
    for subject, changes in (
        (uscc(2), {}),
        (LISTED, {"authorisation_id": "a" + "0" * 24}),
        (LISTED, {"matter": "procurement.supplier"}),
        (LISTED, {"purpose": "another purpose"}),
        (LISTED, {"request_id": "third"}),
        # Under the request id of the use, another question is another use.
        (LISTED, {**again, "name": "又一示例"}),
        (LISTED, {**again, "role": "guarantor"}),
        (LISTED, {**again, "handling_region": "320500"}),
        (LISTED, {**again, "as_of": NOW - datetime.timedelta(days=1)}),
        (LISTED, {**again, "case_no": "A-2"}),
    ):
        if "request_id" in changes:
            assert client.check(LISTED, **authorised, request_id="second").outcome is first.outcome
        with pytest.raises(lanjie.PermissionDenied) as caught:
            client.check(subject, **{**authorised, **changes})
        refusals.add(str(caught.value))
    assert len(refusals) == 1
    for wrong in ({"authorisation_id": ""}, {"authorisation_id": "a\0"}, {"request_id": "r 1"}):
        with pytest.raises(lanjie.InvalidArgument):
            client.check(LISTED, **{**authorised, **wrong})
    told = report(gateway, LISTED)
    assert kept.id in {each.id for each in told.authorisations}
    assert first.decision_id in {each.decision_id for each in told.inquiries if each.mode == "authorised"}


def test_art39_without_the_ledger_nothing_is_answered_and_no_use_is_lost(
    gateway: RunningGateway, client: lanjie.Client
) -> None:
    kept, hub = register(gateway, order(7)), gateway.inner.control.hub
    authorised = {**ASK, "mode": lanjie.InquiryMode.AUTHORISED, "authorisation_id": kept.id}

    async def used_and_lost(wanted: Any) -> bool:
        await gateway.inner.control.authorisations.consume(wanted)
        raise Unanswerable("LEDGER_UNAVAILABLE", "lost on the way")

    hub.serve("consume", used_and_lost)
    try:
        decision = client.check(LISTED, **authorised)
    finally:
        hub.serve("consume", gateway.inner.control.authorisations.consume)
    assert decision.reason is lanjie.UndeterminedReason.UNAVAILABLE
    assert client.check(LISTED, **authorised).outcome is lanjie.Outcome.RESTRICT
    assert gateway.run(gateway.inner.control.authorisations.get(kept.id, AGENCY)).used == 1


def test_art39_a_withdrawn_authorisation_covers_nothing(gateway: RunningGateway, client: lanjie.Client) -> None:
    kept = register(gateway, order(2, uses=10))
    service = gateway.inner.control.authorisations
    authorised = {**ASK, "mode": lanjie.InquiryMode.AUTHORISED, "authorisation_id": kept.id}
    assert client.check(LISTED, **authorised).outcome is lanjie.Outcome.RESTRICT
    for who in (inquirer("other", Mode.AUTHORISED), person("authority", Role.AUTHORITY)):
        with pytest.raises(Refused):
            gateway.run(service.withdraw(kept.id, "撤回", who))
    assert gateway.run(service.withdraw(kept.id, "撤回", AGENCY)).withdrawn_at == NOW
    with pytest.raises(lanjie.PermissionDenied):
        client.check(LISTED, **authorised)


def test_art39_racing_inquiries_use_no_more_than_was_authorised(gateway: RunningGateway, client: lanjie.Client) -> None:
    kept = register(gateway, order(3, uses=3))

    def ask(number: int) -> bool:
        try:
            client.check(
                LISTED,
                **ASK,
                mode=lanjie.InquiryMode.AUTHORISED,
                authorisation_id=kept.id,
                request_id=f"r{number}",
            )
        except lanjie.PermissionDenied:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(ask, range(12))) == 3
    assert gateway.run(gateway.inner.control.authorisations.get(kept.id, AGENCY)).used == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"matters": []},
        {"matters": ["no.such.matter"]},
        {"matters": [ASK["matter"]] * 21},
        {"purpose": " "},
        {"document_sha256": b"short"},
        {"document_no": ""},
        {"document_date": (TODAY + datetime.timedelta(days=1)).isoformat()},
        {"valid_until": (TODAY - datetime.timedelta(days=1)).isoformat()},
        {"valid_until": (TODAY + datetime.timedelta(days=367)).isoformat()},
        {"uses": 11},
        {"department": "NO SUCH\0"},
    ],
)
def test_art69_nothing_bundled_or_for_life_can_be_registered(gateway: RunningGateway, changes: dict[str, Any]) -> None:
    with pytest.raises(Refused) as caught:
        register(gateway, order(4, **changes))
    assert caught.value.reason == "ARGUMENT_INVALID"


def test_art69_a_document_is_registered_once_by_its_own_department(gateway: RunningGateway) -> None:
    first = register(gateway, order(5))
    assert register(gateway, order(5)).id == first.id
    with pytest.raises(Refused):
        register(gateway, order(5, uses=2))
    desk = inquirer("desk", Mode.AUTHORISED)
    with pytest.raises(Refused):
        register(gateway, order(6, department="local"), desk)
    with pytest.raises(Refused):
        register(gateway, order(6), inquirer("desk", Mode.EX_OFFICIO))
    assert register(gateway, order(6), desk).department == "desk"
    with pytest.raises(Refused) as caught:
        gateway.run(gateway.inner.control.authorisations.get(first.id, desk))
    with pytest.raises(Refused) as unknown:
        gateway.run(gateway.inner.control.authorisations.get("a1", desk))
    assert str(caught.value) == str(unknown.value)


def test_art31_71_no_effect_leaves_without_remedies_and_objection_channel(client: lanjie.Client) -> None:
    stated = client.check(LISTED, **ASK)
    assert stated.remedies == stated.listings[0].remedies == "六十日内申请行政复议，六个月内提起行政诉讼"
    assert stated.objection_channel == stated.listings[0].objection_channel == CHANNEL
    silent = client.check(LISTED_PERSON, **ASK)
    assert silent.outcome is lanjie.Outcome.RESTRICT
    assert silent.remedies == silent.listings[0].remedies == STATUTORY
    nothing = client.check(uscc(901), **ASK)
    assert (nothing.remedies, nothing.objection_channel) == ("", "")


def test_art64_a_list_type_names_its_channel_and_the_gateway_the_rest(tmp_path: Path) -> None:
    text = (DATA / "national.yaml").read_text(encoding="utf-8")
    text = text.replace("  level: national\n", "  level: national\n  remedies: 清单救济\n", 1)
    text = text.replace("{code: WAGE,", "{code: WAGE, objection_channel: 人社窗口, remedies: 人社救济,")
    file = tmp_path / "told.yaml"
    file.write_text(text, encoding="utf-8")
    with (
        running(tmp_path / "state", NOW, objection_channel="网关窗口") as gateway,
        gateway.client(local=False) as client,
    ):
        gateway.publish(file)
        gateway.import_rows([row(LISTED, "WAGE", remedies=""), row(uscc(2), "COURT", remedies="")])
        wage = client.check(LISTED, **ASK)
        court = client.check(uscc(2), matter="procurement.supplier", purpose="test")
        assert (wage.remedies, wage.objection_channel) == ("人社救济", "人社窗口")
        assert (court.remedies, court.objection_channel) == ("清单救济", "网关窗口")
        shown = run(
            "check", LISTED, "--matter", ASK["matter"], "--purpose", "test", "--gateway-file", str(gateway.file)
        )
        assert "人社救济" in shown.out
        assert "人社窗口" in shown.out


def test_art32_marks_are_read_by_a_grant_masked_and_seen_nowhere_else(
    gateway: RunningGateway, client: lanjie.Client
) -> None:
    service = gateway.inner.control.rights
    number = OFFICER.partition(":")[2]
    reader = inquirer("reader", Mode.EX_OFFICIO, reads_listings=True)
    record_id, (read,) = gateway.run(service.read(LISTED, "核实", "案1", reader))
    assert read.related_persons == (f"法定代表人:citizen:{number[0]}{'*' * 16}{number[-1]}", "实际控制人:李**")
    assert [measure.code for _, measure in read.measures] == ["N-2", "N-5", "N-6"]
    assert records(gateway)[record_id]["case_no"] == "案1"
    _, (agency,) = gateway.run(service.read(LISTED, "核实", "案1", AGENCY))
    assert agency.related_persons == read.related_persons
    # Neither who is marked nor who asks about him hears of it.
    assert client.check(OFFICER, **ASK).outcome is lanjie.Outcome.PASS
    assert not report(gateway, OFFICER).listings
    assert "李" not in repr(report(gateway, LISTED).listings[0].events)
    for who in (inquirer("reader", Mode.EX_OFFICIO), person("authority", Role.AUTHORITY)):
        for subject in (LISTED, uscc(901)):
            with pytest.raises(Refused) as caught:
                gateway.run(service.read(subject, "核实", "案1", who))
            assert caught.value.reason == "NOT_PERMITTED"
    for purpose, case_no in (("", "案1"), ("核实", "")):
        with pytest.raises(Refused):
            gateway.run(service.read(LISTED, purpose, case_no, reader))


def test_art39_63_what_the_agency_looks_up_leaves_a_record_and_counts(tmp_path: Path) -> None:
    with running(tmp_path, NOW, persons_per_day=2) as gateway:
        gateway.publish(DATA / "national.yaml")
        gateway.import_rows([row(LISTED_PERSON, "WAGE")])
        service = gateway.inner.control.listings
        (found,) = gateway.run(service.find(LISTED_PERSON, "核实", AGENCY))
        gateway.run(service.get(found.listing.id, "复核", AGENCY))
        assert not gateway.run(service.find(citizen(2), "核实", AGENCY))
        # An authority looks at what it keeps itself.
        assert gateway.run(service.find(LISTED_PERSON, "更正", person("authority", Role.AUTHORITY)))
        told = {(each["purpose"], *each.get("listings", ())) for each in records(gateway).values()}
        assert told == {("核实", found.listing.id), ("复核", found.listing.id), ("核实",)}
        with pytest.raises(Refused) as refused:
            gateway.run(service.find(citizen(3), "核实", AGENCY))
        assert refused.value.reason == "DAILY_CAP"
        inquiries = report(gateway, LISTED_PERSON).inquiries
        assert [(each.role, each.outcome) for each in inquiries] == [("agency", "READ")] * 2


def test_art60_a_complaint_is_answered_and_somebody_held_to_account(gateway: RunningGateway) -> None:
    service = gateway.inner.control.complaints
    taken = gateway.run(service.add(LISTED, "department:market", "查询与事项无关", AGENCY))
    assert taken in gateway.run(service.find(AGENCY))
    with pytest.raises(Refused):
        gateway.run(service.close(taken.id, "founded", "已纠正", "", AGENCY))
    done = gateway.run(service.close(taken.id, "founded", "已纠正", "约谈 market 负责人", AGENCY))
    assert (done.outcome, done.closed_by) == (ComplaintOutcome.FOUNDED, "local/agency")
    assert taken.id not in {each.id for each in gateway.run(service.find(AGENCY))}
    (told,) = [each for each in report(gateway, LISTED).complaints if each.id == taken.id]
    assert (told.outcome, told.reply) == (ComplaintOutcome.FOUNDED, "已纠正")
    with pytest.raises(Refused) as caught:
        gateway.run(service.close(taken.id, "unfounded", "再答复", "", AGENCY))
    assert caught.value.reason == "TRANSITION_ILLEGAL"
    number = LISTED_PERSON.partition(":")[2]
    for about in ("listing:1", "somebody", "department:UPPER", "decision:张示例", f"decision:{number}"):
        with pytest.raises(Refused):
            gateway.run(service.add(LISTED, about, "内容", AGENCY))
    with pytest.raises(Refused):
        gateway.run(service.add(LISTED, "department:market", "内容", person("inquirer", Role.INQUIRER)))


class _Page(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def test_article_63_the_commands_report_print_authorise_and_complain(gateway: RunningGateway, tmp_path: Path) -> None:
    subject, at = uscc(21), ("--gateway-file", str(gateway.file))
    gateway.import_rows([row(subject, "WAGE", reason="<script>alert(1)</script>")])
    listing = report(gateway, subject).listings[0].view.listing.id
    signed = tmp_path / "signed.pdf"
    signed.write_bytes(b"signed")
    document = ("--document", str(signed), "--document-number", "<b>授1</b>", "--document-date", TODAY.isoformat())
    asked = ("--matter", ASK["matter"], "--purpose", ASK["purpose"])
    made = run(
        "authorisation", "register", subject, *asked, *document, "--valid-until", TODAY.isoformat(), *at, "--json"
    )
    authorisation = made.json["authorisation_id"]
    checked = run("check", subject, *asked, "--authorisation", authorisation, *at, "--json")
    assert checked.json["outcome"] == "RESTRICT"
    assert run("authorisation", "show", authorisation, *at, "--json").json["used"] == 1
    assert run("authorisation", "withdraw", authorisation, "--reason", "撤1", *at, "--json").json["withdrawn_time"]
    complaint = ("complaint", "add", subject, "--about", f"listing:{listing}", "--text", "列入有误", *at, "--json")
    taken = run(*complaint).json["complaint_id"]
    assert [
        each["complaint_id"] for each in run("complaint", "list", "--about", f"listing:{listing}", *at, "--json").json
    ]
    closing = ("complaint", "close", taken, "--outcome", "unfounded", "--reply", "依据充分<img src=x>", *at, "--json")
    assert run(*closing).json["outcome"] == "unfounded"
    marks = run("list", "show", listing, *at, "--json").json["complaints"]
    assert [(each["complaint_id"], each["outcome"]) for each in marks] == [(taken, "unfounded")]
    read = run("subject", "listings", subject, "--purpose", "核实", "--case-no", "案1", *at, "--json").json
    assert [each["listing"]["id" if "id" in each["listing"] else "listing_id"] for each in read["listings"]] == [
        listing
    ]
    out = tmp_path / "report.html"
    out.write_text("an older one that everybody reads", encoding="utf-8")
    out.chmod(0o644)
    proved = ("--proof", "id-document:D-1", "--proved-at", NOW.isoformat())
    told = run("subject", "report", subject, *proved, "--html", str(out), *at, "--json")
    assert checked.json["decision_id"] in {each["decision_id"] for each in told.json["inquiries"]}
    typed = run("subject", "report", "-", "--also", "-", *proved, *at, "--json", stdin=f"{subject}\n{uscc(22)}\n")
    assert len(typed.json["masked_identifiers"]) == 2
    assert run("subject", "report", subject, "--proof", "face:1", "--proved-at", NOW.isoformat(), *at).code == 2
    assert out.stat().st_mode & 0o077 == 0
    page = _Page()
    text = out.read_text(encoding="utf-8")
    page.feed(text)
    assert not page.tags & {"script", "link", "img", "iframe", "object", "a"}
    assert not page.attributes & {"src", "href", "onload", "style"}
    assert "url(" not in text
    assert "@import" not in text
    assert "size: A4" in text
    for word in (
        "限制",
        "授权查询",
        "行政复议",
        "异议渠道",
        "依据充分<img src=x>",
        "<script>alert(1)</script>",
        "<b>授1</b>",
    ):
        assert word in page.text
    assert subject.partition(":")[2] not in text + json.dumps(told.json)
