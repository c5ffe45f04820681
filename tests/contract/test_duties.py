"""What events oblige to: clocks begin and end in the commit of the event, and a second person is another one."""

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lanjie_gateway.adapters.ledger import Ledger
from lanjie_gateway.adapters.ledger.database import migrate
from lanjie_gateway.domain.access import Role
from lanjie_gateway.domain.duties import DutyRule
from lanjie_gateway.domain.errors import Refused
from lanjie_gateway.domain.event_detail import InstrumentNotice
from lanjie_gateway.domain.events import Act, EventKind
from lanjie_gateway.services import duty
from lanjie_gateway.services.duty import DutyCount
from lanjie_gateway.services.event_facts import EventFacts, detail
from lanjie_matcher.civil_time import start_of
from lanjie_matcher.identifiers import parse
from tests.support.core import uscc
from tests.support.ledger import (
    COLUMNS,
    Clock,
    cells,
    csv_file,
    desk,
    open_ledger,
    person,
    receipt,
    stage,
    take,
    to_second_schema,
)

K = EventKind
PUBLISHED = (*COLUMNS, "publicity_until")
TODAY = datetime.date(2026, 11, 2)
EARLIER = datetime.date(2026, 10, 30)
DETAIL: dict[EventKind, dict[str, Any]] = {
    K.OBJECTION_CLOSED: {"outcome": "unfounded", "reply": "Your objection was looked into."},
    K.NOTICED: {"what": "revoked", "instrument_date": "2026-10-20"},
}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(tmp_path: Path, clock: Clock, ledger_url: str) -> Iterator[Ledger]:
    opened = open_ledger(tmp_path, clock, ledger_url)
    yield opened
    opened.close()


def listing(ledger: Ledger, number: int = 1) -> str:
    return ledger.find(parse(f"uscc:{uscc(number)}"))[0].id


def act(ledger: Ledger, kind: EventKind, number: int = 1, *, day: datetime.date | None = None, **changes: Any) -> int:
    facts = {"actor": "tax/bert", "reason": "a", "document": "b", "detail": DETAIL.get(kind, {}), **changes}
    at = None if day is None else start_of(day)
    return ledger.record(listing(ledger, number), Act(kind=kind, effective_at=at, **facts))


def review(ledger: Ledger, revision: int, verdict: str = "agreed", number: int = 1, actor: str = "tax/carl") -> int:
    return act(ledger, K.REVIEWED, number, actor=actor, detail={"revision": revision, "verdict": verdict})


def running(ledger: Ledger) -> list[tuple[str, datetime.date]]:
    return sorted((each.rule, each.started_on) for each in ledger.duties())


def closed(ledger: Ledger, clock: Clock) -> list[tuple[str, datetime.date, datetime.date]]:
    since = clock() - datetime.timedelta(days=365)
    duties = ledger.duties(since)
    return sorted((each.rule, each.started_on, each.closed_on) for each in duties if each.closed_on is not None)


def refused(call: Any, *arguments: Any, **options: Any) -> str:
    with pytest.raises(Refused) as error:
        call(*arguments, **options)
    return error.value.reason


def test_an_objection_is_to_be_replied_to(ledger: Ledger, clock: Clock) -> None:
    take(ledger, cells(1))
    act(ledger, K.OBJECTION_OPENED, day=EARLIER)
    assert running(ledger) == [("objection-reply", EARLIER)]
    assert ledger.open_duties() == {"objection-reply": 1}
    clock.pass_by(days=1)
    act(ledger, K.OBJECTION_CLOSED)
    assert running(ledger) == []
    assert closed(ledger, clock) == [("objection-reply", EARLIER, datetime.date(2026, 11, 3))]
    # Another one, and one that is corrected: only where the facts were.
    opened = {"outcome": "corrected", "reply": "Corrected."}
    act(ledger, K.OBJECTION_OPENED)
    assert refused(act, ledger, K.OBJECTION_CLOSED, detail=opened) == "TRANSITION_ILLEGAL"
    take(ledger, cells(1, reason="corrected"))
    act(ledger, K.OBJECTION_CLOSED, detail=opened)
    # What was corrected before it was objected to does not count.
    act(ledger, K.OBJECTION_OPENED)
    assert refused(act, ledger, K.OBJECTION_CLOSED, detail=opened) == "TRANSITION_ILLEGAL"
    event = ledger.get(listing(ledger))[1][2]  # type: ignore[index]
    assert (event.kind, dict(event.detail)) == (K.OBJECTION_CLOSED, DETAIL[K.OBJECTION_CLOSED])


