"""An answer leaves only on what still stands: whatever is committed, or begins, while its record is on its way."""

import asyncio
import dataclasses
import datetime
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from lanjie.v1 import screening_pb2 as pb
from lanjie_gateway.adapters.index import TableIndex
from lanjie_gateway.adapters.segments import SegmentWriter, read_records
from lanjie_gateway.api.screening import ScreeningServicer
from lanjie_gateway.domain.access import Principal, Role
from lanjie_gateway.domain.errors import Refused, Unanswerable
from lanjie_gateway.domain.grants import GrantSet
from lanjie_gateway.domain.packed import PackedListing, join, pack
from lanjie_gateway.services.access import GrantBook
from lanjie_gateway.services.screening import READS, Answer, Inquiry, Party, ScreeningService
from lanjie_matcher.catalogues import CatalogueSet
from lanjie_matcher.civil_time import SHANGHAI
from lanjie_matcher.decide import Outcome, Reason
from lanjie_matcher.fingerprints import IndexKey
from lanjie_matcher.identifiers import parse
from tests.support.catalogues import catalogues, edition, matter
from tests.support.core import listing
from tests.support.gateway import MovableClock, person
from tests.support.grants import grant
from tests.support.subjects import citizen, uscc

KEY = IndexKey(bytes(range(32)))
LATE = datetime.datetime(2026, 3, 2, 23, 59, 59, tzinfo=SHANGHAI)
SECOND = datetime.timedelta(seconds=1)
ASKER = person("inquirer", Role.INQUIRER)
ASK = Inquiry(matter="procurement.supplier", purpose="bid review")
Meanwhile = Callable[[], object]


class _Index(TableIndex):
    """Something happens while it is read."""

    meanwhile: Meanwhile = staticmethod(lambda: None)

    async def read(self, buckets: Sequence[bytes], revision: int) -> list[bytes]:
        values = await super().read(buckets, revision)
        await asyncio.sleep(0)
        self.meanwhile()
        return values


class Desk:
    """A service over an index that tests change; `syncing` happens while a record is on its way to the disk."""

    def __init__(self, directory: Path) -> None:
        self.index = _Index()
        self.grants = GrantBook()
        self.clock = MovableClock(LATE)
        self.current = True
        self.syncing: Meanwhile = lambda: None
        self.records = SegmentWriter(directory)
        self._segment = directory / f"{self.records.name}.segment"
        to_disk = self.records._sync

        def sync() -> None:
            self.syncing()
            to_disk()

        self.records._sync = sync  # type: ignore[method-assign]
        self.service = ScreeningService(
            index=self.index,
            key=KEY,
            records=self.records,
            clock=self.clock,
            current=lambda: self.current,
            ledger=lambda: ("ab" * 16, 1),
            grants=self.grants.resolve,
        )
        self.publish(catalogues())

    def commit(self, *subjects: str, **facts: Any) -> None:
        """List subjects with these facts, or take their listings out of the index where there are none."""
        revision = self.index.revision + 1
        value = join([pack(PackedListing(listing(list_type="TAX", **facts), (), None))]) if facts else b""
        self.index.stage(revision, [(KEY.token(parse(each).key), revision, value) for each in subjects])
        self.index.advance(revision, 0.0)

    def publish(self, known: CatalogueSet) -> None:
        """Publish catalogues."""
        self.index.stage_catalogues(known)
        self.index.advance(self.index.revision + 1, 0.0)

    async def check(self, subject: str, inquiry: Inquiry = ASK) -> Answer:
        """Ask one question."""
        return await self.service.check(ASKER, Party(identifier=subject), inquiry, shape=as_it_is)

    async def batch(self, *subjects: str, pinned: int = 0) -> list[Outcome]:
        """Ask many."""
        parties = [Party(identifier=each) for each in subjects]
        answers, revision = await self.service.check_batch(
            ASKER, parties, ASK, at_least_revision=0, pinned=pinned, shape=as_it_is
        )
        assert {answer.revision for answer in answers} == {revision}
        assert pinned in (0, revision)
        return [answer.ruling.outcome for answer in answers]

    def written(self) -> list[dict[str, Any]]:
        """Return the records."""
        return [json.loads(record) for record in read_records(self._segment, 0)[0]]


def as_it_is(answer: Answer) -> Answer:
    """Leave an answer in the form it has."""
    return answer


