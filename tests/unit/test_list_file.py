"""Rules of a list file: every quarantine rule, every threshold."""

import dataclasses
import datetime
from pathlib import Path

import pytest

from lanjie_gateway.domain import events, list_file
from lanjie_gateway.domain.errors import Refused
from lanjie_gateway.domain.events import EventKind
from lanjie_gateway.domain.import_rules import (
    Counts,
    Effect,
    FileFormat,
    ImportHeader,
    ImportMode,
    Known,
    TypeChange,
    is_older,
    judge,
    reasons_to_wait,
)
from lanjie_gateway.domain.list_file import (
    COLUMNS,
    MARKET_CREDIT,
    PROHIBITED,
    FileRefused,
    FileRules,
    ListTypeRule,
    Op,
    RowRefused,
    prohibited_word,
    read_header,
    read_row,
)
from lanjie_gateway.domain.packed import unpack_details
from lanjie_gateway.domain.profile import Profile
from lanjie_matcher.identifiers import uscc_check
from lanjie_matcher.listings import Listing, ended_by_event
from lanjie_matcher.subjects import SubjectKind
from tests.support.core import citizen, org_code, uscc

RULES = FileRules(
    list_types={
        "TAX": ListTypeRule(code="TAX"),
        "TAX-OLD": ListTypeRule(code="TAX"),
        "WAGE": ListTypeRule(code="WAGE", required_fields=("authority", "decision_no")),
    },
    list_type="TAX",
    source="tax",
    complete=False,
    today=datetime.date(2026, 11, 1),
)
COMPLETE = dataclasses.replace(RULES, complete=True)


def row(**cells):
    return {"id_kind": "uscc", "id_number": uscc(1), **cells}


def draft(rules=RULES, **cells):
    return read_row(row(**cells), 2, rules)


def mangled():
    """An all-digit code that a spreadsheet has rounded: the last three digits are gone."""
    number = next(code for n in range(1, 99) if (code := uscc(n)).isdigit() and not code.endswith("000"))
    return number[:15] + "000"


@pytest.mark.parametrize(
    ("cells", "column", "rule"),
    [
        ({"id_number": ""}, "id_number", "required-field"),
        ({"id_kind": ""}, "id_kind", "required-field"),
        ({"id_kind": "vat"}, "id_kind", "identifier-kind-unknown"),
        ({"id_number": "9132**********0X"}, "id_number", "masked"),
        ({"id_number": "123"}, "id_number", "identifier-length"),
        ({"id_number": mangled()}, "id_number", "lost-precision"),
        ({"id_kind": "citizen", "id_number": citizen(1, "19900101")[:15] + "000"}, "id_number", "lost-precision"),
        ({"id_kind": "citizen", "id_number": "320102199002301234"}, "id_number", "identifier-date"),
        ({"other_ids": "123"}, "other_ids", "identifier-kind-missing"),
        ({"other_ids": "org_code:1"}, "other_ids", "identifier-length"),
        ({"other_ids": f"citizen:{citizen(1)}"}, "other_ids", "subject-kind"),
        ({"list_type": "NONE"}, "list_type", "list-type-unknown"),
        ({"list_type": "WAGE", "authority": "x"}, "decision_no", "required-field"),
        ({"op": "X"}, "op", "op"),
        ({"subject_kind": "robot"}, "subject_kind", "subject-kind"),
        ({"subject_kind": "natural_person"}, "subject_kind", "subject-kind"),
        (
            {"id_kind": "citizen", "id_number": citizen(1), "subject_kind": "enterprise"},
            "subject_kind",
            "subject-kind",
        ),
        ({"decision_date": "2026/01/01"}, "decision_date", "date"),
        ({"decision_date": "2026-0101"}, "decision_date", "date"),
        ({"decision_date": "2026-02-30"}, "decision_date", "date"),
        ({"notice_date": "2026-02-02", "decision_date": "2026-02-01"}, "decision_date", "date-order"),
        ({"decision_date": "2026-02-02", "listed_on": "20260201"}, "listed_on", "date-order"),
        ({"sanction_from": "2026-02-02", "sanction_to": "2026-02-01"}, "sanction_to", "date-order"),
        (
            {"id_kind": "citizen", "id_number": citizen(1, "20100302"), "listed_on": "2026-03-01"},
            "id_number",
            "minor",
        ),
        ({"region": "3201"}, "region", "region"),
        ({"reason": "a\x00b"}, "reason", "characters"),
        ({"reason": "a\ud800b"}, "reason", "characters"),
        ({"reason": "x" * 4001}, "reason", "too-long"),
        ({"source": "x" * 65}, "source", "too-long"),
    ],
)
def test_a_bad_row_names_column_and_rule_and_no_value(cells, column, rule):
    with pytest.raises(RowRefused) as error:
        draft(**cells)
    assert (error.value.column, error.value.rule) == (column, rule)
    for value in cells.values():
        assert len(value) < 8 or value not in str(error.value)


