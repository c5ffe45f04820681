"""One test an article of the regulation, by its number: what the software must refuse or guarantee.

Each goes through a whole gateway where the rule is one of answers or records, and through the rule itself where that is
all there is to it. docs/safeguards.md names what else proves the same.
"""

import dataclasses
import datetime
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import lanjie
from lanjie.v1 import screening_pb2 as pb
from lanjie_gateway.adapters.ledger import Ledger
from lanjie_gateway.adapters.ledger.tables import INQUIRY
from lanjie_gateway.domain.access import Role
from lanjie_gateway.domain.catalogue_file import CatalogueRefused, load
from lanjie_gateway.domain.duties import DutyRule
from lanjie_gateway.domain.errors import Refused
from lanjie_gateway.domain.event_detail import InstrumentNotice, ObjectionOutcome
from lanjie_gateway.domain.events import EventKind
from lanjie_gateway.domain.import_rules import ImportState, Receipt
from lanjie_gateway.domain.list_file import FileRefused, read_header
from lanjie_gateway.services.event_facts import EventFacts
from lanjie_gateway.services.inquiries import UploadedPass
from lanjie_gateway.services.screening import Inquiry, Party, ScreeningService
from lanjie_matcher.catalogues import Edition
from lanjie_matcher.civil_time import SHANGHAI, day_of
from lanjie_matcher.fingerprints import IndexKey
from lanjie_matcher.identifiers import parse
from tests.support.answers import AUTHORITY, act, records, row
from tests.support.callers import authority
from tests.support.gateway import RunningGateway, person, running
from tests.support.grants import grant
from tests.support.serve import run
from tests.support.subjects import citizen, uscc

DATA = Path(__file__).parents[1] / "data"
NOW = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
TODAY = day_of(NOW)
WHY = "test of an article"
AGENCY, REVIEWER = person("agency", Role.AGENCY), person("reviewer", Role.AUTHORITY)
INQUIRER, MANAGER = person("inquirer", Role.INQUIRER), person("manager", Role.MANAGER)
_companies, _persons = map(uscc, itertools.count(500)), map(citizen, itertools.count(100))
_rows: list[dict[str, str]] = []


def enter(subject: str = "", list_type: str = "WAGE", **facts: str) -> str:
    """Put a row on the file that the fixture imports: one import costs more than all the tests. Returns the subject."""
    subject = subject or next(_companies)
    _rows.append(row(subject, list_type, **facts))
    return subject


def day(offset: int) -> str:
    return (TODAY + datetime.timedelta(days=offset)).isoformat()


BOUND = """
catalogue: {id: bound, level: national, region: "000000", edition: "1", example: true,
  publication: {number: 甲1号, date: 2026-01-05, approver: 某会议}, effective_from: 2026-01-10}
list_types:
  - {code: BOUND, name: 信用部门名单, authority: 某部门, basis: 某条例第一条, standard: 某办法第二条,
     required_fields: [decision_no, decision_date, authority, served_date, notice_date, reason, basis, measure_hints,
       removal_conditions, remedies]}
  - {code: LATER, name: 未来名单, authority: 某部门, basis: 某条例第一条, standard: 某办法第二条,
     effective_from: 2099-01-01}
  - {code: SHARED, name: 有共享范围的名单, authority: 某部门, basis: 某条例第一条, standard: 某办法第二条,
     shared_with: [housing]}
  - {code: ELSEWHERE, name: 与别处共享的名单, authority: 某部门, basis: 某条例第一条, standard: 某办法第二条,
     shared_with: [transport, water]}
measures:
  - {code: B-1, title: 投标限制, content: 依法限制, objects: [organisation], list_types: [SHARED, ELSEWHERE],
     matters: [tendering.bidder], effect: restrict, trigger: listing, class: 1, department: 某部门, basis: 某条例第二条}
"""


