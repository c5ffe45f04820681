"""What Prometheus is told: names, numbers that are true, and nothing about anybody."""

import asyncio
import datetime
import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

import lanjie
from lanjie_gateway.adapters import metrics as adapter
from lanjie_gateway.adapters.metrics import Metrics
from lanjie_gateway.domain.access import Role
from tests.support.gateway import RunningGateway, person, running
from tests.support.load import wage_row
from tests.support.subjects import uscc

DATA = Path(__file__).parents[1] / "data"
OPERATIONS = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
NOW = datetime.datetime.now(datetime.UTC)
Samples = dict[tuple[str, str], float]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with running(tmp_path_factory.mktemp("metrics") / "state", NOW, metrics="127.0.0.1:0") as made:
        made.publish(*(DATA / f"{name}.yaml" for name in ("national", "provincial", "municipal")))
        made.import_rows([wage_row(uscc(number), number) for number in range(1, 31)])
        yield made


def exposed(gateway: RunningGateway) -> str:
    address = json.loads(gateway.file.read_text())["metrics"]
    # A proxy that the environment names is for others.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(f"http://{address}/metrics", timeout=5) as answer:
        text: str = answer.read().decode()
    return text


def samples(gateway: RunningGateway) -> Samples:
    """Return what is exposed, by name and value of the label."""
    return {
        (sample.name, ",".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(exposed(gateway))
        for sample in family.samples
    }


def until(gateway: RunningGateway, name: str, label: str, value: float) -> Samples:
    deadline = time.monotonic() + 5
    while (found := samples(gateway))[name, label] != value:
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
    return found


def test_the_numbers_are_those_of_the_gateway(gateway: RunningGateway, tmp_path: Path) -> None:
    service = gateway.inner.control.sync
    with lanjie.Client.from_file(gateway.file, state_dir=tmp_path) as client:
        client.wait_ready()
        found = until(gateway, "lanjie_sync_sdks", "watching", 1)
        assert found["lanjie_sync_current", ""] == 1
        revision = service._views.view.revision
        assert found["lanjie_ledger_revision", ""] == found["lanjie_sync_view_revision", ""] == revision
        assert found["lanjie_sync_view_fingerprints", ""] == service._views.view.head()[1]
        assert (found["lanjie_workers", "configured"], found["lanjie_workers", "ready"]) == (1, 1)
        assert found["lanjie_worker_max_lag_revisions", ""] == 0
        assert found["lanjie_feedback_alarms_total", "applied-on-advice"] == 0
        assert found["lanjie_sync_updates_total", "snapshot"] == service.counts["snapshot"]
        assert found["lanjie_sync_sent_bytes_total", "snapshot"] > 256
        told = found["lanjie_sync_told_seconds_count", ""]
        listings = gateway.inner.control.listings
        who = person("authority", Role.AUTHORITY)
        (listing,) = gateway.run(listings.find(uscc(1), "test", who))
        gateway.run(listings.remove(listing.listing.id, "r", "d", "", who))
        found = until(gateway, "lanjie_sync_max_lag_revisions", "", 0)
        assert found["lanjie_sync_view_revision", ""] == revision + 1
        assert found["lanjie_sync_told_seconds_count", ""] == told + 1
        assert found["lanjie_sync_lag_seconds_bucket", "+Inf"] == 1
    until(gateway, "lanjie_sync_sdks", "watching", 0)
    assert samples(gateway)["lanjie_sync_sdks", "known"] == 1


def test_what_is_exposed_is_documented_and_tells_of_nobody(gateway: RunningGateway) -> None:
    text = exposed(gateway)
    for family in text_string_to_metric_families(text):
        assert family.documentation, family.name
        if family.name.startswith("lanjie_") and not family.name.endswith(("_created", "_gsum", "_gcount")):
            assert f"`{family.name}" in OPERATIONS, family.name
        assert len(family.samples) <= 40, family.name
    control = gateway.inner.control
    secrets = [path.read_text().strip() for path in control._tokens.files.values()]
    for never in (
        uscc(1)[5:],
        "local",
        "测试",
        control.ledger.lineage,
        *(sdk.sdk_id for sdk in control.sync.sdks()),
        *secrets,
    ):
        assert never not in text


def test_nobody_listens_unless_told_to(tmp_path: Path) -> None:
    with running(tmp_path / "state", NOW) as quiet:
        assert json.loads(quiet.file.read_text())["metrics"] == ""
        assert quiet.inner.control.metrics._server is None


def test_a_loop_that_is_busy_is_no_answer_and_no_hold_up(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lanjie_gateway.api.metrics.ANSWER_SECONDS", 0.05)

    begun, released = threading.Event(), threading.Event()

    async def be_busy() -> None:
        begun.set()
        released.wait(10)

    busy = asyncio.run_coroutine_threadsafe(be_busy(), gateway._loop)
    assert begun.wait(5)
    with pytest.raises(urllib.error.HTTPError, match="500"):
        exposed(gateway)
    released.set()
    busy.result(5)
    monkeypatch.undo()
    assert exposed(gateway)


async def test_who_says_nothing_is_let_go_and_a_port_in_use_is_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter._Handler, "timeout", 0.05)
    monkeypatch.setattr(adapter, "BIND_SECONDS", 0.2)
    first, second = Metrics(), Metrics()
    address = await first.listen("[::1]:0")
    assert address.startswith("[::1]:")
    assert await second.listen(address) == ""
    with socket.create_connection(("::1", int(address.rpartition(":")[2])), timeout=2) as silent:
        assert await asyncio.to_thread(silent.recv, 1) == b""
    await first.close()
    await second.close()
    assert (await second.listen(address)) == address
    await second.close()
