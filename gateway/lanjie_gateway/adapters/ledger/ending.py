"""The end of retention of inquiry records, and of what subjects have authorised, complained of and had watched.

The rules are those of `lanjie_gateway.domain.record_retention`.

1. Slices in the order of places, each a transaction with the record that tells of it: interrupted anywhere, what is
   erased is told, and the rest is for the next time. Of several hosts one does a slice: its position is held.
2. An answer whose feedback is still open, or a complaint about it, is held and looked at again; so is a record that is
   not as it was kept, for its audit to find.
3. With a record goes what its feedback names of a listing and an officer. Dispositions and times stay for statistics;
   times move to the beginning of their day together: an instant would tell which case it was.
4. What is left of a record is its digest, and what says which record it was: it is taken from no source a second time.
"""

import datetime
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from lanjie_gateway.adapters.ledger import database, inquiries, tree
from lanjie_gateway.adapters.ledger.rows import InquiryRow
from lanjie_gateway.adapters.ledger.tables import (
    ALERT,
    AUTHORISATION,
    AUTHORISATION_USE,
    CLOSED_CASE,
    COMPLAINT,
    FEEDBACK,
    INQUIRY,
    RECORD_HELD,
    RETENTION,
    WATCH,
    WATCH_LISTING,
)
from lanjie_gateway.domain import packed
from lanjie_gateway.domain.merkle import leaf_hash
from lanjie_gateway.domain.record_retention import ERASED, ERASURE, Rule, ranges, rule_of
from lanjie_gateway.domain.verification import fault_of
from lanjie_matcher.civil_time import day_of, start_of

SLICE: Final = 250
"""Places, or rows of another table, that one transaction looks at."""
ARCHIVED: Final = "archived"
"""Row of ``retention`` up to where records are in an archive."""

Told = Callable[[Mapping[str, Any]], tuple[str, InquiryRow]]
"""Makes the record of an erasure out of what it says; returns it with its source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to end.

    Attributes:
        rule: by which records end.
        bound: number of records that had been vouched for long enough.
        before: by which instant.
        days: for which the rule keeps them.
    """

    rule: Rule
    bound: int
    before: datetime.datetime
    days: int


@dataclass(frozen=True, slots=True)
class Slice:
    """What one transaction did; `after` is where to go on, `None` at the end."""

    count: int
    held: int
    after: int | None


def position(connection: sa.Connection, name: str) -> int:
    """Return how far a rule has come, or the archives."""
    found = connection.execute(sa.select(RETENTION.c.position).where(RETENTION.c.rule == name)).scalar()
    return int(found or 0)


def put_position(connection: sa.Connection, name: str, place: int) -> None:
    """Keep how far it has come; never back."""
    put = database.insert(connection, RETENTION).values(rule=name, position=place)
    further = RETENTION.c.position < put.excluded.position
    same = {"position": put.excluded.position}
    connection.execute(put.on_conflict_do_update(index_elements=["rule"], set_=same, where=further))


def held_back(connection: sa.Connection) -> int:
    """Return how many records are held though their retention has ended."""
    return int(connection.execute(sa.select(sa.func.count(RECORD_HELD.c.tree_index.distinct()))).scalar_one())


def look(connection: sa.Connection, order: Order, after: int | None) -> Slice:
    """Say what a slice would do. `after` begins as `None`, at those that are held."""
    if after is None:
        found = [place for place in _held(connection, order, 0, None) if place < order.bound]
        erase, held = _judged(connection, order, _at(connection, found))
        return Slice(len(erase), len(held), min(position(connection, order.rule.value), order.bound))
    end = min(after + SLICE, order.bound)
    erase, held = _judged(connection, order, _between(connection, order.rule, after, end))
    return Slice(len(erase), len(held), end if end < order.bound else None)


def again(connection: sa.Connection, order: Order, after: int, told: Told) -> Slice:
    """Erase those of the records held before, behind a place, that nothing holds any more (2)."""
    _hold_position(connection, order.rule)
    places = _held(connection, order, after, SLICE)
    erase, held = _judged(connection, order, _at(connection, [each for each in places if each < order.bound]))
    if erase:
        gone = RECORD_HELD.c.tree_index.in_([row.tree_index for row in erase])
        connection.execute(RECORD_HELD.delete().where(RECORD_HELD.c.rule == order.rule.value, gone))
        _erase(connection, order, erase, told)
    return Slice(len(erase), len(held), places[-1] + 1 if len(places) == SLICE else None)


