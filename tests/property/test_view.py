"""The set at the gateway: whatever came and went, every client is led to the set that the ledger has."""

import dataclasses
import datetime
from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanjie_gateway.domain.view import BITS, LEAST_CHANGES, View
from lanjie_gateway.domain.watching import Delta, Heartbeat, Offer, Position, Snapshots, Wait, Whole, next_step
from lanjie_matcher.identifiers import NORMALISATION
from lanjie_matcher.shards import decode_shard
from lanjie_matcher.views import Manifest, Mark, ViewState, accept_snapshot

KEY = b"v" * 32
LINEAGE = "ab" * 16
NOW = datetime.datetime(2026, 6, 1, tzinfo=datetime.UTC)
MARK = Mark("companies", LINEAGE)
# Few subjects, some of which share a fingerprint with another: they differ in the low bits alone.
Digests = st.tuples(st.integers(0, 5), st.integers(0, 2)).map(lambda two: (two[0] * 0x2B3C4D5E6F << 24) + two[1])
Commits = st.lists(st.lists(st.tuples(Digests, st.booleans()), max_size=6), max_size=12)


def offer(view, generation=1, epoch=1):
    return Offer(lineage=LINEAGE, epoch=epoch, generation=generation, view=view, catalogue_revision=0)


def manifest(view):
    root, count = view.head()
    hits, misses = view.canaries()
    return Manifest(
        view="companies",
        lineage=LINEAGE,
        epoch=1,
        generation=1,
        revision=view.revision,
        root=root,
        count=count,
        bits=BITS,
        key_id="view-1",
        key_check=view.key.key_check(),
        normalisation=NORMALISATION,
        canaries_hit=hits,
        canaries_miss=misses,
        issued_at=NOW,
        expires_at=NOW + datetime.timedelta(minutes=10),
    )


def snapshot_of(view) -> ViewState:
    """What a client has after a snapshot."""
    packed, changes = view.snapshot()
    shards = [decode_shard(each.number, each.count, each.planes, BITS) for each in packed.shards]
    return accept_snapshot(manifest(view), KEY, shards, MARK, adds=changes.adds, removals=changes.removals)


def position(state):
    head = state.manifest
    return Position(
        lineage=head.lineage, epoch=head.epoch, generation=head.generation, revision=head.revision, root=head.root
    )


def commit(view, changes):
    for digest, listed in changes:
        view.put(digest, listed=listed)
    view.advance(view.revision + 1)


@settings(max_examples=40, deadline=None)
@given(Commits, st.integers(0, 11), st.integers(0, 11))
def test_a_delta_from_any_revision_leads_where_a_snapshot_leads(commits, begin, pack):
    view = View(KEY)
    listed: set[int] = set()
    client: ViewState | None = None
    for place, changes in enumerate(commits):
        if place == begin:
            client = snapshot_of(view)
        if place == pack:
            view.snapshot()
        commit(view, changes)
        for digest, on in changes:
            (listed.add if on else listed.discard)(digest)
    fresh = View(KEY)
    fresh.load(sorted(listed), view.revision)
    assert view.head() == fresh.head()

    whole = snapshot_of(view)
    assert whole.manifest.root == view.head()[0]
    assert all(view.key.narrow(digest) in whole for digest in listed)
    if client is not None:
        step = next_step(position(client), (offer(view),), Snapshots())
        if isinstance(step, Delta):
            head, changes = manifest(view), step.changes
            client = client.apply(head, step.base_root, changes.adds, changes.removals, client.manifest.mark)
            assert len({*changes.adds, *changes.removals}) == len(changes)
        else:
            assert isinstance(step, Heartbeat)
        assert client.digests == whole.digests


@settings(max_examples=25, deadline=None)
@given(Commits, st.data())
def test_a_journal_recalled_after_a_restart_leads_where_the_kept_one_leads(commits, data):
    kept = View(KEY)
    told: list[tuple[int, int]] = []
    before = None
    for place, changes in enumerate(commits):
        if place == len(commits) // 2:
            before = snapshot_of(kept)
        commit(kept, changes)
        told.extend((kept.revision, digest) for digest, _ in changes)
    again = View(KEY)
    again.load(_digests(kept), kept.revision)
    begin = data.draw(st.integers(0, kept.revision))
    again.recall([each for each in reversed(told) if each[0] > begin], begin)
    assert again.head() == kept.head()
    if before is None:
        return
    changes = again.changes_since(before.manifest.revision)
    if before.manifest.revision < begin:
        assert changes is None
    else:
        assert changes is not None
        head = manifest(again)
        after = before.apply(head, before.manifest.root, changes.adds, changes.removals, before.manifest.mark)
        assert after.manifest.root == kept.head()[0]


def test_a_trimmed_journal_keeps_a_revision_whole_or_not_at_all():
    view = View(KEY)
    for revision in range(1, 6):
        commit(view, [(revision * 1000 + each << 24, True) for each in range(3)])
    view.trim(most=7, oldest=0)
    assert view.journal_from == 3
    assert view.changes_since(2) is None
    assert len(view.changes_since(3) or ()) == 6
    view.trim(most=7, oldest=4)
    assert (view.journal_from, view.changes_since(3)) == (4, None)
    assert len(view.changes_since(4) or ()) == 3


