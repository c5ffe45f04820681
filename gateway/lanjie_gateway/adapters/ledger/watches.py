"""Watches, closed cases and alerts in the ledger; the rules are those of `lanjie_gateway.domain.alerts`.

A watch keeps keyed tokens and the sealed identifier, as a listing does, and never a clear number.
"""

import datetime
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import sqlalchemy as sa

from lanjie_gateway.adapters.ledger import database, locks
from lanjie_gateway.adapters.ledger.tables import ALERT, ALERT_HEAD, CLOSED_CASE, LISTING, WATCH
from lanjie_gateway.adapters.sealing import SealBrokenError, Sealer
from lanjie_gateway.domain import packed
from lanjie_gateway.domain.alerts import Alert, AlertKind, KeptAlert, Watch
from lanjie_gateway.domain.departments import asking
from lanjie_matcher.decide import Question
from lanjie_matcher.fingerprints import IndexKey
from lanjie_matcher.identifiers import Identifier, IdentifierError, parse
from lanjie_matcher.subjects import SubjectKind

_UNKNOWN: Final = (SealBrokenError, IdentifierError, ValueError)


def register(
    connection: sa.Connection, sealer: Sealer, watch: Watch, identifier: Identifier, today: datetime.date
) -> tuple[Watch, bool]:
    """Keep a watch; return it, and whether it was there just so.

    One that runs, or will, takes the new term and purpose; one that has ended by its date stays as it was.
    """
    locks.wait(connection, "watches")
    own = (
        (WATCH.c.department == watch.department)
        & (WATCH.c.subject_token == watch.subject)
        & (WATCH.c.matter == watch.question.matter)
        & (WATCH.c.case_no == watch.case_no)
    )
    live = WATCH.c.ended_at.is_(None) & (WATCH.c.until_on >= today.toordinal())
    held = connection.execute(sa.select(WATCH).where(own, live)).first()
    values: dict[str, Any] = {
        "asked": _asked(watch.question),
        "purpose": watch.purpose,
        "from_on": watch.from_on.toordinal(),
        "until_on": watch.until_on.toordinal(),
    }
    if held is not None:
        same = all(getattr(held, name) == value for name, value in values.items())
        if not same:
            connection.execute(WATCH.update().where(WATCH.c.id == held.id).values(**values))
        return replace(watch, number=held.id, made_at=packed.instant(held.made_at), actor=held.actor), same
    sealed, wrapped = sealer.seal(identifier.reveal().encode(), watch.subject)
    number = connection.execute(
        WATCH.insert()
        .values(
            department=watch.department,
            id_kind=watch.kind,
            subject_token=watch.subject,
            bucket=watch.bucket,
            sealed=sealed,
            wrapped_key=wrapped,
            matter=watch.question.matter,
            case_no=watch.case_no,
            made_at=packed.micros(watch.made_at),
            actor=watch.actor,
            looked=False,
            **values,
        )
        .returning(WATCH.c.id)
    ).scalar_one()
    return replace(watch, number=int(number)), False


def end(connection: sa.Connection, department: str, number: int, now: int) -> None:
    """End a watch of a department, unless it has ended."""
    own = (WATCH.c.department == department) & (WATCH.c.id == number) & WATCH.c.ended_at.is_(None)
    connection.execute(WATCH.update().where(own).values(ended_at=now))


def read(
    connection: sa.Connection, sealer: Sealer, department: str, *, before: int, limit: int, live_on: int | None
) -> list[Watch]:
    """Return watches of a department, the newest first.

    Args:
        connection: to read through.
        sealer: opens their identifiers.
        department: whose.
        before: those with a smaller number; 0 for all.
        limit: at most so many.
        live_on: ordinal of a day: those alone that have not ended by then; `None` for all.
    """
    query = sa.select(WATCH).where(WATCH.c.department == department).order_by(WATCH.c.id.desc()).limit(limit)
    if before:
        query = query.where(WATCH.c.id < before)
    if live_on is not None:
        query = query.where(WATCH.c.ended_at.is_(None), WATCH.c.until_on >= live_on)
    return [replace(watch_of(row), masked=_masked(sealer, row)) for row in connection.execute(query)]


