"""The ledger: the record of listings, catalogues and inquiries. Everything else is derived from it."""

import contextlib
import dataclasses
import datetime
import functools
from array import array
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import sqlalchemy as sa

from lanjie_gateway.adapters.keys import KeyRing, KeysLostError
from lanjie_gateway.adapters.ledger import (
    alerting,
    authorisations,
    commits,
    complaints,
    database,
    deliveries,
    duties,
    editions,
    erasure,
    feed,
    feedback,
    grants,
    heads,
    inquiries,
    life,
    limits,
    lives,
    locks,
    looking,
    passes,
    proposals,
    pruning,
    reach,
    receipts,
    rotation,
    staging,
    tree,
    usage,
    watches,
    years,
)
from lanjie_gateway.adapters.ledger.copy import OnlineCopy
from lanjie_gateway.adapters.ledger.lives import Life
from lanjie_gateway.adapters.ledger.rows import (
    BucketState,
    CommitInfo,
    Corrected,
    InquiryRow,
    LedgerError,
    LimitDay,
    Proposal,
    Pruned,
    StoredDuty,
    StoredEdition,
    StoredEvent,
    StoredGrantAct,
    StoredListing,
    StoredYear,
    proposal_number,
    row_id,
)
from lanjie_gateway.adapters.ledger.tables import (
    BATCH,
    EVENT,
    HEAD,
    LISTING,
    LISTING_KEY,
    RECEIPT,
    SEEN,
    STAGED_CHANGE,
    STAGED_KEY,
)
from lanjie_gateway.adapters.sealing import SealBrokenError, Sealer
from lanjie_gateway.domain import history, packed
from lanjie_gateway.domain.access import WriteScope
from lanjie_gateway.domain.alerts import KeptAlert, Watch
from lanjie_gateway.domain.authorisations import Authorisation, Wanted
from lanjie_gateway.domain.checkpoints import Checkpoint
from lanjie_gateway.domain.complaints import Complaint
from lanjie_gateway.domain.errors import Refused, Unanswerable, not_found
from lanjie_gateway.domain.events import Act, EventKind
from lanjie_gateway.domain.feedback import Asked, Settled
from lanjie_gateway.domain.grants import Grant
from lanjie_gateway.domain.import_rules import ImportMode, ImportState, QuarantinedRow, Receipt
from lanjie_gateway.domain.list_file import ListingDraft
from lanjie_gateway.domain.signing import Signed
from lanjie_gateway.domain.source_ages import Delivery, Source
from lanjie_gateway.domain.staged import StagedRow, numbers_of
from lanjie_gateway.domain.statistics import Usage
from lanjie_gateway.domain.verification import KeptLeaf
from lanjie_matcher.catalogues import CatalogueSet, Edition
from lanjie_matcher.civil_time import day_of
from lanjie_matcher.fingerprints import IndexKey, ViewKey
from lanjie_matcher.identifiers import Identifier, IdentifierError, parse
from lanjie_matcher.listings import Listing
from lanjie_matcher.subjects import normalise_name

_ANALYSED_FROM: Final = 5_000
"""Rows of an import from which PostgreSQL is told to look at the tables anew, rather than at its own time."""
_PURGE_AT_START: Final = 20_000
"""Rows of a crashed import that a start clears; the rest goes in small steps with the next import."""

_T = TypeVar("_T")
Permit = Callable[[StoredListing], None]
"""Looks at the listing that an act is about, and raises what refuses it."""


