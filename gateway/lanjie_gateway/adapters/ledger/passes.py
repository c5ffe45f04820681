"""Passes that departments were told, by subject, as long as they may be looked back at (Art. 48).

1. Every record of a pass is noted with it, in the transaction that keeps it: those of the gateway by the index token of
   the subject's key, local ones by the view digest, under whatever generation of the view key it was made.
2. Natural persons only where the department asked ex officio.
3. One of a subject that no listing was ever about is done with. Another that came late, or was told on an older
   revision or before the day began, is held against what stands by then.
4. A local one that came when its generation of the view key had gone is looked for among all listings, some at a time.
"""

import datetime
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from lanjie_gateway.adapters.ledger import bulk, feed, lives, tree
from lanjie_gateway.adapters.ledger.lives import BucketsOf, Life
from lanjie_gateway.adapters.ledger.locks import shared
from lanjie_gateway.adapters.ledger.rows import InquiryRow, signed64, unsigned64
from lanjie_gateway.adapters.ledger.tables import HEAD, INQUIRY, LISTING_KEY, PASSED
from lanjie_gateway.domain import packed
from lanjie_gateway.domain.departments import asking
from lanjie_gateway.domain.feedback import is_person
from lanjie_gateway.domain.records import Asked, replay
from lanjie_matcher.catalogues import APPLICANT
from lanjie_matcher.decide import Outcome, Question
from lanjie_matcher.fingerprints import ViewKey

SEARCHED: Final = 1_000
"""Passes that are looked for at once."""
_NEW: Final = sa.text("NOT passed.looked")
"""Spelled as in the index of what is new: SQLite uses it for no other spelling."""
_KEY: Final = ("subject_key", "decision_id", "kind")
_RECORD: Final = tuple(
    INQUIRY.c[name] for name in ("decision_id", "kind", "record", "department", "matter", "subject_token")
)
_DIGEST_BYTES: Final = 8
_FORGOTTEN: Final = 5_000
_TOGETHER: Final = 500


class _Noted(NamedTuple):
    """A pass as it stands in the ledger; `looked` says that it need not be held against anything."""

    subject_key: bytes
    decision_id: str
    kind: str
    generation: int
    decided_at: int
    looked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """One pass.

    Attributes:
        key: index token of the subject's key, or view digest.
        asked: the question as the gateway recorded it; `None` for a local pass.
        as_of: instant it was asked about.
        revision: that it rests on.
        subject: what its record names the subject by.
    """

    key: bytes = field(repr=False)
    kind: str
    generation: int
    decision_id: str
    decided_at: int
    department: str
    matter: str
    case_no: str
    person: bool
    question: Question
    asked: Asked | None
    as_of: datetime.datetime | None
    revision: int
    subject: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class OlderKeys:
    """Makes view digests under older generations of the key.

    Attributes:
        view_of: gives the key of a generation; `None` where it is not here.
        keys_of: gives the canonical keys of a listing's subjects, from its sealed details.
    """

    view_of: Callable[[int], ViewKey | None]
    keys_of: Callable[[int], Iterable[str]]

    def views(self, generations: Iterable[int]) -> list[ViewKey]:
        """Return the keys that are here."""
        return [view for each in generations if (view := self.view_of(each)) is not None]

    def digests(self, listing: int, views: Sequence[ViewKey]) -> set[bytes]:
        """Return the digests of a listing's subjects, as records hold them."""
        return {_digest(view.digest64(key)) for key in self.keys_of(listing) for view in views} if views else set()


@dataclass(frozen=True, slots=True)
class Search:
    """Passes of older generations on their way through the listings (4).

    Attributes:
        rows: name them in `looked`.
        passes: what is looked for.
        after: number of the listing that was looked at last.
    """

    rows: Sequence[Any]
    passes: Sequence[Passed]
    after: int = -1


