"""What stands in the shared copy of the exact index, byte by byte. `shared_index` reads and writes it.

    lanjie:LINEAGE:EPOCH:b:00 .. b:ff   256 hashes; a bucket stands in that of the first byte of its token
      field BUCKET (16 bytes)   mac 8 | revision 8 | bucket 16 | packed listings
      field "@", the seal       mac 8 | floor 8 | count 8 | digest 8
    lanjie:LINEAGE:EPOCH:head           mac 8 | revision 8 | 256 digests of 8

Integers are big-endian. A mac is keyed BLAKE2b of what follows it; its key comes from the gateway's index key, the
lineage and the epoch, and is another one for values, for each shard's seal and for the head, so that nothing can be
passed off as something else. The *digest* of a shard is the sum of the macs of its values modulo 2^64: a sum, because a
writer can bring it up to date from the old and the new values alone (and not XOR, where 65 rolled-back values always
contain some that cancel out). The *floor* is a revision up to which the shard was certainly complete when it was
written, newer states may stand in it already. So a shard is sound if its digest is the one in the head, or if its floor
is not below the head's revision: whoever then applies all commits after the head's revision has what the ledger has.
"""

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

SHARDS: Final = 256
SEAL: Final = b"@"
BUCKET_BYTES: Final = 16
_MAC: Final = 8
_BUCKET: Final = 16
_PACKED: Final = 32
_VALUE: Final = struct.Struct(">8sQ16s")
_MASK: Final = (1 << 64) - 1
_SEAL_BYTES: Final = 32
_HEAD_BYTES: Final = 16 + 8 * SHARDS

Entry = tuple[bytes, int, bytes]
"""Bucket, revision that last changed it, packed listings."""


@dataclass(frozen=True, slots=True)
class Seal:
    """What a shard says of itself.

    Attributes:
        floor: revision up to which it was certainly complete when written.
        count: of its values.
        digest: sum of their macs modulo 2^64.
    """

    floor: int
    count: int
    digest: int


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
        body = seal.floor.to_bytes(8) + seal.count.to_bytes(8) + seal.digest.to_bytes(8)
        return self._seals[number](body) + body

    def open_seal(self, number: int, raw: Any) -> Seal | None:
        """Return the seal, `None` if it is not one of this shard."""
        if not isinstance(raw, bytes) or len(raw) != _SEAL_BYTES or self._seals[number](raw[_MAC:]) != raw[:_MAC]:
            return None
        return Seal(*(int.from_bytes(raw[at : at + 8]) for at in (8, 16, 24)))

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

    def open_shard(self, number: int, reply: Any) -> tuple[Seal, bytes, list[Entry]] | None:
        """Return seal, raw seal and all values of a shard, `None` unless every one is sound and none is missing.

        Args:
            number: of the shard.
            reply: what HGETALL gave. Left without its seal.
        """
        if not isinstance(reply, dict):
            return None
        raw = reply.pop(SEAL, None)
        seal = self.open_seal(number, raw)
        if seal is None or seal.count != len(reply):
            return None
        opened = self.open_values(number, reply.items())
        return (seal, raw, opened[0]) if opened is not None and opened[1] & _MASK == seal.digest else None

    def open_values(self, number: int, values: Iterable[tuple[Any, Any]]) -> tuple[list[Entry], int] | None:
        """Return values of a shard and the sum of their macs, `None` unless every one is sound."""
        # A worker's start runs through here once per bucket, a million times: no call that can be spared.
        fresh, parts, number_of, total = self._value_state.copy, _VALUE.unpack_from, int.from_bytes, 0
        entries = []
        try:
            for bucket, raw in values:
                own, revision, named = parts(raw)
                state = fresh()
                state.update(raw[_MAC:])
                if state.digest() != own or named != bucket or bucket[0] != number:
                    return None
                total += number_of(own)
                entries.append((bucket, revision, raw[_PACKED:]))
        except (TypeError, ValueError, LookupError, struct.error):
            return None  # not bytes at all, or too short
        return entries, total


def weight(value: bytes) -> int:
    """Return what a value adds to the digest of its shard."""
    return int.from_bytes(value[:_MAC])


def sum_of(*parts: int) -> int:
    """Return a digest from what is added to it and taken from it."""
    return sum(parts) & _MASK


def _keyed(own: bytes, what: bytes) -> blake2b:
    return blake2b(key=blake2b(what, key=own, digest_size=32).digest(), digest_size=_MAC)


def _mac(own: bytes, what: bytes) -> Callable[[bytes], bytes]:
    keyed = _keyed(own, what)

    def mac(body: bytes) -> bytes:
        # Copying a keyed state costs less than making one.
        state = keyed.copy()
        state.update(body)
        return state.digest()

    return mac
