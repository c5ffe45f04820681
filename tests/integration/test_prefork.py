"""Processes that share one set: a real gunicorn with Django workers, forks with a live stream, spawned children.

The figures are printed; ``-s`` shows them.
"""

import contextlib
import json
import os
import signal
import socket
import sqlite3
import stat
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

import lanjie
from lanjie import Outcome, Source, SyncState
from lanjie._runtime import Seam
from lanjie.v1 import ledger_pb2, ledger_pb2_grpc, listing_pb2, listing_pb2_grpc
from tests.support.gateway import COLUMNS
from tests.support.load import wage_row
from tests.support.prefork import Cases, Counter, children, counter, mapped, memory, until
from tests.support.sdk import ASK
from tests.support.serve import run, serving
from tests.support.subjects import uscc

pytestmark = pytest.mark.drill

DATA = Path(__file__).parents[1] / "data"
LISTED, NEW, REMOVED, LATER, LAST, FREE = (uscc(number) for number in range(1, 7))
WITHIN = 1.0
"""Seconds in which a commit works in every process."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def court_list(path: Path, subjects: list[str]) -> Path:
    """A list whose entries the matter of the example intercepts."""
    rows = [{**wage_row(subject, number), "list_type": "COURT"} for number, subject in enumerate(subjects, 1)]
    lines = [",".join(COLUMNS), *(",".join(row.get(column, "") for column in COLUMNS) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


@dataclass
class Ground:
    """A gateway, and where things lie."""

    root: Path
    port: int

    @property
    def state(self) -> Path:
        return self.root / "gateway"

    @property
    def file(self) -> Path:
        return self.state / "gateway.json"

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        self.file.unlink(missing_ok=True)
        with serving(self.state, "--allow-examples", "--listen", f"127.0.0.1:{self.port}"):
            yield

    def kill(self) -> None:
        """End all processes of the gateway at once; its files stay as they are."""
        control = int(json.loads(self.file.read_text())["pid"])
        supervisor = int(Path(f"/proc/{control}/stat").read_text().rpartition(")")[2].split()[1])
        for each in (*children(supervisor), supervisor):
            # The children end with the supervisor, and it may start new ones until it ends.
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)

    def take(self, subjects: list[str]) -> None:
        """Import a list; it is committed when this returns."""
        path = court_list(self.root / f"list-{time.monotonic_ns()}.csv", subjects)
        done = run("list", "import", str(path), "--json", gateway_file=self.file)
        assert done.code == 0, done.err + done.out

    def remove(self, subject: str) -> None:
        """Remove a listing; it is committed when this returns."""
        found = run("list", "find", subject, "--json", gateway_file=self.file).json
        request = listing_pb2.RemoveRequest(listing_id=found[0]["id"], reason="test", document="No. 1")
        with self._admin("authority") as (channel, metadata):
            listing_pb2_grpc.ListingServiceStub(channel).Remove(request, metadata=metadata, timeout=10)

    def watching(self) -> int:
        """Return how many SDKs watch."""
        return sum(sdk.connected for sdk in self._status().sdks)

    def snapshots(self) -> int:
        """Return how many sets were sent."""
        return int(self._status().counts["snapshot"])

    def _status(self) -> Any:
        with self._admin("agency") as (channel, metadata):
            stub = ledger_pb2_grpc.LedgerServiceStub(channel)
            return stub.GetSyncStatus(ledger_pb2.GetSyncStatusRequest(), metadata=metadata, timeout=10)

    def recorded(self) -> list[str]:
        """Return the case numbers of the local passes in the ledger."""
        with sqlite3.connect(f"file:{self.state}/ledger.sqlite3?mode=ro", uri=True) as ledger:
            records = ledger.execute("SELECT record FROM inquiry WHERE kind = 'local'").fetchall()
        return [json.loads(record)["case_no"] for (record,) in records]

    @contextlib.contextmanager
    def _admin(self, person: str) -> Iterator[tuple[Any, Any]]:
        content = json.loads(self.file.read_text())
        token = self.state.joinpath(content["tokens"][person]).read_text().strip()
        with grpc.insecure_channel(content["admin"]) as channel:
            yield channel, (("authorization", f"Bearer {token}"),)


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path, free_port())


@pytest.mark.parametrize(("workers", "outage"), [(3, False), pytest.param(8, True, marks=pytest.mark.long)])
def test_workers_share_one_set(ground: Ground, workers: int, *, outage: bool) -> None:
    log = ground.root / "gunicorn.log"
    with contextlib.ExitStack() as stack:
        gateway = stack.enter_context(contextlib.ExitStack())
        gateway.enter_context(ground.serving())
        assert run("catalogue", "publish", str(DATA / "national.yaml"), gateway_file=ground.file).code == 0
        ground.take([LISTED, REMOVED, LAST, *map(uscc, range(1_000, 1_500))])
        served = stack.enter_context(counter(ground.file, ground.root / "sdk", free_port(), log, workers))
        until(lambda: len(served.workers()) == workers and served.all_fresh(), what="fresh workers")
        assert served.leader()
        assert ground.watching() == 1
        tell_memory(served)
        with Cases(served, [LISTED, NEW, REMOVED]) as cases:
            until(lambda: len({case.worker for case in cases.of(LISTED)}) == workers, what="a case for every worker")
            a_commit_works_everywhere(ground, cases)
            another_leads_when_the_leader_is_killed(ground, cases)
            if outage:
                died = nothing_stops_when_the_gateway_is_killed(ground, cases, gateway)
                stack.enter_context(ground.serving())
                everything_comes_back(ground, cases, died)
        assert {case.outcome for case in cases.of(LISTED)} <= {"INTERCEPT", "UNDETERMINED"}, "a listed subject passed"
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(20) == 0
        every_local_pass_is_recorded(ground, cases)
    assert "Traceback" not in log.read_text(), log.read_text()[-3_000:]


def a_commit_works_everywhere(ground: Ground, cases: Cases) -> None:
    ground.take([NEW])
    intercepted_within(cases, NEW, "a listing")
    removed = time.monotonic()
    ground.remove(REMOVED)
    passed_within(cases, REMOVED, "a removal", removed)


def another_leads_when_the_leader_is_killed(ground: Ground, cases: Cases) -> None:
    served = cases.counter
    killed = served.leader()
    os.kill(killed, signal.SIGKILL)
    died = time.monotonic()
    until(ground.watching, 2.0, "another leader")
    print(f"another leads {time.monotonic() - died:.2f} s after the one before was killed")
    until(lambda: len(served.workers()) == served.size and served.all_fresh(), what="its replacement")
    assert served.leader() not in (0, killed)
    assert ground.watching() == 1
    cases.asked[:] = [LISTED, LATER]
    ground.take([LATER])
    intercepted_within(cases, LATER, "a listing under the new leader")


def nothing_stops_when_the_gateway_is_killed(ground: Ground, cases: Cases, gateway: contextlib.ExitStack) -> float:
    cases.asked[:] = [LISTED, LAST, FREE]
    ground.kill()
    died = time.monotonic()
    until(lambda: cases.of(LISTED, died + 0.1) and cases.of(FREE, died + 0.1), what="cases without a gateway")
    assert cases.counter.all_fresh()
    during = [case for case in tuple(cases.done) if case.asked > died + 0.1]
    assert {case.outcome for case in during if case.subject == LISTED} == {"UNDETERMINED"}
    assert {(case.outcome, case.source) for case in during if case.subject == FREE} == {("PASS", "LOCAL")}
    gateway.close()
    return died


def everything_comes_back(ground: Ground, cases: Cases, died: float) -> None:
    back = time.monotonic()
    until(lambda: cases.counter.all_fresh(back), 40, "contact again")
    print(f"{back - died:.1f} s without a gateway; every worker has contact {time.monotonic() - back:.2f} s after it")
    assert cases.counter.leader()
    removed = time.monotonic()
    ground.remove(LAST)
    passed_within(cases, LAST, "a removal after the return", removed)


def intercepted_within(cases: Cases, subject: str, what: str) -> None:
    """Wait until every worker intercepts; from `WITHIN` seconds after the acknowledgement nobody may have passed."""
    done = time.monotonic()
    until(
        lambda: len(cases.first(subject, done, lambda case: case.outcome == "INTERCEPT")) == cases.counter.size,
        what=what,
    )
    tell(what, cases.first(subject, done, lambda case: case.outcome == "INTERCEPT"))
    until(lambda: cases.of(subject, done + WITHIN), what=what)
    assert {case.outcome for case in cases.of(subject, done + WITHIN)} == {"INTERCEPT"}


def passed_within(cases: Cases, subject: str, what: str, since: float) -> None:
    """Wait until every worker passes on its own; nobody intercepts once the removal is acknowledged.

    Args:
        since: monotonic seconds; when the removal was asked for.
    """
    done = time.monotonic()
    until(
        lambda: len(cases.first(subject, since, lambda case: case.source == "LOCAL")) == cases.counter.size, what=what
    )
    tell(what, cases.first(subject, since, lambda case: case.source == "LOCAL"))
    until(lambda: cases.of(subject, done), what=what)
    assert {case.outcome for case in cases.of(subject, done)} == {"PASS"}


def tell(what: str, seconds: dict[int, float]) -> None:
    found = sorted(seconds.values())
    print(f"{what}: {len(found)} workers, median {statistics.median(found):.3f} s, last {found[-1]:.3f} s")


def tell_memory(served: Counter) -> None:
    workers = sorted(served.workers())
    for worker, each in memory(workers).items():
        print(f"worker {worker}: Rss {each['Rss']} kB, Pss {each['Pss']} kB, Private {each['Private_Dirty']} kB")
    until(lambda: all(each["filter"] == "bloom" for each in served.statuses().values()), what="the image")
    images = {worker: mapped(worker, "/bloom-") for worker in workers if worker != served.leader()}
    for worker, each in images.items():
        print(f"worker {worker} maps the image: {each}")
        assert each["Size"] > 0
        assert each["Private_Dirty"] == 0, "the image is copied"


def every_local_pass_is_recorded(ground: Ground, cases: Cases) -> None:
    told = {case.number for case in cases.done if case.source == "LOCAL"}
    # What the killed leader had not brought yet lies in its spool, until the next process that starts brings it.
    with lanjie.Client.from_file(ground.file, state_dir=ground.root / "sdk", upload_interval=0.1) as client:
        client.wait_ready(10)
        with contextlib.suppress(AssertionError):
            until(lambda: told <= set(ground.recorded()))
    recorded = ground.recorded()
    by_worker = {case.worker for case in cases.done}
    print(f"{len(recorded)} local passes of {len(by_worker)} workers recorded, {len(cases.lost)} answers lost")
    assert len(recorded) == len(set(recorded))
    assert told <= set(recorded), "a local pass without a record"
    assert set(recorded) - told <= set(cases.lost)


FORKING = """
import os, signal, sys, time, warnings
import lanjie
warnings.simplefilter("ignore")
listed, free = sys.argv[3:5]
ask = {"matter": "procurement.supplier", "purpose": "x"}
client = lanjie.Client.from_file(sys.argv[1], state_dir=sys.argv[2], upload_interval=0.1)
client.wait_ready(10)
answer = lambda subject: (lambda decision: (decision.outcome.name, decision.source.name))(client.check(subject, **ask))
print("parent", answer(listed), answer(free), client.sync_status().leads, flush=True)
# gRPC may leave a child of a process that uses it a broken library: then another one has its turn.
status = signal.SIGSEGV
while os.WIFSIGNALED(status):
    child = os.fork()
    if child == 0:
        client.check(listed, **ask)
        client.wait_ready(10)
        print("child", answer(listed), answer(free), client.sync_status().leads, flush=True)
        if sys.argv[5] == "close":
            client.close()
        os._exit(0)
    status = os.waitpid(child, 0)[1]
