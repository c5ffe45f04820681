"""Past answers are explained by what was known then, whatever has happened since (Art. 39, 65; PIPL 24)."""

import contextlib
import datetime
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import lanjie
from lanjie_gateway.adapters.ledger import Ledger
from lanjie_gateway.adapters.ledger.tables import INQUIRY
from lanjie_gateway.cli.explain import explain as command
from lanjie_gateway.cli.gateway_file import Target
from lanjie_gateway.domain.access import Role
from lanjie_gateway.domain.errors import Refused
from lanjie_gateway.domain.events import EventKind
from lanjie_gateway.domain.explanation import Explanation
from lanjie_gateway.domain.import_rules import ImportState
from lanjie_gateway.domain.records import digest, leaf
from lanjie_gateway.services.inquiries import UploadedPass
from lanjie_gateway.services.screening import Inquiry, Party, ScreeningService
from lanjie_matcher.civil_time import start_of
from lanjie_matcher.fingerprints import IndexKey, ViewKey
from lanjie_matcher.identifiers import parse
from tests.integration.test_answers import DATA, NOW, PURPOSE, TODAY, day, row
from tests.support.answers import act
from tests.support.gateway import RunningGateway, person, running
from tests.support.subjects import citizen, org_code, uscc

AGENCY = person("agency", Role.AGENCY)
WHY = "a question of the party"
NEXT_EDITION = "2026-b"


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.long)])
def gateway(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[RunningGateway]:
    postgresql = request.param == "postgresql"
    settings = {"ledger_url": request.getfixturevalue("postgres").database()} if postgresql else {}
    with running(tmp_path_factory.mktemp("explain"), NOW, **settings) as gateway:
        gateway.publish(*(DATA / f"{name}.yaml" for name in ("national", "provincial", "municipal")))
        yield gateway


@pytest.fixture(scope="module")
def client(gateway: RunningGateway) -> Iterator[lanjie.Client]:
    with gateway.client(local=False) as client:
        yield client


def explain(gateway: RunningGateway, decision_id: str, who: Any = AGENCY) -> Explanation:
    return gateway.run(gateway.inner.control.explanations.explain(decision_id, WHY, who))


def listing_of(gateway: RunningGateway, subject: str) -> str:
    return str(gateway.run(gateway.inner.control.listings.find(subject, PURPOSE, AGENCY))[0].listing.id)


def take(gateway: RunningGateway, *rows: dict[str, str]) -> int:
    """Import rows, by two persons where they change much; return the revision."""
    receipt = gateway.import_rows(list(rows))
    if receipt.state is ImportState.WAITING:
        reviewer = person("reviewer", Role.AUTHORITY)
        receipt = gateway.run(gateway.inner.control.imports.confirm(receipt.receipt_id, reviewer))
    return receipt.revision


def supersede(gateway: RunningGateway, tmp_path: Path) -> None:
    """Publish a next national edition in which no measure refuses a purchase any more."""
    text = (DATA / "national.yaml").read_text(encoding="utf-8")
    text = text.replace('edition: "2026"', f'edition: "{NEXT_EDITION}"').replace("2026-01-10", day(0))
    text = text.replace(
        "effect: deny, trigger: listing, class: 1, department: 采购人",
        "effect: advise, trigger: listing, class: 1, department: 采购人",
    )
    file = tmp_path / "next.yaml"
    file.write_text(text, encoding="utf-8")
    gateway.publish(file)


def verdicts(found: Explanation, number: int) -> list[str]:
    return [finding.verdict for finding, _ in found.steps[number].findings]


def tampered(gateway: RunningGateway, decision_id: str, **values: Any) -> None:
    def act(ledger: Ledger) -> None:
        with ledger._engine.begin() as connection:
            mine = INQUIRY.c.decision_id == decision_id
            assert connection.execute(INQUIRY.update().where(mine).values(**values)).rowcount == 1

    gateway.run(gateway.inner.control.ledger.call(act))


def fields_of(gateway: RunningGateway, decision_id: str) -> dict[str, Any]:
    (kept,) = gateway.run(gateway.inner.control.ledger.call(Ledger.inquiries_of, decision_id))
    fields: dict[str, Any] = json.loads(kept.record)
    return fields


def test_the_first_answer_is_explained_after_correction_new_edition_and_removal(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    subject, person_ = uscc(1), citizen(1)
    with running(tmp_path_factory.mktemp("life"), NOW) as gateway, gateway.client(local=False) as client:
        gateway.publish(DATA / "national.yaml", DATA / "provincial.yaml")
        take(gateway, row(subject, "COURT", source_record_id="r1"), row(person_, "WAGE", name="张示例"))
        listing = listing_of(gateway, subject)
        first = client.check(subject, matter="procurement.supplier", purpose=PURPOSE)
        doubted = client.check(person_, matter="tendering.bidder", purpose=PURPOSE, name="李示例")
        assert first.outcome.name == "INTERCEPT"
        take(gateway, row(subject, "COURT", source_record_id="r1", authority="另一测试机关"))
        supersede(gateway, tmp_path)
        second = client.check(subject, matter="procurement.supplier", purpose=PURPOSE)
        assert second.outcome.name == "ADVISE"
        gateway.clock.at += datetime.timedelta(minutes=1)
        act(gateway, listing, EventKind.REMOVED)
        third = client.check(subject, matter="procurement.supplier", purpose=PURPOSE)
        past = client.check(subject, matter="procurement.supplier", purpose=PURPOSE, as_of=NOW)
        assert (third.outcome.name, past.outcome.name) == ("PASS", "ADVISE")

        found = explain(gateway, first.decision_id)
        assert found.reproduced, (found.differences, found.obstacles)
        assert found.replayed == found.recorded
        assert (found.recorded.outcome, found.recorded.measures) == ("INTERCEPT", ("N-1",))
        assert (found.recorded.listings, found.recorded.catalogues) == ((listing,), ("test-national@2026",))
        assert [step.number for step in found.steps] == list(range(9))
        assert verdicts(found, 1) == ["in_force"]
        assert verdicts(found, 2) == ["applies"]
        assert verdicts(found, 5) == ["strongest"]
        assert [each.authority for each in found.listings] == ["测试机关"]

        found = explain(gateway, second.decision_id)
        assert found.reproduced
        assert found.recorded.catalogues == (f"test-national@{NEXT_EDITION}",)
        assert [each.authority for each in found.listings] == ["另一测试机关"]
        found = explain(gateway, third.decision_id)
        assert found.reproduced
        assert (verdicts(found, 1), verdicts(found, 6)) == (["removed"], ["pass"])
        assert explain(gateway, past.decision_id).reproduced
        found = explain(gateway, doubted.decision_id)
        assert found.reproduced
        assert (found.recorded.reason, verdicts(found, 7)) == ("NAME_MISMATCH", ["name_mismatch"])


def test_the_command_tells_every_step_and_no_identifier(
    gateway: RunningGateway, client: lanjie.Client, capsys: pytest.CaptureFixture[str]
) -> None:
    subject = citizen(50)
    take(gateway, row(subject, "WAGE", name="张示例"))
    asked: dict[str, Any] = {"matter": "tendering.bidder", "purpose": PURPOSE, "name": "李示例"}
    decision = client.check(subject, **asked)
    assert decision.reason is lanjie.UndeterminedReason.NAME_MISMATCH
    command(decision.decision_id, purpose=WHY, target=Target(gateway_file=gateway.file), as_json=True)
    shown = capsys.readouterr().out
    values = json.loads(shown)
    assert values["reproduced"]
    assert values["steps"][2]["findings"][0]["verdict"] == "applies"
    tampered(gateway, decision.decision_id, outcome="PASS")
    with pytest.raises(typer.Exit) as ended:
        command(decision.decision_id, purpose=WHY, target=Target(gateway_file=gateway.file))
    assert ended.value.exit_code == 1
    shown += (account := capsys.readouterr().out)
    assert "not reproduced" in account
    assert "(2) measures that name the case" in account
    for hidden in (subject[8:], "张示例", "李示例", PURPOSE):
        assert hidden not in shown


@pytest.mark.parametrize(("seed", "rounds"), [(7, 5), pytest.param(8, 80, marks=pytest.mark.long)])
def test_whatever_happens_every_answer_is_reproduced(
    gateway: RunningGateway, client: lanjie.Client, seed: int, rounds: int
) -> None:
    chance = random.Random(seed)
    lists = ["COURT", "WAGE", "TAX", "PROC"]
    subjects = [uscc(40), uscc(41), org_code(uscc(41)), uscc(42, "31320000"), citizen(41)]
    matters = ["procurement.supplier", "tendering.bidder", "license.food", "funds.fiscal", "preference.commitment"]
    facts: list[dict[str, str]] = [
        {},
        {"expires_on": day(0)},
        {"publicity_until": day(-1)},
        {"sanction_kind": "procurement_ban", "sanction_from": day(-1)},
        {"name": "示例甲"},
        {"region": "320500"},
    ]
    kinds = [each for each in EventKind if each.name.startswith(("OBJECTION", "STAY", "RE"))] + [EventKind.ANNULLED]
    answers: list[tuple[str, str]] = []
    outcomes = set()
    for _ in range(rounds):
        gateway.clock.at += datetime.timedelta(minutes=5)
        number = chance.randint(1, 6)
        changes = {**chance.choice(facts), "source_record_id": f"x{number}", "reason": f"版本{len(answers)}"}
        subject = chance.choice(subjects)
        organisation = {"subject_kind": "organisation"} if subject.startswith("org_code") else {}
        take(gateway, row(subject, lists[number % 4], **changes, **organisation))
        for listed in gateway.run(gateway.inner.control.listings.find(chance.choice(subjects), PURPOSE, AGENCY))[:1]:
            with contextlib.suppress(Refused):
                act(gateway, listed.listing.id, chance.choice(kinds))
        for subject in subjects:
            ask: dict[str, Any] = {"name": chance.choice(["示例甲", "示例乙"])} if chance.random() < 0.5 else {}
            if chance.random() < 0.3:
                ask["handling_region"] = chance.choice(["320500", "320102"])
            decision = client.check(subject, matter=chance.choice(matters), purpose=PURPOSE, **ask)
            answers.append((decision.decision_id, decision.outcome.name))
            outcomes.add((decision.outcome.name, decision.reason.name if decision.reason else ""))
    assert len(outcomes) > 2
    for decision_id, outcome in answers:
        found = explain(gateway, decision_id)
        assert found.reproduced, (found.differences, found.obstacles)
        assert found.recorded.outcome == outcome


@pytest.fixture
def intercepted(gateway: RunningGateway, client: lanjie.Client) -> str:
    subject = uscc(60)
    if not gateway.run(gateway.inner.control.listings.find(subject, PURPOSE, AGENCY)):
        take(gateway, row(subject, "COURT"))
    decision = client.check(subject, matter="procurement.supplier", purpose=PURPOSE)
    assert decision.outcome.name == "INTERCEPT"
    assert explain(gateway, decision.decision_id).reproduced
    return decision.decision_id


@pytest.mark.parametrize("field", ["outcome", "measures", "listings", "catalogues", "as_of", "revision", "bucket"])
def test_a_changed_record_is_not_reproduced(gateway: RunningGateway, intercepted: str, field: str) -> None:
    fields = fields_of(gateway, intercepted)
    changed = {
        "outcome": "PASS",
        "measures": ["N-2"],
        "listings": ["0000000000000001"],
        "catalogues": ["test-national@2025"],
        "as_of": "2020-01-01T00:00:00.000000+00:00",
        "revision": 1,
        "bucket": "00" * 16,
    }[field]
    record_ = leaf({**fields, field: changed})
    tampered(gateway, intercepted, record=record_, digest=digest(record_))
    found = explain(gateway, intercepted)
    assert not found.reproduced
    assert found.differences
    tampered(gateway, intercepted, record=leaf(fields))
    assert any("digest" in each for each in explain(gateway, intercepted).differences)
    tampered(gateway, intercepted, record=b"nonsense")
    assert not explain(gateway, intercepted).reproduced


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("lineage", "ab" * 16, "another ledger"),
        ("epoch", 7, "epoch 7"),
        ("revision", 10**9, "it was restored"),
        ("v", 1, "older version"),
        ("id_kind", "", "does not hold"),
    ],
)
def test_what_cannot_be_replayed_is_said(
    gateway: RunningGateway, intercepted: str, field: str, value: Any, told: str
) -> None:
    fields = {**fields_of(gateway, intercepted), field: value}
    if field == "v":
        for newer in ("bucket", "id_kind", "kind_hint", "implementers", "other_names"):
            fields.pop(newer, None)
    record_ = leaf(fields)
    tampered(gateway, intercepted, record=record_, digest=digest(record_))
    found = explain(gateway, intercepted)
    assert not found.reproduced
    assert any(told in each for each in found.obstacles), found.obstacles


