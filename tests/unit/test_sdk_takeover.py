"""Who takes over a set, from a process that ended or from a time that is gone: found by schedules of the simulator."""

import datetime

import pytest

from lanjie._keeper import SetKeeper
from lanjie.v1 import sync_pb2 as pb
from lanjie_matcher.views import RefusedError
from tests.support.sdk import Counter
from tests.support.subjects import uscc


@pytest.fixture
def counter(tmp_path):
    made = Counter(tmp_path)
    yield made
    made.client.close()


def started_again(counter):
    """A client on what another one left on disk."""
    counter.client.close()
    counter.client = counter.gateway.client(**counter.options)
    return counter.client


def keeper_on(counter):
    """A keeper on the same state directory, not turned to a ledger yet."""
    return SetKeeper(
        counter.options["state_dir"],
        counter.gateway.trust,
        use_bloom=False,
        monotonic=counter.clock.monotonic,
        now=lambda: counter.clock.at,
    )


def keeper_beside(counter):
    """The keeper of another process with the same state directory."""
    keeper = keeper_on(counter)
    keeper.open(counter.gateway.lineage)
    return keeper


def test_no_older_head_is_taken_after_a_start_with_a_clock_that_is_behind(counter):
    old = counter.gateway.update(pb.ClientState())
    counter.clock.advance(400.0)
    counter.gateway.list_subject(uscc(1))
    assert counter.poll()
    counter.clock.at -= datetime.timedelta(seconds=390)
    counter.gateway.reachable = False
    started_again(counter)
    keeper = counter.runtime._keeper
    with pytest.raises(RefusedError, match="future"):
        keeper.open(counter.gateway.lineage)
    assert keeper.view is None
    with pytest.raises(RefusedError, match="rollback"):
        keeper.take([old], counter.clock.monotonic())


def test_a_clock_set_back_makes_no_old_head_news_again(counter):
    assert counter.poll()
    old = counter.gateway.update(counter.runtime._keeper.state("ab" * 16, whole=False))
    counter.clock.advance(3_600.0)
    counter.clock.at -= datetime.timedelta(hours=1)
    with pytest.raises(RefusedError, match="expired"):
        counter.runtime._keeper.take([old], counter.clock.monotonic())


def test_a_clock_that_was_ahead_and_is_right_again_does_no_harm(counter):
    counter.clock.at += datetime.timedelta(minutes=4)
    assert counter.poll()
    counter.clock.at -= datetime.timedelta(minutes=4)
    counter.clock.advance(10.0)
    assert counter.poll()


def left(counter):
    """Names of what is left on disk of a set and its key."""
    directory = counter.options["state_dir"] / counter.gateway.lineage
    key = counter.gateway._view_key
    files = [path for path in directory.iterdir() if path.is_file()]
    return sorted(path.name for path in files if path.name.startswith("base-") or key in path.read_bytes())


def test_a_set_that_was_dropped_is_erased_in_time(counter):
    assert counter.poll()
    keeper = counter.runtime._keeper
    keeper.drop()
    counter.clock.advance(48 * 3_600 - 1)
    keeper.purge()
    assert left(counter)
    counter.clock.advance(2)
    keeper.purge()
    assert not left(counter)


def test_whoever_takes_the_lead_too_late_erases_the_set(counter):
    assert counter.poll()
    follower = keeper_beside(counter)
    assert follower.follow()
    counter.clock.advance(49 * 3_600)
    follower.purge()
    assert follower.view is None
    assert left(counter)
    counter.client.close()
    assert follower.lead()
    follower.purge()
    assert not left(counter)
    follower.close()


def test_what_a_killed_writer_left_goes_with_the_next_lead(counter):
    assert counter.poll()
    counter.clock.advance(49 * 3_600)
    counter.runtime._keeper.purge()
    directory = counter.options["state_dir"] / counter.gateway.lineage
    for name in ("current.77.new", "base-00ff", "base-00ff.77.new"):
        directory.joinpath(name).write_bytes(counter.gateway._view_key)
    counter.client.close()
    later = keeper_beside(counter)
    assert later.lead()
    assert not left(counter)
    later.close()


def test_a_damaged_set_is_erased_in_time(counter):
    assert counter.poll()
    current = counter.options["state_dir"] / counter.gateway.lineage / "current"
    current.write_bytes(current.read_bytes()[:-1])
    counter.client.close()
    later = keeper_on(counter)
    with pytest.raises(RefusedError, match="encoding"):
        later.open(counter.gateway.lineage)
    assert later.lead()
    assert later.view is None
    counter.clock.advance(49 * 3_600)
    later.purge()
    assert not left(counter)
    later.close()


def test_an_erased_set_still_tells_which_heads_were_seen(counter):
    old = counter.gateway.update(pb.ClientState())
    counter.clock.advance(300.0)
    counter.gateway.list_subject(uscc(1))
    assert counter.poll()
    counter.runtime._keeper.drop()
    counter.runtime._keeper._store.erase()
    counter.client.close()
    later = keeper_beside(counter)
    assert later.lead()
    with pytest.raises(RefusedError, match="rollback"):
        later.take([old], counter.clock.monotonic())
    later.close()


def test_a_set_on_disk_of_a_ledger_before_its_restore_is_dropped(counter):
    assert counter.poll()
    counter.gateway.epoch += 1
    counter.gateway.feed_reachable = False
    started_again(counter)
    counter.poll()
    assert counter.runtime._keeper.view is None


def test_the_set_of_a_ledger_that_was_left_is_erased(counter):
    assert counter.poll()
    before = counter.options["state_dir"] / counter.gateway.lineage
    assert list(before.glob("base-*"))
    counter.gateway.lineage = "ef" * 16
    counter.clock.advance(601.0)
    assert counter.poll()
    assert counter.client.sync_status().lineage == "ef" * 16
    assert not list(before.glob("base-*"))
    assert counter.gateway._view_key not in (before / "current").read_bytes()


def test_whoever_takes_the_lead_begins_with_what_the_leader_wrote_last(counter):
    gateway, clock = counter.gateway, counter.clock
    assert counter.poll()
    follower = keeper_beside(counter)
    assert not follower.lead()
    assert follower.follow()
    seen = gateway.update(follower.state("ab" * 16, whole=False))
    gateway.list_subject(uscc(1))
    counter.client.close()
    assert follower.lead()
    assert follower.view.state.manifest.revision == gateway.revision
    with pytest.raises(RefusedError, match="rollback"):
        follower.take([seen], clock.monotonic())
    follower.close()
