"""The rules of feedback: no measure outside of the answer, no silence about what was not applied (Art. 45-47)."""

import dataclasses
import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanjie_gateway.domain.errors import Refused
from lanjie_gateway.domain.feedback import (
    EFFECTS,
    REASONS,
    Alarm,
    Asked,
    Disposition,
    Report,
    asks,
    is_outside,
    require_sound,
    settle,
)

NOW = datetime.datetime(2026, 6, 1, 2, tzinfo=datetime.UTC)
CODES = ("N-1", "N-2", "N-3", "N-4")
reports = st.builds(
    Report,
    officer=st.just("0042"),
    applied=st.frozensets(st.sampled_from(CODES)),
    reason=st.sampled_from(("", *REASONS)),
    case_refused=st.booleans(),
    confirmed_by=st.just("0043"),
    confirmed_at=st.just(NOW),
    corrects=st.booleans(),
)
answers = st.lists(
    st.tuples(st.sampled_from(sorted(EFFECTS)), st.lists(st.sampled_from(CODES[:3]), min_size=1, unique=True)),
    min_size=1,
    max_size=3,
)


def asked(listing: str = "1", measures: tuple[str, ...] = ("N-1",), outcome: str = "INTERCEPT", **other) -> Asked:
    return Asked(
        **{
            "decision_id": "a-1",
            "listing": listing,
            "department": "a",
            "matter": "m",
            "region": "320000",
            "list_type": "COURT",
            "outcome": outcome,
            "measures": measures,
            "person": False,
            "decided_at": NOW,
            **other,
        }
    )


def refused(rule: str, asked_for: list[Asked], report: Report) -> None:
    with pytest.raises(Refused) as error:
        settle(asked_for, report)
    assert error.value.metadata["rule"] == rule


@given(answer=answers, report=reports, person=st.booleans())
def test_what_is_taken_is_part_of_the_answer_and_says_why_the_rest_was_not_done(answer, report, person):
    every = [
        asked(str(number), tuple(measures), answer[0][0], person=person) for number, (_, measures) in enumerate(answer)
    ]
    named = {code for each in every for code in each.measures}
    undone = any(not report.applied.issuperset(each.measures) for each in every)
    if report.applied - named or (undone and not report.reason):
        with pytest.raises(Refused) as error:
            settle(every, report)
        assert is_outside(error.value) is bool(report.applied - named)
        return
    settled = settle(every, report)
    assert [each.asked for each in settled] == every
    assert {code for each in settled for code in each.report.applied} == report.applied
    for each in settled:
        mine = set(each.asked.measures)
        done = each.report.applied
        assert done <= mine
        assert each.disposition is (
            Disposition.NOT_APPLIED if not done else Disposition.APPLIED if done == mine else Disposition.PARTLY
        )
        assert done == mine or each.report.reason
        told = dataclasses.replace(each.asked, told=each.report, version=1)
        (again,) = settle([told], each.report)
        assert (again.repeated, again.report) == (True, each.report)


def test_another_report_says_that_it_corrects():
    first = settle([asked()], Report(officer="1", applied=frozenset({"N-1"})))[0]
    told = asked(told=first.report, version=1)
    other = Report(officer="1", reason="repaired")
    refused("told-otherwise", [told], other)
    assert not settle([told], dataclasses.replace(other, corrects=True))[0].repeated


def test_a_listing_that_the_answer_does_not_name_is_refused():
    refused("outside-of-answer", [asked("1")], Report(officer="1", listings=frozenset({"2"}), reason="repaired"))
    refused("outside-of-answer", [asked("1")], Report(officer="1", listings=frozenset({"1", "2"}), reason="repaired"))
    one, two = asked("1"), asked("2", ("N-2",))
    refused("outside-of-answer", [one, two], Report(officer="1", listings=frozenset("1"), applied=frozenset({"N-2"})))


@pytest.mark.parametrize(
    ("outcome", "report", "alarms"),
    [
        ("ADVISE", {"applied": {"N-1"}}, (Alarm.APPLIED_ON_ADVICE,)),
        ("RESTRICT", {"applied": {"N-1"}}, ()),
        ("INTERCEPT", {"applied": {"N-1"}, "case_refused": True}, ()),
        ("HEIGHTEN", {"reason": "repaired", "case_refused": True}, (Alarm.REFUSED_WITHOUT_INTERCEPTION,)),
        (
            "ADVISE",
            {"applied": {"N-1"}, "case_refused": True},
            (Alarm.APPLIED_ON_ADVICE, Alarm.REFUSED_WITHOUT_INTERCEPTION),
        ),
    ],
)
def test_what_should_not_happen_raises_an_alarm(outcome, report, alarms):
    told = Report(officer="1", **{**report, "applied": frozenset(report.get("applied", ()))})
    assert settle([asked(outcome=outcome)], told)[0].alarms == alarms


def test_an_undetermined_answer_takes_no_measure():
    undetermined = asked("", (), "UNDETERMINED")
    refused("outside-of-answer", [undetermined], Report(officer="1", applied=frozenset({"N-1"})))
    told = settle([undetermined], Report(officer="1", case_refused=True))[0]
    assert (told.disposition, told.alarms) == (Disposition.NOT_APPLIED, (Alarm.REFUSED_WITHOUT_INTERCEPTION,))


def test_a_natural_person_is_confirmed_by_an_officer_before_a_measure_is_applied():
    person = asked(person=True)
    applied = Report(officer="1", applied=frozenset({"N-1"}))
    refused("confirmation", [person], applied)
    early = dataclasses.replace(applied, confirmed_by="2", confirmed_at=NOW - datetime.timedelta(seconds=1))
    refused("confirmation", [person], early)
    assert settle([person], dataclasses.replace(early, confirmed_at=NOW))[0].report.confirmed_by == "2"
    assert settle([person], Report(officer="1", reason="identity"))[0].disposition is Disposition.NOT_APPLIED


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"officer": " "}, "length"),
        ({"officer": "x" * 65}, "length"),
        ({"reason": "because"}, "unknown"),
        ({"text": "好" * 201}, "length"),
        ({"text": "证号 91320102MA1ABCDE0X"}, "number"),
        ({"reason": "other"}, "required"),
        ({"confirmed_by": "2"}, "required"),
        ({"confirmed_at": NOW}, "required"),
        ({"confirmed_by": "2", "confirmed_at": NOW + datetime.timedelta(seconds=1)}, "future"),
    ],
)
def test_a_report_is_complete_in_itself(change, rule):
    with pytest.raises(Refused) as error:
        require_sound(Report(**{"officer": "1", **change}), NOW)
    assert error.value.metadata["rule"] == rule


def test_an_answer_asks_for_each_listing_that_bears_a_measure():
    fields = {
        "outcome": "INTERCEPT",
        "measures": ["N-1", "N-2"],
        "bearers": [["1"], ["1", "2"]],
        "listings": ["1", "2"],
    }
    assert dict(asks(fields)) == {"1": ("N-1", "N-2"), "2": ("N-2",)}
    del fields["bearers"]
    assert dict(asks(fields)) == {"1": ("N-1", "N-2"), "2": ("N-1", "N-2")}
    for outcome in ("PASS", "UNDETERMINED"):
        assert not dict(asks({**fields, "outcome": outcome}))