def test_a_text_that_was_no_identifier_has_nothing_to_replay(gateway: RunningGateway) -> None:
    worker = gateway.inner.worker
    screening = ScreeningService(
        index=worker.index,
        key=IndexKey(gateway.inner.control.ledger.keys.index),
        records=worker.records,
        clock=gateway.clock,
        current=lambda: True,
        ledger=lambda: (worker.feed.lineage, worker.feed.epoch),
        grants=worker.grants.resolve,
    )
    asked = Inquiry(matter="procurement.supplier", purpose=PURPOSE)
    parties = [Party(identifier="uscc:nonsense")]
    batch = screening.check_batch(
        *(person("i", Role.INQUIRER), parties, asked),
        at_least_revision=0,
        pinned=0,
        shape=lambda answer: answer.decision_id,
    )
    (decision_id,), _ = gateway.run(batch)
    found = explain(gateway, decision_id)
    assert (found.reproduced, found.replayed, found.steps) == (False, None, ())
    assert "could not be an identifier" in found.obstacles[0]


def test_only_the_agency_asks_and_leaves_a_record(gateway: RunningGateway, intercepted: str) -> None:
    for role in set(Role) - {Role.AGENCY}:
        with pytest.raises(Refused) as refused:
            explain(gateway, intercepted, person("someone", role))
        assert refused.value.reason == "NOT_PERMITTED"
    for decision_id, purpose, reason in (
        ("000000000000-1", WHY, "NOT_FOUND"),
        (intercepted, " ", "ARGUMENT_INVALID"),
        ("", WHY, "ARGUMENT_INVALID"),
    ):
        with pytest.raises(Refused) as refused:
            gateway.run(gateway.inner.control.explanations.explain(decision_id, purpose, AGENCY))
        assert refused.value.reason == reason
    found = explain(gateway, intercepted)
    own = fields_of(gateway, found.record_id)
    assert (own["kind"], own["explains"], own["person"]) == ("explain", intercepted, "agency")
    assert (own["purpose"], own["subject"]) == (WHY, fields_of(gateway, intercepted)["subject"])
    again = explain(gateway, found.record_id)
    assert (again.reproduced, again.replayed) == (False, None)
    assert "holds no answer" in again.obstacles[0]


