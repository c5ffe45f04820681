"""What hosts on one PostgreSQL must not do at the same time: its advisory locks, by name.

SQLite has one host, and that host does one thing at a time: there a lock is only remembered.
"""

import hashlib
from typing import Final

import sqlalchemy as sa

IMPORTS: Final = "imports"
"""Held from the beginning of an import until it is committed, parked or given up, and over a confirmation."""
_HELD: Final = "lanjie_locks"


def lock_number(name: str) -> int:
    """Return the key of a lock; locks are the database's own, so a name needs no lineage."""
    return int.from_bytes(hashlib.blake2b(b"lanjie " + name.encode(), digest_size=8).digest(), "big", signed=True)


def shared(bind: sa.Engine | sa.Connection) -> bool:
    """Whether other hosts may write too: PostgreSQL."""
    return bind.dialect.name == "postgresql"


def wait(connection: sa.Connection, name: str) -> None:
    """Hold a lock until the end of the transaction, as soon as no other host does."""
    if shared(connection):
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(lock_number(name))))


def hold(connection: sa.Connection, name: str) -> bool:
    """Hold a lock as long as the connection lives, or until `release`; return False while another host does."""
    if not holds(connection, name):
        take = sa.select(sa.func.pg_try_advisory_lock(lock_number(name)))
        if shared(connection) and not connection.execute(take).scalar_one():
            return False
        connection.info.setdefault(_HELD, set()).add(name)
    return True


def holds(connection: sa.Connection, name: str) -> bool:
    """Whether this very connection holds a lock: a new one, after the old one broke, does not."""
    return name in connection.info.get(_HELD, ())


def release(connection: sa.Connection, name: str) -> None:
    """Let go of a lock, if it is held."""
    if holds(connection, name):
        connection.info[_HELD].discard(name)
        if shared(connection):
            connection.execute(sa.select(sa.func.pg_advisory_unlock(lock_number(name))))
