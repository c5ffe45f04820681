"""A view: the set of fingerprints an SDK holds, its manifest, and the one way from one state to the next.

Rules this module alone keeps; the SDK's driver only moves bytes:

* the manifest is the only signed thing and is verified before it is read;
* a manifest that has expired, lies in the future, or is lower than the highest (epoch, revision) seen is refused;
* a set is taken only when its count and root are the manifest's, the key check holds, every canary that must hit hits
  and every canary that must miss misses;
* whatever is refused leaves the state as it was.
"""

import datetime
import hashlib
import itertools
import sys
import zlib
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from lanjie_matcher.fingerprints import KEY_BYTES, ViewKey
from lanjie_matcher.identifiers import NORMALISATION

SHARDS: Final = 256
MAX_COUNT: Final = 50_000_000
"""Largest set taken, against a hostile or broken server."""
SKEW: Final = datetime.timedelta(minutes=5)
"""How far a manifest may lie in the future of our clock."""
SIGNED_PREFIX: Final = b"lanjie.v1.Manifest\x00"
ED25519: Final = "ed25519"
_EMPTY_SHARD: Final = hashlib.sha256(b"").digest()


class RefusedError(Exception):
    """A manifest or a set was refused; the state is as before.

    Attributes:
        reason: ``signature``, ``expired``, ``future``, ``rollback``, ``lineage``, ``key``, ``normalisation``, ``bits``,
            ``oversize``, ``count``, ``root``, ``canary``, ``encoding``, ``truncated``.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a signed manifest says. Fields as in sync.proto."""

    view: str
    lineage: str
    epoch: int
    revision: int
    root: bytes
    count: int
    bits: int
    key_id: str
    key_check: bytes
    normalisation: int
    canaries_hit: tuple[str, ...]
    canaries_miss: tuple[str, ...]
    issued_at: datetime.datetime
    expires_at: datetime.datetime


def verify_signatures(
    manifest: bytes, signatures: Iterable[tuple[str, str, bytes]], trusted: Mapping[str, bytes]
) -> str:
    """Check that at least one trusted key signed `manifest`; return the name of that key.

    Args:
        manifest: the serialised manifest.
        signatures: (key id, algorithm, signature); algorithms other than `ED25519` are passed over.
        trusted: raw public keys by key id.

    Raises:
        RefusedError: ``signature``.
    """
    for key_id, algorithm, value in signatures:
        raw = trusted.get(key_id)
        if raw is None or algorithm != ED25519:
            continue
        try:
            Ed25519PublicKey.from_public_bytes(raw).verify(value, SIGNED_PREFIX + manifest)
        except InvalidSignature:
            continue
        return key_id
    raise RefusedError("signature", "no trusted key signed the manifest")


@dataclass(frozen=True, slots=True)
class ViewState:
    """What an SDK holds: a verified set and the head that vouches for it."""

    manifest: Manifest
    key: ViewKey
    values: "array[int]"

    def confirm(self, head: Manifest, now: datetime.datetime) -> "ViewState":
        """Take a newer head for the same set.

        Raises:
            RefusedError: the head is not acceptable, or its set is another (``root``).
        """
        _acceptable(head, self.manifest, now)
        if (head.epoch, head.root, head.count) != (self.manifest.epoch, self.manifest.root, self.manifest.count):
            raise RefusedError("root", "the head names another set")
        return ViewState(head, self.key, self.values)


def accept_snapshot(
    head: Manifest,
    key: bytes,
    shards: Sequence["array[int]"],
    previous: ViewState | None,
    now: datetime.datetime,
) -> ViewState:
    """Take a whole set.

    Args:
        head: verified manifest.
        key: view key of the head's epoch, 32 bytes.
        shards: 256 sorted arrays of whole fingerprints, from `decode_shard`.
        previous: the state held until now, `None` at the beginning.
        now: aware instant.

    Raises:
        RefusedError: any rule of this module is broken.
    """
    _acceptable(head, previous.manifest if previous else None, now)
    if len(shards) != SHARDS:
        raise RefusedError("truncated", f"{len(shards)} of {SHARDS} shards")
    if len(key) != KEY_BYTES:
        raise RefusedError("key", f"a view key has {KEY_BYTES} bytes")
    view_key = ViewKey(key, head.bits)
    if view_key.key_check() != head.key_check:
        raise RefusedError("key", "the view key is not the key of this set")
    values = array("Q", itertools.chain.from_iterable(shards))
    if len(values) != head.count:
        raise RefusedError("count", f"{len(values)} fingerprints where the manifest counts {head.count}")
    if root_of([shard_digest(shard, head.bits) for shard in shards]) != head.root:
        raise RefusedError("root", "the set is not the one the manifest names")
    for canaries, wanted in ((head.canaries_hit, True), (head.canaries_miss, False)):
        for canary in canaries:
            fingerprint = view_key.fingerprint(canary)
            shard = shards[fingerprint >> (head.bits - 8)]
            if (fingerprint in shard) is not wanted:
                raise RefusedError("canary", "a canary does not answer as the manifest says")
    return ViewState(head, view_key, values)


