"""What stands in the shared copy of the exact index, byte by byte. `shared_index` reads and writes it.

    lanjie:LINEAGE:EPOCH:b:00 .. b:ff   256 hashes; a bucket stands in that of the first byte of its token
      field BUCKET (16 bytes)   mac 8 | revision 8 | bucket 16 | packed listings
      field "@", the seal       mac 8 | floor 8 | count 8 | digest 8 | content 16
    lanjie:LINEAGE:EPOCH:head           mac 8 | revision 8 | 256 digests of 8

Integers are big-endian. A mac is keyed BLAKE2b of what follows it; its key comes from the gateway's index key, the
lineage and the epoch, and is another one for values, for each shard's seal, for content and for the head, so that
nothing can be passed off as something else.

The *digest* of a shard is the sum of the macs of its values modulo 2^64: a sum, because a writer can bring it up to
date from the old and the new values alone (and not XOR, where 65 rolled-back values always contain some that cancel
out). The *floor* is a revision up to which the shard was certainly complete when it was written, newer states may stand
in it already. So a shard is sound if its digest is the one in the head, or if its floor is not below the head's
revision: whoever then applies all commits after the head's revision has what the ledger has.

The *content* is a keyed BLAKE2b of the whole shard, for readers that take it as a whole: one hash over it costs a
fraction of thousands of small ones. It is made of the lengths (4 bytes each) of the fields, in their order, and of
their values, in the same order; then of the fields and of the values themselves. Without the lengths, somebody who can
write but has no key could merge two records into one, and so hide the second. 16 zero bytes stand for a content that is
not known: nobody has seen the whole shard since it changed.
"""

import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain
from typing import Any, Final

SHARDS: Final = 256
SEAL: Final = b"@"
UNKNOWN: Final = bytes(16)
"""Content of a shard that nobody has seen whole since it changed."""
_MAC: Final = 8
_BUCKET: Final = 16
_PACKED: Final = 32
_VALUE: Final = struct.Struct(">8sQ16s")
_MASK: Final = (1 << 64) - 1
_SEAL_BYTES: Final = 48
_HEAD_BYTES: Final = 16 + 8 * SHARDS


@dataclass(frozen=True, slots=True)
class Seal:
    """What a shard says of itself.

    Attributes:
        floor: revision up to which it was certainly complete when written.
        count: of its values.
        digest: sum of their macs modulo 2^64.
        content: keyed hash of all of it, or `UNKNOWN`.
    """

    floor: int
    count: int
    digest: int
    content: bytes = UNKNOWN


@dataclass(frozen=True, slots=True)
class Head:
    """What the whole copy says of itself: complete up to `revision`, with these digests of its shards then."""

    revision: int
    digests: tuple[int, ...]

    def covers(self, number: int, seal: Seal) -> bool:
        """Whether a shard with this seal lacks no commit up to `revision`."""
        return seal.floor >= self.revision or seal.digest == self.digests[number]


