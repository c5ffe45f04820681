"""The set of one view at one generation of its key, the journal of its changes, and what is sent to whom.

A view at a revision is every company with a listing that no event has ended: the not-yet-effective and the stayed
included, so that midnight needs no message. What ended by date leaves with the daily prune. Persons are in no view.

The journal says which fingerprints changed after which revision. A client is sent the merge of all that changed since
the revision it has, so what came and went again is not told, and nothing depends on how many messages were lost.
"""

import bisect
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from lanjie_matcher.fingerprints import ViewKey
from lanjie_matcher.shards import SHARDS, encode_shard, root_of, shard_digest

BITS: Final = 40
"""Width of a fingerprint: a million listings give about one false hit in a million checks."""
LEAST_CHANGES: Final = 2_000
"""A delta of so many changes is sent however small the set is."""
DELTA_SHARE: Final = 0.15
"""Changes by fingerprints from which a delta would exceed 30 % of a snapshot: 5.2 bytes each against 2.7."""
REPACK_SHARE: Final = 0.02
"""Changes by fingerprints after which a snapshot is packed anew instead of being followed by them."""
_HITS: Final = ("canary:hit:1", "canary:hit:2")
_MISSES: Final = tuple(f"canary:miss:{number}" for number in range(1, 7))
_MISSES_TOLD: Final = 2


@dataclass(frozen=True, slots=True)
class Changes:
    """Sorted fingerprints to put in and to take out."""

    adds: tuple[int, ...] = ()
    removals: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.adds) + len(self.removals)


