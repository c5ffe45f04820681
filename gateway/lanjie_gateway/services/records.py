"""Inquiry records as evidence (Art. 39, 43, 61, 69): checkpoints, verification, witness, search, export.

1. Whenever the tree has grown, at most every few seconds, it is signed; the checkpoint stands in the ledger and is
   written down outside, with the digests. Once more at the end.
2. Recent records are verified at the start and now and then, all of them when somebody asks. What is wrong is told in
   the log, by metrics and by `lanjie status`. It never stops the counters.
3. Only the agency that runs the system reads them, and says why (Art. 19-21, 24); that is an inquiry, and leaves a
   record.
"""

import asyncio
import contextlib
import datetime
import functools
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
import structlog

from lanjie_gateway.adapters.examination import examine
from lanjie_gateway.adapters.keys import view_keys
from lanjie_gateway.adapters.ledger import Ledger, LedgerThread, searching, tree
from lanjie_gateway.adapters.record_files import RecordFiles
from lanjie_gateway.domain import merkle
from lanjie_gateway.domain.access import Principal, Role
from lanjie_gateway.domain.checkpoints import Checkpoint, NoteError
from lanjie_gateway.domain.errors import Refused, invalid_argument
from lanjie_gateway.domain.subject_report import spoken_of
from lanjie_gateway.domain.verification import Finding, KeptLeaf, Report
from lanjie_gateway.services.own_records import OwnRecords
from lanjie_matcher.fingerprints import IndexKey
from lanjie_matcher.identifiers import IdentifierError, parse

