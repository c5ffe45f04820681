"""Advisory locks of PostgreSQL by name: what hosts must not do at the same time."""

import hashlib


def lock_number(name: str) -> int:
    """Return the key of a lock; locks are the database's own, so a name needs no lineage."""
    return int.from_bytes(hashlib.blake2b(b"lanjie " + name.encode(), digest_size=8).digest(), "big", signed=True)