def test_a_sound_code_that_ends_in_zeros_lost_nothing():
    bodies = (f"91320102{number:04d}00000" for number in range(10_000))
    sound = next(body + "0" for body in bodies if uscc_check(body) == "0")
    assert draft(id_number=sound).identifiers[0].reveal() == f"uscc:{sound}"


@pytest.mark.parametrize(
    ("cells", "rule"),
    [({"op": "D"}, "op"), ({"list_type": "WAGE"}, "other-list"), ({"source": "other"}, "other-list")],
)
def test_a_complete_list_is_of_one_type_and_source_and_has_no_removals(cells, rule):
    with pytest.raises(RowRefused) as error:
        draft(COMPLETE, **cells)
    assert error.value.rule == rule
    assert draft(COMPLETE, list_type="TAX-OLD", source="tax").list_type == "TAX"


@pytest.mark.parametrize(
    ("born", "reviewed", "rule"),
    [
        ("20100302", "true", "minor"),
        ("20100301", "true", ""),
        ("20100301", "", "cautious-review"),
        ("20080302", "false", "cautious-review"),
        ("20080302", "是", ""),
        ("20080301", "", ""),
    ],
)
def test_art26_under_eighteen_somebody_is_listed_after_a_cautious_review_only(born, reviewed, rule):
    cells = {"id_kind": "citizen", "id_number": citizen(1, born), "listed_on": "2026-03-01"}
    if not rule:
        assert draft(**cells, cautious_review=reviewed).subject_kind is SubjectKind.NATURAL_PERSON
        return
    with pytest.raises(RowRefused) as error:
        draft(**cells, cautious_review=reviewed)
    assert error.value.rule == rule


@pytest.mark.parametrize(
    ("born", "reviewed", "column"),
    [("20100302", "true", "other_ids"), ("20100301", "", "cautious_review"), ("20100301", "true", "")],
)
def test_art3_the_operator_of_a_business_is_no_minor_either(born, reviewed, column):
    cells = {"subject_kind": "individual_business", "other_ids": f"citizen:{citizen(1, born)}"}
    cells |= {"listed_on": "2026-03-01", "cautious_review": reviewed}
    if not column:
        assert len(draft(**cells).identifiers) == 2
        return
    with pytest.raises(RowRefused) as error:
        draft(**cells)
    assert error.value.column == column


@pytest.mark.parametrize(("said", "taken"), [("", True), ("dishonesty", True), ("market", False), ("basic", False)])
def test_art4_a_list_holds_information_on_dishonesty_alone(said, taken):
    if taken:
        assert draft(record_class=said).list_type == "TAX"
        return
    with pytest.raises(RowRefused) as error:
        draft(record_class=said)
    assert (error.value.column, error.value.rule) == ("record_class", "record-class")


@pytest.mark.parametrize("word", [*PROHIBITED, *MARKET_CREDIT])
def test_art62_every_prohibited_word_refuses_a_header_and_a_profile(word):
    with pytest.raises(FileRefused) as error:
        read_header(["id_kind", "id_number", f"所需{word}_x".upper()], list_type_given=True)
    assert error.value.rule == "column-prohibited"
    assert word in str(error.value)


