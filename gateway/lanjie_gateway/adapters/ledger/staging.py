"""An import on its way: chunks that nobody sees, each a transaction of its own, so that a removal never waits long."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa

from lanjie_gateway.adapters.ledger import bulk, commits, feed, reach
from lanjie_gateway.adapters.ledger.rows import signed64
from lanjie_gateway.adapters.ledger.tables import (
    BATCH,
    EVENT,
    HEAD,
    LISTING,
    LISTING_KEY,
    QUARANTINE,
    SEEN,
    STAGED_CHANGE,
    STAGED_KEY,
)
from lanjie_gateway.domain import events, history, packed
from lanjie_gateway.domain.access import WriteScope
from lanjie_gateway.domain.errors import Refused
from lanjie_gateway.domain.import_rules import Effect, Known, QuarantinedRow, judge
from lanjie_gateway.domain.list_file import NOT_PERMITTED, Op, RowRefused
from lanjie_gateway.domain.source_ages import Source
from lanjie_gateway.domain.staged import StagedRow, listing_number
from lanjie_matcher.civil_time import day_of
from lanjie_matcher.listings import ended_by_event

DetailsOf = Callable[[bytes | None, bytes | None, bytes], packed.Details | None]
"""Opens the sealed details of a listing: `Ledger._details`."""
_LISTING_COLUMNS: Final = (
    *("id", "batch_id", "changed_by", "natural_key", "content", "list_type", "source", "source_version"),
    *("ended", "annulled", "packed", "sealed", "wrapped_key"),
)
_STAGED_KEY_COLUMNS: Final = ("batch_id", "listing_id", "bucket")
_KEY_COLUMNS: Final = ("bucket", "listing_id", "current")
_SEEN_COLUMNS: Final = ("batch_id", "listing_id", "content")
_EVENT_COLUMNS: Final = ("batch_id", "listing_id", "kind", "actor", "reason", "document")


@dataclass(slots=True)
class Staged:
    """What one chunk did, by list type where thresholds ask; `sources` are those that its rows name, changed or not.

    `left` counts the amended ones that leave a list type for another one, by the one they leave.
    """

    added: Counter[str] = field(default_factory=Counter)
    amended: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    removed: int = 0
    unchanged: int = 0
    bad: list[QuarantinedRow] = field(default_factory=list)
    sources: set[Source] = field(default_factory=set)


@dataclass(slots=True)
class _Chunk:
    """Statements of one chunk. `digests` is the column that takes view digests."""

    batch: int
    actor: str
    now: int
    document: str
    digests: str
    inserts: list[StagedRow] = field(default_factory=list)
    changes: list[tuple[int, StagedRow, Effect]] = field(default_factory=list)
    seen: list[tuple[Any, ...]] = field(default_factory=list)


def stage(
    connection: sa.Connection,
    batch: int,
    rows: Sequence[StagedRow],
    *,
    actor: str,
    now: int,
    document: str,
    generation: int,
    writes: WriteScope | None = None,
    as_of: int | None = None,
    details_of: DetailsOf,
) -> Staged:
    """Stage one chunk.

    Args:
        connection: inside the chunk's transaction.
        batch: the batch of the import.
        rows: good rows of the file, in file order.
        actor: who brought the file.
        now: instant at which the file was received; explicit removals work from it.
        document: what stands for the document of an explicit removal: the file.
        generation: of the view key that the rows' digests were made with.
        writes: what the department may change; a listing outside is left alone. `None` for everything.
        as_of: instant a complete list is stated to be complete as of; `None` where it is not.
        details_of: opens sealed details.

    Raises:
        Refused: IMPORT_OUTDATED: the ledger has another view key; these rows would be missing from the view.
        Unanswerable: the import has lost its turn, see `commits.fence`.
    """
    commits.fence(connection, batch, commits.STAGING)
    known = _known(connection, batch, rows)
    numbers = {number: key for key, (number, own, _) in known.items() if not own}
    foreign = reach.foreign(connection, numbers, writes)
    # What is not the writer's reads, to a removal, like what is not there.
    known = {key: there for key, there in known.items() if key not in foreign}
    told = _told(connection, batch, known)
    known |= _taken_over(connection, rows, known, details_of)
    if as_of is not None:
        known |= _newer(connection, rows, known, as_of)
    done = Staged(sources={(row.list_type, row.source) for row in rows})
    chunk = _Chunk(batch, actor, now, document, _slot_of(connection, generation))
    for row in rows:
        earlier = told.get(row.natural_key)
        if earlier is not None:
            if earlier == row.content:
                done.unchanged += 1
            else:
                message = "an earlier row of the file has the same key and says something else"
                done.bad.append(QuarantinedRow(row.line, "", "duplicate-key", message))
            continue
        try:
            _take(row, known.get(row.natural_key), chunk, done, foreign.get(row.natural_key, ""))
        except RowRefused as error:
            done.bad.append(QuarantinedRow(row.line, error.column, error.rule, str(error)))
            if row.natural_key not in known:
                continue
        told[row.natural_key] = row.content
    _insert(connection, chunk)
    _change(connection, chunk, done)
    bulk.insert(connection, SEEN, _SEEN_COLUMNS, chunk.seen)
    quarantine(connection, batch, done.bad)
    return done


def _slot_of(connection: sa.Connection, generation: int) -> str:
    head = connection.execute(sa.select(HEAD.c.generation, HEAD.c.view_slot)).one()
    if head.generation != generation:
        message = "the view key was replaced while the file was on its way; import the file again"
        raise Refused("IMPORT_OUTDATED", message)
    return feed.slot(head.view_slot).name


def quarantine(connection: sa.Connection, batch: int, rows: Sequence[QuarantinedRow]) -> None:
    """Keep rows that were not taken."""
    if rows:
        values = [
            {
                "batch_id": batch,
                "line": row.line,
                "column_name": row.column[:64],
                "rule": row.rule,
                "message": row.message,
            }
            for row in rows
        ]
        connection.execute(QUARANTINE.insert(), values)


def stage_absent(
    connection: sa.Connection,
    batch: int,
    codes: tuple[str, ...],
    source: str,
    *,
    as_of: int,
    document: str,
    limit: int,
    writes: WriteScope | None = None,
) -> int:
    """Stage the end of live listings that a complete list does not hold; return how many, 0 when done.

    `codes` are that of the list type and its earlier ones. Listings that came, were corrected or were reinstated after
    the instant the list is complete as of are left alone, and so are those outside of `writes`.
    """
    commits.fence(connection, batch, commits.STAGING)
    ends: list[Any] = []
    while not ends and (absent := _absent(connection, batch, codes, source, as_of=as_of, limit=limit)):
        bulk.insert(connection, SEEN, _SEEN_COLUMNS, [(batch, each.id, b"") for each in absent])
        mine = (each for each in absent if writes is None or not reach.fault(codes[0], each.packed, writes))
        ends = [each for each in mine if not reinstated_after(each.packed, as_of)]
    if not ends:
        return 0
    grounds = ("absent from the complete list of its source", document)
    changes = [_removal(batch, each.id, each, line=0, effective_at=as_of, grounds=grounds) for each in ends]
    bulk.insert(connection, STAGED_CHANGE, tuple(changes[0]), [tuple(each.values()) for each in changes])
    return len(ends)


def _absent(
    connection: sa.Connection, batch: int, codes: tuple[str, ...], source: str, *, as_of: int, limit: int
) -> Sequence[Any]:
    return connection.execute(
        sa.select(LISTING.c.id, *_CHANGEABLE)
        .join(BATCH, BATCH.c.id == LISTING.c.batch_id)
        .where(
            LISTING.c.list_type.in_(codes),
            LISTING.c.source == source,
            LISTING.c.ended.is_(False),
            BATCH.c.committed_at <= as_of,
            ~sa.exists().where(SEEN.c.batch_id == batch, SEEN.c.listing_id == LISTING.c.id),
            ~_corrections_after(LISTING.c.id, as_of).exists(),
        )
        .order_by(LISTING.c.batch_id, LISTING.c.id)
        .limit(limit)
    ).all()


def _corrections_after(listing: Any, at: int) -> Any:
    later = BATCH.alias()
    return (
        sa.select(EVENT.c.seq)
        .join(later, later.c.id == EVENT.c.batch_id)
        .where(EVENT.c.listing_id == listing, EVENT.c.kind == events.EventKind.AMENDED.value, later.c.committed_at > at)
    )


def corrected_after(connection: sa.Connection, listing: int, at: int) -> bool:
    """Whether a listing was corrected after an instant, by a file or by hand."""
    return connection.execute(_corrections_after(listing, at).limit(1)).first() is not None


_CHANGEABLE = (
    LISTING.c.changed_by,
    LISTING.c.content,
    LISTING.c.list_type,
    LISTING.c.source,
    LISTING.c.source_version,
    LISTING.c.packed,
    LISTING.c.sealed,
    LISTING.c.wrapped_key,
)


def _known(connection: sa.Connection, batch: int, rows: Sequence[StagedRow]) -> dict[bytes, tuple[int, bool, Known]]:
    found = connection.execute(
        sa.select(
            LISTING.c.id,
            LISTING.c.batch_id,
            LISTING.c.natural_key,
            LISTING.c.content,
            LISTING.c.source_version,
            LISTING.c.ended,
            LISTING.c.corrected,
        )
        .join(BATCH, BATCH.c.id == LISTING.c.batch_id)
        .where(
            LISTING.c.natural_key.in_([row.natural_key for row in rows]),
            BATCH.c.revision.is_not(None) | (BATCH.c.id == batch),
        )
    )
    return {
        each.natural_key: (
            each.id,
            each.batch_id == batch,
            Known(each.content, each.source_version, each.ended, each.corrected),
        )
        for each in found
    }


def _taken_over(
    connection: sa.Connection,
    rows: Sequence[StagedRow],
    known: dict[bytes, tuple[int, bool, Known]],
    details_of: DetailsOf,
) -> dict[bytes, tuple[int, bool, Known]]:
    """Return those of the known listings that were corrected by hand and say by now what the rows say of them.

    Their source has taken the correction over: the row says nothing new, and its old one must not come back.
    """
    corrected = {
        there[0]: row
        for row in rows
        if row.packed and (there := known.get(row.natural_key)) is not None and there[2].corrected
    }
    if not corrected:
        return {}
    columns = (LISTING.c.id, LISTING.c.packed, LISTING.c.sealed, LISTING.c.wrapped_key)
    done = {}
    for each in connection.execute(sa.select(*columns).where(LISTING.c.id.in_(corrected))):
        row = corrected[each.id]
        key, now, new = row.natural_key, packed.unpack(each.packed), packed.unpack(row.packed)
        # Which complete list says so is no fact of the listing.
        facts = dataclasses.replace(new.listing, source_as_of=now.listing.source_as_of)
        same = dataclasses.replace(new, listing=events.amended(now.listing, facts)) == now
        if same and details_of(each.sealed, each.wrapped_key, key) == details_of(row.sealed, row.wrapped_key, key):
            number, own, said = known[key]
            done[key] = number, own, dataclasses.replace(said, content=row.content)
    return done


def _newer(
    connection: sa.Connection, rows: Sequence[StagedRow], known: dict[bytes, tuple[int, bool, Known]], as_of: int
) -> dict[bytes, tuple[int, bool, Known]]:
    """Return those of the known listings that say something else than the rows by facts from after an instant.

    Facts are from the day that a complete list stated for them, else from their commit.
    """
    numbers = {
        there[0]: row.natural_key
        for row in rows
        if (there := known.get(row.natural_key)) is not None and there[2].content != row.content
    }
    if not numbers:
        return {}
    facts = (events.EventKind.LISTED.value, events.EventKind.AMENDED.value)
    since = (
        sa.select(LISTING.c.id, LISTING.c.packed)
        .join(EVENT, EVENT.c.listing_id == LISTING.c.id)
        .join(BATCH, BATCH.c.id == EVENT.c.batch_id)
        .where(LISTING.c.id.in_(numbers), EVENT.c.kind.in_(facts), BATCH.c.committed_at > as_of)
    )
    day = day_of(packed.instant(as_of))
    newer = {}
    for each in connection.execute(since):
        stated = packed.unpack(each.packed).listing.source_as_of
        if stated is None or stated > day:
            key = numbers[each.id]
            number, own, said = known[key]
            newer[key] = number, own, dataclasses.replace(said, newer=True)
    return newer


def _told(connection: sa.Connection, batch: int, known: dict[bytes, tuple[int, bool, Known]]) -> dict[bytes, bytes]:
    told = {key: there.content for key, (_, own, there) in known.items() if own}
    keys = {number: key for key, (number, own, _) in known.items() if not own}
    if keys:
        found = connection.execute(
            sa.select(SEEN.c.listing_id, SEEN.c.content).where(SEEN.c.batch_id == batch, SEEN.c.listing_id.in_(keys))
        )
        told.update((keys[each.listing_id], each.content) for each in found)
    return told


def _take(
    row: StagedRow, there: tuple[int, bool, Known] | None, chunk: _Chunk, done: Staged, outside: str = ""
) -> None:
    if outside and row.op != Op.DELETE:
        raise RowRefused(outside, "not-permitted", NOT_PERMITTED)
    if there is not None:
        chunk.seen.append((chunk.batch, there[0], row.content))
    effect = judge(Op(row.op), row.content, row.source_version, there[2] if there else None)
    if effect is Effect.NOTHING:
        done.unchanged += 1
    elif there is None:
        chunk.inserts.append(row)
        done.added[row.list_type] += 1
    else:
        chunk.changes.append((there[0], row, effect))
        if effect is Effect.AMEND:
            done.amended[row.list_type] += 1
        else:
            done.removed += 1


def _insert(connection: sa.Connection, chunk: _Chunk) -> None:
    if not chunk.inserts:
        return
    batch = chunk.batch
    kind = events.EventKind.LISTED.value
    listings: list[tuple[Any, ...]] = []
    keys: list[tuple[Any, ...]] = []
    listed: list[tuple[Any, ...]] = []
    for row in chunk.inserts:
        number = listing_number(batch, row.line)
        listings.append((number, batch, batch, *row[2:7], False, False, *row[7:10]))
        listed.append((batch, number, kind, chunk.actor, "", chunk.document))
        keys.extend((bucket, number, True, signed64(digest)) for bucket, digest in row.keys)
    bulk.insert(connection, LISTING, _LISTING_COLUMNS, listings)
    bulk.insert(connection, LISTING_KEY, (*_KEY_COLUMNS, chunk.digests), keys)
    bulk.insert(connection, EVENT, _EVENT_COLUMNS, listed)


def _change(connection: sa.Connection, chunk: _Chunk, done: Staged) -> None:
    if not chunk.changes:
        return
    numbers = [number for number, _, _ in chunk.changes]
    before = {
        each.id: each
        for each in connection.execute(sa.select(LISTING.c.id, *_CHANGEABLE).where(LISTING.c.id.in_(numbers)))
    }
    changes: list[dict[str, Any]] = []
    keys: list[tuple[Any, ...]] = []
    for number, row, effect in chunk.changes:
        old = before[number]
        if effect is Effect.REMOVE:
            grounds = ("removed by its source", chunk.document)
            changes.append(_removal(chunk.batch, number, old, line=row.line, effective_at=chunk.now, grounds=grounds))
        else:
            changes.append(_correction(chunk, number, old, row))
            if old.list_type != row.list_type:
                done.left[old.list_type] += 1
            keys.extend((chunk.batch, number, bucket, signed64(digest)) for bucket, digest in row.keys)
    bulk.insert(connection, STAGED_CHANGE, tuple(changes[0]), [tuple(each.values()) for each in changes])
    bulk.insert(connection, STAGED_KEY, (*_STAGED_KEY_COLUMNS, chunk.digests), keys)


def _correction(chunk: _Chunk, number: int, old: Any, row: StagedRow) -> dict[str, Any]:
    merged = merge_correction(old.packed, row.packed)
    return {
        "batch_id": chunk.batch,
        "listing_id": number,
        "line": row.line,
        "kind": events.EventKind.AMENDED.value,
        "base_changed_by": old.changed_by,
        "base_content": old.content,
        "content": row.content,
        "list_type": row.list_type,
        "source": row.source,
        "source_version": row.source_version or old.source_version,
        "ended": False,
        "packed": merged,
        "sealed": row.sealed,
        "wrapped_key": row.wrapped_key,
        "effective_at": None,
        "reason": "corrected by its source",
        "document": chunk.document,
        "payload": history.payload_of(history.Before(old.packed, old.sealed, old.wrapped_key)),
    }


def _removal(
    batch: int, number: int, old: Any, *, line: int, effective_at: int, grounds: tuple[str, str]
) -> dict[str, Any]:
    after, ended = merge_removal(old.packed, effective_at)
    reason, document = grounds
    return {
        "batch_id": batch,
        "listing_id": number,
        "line": line,
        "kind": events.EventKind.REMOVED.value,
        "base_changed_by": old.changed_by,
        "base_content": old.content,
        "content": old.content,
        "list_type": old.list_type,
        "source": old.source,
        "source_version": old.source_version,
        "ended": ended,
        "packed": after,
        "sealed": old.sealed,
        "wrapped_key": old.wrapped_key,
        "effective_at": effective_at,
        "reason": reason,
        "document": document,
        "payload": None,
    }


def reinstated_after(value: bytes, at: int) -> bool:
    """Whether a listing was reinstated after an instant: what is from before that says nothing of the time since."""
    reinstated_at = packed.unpack(value).listing.reinstated_at
    return reinstated_at is not None and reinstated_at > packed.instant(at)


def merge_correction(before: bytes, corrected: bytes) -> bytes:
    """Return the packed form of a corrected listing, with everything that events have done to it."""
    old, new = packed.unpack(before), packed.unpack(corrected)
    listing = events.amended(old.listing, new.listing)
    return packed.pack(packed.PackedListing(listing, new.identities, new.name_token))


def merge_removal(before: bytes, effective_at: int) -> tuple[bytes, bool]:
    """Return the packed form of a removed listing, and whether it counts as ended."""
    old = packed.unpack(before)
    at = events.removal_instant(old.listing, packed.instant(effective_at))
    listing = events.apply(old.listing, events.EventKind.REMOVED, at)
    return packed.pack(packed.PackedListing(listing, old.identities, old.name_token)), ended_by_event(listing)
