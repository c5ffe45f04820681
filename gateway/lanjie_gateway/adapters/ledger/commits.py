"""The commit: one row of ``batch`` gets the next revision, and what it holds is seen from then on."""

import sqlalchemy as sa

from lanjie_gateway.adapters.ledger.tables import BATCH, HEAD

STAGING = "staging"
WAITING = "waiting"
COMMITTED = "committed"
ABANDONED = "abandoned"


def begin(connection: sa.Connection, actor: str, now: int, *, kind: str = "listings", inserts: bool = False) -> int:
    """Make a batch that nobody sees; return its id."""
    base = connection.execute(sa.select(HEAD.c.revision)).scalar_one()
    batch = connection.execute(
        BATCH.insert()
        .values(kind=kind, state=STAGING, actor=actor, begun_at=now, base_revision=base, inserts=inserts)
        .returning(BATCH.c.id)
    ).scalar_one()
    return int(batch)


def commit(connection: sa.Connection, batch: int, now: int) -> int:
    """Give a batch the next revision, the last act of its transaction; return the revision.

    The row of ``head`` is taken last: revisions follow commit order and have no gap even where several hosts write.
    """
    revision = connection.execute(
        HEAD.update().values(revision=HEAD.c.revision + 1).returning(HEAD.c.revision)
    ).scalar_one()
    connection.execute(
        BATCH.update().where(BATCH.c.id == batch).values(state=COMMITTED, revision=revision, committed_at=now)
    )
    return int(revision)
