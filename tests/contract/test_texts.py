"""What people write at the gateway is kept and told without the persons in it (Art. 40)."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from lanjie_gateway.api.errors import abort
from lanjie_gateway.cli import app as command_line
from lanjie_gateway.domain.access import Role
from lanjie_gateway.domain.errors import Refused
from lanjie_gateway.domain.event_detail import ObjectionOutcome
from lanjie_gateway.domain.events import EventKind
from lanjie_gateway.domain.import_rules import FileFormat, ImportState
from lanjie_gateway.services.event_facts import EventFacts
from tests.support.ledger import COLUMNS, Desk, cells, csv_file, desk, jsonl_file, person
from tests.support.serve import run
from tests.support.subjects import citizen

ANNA, BERT, AGENCY = person("anna"), person("bert"), person("agency", Role.AGENCY)
PERSON = citizen(731, "19731103")
NUMBER = PERSON.partition(":")[2]
HIDDEN = f"{NUMBER[0]}{'*' * 16}{NUMBER[-1]}"
SAID, KEPT = f"欧阳示例 {NUMBER} 申请", f"欧*** {HIDDEN} 申请"
LISTED = cells(1, id_kind="citizen", id_number=NUMBER, name="欧阳示例", source_record_id=f"a-{NUMBER}")


@pytest_asyncio.fixture
async def at(tmp_path: Path) -> AsyncIterator[Desk]:
    async with desk(tmp_path) as made:
        yield made


async def taken(at: Desk) -> str:
    receipt = await at.take(csv_file([LISTED], COLUMNS), file_name=f"{NUMBER}.csv")
    assert receipt.file_name == f"{HIDDEN}.csv"
    (view,) = await at.listings.find(PERSON, "test", ANNA)
    assert view.details.source_record_id == f"a-{HIDDEN}"
    assert view.masked_identifiers == (f"citizen:{NUMBER[:6]}{'*' * 8}{NUMBER[-4:]}",)
    (other,) = await at.listings.find(PERSON, "test", AGENCY)
    assert other.masked_identifiers == (f"citizen:{HIDDEN}",)
    return str(view.listing.id)


async def told(at: Desk, listing: str) -> list[Any]:
    return (await at.listings.get(listing, "test", AGENCY))[1]


@pytest.mark.asyncio
async def test_events_are_kept_without_the_persons_of_their_listing(at: Desk) -> None:
    listing = await taken(at)
    order: dict[str, Any] = {"reason": SAID, "document": f"文书 {NUMBER}", "effective_date": "", "principal": ANNA}
    await at.listings.record_event(listing, EventKind.OBJECTION_OPENED, **order)
    facts = EventFacts(objection_outcome=ObjectionOutcome.UNFOUNDED, reply=SAID)
    await at.listings.record_event(listing, EventKind.OBJECTION_CLOSED, facts=facts, **order)
    await at.listings.remove(listing, SAID, "d", "", ANNA)
    events = await told(at, listing)
    assert [each.reason for each in events[1:]] == [KEPT] * 3
    assert events[2].detail["reply"] == KEPT
    assert events[1].document == f"文书 {HIDDEN}"


@pytest.mark.asyncio
async def test_what_waits_is_kept_without_the_persons_of_its_listing(at: Desk) -> None:
    listing = await taken(at)
    order = at.listings.act(EventKind.AMENDED, (SAID, "d", ""), ANNA)
    waits = await at.waiting.propose(listing, order, {"reason": SAID}, ANNA)
    assert waits.act.reason == KEPT
    await at.waiting.confirm(waits.id, BERT)
    (view,) = await at.listings.find(PERSON, "test", ANNA)
    assert view.listing.reason == KEPT
    again = await at.waiting.propose(listing, order, {"reason": "其他"}, ANNA)
    declined = await at.waiting.decline(again.id, SAID, BERT)
    assert declined.state == "declined"
    hand = await at.take(jsonl_file([cells(2)]), by_hand=True, strict=True, format=FileFormat.JSONL)
    assert hand.state is ImportState.WAITING
    assert NUMBER not in " ".join((await at.imports.decline(hand.receipt_id, SAID, BERT)).reasons)


@pytest.mark.asyncio
async def test_an_error_gives_nothing_back_that_was_sent_in_the_wrong_place() -> None:
    class Aborted(Exception):
        pass

    class Context:
        async def abort(self, code: Any, details: str, trailing_metadata: Any) -> None:
            raise Aborted(code, details, trailing_metadata)

    for text in (NUMBER, PERSON, "passport:UTO:QZ7310739"):
        with pytest.raises(Aborted) as caught:
            await abort(Context(), Refused("MATTER_UNKNOWN", f"none: {text}", matter=text))  # type: ignore[arg-type]
        assert text.rpartition(":")[2] not in str(caught.value)


@pytest.mark.parametrize("typed", [PERSON, NUMBER, "passport:UTO:QZ7310739", "欧阳示例"])
def test_the_command_line_does_not_repeat_what_is_no_command(typed: str) -> None:
    for arguments in (
        (typed,),
        ("list", typed),
        ("check", PERSON, "--matter"),
        ("list", "remove", "x", "--date", typed),
    ):
        done = run(*arguments)
        assert (done.code, done.out) == (2, "")
        assert typed.rpartition(":")[2] not in done.err


def test_a_crash_of_a_command_is_one_line_without_its_message(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(**_options: Any) -> None:
        raise ValueError(f"about {NUMBER} 欧阳示例 QZ7310739")

    monkeypatch.setattr(command_line, "app", crash)
    done = run("status")
    assert done.code == 2
    assert done.err.startswith("error: internal error: ValueError at ")
    assert not [each for each in (NUMBER, "欧阳示例", "QZ7310739") if each in done.err]
