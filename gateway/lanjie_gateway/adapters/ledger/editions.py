"""Editions of catalogues in the ledger (Art. 45): each is a commit of its own."""

from collections.abc import Callable
from typing import Final

import sqlalchemy as sa

from lanjie_gateway.adapters.ledger import commits, locks
from lanjie_gateway.adapters.ledger.rows import StoredEdition
from lanjie_gateway.adapters.ledger.tables import BATCH, EDITION
from lanjie_gateway.domain import packed
from lanjie_gateway.domain.errors import Refused
from lanjie_gateway.domain.signing import Signed
from lanjie_matcher.catalogues import Edition

LOCK: Final = "publish"


def publish(
    connection: sa.Connection,
    edition: Edition,
    file: bytes,
    file_name: str,
    *,
    actor: str,
    known: int,
    now: int,
    also: Callable[[int], None],
    signed: Signed | None = None,
) -> int | None:
    """Keep an edition; arguments, result and errors as for `Ledger.publish_edition`.

    `also` is called with the batch, for what belongs to the same commit.
    """
    # Two hosts that publish at once would each have judged without the other's.
    locks.wait(connection, LOCK)
    mine = (EDITION.c.catalogue_id == edition.id) & (EDITION.c.edition == edition.edition)
    held = connection.execute(
        sa.select(EDITION.c.file, BATCH.c.revision).join(BATCH, BATCH.c.id == EDITION.c.batch_id).where(mine)
    ).first()
    if held is not None:
        if held.file == file:
            return int(held.revision)
        message = "this edition was published with another content; publish a new edition"
        raise Refused("CATALOGUE_REFUSED", message, file=file_name, entry=edition.name, rule="edition-published")
    if count(connection) != known:
        return None
    batch = commits.begin(connection, actor, now, kind="catalogue")
    connection.execute(
        EDITION.insert().values(
            catalogue_id=edition.id,
            edition=edition.edition,
            batch_id=batch,
            file=file,
            file_name=file_name,
            actor=actor,
            published_at=now,
            signature=signed.value if signed else None,
            signer=signed.signer if signed else None,
        )
    )
    also(batch)
    return commits.commit(connection, batch, now)


def count(connection: sa.Connection) -> int:
    """Return the number of editions."""
    return int(connection.execute(sa.select(sa.func.count()).select_from(EDITION)).scalar_one())


def read(connection: sa.Connection) -> list[StoredEdition]:
    """Return all editions in the order of their publication."""
    rows = connection.execute(
        sa.select(EDITION, BATCH.c.revision).join(BATCH, BATCH.c.id == EDITION.c.batch_id).order_by(BATCH.c.revision)
    )
    return [
        StoredEdition(
            catalogue_id=row.catalogue_id,
            edition=row.edition,
            file=row.file,
            file_name=row.file_name,
            actor=row.actor,
            published_at=packed.instant(row.published_at),
            revision=row.revision,
            signed=Signed.of(row.signer, row.signature),
        )
        for row in rows
    ]
