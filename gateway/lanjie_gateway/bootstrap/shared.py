"""What control and worker have in common."""

import datetime
import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME as HEALTH
from grpc_health.v1.health import aio as health
from grpc_reflection.v1alpha import reflection

from lanjie_gateway.adapters.certificates import CertificateFiles, Certificates
from lanjie_gateway.adapters.departments_file import read_departments
from lanjie_gateway.domain import departments
from lanjie_gateway.settings import Settings

Clock = Callable[[], datetime.datetime]
DRAIN_SECONDS = 10.0
VERSION = importlib.metadata.version("lanjie-gateway")


def wall_clock() -> datetime.datetime:
    """Return the instant now. The only clock of production."""
    return datetime.datetime.now(datetime.UTC)


def departments_of(settings: Settings) -> tuple[departments.Department, ...]:
    """Return the departments beside `local`, as they stood when `serve` started.

    Raises:
        departments.DepartmentsRefused: the file breaks a rule.
    """
    handed_on = settings.departments_toml
    content = read_departments(settings.state, settings.departments) if handed_on is None else handed_on.encode()
    return departments.parse(content)


def certificates_of(settings: Settings, clock: Clock) -> Certificates | None:
    """Return what the listeners show and ask for; `None` without TLS.

    Raises:
        CertificateError: the files cannot be used.
        ValueError: one of them is not named.
    """
    if settings.tls is None:
        return None
    cert, key, client_ca = settings.tls
    return Certificates(CertificateFiles(cert=cert, key=key, client_ca=client_ca), clock)


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where one server listens.

    Attributes:
        plain: in the clear, on this machine.
        tls: with TLS, as others write it; empty without.
        socket: on a unix socket; empty without.
    """

    plain: str
    tls: str = ""
    socket: str = ""


def listen(server: grpc.aio.Server, settings: Settings, name: str, certificates: Certificates | None) -> Places:
    """Let a server listen on `listen`, `feed` or `admin` of the settings."""
    asked: str = getattr(settings, name)
    socket = _on_a_socket(server, settings, name)
    if certificates is None:
        return Places(plain=_with_port(asked, server.add_insecure_port(asked)), socket=socket)
    beside: str = getattr(settings, f"plain_{name}")
    return Places(
        plain=_with_port(beside, server.add_insecure_port(beside)),
        tls=settings.advertised(_with_port(asked, server.add_secure_port(asked, certificates.credentials()))),
        socket=socket,
    )


def _on_a_socket(server: grpc.aio.Server, settings: Settings, name: str) -> str:
    if settings.sockets is None:
        return ""
    path = settings.socket(name)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    server.add_insecure_port(f"unix:{path}")
    # Who may enter the directory is for its owner to say; beyond its group nobody connects.
    path.chmod(0o660)
    return f"unix:{path}"


def places_of(settings: Settings, name: str) -> Places:
    """Return where another process of this gateway listens, by its settings with ports in them."""
    asked: str = getattr(settings, name)
    socket = f"unix:{settings.socket(name)}" if settings.sockets is not None else ""
    if settings.tls is None:
        return Places(plain=asked, socket=socket)
    return Places(plain=getattr(settings, f"plain_{name}"), tls=settings.advertised(asked), socket=socket)


def _with_port(address: str, port: int) -> str:
    return f"{address.rpartition(':')[0]}:{port}"


async def describe(server: grpc.aio.Server, *modules: object, without: str = "") -> health.HealthServicer:
    """Add health and reflection of the services of some modules, save the one that another listener serves."""
    servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    names = [
        service.full_name
        for module in modules
        for service in module.DESCRIPTOR.services_by_name.values()  # type: ignore[attr-defined]
        if service.name != without
    ]
    reflection.enable_server_reflection((*names, HEALTH, reflection.SERVICE_NAME), server)
    await servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    return servicer
