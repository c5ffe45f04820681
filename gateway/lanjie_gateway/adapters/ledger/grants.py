"""Acts on grants (Art. 21, 39, 61): each that works is a commit of its own; none is ever changed or deleted after it.

1. What widens waits; another person confirms it, and it works from that commit on.
2. A waiting grant was judged against what stood then. Had that changed since, it is outdated: nobody confirms a
   difference that he was not shown.
3. An end works at once, and outdates what waits.
4. A name in a certificate is of one department, whoever confirms at the same time, on whatever host.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import sqlalchemy as sa

from lanjie_gateway.adapters.ledger import commits, locks
from lanjie_gateway.adapters.ledger.rows import StoredGrantAct
from lanjie_gateway.adapters.ledger.tables import BATCH, GRANT_ACT
from lanjie_gateway.domain import packed
from lanjie_gateway.domain.errors import Refused, invalid_argument, not_found
from lanjie_gateway.domain.grants import Grant, GrantSet, as_json, from_json

KIND: Final = "grant"
"""Kind of these commits. They touch no listing and no view."""
LOCK: Final = "grants"
SET, END = "set", "end"
WAITING, DONE, DECLINED = "waiting", "done", "declined"
MOST_WAITING: Final = 1_000


def bring(
    connection: sa.Connection,
    department: str,
    grant: Grant | None,
    *,
    base: int,
    waits: bool,
    actor: str,
    reason: str,
    document: str,
    now: int,
) -> StoredGrantAct | None:
    """Set, let wait or end; arguments and result as for `Ledger.bring_grant`."""
    # Two hosts that set grants at once would each have judged without the other's.
    locks.wait(connection, LOCK)
    if _newest(connection, department) != base:
        return None
    if waits and len([each for each in read(connection) if each.state == WAITING]) >= MOST_WAITING:
        raise Refused("OVERLOADED", f"{MOST_WAITING} grants wait already; settle some of them", retry_after_ms="0")
    values: dict[str, Any] = {
        "department": department,
        "kind": END if grant is None else SET,
        "state": WAITING,
        "content": {} if grant is None else as_json(grant),
        "base": base,
        "actor": actor,
        "reason": reason,
        "document": document,
        "brought_at": now,
    }
    number = connection.execute(GRANT_ACT.insert().values(**values).returning(GRANT_ACT.c.id)).scalar_one()
    if not waits:
        _work(connection, number, actor, None, now)
    return _held(connection, number)


def confirm(connection: sa.Connection, number: int, person: str, now: int) -> StoredGrantAct:
    """Let a waiting grant work (1). A second confirmation returns it unchanged.

    Raises:
        Refused: NOT_FOUND; SECOND_PERSON_REQUIRED; IMPORT_OUTDATED (2); ARGUMENT_INVALID (4).
    """
    locks.wait(connection, LOCK)
    act = _held(connection, number)
    if act.actor == person:
        raise Refused("SECOND_PERSON_REQUIRED", "another person than the one who set it confirms (Art. 61)")
    if act.state == DONE:
        return act
    if act.state != WAITING or _newest(connection, act.department) != act.base:
        raise Refused("IMPORT_OUTDATED", "the grant no longer waits, or another was set since; set it again")
    if act.grant is not None:
        require_own_names(grants_of(read(connection)), act.grant)
    _work(connection, number, act.actor, person, now)
    return _held(connection, number)


def require_own_names(stands: GrantSet, grant: Grant) -> None:
    """Refuse a grant that names another department's name in certificates (4).

    Raises:
        Refused: ARGUMENT_INVALID.
    """
    if stands.taken(grant):
        message = "another department has one of these names in certificates"
        raise invalid_argument("grant.identities", "identity-taken", message)


def grants_of(acts: Iterable[StoredGrantAct]) -> GrantSet:
    """Return what stands, by every act; those that work come in the order of their revisions."""
    newest = {act.department: act for act in acts if act.revision}
    grants = [act.grant for act in newest.values() if act.grant is not None]
    return GrantSet.made(grants, max((act.revision for act in newest.values()), default=0))


def decline(connection: sa.Connection, number: int, person: str, reason: str, now: int) -> StoredGrantAct:
    """Give a waiting grant up; whoever set it may do so too.

    Raises:
        Refused: NOT_FOUND; IMPORT_OUTDATED: it waits no longer.
    """
    locks.wait(connection, LOCK)
    if _held(connection, number).state != WAITING:
        raise Refused("IMPORT_OUTDATED", "the grant no longer waits")
    settled = {"state": DECLINED, "second": person, "settled_at": now, "declined_reason": reason}
    connection.execute(GRANT_ACT.update().where(GRANT_ACT.c.id == number).values(**settled))
    return _held(connection, number)


def read(connection: sa.Connection) -> list[StoredGrantAct]:
    """Return every act on every grant: those that work in the order of their revisions, then the others."""
    return [_act(row) for row in connection.execute(_ACTS.order_by(BATCH.c.revision.is_(None), BATCH.c.revision))]


_ACTS: Final = sa.select(GRANT_ACT, BATCH.c.revision).outerjoin(BATCH, BATCH.c.id == GRANT_ACT.c.batch_id)


def _newest(connection: sa.Connection, department: str) -> int:
    """Return the number of the act that says what stands for a department; 0 where nothing was ever granted."""
    mine = (GRANT_ACT.c.department == department) & (GRANT_ACT.c.state == DONE)
    newest = sa.select(GRANT_ACT.c.id).join(BATCH, BATCH.c.id == GRANT_ACT.c.batch_id).where(mine)
    return connection.execute(newest.order_by(BATCH.c.revision.desc()).limit(1)).scalar() or 0


def _work(connection: sa.Connection, number: int, actor: str, second: str | None, now: int) -> None:
    batch = commits.begin(connection, actor, now, kind=KIND)
    settled = {"state": DONE, "second": second, "settled_at": now, "batch_id": batch}
    connection.execute(GRANT_ACT.update().where(GRANT_ACT.c.id == number).values(**settled))
    commits.commit(connection, batch, now)


def _held(connection: sa.Connection, number: int) -> StoredGrantAct:
    row = connection.execute(_ACTS.where(GRANT_ACT.c.id == number)).first()
    if row is None:
        raise not_found("no such act")
    return _act(row)


def _act(row: Any) -> StoredGrantAct:
    content: Mapping[str, Any] = row.content
    return StoredGrantAct(
        number=row.id,
        department=row.department,
        kind=row.kind,
        state=row.state,
        grant=from_json(content, row.revision or 0) if content else None,
        base=row.base,
        actor=row.actor,
        second=row.second or "",
        reason=row.reason,
        document=row.document,
        brought_at=packed.instant(row.brought_at),
        settled_at=None if row.settled_at is None else packed.instant(row.settled_at),
        declined_reason=row.declined_reason or "",
        revision=row.revision or 0,
    )
