"""Officers at the counter: the department's own system signs who sits there (Art. 39), for one case and purpose.

A grant names the public half of the key; without a sound claim the gateway refuses what such a grant wants one for, and
the local path passes nobody.
"""

import os
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lanjie._context import OfficerClaim
from lanjie.errors import InvalidArgument
from lanjie_matcher.grants import ED25519, Case, claim_message

__all__ = ["OfficerSigner"]

_KEY_BYTES: Final = 32


class OfficerSigner:
    """Signs officer claims with a department's key. Thread-safe; the key is never shown.

    Args:
        key: Ed25519 private key, 32 bytes.
        department: code of the department, as its grant names it.

    Attributes:
        department: as given.

    Raises:
        InvalidArgument: the key has another length.
    """

    def __init__(self, key: bytes, department: str) -> None:
        if len(key) != _KEY_BYTES:
            raise InvalidArgument("an officer key has 32 bytes", metadata={"field": "officer_signer", "rule": "length"})
        self._key = Ed25519PrivateKey.from_private_bytes(key)
        self.department = department

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], department: str) -> "OfficerSigner":
        """Read the key from a file of 32 raw bytes, as `lanjie catalogue make-key` writes it.

        Raises:
            OSError: it cannot be read.
            InvalidArgument: it has another length.
        """
        return cls(Path(path).read_bytes(), department)

    @property
    def public_key(self) -> str:
        """The public key as a grant file takes it, ``ed25519:HEX``."""
        return f"{ED25519}:{self._key.public_key().public_bytes_raw().hex()}"

    def __repr__(self) -> str:
        return f"<OfficerSigner of {self.department}>"

    def sign(self, officer: str, matter: str, case_no: str, purpose: str, expires: int) -> OfficerClaim:
        """Return a signed claim.

        Args:
            officer: number in the department.
            matter: of the inquiry.
            case_no: of the inquiry.
            purpose: of the inquiry.
            expires: seconds since 1970 of its end, at most 15 minutes ahead.
        """
        said = claim_message(self.department, officer, Case(matter, case_no, purpose), expires)
        return OfficerClaim(officer, self._key.sign(said), ED25519, expires)
