"""Duties of listings in the ledger, written in the transaction of the event that opens or closes them.

The rules are those of `lanjie_gateway.domain.duties`; here is only what the record holds.
"""

import datetime
from collections.abc import Iterable, Mapping
from typing import Any, Final

import sqlalchemy as sa

from lanjie_gateway.adapters.ledger.rows import StoredDuty
from lanjie_gateway.adapters.ledger.tables import BATCH, DUTY, EVENT, LISTING, STAGED_CHANGE
from lanjie_gateway.domain import duties, packed
from lanjie_gateway.domain.duties import DutyRule
from lanjie_gateway.domain.event_detail import review_of
from lanjie_gateway.domain.events import Act, EventKind
from lanjie_matcher.civil_time import day_of
from lanjie_matcher.listings import Listing

_OPEN: Final = DUTY.c.closed_by.is_(None)


def step(connection: sa.Connection, listing: int, act: Act, after: Listing, now: int) -> duties.Step:
    """Return what an event does to the duties of its listing; see `domain.duties.step`.

    Args:
        connection: inside the event's transaction, which holds the listing.
        listing: the listing's row.
        act: the event.
        after: the listing after it.
        now: microseconds.
    """
    today = day_of(packed.instant(now))
    day = today if act.effective_at is None else day_of(act.effective_at)
    return duties.step(act, after, day, today, _known(connection, listing, act))


def write(connection: sa.Connection, batch: int, listing: int, act: Act, done: duties.Step) -> None:
    """Write what an event does to the duties of its listing, as part of its commit."""
    mine = DUTY.update().where(DUTY.c.listing_id == listing, _OPEN).values(closed_by=batch)
    if act.kind is EventKind.REVIEWED:
        acted = _batch_of(review_of(act.detail)[0])
        review = DUTY.c.rule == DutyRule.REMOVAL_REVIEW.value
        connection.execute(mine.where(review, DUTY.c.opened_by == acted))
    elif done.closes:
        connection.execute(mine.where(DUTY.c.rule.in_([rule.value for rule in done.closes])))
    rows = [
        {
            "listing_id": listing,
            "rule": each.rule.value,
            "started_on": each.started_on.toordinal(),
            "opened_by": batch,
            "closed_by": batch if each.closed else None,
        }
        for each in done.opens
    ]
    if rows:
        connection.execute(DUTY.insert(), rows)


def close_by_import(connection: sa.Connection, batch: int) -> None:
    """Close what the staged changes of an import deal with, as part of its commit."""
    for kind, rules in duties.CLOSED_BY_IMPORT.items():
        changed = sa.select(STAGED_CHANGE.c.listing_id).where(
            STAGED_CHANGE.c.batch_id == batch, STAGED_CHANGE.c.kind == kind.value
        )
        named = DUTY.c.rule.in_([rule.value for rule in rules])
        connection.execute(DUTY.update().where(_OPEN, named, DUTY.c.listing_id.in_(changed)).values(closed_by=batch))


