"""`decide`, step by step (numbers as in its docstring)."""

import datetime
import inspect
import time
from typing import Any

import pytest

from lanjie_matcher.catalogues import CatalogueSet, Effect, Level, Trigger
from lanjie_matcher.decide import Outcome, Question, Reason, UnknownMatterError, decide
from lanjie_matcher.listings import EndsWith
from lanjie_matcher.subjects import ORGANISATION_KINDS, SubjectKind
from lanjie_matcher.tracing import Trace
from tests.support.core import (
    HEFEI,
    JIANGSU,
    NANJING,
    SUZHOU,
    ask,
    at,
    catalogues,
    codes,
    day,
    edition,
    list_type,
    listing,
    matter,
    measure,
    question,
    sanctioned,
)

PERSON = SubjectKind.NATURAL_PERSON


# Step 0: the matter


def test_unknown_matter_is_an_error():
    with pytest.raises(UnknownMatterError):
        ask(listing(), matter="no.such.matter")


def test_unknown_matter_is_an_error_for_an_unlisted_subject_too():
    with pytest.raises(UnknownMatterError):
        ask([], matter="no.such.matter")


@pytest.mark.parametrize("when", ["2025-12-31", "2027-01-01"])
def test_no_catalogue_in_force_is_undetermined(when):
    ruling = ask([], catalogues(effective_to=day("2026-12-31")), at=at(when))
    assert (ruling.outcome, ruling.reason) == (Outcome.UNDETERMINED, Reason.CATALOGUE_MISSING)
    assert not ruling.measures
    assert not ruling.listings


@pytest.mark.parametrize(
    ("when", "outcome"),
    [
        ("2026-12-31T23:59:59", Outcome.INTERCEPT),
        ("2027-01-01T00:00:00", Outcome.UNDETERMINED),
        ("2026-01-01T00:00:00", Outcome.INTERCEPT),
        ("2025-12-31T23:59:59", Outcome.UNDETERMINED),
    ],
)
def test_catalogue_days_are_whole_days_in_shanghai(when, outcome):
    listed = listing(listed_on=day("2025-01-01"))
    assert ask(listed, catalogues(effective_to=day("2026-12-31")), at=at(when)).outcome is outcome


def test_unpublished_list_does_not_act_before_its_publication():
    known = catalogues(effective_from=day("2026-01-01"), publication_date=day("2026-03-01"))
    assert ask(listing(), known, at=at("2026-02-28")).reason is Reason.CATALOGUE_MISSING
    assert ask(listing(), known, at=at("2026-03-01")).outcome is Outcome.INTERCEPT


def test_successor_edition_ends_its_predecessor():
    old = edition(measures=(measure("OLD"),))
    new = edition(edition="2027", effective_from=day("2027-01-01"), measures=(measure("NEW", effect=Effect.RESTRICT),))
    known = CatalogueSet.of([new, old])
    assert codes(ask(listing(), known, at=at("2026-12-31T23:59:59"))) == ["OLD"]
    assert codes(ask(listing(), known, at=at("2027-01-01T00:00:00"))) == ["NEW"]


def test_edition_published_again_ends_its_own_older_text():
    first = edition(measures=(measure("WITHDRAWN"),), revision=5)
    second = edition(measures=(measure("KEPT", effect=Effect.ADVISE),), revision=9)
    assert codes(ask(listing(), CatalogueSet.of([first, second]))) == ["KEPT"]


def test_naive_instant_is_refused():
    with pytest.raises(ValueError, match="zone"):
        ask(listing(), at=datetime.datetime(2026, 6, 1))  # noqa: DTZ001  that is the point


# Step 1: listings in force


def test_unlisted_passes():
    assert ask([]).outcome is Outcome.PASS


