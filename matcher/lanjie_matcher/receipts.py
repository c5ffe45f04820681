"""Receipts (核查凭证): the signed record of a check, or of a file of checks, that anybody can verify offline.

1. One trusted key signed the whole content; nothing is taken from what was not signed.
2. Its id is the digest of the facts, so the same facts have the same id whenever they are issued.
3. An organisation's full number is not shown, but whoever knows it can prove that it is meant. A natural person has no
   such proof: the numbers of persons can be tried one by one (Art. 40).
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

FORMAT: Final = "lanjie-receipt-1"
ED25519: Final = "ed25519"
SIGNED_PREFIX: Final = b"lanjie.v1.Receipt\x00"
MAX_BYTES: Final = 64 * 1024 * 1024
_NOT_FACTS: Final = ("id", "issued", "salt", "proof")
"""What differs each time the same facts are issued."""


class ReceiptError(ValueError):
    """A receipt proves nothing.

    Attributes:
        rule: ``format``, ``key-unknown``, ``signature`` or ``id``.
    """

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(f"{message} ({rule})")
        self.rule = rule


def canonical(content: Mapping[str, Any]) -> bytes:
    """Return the bytes that are signed: UTF-8 JSON with sorted keys and no blanks."""
    return json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def receipt_id(content: Mapping[str, Any]) -> str:
    """Return the id of the facts of a receipt (2)."""
    items = [_facts(item) for item in content["items"]]
    return hashlib.sha256(canonical({**_facts(content), "items": items})).hexdigest()[:32]


def proof(salt: bytes, identifier: str) -> str:
    """Return what proves an organisation's identifier, ``kind:number`` (3)."""
    return hashlib.sha256(salt + identifier.encode()).hexdigest()


def sealed(content: Mapping[str, Any], key_id: str, signature: bytes) -> bytes:
    """Return the file of a signed receipt."""
    made = {"receipt": content, "key": key_id, "algorithm": ED25519, "signature": signature.hex()}
    return json.dumps(made, ensure_ascii=False, indent=1, sort_keys=True).encode() + b"\n"


def opened(file: bytes, trusted: Mapping[str, bytes]) -> dict[str, Any]:
    """Return the content of a receipt that a trusted key signed (1, 2).

    Args:
        file: as `sealed` made it.
        trusted: raw Ed25519 public keys by key id.

    Raises:
        ReceiptError: it proves nothing.
    """
    if len(file) > MAX_BYTES:
        raise ReceiptError("format", "the file is too large for a receipt")
    try:
        made = json.loads(file)
        content, key_id, algorithm = made["receipt"], made["key"], made["algorithm"]
        signature = bytes.fromhex(made["signature"])
        known = content["format"] == FORMAT and algorithm == ED25519
        name, computed = content["id"], receipt_id(content)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ReceiptError("format", "the file is no receipt") from None
    if not known:
        raise ReceiptError("format", "the receipt has another format or algorithm")
    raw = trusted.get(key_id) if isinstance(key_id, str) else None
    if raw is None:
        raise ReceiptError("key-unknown", "no key that is trusted here signed it")
    try:
        Ed25519PublicKey.from_public_bytes(raw).verify(signature, SIGNED_PREFIX + canonical(content))
    except InvalidSignature:
        raise ReceiptError("signature", "the signature is not of this content") from None
    if name != computed:
        raise ReceiptError("id", "its id is not that of its facts")
    return dict(content)


def items_of(content: Mapping[str, Any], identifier: str) -> list[Mapping[str, Any]]:
    """Return the items that are about an organisation's identifier, ``kind:number``, by their proof (3)."""
    wanted = proof(bytes.fromhex(content["salt"]), identifier)
    return [item for item in content["items"] if item.get("proof") == wanted]


def _facts(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in _NOT_FACTS}
