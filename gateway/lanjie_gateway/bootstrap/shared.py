"""What control and worker have in common."""

import datetime
import hashlib
import importlib.metadata
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME as HEALTH
from grpc_health.v1.health import aio as health
from grpc_reflection.v1alpha import reflection

from lanjie_gateway.adapters.state_lock import StateInUseError

Clock = Callable[[], datetime.datetime]
DRAIN_SECONDS = 10.0
VERSION = importlib.metadata.version("lanjie-gateway")


def wall_clock() -> datetime.datetime:
    """Return the instant now. The only clock of production."""
    return datetime.datetime.now(datetime.UTC)


def socket_path(state: Path) -> Path:
    """Return the feed's unix socket. It stands in a short directory: such a path has at most 107 bytes."""
    name = f"lanjie-{os.getuid()}-{hash_of(str(state.resolve()))}"
    directory = Path(tempfile.gettempdir()) / name
    directory.mkdir(mode=0o700, exist_ok=True)
    if directory.stat().st_uid != os.getuid():
        raise StateInUseError(f"{directory} belongs to another user")
    return directory / "feed.sock"


def hash_of(text: str) -> str:
    """Return a short name for a path."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


async def describe(server: grpc.aio.Server, *modules: object) -> health.HealthServicer:
    """Add health and reflection."""
    servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    names = [
        service.full_name
        for module in modules
        for service in module.DESCRIPTOR.services_by_name.values()  # type: ignore[attr-defined]
    ]
    reflection.enable_server_reflection((*names, HEALTH, reflection.SERVICE_NAME), server)
    await servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    return servicer
