"""Several hosts on one PostgreSQL: one sequence of revisions, one import at a time, no double, no half import."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from lanjie_gateway.adapters.keys import KeysLostError, open_keys
from lanjie_gateway.adapters.ledger import Ledger, LedgerError
from lanjie_gateway.adapters.ledger.database import NEWEST, migrate, parameters
from lanjie_gateway.domain.errors import Refused, Unanswerable
from lanjie_gateway.domain.events import Act, EventKind
from lanjie_gateway.domain.import_rules import Counts, ImportState
from lanjie_matcher.identifiers import parse
from tests.support.catalogues import edition
from tests.support.core import uscc
from tests.support.hosts import Writer, doubles, find, revisions
from tests.support.ledger import NOON, Clock, cells, open_ledger, receipt, stage, staged, take


@pytest.fixture
def hosts(tmp_path, shared_url):
    """Two ledgers on one database, with the same keys."""
    opened = [open_ledger(tmp_path, url=shared_url) for _ in range(2)]
    yield opened
    for each in opened:
        each.close()


def remove(ledger, number):
    (listing,) = find(ledger, number)
    return ledger.record(listing, Act(kind=EventKind.REMOVED, actor="tax/bert", reason="paid up", document="No. 9"))


def listing(ledger, number):
    (stored,) = ledger.find(parse(f"uscc:{uscc(number)}"))
    return stored.packed.listing


def test_what_one_host_commits_the_other_sees(hosts):
    first, second = hosts
    assert first.shared
    assert (first.lineage, first.epoch, first.keys) == (second.lineage, second.epoch, second.keys)
    assert take(first, cells(1)).revision == 1
    assert second.head() == 1
    assert remove(second, 1) == 2
    assert listing(first, 1).removed_at == NOON
    assert take(second, cells(2)).revision == 3
    assert first.publish_edition(edition(), b"a: 1", "a.yaml", "tax/mara", known=0) == 4
    assert revisions(first) == revisions(second) == [1, 2, 3, 4]


def test_each_commit_is_told_with_its_revision(hosts, shared_url):
    with psycopg.connect(**parameters(shared_url), autocommit=True) as listening:
        listening.execute("LISTEN lanjie_head")
        take(hosts[0], cells(1))
        with pytest.raises(Refused):
            hosts[1].record("0" * 16, Act(kind=EventKind.REMOVED, actor="a", reason="b", document="c"))
        remove(hosts[1], 1)
        told = [notify.payload for notify in listening.notifies(timeout=10, stop_after=2)]
    assert told == ["1", "2"]


@pytest.fixture
def at_the_commit(postgres, shared_url):
    """Begins acts of hosts, each when the one before has come to where it waits; then lets all of them go on.

    The head is held meanwhile, which every commit takes last. Returns what became of each act.
    """

    def run(*acts):
        with ThreadPoolExecutor(len(acts)) as pool, psycopg.connect(**parameters(shared_url)) as holder:
            holder.execute("SELECT revision FROM head FOR UPDATE")
            begun = []
            for act in acts:
                begun.append(pool.submit(act))
                deadline = time.monotonic() + 30
                while postgres.waiting(shared_url) < len(begun):
                    assert time.monotonic() < deadline, "it does not wait"
                    time.sleep(0.01)
            holder.rollback()
            return [each.exception(30) or each.result() for each in begun]

    return run


def test_the_same_listing_is_removed_once(hosts, at_the_commit):
    first, second = hosts
    take(first, cells(1))
    done, late = at_the_commit(lambda: remove(first, 1), lambda: remove(second, 1))
    assert done == 2
    # It judged by what it found after the wait.
    assert isinstance(late, Refused)
    assert late.reason == "TRANSITION_ILLEGAL"
    assert revisions(first) == [1, 2]


def test_a_removal_that_comes_to_its_commit_before_a_correction_stands(hosts, at_the_commit):
    first, second = hosts
    take(first, cells(1), cells(2))
    batch, _ = stage(first, cells(1, reason="corrected"), cells(2, reason="corrected"))
    order = receipt(batch, counts=Counts(rows=2, amended=2))
    removed, done = at_the_commit(lambda: remove(second, 1), lambda: first.commit_import(order))
    assert (removed, done.revision, done.counts.amended) == (2, 3, 1)
    assert listing(second, 1).removed_at == NOON
    assert listing(second, 2).reason == "corrected"


def test_two_editions_at_once_are_not_judged_without_each_other(hosts, at_the_commit):
    one, other = at_the_commit(
        lambda: hosts[0].publish_edition(edition(), b"a: 1", "a.yaml", "tax/mara", known=0),
        lambda: hosts[1].publish_edition(edition("other"), b"a: 2", "b.yaml", "tax/mara", known=0),
    )
    assert (one, other) == (1, None)


def test_an_event_between_staging_and_commit_stands_whoever_recorded_it(hosts):
    first, second = hosts
    take(first, cells(1), cells(2))
    batch, _ = stage(first, cells(1, reason="corrected"), cells(2, reason="corrected"))
    remove(second, 1)
    done = first.commit_import(receipt(batch, counts=Counts(rows=2, amended=2)))
    assert (done.revision, done.counts.amended, done.counts.quarantined) == (3, 1, 1)
    assert listing(second, 1).removed_at == NOON
    assert listing(second, 2).reason == "corrected"


def test_one_host_imports_at_a_time(hosts):
    first, second = hosts
    batch, _ = stage(first, cells(1))
    assert second.begin_import("tax/bert") is None
    assert not second.hold_imports()
    second.end_import()
    first.commit_import(receipt(batch))
    assert take(second, cells(1, reason="corrected")).revision == 2
    parked, _ = stage(second, cells(3))
    waiting = second.park_import(receipt(parked))
    batch, _ = stage(first, cells(4))
    with pytest.raises(Unanswerable) as busy:
        second.commit_import(waiting, "tax/bert")
    assert busy.value.reason == "OVERLOADED"
    first.end_import()
    assert second.commit_import(waiting, "tax/bert").revision == 3
    assert find(first, 4) == []


def test_a_host_that_lost_its_connection_has_lost_its_import(hosts, postgres, shared_url):
    first, second = hosts
    rows = [cells(1), cells(2)]
    steps = (
        lambda batch: first.stage(
            batch,
            staged(first, batch, [cells(3)], 9),
            actor="tax/anna",
            received_at=NOON,
            document="file",
            generation=1,
        ),
        lambda batch: first.quarantine(batch, []),
        lambda batch: first.stage_absent(batch, "TAX", "tax", as_of=NOON, document="file", limit=9),
        lambda batch: first.commit_import(receipt(batch)),
        lambda batch: first.park_import(receipt(batch)),
    )
    for step in steps:
        batch, _ = stage(first, *rows)
        postgres.cut(shared_url)
        with pytest.raises(Unanswerable) as lost:
            step(batch)
        assert lost.value.reason == "LEDGER_UNAVAILABLE"
        first.end_import()
    assert second.head() == 0
    assert take(second, *rows).revision == 1
    while second.purge():
        pass
    with second._engine.begin() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM listing").scalar() == 2


def test_an_abandoned_batch_is_never_committed(hosts):
    first, second = hosts
    batch, _ = stage(first, cells(1))
    # As if the lock had gone without the host's knowing.
    with first._engine.begin() as connection:
        connection.exec_driver_sql("SELECT pg_advisory_unlock_all()")
    assert take(second, cells(1)).revision == 1
    with pytest.raises(Unanswerable):
        first.commit_import(receipt(batch))
    assert doubles(first) == []
    assert second.head() == 1


def test_a_waiting_import_is_confirmed_once(hosts):
    first, second = hosts
    batch, _ = stage(first, cells(1))
    waiting = first.park_import(receipt(batch))
    first.commit_import(waiting, "tax/bert")
    with pytest.raises(Refused) as late:
        second.commit_import(waiting, "tax/carl")
    assert late.value.reason == "IMPORT_OUTDATED"
    second.end_import()
    kept = second.receipt(waiting.receipt_id)
    assert kept is not None
    assert (kept.state, kept.revision) == (ImportState.COMMITTED, 1)


def test_a_start_leaves_the_import_of_another_host_alone(hosts, tmp_path, shared_url):
    batch, _ = stage(hosts[0], cells(1))
    third = open_ledger(tmp_path, url=shared_url)
    third.close()
    assert hosts[0].commit_import(receipt(batch)).revision == 1


def test_an_edition_judged_without_another_hosts_is_judged_again(hosts):
    first, second = hosts
    assert first.publish_edition(edition(), b"a: 1", "a.yaml", "tax/mara", known=0) == 1
    assert second.publish_edition(edition("other"), b"a: 2", "b.yaml", "tax/mara", known=0) is None
    assert second.publish_edition(edition("other"), b"a: 2", "b.yaml", "tax/mara", known=1) == 2
    assert first.publish_edition(edition("other"), b"a: 2", "b.yaml", "tax/mara", known=1) == 2


def test_one_of_two_hosts_makes_a_fresh_ledger_and_the_other_asks_for_its_keys(tmp_path, shared_url):
    started = threading.Barrier(2)
    opened: list[Ledger] = []
    refused: list[KeysLostError] = []

    def start(name):
        def keys(generation, fresh):
            if fresh:
                time.sleep(0.2)
            return open_keys(tmp_path / name, generation, fresh=fresh)

        started.wait()
        try:
            opened.append(Ledger.open(shared_url, keys, Clock()))
        except KeysLostError as error:
            refused.append(error)

    threads = [threading.Thread(target=start, args=(name,)) for name in ("a", "b")]
    for each in threads:
        each.start()
    for each in threads:
        each.join(30)
    assert (len(opened), len(refused)) == (1, 1)
    assert "from the host that has it" in str(refused[0])
    opened[0].close()


def test_an_empty_database_is_migrated_once_by_hosts_that_do_so_at_once(postgres, tmp_path):
    url = postgres.empty()
    with pytest.raises(LedgerError, match="lanjie migrate"):
        open_ledger(tmp_path, url=url)
    done: list[tuple[str, str]] = []
    threads = [threading.Thread(target=lambda: done.append(migrate(url))) for _ in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(30)
    assert sorted(done) == [("", NEWEST), (NEWEST, NEWEST), (NEWEST, NEWEST)]
    open_ledger(tmp_path, url=url).close()
    postgres.drop(url)


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_in_another_encoding_is_refused(postgres, encoding):
    url = postgres.empty(f"ENCODING '{encoding}' LOCALE 'C'")
    with pytest.raises(LedgerError, match="UTF8"):
        migrate(url)
    postgres.drop(url)


def test_an_older_server_is_refused(shared_url, monkeypatch):
    monkeypatch.setattr("lanjie_gateway.adapters.ledger.database.OLDEST_POSTGRESQL", 99)
    with pytest.raises(LedgerError, match="99 or later"):
        migrate(shared_url)


def test_no_password_is_told(tmp_path):
    url = "postgresql+psycopg://lanjie:open-sesame@127.0.0.1:1/none"
    with pytest.raises(Unanswerable) as away:
        open_ledger(tmp_path, url=url)
    assert away.value.reason == "LEDGER_UNAVAILABLE"
    assert "open-sesame" not in f"{away.value!r} {away.value.__cause__!r}"


@pytest.mark.parametrize("seconds", [2, pytest.param(60, marks=pytest.mark.long)])
def test_hosts_that_write_at_once_leave_no_gap_and_no_double(hosts, seconds):
    take(hosts[0], *(cells(number) for number in range(20)))
    writers = [Writer(ledger, seed) for seed, ledger in enumerate(hosts)]
    until = time.monotonic() + seconds
    with ThreadPoolExecutor(len(writers)) as pool:
        for done in [pool.submit(writer.run, until) for writer in writers]:
            done.result(seconds + 60)
    assert [writer.lost for writer in writers] == [0, 0]
    told = revisions(hosts[0])
    assert told == list(range(1, hosts[1].head() + 1))
    assert sorted([1, *writers[0].acknowledged, *writers[1].acknowledged]) == told
    assert all(writer.acknowledged for writer in writers)
    assert doubles(hosts[0]) == []
    assert {info.actor for info in hosts[0].commits_after(0, 100_000)} == {"tax/anna", "tax/mara", "tax/carl"}
