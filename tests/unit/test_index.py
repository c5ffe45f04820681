"""The exact index: commits become readable at once, pinned reads stay where they are."""

import asyncio
import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanjie_gateway.adapters.index import HOLD_SECONDS, TableIndex
from lanjie_gateway.domain.errors import Refused
from lanjie_matcher.catalogues import CatalogueSet


def test_a_staged_commit_is_invisible_until_it_is_whole() -> None:
    index = TableIndex()
    index.load([(b"a", 1, b"1")])
    index.advance(1, 0.0)
    index.stage(2, [(b"a", 2, b"2"), (b"b", 2, b"2")])
    assert (index.get(b"a", index.pin(0)), index.get(b"b", index.pin(0))) == (b"1", b"")
    index.advance(2, 0.0)
    assert (index.get(b"a", index.pin(0)), index.get(b"b", index.pin(0))) == (b"2", b"2")


def test_a_pinned_revision_that_is_not_held_is_refused() -> None:
    index = TableIndex()
    index.advance(5, 0.0)
    for revision in (4, 6):
        with pytest.raises(Refused) as caught:
            index.pin(revision)
        assert caught.value.reason == "REVISION_COMPACTED"


def test_old_revisions_are_forgotten_and_their_memory_goes() -> None:
    index = TableIndex()
    index.load([(b"a", 1, b"0")])
    index.advance(1, 0.0)
    for revision in range(2, 10):
        index.stage(revision, [(b"a", revision, b"%d" % revision)])
        index.advance(revision, float(revision))
    index.compact(HOLD_SECONDS + 6.0)
    assert index.get(b"a", index.pin(7)) == b"7"
    with pytest.raises(Refused):
        index.pin(5)
    index.compact(10 * HOLD_SECONDS)
    assert index._before == {}


def test_what_was_read_stands_until_it_or_a_catalogue_changes_and_is_readable() -> None:
    index = TableIndex()
    index.load([(b"a", 1, b"1"), (b"b", 1, b"1")])
    index.advance(1, 0.0)
    index.stage(2, [(b"a", 2, b"2")])
    assert index.stands([b"a"], 1)
    index.advance(2, 0.0)
    assert not index.stands([b"a", b"b"], 1)
    assert index.stands([b"b", b"c"], 1)
    assert index.stands([b"a"], 2)
    index.stage_catalogues(CatalogueSet())
    index.advance(3, 0.0)
    assert not index.stands([b"b"], 2)
    assert not index.stands([], 1)


def test_what_is_no_longer_remembered_does_not_stand() -> None:
    index = TableIndex()
    for revision in range(1, 5):
        index.stage(revision, [(b"a", revision, b"%d" % revision)])
        index.advance(revision, float(revision))
    index.compact(10 * HOLD_SECONDS)
    assert index._before == {}
    assert not index.stands([b"a"], 3)
    assert index.stands([b"a"], 4)


def test_sources_are_those_of_the_revision_that_is_read() -> None:
    index, one, two = TableIndex(), datetime.date(2026, 3, 1), datetime.date(2026, 3, 2)
    index.stage_sources({("WAGE", "left by a control that died"): two})
    index.stage_sources({("WAGE", "a"): one, ("WAGE", "b"): one})
    index.advance(1, 0.0)
    index.stage_sources({("WAGE", "a"): two})
    assert index.sources(index.pin(0)) == {("WAGE", "a"): one, ("WAGE", "b"): one}
    index.advance(2, 1.0)
    index.advance(3, 2.0)
    assert index.sources(index.pin(1)) == {("WAGE", "a"): one, ("WAGE", "b"): one}
    assert index.sources(index.pin(2)) == index.sources(3) == {("WAGE", "a"): two, ("WAGE", "b"): one}
    index.compact(10 * HOLD_SECONDS)
    assert len(index._sources) == 1


@pytest.mark.asyncio
async def test_waiting_for_a_revision() -> None:
    index = TableIndex()
    index.advance(1, 0.0)
    assert await index.reached(1, 0.01)
    assert not await index.reached(2, 0.01)
    waiting = asyncio.create_task(index.reached(2, 5.0))
    await asyncio.sleep(0)
    index.advance(2, 0.0)
    assert await waiting


Changes = st.lists(
    st.dictionaries(st.sampled_from([b"a", b"b", b"c", b"d"]), st.sampled_from([b"", b"1", b"2", b"3"]), max_size=4),
    max_size=12,
)


@given(Changes, st.integers(0, 12))
def test_reads_at_every_held_revision_are_what_the_list_was_then(changes: list[dict[bytes, bytes]], gap: int) -> None:
    index = TableIndex()
    index.advance(1, 0.0)
    states: dict[int, dict[bytes, bytes]] = {1: {}}
    for revision, change in enumerate(changes, 2):
        # the same commit may be sent in two slices, and one slice twice
        entries = [(bucket, revision, value) for bucket, value in change.items()]
        index.stage(revision, entries[:2])
        index.stage(revision, entries[1:])
        for bucket in (b"a", b"b", b"c", b"d"):
            assert index.get(bucket, revision - 1) == states[revision - 1].get(bucket, b"")
        index.advance(revision, float(revision))
        states[revision] = {**states[revision - 1], **change}
    index.compact(HOLD_SECONDS + gap)
    for revision, state in states.items():
        try:
            index.pin(revision)
        except Refused:
            continue
        for bucket in (b"a", b"b", b"c", b"d"):
            assert index.get(bucket, revision) == state.get(bucket, b"")
