"""The end of retention of inquiry records, and their archives (Art. 39, 60, 61, 63; PIPL 19, 47).

1. A minute after a start and after each 00:00 in Shanghai control ends what its settings say, in small steps with
   pauses between them; the agency may do so at any time, or ask what would go. Each step that erases leaves a record.
2. Of several hosts, or of control and a command, each does some steps, none twice (`adapters.ledger.ending`).
3. An archive continues the one before it. It is told once it is whole and on its disk; where the settings ask for it,
   nothing is erased that no archive holds.
4. Only the agency makes an archive, and says why (Art. 19-21, 24); it leaves a record.
"""

import asyncio
import datetime
import functools
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa
import structlog

from lanjie_gateway.adapters.ledger import InquiryRow, Ledger, LedgerThread, ending, tree
from lanjie_gateway.adapters.ledger.ending import Order, Slice
from lanjie_gateway.domain.access import Principal, Role
from lanjie_gateway.domain.checkpoints import Checkpoint, NoteError
from lanjie_gateway.domain.errors import Refused, invalid_argument
from lanjie_gateway.domain.merkle import Range
from lanjie_gateway.domain.record_retention import ERASED, ERASURE, RIGHTS, Periods, Rule, before
from lanjie_gateway.domain.verification import KeptLeaf
from lanjie_gateway.services.own_records import OwnRecords
from lanjie_gateway.services.records import MAX_PURPOSE
from lanjie_matcher.civil_time import day_of

POLL_SECONDS: Final = 60.0
PAUSE_SECONDS: Final = 0.05
ARCHIVE_PAGE: Final = 500
ABOUT_TO_END: Final = datetime.timedelta(days=31)
_GATEWAY: Final = "gateway"
_SHA256: Final = 32
_log = structlog.get_logger("lanjie.retention")


@dataclass(slots=True, kw_only=True)
class Ending:
    """What one rule ends, so far.

    Attributes:
        rule: of `record_retention.Rule`, or `record_retention.RIGHTS`.
        days: for which it keeps.
        before: what was there by then.
        count: erased, or to be.
        held: not erased, because something about them is open or wrong.
        unarchived: records that no archive holds, and which are to be archived first.
        kinds: of `RIGHTS`: how many of each.
    """

    rule: str
    days: int
    before: datetime.datetime
    count: int = 0
    held: int = 0
    unarchived: int = 0
    kinds: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveHead:
    """What an archive begins with: a checkpoint of its end, its beginning, and the edge of the tree there."""

    note: str
    start: int
    edge: tuple[bytes, ...]


