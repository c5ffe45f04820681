"""A publication, and its dry run, tell what changes and how many listings of the ledger are touched."""

import copy
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from lanjie.v1 import catalogue_pb2 as pb
from lanjie_gateway.adapters.ledger import LedgerThread
from lanjie_gateway.api.auth import set_caller
from lanjie_gateway.api.catalogue import CatalogueServicer
from lanjie_gateway.api.edition_changes import changes_message
from lanjie_gateway.cli import signatures
from lanjie_gateway.domain.edition_changes import edition_changes
from lanjie_gateway.domain.errors import Refused
from lanjie_gateway.services.catalogue import CatalogueService
from tests.support.callers import manager
from tests.support.core import edition, matter, measure
from tests.support.ledger import Clock, cells, open_ledger, take
from tests.support.signing import signed
from tests.unit.test_catalogue_file import MUNICIPAL, NATIONAL, text

MANAGER = manager(None)


def national(number: int, **head: str) -> dict[str, Any]:
    document = copy.deepcopy(NATIONAL)
    document["catalogue"] |= {"edition": f"e{number}", **head}
    document["list_types"].append({**document["list_types"][0], "code": "TAX", "name": "税务名单"})
    return document


@pytest_asyncio.fixture
async def servicer(tmp_path: Path, ledger_url: str) -> AsyncIterator[CatalogueServicer]:
    clock = Clock()
    thread = LedgerThread(lambda: open_ledger(tmp_path, clock, ledger_url))
    await thread.start()
    await thread.call(take, cells(1), cells(2))

    async def published(_: int) -> None:
        pass

    set_caller(MANAGER)
    yield CatalogueServicer(CatalogueService(thread, published, clock, allow_examples=True))
    await thread.close()


async def publish(servicer: CatalogueServicer, document: dict[str, Any], *, dry_run: bool = False) -> Any:
    file = text(document)
    signature = {} if dry_run else signatures.fields(signed(file))
    return await servicer.Publish(pb.PublishRequest(file=file, file_name="n.yaml", dry_run=dry_run, **signature), None)


async def show(servicer: CatalogueServicer, on: str) -> dict[str, Any]:
    found = (await servicer.GetCatalogue(pb.GetCatalogueRequest(on_date=on), None)).editions
    return {f"{each.catalogue_id}@{each.edition}": each for each in found}


@pytest.mark.asyncio
async def test_what_a_dry_run_tells_is_what_the_publication_does(servicer: CatalogueServicer) -> None:
    await publish(servicer, national(1))
    stronger = national(2, effective_from="2026-12-01")
    stronger["measures"][0]["list_types"].append("TAX")
    dry = await publish(servicer, stronger, dry_run=True)
    assert (dry.revision, dry.edition.state, dry.edition.first_date) == (0, "not_yet_in_force", "2026-12-01")
    (period,) = dry.changes.periods
    assert (period.first_date, period.last_date) == ("2026-12-01", "")
    # The narrower matter is touched, too.
    assert [each.matter for each in period.matters] == ["procurement.service", "procurement.supplier"]
    for change in period.matters:
        (one,) = change.measures
        assert (one.change, one.code, list(one.turns)) == ("changed", "N-1", ["widened"])
        assert [(each.list_type, list(each.kinds)) for each in change.grows] == [("TAX", ["enterprise"])]
        assert {each.list_type: each.live for each in change.listings} == {"TAX": 2, "WAGE": 0}
    assert dry.changes.listings == 2
    assert "cn@e2" not in await show(servicer, "")
    done = await publish(servicer, stronger)
    assert done.changes == dry.changes
    assert done.edition.state == "not_yet_in_force"
    again = await publish(servicer, stronger)
    assert (again.revision, again.changes) == (done.revision, done.changes)


@pytest.mark.asyncio
async def test_the_state_is_shown_for_any_day(servicer: CatalogueServicer) -> None:
    await publish(servicer, national(1))
    await publish(servicer, MUNICIPAL)
    await publish(servicer, national(2, effective_from="2026-12-01"))
    replaced = await publish(servicer, national(3, effective_from="2026-12-01"))
    assert any("replaces cn@e2" in each for each in replaced.warnings)
    today = await show(servicer, "")
    assert {name: each.state for name, each in today.items()} == {
        "cn@e1": "in_force",
        "cn@e2": "never_in_force",
        "cn@e3": "not_yet_in_force",
        "nj@2026": "in_force",
    }
    first = today["cn@e1"]
    assert (first.last_date, first.superseded_by, first.superseded_date) == ("2026-11-30", "cn@e3", "2026-12-01")
    assert (today["nj@2026"].filing_number, today["nj@2026"].filing_date) == ("备〔2026〕1号", "2026-02-20")
    assert {each.approver for each in today.values()} == {"某会议", "市会议"}
    later = await show(servicer, "2026-12-01")
    assert (later["cn@e1"].state, later["cn@e3"].state) == ("superseded", "in_force")
    assert (await show(servicer, "2025-01-01"))["cn@e1"].state == "not_yet_in_force"


@pytest.mark.asyncio
async def test_a_closing_edition_says_so_before_it_is_published(servicer: CatalogueServicer) -> None:
    await publish(servicer, national(1))
    closing = {"catalogue": national(2, effective_from="2026-12-01")["catalogue"]}
    dry = await publish(servicer, closing, dry_run=True)
    assert dry.edition.closing
    assert any("UNDETERMINED (CATALOGUE_MISSING) from 2026-12-01 on" in each for each in dry.warnings)
    assert all(each.known_before and not each.known_after for each in dry.changes.periods[0].matters)


@pytest.mark.asyncio
async def test_another_day_is_a_date(servicer: CatalogueServicer) -> None:
    for on in ("2026-2-1", "20260201", "2026-W01-1", "2026-02-30", "today"):
        with pytest.raises(Refused) as refused:
            await show(servicer, on)
        assert refused.value.metadata["field"] == "on_date"


def test_an_account_that_is_too_long_is_cut_and_says_so() -> None:
    names = [f"matter.{number}" for number in range(100)]
    many = edition(matters=tuple(matter(name) for name in names), measures=(measure(matters=frozenset(names)),))
    changes = edition_changes([], many)
    whole, cut = changes_message(changes, {}), changes_message(changes, {}, max_bytes=2_000)
    assert (whole.left_out, len(whole.periods[0].matters)) == (0, 100)
    assert cut.ByteSize() < 2_500
    assert cut.left_out == 101 - len(cut.periods[0].matters) - len(cut.periods[0].list_types)
