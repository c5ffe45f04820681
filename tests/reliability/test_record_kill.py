"""kill -9 of `serve` under load: every answer with an effect that a client received has its record (Art. 39)."""

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import threading
import time
from pathlib import Path

import pytest

import lanjie
from tests.reliability.test_kill import DATA, gateway_pid, start
from tests.reliability.test_kill import lanjie as command
from tests.support.backup import row
from tests.support.gateway import csv_file
from tests.support.serve import run
from tests.support.subjects import uscc

pytestmark = pytest.mark.drill


@pytest.mark.parametrize("kills", [2, pytest.param(100, marks=pytest.mark.long)])
def test_every_effect_that_was_received_has_its_record(tmp_path: Path, kills: int) -> None:
    state = tmp_path / "state"
    state.mkdir()
    chance = random.Random(20261126)
    received: set[str] = set()
    server = start(state)
    try:
        wait_ready(state, server)
        for name in ("national", "provincial", "municipal"):
            command(state, "catalogue", "publish", str(DATA / f"{name}.yaml"))
        (tmp_path / "list.csv").write_bytes(csv_file([row(uscc(1))]))
        command(state, "list", "import", str(tmp_path / "list.csv"))
        for _ in range(kills):
            over = threading.Event()
            asking = threading.Thread(target=ask, args=(state, received, over), daemon=True)
            asking.start()
            time.sleep(chance.uniform(0.1, 0.5))
            before = gateway_pid(state)
            children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
            for pid in (server.pid, *map(int, children)):
                with contextlib.suppress(ProcessLookupError):  # it died with its parent
                    os.kill(pid, signal.SIGKILL)
            server.wait()
            over.set()
            asking.join(30)
            server = start(state)
            wait_ready(state, server, before)
            verified = run("audit", "verify", "--json", gateway_file=state / "gateway.json")
            assert verified.json["findings"] == []
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(20) == 0
    assert received
    with sqlite3.connect(f"file:{state / 'ledger.sqlite3'}?mode=ro", uri=True) as ledger:
        kept = {one for (one,) in ledger.execute("SELECT decision_id FROM inquiry")}
    assert received <= kept


def wait_ready(state: Path, server: "subprocess.Popen[bytes]", before: int = 0) -> None:
    """Wait for another gateway than `before`; how long a start takes is none of this test's business."""
    while gateway_pid(state) in (0, before):
        assert server.poll() is None, (state.parent / "serve.log").read_text()[-2_000:]
        time.sleep(0.02)


def ask(state: Path, received: set[str], over: threading.Event) -> None:
    with lanjie.Client.from_file(state / "gateway.json", local=False) as client:
        while not over.is_set():
            try:
                answer = client.check(uscc(1), matter="procurement.supplier", purpose="bid qualification review")
            except lanjie.LanjieError:
                continue
            if answer.outcome.name == "INTERCEPT":
                received.add(answer.decision_id)
