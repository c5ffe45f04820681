"""The commit: one row of ``batch`` gets the next revision, and what it holds is seen from then on."""

from typing import Final

import sqlalchemy as sa

from lanjie_gateway.adapters.ledger import locks
from lanjie_gateway.adapters.ledger.tables import BATCH, HEAD
from lanjie_gateway.domain.errors import Refused, Unanswerable

STAGING: Final = "staging"
WAITING: Final = "waiting"
COMMITTED: Final = "committed"
ABANDONED: Final = "abandoned"
CHANNEL: Final = "lanjie_head"
"""Where PostgreSQL tells the revision of each commit."""


def begin(connection: sa.Connection, actor: str, now: int, *, kind: str = "listings", inserts: bool = False) -> int:
    """Make a batch that nobody sees; return its id."""
    base = connection.execute(sa.select(HEAD.c.revision)).scalar_one()
    batch = connection.execute(
        BATCH.insert()
        .values(kind=kind, state=STAGING, actor=actor, begun_at=now, base_revision=base, inserts=inserts)
        .returning(BATCH.c.id)
    ).scalar_one()
    return int(batch)


def fence(connection: sa.Connection, batch: int, state: str) -> None:
    """Hold a batch in its state until the end of the transaction, so that nobody abandons it meanwhile.

    A host whose connection was lost has lost its turn: another may have abandoned its batch, or be about to.

    Raises:
        Unanswerable: LEDGER_UNAVAILABLE: the connection that began the import is gone, and the import with it.
        Refused: IMPORT_OUTDATED: an import that waited does so no longer.
    """
    if locks.holds(connection, locks.IMPORTS):
        found = connection.execute(sa.select(BATCH.c.state).where(BATCH.c.id == batch).with_for_update()).scalar()
        if found == state:
            return
        if state == WAITING:
            raise Refused("IMPORT_OUTDATED", "the import no longer waits; import the file again")
    raise Unanswerable("LEDGER_UNAVAILABLE", "the connection to the ledger was lost; import the file again")


def abandon(connection: sa.Connection) -> None:
    """Give up every import that is half-way; only with the lock, which makes them nobody's."""
    connection.execute(BATCH.update().where(BATCH.c.state == STAGING).values(state=ABANDONED))


def commit(connection: sa.Connection, batch: int, now: int) -> int:
    """Give a batch the next revision, the last act of its transaction; return the revision.

    The row of ``head`` is taken last: revisions follow commit order and have no gap even where several hosts write,
    and whoever holds it waits for nobody.
    """
    revision = connection.execute(
        HEAD.update().values(revision=HEAD.c.revision + 1).returning(HEAD.c.revision)
    ).scalar_one()
    connection.execute(
        BATCH.update().where(BATCH.c.id == batch).values(state=COMMITTED, revision=revision, committed_at=now)
    )
    if locks.shared(connection):
        connection.execute(sa.select(sa.func.pg_notify(CHANNEL, str(revision))))
    return int(revision)
