"""The local filter: is a fingerprint perhaps in the set? Two implementations of one question.

A hit is never an answer; it asks the gateway. A miss must be right, always: neither implementation ever denies a
fingerprint that was put in. The wire carries the set itself, so no byte of a filter ever leaves the process.
"""

import bisect
import itertools
from array import array
from collections.abc import Iterator
from typing import Final, Protocol

import pybloom_live

_MASK: Final = (1 << 64) - 1


class LocalFilter(Protocol):
    """Membership of fingerprints, with no false negative."""

    def __contains__(self, fingerprint: int) -> bool:
        """Whether the fingerprint may be in the set."""
        ...


class SortedFilter:
    """The exact set as one sorted array: 8 bytes a fingerprint, no false positive beyond the fingerprint's own."""

    __slots__ = ("_values",)

    def __init__(self, values: "array[int]") -> None:
        """Take a sorted ``array('Q')``; it is not copied."""
        self._values = values

    def __contains__(self, fingerprint: int) -> bool:
        values = self._values
        place = bisect.bisect_left(values, fingerprint)
        return place < len(values) and values[place] == fingerprint


class BloomFilter:
    """A pybloom-live filter with our own index function: about 2.5 bytes a fingerprint, one in 10,000 misses hits.

    pybloom-live keeps the bits. Its own hash functions changed between releases without a sign, so the positions come
    from the fingerprint, which is a keyed digest already: two odd multipliers give start and step of a double hash.
    A known-answer test guards this.
    """

    ERROR_RATE: Final = 1e-4
    __slots__ = ("_bits", "_offsets", "_width")

    def __init__(self, capacity: int) -> None:
        bloom = pybloom_live.BloomFilter(capacity=max(capacity, 1), error_rate=self.ERROR_RATE)
        self._bits = bloom.bitarray
        self._width: int = bloom.bits_per_slice
        self._offsets = tuple(range(0, bloom.num_slices * self._width, self._width))

    def __contains__(self, fingerprint: int) -> bool:
        bits, width = self._bits, self._width
        place = fingerprint * 0x9E3779B97F4A7C15 & _MASK
        step = fingerprint * 0xC2B2AE3D27D4EB4F & _MASK | 1
        for offset in self._offsets:
            if not bits[offset + (place >> 20) % width]:
                return False
            place = place + step & _MASK
        return True

    def positions(self, fingerprint: int) -> Iterator[int]:
        """Yield the bit positions of a fingerprint."""
        place = fingerprint * 0x9E3779B97F4A7C15 & _MASK
        step = fingerprint * 0xC2B2AE3D27D4EB4F & _MASK | 1
        for offset in self._offsets:
            yield offset + (place >> 20) % self._width
            place = place + step & _MASK

    def add_some(self, fingerprints: Iterator[int], limit: int) -> int:
        """Take at most `limit` fingerprints from an iterator, add them, and return how many there were.

        Small limits let the caller yield between calls: no rebuild may hold a serving process for more than 1 ms.
        """
        bits, added = self._bits, 0
        for fingerprint in itertools.islice(fingerprints, limit):
            for position in self.positions(fingerprint):
                bits[position] = 1
            added += 1
        return added
