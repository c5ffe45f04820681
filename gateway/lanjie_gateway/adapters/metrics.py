"""Metrics of one process for Prometheus: a registry of its own, and a small HTTP listener in a thread.

What is counted is numbers of the gateway's own doing. No identifier, no name of a subject and no secret is ever a label
or a value, and every label has a few values that the code names.
"""

import asyncio
import socket
import threading
from typing import Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import structlog
from prometheus_client import CollectorRegistry, Histogram, ProcessCollector, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer
from prometheus_client.registry import Collector

READ_SECONDS: Final = 5.0
"""How long whoever asks may take to say what for."""
BIND_SECONDS: Final = 2.0
"""How long the port may still be held by a process that was killed."""
_RETRY_SECONDS: Final = 0.1
_TOLD_BUCKETS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0)
_log = structlog.get_logger("lanjie.metrics")


class Metrics:
    """The registry of one process.

    Attributes:
        registry: what is exposed.
        told: seconds from word of a commit to its being offered to the SDKs.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.told = Histogram(
            "lanjie_sync_told_seconds",
            "Time from word of a commit to waking the streams of the SDKs with it.",
            buckets=_TOLD_BUCKETS,
            registry=self.registry,
        )
        self._server: WSGIServer | None = None
        self._thread: threading.Thread | None = None

    def add(self, collector: Collector) -> None:
        """Expose what a collector reads when it is asked for."""
        self.registry.register(collector)

    async def listen(self, address: str) -> str:
        """Serve until `close`.

        Args:
            address: HOST:PORT; port 0 picks one.

        Returns:
            The address; empty where it cannot be listened on: a gateway goes on without metrics, and says so.
        """
        host, _, port = address.rpartition(":")
        attempts = int(BIND_SECONDS / _RETRY_SECONDS)
        for attempt in range(attempts):
            try:
                server = await asyncio.to_thread(_open, host.strip("[]"), int(port), self.registry)
            except OSError as error:
                if attempt + 1 == attempts:
                    _log.error("metrics_not_served", address=address, error=type(error).__name__)
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                self._server = server
                self._thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
                self._thread.start()
                return f"{host}:{server.server_port}"
        return ""

    async def close(self) -> None:
        """Stop serving."""
        if self._server is not None and self._thread is not None:
            await asyncio.to_thread(self._server.shutdown)
            self._server.server_close()
            await asyncio.to_thread(self._thread.join)
            self._server = self._thread = None


class _Server(ThreadingWSGIServer):
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        # Whoever asked has hung up. What a collector raises is an answer of its own.
        pass


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = READ_SECONDS

    def log_message(self, *_: object) -> None:
        pass


def _open(host: str, port: int, registry: CollectorRegistry) -> WSGIServer:
    return make_server(host, port, make_wsgi_app(registry), _Server6 if ":" in host else _Server, _Handler)