def test_listed_and_measured_intercepts_with_everything_a_clerk_needs():
    listed = listing(authority="A", decision_no="D 1", removal_conditions="pay", remedies="appeal")
    ruling = ask(listed)
    assert ruling.outcome is Outcome.INTERCEPT
    assert codes(ruling) == ["M1"]
    assert ruling.listings == (listed,)
    assert ruling.measures[0].listings == (listed,)
    assert ruling.editions == ("nat@2026",)
    assert "basis of the measure" in ruling.instruction
    assert "instruction of M1" in ruling.instruction
    assert ruling.reason is None


@pytest.mark.parametrize(
    ("ends_with", "field", "outcome"),
    [
        (EndsWith.TERM, "expires_on", Outcome.PASS),
        (EndsWith.TERM, "publicity_until", Outcome.INTERCEPT),
        (EndsWith.PUBLICITY, "publicity_until", Outcome.PASS),
        (EndsWith.PUBLICITY, "expires_on", Outcome.INTERCEPT),
        (EndsWith.REMOVAL, "expires_on", Outcome.INTERCEPT),
        (EndsWith.REMOVAL, "publicity_until", Outcome.INTERCEPT),
        (EndsWith.REMOVAL, "retention_until", Outcome.PASS),
        (EndsWith.TERM, "retention_until", Outcome.PASS),
    ],
)
def test_the_list_type_says_which_date_ends_a_listing(ends_with, field, outcome):
    known = catalogues(list_types=(list_type(ends_with=ends_with),))
    assert ask(listing(**{field: day("2026-05-31")}), known).outcome is outcome


def test_end_date_lasts_to_midnight_and_not_a_second_longer():
    listed = listing(expires_on=day("2026-05-31"))
    assert ask(listed, at=at("2026-05-31T23:59:59.999999")).outcome is Outcome.INTERCEPT
    assert ask(listed, at=at("2026-06-01T00:00:00")).outcome is Outcome.PASS
    # The same boundary from a caller whose clock runs in UTC.
    assert ask(listed, at=at("2026-05-31T15:59:59+00:00")).outcome is Outcome.INTERCEPT
    assert ask(listed, at=at("2026-05-31T16:00:00+00:00")).outcome is Outcome.PASS


def test_ended_listing_leaves_the_other_one_in_force():
    ended = listing("A", expires_on=day("2026-02-01"))
    running = listing("B")
    ruling = ask([ended, running])
    assert [each.id for each in ruling.listings] == ["B"]


def test_listing_of_a_type_no_catalogue_in_force_knows_bears_nothing():
    known = catalogues(list_types=(list_type(effective_to=day("2026-05-31")),))
    assert ask(listing(), known, at=at("2026-05-31")).outcome is Outcome.INTERCEPT
    assert ask(listing(), known).outcome is Outcome.PASS


@pytest.mark.parametrize(
    ("region", "handled_in", "outcome"),
    [
        (JIANGSU, NANJING, Outcome.INTERCEPT),
        (JIANGSU, HEFEI, Outcome.PASS),
        (SUZHOU, SUZHOU, Outcome.INTERCEPT),
        (SUZHOU, "320505", Outcome.INTERCEPT),
        (SUZHOU, NANJING, Outcome.PASS),
        (SUZHOU, JIANGSU, Outcome.PASS),
    ],
)
def test_local_list_type_acts_only_in_its_region(region, handled_in, outcome):
    level = Level.PROVINCIAL if region == JIANGSU else Level.MUNICIPAL
    known = catalogues(list_types=(list_type(level=level, region=region),))
    assert ask(listing(), known, handling_region=handled_in).outcome is outcome


def test_objection_mark_rides_along_and_changes_nothing():
    marked = ask(listing(objection=True))
    plain = ask(listing())
    assert marked.listings[0].objection
    assert (marked.outcome, codes(marked), marked.instruction) == (plain.outcome, codes(plain), plain.instruction)


def test_alias_finds_the_list_type():
    known = catalogues(list_types=(list_type(aliases=("OLDWAGE",)),))
    assert ask(listing(list_type="OLDWAGE"), known).outcome is Outcome.INTERCEPT


