"""Faults of the network between a client and the feed of a real gateway: the set ages honestly and comes back.

The clock of the client runs thirty times as fast as it should, and the gateway's heart beats accordingly: the 45
seconds of a fresh set pass in one and a half. The real ones pass under ``./run check --long``.
"""

import datetime
import functools
import itertools
import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

import lanjie
from lanjie import Outcome, Source, SyncState
from lanjie._runtime import Seam
from lanjie._transport import Endpoint, GrpcTransport, Watch
from lanjie.errors import error_of
from lanjie.v1 import screening_pb2
from lanjie_gateway.domain.view import View
from tests.support.gateway import COLUMNS, RunningGateway, running
from tests.support.load import wage_row
from tests.support.proxy import Proxy, proxied
from tests.support.serve import run, serving
from tests.support.subjects import uscc

pytestmark = pytest.mark.drill

DATA = Path(__file__).parents[1] / "data"
SPEED = 30.0
LISTED, FREE = uscc(1), uscc(2)
ASK: dict[str, Any] = {"matter": "tendering.bidder", "purpose": "bid review"}
HIGH: dict[str, Any] = {"matter": "license.general", "purpose": "permit"}
NOW = datetime.datetime(2026, 11, 2, 3, tzinfo=datetime.UTC)


class Transport(GrpcTransport):
    """Finds the feed at the proxy."""

    feed = ""
    watches = True

    def discover(self, timeout: float) -> screening_pb2.DiscoverResponse:
        found = super().discover(timeout)
        found.feed_address = self.feed or found.feed_address
        return found

    def watch(self, feed: str) -> Watch:
        if not self.watches:
            raise error_of("UNIMPLEMENTED", "", "", {})
        return super().watch(feed)


@dataclass
class Scene:
    """A gateway, the network before its feed, and clients of both."""

    gateway: RunningGateway
    proxy: Proxy
    root: Path
    began: float = field(default_factory=time.monotonic)
    skipped: float = 0.0

    def skip(self, seconds: float) -> None:
        """Let time pass at once, by all clocks."""
        self.skipped += seconds
        self.gateway.clock.at += datetime.timedelta(seconds=seconds)

    def client(self, name: str = "sdk", *, speed: float = SPEED, **options: Any) -> lanjie.Client:
        """Return a client whose clock runs at a speed."""
        watching = options.pop("watching", True)

        def transport(endpoint: Endpoint) -> Transport:
            made = Transport(endpoint)
            made.feed, made.watches = self.proxy.address, watching
            return made

        chance = random.Random(7)
        seam = Seam(
            transport=transport,
            monotonic=lambda: 1_000.0 + (time.monotonic() - self.began) * speed + self.skipped,
            unix_nanos=lambda: int(self.gateway.clock().timestamp()) * 1_000_000_000,
            jitter=chance.random,
        )
        return lanjie.Client.from_file(self.gateway.file, state_dir=self.root / name, seam=seam, **options)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lanjie_gateway.services.sync.BEAT_SECONDS", 15.0 / SPEED)
        with running(tmp_path_factory.mktemp("gateway"), NOW) as made:
            made.publish(DATA / "national.yaml")
            made.import_rows([wage_row(LISTED, 1), *(wage_row(uscc(1_000 + each), each) for each in range(2, 500))])
            yield made


@pytest.fixture
def scene(gateway: RunningGateway, tmp_path: Path) -> Iterator[Scene]:
    with proxied(gateway.inner.control.feed_address) as proxy:
        yield Scene(gateway, proxy, tmp_path)
    gateway.clock.at = NOW