def watch_of(row: Any) -> Watch:
    """Return the watch of a row, without its identifier."""
    asked = row.asked
    kinds = asked["implementers"]
    return Watch(
        number=row.id,
        department=row.department,
        kind=row.id_kind,
        subject=bytes(row.subject_token),
        bucket=bytes(row.bucket),
        question=Question(
            matter=row.matter,
            at=packed.instant(row.made_at),
            handling_region=asked["region"],
            department=asking(row.department),
            implementer_kinds=None if kinds is None else frozenset(kinds),
            kind_hint=SubjectKind(asked["kind_hint"]) if asked["kind_hint"] else None,
        ),
        case_no=row.case_no,
        purpose=row.purpose,
        from_on=datetime.date.fromordinal(row.from_on),
        until_on=datetime.date.fromordinal(row.until_on),
        made_at=packed.instant(row.made_at),
        actor=row.actor,
        ended_at=None if row.ended_at is None else packed.instant(row.ended_at),
    )


def close_case(connection: sa.Connection, department: str, matter: str, case_no: str, *, actor: str, now: int) -> bool:
    """Keep that a case is closed; return whether it was before, with nothing asked for it since."""
    fresh = database.insert(connection, CLOSED_CASE).values(
        department=department, matter=matter, case_no=case_no, closed_at=now, actor=actor
    )
    own = (CLOSED_CASE.c.department == department) & (CLOSED_CASE.c.matter == matter)
    known = connection.execute(sa.select(CLOSED_CASE.c.closed_at).where(own, CLOSED_CASE.c.case_no == case_no)).first()
    # A later close counts: what was asked in between was asked for a case that was open again.
    connection.execute(
        fresh.on_conflict_do_update(
            index_elements=["department", "matter", "case_no"], set_={"closed_at": now, "actor": actor}
        )
    )
    return known is not None


def closed_at(connection: sa.Connection, department: str, matter: str, case_no: str) -> datetime.datetime | None:
    """Return when a case was closed last."""
    own = (CLOSED_CASE.c.department == department) & (CLOSED_CASE.c.matter == matter)
    found = connection.execute(sa.select(CLOSED_CASE.c.closed_at).where(own, CLOSED_CASE.c.case_no == case_no)).scalar()
    return None if found is None else packed.instant(found)


def tell(connection: sa.Connection, alert: Alert, revision: int, at: int) -> int | None:
    """Keep an alert under the next number of its department; return it, `None` where the same was told before."""
    listing = int(alert.listing.id, 16)
    # What is known of the number is said as in the indexes, too: SQLite uses them for no other spelling.
    if alert.watch:
        same = (
            sa.text("alert.watch_id > 0")
            & (ALERT.c.watch_id == alert.watch)
            & (ALERT.c.revision == revision)
            & (ALERT.c.kind == alert.kind.value)
            & (ALERT.c.made_at == at)
        )
    else:
        same = (
            sa.text("alert.watch_id = 0")
            & (ALERT.c.decision_id == alert.decision_id)
            & (ALERT.c.department == alert.department)
        )
    if connection.execute(sa.select(ALERT.c.number).where(same, ALERT.c.listing_id == listing)).first():
        return None
    head = database.insert(connection, ALERT_HEAD).values(department=alert.department, number=1)
    number = connection.execute(
        head.on_conflict_do_update(index_elements=["department"], set_={"number": ALERT_HEAD.c.number + 1}).returning(
            ALERT_HEAD.c.number
        )
    ).scalar_one()
    connection.execute(
        ALERT.insert().values(
            department=alert.department,
            number=number,
            kind=alert.kind.value,
            watch_id=alert.watch,
            decision_id=alert.decision_id,
            bucket=alert.bucket,
            matter=alert.matter,
            case_no=alert.case_no,
            listing_id=listing,
            list_type=alert.listing.list_type,
            authority=alert.listing.authority,
            decision_no=alert.listing.decision_no,
            outcome_before=alert.outcome_before,
            outcome=alert.outcome,
            objection=alert.listing.objection,
            revision=revision,
            made_at=at,
        )
    )
    return int(number)


