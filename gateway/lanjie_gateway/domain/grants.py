"""What a department may ask (Art. 24, 39, 40). Default deny."""

import datetime
import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


class Mode(enum.StrEnum):
    """How an inquiry is made (Art. 39)."""

    EX_OFFICIO = "ex_officio"
    AUTHORISED = "authorised"
    SELF = "self"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much a department may ask; 0 for the gateway's default."""

    checks_per_minute: int = 0
    persons_per_day: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What one department may ask.

    Attributes:
        matters: `None`, which is all of them, only for department `local`.
        identities: text of a certificate's name to person.
        reads_listings: whether it may read listings and the persons marked beside them (Art. 32).
        valid_from: first day; `valid_until` the last, inclusive.
    """

    department: str
    name: str
    regions: frozenset[str]
    matters: frozenset[str] | None
    modes: frozenset[Mode]
    implementer_kinds: frozenset[str] | None = None
    identities: Mapping[str, str] = field(default_factory=dict)
    officers: frozenset[str] = frozenset()
    officers_required: bool = False
    reads_listings: bool = False
    limits: Limits = Limits()
    valid_from: datetime.date
    valid_until: datetime.date


class GrantSet:
    """Grants by department."""

    def __init__(self, grants: Iterable[Grant] = ()) -> None:
        self._grants = {grant.department: grant for grant in grants}

    def of(self, department: str) -> Grant | None:
        """Return the grant of a department."""
        return self._grants.get(department)
