"""Who may write what: authority by list type by region, against a table of its own; "not yours" reads "not listed"."""

import dataclasses
import itertools
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from lanjie.v1 import listing_pb2 as pb
from lanjie_gateway.adapters.ledger import Ledger
from lanjie_gateway.api.auth import set_caller
from lanjie_gateway.api.listing import ListingServicer
from lanjie_gateway.domain.access import Principal, Role
from lanjie_gateway.domain.errors import Refused
from lanjie_gateway.domain.events import Act, EventKind
from lanjie_gateway.domain.import_rules import FileFormat, ImportMode, ImportState
from lanjie_gateway.domain.list_file import NOT_PERMITTED
from lanjie_gateway.services import imports
from tests.support import catalogues as catalogue
from tests.support.callers import authority, local
from tests.support.core import uscc
from tests.support.ledger import COLUMNS, Desk, cells, csv_file, desk, jsonl_file

TYPES = ("TAX", "WAGE")
REGIONS = ("320100", "320102", "320500", "330100", "")
LISTINGS = tuple(itertools.product(TYPES, REGIONS))
NANJING, SUZHOU = "320100", "320500"
CALLERS = {
    "local": local(),
    "nanjing": authority("nanjing", NANJING, "TAX"),
    "suzhou": authority("suzhou", SUZHOU, "TAX"),
    "wage": authority("wage", NANJING, "WAGE"),
    "province": authority("province", "320000", "TAX", "WAGE"),
    "nation": authority("nation", "000000", "TAX"),
}
WRITES = {
    "local": set(LISTINGS),
    "nanjing": {("TAX", "320100"), ("TAX", "320102")},
    "suzhou": {("TAX", "320500")},
    "wage": {("WAGE", "320100"), ("WAGE", "320102")},
    "province": {(code, region) for code, region in LISTINGS if region != "330100"},
    "nation": {(code, region) for code, region in LISTINGS if code == "TAX"},
}
"""What each may correct and end; a listing without a region is department `local`'s, which is of the province."""
KNOWN = catalogue.catalogues(catalogue.edition(list_types=tuple(catalogue.list_type(code) for code in TYPES)))
WHY: Any = {"reason": "ordered", "document": "No. 9", "effective_date": ""}
EVENTS = [kind for kind in pb.ListingEventKind.values() if kind]


@pytest_asyncio.fixture
async def place(tmp_path: Path) -> AsyncIterator[Desk]:
    async with desk(tmp_path, KNOWN) as made:
        yield made


def row(number: int, list_type: str = "TAX", region: str = "", **changes: Any) -> dict[str, Any]:
    return cells(number, **{"list_type": list_type, "region": region, "source": "", **changes})


def file_of(*rows: dict[str, Any]) -> bytes:
    return csv_file(rows, [*COLUMNS, "region", "authority", "authority_uscc"])


async def enter(place: Desk, rows: Iterable[dict[str, Any]], who: Principal = CALLERS["local"], **order: Any) -> Any:
    return await place.take(file_of(*rows), who, **{"source": who.department, "list_type": "", **order})


async def ids_of(place: Desk, number: int) -> dict[str, str]:
    """Ids of the listings of a company, by region; with events ended ones included."""
    found = await place.find(number)
    return {view.listing.region: view.listing.id for view in found}


def said(error: Refused) -> tuple[Any, ...]:
    return type(error), error.reason, str(error), error.metadata


async def refusal(call: Any) -> tuple[Any, ...]:
    with pytest.raises(Refused) as refused:
        await call
    return said(refused.value)