def until(holds: Callable[[], Any], seconds: float = 15.0) -> float:
    """Wait until something holds; return the seconds it took."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < seconds, "not in time"
        time.sleep(0.005)
    return time.monotonic() - began


def state_of(client: lanjie.Client) -> SyncState:
    return client.sync_status().state


def answers_by_age(client: lanjie.Client) -> None:
    """Hold the answers of a client against the table of ages, as far as its state did not change meanwhile."""
    before = state_of(client)
    passed, high, hit = (client.check(FREE, **ASK), client.check(FREE, **HIGH), client.check(LISTED, **ASK))
    assert hit.outcome is Outcome.RESTRICT
    assert {passed.outcome, high.outcome} == {Outcome.PASS}
    if state_of(client) is not before:
        return
    assert (passed.source is Source.LOCAL) is (before in (SyncState.FRESH, SyncState.SOFT)), before
    assert (high.source is Source.LOCAL) is (before is SyncState.FRESH), before
    assert ("set-soft" in passed.warnings) is (before is SyncState.SOFT), before


def test_a_connection_that_is_silent_is_found_out_and_made_anew(scene: Scene) -> None:
    with scene.client() as client:
        client.wait_ready(10)
        answers_by_age(client)
        scene.proxy.mode = "hold"
        oldest = 0.0
        while state_of(client) is SyncState.FRESH:
            oldest = client.sync_status().age_seconds or 0.0
            answers_by_age(client)
        assert oldest <= 45.0 + SPEED * 0.1
        answers_by_age(client)
        assert state_of(client) is SyncState.SOFT
        until(lambda: client.sync_status().last_error)
        scene.skip(900.0)
        assert state_of(client) is SyncState.STALE
        answers_by_age(client)
        assert client.sync_status().last_error
        scene.proxy.mode = "pass"
        healed = until(lambda: state_of(client) is SyncState.FRESH)
        print(f"fresh {healed:.2f} s after the network healed")
        answers_by_age(client)


@pytest.mark.long
def test_a_silent_connection_in_real_time(gateway: RunningGateway, tmp_path: Path) -> None:
    with proxied(gateway.inner.control.feed_address) as proxy:
        scene = Scene(gateway, proxy, tmp_path)
        with scene.client(speed=1.0) as client:
            client.wait_ready(10)
            proxy.mode = "hold"
            held = time.monotonic()
            until(lambda: state_of(client) is SyncState.SOFT, 47)
            left = time.monotonic() - held
            print(f"left FRESH {left:.1f} s after the network went silent")
            assert left <= 45.5
            answers_by_age(client)
            proxy.mode = "pass"
            print(f"fresh {until(lambda: state_of(client) is SyncState.FRESH, 40):.1f} s after it healed")


@pytest.mark.parametrize("fault", ["reset", "half_close"])
def test_a_connection_that_is_cut_is_made_anew(scene: Scene, fault: str) -> None:
    with scene.client() as client:
        client.wait_ready(10)
        for _ in range(3):
            wanted = scene.proxy.accepted + 1
            getattr(scene.proxy, fault)()
            until(functools.partial(lambda wanted: scene.proxy.accepted >= wanted, wanted))
            answers_by_age(client)
            until(lambda: state_of(client) is SyncState.FRESH and not client.sync_status().last_error)


@pytest.mark.parametrize("mode", ["bytes", "slow"])
def test_a_network_that_is_bad_but_whole_does_no_harm(scene: Scene, mode: str) -> None:
    scene.proxy.mode = mode
    with scene.client(speed=1.0) as client:
        began = time.monotonic()
        client.wait_ready(20)
        print(f"{mode}: fresh after {time.monotonic() - began:.2f} s")
        answers_by_age(client)
        contact = client.sync_status().last_contact
        until(lambda: client.sync_status().last_contact != contact)
        # What lies on the way is part of the age.
        assert (client.sync_status().age_seconds or 0.0) < 45.0


@pytest.mark.parametrize("fault", ["refused", pytest.param("closed", marks=pytest.mark.long)])
def test_where_no_stream_gets_through_the_set_is_pulled(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    if fault == "closed":
        monkeypatch.setattr(scene.gateway.inner.control.sync, "watch", _closed)
    # No faster: the thread rests for up to a second.
    with scene.client(speed=10.0, watching=fault == "closed") as client:
        client.wait_ready(20)
        seen: Counter[SyncState] = Counter()
        ends = time.monotonic() + 6.0
        while time.monotonic() < ends:
            seen[state_of(client)] += 1
            time.sleep(0.01)
        assert set(seen) == {SyncState.FRESH}
        answers_by_age(client)


async def _closed(*_: Any) -> AsyncGenerator[Any, None]:
    return
    yield


def test_a_replica_that_is_behind_never_leads_a_client_back(
    scene: Scene, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    new, service = uscc(9_000), scene.gateway.inner.control.sync
    with scene.client() as client:
        client.wait_ready(10)
        old = service._views.view.revision
        scene.gateway.import_rows([wage_row(new, 9_000)])
        until(lambda: client.sync_status().revision > old)
        held = client.sync_status().revision
        real = service._views.newest()
        behind = replace(real, view=cast("View", _Behind(real.view, old)))
        monkeypatch.setattr(service._views, "offers", lambda: (behind,))
        scene.proxy.reset()
        until(lambda: state_of(client) is not SyncState.FRESH)
        for _ in range(50):
            assert client.sync_status().revision == held
            assert client.check(new, **ASK).outcome is Outcome.RESTRICT
            answers_by_age(client)
        monkeypatch.undo()
        until(lambda: state_of(client) is SyncState.FRESH, 40)


class _Behind:
    """A view at an earlier revision."""

    def __init__(self, view: Any, revision: int) -> None:
        self._view, self.revision = view, revision

    def __getattr__(self, name: str) -> Any:
        return getattr(self._view, name)


CROWD = """
import json, sys, threading, time
import lanjie
from lanjie._runtime import Seam
file, root, nanos, first, many, listed, free = sys.argv[1:]
seam = Seam(unix_nanos=lambda: int(nanos) or time.time_ns())
# A hundred filters that are built in one process would be measured else.
clients = [lanjie.Client.from_file(file, state_dir=f"{root}/sdk-{each}", timeout=10.0, filter="sorted", seam=seam)
           for each in range(int(first), int(first) + int(many))]