def test_what_changes_while_a_snapshot_is_packed_is_told_with_it():
    view = View(KEY)
    commit(view, [(each << 40, True) for each in range(400)])
    packing = view.packing()
    for _ in range(100):
        next(packing)
    commit(view, [(5 << 40, False), (7 << 60, True)])
    view.put(0xFF << 56, listed=True)
    for _ in packing:
        pass
    view.advance(view.revision + 1)
    assert snapshot_of(view).manifest.root == view.head()[0]


def test_a_snapshot_is_packed_anew_only_after_many_changes():
    view = View(KEY)
    commit(view, [(each << 40, True) for each in range(400)])
    packed, _ = view.snapshot()
    commit(view, [(9 << 60, True)])
    again, changes = view.snapshot()
    assert again is packed
    assert len(changes) == 1
    commit(view, [((each << 40) + (1 << 39), True) for each in range(LEAST_CHANGES)])
    assert view.snapshot()[0] is not packed


def test_many_changes_are_a_snapshot_and_few_are_a_delta():
    view = View(KEY)
    commit(view, [])
    start = position(snapshot_of(view))
    commit(view, [(each << 40, True) for each in range(LEAST_CHANGES)])
    assert isinstance(next_step(start, (offer(view),), Snapshots()), Delta)
    commit(view, [(1 << 63, True)])
    assert isinstance(next_step(start, (offer(view),), Snapshots()), Whole)


def test_a_fingerprint_stays_until_the_last_subject_that_has_it_is_gone():
    view = View(KEY)
    first, second = 0x1234 << 40, (0x1234 << 40) + 1
    commit(view, [(first, True), (second, True)])
    commit(view, [(first, False)])
    assert view.key.narrow(first) in view
    commit(view, [(second, False)])
    assert view.key.narrow(first) not in view


def test_canaries_hit_and_miss_even_where_a_subject_has_the_fingerprint_of_one():
    view = View(KEY)
    hits, misses = view.canaries()
    commit(view, [(view.key.digest64(misses[0]), True)])
    told_hits, told_misses = view.canaries()
    assert told_hits == hits
    assert misses[0] not in told_misses
    assert len(told_misses) == 2
    assert snapshot_of(view).manifest.canaries_miss == told_misses


# Who is sent what


@pytest.fixture
def view():
    made = View(KEY)
    commit(made, [(1 << 50, True)])
    commit(made, [(2 << 50, True)])
    return made


def test_a_client_of_the_newest_set_gets_a_heartbeat(view):
    step = next_step(position(snapshot_of(view)), (offer(view),), Snapshots())
    assert step == Heartbeat(offer(view))


@pytest.mark.parametrize(
    "changes",
    [
        {"lineage": ""},
        {"lineage": "cd" * 16},
        {"epoch": 0},
        {"generation": 9},
        {"root": b""},
        {"revision": 1, "generation": 0},
    ],
)
def test_whoever_has_another_set_or_none_gets_a_snapshot(view, changes):
    start = dataclasses.replace(position(snapshot_of(view)), **changes)
    assert isinstance(next_step(start, (offer(view),), Snapshots()), Whole)


@pytest.mark.parametrize("changes", [{"revision": 3}, {"epoch": 2}, {"epoch": 2, "revision": 0}])
def test_a_client_that_is_ahead_waits_and_is_never_sent_an_older_head(view, changes):
    start = dataclasses.replace(position(snapshot_of(view)), **changes)
    assert isinstance(next_step(start, (offer(view),), Snapshots()), Wait)


def test_places_for_snapshots_are_counted(view):
    places = Snapshots(most=1)
    stranger = Position()
    assert isinstance(next_step(stranger, (offer(view),), places), Whole)
    assert isinstance(next_step(stranger, (offer(view),), places), Wait)
    places.done()
    assert isinstance(next_step(stranger, (offer(view),), places), Whole)


def test_a_client_of_the_generation_before_is_kept_current_until_its_turn(view):
    newer = View(b"w" * 32)
    newer.load([1 << 50, 2 << 50], view.revision)
    offers = (offer(newer, generation=2), offer(view))
    places = Snapshots(most=1)
    current, behind = position(snapshot_of(view)), None
    assert isinstance(next_step(current, offers, places), Whole)
    assert next_step(current, offers, places) == Heartbeat(offers[1])
    behind = current
    commit(view, [(3 << 50, True)])
    commit(newer, [(3 << 50, True)])
    assert isinstance(next_step(behind, offers, places), Delta)
    places.done()
    assert next_step(behind, offers, places) == Whole(offers[0])


def _digests(view):
    hits = {view.key.digest64(name) for name in view.canaries()[0]}
    return array("Q", sorted(digest for digests in view._digests for digest in digests if digest not in hits))
