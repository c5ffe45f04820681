"""Acts of two persons: nothing works before the second one, and then exactly what the first one proposed."""

import datetime
from collections.abc import Callable

import pytest

from lanjie_gateway.adapters.ledger import Ledger, StoredListing
from lanjie_gateway.domain.access import Role
from lanjie_gateway.domain.corrections import corrected
from lanjie_gateway.domain.errors import Refused
from lanjie_gateway.domain.events import BURDENS, Act, EventKind
from lanjie_gateway.domain.import_rules import FileFormat, ImportState
from lanjie_gateway.domain.list_file import ListingDraft
from lanjie_matcher.identifiers import parse
from tests.support.core import uscc
from tests.support.ledger import cells, csv_file, desk, jsonl_file, open_ledger, person, receipt, stage, take

ANNA, BERT = person("anna"), person("bert")
WHY = ("示例理由", "示例〔2026〕9号", "")


@pytest.fixture
async def at(tmp_path):
    async with desk(tmp_path) as made:
        yield made


@pytest.fixture
async def on_either(tmp_path, ledger_url):
    """The same on each database."""
    async with desk(tmp_path, url=ledger_url) as made:
        yield made


@pytest.mark.parametrize("changes", [{"id_number": uscc(7)}, {"name": "示例企业新名"}, {"related_persons": "某甲"}])
async def test_a_correction_of_what_is_sealed_outdates_what_waits(on_either, changes):
    at = on_either
    row = cells(1, source_record_id="1")
    await at.take(csv_file([row, *(cells(n) for n in range(100, 200))]))
    listing = (await one(at)).listing.id
    act = await propose(at, EventKind.AMENDED, {"reason": "更正"})
    assert (await at.take(csv_file([{**row, **changes}]))).counts.amended == 1
    await refused(at.waiting.confirm(act.id, BERT), "IMPORT_OUTDATED")
    stood = (await at.listings.get(listing, "test", BERT))[0]
    act = await propose(at, EventKind.AMENDED, {"reason": "更正"}, listing=listing)
    await at.waiting.confirm(act.id, BERT)
    view = (await at.listings.get(listing, "test", BERT))[0]
    assert (view.masked_identifiers, view.name, view.related_persons) == (
        *(stood.masked_identifiers, stood.name, stood.related_persons),
    )


async def test_a_reinstatement_or_the_end_of_a_stay_is_of_the_end_or_stay_that_was_there(on_either):
    at = on_either
    await at.take(csv_file([cells(1), cells(2)]))
    first, second = (await one(at, 1)).listing.id, (await one(at, 2)).listing.id
    await at.listings.remove(first, "r", "d", "", ANNA)
    back = await propose(at, EventKind.REINSTATED, listing=first)
    mark = {**_order(), "kind": EventKind.OBJECTION_OPENED}
    await at.listings.record_event(first, **mark)
    assert (await at.waiting.confirm(back.id, BERT)).state == "confirmed"  # a mark changes nothing
    at.clock.pass_by(minutes=1)
    await at.listings.remove(first, "r", "d", "", ANNA)
    back = await propose(at, EventKind.REINSTATED, listing=first)
    await at.listings.record_event(first, EventKind.REVOKED, **_order())
    await refused(at.waiting.confirm(back.id, BERT), "IMPORT_OUTDATED")
    assert (await one(at, 1)).not_in_force == "removed"

    await at.listings.record_event(second, EventKind.STAYED, **_order())
    lift, again = [await propose(at, EventKind.STAY_LIFTED, listing=second) for _ in range(2)]
    await at.waiting.confirm(lift.id, BERT)
    at.clock.pass_by(minutes=1)
    await at.listings.record_event(second, EventKind.STAYED, **_order())
    await refused(at.waiting.confirm(again.id, BERT), "IMPORT_OUTDATED")
    assert (await one(at, 2)).not_in_force == "stayed"