class Ledger:
    """The record, used by one thread. Make with `Ledger.open`.

    Attributes:
        lineage: identity of this ledger, 32 hexadecimal digits.
        epoch: timeline of its revisions, which a restore leaves.
        keys: the keys that fit this ledger; another host may have made a newer view key, see `refresh_generation`.
        shared: whether other hosts may write too (PostgreSQL).

    Every call raises `Unanswerable` LEDGER_UNAVAILABLE while PostgreSQL cannot be reached, and the next one connects
    anew. Where the connection broke during a commit nobody can tell whether it was made. An import or a publication
    that is sent again then gives the first one's receipt or revision; for an event see `record`.
    """

    def __init__(
        self,
        engine: sa.Engine,
        head: tuple[str, int, KeyRing],
        keys_for: heads.KeysFor,
        clock: Callable[[], datetime.datetime],
    ) -> None:
        self.lineage, self.epoch, self.keys = head
        self._engine = engine
        self._keys_for = keys_for
        self._clock = clock
        self._sealer = Sealer(self.keys.store)
        self._index = IndexKey(self.keys.index)
        self._rotation: rotation.Rotation | None = None
        self._search: passes.Search | None = None
        self.shared = locks.shared(engine)

    @classmethod
    def open(cls, url: str, keys_for: heads.KeysFor, clock: Callable[[], datetime.datetime]) -> "Ledger":
        """Open the ledger; make it where there is none.

        Args:
            url: ``sqlite:////absolute/path`` or ``postgresql+psycopg://…``.
            keys_for: gives the keys of a generation; may make them only when told that the ledger is fresh.
            clock: aware instants.

        Raises:
            LedgerError: it is of another version, or the keys are not the ones it was written with.
            KeysLostError: it is in use, by another host for instance, and its keys are not here.
            Unanswerable: LEDGER_UNAVAILABLE.
        """
        engine = database.connect(url)
        try:
            with database.transaction(engine) as connection:
                # Hosts that open a fresh database at once: one makes keys and head, the others find them.
                locks.wait(connection, "head")
                head = heads.open_head(connection, keys_for)
            ledger = cls(engine, head, keys_for, clock)
            if ledger.hold_imports():
                # What was on its way when the process ended is nobody's.
                with database.transaction(engine) as connection:
                    commits.abandon(connection)
                left = _PURGE_AT_START
                while left > 0 and ledger.purge():
                    left -= 2_000
                ledger.end_import()
        except BaseException:
            engine.dispose()
            raise
        return ledger

    def close(self) -> None:
        """Close the file or the connection."""
        self._engine.dispose()

    def head(self) -> int:
        """Return the newest revision; 0 before the first commit."""
        with database.transaction(self._engine) as connection:
            return int(connection.execute(sa.select(HEAD.c.revision)).scalar_one())

    @property
    def generation(self) -> int:
        """Generation of the view key of `keys`."""
        return self.keys.generation

    def refresh_generation(self) -> int:
        """Take the view key of the newest generation, which another host may have made; return the generation.

        Raises:
            KeysLostError: that key is not here; copy ``keys/`` from the host that has it.
        """
        with database.transaction(self._engine) as connection:
            self.keys = heads.newest_keys(connection, self.keys, self._keys_for)
        return self.generation

    def copy_to(self, target: Path) -> OnlineCopy:
        """Begin a copy of the SQLite file that goes on while the ledger is used; see `OnlineCopy`."""
        return OnlineCopy(self._engine, target)

    # The change feed.

    def shards(self, numbers: Sequence[int]) -> list[list[BucketState]]:
        """Return the buckets of shards that have listings, in order; tokens of a shard begin with its number."""
        with database.transaction(self._engine) as connection:
            return feed.shards(connection, numbers)

    def buckets(self, tokens: Sequence[bytes]) -> list[BucketState]:
        """Return those of the buckets that ever held a listing, in order; the emptied ones included."""
        with database.transaction(self._engine) as connection:
            return feed.buckets(connection, tokens)

    def listed_digests_of(self, number: int, *, other: bool = False) -> "array[int]":
        """Return those of `listed_digests` whose bucket's token begins with the byte `number`.

        All 256 of them take longer than the whole at once, and other calls come in between. A commit may, too: follow
        those after the head that was read before.
        """
        with database.transaction(self._engine) as connection:
            return feed.listed_digests_of(connection, self.generation - 1 if other else self.generation, number)

    def listed_digests(self, *, other: bool = False) -> "array[int]":
        """Return the view digests of all companies in the view, sorted, each once.

        Args:
            other: under the key of the generation before `generation`, not its own.

        Raises:
            GenerationGoneError: another host has switched to a newer generation, or the one before can be followed no
                longer.
        """
        with database.transaction(self._engine) as connection:
            return feed.listed_digests(connection, self.generation - 1 if other else self.generation)

    def touched_since(self, since: datetime.datetime, until: int, most: int) -> tuple[list[tuple[int, int]], int]:
        """Return (revision, view digest) of companies that commits touched, newest first; see `feed.touched_since`."""
        with database.transaction(self._engine) as connection:
            return feed.touched_since(connection, self.generation, packed.micros(since), until, most)

    def changed(self, revision: int, after: int, limit: int) -> tuple[list[BucketState], int | None]:
        """Return buckets that the commit of a revision touched, in the index or in the view, as they are now.

        Args:
            revision: of the commit.
            after: cursor; 0 at the beginning, then what the last call gave.
            limit: events to read; a bucket may come again on a later page.

        Returns:
            The buckets, and the cursor to go on with, `None` when done.
        """
        with database.transaction(self._engine) as connection:
            return feed.changed(connection, revision, after, limit)

    def commits_after(self, revision: int, limit: int) -> list[CommitInfo]:
        """Return up to `limit` commits after a revision, in order."""
        with database.transaction(self._engine) as connection:
            return feed.commits_after(connection, revision, limit)

    # The age of sources; see `adapters.ledger.deliveries`.

    def vouched(self, revision: int) -> dict[Source, int]:
        """Return the newest vouched day of every source by list type, as an ordinal, as of a revision."""
        with database.transaction(self._engine) as connection:
            return deliveries.vouched(connection, revision)

    def raised(self, revision: int) -> dict[Source, int]:
        """Return what the commit of a revision adds to `vouched`: later days only."""
        with database.transaction(self._engine) as connection:
            return deliveries.raised(connection, revision)

    def sources(self, revision: int | None = None) -> list[Delivery]:
        """Return the delivery of every source by list type that vouched last, by now or as of a revision, in order."""
        with database.transaction(self._engine) as connection:
            return deliveries.newest(connection, revision)

    def live_sources(self) -> set[Source]:
        """Return the (list type, source) with listings that no event has ended."""
        with database.transaction(self._engine) as connection:
            return deliveries.live(connection)

    def live_source_counts(self) -> dict[Source, int]:
        """Return how many listings no event has ended, by list type and source; `live_sources` is far cheaper."""
        with database.transaction(self._engine) as connection:
            return deliveries.live_counts(connection)

    # Listings.

    def find(self, identifier: Identifier) -> list[StoredListing]:
        """Return the listings of an identifier, newest first, the ended ones included."""
        bucket = self._index.token(identifier.key)
        token = self._index.token(identifier.reveal())
        keys = sa.select(LISTING_KEY.c.listing_id).where(
            LISTING_KEY.c.bucket == bucket, LISTING_KEY.c.current.is_(True)
        )
        with database.transaction(self._engine) as connection:
            rows = connection.execute(_STORED.where(LISTING.c.id.in_(keys)).order_by(LISTING.c.id.desc())).all()
        found = [self._stored(row) for row in rows]
        return [each for each in found if each.packed.concerns(identifier.kind.value, token, bucket)]

    def get(self, listing_id: str) -> tuple[StoredListing, list[StoredEvent]] | None:
        """Return a listing with its events, oldest first; `None` where there is none."""
        number = row_id(listing_id)
        with database.transaction(self._engine) as connection:
            row = connection.execute(_STORED.where(LISTING.c.id == number)).first()
            if row is None:
                return None
            told = connection.execute(
                sa.select(EVENT, BATCH.c.revision, BATCH.c.committed_at, _CONFIRMER)
                .join(BATCH, BATCH.c.id == EVENT.c.batch_id)
                .where(EVENT.c.listing_id == number, BATCH.c.revision.is_not(None), EVENT.c.kind.not_in(history.SILENT))
                .order_by(BATCH.c.revision, EVENT.c.seq)
            ).all()
        return self._stored(row), [_event(each) for each in told]

    def lives(self, bucket: bytes, revision: int) -> list[Life]:
        """Return the lives of the listings whose key stands or stood in a bucket; see `lives.of_bucket`."""
        with database.transaction(self._engine) as connection:
            return lives.of_bucket(connection, bucket, revision, self._buckets)

    def lives_of_digest(self, generation: int, digest: int, revision: int) -> list[Life]:
        """Return the lives of the listings of a company by its view digest; see `lives.of_digest`."""
        with database.transaction(self._engine) as connection:
            return lives.of_digest(connection, generation, digest, revision, self._buckets)

    def lives_of(self, listing_ids: Iterable[str]) -> list[Life]:
        """Return the lives of listings by id; unknown ids are passed over."""
        numbers = [number for number in map(row_id, listing_ids) if number]
        with database.transaction(self._engine) as connection:
            return lives.of_listings(connection, numbers)

    def record(self, listing_id: str, act: Act, permit: Permit | None = None) -> int:
        """Record one event as a commit of its own; return the revision.

        Args:
            listing_id: of the listing.
            act: what is ordered.
            permit: looks at the listing that the event is about and raises what refuses it; nobody changes the listing
                in between.

        Raises:
            Refused: NOT_FOUND; TRANSITION_ILLEGAL: it was to be reinstated, and its details can no longer be read; or
                see `events.apply` and `domain.duties.step`: TRANSITION_ILLEGAL is also what an event gets that is sent
                again after LEDGER_UNAVAILABLE, if the first one was recorded after all; `get` then shows it with its
                actor.
        """
        now = packed.micros(self._clock())
        with database.transaction(self._engine) as connection:
            self._permitted(connection, row_id(listing_id), permit)
            return life.record(connection, row_id(listing_id), act, now)

    # Acts of two persons; see `adapters.ledger.proposals`.

    def correct(self, listing_id: str, change: Callable[[StoredListing], ListingDraft]) -> Corrected:
        """Return a listing as it would stand after a correction by hand; nothing is kept.

        Args:
            listing_id: of the listing.
            change: makes the corrected listing of the one that stands.

        Raises:
            Refused: NOT_FOUND; TRANSITION_ILLEGAL: its details can no longer be read; or as `change`.
        """
        with database.transaction(self._engine) as connection:
            row = connection.execute(_STORED.where(LISTING.c.id == row_id(listing_id))).first()
        if row is None:
            raise not_found("no such listing")
        stored = self._stored(row)
        if stored.details is None:
            message = "its details can no longer be read"
            raise Refused("TRANSITION_ILLEGAL", message, state="unreadable", event=EventKind.AMENDED.value)
        draft, before = change(stored), stored.packed
        draft.source_as_of = before.listing.source_as_of
        name_token = self._index.token(normalise_name(draft.name)) if draft.name else None
        made = draft.packed(before.listing.id, before.listing.recorded_on, before.identities, name_token)
        sealed, wrapped = self._sealer.seal(draft.details(), row.natural_key)
        base = proposals.facts_of(row.packed, row.sealed)
        return Corrected(packed=made, sealed=sealed, wrapped_key=wrapped, base=base)

    def propose(self, listing_id: str, act: Act, corrected: Corrected | None, permit: Permit | None = None) -> Proposal:
        """Let an act wait for a second person; `permit` as for `record`. Raises as `proposals.propose`."""
        now = packed.micros(self._clock())
        with database.transaction(self._engine) as connection:
            self._permitted(connection, row_id(listing_id), permit)
            return proposals.propose(connection, row_id(listing_id), act, corrected, now)

    def confirm_proposal(self, proposal_id: str, person: str, permit: Permit | None = None) -> Proposal:
        """Record a waiting act as a commit of its own; `permit` as for `record`. Raises as `proposals.confirm`."""
        now = packed.micros(self._clock())
        with database.transaction(self._engine) as connection:
            found = proposals.find(connection, proposal_number(proposal_id) or 0)
            if found is not None:
                self._permitted(connection, found.number, permit)
            return proposals.confirm(connection, proposal_number(proposal_id) or 0, person, now)

    def decline_proposal(self, proposal_id: str, person: str, reason: str) -> Proposal:
        """Give a waiting act up. Raises as `proposals.decline`."""
        now = packed.micros(self._clock())
        with database.transaction(self._engine) as connection:
            return proposals.decline(connection, proposal_number(proposal_id) or 0, person, reason, now)

    def proposals(self) -> list[Proposal]:
        """Return the acts that wait, oldest first."""
        with database.transaction(self._engine) as connection:
            return proposals.waiting(connection)

    def proposed(self, proposal_id: str) -> tuple[Proposal, StoredListing | None] | None:
        """Return a proposal, settled or not, with the listing after it where it corrects one and still waits."""
        with database.transaction(self._engine) as connection:
            found = proposals.find(connection, proposal_number(proposal_id) or 0)
            if found is None or found.corrected is None:
                return None if found is None else (found, None)
            row = connection.execute(_STORED.where(LISTING.c.id == found.number)).one()
        after = self._stored(row)
        merged = packed.unpack(staging.merge_correction(row.packed, found.corrected.packed))
        details = self._details(found.corrected.sealed, found.corrected.wrapped_key, row.natural_key)
        return found, dataclasses.replace(after, packed=merged, details=details)

    def duties(self, closed_since: datetime.datetime | None = None, *, rules: Iterable[str] = ()) -> list[StoredDuty]:
        """Return duties whose clock runs, those that began last first.

        Args:
            closed_since: those too that a commit since then has closed.
            rules: of these rules; of all when empty.
        """
        since = None if closed_since is None else packed.micros(closed_since)
        with database.transaction(self._engine) as connection:
            return duties.read(connection, closed_since=since, rules=rules)

    def open_duties(self) -> Mapping[str, int]:
        """Return the number of open duties by rule."""
        with database.transaction(self._engine) as connection:
            return duties.count_open(connection)

    # Imports.

    def hold_imports(self) -> bool:
        """Keep other hosts from importing and confirming until `end_import`.

        Returns:
            False while one of them does, or a rotation of the view key is under way.
        """
        with database.transaction(self._engine) as connection:
            return self._hold(connection)

    def begin_import(self, actor: str) -> int | None:
        """Begin an import that nobody sees.

        One that was left half-way is thrown away. From here to its end `keys` are those of the newest generation: a row
        with a digest of another one would be missing from the view.

        Returns:
            Its batch; `None` while another host imports, or a rotation of the view key is under way.

        Raises:
            Unanswerable: LEDGER_UNAVAILABLE: another host has made a view key that is not here.
        """
        with database.transaction(self._engine) as connection:
            if not self._hold(connection):
                return None
            try:
                self.keys = heads.newest_keys(connection, self.keys, self._keys_for)
            except KeysLostError as error:
                locks.release(connection, locks.IMPORTS)
                raise Unanswerable("LEDGER_UNAVAILABLE", str(error)) from error
            rotation.retire(connection)
            commits.abandon(connection)
            return commits.begin(connection, actor, packed.micros(self._clock()), inserts=True)

    def end_import(self) -> None:
        """Throw away what was staged and neither committed nor parked, and let other hosts import."""
        if self._rotation is None:
            with database.transaction(self._engine) as connection:
                if locks.holds(connection, locks.IMPORTS):
                    commits.abandon(connection)
                locks.release(connection, locks.IMPORTS)

    def stage(
        self,
        batch: int,
        rows: Sequence[StagedRow],
        *,
        actor: str,
        received_at: datetime.datetime,
        document: str,
        generation: int,
        writes: WriteScope | None = None,
        as_of: datetime.datetime | None = None,
    ) -> staging.Staged:
        """Stage one chunk of good rows, about 2,000, with view digests of `generation`; see `staging.stage`."""
        now = packed.micros(received_at)
        with database.transaction(self._engine) as connection:
            return staging.stage(
                *(connection, batch, rows),
                actor=actor,
                now=now,
                document=document,
                generation=generation,
                writes=writes,
                as_of=None if as_of is None else packed.micros(as_of),
                details_of=self._details,
            )

    def quarantine(self, batch: int, rows: Sequence[QuarantinedRow]) -> None:
        """Keep rows that were not taken."""
        with database.transaction(self._engine) as connection:
            commits.fence(connection, batch, commits.STAGING)
            staging.quarantine(connection, batch, rows)

    def stage_absent(
        self,
        batch: int,
        list_type: str,
        source: str,
        *,
        as_of: datetime.datetime,
        document: str,
        limit: int,
        writes: WriteScope | None = None,
        aliases: tuple[str, ...] = (),
    ) -> int:
        """Stage the end of some live listings that a complete list does not hold; return how many, 0 when done.

        Those under an earlier code, one of `aliases`, are among them.
        """
        with database.transaction(self._engine) as connection:
            return staging.stage_absent(
                *(connection, batch, (list_type, *aliases), source),
                as_of=packed.micros(as_of),
                document=document,
                limit=limit,
                writes=writes,
            )

    def stage_deliveries(self, batch: int, sources: Iterable[Source], vouched_on: datetime.date) -> None:
        """Write for which list types its sources vouch with an import, after its last chunk and once."""
        with database.transaction(self._engine) as connection:
            deliveries.stage(connection, batch, sources, vouched_on.toordinal())

    def vouched_by(self, batch: int) -> datetime.date | None:
        """Return the day up to which an import vouched; `None` where nobody knows."""
        with database.transaction(self._engine) as connection:
            day = deliveries.of_batch(connection, batch)
        return None if day is None else datetime.date.fromordinal(day)

    def count_waiting(self) -> tuple[int, datetime.datetime | None]:
        """Return how many imports and acts wait for a second person, and since when the oldest of them."""
        with database.transaction(self._engine) as connection:
            imports, since = deliveries.waiting(connection)
            acts = proposals.waiting(connection)
        begun = [] if since is None else [packed.instant(since)]
        begun += [each.proposed_at for each in acts[:1]]
        return imports + len(acts), min(begun, default=None)

    def strays(self, batch: int, after: int, writes: WriteScope) -> tuple[bool, int | None]:
        """Look for something outside of a scope in what an import would do; see `reach.strays`."""
        with database.transaction(self._engine) as connection:
            return reach.strays(connection, batch, after, writes)

    def live_counts(self, list_types: Iterable[str]) -> dict[str, int]:
        """Return the number of live listings by list type."""
        with database.transaction(self._engine) as connection:
            return receipts.live_counts(connection, list_types)

    def commit_import(self, receipt: Receipt, confirmer: str | None = None) -> Receipt:
        """Commit a staged or waiting import; see `receipts.commit_import`.

        Raises:
            Unanswerable: OVERLOADED: another host imports or a key is rotated; one that waits cannot be confirmed now.
        """
        if self.shared and receipt.counts.rows >= _ANALYSED_FROM:
            self._analyse()
        with database.transaction(self._engine) as connection:
            if receipt.state is ImportState.WAITING and not self._hold(connection):
                raise Unanswerable("OVERLOADED", "another host imports, try again", retry_after_ms="1000")
            done = receipts.commit_import(connection, receipt, packed.micros(self._clock()), confirmer)
        self._yield_turn()
        return done

    def park_import(self, receipt: Receipt) -> Receipt:
        """Let a staged import wait for another person."""
        with database.transaction(self._engine) as connection:
            parked = receipts.park(connection, receipt)
        self._yield_turn()
        return parked

    def give_up_import(self, batch: int) -> None:
        """Throw a waiting import away."""
        with database.transaction(self._engine) as connection:
            receipts.give_up(connection, batch)

    def quarantined(self, batch: int) -> tuple[QuarantinedRow, ...]:
        """Return the first rows of an import that were not taken."""
        with database.transaction(self._engine) as connection:
            return receipts.read_quarantine(connection, batch)

    def find_receipt(self, sha256: bytes, mode: ImportMode, list_type: str, source: str) -> Receipt | None:
        """Return the first receipt of a file under the same order."""
        with database.transaction(self._engine) as connection:
            return receipts.find_receipt(connection, sha256, mode, list_type, source)

    def receipt(self, receipt_id: str) -> Receipt | None:
        """Return a receipt."""
        with database.transaction(self._engine) as connection:
            return receipts.read_receipt(connection, receipt_id)

    def waiting_imports(self) -> list[Receipt]:
        """Return the receipts of imports that wait, oldest first."""
        with database.transaction(self._engine) as connection:
            return receipts.waiting(connection)

    def decline_import(self, receipt: Receipt, reason: str) -> Receipt:
        """Give a waiting import up. Raises as `receipts.decline`."""
        with database.transaction(self._engine) as connection:
            return receipts.decline(connection, receipt, reason)

    def staged_listings(self, batch: int, limit: int) -> list[StoredListing]:
        """Return what a staged or waiting import would enter and correct, as it would stand, in the file's order."""
        columns = (LISTING.c.natural_key, sa.literal(0).label("revision"))
        entered = sa.select(LISTING.c.id, *_of(LISTING), *columns).where(LISTING.c.id.between(*numbers_of(batch)))
        changed = (
            sa.select(STAGED_CHANGE.c.listing_id.label("id"), *_of(STAGED_CHANGE), *columns)
            .join(LISTING, LISTING.c.id == STAGED_CHANGE.c.listing_id)
            .where(STAGED_CHANGE.c.batch_id == batch)
        )
        with database.transaction(self._engine) as connection:
            rows = connection.execute(changed.order_by(STAGED_CHANGE.c.line).limit(limit)).all()
            rows = [*connection.execute(entered.order_by(LISTING.c.id).limit(limit)), *rows]
        return [self._stored(row) for row in rows[:limit]]

    def purge(self, limit: int = 2_000) -> bool:
        """Delete some rows that nobody needs any more; return whether there may be others."""
        with database.transaction(self._engine) as connection:
            return receipts.purge(connection, limit)

    # Rotation of the view key; see `adapters.ledger.rotation`.

    def begin_rotation(self, make_view_key: Callable[[int], None]) -> bool:
        """Begin a rotation, and keep everybody from importing until `end_rotation`.

        Args:
            make_view_key: makes the key of a generation durable, unless it is there.

        Returns:
            False while somebody imports, or another rotation is under way.

        Raises:
            KeysLostError: another host has made a newer view key that is not here.
        """
        with database.transaction(self._engine) as connection:
            # An import of this very host holds the lock over the same connection.
            if locks.holds(connection, locks.IMPORTS) or not self._hold(connection):
                return False
        try:
            self.refresh_generation()
            make_view_key(self.generation + 1)
            with database.transaction(self._engine) as connection:
                commits.abandon(connection)
                self._rotation = rotation.begin(connection, self._keys_for(self.generation + 1, False))
        except BaseException:
            self._yield_turn()
            raise
        return True

    def rotate(self, limit: int = rotation.SLICE_ROWS) -> tuple[int, int]:
        """Make some digests under the new key; return (rows done, rows in all), equal once it is complete.

        Raises:
            Refused: TRANSITION_ILLEGAL: a live listing cannot be read.
            Unanswerable: LEDGER_UNAVAILABLE: the connection was lost; begin anew.
        """
        with database.transaction(self._engine) as connection:
            self._rotating.step(connection, limit)
        return self._rotating.done, self._rotating.total

    def switch_generation(self, actor: str) -> int:
        """Make the new generation the ledger's, as a commit of its own; return its revision. Raises as `rotate`."""
        with database.transaction(self._engine) as connection:
            revision = self._rotating.switch(connection, actor, packed.micros(self._clock()))
        self.keys = self._rotating.keys
        return revision

    def end_rotation(self) -> None:
        """End a rotation at any point, and let everybody import again.

        After a switch: the view of the generation before is given up with this; imports have no digests in it.
        """
        if self._rotation is None:
            return
        self._rotation = None
        with database.transaction(self._engine) as connection:
            if locks.holds(connection, locks.IMPORTS):
                rotation.retire(connection)
            locks.release(connection, locks.IMPORTS)

    @property
    def _rotating(self) -> rotation.Rotation:
        if self._rotation is None:
            raise LedgerError("no rotation is under way")
        return self._rotation

    def _hold(self, connection: sa.Connection) -> bool:
        """Hold the lock of the imports; a rotation of this host's own counts as another host's."""
        return self._rotation is None and locks.hold(connection, locks.IMPORTS)

    # The view.

    def prune(self, after: int, limit: int, ended: Callable[[Listing], bool], *, known: int) -> Pruned | None:
        """Take some listings out of the view that ended by date, as a commit of its own; see `adapters.ledger.pruning`.

        Those that were taken out and have not ended by date, by what is known now, come back.

        Args:
            after: cursor; 0 at the beginning, then what the last call gave.
            limit: listings to look at.
            ended: the rule, by the editions it was made from.
            known: number of those editions.

        Returns:
            What was done; `None` where another edition was published since, and the rule must be made anew.
        """
        now = packed.micros(self._clock())
        with database.transaction(self._engine) as connection:
            return pruning.prune(connection, after, limit, ended, known=known, now=now)

    def count_live(
        self, after: int, limit: int, counts: Callable[[Listing], bool]
    ) -> tuple[Mapping[str, int], int | None]:
        """Count live listings by list type, a slice at a time.

        Args:
            after: number of the listing that the last slice ended with; 0 to begin.
            limit: listings to look at.
            counts: whether a listing counts.

        Returns:
            How many did, and where the next slice begins; `None` at the end.
        """
        with database.transaction(self._engine) as connection:
            return looking.count(connection, after, limit, counts)

    # Retention.

    def erase(self, after: int, limit: int, today: datetime.date) -> Pruned:
        """Erase some listings whose retention has ended, as a commit of its own; see `adapters.ledger.erasure`.

        Args:
            after: cursor; 0 at the beginning, then what the last call gave.
            limit: listings to look at.
            today: day in Shanghai.
        """
        now = packed.micros(self._clock())
        with database.transaction(self._engine) as connection:
            return erasure.erase(connection, after, limit, today, now)

    def tidy(self) -> None:
        """Let nothing of what was erased lie among staged changes any longer, nor in the write-ahead log of SQLite."""
        with database.transaction(self._engine) as connection:
            erasure.forget_staged(connection)
        database.empty_log(self._engine)

    # Rights of subjects; see `adapters.ledger.authorisations` and `adapters.ledger.complaints`.

    def tokens_of(self, found: Iterable[Identifier]) -> list[bytes]:
        """Return the index tokens that records name a subject by, of each of its identifiers."""
        return [self._index.token(each.reveal()) for each in found]

    def register_authorisation(self, new: Authorisation) -> Authorisation:
        """Keep an authorisation; return the one that the department registered the document with first."""
        with database.transaction(self._engine) as connection:
            return authorisations.register(connection, new, self._sealer)

    def authorisation(self, authorisation_id: str) -> Authorisation | None:
        """Return an authorisation."""
        with database.transaction(self._engine) as connection:
            return authorisations.find(connection, authorisation_id, self._sealer)

    def authorisations_of(self, tokens: Sequence[bytes]) -> list[Authorisation]:
        """Return what a subject has authorised, the newest first."""
        with database.transaction(self._engine) as connection:
            return authorisations.of_subject(connection, tokens, self._sealer)

    def withdraw_authorisation(self, authorisation_id: str, actor: str, reason: str) -> None:
        """End an authorisation at the subject's request."""
        with database.transaction(self._engine) as connection:
            authorisations.withdraw(connection, authorisation_id, actor, reason, packed.micros(self._clock()))

    def consume_authorisation(self, wanted: Wanted) -> bool:
        """Use an authorisation where an inquiry fits it, durably when this returns; whether it does."""
        with database.transaction(self._engine) as connection:
            return authorisations.consume(connection, wanted, self._sealer, packed.micros(self._clock()))

    def inquiries_about(
        self, tokens: Sequence[bytes], before: datetime.datetime | None, limit: int
    ) -> list[InquiryRow]:
        """Return the records about a subject, the newest first; see `inquiries.of_subject`."""
        until = None if before is None else packed.micros(before)
        with database.transaction(self._engine) as connection:
            return inquiries.of_subject(connection, tokens, until, limit)

    def duties_of(self, listing_ids: Iterable[str]) -> list[StoredDuty]:
        """Return the duties of listings whose clock runs."""
        numbers = [number for number in map(row_id, listing_ids) if number]
        if not numbers:
            return []
        with database.transaction(self._engine) as connection:
            return duties.read(connection, closed_since=None, rules=(), listings=numbers)

    def add_complaint(self, new: Complaint) -> Complaint:
        """Keep a complaint; return it with its id."""
        with database.transaction(self._engine) as connection:
            return complaints.add(connection, new, self._sealer)

    def complaint(self, complaint_id: str) -> Complaint | None:
        """Return a complaint."""
        with database.transaction(self._engine) as connection:
            return complaints.get(connection, complaint_id, self._sealer)

    def complaints(self, *, about: str = "", tokens: Sequence[bytes] = (), closed: bool = True) -> list[Complaint]:
        """Return complaints, the oldest first; see `complaints.find`."""
        with database.transaction(self._engine) as connection:
            return complaints.find(connection, self._sealer, about=about, tokens=tokens, closed=closed)

    def close_complaint(self, done: Complaint) -> bool:
        """Keep how a complaint ended; whether it was open."""
        with database.transaction(self._engine) as connection:
            return complaints.close(connection, done, self._sealer)

    # Catalogues.

    def publish_edition(
        self,
        edition: Edition,
        file: bytes,
        file_name: str,
        actor: str,
        *,
        known: int,
        unprune: Collection[str] = (),
        signed: Signed | None = None,
    ) -> int | None:
        """Keep an edition as a commit of its own.

        Args:
            edition: what the file says.
            file: its bytes.
            file_name: its name.
            actor: who publishes it.
            known: number of editions that it was judged with.
            unprune: list types that it ends otherwise than they were pruned by; their listings come back into the view
                with this commit.
            signed: who signed the file.

        Returns:
            The revision, the first one where it was kept before; `None` when another host has published since, and
            it must be judged again.

        Raises:
            Refused: CATALOGUE_REFUSED: the same edition was published with another content (Art. 45).
        """
        now = packed.micros(self._clock())
        with database.transaction(self._engine) as connection:
            return editions.publish(
                *(connection, edition, file, file_name),
                actor=actor,
                known=known,
                now=now,
                also=lambda batch: pruning.unprune(connection, batch, unprune),
                signed=signed,
            )

    def editions(self) -> list[StoredEdition]:
        """Return all editions in the order of their publication."""
        with database.transaction(self._engine) as connection:
            return editions.read(connection)

    # Working days.

    def publish_year(self, year: int, notice: str, file: bytes, file_name: str, signed: Signed) -> int:
        """Keep a year file as a commit of its own; of one year the newest counts.

        Args:
            year: the year it is of.
            notice: number of the State Council's notice.
            file: its bytes.
            file_name: its name.
            signed: who publishes it, and the signature.

        Returns:
            The revision; that of the newest file of the year where this is the same.
        """
        now = packed.micros(self._clock())
        with database.transaction(self._engine) as connection:
            return years.publish(connection, year, notice, file, file_name, signed=signed, now=now)

    def years(self) -> list[StoredYear]:
        """Return all year files in the order of their publication."""
        with database.transaction(self._engine) as connection:
            return years.read(connection)

    # Grants.

    def bring_grant(
        self, department: str, grant: Grant | None, *, base: int, waits: bool, actor: str, reason: str, document: str
    ) -> StoredGrantAct | None:
        """Set the grant of a department, let it wait, or end it; what works is a commit of its own.

        Args:
            department: code.
            grant: what is granted; `None` ends it.
            base: number of the act that said what stood when this was judged; 0 for none.
            waits: whether a second person confirms first.
            actor: who does it.
            reason: why.
            document: what it rests on.

        Returns:
            The act; `None` when something else stands by now, and it must be judged again.

        Raises:
            Refused: OVERLOADED, too many wait.
        """
        now = packed.micros(self._clock())
        with database.transaction(self._engine) as connection:
            return grants.bring(
                *(connection, department, grant),
                base=base,
                waits=waits,
                actor=actor,
                reason=reason,
                document=document,
                now=now,
            )

    def confirm_grant(self, number: int, person: str) -> StoredGrantAct:
        """Let a waiting grant work; see `grants.confirm`."""
        now = packed.micros(self._clock())
        with database.transaction(self._engine) as connection:
            return grants.confirm(connection, number, person, now)

    def decline_grant(self, number: int, person: str, reason: str) -> StoredGrantAct:
        """Give a waiting grant up; see `grants.decline`."""
        now = packed.micros(self._clock())
        with database.transaction(self._engine) as connection:
            return grants.decline(connection, number, person, reason, now)

    def grant_acts(self) -> list[StoredGrantAct]:
        """Return every act on every grant: those that work in the order of their revisions, then the others."""
        with database.transaction(self._engine) as connection:
            return grants.read(connection)

    # Inquiries.

    def add_inquiries(self, source: str, position: int, rows: Sequence[InquiryRow], chain: bytes | None = None) -> None:
        """Keep inquiry records and how far their source was read, in one transaction; known ones are passed over."""
        with database.transaction(self._engine) as connection:
            inquiries.add(connection, source, position, rows, chain)

    def add_apart(self, rows: Mapping[str, InquiryRow]) -> list[InquiryRow]:
        """Keep each record as the only one of its source, all in one transaction; return those that were not there."""
        with database.transaction(self._engine) as connection:
            return inquiries.add_apart(connection, rows)

    def inquiry_position(self, source: str) -> int:
        """Return how far a source was read; 0 where it never was."""
        with database.transaction(self._engine) as connection:
            return inquiries.position(connection, source)

    def not_kept(self, source: str, passes: Mapping[int, tuple[int, bytes]]) -> set[int]:
        """Return those of the numbers of a spool that stand for other passes than these, or for none."""
        with database.transaction(self._engine) as connection:
            return inquiries.not_kept(connection, source, passes)

    def spool_name(self, spool: str) -> str:
        """Return what the records of a spool are named by."""
        with database.transaction(self._engine) as connection:
            return inquiries.spool_name(connection, spool)

    def inquiry_chain(self, source: str) -> bytes | None:
        """Return the hash of a spool's chain up to its position; `None` where it has none."""
        with database.transaction(self._engine) as connection:
            return inquiries.chain(connection, source)

    def inquiries(self, limit: int = 1_000, after: int = 0) -> list[InquiryRow]:
        """Return inquiry records in the order they were kept, behind the `after` first ones."""
        with database.transaction(self._engine) as connection:
            return inquiries.read(connection, limit, after)

    def inquiries_of(self, decision_id: str) -> list[InquiryRow]:
        """Return the inquiry records of a decision id, in the order they were kept."""
        with database.transaction(self._engine) as connection:
            return inquiries.find(connection, decision_id)

    def inquiries_named(self, decision_ids: Sequence[str]) -> list[InquiryRow]:
        """Return the inquiry records of some decision ids, in no order."""
        with database.transaction(self._engine) as connection:
            return inquiries.find_many(connection, decision_ids)

    # Feedback; see `adapters.ledger.feedback`.

    def feedback_of(self, decision_id: str) -> list[Asked]:
        """Return the feedback that an answer asks for, by listing."""
        with database.transaction(self._engine) as connection:
            return feedback.read(connection, decision_id)

    def outstanding_feedback(self, department: str, before: datetime.datetime | None, limit: int) -> list[Asked]:
        """Return what is still asked for, of one department or all (empty), decided before an instant, oldest first."""
        with database.transaction(self._engine) as connection:
            instant = None if before is None else packed.micros(before)
            return feedback.outstanding(connection, department, instant, limit)

    def count_feedback(self, department: str, days: Sequence[datetime.datetime]) -> dict[str, list[int]]:
        """Return by department how much is asked for: in all, and of it what was decided before each instant."""
        with database.transaction(self._engine) as connection:
            return feedback.count(connection, department, [packed.micros(each) for each in days])

    def feedback_between(
        self,
        since: datetime.datetime,
        until: datetime.datetime,
        department: str,
        *,
        after: tuple[str, str] = ("", ""),
        limit: int = 2_000,
    ) -> list[Asked]:
        """Return a page of what answers of a time ask for and were told, by decision and listing, behind `after`."""
        with database.transaction(self._engine) as connection:
            instants = packed.micros(since), packed.micros(until)
            return feedback.between(connection, instants, department, after, limit)

    def usage(self, since: str, until: str, department: str) -> list[Usage]:
        """Return how many answers some months (YYYY-MM, both included) had, of one department or all (empty)."""
        with database.transaction(self._engine) as connection:
            return usage.read(connection, since, until, department)

    def take_feedback(self, settled: Sequence[Settled], source: str, row: InquiryRow) -> None:
        """Keep what was told together with its record.

        Raises:
            feedback.OvertakenError: something else was told meanwhile.
        """
        with database.transaction(self._engine) as connection:
            feedback.write(connection, settled, packed.micros(row.decided_at))
            inquiries.add(connection, source, row.sequence, [row])

    # Limits on natural persons.

    def limit_days(self) -> list[LimitDay]:
        """Return what departments asked about natural persons, by day, in order."""
        with database.transaction(self._engine) as connection:
            return limits.days(connection)

    def keep_limit_days(self, rows: Sequence[LimitDay]) -> None:
        """Keep such days, together with what other hosts keep of the same."""
        with database.transaction(self._engine) as connection:
            limits.keep(connection, rows)

    def limits_lifted_by(self, department: str, day: int) -> str:
        """Return who lifted the limits of a department for a day; empty for nobody."""
        with database.transaction(self._engine) as connection:
            return limits.lifted_by(connection, department, day)

    def answered_since(self, since: int, before: int | None, limit: int) -> tuple[list[bytes], int | None]:
        """Return a page of the gateway's answers from an instant on, newest first; see `limits.answered_since`."""
        with database.transaction(self._engine) as connection:
            return limits.answered_since(connection, since, before, limit)

    # The hash tree over inquiry records; see `adapters.ledger.tree`.

    def tree(self) -> tree.TreeState:
        """Return size and edge of the tree as the ledger says they are."""
        with database.transaction(self._engine) as connection:
            return tree.state(connection)

    def leaves(self, start: int, most: int) -> list[KeptLeaf]:
        """Return records in the order of their places in the tree, from a place on."""
        with database.transaction(self._engine) as connection:
            return tree.leaves(connection, start, most)

    def in_tree(self, read: Callable[[sa.Connection], _T]) -> _T:
        """Run a read of `adapters.ledger.tree` in one transaction."""
        with database.transaction(self._engine) as connection:
            return read(connection)

    def checkpoint(self) -> str | None:
        """Sign the tree as it stands; return the note, `None` where nothing was recorded since the last one."""
        with database.transaction(self._engine) as connection:
            return tree.checkpoint(connection, self.lineage, self._clock(), self._signed)

    def _signed(self, checkpoint: Checkpoint) -> str:
        return checkpoint.signed(self.keys.signing_public, self.keys.sign)

    # Watches and alerts; see `adapters.ledger.watches` and `adapters.ledger.alerting`.

    def register_watch(self, watch: Watch, identifier: Identifier, source: str, row: InquiryRow) -> tuple[Watch, bool]:
        """Keep a watch with its inquiry record; return it, and whether it was there just so, and left no record."""
        today = day_of(self._clock())
        with database.transaction(self._engine) as connection:
            kept, repeated = watches.register(connection, self._sealer, watch, identifier, today)
            if not repeated:
                inquiries.add(connection, source, row.sequence, [row])
        return dataclasses.replace(kept, masked=identifier.masked), repeated

    def end_watch(self, department: str, number: int) -> Watch | None:
        """End a watch of a department; `None` where there is none."""
        with database.transaction(self._engine) as connection:
            watches.end(connection, department, number, packed.micros(self._clock()))
            found = watches.read(connection, self._sealer, department, before=number + 1, limit=1, live_on=None)
        return found[0] if found and found[0].number == number else None

    def watches(self, department: str, *, before: int, limit: int, ended: bool) -> list[Watch]:
        """Return watches of a department, the newest first, below a number unless that is 0."""
        live_on = None if ended else day_of(self._clock()).toordinal()
        with database.transaction(self._engine) as connection:
            return watches.read(connection, self._sealer, department, before=before, limit=limit, live_on=live_on)

    def close_case(self, department: str, matter: str, case_no: str, actor: str) -> bool:
        """Keep that a case is closed; return whether it was before."""
        with database.transaction(self._engine) as connection:
            now = packed.micros(self._clock())
            return watches.close_case(connection, department, matter, case_no, actor=actor, now=now)

    def alerts(self, department: str, after: int, limit: int) -> list[KeptAlert]:
        """Return alerts of a department that are not acknowledged, in order, behind a number."""
        with database.transaction(self._engine) as connection:
            return watches.alerts(connection, self._sealer, self._index, department, after=after, limit=limit)

    def acknowledge_alerts(self, department: str, up_to: int, numbers: Sequence[int]) -> int:
        """Take alerts as acknowledged; return how many were not before."""
        with database.transaction(self._engine) as connection:
            return watches.acknowledge(connection, department, up_to, numbers, packed.micros(self._clock()))

    def alert_step(self, catalogues: CatalogueSet, upto: int, retro: datetime.timedelta) -> tuple[bool, set[str]]:
        """Do some of the work of alerts; return whether there is more, and the departments that were told something.

        Args:
            catalogues: every edition up to `upto`.
            upto: newest revision to look at.
            retro: how far back passes are looked for; 0 for not at all.
        """
        order = alerting.Order(catalogues=catalogues, upto=upto, now=self._clock(), retro=retro, lineage=self.lineage)
        with database.transaction(self._engine) as connection:
            older = passes.OlderKeys(functools.cache(self._view_of), lambda number: self._keys_of(connection, number))
            work = alerting.Alerting(connection, order, self._buckets, older, self._search)
            more = work.step()
        self._search = work.search
        return more, work.told

    def _view_of(self, generation: int) -> ViewKey | None:
        """Return the view key of a generation; `None` where it is not here."""
        try:
            return ViewKey(self._keys_for(generation, False).view, 24)
        except KeysLostError:
            return None

    def _keys_of(self, connection: sa.Connection, number: int) -> list[str]:
        """Return the canonical keys of a listing's subjects; none where they cannot be read any more."""
        row = connection.execute(sa.select(LISTING).where(LISTING.c.id == number)).one()
        try:
            details = self._details(row.sealed, row.wrapped_key, row.natural_key)
            return [parse(each).key for each in details.identifiers] if details is not None else []
        except (SealBrokenError, IdentifierError, ValueError):
            return []

    def _buckets(self, natural_key: bytes, before: history.Before) -> frozenset[bytes] | None:
        """Return the buckets of details as a payload keeps them; `None` where they cannot be read any more."""
        if before.sealed is None or before.wrapped_key is None:
            return None
        try:
            details = packed.unpack_details(self._sealer.open(before.sealed, before.wrapped_key, natural_key))
            return frozenset(self._index.token(parse(each).key) for each in details.identifiers)
        except (SealBrokenError, IdentifierError, ValueError):
            return None

    def _yield_turn(self) -> None:
        # What is committed is committed; a lock goes with a connection that is lost.
        with contextlib.suppress(Unanswerable):
            self.end_import()

    def _analyse(self) -> None:
        # Without statistics a plan for a table that was just filled reads all of it for each row.
        names = ", ".join(t.name for t in (LISTING, LISTING_KEY, EVENT, SEEN, STAGED_CHANGE, STAGED_KEY))
        with database.transaction(self._engine) as connection:
            # A small sample tells that hashes are distinct; removals wait meanwhile.
            connection.exec_driver_sql("SET LOCAL default_statistics_target = 10")
            connection.exec_driver_sql(f"ANALYZE {names}")

    def _permitted(self, connection: sa.Connection, number: int, permit: Permit | None) -> None:
        """Let `permit` look at a listing that nobody changes until the end of the transaction."""
        if permit is not None:
            held = life.hold(connection, number)
            permit(self._stored(connection.execute(_STORED.where(LISTING.c.id == held.id)).one()))

    def _stored(self, row: Any) -> StoredListing:
        return StoredListing(
            id=f"{row.id:016x}",
            packed=packed.unpack(row.packed),
            details=self._details(row.sealed, row.wrapped_key, row.natural_key),
            source_version=row.source_version,
            revision=row.revision,
        )

    def _details(self, sealed: bytes | None, wrapped_key: bytes | None, natural_key: bytes) -> packed.Details | None:
        if sealed is None or wrapped_key is None:
            return None
        return packed.unpack_details(self._sealer.open(sealed, wrapped_key, natural_key))


