"""Deliveries: a source vouches with the commit of its import, for one day, and for nothing that was thrown away."""

import datetime
import hashlib
import random

import pytest
import sqlalchemy as sa

from lanjie_gateway.adapters.ledger.tables import DELIVERY
from lanjie_gateway.domain.events import Act, EventKind
from lanjie_gateway.domain.import_rules import ImportState
from tests.support.core import uscc
from tests.support.ledger import NOON, Clock, cells, csv_file, desk, open_ledger, person, receipt, stage, take

TODAY = datetime.date(2026, 11, 2)
TAX = ("TAX", "tax")


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def ledger(tmp_path, clock, ledger_url):
    opened = open_ledger(tmp_path, clock, ledger_url)
    yield opened
    opened.close()


def rows_of(ledger):
    with ledger._engine.begin() as connection:
        return (
            connection.execute(sa.select(DELIVERY.c.batch_id).distinct().order_by(DELIVERY.c.batch_id)).scalars().all()
        )


def deliver(ledger, day=TODAY, *sources):
    batch, _ = stage(ledger)
    ledger.stage_deliveries(batch, sources or [TAX], day)
    return ledger.commit_import(receipt(batch))


def test_a_delivery_counts_with_its_commit(ledger, clock):
    batch, done = stage(ledger, cells(1), cells(2, list_type="TAX", source="another"))
    assert done.sources == {TAX, ("TAX", "another")}
    ledger.stage_deliveries(batch, done.sources, TODAY)
    assert (ledger.vouched(1), ledger.sources(), ledger.live_sources()) == ({}, [], set())
    waiting = ledger.park_import(receipt(batch))
    assert (ledger.sources(), ledger.live_source_counts()) == ([], {})
    assert ledger.count_waiting() == (1, NOON)
    clock.pass_by(minutes=5)
    ledger.commit_import(waiting, "tax/bert")
    assert ledger.count_waiting() == (0, None)
    assert ledger.vouched(1) == ledger.raised(1) == dict.fromkeys(done.sources, TODAY.toordinal())
    assert [(each.source, each.vouched_on, each.revision) for each in ledger.sources()] == [
        ("another", TODAY, 1),
        ("tax", TODAY, 1),
    ]
    assert {each.delivered_at for each in ledger.sources()} == {clock.now}
    assert ledger.live_sources() == done.sources
    assert ledger.live_source_counts() == dict.fromkeys(done.sources, 1)
    removal = Act(kind=EventKind.REMOVED, actor="tax/bert", reason="r", document="d")
    ledger.record(f"{batch << 32 | 2:016x}", removal)
    assert ledger.live_sources() == {("TAX", "another")}
    assert [info.delivers for info in ledger.commits_after(0, 10)] == [True, False]
    assert (ledger.raised(2), ledger.vouched(2)) == ({}, ledger.vouched(1))


@pytest.mark.parametrize("parked", [False, True])
def test_what_is_thrown_away_vouches_for_nothing(ledger, parked):
    deliver(ledger)
    batch, _ = stage(ledger, cells(1))
    ledger.stage_deliveries(batch, [TAX], TODAY + datetime.timedelta(days=1))
    if parked:
        ledger.park_import(receipt(batch))
    take(ledger, cells(2))
    while ledger.purge():
        pass
    assert rows_of(ledger) == ([1, batch] if parked else [1])
    if parked:
        ledger.give_up_import(batch)
        while ledger.purge():
            pass
    assert rows_of(ledger) == [1]
    assert ledger.vouched(ledger.head()) == {TAX: TODAY.toordinal()}


def test_every_revision_knows_what_was_vouched_for_at_it(ledger):
    # `known`: by revision, the model of the whole table
    chance = random.Random(20261102)
    known: list[dict[tuple[str, str], int]] = [{}]
    for _ in range(12):
        day = TODAY + datetime.timedelta(days=chance.randint(-5, 5))
        named = {("TAX", chance.choice("abc")) for _ in range(chance.randint(1, 2))}
        if chance.random() < 0.2:
            take(ledger)
            named = set()
        else:
            deliver(ledger, day, *named)
        table = dict(known[-1])
        table.update((each, max(day.toordinal(), table.get(each, 0))) for each in named)
        known.append(table)
    for revision, table in enumerate(known):
        assert ledger.vouched(revision) == table
        assert {(e.list_type, e.source): e.vouched_on.toordinal() for e in ledger.sources(revision)} == table
        if revision:
            assert ledger.raised(revision) == dict(table.items() - known[revision - 1].items())
    assert {(e.list_type, e.source): e.vouched_on.toordinal() for e in ledger.sources()} == known[-1]