@pytest.mark.parametrize(
    "heading",
    (
        "宗教信仰 基因信息 指纹 血型 疾病情况 既往病史 个人收入 银行存款 有价证券 商业保险 不动产登记号 纳税数额 "
        "religion gene fingerprint blood_type disease medical_history annual_income deposits securities "
        "commercial_insurance real_estate tax_amount 信用评分 授信额度 credit_score"
    ).split(),
)
def test_art62_what_the_regulation_names_is_prohibited_whatever_our_list_of_words_says(heading):
    assert prohibited_word(heading)


def test_art62_no_column_of_ours_and_of_no_profile_that_ships_is_prohibited():
    assert not [name for name in COLUMNS if prohibited_word(name)]
    for shipped in Path(list_file.__file__).parents[1].joinpath("profiles").glob("*.toml"):
        assert Profile.load(shipped.read_bytes()).columns


def test_a_wrong_check_digit_is_no_reason():
    number = uscc(1)
    other = "0" if number[-1] != "0" else "1"
    assert draft(id_number=number[:-1] + other).identifiers[0].warnings == ("check-digit",)


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        ({}, SubjectKind.ENTERPRISE),
        ({"subject_kind": "organisation", "id_number": uscc(1, "31320102")}, SubjectKind.OTHER_ORG),
        ({"id_number": uscc(1, "92320102")}, SubjectKind.INDIVIDUAL_BUSINESS),
        ({"id_kind": "org_code", "id_number": org_code(1)}, SubjectKind.ORGANISATION),
        ({"subject_kind": "social_org"}, SubjectKind.SOCIAL_ORG),
        (
            {"subject_kind": "individual_business", "other_ids": f"citizen:{citizen(1)}"},
            SubjectKind.INDIVIDUAL_BUSINESS,
        ),
    ],
)
def test_the_kind_of_subject_is_refined_by_the_code(cells, kind):
    assert draft(**cells).subject_kind is kind


def test_a_removal_needs_only_its_key():
    made = draft(op="d", list_type="WAGE", decision_no="1")
    assert (made.op, made.list_type) == (Op.DELETE, "WAGE")


@pytest.mark.parametrize(
    "cells",
    [
        {"expires_on": "长期"},
        {"name": "x" * 300},
        {"subject_kind": "natural_person"},
        {"other_ids": "vat:1"},
        {"reason": "a\0b", "related_persons": "y" * 5_000},
    ],
)
def test_a_removal_is_not_held_up_by_what_it_says_besides(cells):
    with pytest.raises(RowRefused):
        draft(**cells)
    assert draft(op="D", decision_no="1", **cells).key_text() == draft(decision_no="1").key_text()


def test_keys_prefer_the_record_then_the_decision_then_the_day():
    by_record = draft(source_record_id="7", decision_no="1")
    assert by_record.key_text() == draft(source_record_id="7", id_number=uscc(2)).key_text()
    by_decision = draft(decision_no="苏税 1号", listed_on="2026-01-01")
    assert by_decision.key_text() == draft(decision_no="苏税1号", listed_on="2026-01-02").key_text()
    assert (
        by_decision.key_text() == draft(id_kind="org_code", id_number=uscc(1)[8:17], decision_no="苏税1号").key_text()
    )
    assert draft(listed_on="2026-01-01").key_text() != draft(listed_on="2026-01-02").key_text()


def test_content_is_the_same_however_it_is_written():
    assert draft(listed_on="20260101").content_text() == draft(listed_on=" 2026-01-01 ", op="U").content_text()
    assert draft(name="甲").content_text() != draft(name="乙").content_text()


def test_related_persons_are_kept_sealed_only():
    made = draft(related_persons="某甲; 某乙；")
    assert unpack_details(made.details()).related_persons == ("某甲", "某乙")
    value = made.packed("1", RULES.today, (), None)
    assert "某甲".encode() not in value
    assert "某甲" not in repr(made)


