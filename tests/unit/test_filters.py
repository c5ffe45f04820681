"""The two local filters."""

from array import array

import pytest

from lanjie_matcher.filters import BloomFilter, SortedFilter
from lanjie_matcher.fingerprints import ViewKey

KEY = ViewKey(bytes(range(32)), 40)


def fingerprints(first, last):
    return [KEY.fingerprint(f"org:{number:09d}") for number in range(first, last)]


def bloom_of(values, slice_=500):
    bloom = BloomFilter(len(values))
    source = iter(values)
    while bloom.add_some(source, slice_):
        pass
    return bloom


def test_no_member_is_ever_denied():
    values = sorted(set(fingerprints(0, 20_000)))
    bloom, exact = bloom_of(values), SortedFilter(array("Q", values))
    assert all(value in bloom and value in exact for value in values)


def test_false_hits_are_as_rare_as_stated():
    bloom = bloom_of(fingerprints(0, 20_000))
    hits = sum(value in bloom for value in fingerprints(100_000, 150_000))
    assert hits <= 5 * BloomFilter.ERROR_RATE * 50_000


def test_sorted_filter_is_exact():
    exact = SortedFilter(array("Q", [3, 5, 9]))
    assert [value in exact for value in (2, 3, 4, 5, 9, 10)] == [False, True, False, True, True, False]
    assert 0 not in SortedFilter(array("Q"))


def test_empty_bloom_filter_denies():
    bloom = BloomFilter(0)
    assert 1 not in bloom
    assert bloom.add_some(iter([]), 10) == 0


def test_some_are_added_at_a_time():
    bloom, source = BloomFilter(10), iter([1, 2, 3])
    assert [bloom.add_some(source, 2), bloom.add_some(source, 2), bloom.add_some(source, 2)] == [2, 1, 0]
    assert all(value in bloom for value in (1, 2, 3))


@pytest.mark.parametrize("value", [0, 1, (1 << 56) - 1])
def test_extreme_fingerprints(value):
    bloom = bloom_of([value])
    assert value in bloom
    positions = list(bloom.positions(value))
    assert len(positions) == len(set(positions))
