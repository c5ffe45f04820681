"""Verifying inquiry records (Art. 39, 43, 61, 69): what is wrong, and at which place of the tree it begins.

The steps, whose numbers stand at the blocks of `Verifier`:

1. Places have no gap and none is beyond what the ledger says there is: else *deleted*, *inserted*.
2. A digest is the one of its record, and every column is what the record says: else *altered*.
3. A digest is the one that was written down outside the database: else *altered*, *reordered*, *deleted* or *forked*.
4. The root is the one of every checkpoint, of the ledger, of the file beside it and of a witness, and each of these is
   signed; the subtrees that the ledger keeps are those of its records: else *altered*, *forked*, *signature*, *tree*.
5. There are as many records as the ledger says, and as many as the newest checkpoint anywhere says: else *truncated*,
   *rolled-back*. What a restore lost is told, and is no fault: its first checkpoint is signed.
6. A record without content was erased by an erasure that is a record itself, of a range that a signed checkpoint had
   vouched for 180 days before, and nothing else of it is left (`record_retention`): else *erased*, *altered*.
"""

import bisect
import datetime
import enum
import itertools
import json
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from lanjie_gateway.domain import packed
from lanjie_gateway.domain.checkpoints import Checkpoint, NoteError
from lanjie_gateway.domain.merkle import HASH_BYTES, Range, leaf_hash
from lanjie_gateway.domain.record_retention import ERASED, ERASURE, FLOOR
from lanjie_gateway.domain.records import COLUMNS, row_fields

MOST_FINDINGS: Final = 20
_LEFT: Final = {"matter": "", "outcome": ERASED, "subject_token": b""}
"""What an erased record has in columns that said something."""


class Fault(enum.StrEnum):
    """What is wrong with the records."""

    DELETED = "deleted"
    INSERTED = "inserted"
    ALTERED = "altered"
    REORDERED = "reordered"
    TRUNCATED = "truncated"
    ROLLED_BACK = "rolled-back"
    FORKED = "forked"
    SIGNATURE = "signature"
    TREE = "tree"
    ERASED = "erased"
    FILE = "file"


class Source(enum.StrEnum):
    """Where a checkpoint was kept."""

    LEDGER = "ledger"
    LOG = "checkpoints.log"
    WITNESS = "witness"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptLeaf:
    """A record as the ledger holds it; `columns` are those of `records.COLUMNS`, instants in microseconds."""

    index: int
    source: str
    columns: tuple[Any, ...]
    record: bytes
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that is wrong.

    Attributes:
        index: first place in the tree that it is about.
        last: last place it may be about; equal to `index` where it is exact.
        fault: what is wrong.
        text: the same for people; holds nothing of a record.
        wanted: digest that ought to stand at `index`, and `found` the one that stands there, where both are known.
    """

    index: int
    last: int
    fault: Fault
    text: str
    wanted: bytes = b""
    found: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a verification found, the first place first.

    Attributes:
        start: place it began at.
        size: number of records.
        erased: of these, how many hold no content since their retention ended.
        checkpoints: how many checkpoints were compared.
        proven: number of records that a signed checkpoint vouches for.
        newest: note of the newest checkpoint of the ledger; empty for none.
        notes: what is worth knowing and no fault.
    """

    start: int
    size: int
    erased: int
    checkpoints: int
    proven: int
    newest: str
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings


@dataclass(slots=True, kw_only=True)
class _Claim:
    checkpoint: Checkpoint
    sources: set[Source]
    note: str


