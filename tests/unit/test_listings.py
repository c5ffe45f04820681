"""When a listing is in force."""

import dataclasses

import pytest

from lanjie_matcher.civil_time import SHANGHAI, day_of, last_day_after_months, start_of
from lanjie_matcher.listings import EndsWith, Listing, Standing, ended_by_event, standing
from tests.support.core import at, day, listing

MORNING = at("2026-03-10T09:30:00")


def stands(listed, when, ends_with=EndsWith.TERM):
    return standing(listed, ends_with, at(when))


@pytest.mark.parametrize(
    ("dates", "begins"),
    [
        ({"served_date": "2026-02-01", "listed_on": "2026-03-01"}, "2026-03-01"),
        ({"served_date": "2026-03-05", "listed_on": "2026-03-01"}, "2026-03-05"),
        ({"served_date": "2026-03-05", "listed_on": None}, "2026-03-05"),
        ({"listed_on": None, "decision_date": "2026-01-20"}, "2026-01-20"),
        ({"listed_on": None}, "2026-01-10"),
    ],
)
def test_first_day(dates, begins):
    listed = listing(**{name: value and day(value) for name, value in dates.items()})
    assert listed.begins_on == day(begins)
    assert standing(listed, EndsWith.TERM, start_of(day(begins))) is Standing.IN_FORCE


def test_served_in_the_future_has_not_begun():
    listed = listing(served_date=day("2026-07-01"))
    assert stands(listed, "2026-06-30T23:59:59") is Standing.NOT_BEGUN
    assert stands(listed, "2026-07-01T00:00:00") is Standing.IN_FORCE


@pytest.mark.parametrize("when", ["2026-01-01", "2026-02-01", "2030-01-01"])
def test_annulled_was_never_in_force(when):
    assert stands(listing(annulled=True, reinstated_at=MORNING), when) is Standing.ANNULLED


@pytest.mark.parametrize(
    ("field", "why"),
    [
        ("removed_at", Standing.REMOVED),
        ("repaired_at", Standing.REPAIRED),
        ("revoked_at", Standing.REVOKED),
    ],
)
def test_event_ends_at_its_instant(field, why):
    listed = listing(**{field: MORNING})
    assert stands(listed, "2026-03-10T09:29:59.999999") is Standing.IN_FORCE
    assert stands(listed, "2026-03-10T09:30:00") is why
    assert stands(listed, "2027-01-01") is why


def test_earliest_end_wins():
    listed = listing(removed_at=at("2026-05-01"), repaired_at=MORNING)
    assert stands(listed, "2026-04-01") is Standing.REPAIRED


def test_reinstated_listing_is_in_force_again_from_its_instant():
    listed = listing(removed_at=MORNING, reinstated_at=at("2026-04-01T00:00:00"))
    assert stands(listed, "2026-03-20") is Standing.REMOVED
    assert stands(listed, "2026-04-01T00:00:00") is Standing.IN_FORCE


def test_removal_after_reinstatement_ends_it_for_good():
    listed = listing(reinstated_at=MORNING, removed_at=at("2026-04-01T00:00:00"))
    assert stands(listed, "2026-03-20") is Standing.IN_FORCE
    assert stands(listed, "2026-04-01T00:00:00") is Standing.REMOVED


@pytest.mark.parametrize(
    ("ends_with", "why"),
    [
        (EndsWith.TERM, Standing.TERM_ENDED),
        (EndsWith.PUBLICITY, Standing.PUBLICITY_ENDED),
        (EndsWith.REMOVAL, Standing.IN_FORCE),
    ],
)
def test_what_its_list_type_names(ends_with, why):
    listed = listing(expires_on=day("2026-05-31"), publicity_until=day("2026-05-31"))
    assert stands(listed, "2026-05-31T23:59:59", ends_with) is Standing.IN_FORCE
    assert stands(listed, "2026-06-01T00:00:00", ends_with) is why


def test_retention_ends_every_listing():
    listed = listing(retention_until=day("2026-05-31"))
    assert stands(listed, "2026-05-31T23:59:59", EndsWith.REMOVAL) is Standing.IN_FORCE
    assert stands(listed, "2026-06-01T00:00:00", EndsWith.REMOVAL) is Standing.RETENTION_ENDED


def test_stay_suspends_until_its_end():
    listed = listing(stays=((MORNING, at("2026-04-01T00:00:00")),))
    assert stands(listed, "2026-03-10T09:29:59") is Standing.IN_FORCE
    assert stands(listed, "2026-03-10T09:30:00") is Standing.STAYED
    assert stands(listed, "2026-03-31T23:59:59") is Standing.STAYED
    assert stands(listed, "2026-04-01T00:00:00") is Standing.IN_FORCE


def test_open_stay_has_no_end():
    assert stands(listing(stays=((MORNING, None),)), "2029-01-01") is Standing.STAYED


@pytest.mark.parametrize(
    ("changes", "ended"),
    [
        ({}, False),
        ({"annulled": True}, True),
        ({"removed_at": MORNING}, True),
        ({"repaired_at": MORNING}, True),
        ({"revoked_at": MORNING}, True),
        ({"removed_at": MORNING, "reinstated_at": at("2026-04-01")}, False),
        ({"removed_at": at("2026-05-01"), "reinstated_at": at("2026-04-01")}, True),
        ({"expires_on": day("2026-01-02")}, False),
        ({"stays": ((MORNING, None),)}, False),
        ({"served_date": day("2030-01-01")}, False),
    ],
)
def test_views_keep_what_only_time_ends(changes, ended):
    assert ended_by_event(listing(**changes)) is ended


def test_listing_has_no_place_for_a_related_person_an_identifier_or_a_name():
    names = {field.name for field in dataclasses.fields(Listing)}
    assert not {name for name in names if any(word in name for word in ("related", "person", "identif", "name"))}


def test_days_are_days_in_shanghai():
    assert day_of(at("2026-05-31T15:59:59+00:00")) == day("2026-05-31")
    assert day_of(at("2026-05-31T16:00:00+00:00")) == day("2026-06-01")
    assert start_of(day("2026-06-01")) == at("2026-05-31T16:00:00+00:00")
    assert start_of(day("2026-06-01")).tzinfo is SHANGHAI


def test_naive_instant_is_refused():
    with pytest.raises(ValueError, match="zone"):
        day_of(MORNING.replace(tzinfo=None))


@pytest.mark.parametrize(
    ("start", "months", "last"),
    [
        ("2026-01-31", 1, "2026-02-28"),
        ("2024-01-31", 1, "2024-02-29"),
        ("2026-02-28", 1, "2026-03-28"),
        ("2026-11-30", 3, "2027-02-28"),
        ("2026-05-31", 36, "2029-05-31"),
        ("2026-12-15", 12, "2027-12-15"),
    ],
)
def test_terms_in_months(start, months, last):
    assert last_day_after_months(day(start), months) == day(last)