def encode_shard(values: Sequence[int], bits: int) -> bytes:
    """Encode one shard's sorted, distinct fingerprints as byte planes (see sync.proto)."""
    width = _remainder_bytes(bits)
    mask = (1 << (bits - 8)) - 1
    gaps = array("Q")
    last = 0
    for value in values:
        remainder = value & mask
        gaps.append(remainder - last)
        last = remainder
    if sys.byteorder == "big":
        gaps.byteswap()
    raw = gaps.tobytes()
    parts = []
    for plane in range(width):
        packed = zlib.compress(raw[plane::8], 6)
        parts.append(len(packed).to_bytes(4, "big") + packed)
    return b"".join(parts)


def decode_shard(number: int, count: int, planes: bytes, bits: int) -> "array[int]":
    """Decode one shard into whole fingerprints, sorted and distinct.

    Raises:
        RefusedError: ``bits``, ``oversize``, ``encoding`` or ``truncated``.
    """
    if not 24 <= bits <= 56:
        raise RefusedError("bits", "the width of a fingerprint is out of range")
    if not 0 <= number < SHARDS or not 0 <= count <= MAX_COUNT // 16:
        raise RefusedError("oversize", "a shard that cannot be")
    raw = bytearray(8 * count)
    rest = memoryview(planes)
    for plane in range(_remainder_bytes(bits)):
        size = int.from_bytes(rest[:4], "big")
        packed = rest[4 : 4 + size]
        if len(rest) < 4 or len(packed) != size:
            raise RefusedError("truncated", "a byte plane ends early")
        unpacker = zlib.decompressobj()
        try:
            plane_bytes = unpacker.decompress(packed, max(count, 1))
        except zlib.error:
            raise RefusedError("encoding", "a byte plane does not unpack") from None
        if len(plane_bytes) != count or unpacker.unconsumed_tail or unpacker.unused_data or not unpacker.eof:
            raise RefusedError("encoding", "a byte plane has another length than the shard")
        raw[plane::8] = plane_bytes
        rest = rest[4 + size :]
    if rest:
        raise RefusedError("encoding", "bytes behind the last plane")
    gaps = array("Q", bytes(raw))
    if sys.byteorder == "big":
        gaps.byteswap()
    if 0 in gaps[1:]:
        raise RefusedError("encoding", "fingerprints are not distinct")
    if not gaps:
        return gaps
    gaps[0] += number << (bits - 8)
    # The sum comes first: gaps that add up to more than 64 bits are a refusal too, not a crash of the array.
    if sum(gaps) >> (bits - 8) != number:
        raise RefusedError("encoding", "a fingerprint lies outside its shard")
    return array("Q", itertools.accumulate(gaps))


def shard_digest(values: "array[int]", bits: int) -> bytes:
    """Return the SHA-256 over a shard's sorted fingerprints, each in ceil(bits / 8) bytes, big-endian."""
    if not values:
        return _EMPTY_SHARD
    width = (bits + 7) // 8
    ordered = array("Q", values)
    if sys.byteorder == "little":
        ordered.byteswap()
    raw = ordered.tobytes()
    out = bytearray(width * len(values))
    for place in range(width):
        out[place::width] = raw[8 - width + place :: 8]
    return hashlib.sha256(out).digest()


def root_of(digests: Sequence[bytes]) -> bytes:
    """Return the root: SHA-256 over the 256 shard digests in order."""
    return hashlib.sha256(b"".join(digests)).digest()


def _remainder_bytes(bits: int) -> int:
    return (bits - 8 + 7) // 8


def _acceptable(head: Manifest, held: Manifest | None, now: datetime.datetime) -> None:
    if head.normalisation != NORMALISATION:
        raise RefusedError("normalisation", "the set was made with another normalisation of identifiers")
    if not 24 <= head.bits <= 56:
        raise RefusedError("bits", "the width of a fingerprint is out of range")
    if head.count > MAX_COUNT:
        raise RefusedError("oversize", f"the set has more than {MAX_COUNT} fingerprints")
    if head.expires_at <= now:
        raise RefusedError("expired", "the manifest proves nothing any more")
    if head.issued_at > now + SKEW:
        raise RefusedError("future", "the manifest is not signed yet by our clock")
    if held is not None:
        if (head.view, head.lineage) != (held.view, held.lineage):
            raise RefusedError("lineage", "the head is of another view or ledger")
        if (head.epoch, head.revision) < (held.epoch, held.revision):
            raise RefusedError("rollback", "the head is older than one that was seen")