def once(act: Meanwhile) -> Meanwhile:
    """Return what does `act` the first time only."""
    left = [act]
    return lambda: left.pop()() if left else None


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    made = Desk(tmp_path)
    made.commit(uscc(1), uscc(2), reason="listed")
    return made


async def test_an_effect_that_ends_while_its_record_is_synced_does_not_leave(desk: Desk) -> None:
    desk.syncing = once(lambda: desk.commit(uscc(1)))
    answer = await desk.check(uscc(1))
    assert (answer.ruling.outcome, answer.revision) == (Outcome.PASS, desk.index.revision)
    first, second = desk.written()
    assert (first["outcome"], "replaces" in first) == ("INTERCEPT", False)
    assert (second["outcome"], second["replaces"], second["id"]) == ("PASS", first["id"], answer.decision_id)


async def test_a_commit_about_others_changes_nothing(desk: Desk) -> None:
    desk.syncing = once(lambda: desk.commit(uscc(2)))
    answer = await desk.check(uscc(1))
    assert (answer.ruling.outcome, answer.revision) == (Outcome.INTERCEPT, desk.index.revision - 1)
    assert len(desk.written()) == 1


async def test_a_commit_that_is_not_yet_readable_ends_nothing_and_repeats_nothing(desk: Desk) -> None:
    revision = desk.index.revision
    desk.syncing = lambda: desk.index.stage(revision + 1, [(KEY.token(parse(uscc(1)).key), revision + 1, b"")])
    assert (await desk.check(uscc(1))).ruling.outcome is Outcome.INTERCEPT
    assert len(desk.written()) == 1


async def test_an_edition_that_takes_the_measure_away_is_heard_in_flight(desk: Desk) -> None:
    desk.syncing = once(lambda: desk.publish(catalogues(edition(measures=()))))
    assert (await desk.check(uscc(1))).ruling.outcome is Outcome.PASS


async def test_a_pass_does_not_leave_after_a_listing_that_came_while_the_index_was_read(desk: Desk) -> None:
    desk.index.meanwhile = once(lambda: desk.commit(uscc(3), reason="listed meanwhile"))
    answer = await desk.check(uscc(3))
    assert (answer.ruling.outcome, answer.revision) == (Outcome.INTERCEPT, desk.index.revision)
    assert len(desk.written()) == 1


@pytest.mark.parametrize("place", ["syncing", "index.meanwhile"])
async def test_a_list_that_never_stands_still_gives_no_answer(desk: Desk, place: str) -> None:
    times = iter(range(100))
    target = desk.index if place.startswith("index") else desk
    setattr(target, place.rpartition(".")[2], lambda: desk.commit(uscc(1), reason=f"listed {next(times)}"))
    with pytest.raises(Unanswerable) as caught:
        await desk.check(uscc(1))
    assert caught.value.reason == "INDEX_UNAVAILABLE"
    assert next(times) == READS


async def test_a_worker_that_is_cut_off_while_a_record_is_synced_does_not_answer(desk: Desk) -> None:
    desk.syncing = lambda: setattr(desk, "current", False)
    with pytest.raises(Unanswerable) as caught:
        await desk.check(uscc(1))
    assert caught.value.reason == "NOT_CURRENT"


async def test_an_effect_of_yesterday_does_not_leave_today(desk: Desk) -> None:
    desk.commit(uscc(1), expires_on=LATE.date())
    desk.syncing = once(lambda: setattr(desk.clock, "at", LATE + SECOND))
    answer = await desk.check(uscc(1))
    assert (answer.ruling.outcome, answer.as_of) == (Outcome.PASS, LATE + SECOND)
    assert [record.get("replaces") for record in desk.written()] == [None, desk.written()[0]["id"]]


async def test_a_pass_of_yesterday_does_not_leave_today(desk: Desk) -> None:
    desk.commit(uscc(1), listed_on=LATE.date() + datetime.timedelta(days=1))
    desk.index.meanwhile = once(lambda: setattr(desk.clock, "at", LATE + SECOND))
    assert (await desk.check(uscc(1))).ruling.outcome is Outcome.INTERCEPT


