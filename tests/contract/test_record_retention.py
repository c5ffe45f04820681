"""What records say is erased at the end of their retention, once, with a record of it, and the tree stays whole."""

import asyncio
import datetime
import functools
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from lanjie_gateway.adapters.ledger import InquiryRow, Ledger, LedgerThread, ending, tree
from lanjie_gateway.adapters.ledger.tables import (
    ALERT,
    AUTHORISATION,
    AUTHORISATION_USE,
    CLOSED_CASE,
    COMPLAINT,
    FEEDBACK,
    INQUIRY,
    WATCH,
)
from lanjie_gateway.adapters.record_files import RecordFiles
from lanjie_gateway.domain.access import Role
from lanjie_gateway.domain.authorisations import Authorisation, Wanted
from lanjie_gateway.domain.complaints import Complaint, ComplaintOutcome
from lanjie_gateway.domain.feedback import Disposition, Report, Settled
from lanjie_gateway.domain.record_retention import ERASED, ERASURE, Periods, Rule
from lanjie_gateway.domain.verification import Fault
from lanjie_gateway.services.retention import ArchiveHead, RetentionService
from tests.support.ledger import NOON, Clock, open_ledger, person
from tests.support.tampering import SEGMENT, record, verify

PERIODS = Periods(person_passes=180, passes=200, effects=400, rights=500)
SECRET = "case-of-nobody"
AGENCY = person("agency", Role.AGENCY)
PERSON = {"id_kind": "citizen", "case_no": SECRET}
EFFECT = {
    "outcome": "INTERCEPT",
    "measures": ["N-1"],
    "bearers": [["000000000000000a"]],
    "listings": ["000000000000000a"],
}
KINDS: tuple[tuple[Rule, dict[str, Any]], ...] = (
    (Rule.PERSON_PASSES, PERSON),
    (Rule.PASSES, {"id_kind": "uscc", "case_no": SECRET}),
    (Rule.PASSES, {**PERSON, "listings": ["000000000000000a"]}),
    (Rule.PASSES, {"kind": "local", "spool": "ab" * 16, "case_no": SECRET}),
    (Rule.EFFECTS, {**PERSON, **EFFECT}),
    (Rule.EFFECTS, {**PERSON, "outcome": "UNDETERMINED", "reason": "FACTS_MISSING"}),
    (Rule.EFFECTS, {"kind": "explain", "outcome": "EXPLAINED", "case_no": SECRET}),
)