def test_measure_may_name_the_list_type_by_alias_and_still_counts_once():
    known = catalogues(
        measure(list_types=frozenset({"OLDWAGE", "WAGE"})),
        measure("M2", list_types=frozenset({"OLDWAGE"})),
        list_types=(list_type(aliases=("OLDWAGE",)),),
    )
    ruling = ask(listing(), known)
    assert codes(ruling) == ["M1", "M2"]
    assert [len(each.listings) for each in ruling.measures] == [1, 1]


# Step 2: all of list type, subject kind, matter, role, implementer, region


def test_measure_of_another_list_type_or_matter_does_not_apply():
    known = catalogues(
        measure(list_types=frozenset({"TAX"})),
        measure("M2", matters=frozenset({"land.transfer"})),
        list_types=(list_type(), list_type("TAX")),
        matters=(matter(), matter("land.transfer")),
    )
    assert ask(listing(), known).outcome is Outcome.PASS


def test_broader_matter_reaches_the_narrower_and_not_the_other_way():
    family = (
        matter("procurement"),
        matter("procurement.goods", broader="procurement"),
        matter("procurement.goods.it", broader="procurement.goods"),
    )
    known = catalogues(measure(matters=frozenset({"procurement.goods"})), matters=family)
    assert ask(listing(), known, matter="procurement.goods.it").outcome is Outcome.INTERCEPT
    assert ask(listing(), known, matter="procurement.goods").outcome is Outcome.INTERCEPT
    assert ask(listing(), known, matter="procurement").outcome is Outcome.PASS


def test_measure_that_names_matter_and_broader_matter_counts_once():
    family = (matter("procurement"), matter("procurement.goods", broader="procurement"))
    known = catalogues(measure(matters=frozenset({"procurement", "procurement.goods"})), matters=family)
    ruling = ask(listing(), known, matter="procurement.goods")
    assert codes(ruling) == ["M1"]
    assert len(ruling.measures[0].listings) == 1


def test_matters_that_hold_each_other_end():
    ring = (matter("a", broader="b"), matter("b", broader="a"))
    known = catalogues(measure(matters=frozenset({"b"})), matters=ring)
    assert ask(listing(), known, matter="a").outcome is Outcome.INTERCEPT


def test_later_edition_does_not_widen_a_matter_early():
    now = edition(matters=(matter("procurement"), matter()), measures=(measure(matters=frozenset({"procurement"})),))
    later = edition(
        edition="2027",
        effective_from=day("2027-01-01"),
        matters=(matter("procurement"), matter(broader="procurement")),
        measures=(measure(matters=frozenset({"procurement"})),),
    )
    known = CatalogueSet.of([now, later])
    assert ask(listing(), known).outcome is Outcome.PASS
    assert ask(listing(), known, at=at("2027-01-01")).outcome is Outcome.INTERCEPT


def test_role_applicant_against_parent():
    assert ask(listing(), role="parent").outcome is Outcome.PASS
    known = catalogues(measure(roles=frozenset({"parent"})))
    assert ask(listing(), known, role="parent").outcome is Outcome.INTERCEPT
    assert ask(listing(), known).outcome is Outcome.PASS


@pytest.mark.parametrize(
    ("named", "caller", "outcome"),
    [
        ((), frozenset(), Outcome.INTERCEPT),
        ((), None, Outcome.INTERCEPT),
        (("purchaser",), None, Outcome.INTERCEPT),
        (("purchaser",), frozenset({"purchaser", "licensing"}), Outcome.INTERCEPT),
        (("purchaser",), frozenset({"licensing"}), Outcome.PASS),
        (("purchaser",), frozenset(), Outcome.PASS),
    ],
)
def test_implementer_kinds(named, caller, outcome):
    known = catalogues(measure(implementers=frozenset(named)))
    assert ask(listing(), known, implementer_kinds=caller).outcome is outcome


def local(level, region, *measures, id_=None, **changes):
    return edition(
        id_ or f"local-{region}", level=level, region=region, list_types=(), matters=(), measures=measures, **changes
    )