_CONFIRMER: Final = (
    sa.select(RECEIPT.c.confirmer).where(RECEIPT.c.batch_id == EVENT.c.batch_id).limit(1).scalar_subquery()
).label("confirmer")
"""Who confirmed the import that brought an event."""
_CHANGED_BY: Final = BATCH.alias("changed_by_batch")
_STORED: Final = (
    sa.select(
        LISTING.c.id,
        LISTING.c.packed,
        LISTING.c.sealed,
        LISTING.c.wrapped_key,
        LISTING.c.natural_key,
        LISTING.c.source_version,
        _CHANGED_BY.c.revision,
    )
    .join(BATCH, BATCH.c.id == LISTING.c.batch_id)
    .join(_CHANGED_BY, _CHANGED_BY.c.id == LISTING.c.changed_by)
    .where(BATCH.c.revision.is_not(None))
)


def _of(table: sa.Table) -> list[sa.Column[Any]]:
    return [table.c[name] for name in ("packed", "sealed", "wrapped_key", "source_version")]


def _event(row: Any) -> StoredEvent:
    at = row.committed_at if row.effective_at is None else row.effective_at
    return StoredEvent(
        kind=EventKind(row.kind),
        effective_at=packed.instant(at),
        recorded_at=packed.instant(row.committed_at),
        actor=row.actor,
        reason=row.reason,
        document=row.document,
        revision=row.revision,
        detail=row.detail or {},
        second=row.second or row.confirmer or "",
    )
