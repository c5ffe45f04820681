"""The local filter: is a fingerprint in the set? Two implementations of one question.

A hit is never an answer; it asks the gateway. A miss must be right, always: neither implementation ever denies a
fingerprint that was put in. The wire carries the set itself, so no byte of a filter ever leaves the machine.
"""

import bisect
import itertools
from collections.abc import Iterable, Iterator
from typing import Final, Protocol

import pybloom_live
from bitarray import bitarray

from lanjie_matcher.shards import Shards

START: Final = 0x9E3779B97F4A7C15
STEP: Final = 0xC2B2AE3D27D4EB4F
"""Multipliers of the double hash."""
_MASK: Final = (1 << 64) - 1


class LocalFilter(Protocol):
    """Membership of fingerprints, with no false negative."""

    def __contains__(self, fingerprint: int) -> bool:
        """Whether the fingerprint may be in the set."""
        ...

    def hits(self, fingerprints: Iterable[int]) -> list[int]:
        """Return the places of those fingerprints that may be in the set."""
        ...


class SortedFilter:
    """The exact set: 256 sorted arrays, 8 bytes a fingerprint, no false positive beyond the fingerprint's own."""

    __slots__ = ("_shards", "_shift")

    def __init__(self, shards: Shards, bits: int) -> None:
        """Take the shards of a set whose fingerprints have `bits` bits; nothing is copied."""
        self._shards = shards
        self._shift = bits - 8

    def __contains__(self, fingerprint: int) -> bool:
        shard = self._shards[fingerprint >> self._shift]
        place = bisect.bisect_left(shard, fingerprint)
        return place < len(shard) and shard[place] == fingerprint

    def hits(self, fingerprints: Iterable[int]) -> list[int]:
        """See `LocalFilter`."""
        return [place for place, each in enumerate(fingerprints) if each in self]


class ScreenedFilter:
    """The exact set behind a Bloom filter, which answers nearly all misses from a fifth of the memory.

    The Bloom filter holds at least what the set holds. A hit of its bits is looked up in the set, so neither its false
    hits nor the bits that a removed fingerprint left behind are ever seen outside.
    """

    __slots__ = ("_bits", "_width", "bloom", "exact")

    def __init__(self, bloom: "BloomFilter", exact: SortedFilter) -> None:
        self.bloom = bloom
        self.exact = exact
        self._bits, self._width = bloom.bits, bloom.width

    def __contains__(self, fingerprint: int) -> bool:
        # The first slice ends half of all misses, without another call.
        if not self._bits[fingerprint % self._width]:
            return False
        return fingerprint in self.bloom and fingerprint in self.exact

    def hits(self, fingerprints: Iterable[int]) -> list[int]:
        """See `LocalFilter`."""
        bits, width, bloom, exact = self._bits, self._width, self.bloom, self.exact
        return [
            place for place, each in enumerate(fingerprints) if bits[each % width] and each in bloom and each in exact
        ]


class BloomFilter:
    """A pybloom-live filter with our own index function: about 2.5 bytes a fingerprint, one in 10,000 misses hits.

    pybloom-live keeps the bits. Its own hash functions changed between releases without a sign, so the positions come
    from the fingerprint, which is a keyed digest already: its rest in the first slice, where half of all misses end,
    and in the others a double hash by two odd multipliers.
    A known-answer test guards this.
    """

    ERROR_RATE: Final = 1e-4
    __slots__ = ("bits", "capacity", "count", "offsets", "width")

    def __init__(self, capacity: int, image: bytearray | memoryview | None = None, count: int = 0) -> None:
        """Make an empty filter, or one over the bits of an `image` that holds `count` fingerprints.

        Args:
            capacity: fingerprints it takes at its error rate.
            image: what `image` gave for a filter of the same capacity; it is used in place, not copied, and written to.
            count: fingerprints in it.

        Raises:
            ValueError: the image is none of this capacity.
        """
        self.capacity = max(capacity, 1)
        self.count = count
        bloom = pybloom_live.BloomFilter(capacity=self.capacity, error_rate=self.ERROR_RATE)
        if image is not None:
            bits = bitarray(buffer=image, endian="little")
            if bytes_of(len(bloom.bitarray)) != len(image):
                raise ValueError("the image is none of a filter of this capacity")
            bloom.bitarray = bits
        self.bits: bitarray = bloom.bitarray
        self.width: int = bloom.bits_per_slice
        self.offsets = tuple(range(self.width, bloom.num_slices * self.width, self.width))

    def __contains__(self, fingerprint: int) -> bool:
        bits, width = self.bits, self.width
        if not bits[fingerprint % width]:
            return False
        step = fingerprint * STEP & _MASK | 1
        place = fingerprint * START & _MASK
        for offset in self.offsets:
            place = place + step & _MASK
            if not bits[offset + (place >> 20) % width]:
                return False
        return True

    def hits(self, fingerprints: Iterable[int]) -> list[int]:
        """See `LocalFilter`."""
        return [place for place, each in enumerate(fingerprints) if each in self]

    def positions(self, fingerprint: int) -> Iterator[int]:
        """Yield the bit positions of a fingerprint."""
        yield fingerprint % self.width
        step = fingerprint * STEP & _MASK | 1
        place = fingerprint * START & _MASK
        for offset in self.offsets:
            place = place + step & _MASK
            yield offset + (place >> 20) % self.width

    def add_some(self, fingerprints: Iterator[int], limit: int) -> int:
        """Take at most `limit` fingerprints from an iterator, add them, and return how many there were.

        Small limits let the caller yield between calls: no rebuild may hold a serving process for more than 1 ms.
        """
        bits, added = self.bits, 0
        for fingerprint in itertools.islice(fingerprints, limit):
            for position in self.positions(fingerprint):
                bits[position] = 1
            added += 1
        self.count += added
        return added

    def image(self) -> bytes:
        """Return the bits, whole bytes, lowest bit first."""
        return self.bits.tobytes()


def bytes_of(bits: int) -> int:
    """Return the bytes that so many bits take."""
    return (bits + 7) // 8