@pytest.mark.parametrize(
    ("handled_in", "expected"), [(SUZHOU, ["CITY"]), ("320505", ["CITY"]), (NANJING, []), (HEFEI, []), (JIANGSU, [])]
)
def test_municipal_measure_acts_only_in_its_city(handled_in, expected):
    city = local(Level.MUNICIPAL, SUZHOU, measure("CITY", effect=Effect.RESTRICT), filing_number="F 1")
    known = CatalogueSet.of([edition(measures=()), city])
    assert codes(ask(listing(), known, handling_region=handled_in)) == expected


def test_region_override_moves_a_place_into_another_city():
    city = local(Level.MUNICIPAL, SUZHOU, measure("CITY"))
    known = CatalogueSet.of([edition(measures=()), city], {"320685": "320505"})
    assert codes(ask(listing(), known, handling_region="320685")) == ["CITY"]
    assert codes(ask(listing(), known, handling_region="320684")) == []


OBJECT_CASES = [
    # subject kind of the listing, objects of the measure, hint of the number, outcome
    (SubjectKind.ENTERPRISE, {SubjectKind.ORGANISATION}, None, Outcome.INTERCEPT),
    (SubjectKind.ENTERPRISE, {SubjectKind.ENTERPRISE}, None, Outcome.INTERCEPT),
    (SubjectKind.SOCIAL_ORG, {SubjectKind.ENTERPRISE}, None, Outcome.PASS),
    (SubjectKind.INDIVIDUAL_BUSINESS, {SubjectKind.ORGANISATION}, None, Outcome.PASS),
    (SubjectKind.INDIVIDUAL_BUSINESS, {SubjectKind.INDIVIDUAL_BUSINESS}, None, Outcome.INTERCEPT),
    (PERSON, {SubjectKind.ORGANISATION}, None, Outcome.PASS),
    (PERSON, {PERSON}, None, Outcome.INTERCEPT),
    (SubjectKind.ORGANISATION, {SubjectKind.ORGANISATION}, None, Outcome.INTERCEPT),
    (SubjectKind.ORGANISATION, set(ORGANISATION_KINDS), None, Outcome.INTERCEPT),
    (SubjectKind.ORGANISATION, {SubjectKind.INDIVIDUAL_BUSINESS, PERSON}, None, Outcome.PASS),
    (SubjectKind.ORGANISATION, {SubjectKind.ENTERPRISE}, None, Outcome.UNDETERMINED),
    (SubjectKind.ORGANISATION, {SubjectKind.ENTERPRISE}, SubjectKind.ORGANISATION, Outcome.UNDETERMINED),
    (SubjectKind.ORGANISATION, {SubjectKind.ENTERPRISE}, SubjectKind.ENTERPRISE, Outcome.INTERCEPT),
    (SubjectKind.ORGANISATION, {SubjectKind.ENTERPRISE}, SubjectKind.OTHER_ORG, Outcome.PASS),
    (SubjectKind.ORGANISATION, {SubjectKind.ORGANISATION}, SubjectKind.OTHER_ORG, Outcome.INTERCEPT),
    (SubjectKind.ORGANISATION, {SubjectKind.ORGANISATION}, SubjectKind.INDIVIDUAL_BUSINESS, Outcome.PASS),
    # A record that says organisation, found under a person's number: neither is believed.
    (SubjectKind.ORGANISATION, {PERSON}, PERSON, Outcome.UNDETERMINED),
    (SubjectKind.ORGANISATION, {SubjectKind.ORGANISATION}, PERSON, Outcome.UNDETERMINED),
    # What the listing knows is not overruled by the number.
    (SubjectKind.ENTERPRISE, {SubjectKind.ENTERPRISE}, SubjectKind.INDIVIDUAL_BUSINESS, Outcome.INTERCEPT),
]


@pytest.mark.parametrize(("kind", "objects", "hint", "outcome"), OBJECT_CASES)
def test_subject_kind(kind, objects, hint, outcome):
    ruling = ask(listing(subject_kind=kind), catalogues(measure(objects=frozenset(objects))), kind_hint=hint)
    assert ruling.outcome is outcome
    if outcome is Outcome.UNDETERMINED:
        assert ruling.reason is Reason.FACTS_MISSING
        assert [each.fact for each in ruling.missing] == ["subject_kind"]


