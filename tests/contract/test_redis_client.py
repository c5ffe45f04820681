"""Every form of URL against the servers that it means."""

import asyncio
import contextlib
import datetime
import ssl
import time
from pathlib import Path

import pytest
import redis
import trustme

from lanjie_gateway.adapters.person_counts import PersonCounts
from lanjie_gateway.adapters.rate_buckets import RateBuckets, Rates
from lanjie_gateway.adapters.redis_client import AsyncClient, connect, settle
from lanjie_gateway.adapters.shared_copy import SharedCopy
from lanjie_gateway.adapters.shared_index import SharedIndex, SharedIndexError
from lanjie_matcher.fingerprints import IndexKey
from tests.support.gateway import running
from tests.support.load import MATTER, wage_row
from tests.support.shared import KEY, state, states
from tests.support.subjects import uscc
from tests.support.valkey import cluster, free_port, proxy, sentinel, valkey


async def works(client: AsyncClient) -> None:
    """Publish a little and read it back."""
    shared = SharedIndex(client, lineage="aa", epoch=1, key=KEY, timeout=5)
    copy = SharedCopy(shared)
    try:
        await copy.survey()
        for number in range(256):
            assert await copy.replace(number, states(number, 2), floor=3)
        assert await copy.finish(3)
        assert await copy.apply([state(7, 0, revision=4, value=b"new"), state(9, 1, revision=4, value=b"")]) == set()
        assert await copy.finish(4)
        read = await shared.read([state(7, 0).bucket, state(9, 1).bucket, state(200, 1).bucket])
        assert read == [(4, b"new"), None, (1, state(200, 1).value)]
        taken: list[bytes] = []
        assert await shared.load(taken.extend) == (4, [])
        assert len(set(taken)) == len(taken) == 511
    finally:
        await shared.close()


@pytest.fixture(scope="module")
def server():
    with valkey(free_port(), "--requirepass", "s3cret") as made:
        yield made


@pytest.mark.parametrize("form", ["redis://:s3cret@127.0.0.1:{port}/0", "unix://:s3cret@{socket}?db=0"])
async def test_single_server(server, form):
    await works(connect(form.format(port=server.port, socket=server.socket), timeout=5))


async def test_password_is_asked_for(server):
    shared = SharedIndex(connect(f"unix://{server.socket}", timeout=5), lineage="aa", epoch=1, key=KEY)
    with pytest.raises(SharedIndexError):
        await shared.read([bytes(16)])
    await shared.close()


async def test_tls_with_a_private_authority_and_without(tmp_path: Path):
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with valkey() as plain:
        async with proxy(plain, context) as (_, url):
            await works(connect(f"{url}?ssl_ca_certs={tmp_path / 'ca.pem'}", timeout=5))
            stranger = connect(url, timeout=5)
            with pytest.raises(redis.ConnectionError):
                await stranger.ping()
            await stranger.aclose()


async def test_sentinel_follows_to_the_promoted_replica():
    with contextlib.ExitStack() as stack:
        primary = stack.enter_context(valkey(free_port(), "--repl-diskless-sync-delay", "0"))
        replica = stack.enter_context(valkey(free_port(), "--replicaof", f"127.0.0.1 {primary.port}"))
        watch = stack.enter_context(sentinel(primary))
        await works(connect(f"redis+sentinel://127.0.0.1:{watch.port}/mine/0", timeout=5))
        await _until(lambda: replica.run("DBSIZE") == 257 and len(watch.run("SENTINEL", "REPLICAS", "mine")) == 1)
        client = connect(f"redis+sentinel://127.0.0.1:{watch.port}/mine/0", timeout=1)
        shared = SharedIndex(client, lineage="aa", epoch=1, key=KEY)
        assert (await shared.read([state(7, 0).bucket]))[0] == (4, b"new")
        primary.kill()
        until = time.monotonic() + 30
        while True:
            with contextlib.suppress(SharedIndexError):
                assert (await shared.read([state(7, 0).bucket]))[0] == (4, b"new")
                break
            assert time.monotonic() < until
            await asyncio.sleep(0.1)
        copy = SharedCopy(shared)
        assert len((await copy.survey()).sound) == 256
        assert await copy.apply([state(7, 0, revision=5, value=b"newer")]) == set()
        await shared.close()


async def test_cluster():
    with cluster() as (nodes, url):
        await works(connect(url, timeout=5))
        assert all(node.run("DBSIZE") > 40 for node in nodes)
        nodes[1].run("FLUSHALL")
        shared = SharedIndex(connect(url, timeout=5), lineage="aa", epoch=2, key=KEY)
        assert await shared.sweep() > 100
        assert sum(node.run("DBSIZE") for node in nodes) == 0
        await shared.close()


@pytest.mark.parametrize(
    "url", ["redis://127.0.0.1:1", "redis+sentinel://127.0.0.1:1/a", "redis+cluster://127.0.0.1:1"]
)
async def test_where_none_can_be_reached_everybody_goes_on_without(url: str):
    client = connect(url, timeout=0.2)
    await settle(client, 0.1)
    await RateBuckets(Rates(department=5), client).draw("tax", 1)
    assert await PersonCounts(client, IndexKey(KEY)).add("tax", datetime.date(2026, 1, 1), [b"somebody"]) is None
    shared = SharedIndex(client, lineage="aa", epoch=1, key=KEY, timeout=0.2)
    for ask in (shared.read([bytes(16)]), shared.load(lambda _: None), shared.revision()):
        with pytest.raises(SharedIndexError):
            await ask
    await shared.close()


@pytest.mark.parametrize("index", ["memory", "redis"])
def test_a_gateway_answers_without_its_cluster(tmp_path: Path, index: str):
    now = datetime.datetime(2026, 3, 2, 1, tzinfo=datetime.UTC)
    settings = {"redis_url": "redis+cluster://127.0.0.1:1", "index": index, "checks_per_minute": 100}
    with running(tmp_path, now, **settings) as gateway, gateway.client(local=False) as client:
        gateway.publish(Path(__file__).parents[1] / "data" / "national.yaml")
        gateway.import_rows([wage_row(uscc(1), 1)])
        seen = [client.check(each, matter=MATTER, purpose="test").outcome.name for each in (uscc(1), uscc(2))]
        assert seen == ["RESTRICT", "PASS"]


async def _until(true, seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        await asyncio.sleep(0.05)
