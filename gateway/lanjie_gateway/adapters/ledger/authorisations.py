"""Authorisations of subjects in the ledger, and their uses (Art. 39, 69).

Whoever uses one holds its row until the use is written: two workers, or two hosts, cannot both have the last one.
"""

import datetime
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from lanjie_gateway.adapters.ledger import database
from lanjie_gateway.adapters.ledger.tables import AUTHORISATION, AUTHORISATION_USE
from lanjie_gateway.adapters.sealing import Sealer
from lanjie_gateway.domain import packed
from lanjie_gateway.domain.authorisations import Authorisation, Spending, Use, Wanted, spend
from lanjie_matcher.civil_time import day_of


def register(connection: sa.Connection, new: Authorisation, sealer: Sealer) -> Authorisation:
    """Keep an authorisation; return the one that the department registered the document with first."""
    sealed, wrapped = sealer.seal(new.identifier.encode(), new.id.encode())
    values = {
        "id": new.id,
        "department": new.department,
        "subject_token": new.subject,
        "sealed": sealed,
        "wrapped_key": wrapped,
        "matters": list(new.matters),
        "purpose": new.purpose,
        "document_no": new.document_no,
        "document_date": new.document_date.toordinal(),
        "document_sha256": new.document_sha256,
        "valid_until": new.valid_until.toordinal(),
        "uses": new.uses,
        "used": 0,
        "registered_at": packed.micros(new.registered_at),
        "registered_by": new.registered_by,
    }
    once = database.insert(connection, AUTHORISATION).on_conflict_do_nothing(
        index_elements=["department", "document_sha256"]
    )
    connection.execute(once.values(values))
    mine = (AUTHORISATION.c.department == new.department, AUTHORISATION.c.document_sha256 == new.document_sha256)
    return _read(connection.execute(sa.select(AUTHORISATION).where(*mine)).one(), sealer)


def find(connection: sa.Connection, authorisation_id: str, sealer: Sealer) -> Authorisation | None:
    """Return an authorisation; `None` where there is none."""
    row = connection.execute(sa.select(AUTHORISATION).where(AUTHORISATION.c.id == authorisation_id)).first()
    return None if row is None else _read(row, sealer)


def of_subject(connection: sa.Connection, tokens: Sequence[bytes], sealer: Sealer) -> list[Authorisation]:
    """Return what a subject has authorised, the newest first."""
    mine = sa.select(AUTHORISATION).where(AUTHORISATION.c.subject_token.in_(tokens))
    return [_read(row, sealer) for row in connection.execute(mine.order_by(AUTHORISATION.c.registered_at.desc()))]


def withdraw(connection: sa.Connection, authorisation_id: str, actor: str, reason: str, now: int) -> None:
    """End an authorisation; one that was ended before stays as it was."""
    stands = (AUTHORISATION.c.id == authorisation_id, AUTHORISATION.c.withdrawn_at.is_(None))
    connection.execute(
        AUTHORISATION.update().where(*stands).values(withdrawn_at=now, withdrawn_by=actor, withdrawn_reason=reason)
    )


def consume(connection: sa.Connection, wanted: Wanted, sealer: Sealer, now: int) -> bool:
    """Use an authorisation where an inquiry fits it; return whether it does."""
    mine = sa.select(AUTHORISATION).where(AUTHORISATION.c.id == wanted.authorisation)
    row = connection.execute(mine.with_for_update()).first()
    if row is None:
        return False
    authorisation, at = _read(row, sealer), packed.instant(now)
    last = _last_use(connection, wanted)
    spending = spend(authorisation, wanted, last, at, day_of(at))
    if spending is Spending.REFUSED:
        return False
    if spending is Spending.AGAIN:
        assert last is not None  # noqa: S101  it is what happens again
        again = (
            AUTHORISATION_USE.c.authorisation_id == wanted.authorisation,
            AUTHORISATION_USE.c.number == last.number,
        )
        connection.execute(AUTHORISATION_USE.update().where(*again).values(tries=AUTHORISATION_USE.c.tries + 1))
        return True
    number = authorisation.used + 1
    connection.execute(AUTHORISATION.update().where(AUTHORISATION.c.id == wanted.authorisation).values(used=number))
    connection.execute(
        AUTHORISATION_USE.insert().values(
            authorisation_id=wanted.authorisation,
            number=number,
            request=wanted.request,
            question=wanted.question,
            used_at=now,
            used_by=wanted.person,
            tries=1,
        )
    )
    return True


def _last_use(connection: sa.Connection, wanted: Wanted) -> Use | None:
    uses = sa.select(AUTHORISATION_USE).where(
        AUTHORISATION_USE.c.authorisation_id == wanted.authorisation, AUTHORISATION_USE.c.request == wanted.request
    )
    row = connection.execute(uses.order_by(AUTHORISATION_USE.c.number.desc()).limit(1)).first()
    if row is None:
        return None
    return Use(number=row.number, question=row.question, at=packed.instant(row.used_at), tries=row.tries)


def _read(row: Any, sealer: Sealer) -> Authorisation:
    return Authorisation(
        id=row.id,
        department=row.department,
        subject=row.subject_token,
        identifier=sealer.open(row.sealed, row.wrapped_key, row.id.encode()).decode(),
        matters=tuple(row.matters),
        purpose=row.purpose,
        document_no=row.document_no,
        document_date=datetime.date.fromordinal(row.document_date),
        document_sha256=row.document_sha256,
        valid_until=datetime.date.fromordinal(row.valid_until),
        uses=row.uses,
        used=row.used,
        registered_at=packed.instant(row.registered_at),
        registered_by=row.registered_by,
        withdrawn_at=None if row.withdrawn_at is None else packed.instant(row.withdrawn_at),
    )