def step(connection: sa.Connection, order: Order, told: Told) -> Slice:
    """Erase the records of the next slice (1)."""
    start = _hold_position(connection, order.rule)
    end = min(start + SLICE, order.bound)
    if end <= start:
        return Slice(0, 0, None)
    erase, held = _judged(connection, order, _between(connection, order.rule, start, end))
    if held:
        values = [{"rule": order.rule.value, "tree_index": row.tree_index} for row in held]
        connection.execute(database.insert(connection, RECORD_HELD).on_conflict_do_nothing(), values)
    put_position(connection, order.rule.value, end)
    if erase:
        _erase(connection, order, erase, told)
    return Slice(len(erase), len(held), end if end < order.bound else None)


def _hold_position(connection: sa.Connection, rule: Rule) -> int:
    """Return how far a rule has come, and hold it until the end of the transaction."""
    connection.execute(
        database.insert(connection, RETENTION).values(rule=rule.value, position=0).on_conflict_do_nothing()
    )
    mine = sa.select(RETENTION.c.position).where(RETENTION.c.rule == rule.value).with_for_update()
    return int(connection.execute(mine).scalar_one())


def _held(connection: sa.Connection, order: Order, after: int, limit: int | None) -> list[int]:
    mine = sa.select(RECORD_HELD.c.tree_index).where(RECORD_HELD.c.rule == order.rule.value)
    mine = mine.where(RECORD_HELD.c.tree_index >= after).order_by(RECORD_HELD.c.tree_index).limit(limit)
    return list(connection.execute(mine).scalars())


def _at(connection: sa.Connection, places: Sequence[int]) -> list[Any]:
    found: list[Any] = []
    for start in range(0, len(places), SLICE):
        some = INQUIRY.c.tree_index.in_(places[start : start + SLICE]) & (INQUIRY.c.outcome != ERASED)
        found += connection.execute(sa.select(INQUIRY).where(some).order_by(INQUIRY.c.tree_index))
    return found


def _between(connection: sa.Connection, rule: Rule, start: int, end: int) -> list[Any]:
    within = (INQUIRY.c.tree_index >= start) & (INQUIRY.c.tree_index < end)
    if rule is Rule.EFFECTS:
        within &= INQUIRY.c.outcome.not_in(["PASS", ERASED]) & (INQUIRY.c.kind != ERASURE)
    else:
        within &= INQUIRY.c.outcome == "PASS"
    return list(connection.execute(sa.select(INQUIRY).where(within).order_by(INQUIRY.c.tree_index)))


