"""Receipts of imports: the commit of what was staged, the wait for a second person, and what is thrown away."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, Final

import sqlalchemy as sa

from lanjie_gateway.adapters.ledger import commits, duties, locks
from lanjie_gateway.adapters.ledger.staging import (
    corrected_after,
    merge_correction,
    merge_removal,
    quarantine,
    reinstated_after,
)
from lanjie_gateway.adapters.ledger.tables import (
    BATCH,
    DELIVERY,
    EVENT,
    LISTING,
    LISTING_KEY,
    QUARANTINE,
    RECEIPT,
    SEEN,
    STAGED_CHANGE,
    STAGED_KEY,
)
from lanjie_gateway.domain import packed
from lanjie_gateway.domain.errors import Refused
from lanjie_gateway.domain.events import EventKind
from lanjie_gateway.domain.import_rules import (
    SHOWN_QUARANTINE,
    Counts,
    ImportMode,
    ImportState,
    QuarantinedRow,
    Receipt,
    is_older,
)
from lanjie_gateway.domain.staged import numbers_of

_OVERTAKEN: Final = {
    "ended-not-resurrected": "the listing was ended while the file was on its way",
    "corrected-by-hand": "the listing was corrected by a document while the file was on its way",
}


def live_counts(connection: sa.Connection, list_types: Iterable[str]) -> dict[str, int]:
    """Return the number of live listings that are seen, by list type."""
    hidden = sa.select(BATCH.c.id).where(BATCH.c.revision.is_(None), BATCH.c.inserts.is_(True))
    rows = connection.execute(
        sa.select(LISTING.c.list_type, sa.func.count().label("live"))
        .where(LISTING.c.list_type.in_(list(list_types)), LISTING.c.ended.is_(False))
        .where(LISTING.c.batch_id.not_in(hidden))
        .group_by(LISTING.c.list_type)
    )
    return {row.list_type: row.live for row in rows}


def commit_import(connection: sa.Connection, receipt: Receipt, now: int, confirmer: str | None) -> Receipt:
    """Make a staged import seen; return its receipt with the revision.

    Raises:
        Refused: IMPORT_OUTDATED when another file has since entered or corrected what this one would.
        Unanswerable: the import has lost its turn, see `commits.fence`.
    """
    batch = receipt.batch
    commits.fence(connection, batch, commits.WAITING if receipt.state is ImportState.WAITING else commits.STAGING)
    base = connection.execute(sa.select(BATCH.c.base_revision).where(BATCH.c.id == batch)).scalar_one()
    _refuse_doubles(connection, batch, base)
    receipt = _overtaken(connection, receipt)
    _apply_changes(connection, batch)
    duties.close_by_import(connection, batch)
    revision = commits.commit(connection, batch, now)
    receipt = dataclasses.replace(receipt, state=ImportState.COMMITTED, revision=revision)
    _write(connection, receipt, confirmer)
    return dataclasses.replace(receipt, quarantine=read_quarantine(connection, batch))


def park(connection: sa.Connection, receipt: Receipt) -> Receipt:
    """Let a staged import wait for another person."""
    commits.fence(connection, receipt.batch, commits.STAGING)
    connection.execute(BATCH.update().where(BATCH.c.id == receipt.batch).values(state=commits.WAITING))
    receipt = dataclasses.replace(receipt, state=ImportState.WAITING)
    _write(connection, receipt, None)
    return dataclasses.replace(receipt, quarantine=read_quarantine(connection, receipt.batch))


def give_up(connection: sa.Connection, batch: int) -> None:
    """Throw a staged or waiting import away; `purge` clears the rows."""
    connection.execute(
        BATCH.update().where(BATCH.c.id == batch, BATCH.c.revision.is_(None)).values(state=commits.ABANDONED)
    )
    connection.execute(
        RECEIPT.update()
        .where(RECEIPT.c.batch_id == batch, RECEIPT.c.state == ImportState.WAITING.value)
        .values(state=ImportState.REFUSED.value)
    )


def waiting(connection: sa.Connection) -> list[Receipt]:
    """Return the receipts of imports that wait, oldest first."""
    rows = connection.execute(
        sa.select(RECEIPT.c.id).where(RECEIPT.c.state == ImportState.WAITING.value).order_by(RECEIPT.c.received_at)
    ).scalars()
    return [found for name in rows.all() if (found := read_receipt(connection, name)) is not None]


def decline(connection: sa.Connection, receipt: Receipt, reason: str) -> Receipt:
    """Give a waiting import up.

    Raises:
        Refused: IMPORT_OUTDATED: another host has settled it meanwhile.
    """
    mine = (BATCH.c.id == receipt.batch) & (BATCH.c.state == commits.WAITING)
    if not connection.execute(BATCH.update().where(mine).values(state=commits.ABANDONED)).rowcount:
        raise Refused("IMPORT_OUTDATED", "the import no longer waits")
    receipt = dataclasses.replace(receipt, state=ImportState.REFUSED, reasons=(*receipt.reasons, reason))
    _write(connection, receipt, None)
    return receipt


def read_quarantine(connection: sa.Connection, batch: int, limit: int = SHOWN_QUARANTINE) -> tuple[QuarantinedRow, ...]:
    """Return the first rows that were not taken, by line."""
    rows = connection.execute(
        sa.select(QUARANTINE.c.line, QUARANTINE.c.column_name, QUARANTINE.c.rule, QUARANTINE.c.message)
        .where(QUARANTINE.c.batch_id == batch)
        .order_by(QUARANTINE.c.line, QUARANTINE.c.id)
        .limit(limit)
    )
    return tuple(QuarantinedRow(row.line, row.column_name, row.rule, row.message) for row in rows)


def find_receipt(
    connection: sa.Connection, sha256: bytes, mode: ImportMode, list_type: str, source: str
) -> Receipt | None:
    """Return the first receipt of the same file under the same order, committed or waiting."""
    return _read(
        connection,
        RECEIPT.c.sha256 == sha256,
        RECEIPT.c.mode == mode.value,
        RECEIPT.c.list_type == list_type,
        RECEIPT.c.source == source,
        RECEIPT.c.state.in_((ImportState.COMMITTED.value, ImportState.WAITING.value)),
    )


def read_receipt(connection: sa.Connection, receipt_id: str) -> Receipt | None:
    """Return a receipt."""
    return _read(connection, RECEIPT.c.id == receipt_id)


def purge(connection: sa.Connection, limit: int) -> bool:
    """Delete some rows of imports that were thrown away, and what committed ones staged; return whether more may be.

    Small steps, because removals wait meanwhile.
    """
    kept = sa.select(BATCH.c.id).where(BATCH.c.state.in_((commits.STAGING, commits.WAITING)))
    for table in (SEEN, STAGED_KEY, STAGED_CHANGE):
        columns = tuple(table.primary_key.columns)
        if _delete_some(connection, table, sa.tuple_(*columns), table.c.batch_id.not_in(kept), limit):
            return True
    batch = connection.execute(
        sa.select(BATCH.c.id).where(BATCH.c.state == commits.ABANDONED).order_by(BATCH.c.id).limit(1)
    ).scalar()
    if batch is None:
        return False
    ranges = (
        (LISTING_KEY, sa.tuple_(LISTING_KEY.c.bucket, LISTING_KEY.c.listing_id), LISTING_KEY.c.listing_id),
        (LISTING, LISTING.c.id, LISTING.c.id),
    )
    for table, key, number in ranges:
        if _delete_some(connection, table, key, number.between(*numbers_of(batch)), limit):
            return True
    delivery = sa.tuple_(*DELIVERY.primary_key.columns)
    for table, key in ((EVENT, EVENT.c.seq), (QUARANTINE, QUARANTINE.c.id), (DELIVERY, delivery)):
        if _delete_some(connection, table, key, table.c.batch_id == batch, limit):
            return True
    connection.execute(BATCH.delete().where(BATCH.c.id == batch))
    return True


def _delete_some(connection: sa.Connection, table: sa.Table, key: Any, where: Any, limit: int) -> bool:
    columns = tuple(table.primary_key.columns)
    some = sa.select(*columns).where(where).limit(limit)
    return connection.execute(table.delete().where(key.in_(some))).rowcount > 0


def _refuse_doubles(connection: sa.Connection, batch: int, base: int) -> None:
    # Imports follow one another, so only a file that waited can have been overtaken.
    later = sa.select(BATCH.c.id).where(BATCH.c.revision > base, BATCH.c.inserts.is_(True))
    if connection.execute(later.limit(1)).first() is None:
        return
    other = LISTING.alias()
    double = (
        sa.select(other.c.id)
        .join(LISTING, LISTING.c.natural_key == other.c.natural_key)
        .where(other.c.batch_id.in_(later), LISTING.c.id.between(*numbers_of(batch)))
    )
    if connection.execute(double.limit(1)).first() is not None:
        raise Refused("IMPORT_OUTDATED", "another file has entered some of its listings since; import the file again")


def _overtaken(connection: sa.Connection, receipt: Receipt) -> Receipt:
    """Bring staged changes up to what events did to their listings since; an end or reinstatement in between stands."""
    batch = receipt.batch
    _lock_changed(connection, batch)
    rows = connection.execute(
        sa.select(STAGED_CHANGE, LISTING.c.ended.label("now_ended"), LISTING.c.packed.label("now_packed"))
        .add_columns(LISTING.c.content.label("now_content"), LISTING.c.corrected.label("now_corrected"))
        .add_columns(LISTING.c.source_version.label("now_version"))
        .join(LISTING, LISTING.c.id == STAGED_CHANGE.c.listing_id)
        .where(STAGED_CHANGE.c.batch_id == batch, LISTING.c.changed_by != STAGED_CHANGE.c.base_changed_by)
    ).all()
    counts = receipt.counts
    bad = []
    for row in rows:
        mine = (STAGED_CHANGE.c.batch_id == batch) & (STAGED_CHANGE.c.listing_id == row.listing_id)
        amends = row.kind == EventKind.AMENDED
        late = not amends and reinstated_after(row.now_packed, row.effective_at)
        if not amends and not row.line:
            # As where it was looked for: absence says nothing of what was corrected since.
            late = late or corrected_after(connection, row.listing_id, row.effective_at)
        if row.now_ended or late or (amends and row.now_corrected):
            connection.execute(STAGED_CHANGE.delete().where(mine))
            connection.execute(
                STAGED_KEY.delete().where(STAGED_KEY.c.batch_id == batch, STAGED_KEY.c.listing_id == row.listing_id)
            )
            counts = _without(counts, row)
            if amends:
                rule = "ended-not-resurrected" if row.now_ended else "corrected-by-hand"
                bad.append(QuarantinedRow(row.line, "", rule, _OVERTAKEN[rule]))
            continue
        stale = amends and is_older(row.source_version, row.now_version)
        if stale or row.now_content != row.base_content:
            raise Refused("IMPORT_OUTDATED", "another file has corrected some of its listings; import the file again")
        if amends:
            after, ended = merge_correction(row.now_packed, row.packed), False
        else:
            after, ended = merge_removal(row.now_packed, row.effective_at)
        connection.execute(STAGED_CHANGE.update().where(mine).values(packed=after, ended=ended))
    quarantine(connection, batch, bad)
    return dataclasses.replace(receipt, counts=counts)


def _lock_changed(connection: sa.Connection, batch: int) -> None:
    # Another host records events meanwhile. By a statement of its own: one that waits for a lock reads everything
    # else as it was before. In one order, so that nobody waits for us while we wait for them.
    if locks.shared(connection):
        rows = sa.select(LISTING.c.id).join(STAGED_CHANGE, STAGED_CHANGE.c.listing_id == LISTING.c.id)
        locked = rows.where(STAGED_CHANGE.c.batch_id == batch).order_by(LISTING.c.id).with_for_update(of=LISTING)
        connection.execute(sa.select(sa.func.count()).select_from(locked.subquery()))


def _without(counts: Counts, row: Any) -> Counts:
    if row.kind == EventKind.AMENDED:
        return dataclasses.replace(counts, amended=counts.amended - 1, quarantined=counts.quarantined + 1)
    if row.line:
        return dataclasses.replace(counts, removed=counts.removed - 1, unchanged=counts.unchanged + 1)
    return dataclasses.replace(counts, absent=counts.absent - 1)


def _apply_changes(connection: sa.Connection, batch: int) -> None:
    staged = STAGED_CHANGE
    mine = staged.c.batch_id == batch
    columns = "content list_type source source_version ended packed sealed wrapped_key".split()
    connection.execute(
        LISTING.update()
        .where(LISTING.c.id == staged.c.listing_id, mine)
        .values(changed_by=batch, pruned=False, **{name: staged.c[name] for name in columns})
    )
    actor = sa.select(BATCH.c.actor).where(BATCH.c.id == batch).scalar_subquery()
    told = sa.select(
        staged.c.batch_id,
        staged.c.listing_id,
        staged.c.kind,
        staged.c.effective_at,
        actor,
        staged.c.reason,
        staged.c.document,
        staged.c.payload,
    )
    names = ["batch_id", "listing_id", "kind", "effective_at", "actor", "reason", "document", "payload"]
    connection.execute(EVENT.insert().from_select(names, told.where(mine).order_by(staged.c.listing_id)))
    corrected = sa.select(staged.c.listing_id).where(mine, staged.c.kind == EventKind.AMENDED.value)
    connection.execute(LISTING_KEY.update().where(LISTING_KEY.c.listing_id.in_(corrected)).values(current=False))
    same = (STAGED_KEY.c.listing_id == LISTING_KEY.c.listing_id) & (STAGED_KEY.c.bucket == LISTING_KEY.c.bucket)
    own = STAGED_KEY.c.batch_id == batch
    # A key that comes back may have lost its digest to a new view key meanwhile.
    digests = {name: STAGED_KEY.c[name] for name in ("view_digest", "other_digest")}
    connection.execute(LISTING_KEY.update().where(same, own).values(current=True, **digests))
    names = ["bucket", "listing_id", "current", *digests]
    fresh = sa.select(STAGED_KEY.c.bucket, STAGED_KEY.c.listing_id, sa.true(), *digests.values()).where(
        own, ~sa.exists().where(same)
    )
    connection.execute(LISTING_KEY.insert().from_select(names, fresh))


def _write(connection: sa.Connection, receipt: Receipt, confirmer: str | None) -> None:
    values = {
        "id": receipt.receipt_id,
        "batch_id": receipt.batch,
        "state": receipt.state.value,
        "sha256": receipt.sha256,
        "mode": receipt.mode.value,
        "list_type": receipt.list_type,
        "source": receipt.source,
        "file_name": receipt.file_name,
        "importer": receipt.importer,
        "confirmer": confirmer,
        "received_at": packed.micros(receipt.received_at),
        "revision": receipt.revision,
        "counts": dataclasses.asdict(receipt.counts),
        "reasons": list(receipt.reasons),
    }
    connection.execute(RECEIPT.delete().where(RECEIPT.c.id == receipt.receipt_id))
    connection.execute(RECEIPT.insert().values(**values))


def _read(connection: sa.Connection, *where: Any) -> Receipt | None:
    row = connection.execute(sa.select(RECEIPT).where(*where)).first()
    if row is None:
        return None
    reasons: Sequence[str] = row.reasons
    return Receipt(
        receipt_id=row.id,
        batch=row.batch_id,
        state=ImportState(row.state),
        sha256=row.sha256,
        mode=ImportMode(row.mode),
        list_type=row.list_type,
        source=row.source,
        file_name=row.file_name,
        importer=row.importer,
        received_at=packed.instant(row.received_at),
        counts=Counts(**row.counts),
        revision=row.revision,
        quarantine=read_quarantine(connection, row.batch_id),
        reasons=tuple(reasons),
    )
