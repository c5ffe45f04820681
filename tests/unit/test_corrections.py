"""Corrections by hand obey the rules of a list file, and touch nothing that a listing is keyed by."""

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanjie_gateway.domain.corrections import CORRECTABLE, cell_of, cells_of, corrected
from lanjie_gateway.domain.errors import Refused
from lanjie_gateway.domain.list_file import COLUMNS, FileRules, ListTypeRule, read_row
from lanjie_gateway.domain.packed import unpack, unpack_details
from tests.support.core import citizen, uscc

TODAY = datetime.date(2026, 11, 2)
RULES = FileRules(list_types={"TAX": ListTypeRule(code="TAX")}, list_type="", source="tax", complete=False, today=TODAY)
FULL = {
    "id_kind": "uscc",
    "id_number": uscc(1),
    "other_ids": "registration_no:320100000000003",
    "subject_kind": "enterprise",
    "name": "示例企业",
    "list_type": "TAX",
    "source": "tax",
    "source_record_id": "7",
    "authority": "示例税务局",
    "authority_uscc": uscc(9),
    "decision_no": "示例〔2026〕1号",
    "decision_date": "2026-01-01",
    "notice_date": "2025-12-01",
    "listed_on": "2026-01-02",
    "expires_on": "2028-01-01",
    "publicity_until": "2028-01-01",
    "retention_until": "2030-01-01",
    "reason": "示例事由",
    "related_persons": "法定代表人:某甲;负责人:某乙",
    "measure_hints": "M-1",
    "sanction_from": "2026-01-02",
    "sanction_to": "2028-01-01",
    "region": "320100",
}
PERSON = {"id_kind": "citizen", "id_number": citizen(1), "list_type": "TAX", "source": "tax", "name": "某甲乙"}


def stored(row):
    draft = read_row(row, 1, RULES)
    packed = draft.packed("0" * 16, TODAY, [(each.kind.value, bytes(16)) for each in draft.identifiers], None)
    return unpack(packed).listing, unpack_details(draft.details())


def change(row, required=(), **changes):
    listing, details = stored(row)
    return corrected(listing, details, changes, required, TODAY)


@pytest.mark.parametrize("row", [FULL, PERSON, {**FULL, "subject_kind": "", "id_number": uscc(2, "92320102")}])
def test_a_listing_reads_as_the_row_that_entered_it(row):
    draft = read_row(row, 1, RULES)
    again = read_row(cells_of(*stored(row)), 1, RULES)
    assert again.content_text() == draft.content_text()
    assert again.key_text() == draft.key_text()


@given(st.sampled_from(sorted(COLUMNS - CORRECTABLE)))
def test_what_a_listing_is_keyed_by_is_not_corrected(column):
    with pytest.raises(Refused) as error:
        change(FULL, **{column: FULL.get(column, "x") or "x"})
    assert error.value.metadata == {"field": "corrections", "rule": "column"}


@pytest.mark.parametrize(
    ("row", "changes", "refused"),
    [
        (FULL, {"decision_no": "示例〔2026〕2号"}, False),
        ({**FULL, "source_record_id": ""}, {"decision_no": "示例〔2026〕2号"}, True),
        ({**FULL, "source_record_id": ""}, {"decision_no": "示例[2026]1号", "reason": "x"}, True),
        ({**FULL, "source_record_id": ""}, {"listed_on": "2026-01-03"}, False),
        (PERSON, {"decision_no": "示例〔2026〕1号"}, True),
        (PERSON, {"listed_on": "2026-01-03"}, True),
    ],
)
def test_without_a_record_id_decision_or_day_key_it_and_are_not_corrected(row, changes, refused):
    if not refused:
        change(row, **changes)
        return
    with pytest.raises(Refused) as error:
        change(row, **changes)
    assert error.value.metadata == {"field": "corrections", "rule": "column"}


def test_a_correction_says_what_it_corrects_and_nothing_else():
    draft = change(FULL, expires_on="2027-01-01", reason="", related_persons="")
    before = read_row(FULL, 1, RULES)
    assert draft.dates["expires_on"] == datetime.date(2027, 1, 1)
    assert (draft.texts["reason"], draft.related_persons) == ("", ())
    same = sorted(CORRECTABLE - {"expires_on", "reason", "related_persons"})
    assert [cell_of(draft, column) for column in same] == [cell_of(before, column) for column in same]
    assert draft.identifiers == before.identifiers


def test_the_listing_of_somebody_who_was_reviewed_with_caution_can_be_corrected():
    row = {**PERSON, "id_number": citizen(1, "20090601"), "listed_on": "2026-03-01", "cautious_review": "true"}
    assert change(row, reason="示例").texts["reason"] == "示例"
    grown = {**row, "listed_on": "2027-06-01", "cautious_review": ""}
    with pytest.raises(Refused) as error:
        change(grown, listed_on="2026-03-01")
    assert error.value.metadata["rule"] == "cautious-review"


@pytest.mark.parametrize(
    ("changes", "field", "rule"),
    [
        ({"expires_on": "2025-01-01"}, "corrections.expires_on", "date-order"),
        ({"expires_on": "soon"}, "corrections.expires_on", "date"),
        ({"region": "32"}, "corrections.region", "region"),
        ({"subject_kind": "natural_person"}, "corrections.subject_kind", "subject-kind"),
        ({"reason": "x" * 4_001}, "corrections.reason", "too-long"),
        ({"decision_no": ""}, "corrections.decision_no", "required-field"),
        ({"reason": " 示例事由 "}, "corrections", "nothing"),
    ],
)
def test_a_correction_obeys_the_rules_of_a_row(changes, field, rule):
    with pytest.raises(Refused) as error:
        change(FULL, ("decision_no", "basis"), **changes)
    assert error.value.metadata == {"field": field, "rule": rule}
