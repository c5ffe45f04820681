"""Who asks, and what the asker may do (Art. 19-21, 24, 39). Default deny."""

import enum
from dataclasses import dataclass

from lanjie_gateway.domain.errors import Refused
from lanjie_matcher.catalogues import Level


class Role(enum.StrEnum):
    """Roles of units: who asks, who lists and repairs, who runs the system, who publishes (Art. 19-21)."""

    INQUIRER = "inquirer"
    AUTHORITY = "authority"
    AGENCY = "agency"
    MANAGER = "manager"


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteScope:
    """What a listing authority may write (Art. 26-31, 61): list types within a region.

    Attributes:
        list_types: codes.
        region: GB/T 2260; a listing that names no region counts as the writer's own.
        units: names and USCCs under which decision documents name the department; only the identifying unit repairs
            (Art. 66).
    """

    list_types: frozenset[str]
    region: str
    units: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Management:
    """Whose measure lists a comprehensive manager publishes: those of this level and region (Art. 45)."""

    level: Level
    region: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """An authenticated caller.

    Attributes:
        department: the unit it acts for.
        person: the person or token behind it; a second person is another value.
        roles: what it may do.
        region: region of the department, GB/T 2260; the handling region of a check that names none.
        implementer_kinds: kinds of unit it is for measures that name implementers; `None` for any.
        matters: matters it may inquire for; `None` for all.
        writes: what it may list, correct and end as an authority; `None` for everything (the embedded department).
        manages: what it may publish as a manager; `None` for lists of any level and region (the same).
    """

    department: str
    person: str
    roles: frozenset[Role]
    region: str
    implementer_kinds: frozenset[str] | None = None
    matters: frozenset[str] | None = None
    writes: WriteScope | None = None
    manages: Management | None = None

    @property
    def actor(self) -> str:
        """Name under which acts are recorded."""
        return f"{self.department}/{self.person}"

    def require(self, *roles: Role) -> None:
        """Raise unless the caller has one of `roles`.

        Raises:
            Refused: NOT_PERMITTED.
        """
        if not self.roles.intersection(roles):
            wanted = " or ".join(roles)
            raise Refused("NOT_PERMITTED", f"this needs the role {wanted}", required=wanted)

    def require_matter(self, matter: str) -> None:
        """Raise unless the caller may inquire for `matter`.

        Raises:
            Refused: NOT_PERMITTED.
        """
        self.require(Role.INQUIRER)
        if self.matters is not None and matter not in self.matters:
            raise Refused("NOT_PERMITTED", "the grant does not cover this matter", required=matter)
