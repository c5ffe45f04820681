"""Manifest, set, and the one way from one state to the next."""

import dataclasses
import datetime
import zlib
from array import array

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lanjie_matcher.fingerprints import ViewKey
from lanjie_matcher.identifiers import NORMALISATION
from lanjie_matcher.shards import (
    MAX_COUNT,
    SHARDS,
    RefusedError,
    changed,
    decode_shard,
    decode_values,
    digests_of,
    encode_shard,
    encode_values,
    root_of,
    split,
)
from lanjie_matcher.views import (
    ED25519,
    SIGNED_PREFIX,
    SKEW,
    Manifest,
    Mark,
    accept_snapshot,
    require_news,
    require_past,
    verify_signatures,
)
from tests.support.core import at

KEY = bytes(range(32))
BITS = 40
NOW = at("2026-06-01T10:00:00")
MEMBERS = [f"org:{number:09d}" for number in range(300)]


def shards_of(members, bits=BITS, key=KEY):
    view_key = ViewKey(key, bits)
    return split(sorted({view_key.fingerprint(member) for member in members}), bits)


def manifest_of(shards, bits=BITS, **changes):
    fields = {
        "view": "companies",
        "lineage": "a" * 32,
        "epoch": 3,
        "generation": 2,
        "revision": 70,
        "root": root_of(digests_of(shards, bits)),
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
NONE_YET = Mark("companies", "a" * 32)
LISTED, REMOVED = (ViewKey(KEY, BITS).fingerprint(MEMBERS[place]) for place in (3, 9))
FREE = next(value for value in range(1 << 40) if value not in set(SET[0]))


def refused(reason, call, *arguments, **named):
    with pytest.raises(RefusedError) as caught:
        call(*arguments, **named)
    assert caught.value.reason == reason
    return caught.value


def held():
    return accept_snapshot(HEAD, KEY, SET, NONE_YET)


def after(adds, removals, **changes):
    """The head of the set after changes."""
    return manifest_of(changed(SET, adds, removals, BITS)[0], **{"revision": 71, **changes})


def test_snapshot_is_accepted():
    state = held()
    assert state.manifest == HEAD
    assert state.shards == SET
    assert sum(map(len, state.shards)) == HEAD.count
    assert all(state.key.fingerprint(member) in state for member in MEMBERS)
    assert FREE not in state


def test_empty_set_is_a_set():
    nothing = shards_of([])
    state = accept_snapshot(manifest_of(nothing, canaries_hit=()), KEY, nothing, NONE_YET)
    assert not any(state.shards)
    assert 7 not in state


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        ("normalisation", {"normalisation": NORMALISATION + 1}),
        ("bits", {"bits": 23}),
        ("bits", {"bits": 57}),
        ("oversize", {"count": MAX_COUNT + 1}),
        ("key", {"key_check": bytes(8)}),
        ("count", {"count": HEAD.count + 1}),
        ("root", {"root": bytes(32)}),
        ("canary", {"canaries_hit": ("org:not-there",)}),
        ("canary", {"canaries_miss": (MEMBERS[3],)}),
        ("lineage", {"lineage": "b" * 32}),
        ("lineage", {"view": "persons"}),
        ("rollback", {"revision": 69}),
        ("rollback", {"epoch": 2, "revision": 1000}),
        ("rollback", {"generation": 1}),
    ],
)
def test_snapshot_is_refused(reason, changes):
    state = held()
    before = dataclasses.replace(state)
    refused(reason, accept_snapshot, dataclasses.replace(HEAD, **changes), KEY, SET, state.manifest.mark)
    assert state == before


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        ("expired", {"expires_at": NOW}),
        ("expired", {"expires_at": NOW - datetime.timedelta(days=1)}),
        ("future", {"issued_at": NOW + SKEW + datetime.timedelta(seconds=1)}),
    ],
)
def test_a_head_that_is_no_news_is_refused(reason, changes):
    refused(reason, require_news, dataclasses.replace(HEAD, **changes), NOW)