# Step 3: the decision behind the listing, and a measure's own term

SANCTION_CASES: dict[str, tuple[dict[str, Any], Outcome, str | None]] = {
    "running": ({}, Outcome.INTERCEPT, None),
    "last day": ({"sanction_to": day("2026-06-01")}, Outcome.INTERCEPT, None),
    "first day": ({"sanction_from": day("2026-06-01")}, Outcome.INTERCEPT, None),
    "ended": ({"sanction_to": day("2026-05-31")}, Outcome.PASS, None),
    "not begun": ({"sanction_from": day("2026-06-02")}, Outcome.PASS, None),
    "another kind": ({"sanction_kind": "fine"}, Outcome.PASS, None),
    "unknown kind": ({"sanction_kind": ""}, Outcome.UNDETERMINED, "sanction_kind"),
    "unknown end": ({"sanction_to": None}, Outcome.UNDETERMINED, "sanction_term"),
    "unknown beginning": ({"sanction_from": None}, Outcome.UNDETERMINED, "sanction_term"),
    "nothing known": (
        {"sanction_kind": "", "sanction_from": None, "sanction_to": None},
        Outcome.UNDETERMINED,
        "sanction_kind",
    ),
    "unknown kind but ended": ({"sanction_kind": "", "sanction_to": day("2026-05-31")}, Outcome.PASS, None),
    "another kind, term unknown": ({"sanction_kind": "fine", "sanction_to": None}, Outcome.PASS, None),
}


@pytest.mark.parametrize("case", SANCTION_CASES)
def test_decision_behind_the_listing(case):
    changes, outcome, fact = SANCTION_CASES[case]
    known = {"sanction_kind": "ban", "sanction_from": day("2026-01-01"), "sanction_to": day("2026-12-31")}
    ruling = ask(listing(**{**known, **changes}), catalogues(sanctioned()))
    assert ruling.outcome is outcome
    assert [each.fact for each in ruling.missing] == ([fact] if fact else [])
    if fact:
        assert ruling.reason is Reason.FACTS_MISSING
        assert ruling.confirmation_required
        assert [each.id for each in ruling.listings] == ["L1"]
        assert not ruling.measures


@pytest.mark.parametrize(
    ("listed_on", "months", "last"),
    [
        ("2026-01-31", 1, "2026-02-28"),
        ("2028-01-31", 1, "2028-02-29"),
        ("2026-01-15", 1, "2026-02-15"),
        ("2026-01-01", 24, "2028-01-01"),
        ("2026-12-31", 2, "2027-02-28"),
    ],
)
def test_own_term_of_a_measure_counts_from_the_listing(listed_on, months, last):
    known = catalogues(measure(term_months=months))
    listed = listing(listed_on=day(listed_on))
    assert ask(listed, known, at=at(f"{last}T23:59:59")).outcome is Outcome.INTERCEPT
    following = day(last) + datetime.timedelta(days=1)
    assert ask(listed, known, at=at(f"{following}T00:00:00")).outcome is Outcome.PASS


def test_own_term_and_decision_must_both_run():
    known = catalogues(sanctioned(term_months=3))
    listed = listing(sanction_kind="ban", sanction_from=day("2026-01-01"), sanction_to=day("2027-01-01"))
    assert ask(listed, known, at=at("2026-04-01")).outcome is Outcome.INTERCEPT
    assert ask(listed, known, at=at("2026-04-02")).outcome is Outcome.PASS


# Step 4: entries that repeat a higher one


def test_entry_that_repeats_gives_way_to_the_national_one():
    province = local(Level.PROVINCIAL, JIANGSU, measure("JS1", repeats="M1"))
    assert codes(ask(listing(), CatalogueSet.of([edition(), province]))) == ["M1"]


