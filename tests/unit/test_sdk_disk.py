"""The set on disk: whole or refused, whatever happened to it, and never a reason to pass a listed subject."""

import datetime
import os
import shutil
import stat
from array import array
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lanjie import Outcome, Source, SyncState
from lanjie._store import Base, Beat, ViewStore
from lanjie.errors import error_of
from lanjie.v1 import sync_pb2 as pb
from lanjie_matcher.filters import BloomFilter
from lanjie_matcher.shards import RefusedError, split
from tests.support.feed import LINEAGE, Publisher, clock, wire
from tests.support.sdk import ASK, Counter
from tests.support.subjects import uscc

NOTHING = array("Q")
LISTED = [uscc(number) for number in range(1, 40)]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The disk is not waited for."""
    monkeypatch.setattr("os.fsync", lambda _: None)


@pytest.fixture
def counter(tmp_path):
    made = Counter(tmp_path, stale_pass=[ASK["matter"]])
    yield made
    made.client.close()


def again(counter):
    """The same counter after a restart."""
    counter.client.close()
    counter.client = counter.gateway.client(**counter.options)


def filled(counter):
    """A set on disk with a base, changes to it, and a filter: subject 1 in the base, subject 39 after it."""
    gateway = counter.gateway
    for identifier in LISTED[:-1]:
        gateway.list_subject(identifier)
    counter.poll()
    counter.runtime.build_filter()
    gateway.list_subject(LISTED[-1])
    counter.poll()
    counter.runtime.build_filter()


class Worn(Counter):
    """A counter with what lay on its disk."""

    disk: dict[Path, bytes]


def file_of(counter, kind):
    (found,) = (counter.options["state_dir"] / counter.gateway.lineage).glob(f"{kind}*")
    return found


@pytest.fixture(scope="module")
def worn(tmp_path_factory):
    """A counter that is started again and again on a disk that is put back each time."""
    made = Worn(tmp_path_factory.mktemp("worn"), stale_pass=[ASK["matter"]])
    filled(made)
    folder = made.options["state_dir"] / made.gateway.lineage
    made.client.close()
    made.disk = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    yield made
    made.client.close()


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["current", "base", "bloom"]), st.integers(0, 2**40), st.integers(0, 7))
@example("current", 0, 0)
@example("base", 8, 0)
@example("base", 12, 3)
@example("base", 1_081, 0)
@example("bloom", 13, 7)
@example("bloom", 8, 0)
def test_one_flipped_bit_on_disk_passes_nobody_and_is_cured(worn, kind, place, bit):
    counter, disk = worn, worn.disk
    for path, content in disk.items():
        path.write_bytes(content)
    damaged = file_of(counter, kind)
    content = bytearray(disk[damaged])
    content[place % len(content)] ^= 1 << bit
    damaged.write_bytes(content)

    counter.gateway.reachable = False
    again(counter)
    assert not counter.poll()
    status = counter.client.sync_status()
    if kind != "bloom":
        assert status.state is SyncState.STARTING
        assert status.last_error.startswith(("encoding", "root", "truncated", "bits", "oversize"))
        assert counter.client.check(uscc(77), **ASK).source is Source.NONE
    for identifier in LISTED:
        assert counter.client.check(identifier, **ASK).outcome is Outcome.UNDETERMINED

    counter.gateway.reachable = True
    counter.clock.advance(60)
    for _ in range(4):
        counter.poll()
    assert counter.client.sync_status().state is SyncState.FRESH
    counter.runtime.build_filter()
    assert counter.client.check(uscc(77), **ASK).source is Source.LOCAL
    assert {counter.client.check(each, **ASK).source for each in LISTED} == {Source.GATEWAY}

    # Written again: the next start finds it whole.
    counter.gateway.reachable = False
    again(counter)
    counter.poll()
    assert counter.client.sync_status().state is SyncState.STALE
    assert counter.client.check(uscc(77), **ASK).warnings == ("set-stale",)
    assert counter.client.check(LISTED[0], **ASK).outcome is Outcome.UNDETERMINED
    counter.gateway.reachable = True


@pytest.mark.parametrize("kind", ["current", "base", "bloom"])
@pytest.mark.parametrize("size", [0, 7, 40, 100, -1])
def test_a_file_cut_short_passes_nobody(counter, kind, size):
    filled(counter)
    counter.client.close()
    damaged = file_of(counter, kind)
    damaged.write_bytes(damaged.read_bytes()[:size])
    counter.gateway.reachable = False
    again(counter)
    counter.poll()
    assert {counter.client.check(each, **ASK).outcome for each in LISTED} == {Outcome.UNDETERMINED}
    assert (counter.client.check(uscc(77), **ASK).source is Source.LOCAL) is (kind == "bloom")


def test_without_the_gateway_a_start_goes_by_the_newest_set_as_a_stale_one(counter):
    filled(counter)
    counter.gateway.reachable = False
    again(counter)
    counter.poll()
    assert counter.client.sync_status().state is SyncState.STALE
    passed = counter.client.check(uscc(77), **ASK)
    assert (passed.outcome, passed.source, passed.warnings) == (Outcome.PASS, Source.LOCAL, ("set-stale",))
    assert counter.client.check(LISTED[0], **ASK).outcome is Outcome.UNDETERMINED
    assert counter.client.check(LISTED[-1], **ASK).outcome is Outcome.UNDETERMINED


@pytest.mark.parametrize(
    ("hours", "state", "source"),
    [(23, SyncState.STALE, Source.LOCAL), (25, SyncState.EXPIRED, Source.NONE), (49, SyncState.EXPIRED, Source.NONE)],
)
def test_a_set_is_as_old_on_the_next_day_as_it_is(counter, hours, state, source):
    filled(counter)
    counter.gateway.reachable = False
    counter.client.close()
    # The machine was off: its own clock begins again.
    counter.clock.at += datetime.timedelta(hours=hours)
    counter.clock.seconds = 5.0
    counter.client = counter.gateway.client(**counter.options)
    counter.poll()
    assert counter.client.sync_status().state is state
    assert counter.client.check(uscc(77), **ASK).source is source


def test_a_set_older_than_two_days_is_not_on_disk_any_more(counter):
    filled(counter)
    counter.gateway.reachable = False
    counter.client.close()
    counter.clock.advance(48 * 3_600 + 60)
    counter.client = counter.gateway.client(**counter.options)
    for _ in range(3):
        counter.poll()
        counter.clock.advance(0.1)
    folder = counter.options["state_dir"] / counter.gateway.lineage
    assert not [*folder.glob("base-*"), *folder.glob("bloom-*")]
    assert counter.gateway._view_key not in b"".join(path.read_bytes() for path in folder.iterdir() if path.is_file())


def test_a_clock_set_back_a_day_leaves_the_set_unused(counter):
    filled(counter)
    counter.client.close()
    counter.clock.at -= datetime.timedelta(days=1)
    counter.gateway.reachable = False
    counter.client = counter.gateway.client(**counter.options)
    counter.poll()
    status = counter.client.sync_status()
    assert status.state is SyncState.STARTING
    assert "future" in status.last_error
    assert counter.client.check(uscc(77), **ASK).source is Source.NONE


def test_a_set_signed_by_a_key_that_is_trusted_no_more_is_unused(counter):
    filled(counter)
    counter.client.close()
    counter.gateway.reachable = False
    counter.client = counter.gateway.client(**{**counter.options, "trust": {"sign-fake": bytes(32)}})
    counter.poll()
    assert "signature" in counter.client.sync_status().last_error
    assert counter.client.check(uscc(77), **ASK).source is Source.NONE


def test_a_set_of_another_normalisation_is_unused_and_fetched_anew(counter, monkeypatch):
    filled(counter)
    counter.client.close()
    monkeypatch.setattr("lanjie_matcher.views.NORMALISATION", 99)
    monkeypatch.setattr("lanjie.testing.NORMALISATION", 99)
    counter.client = counter.gateway.client(**counter.options)
    counter.gateway.reachable = False
    counter.poll()
    assert "normalisation" in counter.client.sync_status().last_error
    assert counter.client.check(uscc(77), **ASK).source is Source.NONE
    counter.gateway.reachable = True
    counter.clock.advance(60)
    for _ in range(3):
        counter.poll()
    assert counter.client.check(uscc(77), **ASK).source is Source.LOCAL


def test_a_key_that_is_not_the_key_of_the_set_is_refused(tmp_path):
    publisher = Publisher(clock())
    keeper = publisher.keeper(tmp_path)
    keeper.take(publisher.snapshot(), 1_000.0)
    base = Base(publisher.root, publisher.bits, publisher.shards)
    publisher.scope_fields["key"] = bytes(32)
    scope = wire(publisher.scope())
    keeper.close()
    store = ViewStore(tmp_path, LINEAGE)
    store.keep(pb.Update(head=publisher.head(), scope=scope), base, NOTHING, NOTHING)
    store.close()
    other = publisher.keeper(tmp_path, turned=False)
    with pytest.raises(RefusedError) as caught:
        other.open(LINEAGE)
    assert caught.value.reason == "key"
    assert other.view is None
    other.close()


def test_a_disk_that_cannot_be_read_means_asking(counter, monkeypatch):
    filled(counter)
    counter.client.close()

    def fails(*_):
        raise PermissionError

    monkeypatch.setattr(ViewStore, "load", fails)
    counter.client = counter.gateway.client(**counter.options)
    counter.poll()
    assert counter.client.check(uscc(77), **ASK).source is Source.GATEWAY


def test_a_disk_that_is_full_leaves_the_old_set_inside_its_bounds(counter, monkeypatch):
    filled(counter)
    counter.gateway.list_subject(uscc(77))

    def fails(*_):
        raise OSError(28, "full")

    monkeypatch.setattr("lanjie._store.write_whole", fails)
    counter.gateway.remove_subject(uscc(77))
    assert "store" in counter.client.sync_status().last_error
    assert counter.client.check(uscc(78), **ASK).warnings == ()
    counter.clock.advance(60)
    counter.poll()
    assert counter.client.check(uscc(78), **ASK).warnings == ("set-soft",)
    monkeypatch.undo()
    counter.clock.advance(60)
    counter.poll()
    counter.poll()
    assert counter.client.check(uscc(77), **ASK).source is Source.LOCAL


def test_a_directory_that_was_deleted_under_a_client_is_made_again(counter):
    filled(counter)
    shutil.rmtree(counter.options["state_dir"] / counter.gateway.lineage)
    counter.gateway.list_subject(uscc(77))
    assert counter.poll()
    assert counter.client.check(uscc(77), **ASK).outcome is Outcome.INTERCEPT
    again(counter)
    counter.gateway.reachable = False
    counter.poll()
    assert counter.client.sync_status().count == len(LISTED) + 2, "what was written is whole"


def test_a_directory_is_that_of_when_the_client_was_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    counter = Counter(Path("state"))
    (tmp_path / "elsewhere").mkdir()
    assert counter.poll()
    monkeypatch.chdir(tmp_path / "elsewhere")
    counter.gateway.list_subject(uscc(1))
    assert counter.poll()
    assert counter.client.check(uscc(2), **ASK).source is Source.LOCAL
    counter.client.close()
    assert len(counter.gateway.local_passes) == 1
    assert not list((tmp_path / "elsewhere").iterdir())


# Two clients on one directory


@pytest.fixture
def pair(counter):
    filled(counter)
    other = counter.gateway.client(**counter.options)
    runtime = other._handle.running()
    runtime.poll_now()
    yield counter, other, runtime
    other.close()


def test_one_leads_and_both_answer(pair):
    counter, other, _ = pair
    assert counter.client.sync_status().leads
    assert not other.sync_status().leads
    for client in (counter.client, other):
        assert client.check(uscc(77), **ASK).source is Source.LOCAL
        assert client.check(LISTED[0], **ASK).source is Source.GATEWAY
    # The double has all of its clients look after each change.
    counter.gateway.list_subject(uscc(77))
    assert other.check(uscc(77), **ASK).outcome is Outcome.INTERCEPT
    counter.gateway.remove_subject(uscc(77))
    assert other.check(uscc(77), **ASK).source is Source.LOCAL
    assert other.check(uscc(77), **ASK).warnings == ()


def test_the_other_takes_over_and_stays_right(pair):
    counter, other, runtime = pair
    counter.client.close()
    counter.gateway.list_subject(uscc(77))
    runtime.poll_now()
    assert other.sync_status().leads
    assert other.check(uscc(77), **ASK).outcome is Outcome.INTERCEPT
    assert other.check(uscc(78), **ASK).source is Source.LOCAL


def test_the_one_that_follows_grows_old_with_its_leader(pair):
    counter, other, runtime = pair
    counter.gateway.reachable = False
    counter.clock.advance(50)
    runtime.poll_now()
    assert other.sync_status().state is SyncState.SOFT
    assert other.check(uscc(78), **ASK).warnings == ("set-soft",)
    counter.clock.advance(900)
    counter.poll()
    runtime.poll_now()
    assert other.sync_status().state is SyncState.STALE


def test_a_grant_that_was_withdrawn_ends_the_local_answers_of_all_at_once(pair, monkeypatch):
    counter, other, runtime = pair
    assert other.check(uscc(77), **ASK).source is Source.LOCAL

    def refused(state):
        raise error_of("PERMISSION_DENIED", "NOT_PERMITTED", "not granted", {"required": "grant"})

    monkeypatch.setattr(counter.gateway, "update", refused)
    counter.clock.advance(1)
    for _ in range(3):
        counter.poll()
        runtime.poll_now()
        counter.clock.advance(1)
    assert counter.client.check(uscc(78), **ASK).source is Source.GATEWAY
    assert other.check(uscc(78), **ASK).source is Source.GATEWAY
    assert runtime._keeper.view is None
    monkeypatch.undo()
    counter.clock.advance(10)
    counter.poll()
    runtime.poll_now()
    assert other.check(uscc(78), **ASK).source is Source.LOCAL


# The store alone


VALUES = [1, 5, 1 << 33, (1 << 40) - 1]


@pytest.fixture
def store(tmp_path):
    made = ViewStore(tmp_path, LINEAGE)
    made.lead()
    yield made
    made.close()


def base_of(values=VALUES, root=bytes(range(32))):
    return Base(root, 40, split(values, 40))


def update():
    head = pb.SignedManifest(manifest=pb.Manifest(bits=40).SerializeToString())
    return pb.Update(head=head, scope=wire(pb.ViewScope(key=b"k" * 32)))


def test_what_was_kept_is_read_again(store):
    assert store.load() is None
    base = base_of()
    tag = store.keep(update(), base, [3, 7], [5])
    stored = store.load()
    assert (stored.tag, list(stored.adds), list(stored.removals)) == (tag, [3, 7], [5])
    assert stored.update.base_root == base.root
    assert stored.update.scope == wire(pb.ViewScope(key=b"k" * 32))
    read = store.base(base.root)
    assert (read.root, read.bits, read.shards) == (base.root, 40, base.shards)


def test_files_are_for_their_owner_only(store, tmp_path):
    base = base_of()
    store.keep(update(), base, [], [])
    store.keep_bloom(base, BloomFilter(10))
    store.tell(Beat(1, 2.0))
    names = {path.name.partition("-")[0] for path in (tmp_path / LINEAGE).iterdir()}
    assert names == {"leader.lock", "beat", "current", "base", "bloom"}
    for path in tmp_path.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_a_base_is_written_once_and_older_ones_go(store, tmp_path):
    first, second = base_of(), base_of([2], bytes(32))
    store.keep(update(), first, [], [])
    (path,) = (tmp_path / LINEAGE).glob("base-*")
    written = path.stat().st_ino
    store.keep_bloom(first, BloomFilter(10))
    store.keep(update(), first, [9], [])
    assert path.stat().st_ino == written
    assert list((tmp_path / LINEAGE).glob("bloom-*"))
    store.keep(update(), second, [], [])
    assert len(list((tmp_path / LINEAGE).glob("base-*"))) == 1
    assert not list((tmp_path / LINEAGE).glob("bloom-*"))
    with pytest.raises(RefusedError):
        store.base(first.root)


def test_a_beat_is_read_by_others_and_a_torn_one_is_none(store, tmp_path):
    other = ViewStore(tmp_path, LINEAGE)
    assert other.told() is None
    store.tell(Beat(7, 12.5))
    assert other.told() == Beat(7, 12.5)
    page = tmp_path / LINEAGE / "beat"
    assert page.stat().st_blocks > 0
    for place in range(20):
        content = bytearray(page.read_bytes())
        content[place] ^= 4
        with page.open("r+b") as file:
            file.write(content)
        assert other.told() is None
        content[place] ^= 4
        with page.open("r+b") as file:
            file.write(content)
    assert other.told() == Beat(7, 12.5)
    assert not other.lead()
    store.close()
    assert other.lead()
    assert other.told() is None
    other.close()


def test_one_leads_at_a_time_and_a_lock_without_its_file_is_none(store, tmp_path):
    other = ViewStore(tmp_path, LINEAGE)
    assert store.lead()
    assert not other.lead()
    assert (store.leads, other.leads) == (True, False)
    store.close()
    assert other.lead()
    other.close()


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(store, tmp_path, monkeypatch):
    store.keep(update(), base_of(), [], [])
    before = {path.name for path in (tmp_path / LINEAGE).iterdir()}
    tag = store.load().tag

    def fails(_):
        raise OSError(28, "full")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError, match="full"):
        store.keep(update(), base_of(), [9], [])
    assert {path.name for path in (tmp_path / LINEAGE).iterdir()} == before
    assert store.load().tag == tag
    assert list(store.load().adds) == []


def test_the_newest_set_is_that_written_last(tmp_path):
    assert ViewStore.newest(tmp_path) == ""
    for number, lineage in enumerate(("ab" * 16, "cd" * 16, "ef" * 16)):
        made = ViewStore(tmp_path, lineage)
        made.keep(update(), None, NOTHING, NOTHING)
        os.utime(tmp_path / lineage / "current", (100 - number % 2, 100 - number % 2))
        made.close()
    os.utime(tmp_path / ("cd" * 16) / "current", (200, 200))
    assert ViewStore.newest(tmp_path) == "cd" * 16


def test_what_is_no_ledgers_directory_is_passed_over(store, tmp_path):
    store.keep(update(), base_of(), [], [])
    store.close()
    other = tmp_path / "backup"
    other.mkdir()
    for name in ("current", "base-00"):
        (other / name).write_text("of somebody else")
    for path in tmp_path.rglob("*"):
        os.utime(path, (100, 100))
    os.utime(other / "current", (200, 200))
    assert ViewStore.newest(tmp_path) == store.lineage
    ViewStore.erase_older(tmp_path, "ef" * 16, 300.0)
    assert not list((tmp_path / store.lineage).glob("base-*"))
    assert (other / "base-00").exists()


def test_erasing_what_never_was_does_nothing(store):
    assert store.erase() == 0
    assert store.load() is None
