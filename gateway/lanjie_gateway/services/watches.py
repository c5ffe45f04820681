"""Watches (关注) of organisations, closed cases, and the alerts (提醒) of a department (Art. 40, 47, 48)."""

import asyncio
import datetime
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Final

import structlog

from lanjie_gateway.adapters.ledger import InquiryRow, Ledger, LedgerThread
from lanjie_gateway.domain import alerts
from lanjie_gateway.domain.access import Principal, Role
from lanjie_gateway.domain.alerts import KeptAlert, Watch
from lanjie_gateway.domain.departments import asking
from lanjie_gateway.domain.errors import Refused, Unanswerable, invalid_argument, invalid_identifier, not_found
from lanjie_gateway.domain.grants import Grant, Mode
from lanjie_gateway.domain.records import about
from lanjie_gateway.services.own_records import OwnRecords
from lanjie_matcher.catalogues import CatalogueSet
from lanjie_matcher.civil_time import day_of
from lanjie_matcher.decide import Question
from lanjie_matcher.fingerprints import IndexKey
from lanjie_matcher.identifiers import IdentifierError, parse
from lanjie_matcher.masking import masked_text
from lanjie_matcher.regions import REGION
from lanjie_matcher.subjects import kind_by_code

MAX_LISTED: Final = 1_000
MOST_STREAMS: Final = 100
"""Streams of alerts of one department at a time: each asks the ledger every two seconds."""
HEARTBEAT_SECONDS: Final = 15.0
PATIENCE_SECONDS: Final = 0.25
POLL_SECONDS: Final = 2.0
"""How often the ledger is looked at without news: for a new day, for late passes, for what another host made."""
RETRY_SECONDS: Final = 1.0
_log = structlog.get_logger("lanjie.alerts")