@dataclass(slots=True)
class Verifier:
    """Takes records in order; `report` says what was wrong.

    Args:
        origin: lineage of the ledger.
        public: raw Ed25519 key of its checkpoints.
        tree: the tree at the place to begin at; its root is a verified checkpoint's.
        size: number of records that the ledger says there are.
        edge: edge of the tree that the ledger says it has.
        epoch: of the ledger.
        clock: aware instants.
        written: how many digests were written down outside the database.
    """

    origin: str
    public: bytes
    tree: Range
    size: int
    edge: bytes
    epoch: int
    clock: Callable[[], datetime.datetime]
    written: int = 0
    _start: int = 0
    _claims: dict[str, _Claim] = field(default_factory=dict)
    _due: list[_Claim] = field(default_factory=list)
    _findings: list[Finding] = field(default_factory=list)
    _notes: list[str] = field(default_factory=list)
    _blind: bool = False
    _erased: "array[int]" = field(default_factory=lambda: array("Q"))
    _erasures: "array[int]" = field(default_factory=lambda: array("Q"))
    _early: "array[int]" = field(default_factory=lambda: array("Q"))
    _signed: list[tuple[int, datetime.datetime]] = field(default_factory=list)
    _by_then: list[datetime.datetime] = field(default_factory=list)
    _completed: list[tuple[int, int, bytes]] = field(default_factory=list)
    _proven: int = 0
    _compared: int = 0
    _beyond: bool = False
    _lost: int = 0

    def __post_init__(self) -> None:
        self._start = self._proven = self.tree.size

    def claim(self, source: Source, note: str, place: tuple[int, int] | None = None) -> None:
        """Take a checkpoint to compare with; before the first record.

        Args:
            source: where it was kept.
            note: signed.
            place: epoch and size that it is kept under, where there are such.
        """
        if note not in self._claims:
            try:
                checkpoint = Checkpoint.open(note, self.origin, self.public)
            except NoteError as error:  # (4)
                self._find(self.size, self.size, Fault.SIGNATURE, f"a checkpoint in {source}: {error}")
                return
            self._claims[note] = _Claim(checkpoint=checkpoint, sources=set(), note=note)
        found = self._claims[note]
        found.sources.add(source)
        if place not in (None, (found.checkpoint.epoch, found.checkpoint.size)):
            # What is kept under a larger size or a later epoch would be the newest one for good.
            text = f"a checkpoint of {found.checkpoint.size:,} records in {source} is kept in the place of another"
            self._find(self.size, self.size, Fault.SIGNATURE, text)

    def doubt(self, finding: Finding) -> None:
        """Take what was found elsewhere."""
        self._findings.append(finding)

    def unplaced(self) -> bytes:
        """Return the digest of the first record that is not where it was; empty for none."""
        found = [each for each in self._findings if each.wanted and each.fault in _OF_A_RECORD]
        return min(found, key=lambda each: each.index).wanted if found else b""

    def begin(self) -> None:
        """Sort the checkpoints: those of a future that a restore lost are not compared."""
        restored = [each.checkpoint for each in self._claims.values() if each.checkpoint.restored]
        for each in self._claims.values():
            at = each.checkpoint
            kept = min((later.size for later in restored if later.epoch > at.epoch), default=None)
            if kept is not None and at.size > kept:
                self._lost = max(self._lost, at.size - kept)
                continue
            self._signed.append((at.size, at.at))
            if at.size > self.size:  # (5)
                where = " and ".join(sorted(each.sources))
                rolled = Source.LEDGER not in each.sources
                fault = Fault.ROLLED_BACK if rolled else Fault.TRUNCATED
                text = f"{where} has a signed checkpoint of {at.size:,} records, the ledger has {self.size:,}"
                self._find(self.size, at.size - 1, fault, text)
            elif at.size >= self._start:
                self._due.append(each)
        self._due.sort(key=lambda each: -each.checkpoint.size)
        self._signed.sort()
        # A clock may have been set back: an instant of a checkpoint, or of a later one, whichever is earlier.
        self._by_then = list(itertools.accumulate((at for _, at in reversed(self._signed)), min))[::-1]
        if self.written > self.size and not any(each.fault is Fault.ROLLED_BACK for each in self._findings):
            text = f"digests of {self.written:,} records were written down outside, the ledger has {self.size:,}"
            self._find(self.size, self.written - 1, Fault.ROLLED_BACK, text)
        newest = max((each.checkpoint.epoch for each in self._claims.values()), default=self.epoch)
        if newest < self.epoch:
            text = f"the ledger says epoch {self.epoch}, which no signed checkpoint begins"
            self._find(self.size, self.size, Fault.FORKED, text)
        if newest > self.epoch:
            text = f"the ledger says epoch {self.epoch}, and a signed checkpoint is of epoch {newest}"
            self._find(self.size, self.size, Fault.ROLLED_BACK, text)
        if restored:
            last = max(restored, key=lambda each: each.epoch)
            text = f"restored from a backup at {last.size:,} records, in epoch {last.epoch}"
            lost = f"; checkpoints of {self._lost:,} later records exist, which the backup did not have"
            self._notes.append(text + (lost if self._lost else ""))
        self._compare()

    def feed(self, leaves: Sequence[KeptLeaf], outside: bytes = b"") -> None:
        """Take the next records.

        Args:
            leaves: in the order of their places.
            outside: digests that were written down outside the database, from the next place on.
        """
        first = self.tree.size
        for leaf in leaves:
            if self._beyond:
                return
            at = self.tree.size
            if leaf.index >= self.size:  # (1)
                self._beyond = True
                self._find(leaf.index, leaf.index, Fault.INSERTED, "a record behind the end of the tree")
                return
            if leaf.index > at:
                self._find(at, leaf.index - 1, Fault.DELETED, f"{leaf.index - at:,} records are missing")
                self._skip(leaf.index, outside[(at - first) * HASH_BYTES :])
                at = leaf.index
            place = (at - first) * HASH_BYTES
            self._take(leaf, outside[place : place + HASH_BYTES], outside[place + HASH_BYTES : place + 2 * HASH_BYTES])

    def _take(self, leaf: KeptLeaf, outside: bytes, following: bytes) -> None:
        at = self.tree.size
        found = leaf.digest
        if leaf.record:
            found = leaf_hash(leaf.record)
            if text := fault_of(leaf, found):  # (2)
                self._find(at, at, Fault.ALTERED, text)
                outside = b""
            if b'"kind":"erasure"' in leaf.record:
                self.note_erasure(at, leaf.record)
        else:
            if self._erased and self._erased[-1] == at:
                self._erased[-1] = at + 1
            else:
                self._erased.extend((at, at + 1))
            if any(kept != _LEFT.get(name, kept) for name, kept in zip(COLUMNS, leaf.columns, strict=True)):
                self._find(at, at, Fault.ALTERED, "the record was erased, and a column still says something")
        if outside and outside != found:  # (3)
            fault, text = Fault.ALTERED, "the digest is not the one that was written down outside the database"
            if found == following:
                fault, text = Fault.DELETED, "the record is gone, and the later ones have moved up"
            self._find(at, at, fault, text, wanted=outside, found=found)
        self._append(found)

    def hold_nodes(self, kept: Mapping[tuple[int, int], bytes], least: int) -> None:
        """Compare the subtrees over the records up to here with those that the ledger keeps, of which proofs are made.

        Args:
            kept: by (number of records, level).
            least: level from which on they are kept.
        """
        for size, level, root in self._completed:
            if level >= least and kept.get((size, level)) != root and not self._findings:  # (4)
                text = "a subtree that the ledger keeps is not the one over its records: proofs fail"
                self._find(size - (1 << level), size - 1, Fault.TREE, text)
        self._completed.clear()

    def _append(self, digest: bytes) -> None:
        self._completed += [(self.tree.size, level, root) for level, root in self.tree.append(digest)]
        self._compare()

    def _skip(self, until: int, outside: bytes) -> None:
        """Go on behind missing records, blind where nobody knows their digests."""
        for place in range(until - self.tree.size):
            digest = outside[place * HASH_BYTES : (place + 1) * HASH_BYTES]
            self._blind = self._blind or not digest
            self._append(digest or bytes(HASH_BYTES))

    def _compare(self) -> None:
        """Compare the root with the checkpoints of this size (4)."""
        while self._due and self._due[-1].checkpoint.size <= self.tree.size:
            claim = self._due.pop()
            if claim.checkpoint.size < self.tree.size or self._blind:
                continue
            self._compared += 1
            size = claim.checkpoint.size
            if claim.checkpoint.root == self.tree.root():
                if not self._findings:
                    self._proven = max(self._proven, size)
                self._judge(size, claim)
            elif not any(each.index < size for each in self._findings):
                where = " and ".join(sorted(claim.sources))
                fault = Fault.ALTERED if Source.LEDGER in claim.sources else Fault.FORKED
                text = f"the root is not that of the signed checkpoint of {size:,} records in {where}"
                self._find(min(self._proven, size - 1), size - 1, fault, text)

    def _judge(self, size: int, claim: _Claim) -> None:
        """A checkpoint vouches for what the digests outside deny: the file is wrong, or the history forked (3)."""
        elsewhere = {Source.LOG, Source.WITNESS} & claim.sources
        for place, each in enumerate(self._findings):
            if each.wanted and each.index < size:
                if elsewhere:
                    text = "the digest written down outside the database is wrong: signed checkpoints fit the ledger"
                    self._findings[place] = replace(each, fault=Fault.FILE, text=text)
                else:
                    text = "the ledger's own signed checkpoint vouches for another record than was written down here"
                    self._findings[place] = replace(each, fault=Fault.FORKED, text=text)

    def report(self, place_of: Callable[[bytes], int | None] = lambda _: None) -> Report:
        """Return what was found.

        Args:
            place_of: gives the place of a record in the ledger by its digest, to tell *deleted* from *reordered*.
        """
        at = self.tree.size
        if at < self.size:  # (5)
            text = f"the ledger says it has {self.size:,} records, and has {at:,}"
            self._find(at, self.size - 1, Fault.TRUNCATED, text)
        elif not self._findings and b"".join(self.tree.edge) != self.edge:
            text = "the tree that the ledger keeps is not the one over its records"
            self._find(self._proven, max(self.size - 1, self._proven), Fault.TREE, text)
        self._judge_erasures()
        found = sorted(self._findings, key=lambda each: (each.index, each.last))
        first = next((n for n, each in enumerate(found) if each.wanted and each.fault in _OF_A_RECORD), None)
        if first is not None:
            found[first] = _named(found[first], place_of)
        ledger = [each for each in self._claims.values() if Source.LEDGER in each.sources]
        newest = max(ledger, key=lambda each: (each.checkpoint.epoch, each.checkpoint.size), default=None)
        return Report(
            start=self._start,
            size=self.size,
            erased=sum(end - start for start, end in _pairs(self._erased)),
            checkpoints=self._compared,
            proven=self._proven,
            newest=newest.note if newest else "",
            findings=tuple(found[:MOST_FINDINGS]),
            notes=tuple(self._notes),
        )

    def note_erasure(self, at: int, record: bytes) -> None:
        """Take the record of an erasure, at its place in the tree (6).

        One that stands behind the records which are verified tells of what was erased while they were.
        """
        try:
            fields = json.loads(record)
            if fields["kind"] != ERASURE:
                return
            told = datetime.datetime.fromisoformat(fields["at"])
            erased = [(int(start), int(end)) for start, end in fields["erased"]]
            # Whoever says so is vouched for by the next checkpoint, and cannot have said it later, nor later than now.
            after = bisect.bisect_right(self._signed, at, key=lambda each: each[0])
            by = min([told, self.clock(), *(instant for _, instant in self._signed[after : after + 1])]) - FLOOR
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return
        old = bisect.bisect_right(self._by_then, by)
        grown = self._signed[old - 1][0] if old else 0
        for each in (each for each in erased if 0 <= each[0] < each[1] <= at):
            (self._erasures if each[1] <= grown else self._early).extend(each)

    def _judge_erasures(self) -> None:
        """What holds no content was erased openly, and not too early (6)."""
        allowed = _merged(self._erasures)
        early = [start for start, _ in _merged(self._early)]
        for start, end in _without(_pairs(self._erased), allowed):
            text = "the content is gone, and no record says that it was erased"
            if early and early[0] < end:
                text += f", but one that says so of records that were not {FLOOR.days} days old"
            self._find(start, end - 1, Fault.ERASED, text)

    def _find(self, index: int, last: int, fault: Fault, text: str, **digests: bytes) -> None:
        if len(self._findings) < 50 * MOST_FINDINGS:
            self._findings.append(Finding(index=index, last=max(index, last), fault=fault, text=text, **digests))