def test_skew_of_clocks_is_borne():
    require_news(dataclasses.replace(HEAD, issued_at=NOW + SKEW), NOW)


def test_a_head_from_disk_may_have_expired_and_may_not_lie_in_the_future():
    require_past(HEAD, NOW + datetime.timedelta(days=2))
    refused("future", require_past, HEAD, NOW - SKEW - datetime.timedelta(seconds=1))


def test_other_key_truncated_set_and_short_key_are_refused():
    refused("key", accept_snapshot, HEAD, bytes(32), SET, NONE_YET)
    refused("key", accept_snapshot, HEAD, KEY[:31], SET, NONE_YET)
    refused("truncated", accept_snapshot, HEAD, KEY, SET[:-1], NONE_YET)


def test_set_of_the_right_size_with_another_member_is_refused():
    other = shards_of([*MEMBERS[:-1], "org:another"])
    refused("root", accept_snapshot, HEAD, KEY, other, NONE_YET)


def test_a_snapshot_takes_the_changes_that_came_after_it_was_packed():
    state = accept_snapshot(after([FREE], [REMOVED]), KEY, SET, NONE_YET, adds=[FREE], removals=[REMOVED])
    assert FREE in state
    assert REMOVED not in state
    refused("root", accept_snapshot, after([FREE], [REMOVED]), KEY, SET, NONE_YET, adds=[FREE + 1], removals=[REMOVED])


@pytest.mark.parametrize("bit", [40, 47, 48, 63])
def test_a_bit_that_no_digest_covers_is_refused(bit):
    number = REMOVED >> (BITS - 8)
    damaged = [array("Q", shard) for shard in SET]
    damaged[number][damaged[number].index(REMOVED)] |= 1 << bit
    refused("encoding", accept_snapshot, HEAD, KEY, damaged, NONE_YET)


# The mark: what was seen once is never forgotten.


@pytest.mark.parametrize(
    ("epoch", "generation", "revision", "reason"),
    [
        (3, 2, 70, None),
        (3, 2, 71, None),
        (3, 3, 70, None),
        (4, 2, 1, None),
        (3, 2, 69, "rollback"),
        (2, 2, 99, "rollback"),
        (2, 3, 99, "rollback"),
        (3, 1, 71, "rollback"),
        # A restored ledger goes on with the key that its backup had.
        (4, 1, 71, None),
    ],
)
def test_a_head_is_never_lower_than_one_that_was_seen(epoch, generation, revision, reason):
    head = dataclasses.replace(HEAD, epoch=epoch, generation=generation, revision=revision)
    if reason is None:
        HEAD.mark.admit(head)
        assert accept_snapshot(head, KEY, SET, HEAD.mark).manifest.mark == head.mark
    else:
        refused(reason, HEAD.mark.admit, head)
        refused(reason, held().confirm, head, HEAD.mark)
        refused(reason, held().apply, head, HEAD.root, [], [], HEAD.mark)


def test_a_mark_is_of_one_view_of_one_ledger():
    refused("lineage", Mark("persons", "a" * 32).admit, HEAD)
    refused("lineage", Mark("companies", "b" * 32).admit, HEAD)


# Heartbeats


def test_newer_head_of_the_same_set_is_confirmed():
    later = dataclasses.replace(HEAD, revision=90, issued_at=NOW + datetime.timedelta(seconds=15))
    state = held()
    confirmed = state.confirm(later, HEAD.mark)
    assert confirmed.manifest == later
    assert confirmed.shards is state.shards
    assert confirmed.digests is state.digests


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        ("root", {"root": bytes(32)}),
        ("root", {"count": 1}),
        ("root", {"epoch": 4}),
        ("root", {"generation": 3}),
        ("root", {"bits": 41}),
        ("root", {"key_check": bytes(8)}),
        ("root", {"normalisation": NORMALISATION + 1}),
        ("rollback", {"revision": 1}),
        ("lineage", {"lineage": ""}),
    ],
)
def test_head_of_another_set_is_refused(reason, changes):
    refused(reason, held().confirm, dataclasses.replace(HEAD, **changes), HEAD.mark)


