"""A view: the set of fingerprints an SDK holds, its manifest, and the three ways from one state to the next.

Obligations, which this module alone keeps; whoever drives it only moves bytes:

1. Nothing is read of a manifest before a trusted key is seen to have signed it.
2. A manifest that has expired or lies in the future is no news.
3. Within a lineage the epoch never goes down, within an epoch neither revision nor key generation does, even if the set
   was dropped meanwhile: the `Mark` of the highest head seen stays.
4. A set is of the width, the normalisation and the key that its head names: a wrong key would miss everything.
5. A heartbeat confirms the set of its own root; a delta changes the set that it names as its base, and no other.
6. A set is taken only when its count and root are the head's, every canary that must hit hits, and every canary that
   must miss misses.
7. The scope that goes with a set is the one that the head names.
8. Whatever is refused leaves the state as it was.
"""

import bisect
import datetime
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from lanjie_matcher.ages import DEFAULT_BOUNDS, AgeBounds
from lanjie_matcher.fingerprints import KEY_BYTES, ViewKey
from lanjie_matcher.identifiers import NORMALISATION
from lanjie_matcher.shards import (
    MAX_COUNT,
    SHARDS,
    RefusedError,
    Shards,
    changed,
    require_bits,
    root_of,
    shard_digest,
)

__all__ = ["Manifest", "Mark", "RefusedError", "ViewState", "accept_snapshot", "verify_signatures"]

SKEW: Final = datetime.timedelta(minutes=5)
"""How far a manifest may lie in the future of our clock."""
SIGNED_PREFIX: Final = b"lanjie.v1.Manifest\x00"
ED25519: Final = "ed25519"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a signed manifest says. Fields as in sync.proto."""

    view: str
    lineage: str
    epoch: int
    generation: int
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
    scope_digest: bytes = b""
    bounds: AgeBounds = field(default=DEFAULT_BOUNDS)

    @property
    def mark(self) -> "Mark":
        """The mark that taking this head leaves."""
        return Mark(self.view, self.lineage, self.epoch, self.generation, self.revision)


@dataclass(frozen=True, slots=True)
class Mark:
    """The highest head that was taken of a view of a ledger (3)."""

    view: str
    lineage: str
    epoch: int = 0
    generation: int = 0
    revision: int = 0

    def admit(self, head: Manifest) -> None:
        """Refuse a head that is lower.

        Raises:
            RefusedError: ``lineage`` or ``rollback``.
        """
        if (head.view, head.lineage) != (self.view, self.lineage):
            raise RefusedError("lineage", "the head is of another view or ledger")
        lower = (head.epoch, head.revision) < (self.epoch, self.revision)
        if lower or (head.epoch == self.epoch and head.generation < self.generation):
            raise RefusedError("rollback", "the head is older than one that was seen")


def verify_signatures(
    manifest: bytes, signatures: Iterable[tuple[str, str, bytes]], trusted: Mapping[str, bytes]
) -> str:
    """Check that at least one trusted key signed `manifest`; return the name of that key (1).

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


def require_news(head: Manifest, now: datetime.datetime, least: datetime.datetime | None = None) -> None:
    """Refuse a head that is no news at the aware instant `now` (2).

    Args:
        head: the head.
        now: the time by our clock.
        least: the time that it is at least, as far as heads that were taken before can tell; for a clock set back.

    Raises:
        RefusedError: ``expired`` or ``future``.
    """
    if head.expires_at <= now or (least is not None and head.expires_at <= least):
        raise RefusedError("expired", "the head proves nothing any more; is the clock of this machine right?")
    require_past(head, now)


def require_past(head: Manifest, now: datetime.datetime) -> None:
    """Refuse a head that is not signed yet by our clock: a clock that was set back may not make old things new (2).

    Raises:
        RefusedError: ``future``.
    """
    if head.issued_at > now + SKEW:
        raise RefusedError("future", "the head is not signed yet by our clock; is the clock of this machine right?")


