"""kill -9 while records are erased: what is erased is told, nothing else is, and the next run does the rest.

One random moment here, twenty under ``./run check --long``.
"""

import asyncio
import contextlib
import datetime
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lanjie_gateway.adapters.ledger import InquiryRow
from lanjie_gateway.adapters.record_files import RecordFiles
from tests.support.ledger import NOON, Clock, open_ledger
from tests.support.tampering import SEGMENT, record, verify

pytestmark = pytest.mark.drill

RECORDS, EVERY = 4_000, 500


def _erase(state: Path) -> None:
    """End the retention of all of them, in many small steps; the process is killed meanwhile."""
    from lanjie_gateway.adapters.ledger import Ledger, LedgerThread, ending
    from lanjie_gateway.domain.record_retention import Periods
    from lanjie_gateway.services import retention

    ending.SLICE, retention.PAUSE_SECONDS = 40, 0.0  # type: ignore[misc]

    async def run() -> None:
        clock = Clock(NOON + datetime.timedelta(days=4_000))
        thread = LedgerThread(lambda: open_ledger(state, clock))
        await thread.start()

        async def checkpoint() -> None:
            await thread.call(Ledger.checkpoint)

        job = retention.RetentionService(thread, Periods(), clock, checkpoint)
        print("begun", flush=True)
        await job.run()
        await thread.close()

    asyncio.run(run())


def _begin(state: Path) -> "subprocess.Popen[bytes]":
    code = f"from tests.reliability.test_retention_kill import _erase, Path; _erase(Path({str(state)!r}))"
    begun = subprocess.Popen(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, env={**os.environ}
    )
    assert begun.stdout is not None
    assert begun.stdout.readline() == b"begun\n"
    return begun


@pytest.mark.parametrize("moments", [pytest.param(count, marks=pytest.mark.long) for count in (1, 20)])
def test_a_kill_leaves_every_erasure_told(tmp_path: Path, moments: int) -> None:
    state, chance = tmp_path / "state", random.Random(5)
    state.mkdir()
    ledger, files = open_ledger(state, Clock()), RecordFiles(state)
    for first in range(1, RECORDS, EVERY):
        rows = [InquiryRow.of(record(number, id_kind="citizen")) for number in range(first, first + EVERY)]
        ledger.add_inquiries(SEGMENT, rows[-1].sequence, rows)
        note = ledger.checkpoint()
        assert note is not None
        files.add_digests(row.digest for row in rows)
        files.add_notes([note])
    ledger.close()
    url = f"sqlite:///{state}/ledger.sqlite3"
    seen = []
    for _ in range(moments):
        with _begin(state) as job:
            time.sleep(chance.uniform(0.0, 0.3))
            with contextlib.suppress(ProcessLookupError):
                os.kill(job.pid, signal.SIGKILL)
        # Whatever is in the log of SQLite is there for who opens it next.
        with contextlib.closing(sqlite3.connect(state / "ledger.sqlite3")) as held:
            (erased,) = held.execute("SELECT count(*) FROM inquiry WHERE record = x''").fetchone()
            told = held.execute("SELECT record FROM inquiry WHERE kind = 'erasure'").fetchall()
        report = verify(url, state, ledger)
        assert (report.findings, report.erased) == ((), erased)
        assert sum(json.loads(each)["count"] for (each,) in told) == erased
        seen.append(erased)
    with _begin(state) as job:
        assert job.wait(300) == 0
    report = verify(url, state, ledger)
    assert (report.findings, report.erased) == ((), RECORDS)
    assert seen == sorted(seen)
