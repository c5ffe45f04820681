"""Signed checkpoints of the hash tree over inquiry records (Art. 43, 61): C2SP tlog-checkpoint in a C2SP signed note.

A checkpoint says how many records there are and what the root over them is; its text is ::

    <lineage>
    <size>
    <root, base64>
    lanjie epoch=<n> time=<UTC>[ restored]

    — <lineage> <base64 of four bytes of key id and an Ed25519 signature>

A witness may add its own signature lines; they change nothing of ours. `restored` stands in the first checkpoint of an
epoch, which a restore makes: only the holder of the signing key can begin one.
"""

import base64
import binascii
import datetime
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from lanjie_gateway.domain.merkle import HASH_BYTES

_ED25519: Final = b"\x01"
"""Signature type of C2SP signed notes."""
_KEY_ID_BYTES: Final = 4
_EXTENSION: Final = re.compile(r"lanjie epoch=([0-9]{1,18}) time=([0-9T:.+Z-]{1,40})( restored)?")
_MOST_BYTES: Final = 65_536


class NoteError(ValueError):
    """It is no checkpoint of this ledger, or not signed with its key; the message is fit for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a checkpoint says.

    Attributes:
        origin: lineage of the ledger.
        size: number of records.
        root: root of the tree over them.
        epoch: of the ledger.
        at: aware instant at which it was made.
        restored: it begins an epoch after a restore.
    """

    origin: str
    size: int
    root: bytes
    epoch: int
    at: datetime.datetime
    restored: bool = False

    @property
    def text(self) -> str:
        """What is signed."""
        time = self.at.astimezone(datetime.UTC).isoformat(timespec="seconds")
        root = base64.b64encode(self.root).decode()
        mark = " restored" if self.restored else ""
        return f"{self.origin}\n{self.size}\n{root}\nlanjie epoch={self.epoch} time={time}{mark}\n"

    def signed(self, public: bytes, sign: Callable[[bytes], bytes]) -> str:
        """Return the signed note.

        Args:
            public: raw Ed25519 key.
            sign: signs with its private half.
        """
        value = base64.b64encode(_key_id(self.origin, public) + sign(self.text.encode())).decode()
        return f"{self.text}\n— {self.origin} {value}\n"

    @classmethod
    def open(cls, note: str, origin: str, public: bytes) -> Self:
        """Read a signed note.

        Args:
            note: text, perhaps with signatures of witnesses.
            origin: lineage of the ledger it must be of.
            public: raw Ed25519 key that must have signed it.

        Raises:
            NoteError: it cannot be read, is of another ledger, or bears no signature of that key.
        """
        found = cls.read(note)
        text, _, signatures = note.partition("\n\n")
        text += "\n"
        if found.origin != origin:
            raise NoteError("it is a checkpoint of another ledger")
        key_id = _key_id(origin, public)
        for line in signatures.splitlines():
            raw = _signature(line, origin)
            if raw[:_KEY_ID_BYTES] == key_id and _verifies(public, raw[_KEY_ID_BYTES:], text.encode()):
                return found
        raise NoteError("it is not signed with the key of this ledger")

    @classmethod
    def read(cls, note: str) -> Self:
        """Read a note without looking at who signed it.

        Raises:
            NoteError: it cannot be read.
        """
        if len(note) > _MOST_BYTES:
            raise NoteError("a checkpoint is shorter than 64 KiB")
        text, blank, _ = note.partition("\n\n")
        if not blank:
            raise NoteError("it is no signed note")
        try:
            origin, size, root, *extensions = text.splitlines()
            (said,) = filter(None, map(_EXTENSION.fullmatch, extensions))
            value = base64.b64decode(root, validate=True)
            number = int(size)
            at = datetime.datetime.fromisoformat(said[2]).astimezone(datetime.UTC)
        except (ValueError, binascii.Error, OverflowError):
            raise NoteError("it is no checkpoint of a ledger of inquiry records") from None
        if len(value) != HASH_BYTES or str(number) != size or number < 0:
            raise NoteError("it is no checkpoint of a ledger of inquiry records")
        return cls(origin=origin, size=number, root=value, epoch=int(said[1]), at=at, restored=said[3] is not None)


def note_in(text: str) -> tuple[str, int | None, list[bytes]]:
    """Return the note of a file of `lanjie audit witness`, the earlier size and the proof that stand before it.

    A bare checkpoint is taken too: then the size is `None`.

    Raises:
        NoteError: it is neither.
    """
    if not text.startswith("old "):
        return text, None, []
    head, blank, note = text.partition("\n\n")
    old, *proof = head.splitlines()
    try:
        return note, int(old.removeprefix("old ")), [base64.b64decode(line, validate=True) for line in proof]
    except (ValueError, binascii.Error):
        raise NoteError("the proof before the checkpoint cannot be read" if blank else "it is no checkpoint") from None


def with_proof(note: str, old: int, proof: list[bytes]) -> str:
    """Return a checkpoint with a proof of consistency, as C2SP tlog-witness sends it to a witness."""
    lines = [f"old {old}", *(base64.b64encode(step).decode() for step in proof)]
    return "\n".join(lines) + f"\n\n{note}"


def _key_id(name: str, public: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + _ED25519 + public).digest()[:_KEY_ID_BYTES]


def _signature(line: str, name: str) -> bytes:
    before, _, value = line.rpartition(" ")
    try:
        return base64.b64decode(value, validate=True) if before == f"— {name}" else b""
    except binascii.Error:
        return b""


def _verifies(public: bytes, signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
