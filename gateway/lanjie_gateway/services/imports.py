"""Imports of list files (Art. 28-32, 61, 62).

1. One file at a time, over all hosts: the lock is what makes the lookups of a file hold until its commit, and its view
   digests those of the ledger's generation.
2. The bytes go to a parser in a process of its own; its rows are staged in chunks that nobody sees.
3. A complete list ends what it no longer holds.
4. A file that was taken before returns its first receipt; a strict file with bad rows is refused; a dry run is thrown
   away; a file that changes much waits for another person (Art. 61); everything else is committed whole.
5. With its commit the sources that the file names vouch for their list types. The same bytes on a later day are a new
   delivery: a complete list is taken anew; changes vouch where they say what is known, and else are an old file.
6. The answer leaves when the workers have applied the commit.
7. A department writes its list types, within its region, from its own source (Art. 26-31, 61): an order outside is
   refused, a row outside or about a listing outside is quarantined, and a complete list ends nothing outside.
"""

import asyncio
import contextlib
import dataclasses
import datetime
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Concatenate, Final, ParamSpec

from lanjie_gateway.adapters.keys import KeyRing
from lanjie_gateway.adapters.ledger import Ledger, LedgerThread, StoredListing
from lanjie_gateway.adapters.ledger.staging import Staged
from lanjie_gateway.adapters.parser_process import ParserDiedError, ParserProcess
from lanjie_gateway.domain.access import Principal, Role
from lanjie_gateway.domain.errors import GatewayError, Refused, Unanswerable, invalid_argument, not_found
from lanjie_gateway.domain.import_rules import (
    ImportHeader,
    ImportMode,
    ImportState,
    QuarantinedRow,
    Receipt,
    Tally,
    TypeChange,
    reasons_to_wait,
    redelivery_key,
)
from lanjie_gateway.domain.source_ages import Source
from lanjie_gateway.domain.staged import StagedRow
from lanjie_gateway.services.acts import carried_through
from lanjie_matcher.catalogues import CatalogueSet
from lanjie_matcher.civil_time import day_of
from lanjie_matcher.masking import holds_personal_number, masked_text

_ABSENT_CHUNK: Final = 1_000
_PURGE_CHUNK: Final = 2_000
PATIENCE_SECONDS: Final = 0.1
"""That a step waits for calls of others at the most."""
SHOWN_STAGED: Final = 100
"""Listings of a waiting import that the second person is shown."""
TURN_SECONDS: Final = 600.0
"""How long an import waits for those of other hosts."""
_TURN_POLL_SECONDS: Final = 0.5
_P = ParamSpec("_P")
_KEPT: Final = frozenset({ImportState.COMMITTED, ImportState.WAITING})


@dataclasses.dataclass(slots=True)
class _Work:
    """One import under way."""

    header: ImportHeader
    actor: str
    received_at: datetime.datetime
    batch: int
    tally: Tally
    keys: KeyRing
    principal: Principal
    sources: set[Source] = dataclasses.field(default_factory=set)
    rows: int = 0
    sha256: bytes = b""
    size: int = 0

    @property
    def complete_at(self) -> datetime.datetime | None:
        """Instant that a complete list says it is complete as of."""
        return self.header.as_of if self.header.mode is ImportMode.FULL else None

    @property
    def document(self) -> str:
        """What stands for the document of what the file does."""
        return self.header.file_name if self.header.by_hand else f"file {self.header.file_name}"


@dataclasses.dataclass(frozen=True, slots=True)
class _Taken:
    """What is known of a file before it is taken.

    Attributes:
        key: what will tell a retry of it.
        first: receipt of the same file; `None` where it never came.
        again: its source delivers it again, on a later day.
    """

    key: bytes
    first: Receipt | None = None
    again: bool = False