def passed(gateway: RunningGateway, subject: str, revision: int, sdk: str, generation: int = 0) -> str:
    """Upload a local pass; return its decision id."""
    control = gateway.inner.control
    digest64 = ViewKey(control.ledger.keys.view, 24).digest64(parse(subject).key)
    one = UploadedPass(
        sequence=1,
        at=gateway.clock.at,
        view_digest=digest64,
        epoch=control.ledger.epoch,
        generation=generation or control.ledger.generation,
        revision=revision,
        set_age=0,
        matter="procurement.supplier",
        purpose=PURPOSE,
    )
    asker = person("inquirer", Role.INQUIRER)
    gateway.run(control.inquiries.upload(asker, sdk * 32, control.ledger.lineage, [one]))
    return f"{sdk * 12}-1"


def test_a_local_pass_is_held_against_the_set_of_its_revision(gateway: RunningGateway) -> None:
    subject, control = uscc(70), gateway.inner.control
    before = gateway.run(control.ledger.call(Ledger.head))
    listed = take(gateway, row(subject, "COURT"))
    gateway.clock.at += datetime.timedelta(minutes=1)
    act(gateway, listing_of(gateway, subject), EventKind.REMOVED)
    head = gateway.run(control.ledger.call(Ledger.head))
    sound = [passed(gateway, subject, before, "a"), passed(gateway, subject, head, "b")]
    sound.append(passed(gateway, uscc(71), listed, "c"))
    wrong = passed(gateway, subject, listed, "d")
    for each in sound:
        found = explain(gateway, each)
        assert found.reproduced, (found.differences, found.obstacles)
        assert (found.kind, found.recorded.outcome) == ("local", "PASS")
    found = explain(gateway, wrong)
    assert (found.reproduced, found.replayed) == (False, None)
    assert "ought to have asked" in found.differences[0]
    found = explain(gateway, passed(gateway, subject, listed, "e", generation=9))
    assert "generation 9 are no longer held" in found.obstacles[0]