def _judged(connection: sa.Connection, order: Order, rows: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Return the rows to erase, and those that something holds (2)."""
    busy = _open(connection, [row.decision_id for row in rows])
    erase: list[Any] = []
    held: list[Any] = []
    for row in rows:
        try:
            if rule_of(row.record) is not order.rule:
                continue
        except (KeyError, TypeError, ValueError, AttributeError):
            held.append(row)
            continue
        leaf = tree.leaf_of(row)
        broken = fault_of(leaf, leaf_hash(leaf.record))
        (held if broken or row.decision_id in busy else erase).append(row)
    return erase, held


def _open(connection: sa.Connection, decisions: Sequence[str]) -> set[str]:
    """Return those of the decisions about which something is open."""
    if not decisions:
        return set()
    asked = sa.select(FEEDBACK.c.decision_id).where(FEEDBACK.c.decision_id.in_(decisions), FEEDBACK.c.told_at.is_(None))
    about = sa.select(COMPLAINT.c.about).where(
        COMPLAINT.c.about.in_([f"decision:{each}" for each in decisions]), COMPLAINT.c.outcome.is_(None)
    )
    complained = {each.removeprefix("decision:") for each in connection.execute(about).scalars()}
    return complained.union(connection.execute(asked).scalars())


def _erase(connection: sa.Connection, order: Order, rows: Sequence[Any], told: Told) -> None:
    # (4)
    values = [{"key": row.id, "day": packed.micros(_day(row.decided_at))} for row in rows]
    left = {"record": b"", "subject_token": b"", "matter": "", "outcome": ERASED, "decided_at": sa.bindparam("day")}
    connection.execute(INQUIRY.update().where(INQUIRY.c.id == sa.bindparam("key")).values(left), values)
    _forget_feedback(connection, [row.decision_id for row in rows])
    said = {"rule": order.rule, "days": order.days, "before": order.before.isoformat(), "count": len(rows)}
    source, own = told({**said, "erased": ranges(row.tree_index for row in rows)})
    inquiries.add(connection, source, own.sequence, [own])


def _forget_feedback(connection: sa.Connection, decisions: Collection[str]) -> None:
    """Take listings, officers and words out of feedback (3)."""
    rows = connection.execute(sa.select(FEEDBACK).where(FEEDBACK.c.decision_id.in_(decisions))).all()
    for number, row in enumerate(rows):
        day = packed.micros(_day(row.decided_at))
        told = {**(row.told or {}), "officer": "", "text": "", "confirmed_by": "", "confirmed_at": None}
        values = {"decided_at": day, "told_at": row.told_at - row.decided_at + day, "told": told}
        if row.listing_id:
            values["listing_id"] = f"erased-{number}"
        mine = (FEEDBACK.c.decision_id == row.decision_id) & (FEEDBACK.c.listing_id == row.listing_id)
        connection.execute(FEEDBACK.update().where(mine).values(values))


def _day(micros: int) -> datetime.datetime:
    return start_of(day_of(packed.instant(micros)))


def end_rights(
    connection: sa.Connection, before: datetime.datetime, told: Callable[[Mapping[str, int]], tuple[str, InquiryRow]]
) -> Mapping[str, int]:
    """Erase some authorisations, complaints, watches and closed cases that ended before an instant; return how many.

    Complaints without a reply, and watches with alerts that are kept, are no such.
    """
    counts = {}
    for name, table, ended in _ended(before):
        keys = list(table.primary_key.columns)
        rows = connection.execute(sa.select(*keys).where(ended).limit(SLICE).with_for_update(skip_locked=True)).all()
        for row in rows:
            mine = sa.and_(*(key == value for key, value in zip(keys, row, strict=True)))
            connection.execute(table.delete().where(mine))
        if rows:
            counts[name] = len(rows)
            _delete_of(connection, table, [row[0] for row in rows])
    if counts:
        source, own = told(counts)
        inquiries.add(connection, source, own.sequence, [own])
    return counts


def count_rights(connection: sa.Connection, before: datetime.datetime) -> Mapping[str, int]:
    """Return how many there are of those that `end_rights` erases."""
    found = {
        name: int(connection.execute(sa.select(sa.func.count()).select_from(table).where(ended)).scalar_one())
        for name, table, ended in _ended(before)
    }
    return {name: count for name, count in found.items() if count}


def _ended(before: datetime.datetime) -> Iterable[tuple[str, sa.Table, Any]]:
    instant, day = packed.micros(before), day_of(before).toordinal()
    # The second one spelled as in the index of alerts of watches: SQLite uses it for no other spelling.
    alerted = sa.exists().where(ALERT.c.watch_id == WATCH.c.id, sa.text("alert.watch_id > 0"))
    return (
        ("authorisations", AUTHORISATION, AUTHORISATION.c.valid_until < day),
        ("complaints", COMPLAINT, COMPLAINT.c.closed_at < instant),
        ("watches", WATCH, ((WATCH.c.ended_at < instant) | (WATCH.c.until_on < day)) & ~alerted),
        ("cases", CLOSED_CASE, CLOSED_CASE.c.closed_at < instant),
    )


def _delete_of(connection: sa.Connection, table: sa.Table, keys: Sequence[Any]) -> None:
    if table is AUTHORISATION:
        connection.execute(AUTHORISATION_USE.delete().where(AUTHORISATION_USE.c.authorisation_id.in_(keys)))
    if table is WATCH:
        connection.execute(WATCH_LISTING.delete().where(WATCH_LISTING.c.watch_id.in_(keys)))
