"""The packed form of a listing: bytes in ledger, feed and index, objects only while an answer is made.

A packed listing is one msgpack array that begins with its version. The value of a bucket is a msgpack array of them, so
a bucket is joined without unpacking and unpacked in one call. It holds no identifier and no name, only their keyed
tokens; what may not be read without the store key is in `Details`, which is stored sealed and never leaves the ledger.

Dates travel as ordinals, instants as microseconds since 1970 UTC.
"""

import datetime
import functools
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgpack

from lanjie_matcher.fingerprints import IndexKey
from lanjie_matcher.identifiers import Identifier, IdentifierKind
from lanjie_matcher.listings import Listing
from lanjie_matcher.subjects import SubjectKind

VERSION: Final = 1
_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND: Final = datetime.timedelta(microseconds=1)
TEXT_FIELDS: Final = tuple(
    "authority decision_no reason basis removal_conditions remedies region sanction_no sanction_kind".split()
)
DATE_FIELDS: Final = tuple(
    "decision_date served_date listed_on expires_on publicity_until retention_until sanction_from sanction_to".split()
)
"""Fields of `Listing`, in packed order."""
_texts_of: Final = operator.attrgetter(*TEXT_FIELDS)
_dates_of: Final = operator.attrgetter(*DATE_FIELDS)
_KINDS: Final = {kind.value: kind for kind in SubjectKind}
_day: Final = datetime.date.fromordinal
_ORG: Final = IdentifierKind.ORG_CODE
_ORG_CODE: Final = _ORG.value
_packer: Final = msgpack.Packer(autoreset=True)


@dataclass(frozen=True, slots=True)
class PackedListing:
    """A listing as the index holds it.

    Attributes:
        listing: the listing.
        identities: kind and 16-byte index token of every full identifier (`Identifier.reveal`) the listing names; of an
            organisation code the token of its bucket, which is the same organisation's. See `identities`.
        name_token: 16-byte index token of the normalised name; `None` where the source gives no name.
    """

    listing: Listing
    identities: tuple[tuple[str, bytes], ...]
    name_token: bytes | None

    def concerns(self, kind: str, token: bytes, bucket: bytes) -> bool:
        """Whether the listing is about an identifier of its bucket.

        The bucket of a company is its organisation code, so the full identity is compared where both sides know it. A
        listing may name several companies, one by its organisation code alone: the codes of the others say nothing of
        that one.

        Args:
            kind: kind of the identifier asked for.
            token: index token of its full text form.
            bucket: index token of its canonical key.
        """
        same_kind = [own for own_kind, own in self.identities if own_kind == kind]
        if kind == _ORG_CODE or not same_kind:
            return True
        return token in same_kind or (_ORG_CODE, bucket) in self.identities


def identity(identifier: Identifier, key: IndexKey) -> tuple[str, bytes]:
    """Return an identifier as `PackedListing.identities` holds it."""
    named = identifier.key if identifier.kind is IdentifierKind.ORG_CODE else identifier.reveal()
    return identifier.kind.value, key.token(named)


def identities(identifiers: Sequence[Identifier], key: IndexKey) -> list[tuple[str, bytes]]:
    """Return identifiers as `PackedListing.identities`: no organisation code where a USCC says in full whose it is."""
    in_full = {each.key for each in identifiers if each.kind is IdentifierKind.USCC}
    return [identity(each, key) for each in identifiers if each.kind is not _ORG or each.key not in in_full]


@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    """What a listing says that only its unsealed row tells: identifiers, names, marks and the source's own ids.

    Never shown by ``repr`` (Art. 40). `related_persons` are marks without any effect (Art. 32, 47).
    """

    identifiers: tuple[str, ...] = field(repr=False)
    name: str = field(repr=False)
    related_persons: tuple[str, ...] = field(default=(), repr=False)
    authority_uscc: str = field(default="", repr=False)
    notice_date: datetime.date | None = None
    measure_hints: str = field(default="", repr=False)
    source_record_id: str = field(default="", repr=False)


def micros(at: datetime.datetime) -> int:
    """Return an aware instant as microseconds since 1970 UTC."""
    return (at - _EPOCH) // _MICROSECOND


def instant(value: int) -> datetime.datetime:
    """Return the instant (UTC) of microseconds since 1970 UTC."""
    return _EPOCH + datetime.timedelta(microseconds=value)


def pack(packed: PackedListing) -> bytes:
    """Return the packed form of one listing."""
    of = packed.listing
    return bytes(
        _packer.pack(
            (
                *(VERSION, packed.identities, packed.name_token),
                *(of.id, of.list_type, of.subject_kind, of.recorded_on.toordinal(), of.source),
                _ordinal(of.source_as_of),
                *_texts_of(of),
                *[_ordinal(day) for day in _dates_of(of)],
                *(_micros(of.removed_at), _micros(of.repaired_at), _micros(of.revoked_at), _micros(of.reinstated_at)),
                *(of.annulled, [(micros(start), _micros(end)) for start, end in of.stays], of.objection),
            )
        )
    )


