"""The gateway's keys, in ``DIR/keys``: made once, 0600, five kinds. A lost key is a refusal to start.

``store`` wraps the data keys of listings, ``index`` makes the tokens of the exact index and never leaves,
``view-EPOCH`` makes the fingerprints of one epoch, ``signing`` signs manifests, ``token`` hashes bearer tokens.
"""

import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

KEY_BYTES = 32


class KeysLostError(RuntimeError):
    """The state was used before and a key is missing: starting would make every listing unreadable or unfindable."""


@dataclass(frozen=True, slots=True)
class KeyRing:
    """All keys, raw. Never printed."""

    store: bytes = field(repr=False)
    index: bytes = field(repr=False)
    view: bytes = field(repr=False)
    signing: bytes = field(repr=False)
    token: bytes = field(repr=False)
    epoch: int

    @property
    def view_key_id(self) -> str:
        """Name of the view key."""
        return f"view-{self.epoch}"

    @property
    def signing_key_id(self) -> str:
        """Name of the signing key."""
        return f"sign-{self.signing_public[:4].hex()}"

    @property
    def signing_public(self) -> bytes:
        """Raw Ed25519 public key that SDKs are told to trust."""
        return Ed25519PrivateKey.from_private_bytes(self.signing).public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """Sign with Ed25519."""
        return Ed25519PrivateKey.from_private_bytes(self.signing).sign(message)


def open_keys(directory: Path, epoch: int, *, fresh: bool) -> KeyRing:
    """Read the keys, or make them for a fresh state.

    Args:
        directory: ``DIR/keys``.
        epoch: epoch of the ledger, for the view key.
        fresh: whether there is no ledger yet; only then may a key be made.

    Raises:
        KeysLostError: a key of a state in use is missing or has another length.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    names = {"store": "store", "index": "index", "view": f"view-{epoch}", "signing": "signing", "token": "token"}
    values = {field_name: _open_key(directory / name, fresh=fresh) for field_name, name in names.items()}
    return KeyRing(epoch=epoch, **values)


def _open_key(path: Path, *, fresh: bool) -> bytes:
    if path.exists():
        value = path.read_bytes()
        if len(value) != KEY_BYTES:
            raise KeysLostError(f"{path} is damaged: {len(value)} bytes instead of {KEY_BYTES}")
        return value
    if not fresh:
        raise KeysLostError(f"{path} is missing; restore it from the backup, a new one would not fit the ledger")
    value = secrets.token_bytes(KEY_BYTES)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(value)
        file.flush()
        os.fsync(file.fileno())
    return value
