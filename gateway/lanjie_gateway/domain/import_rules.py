"""What becomes of a list file: its counts, when it waits for a second person, and how a row meets what is known.

A wrong file is more likely than a wrong row, so a file that changes much waits *before* its commit; nothing that is
committed is ever held back from the counters afterwards.
"""

import datetime
import enum
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from lanjie_gateway.domain.list_file import Op, RowRefused
from lanjie_matcher.civil_time import day_of

ALTERED_SHARE: Final = 0.02
"""Share of a list type's live listings that a file may alter, or by absence end, without a second person."""
ADDED_FLOOR: Final = 10_000
ADDED_SHARE: Final = 0.5
"""A file may add the larger of floor and share to a list type already in use."""
BAD_SHARE: Final = 0.05
"""Share of rows that may be bad."""
SHOWN_QUARANTINE: Final = 1_000
"""Quarantined rows a receipt shows."""


class ImportMode(enum.StrEnum):
    """How a file relates to what is known."""

    DELTA = "delta"
    FULL = "full"


class FileFormat(enum.StrEnum):
    """Format of a list file."""

    CSV = "csv"
    JSONL = "jsonl"
    XLSX = "xlsx"


class ImportState(enum.StrEnum):
    """What became of a file."""

    COMMITTED = "committed"
    WAITING = "waiting"
    DRY_RUN = "dry_run"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportHeader:
    """What is to be done with a file; fields as in listing.proto. Empty `sha256` and 0 `size` mean not stated."""

    file_name: str
    format: FileFormat
    list_type: str = ""
    source: str = ""
    mode: ImportMode = ImportMode.DELTA
    as_of: datetime.datetime | None = None
    strict: bool = False
    dry_run: bool = False
    sha256: bytes = b""
    size: int = 0
    profile: bytes = b""
    by_hand: bool = False

    def retry_key(self, sha256: bytes) -> bytes:
        """Return what tells a retry: the digest of the file, and under a profile of both. Read otherwise, it is new."""
        if not self.profile:
            return sha256
        return hashlib.sha256(sha256 + hashlib.sha256(self.profile).digest()).digest()

    def vouched_on(self, received_at: datetime.datetime) -> datetime.date:
        """Return the day up to which the source vouches: of the instant a list is complete as of, or of the receipt.

        Changes vouch for all that was delivered before them: the source would have sent a removal with them.
        """
        complete_at = self.as_of if self.mode is ImportMode.FULL else None
        return day_of(complete_at or received_at)


def redelivery_key(retry_key: bytes, day: datetime.date) -> bytes:
    """Return what tells a retry of the same file when its source delivers it again to vouch for a later day."""
    return hashlib.sha256(retry_key + day.isoformat().encode()).digest()


@dataclass(frozen=True, slots=True)
class QuarantinedRow:
    """A row that was not taken: where and why, never what."""

    line: int
    column: str
    rule: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Counts of a receipt."""

    rows: int = 0
    added: int = 0
    amended: int = 0
    removed: int = 0
    absent: int = 0
    unchanged: int = 0
    quarantined: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What became of a file.

    Attributes:
        importer: actor who brought it; another one confirms (Art. 61).
        sha256: key of a retry, see `ImportHeader.retry_key` and `redelivery_key`.
        revision: of the commit; 0 while there is none.
        repeated: the file was taken before, and this is its first receipt.
    """

    receipt_id: str
    batch: int
    state: ImportState
    sha256: bytes
    mode: ImportMode
    list_type: str
    source: str
    file_name: str
    importer: str
    received_at: datetime.datetime
    counts: Counts
    revision: int = 0
    quarantine: tuple[QuarantinedRow, ...] = ()
    reasons: tuple[str, ...] = ()
    repeated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeChange:
    """What a file does to one list type; `live` counts its live listings before."""

    live: int
    added: int = 0
    altered: int = 0


class Effect(enum.Enum):
    """What a good row does."""

    ADD = enum.auto()
    AMEND = enum.auto()
    REMOVE = enum.auto()
    NOTHING = enum.auto()


@dataclass(frozen=True, slots=True)
class Known:
    """A listing in the ledger that a row is about.

    `corrected`: by hand, by a document of its own; `newer`: after the instant that the row's list is complete as of.
    """

    content: bytes
    source_version: str
    ended: bool
    corrected: bool = False
    newer: bool = False


