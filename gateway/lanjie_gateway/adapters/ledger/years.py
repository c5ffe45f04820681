"""Year files in the ledger (working days): each is a commit of its own, and of one year the newest counts."""

from typing import Final

import sqlalchemy as sa

from lanjie_gateway.adapters.ledger import commits, locks
from lanjie_gateway.adapters.ledger.rows import StoredYear
from lanjie_gateway.adapters.ledger.tables import BATCH, YEAR_FILE
from lanjie_gateway.domain import packed
from lanjie_gateway.domain.signing import Signed

KIND: Final = "calendar"
"""Kind of these commits. They touch no listing and no view: only deadlines are counted by them."""
LOCK: Final = "calendar"


def publish(
    connection: sa.Connection, year: int, notice: str, file: bytes, file_name: str, *, signed: Signed, now: int
) -> int:
    """Keep a year file; arguments and result as for `Ledger.publish_year`."""
    # Two hosts that publish one file at once make one commit of it.
    locks.wait(connection, LOCK)
    newest = connection.execute(
        sa.select(YEAR_FILE.c.file, BATCH.c.revision)
        .join(BATCH, BATCH.c.id == YEAR_FILE.c.batch_id)
        .where(YEAR_FILE.c.year == year)
        .order_by(BATCH.c.revision.desc())
        .limit(1)
    ).first()
    if newest is not None and newest.file == file:
        return int(newest.revision)
    batch = commits.begin(connection, signed.actor, now, kind=KIND)
    connection.execute(
        YEAR_FILE.insert().values(
            batch_id=batch,
            year=year,
            notice=notice,
            file=file,
            file_name=file_name,
            actor=signed.actor,
            published_at=now,
            signature=signed.value,
            signer=signed.signer,
        )
    )
    return commits.commit(connection, batch, now)


def read(connection: sa.Connection) -> list[StoredYear]:
    """Return all year files in the order of their publication."""
    rows = connection.execute(
        sa.select(YEAR_FILE, BATCH.c.revision)
        .join(BATCH, BATCH.c.id == YEAR_FILE.c.batch_id)
        .order_by(BATCH.c.revision)
    )
    return [
        StoredYear(
            year=row.year,
            file=row.file,
            file_name=row.file_name,
            actor=row.actor,
            published_at=packed.instant(row.published_at),
            revision=row.revision,
            signed=Signed.of(row.signer, row.signature),
        )
        for row in rows
    ]