async def test_absence_from_a_list_that_waited_ends_nothing_that_was_corrected_meanwhile(on_either):
    at = on_either
    await at.take(csv_file([cells(n) for n in range(1, 5)]))
    waiting = await at.full(csv_file([cells(3), cells(4)]))
    assert (waiting.state, waiting.counts.absent) == (ImportState.WAITING, 2)
    act = await propose(at, EventKind.AMENDED, {"reason": "更正"})
    await at.waiting.confirm(act.id, BERT)
    done = await at.imports.confirm(waiting.receipt_id, BERT)
    assert (done.state, done.counts.absent) == (ImportState.COMMITTED, 1)
    assert [(await one(at, n)).not_in_force for n in (1, 2, 3)] == ["", "removed", ""]


async def enter(at, *rows, **order):
    return await at.take(jsonl_file(rows), format=FileFormat.JSONL, **order)


async def one(at, number=1):
    (view,) = await at.find(number)
    return view


async def propose(at, kind, corrections=None, *, listing="", grounds=WHY):
    at.clock.pass_by(minutes=1)
    listing = listing or (await one(at)).listing.id
    return await at.waiting.propose(listing, at.listings.act(kind, grounds, ANNA), corrections or {}, ANNA)


async def refused(call, reason):
    with pytest.raises(Refused) as error:
        await call
    assert error.value.reason == reason


async def test_a_correction_works_when_another_person_confirms_it(on_either):
    at = on_either
    await at.take(csv_file([cells(1, reason="示例")]))
    act = await propose(at, EventKind.AMENDED, {"reason": "更正", "expires_on": "2026-12-31"})
    assert act.state == "waiting"
    assert at.published == [1]
    before = await one(at)
    assert (before.listing.reason, before.listing.expires_on) == ("示例", None)
    _, after = await at.waiting.show(act.id, BERT)
    assert (after.packed.listing.reason, str(after.packed.listing.expires_on)) == ("更正", "2026-12-31")
    await refused(at.waiting.confirm(act.id, ANNA), "SECOND_PERSON_REQUIRED")
    await refused(at.waiting.confirm(act.id, person("ina", Role.INQUIRER)), "NOT_PERMITTED")
    done = await at.waiting.confirm(act.id, BERT)
    assert (done.state, done.revision, done.settled_by) == ("confirmed", 2, "tax/bert")
    assert at.published == [1, 2]
    view, events = await at.listings.get(before.listing.id, "test", BERT)
    assert (view.listing.reason, str(view.listing.expires_on)) == ("更正", "2026-12-31")
    assert view.masked_identifiers == before.masked_identifiers
    assert view.name == before.name
    assert [(each.kind, each.actor, each.second) for each in events] == [
        (EventKind.LISTED, "tax/anna", ""),
        (EventKind.AMENDED, "tax/anna", "tax/bert"),
    ]
    # Sent again, it is the same confirmation.
    assert (await at.waiting.confirm(act.id, BERT)).revision == 2
    assert (await at.waiting.show(act.id, BERT))[1] is None
    assert await at.waiting.all(BERT) == []


@pytest.mark.parametrize("kind", sorted(BURDENS))
async def test_one_person_cannot_put_a_burden_on_a_subject(at, kind):
    await at.take(csv_file([cells(1)]))
    grounds = {"reason": "r", "document": "d", "effective_date": "", "principal": ANNA}
    await refused(at.listings.record_event((await one(at)).listing.id, kind, **grounds), "ARGUMENT_INVALID")


async def test_what_could_not_be_recorded_now_is_refused_now(at):
    await at.take(csv_file([cells(1)]))
    await refused(propose(at, EventKind.REINSTATED), "TRANSITION_ILLEGAL")
    await refused(propose(at, EventKind.STAY_LIFTED), "TRANSITION_ILLEGAL")
    await refused(propose(at, EventKind.AMENDED), "ARGUMENT_INVALID")
    await refused(propose(at, EventKind.AMENDED, {"reason": "x"}, listing="0" * 16), "NOT_FOUND")
    await at.record((await one(at)).listing.id, EventKind.REPAIRED, **_order())
    await refused(propose(at, EventKind.AMENDED, {"reason": "x"}), "TRANSITION_ILLEGAL")
    await refused(propose(at, EventKind.REINSTATED, {"reason": "x"}), "ARGUMENT_INVALID")
    assert await at.waiting.all(ANNA) == []


