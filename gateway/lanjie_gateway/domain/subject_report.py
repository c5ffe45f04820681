"""A subject's report (信用主体查询报告, Art. 63): who asked, when, for which matter, with which result and source.

1. The desk states how it made sure that the subject itself asks (实名认证, Art. 39): by a method that is known, within
   the last day. No biometric data is taken, and the reference is no citizen number (Art. 62).
2. Every record about the subject counts, whoever asked and whatever was answered, local passes included. Officers and
   persons are not named: the department and the role are.
3. An answer that never left, because the same question was judged anew, is told as such.
"""

import datetime
import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from lanjie_gateway.domain.errors import invalid_argument
from lanjie_gateway.domain.records import fields_of
from lanjie_matcher.identifiers import Identifier, IdentifierKind, make
from lanjie_matcher.masking import holds_personal_number

REPORTED: Final = "REPORTED"
"""Outcome in the record that a report leaves of itself."""
READ: Final = "READ"
"""The same for a reading of listings."""
REPORT_MATTER: Final = "subject-report"
READING_MATTER: Final = "read-listings"
"""What such records have in the place of a matter."""
PROVED_WITHIN: Final = datetime.timedelta(days=1)
MOST: Final = 10_000
"""Inquiries that one report tells."""
MAX_OTHERS: Final = 8
MAX_REFERENCE: Final = 64
_AGENCY_KINDS: Final = frozenset({"explain"})
_NO_MATTER: Final = frozenset({REPORT_MATTER, READING_MATTER})


class ProofMethod(enum.StrEnum):
    """How a desk made sure of who asks. None of them leaves biometric data here."""

    ID_DOCUMENT = "id-document"
    BUSINESS_LICENCE = "business-licence"
    ELECTRONIC_LICENCE = "electronic-licence"
    ELECTRONIC_ID = "electronic-id"
    REAL_NAME_ACCOUNT = "real-name-account"
    MANDATE = "mandate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What a desk states of how it made sure (1)."""

    method: str
    proved_at: datetime.datetime | None
    reference: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedInquiry:
    """One record about the subject (2). `overtaken`: its answer never left (3)."""

    decision_id: str
    at: datetime.datetime
    department: str
    role: str
    matter: str
    mode: str
    outcome: str
    measures: tuple[str, ...]
    listings: tuple[str, ...]
    source: str
    revision: int
    overtaken: bool = False


def require_proof(proof: Proof, now: datetime.datetime) -> None:
    """Raise unless a proof says all that it must (1).

    Raises:
        Refused: ARGUMENT_INVALID.
    """
    if proof.method not in set(ProofMethod):
        raise invalid_argument("proof.method", "known", f"a method is one of {', '.join(ProofMethod)}")
    if proof.proved_at is None or not now - PROVED_WITHIN <= proof.proved_at <= now:
        raise invalid_argument("proof.proved_time", "range", "the subject was identified within the last day")
    reference = proof.reference
    if not reference.strip() or len(reference) > MAX_REFERENCE or not reference.isprintable():
        raise invalid_argument("proof.reference", "length", f"a reference has 1 to {MAX_REFERENCE} characters")
    if holds_personal_number(reference):
        raise invalid_argument("proof.reference", "identifier", "a reference holds no citizen number (Art. 62)")


def spoken_of(own: Iterable[Identifier]) -> list[Identifier]:
    """Return the identifiers that inquiries may have named a subject by (2): a company's organisation code, too."""
    spoken = list(own)
    for each in own:
        if each.kind is IdentifierKind.USCC:
            code = make("org_code", each.reveal().partition(":")[2][8:17])
            spoken += [code] if code not in spoken else []
    return spoken


def reported(
    *,
    decision_id: str,
    at: datetime.datetime,
    department: str,
    matter: str,
    outcome: str,
    kind: str,
    record: bytes,
    never_left: bool,
) -> ReportedInquiry:
    """Return one record as a report tells it (2).

    Args:
        decision_id: its id; this and the next ones are columns of an inquiry record.
        at: when it was answered.
        department: that asked.
        matter: that was asked for.
        outcome: of the answer.
        kind: of the record.
        record: the canonical leaf.
        never_left: another record says that it replaced this one (3).
    """
    fields = fields_of(record)
    revision = fields.get("revision")
    return ReportedInquiry(
        decision_id=decision_id,
        at=at,
        department=department,
        role="agency" if kind in _AGENCY_KINDS or fields.get("asked_by") == "agency" else "inquirer",
        matter="" if matter in _NO_MATTER else matter,
        mode=str(fields.get("mode", "")),
        outcome=outcome,
        measures=_texts(fields.get("measures")),
        listings=_texts(fields.get("listings")),
        source="local" if kind == "local" else "gateway",
        revision=revision if isinstance(revision, int) and 0 <= revision < 1 << 63 else 0,
        overtaken=never_left,
    )


def overtaken(records: Iterable[bytes]) -> frozenset[str]:
    """Return the ids of answers that others replaced (3)."""
    return frozenset(str(replaced) for record in records if (replaced := fields_of(record).get("replaces")))


def _texts(value: object) -> tuple[str, ...]:
    return tuple(str(each) for each in value) if isinstance(value, list) else ()