class Office:
    """A gateway with a counter, and what authorities do at it."""

    def __init__(self, gateway: RunningGateway, client: lanjie.Client) -> None:
        self.gateway = gateway
        self.client = client
        self.control = gateway.inner.control
        self.receipt = self.take(*_rows)

    def run(self, coroutine: Any) -> Any:
        return self.gateway.run(coroutine)

    def take(self, *rows: dict[str, str]) -> Receipt:
        receipt = self.gateway.import_rows(list(rows))
        if receipt.state is ImportState.WAITING:
            receipt = self.run(self.control.imports.confirm(receipt.receipt_id, REVIEWER))
        return receipt

    def listing(self, subject: str) -> str:
        """Return the id of a subject's one listing."""
        (view,) = self.views(subject)
        return str(view.listing.id)

    def views(self, subject: str, who: Any = AUTHORITY) -> list[Any]:
        found: list[Any] = self.run(self.control.listings.find(subject, WHY, who))
        return found

    def bad(self, subject: str) -> tuple[str, str]:
        """Return column and rule for which the row of a subject is in quarantine, as the operator is shown it."""
        line = next(number for number, each in enumerate(_rows, 2) if subject.endswith(f":{each['id_number']}"))
        (found,) = (each for each in self.receipt.quarantine if each.line == line)
        return found.column, found.rule

    def ask(self, subject: str, matter: str = "tendering.bidder", **more: Any) -> lanjie.Decision:
        return self.client.check(subject, matter=matter, purpose=WHY, **more)

    def outcome(self, subject: str, matter: str = "tendering.bidder", **more: Any) -> str:
        return self.ask(subject, matter, **more).outcome.name

    def event(self, listing_id: str, kind: EventKind, who: Any = AUTHORITY, **facts: Any) -> int:
        told = EventFacts(**facts)
        grounds = {"reason": "事由", "document": "文书1号", "effective_date": ""}
        done = self.control.listings.record_event(listing_id, kind, **grounds, principal=who, facts=told)
        return int(self.run(done)[0])

    def duties(self, listing_id: str) -> dict[DutyRule, Any]:
        found = self.run(self.control.duties.find(AUTHORITY))
        return {each.rule: each for each in found if each.listing_id == listing_id}


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    with running(tmp_path_factory.mktemp("articles"), NOW) as gateway:
        gateway.publish(*(DATA / f"{name}.yaml" for name in ("national", "provincial", "municipal", "future")))
        bound = tmp_path_factory.mktemp("files") / "bound.yaml"
        bound.write_text(BOUND, encoding="utf-8")
        gateway.publish(bound)
        with gateway.client(local=False) as client:
            yield Office(gateway, client)


@pytest.fixture(autouse=True)
def now(office: Office) -> Iterator[None]:
    office.gateway.clock.at = NOW
    yield
    office.gateway.clock.at = NOW


def document(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DATA / f"{name}.yaml").read_text(encoding="utf-8"))
    return loaded


def rules_of(changed: dict[str, Any], *published: Edition) -> set[str]:
    """Return the rules that refuse a catalogue; empty when it is taken."""
    before = list(published)
    if changed["catalogue"]["level"] != "national":
        before += [load((DATA / "national.yaml").read_bytes(), "n", before)[0]]
    try:
        load(yaml.safe_dump(changed, allow_unicode=True).encode(), "changed", before)
    except CatalogueRefused as refused:
        return {fault.rule for fault in refused.faults}
    return set()


REPEATED = enter(next(_persons))


def test_article_02_68_higher_law_wins(office: Office) -> None:
    (measure,) = office.ask(REPEATED, "funds.fiscal").measures
    assert (measure.code, measure.basis) == ("N-5", "测试条例第四十八条"), "P-2 repeats it, on provincial law"
    lower = document("provincial")
    lower["measures"][0]["code"] = "N-5"
    assert "redefines-higher" in rules_of(lower)


CHILD = enter(citizen(90, f"{TODAY.year - 15}0101"), listed_on=day(0))


def test_article_03_nobody_under_sixteen_is_listed(office: Office) -> None:
    assert office.bad(CHILD) == ("id_number", "minor")
    assert office.outcome(CHILD) == "PASS"


KEPT = enter()


def test_article_19_20_21_each_role_does_its_own(office: Office) -> None:
    listing = office.listing(KEPT)
    control, file = office.control, (DATA / "national.yaml").read_bytes()
    tries: dict[str, tuple[set[Role], Any]] = {
        "publish": (
            {Role.MANAGER},
            lambda who: control.catalogues.publish(file, "n.yaml", who, signature=None, dry_run=True),
        ),
        "remove": ({Role.AUTHORITY}, lambda who: control.listings.remove(listing, "r", "", "", who)),
        "find": ({Role.AUTHORITY, Role.AGENCY}, lambda who: control.listings.find(uscc(1), WHY, who)),
        "explain": ({Role.AGENCY}, lambda who: control.explanations.explain("none", WHY, who)),
        "upload": ({Role.INQUIRER}, lambda who: control.inquiries.upload(who, "0" * 32, "", ())),
    }
    for name, (may, attempt) in tries.items():
        for role in Role:
            try:
                office.run(attempt(person("anybody", role)))
                reason = ""
            except Refused as refused:
                reason = refused.reason
            assert (reason == "NOT_PERMITTED") is (role not in may), (name, role)


