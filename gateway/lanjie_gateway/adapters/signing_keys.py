"""Private keys of persons who publish: a file of 32 raw bytes, 0600, wherever its owner keeps it."""

import hashlib
import secrets
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lanjie_gateway.adapters.keys import keep
from lanjie_gateway.domain.signing import ED25519, PublicKey, Signature, SignedKind, message

KEY_BYTES: Final = 32


class SigningKeyError(ValueError):
    """A file holds no signing key."""


class SigningKey:
    """A private key; never printed.

    Args:
        raw: its 32 bytes.
    """

    def __init__(self, raw: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(raw)
        self.public = PublicKey(algorithm=ED25519, raw=self._key.public_key().public_bytes_raw())

    @classmethod
    def read(cls, path: Path) -> "SigningKey":
        """Read a key.

        Raises:
            SigningKeyError: the file has another length.
            OSError: it cannot be read.
        """
        raw = path.read_bytes()
        if len(raw) != KEY_BYTES:
            raise SigningKeyError(f"{path} is no signing key: {len(raw)} bytes instead of {KEY_BYTES}")
        return cls(raw)

    @classmethod
    def make(cls, path: Path) -> "SigningKey":
        """Make a key and keep it, 0600; an existing file is overwritten."""
        raw = secrets.token_bytes(KEY_BYTES)
        keep(path, raw)
        return cls(raw)

    def sign(self, kind: SignedKind, file: bytes) -> Signature:
        """Sign the bytes of a file."""
        value = self._key.sign(message(kind, hashlib.sha256(file).digest()))
        return Signature(algorithm=self.public.algorithm, key_id=self.public.key_id, value=value)
