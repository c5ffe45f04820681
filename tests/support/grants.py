"""Grant files of invented departments."""

import json
from typing import Any

from lanjie_gateway.domain import grant_file
from lanjie_gateway.domain.access import Role
from lanjie_gateway.domain.grants import Grant
from tests.support.gateway import RunningGateway, person

FACTS: dict[str, Any] = {
    "name": "测试单位",
    "unit": "state_organ",
    "regions": ["320100"],
    "matters": ["procurement.supplier"],
    "modes": ["ex_officio"],
    "implementer_kinds": [],
    "valid_from": "2026-01-01",
    "valid_until": "2026-12-31",
    "document": {"number": "测授〔2026〕1号", "date": "2026-01-01"},
}
_DAYS = ("valid_from", "valid_until", "date")


def file(department: str, **changes: Any) -> bytes:
    """Return a grant file; what is changed to `None` is left out."""
    facts = {"department": department, **FACTS, **changes}
    lines = [f"{key} = {_value(value, key)}" for key, value in facts.items() if value is not None]
    return "\n".join(["[grant]", *lines, ""]).encode()


def grant(department: str = "housing", **changes: Any) -> Grant:
    """Return what such a file says."""
    return grant_file.parse(file(department, **changes))


def give(gateway: RunningGateway, department: str, **facts: Any) -> None:
    """Grant something, by two persons of the agency."""
    service = gateway.inner.control.grants
    first, second = person("agency", Role.AGENCY), person("controller", Role.AGENCY)
    done = gateway.run(service.bring(file(department, **facts), "test", first))
    if done.act.state == "waiting":
        gateway.run(service.confirm(done.act.id, second))


def _value(value: Any, key: str) -> str:
    if isinstance(value, dict):
        inner = ", ".join(f"{json.dumps(name)} = {_value(each, name)}" for name, each in value.items())
        return f"{{{inner}}}"
    if key in _DAYS and isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