@pytest.mark.parametrize("purpose", ["", " ", "x" * 201])
def test_article_24_an_inquirer_names_duty_and_matter(office: Office, purpose: str) -> None:
    for subject in (next(_companies), next(_persons)):
        with pytest.raises(lanjie.LanjieError):
            office.client.check(subject, matter="tendering.bidder", purpose=purpose)
        with pytest.raises(lanjie.LanjieError):
            office.client.check(subject, matter="", purpose=WHY)
    with pytest.raises(Refused, match="purpose"):
        office.run(office.control.listings.find(uscc(1), purpose, AUTHORITY))


LISTED_BY_LAW = {"notice_date": "2026-01-02", "measure_hints": "提示", "served_date": "2026-01-06"}
DUE = (
    "decision_no decision_date authority notice_date served_date reason basis measure_hints removal_conditions remedies"
).split()
WITHOUT = {missing: enter(list_type="BOUND", **(LISTED_BY_LAW | {missing: ""})) for missing in DUE}
WHOLE = enter(list_type="BOUND", **LISTED_BY_LAW)
UNNOTICED = enter(list_type="BOUND", **(LISTED_BY_LAW | {"notice_date": "2026-01-06"}))
BARE = enter(reason="", remedies="", served_date="")


@pytest.mark.parametrize("missing", ["decision_no", "decision_date", "authority"])
def test_article_26_27_without_its_legal_document_nothing_is_listed(office: Office, missing: str) -> None:
    assert office.bad(WITHOUT[missing]) == (missing, "required-field")
    assert office.views(WITHOUT[missing]) == []


def test_article_28_30_a_list_type_cites_its_standard_of_identification() -> None:
    for field, rule in (("standard", "standard-missing"), ("basis", "basis-missing")):
        changed = document("national")
        del changed["list_types"][0][field]
        assert rule in rules_of(changed)


def test_article_29_a_local_list_type_has_a_local_regulation_and_one_of_three_scopes() -> None:
    local = {"code": "JS", "name": "省名单", "authority": "省局", "basis": "江苏省示例条例第一条", "standard": "同条"}
    for changes, rules in (
        ({"scope": 1}, set()),
        ({"scope": 4}, {"local-list-type-scope"}),
        ({}, {"local-list-type-scope"}),
        ({"scope": 2, "basis": "某通知"}, {"local-list-type-regulation"}),
    ):
        changed = document("provincial")
        changed["list_types"] = [local | changes]
        assert rules_of(changed) == rules, changes


def test_article_31_a_decision_says_all_it_has_to_or_lists_nobody(office: Office) -> None:
    assert len(office.views(WHOLE)) == 1
    for missing in DUE:
        assert office.bad(WITHOUT[missing]) == (missing, "required-field"), "and the operator is shown the row"
        assert office.views(WITHOUT[missing]) == []
    assert office.bad(UNNOTICED) == ("decision_date", "date-order"), "the notice comes before the decision"
    assert len(office.views(BARE)) == 1, "what a list requires is its own data: courts are not bound by Article 31"


REASONED = enter()


def test_article_31_71_each_effect_tells_the_remedies(office: Office) -> None:
    (listing,) = office.ask(REASONED).listings
    assert "行政复议" in listing.remedies
    assert "行政诉讼" in listing.remedies
    assert all((listing.reason, listing.basis, listing.authority, listing.decision_no, listing.removal_conditions))


RELATED = next(_persons)
MARKED = enter(related_persons=f"法定代表人:张某某:{RELATED}", reason="张某某拖欠")


def test_article_32_47_a_related_person_bears_nothing_and_is_not_shown(office: Office) -> None:
    decision = office.ask(RELATED)
    stranger = office.ask(next(_persons))
    assert decision.outcome is lanjie.Outcome.PASS
    assert (decision.listings, decision.warnings, decision.instruction) == ((), (), stranger.instruction)
    assert office.views(RELATED) == []
    (view,) = office.views(MARKED)
    assert view.related_persons == 1, "a mark counts, and says no more"
    assert office.ask(MARKED).listings[0].reason == "张**拖欠"


def test_article_33_an_evaluation_grade_has_no_place_and_no_effect(office: Office) -> None:
    data = b"id_kind,id_number,list_type,credit_grade\nuscc,91320199000050000X,WAGE,D\n"
    with pytest.raises(Refused) as refused:
        office.gateway.import_bytes(data)
    assert refused.value.metadata["rule"] == "column-unknown"
    graded = document("national")
    graded["measures"][0]["trigger"] = "grade"
    assert rules_of(graded)


NAMED = enter(next(_persons), name="欧阳示例")