def note(connection: sa.Connection, rows: Sequence[InquiryRow]) -> None:
    """Note the passes among records (1); the hash tree over them is held."""
    noted = [found for row in rows if row.outcome == Outcome.PASS.name and (found := _noted(row)) is not None]
    if noted:
        generations = _held_generations(connection)
        listed = _ever_listed(connection, [each for each in noted if each.generation in generations])

        def done(each: _Noted) -> bool:
            return each.generation in generations and (each.kind, each.subject_key) not in listed

        # What is listed from now on is held against what was noted; see `told`.
        values = [each._replace(looked=done(each)) for each in noted]
        bulk.insert(connection, PASSED, _Noted._fields, values, known_stay=True)
    again = (row for row in rows if row.kind == "gateway" and b'"replaces"' in row.record)
    replaced = [
        {"key": found.subject_key, "id": row.fields()["replaces"]}
        for row in again
        if (found := _noted(row)) is not None
    ]
    if replaced:
        # Those never left. They were about the same subject.
        own = (PASSED.c.subject_key == sa.bindparam("key")) & (PASSED.c.decision_id == sa.bindparam("id"))
        connection.execute(PASSED.delete().where(own, PASSED.c.kind == "gateway"), replaced)


def _noted(row: InquiryRow) -> _Noted | None:
    try:
        fields = row.fields()
        key = row.subject_token if row.kind == "local" else bytes.fromhex(fields.get("bucket", ""))
        generation = int(fields.get("generation", 0))
    except (ValueError, TypeError, AttributeError):
        return None  # an audit tells of a record that is none
    if row.kind == "gateway":
        if not key or (is_person(fields.get("id_kind", "")) and fields.get("mode", "ex_officio") != "ex_officio"):
            return None  # (2)
    elif row.kind != "local" or not key or generation < 1:
        return None
    return _Noted(key, row.decision_id, row.kind, generation, packed.micros(row.decided_at))


def told(connection: sa.Connection, numbers: Collection[int], since: int, keys: OlderKeys) -> dict[int, list[Passed]]:
    """Return the passes told of the subjects of listings since an instant (microseconds), by listing, oldest first."""
    if not numbers:
        return {}
    # Another host may be noting one and have seen no listing yet: it is seen here, or sees the listing.
    tree.held(connection)
    rows = connection.execute(
        sa.select(
            LISTING_KEY.c.listing_id, LISTING_KEY.c.bucket, LISTING_KEY.c.view_digest, LISTING_KEY.c.other_digest
        ).where(LISTING_KEY.c.listing_id.in_(numbers), LISTING_KEY.c.current.is_(True))
    ).all()
    owners: dict[bytes, set[int]] = {}
    older = keys.views(_older_generations(connection))
    for row in rows:
        digests = {_digest(value) for value in (row.view_digest, row.other_digest) if value is not None}
        if digests:
            digests |= keys.digests(row.listing_id, older)
        for key in (bytes(row.bucket), *digests):
            owners.setdefault(key, set()).add(row.listing_id)
    found: dict[int, list[Passed]] = {}
    asked = list(owners)
    for start in range(0, len(asked), _TOGETHER):
        some = PASSED.c.subject_key.in_(asked[start : start + _TOGETHER])
        rows = connection.execute(sa.select(PASSED).where(some, PASSED.c.decided_at >= since)).all()
        for each in _read(connection, rows):
            for number in owners[each.key]:
                found.setdefault(number, []).append(each)
    return found


def fresh(connection: sa.Connection, limit: int) -> tuple[list[Passed], bool]:
    """Look at passes that were noted since, the oldest first; return those to hold against what stands (3).

    Args:
        connection: of the ledger.
        limit: how many at most.

    Returns:
        Those of them whose records can be read, and whether there were any.
    """
    rows = _new(connection, _held_generations(connection), limit, gone=False)
    looked(connection, rows)
    return _read(connection, rows), bool(rows)


