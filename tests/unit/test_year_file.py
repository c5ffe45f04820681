"""Year files: each slip of the pen is refused by its name, and the bundled years obey all rules."""

import pytest

from lanjie_gateway.domain.catalogue_yaml import CatalogueRefused
from lanjie_gateway.domain.year_file import MAX_BYTES, load
from tests.support.years import BUNDLED, INVENTED_TEXT, INVENTED_WARNINGS

NEW_YEAR = "{name: 元旦, from: 2027-01-01, to: 2027-01-03}"


def changed(old, new):
    assert INVENTED_TEXT.count(old) == 1
    return INVENTED_TEXT.replace(old, new).encode()


def faults(file):
    with pytest.raises(CatalogueRefused) as refused:
        load(file, "2027.yaml")
    assert refused.value.metadata["file"] == "2027.yaml"
    return {(fault.entry, fault.rule) for fault in refused.value.faults}


@pytest.mark.parametrize("name", BUNDLED)
def test_a_bundled_year_obeys_all_rules_and_gives_what_the_statute_grants(name):
    year, warnings = load(BUNDLED[name], name)
    assert (f"{year.year}.yaml", year.example, warnings) == (name, False, ())
    assert year.date.year == year.year - 1


@pytest.mark.parametrize(
    ("old", "new", "entry", "rule"),
    [
        ("year: 2027", "year: 1927", "file", "field-type"),
        ("year: 2027", "month: 2027", "file", "field-missing"),
        ("year: 2027", "month: 2027", "file", "field-unknown"),
        ("number: 虚构〔2026〕0号, ", "", "notice", "notice-missing"),
        ("date: 2026-11-10, ", "", "notice", "notice-missing"),
        (", issuer: 虚构", "", "notice", "notice-missing"),
        ("issuer: 虚构", "issuer: 虚构, url: 虚构", "notice", "field-unknown"),
        ("date: 2026-11-10", "date: 2026-11-31", "notice", "field-type"),
        (NEW_YEAR, "{name: 元旦, from: 2027-01-03, to: 2027-01-01}", "days_off[0]", "range-order"),
        (NEW_YEAR, "{name: 元旦, from: 2027-01-01, to: 2027-01-31}", "days_off[0]", "range-long"),
        (NEW_YEAR, "{name: 元旦, from: 2027-01-01}", "days_off[0]", "field-missing"),
        (NEW_YEAR, "{name: 元旦, from: 2026-11-30, to: 2026-11-30}", "元旦", "day-outside"),
        (NEW_YEAR, "{name: 元旦, from: 2028-01-01, to: 2028-01-01}", "元旦", "day-outside"),
        (NEW_YEAR, "{name: 元旦, from: 2027-01-02, to: 2027-01-03}", "days_off", "core-day"),
        (
            NEW_YEAR,
            NEW_YEAR + "\n  - {name: 又一, from: 2027-01-03, to: 2027-01-04}",
            "又一",
            "overlap",
        ),
        ("to: 2027-02-11", "to: 2027-02-07", "days_off", "core-day"),
        ("[2027-01-31,", "[2027-02-06,", "working_days 2027-02-06", "overlap"),
        ("[2027-01-31,", "[2027-01-28,", "working_days 2027-01-28", "weekend-only"),
        ("[2027-01-31,", "[2028-01-30,", "working_days 2028-01-30", "day-outside"),
        ("[2027-01-31,", "[20270131,", "file", "field-type"),
        ("[2027-01-31,", '["20270131",', "working_days 20270131", "field-type"),
        ("working_days:", "worked:", "file", "field-missing"),
        ("days_off:\n", "days_off: []\nmore:\n", "file", "field-type"),
        ("example: true", "example: 1", "file", "field-type"),
        ("example: true", "year: 2027", "file", "duplicate-key"),
    ],
)
def test_a_slip_is_refused_by_its_name(old, new, entry, rule):
    assert (entry, rule) in faults(changed(old, new))


@pytest.mark.parametrize(
    ("file", "rule"),
    [(b"", "field-type"), (b"[", "yaml"), (b"\xff", "yaml"), (b"#" * (MAX_BYTES + 1), "too-large")],
)
def test_what_is_no_year_file_is_refused(file, rule):
    assert rule in {name for _, name in faults(file)}


def test_a_notice_may_name_days_of_the_december_before():
    file = changed(NEW_YEAR, "{name: 元旦, from: 2026-12-31, to: 2027-01-03}")
    year, warnings = load(file, "2027.yaml")
    assert "2026-12-31" in {str(day) for day in year.days().days_off}
    assert len(warnings) == 1


def test_days_lent_and_not_given_back_are_worth_a_look():
    assert INVENTED_WARNINGS == ()
    (warning,) = load(changed("2027-05-08, ", ""), "2027.yaml")[1]
    assert "are 14; the statute grants 13" in warning
