"""The companies' view (Art. 48): the set of fingerprints that SDKs hold, its signed head, and what goes with it.

A view at a revision is every listing not ended by an event, the not-yet-effective and the stayed included, so that
midnight needs no message. Persons are not in any view: they are always asked at the gateway.
"""

import datetime
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from lanjie_gateway.adapters.keys import KeyRing
from lanjie_gateway.adapters.ledger import Ledger, LedgerThread
from lanjie_gateway.domain.errors import Unanswerable
from lanjie_matcher.catalogues import CatalogueSet
from lanjie_matcher.civil_time import day_of
from lanjie_matcher.fingerprints import ViewKey
from lanjie_matcher.identifiers import NORMALISATION
from lanjie_matcher.views import SHARDS, Manifest, encode_shard, root_of, shard_digest

COMPANIES: Final = "companies"
BITS: Final = 40
"""Width of a fingerprint: a million listings give about one false hit in a million checks."""
EXPIRES: Final = datetime.timedelta(hours=24)
PAGE: Final = 5_000


@dataclass(frozen=True, slots=True)
class MatterSpans:
    """A matter, and the days on which a catalogue in force knows it."""

    code: str
    case_no_required: bool
    as_of_allowed: bool
    spans: tuple[tuple[datetime.date, datetime.date | None], ...]


@dataclass(frozen=True, slots=True)
class Shard:
    """One shard as it travels."""

    number: int
    count: int
    planes: bytes


class View:
    """The set of one view, in 256 shards. Pure apart from the keys it is given; follows the ledger's commits in order.

    Args:
        keys: the gateway's keys.
        lineage: identity of the ledger.
    """

    def __init__(self, keys: KeyRing, lineage: str) -> None:
        self.key = ViewKey(keys.view, BITS)
        self.revision = 0
        self._keys = keys
        self._lineage = lineage
        self._digests: list[set[int]] = [set() for _ in range(SHARDS)]
        self._shards: list[array[int] | None] = [None] * SHARDS
        self._packed: list[bytes | None] = [None] * SHARDS
        self._roots: list[bytes] = [b""] * SHARDS
        self._head: tuple[bytes, int] | None = None
        self._hit = (f"canary:hit:1:{lineage}", f"canary:hit:2:{lineage}")
        self._miss = self._free(f"canary:miss:{lineage}")
        for canary in self._hit:
            self.put(self.key.digest64(canary), listed=True)

    def _free(self, text: str) -> tuple[str, ...]:
        # A canary that must miss may not share a fingerprint with one that must hit.
        taken = {self.key.fingerprint(canary) for canary in self._hit}
        names = (f"{text}:{number}" for number in range(100))
        return tuple(name for name in names if self.key.fingerprint(name) not in taken)[:2]

    def put(self, digest64: int, *, listed: bool) -> None:
        """Say whether the subject of a digest stands in the view."""
        shard = digest64 >> 56
        digests = self._digests[shard]
        if listed is (digest64 in digests):
            return
        (digests.add if listed else digests.remove)(digest64)
        self._shards[shard] = self._packed[shard] = None
        self._head = None

    def head(self) -> tuple[bytes, int]:
        """Return (root, count) of the set."""
        if self._head is None:
            for number in range(SHARDS):
                if self._shards[number] is None:
                    values = array("Q", sorted({self.key.narrow(digest) for digest in self._digests[number]}))
                    self._shards[number] = values
                    self._roots[number] = shard_digest(values, BITS)
            self._head = root_of(self._roots), sum(len(shard) for shard in self._shards if shard is not None)
        return self._head

    def shard(self, number: int) -> Shard:
        """Return one shard as it travels; made once for every change of it."""
        self.head()
        values = self._shards[number]
        assert values is not None  # noqa: S101  `head` has just made it
        packed = self._packed[number]
        if packed is None:
            packed = self._packed[number] = encode_shard(values, BITS)
        return Shard(number, len(values), packed)

    def manifest(self, now: datetime.datetime) -> Manifest:
        """Return the head as it is signed now."""
        root, count = self.head()
        return Manifest(
            view=COMPANIES,
            lineage=self._lineage,
            epoch=self._keys.epoch,
            revision=self.revision,
            root=root,
            count=count,
            bits=BITS,
            key_id=self._keys.view_key_id,
            key_check=self.key.key_check(),
            normalisation=NORMALISATION,
            canaries_hit=self._hit,
            canaries_miss=self._present_misses(),
            issued_at=now,
            expires_at=now + EXPIRES,
        )

    def _present_misses(self) -> tuple[str, ...]:
        held = ((name, self.key.fingerprint(name)) for name in self._miss)
        return tuple(name for name, value in held if value not in (self._shards[value >> (BITS - 8)] or ()))


class SyncService:
    """Keeps the view up with the ledger and answers pulls.

    Args:
        ledger: the ledger's thread.
        keys: the gateway's keys.
        catalogues: the catalogues as published.
        clock: aware instants.
        current: whether the view can be proved to be up to date.
    """

    def __init__(
        self,
        ledger: LedgerThread,
        keys: KeyRing,
        catalogues: Callable[[], CatalogueSet],
        clock: Callable[[], datetime.datetime],
        current: Callable[[], bool],
    ) -> None:
        self._ledger = ledger
        self._keys = keys
        self._catalogues = catalogues
        self._clock = clock
        self._current = current
        self.view = View(keys, ledger.lineage)

    async def start(self) -> None:
        """Read the whole set from the ledger."""
        revision = await self._ledger.call(Ledger.head)
        for digest in await self._ledger.call(Ledger.listed_digests):
            self.view.put(digest, listed=True)
        self.view.revision = revision
        await self.follow(await self._ledger.call(Ledger.head))

    async def follow(self, revision: int) -> None:
        """Take every commit up to `revision`."""
        while self.view.revision < revision:
            for commit in await self._ledger.call(Ledger.commits_after, self.view.revision, 100):
                cursor: int | None = 0
                while cursor is not None:
                    states, cursor = await self._ledger.call(Ledger.changed, commit.revision, cursor, PAGE)
                    for state in states:
                        if state.view_digest is not None:
                            self.view.put(state.view_digest, listed=state.listed)
                self.view.revision = max(self.view.revision, commit.revision)

    def manifest(self) -> Manifest:
        """Return the head of the view, as of now.

        Raises:
            Unanswerable: NOT_CURRENT. An SDK must not take an old view for a fresh one.
        """
        if not self._current():
            raise Unanswerable("NOT_CURRENT", "this gateway cannot prove that its view is current")
        return self.view.manifest(self._clock())

    def sign(self, message: bytes) -> tuple[str, bytes]:
        """Return (key id, signature)."""
        return self._keys.signing_key_id, self._keys.sign(message)

    @property
    def view_key(self) -> bytes:
        """The raw key of the view."""
        return self._keys.view

    def matters(self) -> list[MatterSpans]:
        """Return every matter ever defined, with its days."""
        catalogues = self._catalogues()
        today = day_of(self._clock())
        result = []
        for code in catalogues.matter_codes():
            editions = catalogues.matter_editions(code)
            spans = tuple((edition.starts_on, catalogues.last_day(edition)) for edition in editions)
            defined = [each for edition in editions for each in edition.matters if each.code == code]
            now = catalogues.matter(code, today) or defined[-1]
            # Whichever edition comes into force, the stricter setting is safe on the SDK's side: it asks the gateway.
            result.append(MatterSpans(code, any(each.case_no_required for each in defined), now.as_of_allowed, spans))
        return result
