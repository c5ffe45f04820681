"""Complaints in the ledger (Art. 60): the subject, what it says and what it is told are sealed."""

import json
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from lanjie_gateway.adapters.ledger.tables import COMPLAINT
from lanjie_gateway.adapters.sealing import Sealer
from lanjie_gateway.domain import packed
from lanjie_gateway.domain.complaints import Complaint, ComplaintOutcome, complaint_number

MOST = 1_000


def add(connection: sa.Connection, new: Complaint, sealer: Sealer) -> Complaint:
    """Keep a complaint; return it with its id."""
    sealed, wrapped = sealer.seal(json.dumps([new.identifier, new.text]).encode(), new.subject)
    values = {
        "subject_token": new.subject,
        "about": new.about,
        "sealed": sealed,
        "wrapped_key": wrapped,
        "received_at": packed.micros(new.received_at),
        "received_by": new.received_by,
    }
    number = connection.execute(COMPLAINT.insert().values(values).returning(COMPLAINT.c.id)).scalar_one()
    return _read(connection.execute(sa.select(COMPLAINT).where(COMPLAINT.c.id == number)).one(), sealer)


def find(
    connection: sa.Connection, sealer: Sealer, *, about: str = "", tokens: Sequence[bytes] = (), closed: bool = True
) -> list[Complaint]:
    """Return complaints, the oldest first: about something, of a subject, or all; the closed ones too or not."""
    query = sa.select(COMPLAINT).order_by(COMPLAINT.c.id).limit(MOST)
    if about:
        query = query.where(COMPLAINT.c.about == about)
    if tokens:
        query = query.where(COMPLAINT.c.subject_token.in_(tokens))
    if not closed:
        query = query.where(COMPLAINT.c.outcome.is_(None))
    return [_read(row, sealer) for row in connection.execute(query)]


def get(connection: sa.Connection, complaint_id: str, sealer: Sealer) -> Complaint | None:
    """Return a complaint; `None` where there is none."""
    row = connection.execute(sa.select(COMPLAINT).where(COMPLAINT.c.id == complaint_number(complaint_id))).first()
    return None if row is None else _read(row, sealer)


def close(connection: sa.Connection, done: Complaint, sealer: Sealer) -> bool:
    """Keep how a complaint ended; whether it was open."""
    sealed, wrapped = sealer.seal(done.reply.encode(), done.subject)
    values = {
        "outcome": done.outcome,
        "reply_sealed": sealed,
        "reply_wrapped_key": wrapped,
        "accountability": done.accountability,
        "closed_at": packed.micros(done.closed_at) if done.closed_at else None,
        "closed_by": done.closed_by,
    }
    is_open = (COMPLAINT.c.id == complaint_number(done.id), COMPLAINT.c.outcome.is_(None))
    return bool(connection.execute(COMPLAINT.update().where(*is_open).values(values)).rowcount)


def _read(row: Any, sealer: Sealer) -> Complaint:
    identifier, text = json.loads(sealer.open(row.sealed, row.wrapped_key, row.subject_token))
    reply = ""
    if row.reply_sealed is not None:
        reply = sealer.open(row.reply_sealed, row.reply_wrapped_key, row.subject_token).decode()
    return Complaint(
        id=f"c{row.id}",
        subject=row.subject_token,
        identifier=identifier,
        about=row.about,
        text=text,
        received_at=packed.instant(row.received_at),
        received_by=row.received_by,
        outcome=None if row.outcome is None else ComplaintOutcome(row.outcome),
        reply=reply,
        accountability=row.accountability or "",
        closed_at=None if row.closed_at is None else packed.instant(row.closed_at),
        closed_by=row.closed_by or "",
    )