def test_a_spool_named_after_a_segment_does_not_hide_the_gateways_record(
    gateway: RunningGateway, intercepted: str
) -> None:
    name, _, number = intercepted.partition("-")
    control = gateway.inner.control
    one = UploadedPass(
        sequence=int(number),
        at=gateway.clock.at,
        view_digest=1,
        epoch=1,
        generation=1,
        revision=1,
        set_age=0,
        matter="procurement.supplier",
        purpose=PURPOSE,
    )
    asker, spool = person("inquirer", Role.INQUIRER), name + "0" * 20
    gateway.run(control.inquiries.upload(asker, spool, control.ledger.lineage, [one]))
    found = explain(gateway, intercepted)
    assert (found.kind, found.recorded.outcome, found.differences) == ("gateway", "INTERCEPT", ())
    assert found.reproduced
    assert explain(gateway, f"{spool}-{number}").kind == "local"


def test_as_of_is_the_law_at_an_instant_by_what_is_known_now(gateway: RunningGateway, client: lanjie.Client) -> None:
    subject = uscc(80)
    take(gateway, row(subject, "COURT"))
    listing = listing_of(gateway, subject)

    def at(offset: int, microseconds: int = 0) -> str:
        midnight = start_of(TODAY + datetime.timedelta(days=offset))
        instant = midnight + datetime.timedelta(microseconds=microseconds)
        decision = client.check(subject, matter="procurement.supplier", purpose=PURPOSE, as_of=instant)
        assert explain(gateway, decision.decision_id).reproduced
        return decision.outcome.name

    assert (at(-30, -1), at(-30), at(-5)) == ("PASS", "INTERCEPT", "INTERCEPT")
    act(gateway, listing, EventKind.REMOVED, day(-10))
    assert (at(-10, -1), at(-10), at(0)) == ("INTERCEPT", "PASS", "PASS")
    act(gateway, listing, EventKind.REINSTATED, day(-3))
    assert (at(-10, -1), at(-3, -1), at(-3), at(0)) == ("INTERCEPT", "PASS", "INTERCEPT", "INTERCEPT")
    act(gateway, listing, EventKind.ANNULLED)
    assert {at(-30), at(-10, -1), at(-3), at(0)} == {"PASS"}
    gateway.clock.at += datetime.timedelta(seconds=1)
    assert client.check(subject, matter="procurement.supplier", purpose=PURPOSE).outcome.name == "PASS"


def test_a_matter_that_is_judged_as_of_now_stays_so_before_its_catalogue(client: lanjie.Client) -> None:
    long_ago = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    with pytest.raises(lanjie.LanjieError, match="as of now only"):
        client.check(uscc(81), matter="school.enrol", purpose=PURPOSE, as_of=long_ago)
    decision = client.check(uscc(81), matter="procurement.supplier", purpose=PURPOSE, as_of=long_ago)
    assert decision.reason is lanjie.UndeterminedReason.CATALOGUE_MISSING
