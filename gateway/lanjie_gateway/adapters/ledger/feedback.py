"""Feedback in the ledger: opened with the record of the answer, and what was told of it.

The rules are those of `lanjie_gateway.domain.feedback`; what was told stands in the inquiry records too, each time.
"""

import dataclasses
import datetime
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

from lanjie_gateway.adapters.ledger import database
from lanjie_gateway.adapters.ledger.rows import InquiryRow, row_id
from lanjie_gateway.adapters.ledger.tables import FEEDBACK, LISTING
from lanjie_gateway.domain import packed
from lanjie_gateway.domain.feedback import EFFECTS, Asked, Disposition, Report, Settled, asks, is_person


class OvertakenError(Exception):
    """Something else was told since the feedback was read; read it again."""


_OPEN: Final = FEEDBACK.c.told_at.is_(None)


def open_for(connection: sa.Connection, rows: Sequence[InquiryRow]) -> None:
    """Open the feedback that records ask for, in the transaction that keeps them; known ones are passed over.

    A record that replaces another says that the other never left: that one asks for nothing.
    """
    wanted, replaced = [], []
    for row in rows:
        if row.kind != "gateway":
            continue
        if b'"replaces"' in row.record:
            replaced.append(row.fields().get("replaces", ""))
        if row.outcome in EFFECTS:
            wanted += _wanted(row)
    if wanted:
        types = _list_types(connection, (each["listing_id"] for each in wanted))
        once = database.insert(connection, FEEDBACK).on_conflict_do_nothing(
            index_elements=["decision_id", "listing_id"]
        )
        values = [{**each, "list_type": types.get(each["listing_id"], "")} for each in wanted]
        connection.execute(once, values)
    if replaced:
        connection.execute(FEEDBACK.delete().where(_OPEN, FEEDBACK.c.decision_id.in_(replaced)))


def _wanted(row: InquiryRow) -> list[dict[str, Any]]:
    fields = row.fields()
    return [
        {
            "decision_id": row.decision_id,
            "listing_id": listing,
            "department": row.department,
            "matter": row.matter,
            "region": fields.get("region", ""),
            "outcome": row.outcome,
            "measures": list(measures),
            "person": is_person(fields.get("id_kind", "")),
            "decided_at": packed.micros(row.decided_at),
            "version": 0,
        }
        for listing, measures in asks(fields)
    ]


def _list_types(connection: sa.Connection, listings: Iterable[str]) -> Mapping[str, str]:
    numbers = {row_id(each): each for each in listings}
    found = connection.execute(sa.select(LISTING.c.id, LISTING.c.list_type).where(LISTING.c.id.in_(list(numbers))))
    return {numbers[row.id]: row.list_type for row in found}


def read(connection: sa.Connection, decision_id: str) -> list[Asked]:
    """Return what an answer asks for, by listing."""
    mine = sa.select(FEEDBACK).where(FEEDBACK.c.decision_id == decision_id).order_by(FEEDBACK.c.listing_id)
    return [_asked(row) for row in connection.execute(mine)]


def outstanding(connection: sa.Connection, department: str, before: int | None, limit: int) -> list[Asked]:
    """Return what is still asked for, the oldest first.

    Args:
        connection: to read through.
        department: empty for all.
        before: microseconds; what was answered later is left out.
        limit: at most so many.
    """
    query = sa.select(FEEDBACK).where(_OPEN).order_by(FEEDBACK.c.decided_at, FEEDBACK.c.decision_id).limit(limit)
    if department:
        query = query.where(FEEDBACK.c.department == department)
    if before is not None:
        query = query.where(FEEDBACK.c.decided_at < before)
    return [_asked(row) for row in connection.execute(query)]


def between(
    connection: sa.Connection, instants: tuple[int, int], department: str, after: tuple[str, str], limit: int
) -> list[Asked]:
    """Return a page of what answers made between two instants ask for and were told; see `Ledger.feedback_between`."""
    key = sa.tuple_(FEEDBACK.c.decision_id, FEEDBACK.c.listing_id)
    made = (FEEDBACK.c.decided_at >= instants[0]) & (FEEDBACK.c.decided_at < instants[1])
    query = sa.select(FEEDBACK).where(made, key > sa.tuple_(*map(sa.literal, after)))
    if department:
        query = query.where(FEEDBACK.c.department == department)
    return [_asked(row) for row in connection.execute(query.order_by(*key.clauses).limit(limit))]


def count(connection: sa.Connection, department: str, days: Sequence[int]) -> dict[str, list[int]]:
    """Return how many answers ask for feedback, by department: as many as were made before each instant of `days`."""
    columns = [sa.func.sum(sa.case((FEEDBACK.c.decided_at < day, 1), else_=0)) for day in days]
    query = sa.select(FEEDBACK.c.department, sa.func.count(), *columns).where(_OPEN).group_by(FEEDBACK.c.department)
    if department:
        query = query.where(FEEDBACK.c.department == department)
    return {row[0]: [int(each) for each in row[1:]] for row in connection.execute(query)}


def write(connection: sa.Connection, settled: Sequence[Settled], now: int) -> None:
    """Write what was told.

    Raises:
        OvertakenError: something else was told meanwhile.
    """
    for each in settled:
        asked = each.asked
        told = {"told_at": now, "disposition": each.disposition.value, "told": _json(each.report)}
        values = {**told, "version": asked.version + 1}
        mine = (FEEDBACK.c.decision_id == asked.decision_id) & (FEEDBACK.c.listing_id == asked.listing)
        if asked.version or asked.listing:
            same = FEEDBACK.c.version == asked.version
            done = connection.execute(FEEDBACK.update().where(mine, same).values(**values))
        else:
            fresh = database.insert(connection, FEEDBACK).values(**_values(asked), **values)
            done = connection.execute(fresh.on_conflict_do_nothing())
        if not done.rowcount:
            raise OvertakenError


def _values(asked: Asked) -> dict[str, Any]:
    return {
        "decision_id": asked.decision_id,
        "listing_id": asked.listing,
        "department": asked.department,
        "matter": asked.matter,
        "region": asked.region,
        "list_type": asked.list_type,
        "outcome": asked.outcome,
        "measures": list(asked.measures),
        "person": asked.person,
        "decided_at": packed.micros(asked.decided_at),
    }


def _asked(row: Any) -> Asked:
    return Asked(
        decision_id=row.decision_id,
        listing=row.listing_id,
        department=row.department,
        matter=row.matter,
        region=row.region,
        list_type=row.list_type,
        outcome=row.outcome,
        measures=tuple(row.measures),
        person=row.person,
        decided_at=packed.instant(row.decided_at),
        told=None if row.told is None else _report(row.told),
        told_at=None if row.told_at is None else packed.instant(row.told_at),
        disposition=None if row.disposition is None else Disposition(row.disposition),
        version=row.version,
    )


def _json(report: Report) -> dict[str, Any]:
    values = {each.name: getattr(report, each.name) for each in dataclasses.fields(report)}
    confirmed = report.confirmed_at
    return {
        **{name: value for name, value in values.items() if name not in ("listings", "corrects")},
        "applied": sorted(report.applied),
        "confirmed_at": None if confirmed is None else confirmed.isoformat(),
    }


def _report(told: Mapping[str, Any]) -> Report:
    confirmed = told["confirmed_at"]
    return Report(
        **{
            **told,
            "applied": frozenset(told["applied"]),
            "confirmed_at": None if confirmed is None else datetime.datetime.fromisoformat(confirmed),
        }
    )
