"""The table of deadlines: what the law counts, what a gateway's own file changes, and what it may not say."""

import dataclasses
import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanjie_gateway.domain import deadline_file
from lanjie_gateway.domain.errors import Refused
from lanjie_gateway.services.calendar import deadlines_of
from lanjie_matcher.civil_time import SHANGHAI
from lanjie_matcher.deadlines import DEADLINES, Unit, due, overdue
from lanjie_matcher.workdays import Due
from tests.support.years import CALENDAR

PAGE = Path(__file__).parents[2] / "docs" / "deadlines.md"


def day(text):
    return datetime.date.fromisoformat(text)


@pytest.mark.parametrize(
    ("rule", "started", "last"),
    [
        ("revocation-notice", "2026-02-10", "2026-02-24"),
        ("revocation-apply", "2026-02-24", "2026-02-26"),
        ("repair-decision", "2026-04-29", "2026-05-07"),
        ("repair-answer", "2026-09-28", "2026-10-16"),
        ("objection-reply", "2026-03-02", "2026-03-11"),
        ("publicity-withdrawal", "2026-09-30", "2026-10-10"),
        ("removal-review", "2026-02-13", "2026-02-14"),
    ],
)
def test_each_deadline_over_a_holiday_or_a_week(rule, started, last):
    assert due(rule, day(started), CALENDAR) == Due(day(last), provisional=False)
    assert due(DEADLINES[rule], day(started), CALENDAR) == due(rule, day(started), CALENDAR)


def test_what_is_assumed_is_said_to_be():
    assert {code for code, rule in DEADLINES.items() if rule.periods[-1].assumed} == {
        "feedback",
        "objection-reply",
        "removal-review",
    }


def test_overdue_begins_when_the_last_day_has_ended_in_shanghai():
    last = Due(day("2026-02-24"), provisional=False)
    midnight = datetime.datetime(2026, 2, 25, tzinfo=SHANGHAI)
    assert not overdue(last, midnight - datetime.timedelta(microseconds=1))
    assert overdue(last, midnight)
    assert overdue(last, midnight.astimezone(datetime.UTC))
    with pytest.raises(ValueError, match="zone"):
        overdue(last, midnight.replace(tzinfo=None))


@given(rule=st.sampled_from(sorted(DEADLINES)), started=st.dates())
def test_no_day_raises_and_none_is_due_on_the_day_it_began(rule, started):
    assert due(rule, started, CALENDAR).day > started or started == datetime.date.max


def test_an_unknown_rule_is_an_error_and_no_date():
    with pytest.raises(KeyError):
        due("revocation", day("2026-02-10"), CALENDAR)


def test_a_file_states_another_period_and_its_text():
    table = deadline_file.load(b'[objection-reply]\nworking_days = 15\nsource = "No. 4, Art. 30"\n')
    (period,) = table["objection-reply"].periods
    assert (period.number, period.unit, str(period.source)) == (15, Unit.WORKING_DAYS, "No. 4, Art. 30")
    assert not period.assumed
    assert due("objection-reply", day("2026-03-02"), CALENDAR, table=table).day == day("2026-03-23")
    assert {code: rule for code, rule in table.items() if code != "objection-reply"} == {
        code: rule for code, rule in DEADLINES.items() if code != "objection-reply"
    }


def test_a_period_from_a_day_on_leaves_what_began_before_as_it_was():
    file = b'[objection-reply]\ndays = 20\nsource = "No. 9"\nvalid_from = 2026-06-01\n'
    table = deadline_file.load(file)
    for started, number, unit in (("2026-05-31", 7, Unit.WORKING_DAYS), ("2026-06-01", 20, Unit.DAYS)):
        period = table["objection-reply"].period_on(day(started))
        assert (period.number, period.unit) == (number, unit)
    # The twentieth day is a Sunday of the Dragon Boat holiday.
    assert due("objection-reply", day("2026-06-01"), CALENDAR, table=table).day == day("2026-06-22")


def test_what_began_before_any_period_has_the_first():
    assert DEADLINES["repair-decision"].period_on(day("2020-01-01")) == DEADLINES["repair-decision"].periods[0]


@pytest.mark.parametrize(
    ("text", "field", "rule"),
    [
        ("[objection-reply", "deadlines", "toml"),
        ("a = " + "9" * 5_000, "deadlines", "toml"),
        ("a = " + "[" * 30_000, "deadlines", "toml"),
        ('[objection]\ndays = 1\nsource = "a"', "objection", "rule-unknown"),
        ("objection-reply = 3", "objection-reply", "type"),
        ('[objection-reply]\nsource = "a"', "objection-reply", "unit"),
        ('[objection-reply]\ndays = 1\nworking_days = 1\nsource = "a"', "objection-reply", "unit"),
        ('[objection-reply]\nworking_day = 1\nsource = "a"', "objection-reply.working_day", "key-unknown"),
        ("[objection-reply]\ndays = 1", "objection-reply.source", "key-missing"),
        ('[objection-reply]\ndays = 1\nsource = " "', "objection-reply.source", "key-missing"),
        ('[objection-reply]\ndays = 0\nsource = "a"', "objection-reply.days", "value"),
        ('[objection-reply]\ndays = true\nsource = "a"', "objection-reply.days", "value"),
        ('[objection-reply]\nworking_days = "7"\nsource = "a"', "objection-reply.working_days", "value"),
        ('[objection-reply]\ndays = 1\nsource = "a"\nvalid_from = "x"', "objection-reply.valid_from", "type"),
        (
            '[objection-reply]\ndays = 1\nsource = "a"\nvalid_from = 2026-01-01T00:00:00',
            "objection-reply.valid_from",
            "type",
        ),
        ("#" * (deadline_file.MAX_BYTES + 1), "deadlines", "too-large"),
    ],
)
def test_a_bad_file_names_rule_and_key(text, field, rule):
    with pytest.raises(Refused) as refused:
        deadline_file.load(text.encode())
    assert refused.value.metadata == {"field": field, "rule": rule}
    assert field in str(refused.value)


def test_a_file_that_is_missing_or_no_text_refuses_the_start(tmp_path):
    for path, rule in ((tmp_path / "none.toml", "unreadable"), (tmp_path / "bad.toml", "encoding")):
        (tmp_path / "bad.toml").write_bytes(b"\xff")
        with pytest.raises(Refused) as refused:
            deadlines_of(path)
        assert refused.value.metadata["rule"] == rule
    assert deadlines_of(None) is DEADLINES


def test_the_page_shows_the_table_as_it_is():
    rows = []
    for code, rule in DEADLINES.items():
        for period in rule.periods:
            length = f"{period.number} {period.unit.value.replace('_', ' ')}{' (assumed)' if period.assumed else ''}"
            since = str(period.valid_from or "–")
            rows.append(f"| `{code}` | {rule.bound} | {rule.starts} | {length} | {period.source} | {since} |")
    assert [line for line in PAGE.read_text().splitlines() if line.startswith("| `")] == rows


def test_the_table_cannot_be_changed():
    with pytest.raises(TypeError):
        DEADLINES["x"] = DEADLINES["objection-reply"]  # type: ignore[index]
    with pytest.raises(dataclasses.FrozenInstanceError):
        DEADLINES["objection-reply"].periods[0].number = 3  # type: ignore[misc]
