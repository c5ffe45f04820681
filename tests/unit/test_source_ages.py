"""How old a source may be: by days in Shanghai, over all that matters, and nothing else."""

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanjie_gateway.domain.source_ages import Delivery, source_ages
from tests.support.core import at, catalogues, day, list_type

TODAY = day("2026-06-01")
KNOWN = catalogues(
    list_types=(list_type(source_max_age_days=3), list_type("TAX"), list_type("DUTY", source_max_age_days=9))
)


def word(source="s", back=0, list_type="WAGE", revision=1):
    return Delivery(
        list_type=list_type,
        source=source,
        vouched_on=TODAY - datetime.timedelta(days=back),
        delivered_at=at("2026-06-01"),
        revision=revision,
    )


def ages(*words, live=(), known=KNOWN, today=TODAY):
    return source_ages(words, dict(live), known, today)


def by_type(told):
    return {each.list_type: (each.age_days, each.overdue) for each in told.list_types}


@pytest.mark.parametrize(("back", "overdue"), [(0, False), (3, False), (4, True), (400, True), (-2, False)])
def test_a_source_is_overdue_the_day_after_its_age(back, overdue):
    told = ages(word(back=back), live={("WAGE", "s"): 5})
    (source,) = told.sources
    assert (source.overdue, source.age_days, source.max_age_days, source.live) == (overdue, max(0, back), 3, 5)
    assert by_type(told)["WAGE"] == (max(0, back), overdue)


def test_a_source_that_was_given_up_and_bears_nothing_raises_no_alarm():
    new, old = word("new", back=1), word("old", back=300)
    told = ages(new, old, live={("WAGE", "new"): 1})
    assert [(each.source, each.overdue) for each in told.sources] == [("new", False), ("old", False)]
    assert by_type(told)["WAGE"] == (1, False)
    told = ages(new, old, live={("WAGE", "old"): 1})
    assert [(each.source, each.overdue) for each in told.sources] == [("new", False), ("old", True)]
    assert by_type(told)["WAGE"] == (300, True)


def test_the_last_source_of_a_list_type_matters_though_nothing_is_listed():
    assert by_type(ages(word(back=5), word("older", back=9)))["WAGE"] == (5, True)


def test_a_list_type_that_nobody_delivered_is_told_and_is_overdue_where_an_age_is_set():
    told = ages(live={("WAGE", "by hand"): 2})
    assert [each.code for each in told.undelivered] == ["DUTY", "TAX", "WAGE"]
    assert by_type(told) == {"DUTY": (None, True), "TAX": (None, False), "WAGE": (None, True)}
    (source,) = told.sources
    assert (source.delivery, source.age_days, source.overdue, source.live) == (None, None, False, 2)


def test_no_limit_is_no_limit_and_a_list_type_out_of_force_has_none():
    told = ages(word(list_type="TAX", back=900), word(list_type="GONE", back=900), live={("GONE", "s"): 1})
    assert [(each.list_type, each.list_type_name, each.overdue) for each in told.sources] == [
        ("GONE", "", False),
        ("TAX", "Tax", False),
    ]


def test_a_renamed_list_type_is_one():
    known = catalogues(list_types=(list_type("WAGE", aliases=("OLD",), source_max_age_days=3),))
    told = ages(
        word(list_type="OLD", back=9, revision=3),
        word(back=2, revision=7),
        live={("OLD", "s"): 1, ("WAGE", "s"): 2},
        known=known,
    )
    (source,) = told.sources
    assert (source.list_type, source.live, source.age_days, source.overdue) == ("WAGE", 3, 2, False)
    assert source.delivery is not None
    assert source.delivery.revision == 7


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 20)), max_size=6),
    st.sets(st.sampled_from("abcd")),
    st.integers(0, 20),
)
def test_time_alone_makes_it_worse_and_a_delivery_never_does(told, live, days):
    words = [word(source, back) for source, back in dict(told).items()]
    counts = {("WAGE", source): 1 for source in live}
    now = by_type(ages(*words, live=counts))["WAGE"]
    later = by_type(ages(*words, live=counts, today=TODAY + datetime.timedelta(days=days)))["WAGE"]
    assert later[1] or not now[1]
    if words:
        assert later[0] == now[0] + days
        fresh = [word(each.source) for each in words]
        assert by_type(ages(*fresh, live=counts))["WAGE"] == (0, False)