def alerts(
    connection: sa.Connection, sealer: Sealer, index: IndexKey, department: str, *, after: int, limit: int
) -> list[KeptAlert]:
    """Return alerts of a department that are not acknowledged, in order, with their masked identifiers."""
    rows = connection.execute(
        sa.select(ALERT)
        .where(ALERT.c.department == department, ALERT.c.number > after, ALERT.c.acknowledged_at.is_(None))
        .order_by(ALERT.c.number)
        .limit(limit)
    ).all()
    watches = {each.watch_id for each in rows if each.watch_id}
    named = {
        row.id: _masked(sealer, row) for row in connection.execute(sa.select(WATCH).where(WATCH.c.id.in_(watches)))
    }
    passes = {each.listing_id for each in rows if not each.watch_id and each.bucket}
    details = {
        row.id: row
        for row in connection.execute(
            sa.select(LISTING.c.id, LISTING.c.sealed, LISTING.c.wrapped_key, LISTING.c.natural_key).where(
                LISTING.c.id.in_(passes)
            )
        )
    }
    return [
        _kept(row, named.get(row.watch_id, "") if row.watch_id else _of_listing(sealer, index, row, details))
        for row in rows
    ]


def acknowledge(connection: sa.Connection, department: str, up_to: int, numbers: Sequence[int], now: int) -> int:
    """Take alerts as acknowledged; return how many were not before."""
    these = (ALERT.c.number <= up_to) | ALERT.c.number.in_(list(numbers))
    own = (ALERT.c.department == department) & ALERT.c.acknowledged_at.is_(None)
    return connection.execute(ALERT.update().where(own, these).values(acknowledged_at=now)).rowcount


def _asked(question: Question) -> dict[str, Any]:
    kinds = question.implementer_kinds
    return {
        "region": question.handling_region,
        "implementers": None if kinds is None else sorted(kinds),
        "kind_hint": question.kind_hint.value if question.kind_hint else "",
    }


def _masked(sealer: Sealer, row: Any) -> str:
    try:
        return parse(sealer.open(row.sealed, row.wrapped_key, bytes(row.subject_token)).decode()).masked
    except _UNKNOWN:
        return ""


def _of_listing(sealer: Sealer, index: IndexKey, alert: Any, details: dict[int, Any]) -> str:
    row = details.get(alert.listing_id)
    if row is None or row.sealed is None or row.wrapped_key is None:
        return ""
    try:
        opened = packed.unpack_details(sealer.open(row.sealed, row.wrapped_key, row.natural_key))
        named = [parse(each) for each in opened.identifiers]
    except _UNKNOWN:
        return ""
    return next((each.masked for each in named if index.token(each.key) == bytes(alert.bucket)), "")


def _kept(row: Any, masked: str) -> KeptAlert:
    return KeptAlert(
        number=row.number,
        department=row.department,
        kind=AlertKind(row.kind),
        matter=row.matter,
        case_no=row.case_no,
        watch=row.watch_id,
        decision_id=row.decision_id,
        listing_id=f"{row.listing_id:016x}",
        list_type=row.list_type,
        authority=row.authority,
        decision_no=row.decision_no,
        outcome_before=row.outcome_before,
        outcome=row.outcome,
        objection=row.objection,
        revision=row.revision,
        made_at=packed.instant(row.made_at),
        acknowledged_at=None if row.acknowledged_at is None else packed.instant(row.acknowledged_at),
        masked=masked,
    )