def test_entry_that_repeats_acts_while_the_higher_one_is_not_in_force():
    province = local(Level.PROVINCIAL, JIANGSU, measure("JS1", repeats="GONE"))
    assert codes(ask(listing(), CatalogueSet.of([edition(measures=()), province]))) == ["JS1"]
    ended = edition("old", list_types=(), matters=(), measures=(measure("GONE"),), effective_to=day("2026-05-31"))
    assert codes(ask(listing(), CatalogueSet.of([edition(measures=()), ended, province]))) == ["JS1"]


def test_entry_does_not_give_way_to_one_of_its_own_level():
    province = local(Level.PROVINCIAL, JIANGSU, measure("JS1", repeats="JS2"), measure("JS2"))
    assert codes(ask(listing(), CatalogueSet.of([edition(measures=()), province]))) == ["JS1", "JS2"]


def test_national_and_different_provincial_measure_add_up():
    province = local(Level.PROVINCIAL, JIANGSU, measure("JS1", effect=Effect.RESTRICT))
    ruling = ask(listing(), CatalogueSet.of([edition(), province]))
    assert codes(ruling) == ["M1", "JS1"]
    assert ruling.outcome is Outcome.INTERCEPT
    assert ruling.editions == ("local-320000@2026", "nat@2026")


# Step 5: strongest effect


@pytest.mark.parametrize(
    ("effect", "outcome"),
    [
        (Effect.DENY, Outcome.INTERCEPT),
        (Effect.RESTRICT, Outcome.RESTRICT),
        (Effect.HEIGHTEN, Outcome.HEIGHTEN),
        (Effect.ADVISE, Outcome.ADVISE),
    ],
)
def test_outcome_is_what_the_entry_allows(effect, outcome):
    assert ask(listing(), catalogues(measure(effect=effect))).outcome is outcome


def test_measures_stand_strongest_first_then_by_level_then_by_code():
    nation = edition(measures=(measure("B", effect=Effect.ADVISE), measure("Z"), measure("A", effect=Effect.ADVISE)))
    province = local(Level.PROVINCIAL, JIANGSU, measure("0-JS"), measure("1-JS", effect=Effect.HEIGHTEN))
    ruling = ask(listing(), CatalogueSet.of([nation, province]))
    assert codes(ruling) == ["Z", "0-JS", "1-JS", "A", "B"]
    assert "instruction of Z" in ruling.instruction
    assert "5" in ruling.instruction


def test_one_measure_borne_by_two_listings_stands_once_with_both():
    ruling = ask([listing("A"), listing("B")])
    assert codes(ruling) == ["M1"]
    assert [each.id for each in ruling.measures[0].listings] == ["A", "B"]
    assert [each.id for each in ruling.listings] == ["A", "B"]


def test_definite_interception_stays_where_only_a_weaker_measure_lacks_facts():
    known = catalogues(measure(), sanctioned("M2", effect=Effect.RESTRICT))
    ruling = ask(listing(), known)
    assert ruling.outcome is Outcome.INTERCEPT
    assert not ruling.missing


def test_fact_missing_for_an_equal_measure_changes_nothing():
    ruling = ask(listing(), catalogues(measure(), sanctioned("M2")))
    assert (ruling.outcome, codes(ruling)) == (Outcome.INTERCEPT, ["M1"])


def test_fact_missing_for_a_stronger_measure_is_undetermined_and_keeps_what_is_sure():
    known = catalogues(measure(effect=Effect.RESTRICT, officer_verifies=("look",)), sanctioned("M2"))
    ruling = ask(listing(), known)
    assert (ruling.outcome, ruling.reason) == (Outcome.UNDETERMINED, Reason.FACTS_MISSING)
    assert codes(ruling) == ["M1"]
    assert [(each.measure.code, each.fact) for each in ruling.missing] == [("M2", "sanction_kind")]
    assert ruling.officer_verifies == ("look",)
    assert ruling.editions == ("nat@2026",)


# Step 6: a pass says nothing


