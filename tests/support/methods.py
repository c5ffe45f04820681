"""Every method that the gateway's protos define."""

import importlib
import pkgutil
from collections.abc import Iterator

import lanjie.v1


def methods() -> Iterator[tuple[str, str]]:
    """Yield (full name of the service, name of the method) of every method there is."""
    for module in pkgutil.iter_modules(lanjie.v1.__path__):
        if module.name.endswith("_pb2"):
            services = importlib.import_module(f"lanjie.v1.{module.name}").DESCRIPTOR.services_by_name.values()
            yield from ((service.full_name, method.name) for service in services for method in service.methods)
