"""Which edition, matter, list type and measure is in force on a day."""

import dataclasses
import datetime
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanjie_matcher.catalogues import CatalogueSet, Level, newly_ended
from lanjie_matcher.listings import EndsWith
from lanjie_matcher.regions import covers
from tests.support.core import (
    HEFEI,
    JIANGSU,
    NANJING,
    NATION,
    SUZHOU,
    day,
    edition,
    list_type,
    matter,
    measure,
)


def measures_on(known, when, code="procurement.supplier", of=None):
    return [each.code for _, each in known.entries(of or list_type(), code, day(when))]


def test_empty_set_knows_nothing():
    known = CatalogueSet()
    assert not known.ever_knew("procurement.supplier")
    assert known.matter_codes() == []
    assert known.list_type_codes() == []
    assert known.matter("procurement.supplier", day("2026-06-01")) is None
    assert known.list_type("WAGE", day("2026-06-01")) is None
    assert measures_on(known, "2026-06-01") == []


def test_first_day_is_never_before_publication():
    assert edition().starts_on == day("2026-01-01")
    assert edition(publication_date=day("2026-02-05")).starts_on == day("2026-02-05")
    assert edition().name == "nat@2026"


def test_matter_once_defined_stays_known():
    known = CatalogueSet.of([edition(effective_to=day("2026-12-31"))])
    assert known.ever_knew("procurement.supplier")
    assert known.matter("procurement.supplier", day("2026-12-31")) is not None
    assert known.matter("procurement.supplier", day("2027-01-01")) is None
    assert [each.name for each in known.matter_editions("procurement.supplier")] == ["nat@2026"]
    assert known.matter_editions("unknown") == []


JANUARY = [datetime.date(2026, 1, 1) + datetime.timedelta(days=number) for number in range(20)]
Spans = st.lists(
    st.tuples(
        st.sampled_from(["nat", "prov"]),
        st.sampled_from(JANUARY),
        st.none() | st.sampled_from(JANUARY),
        st.booleans(),
        st.booleans(),
    ),
    max_size=5,
)


@given(Spans)
def test_the_spans_of_a_matter_say_of_each_day_what_the_catalogues_say(made):
    editions = [
        dataclasses.replace(
            edition(
                matters=(matter(case_no_required=flag),) if knows else (),
                publication_date=first,
                effective_from=first,
                effective_to=last,
                level=Level.NATIONAL if name == "nat" else Level.PROVINCIAL,
                revision=number,
            ),
            id=name,
        )
        for number, (name, first, last, knows, flag) in enumerate(made)
    ]
    known = CatalogueSet.of(editions)
    spans = known.matter_spans("procurement.supplier")
    for each in JANUARY:
        of_day = [span.matter for span in spans if span.first <= each and (span.last is None or each <= span.last)]
        one = known.matter("procurement.supplier", each)
        assert of_day == ([one] if one is not None else [])


def test_the_last_day_there_is_ends_no_matter():
    known = CatalogueSet.of([edition(effective_to=datetime.date.max)])
    (span,) = known.matter_spans("procurement.supplier")
    assert span.last is None


def test_last_day_is_its_own_or_the_day_before_the_successor():
    first = edition(effective_to=day("2028-12-31"))
    second = edition(edition="2027", effective_from=day("2027-01-01"))
    known = CatalogueSet.of([second, first])
    assert known.last_day(first) == day("2026-12-31")
    assert known.last_day(second) is None
    early = edition(effective_to=day("2026-06-30"))
    assert CatalogueSet.of([early, second]).last_day(early) == day("2026-06-30")


def test_gap_between_editions_is_a_gap():
    first = edition(effective_to=day("2026-06-30"))
    second = edition(edition="2027", effective_from=day("2027-01-01"))
    known = CatalogueSet.of([first, second])
    assert measures_on(known, "2026-06-30") == ["M1"]
    assert measures_on(known, "2026-07-01") == []
    assert measures_on(known, "2027-01-01") == ["M1"]


def test_late_published_correction_of_an_earlier_time_does_not_outlive_the_later_edition():
    later = edition(edition="b", effective_from=day("2026-02-01"), measures=(measure("B"),), revision=1)
    earlier = edition(edition="a", effective_from=day("2026-01-15"), measures=(measure("A"),), revision=2)
    known = CatalogueSet.of([later, earlier])
    assert measures_on(known, "2026-01-31") == ["A"]
    assert measures_on(known, "2026-02-01") == ["B"]


def test_edition_published_again_acts_by_its_newer_text():
    first = edition(measures=(measure("OLD"),), revision=3)
    second = edition(measures=(measure("NEW"),), revision=8)
    known = CatalogueSet.of([second, first])
    assert measures_on(known, "2026-06-01") == ["NEW"]
    assert not known.in_force(first, day("2026-06-01"))
    assert known.in_force(second, day("2026-06-01"))


def test_higher_catalogue_says_what_a_matter_and_a_list_type_are():
    province = edition(
        "js",
        level=Level.PROVINCIAL,
        region=JIANGSU,
        matters=(matter(as_of_allowed=True),),
        list_types=(list_type(name="lower"),),
    )
    known = CatalogueSet.of([province, edition(list_types=(list_type(name="higher"),))])
    defined = known.matter("procurement.supplier", day("2026-06-01"))
    assert defined is not None
    assert not defined.as_of_allowed
    kind = known.list_type("WAGE", day("2026-06-01"))
    assert kind is not None
    assert kind.name == "higher"