def test_article_34_by_number_and_stated_kind_never_by_name(office: Office) -> None:
    assert office.outcome(NAMED) == "RESTRICT"
    assert office.outcome(next(_persons), name="欧阳示例") == "PASS"
    digits = NAMED.partition(":")[2]
    assert office.outcome(f"permanent_resident:9{digits[1:]}") == "PASS"
    with pytest.raises(lanjie.InvalidIdentifier):
        office.ask(digits)


NO_LIST, NO_LIST_YET = enter(list_type="NOWHERE"), enter(list_type="LATER")


def test_article_35_36_a_record_is_of_a_list_in_force_and_goes_to_who_may_ask(office: Office) -> None:
    for subject in (NO_LIST, NO_LIST_YET):
        assert office.bad(subject) == ("list_type", "list-type-unknown")
    assert office.views(KEPT, authority("city-tax", "320000", "TAX")) == []
    assert office.views(KEPT, authority("city-wage", "320100", "WAGE")) == [], "nor of its own list, elsewhere"


SHARED, ELSEWHERE = enter(list_type="SHARED"), enter(list_type="ELSEWHERE")


def test_article_35_36_a_list_type_is_shared_with_whom_its_catalogue_names(office: Office) -> None:
    worker = office.gateway.inner.worker
    service = ScreeningService(
        index=worker.index,
        key=IndexKey(office.control.ledger.keys.index),
        records=worker.records,
        clock=office.gateway.clock,
        current=lambda: True,
        ledger=lambda: (worker.feed.lineage, worker.feed.epoch),
        grants=lambda who: who,
    )
    said, callers, later = {}, {}, next(_companies)
    inquiry = Inquiry(matter="tendering.bidder", purpose=WHY)
    for department in ("housing", "transport", "local"):
        who = INQUIRER
        if department != "local":
            facts: dict[str, Any] = {"regions": ["320000"], "reads_listings": True, "valid_until": day(30)}
            granted = grant(department, matters=["tendering.bidder"], **facts)
            who = dataclasses.replace(INQUIRER, department=department, grant=granted)
        callers[department] = who
        until = TODAY + datetime.timedelta(days=30)
        watch: dict[str, Any] = {"matter": "tendering.bidder", "until_on": until, "purpose": WHY}
        office.run(office.control.watches.register(who, later, **watch))
        office.run(service.check(who, Party(identifier=later), inquiry, shape=str))
        for subject in (SHARED, ELSEWHERE, KEPT):
            told = office.run(service.check(who, Party(identifier=subject), inquiry, shape=lambda answer: answer))
            _, read = office.run(office.control.rights.read(subject, WHY, "案1", who))
            said[department, subject] = (told.ruling.outcome.name, len(told.ruling.listings), len(read))
            explained = office.run(office.control.explanations.explain(told.decision_id, WHY, AGENCY))
            assert explained.reproduced
    told, nothing = ("RESTRICT", 1, 1), ("PASS", 0, 0)
    assert [said["housing", each] for each in (SHARED, ELSEWHERE, KEPT)] == [told, nothing, told]
    assert [said["transport", each] for each in (SHARED, ELSEWHERE, KEPT)] == [nothing, told, told]
    assert [said["local", each] for each in (SHARED, ELSEWHERE, KEPT)] == [told] * 3, "it stands for every unit"
    agency = dataclasses.replace(AGENCY, department="centre")
    _, read = office.run(office.control.rights.read(ELSEWHERE, WHY, "案1", agency))
    assert len(read) == 1, "the agency runs the list"

    # Nobody else hears of a listing that comes later either, by a watch or because of a pass.
    office.take(row(later, "SHARED"))
    office.run(office.control.inquiries.load())
    office.run(office.control.alerts.catch_up())
    heard = {
        department: {each.kind.value for each in office.run(office.control.watches.pull(who, 0, 100))}
        for department, who in callers.items()
    }
    assert heard == {"housing": {"listed", "pass_overtaken"}, "transport": set(), "local": {"listed", "pass_overtaken"}}


NEWER = {"source_record_id": "a-37", "source_version": "2", "reason": "新"}
VERSIONED, TWICE = enter(**NEWER), enter(source="platform-a")


def test_article_37_38_late_and_old_records_bring_nothing_back(office: Office) -> None:
    old = row(VERSIONED, "WAGE", **(NEWER | {"source_version": "1", "reason": "旧"}))
    receipt = office.take(old, row(TWICE, "WAGE", source="platform-b"))
    assert [bad.rule for bad in receipt.quarantine] == ["stale-version"]
    assert receipt.counts.added == 0
    assert len(office.views(TWICE)) == 1, "one decision from two platforms is one listing"
    act(office.gateway, office.listing(VERSIONED), EventKind.REMOVED)
    late = office.take(row(VERSIONED, "WAGE", **(NEWER | {"source_version": "3"})))
    assert [bad.rule for bad in late.quarantine] == ["ended-not-resurrected"]
    assert office.outcome(VERSIONED) == "PASS"