class AlertWorker:
    """Follows the ledger's revisions and makes alerts of them, on one of the hosts; commits never wait for it.

    Args:
        ledger: the ledger's thread.
        catalogues: gives the catalogues as they stand.
        may_work: whether this host is the one; asked again and again.
        retro: how far back passes are looked for.
        poll: seconds between two looks without news.
    """

    def __init__(
        self,
        ledger: LedgerThread,
        catalogues: Callable[[], CatalogueSet],
        may_work: Callable[[], Awaitable[bool]],
        retro: datetime.timedelta,
        poll: float = POLL_SECONDS,
    ) -> None:
        self._ledger = ledger
        self._catalogues = catalogues
        self._may_work = may_work
        self._retro = retro
        self._poll = poll
        self._followed = 0
        self._wake = asyncio.Event()
        self._told = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to work."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop; what is left is done by the next one, from where this one was."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def wake(self, revision: int) -> None:
        """Hear that the catalogues are those of a revision, of whatever host."""
        self._followed = max(self._followed, revision)
        self._wake.set()

    async def news(self, timeout: float) -> None:
        """Wait for alerts of this host's making, at most `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout), self._told:
                await self._told.wait()
        except TimeoutError:
            pass

    async def catch_up(self) -> None:
        """Do all the work there is, if this host may."""
        more = await self._may_work()
        while more:
            more, told = await self._ledger.spare(
                PATIENCE_SECONDS, Ledger.alert_step, self._catalogues(), self._followed, self._retro
            )
            if told:
                async with self._told:
                    self._told.notify_all()

    async def _run(self) -> None:
        failing = False
        while True:
            self._wake.clear()
            try:
                await self.catch_up()
                failing = False
            except Exception as error:  # noqa: BLE001  whatever it was, nobody else makes them
                if not failing:
                    _log.error(
                        "alerts_not_made",
                        reason=error.reason if isinstance(error, Unanswerable) else type(error).__name__,
                    )
                failing = True
                await asyncio.sleep(RETRY_SECONDS)
            try:
                async with asyncio.timeout(self._poll):
                    await self._wake.wait()
            except TimeoutError:
                pass


class WatchService:
    """Keeps watches and closed cases, and delivers alerts.

    Args:
        ledger: the record.
        catalogues: gives the catalogues as they stand.
        worker: makes the alerts.
        clock: aware instants.
        grants: gives a caller with what is granted now.
    """

    def __init__(
        self,
        ledger: LedgerThread,
        catalogues: Callable[[], CatalogueSet],
        worker: AlertWorker,
        clock: Callable[[], datetime.datetime],
        grants: Callable[[Principal], Principal],
    ) -> None:
        self._ledger = ledger
        self._catalogues = catalogues
        self._worker = worker
        self._clock = clock
        self._grants = grants
        self._records = OwnRecords(ledger, clock)
        self._streams: Counter[str] = Counter()
        self._closing = False

    async def register(
        self,
        principal: Principal,
        identifier: str,
        *,
        matter: str,
        until_on: datetime.date,
        purpose: str,
        case_no: str = "",
        from_on: datetime.date | None = None,
        region: str = "",
    ) -> tuple[Watch, bool]:
        """Begin a watch; return it, and whether it was there just so.

        1. The department's grant covers the matter, and a catalogue knows it (Art. 24, 39, 47).
        2. Organisations alone, for a term (Art. 40).
        3. A watch is an inquiry: it leaves a record (Art. 39).

        Raises:
            Refused: NOT_PERMITTED, MATTER_UNKNOWN, IDENTIFIER_INVALID, ARGUMENT_INVALID.
        """
        grant = self._grant(principal, matter, region)  # (1)
        self._require_known(matter)
        if region and not REGION.fullmatch(region):
            raise invalid_argument("handling_region", "format", "a region has six digits")
        try:
            parsed = parse(identifier)
        except IdentifierError as error:
            raise invalid_identifier(error) from None
        now = self._clock()
        first = from_on or day_of(now)
        alerts.require_watchable(parsed, purpose=purpose, case_no=case_no, from_on=first, until_on=until_on)  # (2)
        if until_on < day_of(now):
            raise invalid_argument("until_date", "past", "the term has ended")
        key = IndexKey(self._ledger.keys.index)
        question = Question(
            matter=matter,
            at=now,
            handling_region=region or principal.handling_region,
            department=asking(principal.department),
            implementer_kinds=grant.implementer_kinds,
            kind_hint=kind_by_code(parsed),
        )
        watch = Watch(
            department=principal.department,
            kind=parsed.kind.value,
            subject=key.token(parsed.reveal()),
            bucket=key.token(parsed.key),
            question=question,
            case_no=masked_text(case_no),
            purpose=masked_text(purpose),
            from_on=first,
            until_on=until_on,
            made_at=now,
            actor=principal.actor,
        )
        row = self._record(principal, watch)  # (3)
        found = await self._ledger.call(Ledger.register_watch, watch, parsed, self._records.source, row)
        self._worker.wake(0)
        return found

    async def watches(
        self, principal: Principal, *, ended: bool = False, after: str = "", limit: int = 100
    ) -> list[Watch]:
        """Return the department's watches, the newest first.

        Raises:
            Refused: NOT_PERMITTED, ARGUMENT_INVALID, NOT_FOUND.
        """
        principal.require(Role.INQUIRER)
        before = watch_number(after) if after else 0
        return await self._ledger.call(
            Ledger.watches, principal.department, before=before, limit=_bounded(limit), ended=ended
        )

    async def end(self, principal: Principal, watch_id: str) -> Watch:
        """End a watch.

        Raises:
            Refused: NOT_PERMITTED; NOT_FOUND: not this department's, or there is none.
        """
        principal.require(Role.INQUIRER)
        found = await self._ledger.call(Ledger.end_watch, principal.department, watch_number(watch_id))
        if found is None:
            raise not_found("no such watch")
        return found

    def _grant(self, principal: Principal, matter: str, region: str) -> Grant:
        today = day_of(self._clock())
        held_by = self._catalogues().lineage(matter, today)
        return principal.require_inquiry(
            matter, Mode.EX_OFFICIO, region or principal.handling_region, today, held_by=held_by
        )

    def _require_known(self, matter: str) -> None:
        if not self._catalogues().ever_knew(matter):
            raise Refused("MATTER_UNKNOWN", "no catalogue ever defined this matter", matter=matter)

    async def close_case(self, principal: Principal, matter: str, case_no: str) -> bool:
        """Take a case as closed; return whether it was before.

        Raises:
            Refused: NOT_PERMITTED, MATTER_UNKNOWN, ARGUMENT_INVALID.
        """
        self._grant(principal, matter, "")
        self._require_known(matter)
        alerts.require_case_no(case_no, least=1)
        return await self._ledger.call(
            Ledger.close_case, principal.department, matter, masked_text(case_no), principal.actor
        )

    async def pull(self, principal: Principal, after: int, limit: int) -> list[KeptAlert]:
        """Return alerts that are not acknowledged, behind a number, in order.

        Raises:
            Refused: NOT_PERMITTED, ARGUMENT_INVALID.
        """
        principal.require(Role.INQUIRER)
        found = await self._ledger.call(Ledger.alerts, principal.department, _number(after), _bounded(limit))
        return [each if self._covers(principal, each.matter) else each.withheld() for each in found]

    def _covers(self, principal: Principal, matter: str) -> bool:
        """Whether the department's grant lets it hear of a matter today, wherever it is handled."""
        grant, today = principal.grant, day_of(self._clock())
        if grant is None or not grant.stands(today) or Mode.EX_OFFICIO not in grant.modes:
            return False
        return grant.matters is None or not grant.matters.isdisjoint(
            (matter, *self._catalogues().lineage(matter, today))
        )

    async def stream(self, principal: Principal, after: int) -> AsyncGenerator[list[KeptAlert], None]:
        """Yield alerts as they come, and an empty list as a heartbeat; raises as `pull`.

        Raises:
            Unanswerable: OVERLOADED, when the department has too many of them.
        """
        if self._streams[principal.department] >= MOST_STREAMS:
            raise Unanswerable("OVERLOADED", "the department has too many streams of alerts", retry_after_ms="1000")
        self._streams[principal.department] += 1
        try:
            beat = self._now()
            while not self._closing:
                found = await self.pull(self._grants(principal), after, 100)
                if found or self._now() >= beat:
                    yield found
                    beat = self._now() + HEARTBEAT_SECONDS
                if found:
                    after = found[-1].number
                else:
                    # Another host's alerts are found by looking.
                    await self._worker.news(POLL_SECONDS)
        finally:
            self._streams[principal.department] -= 1

    async def acknowledge(self, principal: Principal, up_to: int, numbers: Sequence[int]) -> int:
        """Take alerts as acknowledged; return how many were not before.

        Raises:
            Refused: NOT_PERMITTED, ARGUMENT_INVALID.
        """
        principal.require(Role.INQUIRER)
        if len(numbers) > MAX_LISTED:
            raise invalid_argument("numbers", "count", f"at most {MAX_LISTED} at a time")
        these = [_number(each) for each in numbers]
        return await self._ledger.call(Ledger.acknowledge_alerts, principal.department, _number(up_to), these)

    def close(self) -> None:
        """Let streams end."""
        self._closing = True

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    def _record(self, principal: Principal, watch: Watch) -> InquiryRow:
        return self._records.make(
            "watch",
            "WATCH",
            department=principal.department,
            person=principal.person,
            fields={
                "mode": Mode.EX_OFFICIO.value,
                "matter": watch.question.matter,
                "purpose": watch.purpose,
                "case_no": watch.case_no,
                "region": watch.question.handling_region,
                **about(watch.question, kind=watch.kind, subject=watch.subject, bucket=watch.bucket),
                "from": watch.from_on.isoformat(),
                "until": watch.until_on.isoformat(),
            },
            at=watch.made_at,
        )


def watch_id(watch: int) -> str:
    """Return the id of a watch by its number; empty for none."""
    return f"w{watch}" if watch else ""


def watch_number(text: str) -> int:
    """Return the number of a watch's id.

    Raises:
        Refused: NOT_FOUND: it can be none.
    """
    digits = text.removeprefix("w")
    if digits == text or not (digits.isascii() and digits.isdigit() and len(digits) < 19):
        raise not_found("no such watch")
    return int(digits)


def _bounded(limit: int) -> int:
    if not 1 <= limit <= MAX_LISTED:
        raise invalid_argument("limit", "range", f"1 to {MAX_LISTED} at a time")
    return limit


def _number(value: int) -> int:
    if not 0 <= value < 1 << 63:
        raise invalid_argument("after", "range", "numbers of alerts count from 1")
    return value