print("parent", answer(listed), answer(free), client.sync_status().leads, client.sync_status().last_error, flush=True)
sys.stdin.readline()
print("parent", answer(listed), client.sync_status().leads, client.sync_status().last_error, flush=True)
sys.stdin.readline()
client.close()
"""

SPAWNING = """
import multiprocessing, sys
import lanjie


def work(gateway_file, state_dir, listed, free):
    ask = {"matter": "procurement.supplier", "purpose": "x"}
    with lanjie.Client.from_file(gateway_file, state_dir=state_dir) as client:
        client.wait_ready(20)
        found = [client.check(subject, **ask) for subject in (listed, free)]
        return [(each.outcome.name, each.source.name) for each in found], client.sync_status().leads


if __name__ == "__main__":
    with lanjie.Client.from_file(*sys.argv[1:2], state_dir=sys.argv[2]) as client:
        client.wait_ready(10)
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            print(*{str(each) for each in pool.starmap(work, [sys.argv[1:]] * 4, chunksize=1)})
        print(client.sync_status().leads)
"""


class Program:
    """A client in a Python of its own, line by line."""

    def __init__(self, path: Path, *arguments: str) -> None:
        with path.with_suffix(".err").open("w") as complaints:
            self.process = subprocess.Popen(
                [sys.executable, str(path), *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                text=True,
            )

    def says(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def go_on(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()
        self.process.wait()


@contextlib.contextmanager
def program(root: Path, text: str, *arguments: str) -> Iterator[Program]:
    path = root / f"program-{time.monotonic_ns()}.py"
    path.write_text(text)
    made = Program(path, *arguments)
    try:
        yield made
    finally:
        made.end()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    made = Ground(tmp_path_factory.mktemp("gateway"), free_port())
    with made.serving():
        assert run("catalogue", "publish", str(DATA / "national.yaml"), gateway_file=made.file).code == 0
        made.take([LISTED, *map(uscc, range(1_000, 1_100))])
        yield made


@pytest.mark.parametrize("end", ["close", "exit"])
def test_a_child_leaves_stream_lock_and_lead_to_its_parent(gateway: Ground, tmp_path: Path, end: str) -> None:
    sdk = tmp_path / "sdk"
    arguments = (str(gateway.file), str(sdk), LISTED, FREE, end)
    sound = "('INTERCEPT', 'GATEWAY') ('PASS', 'LOCAL')"
    before = gateway.snapshots()
    with program(tmp_path, FORKING, *arguments) as parent:
        assert parent.says() == f"parent {sound} True"
        assert parent.says() == f"child {sound} False"
        assert parent.says() == f"parent {sound} True"
        assert gateway.watching() == 1
        assert gateway.snapshots() - before == 1
        with lanjie.Client.from_file(gateway.file, state_dir=sdk) as other:
            other.wait_ready(10)
            assert not other.sync_status().leads
            parent.go_on()
            assert parent.says() == "parent ('INTERCEPT', 'GATEWAY') True"
            parent.process.kill()
            until(lambda: other.sync_status().leads, what="the lead of a dead parent")


def test_spawned_children_follow(gateway: Ground, tmp_path: Path) -> None:
    with program(tmp_path, SPAWNING, str(gateway.file), str(tmp_path / "sdk"), LISTED, FREE) as parent:
        assert parent.says() == "([('INTERCEPT', 'GATEWAY'), ('PASS', 'LOCAL')], False)"
        assert parent.says() == "True"
        assert parent.process.wait(20) == 0


def test_two_clients_of_one_process_share_the_set(gateway: Ground, tmp_path: Path) -> None:
    with (
        lanjie.Client.from_file(gateway.file, state_dir=tmp_path) as one,
        lanjie.Client.from_file(gateway.file, state_dir=tmp_path) as two,
    ):
        for client in (one, two):
            client.wait_ready(10)
        assert sorted([one.sync_status().leads, two.sync_status().leads]) == [False, True]
        leader, follower = (one, two) if one.sync_status().leads else (two, one)
        leader.close()
        until(lambda: follower.sync_status().leads, what="the other leads")
        assert follower.sync_status().state is SyncState.FRESH


def test_a_stopped_leader_keeps_the_lead_and_the_others_grow_old_and_ask(gateway: Ground, tmp_path: Path) -> None:
    sdk = tmp_path / "sdk"
    with program(tmp_path, FORKING, str(gateway.file), str(sdk), LISTED, FREE, "exit") as leader:
        for _ in range(3):
            leader.says()
        skew = [0.0]
        seam = Seam(monotonic=lambda: time.clock_gettime(time.CLOCK_BOOTTIME) + skew[0])
        with lanjie.Client.from_file(gateway.file, state_dir=sdk, seam=seam) as follower:
            follower.wait_ready(10)
            assert not follower.sync_status().leads
            leader.process.send_signal(signal.SIGSTOP)
            for passed, state, source in (
                (46.0, SyncState.SOFT, Source.LOCAL),
                (15 * 60.0 + 1, SyncState.STALE, Source.GATEWAY),
                (24 * 3_600.0 + 1, SyncState.EXPIRED, Source.GATEWAY),
            ):
                skew[0] = passed
                assert follower.sync_status().state is state
                assert follower.check(FREE, **ASK).source is source
                assert follower.check(LISTED, **ASK).outcome is Outcome.INTERCEPT
                assert not follower.sync_status().leads
            skew[0] = 0.0
            leader.process.send_signal(signal.SIGCONT)
            leader.go_on()
            assert leader.says() == "parent ('INTERCEPT', 'GATEWAY') True"
            assert follower.sync_status().state is SyncState.FRESH


def test_what_lies_in_the_state_directory_is_its_owners_alone(gateway: Ground, tmp_path: Path) -> None:
    sdk = tmp_path / "sdk"
    before = os.umask(0)
    try:
        with lanjie.Client.from_file(gateway.file, state_dir=sdk) as client:
            client.wait_ready(10)
            client.check(FREE, **ASK)
            until(lambda: list(sdk.glob("*/bloom-*")), what="the image")
            found = {path: stat.S_IMODE(path.stat().st_mode) for path in (sdk, *sdk.rglob("*"))}
    finally:
        os.umask(before)
    assert {mode for path, mode in found.items() if path.is_dir()} == {0o700}
    assert {mode for path, mode in found.items() if path.is_file()} == {0o600}


FULL = """
import sys
import lanjie
with lanjie.Client.from_file(sys.argv[1], state_dir=sys.argv[2]) as client:
    ask = {"matter": "procurement.supplier", "purpose": "x"}
    try:
        client.wait_ready(1.5)
    except lanjie.Unavailable as error:
        print(error)
    for subject in sys.argv[3:]:
        decision = client.check(subject, **ask)
        print(decision.outcome.name, decision.source.name)
"""


@pytest.mark.parametrize(
    "prepare", ["dd if=/dev/zero of={0}/filler bs=4k 2>/dev/null", "mount -o remount,ro {0}"], ids=["full", "read-only"]
)
def test_where_nothing_can_be_written_everything_is_asked(gateway: Ground, tmp_path: Path, prepare: str) -> None:
    place, script = tmp_path / "disk", tmp_path / "full.py"
    place.mkdir()
    script.write_text(FULL)
    order = "mount -t tmpfs -o size=256k none {0}; " + prepare + "; exec {1} {2} {3} {0} {4} {5}"
    command = order.format(place, sys.executable, script, gateway.file, LISTED, FREE)
    unshare = ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*unshare, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no user namespaces here")
    done = subprocess.run([*unshare, "sh", "-c", command], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-2_000:]
    said, *answers = done.stdout.splitlines()
    assert "not ready" in said
    assert answers == ["INTERCEPT GATEWAY", "PASS GATEWAY"]