RECORDED = enter()


def test_article_39_every_inquiry_leaves_a_record_that_says_who_when_and_why(office: Office) -> None:
    with office.gateway.client(filter="sorted") as counter:
        counter.wait_ready(timeout=10)
        asked = [
            counter.check(each, matter="tendering.bidder", purpose="投标审查", case_no="案1", officer="科员7")
            for each in (RECORDED, next(_companies), next(_persons))
        ]
    assert {each.source.name for each in asked} == {"GATEWAY", "LOCAL"}
    kept = records(office.gateway)
    for decision in asked:
        record = kept[decision.decision_id]
        assert (record["department"], record["matter"], record["purpose"]) == ("local", "tendering.bidder", "投标审查")
        assert (record["officer"], record["case_no"], record["outcome"]) == ("科员7", "案1", decision.outcome.name)
        assert record["at"]
    assert RECORDED[5:] not in json.dumps(list(kept.values()))


def test_article_39_an_authorised_or_self_inquiry_is_refused_without_its_proof(office: Office) -> None:
    for mode in (lanjie.InquiryMode.AUTHORISED, lanjie.InquiryMode.SELF):
        with pytest.raises(lanjie.LanjieError):
            office.ask(next(_persons), mode=mode)


PURCHASE = enter(list_type="COURT")


def test_article_40_what_is_for_one_matter_is_not_told_for_another(office: Office) -> None:
    assert office.outcome(PURCHASE, "procurement.supplier") == "INTERCEPT"
    other, stranger = office.ask(PURCHASE, "school.enrol"), office.ask(next(_companies), "school.enrol")
    assert (other.outcome, other.listings, other.measures) == (stranger.outcome, (), ())
    assert other.instruction == stranger.instruction


MASKED = next(_persons)
enter(MASKED, name="欧阳示例", reason=f"欧阳示例（{MASKED.partition(':')[2]}）拖欠")


def test_article_40_numbers_and_names_leave_masked(office: Office) -> None:
    number = MASKED.partition(":")[2]
    (mine,), (theirs,) = office.views(MASKED), office.views(MASKED, AGENCY)
    assert mine.masked_identifiers == (f"citizen:{number[:6]}{'*' * 8}{number[-4:]}",)
    assert theirs.masked_identifiers == (f"citizen:{number[0]}{'*' * 16}{number[-1]}",)
    assert mine.name == theirs.name == "欧***"
    decision = office.ask(MASKED)
    assert decision.masked_identifier == theirs.masked_identifiers[0]
    assert decision.listings[0].reason == f"欧***（{number[0]}{'*' * 16}{number[-1]}）拖欠"


def test_article_40_records_keep_what_was_asked_for_without_the_person(office: Office) -> None:
    subject = next(_persons)
    number = subject.partition(":")[2]
    hidden = f"{number[0]}{'*' * 16}{number[-1]}"
    asked = office.client.check(
        subject, matter="tendering.bidder", purpose=f"核验欧阳示例{number}", case_no=number, name="欧阳示例"
    )
    told: dict[str, Any] = {
        "view_digest": 1,
        "epoch": 1,
        "generation": 1,
        "revision": 1,
        "set_age": 0,
        "matter": "tendering.bidder",
    }
    older_sdk = UploadedPass(sequence=1, at=NOW, purpose=f"核验 {number}", case_no=number, **told)
    office.run(office.control.inquiries.upload(INQUIRER, "f" * 32, "", [older_sdk]))
    office.run(office.control.explanations.explain(asked.decision_id, f"答复 {number}", AGENCY))
    kept = records(office.gateway)
    record, uploaded = kept[asked.decision_id], kept[f"{'f' * 12}-1"]
    assert (record["purpose"], record["case_no"]) == (f"核验欧***{hidden}", hidden)
    assert (uploaded["purpose"], uploaded["case_no"]) == (f"核验 {hidden}", hidden)
    assert number not in json.dumps(list(kept.values()))


def test_article_40_an_inquirer_reads_no_list(office: Office) -> None:
    listing = office.listing(KEPT)
    with pytest.raises(Refused, match="role"):
        office.run(office.control.listings.find(uscc(1), WHY, INQUIRER))
    with pytest.raises(Refused, match="role"):
        office.run(office.control.listings.get(listing, WHY, INQUIRER))
    assert {each.name for each in pb.DESCRIPTOR.services_by_name["ScreeningService"].methods} == {
        "Check",
        "BatchCheck",
        "Discover",
    }, "no method lists or exports"