@dataclass(frozen=True, slots=True)
class PackedShard:
    """One shard as it travels."""

    number: int
    count: int
    planes: bytes


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A whole set as it was packed at a revision. Never changed."""

    revision: int
    shards: tuple[PackedShard, ...]


class View:
    """See the module. Follows the ledger's commits in order.

    Args:
        key: view key of the generation.

    Attributes:
        raw_key: that key, for those who may hold the view; never shown.
        key: what makes its fingerprints.
        revision: revision of the ledger at which the set is this one.
        journal_from: oldest revision from which changes are known.
    """

    def __init__(self, key: bytes) -> None:
        self.raw_key = key
        self.key = ViewKey(key, BITS)
        self.revision = 0
        self.journal_from = 0
        # Whole digests, because two subjects may share a fingerprint: it leaves with the last of them.
        self._digests = [array("Q") for _ in range(SHARDS)]
        self._shards = [array("Q") for _ in range(SHARDS)]
        self._shard_digests: list[bytes | None] = [None] * SHARDS
        self._journal: list[tuple[int, int]] = []
        self._head: tuple[bytes, int] | None = None
        self._snapshot: Snapshot | None = None
        self._merged: dict[int, Changes | None] = {}
        for canary in _HITS:
            self.put(self.key.digest64(canary), listed=True)

    def load(self, digests: Iterable[int], revision: int) -> None:
        """Take the whole set at the beginning: digests of a ledger at a revision."""
        for number, sorted_digests in enumerate(_by_shard([*digests, *map(self.key.digest64, _HITS)])):
            self._digests[number] = sorted_digests
            self._shards[number] = array("Q", sorted(set(map(self.key.narrow, sorted_digests))))
        self._shard_digests = [None] * SHARDS
        self.revision = self.journal_from = revision
        self._journal.clear()
        self._forget()

    def recall(self, touched: Sequence[tuple[int, int]], journal_from: int) -> None:
        """Take the journal of what happened before `load`.

        Args:
            touched: (revision, digest) of every subject that a commit touched, newest first.
            journal_from: revision after which `touched` leaves nothing out.
        """
        self._journal = [(revision, self.key.narrow(digest)) for revision, digest in reversed(touched)]
        self.journal_from = journal_from
        self._forget()

    def put(self, digest64: int, *, listed: bool) -> None:
        """Say whether the subject of a digest stands in the view, as of the revision that `advance` comes to next."""
        number, fingerprint = digest64 >> 56, self.key.narrow(digest64)
        digests = self._digests[number]
        if not _put(digests, digest64, wanted=listed):
            return
        # The fingerprint stands as long as one digest that it is the top of.
        beside = bisect.bisect_left(digests, fingerprint << (64 - BITS))
        wanted = beside < len(digests) and self.key.narrow(digests[beside]) == fingerprint
        if _put(self._shards[number], fingerprint, wanted=wanted):
            self._shard_digests[number] = None
            self._journal.append((self.revision + 1, fingerprint))
            self._forget()

    def advance(self, revision: int) -> None:
        """Say that everything up to a revision is put."""
        if revision > self.revision:
            self.revision = revision
            self._forget()

    def trim(self, most: int, oldest: int) -> None:
        """Let the journal forget all but the newest `most` entries, and what happened up to the revision `oldest`."""
        first = max(len(self._journal) - most, 0)
        oldest = max(oldest, self._journal[first - 1][0] if first else 0)
        if oldest > self.journal_from:
            # A revision is kept whole or not at all.
            self._journal = self._journal[bisect.bisect_right(self._journal, oldest, key=lambda entry: entry[0]) :]
            self.journal_from = oldest
            self._forget()

    def head(self) -> tuple[bytes, int]:
        """Return (root, count) of the set."""
        if self._head is None:
            digests = [
                known if known is not None else shard_digest(shard, BITS)
                for known, shard in zip(self._shard_digests, self._shards, strict=True)
            ]
            self._shard_digests = list(digests)
            self._head = root_of(digests), sum(map(len, self._shards))
        return self._head

    def changes_since(self, revision: int) -> Changes | None:
        """Return the merge of all changes after a revision; `None` where a snapshot is the better or the only way."""
        if revision not in self._merged:
            self._merged[revision] = self._merge(revision)
        changes = self._merged[revision]
        limit = max(LEAST_CHANGES, int(DELTA_SHARE * self.head()[1]))
        return None if changes is None or len(changes) > limit else changes

    def packing(self) -> Iterator[None]:
        """Pack the set for `snapshot`, where that is worth it, in steps of about a millisecond.

        What changes meanwhile is no harm: the changes since the beginning are told with the snapshot.
        """
        if self._packed_changes() is not None:
            return
        revision, shards = self.revision, []
        for number in range(SHARDS):
            shard = self._shards[number]
            shards.append(PackedShard(number, len(shard), encode_shard(shard, BITS)))
            yield
        self._snapshot = Snapshot(revision, tuple(shards))

    def snapshot(self) -> tuple[Snapshot, Changes]:
        """Return a packed set, and the changes that lead from it to the newest."""
        for _ in self.packing():
            pass
        changes = self._packed_changes()
        if self._snapshot is None or changes is None:
            raise AssertionError("the set was packed a moment ago")
        return self._snapshot, changes

    def canaries(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return canonical keys that must hit, and some that must miss."""
        misses = [name for name in _MISSES if self.key.fingerprint(name) not in self]
        return _HITS, tuple(misses[:_MISSES_TOLD])

    def __contains__(self, fingerprint: int) -> bool:
        shard = self._shards[fingerprint >> (BITS - 8)]
        return _stands(shard, bisect.bisect_left(shard, fingerprint), fingerprint)

    def _packed_changes(self) -> Changes | None:
        """Return the changes since the set was packed; `None` when it never was, or is better packed anew."""
        changes = self._merge(self._snapshot.revision) if self._snapshot is not None else None
        many = max(LEAST_CHANGES, REPACK_SHARE * self.head()[1])
        return None if changes is None or len(changes) > many else changes

    def _merge(self, revision: int) -> Changes | None:
        if not self.journal_from <= revision <= self.revision:
            return None
        first = bisect.bisect_right(self._journal, revision, key=lambda entry: entry[0])
        touched = sorted({fingerprint for _, fingerprint in self._journal[first:]})
        return Changes(
            tuple(fingerprint for fingerprint in touched if fingerprint in self),
            tuple(fingerprint for fingerprint in touched if fingerprint not in self),
        )

    def _forget(self) -> None:
        self._head = None
        self._merged.clear()


def _by_shard(digests: Sequence[int]) -> "list[array[int]]":
    ordered = sorted(set(digests))
    edges = [bisect.bisect_left(ordered, number << 56) for number in range(SHARDS)] + [len(ordered)]
    return [array("Q", ordered[edges[number] : edges[number + 1]]) for number in range(SHARDS)]


def _stands(values: "array[int]", place: int, value: int) -> bool:
    return place < len(values) and values[place] == value


def _put(values: "array[int]", value: int, *, wanted: bool) -> bool:
    """Put a value into sorted ones, or take it out; return whether that changed anything."""
    place = bisect.bisect_left(values, value)
    if _stands(values, place, value) is wanted:
        return False
    if wanted:
        values.insert(place, value)
    else:
        del values[place]
    return True