def test_an_entry_that_was_wrong_is_deleted_in_the_commit_of_the_answer(ledger: Ledger) -> None:
    take(ledger, cells(1))
    number = listing(ledger)
    act(ledger, K.OBJECTION_OPENED)
    revision = act(ledger, K.OBJECTION_CLOSED, detail={"outcome": "deleted", "reply": "You were right."})
    assert [(state.value, state.listed) for state in ledger.changed(revision, 0, 9)[0]] == [(b"", False)]
    assert ledger.get(number)[0].packed.listing.annulled  # type: ignore[index]
    assert running(ledger) == [("publicity-withdrawal", TODAY), ("removal-review", TODAY)]


def test_a_notice_tells_of_its_provider_and_is_to_be_applied(ledger: Ledger, clock: Clock) -> None:
    take(ledger, *(cells(number, source_record_id=str(number)) for number in range(1, 6)))
    notice = ("revocation-notice", datetime.date(2026, 10, 20), EARLIER)
    for number, kind in ((1, K.REVOKED), (2, K.ANNULLED), (3, K.AMENDED)):
        act(ledger, K.NOTICED, number, day=EARLIER)
        assert ("revocation-apply", EARLIER) in running(ledger)
        assert refused(act, ledger, K.NOTICED, number) == "TRANSITION_ILLEGAL"
        if kind is K.AMENDED:
            take(ledger, cells(number, source_record_id=str(number), reason="altered"))
        else:
            act(ledger, kind, number)
        assert "revocation-apply" not in ledger.open_duties()
    done = ("revocation-apply", EARLIER, TODAY)
    assert closed(ledger, clock) == [done] * 3 + [notice] * 3
    # Without a notice, the revocation itself is the provider's word.
    act(ledger, K.REVOKED, 4, day=EARLIER)
    assert closed(ledger, clock)[-1] == ("revocation-notice", EARLIER, TODAY)
    assert refused(act, ledger, K.NOTICED, 4) == "TRANSITION_ILLEGAL"
    # Only what was closed since is told.
    clock.pass_by(days=400)
    assert closed(ledger, clock) == []


def test_an_application_for_repair_is_decided_or_overtaken(ledger: Ledger) -> None:
    take(ledger, *(cells(number, publicity_until="2026-11-01") for number in range(1, 5)))
    assert refused(act, ledger, K.REPAIR_REFUSED) == "TRANSITION_ILLEGAL"
    for number, kind in ((1, K.REPAIR_REFUSED), (2, K.REPAIRED), (3, K.REMOVED)):
        act(ledger, K.REPAIR_APPLIED, number)
        assert ledger.open_duties()["repair-decision"] == 1
        assert refused(act, ledger, K.REPAIR_APPLIED, number) == "TRANSITION_ILLEGAL"
        act(ledger, kind, number)
        assert "repair-decision" not in ledger.open_duties()
    act(ledger, K.REPAIR_APPLIED, 1)
    act(ledger, K.REPAIR_APPLIED, 4)
    batch, _ = stage(ledger, cells(1, op="D"))
    ledger.commit_import(receipt(batch))
    assert ledger.open_duties()["repair-decision"] == 1
    # Publicity had run out, so nothing is to be withdrawn; a file needs no second look.
    assert ledger.open_duties() == {"repair-decision": 1, "removal-review": 2}


def test_what_is_still_published_is_withdrawn_once(ledger: Ledger, clock: Clock) -> None:
    take(ledger, cells(1, publicity_until="2026-11-02"), cells(2))
    for number in (1, 2):
        assert refused(act, ledger, K.PUBLICITY_WITHDRAWN, number) == "TRANSITION_ILLEGAL"
        act(ledger, K.REPAIRED, number)
        act(ledger, K.PUBLICITY_WITHDRAWN, number)
        assert refused(act, ledger, K.PUBLICITY_WITHDRAWN, number) == "TRANSITION_ILLEGAL"
        act(ledger, K.REVOKED, number)
        assert "publicity-withdrawal" not in ledger.open_duties()
    act(ledger, K.REINSTATED)
    clock.pass_by(minutes=1)
    act(ledger, K.REVOKED)
    assert ledger.open_duties()["publicity-withdrawal"] == 1
    clock.pass_by(minutes=1)
    act(ledger, K.REINSTATED)
    assert "publicity-withdrawal" not in ledger.open_duties()