ask = {"matter": "tendering.bidder", "purpose": "bid review"}
took, errors = [], []


def start(client):
    began = time.monotonic()
    try:
        client.wait_ready(60)
        took.append(time.monotonic() - began)
        answers = [client.check(subject, **ask) for subject in (listed, free)]
        told = [f"{each.outcome.name} {each.source.name}" for each in answers]
        assert told == ["RESTRICT GATEWAY", "PASS LOCAL"], told
        assert not client.sync_status().last_error, client.sync_status().last_error
    except Exception as error:
        errors.append(repr(error))


def together(work):
    threads = [threading.Thread(target=work, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


together(start)
together(lanjie.Client.close)
print(json.dumps({"took": took, "errors": errors}))
"""


def restart_together(gateway_file: Path, root: Path, processes: int, each: int, nanos: int = 0) -> None:
    """Start clients in some processes at once, each with a state of its own, and tell how long they took."""
    command = [sys.executable, "-c", CROWD, str(gateway_file), str(root), str(nanos)]
    running = [
        subprocess.Popen([*command, str(number * each), str(each), LISTED, FREE], stdout=subprocess.PIPE)
        for number in range(processes)
    ]
    told = [json.loads(process.communicate(timeout=150)[0]) for process in running]
    took = sorted(itertools.chain.from_iterable(part["took"] for part in told))
    assert [error for part in told for error in part["errors"]] == []
    places = {"first": 0.0, "median": 0.5, "p90": 0.9, "last": 1.0}
    figures = [f"{name} {took[round((len(took) - 1) * place)]:.2f} s" for name, place in places.items()]
    print(f"{len(took)} clients fresh:", ", ".join(figures))


def test_twenty_clients_that_start_together(gateway: RunningGateway, tmp_path: Path) -> None:
    restart_together(gateway.file, tmp_path, 1, 20, int(NOW.timestamp()) * 1_000_000_000)


@pytest.mark.long
def test_two_hundred_clients_that_start_together_with_twenty_thousand_listings(tmp_path: Path) -> None:
    rows = [wage_row(LISTED, 1), *(wage_row(uscc(1_000 + each), each) for each in range(2, 20_001))]
    lines = [",".join(COLUMNS), *(",".join(row.get(column, "") for column in COLUMNS) for row in rows)]
    (tmp_path / "list.csv").write_text("\n".join(lines) + "\n")
    with serving(tmp_path / "gateway", "--allow-examples") as file:
        assert run("catalogue", "publish", str(DATA / "national.yaml"), gateway_file=file).code == 0
        assert run("list", "import", str(tmp_path / "list.csv"), gateway_file=file).code == 0
        restart_together(file, tmp_path, 2, 100)
        # Again, with what each has on disk.
        restart_together(file, tmp_path, 2, 100)