def search(connection: sa.Connection) -> Search | None:
    """Return the search for such passes of generations that have gone; `None` where there are none (4)."""
    rows = _new(connection, _held_generations(connection), SEARCHED, gone=True)
    return Search(rows, _read(connection, rows)) if rows else None


def looked(connection: sa.Connection, rows: Sequence[Any]) -> None:
    """Take passes as looked at."""
    if rows:
        mark = "%s" if shared(connection) else "?"
        # Handed to the driver as it is: converting the keys one by one costs more than the update.
        own = " AND ".join(f"{name} = {mark}" for name in _KEY)
        values = [(row.subject_key, row.decision_id, row.kind) for row in rows]
        connection.exec_driver_sql(f"UPDATE passed SET looked = TRUE WHERE {own}", values)  # noqa: S608  constants


def companies(connection: sa.Connection, after: int, limit: int) -> Sequence[int]:
    """Return the numbers of listings of companies, behind one, in order."""
    digest = sa.func.coalesce(LISTING_KEY.c.view_digest, LISTING_KEY.c.other_digest)
    some = LISTING_KEY.c.current.is_(True) & digest.is_not(None) & (LISTING_KEY.c.listing_id > after)
    query = sa.select(LISTING_KEY.c.listing_id).where(some).distinct()
    return connection.execute(query.order_by(LISTING_KEY.c.listing_id).limit(limit)).scalars().all()


def _new(connection: sa.Connection, held: Sequence[int], limit: int, *, gone: bool) -> Sequence[Any]:
    """Return passes that were not looked at, of generations that are held or of those that have gone."""
    # A sum, so that no index of generations is used: sorted by age there is one of what is new.
    generation = PASSED.c.generation + 0
    where = sa.and_(_NEW, generation.not_in(held) if gone else generation.in_(held))
    return connection.execute(sa.select(PASSED).where(where).order_by(PASSED.c.decided_at).limit(limit)).all()


def _ever_listed(connection: sa.Connection, rows: Sequence[Any]) -> set[tuple[str, bytes]]:
    """Return kind and subject's key of those passes about whose subject there is, or was, a listing."""
    keys: dict[tuple[str, int], set[bytes]] = {}
    for row in rows:
        keys.setdefault((row.kind, row.generation), set()).add(row.subject_key)
    found = set()
    for (kind, generation), own in keys.items():
        if kind == "gateway":
            there = connection.execute(sa.select(LISTING_KEY.c.bucket).where(LISTING_KEY.c.bucket.in_(own)))
            found |= {(kind, bytes(bucket)) for bucket in there.scalars()}
        else:
            column = feed.digest_column(connection, generation)
            wanted = [signed64(int.from_bytes(key)) for key in own]
            found |= {
                (kind, _digest(value))
                for value in connection.execute(sa.select(column).where(column.in_(wanted))).scalars()
            }
    return found


def forget(connection: sa.Connection, before: int) -> bool:
    """Forget some passes decided before an instant, the oldest first; return whether there are more. Records stay."""
    old = sa.select(PASSED.c.decided_at).where(PASSED.c.decided_at < before).order_by(PASSED.c.decided_at)
    last = connection.execute(old.limit(1).offset(_FORGOTTEN)).scalar()
    # Those of one instant go together, so that each step is one further.
    until = before if last is None else last + 1
    connection.execute(PASSED.delete().where(PASSED.c.decided_at < until))
    return until < before


def lives_of(connection: sa.Connection, each: Passed, revision: int, buckets_of: BucketsOf) -> list[Life]:
    """Return the lives of the listings of the subject of a pass at a revision.

    Raises:
        GenerationGoneError: see `search`.
    """
    if each.kind == "gateway":
        found = lives.of_bucket(connection, each.key, revision, buckets_of)
    else:
        digest = int.from_bytes(each.key, "big")
        found = lives.of_digest(connection, each.generation, digest, revision, buckets_of)
    return [life for life in found if life.keyed is not False]