class Calls:
    """The listing RPCs about one listing, as a caller."""

    def __init__(self, place: Desk) -> None:
        self._servicer = ListingServicer(place.listings, place.imports, place.waiting, place.duties)
        self._context: Any = None

    async def record(self, listing_id: str, kind: Any) -> Any:
        if kind == pb.LISTING_EVENT_KIND_REMOVED:
            return await self._servicer.Remove(pb.RemoveRequest(listing_id=listing_id, **WHY), self._context)
        said: dict[str, Any] = {}
        if kind == pb.LISTING_EVENT_KIND_OBJECTION_CLOSED:
            said = {"objection_outcome": pb.OBJECTION_OUTCOME_UNFOUNDED, "reply": "no"}
        if kind == pb.LISTING_EVENT_KIND_AMENDED:
            said = {"corrections": {"reason": "corrected"}}
        request = pb.RecordEventRequest(listing_id=listing_id, kind=kind, **WHY, **said)
        return await self._servicer.RecordEvent(request, self._context)

    async def read(self, listing_id: str) -> Any:
        return await self._servicer.Get(pb.GetRequest(listing_id=listing_id, purpose="test"), self._context)

    async def find(self, number: int) -> Any:
        request = pb.FindRequest(identifier=f"uscc:{uscc(number)}", purpose="test")
        return (await self._servicer.Find(request, self._context)).listings


@pytest_asyncio.fixture
async def entered(place: Desk) -> dict[tuple[str, str], tuple[int, str]]:
    """One listing of each kind: number of its company, and id."""
    await enter(place, (row(number, *each) for number, each in enumerate(LISTINGS)))
    return {each: (number, (await place.find(number))[0].listing.id) for number, each in enumerate(LISTINGS)}


@pytest.mark.parametrize("bounds", ["local", "nanjing"])
async def test_only_an_authority_writes(place: Desk, entered: dict[Any, tuple[int, str]], bounds: str) -> None:
    calls = Calls(place)
    _, first = entered[LISTINGS[0]]
    for role in (Role.INQUIRER, Role.AGENCY, Role.MANAGER):
        who = dataclasses.replace(CALLERS[bounds], roles=frozenset({role}))
        set_caller(who)
        for kind in (pb.LISTING_EVENT_KIND_REMOVED, pb.LISTING_EVENT_KIND_REPAIRED):
            assert (await refusal(calls.record(first, kind)))[1] == "NOT_PERMITTED"
        assert (await refusal(enter(place, [row(90)], who)))[1] == "NOT_PERMITTED"
        assert (await refusal(place.imports.confirm("i000001-000000", who)))[1] == "NOT_PERMITTED"
        if role is not Role.AGENCY:
            assert (await refusal(calls.read(first)))[1] == "NOT_PERMITTED"
            continue
        # Who runs the system sees everything.
        for number, listing_id in entered.values():
            assert [each.listing_id for each in await calls.find(number)] == [listing_id]
            assert (await calls.read(listing_id)).listing.listing_id == listing_id


async def test_events_and_reading_against_the_table(place: Desk, entered: dict[Any, tuple[int, str]]) -> None:
    calls = Calls(place)
    kinds = itertools.cycle(EVENTS)
    head = await place.thread.call(Ledger.head)
    for (name, who), (each, (number, listing_id)) in itertools.product(CALLERS.items(), entered.items()):
        set_caller(who)
        unread = await refusal(calls.read("0" * 16))
        assert [found.listing_id for found in await calls.find(number)] == [listing_id] * (each in WRITES[name])
        if each in WRITES[name]:
            assert (await calls.read(listing_id)).listing.listing_id == listing_id
            for kind in (pb.LISTING_EVENT_KIND_OBJECTION_OPENED, pb.LISTING_EVENT_KIND_OBJECTION_CLOSED):
                head += 1
                assert (await calls.record(listing_id, kind)).revision == head
            continue
        assert await refusal(calls.read(listing_id)) == unread
        for kind in itertools.islice(kinds, 5):
            assert await refusal(calls.record(listing_id, kind)) == await refusal(calls.record("0" * 16, kind))
    # What was refused has committed nothing.
    assert await place.thread.call(Ledger.head) == head


