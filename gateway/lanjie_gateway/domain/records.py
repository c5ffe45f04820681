"""Inquiry records (查询记录, Art. 39): the canonical leaf, its digest, and the columns derived from it.

The leaf is UTF-8 JSON with sorted keys and no blanks: the same facts give the same bytes, and whoever holds the leaf
can recompute every other column. It names the subject by keyed token only. Its salt, 16 random bytes, goes with it at
the end of its retention: the digest stays, and nobody can try who it was about.
"""

import datetime
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from lanjie_gateway.domain import merkle
from lanjie_gateway.domain.departments import asking
from lanjie_matcher.catalogues import APPLICANT
from lanjie_matcher.decide import Question
from lanjie_matcher.subjects import SubjectKind

DIGEST_ALGORITHM: Final = "sha-256"
VERSION: Final = 2
"""Version of the leaf. The first one does not hold what `replay` needs of a question."""
COLUMNS: Final = (
    *("sequence", "decision_id", "decided_at", "department"),
    *("matter", "outcome", "kind", "subject_token"),
)
"""Columns that are derived from a record, by their names in `InquiryRow`."""
SALT_BYTES: Final = 16
_LEFT_OUT: Final[tuple[Any, ...]] = ("", None, (), [])
_json: Final = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode
_NO_KINDS: Final = "-"
"""Stands for a caller that is of no implementer kind: an empty field would be left out, which means any."""


def leaf(fields: Mapping[str, Any]) -> bytes:
    """Return the canonical bytes of a record; empty fields are left out."""
    return _json({name: value for name, value in fields.items() if value not in _LEFT_OUT}).encode()


class Leaves:
    """Leaves that have most fields in common, which are written once: each is what `leaf` gives for all its fields.

    Args:
        common: fields that all have.
        varying: names of the fields that they may have besides.
    """

    def __init__(self, common: Mapping[str, Any], varying: Iterable[str]) -> None:
        self._varying = frozenset(varying)
        kept = {name: value for name, value in common.items() if value not in _LEFT_OUT}
        # In order: a common field as it stands, a varying one by name and what comes before its value.
        self._parts: list[tuple[str, str]] = []
        for name in sorted({*kept, *self._varying}):
            before = f"{_json(name)}:"
            self._parts.append((name, before) if name in self._varying else ("", before + _json(kept[name])))

    def leaf(self, fields: Mapping[str, Any]) -> bytes:
        """Return the canonical bytes of one.

        Raises:
            KeyError: a field is none of the varying ones.
        """
        if not self._varying.issuperset(fields):
            raise KeyError(*sorted(fields.keys() - self._varying))
        written = []
        for name, text in self._parts:
            if not name:
                written.append(text)
                continue
            value = fields.get(name)
            if value or value not in _LEFT_OUT:
                written.append(text + (str(value) if type(value) is int else _json(value)))
        return f"{{{','.join(written)}}}".encode()


def about(question: Question, *, kind: str, subject: bytes, bucket: bytes) -> dict[str, Any]:
    """Return the fields of a leaf that say who was asked about, and what else the answer turned on.

    Args:
        question: as it was decided.
        kind: kind of the identifier.
        subject: index token of the full identifier.
        bucket: index token of its canonical key.
    """
    kinds = question.implementer_kinds
    return {
        "subject": subject.hex(),
        "bucket": bucket.hex(),
        "id_kind": kind,
        "kind_hint": question.kind_hint.value if question.kind_hint else "",
        "implementers": None if kinds is None else sorted(kinds) or [_NO_KINDS],
        "other_names": sorted(question.name_mismatches),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question as its record holds it.

    Attributes:
        question: for `decide`.
        kind: kind of the identifier.
        subject: index token of the full identifier.
        bucket: index token of its canonical key.
    """

    question: Question
    kind: str
    subject: bytes
    bucket: bytes


def replay(fields: Mapping[str, Any]) -> Asked:
    """Return the question of a leaf that the gateway wrote.

    Raises:
        KeyError, TypeError, ValueError: it does not hold one; it is of the first version, or was changed.
    """
    kinds = fields.get("implementers")
    hint = fields.get("kind_hint")
    question = Question(
        matter=fields["matter"],
        at=datetime.datetime.fromisoformat(fields["as_of"]),
        handling_region=fields["region"],
        role=fields.get("role") or APPLICANT,
        department=asking(fields["department"]),
        implementer_kinds=None if kinds is None else frozenset(kinds) - {_NO_KINDS},
        kind_hint=SubjectKind(hint) if hint else None,
        name_mismatches=frozenset(fields.get("other_names", ())),
    )
    return Asked(
        question=question,
        kind=fields["id_kind"],
        subject=bytes.fromhex(fields["subject"]),
        bucket=bytes.fromhex(fields["bucket"]),
    )


def row_fields(record: bytes) -> dict[str, Any]:
    """Return the columns that are derived from a leaf, by their names in `InquiryRow`.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: it is no leaf.
    """
    return columns_of(json.loads(record))


def fields_of(record: bytes) -> Mapping[str, Any]:
    """Return the fields of a record; none where it is no leaf, which is for its audit to say."""
    try:
        fields = json.loads(record)
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}


def columns_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `row_fields` gives, of a leaf's fields."""
    return {
        "sequence": int(fields["id"].rpartition("-")[2]),
        "decision_id": fields["id"],
        "decided_at": datetime.datetime.fromisoformat(fields["at"]),
        "department": fields["department"],
        "matter": fields.get("matter", ""),
        "outcome": fields["outcome"],
        "kind": fields.get("kind", "gateway"),
        "subject_token": bytes.fromhex(fields.get("subject", "")),
    }


def digest(record: bytes) -> bytes:
    """Return the leaf hash of RFC 6962: SHA-256 over a zero byte and the leaf."""
    return merkle.leaf_hash(record)


def instant(at: datetime.datetime) -> str:
    """Return an instant as records hold it: UTC, microseconds."""
    return at.astimezone(datetime.UTC).isoformat(timespec="microseconds")
