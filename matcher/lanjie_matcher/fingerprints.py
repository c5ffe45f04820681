"""Keyed fingerprints: what stands for a subject where its number must not (Art. 43).

Two uses, two keys. The *index key* never leaves the gateway and gives 128-bit tokens for the exact index and the
ledger's search columns. A *view key* goes to the SDKs that hold the view and gives 64-bit digests whose top bits are
the fingerprints of the set. A keyed hash keeps outsiders and other departments from linking lists; it is no secrecy
against whoever holds key and set and can enumerate numbers, which is why persons' views stay at the gateway.
"""

import hashlib
from collections.abc import Iterable
from typing import Final

PRF_BLAKE2B_64: Final = "blake2b-64"
"""Algorithm id of `ViewKey.digest64`."""

TOKEN_BYTES: Final = 16
KEY_BYTES: Final = 32
KEY_CHECK_TEXT: Final = "key-check"


class IndexKey:
    """The gateway's key of the exact index.

    Args:
        key: 32 secret bytes.
    """

    __slots__ = ("_keyed",)

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"an index key has {KEY_BYTES} bytes")
        self._keyed = hashlib.blake2b(key=key, digest_size=TOKEN_BYTES)

    def token(self, text: str) -> bytes:
        """Return the 16-byte token of a canonical key, a full identity or a normalised name."""
        keyed = self._keyed.copy()
        keyed.update(text.encode())
        return keyed.digest()


class ViewKey:
    """The key of one view in one epoch.

    Args:
        key: 32 secret bytes.
        bits: width of a fingerprint, 24 to 56.

    Attributes:
        bits: the same.
        shift: how many bits of a digest are not of the fingerprint.
    """

    __slots__ = ("_copy", "_copy_of_organisations", "bits", "shift")

    def __init__(self, key: bytes, bits: int) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"a view key has {KEY_BYTES} bytes")
        if not 24 <= bits <= 56:
            raise ValueError("a fingerprint has 24 to 56 bits")
        self._copy = hashlib.blake2b(key=key, digest_size=8).copy
        begun = self._copy()
        begun.update(b"org:")
        self._copy_of_organisations = begun.copy
        self.shift = 64 - bits
        self.bits = bits

    def digest(self, key: str) -> bytes:
        """Return the keyed digest of a canonical key, eight bytes: what an inquiry record of a local pass names."""
        keyed = self._copy()
        keyed.update(key.encode())
        return keyed.digest()

    def digests(self, organisations: Iterable[bytes]) -> list[bytes]:
        """Return `digest` for the canonical key of each of many organisation codes; empty for an empty one."""
        copy, found = self._copy_of_organisations, []
        for organisation in organisations:
            if organisation:
                keyed = copy()
                keyed.update(organisation)
                found.append(keyed.digest())
            else:
                found.append(organisation)
        return found

    def digest64(self, key: str) -> int:
        """Return `digest` as a number, its first byte the highest."""
        return int.from_bytes(self.digest(key), "big")

    def fingerprint(self, key: str) -> int:
        """Return the fingerprint of a canonical key: the top bits of `digest64`."""
        return self.digest64(key) >> self.shift

    def narrow(self, digest64: int) -> int:
        """Return the fingerprint that a digest of `digest64` holds."""
        return digest64 >> self.shift

    def key_check(self) -> bytes:
        """Return the eight bytes that prove two sides hold the same key; a wrong one would miss everything."""
        return self.digest64(KEY_CHECK_TEXT).to_bytes(8, "big")