# Deltas


def test_a_delta_leads_to_the_set_of_its_head():
    state = held()
    next_ = state.apply(after([FREE], [REMOVED]), HEAD.root, [FREE], [REMOVED], HEAD.mark)
    assert FREE in next_
    assert REMOVED not in next_
    assert FREE not in state
    assert REMOVED in state
    assert sum(now is not then for now, then in zip(next_.shards, state.shards, strict=True)) == 2
    assert next_.digests == digests_of(next_.shards, BITS)


@pytest.mark.parametrize(
    ("reason", "changes", "adds"),
    [
        ("gap", {"base": bytes(32)}, [FREE]),
        ("gap", {"epoch": 4}, [FREE]),
        ("gap", {"generation": 3}, [FREE]),
        ("gap", {"bits": 41}, [FREE]),
        ("gap", {"key_check": bytes(8)}, [FREE]),
        ("gap", {"normalisation": NORMALISATION + 1}, [FREE]),
        ("count", {}, []),
        ("count", {}, [FREE, FREE + 1]),
        ("root", {}, [FREE + 1]),
        ("canary", {"canaries_hit": ("org:not-there",)}, [FREE]),
        ("canary", {"canaries_miss": (MEMBERS[0],)}, [FREE]),
    ],
)
def test_a_delta_that_leads_elsewhere_is_refused(reason, changes, adds):
    state, base = held(), changes.get("base", HEAD.root)
    head = after([FREE], [], **{name: value for name, value in changes.items() if name != "base"})
    refused(reason, state.apply, head, base, adds, [], HEAD.mark)
    assert (state.manifest, state.shards, state.digests) == (HEAD, SET, held().digests)


# Changes of a set


def test_what_is_there_stays_and_what_is_not_is_no_fault():
    same, numbers = changed(SET, [LISTED, REMOVED], [FREE], BITS)
    assert not numbers
    assert all(now is then for now, then in zip(same, SET, strict=True))


def test_shards_that_do_not_change_are_shared_and_those_that_do_are_copied():
    before = [array("Q", shard) for shard in SET]
    result, numbers = changed(SET, [FREE], [REMOVED], BITS)
    assert numbers == {0, REMOVED >> (BITS - 8)}
    assert all((result[number] is SET[number]) is (number not in numbers) for number in range(SHARDS))
    assert list(SET) == before


@pytest.mark.parametrize("bits", [24, 40, 56])
def test_values_at_both_ends_of_a_shard_have_their_place(bits):
    edges = [0, (1 << (bits - 8)) - 1, 1 << (bits - 8), (1 << bits) - 1]
    shards = split(edges, bits)
    assert [list(shards[number]) for number in (0, 1, 255)] == [edges[:2], edges[2:3], edges[3:]]
    assert changed(split([], bits), edges, [], bits)[0] == shards


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
        ("oversize", (0, MAX_COUNT // 16 + 1, b"", BITS)),
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


# Values of a delta


@pytest.mark.parametrize("bits", [24, 31, 40, 56])
def test_values_come_back_as_they_went(bits):
    for values in ([], [0], [(1 << bits) - 1], [0, 1, 5, (1 << bits) - 1]):
        assert list(decode_values(len(values), encode_values(values, bits), bits)) == values


@pytest.mark.parametrize(
    ("reason", "arguments"),
    [
        ("oversize", (-1, b"", 24)),
        ("oversize", (MAX_COUNT // 16 + 1, b"", 24)),
        ("truncated", (1, b"", 24)),
        ("truncated", (1, planes([b"\x01"] * 2), 24)),
        ("encoding", (1, planes([b"\x01"] * 4), 24)),
        ("encoding", (2, planes([b"\x01\x00", b"\x00\x00", b"\x00\x00"]), 24)),
        ("encoding", (2, planes([b"\xff\xff"] * 3), 24)),
        ("encoding", (0, planes([b"\x01"] * 3), 24)),
    ],
)
def test_values_that_cannot_be_are_refused(reason, arguments):
    refused(reason, decode_values, *arguments)


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
