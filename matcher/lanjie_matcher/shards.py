"""Sets of fingerprints as bytes: 256 shards by the top eight bits, their digests, and how they travel.

A set is a tuple of 256 sorted arrays. One change touches one shard of a few thousand values, so no step over a set of a
million holds the interpreter for long, and two states that follow each other share the shards that did not change.

Sorted values travel as the byte planes of their gaps: all lowest bytes, then all second bytes, and so on, each plane
packed by zlib. Where the set is dense the high planes are nearly empty and cost nothing; the standard library decodes a
million in less than a tenth of a second.
"""

import bisect
import hashlib
import itertools
import sys
import zlib
from array import array
from collections.abc import Iterable, Sequence
from typing import Final

SHARDS: Final = 256
MAX_COUNT: Final = 50_000_000
"""Largest set taken, against a hostile or broken server."""
MIN_BITS: Final = 24
MAX_BITS: Final = 56
_EMPTY_SHARD: Final = hashlib.sha256(b"").digest()

Shards = tuple["array[int]", ...]


class RefusedError(Exception):
    """An update was refused; the state is as before.

    Attributes:
        reason: name of the broken rule, a `RefusalReason` of sync.proto in lower case: ``signature``, ``expired``,
            ``future``, ``rollback``, ``lineage``, ``key``, ``normalisation``, ``bits``, ``oversize``, ``count``,
            ``root``, ``canary``, ``encoding``, ``truncated``, ``algorithm``, ``gap``, ``scope``, ``store``.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason


def split(values: Sequence[int], bits: int) -> Shards:
    """Return sorted, distinct fingerprints of `bits` bits as shards."""
    edges = [bisect.bisect_left(values, number << (bits - 8)) for number in range(SHARDS)] + [len(values)]
    return tuple(array("Q", values[first:last]) for first, last in itertools.pairwise(edges))


def changed(shards: Shards, adds: Iterable[int], removals: Iterable[int], bits: int) -> tuple[Shards, set[int]]:
    """Return a set after changes, and the numbers of the shards that are not as before.

    Putting in what is there and taking out what is not changes nothing, so a change that is told twice does no harm.
    """
    result = list(shards)
    fresh: set[int] = set()
    for value, wanted in itertools.chain(((each, True) for each in adds), ((each, False) for each in removals)):
        number = value >> (bits - 8)
        shard = result[number]
        place = bisect.bisect_left(shard, value)
        if (place < len(shard) and shard[place] == value) is wanted:
            continue
        if number not in fresh:
            fresh.add(number)
            shard = result[number] = array("Q", shard)
        if wanted:
            shard.insert(place, value)
        else:
            del shard[place]
    return tuple(result), fresh


def shard_digest(values: "array[int]", bits: int) -> bytes:
    """Return the SHA-256 over a shard's sorted fingerprints, each in ceil(bits / 8) bytes, big-endian.

    Raises:
        RefusedError: ``encoding``: one has more bits, which the digest would not see.
    """
    if not values:
        return _EMPTY_SHARD
    if max(values) >> bits:
        raise RefusedError("encoding", "a fingerprint lies outside its range")
    width = (bits + 7) // 8
    ordered = array("Q", values)
    if sys.byteorder == "little":
        ordered.byteswap()
    raw = ordered.tobytes()
    out = bytearray(width * len(values))
    for place in range(width):
        out[place::width] = raw[8 - width + place :: 8]
    return hashlib.sha256(out).digest()


def digests_of(shards: Iterable["array[int]"], bits: int) -> tuple[bytes, ...]:
    """Return the digest of every shard."""
    return tuple(shard_digest(shard, bits) for shard in shards)


def root_of(digests: Sequence[bytes]) -> bytes:
    """Return the root: SHA-256 over the 256 shard digests in order."""
    return hashlib.sha256(b"".join(digests)).digest()


def encode_values(values: Sequence[int], bits: int) -> bytes:
    """Encode sorted, distinct values below ``2 ** bits`` as byte planes."""
    gaps = array("Q", values[:1])
    gaps.extend(after - before for before, after in itertools.pairwise(values))
    if sys.byteorder == "big":
        gaps.byteswap()
    raw = gaps.tobytes()
    parts = []
    for plane in range(_width(bits)):
        packed = zlib.compress(raw[plane::8], 6)
        parts.append(len(packed).to_bytes(4, "big") + packed)
    return b"".join(parts)


def decode_values(count: int, planes: bytes, bits: int, top: int = 0) -> "array[int]":
    """Decode byte planes into sorted, distinct values below ``2 ** bits``, and put `top` in front of each.

    Raises:
        RefusedError: ``oversize``, ``encoding`` or ``truncated``.
    """
    if not 0 <= count <= MAX_COUNT // 16:
        raise RefusedError("oversize", "more values than a client takes at once")
    raw = bytearray(8 * count)
    rest = memoryview(planes)
    for plane in range(_width(bits)):
        size = int.from_bytes(rest[:4], "big")
        packed = rest[4 : 4 + size]
        if len(rest) < 4 or len(packed) != size:
            raise RefusedError("truncated", "a byte plane ends early")
        raw[plane::8] = _unpacked(packed, count)
        rest = rest[4 + size :]
    if rest:
        raise RefusedError("encoding", "bytes behind the last plane")
    gaps = array("Q", bytes(raw))
    if sys.byteorder == "big":
        gaps.byteswap()
    if 0 in gaps[1:]:
        raise RefusedError("encoding", "fingerprints are not distinct")
    # The sum comes first: gaps that add up to more than 64 bits are a refusal too, not a crash of the array.
    if sum(gaps) >> bits:
        raise RefusedError("encoding", "a fingerprint lies outside its range")
    if gaps:
        gaps[0] += top << bits
    return array("Q", itertools.accumulate(gaps))


def encode_shard(values: Sequence[int], bits: int) -> bytes:
    """Encode one shard: its fingerprints without their top eight bits."""
    mask = (1 << (bits - 8)) - 1
    return encode_values([value & mask for value in values], bits - 8)


def decode_shard(number: int, count: int, planes: bytes, bits: int) -> "array[int]":
    """Decode one shard into whole fingerprints, sorted and distinct.

    Raises:
        RefusedError: ``bits``, ``oversize``, ``encoding`` or ``truncated``.
    """
    require_bits(bits)
    if not 0 <= number < SHARDS:
        raise RefusedError("oversize", "a shard that cannot be")
    return decode_values(count, planes, bits - 8, number)


def require_bits(bits: int) -> None:
    """Refuse a width of fingerprints that cannot be.

    Raises:
        RefusedError: ``bits``.
    """
    if not MIN_BITS <= bits <= MAX_BITS:
        raise RefusedError("bits", "the width of a fingerprint is out of range")


def _unpacked(packed: memoryview, count: int) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        # Bounded: what claims to be small may not unpack to gigabytes.
        plane = unpacker.decompress(packed, max(count, 1))
    except zlib.error:
        raise RefusedError("encoding", "a byte plane does not unpack") from None
    if len(plane) != count or unpacker.unconsumed_tail or unpacker.unused_data or not unpacker.eof:
        raise RefusedError("encoding", "a byte plane has another length than it says")
    return plane


def _width(bits: int) -> int:
    return (bits + 7) // 8