async def test_a_reinstatement_that_was_overtaken_is_refused_and_goes_on_waiting(on_either):
    at = on_either
    await at.take(csv_file([cells(1)]))
    listing = (await one(at)).listing.id
    await at.record(listing, EventKind.REPAIRED, **_order())
    act = await propose(at, EventKind.REINSTATED)
    await at.record(listing, EventKind.ANNULLED, **_order())
    await refused(at.waiting.confirm(act.id, BERT), "TRANSITION_ILLEGAL")
    assert [each.id for each in await at.waiting.all(BERT)] == [act.id]
    declined = await at.waiting.decline(act.id, "annulled meanwhile", ANNA)
    assert (declined.state, declined.settled_by) == ("declined", "tax/anna")
    await refused(at.waiting.confirm(act.id, BERT), "IMPORT_OUTDATED")
    await refused(at.waiting.decline(act.id, "again", BERT), "IMPORT_OUTDATED")
    await refused(at.waiting.confirm("p999999", BERT), "NOT_FOUND")


async def test_a_reinstatement_works_from_its_own_date(at):
    await at.take(csv_file([cells(1)]))
    listing = (await one(at)).listing.id
    await at.record(listing, EventKind.REPAIRED, **_order())
    at.clock.pass_by(days=5)
    act = await propose(at, EventKind.REINSTATED, grounds=(*WHY[:2], "2026-11-05"))
    assert (await one(at)).not_in_force == "repaired"
    await at.waiting.confirm(act.id, BERT)
    view = await one(at)
    assert view.not_in_force == ""
    assert view.listing.reinstated_at == datetime.datetime(2026, 11, 4, 16, tzinfo=datetime.UTC)


async def test_a_correction_of_facts_that_changed_since_is_outdated_and_events_do_not_outdate_it(at):
    await at.take(csv_file([cells(1, source_record_id="7")]))
    first = await propose(at, EventKind.AMENDED, {"reason": "一"})
    second = await propose(at, EventKind.AMENDED, {"basis": "二"})
    await at.record((await one(at)).listing.id, EventKind.OBJECTION_OPENED, **_order())
    await at.waiting.confirm(first.id, BERT)
    await refused(at.waiting.confirm(second.id, BERT), "IMPORT_OUTDATED")
    view = await one(at)
    assert (view.listing.reason, view.listing.basis, view.listing.objection) == ("一", "", True)


async def test_a_source_neither_writes_over_a_correction_nor_loses_its_listing(at):
    wrong, news = cells(1, reason="错"), cells(1, reason="另")
    await at.take(csv_file([wrong]))
    await at.waiting.confirm((await propose(at, EventKind.AMENDED, {"reason": "对"})).id, BERT)
    again = await at.full(csv_file([wrong]), file_name="again.csv")
    assert (again.counts.unchanged, again.counts.absent, again.counts.quarantined) == (1, 0, 0)
    other = await at.take(csv_file([news, *(cells(n) for n in range(2, 30))]))
    assert [row.rule for row in other.quarantine] == ["corrected-by-hand"]
    assert (await one(at)).listing.reason == "对"
    # Nor does what a person of it says by hand, short of the correction.
    named = await at.take(csv_file([cells(1, reason="对", related_persons="法定代表人:甲"), *map(cells, range(2, 30))]))
    assert [row.rule for row in named.quarantine] == ["corrected-by-hand"]
    gone = await at.take(csv_file([{**news, "op": "D"}]))
    assert gone.counts.removed == 1
    assert (await one(at)).not_in_force == "removed"


async def test_a_source_that_takes_a_correction_over_is_asked_about_no_more(at):
    others = [cells(number) for number in range(2, 32)]
    await at.take(csv_file([cells(1, reason="错"), *others]))
    await at.waiting.confirm((await propose(at, EventKind.AMENDED, {"reason": "对"})).id, BERT)
    taken = await at.full(csv_file([cells(1, reason="对"), *others]), file_name="taken.csv")
    assert (taken.counts.unchanged, taken.counts.quarantined, taken.state) == (31, 0, ImportState.COMMITTED)
    late = await at.take(csv_file([cells(1, reason="错"), *others]), file_name="late.csv")
    assert (late.counts.amended, (await one(at)).listing.reason) == (0, "对")
    news = await at.take(csv_file([cells(1, reason="另"), *others]))
    assert [row.rule for row in news.quarantine] == ["corrected-by-hand"]