@pytest.mark.parametrize("kind", [K.REMOVED, K.REPAIRED, K.REVOKED, K.ANNULLED, K.STAYED])
def test_a_second_person_looks_at_an_act_afterwards(ledger: Ledger, clock: Clock, kind: EventKind) -> None:
    take(ledger, cells(1, publicity_until="2026-11-01"), cells(2))
    number = listing(ledger)
    revision = act(ledger, kind, day=EARLIER)

    def look(at: int = revision, actor: str = "tax/carl", verdict: str = "agreed") -> int:
        detail = {"revision": at, "verdict": verdict}
        made = Act(kind=K.REVIEWED, actor=actor, reason="a", document="b", detail=detail)
        return ledger.record(number, made)

    # From the day it was recorded, whatever day it works from.
    assert [each for each in running(ledger) if each[0] == "removal-review"] == [("removal-review", TODAY)]
    before = ledger.get(number)[0].packed  # type: ignore[index]
    assert refused(look, actor="tax/bert") == "SECOND_PERSON_REQUIRED"
    assert refused(look, revision - 1) == "TRANSITION_ILLEGAL"
    assert refused(look, revision + 1) == "TRANSITION_ILLEGAL"
    assert refused(review, ledger, revision, number=2) == "TRANSITION_ILLEGAL"
    look()
    assert refused(look) == "TRANSITION_ILLEGAL"
    assert ledger.get(number)[0].packed == before  # type: ignore[index]
    assert ledger.open_duties() == {}


def test_a_contested_act_stands_and_is_shown_until_it_is_undone(ledger: Ledger) -> None:
    take(ledger, cells(1, publicity_until="2026-11-01"), cells(2))
    removed = act(ledger, K.REMOVED)
    stayed = act(ledger, K.STAYED, 2)
    for number, revision in ((1, removed), (2, stayed)):
        review(ledger, revision, "contested", number)
    assert ledger.open_duties() == {"contested": 2}
    assert ledger.find(parse(f"uscc:{uscc(1)}"))[0].packed.listing.removed_at is not None
    act(ledger, K.REINSTATED)
    act(ledger, K.STAY_LIFTED, 2)
    assert ledger.open_duties() == {}


def test_each_act_has_its_review_and_one_that_two_persons_made_needs_none(ledger: Ledger) -> None:
    take(ledger, cells(1, publicity_until="2026-11-01"))
    first = act(ledger, K.STAYED)
    second = act(ledger, K.REMOVED, actor="tax/carl")
    assert ledger.open_duties() == {"removal-review": 2}
    assert refused(review, ledger, second) == "SECOND_PERSON_REQUIRED"
    review(ledger, first)
    review(ledger, second, actor="tax/bert")
    act(ledger, K.ANNULLED, second="tax/carl")
    assert ledger.open_duties() == {}


def test_an_annulment_leaves_nothing_waiting_but_what_tells_of_it(ledger: Ledger) -> None:
    take(ledger, cells(1))
    for kind in (K.OBJECTION_OPENED, K.REPAIR_APPLIED, K.NOTICED):
        act(ledger, kind)
    assert len(running(ledger)) == 3
    act(ledger, K.ANNULLED)
    assert [rule for rule, _ in running(ledger)] == ["publicity-withdrawal", "removal-review"]


def test_objections_from_before_there_were_duties_are_to_be_replied_to(
    tmp_path: Path, ledger: Ledger, clock: Clock, ledger_url: str
) -> None:
    take(ledger, *(cells(number) for number in range(1, 4)))
    # 00:30 in Shanghai is still the day before in UTC.
    clock.now = start_of(TODAY) + datetime.timedelta(minutes=30)
    for number, kinds in enumerate(((K.OBJECTION_CLOSED, K.OBJECTION_OPENED), (K.OBJECTION_CLOSED,), (K.ANNULLED,)), 1):
        for kind in (K.OBJECTION_OPENED, *kinds):
            act(ledger, kind, number)
    with ledger._engine.begin() as connection:
        to_second_schema(connection)
    ledger.close()
    migrate(ledger_url)
    again = open_ledger(tmp_path, clock, ledger_url)
    assert running(again) == [("objection-reply", TODAY)]
    again.close()


