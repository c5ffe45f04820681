"""Every effect asks its department what was done about it, and takes the answer once (Art. 45-47; PIPL 24)."""

import dataclasses
import datetime
import json
from collections.abc import Iterator
from typing import Any

import pytest

import lanjie
from lanjie.testing import FakeGateway
from lanjie_gateway.adapters.ledger import InquiryRow, Ledger
from lanjie_gateway.adapters.ledger.feedback import OvertakenError
from lanjie_gateway.domain.access import Role
from lanjie_gateway.domain.errors import Refused
from lanjie_gateway.domain.feedback import Alarm, Disposition, Report
from lanjie_gateway.domain.records import digest, leaf, row_fields
from lanjie_gateway.services.feedback import FeedbackService
from lanjie_matcher.civil_time import day_of
from tests.integration.test_answers import DATA, NOW, PURPOSE, row
from tests.support.gateway import RunningGateway, person, running
from tests.support.serve import run
from tests.support.subjects import citizen, uscc

LISTED, PERSON, BOTH, FREE = uscc(1), citizen(1), uscc(2), uscc(3)
AGENCY, CLERK = person("agency", Role.AGENCY), person("inquirer", Role.INQUIRER)
ELSEWHERE = dataclasses.replace(CLERK, department="elsewhere")


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.long)])
def gateway(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[RunningGateway]:
    postgresql = request.param == "postgresql"
    settings = {"ledger_url": request.getfixturevalue("postgres").database()} if postgresql else {}
    with running(tmp_path_factory.mktemp("feedback"), NOW, **settings) as made:
        made.publish(DATA / "national.yaml")
        rows = [row(LISTED, "COURT"), row(PERSON, "COURT", name="张示例"), row(BOTH, "COURT", decision_no="A")]
        made.import_rows([*rows, row(BOTH, "TAX", decision_no="B", publicity_until="2027-01-01")])
        yield made


@pytest.fixture(scope="module")
def client(gateway: RunningGateway) -> Iterator[lanjie.Client]:
    with gateway.client(local=False) as client:
        yield client


def ask(client: lanjie.Client, subject: str, matter: str = "procurement.supplier") -> lanjie.Decision:
    return client.check(subject, matter=matter, purpose=PURPOSE)


def feedback(gateway: RunningGateway) -> FeedbackService:
    return gateway.inner.control.feedback


def outstanding(gateway: RunningGateway, who=AGENCY, **asked) -> set[str]:
    found, _ = gateway.run(feedback(gateway).outstanding(who, limit=1_000, **asked))
    return {each.asked.decision_id for each in found}


def test_an_effect_asks_for_feedback_until_it_is_told(gateway: RunningGateway, client: lanjie.Client) -> None:
    decision = ask(client, LISTED)
    assert decision.outcome.name == "INTERCEPT"
    gateway.run(gateway.inner.control.inquiries.load())
    assert decision.decision_id in outstanding(gateway)
    assert decision.decision_id in outstanding(gateway, CLERK)
    assert decision.decision_id not in outstanding(gateway, ELSEWHERE)
    (told,) = client.report(decision.decision_id, applied=["N-1"], officer="0042", case_refused=True)
    assert (told.disposition, told.applied, told.alarms) == (lanjie.Disposition.APPLIED, ("N-1",), ())
    assert told.listing_id == decision.listings[0].listing_id
    assert decision.decision_id not in outstanding(gateway)
    (again,) = client.report(decision.decision_id, applied=["N-1"], officer="0042", case_refused=True)
    assert again == dataclasses.replace(told, repeated=True)
    records = gateway.run(gateway.inner.control.ledger.call(Ledger.inquiries))
    (kept,) = [each for each in map(json.loads, (one.record for one in records)) if each.get("about")]
    assert (kept["about"], kept["officer"], kept["told"]) == (
        decision.decision_id,
        "0042",
        [[told.listing_id, "applied", "N-1"]],
    )
    assert "why" not in kept


def test_what_differs_is_a_correction_or_refused(client: lanjie.Client) -> None:
    decision = ask(client, LISTED)
    client.report(decision.decision_id, reason="objection", officer="1")
    with pytest.raises(lanjie.InvalidArgument) as error:
        client.report(decision.decision_id, applied=["N-1"], officer="1")
    assert error.value.metadata["rule"] == "told-otherwise"
    (told,) = client.report(decision.decision_id, applied=["N-1"], officer="1", corrects=True)
    assert (told.disposition, told.repeated) == (lanjie.Disposition.APPLIED, False)


def test_each_listing_of_an_answer_is_told_of_by_itself(gateway: RunningGateway, client: lanjie.Client) -> None:
    decision = ask(client, BOTH)
    one, two = (each.listing_id for each in decision.listings)
    client.report(decision.decision_id, applied=["N-1"], listings=[one], officer="1")
    assert decision.decision_id in outstanding(gateway)
    client.report(decision.decision_id, listings=[two], reason="other", text="已撤回申请", officer="1")
    assert decision.decision_id not in outstanding(gateway)


def test_a_measure_outside_of_the_answer_is_refused_and_alarmed(gateway: RunningGateway, client: lanjie.Client) -> None:
    decision, before = ask(client, LISTED), feedback(gateway).alarms[Alarm.OUTSIDE_OF_ANSWER]
    for report in ({"applied": ["N-2"]}, {"listings": ["0" * 16], "reason": "repaired"}):
        with pytest.raises(lanjie.InvalidArgument) as error:
            client.report(decision.decision_id, officer="1", **report)
        assert error.value.metadata["rule"] == "outside-of-answer"
    assert feedback(gateway).alarms[Alarm.OUTSIDE_OF_ANSWER] == before + 2


def test_a_pass_has_nothing_to_report_and_no_one_reports_for_another(
    gateway: RunningGateway, client: lanjie.Client
) -> None:
    passed, decision = ask(client, FREE), ask(client, LISTED)
    with pytest.raises(lanjie.InvalidArgument, match="no effect"):
        client.report(passed.decision_id, reason="repaired", officer="1")
    with pytest.raises(lanjie.NotFound) as unknown:
        client.report("nothing-1", reason="repaired", officer="1")
    with pytest.raises(Refused) as foreign:
        gateway.run(feedback(gateway).report(ELSEWHERE, decision.decision_id, Report(officer="1", reason="repaired")))
    assert (foreign.value.reason, str(foreign.value)) == ("NOT_FOUND", str(unknown.value))
    with pytest.raises(Refused):
        gateway.run(feedback(gateway).report(AGENCY, decision.decision_id, Report(officer="1", reason="repaired")))
    with pytest.raises(Refused):
        gateway.run(feedback(gateway).outstanding(ELSEWHERE, "local"))


def test_an_officer_confirms_before_a_measure_against_a_person(gateway: RunningGateway, client: lanjie.Client) -> None:
    decision = ask(client, PERSON)
    assert decision.confirmation_required
    with pytest.raises(lanjie.InvalidArgument) as error:
        client.report(decision.decision_id, applied=["N-1"], officer="1")
    assert error.value.metadata["rule"] == "confirmation"
    with pytest.raises(lanjie.InvalidArgument, match="zone"):
        client.report(decision.decision_id, officer="1", confirmed_by="2", confirmed_at=NOW.replace(tzinfo=None))
    client.report(decision.decision_id, applied=["N-1"], officer="1", confirmed_by="2", confirmed_at=gateway.clock())


def test_an_undetermined_answer_takes_what_an_officer_made_of_it(
    gateway: RunningGateway, client: lanjie.Client
) -> None:
    decision = client.check(PERSON, matter="procurement.supplier", purpose=PURPOSE, name="李示例")
    assert decision.outcome.name == "UNDETERMINED"
    told = client.report(decision.decision_id, officer="1", case_refused=True)
    assert told == (
        lanjie.Feedback(
            listing_id="",
            disposition=lanjie.Disposition.NOT_APPLIED,
            applied=(),
            alarms=("refused-without-interception",),
            repeated=False,
        ),
    )
    assert client.report(decision.decision_id, officer="1", case_refused=True)[0].repeated
    troubles = run("status", "--json", gateway_file=gateway.file).json["lists"]["troubles"]
    assert any("a case was refused where the answer did not intercept" in each for each in troubles)


def test_what_is_missing_is_counted_by_age(tmp_path) -> None:
    with running(tmp_path, NOW) as gateway, gateway.client(local=False) as client:
        gateway.publish(DATA / "national.yaml")
        gateway.import_rows([row(LISTED, "COURT")])
        ages = {}
        for days in (0, 3, 20):
            ages[days] = ask(client, LISTED).decision_id
            gateway.clock.at += datetime.timedelta(days=days)
        gateway.run(gateway.inner.control.inquiries.load())
        _, counts = gateway.run(feedback(gateway).outstanding(AGENCY))
        assert {name: (each.of_a_day, each.older, each.overdue) for name, each in counts.items()} == {
            "local": (0, 0, 3)
        }
        gateway.clock.at -= datetime.timedelta(days=20)
        _, counts = gateway.run(feedback(gateway).outstanding(AGENCY))
        assert {name: (each.of_a_day, each.older, each.overdue) for name, each in counts.items()} == {
            "local": (1, 2, 0)
        }
        found, _ = gateway.run(feedback(gateway).outstanding(AGENCY))
        assert [each.asked.decision_id for each in found] == [ages[0], ages[3], ages[20]]
        assert not any(each.overdue for each in found)


def test_nothing_is_overdue_before_its_last_day_however_long_the_term(tmp_path) -> None:
    terms = tmp_path / "deadlines.toml"
    terms.write_text('[feedback]\nworking_days = 366\nsource = "测试规定"\n')
    with running(tmp_path / "state", NOW, deadlines=terms) as gateway:
        before = feedback(gateway).overdue_before()
        last = gateway.inner.control.calendar.due("feedback", day_of(before - datetime.timedelta(days=1))).day
        first = gateway.inner.control.calendar.due("feedback", day_of(before)).day
        assert last < day_of(NOW) <= first


def test_an_answer_that_never_left_asks_for_nothing(gateway: RunningGateway) -> None:
    ledger = gateway.inner.control.ledger
    common: dict[str, Any] = {
        "at": NOW.isoformat(),
        "department": "local",
        "matter": "m",
        "outcome": "INTERCEPT",
        "subject": "00",
    }
    common |= {"measures": ["N-1"], "bearers": [["0" * 16]], "listings": ["0" * 16]}
    rows = []
    for fields in ({"id": "seg-1"}, {"id": "seg-2", "replaces": "seg-1"}):
        record = leaf({**common, **fields})
        rows.append(InquiryRow(**row_fields(record), record=record, digest=digest(record)))
    gateway.run(ledger.call(Ledger.add_inquiries, "seg", 2, rows))
    assert {"seg-1", "seg-2"} & outstanding(gateway) == {"seg-2"}


def test_of_two_that_report_at_once_the_second_reads_again(
    gateway: RunningGateway, client: lanjie.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    decision, service = ask(client, LISTED), feedback(gateway)
    report = Report(officer="1", reason="repaired")
    ledger = gateway.inner.control.ledger
    real, calls = ledger.call, list[Any]()

    async def overtaken(act: Any, *arguments: Any) -> Any:
        if act is Ledger.take_feedback and not calls:
            calls.append(act)
            await real(act, *arguments)
            raise OvertakenError
        return await real(act, *arguments)

    monkeypatch.setattr(ledger, "call", overtaken)
    settled, record = gateway.run(service.report(CLERK, decision.decision_id, report))
    assert (settled[0].repeated, settled[0].disposition, record) == (True, Disposition.NOT_APPLIED, "")


def test_the_commands_report_and_list(gateway: RunningGateway, client: lanjie.Client) -> None:
    decision = ask(client, LISTED)
    gateway.run(gateway.inner.control.inquiries.load())
    listed = run("feedback", gateway_file=gateway.file)
    assert listed.code == 0, listed.err
    assert "local" in listed.out
    found = run("feedback", "--json", gateway_file=gateway.file).json
    assert decision.decision_id in {each["decision_id"] for each in found["outstanding"]}
    told = run("report", decision.decision_id, "--officer", "7", "--reason", "repaired", gateway_file=gateway.file)
    assert (told.code, told.out.split()[1:]) == (0, ["not", "applied"])
    refused = run("report", decision.decision_id, "--officer", "7", "--applied", "N-9", gateway_file=gateway.file)
    assert (refused.code, "outside-of-answer" in refused.err) == (2, True)


async def test_the_asynchronous_client_reports(gateway: RunningGateway, client: lanjie.Client) -> None:
    decision = ask(client, LISTED)
    async with lanjie.AsyncClient.from_file(gateway.file, state_dir=gateway.state / "aio", local=False) as aio:
        (told,) = await aio.report(decision.decision_id, applied=["N-1"], officer="1")
    assert told.applied == ("N-1",)


# The double that integrators test with: what it takes, a gateway takes, and what a gateway refuses, it refuses.

MATTERS = ["procurement.supplier", "school.enrol", "case.wanted"]


@pytest.fixture(scope="module")
def double() -> Iterator[lanjie.Client]:
    made = FakeGateway(
        MATTERS,
        case_no_required=["case.wanted"],
        as_of_allowed=["procurement.supplier"],
        person_files=["procurement.supplier"],
    )
    for subject in (LISTED, PERSON):
        made.list_subject(subject, matter="procurement.supplier", measure="N-1")
    with made.client(local=False) as client:
        yield client


def heard(call: Any, *given: str, **asked: Any) -> tuple[str, ...]:
    """What a call comes to, in words that a gateway and its double share."""
    try:
        found = call(*given, **asked)
    except lanjie.LanjieError as error:
        return type(error).__name__, error.reason, error.metadata.get("field", ""), error.metadata.get("rule", "")
    if isinstance(found, lanjie.Decision):
        return found.outcome.name, str(found.reason), str(found.confirmation_required)
    if isinstance(found, lanjie.Watch):
        return found.masked_subject, str(found.since), str(found.until)
    (told,) = found
    return told.disposition.name, *told.applied, *told.alarms, str(told.repeated), str(bool(told.listing_id))


REPORTS: list[tuple[str, list[dict[str, Any]]]] = [
    (LISTED, [{"applied": ["N-1"]}, {"applied": ["N-1"]}, {"reason": "objection"}]),
    (LISTED, [{"reason": "objection"}, {"applied": ["N-1"], "corrects": True}, {"applied": ["N-1"]}]),
    (LISTED, [{}]),
    (LISTED, [{"officer": " ", "applied": ["N-1"]}]),
    (LISTED, [{"reason": "no such"}]),
    (LISTED, [{"reason": "other"}]),
    (LISTED, [{"reason": "other", "text": "已撤回申请"}]),
    (LISTED, [{"applied": ["N-2"]}]),
    (LISTED, [{"listings": ["0" * 16], "reason": "repaired"}]),
    (LISTED, [{"applied": ["N-1"], "confirmed_by": "2"}]),
    (PERSON, [{"applied": ["N-1"]}]),
    (PERSON, [{"reason": "discretion"}]),
    (FREE, [{"reason": "repaired"}]),
]


@pytest.mark.parametrize(("subject", "reports"), REPORTS)
def test_the_double_takes_the_reports_that_a_gateway_takes(
    client: lanjie.Client, double: lanjie.Client, subject: str, reports: list[dict[str, Any]]
) -> None:
    told = []
    for each in (client, double):
        decision = ask(each, subject)
        told.append([heard(each.report, decision.decision_id, **{"officer": "1", **one}) for one in reports])
    assert told[1] == told[0]


@pytest.mark.parametrize(
    ("subject", "asked"),
    [
        (LISTED, {}),
        (PERSON, {}),
        (LISTED, {"mode": lanjie.InquiryMode.SELF}),
        (LISTED, {"as_of": NOW - datetime.timedelta(days=1), "matter": "school.enrol"}),
        (FREE, {"as_of": NOW - datetime.timedelta(days=1)}),
        (FREE, {"as_of": NOW + datetime.timedelta(days=1)}),
        (FREE, {"matter": "case.wanted"}),
        (FREE, {"matter": "case.wanted", "case_no": " "}),
        (FREE, {"matter": "no.such"}),
    ],
)
def test_the_double_takes_the_questions_that_a_gateway_takes(
    client: lanjie.Client, double: lanjie.Client, subject: str, asked: dict[str, Any]
) -> None:
    given = {"matter": "procurement.supplier", "purpose": PURPOSE, **asked}
    alone, beside = (heard(each.check, subject, **given) for each in (client, double))
    assert beside == alone


@pytest.mark.parametrize("matter", ["procurement.supplier", "school.enrol"])
def test_the_double_takes_the_persons_in_a_file_that_a_gateway_takes(
    client: lanjie.Client, double: lanjie.Client, matter: str
) -> None:
    alone, beside = (
        [
            (decision.outcome, decision.reason)
            for decision in each.check_many([PERSON, FREE], matter=matter, purpose="x")
        ]
        for each in (client, double)
    )
    assert beside == alone


@pytest.mark.parametrize(
    ("subject", "asked"),
    [
        (FREE, {}),
        (PERSON, {}),
        ("uscc:1", {}),
        (FREE, {"matter": "no.such"}),
        (FREE, {"purpose": " "}),
        (FREE, {"purpose": "x" * 201}),
        (FREE, {"case_no": "x" * 65}),
        (FREE, {"since": datetime.date(2031, 1, 2), "until": datetime.date(2031, 1, 1)}),
        (FREE, {"since": datetime.date(2020, 1, 1), "until": datetime.date(2020, 1, 2)}),
        (FREE, {"since": datetime.date(2028, 2, 29), "until": datetime.date(2031, 2, 28)}),
        (FREE, {"since": datetime.date(2028, 2, 29), "until": datetime.date(2031, 3, 1)}),
        (FREE, {"since": datetime.date(2030, 1, 1), "until": datetime.date(2033, 1, 1)}),
        (FREE, {"since": datetime.date(2030, 1, 1), "until": datetime.date(2033, 1, 2)}),
    ],
)
def test_the_double_takes_the_watches_that_a_gateway_takes(
    client: lanjie.Client, double: lanjie.Client, subject: str, asked: dict[str, Any]
) -> None:
    given = {"matter": "procurement.supplier", "purpose": PURPOSE, "until": NOW.date(), **asked}
    alone, beside = (heard(each.watch, subject, **given) for each in (client, double))
    assert beside == alone


@pytest.mark.parametrize(("case_no", "matter"), [("", MATTERS[0]), ("x" * 65, MATTERS[0]), ("1", "no.such")])
def test_the_double_closes_the_cases_that_a_gateway_closes(
    client: lanjie.Client, double: lanjie.Client, case_no: str, matter: str
) -> None:
    alone, beside = (heard(each.close_case, case_no, matter=matter) for each in (client, double))
    assert beside == alone