class ImportService:
    """Takes list files.

    Args:
        ledger: the record.
        catalogues: gives the catalogues as they stand.
        clock: aware instants.
        published: awaited after each commit with its revision; returns when the workers have applied it.
    """

    def __init__(
        self,
        ledger: LedgerThread,
        catalogues: Callable[[], CatalogueSet],
        clock: Callable[[], datetime.datetime],
        published: Callable[[int], Awaitable[None]],
    ) -> None:
        self._ledger = ledger
        self._catalogues = catalogues
        self._clock = clock
        self._published = published
        self._lock = asyncio.Lock()

    async def run(self, header: ImportHeader, chunks: AsyncIterator[bytes], principal: Principal) -> Receipt:
        """Take one file.

        Args:
            header: what is to be done with it.
            chunks: its bytes, in order.
            principal: who brings it.

        Returns:
            The receipt; its state tells what became of the file.

        Raises:
            Refused: NOT_PERMITTED, ARGUMENT_INVALID, or FILE_REFUSED with rule and line.
            Unanswerable: OVERLOADED while another host imports or the view key is rotated; LEDGER_UNAVAILABLE: send
                the file again, it is taken once.
        """
        principal.require(Role.AUTHORITY)
        header = self._checked(header, principal)
        async with self._lock:
            if header.sha256 and not header.dry_run:
                taken = await self._taken(header, header.sha256, self._clock())
                if taken.first is not None and not taken.again:
                    return taken.first
            try:
                batch = await self._turn(Ledger.begin_import, principal.actor)
                while await self._ledger.spare(PATIENCE_SECONDS, Ledger.purge, _PURGE_CHUNK):
                    pass
                # Not before: the turn brings the newest view key.
                work = _Work(header, principal.actor, self._clock(), batch, Tally(), self._ledger.keys, principal)
                await self._read(work, chunks)
                return await carried_through(self._settle(work))
            finally:
                await self._end_turn()

    async def confirm(self, receipt_id: str, principal: Principal) -> Receipt:
        """Commit a waiting import; by another person than the importer (Art. 61).

        Returns:
            The receipt; a second confirmation returns it unchanged.

        Raises:
            Refused: NOT_FOUND, also for an import of another department; NOT_PERMITTED, also where the scope of the
                department has become too narrow for it; SECOND_PERSON_REQUIRED or IMPORT_OUTDATED.
        """
        principal.require(Role.AUTHORITY)
        async with self._lock:
            receipt = await self._waiting(receipt_id, principal)
            if receipt.state is ImportState.COMMITTED:
                return receipt
            try:
                await self._turn(Ledger.hold_imports)
                # Another host may have confirmed it meanwhile.
                receipt = await self._waiting(receipt_id, principal)
                if receipt.state is ImportState.COMMITTED:
                    return receipt
                await self._require_within(receipt, principal)
                return await carried_through(self._commit(receipt, principal.actor))
            finally:
                await self._end_turn()

    async def _waiting(self, receipt_id: str, principal: Principal) -> Receipt:
        receipt = await self._ledger.call(Ledger.receipt, receipt_id.replace("\0", ""))
        if receipt is None or not principal.shares(receipt.importer):
            raise not_found("no such receipt")
        if receipt.importer == principal.actor:
            raise Refused("SECOND_PERSON_REQUIRED", "another person than the importer confirms (Art. 61)")
        if receipt.state not in _KEPT:
            raise Refused("IMPORT_OUTDATED", "the import no longer waits; import the file again")
        return receipt

    async def decline(self, receipt_id: str, reason: str, principal: Principal) -> Receipt:
        """Give a waiting import up; whoever brought it may do so too.

        Returns:
            The receipt, refused, with the reason.

        Raises:
            Refused: NOT_PERMITTED, NOT_FOUND or IMPORT_OUTDATED.
        """
        principal.require(Role.AUTHORITY)
        async with self._lock:
            receipt = await self.receipt(receipt_id, principal)
            if receipt.state is not ImportState.WAITING:
                raise Refused("IMPORT_OUTDATED", "the import no longer waits")
            why = f"Declined by {principal.actor}: {masked_text(reason)}"
            return await self._ledger.call(Ledger.decline_import, receipt, why)

    async def waiting(self, principal: Principal) -> list[Receipt]:
        """Return the imports that wait, oldest first.

        Raises:
            Refused: NOT_PERMITTED.
        """
        principal.require(Role.AUTHORITY, Role.AGENCY)
        return [each for each in await self._ledger.call(Ledger.waiting_imports) if principal.sees(each.importer)]

    async def receipt(self, receipt_id: str, principal: Principal) -> Receipt:
        """Return a receipt.

        Raises:
            Refused: NOT_PERMITTED or NOT_FOUND.
        """
        principal.require(Role.AUTHORITY, Role.AGENCY)
        receipt = await self._ledger.call(Ledger.receipt, receipt_id.replace("\0", ""))
        if receipt is None or not principal.sees(receipt.importer):
            raise not_found("no such receipt")
        return receipt

    async def staged(self, receipt: Receipt) -> list[StoredListing]:
        """Return what a waiting import would enter and correct, as it would stand: the first 100 listings."""
        return await self._ledger.call(Ledger.staged_listings, receipt.batch, SHOWN_STAGED)

    async def _require_within(self, receipt: Receipt, principal: Principal) -> None:
        """Refuse to commit what the department may not write any more (7)."""
        after: int | None = 0
        while principal.writes is not None and after is not None:
            outside, after = await self._ledger.call(Ledger.strays, receipt.batch, after, principal.writes)
            if outside:
                message = "the department no longer writes all that is in this file; import what it may"
                raise Refused("NOT_PERMITTED", message, required="list type and region")

    async def _turn(
        self, take: Callable[Concatenate[Ledger, _P], int | None], *args: _P.args, **kwargs: _P.kwargs
    ) -> int:
        """Ask for the turn until no other host has it."""
        deadline = time.monotonic() + TURN_SECONDS
        while not (taken := await self._ledger.call(take, *args, **kwargs)):
            if time.monotonic() > deadline:
                raise Unanswerable(
                    "OVERLOADED", "another host imports or a key is rotated, try again", retry_after_ms="10000"
                )
            await asyncio.sleep(_TURN_POLL_SECONDS)
        return taken

    async def _end_turn(self) -> None:
        # What went wrong first is what the caller hears. A ledger that is out of reach has ended the turn by itself.
        with contextlib.suppress(Unanswerable):
            await carried_through(self._ledger.call(Ledger.end_import))

    def _checked(self, header: ImportHeader, principal: Principal) -> ImportHeader:
        if not header.file_name or len(header.file_name) > 255:
            raise invalid_argument("file_name", "length", "a file name has 1 to 255 characters")
        if len(header.source) > 64:
            raise invalid_argument("source", "too-long", "a source has at most 64 characters")
        if "\0" in header.file_name + header.source or holds_personal_number(header.source):
            message = "neither a file name nor a source holds a NUL, nor a source the number of a person (Art. 40)"
            raise invalid_argument("file_name", "characters", message)
        if header.sha256 and len(header.sha256) != 32:
            raise invalid_argument("sha256", "length", "a SHA-256 has 32 bytes")
        now = self._clock()
        list_type = header.list_type
        if list_type:
            known = self._catalogues().list_type(list_type, day_of(now))
            if known is None:
                message = "no catalogue in force today defines the list type of the order"
                raise Refused("FILE_REFUSED", message, rule="list-type-unknown", line="0")
            list_type = known.code
            if not principal.may_write(list_type, ""):  # (6)
                raise Refused("NOT_PERMITTED", "the department does not write this list type", required=list_type)
        if header.mode is ImportMode.FULL:
            if not list_type or not header.source.strip():
                raise invalid_argument("list_type", "required", "a complete list names its list type and its source")
            if header.as_of is not None and header.as_of > now:
                raise invalid_argument("as_of_time", "future", "a list cannot be complete as of a future instant")
        # As a row's own is read: with a blank about it, it would be another source with other listings.
        source = header.source.strip() or principal.department
        if not principal.speaks_for(source):
            raise Refused("NOT_PERMITTED", "the source is not the department's own", required=principal.department)
        return dataclasses.replace(header, list_type=list_type, source=source, file_name=masked_text(header.file_name))

    async def _taken(self, header: ImportHeader, sha256: bytes, received_at: datetime.datetime) -> _Taken:
        """Find what became of the same file under the same order before."""
        key = header.retry_key(sha256)
        first = await self._receipt_of(header, key)
        if first is None or first.state is ImportState.WAITING:
            return _Taken(key, first)
        day = header.vouched_on(received_at)
        if day <= (await self._ledger.call(Ledger.vouched_by, first.batch) or day_of(first.received_at)):
            return _Taken(key, first)
        # (5)
        key = redelivery_key(key, day)
        if (same_day := await self._receipt_of(header, key)) is not None:
            return _Taken(key, same_day)
        return _Taken(key, first, again=True)

    async def _receipt_of(self, header: ImportHeader, key: bytes) -> Receipt | None:
        found = await self._ledger.call(Ledger.find_receipt, key, header.mode, header.list_type, header.source)
        return None if found is None else dataclasses.replace(found, repeated=True)

    async def _read(self, work: _Work, chunks: AsyncIterator[bytes]) -> None:
        async with ParserProcess(self._order(work)) as parser:
            feeder = asyncio.create_task(_feed(work, chunks, parser))
            stager = asyncio.create_task(self._stage_all(work, parser))
            try:
                await asyncio.wait({feeder, stager}, return_when=asyncio.FIRST_EXCEPTION)
            finally:
                # Whichever failed, the other would wait for it for ever.
                feeder.cancel()
                stager.cancel()
                await asyncio.gather(feeder, stager, return_exceptions=True)
        for task in (stager, feeder):
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error
        if work.header.sha256 not in {b"", work.sha256} or work.header.size not in {0, work.size}:
            message = "the bytes that arrived are not the file that was announced"
            raise Refused("FILE_REFUSED", message, rule="digest", line="0")

    async def _stage_all(self, work: _Work, parser: ParserProcess) -> None:
        try:
            async for answer in parser.frames():
                match answer:
                    case ("rows", good, bad):
                        await self._stage(work, good, bad)
                    case ("done", rows):
                        work.rows = rows
                    case ("refused", rule, line, message):
                        raise Refused("FILE_REFUSED", message, rule=rule, line=str(line))
                    case _:
                        raise GatewayError("INTERNAL", f"the parser of list files failed: {answer[1]}")
        except ParserDiedError:
            raise GatewayError("INTERNAL", "the parser of list files ended early") from None

    async def _stage(self, work: _Work, good: tuple[Any, ...], bad: tuple[Any, ...]) -> None:
        tally = work.tally
        if bad:
            await self._ledger.call(Ledger.quarantine, work.batch, [QuarantinedRow(*each) for each in bad])
            tally.quarantined += len(bad)
        if not good:
            return
        staged = await self._ledger.spare(PATIENCE_SECONDS, _stage_rows, work, good)
        for code, count in staged.added.items():
            tally.added[code] = tally.added.get(code, 0) + count
        for code, count in staged.amended.items():
            tally.altered[code] = tally.altered.get(code, 0) + count
            tally.amended += count
        for code, count in staged.left.items():
            tally.altered[code] = tally.altered.get(code, 0) + count
        work.sources |= staged.sources
        tally.removed += staged.removed
        tally.unchanged += staged.unchanged
        tally.quarantined += len(staged.bad)

    async def _settle(self, work: _Work) -> Receipt:
        header, tally = work.header, work.tally
        taken = (
            _Taken(header.retry_key(work.sha256))
            if header.dry_run
            else await self._taken(header, work.sha256, work.received_at)
        )
        old = header.mode is ImportMode.DELTA and tally.changes > 0
        if taken.first is not None and (old or not taken.again):
            return taken.first
        if header.mode is ImportMode.FULL:
            await self._end_absent(work)
            work.sources.add((header.list_type, header.source))
        touched = {*tally.added, *tally.altered}
        live = await self._ledger.call(Ledger.live_counts, touched)
        types = {
            code: TypeChange(live=live.get(code, 0), added=tally.added.get(code, 0), altered=tally.altered.get(code, 0))
            for code in touched
        }
        counts = tally.counts(work.rows)
        receipt = Receipt(
            receipt_id=f"i{work.batch:06d}-{work.sha256[:6].hex()}",
            batch=work.batch,
            state=ImportState.DRY_RUN,
            sha256=taken.key,
            mode=header.mode,
            list_type=header.list_type,
            source=header.source,
            file_name=header.file_name,
            importer=work.actor,
            received_at=work.received_at,
            counts=counts,
            reasons=reasons_to_wait(counts, header, types),
        )
        refused = header.strict and counts.quarantined > 0
        if refused or header.dry_run:
            state = ImportState.REFUSED if refused else ImportState.DRY_RUN
            reasons = ("The file is strict and has bad rows.", *receipt.reasons) if refused else receipt.reasons
            shown = await self._ledger.call(Ledger.quarantined, work.batch)
            return dataclasses.replace(receipt, state=state, reasons=reasons, quarantine=shown)
        # (5)
        await self._ledger.call(Ledger.stage_deliveries, work.batch, work.sources, header.vouched_on(work.received_at))
        if receipt.reasons:
            return await self._ledger.call(Ledger.park_import, receipt)
        return await self._commit(receipt, None)

    async def _commit(self, receipt: Receipt, confirmer: str | None) -> Receipt:
        try:
            done = await self._ledger.call(Ledger.commit_import, receipt, confirmer)
        except Refused:
            with contextlib.suppress(Unanswerable):
                await self._ledger.call(Ledger.give_up_import, receipt.batch)
            raise
        await self._published(done.revision)
        return done

    async def _end_absent(self, work: _Work) -> None:
        header = work.header
        list_type = self._catalogues().list_type(header.list_type, day_of(work.received_at))
        while count := await self._ledger.spare(
            PATIENCE_SECONDS,
            Ledger.stage_absent,
            work.batch,
            header.list_type,
            header.source,
            as_of=header.as_of or work.received_at,
            document=work.document,
            limit=_ABSENT_CHUNK,
            writes=work.principal.writes,
            aliases=list_type.aliases if list_type else (),
        ):
            work.tally.absent += count
            work.tally.altered[header.list_type] = work.tally.altered.get(header.list_type, 0) + count

    def _order(self, work: _Work) -> dict[str, Any]:
        today = day_of(work.received_at)
        writes = work.principal.writes
        catalogues = self._catalogues()
        known = {code: catalogues.list_type(code, today) for code in catalogues.list_type_codes()}
        return {
            "format": work.header.format.value,
            "profile": work.header.profile,
            "batch": work.batch,
            "today": today.toordinal(),
            "source_as_of": day_of(work.complete_at).toordinal() if work.complete_at else 0,
            "list_types": {
                code: (each.code, each.required_fields, catalogues.first_code(each))
                for code, each in known.items()
                if each
            },
            "list_type": work.header.list_type,
            "source": work.header.source,
            "complete": work.header.mode is ImportMode.FULL,
            "writes": (sorted(writes.list_types), writes.region) if writes else None,
            "department": work.principal.department,
            "store_key": work.keys.store,
            "index_key": work.keys.index,
            "view_key": work.keys.view,
        }


def _stage_rows(ledger: Ledger, work: _Work, rows: tuple[Any, ...]) -> Staged:
    staged = [StagedRow(*row) for row in rows]
    return ledger.stage(
        work.batch,
        staged,
        actor=work.actor,
        received_at=work.received_at,
        document=work.document,
        generation=work.keys.generation,
        writes=work.principal.writes,
        as_of=work.complete_at,
    )


async def _feed(work: _Work, chunks: AsyncIterator[bytes], parser: ParserProcess) -> None:
    digest = hashlib.sha256()
    size = 0
    taking = True
    async for chunk in chunks:
        digest.update(chunk)
        size += len(chunk)
        if taking:
            try:
                await parser.feed(chunk)
            except ConnectionError:
                # It has refused the file and says so; the rest is read away.
                taking = False
        else:
            # Whoever hears the refusal must get a turn before the last byte of an endless file.
            await asyncio.sleep(0)
    work.sha256, work.size = digest.digest(), size
    await parser.end()
