"""The keeper of the set: what it takes, in which order, and that a refusal changes nothing."""

import datetime
import errno
import os
import random
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lanjie import _keeper
from lanjie._files import write_whole
from lanjie._keeper import KEEP_SECONDS
from lanjie._store import Beat, ViewStore
from lanjie.v1 import sync_pb2 as pb
from lanjie_matcher.ages import Age
from lanjie_matcher.filters import ScreenedFilter, SortedFilter
from lanjie_matcher.shards import MAX_COUNT, RefusedError
from lanjie_matcher.views import SIGNED_PREFIX
from tests.support.feed import CANARY, LINEAGE, Publisher, clock, fill, matter, stamp, wire


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The disk is not waited for; that it is asked to sync is a test of its own."""
    monkeypatch.setattr("os.fsync", lambda _: None)


@pytest.fixture
def publisher():
    return Publisher(clock())


@pytest.fixture
def keeper(publisher, tmp_path):
    made = publisher.keeper(tmp_path)
    made.take(publisher.snapshot(), 1_000.0)
    yield made
    made.close()


def files(tmp_path):
    return {path.name: path.read_bytes() for path in (tmp_path / LINEAGE).iterdir() if path.name != "beat"}


def held(keeper):
    """Everything a refusal may not touch."""
    return keeper.view, keeper._mark, keeper._held, keeper._tag, keeper.erased


def refused(reason, keeper, parts, tmp_path):
    before, disk = held(keeper), files(tmp_path)
    with pytest.raises(RefusedError) as caught:
        keeper.take(parts, 1_001.0)
    assert caught.value.reason == reason
    assert all(now is then for now, then in zip(held(keeper), before, strict=True))
    assert files(tmp_path) == disk


def values(keeper):
    return {value for shard in keeper.view.state.shards for value in shard}


# (1) What is refused leaves view, mark and disk as they were.

LATER = datetime.timedelta(seconds=1)
HEADS = [
    ("expired", lambda made: {"expires_time": stamp(made.clock.at)}),
    ("future", lambda made: {"issued_time": stamp(made.clock.at + datetime.timedelta(minutes=5) + LATER)}),
    ("rollback", lambda made: {"revision": 9}),
    ("rollback", lambda made: {"epoch": 0, "revision": 99}),
    ("rollback", lambda made: {"generation": 0}),
    ("lineage", lambda made: {"lineage": "cd" * 16}),
    ("lineage", lambda made: {"view": "persons"}),
    ("algorithm", lambda made: {"prf": pb.PRF_ALGORITHM_HMAC_SM3_64}),
    ("algorithm", lambda made: {"digest": pb.DIGEST_ALGORITHM_SM3}),
    ("scope", lambda made: {"scope_digest": bytes(32)}),
]
SETS = [
    ("normalisation", {"normalisation": 99}),
    ("bits", {"bits": 23}),
    ("oversize", {"count": MAX_COUNT + 1}),
    ("key", {"key_check": bytes(8)}),
]
RESULTS = [
    ("count", {"count": 7}),
    ("root", {"root": bytes(32)}),
    ("canary", {"canaries_hit": ["org:nobody"]}),
    ("canary", {"canaries_miss": [CANARY]}),
]


@pytest.mark.parametrize(("reason", "changes"), HEADS)
def test_a_head_that_breaks_a_rule_is_refused_whatever_it_comes_with(publisher, keeper, tmp_path, reason, changes):
    told = changes(publisher)
    refused(reason, keeper, [publisher.heartbeat(**told)], tmp_path)
    delta = publisher.commit([5], **({"revision": 11} | told))
    refused(reason, keeper, [delta], tmp_path)
    refused(reason, keeper, publisher.snapshot(**told), tmp_path)


@pytest.mark.parametrize(("reason", "changes"), [*SETS, *RESULTS])
def test_a_snapshot_that_is_not_the_set_of_its_head_is_refused(publisher, keeper, tmp_path, reason, changes):
    publisher.commit([5])
    refused(reason, keeper, publisher.snapshot(**changes), tmp_path)


@pytest.mark.parametrize(("reason", "changes"), RESULTS)
def test_a_delta_that_does_not_lead_to_the_set_of_its_head_is_refused(publisher, keeper, tmp_path, reason, changes):
    refused(reason, keeper, [publisher.commit([5], [7], **changes)], tmp_path)


@pytest.mark.parametrize("changes", [{"epoch": 2}, {"generation": 2}, {"bits": 39}, {"key_check": bytes(8)}])
def test_a_set_of_another_generation_comes_as_a_snapshot_only(publisher, keeper, tmp_path, changes):
    refused("root", keeper, [publisher.heartbeat(**changes)], tmp_path)
    refused("gap", keeper, [publisher.commit([5], **changes)], tmp_path)


def test_another_normalisation_is_refused_whatever_it_comes_with(publisher, keeper, tmp_path):
    for update in (publisher.heartbeat(normalisation=99), publisher.commit([5], normalisation=99)):
        before = held(keeper)
        with pytest.raises(RefusedError):
            keeper.take([update], 1_001.0)
        assert held(keeper) == before


@pytest.mark.parametrize(("reason", "changes"), [("root", {"root": bytes(32)}), ("root", {"count": 7})])
def test_a_heartbeat_of_another_set_is_refused(publisher, keeper, tmp_path, reason, changes):
    refused(reason, keeper, [publisher.heartbeat(**changes)], tmp_path)


def test_a_head_signed_by_a_stranger_is_refused(publisher, keeper, tmp_path):
    publisher.signing = Ed25519PrivateKey.generate()
    for parts in ([publisher.heartbeat()], [publisher.commit([5])], publisher.snapshot()):
        refused("signature", keeper, parts, tmp_path)


def test_a_signed_head_that_cannot_be_read_is_refused(publisher, keeper, tmp_path):
    update = publisher.heartbeat()
    update.head.manifest = b"\xff\xff"
    update.head.signatures[0].value = publisher.signing.sign(SIGNED_PREFIX + b"\xff\xff")
    refused("encoding", keeper, [update], tmp_path)


def damaged(publisher):
    """Snapshots and deltas that cannot be read, each with its reason."""

    def snapshot(change, parts=4):
        made = publisher.snapshot(parts)
        return change(made) or made

    def shard(place, **fields):
        def change(parts):
            for name, value in fields.items():
                setattr(parts[0].shards[place], name, value)

        return change

    def delta(**fields):
        made = pb.Update(kind=pb.UPDATE_KIND_DELTA, base_root=publisher.root, head=publisher.head())
        fill(made, [5], [])
        for name, value in fields.items():
            setattr(made.adds, name, value)
        return [made]

    return [
        ("truncated", snapshot(lambda parts: parts[:-1])),
        ("truncated", snapshot(lambda parts: [*parts[:2], publisher.heartbeat()])),
        ("encoding", snapshot(lambda parts: [parts[0], *parts[2:]])),
        ("encoding", snapshot(lambda parts: [*parts, parts[-1]])),
        ("encoding", snapshot(shard(3, number=4))),
        ("oversize", snapshot(shard(3, count=MAX_COUNT + 1))),
        ("oversize", snapshot(shard(3, count=MAX_COUNT // 16 + 1))),
        ("truncated", snapshot(shard(3, planes=b""))),
        ("encoding", snapshot(shard(3, planes=b"\x00\x00\x00\x03abc" * 4))),
        ("truncated", delta(planes=b"\x00\x00")),
        ("encoding", delta(planes=b"\x00\x00\x00\x03abc" * 5)),
        ("oversize", delta(count=MAX_COUNT)),
        ("encoding", [pb.Update(kind=kind, head=publisher.head()) for kind in [pb.UPDATE_KIND_UNSPECIFIED]]),
        ("encoding", [pb.Update(kind=pb.UPDATE_KIND_WAIT, head=publisher.head())]),
    ]


@pytest.mark.parametrize("place", range(14))
def test_what_cannot_be_read_is_refused(publisher, keeper, tmp_path, place):
    reason, parts = damaged(publisher)[place]
    refused(reason, keeper, parts, tmp_path)


def test_a_kind_that_is_not_known_is_refused_with_a_set_and_without(publisher, keeper, tmp_path):
    later = pb.Update.FromString(b"\x08\x63" + pb.Update(head=publisher.head()).SerializeToString())
    refused("encoding", keeper, [later], tmp_path)
    keeper.drop()
    with pytest.raises(RefusedError):
        keeper.take([later], 1_001.0)
    assert keeper.view is None


def test_a_delta_to_another_set_is_a_gap(publisher, keeper, tmp_path):
    missed = publisher.commit([5])
    refused("gap", keeper, [publisher.commit([6])], tmp_path)
    keeper.take([missed], 1_001.0)
    keeper.drop()
    with pytest.raises(RefusedError, match="scope"):
        keeper.take([missed], 1_001.0)


@pytest.mark.parametrize("kind", ["heartbeat", "delta"])
def test_another_key_comes_with_its_set_only(publisher, keeper, tmp_path, kind):
    publisher.scope_fields["key"] = bytes(32)
    update = publisher.heartbeat() if kind == "heartbeat" else publisher.commit([5])
    update.scope = wire(publisher.scope())
    refused("key", keeper, [update], tmp_path)


def test_a_snapshot_with_a_wrong_or_short_key_is_refused(publisher, keeper, tmp_path):
    for key in (bytes(32), bytes(31), b""):
        publisher.scope_fields["key"] = key
        refused("key", keeper, publisher.snapshot(), tmp_path)


def test_a_scope_that_is_older_than_its_head_is_refused_and_one_that_is_not_cures_it(publisher, keeper, tmp_path):
    old = publisher.scope()
    publisher.catalogue_revision = 6
    publisher.scope_fields["matters"] = [matter("late.matter")]
    bare, late, right = publisher.heartbeat(), publisher.heartbeat(), publisher.heartbeat()
    late.scope = wire(old)
    refused("scope", keeper, [bare], tmp_path)
    refused("scope", keeper, [late], tmp_path)
    right.scope = wire(publisher.scope())
    keeper.take([right], 1_001.0)
    assert "late.matter" in keeper.view.scope.matters
    keeper.take([publisher.heartbeat()], 1_002.0)


def test_a_scope_with_a_day_that_is_none_is_refused(publisher, keeper, tmp_path):
    publisher.scope_fields["matters"] = [matter("some.matter", "soon")]
    update = publisher.heartbeat()
    update.scope = wire(publisher.scope())
    refused("encoding", keeper, [update], tmp_path)
    update.scope = b"\xff"
    refused("encoding", keeper, [update], tmp_path)


def test_a_scope_that_was_changed_on_its_way_is_refused(publisher, keeper, tmp_path):
    softer = publisher.scope()
    softer.matters[0].rules[0].stale_pass = True
    update = publisher.heartbeat()
    update.scope = wire(softer)
    refused("scope", keeper, [update], tmp_path)
    parts = publisher.snapshot()
    parts[0].scope = wire(softer)
    refused("scope", keeper, parts, tmp_path)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), PermissionError(errno.EACCES, "no")])
def test_what_the_disk_does_not_take_is_refused(publisher, keeper, tmp_path, monkeypatch, error):
    def fails(*_):
        raise error

    monkeypatch.setattr("lanjie._store.write_whole", fails)
    refused("store", keeper, [publisher.commit([5])], tmp_path)
    refused("store", keeper, publisher.snapshot(), tmp_path)
    monkeypatch.undo()
    keeper.take(publisher.snapshot(), 1_002.0)
    assert values(keeper) == publisher.values


def test_a_disk_that_fails_between_base_and_current_leaves_the_old_set(publisher, keeper, tmp_path, monkeypatch):
    write, disk = write_whole, files(tmp_path)

    def only_the_base(path, parts):
        if path.name == "current":
            raise OSError(errno.ENOSPC, "full")
        write(path, parts)

    monkeypatch.setattr("lanjie._store.write_whole", only_the_base)
    publisher.commit([5])
    with pytest.raises(RefusedError):
        keeper.take(publisher.snapshot(), 1_001.0)
    assert disk.items() <= files(tmp_path).items()
    keeper.close()
    again = publisher.keeper(tmp_path)
    assert again.view.state.manifest.revision == 10
    again.close()


def test_a_keeper_that_was_turned_to_no_ledger_takes_nothing(publisher, tmp_path):
    keeper = publisher.keeper(tmp_path, turned=False)
    with pytest.raises(RefusedError):
        keeper.take(publisher.snapshot(), 1_000.0)
    assert keeper.view is None
    assert not list(tmp_path.iterdir())


def test_a_lineage_is_no_path(publisher, tmp_path):
    keeper = publisher.keeper(tmp_path / "state", turned=False)
    for lineage in ("../elsewhere", "", "AB" * 16, "a/b"):
        with pytest.raises(RefusedError) as caught:
            keeper.open(lineage)
        assert caught.value.reason == "lineage"
        assert not keeper.opened
    assert not (tmp_path / "elsewhere").exists()


# What is taken


def test_a_newer_epoch_begins_its_revisions_again_and_a_newer_generation_goes_on(publisher, keeper):
    publisher.fields["generation"], publisher.key = 2, bytes(32)
    publisher.publish([CANARY, "org:other"])
    keeper.take(publisher.snapshot(), 1_001.0)
    assert (keeper.view.state.manifest.generation, values(keeper)) == (2, publisher.values)
    publisher.fields.update(epoch=2, revision=1)
    keeper.take(publisher.snapshot(), 1_002.0)
    assert keeper.view.state.manifest.revision == 1


def test_a_contact_counts_from_when_it_was_asked_for(publisher, keeper):
    publisher.clock.advance(40)
    keeper.take([publisher.heartbeat()], 1_030.0)
    assert (keeper.view.contact, keeper.view.applied, keeper.view.fresh_until) == (1_030.0, 1_000.0, 1_075.0)
    keeper.take([publisher.commit([5])], 1_035.0)
    assert (keeper.view.contact, keeper.view.applied) == (1_035.0, 1_035.0)


def test_an_empty_delta_is_a_heartbeat_and_one_told_twice_changes_nothing(publisher, keeper):
    before = keeper.view.state.shards
    keeper.take([publisher.commit()], 1_001.0)
    assert all(now is then for now, then in zip(keeper.view.state.shards, before, strict=True))
    removed = next(iter(publisher.values - {publisher.fingerprint(CANARY)}))
    delta = publisher.commit([5], [removed])
    keeper.take([delta], 1_002.0)
    assert values(keeper) == publisher.values
    # Again, as to the set it led to: everything is there already.
    again = pb.Update()
    again.CopyFrom(delta)
    again.base_root = publisher.root
    keeper.take([again], 1_003.0)
    assert values(keeper) == publisher.values
    with pytest.raises(RefusedError):
        keeper.take([delta], 1_004.0)
    assert values(keeper) == publisher.values


def test_changes_that_came_after_a_snapshot_was_packed_go_with_it(publisher, tmp_path):
    keeper = publisher.keeper(tmp_path)
    parts = publisher.snapshot(3)
    removed = min(publisher.values - {publisher.fingerprint(CANARY)})
    publisher.commit([5], [removed])
    parts[0].head.CopyFrom(publisher.head())
    fill(parts[-1], [5], [removed])
    keeper.take(parts, 1_000.0)
    assert values(keeper) == publisher.values
    keeper.close()


def test_the_state_told_to_the_gateway_is_what_is_held(publisher, keeper):
    told = keeper.state("id", whole=False)
    assert (told.view, told.lineage, told.sdk_id) == ("companies", LINEAGE, "id")
    assert (told.epoch, told.generation, told.revision, told.catalogue_revision) == (1, 1, 10, 5)
    assert told.root == publisher.root
    assert keeper.state("id", whole=True).root == b""
    keeper.drop()
    assert keeper.state("id", whole=False) == pb.ClientState(view="companies", lineage=LINEAGE, sdk_id="id")


# (2) Written first, then used.


def test_a_set_is_on_disk_before_anybody_answers_by_it(publisher, tmp_path, monkeypatch):
    seen = []
    keeper = publisher.keeper(tmp_path)
    keep, tell = ViewStore.keep, ViewStore.tell

    def kept(store, update, *rest):
        seen.append(("keep", keeper.view.state.manifest.revision if keeper.view else 0))
        return keep(store, update, *rest)

    def told(store, beat):
        seen.append(("tell", keeper.view.state.manifest.revision))
        tell(store, beat)

    monkeypatch.setattr(ViewStore, "keep", kept)
    monkeypatch.setattr(ViewStore, "tell", told)
    keeper.take(publisher.snapshot(), 1_000.0)
    keeper.take([publisher.commit([5])], 1_001.0)
    keeper.take([publisher.heartbeat()], 1_002.0)
    assert seen == [("keep", 0), ("tell", 10), ("keep", 10), ("tell", 11), ("tell", 11)]
    keeper.close()


def test_a_file_is_synced_before_it_gets_its_name_and_its_directory_after(publisher, keeper, tmp_path, monkeypatch):
    seen = []
    sync, rename = os.fsync, Path.replace

    def synced(descriptor):
        seen.append("directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        sync(descriptor)

    def renamed(path, target):
        seen.append(target.name)
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    keeper.take([publisher.commit([5])], 1_001.0)
    assert seen == ["file", "current", "directory"]


def test_the_head_on_disk_is_renewed_every_five_minutes_of_heartbeats(publisher, keeper, tmp_path):
    disk = files(tmp_path)["current"]
    renewed = []
    for second in range(15, 915, 15):
        publisher.clock.advance(15)
        keeper.take([publisher.heartbeat()], publisher.clock.monotonic())
        if files(tmp_path)["current"] != disk:
            disk = files(tmp_path)["current"]
            renewed.append(second)
    assert renewed == [315, 630]
    assert KEEP_SECONDS == 300
    assert keeper.view.age(publisher.clock.monotonic()) is Age.FRESH


def test_a_newer_revision_of_the_same_set_is_written_at_once(publisher, keeper, tmp_path):
    disk = files(tmp_path)["current"]
    publisher.fields["revision"] = 11
    keeper.take([publisher.heartbeat()], 1_001.0)
    assert files(tmp_path)["current"] != disk


# Bases and filters


def bases(tmp_path):
    return {path.name for path in (tmp_path / LINEAGE).glob("base-*")}


def test_the_base_is_written_anew_when_the_changes_have_become_many(publisher, keeper, tmp_path, monkeypatch):
    monkeypatch.setattr(_keeper, "FEW_CHANGES", 10)
    first = bases(tmp_path)
    for value in range(1, 11):
        keeper.take([publisher.commit([value])], 1_001.0)
    assert bases(tmp_path) == first
    # Back to the base and forth again: what counts is what differs.
    keeper.take([publisher.commit([], [10])], 1_001.0)
    keeper.take([publisher.commit([10])], 1_001.0)
    assert bases(tmp_path) == first
    keeper.take([publisher.commit([11])], 1_001.0)
    assert len(bases(tmp_path)) == 1
    assert bases(tmp_path) != first
    assert values(keeper) == publisher.values
    keeper.close()
    again = publisher.keeper(tmp_path)
    assert values(again) == publisher.values
    again.close()


def probe_of(keeper):
    return keeper.view.filter


def built(keeper):
    while keeper.build_some():
        pass
    return probe_of(keeper)


def test_a_base_that_was_deleted_is_written_again_with_the_next_change(publisher, keeper, tmp_path):
    (base,) = (tmp_path / LINEAGE).glob("base-*")
    base.unlink()
    keeper.take([publisher.commit([5])], 1_000.0)
    assert base.exists()
    beside = publisher.keeper(tmp_path)
    assert beside.follow()
    assert values(beside) == publisher.values
    beside.close()


def test_the_filter_is_built_from_the_base_kept_and_mapped_by_the_next_process(publisher, tmp_path):
    keeper = publisher.keeper(tmp_path, use_bloom=True)
    keeper.take(publisher.snapshot(), 1_000.0)
    assert isinstance(keeper.view.filter, SortedFilter)
    keeper.take([publisher.commit([5], [])], 1_000.0)
    probe = built(keeper)
    assert isinstance(probe, ScreenedFilter)
    assert 5 in probe
    keeper.close()
    (image,) = (tmp_path / LINEAGE).glob("bloom-*")
    before = image.read_bytes()
    again = publisher.keeper(tmp_path, use_bloom=True)
    assert isinstance(again.view.filter, ScreenedFilter)
    assert {value for value in publisher.values if value in again.view.filter} == publisher.values
    again.take([publisher.commit([6])], 1_001.0)
    assert 6 in again.view.filter
    # What is mapped is a copy: the file holds just the base.
    assert image.read_bytes() == before
    again.close()


def test_a_filter_is_built_in_slices(publisher, tmp_path):
    keeper = publisher.keeper(tmp_path, use_bloom=True)
    keeper.take(publisher.snapshot(), 1_000.0)
    steps = 0
    while keeper.build_some():
        steps += 1
    assert steps == len(publisher.values) // _keeper.SLICE
    assert _keeper.SLICE <= 20
    assert not keeper.build_some()
    keeper.close()


def test_a_filter_that_cannot_be_kept_serves_all_the_same(publisher, tmp_path, monkeypatch):
    keeper = publisher.keeper(tmp_path, use_bloom=True)
    keeper.take(publisher.snapshot(), 1_000.0)

    def fails(*_):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr("lanjie._store.write_whole", fails)
    assert isinstance(built(keeper), ScreenedFilter)
    keeper.close()


SOME = st.sets(st.integers(0, 40), max_size=8)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(SOME, SOME, st.sampled_from(["", "build", "again", "whole"])), max_size=12), st.booleans())
def test_a_filter_is_its_set_through_any_changes(tmp_path_factory, changes, use_bloom):
    publisher = Publisher(clock(), 20)
    folder = tmp_path_factory.mktemp("state")
    spread = [random.Random(number).getrandbits(40) for number in range(41)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_keeper, "FEW_CHANGES", 10)
        keeper = publisher.keeper(folder, use_bloom=use_bloom)
        keeper.take(publisher.snapshot(), 1_000.0)
        for adds, removals, then in changes:
            delta = publisher.commit([spread[each] for each in adds], [spread[each] for each in removals])
            keeper.take(publisher.snapshot() if then == "whole" else [delta], 1_000.0)
            if then == "build":
                built(keeper)
            if then == "again":
                keeper.close()
                keeper = publisher.keeper(folder, use_bloom=use_bloom)
            probe, members = probe_of(keeper), publisher.values
            assert all((value in probe) is (value in members) for value in {*spread, *members})
            assert values(keeper) == members
        keeper.close()


# (3) A set from disk


def test_a_set_from_disk_is_never_fresh_before_a_contact(publisher, keeper, tmp_path):
    keeper.close()
    again = publisher.keeper(tmp_path)
    assert again.view.age(publisher.clock.monotonic()) is Age.STALE
    again.take([publisher.heartbeat()], 1_000.0)
    assert again.view.age(publisher.clock.monotonic()) is Age.FRESH
    again.close()


@pytest.mark.parametrize(("hours", "wanted"), [(23, Age.STALE), (25, Age.EXPIRED), (49, Age.EXPIRED)])
def test_a_set_from_disk_is_as_old_as_its_head(publisher, keeper, tmp_path, hours, wanted):
    keeper.close()
    publisher.clock.at += datetime.timedelta(hours=hours)
    publisher.clock.seconds = 5.0
    again = publisher.keeper(tmp_path)
    assert again.view.age(5.0) is wanted
    again.close()


def test_a_clock_that_was_set_back_makes_nothing_new(publisher, keeper, tmp_path):
    keeper.close()
    publisher.clock.at -= datetime.timedelta(days=1)
    again = publisher.keeper(tmp_path, turned=False)
    with pytest.raises(RefusedError) as caught:
        again.open(LINEAGE)
    assert caught.value.reason == "future"
    assert again.view is None
    again.close()


@pytest.mark.parametrize("lost", ["base", "current"])
def test_no_older_head_is_taken_after_a_restart(publisher, keeper, tmp_path, lost):
    keeper.take([publisher.commit([5])], 1_001.0)
    keeper.close()
    again = publisher.keeper(tmp_path, turned=False)
    if lost == "base":
        (base,) = (tmp_path / LINEAGE).glob("base-*")
        base.unlink()
        with pytest.raises(RefusedError):
            again.open(LINEAGE)
    else:
        again.open(LINEAGE)
    again.lead()
    publisher.fields["revision"] = 10
    with pytest.raises(RefusedError) as caught:
        again.take(publisher.snapshot(), 1_002.0)
    assert caught.value.reason == "rollback"
    again.close()


# (5) Key and set are erased after 48 hours.

PURGE = 48 * 3_600


def erased(tmp_path, publisher):
    """Whether neither key nor fingerprints lie on the disk."""
    disk = files(tmp_path)
    names = {name for name in disk if name.startswith(("base", "bloom"))}
    return not names and not any(publisher.key in content for content in disk.values())


def test_key_and_set_are_erased_after_two_days_and_the_mark_stays(publisher, keeper, tmp_path):
    keeper.take([publisher.commit([5])], 1_000.0)
    assert not erased(tmp_path, publisher)
    publisher.clock.advance(PURGE)
    keeper.purge()
    assert keeper.view is not None
    publisher.clock.advance(1)
    keeper.purge()
    assert keeper.view is None
    assert keeper.erased
    assert erased(tmp_path, publisher)
    publisher.fields["revision"] = 10
    with pytest.raises(RefusedError) as caught:
        keeper.take(publisher.snapshot(), publisher.clock.monotonic())
    assert caught.value.reason == "rollback"
    keeper.close()
    again = publisher.keeper(tmp_path)
    assert again.view is None
    with pytest.raises(RefusedError) as caught:
        again.take(publisher.snapshot(), publisher.clock.monotonic())
    assert caught.value.reason == "rollback"
    publisher.fields["revision"] = 11
    again.take(publisher.snapshot(), publisher.clock.monotonic())
    assert values(again) == publisher.values
    assert not again.erased
    again.close()


def test_a_set_that_lay_two_days_on_disk_is_erased_as_soon_as_somebody_leads(publisher, keeper, tmp_path):
    keeper.close()
    publisher.clock.advance(PURGE + 1)
    again = publisher.keeper(tmp_path, turned=False)
    again.open(LINEAGE)
    again.purge()
    assert (again.view, again.erased) == (None, True)
    again.lead()
    again.purge()
    assert erased(tmp_path, publisher)
    again.close()


def test_a_set_that_cannot_be_read_any_more_is_erased_too(publisher, keeper, tmp_path):
    current = tmp_path / LINEAGE / "current"
    current.write_bytes(current.read_bytes()[:-1])
    publisher.clock.advance(PURGE + 1)
    keeper.purge()
    assert erased(tmp_path, publisher)
    keeper.purge()


def test_a_disk_that_does_not_let_go_is_asked_again(publisher, keeper, tmp_path, monkeypatch):
    def fails(*_):
        raise OSError(errno.EROFS, "read-only")

    monkeypatch.setattr("lanjie._store.write_whole", fails)
    publisher.clock.advance(PURGE + 1)
    keeper.purge()
    assert keeper.view is None
    assert set(files(tmp_path)) == {"current", "leader.lock"}  # the set made room for the head that stays
    monkeypatch.undo()
    publisher.clock.advance(6)
    keeper.purge()
    assert erased(tmp_path, publisher)


def test_a_set_that_a_failed_write_left_beside_an_erased_one_is_erased_in_time(
    publisher, keeper, tmp_path, monkeypatch
):
    def only_the_base(path, parts):
        if path.name == "current":
            raise OSError(errno.ENOSPC, "full")
        write_whole(path, parts)

    publisher.clock.advance(PURGE + 1)
    keeper.purge()
    publisher.commit([5])
    monkeypatch.setattr("lanjie._store.write_whole", only_the_base)
    with pytest.raises(RefusedError):
        keeper.take(publisher.snapshot(), publisher.clock.monotonic())
    monkeypatch.undo()
    assert not erased(tmp_path, publisher)
    publisher.clock.advance(PURGE + 1)
    keeper.purge()
    assert erased(tmp_path, publisher)


def test_bounds_of_a_manifest_shorten_the_life_of_a_set(publisher, tmp_path):
    publisher.fields["bounds"] = pb.AgeBounds(fresh_seconds=10, soft_seconds=20, stale_seconds=30, purge_seconds=40)
    keeper = publisher.keeper(tmp_path)
    keeper.take(publisher.snapshot(), 1_000.0)
    ages = [keeper.view.age(1_000.0 + age) for age in (10, 20, 30, 31)]
    assert ages == [Age.FRESH, Age.SOFT, Age.STALE, Age.EXPIRED]
    publisher.clock.advance(41)
    keeper.purge()
    assert keeper.view is None
    keeper.close()


# (4) One leads, the others follow.


@pytest.fixture
def two(publisher, tmp_path):
    first = publisher.keeper(tmp_path, use_bloom=True)
    first.take(publisher.snapshot(), 1_000.0)
    second = publisher.keeper(tmp_path, use_bloom=True)
    yield first, second
    first.close()
    second.close()


def test_one_leads_and_the_other_takes_what_it_wrote_and_its_contacts(publisher, two):
    first, second = two
    assert (first.leads, second.leads) == (True, False)
    assert second.view.age(1_000.0) is Age.STALE
    assert second.follow()
    assert second.view.age(1_000.0) is Age.FRESH
    publisher.clock.advance(50)
    assert second.view.age(1_050.0) is Age.SOFT
    first.take([publisher.heartbeat()], 1_050.0)
    assert second.follow()
    assert second.view.contact == 1_050.0
    first.take([publisher.commit([5], [min(publisher.values)])], 1_050.0)
    assert second.follow()
    assert values(second) == publisher.values
    publisher.catalogue_revision = 6
    publisher.scope_fields["matters"] = [matter("late.matter")]
    update = publisher.heartbeat()
    update.scope = wire(publisher.scope())
    first.take([update], 1_050.0)
    assert second.follow()
    assert "late.matter" in second.view.scope.matters


def test_a_contact_that_is_older_or_has_not_been_yet_is_no_contact(publisher, two):
    first, second = two
    assert second.follow()
    for contact in (999.0, 1_001.0):
        first._store.tell(Beat(first._tag, contact))
        assert second.follow()
        assert second.view.contact == 1_000.0
    publisher.clock.advance(1)
    assert second.follow()
    assert second.view.contact == 1_001.0


def test_one_that_follows_maps_the_filter_that_the_leader_built(publisher, two):
    first, second = two
    assert second.follow()
    built(first)
    publisher.clock.advance(3)
    first.take([publisher.commit([5])], publisher.clock.monotonic())
    assert second.follow()
    assert isinstance(second.view.filter, ScreenedFilter)
    assert all(value in second.view.filter for value in publisher.values)
    assert not second.build_some()


def test_the_one_that_follows_takes_over_and_stays_right(publisher, two):
    first, second = two
    assert second.follow()
    assert not second.lead()
    first.close()
    assert second.lead()
    assert second.view.age(1_000.0) is Age.FRESH
    second.take([publisher.commit([5])], 1_001.0)
    assert all(value in built(second) for value in publisher.values)
    assert values(second) == publisher.values


def test_a_filter_begun_for_one_base_never_serves_another(publisher, two, monkeypatch):
    monkeypatch.setattr(_keeper, "FEW_CHANGES", 5)
    first, second = two
    assert second.follow()
    # A new base, and its filter, while the other one did not look.
    first.take([publisher.commit(range(1, 20))], 1_001.0)
    built(first)
    assert second.follow()
    first.close()
    assert second.lead()
    probe = built(second)
    assert all(value in probe for value in publisher.values)


def test_a_new_leader_knows_the_head_that_the_old_one_took_last(publisher, two):
    first, second = two
    assert second.follow()
    first.take([publisher.commit([5])], 1_001.0)
    first.close()
    assert second.lead()
    assert values(second) == publisher.values
    with pytest.raises(RefusedError) as caught:
        second.take([publisher.heartbeat(revision=10)], 1_002.0)
    assert caught.value.reason == "rollback"


def test_a_new_leader_vouches_for_nothing_that_the_old_one_told(publisher, two, tmp_path):
    first, second = two
    third = publisher.keeper(tmp_path)
    first.close()
    assert second.lead()
    assert not third.follow()
    assert third.view.age(1_000.0) is Age.STALE
    third.close()


def test_one_that_follows_erases_what_it_holds_and_never_the_disk_of_the_leader(publisher, two, tmp_path):
    _, second = two
    assert second.follow()
    publisher.clock.advance(PURGE + 1)
    second.purge()
    assert (second.view, second.erased) == (None, True)
    assert not erased(tmp_path, publisher)
    assert not second.follow()


def test_one_that_follows_refuses_what_was_damaged(publisher, two, tmp_path):
    first, second = two
    assert second.follow()
    before = second.view
    first.take([publisher.commit([5])], 1_001.0)
    current = tmp_path / LINEAGE / "current"
    good = current.read_bytes()
    current.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(RefusedError):
        second.follow()
    assert second.view is before
    current.write_bytes(good)
    assert second.follow()
    assert values(second) == publisher.values


def test_another_lineage_is_another_place(publisher, keeper, tmp_path):
    other = Publisher(publisher.clock, 3, lineage="cd" * 16)
    keeper.open("cd" * 16)
    assert keeper.view is None
    assert keeper.lead()
    keeper.take(other.snapshot(), 1_001.0)
    assert values(keeper) == other.values
    with pytest.raises(RefusedError) as caught:
        keeper.take(publisher.snapshot(), 1_001.0)
    assert caught.value.reason == "lineage"
    keeper.open(LINEAGE)
    assert values(keeper) == publisher.values


def test_the_set_written_last_is_recalled_when_nobody_says_which(publisher, keeper, tmp_path):
    other = Publisher(publisher.clock, 3, lineage="cd" * 16)
    keeper.open("cd" * 16)
    keeper.lead()
    keeper.take(other.snapshot(), 1_001.0)
    keeper.close()
    os.utime(tmp_path / LINEAGE / "current", (1, 1))
    again = publisher.keeper(tmp_path, turned=False)
    again.recall()
    assert again.lineage == "cd" * 16
    assert again.view.age(publisher.clock.monotonic()) is Age.STALE
    again.recall()
    again.close()
    nothing = publisher.keeper(tmp_path / "empty", turned=False)
    nothing.recall()
    assert not nothing.opened
