"""An old source end to end: the clock alone makes it old, and a file with the same rows makes it young again."""

import asyncio
import contextlib
import datetime
import json
import threading
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from lanjie.v1 import ledger_pb2, ledger_pb2_grpc, screening_pb2, screening_pb2_grpc, subject_pb2
from lanjie_gateway.adapters.ledger import LedgerThread
from lanjie_gateway.domain.access import Role
from lanjie_gateway.services import list_status
from lanjie_gateway.services.list_status import ListStatusService
from tests.support import catalogues as catalogue
from tests.support.gateway import RunningGateway, person, running
from tests.support.ledger import cells, csv_file, desk
from tests.support.load import wage_row
from tests.support.subjects import uscc

DATA = Path(__file__).parents[1] / "data"
EVENING = datetime.datetime(2026, 3, 2, 12, 0, tzinfo=datetime.UTC)
MIDNIGHT = datetime.datetime(2026, 3, 5, 16, 0, tzinfo=datetime.UTC)
"""00:00 in Shanghai of the day after the third one since `EVENING`."""
ROWS = [wage_row(uscc(number), number) for number in range(1, 4)]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    directory = tmp_path_factory.mktemp("age")
    text = (DATA / "national.yaml").read_text()
    (directory / "national.yaml").write_text(text.replace("{code: WAGE,", "{code: WAGE, source_max_age_days: 3,"))
    with running(directory / "state", EVENING, metrics="127.0.0.1:0") as made:
        made.publish(directory / "national.yaml")
        made.import_rows(ROWS)
        yield made


def call(gateway: RunningGateway, stub: type, address: str, method: str, request: Any, *, who: str = "agency") -> Any:
    token = gateway.inner.control._tokens.files[who].read_text().strip()
    with grpc.insecure_channel(address) as channel:
        return getattr(stub(channel), method)(request, metadata=(("authorization", f"Bearer {token}"),), timeout=5)


def answer(gateway: RunningGateway, subject: str) -> tuple[str, list[str]]:
    address = json.loads(gateway.file.read_text())["screening"]
    context = screening_pb2.InquiryContext(matter="tendering.bidder", purpose="test", handling_region="320100")
    request = screening_pb2.CheckRequest(subject=subject_pb2.Subject(identifier=subject), context=context)
    stub = screening_pb2_grpc.ScreeningServiceStub
    decision = call(gateway, stub, address, "Check", request, who="inquirer").decision
    return screening_pb2.Outcome.Name(decision.outcome).removeprefix("OUTCOME_"), list(decision.warnings)


def status(gateway: RunningGateway) -> ledger_pb2.GetListStatusResponse:
    stub, address = ledger_pb2_grpc.LedgerServiceStub, gateway.inner.control.admin_address
    told: ledger_pb2.GetListStatusResponse = call(
        gateway, stub, address, "GetListStatus", ledger_pb2.GetListStatusRequest()
    )
    return told


def metrics(gateway: RunningGateway) -> list[str]:
    address = json.loads(gateway.file.read_text())["metrics"]
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(f"http://{address}/metrics", timeout=5) as told:
        return [
            line for line in told.read().decode().splitlines() if line.startswith(("lanjie_source", "lanjie_waiting"))
        ]


def test_the_clock_alone_makes_a_source_old_and_the_same_rows_make_it_young(gateway: RunningGateway) -> None:
    gateway.clock.at = MIDNIGHT - datetime.timedelta(seconds=1)
    assert answer(gateway, uscc(1)) == ("RESTRICT", [])
    assert not status(gateway).sources[0].overdue
    assert 'lanjie_source_overdue{list_type="WAGE"} 0.0' in metrics(gateway)

    gateway.clock.at = MIDNIGHT
    assert answer(gateway, uscc(1)) == ("RESTRICT", ["verify-at-source"])
    assert answer(gateway, uscc(99)) == ("PASS", [])
    told = status(gateway)
    (source,) = told.sources
    assert (source.list_type, source.source, source.vouched_date) == ("WAGE", "load", "2026-03-02")
    assert (source.age_days, source.max_age_days, source.overdue, source.live_listings) == (4, 3, True, 3)
    assert source.delivered_time.ToDatetime(datetime.UTC) == EVENING
    assert (told.today_date, told.waiting) == ("2026-03-06", 0)
    assert {each.list_type for each in told.undelivered} == {"COURT", "TAX", "PROC", "DUTY"}
    exposed = metrics(gateway)
    assert 'lanjie_source_age_days{list_type="WAGE"} 4.0' in exposed
    assert 'lanjie_source_overdue{list_type="WAGE"} 1.0' in exposed

    head = status(gateway).revision
    receipt = gateway.import_rows(ROWS)
    assert (receipt.counts.unchanged, receipt.revision) == (3, head + 1)
    assert answer(gateway, uscc(1)) == ("RESTRICT", [])
    assert not status(gateway).sources[0].overdue
    assert 'lanjie_source_age_days{list_type="WAGE"} 0.0' in metrics(gateway)
    # an answer at the revision before knows what was known then
    index = gateway.inner.worker.index
    assert index.sources(head)["WAGE", "load"] == datetime.date(2026, 3, 2)
    assert index.sources(head + 1)["WAGE", "load"] == datetime.date(2026, 3, 6)


def test_an_import_that_waits_is_told(gateway: RunningGateway) -> None:
    rows = [{**row, "reason": "别的事由"} for row in ROWS]
    waiting = gateway.import_rows(rows)
    assert status(gateway).waiting == 1
    assert status(gateway).oldest_waiting_time.ToDatetime(datetime.UTC) == gateway.clock.at
    assert "lanjie_waiting 1.0" in metrics(gateway)
    gateway.run(gateway.inner.control.imports.confirm(waiting.receipt_id, person("second", Role.AUTHORITY)))
    assert (status(gateway).waiting, status(gateway).HasField("oldest_waiting_time")) == (0, False)
    assert "lanjie_waiting 0.0" in metrics(gateway)


def test_sources_are_told_to_those_who_run_the_gateway_only(gateway: RunningGateway) -> None:
    stub, address = ledger_pb2_grpc.LedgerServiceStub, gateway.inner.control.admin_address
    with pytest.raises(grpc.RpcError) as refused:
        call(gateway, stub, address, "GetListStatus", ledger_pb2.GetListStatusRequest(), who="inquirer")
    error: Any = refused.value
    assert error.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_what_is_known_grows_older_while_the_ledger_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = catalogue.catalogues(catalogue.edition(list_types=(catalogue.list_type(source_max_age_days=1),)))
    async with desk(tmp_path, known) as at:
        lists = ListStatusService(at.thread, lambda: known, at.clock, at.duties, lambda: 0, feedback_alarms={})
        async with busy(at.thread, monkeypatch):
            assert await lists.watch() is None
        await at.take(csv_file([cells(1)]))
        told = await lists.watch()
        assert told is not None
        assert not told.ages.list_types[0].overdue
        at.clock.pass_by(days=2)
        async with busy(at.thread, monkeypatch):
            told = await lists.watch()
        assert told is not None
        assert (told.ages.list_types[0].age_days, told.ages.list_types[0].overdue) == (2, True)


@contextlib.asynccontextmanager
async def busy(thread: LedgerThread, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """A ledger that does not come to answer."""
    released = threading.Event()
    held = asyncio.create_task(thread.call(lambda _: released.wait(10)))
    await asyncio.sleep(0)
    with monkeypatch.context() as short:
        short.setattr(list_status, "READ_SECONDS", 0.05)
        yield
    released.set()
    await held
