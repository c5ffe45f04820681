"""A new view key while counters are served: nobody is without a set, and nobody is forgotten."""

import datetime
import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import lanjie
from lanjie_matcher.receipts import items_of, opened
from tests.support.gateway import RunningGateway, running
from tests.support.load import wage_row
from tests.support.serve import run
from tests.support.subjects import uscc

DATA = Path(__file__).parents[1] / "data"
ASK: dict[str, Any] = {"matter": "tendering.bidder", "purpose": "test"}
ROTATE = ("rotate-view-key", "--json", "--gateway-file")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.long)])
def ledger_url(request, tmp_path):
    """The rotation itself is tested on both databases; the way to the SDKs is the same."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.sqlite3"
    return request.getfixturevalue("shared_url")


@pytest.fixture
def gateway(tmp_path, ledger_url):
    with running(tmp_path / "state", datetime.datetime.now(datetime.UTC), ledger_url=ledger_url) as gateway:
        gateway.publish(DATA / "national.yaml")
        gateway.import_rows([wage_row(uscc(number), 1) for number in range(40)])
        yield gateway


def until(done, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_counters_take_a_new_key_without_a_gap(gateway: RunningGateway):
    with gateway.client() as client:
        client.wait_ready(10)
        before = client.sync_status()
        sources, stop = set(), threading.Event()

        def ask():
            while not stop.is_set():
                assert client.check(uscc(7), **ASK).outcome is lanjie.Outcome.RESTRICT
                sources.add(client.check(uscc(900), **ASK).source)
                time.sleep(0.002)

        asking = threading.Thread(target=ask)
        asking.start()
        told = run(*ROTATE, str(gateway.file)).json
        assert told["generation"] == before.generation + 1
        until(lambda: client.sync_status().generation == told["generation"])
        stop.set()
        asking.join()
        assert sources == {lanjie.Source.LOCAL}
        after = client.sync_status()
        assert (after.count, after.epoch) == (before.count, before.epoch)
        assert after.revision == told["revision"] > before.revision
        # The key that counts is the new one: what is listed now is known by it, and what is removed is forgotten.
        revision = gateway.import_rows([wage_row(uscc(50), 1)]).revision
        until(lambda: client.sync_status().revision >= revision)
        assert client.check(uscc(50), **ASK).outcome is lanjie.Outcome.RESTRICT
        view = gateway.inner.control.views.view
        assert client.sync_status().count == view.head()[1] == before.count + 1
        assert run(*ROTATE, str(gateway.file)).json["generation"] == told["generation"] + 1
        until(lambda: client.sync_status().generation == told["generation"] + 1)
        assert client.check(uscc(50), **ASK).outcome is lanjie.Outcome.RESTRICT


def test_a_client_that_was_away_takes_the_new_generation_from_its_old_set(gateway: RunningGateway):
    with gateway.client() as client:
        client.wait_ready(10)
    run(*ROTATE, str(gateway.file))
    with gateway.client() as client:
        client.wait_ready(10)
        until(lambda: client.sync_status().generation == 2)
        assert client.check(uscc(7), **ASK).outcome is lanjie.Outcome.RESTRICT
        assert client.check(uscc(900), **ASK).source is lanjie.Source.LOCAL


def test_what_passed_before_a_rotation_is_proved_after_it(gateway: RunningGateway):
    with gateway.client() as client:
        client.wait_ready(10)
        passed = client.check(uscc(900), **ASK)
        assert passed.source is lanjie.Source.LOCAL
        run(*ROTATE, str(gateway.file))
        keys = json.loads(gateway.file.read_text())["trusted_keys"]
        content = opened(
            client.receipt([(passed, uscc(900))]), {name: bytes.fromhex(key) for name, key in keys.items()}
        )
    assert len(items_of(content, uscc(900))) == 1


def test_records_of_local_passes_name_the_generation(gateway: RunningGateway):
    run(*ROTATE, str(gateway.file))
    with gateway.client(upload_interval=0.05) as client:
        client.wait_ready(10)
        until(lambda: client.sync_status().generation == 2)
        assert client.check(uscc(900), **ASK).source is lanjie.Source.LOCAL
    from lanjie_gateway.adapters.ledger import Ledger

    records = gateway.run(gateway.inner.control.ledger.call(Ledger.inquiries))
    assert [b'"generation":2' in record.record for record in records if record.kind == "local"] == [True]
