"""Grants (Art. 21, 24, 39, 40, 45, 49): which department may ask what, how, where and until when. Default deny.

1. Only units that manage public affairs are granted anything: state organs, and organisations and people's
   organisations that the law authorises (Art. 24, 39). Market bodies get no interception interface (Art. 49).
2. A grant rests on a document, and has a last day (Art. 61: nothing is granted for ever).
3. One department has one grant; one name in a certificate is one person of one department.
4. What widens a grant waits for a second person; what narrows or ends it works at once.

`lanjie_matcher.grants.Terms` has the rule of what a grant covers, because counters carry it out too.
"""

import datetime
import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from lanjie_matcher.grants import ED25519, Mode, Officer, Terms
from lanjie_matcher.regions import NATION, covers

__all__ = ["LOCAL_GRANT", "MAX_DAYS", "Grant", "GrantSet", "Limits", "Mode", "Officer", "Unit", "as_json", "from_json"]

MAX_DAYS: Final = 5 * 366
"""Most days between the first and the last of a grant (2)."""
_NO_IDENTITIES: Final[Mapping[str, str]] = MappingProxyType({})


class Unit(enum.StrEnum):
    """Kinds of unit that may be granted something (1)."""

    STATE_ORGAN = "state_organ"
    AUTHORISED_ORGANISATION = "authorised_organisation"
    PEOPLES_ORGANISATION = "peoples_organisation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much a department may ask; 0 is the gateway's default."""

    checks_per_minute: int = 0
    persons_per_day: int = 0

    def within(self, before: "Limits") -> bool:
        """Whether nothing is allowed beyond earlier limits; what the gateway's defaults are is not known here."""
        pairs = (self.checks_per_minute, before.checks_per_minute), (self.persons_per_day, before.persons_per_day)
        return all(new == old or 0 < new < old for new, old in pairs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant(Terms):
    """What one department may ask; its rule is that of `Terms`.

    Attributes:
        name: of the department.
        unit: its kind (1).
        region: handling region of a question that names none; GB/T 2260.
        implementer_kinds: kinds of unit it is for measures that name implementers (Art. 45); `None` for any, which only
            `local` is.
        identities: names in certificates, ``URI:…`` or ``DNS:…``, and the person each stands for.
        reads_listings: a granted inquiry may read listings and related-person marks (Art. 32).
        limits: see `Limits`.
        document: number of the document it rests on (2).
        document_date: its date.
        revision: of the commit that it works from; 0 for what is not in the ledger.
    """

    name: str
    unit: Unit = Unit.STATE_ORGAN
    region: str = NATION
    implementer_kinds: frozenset[str] | None = frozenset()
    identities: Mapping[str, str] = field(default_factory=lambda: _NO_IDENTITIES, hash=False)
    reads_listings: bool = False
    limits: Limits = Limits()
    document: str = ""
    document_date: datetime.date | None = None
    revision: int = 0

    def widens(self, before: "Grant | None") -> tuple[str, ...]:
        """Return what of this grant goes beyond an earlier one, by names of fields; empty where it only narrows (4)."""
        if before is None:
            return ("grant",)
        # A kind of implementer less is a measure that is not applied any more, a silent pass: every change of it waits.
        same = ("name", "unit", "region", "counter_key", "implementer_kinds")
        wider = {
            **{each: getattr(self, each) != getattr(before, each) for each in same},
            "regions": not all(any(covers(wide, each) for wide in before.regions) for each in self.regions),
            "matters": not _within(self.matters, before.matters),
            "modes": not self.modes <= before.modes,
            "identities": not self.identities.items() <= before.identities.items(),
            # No officers at all stands for any.
            "officers": not set(self.officers) <= set(before.officers) or (before.officers and not self.officers),
            "officers_required": before.officers_required and not self.officers_required,
            "reads_listings": self.reads_listings and not before.reads_listings,
            "limits": not self.limits.within(before.limits),
            "valid_from": self.valid_from < before.valid_from,
            "valid_until": self.valid_until > before.valid_until,
        }
        return tuple(sorted(name for name, is_wider in wider.items() if is_wider))


LOCAL_GRANT: Final = Grant(
    department="local",
    name="local",
    regions=frozenset({NATION}),
    matters=None,
    modes=frozenset(Mode),
    implementer_kinds=None,
    reads_listings=True,
    valid_from=datetime.date.min,
    valid_until=datetime.date.max,
)
"""What the embedded department has: everything."""


@dataclass(frozen=True, slots=True)
class GrantSet:
    """The grants that stand at a revision. Build with `GrantSet.made`.

    Attributes:
        revision: of the newest act on any grant; 0 for none.
    """

    grants: Mapping[str, Grant] = field(default_factory=dict)
    revision: int = 0
    _persons: Mapping[str, tuple[Grant, str]] = field(default_factory=dict)

    @classmethod
    def made(cls, grants: Iterable[Grant], revision: int) -> "GrantSet":
        """Index grants, one a department (3)."""
        by_department = {grant.department: grant for grant in grants}
        persons = {san: (grant, who) for grant in by_department.values() for san, who in grant.identities.items()}
        return cls(by_department, revision, persons)

    def of(self, department: str) -> Grant | None:
        """Return the grant of a department, whether its days have begun and gone or not; `None`: nothing is granted."""
        return LOCAL_GRANT if department == LOCAL_GRANT.department else self.grants.get(department)

    def person(self, san: str) -> tuple[Grant, str] | None:
        """Return the grant and the person that a name in a certificate stands for."""
        return self._persons.get(san)

    def taken(self, grant: Grant) -> str:
        """Return a name in a certificate that another department has already (3); empty for none."""
        for san in grant.identities:
            held = self._persons.get(san)
            if held is not None and held[0].department != grant.department:
                return san
        return ""


def as_json(grant: Grant) -> dict[str, Any]:
    """Return a grant as the ledger keeps it; its revision is not in it."""
    return {
        "department": grant.department,
        "name": grant.name,
        "unit": grant.unit.value,
        "region": grant.region,
        "regions": sorted(grant.regions),
        "matters": sorted(grant.matters or ()),
        "modes": sorted(grant.modes),
        "implementer_kinds": sorted(grant.implementer_kinds or ()),
        "identities": dict(grant.identities),
        "officers": {officer.id: officer.key.hex() for officer in grant.officers},
        "officers_required": grant.officers_required,
        "counter_key": grant.counter_key.hex(),
        "reads_listings": grant.reads_listings,
        "checks_per_minute": grant.limits.checks_per_minute,
        "persons_per_day": grant.limits.persons_per_day,
        "valid_from": grant.valid_from.isoformat(),
        "valid_until": grant.valid_until.isoformat(),
        "document": grant.document,
        "document_date": grant.document_date.isoformat() if grant.document_date else "",
    }


def from_json(kept: Mapping[str, Any], revision: int = 0) -> Grant:
    """Return what `as_json` wrote."""
    day = datetime.date.fromisoformat
    return Grant(
        department=kept["department"],
        name=kept["name"],
        unit=Unit(kept["unit"]),
        region=kept["region"],
        regions=frozenset(kept["regions"]),
        matters=frozenset(kept["matters"]),
        modes=frozenset(map(Mode, kept["modes"])),
        implementer_kinds=frozenset(kept["implementer_kinds"]),
        identities=MappingProxyType(dict(kept["identities"])),
        officers=tuple(Officer(id=each, key=bytes.fromhex(key)) for each, key in sorted(kept["officers"].items())),
        officers_required=kept["officers_required"],
        counter_key=bytes.fromhex(kept["counter_key"]),
        reads_listings=kept["reads_listings"],
        limits=Limits(checks_per_minute=kept["checks_per_minute"], persons_per_day=kept["persons_per_day"]),
        valid_from=day(kept["valid_from"]),
        valid_until=day(kept["valid_until"]),
        document=kept["document"],
        document_date=day(kept["document_date"]) if kept["document_date"] else None,
        revision=revision,
    )


def key_text(key: bytes) -> str:
    """Return a public key as people write it, ``ed25519:HEX``; empty for none."""
    return f"{ED25519}:{key.hex()}" if key else ""


def _within(narrow: frozenset[str] | None, wide: frozenset[str] | None) -> bool:
    return wide is None or (narrow is not None and narrow <= wide)
