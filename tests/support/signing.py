"""A signing key of invented managers, and what they sign."""

from lanjie_gateway.adapters.signing_keys import SigningKey
from lanjie_gateway.domain.signing import Signature, SignedKind

KEY = SigningKey(bytes(range(32)))
"""The key of every manager that `person` of tests.support makes."""


def signed_year(file: bytes) -> Signature:
    """Return the signature of a manager over a year file."""
    return signed(file, kind=SignedKind.YEAR_FILE)


def signed(file: bytes, key: SigningKey = KEY, kind: SignedKind = SignedKind.CATALOGUE) -> Signature:
    """Return the signature of a manager over a file."""
    return key.sign(kind, file)
