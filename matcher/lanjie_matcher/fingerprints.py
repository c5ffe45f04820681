"""Keyed fingerprints: what stands for a subject where its number must not (Art. 43).

Two uses, two keys. The *index key* never leaves the gateway and gives 128-bit tokens for the exact index and the
ledger's search columns. A *view key* goes to the SDKs that hold the view and gives 64-bit digests whose top bits are
the fingerprints of the set. A keyed hash keeps outsiders and other departments from linking lists; it is no secrecy
against whoever holds key and set and can enumerate numbers, which is why persons' views stay at the gateway.
"""

import hashlib
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
    """

    __slots__ = ("_keyed", "_shift", "bits")

    def __init__(self, key: bytes, bits: int) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"a view key has {KEY_BYTES} bytes")
        if not 24 <= bits <= 56:
            raise ValueError("a fingerprint has 24 to 56 bits")
        self._keyed = hashlib.blake2b(key=key, digest_size=8)
        self._shift = 64 - bits
        self.bits = bits

    def digest64(self, key: str) -> int:
        """Return the 64-bit keyed digest of a canonical key: what an inquiry record of a local pass names."""
        keyed = self._keyed.copy()
        keyed.update(key.encode())
        return int.from_bytes(keyed.digest(), "big")

    def fingerprint(self, key: str) -> int:
        """Return the fingerprint of a canonical key: the top bits of `digest64`."""
        return self.digest64(key) >> self._shift

    def narrow(self, digest64: int) -> int:
        """Return the fingerprint that a digest of `digest64` holds."""
        return digest64 >> self._shift

    def key_check(self) -> bytes:
        """Return the eight bytes that prove two sides hold the same key; a wrong one would miss everything."""
        return self.digest64(KEY_CHECK_TEXT).to_bytes(8, "big")