async def test_rows_outside_the_scope_are_quarantined_by_column(place: Desk) -> None:
    rows = [
        row(1, "TAX", NANJING),
        row(2, "TAX", "320102"),
        row(3, "TAX"),
        row(4, "TAX", SUZHOU),
        row(5, "WAGE", NANJING),
        row(6, "TAX", NANJING, source="suzhou"),
        row(7, "TAX", NANJING, source="nanjing/branch 7"),
        row(8, "TAX", NANJING, source="nanjing-market"),
        row(9, "TAX", "320000"),
        row(10, "TAX", SUZHOU, op="D"),
    ]
    receipt = await enter(place, rows, CALLERS["nanjing"])
    assert [(bad.line, bad.column, bad.rule, bad.message) for bad in receipt.quarantine] == [
        (line, column, "not-permitted", NOT_PERMITTED)
        for line, column in ((5, "region"), (6, "list_type"), (7, "source"), (9, "source"), (10, "region"))
    ] + [(11, "region", "not-permitted", NOT_PERMITTED)]
    # More than 5 % are bad: nothing is in yet.
    assert receipt.state is ImportState.WAITING
    done = await place.imports.confirm(receipt.receipt_id, authority("nanjing", NANJING, "TAX", person="bert"))
    assert done.state is ImportState.COMMITTED
    assert [list(await ids_of(place, number)) for number in range(1, 11)] == [
        [NANJING],
        ["320102"],
        # A row without a region is of the writer's own, and the record says so.
        [NANJING],
        *([], [], []),
        [NANJING],
        *([], [], []),
    ]


async def test_an_order_outside_the_scope_is_refused(place: Desk) -> None:
    who = CALLERS["nanjing"]
    for order, required in (
        ({"list_type": "WAGE"}, "WAGE"),
        ({"source": "suzhou"}, "nanjing"),
        ({"source": "nanjing-market"}, "nanjing"),
        ({"source": "tax", "mode": ImportMode.FULL, "list_type": "TAX"}, "nanjing"),
    ):
        _, reason, _, metadata = await refusal(enter(place, [row(1)], who, **order))
        assert (reason, metadata["required"]) == ("NOT_PERMITTED", required)
    assert (await enter(place, [row(1)], who, source="nanjing/tax", list_type="TAX")).counts.added == 1


async def test_a_key_that_meets_a_foreign_listing_changes_nothing(place: Desk) -> None:
    await enter(place, [row(1, "TAX", SUZHOU), row(2, "TAX", NANJING)], CALLERS["local"])
    (foreign,) = (await ids_of(place, 1)).values()
    before = await place.thread.call(lambda ledger: ledger.get(foreign))
    rows = [
        row(1, "TAX", NANJING, reason="changed"),
        row(1, "TAX", NANJING, reason="changed"),
        row(1, "TAX", NANJING, op="D"),
        row(3, "TAX", NANJING, op="D"),
        row(2, "TAX", NANJING, reason="changed"),
    ]
    receipt = await enter(place, rows, CALLERS["nanjing"])
    first, second, removal, unknown = receipt.quarantine
    assert {(bad.column, bad.rule) for bad in (first, second)} == {("region", "not-permitted")}
    # A removal reads like one of what nobody has listed.
    assert dataclasses.replace(removal, line=0) == dataclasses.replace(unknown, line=0)
    assert removal.rule == "delete-unknown"
    await place.imports.confirm(receipt.receipt_id, authority("nanjing", NANJING, "TAX", person="bert"))
    assert await place.thread.call(lambda ledger: ledger.get(foreign)) == before
    (own,) = await place.find(2)
    assert own.listing.reason == "changed"


async def test_a_record_id_of_another_list_type_is_not_taken_over(place: Desk) -> None:
    await enter(place, [row(1, "WAGE", NANJING, source="nanjing", source_record_id="7")], CALLERS["local"])
    receipt = await enter(place, [row(1, "TAX", NANJING, source_record_id="7")], CALLERS["nanjing"])
    assert [(bad.column, bad.rule) for bad in receipt.quarantine] == [("list_type", "not-permitted")]