def test_pass_of_a_listed_subject_is_the_pass_of_an_unlisted_one():
    known = catalogues(measure(list_types=frozenset({"TAX"})), list_types=(list_type(), list_type("TAX")))
    assert ask(listing(objection=True), known) == ask([], known)
    assert ask(listing(expires_on=day("2026-02-01"))) == ask([])


def test_listing_without_part_in_the_answer_is_not_shown():
    known = catalogues(list_types=(list_type(), list_type("TAX")))
    ruling = ask([listing("A"), listing("B", list_type="TAX")], known)
    assert [each.id for each in ruling.listings] == ["A"]


# Step 7: doubts


def test_name_mismatch_of_an_organisation_is_a_warning():
    ruling = ask(listing(), name_mismatches=frozenset({"L1"}))
    assert ruling.outcome is Outcome.INTERCEPT
    assert ruling.warnings == ("name-mismatch",)


@pytest.mark.parametrize("hint", [None, PERSON])
def test_name_mismatch_of_a_person_is_undetermined_without_details(hint):
    kind = PERSON if hint is None else SubjectKind.ORGANISATION
    known = catalogues(measure(objects=frozenset({PERSON, SubjectKind.ORGANISATION})))
    ruling = ask(listing(subject_kind=kind), known, name_mismatches=frozenset({"L1"}), kind_hint=hint)
    assert (ruling.outcome, ruling.reason) == (Outcome.UNDETERMINED, Reason.NAME_MISMATCH)
    assert (ruling.measures, ruling.listings, ruling.missing, ruling.editions) == ((), (), (), ())
    assert "L1" not in repr(ruling)


def test_name_mismatch_of_a_listing_that_bears_nothing_is_not_told():
    ended = listing("A", subject_kind=PERSON, expires_on=day("2026-02-01"))
    assert ask([ended], name_mismatches=frozenset({"A"})) == ask([])


def test_name_mismatch_goes_with_missing_facts():
    ruling = ask(listing(), catalogues(sanctioned()), name_mismatches=frozenset({"L1"}))
    assert ruling.reason is Reason.FACTS_MISSING
    assert ruling.warnings == ("name-mismatch",)


@pytest.mark.parametrize(
    ("source_as_of", "warnings"),
    [("2026-05-02", ()), ("2026-05-01", ("verify-at-source",)), (None, ("verify-at-source",))],
)
def test_old_source_is_a_warning(source_as_of, warnings):
    known = catalogues(list_types=(list_type(source_max_age_days=30),))
    ruling = ask(listing(source_as_of=day(source_as_of) if source_as_of else None), known)
    assert ruling.outcome is Outcome.INTERCEPT
    assert ruling.warnings == warnings


@pytest.mark.parametrize(
    ("vouched_on", "asked", "warnings"),
    [
        # it delivers every day, and no row ever changes
        ("2026-06-01", "2026-06-01", ()),
        # it stopped: the last allowed day to its end, then from 00:00
        ("2026-05-20", "2026-06-19T23:59:59", ()),
        ("2026-05-20", "2026-06-20T00:00:00", ("verify-at-source",)),
        # what came later does not make an older instant doubtful
        ("2026-05-20", "2026-03-01", ()),
    ],
)
def test_what_its_source_delivers_vouches_for_a_listing(vouched_on, asked, warnings):
    known = catalogues(list_types=(list_type(source_max_age_days=30),))
    vouched = {("WAGE", "hr"): day(vouched_on)}
    ruling = ask(listing(source="hr"), known, at=at(asked), vouched=vouched)
    assert ruling.outcome is Outcome.INTERCEPT
    assert ruling.warnings == warnings


def test_no_other_source_and_no_other_list_vouches_for_a_listing():
    known = catalogues(list_types=(list_type(source_max_age_days=30, aliases=("OLD",)), list_type("TAX")))
    for place in (("WAGE", "court"), ("TAX", "hr"), ("WAGE", "")):
        assert ask(listing(source="hr"), known, vouched={place: day("2026-06-01")}).warnings == ("verify-at-source",)
    for code in ("WAGE", "OLD"):
        renamed = listing(source="hr", list_type="OLD")
        assert ask(renamed, known, vouched={(code, "hr"): day("2026-06-01")}).warnings == ()


