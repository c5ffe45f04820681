"""Invented callers of other departments than `local`."""

from typing import Any

from lanjie_gateway.domain.access import Management, Principal, Role, WriteScope, unit_key
from lanjie_gateway.domain.grants import LOCAL_GRANT
from lanjie_matcher.catalogues import Level
from tests.support.signing import KEY

HOME = "320000"
"""Region of department `local`."""


def authority(
    department: str, region: str, *list_types: str, person: str = "anna", units: tuple[str, ...] = (), **changes: Any
) -> Principal:
    """Return an authority that writes some list types within a region."""
    writes = WriteScope(
        list_types=frozenset(list_types), region=region, units=frozenset(map(unit_key, units)), home=HOME
    )
    facts: dict[str, Any] = {"roles": frozenset({Role.AUTHORITY}), "region": region, "writes": writes}
    return Principal(department=department, person=person, **(facts | changes))


def local(role: Role = Role.AUTHORITY, person: str = "") -> Principal:
    """Return a person of the embedded department."""
    return Principal(
        department="local", person=person or role.value, roles=frozenset({role}), region=HOME, grant=LOCAL_GRANT
    )


def manager(level: Level | None, region: str = HOME) -> Principal:
    """Return a manager of a level and region, of any where there is none; signs with `KEY`."""
    manages = None if level is None else Management(level=level, region=region)
    return Principal(
        department="local" if level is None else "credit",
        person="mara",
        roles=frozenset({Role.MANAGER}),
        region=region,
        manages=manages,
        signing_keys=(KEY.public,),
    )
