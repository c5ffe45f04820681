"""Inquiry records (查询记录, Art. 39): the canonical leaf, its digest, and the columns derived from it.

The leaf is UTF-8 JSON with sorted keys and no blanks: the same facts give the same bytes, and whoever holds the leaf
can recompute every other column. It names the subject by keyed token only.
"""

import datetime
import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

DIGEST_ALGORITHM: Final = "sha-256"


def leaf(fields: Mapping[str, Any]) -> bytes:
    """Return the canonical bytes of a record; empty fields are left out."""
    kept = {name: value for name, value in fields.items() if value not in ("", None, (), [])}
    return json.dumps(kept, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def digest(record: bytes) -> bytes:
    """Return the leaf hash of RFC 6962: SHA-256 over a zero byte and the leaf."""
    return hashlib.sha256(b"\x00" + record).digest()


def instant(at: datetime.datetime) -> str:
    """Return an instant as records hold it: UTC, microseconds."""
    return at.astimezone(datetime.UTC).isoformat(timespec="microseconds")
