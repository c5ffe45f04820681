"""What a set is good for, by its age."""

import pytest

from lanjie_matcher.ages import DEFAULT_BOUNDS, Age, AgeBounds

HOUR = 3_600.0


@pytest.mark.parametrize(
    ("age", "wanted"),
    [
        (0.0, Age.FRESH),
        (45.0, Age.FRESH),
        (45.001, Age.SOFT),
        (15 * 60.0, Age.SOFT),
        (15 * 60.001, Age.STALE),
        (24 * HOUR, Age.STALE),
        (24 * HOUR + 0.001, Age.EXPIRED),
        (1e9, Age.EXPIRED),
    ],
)
def test_a_set_is_good_for_less_the_older_it_is(age, wanted):
    assert DEFAULT_BOUNDS.of(age) is wanted


def test_key_and_set_are_erased_after_two_days():
    assert DEFAULT_BOUNDS.purge == 48 * HOUR


@pytest.mark.parametrize(
    ("told", "taken"),
    [
        ({}, (45, 900, 86_400, 172_800)),
        ({"fresh": 1e9, "soft": 1e9, "stale": 1e9, "purge": 1e9}, (45, 900, 86_400, 172_800)),
        ({"fresh": 10}, (10, 900, 86_400, 172_800)),
        ({"soft": 60}, (45, 60, 86_400, 172_800)),
        ({"stale": HOUR}, (45, 900, HOUR, 172_800)),
        ({"purge": 2 * HOUR, "stale": HOUR}, (45, 900, HOUR, 2 * HOUR)),
        # Each at least the one before it.
        ({"soft": 5}, (45, 45, 86_400, 172_800)),
        ({"stale": 0}, (45, 900, 900, 172_800)),
        ({"purge": 0}, (45, 900, 86_400, 86_400)),
        # A head that says nothing is good for nothing.
        ({"fresh": 0, "soft": 0, "stale": 0, "purge": 0}, (0, 0, 0, 0)),
    ],
)
def test_a_manifest_can_only_shorten(told, taken):
    bounds = AgeBounds(**told).capped()
    assert (bounds.fresh, bounds.soft, bounds.stale, bounds.purge) == taken
