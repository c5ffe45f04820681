"""Who asks about natural persons, how many he may, and what is kept of a limit he reached; never about whom."""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lanjie_gateway.domain.access import Principal
from lanjie_gateway.domain.detectors import Level
from lanjie_gateway.domain.grants import Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """Distinct natural persons of a day; 0 for any number.

    Attributes:
        department: of a department, where its grant says nothing else.
        officer: of one officer; who names none has the department's alone.
        act: whether detectors throttle and stop; otherwise they alarm only.
    """

    department: int = 2_000
    officer: int = 1_000
    act: bool = True


def granted_limits(principal: Principal) -> Limits:
    """Return the limits of the grant of a principal's department."""
    return principal.grant.limits if principal.grant is not None else Limits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """Who asks about persons.

    Attributes:
        department: the unit.
        person: its person or credential, which stands for an SDK.
        officer: the officer at the counter; may be empty.
        persons_per_day: cap of the department's grant; 0 for the gateway's own.
    """

    department: str
    person: str
    officer: str = ""
    persons_per_day: int = 0

    @property
    def scope(self) -> str:
        """Name of the scope that is the asker's own: the officer, or else the credential."""
        return f"officer {self.officer}" if self.officer else f"person {self.person}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trip:
    """A limit that was reached: who asked when it was, and how many; about nobody.

    Attributes:
        at: aware instant.
        department: whose limit.
        person: credential of the question it was found by.
        officer: officer of that question; may be empty.
        scope: ``officer …``, ``person …``; empty for the department as a whole.
        detector: name in `DETECTORS`, or ``cap``.
        level: what it calls for.
        score: of the detector.
        persons: distinct persons of the scope today.
    """

    at: datetime.datetime
    department: str
    person: str
    officer: str
    scope: str
    detector: str
    level: Level
    score: float
    persons: int


def trip_dict(trip: Trip) -> dict[str, Any]:
    """Return a trip as JSON values."""
    return {
        "at": trip.at.astimezone(datetime.UTC).isoformat(timespec="milliseconds"),
        "person": trip.person,
        "officer": trip.officer,
        "scope": trip.scope,
        "detector": trip.detector,
        "level": trip.level.name,
        "score": trip.score,
        "persons": trip.persons,
    }


def trip_of(department: str, values: Mapping[str, Any]) -> Trip:
    """Return the trip of `trip_dict`."""
    at, level = datetime.datetime.fromisoformat(values["at"]), Level[values["level"]]
    return Trip(department=department, **{**values, "at": at, "level": level})