async def test_a_complete_list_vouches_as_of_its_instant_and_changes_as_of_their_day(tmp_path):
    async with desk(tmp_path) as at:
        file = csv_file([cells(n) for n in range(60)])
        as_of = at.clock.now - datetime.timedelta(days=3)

        async def vouched():
            return {each.source: each.vouched_on for each in await at.thread.call(lambda ledger: ledger.sources())}

        await at.full(file, as_of=as_of)
        assert await vouched() == {"tax": TODAY - datetime.timedelta(days=3)}
        # no row, and yet a word: everything of this source has ended
        empty = csv_file([])
        await at.full(empty, source="empty")
        assert await vouched() == {"tax": TODAY - datetime.timedelta(days=3), "empty": TODAY}
        await at.take(csv_file([cells(7)]), as_of=as_of)
        assert (await vouched())["tax"] == TODAY
        # only a complete list is complete as of an instant: no row of changes is vouched for beyond its day
        await at.take(csv_file([cells(70)]), as_of=datetime.datetime(9999, 12, 31, tzinfo=datetime.UTC))
        assert (await at.find(70))[0].listing.source_as_of is None
        await at.full(csv_file([cells(n) for n in range(59)]), as_of=as_of - datetime.timedelta(days=9))
        assert (await vouched())["tax"] == TODAY
        dry = await at.take(csv_file([cells(1, source="dry")]), dry_run=True)
        assert dry.state is ImportState.DRY_RUN
        assert set(await vouched()) == {"tax", "empty"}


async def test_the_same_bytes_on_a_later_day_vouch_anew_and_a_retry_does_not(tmp_path):
    async with desk(tmp_path) as at:
        file = csv_file([cells(n) for n in range(60)])
        first = await at.take(file)
        sha256 = hashlib.sha256(file).digest()
        for _ in range(2):
            at.clock.pass_by(days=1)
            again = await at.take(file, sha256=sha256)
            assert (again.repeated, again.counts.unchanged, again.counts.added) == (False, 60, 0)
            assert again.receipt_id != first.receipt_id
            retry = await at.take(file, sha256=sha256)
            assert (retry.repeated, retry.receipt_id) == (True, again.receipt_id)
        (word,) = await at.thread.call(lambda ledger: ledger.sources())
        assert word.vouched_on == TODAY + datetime.timedelta(days=2)
        assert len(at.published) == 3


async def test_an_old_file_of_changes_undoes_nothing_and_vouches_for_nothing(tmp_path):
    async with desk(tmp_path) as at:
        file = csv_file([cells(n) for n in range(60)])
        first = await at.take(file)
        at.clock.pass_by(days=1)
        await at.take(csv_file([cells(3, reason="corrected")]))
        at.clock.pass_by(days=1)
        again = await at.take(file)
        assert (again.repeated, again.receipt_id) == (True, first.receipt_id)
        (word,) = await at.thread.call(lambda ledger: ledger.sources())
        assert word.vouched_on == TODAY + datetime.timedelta(days=1)
        assert (await at.find(3))[0].listing.reason == "corrected"

        # one that waits vouches for the day it came
        file = csv_file([cells(n, reason="again") for n in range(9)])
        waiting = await at.take(file)
        assert waiting.state is ImportState.WAITING
        at.clock.pass_by(days=2)
        assert (await at.take(file, sha256=hashlib.sha256(file).digest())).receipt_id == waiting.receipt_id
        await at.imports.confirm(waiting.receipt_id, person("bert"))
        (word,) = await at.thread.call(lambda ledger: ledger.sources())
        assert (word.vouched_on, word.delivered_at) == (TODAY + datetime.timedelta(days=2), at.clock.now)
        assert uscc(1) not in repr(word)


async def test_a_complete_list_that_comes_back_ends_what_came_in_between(tmp_path):
    async with desk(tmp_path) as at:
        file = csv_file([cells(n) for n in range(60)])
        await at.full(file)
        at.clock.pass_by(days=1)
        await at.full(csv_file([cells(n) for n in range(61)]))
        assert (await at.find(60))[0].not_in_force == ""
        at.clock.pass_by(days=1)
        again = await at.full(file)
        assert (again.repeated, again.counts.absent) == (False, 1)
        assert (await at.find(60))[0].not_in_force == "removed"
