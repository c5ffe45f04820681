"""Clients of Valkey/Redis by URL: single server, unix socket, Sentinel, Cluster; each also over TLS.

    redis://[user:pass@]host:port[/db]                    rediss:// for TLS
    unix://[user:pass@]/path/to/socket[?db=n]
    redis+sentinel://[user:pass@]host:port,.../SERVICE[/db]   rediss+sentinel://
    redis+cluster://[user:pass@]host:port,...                 rediss+cluster://

Options follow as query parameters with the names that redis-py gives them, e.g. ``?ssl_ca_certs=/etc/ca.pem``; the
Sentinels' own password is ``sentinel_password``. An error about a URL names the form and never repeats the URL: it may
hold a password.
"""

import asyncio
import inspect
import re
from typing import Any, Final, TypeAlias

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, RedisClusterException, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError

AsyncClient: TypeAlias = Redis | RedisCluster
"""Bytes in, bytes out."""
FORMS: Final = (
    "redis[s]://HOST:PORT[/DB], unix:///PATH, redis[s]+sentinel://HOST:PORT,.../SERVICE[/DB] "
    "or redis[s]+cluster://HOST:PORT,..."
)
FAILURES: Final = (
    *(RedisError, RedisClusterException, OSError, TimeoutError),
    *(ValueError, TypeError, LookupError, AttributeError, RuntimeError),
)
"""What a command may raise where Redis is not there, or is not Redis. A cluster of which no node can be reached has an
exception of its own kind; hiredis and redis-py answer to garbage with almost anything."""
CONNECTIONS: Final = 16
"""Connections of one client to one server."""
READ_BYTES: Final = 1 << 18
START_SECONDS: Final = 1.0
_URL: Final = re.compile(r"(rediss?)\+(sentinel|cluster)://(?:([^@/?#]*)@)?([^@/?#]+)(/[^?#]*)?(\?[^#]*)?")
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+):(\d{1,5})")


def connect(url: str, *, timeout: float) -> AsyncClient:
    """Return a client; it connects when it is first used.

    Args:
        url: one of the forms above.
        timeout: seconds for a connection and for every answer. A connection found broken is made anew once, at once.

    Raises:
        ValueError: not one of the forms, or an option that does not exist.
    """
    many = _URL.fullmatch(url)
    try:
        options = _options(f"{many[1]}://{many[3] + '@' if many[3] else ''}host{many[6] or ''}" if many else url)
        common = {
            # RESP2: every server and every proxy speaks it, and it needs no handshake.
            "protocol": 2,
            "socket_timeout": timeout,
            "socket_connect_timeout": timeout,
            "socket_read_size": READ_BYTES,
            "driver_info": None,
            "max_connections": CONNECTIONS,
        }
        if many is None:
            return _single({**common, **options}, timeout)
        hosts = [_host(host) for host in many[4].split(",")]
        options.pop("host")
        if options.pop("connection_class", None) is not None:
            options["ssl"] = True
        if many[2] == "cluster":
            return _cluster({**common, **options}, hosts, many[5] or "")
        return _sentinel({**common, **options}, hosts, many[5] or "")
    except (ValueError, TypeError, LookupError):
        # From None: the original may repeat a part of the URL that was a password.
        raise ValueError(f"the Redis URL is not of the form {FORMS}, or an option of it does not exist") from None


async def close(client: AsyncClient) -> None:
    """Close a client, with the connections to Sentinels that it asked."""
    pool = getattr(client, "connection_pool", None)
    if isinstance(pool, SentinelConnectionPool):
        for each in pool.sentinel_manager.sentinels:
            await each.aclose()
    await client.aclose()


async def settle(client: AsyncClient, seconds: float) -> None:
    """Wait, at most `seconds`, while a server reads back what it wrote when it stopped.

    One that cannot be reached is waited for a moment only: it may just have been started.
    """
    clock = asyncio.get_running_loop().time
    begun = clock()
    while True:
        try:
            await client.ping()
        except BusyLoadingError:
            patience = seconds
        except FAILURES:
            patience = min(seconds, START_SECONDS)
        else:
            return
        if clock() - begun > patience:
            return
        await asyncio.sleep(0.05)


def _options(url: str) -> dict[str, Any]:
    options = dict(parse_url(url))
    if not ("host" in options or "path" in options) or options.get("decode_responses"):
        raise ValueError
    return options


def _host(text: str) -> tuple[str, int]:
    match = _HOST.fullmatch(text)
    if match is None:
        raise ValueError
    return match[1].strip("[]"), int(match[2])


def _once() -> Retry:
    return Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,))


def _known(options: dict[str, Any], connection: type[AbstractConnection]) -> None:
    """Refuse options that the first connection would stumble over."""
    known = {name for each in connection.__mro__ for name in inspect.signature(each).parameters}
    if unknown := options.keys() - known - {"connection_class", "max_connections"}:
        raise ValueError(unknown)


def _single(options: dict[str, Any], timeout: float) -> Redis:
    _known(options, options.get("connection_class", Connection))
    return Redis.from_pool(BlockingConnectionPool(timeout=timeout, retry=_once(), **options))


def _sentinel(options: dict[str, Any], hosts: list[tuple[str, int]], path: str) -> Redis:
    service, _, database = path.removeprefix("/").partition("/")
    if not service:
        raise ValueError
    own = {
        name.removeprefix("sentinel_"): options.pop(name)
        for name in ("sentinel_username", "sentinel_password")
        if name in options
    }
    _known({name: value for name, value in options.items() if name != "ssl"}, _kind(options))
    ours = {name: value for name, value in options.items() if name not in ("username", "password", "db")}
    sentinel = Sentinel(hosts, sentinel_kwargs={**ours, **own, "retry": _once()})  # type: ignore[no-untyped-call]
    if database:
        options["db"] = int(database)
    client: Redis = sentinel.master_for(service, retry=_once(), **options)
    return client


def _cluster(options: dict[str, Any], hosts: list[tuple[str, int]], path: str) -> RedisCluster:
    if path.strip("/") or options.pop("db", 0):
        raise ValueError
    _known({name: value for name, value in options.items() if name != "ssl"}, _kind(options))
    nodes = [ClusterNode(host, port) for host, port in hosts]
    return RedisCluster(startup_nodes=nodes, retry=_once(), **options)


def _kind(options: dict[str, Any]) -> type[AbstractConnection]:
    return SSLConnection if options.get("ssl") else Connection
