"""The driver of sync: what it takes, what it refuses, how it comes back."""

import dataclasses

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lanjie import Source, SyncState
from lanjie.v1 import sync_pb2 as pb
from tests.support.sdk import ASK, Counter
from tests.support.subjects import uscc


@pytest.fixture
def counter(tmp_path):
    made = Counter(tmp_path)
    yield made
    made.client.close()


def driver(counter):
    return counter.runtime._driver


def test_the_status_tells_the_set(counter):
    counter.gateway.list_subject(uscc(1))
    counter.poll()
    status = counter.client.sync_status()
    assert (status.state, status.revision, status.epoch, status.count) == (SyncState.FRESH, 2, 1, 2)
    assert (status.lineage, status.filter) == (counter.gateway.lineage, "sorted")
    assert status.last_contact == status.last_applied == status.issued == counter.clock.at
    counter.clock.advance(10)
    counter.poll()
    later = counter.client.sync_status()
    assert (later.last_contact - status.last_contact).total_seconds() == 10
    assert later.last_applied == status.last_applied


def test_the_sorted_set_serves_until_the_bloom_filter_is_built(counter):
    for number in range(1, 450):
        counter.gateway._scripts[f"org:{number:09d}", ""] = None
    counter.gateway.list_subject(uscc(7))
    counter.poll()
    assert counter.client.check(uscc(1), **ASK).source is Source.LOCAL
    counter.runtime.build_filter()
    assert counter.client.sync_status().filter == "bloom"
    assert counter.client.check(uscc(7), **ASK).source is Source.GATEWAY
    assert counter.client.check(uscc(1), **ASK).source is Source.LOCAL
    counter.poll()
    assert counter.client.sync_status().filter == "bloom"
    counter.gateway.list_subject(uscc(8))
    counter.poll()
    assert counter.client.sync_status().filter == "sorted"
    assert counter.client.check(uscc(8), **ASK).source is Source.GATEWAY


def test_a_set_signed_by_a_stranger_is_refused(counter):
    counter.client.sync_status()
    counter.gateway._signing = Ed25519PrivateKey.generate()
    assert not counter.poll()
    status = counter.client.sync_status()
    assert status.state is SyncState.STARTING
    assert "signature" in status.last_error
    assert counter.client.check(uscc(1), **ASK).source is Source.GATEWAY


def altered(change):
    """A pull whose messages were changed on the way."""

    def alter(counter):
        pull = counter.gateway.pull

        def changed(request):
            yield from change(list(pull(request)))

        counter.gateway.pull = changed

    return alter


def without_a_shard(messages):
    return messages[:100] + messages[101:]


def cut_off(messages):
    return messages[:200]


def nothing(messages):
    return []


def another_key(messages):
    messages[0].scope.key = bytes(32)
    return messages


def another_set(messages):
    for message in messages:
        if message.count:
            message.count = 0
            message.planes = pb.PullResponse().planes
    return messages


def garbage(messages):
    messages[5].planes = b"\x00\x00\x00\x09nonsense."
    return messages


def bad_date(messages):
    messages[0].scope.matters[0].in_force[0].start_date = "soon"
    return messages


def unknown_kind(messages):
    messages[0].kind = 7
    return messages


@pytest.mark.parametrize(
    "change", [without_a_shard, cut_off, nothing, another_key, another_set, garbage, bad_date, unknown_kind]
)
def test_a_set_that_is_not_whole_is_refused_and_the_state_stays(counter, change):
    counter.poll()
    held = counter.runtime.local.view.state
    counter.gateway.list_subject(uscc(1))
    counter.gateway.remove_subject(uscc(1))
    counter.gateway._scripts["org:000000000", ""] = None
    counter.gateway.revision += 1
    good = counter.gateway.pull
    altered(change)(counter)
    before = counter.runtime.local.view.state
    assert not counter.poll()
    assert counter.runtime.local.view.state is before
    assert counter.client.sync_status().last_error
    counter.gateway.pull = good
    assert counter.poll()
    assert counter.runtime.local.view.state is not held


