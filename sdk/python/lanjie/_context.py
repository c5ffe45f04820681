"""Why and for whom is asked (Art. 24, 39): checked once, kept in wire form."""

import datetime
import enum
import hashlib
from dataclasses import dataclass
from typing import Final, NamedTuple

from lanjie.errors import InvalidArgument
from lanjie.v1 import screening_pb2 as pb
from lanjie_matcher.grants import Case, Claim, Mode
from lanjie_matcher.masking import masked_text
from lanjie_matcher.regions import REGION

_MAX_PURPOSE: Final = 200
_MAX_CODE: Final = 64


class InquiryMode(enum.Enum):
    """How the inquiry is made (Art. 39)."""

    EX_OFFICIO = "ex_officio"
    AUTHORISED = "authorised"
    SELF = "self"

    # That of an Enum is a call into Python.
    __hash__ = object.__hash__


@dataclass(frozen=True, slots=True)
class OfficerClaim:
    """The officer at the counter, as the department's own system vouches for it.

    Attributes:
        officer_id: number in the department, at most 64 characters; never a citizen number.
        signature: of the department's system over the claim; empty where none is asked for.
        algorithm: of the signature, e.g. ``ed25519``.
        expires: seconds since 1970 of its end; only with a signature. See `lanjie.OfficerSigner`.
    """

    officer_id: str
    signature: bytes = b""
    algorithm: str = ""
    expires: int = 0


_MODES: Final = {mode: pb.InquiryMode.Value(f"INQUIRY_MODE_{mode.name}") for mode in InquiryMode}


@dataclass(frozen=True, slots=True)
class Context:
    """Why and for whom is asked, checked and in wire form.

    Attributes:
        matter: code of the matter.
        case_no: whether a case number is given.
        local: whether such a question may be answered locally at all (3).
        region: handling region; empty for the department's own.
        mode: of the inquiry.
        case: what an officer vouches for.
        claim: who sits at the counter.
        wire: serialised `InquiryContext`, for the record.
        message: the same for requests.
    """

    matter: str
    case_no: bool
    local: bool
    region: str
    mode: Mode
    case: Case
    claim: Claim
    wire: bytes
    message: pb.InquiryContext


class Inquiry(NamedTuple):
    """What a caller states; fields as arguments of `lanjie.Client.check`. Hashable, so that it is checked once."""

    matter: str
    purpose: str
    case_no: str = ""
    role: str = ""
    handling_region: str = ""
    mode: InquiryMode = InquiryMode.EX_OFFICIO
    officer: str | OfficerClaim | None = None
    as_of: datetime.datetime | None = None
    authorisation_id: str = ""
    request_id: str = ""


InquiryFields = tuple[
    str, str, str, str, str, InquiryMode, str | OfficerClaim | None, datetime.datetime | None, str, str
]
"""The fields of an `Inquiry`, in their order: what it is looked up by."""


def make_context(inquiry: Inquiry) -> Context:
    """Check and build a context.

    Raises:
        InvalidArgument: a field breaks a rule.
    """
    matter, purpose, case_no, role, handling_region, mode, officer, as_of, authorisation_id, request_id = inquiry
    if not matter.strip():
        raise InvalidArgument("state the matter", metadata={"field": "matter", "rule": "required"})
    if not purpose.strip():
        raise InvalidArgument("state the purpose (Art. 24)", metadata={"field": "purpose", "rule": "required"})
    claim = OfficerClaim(officer) if isinstance(officer, str) else officer
    encodable("matter", matter)
    bounded("purpose", purpose, _MAX_PURPOSE)
    for field, value in (("case_no", case_no), ("role", role)):
        bounded(field, value, _MAX_CODE)
    if handling_region and not REGION.fullmatch(handling_region):
        raise InvalidArgument(
            "a region has six digits (GB/T 2260)", metadata={"field": "handling_region", "rule": "format"}
        )
    _check_authorised(mode, authorisation_id, request_id)
    message = pb.InquiryContext(
        matter=matter,
        # Records stay on this machine and at the gateway: they name nobody (Art. 40).
        purpose=masked_text(purpose),
        mode=_MODES[mode],
        case_no=masked_text(case_no),
        role=masked_text(role),
        handling_region=handling_region,
        authorisation_id=authorisation_id,
    )
    if mode is InquiryMode.AUTHORISED:
        message.request_id = request_id or _request_name(inquiry)
    if claim is not None:
        bounded("officer", claim.officer_id, _MAX_CODE)
        told = pb.OfficerClaim(officer_id=claim.officer_id, signature=claim.signature, algorithm=claim.algorithm)
        if claim.expires:
            told.expires_time.seconds = claim.expires
        message.officer.CopyFrom(told)
    if as_of is not None:
        if as_of.tzinfo is None:
            raise InvalidArgument("an instant states its zone", metadata={"field": "as_of", "rule": "zone"})
        try:
            message.as_of_time.FromDatetime(as_of.astimezone(datetime.UTC))
        except OverflowError:
            raise InvalidArgument("there is no such instant", metadata={"field": "as_of", "rule": "range"}) from None
    return Context(
        matter=matter,
        case_no=bool(case_no.strip()),
        local=as_of is None and mode is InquiryMode.EX_OFFICIO,
        region=handling_region,
        mode=Mode(mode.value),
        case=Case(matter, case_no, purpose),
        claim=Claim(
            officer=claim.officer_id, expires=claim.expires, signature=claim.signature, algorithm=claim.algorithm
        )
        if claim is not None
        else Claim(officer=""),
        wire=message.SerializeToString(deterministic=True),
        message=message,
    )


def _check_authorised(mode: InquiryMode, authorisation_id: str, request_id: str) -> None:
    authorised = mode is InquiryMode.AUTHORISED
    if authorised and not authorisation_id:
        metadata = {"field": "authorisation_id", "rule": "required"}
        raise InvalidArgument("an authorised inquiry names the subject's authorisation (Art. 39)", metadata=metadata)
    for field, value in (("authorisation_id", authorisation_id), ("request_id", request_id)):
        bounded(field, value, _MAX_CODE)
        if value and not authorised:
            metadata = {"field": field, "rule": "mode"}
            raise InvalidArgument(f"{field} goes with the mode authorised alone", metadata=metadata)


def _request_name(inquiry: Inquiry) -> str:
    """Return one name for one question: asked again because the answer was lost, it is the same use."""
    said = repr(inquiry._replace(officer=None, request_id=""))
    return hashlib.sha256(said.encode()).hexdigest()[:32]


def bounded(field: str, value: str, most: int) -> None:
    """Refuse a text that is too long, or none that can be sent.

    Raises:
        InvalidArgument: ``length`` or ``encoding``.
    """
    if len(value) > most:
        raise InvalidArgument(f"{field} has at most {most} characters", metadata={"field": field, "rule": "length"})
    encodable(field, value)


def encodable(field: str, value: str) -> None:
    """Refuse half of a character, as the JSON of a form may hold it: it cannot be sent.

    Raises:
        InvalidArgument: ``encoding``.
    """
    try:
        value.encode()
    except UnicodeEncodeError:
        # The error of the library holds the whole text.
        message = f"{field} holds half of a character"
        raise InvalidArgument(message, metadata={"field": field, "rule": "encoding"}) from None
