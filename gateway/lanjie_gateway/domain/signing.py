"""Signatures of persons over what they publish (Art. 45): measure lists, years of working days.

1. What is signed says what it is: a signature over one kind of file is none over another, nor over anything else.
2. Algorithm and key are named beside each signature, so that SM2 can stand where Ed25519 stands today.
3. The caller's own registered keys are looked at, nobody else's: who hands a file in is who answers for it.
"""

import enum
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

ED25519: Final = "ed25519"
_LENGTHS: Final = {ED25519: 32}
"""Bytes of a public key, by algorithm."""


class SignedKind(enum.StrEnum):
    """What a signature is over (1)."""

    CATALOGUE = "catalogue"
    YEAR_FILE = "year-file"


class SignatureRefused(Exception):
    """A file is not signed as it must be.

    Attributes:
        rule: ``signature-missing`` or ``signature-invalid``.
    """

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule = rule


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKey:
    """A key that tells who signed; its text is ``ed25519:HEX``."""

    algorithm: str
    raw: bytes

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``ALGORITHM:HEX``; bare hexadecimal digits are Ed25519.

        Raises:
            ValueError: it is no such key; the message is fit for people.
        """
        algorithm, colon, digits = text.strip().rpartition(":")
        algorithm = algorithm if colon else ED25519
        if algorithm not in _LENGTHS:
            raise ValueError("a public key is written ed25519:HEX")
        try:
            raw = bytes.fromhex(digits)
        except ValueError:
            raw = b""
        if len(raw) != _LENGTHS[algorithm]:
            raise ValueError(f"a public key of {algorithm} has {2 * _LENGTHS[algorithm]} hexadecimal digits")
        return cls(algorithm=algorithm, raw=raw)

    @property
    def text(self) -> str:
        """Text that `parse` reads."""
        return f"{self.algorithm}:{self.raw.hex()}"

    @property
    def key_id(self) -> str:
        """Short name of the key."""
        return f"{self.algorithm}-{hashlib.sha256(self.raw).hexdigest()[:16]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """A signature and which key made it (2)."""

    algorithm: str
    key_id: str
    value: bytes

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read what `text` wrote.

        Raises:
            ValueError: it is something else.
        """
        said = json.loads(text)
        if not isinstance(said, dict) or not all(isinstance(each, str) for each in said.values()):
            raise ValueError("a signature is a JSON object of texts")
        if set(said) != {"algorithm", "key_id", "signature"}:
            raise ValueError("a signature has algorithm, key_id and signature")
        return cls(algorithm=said["algorithm"], key_id=said["key_id"], value=bytes.fromhex(said["signature"]))

    @property
    def text(self) -> str:
        """One line of JSON, the content of a signature file."""
        return json.dumps({"algorithm": self.algorithm, "key_id": self.key_id, "signature": self.value.hex()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """Who signed a file that is kept: the key is kept, too, because a person may have another one later.

    Attributes:
        actor: department and person.
    """

    actor: str
    key: PublicKey
    value: bytes = field(repr=False)

    @property
    def signature(self) -> Signature:
        """The signature as it was handed in."""
        return Signature(algorithm=self.key.algorithm, key_id=self.key.key_id, value=self.value)

    @property
    def signer(self) -> str:
        """Text that is kept beside `value`."""
        return json.dumps({"actor": self.actor, "key": self.key.text}, ensure_ascii=False)

    @classmethod
    def of(cls, signer: str | None, value: bytes | None) -> Self | None:
        """Return what was kept; `None` for what was published before signatures."""
        if signer is None or value is None:
            return None
        said = json.loads(signer)
        return cls(actor=said["actor"], key=PublicKey.parse(said["key"]), value=value)


def message(kind: SignedKind, sha256: bytes) -> bytes:
    """Return the bytes that are signed for a file (1).

    Args:
        kind: what the file is.
        sha256: its digest, 32 bytes.
    """
    return f"lanjie {kind} v1\0".encode() + sha256


def verify(key: PublicKey, kind: SignedKind, sha256: bytes, signature: Signature) -> bool:
    """Whether `key` made a signature over a file."""
    if (signature.algorithm, signature.key_id) != (key.algorithm, key.key_id):
        return False
    try:
        Ed25519PublicKey.from_public_bytes(key.raw).verify(signature.value, message(kind, sha256))
    except (InvalidSignature, ValueError):
        return False
    return True


def require_signed(
    actor: str, keys: Iterable[PublicKey], kind: SignedKind, file: bytes, signature: Signature | None
) -> Signed:
    """Return who signed a file, or refuse it (3).

    Args:
        actor: who hands it in.
        keys: that person's own registered keys.
        kind: what the file is.
        file: its bytes.
        signature: what came with it.

    Raises:
        SignatureRefused: none came, or no key of the person made it over these bytes.
    """
    if signature is None:
        raise SignatureRefused("signature-missing", "what is published is signed by who publishes it (Art. 45)")
    sha256 = hashlib.sha256(file).digest()
    for key in keys:
        if verify(key, kind, sha256, signature):
            return Signed(actor=actor, key=key, value=signature.value)
    raise SignatureRefused(
        "signature-invalid", "the signature is not one of the caller's registered keys over this file"
    )