class RetentionService:
    """Ends the retention of records.

    Args:
        ledger: the ledger's thread.
        periods: how long each is kept.
        clock: aware instants.
        checkpoint: signs the tree as it stands.
        archived_only: whether only what an archive holds is erased.
        poll: seconds between two looks at the day.

    Attributes:
        ended_at: when all was last looked at; `None` before.
    """

    def __init__(
        self,
        ledger: LedgerThread,
        periods: Periods,
        clock: Callable[[], datetime.datetime],
        checkpoint: Callable[[], Awaitable[None]],
        *,
        archived_only: bool = False,
        poll: float = POLL_SECONDS,
    ) -> None:
        self._ledger = ledger
        self._periods = periods
        self._clock = clock
        self._checkpoint = checkpoint
        self._archived_only = archived_only
        self._poll = poll
        self._records = OwnRecords(ledger, clock)
        self._task: asyncio.Task[None] | None = None
        self.ended_at: datetime.datetime | None = None

    def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.create_task(self._keep())

    async def close(self) -> None:
        """Stop; what is left is done at the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def status(self) -> tuple[int, int]:
        """Return how many records are held beyond their retention, and up to where archives have come."""
        held = await self._read(ending.held_back)
        return held, await self._read(ending.position, name=ending.ARCHIVED)

    async def end(self, principal: Principal, *, dry: bool) -> AsyncIterator[Sequence[Ending]]:
        """End what has ended (1), or say what would end; yield how far that is, at last all of it.

        Raises:
            Refused: NOT_PERMITTED.
        """
        principal.require(Role.AGENCY)
        async for done in self._end(principal.department, principal.person, dry=dry):
            yield done

    async def run(self) -> Sequence[Ending]:
        """End what has ended (1)."""
        return [done async for done in self._end(_GATEWAY, "", dry=False)][-1]

    async def _end(self, department: str, person: str, *, dry: bool) -> AsyncIterator[Sequence[Ending]]:
        today = day_of(self._clock())
        told = functools.partial(self._told, department, person)
        found: list[Ending] = []
        for rule in Rule:
            order, unarchived = await self._order(rule, today)
            now = Ending(rule=rule, days=order.days, before=order.before, unarchived=unarchived)
            found.append(now)
            steps = self._looked(order) if dry else self._carried_out(order, told)
            async for done in steps:
                now.count += done.count
                now.held += done.held
                yield found
        days = self._periods.rights
        now = Ending(rule=RIGHTS, days=days, before=before(today, days))
        found.append(now)
        while True:
            if dry:
                counts = await self._read(ending.count_rights, before=now.before)
            else:
                say = functools.partial(self._told_rights, told, now)
                counts = await self._read(ending.end_rights, before=now.before, told=say)
            now.kinds.update(counts)
            now.count = now.kinds.total()
            if dry or not counts:
                break
            await asyncio.sleep(PAUSE_SECONDS)
        if not dry:
            await self._ledger.call(Ledger.tidy)
            self.ended_at = self._clock()
        yield found

    async def _order(self, rule: Rule, today: datetime.date) -> tuple[Order, int]:
        """Return what a rule is to end, and how much of it waits for an archive (3)."""
        days = self._periods.of(rule)
        instant = before(today, days)
        bound = await self._signed_by(instant)
        archived = await self._read(ending.position, name=ending.ARCHIVED) if self._archived_only else bound
        return (
            Order(rule=rule, bound=min(bound, archived), before=instant, days=days),
            max(bound - archived, 0),
        )

    async def _carried_out(self, order: Order, told: ending.Told) -> AsyncIterator[Slice]:
        held: int | None = 0
        while held is not None:
            done = await self._read(ending.again, order=order, after=held, told=told)
            held = done.after
            yield done
            await self._pause(done)
        more = True
        while more:
            done = await self._read(ending.step, order=order, told=told)
            more = done.after is not None
            yield done
            await self._pause(done)

    async def _looked(self, order: Order) -> AsyncIterator[Slice]:
        after: int | None = None
        while True:
            done = await self._read(ending.look, order=order, after=after)
            yield done
            after = done.after
            if after is None:
                return

    @staticmethod
    async def _pause(done: Slice) -> None:
        await asyncio.sleep(PAUSE_SECONDS if done.count else 0)

    def _told(self, department: str, person: str, said: Mapping[str, Any]) -> tuple[str, InquiryRow]:
        fields = {"matter": "-", **said}
        row = self._records.make(ERASURE, ERASED, department=department, person=person, fields=fields)
        return self._records.source, row

    @staticmethod
    def _told_rights(told: ending.Told, now: Ending, counts: Mapping[str, int]) -> tuple[str, InquiryRow]:
        return told({"rule": RIGHTS, "days": now.days, "before": now.before.isoformat(), "rows": dict(counts)})

    async def archive(
        self, principal: Principal, purpose: str, start: int | None, until: datetime.datetime | None
    ) -> AsyncIterator[ArchiveHead | list[KeptLeaf]]:
        """Yield the head of an archive, then its records (3, 4).

        Args:
            principal: who makes it.
            purpose: why.
            start: first place; where the archives before end, when left out.
            until: records that were vouched for by this instant; when left out, those that end within a month.

        Raises:
            Refused: NOT_PERMITTED, ARGUMENT_INVALID.
        """
        self._admit(principal, purpose)
        await self._checkpoint()
        now = self._clock()
        if until is None:
            shortest = min(self._periods.of(rule) for rule in Rule)
            until = now + ABOUT_TO_END - datetime.timedelta(days=shortest)
        end = await self._signed_by(min(until, now))
        begun = await self._read(ending.position, name=ending.ARCHIVED) if start is None else start
        if not 0 <= begun < end:
            raise invalid_argument("start", "range", f"there is nothing to archive from {begun:,} on")
        fields = {"matter": "-", "purpose": purpose, "range": [begun, end]}
        await self._records.leave(
            "export", "EXPORTED", department=principal.department, person=principal.person, fields=fields
        )
        note = await self._read(tree.newest_checkpoint, at_most=end)
        edge = await self._read(_edge_at, size=begun)
        yield ArchiveHead(note=note or "", start=begun, edge=edge)
        for place in range(begun, end, ARCHIVE_PAGE):
            leaves = await self._read(tree.leaves, start=place, most=min(ARCHIVE_PAGE, end - place))
            yield [each for each in leaves if each.index < end]

    async def archived(
        self, principal: Principal, purpose: str, start: int, end: int, sha256: bytes
    ) -> tuple[int, str]:
        """Take an archive as made (3, 4); return up to where archives have come, and the id of the record.

        Raises:
            Refused: NOT_PERMITTED, ARGUMENT_INVALID.
        """
        self._admit(principal, purpose)
        if len(sha256) != _SHA256:
            raise invalid_argument("sha256", "length", "a digest has 32 bytes")
        size = (await self._ledger.call(Ledger.tree)).size
        so_far = await self._read(ending.position, name=ending.ARCHIVED)
        if not 0 <= start <= so_far or not start < end <= size:
            raise invalid_argument("start", "gap", f"an archive goes on where the others end, at {so_far:,}")
        fields = {"matter": "-", "purpose": purpose, "range": [start, end], "sha256": sha256.hex()}
        own = await self._records.leave(
            "archive", "ARCHIVED", department=principal.department, person=principal.person, fields=fields
        )
        await self._read(ending.put_position, name=ending.ARCHIVED, place=end)
        return max(so_far, end), own

    def _admit(self, principal: Principal, purpose: str) -> None:
        principal.require(Role.AGENCY)
        if not purpose.strip() or len(purpose) > MAX_PURPOSE:
            raise invalid_argument("purpose", "length", f"state the purpose in 1 to {MAX_PURPOSE} characters (Art. 24)")

    async def _signed_by(self, instant: datetime.datetime) -> int:
        opened = functools.partial(
            Checkpoint.open, origin=self._ledger.lineage, public=self._ledger.keys.signing_public
        )
        try:
            size: int = await self._read(tree.signed_by, until=instant, opened=opened)
        except NoteError as error:
            raise Refused("NOT_FOUND", f"a checkpoint: {error}; run `lanjie audit verify`") from None
        return size

    async def _read(self, function: Callable[..., Any], **arguments: Any) -> Any:
        return await self._ledger.call(Ledger.in_tree, functools.partial(function, **arguments))

    async def _keep(self) -> None:
        looked: datetime.date | None = None
        while True:
            # First of all, too: workers that read the ledger at a start go before.
            await asyncio.sleep(self._poll)
            today = day_of(self._clock())
            try:
                if looked != today:
                    done = await self.run()
                    looked = today
                    _log.info("records_ended", **{each.rule: each.count for each in done})
            except Exception as error:  # noqa: BLE001  counters go on; the operator hears of it
                _log.error("records_not_ended", error=type(error).__name__)


def _edge_at(connection: sa.Connection, size: int) -> tuple[bytes, ...]:
    try:
        return tuple(Range.at(size, tree.nodes_of(connection)).edge)
    except LookupError:
        raise Refused("NOT_FOUND", "records are missing: run `lanjie audit verify`") from None