def test_list_type_is_found_by_alias_and_only_while_in_force():
    renamed = list_type("NEWWAGE", aliases=("WAGE",), effective_from=day("2026-07-01"))
    old = list_type(effective_to=day("2026-06-30"))
    known = CatalogueSet.of([edition(list_types=(old, renamed))])
    before, after = known.list_type("WAGE", day("2026-06-30")), known.list_type("WAGE", day("2026-07-01"))
    assert before is not None
    assert after is not None
    assert (before.code, after.code) == ("WAGE", "NEWWAGE")
    assert known.list_type_codes() == ["NEWWAGE", "WAGE"]


def test_measure_above_is_looked_for_in_catalogues_in_force():
    known = CatalogueSet.of([edition(effective_to=day("2026-12-31"))])
    assert known.defines("M1", Level.PROVINCIAL, "320000", day("2026-06-01"))
    assert not known.defines("M1", Level.NATIONAL, "320000", day("2026-06-01"))
    assert not known.defines("M1", Level.PROVINCIAL, "320000", day("2027-06-01"))
    assert not known.defines("M9", Level.PROVINCIAL, "320000", day("2026-06-01"))


def test_a_measure_of_another_province_is_none_above():
    known = CatalogueSet.of([edition(level=Level.PROVINCIAL, region="330000")])
    assert known.defines("M1", Level.MUNICIPAL, "330100", day("2026-06-01"))
    assert not known.defines("M1", Level.MUNICIPAL, "320100", day("2026-06-01"))


def test_broader_matter_that_no_catalogue_defines_any_more_still_holds_for_those_that_name_it():
    known = CatalogueSet.of(
        [edition(matters=(matter(broader="gone"),), measures=(measure(matters=frozenset({"gone"})),))]
    )
    assert measures_on(known, "2026-06-01") == ["M1"]


@pytest.mark.parametrize(
    ("region", "place", "inside"),
    [
        (NATION, HEFEI, True),
        (NATION, "", True),
        (JIANGSU, NANJING, True),
        (JIANGSU, HEFEI, False),
        (NANJING, "320102", True),
        (NANJING, SUZHOU, False),
        (NANJING, JIANGSU, False),
        ("320102", "320102", True),
        ("320102", "320104", False),
        (JIANGSU, "", False),
    ],
)
def test_regions(region, place, inside):
    assert covers(region, place) is inside


def test_region_table_adds_places():
    table = {"320999": "320100"}
    assert covers(NANJING, "320999", table)
    assert not covers(SUZHOU, "320999", table)
    assert covers("320900", "320999", table)


def ends(kind, **changes):
    return edition(list_types=(list_type(ends_with=EndsWith(kind), aliases=("PAY",)),), **changes)


def test_everything_that_may_yet_end_a_list_type():
    first = ends("removal", effective_to=day("2026-12-31"))
    second = ends("term", edition="2027", effective_from=day("2027-01-01"), revision=1)
    other = dataclasses.replace(ends("publicity", level=Level.MUNICIPAL), id="city")
    known = CatalogueSet.of([first, second, other])
    for code in ("WAGE", "PAY"):
        assert known.ends_with_from(code, day("2026-12-31")) == {"removal", "term", "publicity"}
        assert known.ends_with_from(code, day("2027-01-01")) == {"term", "publicity"}
    gone = edition(list_types=(list_type("OLD", effective_to=day("2026-03-01")),))
    assert CatalogueSet.of([gone]).ends_with_from("OLD", day("2026-03-01")) == {"term"}
    assert CatalogueSet.of([gone]).ends_with_from("OLD", day("2026-03-02")) == frozenset()
    assert known.ends_with_from("NEVER", day("2026-01-01")) == frozenset()


def test_an_edition_that_ends_a_list_type_otherwise_is_told():
    known = CatalogueSet.of([ends("term", effective_to=day("2026-12-31"))])
    following = {"edition": "2027", "effective_from": day("2027-01-01")}
    assert newly_ended(known, ends("term", **following), day("2026-12-31")) == frozenset()
    assert newly_ended(known, ends("removal", **following), day("2026-12-31")) == {"WAGE", "PAY"}
    # Nothing says anything of it from that day on.
    assert newly_ended(known, ends("term", **following), day("2027-01-01")) == {"WAGE", "PAY"}
    assert newly_ended(CatalogueSet(), ends("term"), day("2026-01-01")) == {"WAGE", "PAY"}


def test_a_long_text_that_somebody_asks_about_is_not_remembered():
    known = CatalogueSet.of([edition()])
    for number in range(100):
        made_up = f"{number}".ljust(60_000, "x")
        assert known.lineage(made_up, day("2026-06-01")) == (made_up,)
        assert known.matter(made_up, day("2026-06-01")) is None
        assert known.list_type(made_up, day("2026-06-01")) is None
    assert not known._said


def test_a_list_of_many_types_and_matters_is_indexed_in_no_time():
    types, matters = ([f"{letter}{number}" for number in range(200)] for letter in "TM")
    many = [measure(f"N-{number}", list_types=frozenset(types), matters=frozenset(matters)) for number in range(60)]
    began = time.process_time()
    known = CatalogueSet.of([edition(matters=tuple(map(matter, matters)), measures=tuple(many))])
    assert len(known.entries(list_type("T7"), "M7", day("2026-06-01"))) == 60
    assert time.process_time() - began < 1
