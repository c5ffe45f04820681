"""Real Valkey servers on short socket paths or free ports, and a proxy between them and a client that misbehaves."""

import asyncio
import contextlib
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import redis

from lanjie_gateway.adapters.redis_server import command, find_binary

START_SECONDS = 20.0


class Valkey:
    """One server; ended by its process id.

    Args:
        port: TCP port beside the unix socket; 0 for none.
        options: of its command line, after ours.
    """

    def __init__(self, port: int = 0, *options: str) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="vk-", dir="/tmp"))
        self.socket = self.directory / "s"
        self.port = port
        self.url = f"unix://{self.socket}"
        self.configuration = ""
        """A file's content instead of our command line, for a Sentinel."""
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Valkey":
        binary = find_binary()
        assert binary is not None
        self.socket.unlink(missing_ok=True)
        extra = ("--port", str(self.port), "--bind", "127.0.0.1", *self._options) if self.port else self._options
        line = [*command(binary, self.socket, self.directory), *extra]
        if self.configuration:
            (self.directory / "conf").write_text(self.configuration)
            line = [str(binary), str(self.directory / "conf"), "--sentinel"]
        self._process = subprocess.Popen(line, stdout=subprocess.DEVNULL)
        until = time.monotonic() + START_SECONDS
        while True:
            assert self._process.poll() is None, "the server did not start"
            with contextlib.suppress(redis.ConnectionError), self.client() as client:
                client.ping()
                return self
            assert time.monotonic() < until, "the server does not answer"
            time.sleep(0.005)

    def client(self) -> redis.Redis:
        named = dict(zip(self._options[::2], self._options[1::2], strict=True))
        return redis.Redis(unix_socket_path=str(self.socket), protocol=2, password=named.get("--requirepass"))

    def run(self, *words: Any) -> Any:
        with self.client() as client:
            return client.execute_command(*words)

    def kill(self) -> None:
        """End it as kill -9 does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def keep(self) -> bytes:
        """Return all it holds now, for `restart`."""
        self.run("SAVE")
        kept = (self.directory / "dump.rdb").read_bytes()
        (self.directory / "dump.rdb").unlink()
        return kept

    def restart(self, kept: bytes = b"") -> None:
        """Kill it and start it again, empty or with an older state."""
        self.kill()
        (self.directory / "dump.rdb").unlink(missing_ok=True)
        if kept:
            (self.directory / "dump.rdb").write_bytes(kept)
        self.start()

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


@contextlib.contextmanager
def sentinel(primary: Valkey) -> Iterator[Valkey]:
    """A Sentinel that promotes a replica of `primary` about a second after its death."""
    made = Valkey(free_port())
    made.configuration = (
        f"port {made.port}\nbind 127.0.0.1\nunixsocket {made.socket}\ndir {made.directory}\n"
        f"sentinel monitor mine 127.0.0.1 {primary.port} 1\n"
        "sentinel down-after-milliseconds mine 500\nsentinel failover-timeout mine 3000\n"
    )
    try:
        yield made.start()
    finally:
        made.close()


@contextlib.contextmanager
def valkey(port: int = 0, *options: str) -> Iterator[Valkey]:
    server = Valkey(port, *options)
    try:
        yield server.start()
    finally:
        server.close()


_CLUSTER = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")


@contextlib.contextmanager
def cluster() -> Iterator[tuple[list[Valkey], str]]:
    """Three servers that share the slots, without replicas, and the URL that leads to them."""
    with contextlib.ExitStack() as stack:
        nodes = [stack.enter_context(valkey(free_port(), *_CLUSTER)) for _ in range(3)]
        for node, (first, last) in zip(nodes, [(0, 5460), (5461, 10922), (10923, 16383)], strict=True):
            node.run("CLUSTER", "ADDSLOTSRANGE", first, last)
            nodes[0].run("CLUSTER", "MEET", "127.0.0.1", node.port)
        until = time.monotonic() + START_SECONDS
        while not all(b"cluster_state:ok" in node.run("CLUSTER", "INFO") for node in nodes):
            assert time.monotonic() < until, "no cluster came of them"
            time.sleep(0.05)
        yield nodes, f"redis+cluster://127.0.0.1:{nodes[0].port},127.0.0.1:{nodes[1].port}"


def free_port() -> int:
    """A port that is free now, and whose cluster bus port (10,000 above) is in range."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
            if port < 55_000:
                return port


class Proxy:
    """Stands between client and server. `mode` holds for all connections, from the next bytes on:

    ``pass``; ``slow``: every reply 2 s late; ``cut``: connections are closed; ``garbage``: replies that are no RESP;
    ``lies``: RESP, but the reply to another request; ``drop``: no reply at all.
    """

    def __init__(self, upstream: Path) -> None:
        self.mode = "pass"
        self.delay = 2.0
        self._upstream = upstream
        self._last = b"$3\r\nfoo\r\n"
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        me = asyncio.current_task()
        assert me is not None
        self._tasks.add(me)
        try:
            above, below = await asyncio.open_unix_connection(str(self._upstream))
            try:
                back = asyncio.create_task(self._copy(above, writer, replies=True))
                forth = asyncio.create_task(self._copy(reader, below, replies=False))
                await asyncio.wait({back, forth}, return_when=asyncio.FIRST_COMPLETED)
                for task in (back, forth):
                    task.cancel()
                await asyncio.gather(back, forth, return_exceptions=True)
            finally:
                below.close()
        except (OSError, asyncio.CancelledError):
            pass  # the server is away: so is this connection
        finally:
            writer.close()
            self._tasks.discard(me)

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, replies: bool) -> None:
        while data := await reader.read(1 << 16):
            if self.mode == "cut":
                return
            if replies:
                data = await self._changed(data)
            writer.write(data)
            await writer.drain()

    async def _changed(self, data: bytes) -> bytes:
        if self.mode == "slow":
            await asyncio.sleep(self.delay)
        elif self.mode == "garbage":
            return b"\x00\xffHTTP/1.1 400 what\r\n\r\n"
        elif self.mode == "drop":
            return b""
        elif self.mode == "lies":
            return self._last
        else:
            self._last = data
        return data

    async def close(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def proxy(server: Valkey, tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[Proxy, str]]:
    """A proxy before a server, and its URL; over TLS on a TCP port if a context is given."""
    made = Proxy(server.socket)
    path = server.directory / f"p{id(made):x}"
    if tls is None:
        listening = await asyncio.start_unix_server(made.serve, path=str(path))
        url = f"unix://{path}"
    else:
        listening = await asyncio.start_server(made.serve, "127.0.0.1", 0, ssl=tls)
        url = f"rediss://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    try:
        yield made, url
    finally:
        listening.close()
        await made.close()
