"""kill -9 of `serve` during an import: the whole file is in or none of it, and a retry gives the same receipt.

One random moment here, fifty under ``./run check --long``.
"""

import json
import random
import re
import signal
import sqlite3
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.gateway import COLUMNS
from tests.support.subjects import uscc

pytestmark = pytest.mark.drill

DATA = Path(__file__).parents[1] / "data"
LANJIE = [sys.executable, "-m", "lanjie_gateway.cli"]
ROWS = 4_000  # fifty files stay below what a small machine reads back in ten seconds
READY_SECONDS = 10.0
SLOWER = 5


def start(state: Path) -> "subprocess.Popen[bytes]":
    command = [*LANJIE, "serve", "--state", str(state), "--listen", "127.0.0.1:0", "--allow-examples"]
    log = (state.parent / "serve.log").open("ab")
    with log:
        return subprocess.Popen(command, stdout=log, stderr=log)


def gateway_pid(state: Path) -> int:
    try:
        return int(json.loads((state / "gateway.json").read_text())["pid"])
    except (FileNotFoundError, json.JSONDecodeError):
        return 0


def wait_ready(state: Path, server: "subprocess.Popen[bytes]", since: float, before: int = 0) -> float:
    """Wait for the new server's gateway file; return the seconds it took since `since`."""
    while True:
        assert server.poll() is None, (state.parent / "serve.log").read_text()[-2_000:]
        assert time.monotonic() - since < 6 * READY_SECONDS, "not ready"
        if gateway_pid(state) not in (0, before):
            return time.monotonic() - since
        time.sleep(0.02)


def lanjie(state: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [*LANJIE, *arguments, "--gateway-file", str(state / "gateway.json"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode in (0, 3), (arguments[:2], done.stderr, (state.parent / "serve.log").read_text()[-2_000:])
    return done


def revisions(state: Path) -> list[int]:
    """Read the revisions of a ledger nobody holds open."""
    with sqlite3.connect(f"file:{state / 'ledger.sqlite3'}?mode=ro", uri=True) as ledger:
        tables = [name for (name,) in ledger.execute("select name from sqlite_master where type = 'table'")]
        commits = next(name for name in ("commit_log", "commits", "batch", "revision") if name in tables)
        return [r for (r,) in ledger.execute(f"select revision from {commits} where revision is not null order by 1")]


def write_list(path: Path, first: int) -> None:
    with path.open("w") as file:
        file.write(",".join(COLUMNS) + "\n")
        for number in range(first, first + ROWS):
            subject = uscc(number)
            facts = {
                "id_kind": "uscc",
                "id_number": subject[5:],
                "list_type": "WAGE",
                "decision_no": f"测试{number}",
                "listed_on": "2026-01-20",
                "source": "test",
            }
            file.write(",".join(facts.get(column, "") for column in COLUMNS) + "\n")


@pytest.mark.parametrize("moments", [1, pytest.param(50, marks=pytest.mark.long)])
def test_a_kill_leaves_the_whole_file_or_nothing(tmp_path: Path, moments: int) -> None:
    state = tmp_path / "state"
    state.mkdir()
    random_ = random.Random(20260101)
    ready: list[float] = []
    server = start(state)
    try:
        first_start = wait_ready(state, server, time.monotonic())
        assert lanjie(state, "catalogue", "publish", str(DATA / "national.yaml")).returncode == 0
        for moment in range(moments):
            path = tmp_path / f"list-{moment}.csv"
            first = 100_000 * (moment + 1)
            write_list(path, first)
            importing = subprocess.Popen(
                [*LANJIE, "list", "import", str(path), "--gateway-file", str(state / "gateway.json"), "--json"],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            time.sleep(random_.uniform(0.3, 2.5))
            before = gateway_pid(state)
            server.send_signal(signal.SIGKILL)
            server.wait()
            killed = time.monotonic()
            server = start(state)
            ready.append(wait_ready(state, server, killed, before))
            importing.wait(60)

            first_in, last_in = (
                bool(json.loads(lanjie(state, "list", "find", uscc(number)).stdout))
                for number in (first, first + ROWS - 1)
            )
            assert first_in == last_in, "half a file"
            receipts = [
                json.loads(re.sub(r"^[^{]*", "", lanjie(state, "list", "import", str(path)).stdout)) for _ in range(2)
            ]
            assert receipts[0]["receipt_id"] == receipts[1]["receipt_id"]
            assert receipts[0]["added"] == ROWS
            assert json.loads(lanjie(state, "list", "find", uscc(first + ROWS - 1)).stdout)
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(20) == 0
    print(f"ready again after {statistics.median(ready):.1f} s in the median, {max(ready):.1f} s at most")
    assert statistics.median(ready) < SLOWER * first_start  # of this run: how busy a machine is says nothing of us
    found = revisions(state)
    assert found == list(range(1, len(found) + 1))
    assert len(found) == moments + 1


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.long)])
def test_a_second_serve_refuses_and_a_signal_drains_and_no_child_stays(tmp_path: Path, number: signal.Signals) -> None:
    state = tmp_path / "state"
    state.mkdir()
    server = start(state)
    try:
        wait_ready(state, server, time.monotonic())
        children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
        assert len(children) == 3
        pid = gateway_pid(state)
        second = start(state)
        assert second.wait(40) == 2
        assert "another gateway holds" in (tmp_path / "serve.log").read_text()
        assert gateway_pid(state) == pid
        assert lanjie(state, "status").returncode == 0
        started = time.monotonic()
        server.send_signal(number)
        assert server.wait(20) == 0
        assert time.monotonic() - started < 15
        assert not any(Path(f"/proc/{pid}").exists() for pid in children)
        assert not (state / "gateway.json").exists()
    finally:
        server.kill()
        server.wait()