async def test_a_question_about_the_past_does_not_mind_midnight(desk: Desk) -> None:
    desk.publish(catalogues(edition(matters=(matter(as_of_allowed=True),))))
    desk.commit(uscc(1), expires_on=LATE.date())
    desk.syncing = once(lambda: setattr(desk.clock, "at", LATE + SECOND))
    inquiry = Inquiry(matter="procurement.supplier", purpose="bid review", as_of=LATE)
    assert (await desk.check(uscc(1), inquiry)).ruling.outcome is Outcome.INTERCEPT


@pytest.mark.parametrize(
    "facts",
    [
        {"removed_at": LATE},
        {"repaired_at": LATE},
        {"revoked_at": LATE},
        {"stays": ((LATE, None),)},
    ],
)
async def test_a_clock_behind_that_of_the_host_that_took_the_event_does_not_revive_it(
    desk: Desk, facts: dict[str, Any]
) -> None:
    desk.commit(uscc(1), **facts)
    desk.clock.at = LATE - 3 * SECOND
    answer = await desk.check(uscc(1))
    assert (answer.ruling.outcome, answer.as_of) == (Outcome.PASS, LATE)


# A batch on one revision.


async def test_a_pinned_batch_does_not_repeat_what_has_ended_since(desk: Desk) -> None:
    pinned = desk.index.revision
    assert await desk.batch(uscc(1), uscc(3)) == [Outcome.INTERCEPT, Outcome.PASS]
    desk.commit(uscc(2))
    with pytest.raises(Refused) as caught:
        await desk.batch(uscc(2), uscc(4), pinned=pinned)
    assert caught.value.reason == "REVISION_COMPACTED"
    assert await desk.batch(uscc(1), uscc(4), pinned=pinned) == [Outcome.INTERCEPT, Outcome.PASS]
    assert await desk.batch(uscc(2), uscc(4)) == [Outcome.PASS, Outcome.PASS]
    # What was refused before it was judged leaves no record.
    assert len(desk.written()) == 6


async def test_a_pinned_batch_is_refused_when_its_effect_ends_while_it_is_synced(desk: Desk) -> None:
    pinned = desk.index.revision
    desk.syncing = once(lambda: desk.commit(uscc(1)))
    with pytest.raises(Refused) as caught:
        await desk.batch(uscc(1), uscc(4), pinned=pinned)
    assert caught.value.reason == "REVISION_COMPACTED"


async def test_a_pinned_batch_is_refused_after_a_publication(desk: Desk) -> None:
    pinned = desk.index.revision
    desk.publish(catalogues(edition(measures=())))
    with pytest.raises(Refused) as caught:
        await desk.batch(uscc(1), pinned=pinned)
    assert caught.value.reason == "REVISION_COMPACTED"


async def test_absence_at_a_pinned_revision_is_a_pass(desk: Desk) -> None:
    pinned = desk.index.revision
    desk.commit(uscc(4), reason="listed later")
    assert await desk.batch(uscc(1), uscc(4), pinned=pinned) == [Outcome.INTERCEPT, Outcome.PASS]
    assert await desk.batch(uscc(1), uscc(4)) == [Outcome.INTERCEPT, Outcome.INTERCEPT]


async def test_a_first_part_is_judged_anew_as_a_whole(desk: Desk) -> None:
    desk.syncing = once(lambda: desk.commit(uscc(2)))
    outcomes = await desk.batch(uscc(1), "uscc:nonsense", uscc(2))
    assert outcomes == [Outcome.INTERCEPT, Outcome.UNDETERMINED, Outcome.PASS]
    written = desk.written()
    assert [record.get("replaces") for record in written[3:]] == [record["id"] for record in written[:3]]


async def test_a_pinned_part_over_midnight_is_judged_anew_on_its_revision(desk: Desk) -> None:
    desk.commit(uscc(1), expires_on=LATE.date())
    pinned = desk.index.revision
    desk.syncing = once(lambda: setattr(desk.clock, "at", LATE + SECOND))
    assert await desk.batch(uscc(1), pinned=pinned) == [Outcome.PASS]