def read(
    connection: sa.Connection, *, closed_since: int | None, rules: Iterable[str], listings: Iterable[int] = ()
) -> list[StoredDuty]:
    """Return duties, those that began last first; see `Ledger.duties`. With `listings`, theirs alone."""
    opened, closed = BATCH.alias("opened"), BATCH.alias("closed")
    # A notice stops the provider's clock on the day it arrived, everything else on the day it was recorded.
    arrived = (
        sa.select(EVENT.c.effective_at)
        .where(EVENT.c.batch_id == DUTY.c.closed_by, EVENT.c.listing_id == DUTY.c.listing_id)
        .where(EVENT.c.kind == EventKind.NOTICED.value, DUTY.c.rule == DutyRule.REVOCATION_NOTICE.value)
        .scalar_subquery()
    )
    query = (
        sa.select(DUTY.c.rule, DUTY.c.listing_id, DUTY.c.started_on, LISTING.c.list_type, LISTING.c.packed)
        .add_columns(opened.c.revision, sa.func.coalesce(arrived, closed.c.committed_at).label("closed_at"))
        .join(LISTING, LISTING.c.id == DUTY.c.listing_id)
        .join(opened, opened.c.id == DUTY.c.opened_by)
        .outerjoin(closed, closed.c.id == DUTY.c.closed_by)
        .order_by(DUTY.c.started_on.desc(), DUTY.c.id.desc())
    )
    named = list(rules)
    if named:
        query = query.where(DUTY.c.rule.in_(named))
    numbers = list(listings)
    if numbers:
        query = query.where(DUTY.c.listing_id.in_(numbers))
    query = query.where(_OPEN if closed_since is None else _OPEN | (closed.c.committed_at >= closed_since))
    return [
        StoredDuty(
            rule=row.rule,
            listing_id=f"{row.listing_id:016x}",
            list_type=row.list_type,
            region=packed.unpack(row.packed).listing.region,
            started_on=datetime.date.fromordinal(row.started_on),
            closed_on=None if row.closed_at is None else day_of(packed.instant(row.closed_at)),
            revision=row.revision,
        )
        for row in connection.execute(query)
    ]


def count_open(connection: sa.Connection) -> Mapping[str, int]:
    """Return the number of open duties by rule."""
    rows = connection.execute(sa.select(DUTY.c.rule, sa.func.count().label("open")).where(_OPEN).group_by(DUTY.c.rule))
    return {row.rule: row.open for row in rows}


def _known(connection: sa.Connection, listing: int, act: Act) -> duties.Known:
    rows = connection.execute(
        sa.select(DUTY.c.rule, DUTY.c.opened_by, DUTY.c.closed_by).where(DUTY.c.listing_id == listing)
    ).all()
    if act.kind is EventKind.REVIEWED:
        waiting = [row.opened_by for row in rows if row.rule == DutyRule.REMOVAL_REVIEW and row.closed_by is None]
        reviewed = _actor(connection, listing, review_of(act.detail)[0], waiting)
    else:
        reviewed = None
    reinstated = _newest(connection, listing, EventKind.REINSTATED)
    return duties.Known(
        open=frozenset(DutyRule(row.rule) for row in rows if row.closed_by is None),
        withdrawn=any(row.rule == DutyRule.PUBLICITY_WITHDRAWAL and row.opened_by > reinstated for row in rows),
        reviewed_actor=reviewed,
        corrected=act.kind is EventKind.OBJECTION_CLOSED and _corrected(connection, listing),
    )


def _actor(connection: sa.Connection, listing: int, revision: int, waiting: list[int]) -> str | None:
    acted = sa.select(EVENT.c.actor).where(
        EVENT.c.listing_id == listing, EVENT.c.batch_id == _batch_of(revision), EVENT.c.batch_id.in_(waiting)
    )
    return connection.execute(acted.limit(1)).scalar()


def _batch_of(revision: int) -> Any:
    return sa.select(BATCH.c.id).where(BATCH.c.revision == revision).scalar_subquery()


def _newest(connection: sa.Connection, listing: int, kind: EventKind, column: Any = EVENT.c.batch_id) -> int:
    found = (
        sa.select(sa.func.max(column))
        .join(BATCH, BATCH.c.id == EVENT.c.batch_id)
        .where(EVENT.c.listing_id == listing, EVENT.c.kind == kind.value, BATCH.c.revision.is_not(None))
    )
    return int(connection.execute(found).scalar() or 0)


def _corrected(connection: sa.Connection, listing: int) -> bool:
    # By revision: an import that was begun before the objection may be committed after it.
    amended = _newest(connection, listing, EventKind.AMENDED, BATCH.c.revision)
    return amended > _newest(connection, listing, EventKind.OBJECTION_OPENED, BATCH.c.revision)