async def test_a_complete_list_of_one_city_ends_nothing_of_another(
    tmp_path: Path, ledger_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "_ABSENT_CHUNK", 4)
    async with desk(tmp_path, KNOWN, ledger_url) as place:
        # Somebody has entered Suzhou's under the name of Nanjing's source, many of them.
        foreign = [row(number, "TAX", SUZHOU, source="nanjing") for number in range(12)]
        await enter(place, foreign, CALLERS["local"])
        await enter(place, [row(number, "TAX", "330100") for number in range(20, 30)], CALLERS["local"])
        await enter(place, [row(2_000 + number, "TAX", NANJING) for number in range(3)], CALLERS["nanjing"])
        receipt = await enter(
            place, [row(2_001, "TAX", NANJING)], CALLERS["nanjing"], mode=ImportMode.FULL, list_type="TAX"
        )
        assert receipt.state is ImportState.WAITING
        await place.imports.confirm(receipt.receipt_id, authority("nanjing", NANJING, "TAX", person="bert"))
        assert (receipt.counts.absent, receipt.counts.unchanged, receipt.counts.quarantined) == (2, 1, 0)
        stand = {number: (await place.find(number))[0].not_in_force for number in (0, 11, 25, 2_000, 2_001, 2_002)}
        assert [number for number, why in stand.items() if why] == [2_000, 2_002]


async def test_a_waiting_import_is_its_departments_and_its_scope_is_looked_at_again(place: Desk) -> None:
    await enter(place, [row(1, "TAX", "320102"), row(2, "TAX", NANJING)], CALLERS["nanjing"])
    # One of the other rows is bad, and nearly everything is altered.
    rows = [row(1, "TAX", "320102", reason="changed"), row(3, "TAX", NANJING), row(4, "TAX", SUZHOU)]
    waiting = await enter(place, rows, CALLERS["nanjing"])
    assert waiting.state is ImportState.WAITING
    confirm = place.imports.confirm
    unknown = await refusal(confirm("i000099-000000", CALLERS["suzhou"]))
    for name in ("suzhou", "province"):
        assert await refusal(confirm(waiting.receipt_id, CALLERS[name])) == unknown
    assert (await refusal(confirm(waiting.receipt_id, CALLERS["nanjing"])))[1] == "SECOND_PERSON_REQUIRED"
    for narrower in (
        authority("nanjing", "320104", "TAX", person="bert"),
        authority("nanjing", NANJING, "WAGE", person="bert"),
    ):
        assert (await refusal(confirm(waiting.receipt_id, narrower)))[1] == "NOT_PERMITTED"
    assert not await ids_of(place, 3)
    done = await confirm(waiting.receipt_id, authority("nanjing", NANJING, "TAX", person="bert"))
    assert done.state is ImportState.COMMITTED
    assert await ids_of(place, 3)


async def test_only_the_identifying_unit_repairs(place: Desk) -> None:
    nanjing = authority("nanjing", NANJING, "TAX", units=("示例市税务局", uscc(900)))
    province = authority("province", "320000", "TAX", units=("示例省税务局", uscc(901)))
    cases = [
        ({"authority": "示例市 税务局"}, nanjing),
        ({"authority": "示例省税务局"}, province),
        # The USCC goes before the name.
        ({"authority": "示例市税务局", "authority_uscc": uscc(901)}, province),
        ({"authority": "another name", "authority_uscc": f"{uscc(900)[:8]}-{uscc(900)[8:]}".lower()}, nanjing),
        ({"authority": "示例县税务局"}, None),
        ({}, nanjing),
        ({}, province),
    ]
    rows = [row(number, "TAX", NANJING, **said_by) for number, (said_by, _) in enumerate(cases)]
    await place.take(jsonl_file(rows), CALLERS["local"], format=FileFormat.JSONL, source="local", list_type="")
    for number, (said_by, unit) in enumerate(cases):
        (view,) = await place.find(number)
        for who in (nanjing, province):
            if who is unit or not said_by:
                continue
            call = place.listings.record_event(view.listing.id, EventKind.REPAIRED, principal=who, **WHY)
            kind, reason, text, _ = await refusal(call)
            assert (kind, reason) == (Refused, "NOT_PERMITTED")
            assert "Art. 66" in text
        done = unit or CALLERS["local"]
        revision, after = await place.listings.record_event(view.listing.id, EventKind.REPAIRED, principal=done, **WHY)
        assert after.not_in_force == "repaired"
        assert revision == place.published[-1]