def test_a_rollback_is_refused_even_after_the_gateway_forgot(counter):
    counter.gateway.revision = 8
    counter.poll()
    counter.gateway.revision = 7
    assert not counter.poll()
    assert "rollback" in counter.client.sync_status().last_error
    lineage, counter.gateway.lineage = counter.gateway.lineage, "ef" * 16
    assert counter.poll()
    counter.gateway.lineage = lineage
    assert [counter.poll(), counter.poll()] == [False, False]
    assert counter.runtime.local is None
    assert "rollback" in counter.client.sync_status().last_error


def test_an_expired_head_gives_no_local_pass(counter):
    counter.poll()
    counter.clock.advance(86_400)
    signed = counter.gateway._head

    def old(root, count):
        counter.clock.at -= (day := counter.clock.at - counter.clock.at.replace(year=2025))
        made = signed(root, count)
        counter.clock.at += day
        return made

    counter.gateway._head = old
    assert not counter.poll()
    assert "expired" in counter.client.sync_status().last_error
    assert counter.client.check(uscc(1), **ASK).source is Source.GATEWAY


def test_another_ledger_drops_the_set_and_gets_a_spool_of_its_own(counter, tmp_path):
    counter.poll()
    counter.client.check(uscc(1), **ASK)
    counter.gateway.lineage, counter.gateway.revision = "cd" * 16, 1
    counter.gateway.feed_reachable = False
    driver(counter).look_up_again()
    counter.poll()
    assert counter.runtime.local is None
    assert counter.client.check(uscc(1), **ASK).source is Source.GATEWAY
    counter.gateway.feed_reachable = True
    counter.poll()
    assert counter.client.check(uscc(1), **ASK).lineage == "cd" * 16
    assert len(list(tmp_path.rglob("*.segment"))) == 2


def test_a_restored_ledger_is_noticed_by_an_answer_that_asks_for_too_much(counter):
    counter.gateway.list_subject(uscc(1))
    counter.gateway.revision = 50
    counter.poll()
    counter.gateway.epoch, counter.gateway.revision = 2, 10
    assert counter.client.check(uscc(1), **ASK).source is Source.NONE
    assert counter.poll()
    assert counter.client.sync_status().epoch == 2
    assert counter.client.check(uscc(1), **ASK).source is Source.GATEWAY


def test_waits_grow_with_failures_and_are_bounded(counter):
    sync = driver(counter)
    assert sync.delay(2.0, 1.0) == pytest.approx(2.0)
    assert sync.delay(2.0, 0.0) == pytest.approx(1.6)
    sync.min_wait = 5.0
    assert sync.delay(2.0, 1.0) == pytest.approx(5.0)
    waits = []
    for failures in (1, 2, 3, 9, 1000):
        sync.failures = failures
        waits.append(sync.delay(2.0, 1.0))
    assert waits == pytest.approx([5.0, 10.0, 20.0, 30.0, 30.0])


def test_a_broken_answer_does_not_end_the_driver(counter):
    def broken(request):
        raise RuntimeError(uscc(1))

    counter.gateway.pull = broken
    assert not counter.poll()
    assert counter.client.sync_status().last_error == "RuntimeError"


def test_a_view_without_companies_is_asked(counter):
    counter.poll()
    sync = driver(counter)
    sync.view = dataclasses.replace(sync.view, covers_companies=False)
    counter.runtime.build_filter()
    assert counter.client.check(uscc(1), **ASK).source is Source.GATEWAY


@pytest.mark.parametrize("many", [False, True])
def test_a_restored_ledger_is_noticed_by_an_answer_of_a_later_epoch(counter, many):
    counter.gateway.list_subject(uscc(1))
    counter.poll()
    assert counter.client.check(uscc(2), **ASK).source is Source.LOCAL
    # Restored, and since then so many commits that no revision asked for is too high.
    counter.gateway.epoch, counter.gateway.revision = 2, counter.gateway.revision + 10
    hit = counter.client.check_many([uscc(1)], **ASK)[0] if many else counter.client.check(uscc(1), **ASK)
    assert hit.epoch == 2
    assert counter.client.check(uscc(2), **ASK).source is Source.GATEWAY
    assert counter.poll()
    passed = counter.client.check(uscc(2), **ASK)
    assert (passed.source, passed.epoch) == (Source.LOCAL, 2)
