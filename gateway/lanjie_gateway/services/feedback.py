"""Feedback (反馈): takes what departments did about answers with an effect, and tells what is missing."""

import datetime
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog

from lanjie_gateway.adapters.ledger import InquiryRow, Ledger, LedgerThread
from lanjie_gateway.adapters.ledger.feedback import OvertakenError
from lanjie_gateway.domain import feedback
from lanjie_gateway.domain.access import Principal, Role
from lanjie_gateway.domain.errors import Refused, Unanswerable, invalid_argument, not_found
from lanjie_gateway.domain.feedback import Alarm, Asked, Report, Settled
from lanjie_gateway.domain.record_retention import ENDED, ERASED
from lanjie_gateway.services.calendar import CalendarService
from lanjie_gateway.services.own_records import OwnRecords
from lanjie_matcher.civil_time import day_of, start_of
from lanjie_matcher.decide import Outcome

RULE: Final = "feedback"
"""Deadline of a report; see `lanjie_matcher.deadlines`."""
KIND: Final = "feedback"
"""Kind of the inquiry record that a report leaves."""
FRESH: Final = datetime.timedelta(days=1)
MAX_ID: Final = 64
MAX_LISTED: Final = 1_000
_LOOK_BACK: Final = 800
"""Days that are looked at for the first whose term has ended: more than the longest term, 366 working days, takes."""
_TRIES: Final = 3
_log = structlog.get_logger("lanjie.feedback")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outstanding:
    """Feedback that is missing; `due_on` is the last day."""

    asked: Asked
    due_on: datetime.date
    overdue: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """How much feedback a department owes, by age: of a day, older but in time, overdue."""

    of_a_day: int
    older: int
    overdue: int