@dataclass(slots=True)
class Tally:
    """Running counts of one import."""

    added: dict[str, int] = field(default_factory=dict)
    altered: dict[str, int] = field(default_factory=dict)
    amended: int = 0
    removed: int = 0
    absent: int = 0
    unchanged: int = 0
    quarantined: int = 0

    @property
    def changes(self) -> int:
        """Listings that are entered, corrected or ended."""
        return sum(self.added.values()) + self.amended + self.removed + self.absent

    def counts(self, rows: int) -> Counts:
        """Return the counts of a receipt."""
        return Counts(
            rows=rows,
            added=sum(self.added.values()),
            amended=self.amended,
            removed=self.removed,
            absent=self.absent,
            unchanged=self.unchanged,
            quarantined=self.quarantined,
        )


def judge(op: Op, content: bytes, source_version: str, known: Known | None) -> Effect:
    """Return what a row does, given what is known.

    Args:
        op: operation of the row.
        content: keyed hash of what the row says.
        source_version: version the source gives it, empty where none.
        known: the listing of the same key.

    Raises:
        RowRefused: ``delete-unknown``, ``ended-not-resurrected``, ``stale-version``, ``corrected-by-hand``.
    """
    if known is None:
        if op is Op.DELETE:
            raise RowRefused("", "delete-unknown", "no listing has this key")
        return Effect.ADD
    if op is Op.DELETE:
        return Effect.NOTHING if known.ended else Effect.REMOVE
    if known.ended:
        # A late feed must never bring back what a document has ended; reinstatement has a document of its own.
        raise RowRefused("", "ended-not-resurrected", "the listing was ended; only a reinstatement brings it back")
    if is_older(source_version, known.source_version):
        raise RowRefused("source_version", "stale-version", "a newer version of this record is known")
    if content == known.content:
        return Effect.NOTHING
    if known.corrected:
        # The source has not taken the correction over, or has news: a person must look before one is lost.
        raise RowRefused("", "corrected-by-hand", "the listing was corrected by a document; amend it by hand")
    if known.newer and not is_older(known.source_version, source_version):
        # Late, it would bring back what the source has corrected since, the subject of another one among it.
        raise RowRefused("", "stale-version", "the listing has changed since the instant the list is complete as of")
    return Effect.AMEND


def is_older(version: str, known: str) -> bool:
    """Whether a source's version is older than the known one: as numbers where both are, else as texts."""
    if not version or not known:
        return False
    if version.isdecimal() and known.isdecimal():
        return int(version) < int(known)
    return version < known


def reasons_to_wait(counts: Counts, header: ImportHeader, types: Mapping[str, TypeChange]) -> tuple[str, ...]:
    """Return why a file waits for a second person, one sentence each; empty when it need not.

    A file of explicit removals never waits: each has been ordered already, and keeping a subject listed is the harm.
    An entry by hand always does.

    Args:
        counts: counts of the file.
        header: what is to be done with it.
        types: by list type, what it does.
    """
    if counts.removed and not (counts.added or counts.amended or counts.absent):
        return ()
    reasons = []
    if header.by_hand and (counts.added or counts.amended):
        reasons.append("It was entered by hand: another person confirms it (Art. 61).")
    for code, change in sorted(types.items()):
        if change.altered > ALTERED_SHARE * change.live:
            reasons.append(f"It alters or ends {change.altered} of {change.live} live listings of {code}, over 2 %.")
        if change.live and change.added > max(ADDED_FLOOR, ADDED_SHARE * change.live):
            reasons.append(f"It adds {change.added} to {change.live} live listings of {code}.")
    if counts.quarantined > BAD_SHARE * counts.rows:
        reasons.append(f"{counts.quarantined} of {counts.rows} rows are bad, over 5 %.")
    elif header.mode is ImportMode.FULL and counts.quarantined:
        reasons.append(
            f"{counts.quarantined} rows of a complete list are bad: a listing that seems absent may be one of them."
        )
    if reasons and counts.removed:
        reasons.append(f"Its {counts.removed} removals wait with it; as a file of their own they would work at once.")
    return tuple(reasons)
