"""The leaf of an inquiry record holds the question as it was decided, and no identifier (Art. 39, 40)."""

import dataclasses
import datetime
import inspect
import json
import re
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanjie_gateway.domain.explanation import Answered, differences, words
from lanjie_gateway.domain.records import VERSION, about, instant, leaf, replay
from lanjie_matcher import tracing
from lanjie_matcher.decide import Question
from lanjie_matcher.listings import Standing
from lanjie_matcher.subjects import SubjectKind
from lanjie_matcher.tracing import Finding, Verdict

CODES = st.text("abc.-", min_size=1, max_size=5)
KINDS = st.frozensets(st.sampled_from(["buyer", "licenser", "school"]), max_size=3)


@st.composite
def questions(draw):
    return Question(
        matter=draw(CODES),
        at=draw(st.datetimes(datetime.datetime(2020, 1, 1), timezones=st.just(datetime.UTC))),  # noqa: DTZ001
        handling_region=draw(st.sampled_from(["320000", "320100"])),
        role=draw(st.sampled_from(["applicant", "parent"])),
        department=draw(st.none() | st.just("housing")),
        implementer_kinds=draw(st.none() | KINDS),
        kind_hint=draw(st.none() | st.sampled_from(SubjectKind)),
        name_mismatches=draw(st.frozensets(st.sampled_from(["0" * 16, "1" * 16]), max_size=2)),
    )


def leaf_of(question):
    return leaf(
        {
            "v": VERSION,
            "matter": question.matter,
            "as_of": instant(question.at),
            "region": question.handling_region,
            "department": question.department or "local",
            "role": question.role,
            **about(question, kind="uscc", subject=b"s" * 16, bucket=b"b" * 16),
        }
    )


@given(questions())
def test_a_question_comes_back_from_its_record(question):
    asked = replay(json.loads(leaf_of(question)))
    assert asked.question == question
    assert (asked.kind, asked.subject, asked.bucket) == ("uscc", b"s" * 16, b"b" * 16)


@pytest.mark.parametrize("field", ["matter", "as_of", "region", "department", "subject", "bucket", "id_kind"])
def test_a_record_without_its_question_is_not_replayed(field):
    question = Question(matter="m", at=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC), handling_region="320000")
    fields = json.loads(leaf_of(question))
    del fields[field]
    with pytest.raises((KeyError, TypeError, ValueError)):
        replay(fields)


def test_what_is_empty_takes_no_room():
    question = Question(matter="m", at=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC), handling_region="320000")
    fields = json.loads(leaf_of(question))
    assert not {"kind_hint", "implementers", "other_names"} & set(fields)


@pytest.mark.parametrize("verdict", [*Verdict, *Standing])
def test_every_verdict_has_words(verdict):
    finding = Finding(step=1, verdict=verdict.value, listing="L", edition="e@1", measure="M", detail="d")
    assert "L" in words(finding)


def test_every_part_of_an_answer_is_compared():
    held = Answered(outcome="INTERCEPT", warnings=("check-digit",))
    assert differences(held, Answered(outcome="INTERCEPT")) == []
    for field in dataclasses.fields(Answered):
        value: Any = "PASS" if field.type is str else ("verify-at-source",)
        again = dataclasses.replace(Answered(outcome="INTERCEPT"), **{field.name: value})
        assert len(differences(held, again)) == 1


def test_every_finding_of_decide_has_words():
    source = inspect.getsource(sys.modules["lanjie_matcher.decide"]) + inspect.getsource(tracing)
    noted = set(re.findall(r'note\(\d, "(\w+)"', source)) | {
        "list_type_unknown",
        "list_type_of_other_region",
        "list_type_not_shared",
    }
    assert len(noted) > 10
    for verdict in noted | {"edition_in_force", "edition_not_in_force"}:
        assert words(Finding(step=0, verdict=verdict, listing="L", edition="e@1", measure="M", detail="d"))
