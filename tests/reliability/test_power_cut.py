"""Power cuts: whatever a cut leaves of the files, nothing that was acknowledged is lost, and nothing is half there.

The real ledger, keys and segment writer run on a recorded disk (`tests.support.power` states what a cut may do); every
schedule cuts the recording somewhere and opens what is left. A few hundred schedules here, 5,000 of each disk under
``./run check --long``. ``LANJIE_POWER_SCHEDULES`` and ``LANJIE_POWER_SEED`` give other numbers.
"""

import asyncio
import functools
import os
import random
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from lanjie_gateway.adapters import segments
from lanjie_gateway.adapters.keys import KeysLostError
from lanjie_gateway.adapters.ledger import InquiryRow, Ledger, LedgerError
from lanjie_gateway.domain.events import EventKind
from lanjie_gateway.domain.import_rules import Counts, ImportMode, ImportState, Receipt
from lanjie_matcher.fingerprints import IndexKey
from lanjie_matcher.identifiers import parse
from tests.support.apsw_dbapi import Driver
from tests.support.catalogues import edition
from tests.support.core import uscc
from tests.support.ledger import NOON, Clock, cells, open_ledger, staged
from tests.support.power import Disk, Op, Recorder, put, read

SEED = int(os.environ.get("LANJIE_POWER_SEED", "20260105"))
SCHEDULES = int(os.environ.get("LANJIE_POWER_SCHEDULES", "5000"))
PER_RECORDING = 250
OPENED = 25  # every so many schedules the ledger itself opens what is left
COMPANIES = 150
SPOOLS = ("sdk-a", "sdk-b")
LONG = pytest.param(SCHEDULES, marks=pytest.mark.long)


@pytest.fixture
def scratch() -> Iterator[Path]:
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as name:
        yield Path(name)


# What runs.


@dataclass
class Recording:
    """A run of the ledger. States are numbered; `rows` by commit of the database, `told` by call that returned."""

    tape: list[Op]
    rows: list[dict[str, int]] = field(default_factory=lambda: [{}])
    told: list[dict[str, Any]] = field(default_factory=lambda: [{}])
    receipts: list[str] = field(default_factory=list)


def rows(connection: Any) -> dict[str, int]:
    """A digest of every table."""
    tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    return {name: hash(frozenset(connection.execute(f'SELECT * FROM "{name}"').fetchall())) for (name,) in tables}


def told(ledger: Ledger, receipts: list[str]) -> dict[str, Any]:
    """What the ledger says about everything."""
    index = IndexKey(ledger.keys.index)
    companies = [parse(f"uscc:{uscc(number)}") for number in range(COMPANIES)]
    found = [listing for company in companies[:4] for listing in ledger.find(company)]
    return {
        "lineage": ledger.lineage,
        "head": ledger.head(),
        "commits": ledger.commits_after(0, 10_000),
        "buckets": ledger.buckets([index.token(company.key) for company in companies]),
        "listings": [ledger.get(listing.id) for listing in found],
        "receipts": [ledger.receipt(name) for name in receipts if ledger.receipt(name)],
        "editions": ledger.editions(),
        "inquiries": ledger.inquiries(10_000),
        "positions": [ledger.inquiry_position(spool) for spool in SPOOLS],
    }


