"""Whatever is done to inquiry records is noticed, and the first bad place named (Art. 39, 43, 61, 69)."""

import random
import shutil

import pytest
import sqlalchemy as sa

from lanjie_gateway.adapters import record_files
from lanjie_gateway.adapters.ledger import tree
from lanjie_gateway.adapters.ledger.database import reading
from lanjie_gateway.adapters.record_files import RecordFiles
from lanjie_gateway.domain.checkpoints import Checkpoint
from lanjie_gateway.domain.verification import Fault
from lanjie_gateway.services.records import _position
from tests.support.ledger import Clock, open_ledger
from tests.support.tampering import SEGMENT, Attacker, copy_of, fill, make, verify

FAULTS = {
    "delete": {Fault.DELETED, Fault.TRUNCATED},
    "delete_and_close_up": {Fault.DELETED, Fault.ROLLED_BACK},
    "alter": {Fault.ALTERED},
    "alter_and_recompute": {Fault.ALTERED},
    "alter_into_nonsense": {Fault.ALTERED},
    "alter_column": {Fault.ALTERED},
    "reorder": {Fault.REORDERED},
    "truncate": {Fault.TRUNCATED},
    "truncate_and_recompute": {Fault.ROLLED_BACK},
    "insert": {Fault.INSERTED},
    "insert_before": {Fault.INSERTED},
    "alter_subtree": {Fault.TREE},
    "set_epoch_back": {Fault.ROLLED_BACK},
    "put_checkpoint_ahead": {Fault.TRUNCATED},
    "put_checkpoint_elsewhere": {Fault.SIGNATURE},
    "exchange_checkpoint": {Fault.SIGNATURE},
    "rewrite": {Fault.ALTERED},
    "fork": {Fault.FORKED},
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A ledger of 600 records with a checkpoint every 25."""
    state = tmp_path_factory.mktemp("whole") / "state"
    ledger = make(state, f"sqlite:///{state}/ledger.sqlite3", 600, 25)
    ledger.close()
    return state, ledger


def check(state, ledger, **options):
    return verify(f"sqlite:///{state}/ledger.sqlite3", state, ledger, **options)


@pytest.mark.parametrize("times", [3, pytest.param(91, marks=pytest.mark.long)])
@pytest.mark.parametrize("way", FAULTS)
def test_the_first_bad_place_is_named(whole, tmp_path, way, times):
    state, ledger = whole
    assert check(state, ledger).sound
    for turn in range(times):
        chance = random.Random(f"{way}-{turn}")
        copy = copy_of(state, tmp_path / str(turn))
        attacker = Attacker(copy / "ledger.sqlite3", chance, ledger)
        bad = getattr(attacker, way)()
        attacker.db.commit()
        attacker.db.close()
        report = check(copy, ledger)
        assert report.findings, (way, turn)
        first = report.findings[0]
        assert first.index == bad, (way, turn, report.findings)
        assert first.fault in FAULTS[way], (way, turn, report.findings)
        shutil.rmtree(copy)


def test_without_the_digests_outside_a_checkpoint_bounds_the_place(whole, tmp_path):
    state, ledger = whole
    for turn in range(5):
        copy = copy_of(state, tmp_path / str(turn))
        (copy / "checkpoints.leaves").unlink()
        attacker = Attacker(copy / "ledger.sqlite3", random.Random(turn), ledger)
        bad = attacker.alter_and_recompute()
        attacker.db.commit()
        first = check(copy, ledger).findings[0]
        assert first.index <= bad <= first.last < first.index + 25


def test_a_log_that_was_emptied_is_told_as_one_that_is_gone(whole, tmp_path):
    state, ledger = whole
    for turn, way in enumerate((lambda log: log.unlink(), lambda log: log.write_bytes(b""))):
        copy = copy_of(state, tmp_path / str(turn))
        way(copy / "checkpoints.log")
        assert [each.fault for each in check(copy, ledger).findings] == [Fault.FILE]


def test_an_older_file_of_the_database_is_noticed(tmp_path):
    state = tmp_path / "state"
    ledger = make(state, f"sqlite:///{state}/ledger.sqlite3", 100, 25)
    ledger.close()
    shutil.copy(state / "ledger.sqlite3", tmp_path / "older")
    again = open_ledger(state, Clock(), f"sqlite:///{state}/ledger.sqlite3")
    fill(again, RecordFiles(state), 101, 100, 25)
    assert check(state, again).sound
    again.close()
    kept = (state / "checkpoints.log").read_text().splitlines()[-1]
    shutil.copy(tmp_path / "older", state / "ledger.sqlite3")
    report = check(state, ledger)
    assert (report.findings[0].index, report.findings[0].fault) == (100, Fault.ROLLED_BACK)
    # With the files beside it rolled back too, a witness still knows.
    (state / "checkpoints.leaves").write_bytes(RecordFiles(state).digests(0, 100))
    lines = (state / "checkpoints.log").read_text().splitlines(keepends=True)
    (state / "checkpoints.log").write_text("".join(lines[:4]))
    assert check(state, ledger).sound
    note = list(RecordFiles(state).notes())
    assert len(note) == 4
    (tmp_path / "witness.log").write_text(kept + "\n")
    (tmp_path / "witness.log").rename(tmp_path / "checkpoints.log")
    (witnessed,) = RecordFiles(tmp_path).notes()
    report = check(state, ledger, witnessed=witnessed)
    assert (report.findings[0].index, report.findings[0].fault) == (100, Fault.ROLLED_BACK)


def test_a_checkpoint_is_where_a_later_verification_begins(whole):
    state, ledger = whole
    report = check(state, ledger, since=310)
    assert (report.start, report.size, report.proven, report.sound) == (300, 600, 600, True)


@pytest.mark.parametrize("tail", [600, 65_536])
def test_a_check_of_recent_records_does_not_read_the_checkpoints_of_years(whole, monkeypatch, tail):
    state, ledger = whole
    opened = []

    def opening(note, *key):
        opened.append(note)
        return reading_it(note, *key)

    reading_it = Checkpoint.open
    monkeypatch.setattr(Checkpoint, "open", opening)
    monkeypatch.setattr(record_files, "_TAIL", tail)
    report = check(state, ledger, since=560)
    assert (report.start, report.proven, report.sound) == (550, 600, True)
    assert len(opened) < (12 if tail == 600 else 30), "the first of the epoch, three since, and some of the log"
    assert RecordFiles(state).notes(560)[-3:] == RecordFiles(state).notes()[-3:]
    assert len(RecordFiles(state).notes()) == 24


def test_where_the_log_goes_on_is_found_at_once(whole):
    state, _ = whole
    notes = RecordFiles(state).notes()
    asked = (notes[3], notes[-1], "none", notes[3].replace("100", "101"))
    with reading(f"sqlite:///{state}/ledger.sqlite3") as connection:
        found = [_position(connection, note=note) for note in asked]
    assert found == [(1, 100), (1, 600), (1, 600), (1, 600)]


def test_records_are_one_tree_on_each_database(tmp_path, ledger_url):
    state = tmp_path / "state"
    ledger = make(state, ledger_url, 300, 100)
    try:
        assert verify(ledger_url, state, ledger).sound
        engine = sa.create_engine(ledger_url)
        with engine.begin() as connection:
            connection.execute(sa.text("UPDATE inquiry SET record = :r WHERE tree_index = 41"), {"r": b"{}"})
            connection.execute(sa.text("DELETE FROM inquiry WHERE tree_index = 200"))
        engine.dispose()
        report = verify(ledger_url, state, ledger)
        assert [(each.index, each.fault) for each in report.findings][:2] == [
            (41, Fault.ALTERED),
            (200, Fault.DELETED),
        ]
    finally:
        ledger.close()


def test_what_is_known_gets_no_second_place(tmp_path, ledger_url):
    state = tmp_path / "state"
    ledger = make(state, ledger_url, 10, 10)
    try:
        rows = ledger.inquiries(10)
        ledger.add_inquiries(SEGMENT, 10, [*rows, *rows])
        assert ledger.tree().size == 10
        assert ledger.in_tree(tree.unplaced) == 0
        assert ledger.checkpoint() is None
    finally:
        ledger.close()
