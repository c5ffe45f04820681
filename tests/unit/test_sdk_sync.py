"""The driver of sync: what it says to the gateway, how it comes back, and what it never takes for fresh."""

from typing import Any

import pytest

from lanjie import _sync
from lanjie._sync import GREETING_SECONDS, MAX_BACK_OFF, SyncDriver
from lanjie.errors import Unavailable
from lanjie.v1 import sync_pb2 as pb
from lanjie_matcher.ages import Age
from tests.support.feed import LINEAGE, Line, Publisher, clock


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The disk is not waited for."""
    monkeypatch.setattr("os.fsync", lambda _: None)


class Desk:
    """A driver on a line, with a clock that moves only when told."""

    def __init__(self, tmp_path, publisher=None, jitter=0.0):
        self.clock = publisher.clock if publisher else clock()
        self.publisher = publisher or Publisher(self.clock, 30)
        self.line = Line(self.publisher)
        self.keeper = self.publisher.keeper(tmp_path, turned=False)
        self.jitter = jitter
        self.driver = SyncDriver(
            self.line,
            self.keeper,
            "id",
            local=True,
            monotonic=self.clock.monotonic,
            jitter=lambda: self.jitter,
            timeout=2.0,
        )

    @property
    def stream(self):
        return self.line.watches[-1]

    @property
    def said(self):
        return self.stream.said[-1]

    @property
    def view(self) -> Any:
        return self.keeper.view

    def age(self):
        return self.view.age(self.clock.monotonic())

    def hear(self, *updates):
        """Let a stream bring updates, one step each."""
        self.stream.inbox.extend(updates)
        return [self.driver.step(0.0) for _ in updates]

    def close(self):
        self.driver.close()
        self.keeper.close()


@pytest.fixture
def desk(tmp_path):
    made = Desk(tmp_path)
    made.driver.step(0.0)
    yield made
    made.close()


@pytest.fixture
def held(desk):
    desk.hear(*desk.publisher.snapshot(4))
    assert desk.keeper.view is not None
    return desk


def refusal(request):
    return pb.RefusalReason.Name(request.refusal).removeprefix("REFUSAL_REASON_").lower()


# The stream


def test_the_greeting_says_what_is_held_and_a_snapshot_is_acknowledged_once(desk):
    assert desk.said.state == pb.ClientState(view="companies", lineage=LINEAGE, sdk_id="id")
    desk.hear(*desk.publisher.snapshot(4))
    assert len(desk.stream.said) == 2
    assert (desk.said.state.root, desk.said.state.revision) == (desk.publisher.root, 10)
    assert refusal(desk.said) == "unspecified"
    assert desk.driver.taken == 1


def test_every_update_is_acknowledged_with_the_state_it_led_to(held):
    held.hear(held.publisher.commit([5]))
    assert (held.said.state.root, held.said.state.revision) == (held.publisher.root, 11)
    held.hear(held.publisher.heartbeat())
    assert held.said.state.revision == 11
    assert len(held.stream.said) == 4


def test_an_update_is_on_disk_before_it_is_acknowledged(held, monkeypatch):
    seen = []
    keep = type(held.keeper._store).keep
    send = held.stream.send

    def kept(*args):
        seen.append("disk")
        return keep(*args)

    def sent(request):
        seen.append(held.view.state.manifest.revision)
        send(request)

    monkeypatch.setattr(type(held.keeper._store), "keep", kept)
    held.stream.send = sent
    held.hear(held.publisher.commit([5]))
    assert seen == ["disk", 11]


def test_a_contact_counts_from_the_acknowledgement_before_it(held):
    asked = held.clock.monotonic()
    held.clock.advance(15)
    held.hear(held.publisher.heartbeat())
    assert held.keeper.view.contact == asked
    held.clock.advance(15)
    held.hear(held.publisher.heartbeat())
    assert held.keeper.view.contact == asked + 15


def test_the_time_a_snapshot_takes_to_arrive_is_part_of_its_age(desk):
    first, *rest = desk.publisher.snapshot(3)
    desk.hear(first)
    desk.clock.advance(50)
    desk.hear(*rest)
    assert desk.age() is Age.SOFT


def test_two_heartbeats_may_be_lost_and_a_third_is_the_end_of_the_stream(held):
    held.clock.advance(45)
    held.driver.step(0.0)
    assert not held.stream.closed
    held.clock.advance(1)
    held.driver.step(0.0)
    assert held.stream.closed
    assert "silent" in held.driver.last_error


def test_a_server_that_asks_to_wait_is_asked_again_after_that_time(desk):
    desk.jitter = 0.5
    wait = pb.Update(kind=pb.UPDATE_KIND_WAIT)
    wait.min_wait.FromSeconds(10)
    desk.hear(wait)
    desk.clock.advance(14)
    desk.driver.step(0.0)
    assert len(desk.stream.said) == 1
    desk.clock.advance(1)
    desk.driver.step(0.0)
    assert len(desk.stream.said) == 2
    asked = desk.clock.monotonic()
    desk.hear(*desk.publisher.snapshot())
    assert desk.keeper.view.contact == asked


def test_a_wait_that_the_server_asked_for_is_no_silence(desk):
    wait = pb.Update(kind=pb.UPDATE_KIND_WAIT)
    wait.min_wait.FromSeconds(100)
    desk.hear(wait)
    desk.clock.advance(99)
    desk.driver.step(0.0)
    assert not desk.stream.closed
    desk.clock.advance(1)
    desk.driver.step(0.0)
    assert len(desk.stream.said) == 2
    desk.clock.advance(46)
    desk.driver.step(0.0)
    assert desk.stream.closed


# Refusals


def damaged(update):
    update.adds.planes = update.adds.planes[:-1]
    return update


def without_scope(publisher):
    publisher.catalogue_revision = 6
    return publisher.heartbeat()


CURED = {
    "gap": lambda publisher: [publisher.commit([5]), publisher.commit([6])][1],
    "truncated": lambda publisher: damaged(publisher.commit([5])),
    "root": lambda publisher: publisher.heartbeat(root=bytes(32)),
    "count": lambda publisher: publisher.commit([5], count=7),
    "canary": lambda publisher: publisher.commit([5], canaries_hit=["org:nobody"]),
    "rollback": lambda publisher: publisher.heartbeat(revision=9),
    "scope": without_scope,
    "encoding": lambda publisher: pb.Update(head=publisher.head()),
}


@pytest.mark.parametrize("reason", sorted(CURED))
def test_a_refused_update_is_answered_with_its_reason_and_cured_by_a_snapshot(held, reason, caplog):
    before = held.keeper.view
    held.hear(CURED[reason](held.publisher))
    assert held.keeper.view is before
    assert refusal(held.said) == reason
    assert held.said.state.root == b""
    assert held.said.state.revision == 10
    assert reason in held.driver.last_error
    assert reason in caplog.text
    held.hear(*held.publisher.snapshot(2))
    assert not held.stream.closed
    assert held.said.state.root == held.publisher.root
    assert refusal(held.said) == "unspecified"
    assert held.driver.last_error == ""


FINAL = {
    "signature": lambda publisher: [pb.Update(kind=pb.UPDATE_KIND_HEARTBEAT)],
    "expired": lambda publisher: [publisher.heartbeat(expires_time={})],
    "future": lambda publisher: [publisher.heartbeat(issued_time={"seconds": 2_000_000_000})],
    "lineage": lambda publisher: [publisher.heartbeat(lineage="cd" * 16)],
    "algorithm": lambda publisher: [publisher.heartbeat(prf=pb.PRF_ALGORITHM_HMAC_SM3_64)],
    "normalisation": lambda publisher: publisher.snapshot(normalisation=99),
    "root": lambda publisher: publisher.snapshot(root=bytes(32)),
    "truncated": lambda publisher: [*publisher.snapshot(3)[:2], publisher.heartbeat()],
}


@pytest.mark.parametrize("reason", sorted(FINAL))
def test_what_a_snapshot_cannot_cure_ends_the_stream_and_waits(held, reason):
    before = held.keeper.view
    parts = FINAL[reason](held.publisher)
    waits = held.hear(*parts)
    assert refusal(held.said) == reason
    assert held.stream.closed
    assert held.keeper.view is before
    assert waits[-1] == pytest.approx(0.25)
    assert reason in held.driver.last_error
    assert held.driver.failures == 1


def test_a_set_that_the_disk_does_not_take_ends_the_stream(held, monkeypatch):
    def fails(*_):
        raise OSError(28, "full")

    monkeypatch.setattr("lanjie._store.write_whole", fails)
    held.hear(held.publisher.commit([5]))
    assert refusal(held.said) == "store"
    assert held.stream.closed
    monkeypatch.undo()
    held.clock.advance(1)
    held.driver.step(0.0)
    assert held.said.state.root != b""


def test_every_reason_of_the_contract_has_its_number():
    told = {name.removeprefix("REFUSAL_REASON_").lower() for name in pb.RefusalReason.keys()}  # noqa: SIM118
    assert set(_sync._REFUSALS) == told
    assert told > _sync._CURABLE
    for reason in ("signature", "expired", "future", "lineage", "algorithm", "normalisation", "store"):
        assert reason not in _sync._CURABLE


# Ends and back-offs


def test_a_stream_that_ended_is_dialled_again(held):
    held.hear(Unavailable("gone"))
    assert held.stream.closed
    assert held.driver.last_error == "gone"
    held.clock.advance(1)
    held.driver.step(0.0)
    held.driver.step(0.0)
    assert len(held.line.watches) == 2
    assert held.said.state.root == held.publisher.root
    held.hear(held.publisher.heartbeat())
    assert (held.driver.failures, held.driver.last_error) == (0, "")


def test_parts_of_a_stream_that_ended_are_forgotten(desk):
    first, second, third = desk.publisher.snapshot(3)
    desk.hear(first, second, Unavailable("gone"))
    desk.clock.advance(1)
    desk.line.pulled.append([desk.publisher.snapshot(3)[2]])
    desk.driver.step(0.0)
    desk.clock.advance(60)
    desk.driver.step(0.0)
    desk.hear(third)
    assert desk.keeper.view is None


def test_waits_grow_with_failures_and_are_bounded(desk):
    desk.line.reachable = False
    desk.hear(Unavailable("gone"))
    waits = []
    for desk.jitter in [0.0] * 8 + [1.0]:
        desk.clock.advance(MAX_BACK_OFF)
        waits.append(desk.driver.step(0.0))
    assert waits == pytest.approx([0.5, 1, 2, 4, 5, 5, 5, 5, 10])
    for _ in range(3):
        assert 0 < desk.driver.step(0.0) <= MAX_BACK_OFF
    assert desk.driver.failures == 10


def test_after_a_long_outage_a_gateway_that_is_back_is_not_waited_for_long(desk):
    desk.line.reachable = False
    desk.hear(Unavailable("gone"))
    desk.jitter = 1.0
    for _ in range(20):
        desk.clock.advance(MAX_BACK_OFF)
        desk.driver.step(0.0)
    desk.line.reachable = True
    desk.clock.advance(MAX_BACK_OFF)
    # Found again, but its feed is not there yet.
    desk.hear(Unavailable("not yet"))
    assert desk.driver.step(0.0) <= 2.0


def test_a_stream_that_swallows_the_greeting_is_given_up_soon_and_pulled_instead(desk):
    desk.driver.step(0.0)
    desk.clock.advance(GREETING_SECONDS - 1)
    assert desk.driver.step(0.0) == 0.0
    desk.clock.advance(2)
    desk.driver.step(0.0)
    assert desk.driver.last_error == "the feed is silent"
    desk.line.pulled.append(desk.publisher.snapshot(1))
    desk.clock.advance(1)
    desk.driver.step(0.0)
    assert desk.keeper.view is not None


def test_a_broken_answer_does_not_end_the_driver_and_is_not_told(desk):
    def broken(timeout):
        raise RuntimeError("uscc:91320102MA1ABCDE0X")

    desk.stream.receive = broken
    assert desk.driver.step(0.0) > 0
    assert desk.driver.last_error == "RuntimeError"


def test_the_feed_is_looked_up_after_failures_and_now_and_then(held):
    found = held.line.discovered
    for _ in range(19):
        held.clock.advance(30)
        held.hear(held.publisher.heartbeat())
    assert held.line.discovered == found
    held.clock.advance(31)
    held.hear(held.publisher.heartbeat())
    assert held.line.discovered == found + 1
    held.hear(Unavailable("gone"))
    held.clock.advance(1)
    held.driver.step(0.0)
    assert held.line.discovered == found + 2


def test_a_gateway_that_is_not_found_leaves_a_living_stream_alone(held):
    held.line.reachable = False
    held.driver.look_up_again()
    held.hear(held.publisher.heartbeat())
    assert not held.stream.closed
    assert held.driver.failures == 0


# Where no stream gets through


def test_a_proxy_without_streams_leaves_the_set_fresh(tmp_path):
    desk = Desk(tmp_path, jitter=0.9)
    desk.line.streams = False
    desk.line.pulled.append(desk.publisher.snapshot(3))
    held, ages = False, []
    for number in range(600):
        if not desk.line.pulled:
            update = desk.publisher.commit([number]) if number % 60 < 30 else desk.publisher.heartbeat()
            desk.line.pulled.append([update])
        due = desk.driver.step(0.0)
        held = held or desk.keeper.view is not None
        if held:
            ages.append(desk.age())
        desk.clock.advance(min(max(due, 0.05), 1.0))
    assert set(ages) == {Age.FRESH}
    assert {value for shard in desk.view.state.shards for value in shard} <= desk.publisher.values
    assert 5 < len(desk.line.pulls) < 60
    assert abs(len(desk.line.watches) - len(desk.line.pulls)) <= 1
    assert desk.line.pulls[-1].state.root
    desk.close()


def test_a_pull_that_is_refused_is_asked_for_the_whole_set_next(tmp_path):
    desk = Desk(tmp_path)
    desk.line.streams = False
    desk.line.pulled.append([desk.publisher.heartbeat()])
    for _ in range(12):
        desk.clock.advance(1)
        desk.driver.step(0.0)
        if len(desk.line.pulls) == 1:
            break
    assert "scope" in desk.driver.last_error
    desk.line.pulled.append(desk.publisher.snapshot())
    while len(desk.line.pulls) < 2:
        desk.clock.advance(1)
        desk.driver.step(0.0)
    assert desk.line.pulls[1].state.root == b""
    assert desk.age() is Age.FRESH
    desk.close()


@pytest.mark.parametrize("answer", [[], [pb.Update(kind=pb.UPDATE_KIND_WAIT)]])
def test_a_pull_without_an_answer_is_a_failure(tmp_path, answer):
    desk = Desk(tmp_path)
    desk.line.streams = False
    desk.line.pulled.append(answer)
    while not desk.line.pulls:
        desk.driver.step(0.0)
        desk.clock.advance(1)
    assert desk.driver.last_error
    assert desk.keeper.view is None
    desk.close()


# Another ledger, or a restored one


@pytest.mark.parametrize("changes", [{"lineage": "cd" * 16, "revision": 1}, {"epoch": 2, "revision": 1}])
def test_another_past_of_the_ledger_drops_the_set_at_once(held, changes):
    held.publisher.fields.update(changes)
    held.driver.look_up_again()
    held.driver.step(0.0)
    assert held.keeper.view is None
    assert held.said.state.root == b""
    held.hear(*held.publisher.snapshot())
    assert held.view.state.manifest.revision == 1


def test_an_earlier_epoch_of_the_ledger_is_refused(held):
    held.publisher.fields.update(epoch=2, revision=1)
    held.hear(*held.publisher.snapshot())
    held.publisher.fields.update(epoch=1, revision=99)
    held.driver.look_up_again()
    held.hear(*held.publisher.snapshot())
    assert "rollback" in held.driver.last_error
    assert held.view.state.manifest.epoch == 2


def test_a_rollback_is_refused_even_after_another_ledger(held):
    held.publisher.fields.update(lineage="cd" * 16)
    held.driver.look_up_again()
    held.hear(*held.publisher.snapshot())
    held.publisher.fields.update(lineage=LINEAGE, revision=9)
    held.driver.look_up_again()
    held.driver.step(0.0)
    held.hear(*held.publisher.snapshot())
    assert "rollback" in held.driver.last_error
    assert held.keeper.view is None or held.view.state.manifest.revision == 10


# Several processes on one directory


def test_one_speaks_with_the_gateway_and_the_others_follow(held, tmp_path):
    other = Desk(tmp_path, held.publisher)
    waits = [other.driver.step(0.0) for _ in range(3)]
    assert waits == [_sync.FOLLOW_SECONDS] * 3
    assert not other.line.watches
    assert not other.line.pulls
    assert other.age() is Age.FRESH
    held.clock.advance(40)
    held.hear(held.publisher.heartbeat())
    held.clock.advance(20)
    held.hear(held.publisher.commit([5]))
    other.driver.step(0.0)
    assert other.age() is Age.FRESH
    assert other.view.state.manifest.revision == 11
    held.close()
    other.driver.step(0.0)
    assert other.said.state.root == held.publisher.root
    other.hear(held.publisher.commit([6]))
    assert other.view.state.manifest.revision == 12
    assert other.age() is Age.FRESH
    other.close()


def test_without_a_gateway_the_newest_set_on_disk_is_used_as_a_stale_one(held, tmp_path):
    held.close()
    again = Desk(tmp_path, held.publisher)
    again.line.reachable = False
    again.driver.step(0.0)
    assert again.age() is Age.STALE
    again.clock.advance(1)
    again.driver.step(0.0)
    assert again.keeper.view is not None
    again.line.reachable = True
    again.clock.advance(30)
    while not again.line.watches:
        again.driver.step(0.0)
        again.clock.advance(1)
    again.hear(held.publisher.heartbeat())
    assert again.age() is Age.FRESH
    again.close()


def test_a_set_older_than_two_days_is_erased_even_while_no_gateway_is_found(held, tmp_path):
    held.close()
    held.clock.advance(48 * 3_600 + 1)
    again = Desk(tmp_path, held.publisher)
    again.line.reachable = False
    for _ in range(5):
        again.driver.step(0.0)
        again.clock.advance(0.1)
    assert again.keeper.view is None
    assert not list(tmp_path.rglob("base-*"))
    assert held.publisher.key not in (tmp_path / LINEAGE / "current").read_bytes()
    again.close()


def test_closing_and_interrupting_end_the_stream(desk):
    desk.driver.interrupt()
    assert desk.stream.closed
    desk.driver.step(0.0)
    assert not desk.driver.failures, "an interrupted round is no failure"
    desk.driver.close()
    desk.driver.close()
    desk.driver.interrupt()
