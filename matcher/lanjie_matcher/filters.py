"""The local filter: is a fingerprint in the set? Two implementations of one question.

A hit is never an answer; it asks the gateway. A miss must be right, always: neither implementation ever denies a
fingerprint that was put in. The wire carries the set itself, so no byte of a filter ever leaves the machine.
"""

import bisect
import itertools
from collections.abc import Iterator
from typing import Final, Protocol

import pybloom_live
from bitarray import bitarray

from lanjie_matcher.shards import Shards

_MASK: Final = (1 << 64) - 1


class LocalFilter(Protocol):
    """Membership of fingerprints, with no false negative."""

    def __contains__(self, fingerprint: int) -> bool:
        """Whether the fingerprint may be in the set."""
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


class ScreenedFilter:
    """The exact set behind a Bloom filter, which answers nearly all misses from a fifth of the memory.

    The Bloom filter holds at least what the set holds. A hit of its bits is looked up in the set, so neither its false
    hits nor the bits that a removed fingerprint left behind are ever seen outside.
    """

    __slots__ = ("_bloom", "_exact")

    def __init__(self, bloom: "BloomFilter", exact: SortedFilter) -> None:
        self._bloom = bloom
        self._exact = exact

    def __contains__(self, fingerprint: int) -> bool:
        return fingerprint in self._bloom and fingerprint in self._exact


class BloomFilter:
    """A pybloom-live filter with our own index function: about 2.5 bytes a fingerprint, one in 10,000 misses hits.

    pybloom-live keeps the bits. Its own hash functions changed between releases without a sign, so the positions come
    from the fingerprint, which is a keyed digest already: two odd multipliers give start and step of a double hash.
    A known-answer test guards this.
    """

    ERROR_RATE: Final = 1e-4
    __slots__ = ("_bits", "_offsets", "_width", "capacity", "count")

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
        self._bits: bitarray = bloom.bitarray
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
        self.count += added
        return added

    def image(self) -> bytes:
        """Return the bits, whole bytes, lowest bit first."""
        return self._bits.tobytes()


def bytes_of(bits: int) -> int:
    """Return the bytes that so many bits take."""
    return (bits + 7) // 8
