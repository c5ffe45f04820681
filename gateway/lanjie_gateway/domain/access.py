"""Who asks, and what the asker may do (Art. 19-21, 24, 39, 45, 61, 66). Default deny.

1. An authority writes its own list types within its own region, and speaks for no source but its own (Art. 26-31, 61).
2. It reads what it may write; who runs the system reads everything. What is not theirs reads like what is not there.
3. Only the unit that identified a subject repairs its credit (Art. 66).
4. A manager publishes the measure lists of one level and region (Art. 45).
5. Nobody inquires without a grant of the department that covers matter, mode, region and day (Art. 24, 39, 40).

The embedded department `local` stands for every unit, and has none of these bounds.
"""

import datetime
import enum
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Self

from lanjie_gateway.domain.errors import Refused
from lanjie_gateway.domain.grants import Grant
from lanjie_gateway.domain.signing import PublicKey
from lanjie_matcher.catalogues import Level
from lanjie_matcher.listings import Listing
from lanjie_matcher.regions import NATION, covers
from lanjie_matcher.subjects import normalise_name


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
        units: names and USCCs under which decision documents name the department, as `unit_key` writes them; only the
            identifying unit repairs (Art. 66).
        home: region that a listing in the record counts as if it names none: only department `local` enters such.
    """

    list_types: frozenset[str]
    region: str
    units: frozenset[str] = frozenset()
    home: str = NATION

    def holds(self, list_type: str, region: str) -> bool:
        """Whether what is to be written lies within; without a region it counts as the writer's own."""
        return not self.fault(list_type, region or self.region)

    def fault(self, list_type: str, region: str) -> str:
        """Return what of a listing in the record lies outside: ``list_type``, ``region``; empty for nothing."""
        if list_type not in self.list_types:
            return "list_type"
        return "" if covers(self.region, region or self.home) else "region"


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
        region: of the department, GB/T 2260.
        grant: what its department may ask; `None` for nothing.
        writes: what it may list, correct and end as an authority; `None` for everything (the embedded department).
        manages: what it may publish as a manager; `None` for lists of any level and region (the same).
        signing_keys: the person's own keys; what it publishes bears a signature of one of them.
    """

    department: str
    person: str
    roles: frozenset[Role]
    region: str
    grant: Grant | None = None
    writes: WriteScope | None = None
    manages: Management | None = None
    signing_keys: tuple[PublicKey, ...] = ()

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

    @property
    def handling_region(self) -> str:
        """Region of a question that names none: the grant's, or the department's own where it lies within.

        That of a whole province would leave the measures of its city out (Art. 45).
        """
        if self.grant is None or covers(self.grant.region, self.region):
            return self.region
        return self.grant.region

    def granted(self, grant: Grant | None) -> Self:
        """Return the same caller with what its department is granted."""
        return replace(self, grant=grant)

    def require_inquiry(
        self, matter: str, mode: str, region: str, day: datetime.date, *, held_by: Iterable[str] = ()
    ) -> Grant:
        """Return the grant that covers an inquiry (5).

        Args:
            matter: code.
            mode: see `lanjie_gateway.domain.grants.Mode`.
            region: the handling region.
            day: today in Shanghai.
            held_by: the matters that hold it, by the catalogues of the day.

        Raises:
            Refused: NOT_PERMITTED; what is not covered is named: ``grant`` where there is none.
        """
        grant = self.require_standing(day)
        if fault := grant.fault((matter, *held_by), mode, region, day):
            raise not_granted(fault)
        return grant

    def require_standing(self, day: datetime.date) -> Grant:
        """Return the grant that lets an inquirer ask anything at all on a day in Shanghai (5).

        Raises:
            Refused: NOT_PERMITTED.
        """
        self.require(Role.INQUIRER)
        if self.grant is None:
            raise not_granted("grant")
        if not self.grant.stands(day):
            raise not_granted("day")
        return self.grant

    def may_write(self, list_type: str, region: str) -> bool:
        """Whether the caller may enter such a listing (1); without a region it counts as the caller's own."""
        return Role.AUTHORITY in self.roles and (self.writes is None or self.writes.holds(list_type, region))

    def may_change(self, listing: Listing) -> bool:
        """Whether the caller may correct or end a listing in the record (1)."""
        return Role.AUTHORITY in self.roles and self._holds(listing.list_type, listing.region)

    def may_read(self, listing: Listing) -> bool:
        """Whether the caller may see a listing with its events (2)."""
        return Role.AGENCY in self.roles or self.may_change(listing)

    def reaches(self, list_type: str, region: str) -> bool:
        """Whether the caller may hear of what has to be done about a listing in the record (2)."""
        return not self.roles.isdisjoint({Role.AGENCY, Role.MANAGER}) or self._holds(list_type, region)

    def _holds(self, list_type: str, region: str) -> bool:
        return self.writes is None or not self.writes.fault(list_type, region)

    def speaks_for(self, source: str) -> bool:
        """Whether the caller may hand in what a source says (1)."""
        return self.writes is None or is_of(source, self.department)

    def shares(self, actor: str) -> bool:
        """Whether an act of `actor` is one of the caller's own department (2)."""
        return self.writes is None or actor.partition("/")[0] == self.department

    def sees(self, actor: str) -> bool:
        """Whether the caller may see what `actor` brought: of its own department, or as whoever runs the system."""
        return Role.AGENCY in self.roles or self.shares(actor)

    def identified(self, authority: str, authority_uscc: str) -> bool:
        """Whether the caller stands for the unit that identified a subject (3).

        Args:
            authority: name of the unit as the listing gives it.
            authority_uscc: its USCC, which goes before the name; both may be empty, then whoever may write it may
                repair it.
        """
        unit = unit_key(authority_uscc or authority)
        return self.writes is None or not unit or unit in self.writes.units

    def may_publish(self, level: Level, region: str) -> bool:
        """Whether the caller may publish a measure list of a level and region (4)."""
        if Role.MANAGER not in self.roles:
            return False
        return self.manages is None or self.manages == Management(level=level, region=region)


def not_granted(what: str) -> Refused:
    """Return the refusal of an inquiry by what of it is not granted: one text for all (Art. 40)."""
    return Refused("NOT_PERMITTED", "no grant covers this inquiry", required=what)


def is_of(source: str, department: str) -> bool:
    """Whether a source is a department's own: its code, alone or before a slash."""
    return source.partition("/")[0] == department


def unit_key(text: str) -> str:
    """Return a unit's name or USCC as it is compared: NFKC, case folded, without blanks and hyphens."""
    return normalise_name(text).replace("-", "")