async def test_a_listing_that_has_moved_is_no_longer_the_callers(place: Desk) -> None:
    await enter(place, [row(1, "TAX", NANJING)], CALLERS["local"])
    (listing_id,) = (await ids_of(place, 1)).values()
    moved = await enter(place, [row(1, "TAX", SUZHOU)], CALLERS["local"])
    await place.imports.confirm(moved.receipt_id, local(person="reviewer"))
    removal = place.listings.remove(listing_id, "ordered", "No. 9", "", CALLERS["nanjing"])
    assert (await refusal(removal))[1] == "NOT_FOUND"


async def test_what_waits_in_another_department_reads_like_what_is_not_there(place: Desk) -> None:
    await enter(place, [row(1, "TAX", NANJING)], CALLERS["nanjing"])
    (listing_id,) = (await ids_of(place, 1)).values()
    amended = Act(kind=EventKind.AMENDED, actor="nanjing/anna", reason="ordered", document="No. 9")
    waiting = place.waiting
    act = await waiting.propose(listing_id, amended, {"reason": "corrected"}, CALLERS["nanjing"])
    for name in ("suzhou", "province", "wage"):
        who = CALLERS[name]
        for call in (waiting.confirm, waiting.show, lambda act_id, who: waiting.decline(act_id, "no", who)):
            assert await refusal(call(act.id, who)) == await refusal(call("p999999", who))
        assert await waiting.all(who) == []
    agency = dataclasses.replace(CALLERS["suzhou"], roles=frozenset({Role.AGENCY}))
    assert [each.id for each in await waiting.all(agency)] == [act.id]
    for narrower in (authority("nanjing", "320104", "TAX", person="bert"), CALLERS["suzhou"]):
        assert (await refusal(waiting.confirm(act.id, narrower)))[1] == "NOT_FOUND"
    done = await waiting.confirm(act.id, authority("nanjing", NANJING, "TAX", person="bert"))
    assert done.revision == place.published[-1]


async def test_a_correction_carries_no_listing_out_of_the_scope(place: Desk) -> None:
    await enter(place, [row(1, "TAX", NANJING)], CALLERS["nanjing"])
    (listing_id,) = (await ids_of(place, 1)).values()
    amended = Act(kind=EventKind.AMENDED, actor="nanjing/anna", reason="ordered", document="No. 9")
    moved = place.waiting.propose(listing_id, amended, {"region": SUZHOU}, CALLERS["nanjing"])
    assert (await refusal(moved))[1] == "NOT_PERMITTED"
    closer = await place.waiting.propose(listing_id, amended, {"region": "320102"}, CALLERS["nanjing"])
    assert closer.state == "waiting"


async def test_an_authority_hears_of_its_own_duties(place: Desk, entered: dict[Any, tuple[int, str]]) -> None:
    for number, (_, listing_id) in enumerate(entered.values()):
        await place.listings.record_event(
            listing_id, EventKind.OBJECTION_OPENED, principal=CALLERS["local"], **{**WHY, "document": f"No. {number}"}
        )
    told = {listing_id: each for each, (_, listing_id) in entered.items()}
    for name, who in CALLERS.items():
        found = await place.duties.find(who)
        assert {told[duty.listing_id] for duty in found} == WRITES[name]
