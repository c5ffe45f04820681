"""Complaints of subjects (投诉举报, Art. 60): what they may be about, how they end, and who is held to account."""

import datetime
import enum
import re
from dataclasses import dataclass, field
from typing import Final

ABOUT: Final = re.compile(r"listing:[0-9a-f]{16}|decision:[0-9a-zA-Z._\-]{1,64}|department:[a-z0-9][a-z0-9-]{0,31}")
"""A complaint is about one listing, one answer or one department."""


class ComplaintOutcome(enum.StrEnum):
    """How a complaint ends."""

    FOUNDED = "founded"
    PARTLY_FOUNDED = "partly_founded"
    UNFOUNDED = "unfounded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Complaint:
    """One complaint.

    Attributes:
        id: ``c`` and a number; empty before it is kept.
        identifier: of the subject, never shown; `subject` is its index token.
        outcome: `None` while it is open, as are `closed_at` and `closed_by`.
        accountability: who is held to account, and how (Art. 60, 69).
    """

    id: str = ""
    subject: bytes = field(repr=False)
    identifier: str = field(repr=False)
    about: str
    text: str = field(repr=False)
    received_at: datetime.datetime
    received_by: str
    outcome: ComplaintOutcome | None = None
    reply: str = field(default="", repr=False)
    accountability: str = field(default="", repr=False)
    closed_at: datetime.datetime | None = None
    closed_by: str = ""


def complaint_number(complaint_id: str) -> int:
    """Return the row's number of the id of a complaint; 0, which no row has, where it cannot be one."""
    digits = complaint_id.removeprefix("c")
    fits = digits != complaint_id and digits.isascii() and digits.isdigit() and len(digits) < 19
    return int(digits) if fits else 0