@pytest.mark.parametrize(
    ("names", "rule"),
    [
        (["id_kind", "id_number", "list_type", "colour"], "column-unknown"),
        (["id_kind", "id_number", "list_type", "Blood_Type"], "column-prohibited"),
        (["id_kind", "id_number", "list_type", "宗教信仰"], "column-prohibited"),
        (["id_kind", "id_number", "list_type", "name", "name"], "column-twice"),
        (["id_kind", "list_type"], "column-missing"),
        (["id_kind", "id_number"], "column-missing"),
    ],
)
def test_a_bad_header_refuses_the_file(names, rule):
    with pytest.raises(FileRefused) as error:
        read_header(names, list_type_given=False)
    assert error.value.rule == rule


def test_a_file_without_a_header_does_not_show_its_first_subject():
    with pytest.raises(FileRefused) as error:
        read_header(["uscc", uscc(1), "某公司"], list_type_given=True)
    assert uscc(1) not in str(error.value)


def test_names_of_columns_may_be_spaced_and_capital():
    assert read_header([" ID_Kind", "id_number "], list_type_given=True) == ["id_kind", "id_number"]


@pytest.mark.parametrize(
    ("op", "known", "effect"),
    [
        (Op.INSERT, None, Effect.ADD),
        (Op.UPDATE, None, Effect.ADD),
        (Op.INSERT, Known(b"a", "", ended=False), Effect.NOTHING),
        (Op.INSERT, Known(b"b", "1", ended=False), Effect.AMEND),
        (Op.INSERT, Known(b"b", "1", ended=False, newer=True), Effect.AMEND),
        (Op.INSERT, Known(b"a", "", ended=False, newer=True), Effect.NOTHING),
        (Op.DELETE, Known(b"b", "", ended=False), Effect.REMOVE),
        (Op.DELETE, Known(b"b", "", ended=True), Effect.NOTHING),
    ],
)
def test_what_a_row_does(op, known, effect):
    assert judge(op, b"a", "2", known) is effect


@pytest.mark.parametrize(
    ("op", "known", "rule"),
    [
        (Op.DELETE, None, "delete-unknown"),
        (Op.UPDATE, Known(b"b", "", ended=True), "ended-not-resurrected"),
        (Op.INSERT, Known(b"b", "10", ended=False), "stale-version"),
        (Op.INSERT, Known(b"b", "", ended=False, newer=True), "stale-version"),
    ],
)
def test_what_a_row_may_not_do(op, known, rule):
    with pytest.raises(RowRefused) as error:
        judge(op, b"a", "9", known)
    assert error.value.rule == rule


def test_versions_are_numbers_where_both_are():
    assert is_older("9", "10")
    assert not is_older("10", "9")
    assert is_older("2026-01-01", "2026-01-02")
    assert not is_older("", "5")
    assert not is_older("5", "5")


@pytest.mark.parametrize(
    ("counts", "mode", "change", "waits"),
    [
        ({"amended": 20}, ImportMode.DELTA, {"live": 1000, "altered": 20}, False),
        ({"amended": 21}, ImportMode.DELTA, {"live": 1000, "altered": 21}, True),
        ({"absent": 21}, ImportMode.FULL, {"live": 1000, "altered": 21}, True),
        ({"added": 10_000}, ImportMode.DELTA, {"live": 5, "added": 10_000}, False),
        ({"added": 10_001}, ImportMode.DELTA, {"live": 5, "added": 10_001}, True),
        ({"added": 10_001}, ImportMode.DELTA, {"live": 20_002, "added": 10_001}, False),
        ({"added": 1_000_000}, ImportMode.DELTA, {"live": 0, "added": 1_000_000}, False),
        ({"added": 95, "quarantined": 5}, ImportMode.DELTA, {"live": 0, "added": 95}, False),
        ({"added": 94, "quarantined": 6}, ImportMode.DELTA, {"live": 0, "added": 94}, True),
        ({"added": 99, "quarantined": 1}, ImportMode.FULL, {"live": 0, "added": 99}, True),
        ({"removed": 100}, ImportMode.DELTA, {"live": 100}, False),
        ({"removed": 50, "quarantined": 50}, ImportMode.DELTA, {"live": 100}, False),
        ({"removed": 1, "amended": 21}, ImportMode.DELTA, {"live": 1000, "altered": 21}, True),
    ],
)
def test_when_a_file_waits(counts, mode, change, waits):
    made = Counts(rows=sum(counts.values()), **counts)
    header = ImportHeader(file_name="list.csv", format=FileFormat.CSV, mode=ImportMode(mode))
    types = {"TAX": TypeChange(**change)}
    assert bool(reasons_to_wait(made, header, types)) is waits
    by_hand = dataclasses.replace(header, by_hand=True)
    assert bool(reasons_to_wait(made, by_hand, types)) is (waits or bool(made.added or made.amended))


