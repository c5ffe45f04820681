"""The two local filters."""

import random

import pytest

from lanjie_matcher.filters import BloomFilter, ScreenedFilter, SortedFilter, bytes_of
from lanjie_matcher.fingerprints import ViewKey
from lanjie_matcher.shards import split

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
    bloom, exact = bloom_of(values), SortedFilter(split(values, 40), 40)
    assert all(value in bloom and value in exact for value in values)


def test_false_hits_are_as_rare_as_stated():
    bloom = bloom_of(fingerprints(0, 20_000))
    hits = sum(value in bloom for value in fingerprints(100_000, 150_000))
    assert hits <= 5 * BloomFilter.ERROR_RATE * 50_000


@pytest.mark.parametrize("bits", [24, 40, 56])
def test_sorted_filter_is_exact(bits):
    last = (1 << bits) - 1
    exact = SortedFilter(split([3, 5, 9, last], bits), bits)
    assert [value in exact for value in (2, 3, 4, 5, 9, 10, last)] == [False, True, False, True, True, False, True]
    assert 0 not in SortedFilter(split([], bits), bits)


def test_screened_filter_is_exact_whatever_else_the_bits_hold():
    values = sorted(set(fingerprints(0, 2_000)))
    kept = values[::2]
    screened = ScreenedFilter(bloom_of(values), SortedFilter(split(kept, 40), 40))
    assert [value for value in values if value in screened] == kept


@pytest.mark.parametrize("probes", [50_000, pytest.param(1_000_000, marks=pytest.mark.long)])
def test_both_filters_agree_but_for_false_hits_of_the_bloom_filter(probes):
    draw = random.Random(probes)
    values = sorted({draw.getrandbits(40) for _ in range(probes // 10)})
    bloom, exact = bloom_of(values), SortedFilter(split(values, 40), 40)
    probed = [draw.getrandbits(40) for _ in range(probes)] + values
    told = [(value in bloom, value in exact) for value in probed]
    assert (False, True) not in told
    assert sum(exactly for _, exactly in told) >= len(values)
    assert sum(pair == (True, False) for pair in told) <= 3 * BloomFilter.ERROR_RATE * probes


def test_an_image_is_a_filter_again():
    values = fingerprints(0, 3_000)
    bloom = bloom_of(values)
    image = bytearray(bloom.image())
    again = BloomFilter(bloom.capacity, image, bloom.count)
    assert again.count == len(values)
    probes = fingerprints(0, 6_000)
    assert [value in again for value in probes] == [value in bloom for value in probes]
    again.add_some(iter([7]), 1)
    assert 7 in again
    assert 7 in BloomFilter(bloom.capacity, image)
    assert 7 not in bloom


@pytest.mark.parametrize("capacity", [1, 2_999, 3_001, 6_000])
def test_an_image_of_another_capacity_is_refused(capacity):
    image = bytearray(BloomFilter(3_000).image())
    with pytest.raises(ValueError, match="capacity"):
        BloomFilter(capacity, image)


def test_bits_take_whole_bytes():
    assert [bytes_of(bits) for bits in (0, 1, 8, 9, 16)] == [0, 1, 1, 2, 2]


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