async def test_when_a_duty_is_due_is_said_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with desk(tmp_path) as at:
        await at.take(csv_file([cells(number, publicity_until="2026-11-01") for number in range(1, 4)], PUBLISHED))
        found = [(await at.find(number))[0].listing.id for number in range(1, 4)]
        reader = person("mara", Role.MANAGER)

        async def record(number: int, kind: EventKind, day: str = "", **facts: Any) -> None:
            grounds: dict[str, Any] = {"reason": "r", "document": "d", "effective_date": day}
            said = EventFacts(**facts)
            await at.listings.record_event(found[number], kind, **grounds, principal=person("anna"), facts=said)

        async def shown(**filters: Any) -> list[tuple[str, str, bool, bool]]:
            duties = await at.duties.find(reader, **filters)
            return [(each.rule.value, f"{each.due_on}", each.overdue, each.late) for each in duties]

        # 10-28 + 5 working days = 11-04: the notice of 11-02 is in time, one for 10-20 is not.
        for number, day in ((0, "2026-10-28"), (1, "2026-10-20")):
            await record(number, K.NOTICED, notice=InstrumentNotice.REVOKED, instrument_date=day)
        assert await shown() == [("revocation-apply", "2026-11-04", False, False)] * 2
        assert await shown(late=True, rule="revocation-notice") == [("revocation-notice", "2026-10-27", False, True)]
        at.clock.now = start_of(datetime.date(2026, 11, 5)) - datetime.timedelta(seconds=1)
        await record(0, K.REVOKED)
        assert await shown(overdue_only=True) == []
        at.clock.pass_by(seconds=1)
        assert await shown(overdue_only=True) == [("revocation-apply", "2026-11-04", True, False)]
        await record(1, K.REVOKED)
        assert await shown(overdue_only=True, late=True) == [
            ("revocation-apply", "2026-11-04", False, True),
            ("revocation-notice", "2026-10-27", False, True),
        ]
        counts = await at.duties.overdue_by_rule()
        assert _numbers(counts[DutyRule.REVOCATION_APPLY]) == (0, 0, 0, 1)
        assert _numbers(counts[DutyRule.REMOVAL_REVIEW]) == (2, 0, 0, 0)
        # Beyond the years that are published, and right without anything that ran in between.
        at.clock.now = start_of(datetime.date(2026, 12, 30))
        await record(2, K.OBJECTION_OPENED)
        newest = (await at.duties.find(reader))[0]
        assert (newest.rule, newest.provisional) == (DutyRule.OBJECTION_REPLY, True)
        assert (await at.duties.overdue_by_rule())[DutyRule.REMOVAL_REVIEW].overdue == 2
        due = [each.due_on for each in await at.duties.find(reader)]
        monkeypatch.setattr(duty, "MOST", 1)
        (most_urgent,) = await at.duties.find(reader)
        assert most_urgent.due_on == min(day for day in due if day)
        for principal, rule in ((person("ina", Role.INQUIRER), ""), (reader, "other")):
            with pytest.raises(Refused):
                await at.duties.find(principal, rule=rule)


@pytest.mark.parametrize(
    ("kind", "facts", "field"),
    [
        (K.REPAIRED, {"reply": "a"}, "reply"),
        (K.REMOVED, {"contested": True}, "contested"),
        (K.STAYED, {"until_date": "2026-2-1"}, "until_date"),
        (K.NOTICED, {"notice": InstrumentNotice.ALTERED, "instrument_date": "2026-02-30"}, "instrument_date"),
        (K.OBJECTION_CLOSED, {"reply": "a\0"}, "reply"),
    ],
)
def test_an_event_takes_only_what_its_kind_says(kind: EventKind, facts: dict[str, Any], field: str) -> None:
    with pytest.raises(Refused) as error:
        detail(kind, EventFacts(**facts))
    assert error.value.metadata["field"] == field


def _numbers(count: DutyCount) -> tuple[int, int, int, int]:
    return count.open, count.overdue, count.provisional, count.late
