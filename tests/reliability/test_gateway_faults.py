"""Faults of Redis and PostgreSQL under a whole gateway that checks, lists and removes meanwhile: no answer is wrong.

`index=redis`, so that every check of a listed subject reads Redis. One round of each fault here, hundreds under
``./run check --long``.
"""

import asyncio
import contextlib
import datetime
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import lanjie
from lanjie_gateway.adapters.redis_index import RedisIndex
from tests.support.gateway import RunningGateway, running
from tests.support.load import MATTER, Load
from tests.support.postgres import PostgresServer
from tests.support.subjects import uscc
from tests.support.valkey import Proxy, Valkey, proxy, valkey

pytestmark = pytest.mark.drill

DATA = Path(__file__).parents[1] / "data"
NOW = datetime.datetime(2026, 11, 2, 3, tzinfo=datetime.UTC)
ROUNDS = [1, pytest.param(500, marks=pytest.mark.long)]
HOLD_SECONDS = 0.15
"""How long a fault lasts."""


@contextlib.contextmanager
def proxied(server: Valkey) -> Iterator[tuple[Proxy, str]]:
    """A proxy in an event loop of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    context = proxy(server)
    try:
        yield asyncio.run_coroutine_threadsafe(context.__aenter__(), loop).result(10)
        asyncio.run_coroutine_threadsafe(context.__aexit__(None, None, None), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


@dataclass
class Scene:
    """A gateway under load, and what can go wrong around it."""

    gateway: RunningGateway
    load: Load
    redis: Valkey
    proxy: Proxy
    kept: bytes

    def during(self, mode: str) -> None:
        """Let the proxy misbehave for a while."""
        self.proxy.mode = mode
        time.sleep(HOLD_SECONDS)
        self.proxy.mode = "pass"

    def dead(self) -> None:
        """Kill the server; it comes back as it was."""
        kept = self.redis.keep()
        self.redis.kill()
        time.sleep(HOLD_SECONDS)
        self.redis.restart(kept)

    def cancelled(self) -> None:
        """Let callers go away while their answer is being made."""
        with self.gateway.client(local=False) as client:
            for number in range(20):
                with contextlib.suppress(lanjie.LanjieError):
                    client.check(uscc(10_000 + number), matter=MATTER, purpose="load", timeout=0.001)


FAULTS: dict[str, Callable[[Scene], object]] = {
    "flushed": lambda scene: scene.redis.run("FLUSHALL"),
    "killed": Scene.dead,
    "restarted empty": lambda scene: scene.redis.restart(),
    "stale copy promoted": lambda scene: scene.redis.restart(scene.kept),
    "slow by two seconds": lambda scene: scene.during("slow"),
    "garbage": lambda scene: scene.during("garbage"),
    "replies of others": lambda scene: scene.during("lies"),
    "connections cut": lambda scene: scene.during("cut"),
    "callers gone": Scene.cancelled,
}


@pytest.mark.parametrize("rounds", ROUNDS)
def test_no_fault_of_redis_makes_an_answer_wrong(tmp_path: Path, rounds: int) -> None:
    with valkey() as redis, proxied(redis) as (between, url), contextlib.ExitStack() as stack:
        gateway = stack.enter_context(running(tmp_path, NOW, index="redis", redis_url=url))
        gateway.publish(DATA / "national.yaml")
        clients = [stack.enter_context(gateway.client(local=False, timeout=3.0)) for _ in range(3)]
        with Load([gateway], clients) as load:
            load.recovery()
            scene = Scene(gateway, load, redis, between, redis.keep())
            for name, fault in FAULTS.items():
                answered, healed = [], []
                for number in range(rounds):
                    begun = time.monotonic()
                    fault(scene)
                    answered.append(load.recovery(more=10))
                    # Now and then the copy is whole again before the next fault; else faults meet a copy in the making.
                    if number % 10 == 0:
                        healed.append(_read_again(gateway, begun))
                print(
                    f"{name}: answers again after {_stated(answered)}, records from Redis again after {_stated(healed)}"
                )
                assert not load.tally.wrong, (name, load.tally.wrong[:5])
        print(f"{dict(load.tally.answers)}, {load.tally.changes} changes, {load.tally.unsettled} asked for again")
        assert load.answered() > rounds * len(FAULTS) * 10
        assert load.tally.changes > rounds
        load.confirm()


@pytest.mark.parametrize("rounds", [1, pytest.param(200, marks=pytest.mark.long)])
def test_no_fault_of_postgresql_makes_an_answer_wrong_or_loses_a_change(
    tmp_path: Path, postgres: PostgresServer, rounds: int
) -> None:
    url = postgres.database()
    with contextlib.ExitStack() as stack:
        gateway = stack.enter_context(running(tmp_path, NOW, ledger_url=url))
        gateway.publish(DATA / "national.yaml")
        clients = [stack.enter_context(gateway.client(local=False, timeout=3.0)) for _ in range(2)]
        with Load([gateway], clients) as load:
            load.recovery()
            for name, fault in (("connections cut", postgres.cut), ("server restarted", lambda _: postgres.restart())):
                answered, written = [], []
                for _ in range(rounds):
                    changes = load.tally.changes
                    begun = time.monotonic()
                    fault(url)
                    answered.append(load.recovery(more=10))
                    while load.tally.changes == changes:
                        assert time.monotonic() - begun < 60, "no change is taken any more"
                        time.sleep(0.002)
                    written.append(time.monotonic() - begun)
                print(f"{name}: answers again after {_stated(answered)}, changes again after {_stated(written)}")
                assert not load.tally.wrong, (name, load.tally.wrong[:5])
        print(f"{dict(load.tally.answers)}, {load.tally.changes} changes, {load.tally.unsettled} asked for again")
        load.confirm()
        head = gateway.inner.control.hub._head
        infos = gateway.run(gateway.inner.control.ledger.call(lambda ledger: ledger.commits_after(0, head)))
        assert [info.revision for info in infos] == list(range(1, head + 1))


def _read_again(gateway: RunningGateway, begun: float) -> float:
    index = gateway.inner.worker.index
    assert isinstance(index, RedisIndex)
    before = index.from_redis
    while index.from_redis < before + 3:
        publisher = gateway.inner.control.publisher
        said = publisher.status() if publisher else None
        assert time.monotonic() - begun < 60, f"Redis is never read again: {said}, {index.from_redis}"
        time.sleep(0.002)
    return time.monotonic() - begun


def _stated(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.2f} s in the median, {max(seconds):.2f} s at most"
