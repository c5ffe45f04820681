"""What the ledger hands out and takes in."""

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from lanjie_gateway.domain import records
from lanjie_gateway.domain.events import Act, EventKind
from lanjie_gateway.domain.grants import Grant
from lanjie_gateway.domain.packed import Details, PackedListing
from lanjie_gateway.domain.signing import Signed


class LedgerError(RuntimeError):
    """The ledger cannot be opened or does not hold what it must."""


class GenerationGoneError(Exception):
    """The ledger holds no digests under the view key of a generation: whoever has that view takes the newest."""

    def __init__(self, generation: int) -> None:
        super().__init__(f"no digests of generation {generation} of the view key")


class BucketState(NamedTuple):
    """One bucket of the exact index as of now.

    Attributes:
        bucket: index token of the canonical key, 16 bytes.
        revision: of the newest commit that changed it.
        value: its packed listings, joined; empty if no listing is left in it.
        view_digest: 64-bit digest of the canonical key of a company under the newest view key; `None` for persons.
        listed: some listing in it stands in the view: no event has ended it, and it is not pruned.
        generation: of the view key of `view_digest`.
        other_digest: the same digest under the key before.
        other_generation: of the key before, as long as its view can be followed; else `None`.
    """

    bucket: bytes
    revision: int
    value: bytes
    view_digest: int | None
    listed: bool
    generation: int = 0
    other_digest: int | None = None
    other_generation: int | None = None

    def digest(self, generation: int) -> int | None:
        """Return the view digest under the key of a generation; `None` for persons.

        Raises:
            GenerationGoneError: the view of that generation can be followed no longer, or not yet.
        """
        if generation == self.generation:
            return self.view_digest
        if generation == self.other_generation:
            return self.other_digest
        raise GenerationGoneError(generation)


@dataclass(frozen=True, slots=True)
class CommitInfo:
    """One commit. `kind` is ``listings``, ``catalogue``, ``calendar``, ``view`` (a new generation) or ``prune``.

    ``view`` and ``prune`` change nothing but what the view is made of; a ``catalogue`` may bring pruned listings back;
    a ``calendar`` touches no listing. `delivers`: a source vouched for a list type with it.
    """

    revision: int
    kind: str
    committed_at: datetime.datetime
    actor: str
    delivers: bool = False