class Operator:
    """Does at random what a gateway does with its ledger."""

    def __init__(self, state: Path, rng: random.Random, recorder: Recorder, recording: Recording) -> None:
        self._state = state
        self._rng = rng
        self._recorder = recorder
        self._recording = recording
        self._clock = Clock()
        self._positions = dict.fromkeys(SPOOLS, 0)
        self._open()

    def run(self, acts: int) -> None:
        kinds = (self._import, self._remove, self._publish, self._inquire, self._purge, self._reopen)
        self._publish()
        for act in [self._import, *self._rng.choices(kinds, (5, 8, 1, 5, 1, 1), k=acts)]:
            self._clock.pass_by(minutes=1)
            act()
        self._ledger.close()

    def _returned(self) -> None:
        self._recording.told.append(told(self._ledger, self._recording.receipts))
        self._recorder.mark("told", len(self._recording.told) - 1)

    def _open(self) -> None:
        self._ledger = open_ledger(self._state, self._clock)
        self._returned()

    def _reopen(self) -> None:
        self._ledger.close()
        self._open()

    def _import(self) -> None:
        ledger, rng = self._ledger, self._rng
        batch = ledger.begin_import("tax/anna")
        assert batch is not None
        for chunk in range(rng.randint(1, 3)):
            numbers = rng.sample(range(COMPANIES), rng.randint(1, 15))
            changes = [cells(number, reason=rng.choice(("", "corrected"))) for number in numbers]
            taken = staged(ledger, batch, changes, first_line=2 + 100 * chunk)
            ledger.stage(batch, taken, actor="tax/anna", received_at=self._clock(), document="file list.csv")
        end = rng.choice(("commit", "commit", "commit", "park", "give up", "leave"))
        if end in ("commit", "park"):
            receipt = Receipt(
                receipt_id=f"r{batch}",
                batch=batch,
                state=ImportState.DRY_RUN,
                sha256=batch.to_bytes(32, "big"),
                mode=ImportMode.DELTA,
                list_type="TAX",
                source="tax",
                file_name="list.csv",
                importer="tax/anna",
                received_at=NOON,
                counts=Counts(),
            )
            self._recording.receipts.append(receipt.receipt_id)
            (ledger.commit_import if end == "commit" else ledger.park_import)(receipt)
        elif end == "give up":
            ledger.give_up_import(batch)
        self._returned()

    def _remove(self) -> None:
        found = self._ledger.find(parse(f"uscc:{uscc(self._rng.randrange(COMPANIES))}"))
        if found and found[0].packed.listing.removed_at is None:
            order = {"actor": "tax/bert", "reason": "paid up", "document": "No. 9"}
            self._ledger.record(found[0].id, EventKind.REMOVED, None, **order)
            self._returned()

    def _publish(self) -> None:
        name = f"edition-{len(self._recording.told)}"
        self._ledger.publish_edition(edition(edition=name), self._rng.randbytes(5_000), "a.yaml", "tax/mara")
        self._returned()

    def _inquire(self) -> None:
        spool = self._rng.choice(SPOOLS)
        first = self._positions[spool] + 1
        self._positions[spool] += self._rng.randint(1, 8)
        records = [
            InquiryRow(
                sequence=number,
                decision_id=f"{spool}-{number}",
                decided_at=self._clock(),
                department="tax",
                matter="procurement.supplier",
                outcome="PASS",
                kind="local",
                subject_token=self._rng.randbytes(16),
                record=self._rng.randbytes(300),
                digest=bytes(32),
            )
            for number in range(first, self._positions[spool] + 1)
        ]
        self._ledger.add_inquiries(spool, self._positions[spool], records)
        self._returned()

    def _purge(self) -> None:
        self._ledger.purge()
        self._returned()


@functools.cache
def recorded(seed: int, synchronous: str = "FULL", acts: int = 30) -> Recording:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        recorder = Recorder(Path(name))
        recording = Recording(recorder.tape)

        def committed(connection: Any) -> None:
            now = rows(connection)
            if now != recording.rows[-1]:
                recording.rows.append(now)
                recorder.mark("rows", len(recording.rows) - 1)

        # Small figures, so that a short run meets checkpoints and pages that are written before their commit.
        pragmas = {"wal_autocheckpoint": "60", "cache_size": "30", "synchronous": synchronous}
        driver = Driver(recorder.vfs, pragmas, committed)
        patch.setattr(SQLiteDialect_pysqlite, "import_dbapi", classmethod(lambda cls: driver))
        with recorder.watching():
            Operator(Path(name), random.Random(seed), recorder, recording).run(acts)
        disk = Disk()
        for op in recorder.tape:
            disk.play(op)
        # The recording is complete: played back without a cut it gives the very files.
        assert disk.all_arrived() == read(Path(name))
    return recording


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
    """The ledger opens, says what the last call that returned left or the next one would, shows nothing staged, goes on."""
    try:
        ledger = open_ledger(state)
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
        if ledger.publish_edition(edition(edition="after"), b"a: 1", "a.yaml", "tax/mara") != now["head"] + 1:
            yield "the next revision is not the next"
    finally:
        ledger.close()


def cut(
    scratch: Path, schedules: int, *, strict: bool = False, lying: bool = False, synchronous: str = "FULL"
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
    print(
        f"seed {SEED}, synchronous={synchronous}{', strict' * strict}{', lying' * lying}: {bad} of {schedules} bad, "
        f"{schedules / (seconds - recording_seconds):.0f} schedules/s, {operations} operations recorded "
        f"in {recording_seconds:.1f} s"
    )
    return found


@pytest.mark.parametrize("schedules", [150, LONG])
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
