"""Steps of long work are done in the spare time of the ledger's thread."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from lanjie_gateway.adapters.ledger import LedgerThread, thread


class _Ledger:
    """Keeps what was called, in order."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def close(self) -> None:
        pass


@pytest.fixture
async def opened() -> AsyncIterator[tuple[LedgerThread, list[str]]]:
    ledger: Any = _Ledger()
    made = LedgerThread(lambda: ledger)
    await made.start()
    yield made, ledger.done
    await made.close()


def note(ledger: Any, what: str) -> None:
    ledger.done.append(what)


async def test_calls_in_a_row_are_not_held_up_by_a_step_each(
    opened: tuple[LedgerThread, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, done = opened
    monkeypatch.setattr(thread, "GRACE_SECONDS", 0.5)
    await made.call(note, "first")
    steps = [asyncio.create_task(made.spare(60, note, "step")) for _ in range(3)]
    for _ in range(20):
        await made.call(note, "act")
        await asyncio.sleep(0.001)
    await asyncio.gather(*steps)
    assert done == ["first", *["act"] * 20, *["step"] * 3]


async def test_a_step_comes_however_many_call(
    opened: tuple[LedgerThread, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, done = opened
    monkeypatch.setattr(thread, "GRACE_SECONDS", 0.02)
    step = asyncio.create_task(made.spare(0.1, note, "step"))
    while not step.done():
        await made.call(note, "act")
    assert done.count("step") == 1
    assert len(done) > 1


async def test_steps_do_not_wait_for_one_another_nor_when_nobody_calls(
    opened: tuple[LedgerThread, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, done = opened
    # Whoever waited would wait for the end of the test.
    monkeypatch.setattr(thread, "GRACE_SECONDS", 1_000)
    async with asyncio.timeout(60):
        for _ in range(3):
            await made.spare(1_000, note, "step")
    assert done == ["step"] * 3
