"""What the gateway knows of its SDKs: real clients, a real gateway, a clock that tests move."""

import contextlib
import datetime
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

import lanjie
from lanjie.v1 import ledger_pb2, ledger_pb2_grpc
from lanjie_gateway.domain.access import Role
from lanjie_gateway.domain.watching import Position
from lanjie_gateway.services import sync
from lanjie_gateway.services.sync import Report
from tests.support.gateway import RunningGateway, person, running
from tests.support.load import wage_row
from tests.support.subjects import uscc

DATA = Path(__file__).parents[1] / "data"
# An SDK takes no head that its own clock has not come to, or that has expired.
NOW = datetime.datetime.now(datetime.UTC)
AUTHORITY = person("authority", Role.AUTHORITY)
SDK = "ab" * 16


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with running(tmp_path_factory.mktemp("status") / "state", NOW) as made:
        made.publish(*(DATA / f"{name}.yaml" for name in ("national", "provincial", "municipal")))
        made.import_rows([wage_row(uscc(number), number) for number in range(1, 31)])
        yield made


@pytest.fixture(autouse=True)
def forgotten(gateway: RunningGateway) -> Iterator[None]:
    """Each test has a gateway that knows nobody, and the time it was."""
    yield
    gateway.clock.at = NOW
    until(lambda: not any(each.connected for each in status(gateway).sdks), "everybody has gone")
    gateway.inner.control.sync._sdks.clear()


def status(gateway: RunningGateway, who: str = "agency") -> ledger_pb2.GetSyncStatusResponse:
    token = gateway.inner.control._tokens.files[who].read_text().strip()
    with grpc.insecure_channel(gateway.inner.control.admin_address) as channel:
        stub: Any = ledger_pb2_grpc.LedgerServiceStub(channel)
        answer: ledger_pb2.GetSyncStatusResponse = stub.GetSyncStatus(
            ledger_pb2.GetSyncStatusRequest(), metadata=(("authorization", f"Bearer {token}"),), timeout=5
        )
    return answer


def until(met: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 5
    while not met():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


@contextlib.contextmanager
def counter(gateway: RunningGateway, directory: Path) -> Iterator[lanjie.Client]:
    with lanjie.Client.from_file(gateway.file, state_dir=directory) as client:
        client.wait_ready()
        yield client


def remove_one(gateway: RunningGateway, number: int) -> None:
    listings = gateway.inner.control.listings
    (found,) = gateway.run(listings.find(uscc(number), "test", AUTHORITY))
    gateway.run(listings.remove(found.listing.id, "r", "d", "", AUTHORITY))


def come(gateway: RunningGateway, sdk_id: str = SDK, department: str = "local", **has: Any) -> None:
    """Pull once as an SDK that has something."""

    async def pull() -> None:
        service = gateway.inner.control.sync
        refusal = has.pop("refusal", "")
        here: dict[str, Any] = {
            "lineage": service._views.newest().lineage,
            "epoch": 1,
            "generation": service._views.newest().generation,
        }
        report = Report(sdk_id=sdk_id, position=Position(**(here | has)), refusal=refusal)
        async with contextlib.aclosing(service.pull(report, department)) as steps:
            await anext(steps)

    gateway.run(pull())


def test_who_watches_and_who_has_left(gateway: RunningGateway, tmp_path: Path) -> None:
    with counter(gateway, tmp_path):
        until(lambda: [each.lag_revisions for each in status(gateway).sdks] == [0], "the client has all")
        told = status(gateway)
        (sdk,) = told.sdks
        assert (sdk.connected, sdk.department, sdk.lag_seconds) == (True, "local", 0)
        assert sdk.revision == told.revision == gateway.inner.control.views.view.revision
        assert (told.count, told.journal_from_revision) == (30 + 2, 0)
        assert told.counts["snapshot"] >= 1
        assert len(sdk.sdk_id) == 32
        remove_one(gateway, 1)
        until(lambda: status(gateway).sdks[0].revision == told.revision + 1, "the removal has come")
    until(lambda: not status(gateway).sdks[0].connected, "the client has gone")
    remove_one(gateway, 2)
    (sdk,) = status(gateway).sdks
    assert sdk.lag_revisions == 1
    assert 0 < sdk.lag_seconds < 60


@pytest.mark.parametrize("who", ["inquirer", "authority", "reviewer", "manager"])
def test_only_the_agency_is_told(gateway: RunningGateway, who: str) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        status(gateway, who)
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_what_is_older_than_this_gateway_counts_from_its_start(gateway: RunningGateway) -> None:
    service = gateway.inner.control.sync
    started, newest = service._views._commits[0][0], service._views.view.revision
    remove_one(gateway, 3)
    time.sleep(0.05)
    begun = time.monotonic()
    come(gateway, revision=newest, root=b"r" * 32)
    come(gateway, "cd" * 16, revision=max(started - 1, 0), root=b"r" * 32)
    come(gateway, "ef" * 16, lineage="another", revision=10_000)
    nothing, old, recent = status(gateway).sdks
    assert (recent.lag_revisions, old.lag_revisions) == (1, newest + 1 - max(started - 1, 0))
    assert 0.05 <= recent.lag_seconds < old.lag_seconds
    # To one without a set of this ledger everything is news since it came, whatever revision it says.
    assert nothing.lag_revisions == newest + 1
    assert nothing.lag_seconds <= time.monotonic() - begun


def test_a_client_ahead_of_the_gateway_lags_by_nothing(gateway: RunningGateway) -> None:
    come(gateway, revision=10**9, root=b"r" * 32)
    (sdk,) = status(gateway).sdks
    assert (sdk.lag_revisions, sdk.lag_seconds) == (0, 0)


def test_who_is_silent_for_two_days_is_forgotten(gateway: RunningGateway, tmp_path: Path) -> None:
    come(gateway)
    with counter(gateway, tmp_path):
        gateway.clock.at = NOW + datetime.timedelta(days=2)
        assert len(status(gateway).sdks) == 2
        gateway.clock.at = NOW + datetime.timedelta(days=2, seconds=1)
        # Whoever watches is never forgotten, whatever the clock says.
        assert [each.connected for each in status(gateway).sdks] == [True]


def test_the_same_name_under_another_department_is_another_client(gateway: RunningGateway) -> None:
    come(gateway, revision=1, root=b"r" * 32, refusal="root")
    come(gateway, department="other")
    assert [(each.department, each.last_refusal) for each in status(gateway).sdks] == [("other", ""), ("local", "root")]


def test_when_too_many_are_known_those_silent_longest_are_forgotten(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sync, "KNOWN_SDKS", 3)
    with counter(gateway, tmp_path):
        for number in range(5):
            come(gateway, f"{number:032x}")
        known = status(gateway).sdks
    assert [each.sdk_id[-1] for each in known[:2]] == ["4", "3"]
    assert [each.connected for each in known] == [False, False, True]


def test_a_refusal_is_remembered_until_something_is_taken(gateway: RunningGateway) -> None:
    come(gateway, revision=1, root=b"r" * 32, refusal="canary")
    come(gateway, revision=1, root=b"r" * 32)
    assert status(gateway).sdks[0].last_refusal == "canary"
    service = gateway.inner.control.sync
    come(gateway, revision=service._views.view.revision, root=service._views.view.head()[0])
    assert status(gateway).sdks[0].last_refusal == ""
    assert status(gateway).counts["refused-canary"] == 1
