"""Several workers on one port: connections are dealt out, a commit works in all of them, a dead one is replaced."""

import json
import os
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import lanjie
from lanjie_gateway import supervisor
from tests.support.serve import run, serving
from tests.support.subjects import uscc

pytestmark = pytest.mark.drill

DATA = Path(__file__).parents[1] / "data"
WORKERS = 3


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with serving(tmp_path_factory.mktemp("workers") / "state", "--allow-examples", workers=str(WORKERS)) as file:
        assert run("catalogue", "publish", str(DATA / "national.yaml"), gateway_file=file).code == 0
        yield file


def children(file: Path, role: str) -> list[int]:
    """Process ids of a supervisor's children in one role."""
    control = json.loads(file.read_text())["pid"]
    supervisor = int(Path(f"/proc/{control}/stat").read_text().rpartition(")")[2].split()[1])
    pids = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    return [int(pid) for pid in pids if role.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")]


def outcomes(file: Path, subject: str, connections: int) -> list[str]:
    """What so many connections of their own are answered."""
    found = []
    for _ in range(connections):
        with lanjie.Client.from_file(file, state_dir=file.parent / "sdk", local=False) as client:
            found.append(client.check(subject, matter="tendering.bidder", purpose="test").outcome.name)
    return found


def take(file: Path, subject: str) -> None:
    rows = file.parent / "rows.csv"
    rows.write_text(
        f"id_kind,id_number,list_type,decision_no,listed_on\nuscc,{subject[5:]},WAGE,测试{subject},2026-01-20\n"
    )
    assert run("list", "import", str(rows), gateway_file=file).code == 0


def test_connections_are_dealt_out_and_a_commit_works_in_every_worker(gateway: Path) -> None:
    assert len(children(gateway, "worker")) == WORKERS
    subject = uscc(901)
    assert outcomes(gateway, subject, 12) == ["PASS"] * 12
    take(gateway, subject)
    # The import returned, so there is no worker left that passes the subject.
    assert outcomes(gateway, subject, 24) == ["RESTRICT"] * 24
    (listing,) = run("list", "find", subject, "--json", gateway_file=gateway).json
    removed = run("list", "remove", listing["id"], "--reason", "已改正", "--document", "1号", gateway_file=gateway)
    assert removed.code == 0
    assert outcomes(gateway, subject, 24) == ["PASS"] * 24
    used = [path for path in (gateway.parent / "inquiry").glob("*.segment") if path.stat().st_size > 100]
    assert len(used) > 1, "one worker got every connection"


def test_a_killed_worker_is_replaced_and_the_others_answer_on(gateway: Path) -> None:
    subject = uscc(902)
    take(gateway, subject)
    before = children(gateway, "worker")
    os.kill(before[0], signal.SIGKILL)
    # A connection that the dead one had taken already ends in no answer, never in another one.
    seen = outcomes(gateway, subject, 10)
    assert set(seen) <= {"RESTRICT", "UNDETERMINED"}
    assert "RESTRICT" in seen
    deadline = time.monotonic() + 30
    while len(now := children(gateway, "worker")) < WORKERS or before[0] in now:
        assert time.monotonic() < deadline, "no new worker"
        time.sleep(0.05)
    assert outcomes(gateway, subject, 10) == ["RESTRICT"] * 10


def test_a_worker_whose_records_found_no_room_answers_again_when_there_is(gateway: Path) -> None:
    subject = uscc(903)
    take(gateway, subject)
    for worker in children(gateway, "worker"):
        # As on a disk that is full: the limit is of these processes, and of none that begins later.
        resource.prlimit(worker, resource.RLIMIT_FSIZE, (1, 1))
    assert outcomes(gateway, subject, 1) == ["UNDETERMINED"]
    deadline = time.monotonic() + 30
    while outcomes(gateway, subject, 10) != ["RESTRICT"] * 10:
        assert time.monotonic() < deadline, "a worker answers no more"
        time.sleep(0.2)


def test_a_port_in_use_is_refused(gateway: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "PORT_SECONDS", 0.3)
    port = json.loads(gateway.read_text())["screening"].rpartition(":")[2]
    done = run("serve", "--state", str(tmp_path), "--listen", f"127.0.0.1:{port}")
    assert done.code == 2
    assert "cannot be listened on" in done.err
