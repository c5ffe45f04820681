"""Passes that departments were told, by subject, as long as they may be looked back at (Art. 48).

1. Every record of a pass is noted with it, in the transaction that keeps it: those of the gateway by the index token of
   the subject's key, local ones by the view digest, under whatever generation of the view key it was made.
2. Natural persons only where the department asked ex officio.
3. One that came late, or was told on an older revision, is held against what has been committed since.
"""

import datetime
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa

from lanjie_gateway.adapters.ledger import database, lives
from lanjie_gateway.adapters.ledger.lives import BucketsOf, Life
from lanjie_gateway.adapters.ledger.rows import GenerationGoneError, InquiryRow, unsigned64
from lanjie_gateway.adapters.ledger.tables import HEAD, INQUIRY, LISTING_KEY, PASSED
from lanjie_gateway.domain import packed
from lanjie_gateway.domain.feedback import is_person
from lanjie_gateway.domain.records import Asked, replay
from lanjie_matcher.catalogues import APPLICANT
from lanjie_matcher.decide import Outcome, Question

DigestsOf = Callable[[int, frozenset[int]], Iterable[int]]
"""Gives the view digests of a listing's companies under older generations of the key, from its sealed details."""
_DIGEST_BYTES: Final = 8
_FORGOTTEN: Final = 5_000


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


def note(connection: sa.Connection, rows: Sequence[InquiryRow]) -> None:
    """Note the passes among records (1)."""
    values = [noted for row in rows if row.outcome == Outcome.PASS.name and (noted := _noted(row)) is not None]
    if values:
        connection.execute(database.insert(connection, PASSED).on_conflict_do_nothing(), values)


def _noted(row: InquiryRow) -> dict[str, Any] | None:
    fields = json.loads(row.record)
    if row.kind == "gateway":
        key = bytes.fromhex(fields.get("bucket", ""))
        if not key or (is_person(fields.get("id_kind", "")) and fields.get("mode", "ex_officio") != "ex_officio"):
            return None  # (2)
    elif row.kind == "local":
        key = row.subject_token
    else:
        return None
    return {
        "subject_key": key,
        "decision_id": row.decision_id,
        "kind": row.kind,
        "generation": int(fields.get("generation", 0)),
        "decided_at": packed.micros(row.decided_at),
        "looked": False,
    }


def told(connection: sa.Connection, number: int, since: int, digests_of: DigestsOf) -> list[Passed]:
    """Return the passes told of the subjects of a listing since an instant (microseconds), the oldest first."""
    rows = connection.execute(
        sa.select(LISTING_KEY.c.bucket, LISTING_KEY.c.view_digest, LISTING_KEY.c.other_digest).where(
            LISTING_KEY.c.listing_id == number, LISTING_KEY.c.current.is_(True)
        )
    ).all()
    digests = {value for row in rows for value in (row.view_digest, row.other_digest) if value is not None}
    keys = {bytes(row.bucket) for row in rows} | {_digest(value) for value in digests}
    older = _older_generations(connection)
    if older and digests:
        keys |= {_digest(value) for value in digests_of(number, older)}
    return _read(connection, PASSED.c.subject_key.in_(keys) & (PASSED.c.decided_at >= since), None)


def fresh(connection: sa.Connection, limit: int) -> list[Passed]:
    """Return passes that have not been looked at since they were noted (3)."""
    return _read(connection, PASSED.c.looked.is_(False), limit)


def looked(connection: sa.Connection, found: Iterable[Passed]) -> None:
    """Remember that passes were looked at."""
    for each in found:
        own = (PASSED.c.subject_key == each.key) & (PASSED.c.decision_id == each.decision_id)
        connection.execute(PASSED.update().where(own, PASSED.c.kind == each.kind).values(looked=True))


def forget(connection: sa.Connection, before: int) -> None:
    """Forget some passes decided before an instant; their records stay."""
    old = sa.select(PASSED.c.decision_id).where(PASSED.c.decided_at < before).limit(_FORGOTTEN)
    connection.execute(PASSED.delete().where(PASSED.c.decided_at < before, PASSED.c.decision_id.in_(old)))


def lives_of(connection: sa.Connection, each: Passed, revision: int, buckets_of: BucketsOf) -> list[Life]:
    """Return the lives of the listings of the subject of a pass at a revision; none where that cannot be told."""
    if each.kind == "gateway":
        found = lives.of_bucket(connection, each.key, revision, buckets_of)
    else:
        try:
            digest = int.from_bytes(each.key, "big")
            found = lives.of_digest(connection, each.generation, digest, revision, buckets_of)
        except GenerationGoneError:
            return []
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


def _older_generations(connection: sa.Connection) -> frozenset[int]:
    """Return the generations of local passes whose digests stand beside no listing any more."""
    head = connection.execute(sa.select(HEAD.c.generation, HEAD.c.other_generation)).one()
    held = [0, head.generation] + ([] if head.other_generation is None else [head.other_generation])
    found = connection.execute(sa.select(PASSED.c.generation).where(PASSED.c.generation.not_in(held)).distinct())
    return frozenset(found.scalars())


def _read(connection: sa.Connection, where: Any, limit: int | None) -> list[Passed]:
    query = (
        sa.select(PASSED, INQUIRY.c.record, INQUIRY.c.department, INQUIRY.c.matter, INQUIRY.c.subject_token)
        .join(INQUIRY, (INQUIRY.c.decision_id == PASSED.c.decision_id) & (INQUIRY.c.kind == PASSED.c.kind))
        .where(where, INQUIRY.c.outcome == Outcome.PASS.name)
        .order_by(PASSED.c.decided_at, PASSED.c.decision_id)
        .limit(limit)
    )
    return [_passed(row, json.loads(row.record)) for row in connection.execute(query)]


def _passed(row: Any, fields: Mapping[str, Any]) -> Passed:
    asked = replay(fields) if row.kind == "gateway" else None
    decided_at = packed.instant(row.decided_at)
    question = Question(
        matter=row.matter,
        at=decided_at,
        handling_region=fields.get("region", ""),
        role=fields.get("role") or APPLICANT,
    )
    return Passed(
        key=bytes(row.subject_key),
        kind=row.kind,
        generation=row.generation,
        decision_id=row.decision_id,
        decided_at=row.decided_at,
        department=row.department,
        matter=row.matter,
        case_no=fields.get("case_no", ""),
        person=is_person(fields.get("id_kind", "")),
        question=asked.question if asked is not None else question,
        asked=asked,
        as_of=asked.question.at if asked is not None else None,
        revision=int(fields.get("revision", 0)),
        subject=bytes(row.subject_token),
    )


def _digest(value: int) -> bytes:
    return (unsigned64(value) or 0).to_bytes(_DIGEST_BYTES, "big")