RETAINED = enter(list_type="COURT", retention_until=day(9))
PUBLISHED = enter(list_type="TAX", publicity_until=day(0))


def midnight(offset: int) -> datetime.datetime:
    return datetime.datetime.combine(TODAY + datetime.timedelta(days=offset), datetime.time(), SHANGHAI)


def test_article_41_at_the_end_of_retention_nothing_is_found_without_a_job(office: Office) -> None:
    listing = office.listing(RETAINED)
    clock = office.gateway.clock
    clock.at = midnight(10) - datetime.timedelta(seconds=1)
    assert office.outcome(RETAINED, "procurement.supplier") == "INTERCEPT"
    clock.at = midnight(10)
    assert office.outcome(RETAINED, "procurement.supplier") == "PASS"
    assert office.views(RETAINED) == []
    with pytest.raises(Refused) as refused:
        office.run(office.control.listings.get(listing, WHY, AUTHORITY))
    assert refused.value.reason == "NOT_FOUND"


def test_article_41_at_the_end_of_publicity_a_list_that_ends_with_it_has_ended(office: Office) -> None:
    assert office.outcome(PUBLISHED, "procurement.supplier") == "INTERCEPT"
    office.gateway.clock.at = midnight(1)
    assert office.outcome(PUBLISHED, "procurement.supplier") == "PASS"


def test_article_43_who_is_not_known_is_answered_nothing(office: Office) -> None:
    told = json.loads(office.gateway.file.read_text())
    for subject in (next(_companies), next(_persons)):
        with (
            lanjie.Client(told["screening"], token="guessed", local=False) as stranger,
            pytest.raises(lanjie.LanjieError),
        ):
            stranger.check(subject, matter="tendering.bidder", purpose=WHY)


MUNICIPAL = enter()


def test_article_45_only_a_published_list_in_force_acts_and_a_municipal_one_is_filed(office: Office) -> None:
    for missing in ("number", "date", "approver"):
        changed = document("national")
        del changed["catalogue"]["publication"][missing]
        assert "publication-missing" in rules_of(changed)
    unfiled = document("municipal")
    del unfiled["catalogue"]["filing"]
    assert "filing-missing" in rules_of(unfiled)
    matter, subject = "preference.commitment", MUNICIPAL
    assert office.outcome(subject, matter, handling_region="320102") == "RESTRICT"
    assert office.outcome(subject, matter, handling_region="320500") == "PASS", "another city"
    before = datetime.datetime(2026, 1, 9, 12, tzinfo=SHANGHAI)
    assert office.outcome(subject, "tendering.bidder", as_of=before) == "UNDETERMINED", "nothing is in force yet"


@pytest.mark.parametrize(("item", "effect", "rule"), [(0, "advise", "art46-item"), (2, "deny", "effect-too-strong")])
def test_article_46_a_local_entry_is_one_of_nine_items_and_no_stronger(item: int, effect: str, rule: str) -> None:
    changed = document("provincial")
    changed["measures"][0] |= {"art46_item": item, "effect": effect}
    assert rule in rules_of(changed)


COMPANY, HUMAN, OTHER = enter(list_type="DUTY"), enter(next(_persons), "DUTY"), enter(next(_persons))


def test_article_47_1_list_type_subject_kind_and_matter_all_have_to_be_named(office: Office) -> None:
    assert office.outcome(HUMAN, "school.enrol") == "INTERCEPT"
    assert office.outcome(COMPANY, "school.enrol") == "PASS", "the entry names natural persons"
    assert office.outcome(HUMAN, "tendering.bidder") == "PASS", "another matter"
    assert office.outcome(OTHER, "school.enrol") == "PASS", "another list"
    assert office.outcome(OTHER, "tendering.bidder") == "RESTRICT", "and no stronger than the entry"
    for subject in (HUMAN, next(_persons)):
        with pytest.raises(lanjie.UnknownMatter):
            office.outcome(subject, "no.such.matter")


BRANCH = enter()


def test_article_47_2_nobody_but_the_listed_and_nothing_but_the_published(office: Office) -> None:
    for third in ("spouse", "child", "affiliate", "branch"):
        changed = document("national")
        changed["measures"][0]["objects"] = [third]
        assert "third-party-target" in rules_of(changed)
    assert office.outcome(BRANCH) == "RESTRICT"
    assert office.outcome(next(_companies)) == "PASS", "its head office is another subject"
    asked = {field.name for field in pb.CheckRequest.DESCRIPTOR.fields} | {
        field.name for field in pb.InquiryContext.DESCRIPTOR.fields
    }
    assert not asked & {"measure", "measures", "effect", "effects", "outcome"}, "a caller adds nothing"


