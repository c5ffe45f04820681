"""A worker starts from the copy in Redis as far as that proves itself, from the ledger for the rest; always right."""

import contextlib
import datetime
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from lanjie_gateway.adapters.ledger import Ledger
from lanjie_gateway.bootstrap.worker import Worker
from tests.support.gateway import RunningGateway, running
from tests.support.load import wage_row
from tests.support.shared import reaches
from tests.support.subjects import uscc
from tests.support.valkey import Valkey, valkey

DATA = Path(__file__).parents[1] / "data"
NOW = datetime.datetime(2026, 11, 2, 3, tzinfo=datetime.UTC)
LISTED = 300


class Reads:
    """Shards that were read from the ledger."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.shards: list[int] = []
        real = Ledger.shards

        def shards(ledger: Ledger, numbers: Sequence[int]) -> Any:
            self.shards += numbers
            return real(ledger, numbers)

        patch.setattr(Ledger, "shards", shards)


@pytest.fixture
def redis() -> Iterator[Valkey]:
    with valkey() as server:
        yield server


BOTH = pytest.mark.parametrize("gateway", ["memory", "redis"], indirect=True)


@pytest.fixture
def gateway(tmp_path: Path, redis: Valkey, request: pytest.FixtureRequest) -> Iterator[RunningGateway]:
    with running(tmp_path, NOW, index=getattr(request, "param", "memory"), redis_url=redis.url) as gateway:
        gateway.publish(DATA / "national.yaml")
        receipt = gateway.import_rows([wage_row(uscc(number), 1) for number in range(1, LISTED + 1)])
        published(gateway, receipt.revision)
        yield gateway


@pytest.fixture
def reads(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> Reads:
    publisher = gateway.inner.control.publisher
    assert publisher is not None
    # From here on nobody heals the copy, so that the new worker meets it as the test leaves it.
    gateway.run(publisher.close())
    return Reads(monkeypatch)


def published(gateway: RunningGateway, revision: int) -> None:
    publisher = gateway.inner.control.publisher
    assert publisher is not None
    assert gateway.run(reaches(publisher, revision, 30))


@contextlib.contextmanager
def second_worker(gateway: RunningGateway) -> Iterator[Worker]:
    worker = Worker(gateway._settings, gateway.clock)
    control = gateway.inner.control
    gateway.run(worker.start(control.feed))
    try:
        gateway.run(worker.ready())
        yield worker
    finally:
        gateway.run(worker.close())


def agrees(gateway: RunningGateway, worker: Worker) -> None:
    """The new worker has what the ledger has, bucket by bucket."""

    async def compare() -> None:
        head = await gateway.inner.control.ledger.call(Ledger.head)
        assert await worker.index.reached(head, 10)
        shards = await gateway.inner.control.ledger.call(Ledger.shards, range(256))
        states = [state for shard in shards for state in shard]
        values = await worker.index.read([state.bucket for state in states], worker.index.pin(0))
        assert values == [state.value for state in states]
        days = await gateway.inner.control.ledger.call(Ledger.vouched, head)
        assert days
        sources = worker.index.sources(head)
        assert {source: day.toordinal() for source, day in sources.items()} == days
        assert len(worker.index) == len(states)

    gateway.run(compare())


def test_a_sound_copy_is_enough(gateway: RunningGateway, reads: Reads) -> None:
    with second_worker(gateway) as worker:
        assert reads.shards == []
        agrees(gateway, worker)


@BOTH
def test_an_old_copy_is_brought_up_by_the_commits_since(gateway: RunningGateway, reads: Reads) -> None:
    gateway.import_rows([wage_row(uscc(LISTED + 1), 1)])
    gateway.import_rows([{**wage_row(uscc(1), 1), "reason": "更正"}])
    with second_worker(gateway) as worker:
        assert reads.shards == []
        agrees(gateway, worker)


def test_an_empty_copy_is_no_copy(gateway: RunningGateway, redis: Valkey, reads: Reads) -> None:
    redis.run("FLUSHALL")
    with second_worker(gateway) as worker:
        assert sorted(reads.shards) == list(range(256))
        agrees(gateway, worker)


@BOTH
def test_a_lost_shard_comes_from_the_ledger(gateway: RunningGateway, redis: Valkey, reads: Reads) -> None:
    control = gateway.inner.control
    prefix = f"lanjie:{control.ledger.lineage}:{control.ledger.epoch}:b:"
    redis.run("DEL", f"{prefix}07")
    field = redis.run("HRANDFIELD", f"{prefix}2a")
    redis.run("HDEL", f"{prefix}2a", field)
    with second_worker(gateway) as worker:
        assert set(reads.shards) <= {0x07, 0x2A}
        assert 0x07 in reads.shards
        agrees(gateway, worker)


def test_a_dead_server_is_no_copy(gateway: RunningGateway, redis: Valkey, reads: Reads) -> None:
    redis.kill()
    with second_worker(gateway) as worker:
        assert sorted(reads.shards) == list(range(256))
        agrees(gateway, worker)


def test_a_copy_that_knows_more_than_the_ledger_is_thrown_away(
    gateway: RunningGateway, reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As after a restore that nobody told the copy of.
    monkeypatch.setattr(Ledger, "head", lambda _: 1)
    with second_worker(gateway) as worker:
        assert sorted(reads.shards) == list(range(256))
        assert len(worker.index) == LISTED
