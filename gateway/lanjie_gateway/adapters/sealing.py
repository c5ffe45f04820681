"""Encryption at rest (Art. 43): every listing's details under a data key of its own, wrapped by the store key.

Erasing the wrapped key erases the details (Art. 41). Every sealed value begins with the id of its algorithm, so that
another (SM4-GCM) can take its place row by row. The sealed value is bound to the listing's natural key: a row cannot
be moved under another listing.
"""

import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

AES_256_GCM: Final = 1
"""Algorithm id: AES-256-GCM, 12 random bytes of nonce, 16 of tag (NIST SP 800-38D)."""
_NONCE: Final = 12
_HEAD: Final = bytes([AES_256_GCM])


class SealBrokenError(Exception):
    """A sealed value does not open: another key, another row, or damage."""


class Sealer:
    """Seals and opens details.

    Args:
        store_key: 32 secret bytes, the key that wraps data keys.
    """

    __slots__ = ("_wrap",)

    def __init__(self, store_key: bytes) -> None:
        self._wrap = AESGCM(store_key)

    def seal(self, plain: bytes, bound_to: bytes) -> tuple[bytes, bytes]:
        """Return the sealed details and the wrapped data key.

        Args:
            plain: the details.
            bound_to: natural key of the listing.
        """
        random = os.urandom(32 + 2 * _NONCE)
        key, first, second = random[:32], random[32 : 32 + _NONCE], random[32 + _NONCE :]
        sealed = _HEAD + first + AESGCM(key).encrypt(first, plain, bound_to)
        return sealed, _HEAD + second + self._wrap.encrypt(second, key, bound_to)

    def open(self, sealed: bytes, wrapped_key: bytes, bound_to: bytes) -> bytes:
        """Return the details.

        Raises:
            SealBrokenError: they do not open.
        """
        for value in (sealed, wrapped_key):
            if value[:1] != _HEAD:
                raise SealBrokenError("sealed with an algorithm that is not known here")
        try:
            key = self._wrap.decrypt(wrapped_key[1 : 1 + _NONCE], wrapped_key[1 + _NONCE :], bound_to)
            return AESGCM(key).decrypt(sealed[1 : 1 + _NONCE], sealed[1 + _NONCE :], bound_to)
        except InvalidTag:
            raise SealBrokenError("a sealed row does not open with the store key") from None