CHECKPOINT_SECONDS: Final = 5.0
CHECK_SECONDS: Final = 600.0
RECENT: Final = 2_000
"""Records that the check of the background reads, at least."""
MAX_PURPOSE: Final = 200
MAX_PAGE: Final = 1_000
EXPORT_PAGE: Final = 200
_DIGESTS: Final = 5_000
_NOTES: Final = 500
_LONG_NUMBER: Final = re.compile(r"(?<![0-9A-Za-z])(?=[0-9A-Za-z]*[0-9]{5})[0-9A-Za-z]{8,}")
_CODE: Final = re.compile(r"[A-Za-z0-9._-]{0,128}")
_log = structlog.get_logger("lanjie.records")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a verification is; `report` at its end."""

    done: int
    total: int
    report: Report | None = None


@dataclass(frozen=True, slots=True)
class Exported:
    """A record with its proof."""

    leaf: KeptLeaf
    proof: list[bytes]


class RecordService:
    """Keeps the evidence, and reads it.

    Args:
        ledger: the ledger's thread.
        state: the state directory.
        load: brings records that workers have written into the ledger.
        clock: aware instants.
    """

    def __init__(
        self,
        ledger: LedgerThread,
        state: Path,
        load: Callable[[], Awaitable[None]],
        clock: Callable[[], datetime.datetime],
    ) -> None:
        self._ledger = ledger
        self._files = RecordFiles(state)
        self._keys = state / "keys"
        self._load = load
        self._clock = clock
        self._records = OwnRecords(ledger, clock)
        self._logged = (0, -1)
        self._tasks: list[asyncio.Task[None]] = []
        self._signing = asyncio.Lock()
        self.findings: tuple[Finding, ...] = ()
        self.checked_at: datetime.datetime | None = None
        self.faults = 0

    async def start(self) -> None:
        """Find out what is written down already, and begin."""
        last = await asyncio.to_thread(self._files.last_note)
        if last is not None:
            self._logged = await self._ledger.call(Ledger.in_tree, functools.partial(_position, note=last))
        self._tasks = [asyncio.create_task(self._sign()), asyncio.create_task(self._watch())]

    async def close(self) -> None:
        """Stop, after a last checkpoint (1)."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        try:
            await self.checkpoint()
        except Exception as error:  # noqa: BLE001  the next start signs what is there
            _log.error("no_checkpoint", error=type(error).__name__)

    async def checkpoint(self) -> None:
        """Sign the tree if it has grown, and write down outside what is new (1)."""
        async with self._signing:
            await self._ledger.call(Ledger.checkpoint)
            size = (await self._ledger.call(Ledger.tree)).size
            written = await asyncio.to_thread(lambda: self._files.written)
            while written < size:
                read = functools.partial(tree.digests, start=written, end=min(written + _DIGESTS, size))
                digests = await self._ledger.call(Ledger.in_tree, read)
                if not digests:
                    break
                await asyncio.to_thread(self._files.add_digests, digests)
                written += len(digests)
            read_notes = functools.partial(tree.checkpoints, after=self._logged, most=_NOTES)
            while rows := await self._ledger.call(Ledger.in_tree, read_notes):
                await asyncio.to_thread(self._files.add_notes, [row.note for row in rows])
                self._logged = (rows[-1].epoch, rows[-1].size)
                read_notes = functools.partial(tree.checkpoints, after=self._logged, most=_NOTES)

    async def status(self, principal: Principal) -> tuple[int, int]:
        """Return how many records there are, and how many of them the newest checkpoint vouches for."""
        principal.require(Role.AGENCY)
        size = (await self._ledger.call(Ledger.tree)).size
        with contextlib.suppress(Refused):  # one that is no checkpoint is among the findings
            newest = await self._newest()
            return size, newest.size if newest else 0
        return size, 0

    async def verify(self, principal: Principal, since: int, witnessed: str) -> AsyncIterator[Progress]:
        """Verify records (2).

        Raises:
            Refused: NOT_PERMITTED.
        """
        principal.require(Role.AGENCY)
        try:
            await self._load()
            await self.checkpoint()
        except Exception as error:  # noqa: BLE001  what keeps records from coming in is for this to name
            _log.error("no_checkpoint", error=type(error).__name__)
        async for progress in self._examined(since, witnessed):
            yield progress

    async def _examined(self, since: int, witnessed: str = "") -> AsyncIterator[Progress]:
        public = self._ledger.keys.signing_public
        steps = examine(self._ledger.lineage, public, self._files, clock=self._clock, since=since, witnessed=witnessed)
        wanted = await asyncio.to_thread(next, steps)
        while True:
            yield Progress(wanted.done, wanted.total)
            answer = await self._ledger.call(Ledger.in_tree, wanted.read)
            step = await asyncio.to_thread(_next, steps, answer)
            if isinstance(step, Report):
                self._note(step)
                yield Progress(step.size, step.size, step)
                return
            wanted = step

    async def check(self) -> Report | None:
        """Verify the recent records (2)."""
        size = (await self._ledger.call(Ledger.tree)).size
        report = None
        async for progress in self._examined(max(size - RECENT, 0)):
            report = progress.report
        return report

    def _note(self, report: Report) -> None:
        self.checked_at = self._clock()
        # A check of recent records does not clear what a whole one found before them.
        kept = [each for each in self.findings if each.index < report.start]
        self.findings = (*kept, *report.findings)
        for each in report.findings:
            _log.error("records_broken", index=each.index, last=each.last, fault=each.fault.value)

    async def witness(self, principal: Principal, old: int) -> tuple[str, int, list[bytes]]:
        """Return the newest checkpoint, and the proof that it continues the one of `old` records.

        Raises:
            Refused: NOT_PERMITTED, ARGUMENT_INVALID: there are fewer records than that.
        """
        principal.require(Role.AGENCY)
        await self._load()
        await self.checkpoint()
        note = await self._ledger.call(Ledger.in_tree, tree.newest_checkpoint)
        newest = await self._newest()
        if note is None or newest is None:
            return "", 0, []
        if old > newest.size:
            raise invalid_argument("old_size", "range", "the newest checkpoint has fewer records than that")
        read = functools.partial(_consistency, old=old, size=newest.size)
        return note, old, await self._ledger.call(Ledger.in_tree, read)

    async def search(
        self, principal: Principal, purpose: str, subject: str, wanted: searching.Wanted
    ) -> tuple[list[tuple[int, Mapping[str, Any]]], int, str]:
        """Find records (3); return (place, fields) of each, where to go on, and the id of the record of this search.

        Raises:
            Refused: NOT_PERMITTED, ARGUMENT_INVALID.
        """
        self._admit(principal, purpose)
        most = wanted.most
        if not 1 <= most <= MAX_PAGE:
            raise invalid_argument("page_size", "range", f"a page has 1 to {MAX_PAGE} records")
        if wanted.after >= 1 << 62:
            raise invalid_argument("page_token", "range", "there is no such page")
        for field in ("department", "person", "matter", "outcome", "kind", "decision_id"):
            # What is no code may be a subject's name, and what is looked for is recorded.
            if not _CODE.fullmatch(getattr(wanted, field)):
                raise invalid_argument(field, "format", "a code has letters, digits, dots, hyphens and underscores")
        token = b""
        if subject:
            try:
                identifier = parse(subject)
            except IdentifierError as error:
                raise invalid_argument("subject", "identifier", str(error)) from None
            key = IndexKey(self._ledger.keys.index)
            token, *others = (key.token(each.reveal()) for each in spoken_of([identifier]))
            wanted = wanted.about(frozenset({token, *others, *self._view_digests(identifier.key)}))
        await self._load()
        filters = {name: str(value) for name, value in wanted.said().items()}
        own = await self._record(principal, purpose, "search", "SEARCHED", subject=token.hex(), filters=filters)
        found: list[tuple[int, Mapping[str, Any]]] = []
        while True:
            step = functools.partial(searching.find, wanted=wanted.from_on(wanted.after, most - len(found)))
            some, after, full = await self._ledger.call(Ledger.in_tree, step)
            found += some
            if full or not after:
                return [(index, masked(fields)) for index, fields in found], after, own
            wanted = wanted.from_on(after, most)

    async def export(
        self, principal: Principal, purpose: str, start: int, end: int
    ) -> AsyncIterator[str | list[Exported]]:
        """Yield the checkpoint's note, then records with their proofs (3).

        Raises:
            Refused: NOT_PERMITTED, ARGUMENT_INVALID.
        """
        self._admit(principal, purpose)
        await self._load()
        known = (await self._ledger.call(Ledger.tree)).size
        if not start <= (end or known) <= known:
            # Before its record is left, which would say that it was exported.
            raise invalid_argument("end", "range", f"there are {known} records")
        await self._record(principal, purpose, "export", "EXPORTED", range=[start, end])
        await self.checkpoint()
        note = await self._ledger.call(Ledger.in_tree, tree.newest_checkpoint)
        newest = await self._newest()
        size = newest.size if newest else 0
        end = end or size
        yield note or ""
        while start < end:
            stop = min(start + EXPORT_PAGE, end)
            read = functools.partial(exported, start=start, end=stop, size=size)
            yield await self._ledger.call(Ledger.in_tree, read)
            start = stop

    def _admit(self, principal: Principal, purpose: str) -> None:
        principal.require(Role.AGENCY)
        if not purpose.strip() or len(purpose) > MAX_PURPOSE:
            raise invalid_argument("purpose", "length", f"state the purpose in 1 to {MAX_PURPOSE} characters (Art. 24)")

    def _view_digests(self, key: str) -> Iterable[bytes]:
        """Digests that local passes name a subject by, under every view key that is kept, the retired ones included."""
        for each in view_keys(self._keys).values():
            yield each.digest64(key).to_bytes(8, "big")

    async def _record(self, principal: Principal, purpose: str, kind: str, outcome: str, **fields: Any) -> str:
        return await self._records.leave(
            kind,
            outcome,
            department=principal.department,
            person=principal.person,
            fields={"matter": "-", "purpose": purpose, **fields},
        )

    async def _newest(self) -> Checkpoint | None:
        note = await self._ledger.call(Ledger.in_tree, tree.newest_checkpoint)
        if note is None:
            return None
        try:
            return Checkpoint.open(note, self._ledger.lineage, self._ledger.keys.signing_public)
        except NoteError as error:
            raise Refused("NOT_FOUND", f"the newest checkpoint: {error}; run `lanjie audit verify`") from None

    async def _sign(self) -> None:
        while True:
            try:
                await self.checkpoint()
            except Exception as error:  # noqa: BLE001  counters go on; the operator hears of it
                _log.error("no_checkpoint", error=type(error).__name__)
            await asyncio.sleep(CHECKPOINT_SECONDS)

    async def _watch(self) -> None:
        # The first checkpoint of a state is in the ledger a moment before it is written down outside.
        async with self._signing:
            pass
        while True:
            try:
                await self.check()
            except Exception as error:  # noqa: BLE001  counters go on; the operator hears of it
                _log.error("records_not_checked", error=type(error).__name__)
            await asyncio.sleep(CHECK_SECONDS)