async def test_persons_of_a_batch_are_not_looked_up_where_the_matter_takes_no_files_of_persons(desk: Desk) -> None:
    one = citizen(7)
    desk.commit(one, reason="listed")
    assert await desk.batch(one, uscc(1), uscc(9)) == [Outcome.UNDETERMINED, Outcome.INTERCEPT, Outcome.PASS]
    (alone, *_) = desk.written()
    assert (alone["reason"], "measures" in alone, "listings" in alone) == ("PERSON_FILE", False, False)
    assert (await desk.check(one)).ruling.outcome is Outcome.INTERCEPT
    desk.publish(catalogues(edition(matters=(matter(person_files=True),))))
    assert await desk.batch(one, uscc(9)) == [Outcome.INTERCEPT, Outcome.PASS]


async def test_what_may_be_asked_in_bulk_and_what_is_to_be_stated_is_a_matter_of_now(desk: Desk) -> None:
    before = edition(matters=(matter(person_files=True, as_of_allowed=True),))
    wants = matter(case_no_required=True, as_of_allowed=True)
    after = edition(edition="2026b", effective_from=datetime.date(2026, 3, 1), matters=(wants,))
    desk.publish(catalogues(before, after))
    desk.commit(citizen(7), reason="listed")
    then = dataclasses.replace(ASK, as_of=datetime.datetime(2026, 2, 27, tzinfo=SHANGHAI))
    with pytest.raises(Refused) as refused:
        await desk.check(citizen(7), then)
    assert refused.value.metadata["field"] == "case_no"
    told, parties = dataclasses.replace(then, case_no="A-1"), [Party(identifier=citizen(7))]
    (answer,), _ = await desk.service.check_batch(ASKER, parties, told, at_least_revision=0, pinned=0, shape=as_it_is)
    assert answer.ruling.reason is Reason.PERSON_FILE


@pytest.mark.parametrize("purpose", ["", " \u3000", "x" * 201])
async def test_art24_the_gateway_itself_wants_a_purpose_whatever_client_asks(desk: Desk, purpose: str) -> None:
    with pytest.raises(Refused) as refused:
        await desk.check(uscc(1), dataclasses.replace(ASK, purpose=purpose))
    assert refused.value.metadata["field"] == "purpose"
    assert not desk.written()


async def test_no_record_of_a_batch_names_a_person_of_it(desk: Desk) -> None:
    person, unread = citizen(7), f"{citizen(8)}9"
    names = {uscc(9): "示例公司", person: "欧阳示例", unread: "司徒示例"}
    parties = [Party(identifier=each, name=name) for each, name in names.items()]
    purpose = f"核验示例公司、欧阳示例 {person.rpartition(':')[2]}、司徒示例"
    asked = dataclasses.replace(ASK, purpose=purpose, case_no="欧阳示例案")
    await desk.service.check_batch(ASKER, parties, asked, at_least_revision=0, pinned=0, shape=as_it_is)
    told = {(each["purpose"], each["case_no"]) for each in desk.written()}
    number = person.rpartition(":")[2]
    assert told == {(f"核验示例公司、欧*** {number[0]}{'*' * 16}{number[-1]}、司***", "欧***案")}


async def test_a_grant_that_is_lost_while_a_record_is_synced_gets_no_answer(desk: Desk) -> None:
    asker = Principal(department="housing", person="p", roles=frozenset({Role.INQUIRER}), region="320100")
    desk.grants.take(GrantSet.made([grant()], 1))
    answer = await desk.service.check(asker, Party(identifier=uscc(1)), ASK, shape=as_it_is)
    assert answer.ruling.outcome is Outcome.INTERCEPT
    desk.syncing = once(lambda: desk.grants.take(GrantSet.made((), 2)))
    with pytest.raises(Refused) as refused:
        await desk.service.check(asker, Party(identifier=uscc(1)), ASK, shape=as_it_is)
    assert refused.value.reason == "NOT_PERMITTED"


def test_a_context_that_no_question_can_have_is_not_remembered(desk: Desk) -> None:
    async def draw(asker: Principal, officer: str, checks: int) -> None: ...

    servicer = ScreeningServicer(desk.service, lambda _: pb.DiscoverResponse(), draw)
    longest = pb.InquiryContext(matter="m" * 64, purpose="查" * 200, case_no="案" * 64, role="r" * 64)
    longest.officer.officer_id, longest.officer.signature = "号" * 64, b"s" * 64
    assert servicer._inquiry(longest) is servicer._inquiry(longest)
    for number in range(3):
        servicer._inquiry(pb.InquiryContext(purpose=f"{number}" * 60_000))
    assert len(servicer._inquiries) == 1