def test_a_file_on_its_way_does_not_write_over_a_correction(tmp_path, ledger_url):
    ledger = open_ledger(tmp_path, url=ledger_url)
    try:
        take(ledger, cells(1, reason="错"))
        batch, _ = stage(ledger, cells(1, reason="另"))
        waits = ledger.park_import(receipt(batch))
        _amend(ledger, "对")
        done = ledger.commit_import(waits, "tax/bert")
        assert [row.rule for row in done.quarantine] == ["corrected-by-hand"]
        assert _stored(ledger).packed.listing.reason == "对"
    finally:
        ledger.close()


async def test_an_entry_by_hand_waits_and_is_seen_by_the_second_person_only(at):
    row = cells(1, reason="手工")
    waits = await enter(at, row, by_hand=True, strict=True)
    assert waits.state is ImportState.WAITING
    assert await at.find(1) == []
    (view,) = [at.listings.view(each, BERT) for each in await at.imports.staged(waits)]
    assert (view.listing.reason, view.name) == ("手工", row["name"])
    assert [each.receipt_id for each in await at.imports.waiting(BERT)] == [waits.receipt_id]
    await refused(at.imports.confirm(waits.receipt_id, ANNA), "SECOND_PERSON_REQUIRED")
    done = await at.imports.confirm(waits.receipt_id, BERT)
    assert done.state is ImportState.COMMITTED
    assert (await one(at)).listing.reason == "手工"
    _, events = await at.listings.get((await one(at)).listing.id, "test", BERT)
    assert (events[0].document, events[0].actor, events[0].second) == ("list.csv", "tax/anna", "tax/bert")


async def test_a_declined_import_is_never_committed_and_may_be_brought_again(on_either):
    at = on_either
    waits = await enter(at, cells(1), by_hand=True)
    declined = await at.imports.decline(waits.receipt_id, "twice", BERT)
    assert declined.state is ImportState.REFUSED
    assert "twice" in declined.reasons[-1]
    await refused(at.imports.confirm(waits.receipt_id, BERT), "IMPORT_OUTDATED")
    await refused(at.imports.decline(waits.receipt_id, "twice", BERT), "IMPORT_OUTDATED")
    assert await at.imports.waiting(BERT) == []
    again = await enter(at, cells(1), by_hand=True)
    assert again.state is ImportState.WAITING
    assert again.receipt_id != waits.receipt_id


async def test_nothing_that_waits_can_be_read_at_rest(at, tmp_path):
    await at.take(csv_file([cells(1)]))
    await propose(at, EventKind.AMENDED, {"name": "某某未确认", "related_persons": "法定代表人:某丙丁"})
    for path in tmp_path.glob("ledger.sqlite3*"):
        content = path.read_bytes()
        assert "某某未确认".encode() not in content
        assert "某丙丁".encode() not in content
        assert uscc(1).encode() not in content


def _order():
    return {"reason": "r", "document": "d", "effective_date": "", "principal": ANNA}


def _stored(ledger: Ledger) -> StoredListing:
    (found,) = ledger.find(parse(f"uscc:{uscc(1)}"))
    return found


def test_a_correction_of_what_was_corrected_while_it_was_made_does_not_wait(tmp_path):
    ledger = open_ledger(tmp_path)
    try:
        take(ledger, cells(1))
        with pytest.raises(Refused) as error:
            _amend(ledger, "对", lambda: take(ledger, cells(1, name="示例企业新名")))
        assert error.value.reason == "IMPORT_OUTDATED"
    finally:
        ledger.close()


def _amend(ledger: Ledger, reason: str, meanwhile: Callable[[], object] = lambda: None) -> None:
    def change(each: StoredListing) -> ListingDraft:
        assert each.details is not None
        return corrected(each.packed.listing, each.details, {"reason": reason}, (), datetime.date(2026, 11, 2))

    stored = _stored(ledger)
    made = ledger.correct(stored.id, change)
    meanwhile()
    act = ledger.propose(stored.id, Act(kind=EventKind.AMENDED, actor="tax/anna", reason="r", document="d"), made)
    ledger.confirm_proposal(act.id, "tax/bert")
