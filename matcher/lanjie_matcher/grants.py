"""What a department may ask (Art. 24, 39, 40): the one rule of gateway and counters. Default deny.

An inquiry is covered when all of this holds:

1. the day, in Shanghai, is one of the grant's, first and last included;
2. its matter is granted, or a granted matter holds it (`broader`), by the catalogues of the day;
3. its mode is granted (Art. 39);
4. a granted region covers the handling region (GB/T 2260).

And the officer at the counter (Art. 39: the authority of an inquiry is recorded):

5. a claim is signed by the officer's own key, or by that of the department's counter system where the officer has none,
   and says department, officer, matter, case and purpose: it cannot be moved to another inquiry;
6. it ends soon. What signs it wrongly is refused even where no claim is asked for.
"""

import datetime
import enum
import functools
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from lanjie_matcher.masking import masked_text
from lanjie_matcher.regions import covers

CLAIM_SECONDS: Final = 900
"""How far ahead a claim may end."""
SKEW_SECONDS: Final = 120
"""How far two clocks may be apart."""
ED25519: Final = "ed25519"
_CLAIM_PREFIX: Final = b"lanjie officer-claim v1\0"


class Mode(enum.StrEnum):
    """How an inquiry is made (Art. 39)."""

    EX_OFFICIO = "ex_officio"
    AUTHORISED = "authorised"
    SELF = "self"


@dataclass(frozen=True, slots=True, kw_only=True)
class Officer:
    """An officer whom a grant names.

    Attributes:
        id: number in the department.
        key: the officer's own Ed25519 public key; empty where the counter system signs.
    """

    id: str
    key: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Who sits at the counter, as signed for one inquiry.

    Attributes:
        officer: number in the department.
        expires: seconds since 1970 of its end; 0 where it is not signed.
        signature: empty where it is not signed.
        algorithm: of the signature.
    """

    officer: str
    expires: int = 0
    signature: bytes = b""
    algorithm: str = ""


class Case(NamedTuple):
    """What an officer vouches for: matter, case number and purpose of an inquiry."""

    matter: str
    case_no: str
    purpose: str


def claim_message(department: str, officer: str, case: Case, expires: int) -> bytes:
    """Return the bytes that an officer claim signs (5); `expires` in seconds since 1970.

    Case number and purpose count as they travel: the numbers of persons in them masked (Art. 40).
    """
    case_no, purpose = masked_text(case.case_no), masked_text(case.purpose)
    texts = [text.encode() for text in (department, officer, case.matter, case_no)]
    told = b"".join(len(text).to_bytes(4) + text for text in texts)
    return _CLAIM_PREFIX + told + hashlib.sha256(purpose.encode()).digest() + expires.to_bytes(8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a grant says of inquiries.

    Attributes:
        department: code.
        regions: GB/T 2260, within which cases are handled.
        matters: codes; `None` for all, which only department `local` has.
        modes: of inquiry.
        valid_from: first day.
        valid_until: last day.
        officers: those that are known; none where the counter system vouches for any.
        officers_required: no inquiry without a signed claim.
        counter_key: Ed25519 public key of the department's counter system; empty for none.
    """

    department: str
    regions: frozenset[str]
    matters: frozenset[str] | None
    modes: frozenset[Mode]
    valid_from: datetime.date
    valid_until: datetime.date
    officers: tuple[Officer, ...] = ()
    officers_required: bool = False
    counter_key: bytes = b""

    def stands(self, day: datetime.date) -> bool:
        """Whether a day in Shanghai is one of the grant's (1)."""
        return self.valid_from <= day <= self.valid_until

    def fault(self, lineage: Iterable[str], mode: str, region: str, day: datetime.date) -> str:
        """Return what of an inquiry is not covered: ``day``, ``matter``, ``mode``, ``region``; empty for nothing.

        Args:
            lineage: the matter and those that hold it.
            mode: see `Mode`.
            region: the handling region.
            day: today in Shanghai.
        """
        if not self.stands(day):
            return "day"
        if self.matters is not None and self.matters.isdisjoint(lineage):  # (2)
            return "matter"
        if mode not in self.modes:  # (3)
            return "mode"
        return "" if any(covers(each, region) for each in self.regions) else "region"  # (4)

    def officer_fault(self, claim: Claim, case: Case, at: int) -> str:
        """Return what is wrong with who sits at the counter; empty for nothing.

        Args:
            claim: what was said of the officer.
            case: what is asked for.
            at: seconds since 1970 of the inquiry.

        Returns:
            ``officer-missing``, ``officer-unknown``, ``officer-expired`` or ``officer-signature``.
        """
        if not claim.signature:
            return "officer-missing" if self.officers_required else ""
        known = {officer.id: officer.key for officer in self.officers}
        key = known.get(claim.officer, b"") or self.counter_key
        if not claim.officer or (known and claim.officer not in known) or not key:
            return "officer-unknown"
        if not -SKEW_SECONDS <= claim.expires - at <= CLAIM_SECONDS + SKEW_SECONDS:  # (6)
            return "officer-expired"
        said = claim_message(self.department, claim.officer, case, claim.expires)
        sound = claim.algorithm == ED25519 and _signed(key, claim.signature, said)  # (5)
        return "" if sound else "officer-signature"


@functools.lru_cache(maxsize=1_024)
def _signed(key: bytes, signature: bytes, message: bytes) -> bool:
    # One claim vouches for many passes of a spool.
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
