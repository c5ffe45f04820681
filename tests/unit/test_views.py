"""Manifest, set, and the one way from one state to the next."""

import dataclasses
import datetime
import zlib
from array import array

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lanjie_matcher.fingerprints import ViewKey
from lanjie_matcher.identifiers import NORMALISATION
from lanjie_matcher.views import (
    ED25519,
    MAX_COUNT,
    SHARDS,
    SIGNED_PREFIX,
    SKEW,
    Manifest,
    RefusedError,
    accept_snapshot,
    decode_shard,
    encode_shard,
    root_of,
    shard_digest,
    verify_signatures,
)
from tests.support.core import at

KEY = bytes(range(32))
BITS = 40
NOW = at("2026-06-01T10:00:00")
MEMBERS = [f"org:{number:09d}" for number in range(300)]


def shards_of(members, bits=BITS, key=KEY):
    view_key = ViewKey(key, bits)
    shards = [array("Q") for _ in range(SHARDS)]
    for value in sorted({view_key.fingerprint(member) for member in members}):
        shards[value >> (bits - 8)].append(value)
    return shards


def manifest_of(shards, bits=BITS, **changes):
    fields = {
        "view": "companies",
        "lineage": "a" * 32,
        "epoch": 3,
        "revision": 70,
        "root": root_of([shard_digest(shard, bits) for shard in shards]),
        "count": sum(map(len, shards)),
        "bits": bits,
        "key_id": "view-3",
        "key_check": ViewKey(KEY, 40).key_check(),
        "normalisation": NORMALISATION,
        "canaries_hit": (MEMBERS[0], MEMBERS[7]),
        "canaries_miss": ("canary:miss",),
        "issued_at": NOW,
        "expires_at": NOW + datetime.timedelta(hours=24),
        **changes,
    }
    return Manifest(**fields)


SET = shards_of(MEMBERS)
HEAD = manifest_of(SET)


def refused(reason, call, *arguments):
    with pytest.raises(RefusedError) as caught:
        call(*arguments)
    assert caught.value.reason == reason
    return caught.value


def held():
    return accept_snapshot(HEAD, KEY, SET, None, NOW)


def test_snapshot_is_accepted():
    state = held()
    assert state.manifest == HEAD
    assert len(state.values) == HEAD.count
    assert list(state.values) == sorted(state.values)
    assert all(state.key.fingerprint(member) in state.values for member in MEMBERS)


def test_empty_set_is_a_set():
    nothing = shards_of([])
    state = accept_snapshot(manifest_of(nothing, canaries_hit=()), KEY, nothing, None, NOW)
    assert not state.values


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        ("normalisation", {"normalisation": NORMALISATION + 1}),
        ("bits", {"bits": 23}),
        ("bits", {"bits": 57}),
        ("oversize", {"count": MAX_COUNT + 1}),
        ("expired", {"expires_at": NOW}),
        ("future", {"issued_at": NOW + SKEW + datetime.timedelta(seconds=1)}),
        ("key", {"key_check": bytes(8)}),
        ("count", {"count": HEAD.count + 1}),
        ("root", {"root": bytes(32)}),
        ("canary", {"canaries_hit": ("org:not-there",)}),
        ("canary", {"canaries_miss": (MEMBERS[3],)}),
        ("lineage", {"lineage": "b" * 32}),
        ("lineage", {"view": "persons"}),
        ("rollback", {"revision": 69}),
        ("rollback", {"epoch": 2, "revision": 1000}),
    ],
)
def test_snapshot_is_refused(reason, changes):
    state = held()
    before = dataclasses.replace(state)
    refused(reason, accept_snapshot, dataclasses.replace(HEAD, **changes), KEY, SET, state, NOW)
    assert state == before


def test_skew_of_clocks_is_borne():
    head = dataclasses.replace(HEAD, issued_at=NOW + SKEW)
    assert accept_snapshot(head, KEY, SET, None, NOW).manifest == head


def test_other_key_truncated_set_and_short_key_are_refused():
    refused("key", accept_snapshot, HEAD, bytes(32), SET, None, NOW)
    refused("key", accept_snapshot, HEAD, KEY[:31], SET, None, NOW)
    refused("truncated", accept_snapshot, HEAD, KEY, SET[:-1], None, NOW)


def test_set_of_the_right_size_with_another_member_is_refused():
    other = shards_of([*MEMBERS[:-1], "org:another"])
    refused("root", accept_snapshot, HEAD, KEY, other, None, NOW)


def test_newer_epoch_may_restart_revisions():
    head = dataclasses.replace(HEAD, epoch=4, revision=1)
    assert accept_snapshot(head, KEY, SET, held(), NOW).manifest.epoch == 4