def masked(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the fields of a record without its subject, long numbers that the inquirer wrote masked (Art. 40)."""
    shown = {name: value for name, value in fields.items() if name not in ("subject", "bucket")}
    for name in ("purpose", "case_no"):
        if name in shown:
            shown[name] = _LONG_NUMBER.sub(lambda found: found[0][:2] + "****" + found[0][-2:], str(shown[name]))
    return shown


def exported(connection: sa.Connection, start: int, end: int, size: int) -> list[Exported]:
    """Return records with their proofs in the tree of `size` records.

    Raises:
        Refused: NOT_FOUND: a record or a subtree that a proof needs is missing.
    """
    node = functools.lru_cache(maxsize=4096)(tree.nodes_of(connection))
    try:
        return [
            Exported(each, merkle.inclusion(each.index, size, node))
            for each in tree.leaves(connection, start, end - start)
        ]
    except LookupError:
        raise Refused("NOT_FOUND", "records are missing: run `lanjie audit verify`") from None


def _consistency(connection: sa.Connection, old: int, size: int) -> list[bytes]:
    try:
        return merkle.consistency(old, size, tree.nodes_of(connection))
    except LookupError:
        raise Refused("NOT_FOUND", "records are missing: run `lanjie audit verify`") from None


def _position(connection: sa.Connection, note: str) -> tuple[int, int]:
    """Return where in the ledger a checkpoint stands that was written down; behind all where it is not there."""
    with contextlib.suppress(NoteError):
        made = Checkpoint.read(note)
        rows = tree.checkpoints(connection, (made.epoch, made.size - 1), 1)
        if rows and rows[0].note == note:
            return rows[0].epoch, rows[0].size
    _log.error("checkpoints_log_ahead")
    return tree.last_place(connection)


def _next(steps: Any, answer: Any) -> Any:
    try:
        return steps.send(answer)
    except StopIteration as end:
        return end.value