class Codec:
    """Packs and opens; never raises on what it is given to open."""

    def __init__(self, lineage: str, epoch: int, key: bytes) -> None:
        self.prefix = f"lanjie:{lineage}:{epoch}:"
        self.head_key = f"{self.prefix}head"
        own = blake2b(f"{lineage}:{epoch}".encode(), key=key, person=b"lanjie shared ix").digest()
        self._value = _mac(own, b"value")
        self._value_state = _keyed(own, b"value")
        self._content_state = _keyed(own, b"content", len(UNKNOWN))
        self._head = _mac(own, b"head")
        self._seals = [_mac(own, b"seal %d" % number) for number in range(SHARDS)]

    def shard_key(self, number: int) -> str:
        """Return the key of a shard."""
        return f"{self.prefix}b:{number:02x}"

    def value(self, bucket: bytes, revision: int, packed: bytes) -> bytes:
        """Return the value of a bucket."""
        body = revision.to_bytes(8) + bucket + packed
        return self._value(body) + body

    def open_value(self, bucket: bytes, raw: Any) -> tuple[int, bytes] | None:
        """Return revision and packed listings, `None` if it is not the value of this bucket."""
        if not isinstance(raw, bytes) or len(raw) <= _PACKED or raw[_BUCKET:_PACKED] != bucket:
            return None
        body = raw[_MAC:]
        return (int.from_bytes(body[:8]), body[24:]) if self._value(body) == raw[:_MAC] else None

    def seal(self, number: int, seal: Seal) -> bytes:
        """Return the seal of a shard."""
        body = seal.floor.to_bytes(8) + seal.count.to_bytes(8) + seal.digest.to_bytes(8) + seal.content
        return self._seals[number](body) + body

    def open_seal(self, number: int, raw: Any) -> Seal | None:
        """Return the seal, `None` if it is not one of this shard."""
        if not isinstance(raw, bytes) or len(raw) != _SEAL_BYTES or self._seals[number](raw[_MAC:]) != raw[:_MAC]:
            return None
        floor, count, digest = (int.from_bytes(raw[at : at + 8]) for at in (8, 16, 24))
        return Seal(floor, count, digest, raw[32:])

    def head(self, revision: int, digests: Iterable[int]) -> bytes:
        """Return the head."""
        body = revision.to_bytes(8) + b"".join(digest.to_bytes(8) for digest in digests)
        return self._head(body) + body

    def open_head(self, raw: Any) -> Head | None:
        """Return the head, `None` if it is none."""
        if not isinstance(raw, bytes) or len(raw) != _HEAD_BYTES or self._head(raw[_MAC:]) != raw[:_MAC]:
            return None
        digests = tuple(int.from_bytes(raw[at : at + 8]) for at in range(16, _HEAD_BYTES, 8))
        return Head(int.from_bytes(raw[8:16]), digests)

    def content(self, shard: Mapping[Any, Any]) -> bytes | None:
        """Return the hash of a whole shard, given without its seal; `None` of what cannot be one."""
        state = self._content_state.copy()
        try:
            fields = sorted(shard)
            values = list(map(shard.__getitem__, fields))
            state.update(struct.pack(f">{2 * len(fields)}I", *map(len, chain(fields, values))))
            state.update(b"".join(fields))
            state.update(b"".join(values))
        except (TypeError, struct.error):
            return None  # not bytes at all
        return state.digest()

    def open_shard(self, number: int, reply: Any) -> Seal | None:
        """Return the seal of a shard, `None` unless every one of its values is sound and none is missing.

        Args:
            number: of the shard.
            reply: what HGETALL gave. Left without its seal: then it is the values by bucket.
        """
        if not isinstance(reply, dict):
            return None
        seal = self.open_seal(number, reply.pop(SEAL, None))
        if seal is None:
            return None
        # Only a writer with the key makes a seal, and it puts a content only beside the count and digest of values that
        # it has made or checked one by one. So a shard of this content is those very fields and values, as the lengths
        # in the hash leave no other way to cut it up: count, digest, names and macs could only say so again. (More or
        # fewer of them would have to begin with the same lengths, and yet add up to the same total.)
        if seal.content != UNKNOWN:
            sound = self.content(reply) == seal.content
        else:
            sound = seal.count == len(reply) and self.digest(number, reply.items()) == seal.digest
        return seal if sound else None

    def digest(self, number: int, values: Iterable[tuple[Any, Any]]) -> int | None:
        """Return the digest of values of a shard, `None` unless every one is sound."""
        # A worker's start may run through here once per bucket, a million times: no call that can be spared.
        fresh, parts, number_of, total = self._value_state.copy, _VALUE.unpack_from, int.from_bytes, 0
        try:
            for bucket, raw in values:
                own, _, named = parts(raw)
                state = fresh()
                state.update(raw[_MAC:])
                if state.digest() != own or named != bucket or bucket[0] != number:
                    return None
                total += number_of(own)
        except (TypeError, ValueError, LookupError, struct.error):
            return None  # not bytes at all, or too short
        return total & _MASK


def revision_of(value: bytes) -> int:
    """Return the revision in a value."""
    return int.from_bytes(value[_MAC:_BUCKET])


def packed_of(value: bytes) -> bytes:
    """Return the packed listings in a value."""
    return value[_PACKED:]


def weight(value: bytes) -> int:
    """Return what a value adds to the digest of its shard."""
    return int.from_bytes(value[:_MAC])


def sum_of(*parts: int) -> int:
    """Return a digest from what is added to it and taken from it."""
    return sum(parts) & _MASK


def _keyed(own: bytes, what: bytes, size: int = _MAC) -> blake2b:
    return blake2b(key=blake2b(what, key=own, digest_size=32).digest(), digest_size=size)


def _mac(own: bytes, what: bytes) -> Callable[[bytes], bytes]:
    keyed = _keyed(own, what)

    def mac(body: bytes) -> bytes:
        # Copying a keyed state costs less than making one.
        state = keyed.copy()
        state.update(body)
        return state.digest()

    return mac
