"""What departments asked about natural persons: their days, in numbers, and today's questions from the records."""

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa

from lanjie_gateway.adapters.ledger import database
from lanjie_gateway.adapters.ledger.rows import LimitDay
from lanjie_gateway.adapters.ledger.tables import INQUIRY, LIMIT_DAY

KEPT_DAYS: Final = 60


def days(connection: sa.Connection) -> list[LimitDay]:
    """Return all days that are kept, in order."""
    return [LimitDay(**row._mapping) for row in connection.execute(sa.select(LIMIT_DAY).order_by(LIMIT_DAY.c.day))]  # noqa: SLF001


def lifted_by(connection: sa.Connection, department: str, day: int) -> str:
    """Return who lifted the limits of a department for a day; empty for nobody."""
    found = sa.select(LIMIT_DAY.c.lifted_by).where(LIMIT_DAY.c.department == department, LIMIT_DAY.c.day == day)
    return connection.execute(found).scalar() or ""


def keep(connection: sa.Connection, rows: Sequence[LimitDay]) -> None:
    """Keep days; of one that another host keeps too, the larger numbers, all trips, and the lifting."""
    for row in rows:
        place = (LIMIT_DAY.c.department == row.department) & (LIMIT_DAY.c.day == row.day)
        known = connection.execute(sa.select(LIMIT_DAY).where(place)).one_or_none()
        values: dict[str, Any] = {
            "off_hours": row.off_hours,
            "hours": list(row.hours),
            "trips": list(row.trips),
            "lifted_by": row.lifted_by,
            "rate": row.rate,
        }
        if known is not None:
            if sum(known.hours) > sum(row.hours):
                values |= {"off_hours": known.off_hours, "hours": known.hours, "rate": known.rate}
            values["trips"] = known.trips + [each for each in row.trips if each not in known.trips]
            values["lifted_by"] = row.lifted_by or known.lifted_by
        put = database.insert(connection, LIMIT_DAY).values(department=row.department, day=row.day, **values)
        connection.execute(put.on_conflict_do_update(index_elements=["department", "day"], set_=values))
    if rows:
        oldest = max(row.day for row in rows) - KEPT_DAYS
        connection.execute(sa.delete(LIMIT_DAY).where(LIMIT_DAY.c.day < oldest))


def answered_since(
    connection: sa.Connection, since: int, before: int | None, limit: int
) -> tuple[list[bytes], int | None]:
    """Return a page of the gateway's answers, and where the next one begins, `None` after the last.

    Newest first; of workers, and reports and readings of control.

    Args:
        connection: of the ledger.
        since: microseconds since 1970; the first page that holds none from then on is the last.
        before: where the page before ended.
        limit: rows looked at.
    """
    wanted = sa.select(INQUIRY.c.id, INQUIRY.c.decided_at, INQUIRY.c.record).where(
        INQUIRY.c.kind.in_(("gateway", "report", "reading"))
    )
    if before is not None:
        wanted = wanted.where(INQUIRY.c.id < before)
    # In the order they were loaded, which is about that of the day; uploads of SDKs may be days late, and are left out.
    rows = connection.execute(wanted.order_by(INQUIRY.c.id.desc()).limit(limit)).all()
    found = [row.record for row in rows if row.decided_at >= since]
    return found, rows[-1].id if found else None