@dataclass(frozen=True, slots=True)
class ViewState:
    """What an SDK holds: a verified set and the head that vouches for it. Never changed, only followed by another."""

    manifest: Manifest
    key: ViewKey
    shards: Shards
    digests: tuple[bytes, ...]

    def __contains__(self, fingerprint: int) -> bool:
        shard = self.shards[fingerprint >> (self.manifest.bits - 8)]
        place = bisect.bisect_left(shard, fingerprint)
        return place < len(shard) and shard[place] == fingerprint

    def confirm(self, head: Manifest, mark: Mark) -> "ViewState":
        """Take a newer head for the same set (5).

        Raises:
            RefusedError: the head is lower than the mark, or its set is another (``root``).
        """
        mark.admit(head)
        held = self.manifest
        if _set_of(head) != _set_of(held) or (head.root, head.count) != (held.root, held.count):
            raise RefusedError("root", "the head names another set")
        return ViewState(head, self.key, self.shards, self.digests)

    def apply(
        self, head: Manifest, base_root: bytes, adds: Iterable[int], removals: Iterable[int], mark: Mark
    ) -> "ViewState":
        """Take a delta.

        Args:
            head: verified manifest of the set that the delta leads to.
            base_root: root of the set that it changes.
            adds: fingerprints to put in.
            removals: fingerprints to take out.
            mark: the highest head seen.

        Raises:
            RefusedError: ``gap`` when it changes another set; or any other rule of this module.
        """
        mark.admit(head)
        held = self.manifest
        if base_root != held.root or _set_of(head) != _set_of(held):
            raise RefusedError("gap", "the delta changes another set than the one held")  # (5)
        return _taken(head, self.key, self.shards, self.digests, (adds, removals))


def accept_snapshot(
    head: Manifest,
    key: bytes,
    shards: Iterable["array[int]"],
    mark: Mark,
    *,
    adds: Iterable[int] = (),
    removals: Iterable[int] = (),
) -> ViewState:
    """Take a whole set, and the changes that came after it was packed.

    Args:
        head: verified manifest.
        key: view key of the head's generation, 32 bytes.
        shards: 256 sorted arrays of whole fingerprints, from `shards.decode_shard`, one after the other, so that
            whoever decodes them can pause in between.
        mark: the highest head seen.
        adds: fingerprints to put in.
        removals: fingerprints to take out.

    Raises:
        RefusedError: any rule of this module is broken.
    """
    mark.admit(head)
    if head.normalisation != NORMALISATION:  # (4)
        raise RefusedError("normalisation", "the set was made with another normalisation of identifiers")
    require_bits(head.bits)
    if head.count > MAX_COUNT:
        raise RefusedError("oversize", f"the set has more than {MAX_COUNT} fingerprints")
    if len(key) != KEY_BYTES:
        raise RefusedError("key", f"a view key has {KEY_BYTES} bytes")
    view_key = ViewKey(key, head.bits)
    if view_key.key_check() != head.key_check:
        raise RefusedError("key", "the view key is not the key of this set")
    whole, digests = [], []
    for shard in shards:
        whole.append(shard)
        digests.append(shard_digest(shard, head.bits))
    if len(whole) != SHARDS:
        raise RefusedError("truncated", f"{len(whole)} of {SHARDS} shards")
    return _taken(head, view_key, tuple(whole), tuple(digests), (adds, removals))


def _taken(
    head: Manifest,
    key: ViewKey,
    shards: Shards,
    digests: tuple[bytes, ...],
    changes: tuple[Iterable[int], Iterable[int]],
) -> ViewState:
    """Return the state after changes, once it has shown to be the one that the head names (6)."""
    after, fresh = changed(shards, *changes, head.bits)
    known = [shard_digest(after[number], head.bits) if number in fresh else digests[number] for number in range(SHARDS)]
    count = sum(map(len, after))
    if count != head.count:
        raise RefusedError("count", f"{count} fingerprints where the head counts {head.count}")
    if root_of(known) != head.root:
        raise RefusedError("root", "the set is not the one that the head names")
    state = ViewState(head, key, after, tuple(known))
    for canaries, wanted in ((head.canaries_hit, True), (head.canaries_miss, False)):
        for canary in canaries:
            if (key.fingerprint(canary) in state) is not wanted:
                raise RefusedError("canary", "a canary does not answer as the head says")
    return state


def _set_of(head: Manifest) -> tuple[int, int, int, int, bytes]:
    return head.epoch, head.generation, head.normalisation, head.bits, head.key_check