def test_article_48_a_new_entry_works_at_once_and_what_is_not_current_does_not_answer(office: Office) -> None:
    subject = next(_companies)
    with office.gateway.client(filter="sorted") as counter:
        counter.wait_ready(timeout=10)
        assert counter.check(subject, matter="tendering.bidder", purpose=WHY).outcome.name == "PASS"
        receipt = office.take(row(subject, "WAGE"))
        answer = counter.check(subject, matter="tendering.bidder", purpose=WHY, at_least_revision=receipt.revision)
        assert answer.outcome.name == "RESTRICT"
        assert answer.revision >= receipt.revision
    with lanjie.Client("127.0.0.1:1", token="none", local=False, timeout=0.2) as cut_off:
        alone = cut_off.check(subject, matter="tendering.bidder", purpose=WHY)
    assert alone.outcome is lanjie.Outcome.UNDETERMINED
    with pytest.raises(TypeError):
        bool(alone)


def test_article_49_market_bodies_get_no_interception() -> None:
    changed = document("national")
    changed["measures"][0]["class"] = 3
    assert "class-3" in rules_of(changed)


OBJECTING = enter()


def test_article_60_objection_and_repair_are_on_record(office: Office) -> None:
    listing = office.listing(OBJECTING)
    office.event(listing, EventKind.OBJECTION_OPENED)
    office.event(listing, EventKind.OBJECTION_CLOSED, objection_outcome=ObjectionOutcome.UNFOUNDED, reply="经核查属实")
    office.event(listing, EventKind.REPAIR_APPLIED)
    office.event(listing, EventKind.REPAIRED)
    _, events = office.run(office.control.listings.get(listing, WHY, AUTHORITY))
    kinds = [each.kind for each in events]
    assert kinds == [
        EventKind.LISTED,
        EventKind.OBJECTION_OPENED,
        EventKind.OBJECTION_CLOSED,
        EventKind.REPAIR_APPLIED,
        EventKind.REPAIRED,
    ]
    assert all((each.actor, each.reason, each.document) for each in events[1:])


REMOVED = enter()


def test_article_61_69_nothing_ends_or_changes_without_actor_reason_and_document(office: Office) -> None:
    listing = office.listing(REMOVED)
    for reason, text in (("", "d"), ("r", ""), (" ", "d"), ("r", " ")):
        with pytest.raises(Refused) as refused:
            office.run(office.control.listings.remove(listing, reason, text, "", AUTHORITY))
        assert refused.value.reason == "ARGUMENT_INVALID"
    with pytest.raises(Refused) as refused:
        office.run(office.control.listings.remove(listing, "r", "d", "", INQUIRER))
    assert refused.value.reason == "NOT_PERMITTED"
    act(office.gateway, listing, EventKind.REMOVED)
    assert DutyRule.REMOVAL_REVIEW in office.duties(listing), "a second person looks at it"


