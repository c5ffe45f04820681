"""The gateway's keys, in ``DIR/keys``: made once, 0600, five kinds. A lost key is a refusal to start.

``store`` wraps the data keys of listings, ``index`` makes the tokens of the exact index and never leaves,
``view-GENERATION`` makes the fingerprints of one generation of the view, ``signing`` signs manifests, ``token`` hashes
bearer tokens. Only the view key is ever replaced (`adapters.ledger.rotation`); the retired ones stay, because inquiry
records name digests that were made with them.
"""

import hashlib
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lanjie_matcher.fingerprints import IndexKey, ViewKey

KEY_BYTES = 32
RESTORING = "restoring"
"""A file in ``DIR/keys`` while a restore is under way: until it is gone, nothing may serve this state."""


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
    generation: int

    @property
    def view_key_id(self) -> str:
        """Name of the view key."""
        return view_name(self.generation)

    @property
    def signing_key_id(self) -> str:
        """Name of the signing key."""
        return f"sign-{self.signing_public[:4].hex()}"

    @property
    def signing_public(self) -> bytes:
        """Raw Ed25519 public key that SDKs are told to trust."""
        return Ed25519PrivateKey.from_private_bytes(self.signing).public_key().public_bytes_raw()

    @property
    def check(self) -> bytes:
        """What a ledger keeps to tell the right keys from wrong ones; it tells nothing of the keys."""
        store = hashlib.blake2b(b"lanjie store key", key=self.store, digest_size=8).digest()
        return IndexKey(self.index).token("key-check") + store

    @property
    def view_check(self) -> bytes:
        """The same for the view key: two hosts may have made one of the same name."""
        return ViewKey(self.view, 24).key_check()

    def sign(self, message: bytes) -> bytes:
        """Sign with Ed25519."""
        return Ed25519PrivateKey.from_private_bytes(self.signing).sign(message)


def view_name(generation: int) -> str:
    """Return the name of a view key and of its file."""
    return f"view-{generation}"


def newest_generation(directory: Path) -> int:
    """Return the newest generation a view key is here of, 0 for none; the ledger's own may be older or newer."""
    numbers = (path.name.removeprefix("view-") for path in directory.glob("view-*"))
    return max((int(number) for number in numbers if number.isdecimal()), default=0)


def view_keys(directory: Path) -> dict[int, ViewKey]:
    """Return every view key that is here by generation, the retired ones too: for search in records, at any width."""
    found = {}
    for path in directory.glob("view-*"):
        number = path.name.removeprefix("view-")
        if number.isdecimal():
            found[int(number)] = ViewKey(_open_key(path, fresh=False), 56)
    return dict(sorted(found.items()))


def make_view_key(directory: Path, generation: int) -> None:
    """Make the view key of a generation, on the disk when this returns; one that is there already stays.

    It is there after a rotation that was interrupted before any digest made with it counted.
    """
    _open_key(directory / view_name(generation), fresh=True)


def open_keys(directory: Path, generation: int, *, fresh: bool) -> KeyRing:
    """Read the keys, or make them for a fresh state.

    Args:
        directory: ``DIR/keys``.
        generation: of the view key.
        fresh: whether there is no ledger yet; only then may a key be made.

    Raises:
        KeysLostError: a key of a state in use is missing or has another length, or a restore was not finished.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if (directory / RESTORING).exists():
        raise KeysLostError(f"a restore into {directory.parent} was not finished: run `lanjie restore` again")
    values = {of: _open_key(directory / name, fresh=fresh) for of, name in file_names(generation).items()}
    return KeyRing(generation=generation, **values)


def file_names(generation: int) -> dict[str, str]:
    """Return the name of the file of each key of a `KeyRing`."""
    return {
        "store": "store",
        "index": "index",
        "view": view_name(generation),
        "signing": "signing",
        "token": "token",
    }


def _open_key(path: Path, *, fresh: bool) -> bytes:
    if path.exists():
        value = path.read_bytes()
        if len(value) != KEY_BYTES:
            raise KeysLostError(f"{path} is damaged: {len(value)} bytes instead of {KEY_BYTES}")
        return value
    if not fresh:
        raise KeysLostError(
            f"{path} is missing, and a new one would not fit the ledger: copy {path.parent} from the host that has it, "
            "or restore the backup"
        )
    value = secrets.token_bytes(KEY_BYTES)
    keep(path, value)
    return value


def keep(path: Path, content: bytes) -> None:
    """Write a secret, 0600: whole or not at all, and on the disk with its name when this returns.

    A key whose file or name a power cut can undo would take the listings with it that were acknowledged meanwhile.
    """
    new = path.with_name(f".{path.name}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    # The file's name is an entry of its directory, and the directory's name one of the directory above.
    for directory in (path.parent, path.parent.parent):
        sync_directory(directory)


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