NOON = datetime.datetime(2026, 3, 1, 4, tzinfo=datetime.UTC)
HOUR = datetime.timedelta(hours=1)


def listed(*kinds):
    made = Listing(id="1", list_type="TAX", subject_kind=SubjectKind.ENTERPRISE, recorded_on=datetime.date(2026, 1, 1))
    for number, kind in enumerate(kinds):
        made = events.apply(made, kind, NOON + number * HOUR)
    return made


@pytest.mark.parametrize(
    ("before", "kind"),
    [
        ((EventKind.REMOVED,), EventKind.REMOVED),
        ((EventKind.REMOVED,), EventKind.REPAIRED),
        ((EventKind.REMOVED,), EventKind.STAYED),
        ((EventKind.ANNULLED,), EventKind.REINSTATED),
        ((EventKind.ANNULLED,), EventKind.OBJECTION_OPENED),
        ((), EventKind.REINSTATED),
        ((), EventKind.STAY_LIFTED),
        ((), EventKind.OBJECTION_CLOSED),
        ((), EventKind.LISTED),
        ((EventKind.STAYED,), EventKind.STAYED),
        ((EventKind.OBJECTION_OPENED,), EventKind.OBJECTION_OPENED),
        ((EventKind.REVOKED,), EventKind.REVOKED),
    ],
)
def test_events_that_may_not_follow(before, kind):
    with pytest.raises(Refused) as error:
        events.apply(listed(*before), kind, NOON + 9 * HOUR)
    assert error.value.reason == "TRANSITION_ILLEGAL"


@pytest.mark.parametrize(
    ("kinds", "ended"),
    [
        ((EventKind.STAYED, EventKind.REMOVED), True),
        ((EventKind.REPAIRED, EventKind.REVOKED), True),
        ((EventKind.REMOVED, EventKind.REINSTATED), False),
        ((EventKind.REMOVED, EventKind.REINSTATED, EventKind.REMOVED), True),
        ((EventKind.REMOVED, EventKind.REINSTATED, EventKind.REVOKED), True),
        ((EventKind.STAYED, EventKind.STAY_LIFTED, EventKind.OBJECTION_OPENED), False),
        ((EventKind.ANNULLED,), True),
    ],
)
def test_events_that_may_follow(kinds, ended):
    assert ended_by_event(listed(*kinds)) is ended


def test_nothing_works_before_what_it_follows():
    with pytest.raises(Refused, match="too early"):
        events.apply(listed(EventKind.REMOVED), EventKind.REINSTATED, NOON - HOUR)
    with pytest.raises(Refused, match="too early"):
        events.apply(listed(EventKind.STAYED), EventKind.STAY_LIFTED, NOON - HOUR)
    with pytest.raises(Refused, match="too early"):
        events.apply(listed(EventKind.REMOVED, EventKind.REINSTATED), EventKind.REMOVED, NOON)


def test_a_correction_keeps_what_events_have_done():
    before = listed(EventKind.OBJECTION_OPENED, EventKind.STAYED)
    corrected = dataclasses.replace(listed(), id="2", reason="corrected")
    after = events.amended(before, corrected)
    assert (after.id, after.reason, after.objection, after.stays) == ("1", "corrected", True, before.stays)