class FeedbackService:
    """Takes feedback and lists what is missing.

    Args:
        ledger: the record.
        calendar: working days and deadlines.
        load: takes in the records that workers have just written.
        clock: aware instants.

    Attributes:
        alarms: what somebody has to look at, counted since the start.
        load: see above.
    """

    def __init__(
        self,
        ledger: LedgerThread,
        calendar: CalendarService,
        load: Callable[[], Awaitable[int]],
        clock: Callable[[], datetime.datetime],
    ) -> None:
        self._ledger = ledger
        self._calendar = calendar
        self.load = load
        self._clock = clock
        self._records = OwnRecords(ledger, clock)
        self.alarms: Counter[Alarm] = Counter()

    async def report(self, principal: Principal, decision_id: str, report: Report) -> tuple[list[Settled], str]:
        """Take what was done about one answer; return what it does to each listing, and the id of its record.

        1. The department that asked tells it, and nobody else (Art. 40).
        2. The record of the answer, also one that a worker has just written (Art. 39).
        3. The rules of `lanjie_gateway.domain.feedback`.
        4. What was told and its record, in one transaction. The same again changes nothing and leaves no record.

        Raises:
            Refused: NOT_PERMITTED; ARGUMENT_INVALID; NOT_FOUND: no such answer of this department.
        """
        principal.require(Role.INQUIRER)  # (1)
        now = self._clock()
        feedback.require_sound(report, now)
        if not decision_id or len(decision_id) > MAX_ID or "\0" in decision_id:
            raise invalid_argument("decision_id", "length", f"a decision id has 1 to {MAX_ID} characters")
        await self.load()  # (2)
        for _ in range(_TRIES):
            answer = await self._answer(principal, decision_id)
            settled = self._settled(await self._asked(answer), report)  # (3)
            if all(each.repeated for each in settled):
                return settled, ""
            row = self._record(principal, answer, settled, now)  # (4)
            try:
                await self._ledger.call(Ledger.take_feedback, settled, self._records.source, row)
            except OvertakenError:
                continue
            self._alarm(alarm for each in settled if not each.repeated for alarm in each.alarms)
            return settled, row.decision_id
        raise Unanswerable("LEDGER_UNAVAILABLE", "others report on the same answer; try again")

    async def outstanding(
        self, principal: Principal, department: str = "", *, overdue_only: bool = False, limit: int = 100
    ) -> tuple[list[Outstanding], Mapping[str, Missing]]:
        """Return answers that ask for feedback, the oldest first, and how many by department.

        Raises:
            Refused: NOT_PERMITTED; ARGUMENT_INVALID.
        """
        principal.require(Role.INQUIRER, Role.AGENCY)
        if not 1 <= limit <= MAX_LISTED:
            raise invalid_argument("limit", "range", f"1 to {MAX_LISTED} at a time")
        if Role.AGENCY not in principal.roles:
            if department not in ("", principal.department):
                raise not_found("no such department")
            department = principal.department
        department = department.replace("\0", "")
        before = self.overdue_before()
        found = await self._ledger.call(
            Ledger.outstanding_feedback, department, before if overdue_only else None, limit
        )
        return [self._due(each) for each in found], await self.missing(department)

    async def missing(self, department: str = "") -> Mapping[str, Missing]:
        """Return how much feedback is missing, by department; for status and metrics."""
        days = [self._clock() - FRESH, self.overdue_before()]
        counts = await self._ledger.call(Ledger.count_feedback, department, days)
        return {
            each: Missing(of_a_day=whole - older, older=older - overdue, overdue=overdue)
            for each, (whole, older, overdue) in counts.items()
        }

    async def _answer(self, principal: Principal, decision_id: str) -> InquiryRow:
        rows = await self._ledger.call(Ledger.inquiries_of, decision_id)
        mine = [row for row in rows if row.kind == "gateway" and row.department == principal.department]
        if not mine:
            raise not_found("no such decision")
        if mine[0].outcome == ERASED:
            raise not_found(ENDED)
        return mine[0]

    async def _asked(self, answer: InquiryRow) -> Sequence[Asked]:
        found = await self._ledger.call(Ledger.feedback_of, answer.decision_id)
        if found:
            return found
        if answer.outcome != Outcome.UNDETERMINED.name:
            raise invalid_argument("decision_id", "no-effect", "the answer has no effect to report on")
        # It asks for nothing, but takes what an officer made of it.
        return [
            Asked(
                decision_id=answer.decision_id,
                listing="",
                department=answer.department,
                matter=answer.matter,
                region="",
                list_type="",
                outcome=answer.outcome,
                measures=(),
                person=False,
                decided_at=answer.decided_at,
            )
        ]

    def _settled(self, asked: Sequence[Asked], report: Report) -> list[Settled]:
        try:
            return feedback.settle(asked, report)
        except Refused as error:
            if feedback.is_outside(error):
                self._alarm([Alarm.OUTSIDE_OF_ANSWER])
            raise

    def _record(
        self, principal: Principal, answer: InquiryRow, settled: Sequence[Settled], now: datetime.datetime
    ) -> InquiryRow:
        said = settled[0].report
        return self._records.make(
            KIND,
            "FEEDBACK",
            department=principal.department,
            person=principal.person,
            fields={
                "officer": said.officer,
                "matter": answer.matter,
                "subject": answer.subject_token.hex(),
                "about": answer.decision_id,
                "told": [[each.asked.listing, each.disposition, *sorted(each.report.applied)] for each in settled],
                "why": next((each.report.reason for each in settled if each.report.reason), ""),
                "case_refused": said.case_refused or None,
                "confirmed_by": said.confirmed_by,
                "alarms": sorted({alarm for each in settled for alarm in each.alarms}),
            },
            at=now,
        )

    def _alarm(self, alarms: Any) -> None:
        for alarm in alarms:
            self.alarms[alarm] += 1
            _log.warning("feedback_alarm", alarm=alarm.value)

    def _due(self, asked: Asked) -> Outstanding:
        due_on = self._calendar.due(RULE, day_of(asked.decided_at)).day
        return Outstanding(asked=asked, due_on=due_on, overdue=due_on < day_of(self._clock()))

    def overdue_before(self) -> datetime.datetime:
        """Return the instant before which an answer must have been made for its feedback to be overdue now."""
        today = day_of(self._clock())
        for back in range(1, _LOOK_BACK):
            day = today - datetime.timedelta(days=back)
            if self._calendar.due(RULE, day).day < today:
                return start_of(day + datetime.timedelta(days=1))
        return start_of(today - datetime.timedelta(days=_LOOK_BACK))
