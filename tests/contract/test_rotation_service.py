"""Rotating the view key while a gateway serves: who may, who waits, and what a caller that leaves changes."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from lanjie.v1 import ledger_pb2 as pb
from lanjie_gateway.adapters.ledger import Ledger
from lanjie_gateway.api.auth import set_caller
from lanjie_gateway.api.ledger import LedgerServicer
from lanjie_gateway.domain.access import Role
from lanjie_gateway.domain.errors import Refused, Unanswerable
from lanjie_gateway.services import imports
from lanjie_gateway.services.rotation import RotationService
from tests.support.ledger import Desk, cells, csv_file, desk, person, take

AGENCY = person("agency", Role.AGENCY)


class Rig:
    """A desk, a rotation service over its ledger, and a grace that the test ends."""

    def __init__(self, at: Desk, keys: Path) -> None:
        self.desk = at
        self.switched = asyncio.Event()
        self.gone = asyncio.Event()
        self.told: list[tuple[int, int]] = []
        self.service = RotationService(at.thread, keys, at._publish, self._grace)

    async def _grace(self) -> None:
        self.switched.set()
        await self.gone.wait()

    def run(self) -> "asyncio.Task[tuple[int, int]]":
        return asyncio.create_task(self.service.run(AGENCY, lambda *step: self.told.append(step)))

    def servicer(self) -> Any:
        made: Any = LedgerServicer
        return made(None, self.service, None, None, lists=None, limits=None, certificates=None)

    async def over(self) -> None:
        assert self.service._work is not None
        await asyncio.gather(self.service._work, return_exceptions=True)

    async def free(self) -> bool:
        """Whether somebody may import."""
        begun = await self.desk.thread.call(Ledger.begin_import, "tax/anna")
        await self.desk.thread.call(Ledger.end_import)
        return begun is not None

    async def listed(self) -> int:
        return len(await self.desk.thread.call(Ledger.listed_digests))


@pytest.fixture
async def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    monkeypatch.setattr(imports, "_TURN_POLL_SECONDS", 0.01)
    monkeypatch.setattr(imports, "TURN_SECONDS", 0.02)
    async with desk(tmp_path) as at:
        await at.thread.call(take, *(cells(number) for number in range(3)))
        made = Rig(at, tmp_path / "keys")
        yield made
        await made.service.close()


async def test_imports_wait_until_the_old_view_is_gone_and_removals_do_not(rig: Rig) -> None:
    work = rig.run()
    await rig.switched.wait()
    assert rig.desk.published == [2]
    with pytest.raises(Unanswerable) as busy:
        await rig.desk.take(csv_file([cells(3)]))
    assert busy.value.reason == "OVERLOADED"
    (found,) = await rig.desk.find(1)
    await rig.desk.listings.remove(found.listing.id, "paid up", "No. 9", "", person("bert"))
    rig.gone.set()
    assert await work == (2, 2)
    assert rig.told[-1] == (3, 3)
    # The parser is given the new key.
    assert (await rig.desk.take(csv_file([cells(3), cells(4)]))).revision == 4
    assert await rig.listed() == 4


async def test_only_the_agency_and_one_at_a_time(rig: Rig) -> None:
    with pytest.raises(Refused) as refused:
        await rig.service.run(person("anna"), lambda *_: None)
    assert refused.value.reason == "NOT_PERMITTED"
    assert await rig.desk.thread.call(Ledger.begin_import, "tax/anna") == 2
    with pytest.raises(Unanswerable) as busy:
        await rig.run()
    assert busy.value.reason == "OVERLOADED"
    # The import has kept its turn.
    assert await rig.desk.thread.call(Ledger.begin_import, "tax/anna") == 3
    await rig.desk.thread.call(Ledger.end_import)
    work = rig.run()
    await rig.switched.wait()
    with pytest.raises(Unanswerable):
        await rig.run()
    rig.gone.set()
    await work


async def test_a_caller_that_leaves_early_changes_nothing_and_holds_nobody_up(rig: Rig) -> None:
    work = rig.run()
    for _ in range(3):
        await asyncio.sleep(0)
        work.cancel()
    await rig.over()
    assert work.cancelled()
    assert rig.told
    assert rig.desk.thread.generation == 1
    assert await rig.free()


class Context:
    """The part of a gRPC context that the servicer uses."""

    def __init__(self) -> None:
        self.callbacks: list[Any] = []

    def add_done_callback(self, callback: Any) -> None:
        self.callbacks.append(callback)

    def hang_up(self) -> None:
        for callback in self.callbacks:
            callback(self)


async def test_a_caller_that_hangs_up_after_the_switch_does_not_cut_the_grace_short(rig: Rig) -> None:
    set_caller(AGENCY)
    context = Context()
    answers = rig.servicer().RotateViewKey(pb.RotateViewKeyRequest(), context)
    assert await anext(answers) == pb.RotateViewKeyResponse(done=3, total=3)
    await rig.switched.wait()
    for _ in range(3):
        context.hang_up()
        await asyncio.sleep(0)
    await answers.aclose()
    assert not await rig.free()
    rig.gone.set()
    await rig.over()
    assert rig.desk.thread.generation == 2
    assert await rig.free()


async def test_the_last_message_names_generation_and_revision(rig: Rig) -> None:
    rig.gone.set()
    set_caller(AGENCY)
    said = [answer async for answer in rig.servicer().RotateViewKey(pb.RotateViewKeyRequest(), Context())]
    assert said[-1] == pb.RotateViewKeyResponse(generation=2, revision=2)


async def test_a_gateway_that_stops_in_the_grace_leaves_the_new_generation(rig: Rig) -> None:
    work = rig.run()
    await rig.switched.wait()
    await rig.service.close()
    await asyncio.gather(work, return_exceptions=True)
    assert rig.desk.thread.generation == 2
    assert await rig.free()
    assert await rig.listed() == 3