def test_article_39_61_records_are_only_added(office: Office) -> None:
    decision = office.ask(next(_companies))
    kept = records(office.gateway)

    def change(ledger: Ledger) -> None:
        with ledger._engine.begin() as connection:
            mine = INQUIRY.c.decision_id == decision.decision_id
            fields = {**kept[decision.decision_id], "purpose": "另一目的"}
            text = json.dumps(fields, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
            connection.execute(INQUIRY.update().where(mine).values(record=text))

    office.run(office.control.ledger.call(change))
    found = office.run(office.control.explanations.explain(decision.decision_id, WHY, AGENCY))
    assert not found.reproduced, "a record that was changed is told by its digest"


def test_article_62_what_may_not_be_collected_refuses_the_file(office: Office) -> None:
    with pytest.raises(Refused) as refused:
        office.gateway.import_bytes("id_kind,id_number,list_type,宗教信仰\nuscc,x,WAGE,y\n".encode())
    assert refused.value.metadata["rule"] == "column-prohibited"
    for column in ("基因", "fingerprint_no", "血型", "病史", "Religion"):
        with pytest.raises(FileRefused) as found:
            read_header(["id_kind", "id_number", column], list_type_given=True)
        assert found.value.rule == "column-prohibited", column


def test_article_04_a_list_holds_dishonesty_and_no_market_credit(office: Office) -> None:
    with pytest.raises(Refused) as refused:
        office.gateway.import_bytes(b"id_kind,id_number,list_type,credit_limit\nuscc,x,WAGE,y\n")
    assert refused.value.metadata["rule"] == "column-prohibited"


WRONGED = enter()


def test_article_64_an_objection_is_a_mark_and_its_success_cleans_every_answer(office: Office) -> None:
    subject, listing = WRONGED, office.listing(WRONGED)
    assert not office.ask(subject).listings[0].objection
    office.event(listing, EventKind.OBJECTION_OPENED)
    marked = office.ask(subject)
    assert (marked.outcome.name, marked.listings[0].objection) == ("RESTRICT", True)
    assert DutyRule.OBJECTION_REPLY in office.duties(listing)
    with pytest.raises(Refused):
        office.event(listing, EventKind.OBJECTION_CLOSED, objection_outcome=ObjectionOutcome.DELETED)
    office.event(
        listing,
        EventKind.OBJECTION_CLOSED,
        objection_outcome=ObjectionOutcome.DELETED,
        reply="列入有误，已删除",
    )
    assert office.outcome(subject) == "PASS"
    assert office.outcome(subject, as_of=NOW - datetime.timedelta(days=30)) == "PASS", "it was never in force"


REVOKED = enter()


def test_article_65_a_late_notice_and_a_late_application_are_told_and_nothing_old_is_answered(office: Office) -> None:
    subject, listing = REVOKED, office.listing(REVOKED)
    before = office.ask(subject)
    office.event(listing, EventKind.NOTICED, notice=InstrumentNotice.ANNULLED, instrument_date=day(-30))
    assert not office.duties(listing)[DutyRule.REVOCATION_APPLY].overdue
    late = office.run(office.control.duties.find(AUTHORITY, late=True))
    assert any(each.listing_id == listing and each.rule is DutyRule.REVOCATION_NOTICE for each in late)
    office.gateway.clock.at = NOW + datetime.timedelta(days=20)
    assert office.duties(listing)[DutyRule.REVOCATION_APPLY].overdue
    office.gateway.clock.at = NOW
    office.event(listing, EventKind.ANNULLED)
    assert office.outcome(subject) == "PASS"
    assert office.outcome(subject, as_of=NOW) == "PASS"
    then = office.run(office.control.explanations.explain(before.decision_id, WHY, AGENCY))
    assert then.reproduced, "what was answered then can still be explained"


CITYWIDE = enter(authority="测试市人社局", region="320100")


def test_article_66_only_the_identifying_unit_repairs_and_then_no_measure_is_left(office: Office) -> None:
    subject, listing = CITYWIDE, office.listing(CITYWIDE)
    for unit, reason in (("测试市监管局", "NOT_PERMITTED"), ("测试市人社局", "")):
        who = authority("city", "320100", "WAGE", units=(unit,))
        try:
            office.event(listing, EventKind.REPAIRED, who)
            refused = ""
        except Refused as error:
            refused = error.reason
        assert refused == reason
    assert office.outcome(subject) == "PASS"
    assert office.ask(subject).listings == ()


ENDING = (enter(), enter())


def test_article_67_what_was_repaired_or_removed_is_in_no_set_that_is_handed_out(office: Office) -> None:
    listings = [office.listing(each) for each in ENDING]
    view = office.control.views.view
    held = [view.key.fingerprint(parse(each).key) for each in ENDING]
    assert all(each in view for each in held)
    for listing, kind in zip(listings, (EventKind.REPAIRED, EventKind.REMOVED), strict=True):
        act(office.gateway, listing, kind)
    view = office.control.views.view
    assert not any(each in view for each in held)


PROPOSED, LIMITED, FIRM = enter(next(_persons), "COURT"), enter(next(_persons)), enter(list_type="COURT")


def test_pipl_article_24_3_refusing_a_person_is_a_proposal_that_an_officer_confirms(office: Office) -> None:
    proposed = office.ask(PROPOSED, "procurement.supplier")
    assert (proposed.outcome.name, proposed.confirmation_required) == ("INTERCEPT", True)
    assert office.ask(LIMITED).confirmation_required
    assert not office.ask(FIRM, "procurement.supplier").confirmation_required
    found = office.run(office.control.explanations.explain(proposed.decision_id, WHY, AGENCY))
    assert found.reproduced
    assert found.steps, "and every step can be told"


def test_article_43_sets_hold_keyed_hashes_and_the_key_can_be_replaced(office: Office) -> None:
    key, control = parse(KEPT).key, office.control
    before = control.views.view
    assert run("rotate-view-key", gateway_file=office.gateway.file).code == 0
    after = control.views.view
    assert before.key.fingerprint(key) != after.key.fingerprint(key)
    assert after.key.fingerprint(key) in after
    assert office.outcome(KEPT) == "RESTRICT"
