"""Power cuts: whatever a cut leaves of the files, nothing that was acknowledged is lost, and nothing is half there.

The real ledger, keys and segment writer run on a recorded disk (`tests.support.power` states what a cut may do); every
schedule cuts the recording somewhere and opens what is left. A few hundred schedules here, 5,000 of each disk under
``./run check --long``. ``LANJIE_POWER_SCHEDULES`` and ``LANJIE_POWER_SEED`` give other numbers.
"""

import asyncio
import os
import random
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lanjie_gateway.adapters import segments
from lanjie_gateway.adapters.keys import KeysLostError, open_keys
from lanjie_gateway.adapters.ledger import LedgerError
from lanjie_gateway.api.auth import Tokens
from lanjie_gateway.domain.errors import Refused
from tests.support.ledger import open_ledger
from tests.support.ledger_run import Recording, publish, recorded, rows, told
from tests.support.power import Disk, Op, Recorder, put, read

pytestmark = pytest.mark.drill

SEED = int(os.environ.get("LANJIE_POWER_SEED", "20260105"))
SCHEDULES = int(os.environ.get("LANJIE_POWER_SCHEDULES", "5000"))
PER_RECORDING = 250
OPENED = 25  # every so many schedules the ledger itself opens what is left
LONG = pytest.param(SCHEDULES, marks=pytest.mark.long)


@pytest.fixture
def scratch() -> Iterator[Path]:
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as name:
        yield Path(name)


# What must be true after a cut.


def database_faults(path: Path, recording: Recording, reached: int) -> Iterator[str]:
    """The rows of all tables are those of the last commit that returned, or of the one on its way."""
    if not path.exists():
        if reached:
            yield f"the database is gone; {reached} commits had returned"
        return
    connection = sqlite3.connect(path)
    try:
        if (found := connection.execute("PRAGMA integrity_check").fetchall()) != [("ok",)]:
            yield f"corrupt: {found[0][0]}"
        now = rows(connection)
        if now not in recording.rows[reached : reached + 2]:
            known = recording.rows.index(now) if now in recording.rows else None
            yield f"rows of commit {known}; {reached} had returned"
        if "head" in now and (head := connection.execute("SELECT revision FROM head").fetchone()):
            query = "SELECT revision FROM batch WHERE revision IS NOT NULL ORDER BY 1"
            if [revision for (revision,) in connection.execute(query)] != list(range(1, head[0] + 1)):
                yield "revisions have gaps"
    except sqlite3.DatabaseError as error:
        yield f"unreadable: {error}"
    finally:
        connection.close()


def ledger_faults(state: Path, recording: Recording, reached: int) -> Iterator[str]:
    """The ledger opens, says what the last call that returned left or the one on its way would, and goes on."""
    try:
        ledger = open_ledger(state, migrated=False)
    except (KeysLostError, LedgerError) as error:
        yield f"the ledger does not open: {type(error).__name__}"
        return
    try:
        now = told(ledger, recording.receipts)
        if now not in recording.told[max(reached, 1) : reached + 2] and (reached or now["head"]):
            yield f"the ledger does not say what call {reached} left"
        with ledger._engine.begin() as connection:
            query = "SELECT count(*) FROM batch WHERE state = 'staging'"
            if connection.exec_driver_sql(query).scalar():
                yield "an import goes on that nobody carries on"
        if publish(ledger, "after", b"a: 1") != now["head"] + 1:
            yield "the next revision is not the next"
    finally:
        ledger.close()


def cut(
    scratch: Path, schedules: int, *, strict: bool = False, lying: bool = False, synchronous: str | None = None
) -> list[str]:
    """Run schedules; return what was wrong after which."""
    found: list[str] = []
    started = time.perf_counter()
    recording_seconds = 0.0
    bad = operations = 0
    for first in range(0, schedules, PER_RECORDING):
        before = time.perf_counter()
        recording = recorded(SEED + first, synchronous)
        recording_seconds += time.perf_counter() - before
        operations += len(recording.tape)
        rng = random.Random(f"{SEED}-{first}-{strict}-{lying}-{synchronous}")
        marks = [place + 1 for place, op in enumerate(recording.tape) if op[0] == "mark"]
        anywhere = range(len(recording.tape) + 1)
        # Half of the cuts come right after something was acknowledged.
        number = min(PER_RECORDING, schedules - first)
        places = sorted(rng.choice(marks if rng.random() < 0.5 else anywhere) for _ in range(number))
        disk = Disk(strict=strict, lying=lying)
        played = 0
        for each, place in enumerate(places):
            for op in recording.tape[played:place]:
                disk.play(op)
            played = place
            state = scratch / "state"
            state.mkdir()
            put(disk.cut(rng), state)
            faults = list(database_faults(state / "ledger.sqlite3", recording, disk.marks.get("rows", 0)))
            if not faults and each % OPENED == 0:
                faults = list(ledger_faults(state, recording, disk.marks.get("told", 0)))
            shutil.rmtree(state)
            bad += bool(faults)
            found.extend(f"recording {SEED + first}, cut {each} at {place}: {fault}" for fault in faults)
    seconds = time.perf_counter() - started
    kind = f"synchronous {synchronous or 'as it is'}{', strict' * strict}{', lying' * lying}"
    print(
        f"seed {SEED}, {kind}: {bad} of {schedules} bad, {schedules / (seconds - recording_seconds):.0f} a second; "
        f"{operations} operations recorded in {recording_seconds:.1f} s"
    )
    return found


