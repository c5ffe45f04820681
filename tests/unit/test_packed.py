"""The packed form: what goes in comes out, and no identifier is in it."""

import dataclasses
import datetime

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanjie_gateway.domain import packed
from lanjie_gateway.domain.packed import Details, PackedListing
from lanjie_matcher.fingerprints import IndexKey
from lanjie_matcher.identifiers import make, parse
from lanjie_matcher.listings import Listing
from lanjie_matcher.subjects import SubjectKind
from tests.support.core import org_code, uscc

INDEX = IndexKey(b"index key of a test".ljust(32, b"."))
DAYS = st.none() | st.dates()
INSTANTS = st.none() | st.datetimes(timezones=st.just(datetime.UTC))
TEXTS = st.text(max_size=20)
LISTINGS = st.builds(
    Listing,
    id=TEXTS,
    list_type=TEXTS,
    subject_kind=st.sampled_from(SubjectKind),
    recorded_on=st.dates(),
    source=TEXTS,
    source_as_of=DAYS,
    **dict.fromkeys(packed.TEXT_FIELDS, TEXTS),
    **dict.fromkeys(packed.DATE_FIELDS, DAYS),
    **dict.fromkeys(("removed_at", "repaired_at", "revoked_at", "reinstated_at"), INSTANTS),
    annulled=st.booleans(),
    stays=st.lists(st.tuples(st.datetimes(timezones=st.just(datetime.UTC)), INSTANTS), max_size=2).map(tuple),
    objection=st.booleans(),
)
PACKED = st.builds(
    PackedListing,
    LISTINGS,
    st.lists(st.tuples(st.sampled_from(["uscc", "org_code"]), st.binary(min_size=16, max_size=16)), max_size=3).map(
        tuple
    ),
    st.none() | st.binary(min_size=16, max_size=16),
)


@given(st.lists(PACKED, max_size=4))
def test_a_bucket_gives_back_what_was_packed(listings):
    value = packed.join([packed.pack(each) for each in listings])
    assert packed.unpack_bucket(value) == listings
    assert (value == b"") is (not listings)


@given(LISTINGS)
def test_an_entry_is_packed_as_its_listing_would_be(listing):
    entered = Listing(
        id=listing.id,
        list_type=listing.list_type,
        subject_kind=listing.subject_kind,
        recorded_on=listing.recorded_on,
        source=listing.source,
        source_as_of=listing.source_as_of,
        **{name: getattr(listing, name) for name in (*packed.TEXT_FIELDS, *packed.DATE_FIELDS)},
    )
    value = packed.pack_entry(
        listing_id=listing.id,
        list_type=listing.list_type,
        subject_kind=listing.subject_kind,
        recorded_on=listing.recorded_on,
        source=listing.source,
        source_as_of=listing.source_as_of,
        texts={name: getattr(listing, name) for name in packed.TEXT_FIELDS},
        dates={name: getattr(listing, name) for name in packed.DATE_FIELDS},
        identities=(("uscc", b"i" * 16),),
        name_token=None,
    )
    assert value == packed.pack(PackedListing(entered, (("uscc", b"i" * 16),), None))


def test_every_field_of_a_listing_is_packed():
    named = {
        "id",
        "list_type",
        "subject_kind",
        "recorded_on",
        "source",
        "source_as_of",
        *packed.TEXT_FIELDS,
        *packed.DATE_FIELDS,
    }
    events = {"removed_at", "repaired_at", "revoked_at", "reinstated_at", "annulled", "stays", "objection"}
    assert named | events == set(Listing.__slots__)


def test_another_version_is_refused():
    with pytest.raises(ValueError, match="another version"):
        packed.unpack(msgpack.packb([99]))
    with pytest.raises(ValueError, match="another version"):
        packed.unpack_details(msgpack.packb([99, [], "", [], "", 0, "", ""]))


def test_full_identities_are_compared_where_both_sides_know_them():
    listing = Listing(id="1", list_type="T", subject_kind=SubjectKind.ENTERPRISE, recorded_on=datetime.date(2026, 1, 1))
    held = PackedListing(listing, (("uscc", b"a" * 16),), None)
    bucket = b"o" * 16
    assert held.concerns("uscc", b"a" * 16, bucket)
    assert not held.concerns("uscc", b"b" * 16, bucket)
    assert held.concerns("org_code", b"c" * 16, bucket)


def test_the_code_of_one_company_says_nothing_of_another_named_by_its_organisation_code():
    listing = Listing(id="1", list_type="T", subject_kind=SubjectKind.ENTERPRISE, recorded_on=datetime.date(2026, 1, 1))
    one, other = make("org_code", org_code(1)), make("uscc", uscc(2))
    held = PackedListing(listing, (packed.identity(one, INDEX), packed.identity(other, INDEX)), None)
    for text in (f"uscc:{uscc(1)}", f"org_code:{org_code(1)}", f"uscc:{uscc(2)}", f"org_code:{org_code(2)}"):
        asked = parse(text)
        assert held.concerns(asked.kind, INDEX.token(asked.reveal()), INDEX.token(asked.key)), text
    stranger = parse(f"uscc:{uscc(2, '92320102')}")
    assert not held.concerns("uscc", INDEX.token(stranger.reveal()), INDEX.token(stranger.key))


def test_an_organisation_code_beside_the_code_that_holds_it_names_no_other_company():
    listing = Listing(id="1", list_type="T", subject_kind=SubjectKind.ENTERPRISE, recorded_on=datetime.date(2026, 1, 1))
    named = [make("org_code", org_code(1)), make("uscc", uscc(1)), make("org_code", org_code(2))]
    held = PackedListing(listing, tuple(packed.identities(named, INDEX)), None)
    for text, concerned in (
        (f"uscc:{uscc(1)}", True),
        (f"org_code:{org_code(1)}", True),
        (f"uscc:{uscc(1, '92320102')}", False),
        (f"uscc:{uscc(2, '92320102')}", True),
    ):
        asked = parse(text)
        assert held.concerns(asked.kind, INDEX.token(asked.reveal()), INDEX.token(asked.key)) is concerned, text


def test_details_come_back_and_show_nothing():
    details = Details(
        identifiers=("uscc:1",),
        name="某公司",
        related_persons=("甲", "乙"),
        authority_uscc="2",
        notice_date=datetime.date(2026, 1, 2),
        measure_hints="h",
        source_record_id="r",
    )
    assert packed.unpack_details(packed.pack_details(**dataclasses.asdict(details))) == details
    assert "某公司" not in repr(details)
    assert "uscc:1" not in repr(details)
