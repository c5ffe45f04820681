"""kill -9 of `serve` while alerts are made and delivered: none is lost, and none is another one's double."""

import contextlib
import datetime
import random
import signal
import sqlite3
import time
from pathlib import Path

import pytest

import lanjie
from lanjie_matcher.civil_time import SHANGHAI
from tests.reliability.test_kill import DATA, gateway_pid, start, wait_ready
from tests.reliability.test_kill import lanjie as command
from tests.support.gateway import csv_file
from tests.support.subjects import uscc

pytestmark = pytest.mark.drill

WATCHES = 24
MATTER = "tendering.bidder"


def write_list(path: Path) -> None:
    common = {"list_type": "WAGE", "listed_on": "2026-01-20", "source": "test"}
    rows = [
        {**common, "id_kind": "uscc", "id_number": uscc(number)[5:], "decision_no": f"测试{number}"}
        for number in range(WATCHES)
    ]
    path.write_bytes(csv_file(rows))


def take(state: Path, seen: dict[int, lanjie.Alert]) -> None:
    """Take alerts until all were seen and acknowledged."""
    deadline = time.monotonic() + 60
    with lanjie.Client.from_file(state / "gateway.json", state_dir=state / "sdk", local=False) as client:
        while True:
            with contextlib.suppress(lanjie.Unavailable):
                for alert in client.alerts():
                    assert seen.setdefault(alert.number, alert) == alert
                if len(seen) >= WATCHES:
                    return
            assert time.monotonic() < deadline, f"{len(seen)} of {WATCHES}"
            time.sleep(0.05)


@pytest.mark.parametrize("moments", [pytest.param(count, marks=pytest.mark.long) for count in (1, 20)])
def test_a_kill_loses_no_alert_and_doubles_none(tmp_path: Path, moments: int) -> None:
    state, path = tmp_path / "state", tmp_path / "list.csv"
    state.mkdir()
    write_list(path)
    random_ = random.Random(20260102)
    until = datetime.datetime.now(SHANGHAI).date() + datetime.timedelta(days=30)
    server = start(state)
    seen: dict[int, lanjie.Alert] = {}
    try:
        wait_ready(state, server, time.monotonic())
        command(state, "catalogue", "publish", str(DATA / "national.yaml"))
        with lanjie.Client.from_file(state / "gateway.json", state_dir=state / "sdk", local=False) as client:
            for number in range(WATCHES):
                client.watch(uscc(number), matter=MATTER, purpose="履约期间", until=until)
        command(state, "list", "import", str(path))
        for _ in range(moments):
            with lanjie.Client.from_file(state / "gateway.json", state_dir=state / "sdk", local=False) as client:
                for alert in client.alerts():
                    assert seen.setdefault(alert.number, alert) == alert
                    if random_.random() < 1 / max(2, WATCHES // moments):
                        break
                server.send_signal(signal.SIGKILL)
            server.wait()
            before, killed = gateway_pid(state), time.monotonic()
            server = start(state)
            wait_ready(state, server, killed, before)
        take(state, seen)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(20)
    assert sorted(seen) == list(range(1, WATCHES + 1))
    assert len({each.watch_id for each in seen.values()}) == WATCHES
    assert {each.kind for each in seen.values()} == {lanjie.AlertKind.LISTED}
    with sqlite3.connect(f"file:{state / 'ledger.sqlite3'}?mode=ro", uri=True) as ledger:
        assert ledger.execute("select count(*), count(acknowledged_at) from alert").fetchone() == (WATCHES, WATCHES)