def test_an_older_delivery_does_not_take_back_what_the_row_says():
    known = catalogues(list_types=(list_type(source_max_age_days=30),))
    young = listing(source="hr", source_as_of=day("2026-05-30"))
    assert ask(young, known, vouched={("WAGE", "hr"): day("2026-01-01")}).warnings == ()


def test_a_pass_says_nothing_of_old_sources():
    known = catalogues(list_types=(list_type(source_max_age_days=30),))
    old = {("WAGE", "hr"): day("2026-01-01")}
    assert ask(listing(source="hr", expires_on=day("2026-02-01")), known, vouched=old) == ask([])


def test_a_subject_of_many_listings_is_traced_in_no_time():
    many = [listing(f"L{number}") for number in range(5_000)]
    trace, began = Trace(), time.process_time()
    decide(many, catalogues(), question(name_mismatches=frozenset(each.id for each in many)), trace)
    assert time.process_time() - began < 1
    assert sum(each.verdict == "name_mismatch" for each in trace.at(7)) == 5_000


# Step 8: an officer confirms


@pytest.mark.parametrize(
    ("kind", "effect", "verifies", "confirm"),
    [
        (PERSON, Effect.DENY, (), True),
        (PERSON, Effect.RESTRICT, (), True),
        (PERSON, Effect.HEIGHTEN, (), False),
        (PERSON, Effect.ADVISE, (), False),
        (PERSON, Effect.ADVISE, ("look",), True),
        (SubjectKind.ENTERPRISE, Effect.DENY, (), False),
        (SubjectKind.ENTERPRISE, Effect.DENY, ("look",), True),
        (SubjectKind.INDIVIDUAL_BUSINESS, Effect.DENY, (), False),
    ],
)
def test_confirmation(kind, effect, verifies, confirm):
    known = catalogues(measure(objects=frozenset({kind}), effect=effect, officer_verifies=verifies))
    ruling = ask(listing(subject_kind=kind), known)
    assert ruling.confirmation_required is confirm
    assert ruling.officer_verifies == verifies
    assert ("确认" in ruling.instruction) is confirm


def test_an_operator_asked_about_by_the_own_number_is_confirmed_as_a_person():
    business = SubjectKind.INDIVIDUAL_BUSINESS
    known = catalogues(measure(objects=frozenset({business})))
    assert ask(listing(subject_kind=business), known, kind_hint=PERSON).confirmation_required
    assert not ask(listing(subject_kind=business), known, kind_hint=business).confirmation_required


def test_what_to_verify_stands_once():
    known = catalogues(measure(officer_verifies=("a", "b")), measure("M2", officer_verifies=("b", "c")))
    assert ask(listing(), known).officer_verifies == ("a", "b", "c")


def test_contradicting_record_wants_an_officer():
    known = catalogues(measure(objects=frozenset({PERSON, SubjectKind.ORGANISATION})))
    ruling = ask(listing(subject_kind=SubjectKind.ORGANISATION), known, kind_hint=PERSON)
    assert ruling.outcome is Outcome.INTERCEPT
    assert ruling.confirmation_required


# What cannot be handed in


def test_decide_takes_listings_catalogues_and_a_question_and_nothing_else():
    # A trace only takes: `test_a_trace_changes_nothing_and_accounts_for_every_listing_and_measure`.
    assert list(inspect.signature(decide).parameters) == ["listings", "catalogues", "question", "trace"]
    assert set(Question.__slots__) == {
        "matter",
        "at",
        "handling_region",
        "department",
        "role",
        "implementer_kinds",
        "kind_hint",
        "name_mismatches",
        "vouched",
    }


def test_question_defaults_to_the_party_of_the_case_itself():
    assert question().role == "applicant"
    assert measure().trigger is Trigger.LISTING