@pytest.mark.parametrize("schedules", [80, LONG])
@pytest.mark.parametrize("strict", [False, True], ids=["ordered", "strict"])
def test_no_acknowledged_commit_is_lost_and_none_is_half_there(scratch: Path, schedules: int, *, strict: bool) -> None:
    assert cut(scratch, schedules, strict=strict) == []


@pytest.mark.parametrize("schedules", [40, pytest.param(1_000, marks=pytest.mark.long)])
def test_a_normal_sync_would_lose_commits(scratch: Path, schedules: int) -> None:
    found = cut(scratch, schedules, synchronous="NORMAL")
    assert any("had returned" in fault for fault in found)
    assert not any("corrupt" in fault for fault in found), "NORMAL loses the newest commits, no more"


@pytest.mark.parametrize("schedules", [20, pytest.param(500, marks=pytest.mark.long)])
def test_a_disk_that_lies_about_its_syncs_loses_commits(scratch: Path, schedules: int) -> None:
    assert len(cut(scratch, schedules, lying=True)) > schedules / 2


# Keys and tokens.


@pytest.mark.parametrize("strict", [False, True], ids=["ordered", "strict"])
def test_keys_and_tokens_that_were_handed_out_stay_and_half_made_ones_stop_nothing(
    scratch: Path, *, strict: bool
) -> None:
    state = scratch / "first"
    state.mkdir()
    recorder = Recorder(state)
    with recorder.watching():
        keys = open_keys(state / "keys", 1, fresh=True)
        recorder.mark("keys", 1)
        Tokens(state / "tokens", keys.token, "320000")
        recorder.mark("tokens", 1)
    tokens = read(state / "tokens")
    rng = random.Random(f"{SEED}-{strict}")
    for place in range(len(recorder.tape) + 1):
        disk = Disk(strict=strict)
        for op in recorder.tape[:place]:
            disk.play(op)
        for each in range(3):
            left = scratch / f"{place}-{each}"
            left.mkdir()
            put(disk.cut(rng), left)
            after = open_keys(left / "keys", 1, fresh="keys" not in disk.marks)
            assert after == keys or "keys" not in disk.marks
            principals = Tokens(left / "tokens", after.token, "320000")
            assert read(left / "tokens") == tokens or "tokens" not in disk.marks
            with pytest.raises(Refused):
                principals.principal([("authorization", "Bearer ")], "ipv4:127.0.0.1:1")


# Inquiry segments.


async def inquiries(state: Path, rng: random.Random, patch: pytest.MonkeyPatch) -> tuple[list[Op], list[bytes]]:
    """Write records as a worker does; an acknowledged one is marked with its number."""
    recorder = Recorder(state)
    written: list[bytes] = []

    async def in_turn(function: Any, *arguments: Any) -> None:
        # A thread would make another recording each time.
        await asyncio.sleep(0)
        function(*arguments)
        for _ in range(rng.randrange(4)):
            await asyncio.sleep(0)

    async def answer(writer: segments.SegmentWriter, *, durable: bool) -> None:
        for _ in range(rng.randrange(4)):
            await asyncio.sleep(0)
        number = len(written)
        written.append(b"%d " % number + rng.randbytes(rng.randint(0, 1_500)))
        writer.append(written[number])
        if durable:
            await writer.durable()
            recorder.mark(str(number), 1)

    patch.setattr(segments, "SEGMENT_BYTES", 4_000)
    patch.setattr(asyncio, "to_thread", in_turn)
    with recorder.watching():
        writer = segments.SegmentWriter(state / "inquiry")
        for _ in range(60):
            await asyncio.gather(*(answer(writer, durable=rng.random() < 0.5) for _ in range(rng.randint(1, 6))))
        await writer.close()
        for number in range(len(written)):
            recorder.mark(str(number), 1)
    return recorder.tape, written


def segment_faults(scratch: Path, tape: list[Op], written: list[bytes], schedules: int, **kind: bool) -> list[str]:
    rng = random.Random(f"{SEED}-{kind}")
    found: list[str] = []
    disk = Disk(**kind)
    played = 0
    for place in sorted(rng.randint(0, len(tape)) for _ in range(schedules)):
        for op in tape[played:place]:
            disk.play(op)
        played = place
        state = scratch / "left"
        state.mkdir()
        put(disk.cut(rng), state)
        back = [record for path in segments.segments(state / "inquiry") for record in segments.read_records(path, 0)[0]]
        shutil.rmtree(state)
        lost = {int(number) for number in disk.marks} - {written.index(record) for record in back if record in written}
        if lost:
            found.append(f"cut at {place}: records {sorted(lost)} are lost")
        if not set(back) <= set(written):
            found.append(f"cut at {place}: a record that nobody wrote")
    print(f"seed {SEED}, {kind}: {len(found)} faults after {schedules} cuts of {len(written)} records")
    return found


@pytest.mark.parametrize("schedules", [80, LONG])
@pytest.mark.parametrize("strict", [False, True], ids=["ordered", "strict"])
async def test_no_acknowledged_inquiry_is_lost_and_no_torn_one_is_read(
    scratch: Path, monkeypatch: pytest.MonkeyPatch, schedules: int, *, strict: bool
) -> None:
    state = scratch / "worker"
    state.mkdir()
    tape, written = await inquiries(state, random.Random(SEED), monkeypatch)
    assert len(segments.segments(state / "inquiry")) > 3
    assert segment_faults(scratch, tape, written, schedules, strict=strict) == []
    assert segment_faults(scratch, tape, written, 20, lying=True) != []