def bucket_of(connection: sa.Connection, each: Passed, listing_id: str) -> bytes:
    """Return the index token of the organisation that a pass was about; empty where it is not known any more."""
    if each.kind == "gateway":
        return each.key
    rows = connection.execute(
        sa.select(LISTING_KEY.c.bucket, LISTING_KEY.c.view_digest, LISTING_KEY.c.other_digest).where(
            LISTING_KEY.c.listing_id == int(listing_id, 16), LISTING_KEY.c.current.is_(True)
        )
    ).all()
    if len(rows) == 1:
        return bytes(rows[0].bucket)
    digests = ((row, value) for row in rows for value in (row.view_digest, row.other_digest) if value is not None)
    return next((bytes(row.bucket) for row, value in digests if _digest(value) == each.key), b"")


def _held_generations(connection: sa.Connection) -> list[int]:
    """Return the generations whose digests stand beside the listings, and 0, which passes of the gateway have."""
    head = connection.execute(sa.select(HEAD.c.generation, HEAD.c.other_generation)).one()
    return [0, head.generation] + ([] if head.other_generation is None else [head.other_generation])


def _older_generations(connection: sa.Connection) -> Sequence[int]:
    """Return the other generations of local passes."""
    held, found = _held_generations(connection), []
    # From each to the next one: there are a few among millions of passes. Newer ones a spool has made up, and many.
    next_one = sa.select(sa.func.min(PASSED.c.generation)).where(PASSED.c.generation < max(held))
    each = connection.execute(next_one).scalar()
    while each is not None:
        found.append(each)
        each = connection.execute(next_one.where(PASSED.c.generation > each)).scalar()
    return [each for each in found if each not in held]


def _read(connection: sa.Connection, rows: Sequence[Any]) -> list[Passed]:
    """Return noted passes with what their records say, oldest first."""
    records: dict[tuple[str, str], Any] = {}
    for start in range(0, len(rows), _TOGETHER):
        # By the ids alone: for pairs of columns SQLite would go through all passes there are.
        ids = [row.decision_id for row in rows[start : start + _TOGETHER]]
        query = sa.select(*_RECORD).where(INQUIRY.c.decision_id.in_(ids), INQUIRY.c.outcome == Outcome.PASS.name)
        records.update(((record.decision_id, record.kind), record) for record in connection.execute(query))
    rows = sorted(rows, key=lambda row: (row.decided_at, row.decision_id))
    own = ((row, records.get((row.decision_id, row.kind))) for row in rows)
    return [each for row, record in own if record is not None and (each := _passed(row, record)) is not None]


def _passed(row: Any, record: Any) -> Passed | None:
    try:
        fields: Mapping[str, Any] = json.loads(record.record)
        asked = replay(fields) if row.kind == "gateway" else None
    except (KeyError, TypeError, ValueError):
        return None  # of an older version, or changed since
    decided_at = packed.instant(row.decided_at)
    question = Question(
        matter=record.matter,
        at=decided_at,
        handling_region=fields.get("region", ""),
        role=fields.get("role") or APPLICANT,
        department=asking(record.department),
    )
    return Passed(
        key=bytes(row.subject_key),
        kind=row.kind,
        generation=row.generation,
        decision_id=row.decision_id,
        decided_at=row.decided_at,
        department=record.department,
        matter=record.matter,
        # As the matter of its column: PostgreSQL is asked nothing that has a NUL in it.
        case_no=fields.get("case_no", "").replace("\0", "\N{REPLACEMENT CHARACTER}"),
        person=is_person(fields.get("id_kind", "")),
        question=asked.question if asked is not None else question,
        asked=asked,
        as_of=asked.question.at if asked is not None else None,
        revision=int(fields.get("revision", 0)),
        subject=bytes(record.subject_token),
    )


def _digest(value: int) -> bytes:
    return (unsigned64(value) or 0).to_bytes(_DIGEST_BYTES, "big")