@dataclass(frozen=True, slots=True)
class Pruned:
    """What one slice did.

    Attributes:
        revision: of its commit; `None` where no listing left the view or came back.
        count: listings that did.
        after: cursor to go on with; `None` when done.
    """

    revision: int | None
    count: int
    after: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEdition:
    """One published edition as it was handed in; `signed` is `None` where it was published before signatures."""

    catalogue_id: str
    edition: str
    file: bytes = field(repr=False)
    file_name: str
    actor: str
    published_at: datetime.datetime
    revision: int
    signed: Signed | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredYear:
    """One published year file as it was handed in."""

    year: int
    file: bytes = field(repr=False)
    file_name: str
    actor: str
    published_at: datetime.datetime
    revision: int
    signed: Signed | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredGrantAct:
    """One act on the grant of a department.

    Attributes:
        kind: ``set`` or ``end``.
        state: ``waiting``, ``done`` or ``declined``.
        grant: what is granted; `None` for an end.
        base: number of the act that said what stood when it was judged; 0 for none.
        second: who confirmed or declined; empty for nobody.
        revision: that it works from; 0 where it does not.
    """

    number: int
    department: str
    kind: str
    state: str
    grant: Grant | None
    base: int
    actor: str
    second: str
    reason: str
    document: str
    brought_at: datetime.datetime
    settled_at: datetime.datetime | None
    declined_reason: str
    revision: int

    @property
    def id(self) -> str:
        """Its name."""
        return f"g{self.number:06d}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredListing:
    """One listing with what was sealed; `details` is `None` once erased."""

    id: str
    packed: PackedListing
    details: Details | None
    source_version: str
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    """One event. `second` confirmed it before it was recorded; empty where nobody had to."""

    kind: EventKind
    effective_at: datetime.datetime
    recorded_at: datetime.datetime
    actor: str
    reason: str
    document: str
    revision: int
    detail: Mapping[str, Any] = field(default_factory=dict, repr=False)
    second: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrected:
    """A listing after a correction by hand, as the ledger keeps it; what events did to it does not count.

    `base` tells the facts that were corrected, see `proposals.facts_of`.
    """

    packed: bytes = field(repr=False)
    sealed: bytes = field(repr=False)
    wrapped_key: bytes = field(repr=False)
    base: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """An act that waits for a second person, or did.

    Attributes:
        id: ``p`` and a number.
        number: of the listing's row.
        act: what is to be recorded.
        state: ``waiting``, ``confirmed`` or ``declined``.
        base: tells the facts of the listing that the proposer saw.
        corrected: the listing after it, for a correction that waits.
        settled_by: who confirmed or declined it.
        revision: of its commit; 0 while there is none.
    """

    id: str
    number: int
    act: Act
    state: str
    base: bytes = field(repr=False)
    corrected: Corrected | None
    proposed_at: datetime.datetime
    settled_by: str
    revision: int

    @property
    def listing_id(self) -> str:
        """Id of the listing."""
        return f"{self.number:016x}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDuty:
    """When a clock began and was stopped; when it is due is computed when asked.

    Attributes:
        rule: name of a `DutyRule`.
        closed_on: day in Shanghai; `None` while it runs.
        revision: of the commit that opened it.
    """

    rule: str
    listing_id: str
    list_type: str
    region: str
    started_on: datetime.date
    closed_on: datetime.date | None
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InquiryRow:
    """One inquiry record (Art. 39). `record` is its canonical form, the other columns are derived from it.

    Attributes:
        sequence: its place in its source, from 1.
        decided_at: aware instant.
        kind: ``gateway`` or ``local`` of an answer; else what left the record.
        digest: digest of `record`.
        parsed: what `fields` gives, where the record was read before.
    """

    sequence: int
    decision_id: str
    decided_at: datetime.datetime
    department: str
    matter: str
    outcome: str
    kind: str
    subject_token: bytes = field(repr=False)
    record: bytes = field(repr=False)
    digest: bytes
    parsed: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(cls, record: bytes) -> "InquiryRow":
        """Return the row of a leaf.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: it is no leaf.
        """
        fields = json.loads(record)
        return cls(**records.columns_of(fields), record=record, digest=records.digest(record), parsed=fields)

    def fields(self) -> Mapping[str, Any]:
        """Return the fields of the record; none where it is no leaf, which is for its audit to say."""
        return records.fields_of(self.record) if self.parsed is None else self.parsed


def proposal_number(proposal_id: str) -> int | None:
    """Return the row's number of the id of a proposal, `None` where it cannot be one."""
    digits = proposal_id.removeprefix("p")
    return int(digits) if digits != proposal_id and digits.isascii() and digits.isdigit() and len(digits) < 19 else None


def is_act(receipt_id: str) -> bool:
    """Whether an id is that of an act that waits, and not of an import's receipt."""
    return proposal_number(receipt_id) is not None


def row_id(listing_id: str) -> int:
    """Return the row's number of a listing id; 0, which no row has, where it cannot be one."""
    if len(listing_id) != 16:
        return 0
    try:
        value = int(listing_id, 16)
    except ValueError:
        return 0
    return value if value < 1 << 63 else 0


def signed64(value: int | None) -> int | None:
    """Return an unsigned 64-bit value as databases keep it."""
    return value - (1 << 64) if value is not None and value >> 63 else value


def unsigned64(value: int | None) -> int | None:
    """Return the unsigned value of `signed64`."""
    return value + (1 << 64) if value is not None and value < 0 else value


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitDay:
    """What a department asked about natural persons on a day, in numbers.

    Attributes:
        department: its code.
        day: ordinal of the day in Shanghai.
        off_hours: distinct persons outside office hours.
        hours: distinct persons by hour.
        trips: limits that were reached, as JSON values.
        lifted_by: who lifted the limits for the day; empty for nobody.
        rate: share of persons with an outcome other than a pass that was usual by then; `None` before it was kept.
    """

    department: str
    day: int
    off_hours: int
    hours: Sequence[int]
    trips: Sequence[Mapping[str, Any]]
    lifted_by: str
    rate: float | None = None