def pack_entry(
    *,
    listing_id: str,
    list_type: str,
    subject_kind: SubjectKind,
    recorded_on: datetime.date,
    source: str,
    source_as_of: datetime.date | None,
    texts: Mapping[str, str],
    dates: Mapping[str, datetime.date | None],
    identities: Sequence[tuple[str, bytes]],
    name_token: bytes | None,
) -> bytes:
    """Return the packed form of a listing that nothing has happened to yet, without making it first.

    Imports run through here a million times; the result is what `pack` gives for the same listing.
    """
    return bytes(
        _packer.pack(
            (
                *(VERSION, identities, name_token),
                *(listing_id, list_type, subject_kind, recorded_on.toordinal(), source),
                _ordinal(source_as_of),
                *[texts[name] for name in TEXT_FIELDS],
                *[day.toordinal() if (day := dates[name]) is not None else 0 for name in DATE_FIELDS],
                *(None, None, None, None, False, (), False),
            )
        )
    )


def unpack(value: bytes) -> PackedListing:
    """Return the listing of one packed form.

    Raises:
        ValueError: another version, or not a packed listing.
    """
    return _unpacked(msgpack.unpackb(value, use_list=False))


def join(values: list[bytes]) -> bytes:
    """Return the value of one bucket from its packed listings; empty where there is none."""
    if not values:
        return b""
    return _array_of(len(values)) + b"".join(values)


@functools.cache
def _array_of(count: int) -> bytes:
    return bytes(msgpack.Packer(autoreset=True).pack_array_header(count))


def unpack_bucket(value: bytes) -> list[PackedListing]:
    """Return the listings of one bucket.

    Raises:
        ValueError: another version, or not the value of a bucket.
    """
    if not value:
        return []
    return [_unpacked(each) for each in msgpack.unpackb(value, use_list=False)]


def pack_details(
    *,
    identifiers: Sequence[str],
    name: str,
    related_persons: Sequence[str],
    authority_uscc: str,
    notice_date: datetime.date | None,
    measure_hints: str,
    source_record_id: str,
) -> bytes:
    """Return the bytes of details, for sealing alone, without making them first."""
    notice = _ordinal(notice_date)
    values = (VERSION, identifiers, name, related_persons, authority_uscc, notice, measure_hints, source_record_id)
    return bytes(_packer.pack(values))


def unpack_details(value: bytes) -> Details:
    """Return the details of unsealed bytes.

    Raises:
        ValueError: another version.
    """
    version, identifiers, name, related, authority_uscc, notice, hints, record_id = msgpack.unpackb(
        value, use_list=False
    )
    if version != VERSION:
        raise ValueError("details of another version")
    return Details(
        identifiers=identifiers,
        name=name,
        related_persons=related,
        authority_uscc=authority_uscc,
        notice_date=_day(notice) if notice else None,
        measure_hints=hints,
        source_record_id=record_id,
    )


def _unpacked(values: tuple[Any, ...]) -> PackedListing:
    if values[0] != VERSION:
        raise ValueError("a packed listing of another version")
    (
        _,
        identities,
        name_token,
        listing_id,
        list_type,
        kind,
        recorded_on,
        source,
        source_as_of,
        authority,
        decision_no,
        reason,
        basis,
        removal_conditions,
        remedies,
        region,
        sanction_no,
        sanction_kind,
        decision_date,
        served_date,
        listed_on,
        expires_on,
        publicity_until,
        retention_until,
        sanction_from,
        sanction_to,
        removed_at,
        repaired_at,
        revoked_at,
        reinstated_at,
        annulled,
        stays,
        objection,
    ) = values
    listing = Listing(
        id=listing_id,
        list_type=list_type,
        subject_kind=_KINDS[kind],
        recorded_on=_day(recorded_on),
        authority=authority,
        decision_no=decision_no,
        reason=reason,
        basis=basis,
        removal_conditions=removal_conditions,
        remedies=remedies,
        source=source,
        source_as_of=_day(source_as_of) if source_as_of else None,
        region=region,
        decision_date=_day(decision_date) if decision_date else None,
        served_date=_day(served_date) if served_date else None,
        listed_on=_day(listed_on) if listed_on else None,
        expires_on=_day(expires_on) if expires_on else None,
        publicity_until=_day(publicity_until) if publicity_until else None,
        retention_until=_day(retention_until) if retention_until else None,
        sanction_no=sanction_no,
        sanction_kind=sanction_kind,
        sanction_from=_day(sanction_from) if sanction_from else None,
        sanction_to=_day(sanction_to) if sanction_to else None,
        removed_at=None if removed_at is None else instant(removed_at),
        repaired_at=None if repaired_at is None else instant(repaired_at),
        revoked_at=None if revoked_at is None else instant(revoked_at),
        reinstated_at=None if reinstated_at is None else instant(reinstated_at),
        annulled=annulled,
        stays=_stays(stays) if stays else (),
        objection=objection,
    )
    return PackedListing(listing, identities, name_token)


def _stays(pairs: Iterable[tuple[int, int | None]]) -> tuple[tuple[datetime.datetime, datetime.datetime | None], ...]:
    return tuple((instant(start), None if end is None else instant(end)) for start, end in pairs)


def _ordinal(day: datetime.date | None) -> int:
    return 0 if day is None else day.toordinal()


def _micros(at: datetime.datetime | None) -> int | None:
    return None if at is None else micros(at)
