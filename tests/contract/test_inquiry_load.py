"""Records of a worker on their way from its segment to the ledger."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from lanjie_gateway.adapters.ledger import Ledger, LedgerThread
from lanjie_gateway.adapters.segments import SegmentWriter, segments
from lanjie_gateway.domain.access import Role
from lanjie_gateway.services import inquiries
from lanjie_gateway.services.grants import GrantService
from lanjie_gateway.services.inquiries import InquiryService, UploadedPass
from lanjie_matcher.catalogues import CatalogueSet
from tests.contract.test_passes import row
from tests.support.gateway import person
from tests.support.ledger import Clock, open_ledger

PAGE = 3


class Busy(LedgerThread):
    """A ledger whose worker writes one more record whenever some were taken."""

    def __init__(self, state: Path) -> None:
        super().__init__(lambda: open_ledger(state))
        self.writer = SegmentWriter(state / "inquiry")
        self.written = 0
        self.pages: list[int] = []

    def write(self, count: int = 1) -> None:
        for _ in range(count):
            self.written += 1
            self.writer.append(row(f"a-{self.written}").record)

    async def call(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        done = await super().call(function, *args, **kwargs)
        if function is Ledger.add_inquiries:
            self.pages.append(len(args[2]))
            self.write()
        return done


async def published(revision: int) -> None:
    raise AssertionError(revision)


@pytest.mark.asyncio
async def test_a_worker_that_goes_on_writing_is_not_chased(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction costs as much as hundreds of records: with a busy worker control did four times its work."""
    monkeypatch.setattr(inquiries, "LOADED", PAGE)
    ledger = Busy(tmp_path)
    await ledger.start()
    grants = GrantService(ledger, lambda: CatalogueSet(()), published)
    service = InquiryService(ledger, tmp_path / "inquiry", Clock(), grants)
    ledger.write(2 * PAGE)
    assert await service.load() == 2 * PAGE + 2
    assert ledger.pages == [PAGE, PAGE, 2]
    assert await service.load() == 1
    kept = await ledger.call(Ledger.inquiries)
    assert [each.decision_id for each in kept] == [f"a-{number}" for number in range(1, ledger.written)]
    await ledger.writer.close()
    await ledger.close()


@pytest.mark.asyncio
async def test_what_cannot_be_read_of_a_segment_is_told(tmp_path: Path) -> None:
    ledger = LedgerThread(lambda: open_ledger(tmp_path))
    await ledger.start()
    service = InquiryService(
        ledger, tmp_path / "inquiry", Clock(), GrantService(ledger, lambda: CatalogueSet(()), published)
    )
    writer = SegmentWriter(tmp_path / "inquiry")
    for number in range(1, 4):
        writer.append(row(f"a-{number}").record)
    await writer.close()
    (path,) = segments(tmp_path / "inquiry")
    size = len(row("a-1").record)
    damaged = bytearray(path.read_bytes())
    damaged[-size - size // 2] ^= 1
    path.write_bytes(damaged)
    with capture_logs() as logs:
        assert await service.load() == 1
        assert await service.load() == 0
    assert [(each["event"], each["bytes"]) for each in logs] == [("segment_cut", 2 * (size + 8))]
    await ledger.close()


@pytest.mark.asyncio
async def test_uploads_of_one_department_let_others_have_their_turn(tmp_path: Path) -> None:
    """A removal is several calls: behind as many uploads as one SDK cares to send at once, each would wait for all."""
    ledger = LedgerThread(lambda: open_ledger(tmp_path))
    await ledger.start()
    grants = GrantService(ledger, lambda: CatalogueSet(()), published)
    service = InquiryService(ledger, tmp_path / "inquiry", Clock(), grants)
    asker = person("inquirer", Role.INQUIRER)
    known: dict[str, Any] = {"epoch": 1, "generation": 1, "revision": 1, "set_age": 0, "matter": "m", "purpose": "p"}
    one = UploadedPass(sequence=1, at=Clock()(), view_digest=7, **known)
    uploads = [asyncio.create_task(service.upload(asker, f"{number:032x}", "l", [one])) for number in range(40)]
    await asyncio.sleep(0)
    for _ in range(6):
        await ledger.call(Ledger.head)
    assert sum(each.done() for each in uploads) < 12
    await asyncio.gather(*uploads)
    assert len(await ledger.call(Ledger.inquiries)) == 40
    await ledger.close()
