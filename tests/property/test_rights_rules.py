"""Rules of authorisations, marks and remedies, for whatever comes (Art. 31, 32, 39, 47, 69)."""

import datetime
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from lanjie_gateway.domain import marks
from lanjie_gateway.domain.authorisations import MAX_TRIES, RETRY_WITHIN, Authorisation, Spending, Use, Wanted, spend
from lanjie_gateway.domain.list_file import FileRules, ListTypeRule, read_row
from lanjie_gateway.domain.packed import unpack
from lanjie_gateway.domain.remedies import told
from lanjie_matcher.civil_time import day_of
from tests.support.core import ask, citizen, list_type, listing, uscc

NOON = datetime.datetime(2026, 11, 2, 4, tzinfo=datetime.UTC)
RULES = FileRules(
    list_types={"WAGE": ListTypeRule(code="WAGE")}, list_type="WAGE", source="s", complete=False, today=NOON.date()
)
AUTHORISATION = Authorisation(
    id="a1",
    department="market",
    subject=b"s" * 16,
    identifier="uscc:1",
    matters=("m1", "m2"),
    purpose="核实",
    document_no="n",
    document_date=NOON.date(),
    document_sha256=b"d" * 32,
    valid_until=NOON.date() + datetime.timedelta(days=2),
    uses=3,
    registered_at=NOON,
    registered_by="market/anna",
)
WANTED = Wanted(
    authorisation="a1", request="r1", department="market", person="p", subject=b"s" * 16, matter="m1", purpose="核实"
)
steps = st.lists(
    st.tuples(
        st.integers(0, 40 * 60),
        st.sampled_from(["r1", "r2"]),
        st.sampled_from(["m1", "m2", "m3"]),
        st.sampled_from(["market", "other"]),
        st.sampled_from([b"s" * 16, b"t" * 16]),
        st.sampled_from(["核实", " 核 实 ", "别的"]),
    ),
    max_size=60,
)


@given(steps, st.integers(1, 10))
def test_art39_no_history_spends_more_than_was_authorised(history, uses):
    state, now = replace(AUTHORISATION, uses=uses), NOON
    uses_of: dict[str, Use] = {}
    allowed = 0
    for seconds, request, matter, department, subject, purpose in history:
        now += datetime.timedelta(seconds=seconds)
        asked = replace(WANTED, request=request, matter=matter, department=department, subject=subject, purpose=purpose)
        last = uses_of.get(request)
        spending = spend(state, asked, last, now, day_of(now))
        fits = (
            (department, subject) == ("market", b"s" * 16)
            and matter != "m3"
            and purpose != "别的"
            and day_of(now) <= state.valid_until
        )
        assert fits or spending is Spending.REFUSED
        if spending is Spending.NEW:
            state = replace(state, used=state.used + 1)
            uses_of[request] = Use(number=state.used, question=asked.question, at=now, tries=1)
        elif spending is Spending.AGAIN:
            assert last is not None
            assert now - last.at <= RETRY_WITHIN
            assert last.question == asked.question
            uses_of[request] = replace(last, tries=last.tries + 1)
        allowed += spending is not Spending.REFUSED
    assert state.used <= uses
    assert allowed <= uses * MAX_TRIES


def test_art39_69_an_authorisation_ends_at_24_00_of_its_last_day_also_for_a_question_asked_again():
    midnight = datetime.datetime(2026, 11, 4, 16, tzinfo=datetime.UTC)
    before, second = midnight - datetime.timedelta(seconds=1), Use(number=1, question=WANTED.question, at=NOON, tries=1)
    assert AUTHORISATION.valid_until == day_of(before)
    assert spend(AUTHORISATION, WANTED, None, before, day_of(before)) is Spending.NEW
    for last in (None, replace(second, at=before)):
        assert spend(AUTHORISATION, WANTED, last, midnight, day_of(midnight)) is Spending.REFUSED


@given(
    st.sampled_from(["法定代表人", "legal_representative", ""]),
    st.integers(0, 999),
    st.text("张李王示例甲乙", min_size=2, max_size=4),
    st.booleans(),
    st.sampled_from([":", "："]),
)
def test_art32_no_number_and_no_name_of_a_mark_is_shown(part, number, name, with_number, colon):
    person = citizen(number)
    words = [part, name, *(["citizen", person] if with_number else [])]
    mark = colon.join(word for word in words if word)
    shown = marks.shown(mark)
    assert person not in shown
    assert person[6:14] not in shown
    if part:
        assert name not in shown
    # A number in any other place is none the more shown, nor a name of one character.
    assert person not in marks.shown(f"{person}:{name}")
    assert person not in marks.shown(person)
    assert marks.shown(f"{part}:张") == ":".join(word for word in (part, "*") if word)


@given(st.lists(st.text("张李:;示例0123456789", min_size=1, max_size=30), max_size=5))
def test_art32_47_no_mark_changes_an_answer(persons):
    row = {"id_kind": "uscc", "id_number": uscc(1), "name": "示例企业", "listed_on": "2026-01-01"}

    def packed(cells):
        draft = read_row(cells, 2, RULES)
        return draft.packed("1", NOON.date(), (("uscc", b"t" * 16),), None)

    marked, plain = packed({**row, "related_persons": "；".join(persons)}), packed(row)
    assert marked == plain
    assert ask(unpack(marked).listing) == ask(unpack(plain).listing)


@given(st.text(max_size=5), st.text(max_size=5), st.text(max_size=5), st.text(max_size=5))
def test_art31_71_remedies_and_channel_are_never_empty_where_a_listing_is_told(own, of_type, channel, setting):
    known = list_type(remedies=of_type, objection_channel=channel)
    for found in ({"WAGE": known}, {}):
        remedies, channels = told([listing(remedies=own)], found.get, setting)
        assert remedies
        assert channels
        assert not own or remedies == own
    assert told([], lambda _: known, setting) == ("", "")