class Host:
    """A ledger in its thread, with the job."""

    def __init__(self, state: Path, clock: Clock, url: str) -> None:
        self.state, self.clock, self.url = state, clock, url
        self.thread = LedgerThread(lambda: open_ledger(state, clock, url))

    def job(self, **options: Any) -> RetentionService:
        return RetentionService(self.thread, PERIODS, self.clock, functools.partial(self.call, self._sign), **options)

    async def call(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        return await self.thread.call(function, *arguments, **named)

    async def fill(self, *fields: dict[str, Any], first: int = 1) -> None:
        rows = []
        for number, each in enumerate(fields, first):
            made = json.loads(record(number, **each))
            if each.get("kind") == "local":
                made["id"] = f"{made['spool'][:12]}-{number}"
            rows.append(InquiryRow.of(json.dumps(made, sort_keys=True, separators=(",", ":")).encode()))
        for row in rows:
            source = "sdk-" + "ab" * 16 if row.kind == "local" else SEGMENT
            await self.call(Ledger.add_inquiries, source, row.sequence, [row])
        await self.call(self._sign)

    async def ended(self, **options: Any) -> dict[str, tuple[int, int]]:
        return {each.rule: (each.count, each.held) for each in await self.job(**options).run()}

    async def rows(self, query: Any) -> list[Any]:
        def read(connection: sa.Connection) -> list[Any]:
            return list(connection.execute(query).all())

        found: list[Any] = await self.call(Ledger.in_tree, read)
        return found

    async def write(self, statement: Any) -> None:
        def do(connection: sa.Connection) -> None:
            connection.execute(statement)

        await self.call(Ledger.in_tree, do)

    async def verified(self) -> Any:
        await self.call(self._sign)
        return await self.call(lambda ledger: verify(self.url, self.state, ledger))

    def _sign(self, ledger: Ledger) -> None:
        files, size = RecordFiles(self.state), ledger.tree().size
        if note := ledger.checkpoint():
            files.add_digests(ledger.in_tree(functools.partial(tree.digests, start=files.written, end=size)))
            files.add_notes([note])


@pytest.fixture
async def host(tmp_path: Path, ledger_url: str) -> AsyncIterator[Host]:
    made = Host(tmp_path, Clock(), ledger_url)
    await made.thread.start()
    yield made
    await made.thread.close()


async def test_each_rule_ends_its_own_and_the_tree_stays_whole(host: Host, tmp_path: Path) -> None:
    await host.fill(*(fields for _, fields in KINDS))
    places = {rule: {n for n, (of, _) in enumerate(KINDS) if of is rule} for rule in Rule}
    gone: set[int] = set()
    for days, rule, held in ((180, Rule.PERSON_PASSES, 0), (200, Rule.PASSES, 0), (400, Rule.EFFECTS, 1)):
        for over in (0, 1):
            # A whole day: the day on which it came counts from its end.
            host.clock.now = NOON + datetime.timedelta(days=days + over)
            looked = [each async for each in host.job().end(AGENCY, dry=True)][-1]
            done = await host.ended()
            assert {each.rule: (each.count, each.held) for each in looked} == done
            assert done[rule] == ((len(places[rule]) - held, held) if over else (0, 0)), (days, over)
        gone |= places[rule]
        report = await host.verified()
        assert (report.findings, report.erased) == ((), len(gone) - held)
    (kept,) = (
        each.tree_index
        for each in await host.rows(sa.select(INQUIRY).where(INQUIRY.c.record != b""))
        if each.tree_index < 7
    )
    assert kept == 4, "its feedback is open"
    # What was told ends it the next time; dispositions stay for statistics.
    (asked,) = await host.call(Ledger.feedback_of, f"{SEGMENT}-5")
    own = InquiryRow.of(record(90, kind="feedback", outcome="FEEDBACK"))
    told = Report(officer="0042", applied=frozenset(["N-1"]), confirmed_by="0043", confirmed_at=NOON)
    settled = Settled(asked=asked, report=told, disposition=Disposition.APPLIED, repeated=False, alarms=())
    await host.call(Ledger.take_feedback, [settled], SEGMENT, own)
    assert (await host.ended())[Rule.EFFECTS] == (1, 0)
    (left,) = await host.rows(sa.select(FEEDBACK))
    assert (left.listing_id, left.disposition, left.told["applied"]) == ("erased-0", "applied", ["N-1"])
    assert "004" not in json.dumps(left.told)
    assert left.told_at - left.decided_at == (own.decided_at - asked.decided_at) // datetime.timedelta(microseconds=1)
    assert (await host.verified()).sound
    for row in (await host.rows(sa.select(INQUIRY).order_by(INQUIRY.c.tree_index)))[:7]:
        assert (row.record, row.subject_token, row.matter, row.outcome) == (b"", b"", "", ERASED)
        assert (row.department, row.decided_at % 86_400_000_000) == ("tax", 16 * 3_600_000_000), "00:00 in Shanghai"
    told_of = await host.rows(sa.select(INQUIRY.c.record).where(INQUIRY.c.kind == ERASURE))
    assert sum(json.loads(each.record)["count"] for each in told_of) == 7
    if host.url.startswith("sqlite"):
        assert await asyncio.to_thread(_holding, tmp_path, SECRET) == []
    # A segment that is read again, or a spool that is sent again, brings nothing back.
    size = (await host.call(Ledger.tree)).size
    await host.fill(*(fields for _, fields in KINDS))
    assert (await host.call(Ledger.tree)).size == size


async def test_nothing_is_erased_that_is_not_as_it_was_kept(host: Host) -> None:
    await host.fill(PERSON, PERSON, PERSON)
    wrong: dict[int, dict[str, Any]] = {0: {"record": b'{"id":"abcdefabcdef-1"}'}, 1: {"department": "police"}}
    for place, values in wrong.items():
        await host.write(INQUIRY.update().where(INQUIRY.c.tree_index == place).values(values))
    host.clock.pass_by(days=500)
    for _ in range(2):
        done = await host.ended()
        assert done[Rule.PERSON_PASSES][1] == 2
    assert [(each.index, each.fault) for each in (await host.verified()).findings] == [
        (0, Fault.ALTERED),
        (1, Fault.ALTERED),
    ]


async def test_what_is_blanked_without_a_record_is_named(host: Host) -> None:
    await host.fill(*[PERSON] * 5)
    host.clock.pass_by(days=181)
    await host.ended()
    await host.fill(*[PERSON] * 3, first=6)
    blank = {"record": b"", "subject_token": b"", "matter": "", "outcome": ERASED}
    await host.write(INQUIRY.update().where(INQUIRY.c.tree_index == 7).values(blank))
    (found,) = (await host.verified()).findings
    assert (found.index, found.last, found.fault) == (7, 7, Fault.ERASED)
    # A false record of an erasure does not help: a checkpoint says that the record is younger.
    forged = {"kind": ERASURE, "outcome": ERASED, "erased": [[7, 8]], "subject": ""}
    later = json.loads(record(9, **forged)) | {"at": "2036-01-01T00:00:00+00:00"}
    row = InquiryRow.of(json.dumps(later, sort_keys=True, separators=(",", ":")).encode())
    await host.call(Ledger.add_inquiries, SEGMENT, 9, [row])
    (found,) = (await host.verified()).findings
    assert (found.index, found.fault, "180 days" in found.text) == (7, Fault.ERASED, True)


async def test_an_interrupted_run_has_told_what_it_erased(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "SLICE", 4)
    await host.fill(*[PERSON] * 30)
    host.clock.pass_by(days=181)
    job, told = host.job(), 0
    made = job._records.make

    def breaks(*arguments: Any, **named: Any) -> InquiryRow:
        nonlocal told
        told += 1
        if told == 4:
            raise OSError("no room")
        return made(*arguments, **named)

    monkeypatch.setattr(job._records, "make", breaks)
    with pytest.raises(OSError, match="no room"):
        await job.run()
    report = await host.verified()
    assert (report.findings, report.erased) == ((), 12)
    assert (await host.ended())[Rule.PERSON_PASSES] == (18, 0)
    assert (await host.ended())[Rule.PERSON_PASSES] == (0, 0)
    report = await host.verified()
    assert (report.findings, report.erased) == ((), 30)


async def test_two_hosts_erase_each_record_once(
    tmp_path: Path, shared_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending, "SLICE", 5)
    hosts = [Host(tmp_path, Clock(), shared_url) for _ in range(2)]
    for each in hosts:
        await each.thread.start()
    await hosts[0].fill(*[PERSON] * 60)
    for each in hosts:
        each.clock.pass_by(days=181)
    done = await asyncio.gather(*(each.ended() for each in hosts))
    assert sum(each[Rule.PERSON_PASSES][0] for each in done) == 60
    told = await hosts[0].rows(sa.select(INQUIRY.c.record).where(INQUIRY.c.kind == ERASURE))
    places = [place for each in told for a, b in json.loads(each.record)["erased"] for place in range(a, b)]
    assert sorted(places) == list(range(60))
    assert (await hosts[1].verified()).sound
    for each in hosts:
        await each.thread.close()


async def test_only_what_an_archive_holds_is_erased_where_that_is_asked_for(host: Host) -> None:
    await host.fill(*[PERSON] * 4)
    host.clock.pass_by(days=181)
    job = host.job(archived_only=True)
    (first, *_) = await job.run()
    assert (first.count, first.unarchived) == (0, 4)
    head, *pages = [each async for each in job.archive(AGENCY, "by law", None, None)]
    assert isinstance(head, ArchiveHead)
    assert (head.start, [each.index for page in pages if isinstance(page, list) for each in page]) == (0, [0, 1, 2, 3])
    assert (await job.archived(AGENCY, "by law", 0, 3, b"s" * 32))[0] == 3
    with pytest.raises(Exception, match="goes on where"):
        await job.archived(AGENCY, "by law", 4, 5, b"s" * 32)
    (first, *_) = await job.run()
    assert (first.count, first.unarchived) == (3, 1)
    assert await job.status() == (0, 3)


async def test_what_subjects_allowed_and_complained_of_ends_and_open_complaints_hold(host: Host) -> None:
    await host.fill(PERSON)
    about: dict[str, Any] = {"subject": b"s" * 16, "identifier": "uscc:x", "received_by": "a", "received_at": NOON}
    for text in (f"decision:{SEGMENT}-1", "department:tax"):
        await host.call(Ledger.add_complaint, Complaint(**about, about=text, text="t"))
    closing: dict[str, Any] = {"outcome": ComplaintOutcome.UNFOUNDED, "reply": "r", "closed_by": "a", "closed_at": NOON}
    await host.call(Ledger.close_complaint, Complaint(**about, id="c2", about="department:tax", text="t", **closing))
    day = NOON.date()
    ids = ("old", "new")
    for number, name in enumerate(ids):
        one: dict[str, Any] = {"department": "tax", "subject": b"s" * 16, "identifier": "uscc:x", "matters": ("m",)}
        last = day + datetime.timedelta(days=300 * number)
        document: dict[str, Any] = {"document_no": name, "document_date": day, "document_sha256": name.encode() * 10}
        new = Authorisation(
            **one, **document, id=name, purpose="p", valid_until=last, registered_at=NOON, registered_by="a"
        )
        await host.call(Ledger.register_authorisation, new)
        using: dict[str, Any] = {"authorisation": name, "request": "r", "department": "tax", "subject": b"s" * 16}
        assert await host.call(Ledger.consume_authorisation, Wanted(**using, person="a", matter="m", purpose="p"))
    await host.call(Ledger.close_case, "tax", "m", "C-1", "a")
    watch: dict[str, Any] = {
        "department": "tax",
        "id_kind": "uscc",
        "subject_token": b"s" * 16,
        "bucket": b"b" * 16,
        "sealed": b"s",
    }
    watch |= {"wrapped_key": b"w", "matter": "m", "case_no": "", "asked": {}, "purpose": "p", "from_on": 1}
    watch |= {"until_on": day.toordinal(), "made_at": 1, "actor": "a", "looked": True}
    for _ in ids:
        await host.write(WATCH.insert().values(watch))
    alert: dict[str, Any] = dict.fromkeys(
        ("decision_id", "matter", "case_no", "list_type", "authority", "decision_no"), ""
    )
    alert |= {"department": "tax", "number": 1, "kind": "k", "watch_id": 1, "bucket": b"", "listing_id": 1}
    alert |= {"outcome_before": "PASS", "outcome": "ADVISE", "objection": False, "revision": 1, "made_at": 1}
    await host.write(ALERT.insert().values(alert))

    host.clock.pass_by(days=500)
    assert (await host.ended())["rights"] == (0, 0)
    host.clock.pass_by(days=1)
    (*_, dry) = [each async for each in host.job().end(AGENCY, dry=True)][-1]
    done = await host.job().run()
    assert dry.kinds == done[-1].kinds == {"authorisations": 1, "complaints": 1, "watches": 1, "cases": 1}
    assert (done[0].count, done[0].held) == (0, 1), "a complaint about the answer is open"
    for table, names in ((AUTHORISATION, ["new"]), (AUTHORISATION_USE, ["new"]), (COMPLAINT, [1]), (CLOSED_CASE, [])):
        assert [row[0] for row in await host.rows(sa.select(table))] == names
    assert [row.id for row in await host.rows(sa.select(WATCH))] == [1], "an alert of it is kept"
    (told,) = await host.rows(sa.select(INQUIRY.c.record).where(INQUIRY.c.kind == ERASURE))
    assert json.loads(told.record)["rows"] == dict(done[-1].kinds)


def _holding(directory: Path, text: str) -> list[str]:
    return [file.name for file in directory.glob("ledger.sqlite3*") if text.encode() in file.read_bytes()]
