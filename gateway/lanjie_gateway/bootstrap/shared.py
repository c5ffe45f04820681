"""What control and worker have in common."""

import datetime
import importlib.metadata
from collections.abc import Callable

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME as HEALTH
from grpc_health.v1.health import aio as health
from grpc_reflection.v1alpha import reflection

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