def test_newer_head_of_the_same_set_is_confirmed():
    later = dataclasses.replace(HEAD, revision=90, issued_at=NOW + datetime.timedelta(seconds=15))
    state = held()
    confirmed = state.confirm(later, NOW + datetime.timedelta(seconds=15))
    assert confirmed.manifest == later
    assert confirmed.values is state.values


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        ("root", {"root": bytes(32)}),
        ("root", {"count": 1}),
        ("root", {"epoch": 4}),
        ("rollback", {"revision": 1}),
        ("expired", {"expires_at": NOW}),
        ("lineage", {"lineage": ""}),
    ],
)
def test_head_of_another_set_is_refused(reason, changes):
    refused(reason, held().confirm, dataclasses.replace(HEAD, **changes), NOW)


# Encoding of shards


@pytest.mark.parametrize("bits", [24, 31, 32, 40, 56])
def test_shards_come_back_as_they_went(bits):
    for number, shard in enumerate(shards_of(MEMBERS, bits)):
        assert decode_shard(number, len(shard), encode_shard(shard, bits), bits) == shard


def planes(columns):
    return b"".join(len(packed).to_bytes(4, "big") + packed for packed in map(zlib.compress, columns))


@pytest.mark.parametrize(
    ("reason", "arguments"),
    [
        ("bits", (0, 0, b"", 8)),
        ("bits", (0, 0, b"", 64)),
        ("oversize", (256, 0, b"", BITS)),
        ("oversize", (-1, 0, b"", BITS)),
        ("oversize", (0, MAX_COUNT, b"", BITS)),
        ("oversize", (0, -1, b"", BITS)),
        ("truncated", (0, 1, b"", BITS)),
        ("truncated", (0, 1, b"\x00\x00", BITS)),
        ("truncated", (0, 1, b"\x00\x00\x00\xffabc", BITS)),
        ("encoding", (0, 1, b"\x00\x00\x00\x03abc" * 4, BITS)),
        ("encoding", (0, 2, planes([b"\x01"] * 4), BITS)),
        ("encoding", (0, 1, planes([b"\x01\x02"] * 4), BITS)),
        ("encoding", (0, 1, planes([b"\x01"] * 4) + b"x", BITS)),
        ("encoding", (0, 2, planes([b"\x05\x00", b"\x00\x00", b"\x00\x00", b"\x00\x00"]), BITS)),
        # 31 bits: the remainder has 23, three bytes hold 24, so a remainder may point into the next shard.
        ("encoding", (0, 1, planes([b"\xff", b"\xff", b"\xff"]), 31)),
        ("encoding", (0, 2, planes([b"\xff\xff"] * 4), BITS)),
    ],
)
def test_shard_that_cannot_be_is_refused(reason, arguments):
    refused(reason, decode_shard, *arguments)


def test_bytes_behind_a_stream_inside_a_plane_are_refused():
    packed = zlib.compress(b"\x01") + b"extra"
    plane = len(packed).to_bytes(4, "big") + packed
    refused("encoding", decode_shard, 0, 1, plane * 4, BITS)


def test_stream_that_does_not_end_is_refused():
    packed = zlib.compress(b"\x01")[:-1]
    plane = len(packed).to_bytes(4, "big") + packed
    refused("encoding", decode_shard, 0, 1, plane * 4, BITS)


def test_gaps_that_add_up_beyond_64_bits_are_refused_and_do_not_crash():
    count = 70_000
    refused("encoding", decode_shard, 0, count, planes([b"\xff" * count] * 6), 56)


def test_stream_that_unpacks_to_more_than_it_says_is_not_unpacked_whole():
    bomb = zlib.compress(bytes(50_000_000), 9)
    plane = len(bomb).to_bytes(4, "big") + bomb
    refused("encoding", decode_shard, 0, 4, plane * 4, BITS)


def test_empty_shard():
    empty = encode_shard([], BITS)
    assert decode_shard(9, 0, empty, BITS) == array("Q")


# Signatures

MANIFEST = b"manifest"
PRIVATE = Ed25519PrivateKey.from_private_bytes(KEY)
PUBLIC = PRIVATE.public_key().public_bytes_raw()
GOOD = ("k1", ED25519, PRIVATE.sign(SIGNED_PREFIX + MANIFEST))
BAD = ("k2", ED25519, bytes(64))
SM2 = ("k3", "sm2-sm3", b"whatever")


def test_signature_of_a_trusted_key_is_enough():
    trusted = {"k1": PUBLIC, "k2": PUBLIC, "k3": PUBLIC}
    assert verify_signatures(MANIFEST, [GOOD], trusted) == "k1"
    assert verify_signatures(MANIFEST, [SM2, BAD, GOOD], trusted) == "k1"


@pytest.mark.parametrize(
    ("signatures", "trusted"),
    [
        ([], {"k1": PUBLIC}),
        ([GOOD], {}),
        ([BAD], {"k2": PUBLIC}),
        ([SM2], {"k3": PUBLIC}),
        ([("k1", ED25519, PRIVATE.sign(MANIFEST))], {"k1": PUBLIC}),
    ],
)
def test_manifest_without_a_good_signature_is_refused(signatures, trusted):
    refused("signature", verify_signatures, MANIFEST, signatures, trusted)


def test_changed_manifest_is_refused():
    refused("signature", verify_signatures, MANIFEST + b"!", [GOOD], {"k1": PUBLIC})