_OF_A_RECORD: Final = frozenset({Fault.ALTERED, Fault.DELETED})


def _pairs(flat: "array[int]") -> Iterator[tuple[int, int]]:
    return zip(flat[::2], flat[1::2], strict=True)


def _merged(flat: "array[int]") -> list[tuple[int, int]]:
    """Return ranges in order, those that meet as one."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(_pairs(flat)):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def _without(ranges: Iterator[tuple[int, int]], other: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield what of ascending ranges is in none of the others, which are ascending too."""
    place = 0
    for start, end in ranges:
        at = start
        while place < len(other) and other[place][1] <= at:
            place += 1
        # The last of these may reach into the next range, so `place` stays.
        overlapping = place
        while overlapping < len(other) and other[overlapping][0] < end:
            first, behind = other[overlapping]
            if at < first:
                yield at, first
            at = max(at, behind)
            overlapping += 1
        if at < end:
            yield at, end


def _named(finding: Finding, place_of: Callable[[bytes], int | None]) -> Finding:
    """Tell an altered record from one that stands elsewhere, and from one that is gone while later ones moved up."""
    elsewhere = place_of(finding.wanted)
    if elsewhere is not None and elsewhere != finding.index:
        text = f"another record stands here; the one that belongs here stands at {elsewhere:,}"
        return replace(finding, fault=Fault.REORDERED, text=text)
    return finding


def fault_of(leaf: KeptLeaf, digest: bytes) -> str:
    """Return what of a record is not as its canonical bytes say; empty for nothing (2)."""
    if digest != leaf.digest:
        return "the record is not the one that its digest was made of"
    try:
        derived = row_fields(leaf.record)
        source = source_of(leaf.record, derived)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return "the record cannot be read"
    if source and source != leaf.source:
        return "the column source is not what the record says"
    for name, kept in zip(COLUMNS, leaf.columns, strict=True):
        value = derived[name]
        if isinstance(value, datetime.datetime):
            value = packed.micros(value)
        elif name == "matter":
            # PostgreSQL keeps no text with a NUL in it.
            value = value.replace("\0", "\N{REPLACEMENT CHARACTER}")
        if value != kept:
            return f"the column {name} is not what the record says"
    return ""


def source_of(record: bytes, derived: dict[str, Any]) -> str:
    """Return the source that a record says it came from; empty where it says none."""
    kind = derived["kind"]
    if kind == "local":
        return f"sdk-{json.loads(record)['spool']}"
    return str(derived["decision_id"]).rpartition("-")[0] if kind == "gateway" else ""
