"""Groups count every answer once, and agree with a count made by hand."""

import datetime
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanjie_gateway.domain.feedback import EFFECTS, Asked, Disposition, Report
from lanjie_gateway.domain.statistics import DIMENSIONS, USAGE_DIMENSIONS, Usage, grouped, month_of

MAY = datetime.datetime(2026, 5, 20, 4, tzinfo=datetime.UTC)
LIMIT = MAY + datetime.timedelta(days=3)
usages = st.builds(
    Usage,
    department=st.sampled_from("ab"),
    matter=st.sampled_from("mn"),
    region=st.sampled_from(("320100", "320500")),
    month=st.sampled_from(("2026-04", "2026-05")),
    kind=st.sampled_from(("gateway", "local")),
    outcome=st.sampled_from(("PASS", "UNDETERMINED", *sorted(EFFECTS))),
    answers=st.integers(1, 50),
)


@st.composite
def feedback(draw: st.DrawFn) -> Asked:
    told = draw(st.none() | st.sampled_from(Disposition))
    at = MAY + datetime.timedelta(days=draw(st.integers(0, 6)))
    reason = "" if told in (None, Disposition.APPLIED) else draw(st.sampled_from(("repaired", "other")))
    return Asked(
        decision_id=draw(st.sampled_from(("x-1", "x-2", "x-3"))),
        listing=draw(st.sampled_from("12")),
        department=draw(st.sampled_from("ab")),
        matter="m",
        region="320100",
        list_type=draw(st.sampled_from(("COURT", "TAX"))),
        outcome="INTERCEPT",
        measures=tuple(draw(st.lists(st.sampled_from(("N-1", "N-2")), min_size=1, unique=True))),
        person=False,
        decided_at=at,
        told=None if told is None else Report(officer="1", reason=reason),
        told_at=None if told is None else at + datetime.timedelta(hours=draw(st.integers(0, 9))),
        disposition=told,
        version=told is not None,
    )


@given(by=st.lists(st.sampled_from(USAGE_DIMENSIONS), unique=True), usage=st.lists(usages))
def test_every_answer_counts_once_however_it_is_grouped(by, usage):
    lines = grouped(by, usage, (), LIMIT).values()
    assert sum(line.checks or 0 for line in lines) == sum(each.answers for each in usage)
    assert sum(line.local or 0 for line in lines) == sum(each.answers for each in usage if each.kind == "local")
    gateway = [each for each in usage if each.kind == "gateway"]
    assert sum(line.hits or 0 for line in lines) == sum(each.answers for each in gateway if each.outcome != "PASS")
    assert sum(line.effects for line in lines) == sum(each.answers for each in gateway if each.outcome in EFFECTS)


@given(by=st.lists(st.sampled_from(DIMENSIONS), unique=True), asked=st.lists(feedback()))
def test_feedback_counts_by_listing_and_effects_by_answer(by, asked):
    lines = grouped(by, (), asked, LIMIT)
    for key, line in lines.items():
        wanted = dict(zip(by, key, strict=True))
        mine = [
            each
            for each in asked
            if wanted.get("measure", each.measures[0]) in each.measures
            and month_of(each.decided_at) == wanted.get("month", month_of(each.decided_at))
            and all(getattr(each, name) == value for name, value in wanted.items() if name not in ("measure", "month"))
        ]
        assert line.asked == len(mine)
        assert line.told == Counter(each.disposition for each in mine if each.disposition is not None)
        assert line.outstanding == sum(each.disposition is None for each in mine)
        assert line.overdue == sum(each.disposition is None and each.decided_at < LIMIT for each in mine)
        assert line.reasons.total() == sum(each.told is not None and bool(each.told.reason) for each in mine)
        assert line.checks is None
        assert (line.median_hours is None) is not any(each.told for each in mine)
        if not set(by) <= set(USAGE_DIMENSIONS):
            assert line.effects == len({each.decision_id for each in mine})


@pytest.mark.parametrize(
    ("at", "month"), [("2026-05-31T15:59:59+00:00", "2026-05"), ("2026-05-31T16:00:00+00:00", "2026-06")]
)
def test_a_month_begins_at_midnight_in_shanghai(at, month):
    assert month_of(datetime.datetime.fromisoformat(at)) == month
