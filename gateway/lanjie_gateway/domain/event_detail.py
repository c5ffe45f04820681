"""What some kinds of events say beside reason and document, as JSON values: the keys, and what must be there.

stayed            until: last day (inclusive), where the order names one
objection_closed  outcome, reply (Art. 64: the subject is told what came of it)
noticed           what, instrument_date (Art. 65)
reviewed          revision of the act that was looked at, verdict
"""

import datetime
import enum
from collections.abc import Mapping
from typing import Any, Final, TypeVar

from lanjie_gateway.domain.errors import Refused, invalid_argument

_Choice = TypeVar("_Choice", bound=enum.StrEnum)
REPLY_LENGTH: Final = 2_000
"""Characters of a reply at the most."""


class ObjectionOutcome(enum.StrEnum):
    """What came of an objection (Art. 64)."""

    UNFOUNDED = "unfounded"
    CORRECTED = "corrected"
    DELETED = "deleted"


class InstrumentNotice(enum.StrEnum):
    """What became of the instrument that a listing rests on (Art. 65)."""

    REVOKED = "revoked"
    ALTERED = "altered"
    ANNULLED = "annulled"


class Verdict(enum.StrEnum):
    """What the second person says of an act."""

    AGREED = "agreed"
    CONTESTED = "contested"


def until_of(detail: Mapping[str, Any]) -> datetime.date | None:
    """Return the last day of a stay; `None` where it stays until it is lifted.

    Raises:
        Refused: ARGUMENT_INVALID.
    """
    return _day(detail, "until", "until_date") if detail.get("until") else None


def outcome_of(detail: Mapping[str, Any]) -> ObjectionOutcome:
    """Return what came of an objection; those closed before outcomes were kept changed nothing.

    Raises:
        Refused: ARGUMENT_INVALID.
    """
    return _one_of(ObjectionOutcome, detail.get("outcome", ObjectionOutcome.UNFOUNDED), "objection_outcome")


def notice_of(detail: Mapping[str, Any]) -> tuple[InstrumentNotice, datetime.date]:
    """Return what became of the instrument, and from which day.

    Raises:
        Refused: ARGUMENT_INVALID.
    """
    return _one_of(InstrumentNotice, detail.get("what"), "notice"), _day(detail, "instrument_date", "instrument_date")


def review_of(detail: Mapping[str, Any]) -> tuple[int, Verdict]:
    """Return the revision of the act that was looked at, and the verdict.

    Raises:
        Refused: ARGUMENT_INVALID.
    """
    revision = detail.get("revision")
    if not isinstance(revision, int) or not 1 <= revision < 1 << 63:
        raise invalid_argument("reviewed_revision", "required", "the revision of the act that was looked at is missing")
    return revision, _one_of(Verdict, detail.get("verdict"), "verdict")


def require_reply(detail: Mapping[str, Any]) -> None:
    """Raise unless an objection is closed with its outcome and a reply to the subject (Art. 64).

    Raises:
        Refused: ARGUMENT_INVALID.
    """
    _one_of(ObjectionOutcome, detail.get("outcome"), "objection_outcome")
    reply = detail.get("reply")
    if not isinstance(reply, str) or not reply.strip():
        raise invalid_argument("reply", "required", "an objection is closed with a reply to the subject")
    if len(reply) > REPLY_LENGTH:
        raise invalid_argument("reply", "too-long", f"a reply has at most {REPLY_LENGTH} characters")


def _one_of(kinds: type[_Choice], value: Any, field: str) -> _Choice:
    try:
        return kinds(value)
    except ValueError:
        raise invalid_argument(field, "required", f"it is one of {', '.join(kinds)}") from None


def _day(detail: Mapping[str, Any], key: str, field: str) -> datetime.date:
    try:
        return datetime.date.fromisoformat(detail[key])
    except (KeyError, TypeError, ValueError):
        raise invalid_argument(field, "date", "a date is written YYYY-MM-DD") from None


def illegal(state: str, event: str, message: str) -> Refused:
    """Return the error for an event that is not possible now."""
    return Refused("TRANSITION_ILLEGAL", message, state=state, event=event)
