"""What a backup holds, what restoring it gives, and what is refused before anything is written."""

import datetime
import functools
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lanjie_gateway.adapters import restore as adapter
from lanjie_gateway.adapters.keys import KeysLostError, make_view_key
from lanjie_gateway.adapters.ledger import InquiryRow, Ledger
from lanjie_gateway.adapters.restore import BackupDamagedError, Restored, RestoreRefusedError
from lanjie_gateway.adapters.segments import MAGIC
from lanjie_gateway.domain.errors import Unanswerable
from lanjie_gateway.domain.import_rules import Counts, ImportMode, ImportState, Receipt
from lanjie_gateway.services import backups
from tests.support.backup import Parts, parts, rewrite, tables, url_of, without_epoch, write
from tests.support.ledger import NEW_COLUMNS, NEW_TABLES, NOON, cells, open_ledger, staged
from tests.support.serve import run

NOW = datetime.datetime(2026, 11, 3, 4, tzinfo=datetime.UTC)

pytestmark = pytest.mark.drill


def begun(ledger: Ledger) -> int:
    batch = ledger.begin_import("local/anna")
    assert batch is not None
    return batch


def restore(path: Path, state: Path, url: str = "", now: datetime.datetime = NOW) -> Restored:
    return adapter.restore(path, state, url or url_of(state), now, lambda *_: None)


def fill(state: Path, seed: int) -> None:
    """A small ledger with something in every table: imports committed, waiting and on their way, events, inquiries."""
    chance = random.Random(seed)
    ledger = open_ledger(state)
    try:
        for number in range(chance.randint(1, 4)):
            batch = begun(ledger)
            rows = [cells(chance.randrange(30)) for _ in range(chance.randrange(1, 12))]
            if number:
                rows.append(cells(chance.randrange(30), decision_no="No. 1", reason="另一事由"))
            ledger.stage(
                batch,
                staged(ledger, batch, rows),
                actor="local/anna",
                received_at=NOON,
                document="file a",
                generation=ledger.generation,
            )
            receipt = Receipt(
                receipt_id=f"r-{number}-{chance.getrandbits(32):x}",
                batch=batch,
                state=ImportState.COMMITTED,
                sha256=chance.randbytes(32),
                mode=ImportMode.DELTA,
                list_type="TAX",
                source="tax",
                file_name="名单.csv",
                importer="local/anna",
                received_at=NOON,
                counts=Counts(rows=len(rows), added=len(rows)),
                revision=0,
                reasons=("改动较多",),
            )
            fate = chance.choice(("commit", "commit", "park", "give up", "leave"))
            if fate == "commit" or number == 0:
                ledger.commit_import(receipt)
            elif fate == "park":
                ledger.park_import(receipt)
            elif fate == "give up":
                ledger.give_up_import(batch)
        for bucket in ledger.shards([chance.randrange(256)])[0][:2]:
            assert bucket.value
        record = chance.randbytes(40)
        row = InquiryRow(
            sequence=1,
            decision_id="d-1",
            decided_at=NOON,
            department="local",
            matter="m",
            outcome="PASS",
            kind="gateway",
            subject_token=b"\x00\xff",
            record=record,
            digest=record[:32],
        )
        ledger.add_inquiries("0123456789ab", len(MAGIC) + 48, [row])
    finally:
        ledger.close()


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, Path]:
    """A state and a backup of it."""
    state, path = tmp_path / "state", tmp_path / "a.tar"
    state.mkdir()
    fill(state, 1)
    (state / "tokens").mkdir()
    (state / "tokens" / "agency.token").write_text("secret")
    (state / "tokens" / "nanjing-market").mkdir()
    (state / "tokens" / "nanjing-market" / "anna.token").write_text("another")
    write(state, path)
    return state, path


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000))
def test_every_row_comes_back_but_the_epoch(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    at = tmp_path_factory.mktemp("round")
    for name in ("state", "tokens"):
        (at / "state" / name.replace("state", "")).mkdir(exist_ok=True)
    fill(at / "state", seed)
    write(at / "state", at / "first.tar")
    done = restore(at / "first.tar", at / "other")
    before, after = tables(url_of(at / "state")), tables(url_of(at / "other"))
    assert without_epoch(after) == without_epoch(before)
    assert (done.old_epoch, done.epoch) == (1, int(NOW.timestamp()))
    assert done.rows == {name: len(rows) for name, rows in before.items()}
    write(at / "other", at / "second.tar")
    rows = [
        {n: d for n, d in parts(at / f"{each}.tar").items() if n.startswith("tables/")} for each in ("first", "second")
    ]
    for changed in ("tables/head/000000", "tables/checkpoint/000000"):
        rows[0].pop(changed, None), rows[1].pop(changed)
    assert rows[0] == rows[1]


def test_between_sqlite_and_postgresql(postgres: Any, made: tuple[Path, Path], tmp_path: Path) -> None:
    state, path = made
    url = postgres.database()
    restore(path, tmp_path / "pg", url)
    before = without_epoch(tables(url_of(state)))
    assert without_epoch(tables(url)) == before
    with pytest.raises(RestoreRefusedError, match="the database is in use"):
        restore(path, tmp_path / "another", url)
    write(tmp_path / "pg", tmp_path / "b.tar", url)
    restore(tmp_path / "b.tar", tmp_path / "back")
    assert without_epoch(tables(url_of(tmp_path / "back"))) == before
    # Numbers go on behind everything there is, and from the new epoch for batches.
    ledger = Ledger.open(url, lambda generation, fresh: adapter_keys(tmp_path / "pg", generation, fresh), lambda: NOW)
    try:
        batch = begun(ledger)
        assert batch > 200_000_000
        ledger.add_inquiries("0123456789ab", 99, [])
    finally:
        ledger.close()


def adapter_keys(state: Path, generation: int, fresh: bool) -> Any:  # noqa: FBT001  the ledger calls it so
    from lanjie_gateway.adapters.keys import open_keys

    return open_keys(state / "keys", generation, fresh=fresh)


def test_two_restores_share_neither_epoch_nor_numbers(made: tuple[Path, Path], tmp_path: Path) -> None:
    state, path = made
    known = {row[0] for row in tables(url_of(state))["batch"]}
    epochs, batches = [], []
    for number in range(2):
        at = tmp_path / f"r{number}"
        epochs.append(restore(path, at, now=NOW + datetime.timedelta(seconds=number)).epoch)
        ledger = open_ledger(at)
        batches.append(begun(ledger))
        assert (ledger.epoch, ledger.generation, ledger.keys.generation) == (epochs[-1], 1, 1)
        ledger.close()
    assert epochs[0] < epochs[1]
    assert len({*batches, *known}) == len(known) + 2
    assert min(batches) > max(known) + 1_000_000
    # A clock that is behind makes no old epoch new.
    write(tmp_path / "r1", tmp_path / "again.tar")
    late = restore(tmp_path / "again.tar", tmp_path / "r2", now=datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC))
    assert late.epoch == epochs[1] + 1


def test_what_was_on_its_way_stays_dead_and_what_waits_stays(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    ledger = open_ledger(state)
    batches = []
    for number in range(2):
        batch = begun(ledger)
        ledger.stage(
            batch, staged(ledger, batch, [cells(number)]), actor="a", received_at=NOON, document="f", generation=1
        )
        batches.append(batch)
        if not number:
            waiting = Receipt(
                receipt_id="w",
                batch=batch,
                state=ImportState.WAITING,
                sha256=b"1" * 32,
                mode=ImportMode.DELTA,
                list_type="TAX",
                source="tax",
                file_name="f",
                importer="a",
                received_at=NOON,
                counts=Counts(rows=1, added=1),
                revision=0,
            )
            ledger.park_import(waiting)
    # As at a kill: nothing is closed. The copy is what a backup reads.
    copy = ledger.copy_to(tmp_path / "copy")
    while len({*copy.step()}) == 2:
        pass
    copy.close()
    ledger.close()
    (tmp_path / "copy").replace(state / "ledger.sqlite3")
    write(state, tmp_path / "b.tar")
    restore(tmp_path / "b.tar", tmp_path / "new")
    ledger = open_ledger(tmp_path / "new")
    try:
        assert ledger.head() == 0
        receipt = ledger.receipt("w")
        assert receipt is not None
        assert ledger.commit_import(receipt).revision == 1
        (kept,) = tables(url_of(tmp_path / "new"))["listing"]
        assert kept[0] >> 32 == batches[0]
    finally:
        ledger.close()


def _second_schema(found: Parts, manifest: dict[str, Any]) -> None:
    """Make a backup what it was before view keys had generations: they were named by epoch."""
    manifest["schema"] = "0002"
    manifest["epoch"] = 1_700_000_000
    found["keys/view-1700000000"] = found.pop("keys/view-1")
    for table in NEW_TABLES:
        del manifest["tables"][table]
        for name in [each for each in found if each.startswith(f"tables/{table}/")]:
            del found[name]
    for table, new in NEW_COLUMNS.items():
        columns = manifest["tables"][table]["columns"]
        kept = [place for place, name in enumerate(columns) if name not in new]
        for name in [each for each in found if each.startswith(f"tables/{table}/")]:
            rows = msgpack.Unpacker()
            rows.feed(found[name])
            values = [[row[place] for place in kept] for row in rows]
            if table == "head":
                values[0][columns.index("epoch")] = manifest["epoch"]
            found[name] = b"".join(msgpack.packb(row) for row in values)
        manifest["tables"][table]["columns"] = [columns[place] for place in kept]


def test_a_backup_of_an_older_schema_keeps_its_view_key(made: tuple[Path, Path], tmp_path: Path) -> None:
    state, path = made
    rewrite(path, _second_schema)
    done = restore(path, tmp_path / "new")
    assert (done.old_epoch, done.epoch) == (1_700_000_000, int(NOW.timestamp()))
    before, after = open_ledger(state), open_ledger(tmp_path / "new")
    try:
        assert (after.generation, after.keys.view) == (1_700_000_000, before.keys.view)
        assert after.listed_digests() == before.listed_digests()
        assert len(after.listed_digests()) > 0
    finally:
        before.close()
        after.close()


def test_a_backup_made_during_a_rotation_holds_the_old_generation(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    fill(state, 3)
    ledger = open_ledger(state)
    make = functools.partial(make_view_key, state / "keys")
    try:
        assert ledger.begin_rotation(make)
        ledger.rotate(3)
        copy = ledger.copy_to(tmp_path / "copy")
        while len({*copy.step()}) == 2:
            pass
        copy.close()
        digests = ledger.listed_digests()
    finally:
        ledger.close()
    (tmp_path / "copy").replace(state / "ledger.sqlite3")
    write(state, tmp_path / "b.tar")
    restore(tmp_path / "b.tar", tmp_path / "new")
    ledger = open_ledger(tmp_path / "new")
    try:
        assert (ledger.generation, ledger.listed_digests()) == (1, digests)
        assert ledger.begin_rotation(functools.partial(make_view_key, tmp_path / "new" / "keys"))
        done, total = 0, 1
        while done < total:
            done, total = ledger.rotate()
        ledger.switch_generation("local/agency")
        assert (ledger.generation, len(ledger.listed_digests())) == (2, len(digests))
    finally:
        ledger.close()


@pytest.mark.parametrize("left", [None, b"k" * 32])
def test_no_backup_is_made_without_the_view_key_of_another_host(tmp_path: Path, left: bytes | None) -> None:
    state = tmp_path / "state"
    state.mkdir()
    fill(state, 3)
    ledger = open_ledger(state)
    try:
        assert ledger.begin_rotation(functools.partial(make_view_key, state / "keys"))
        done, total = 0, 1
        while done < total:
            done, total = ledger.rotate()
        ledger.switch_generation("local/agency")
    finally:
        ledger.close()
    # As on a host whose operator has not copied the key yet, or that has one of an interrupted rotation of its own.
    (state / "keys" / "view-2").unlink()
    if left is not None:
        (state / "keys" / "view-2").write_bytes(left)
    with pytest.raises(KeysLostError):
        write(state, tmp_path / "b.tar")
    failure = backups._failure("KeysLostError", 0)
    assert isinstance(failure, Unanswerable)
    assert failure.reason == "LEDGER_UNAVAILABLE"


def test_a_segment_that_goes_while_it_is_looked_for_ends_no_backup(made: tuple[Path, Path], tmp_path: Path) -> None:
    state, _ = made
    (state / "inquiry").mkdir(exist_ok=True)
    # Seen, and gone when it is looked at: control deletes what it has loaded.
    (state / "inquiry" / "0123456789ab.segment").symlink_to(state / "gone")
    write(state, tmp_path / "b.tar")
    assert restore(tmp_path / "b.tar", tmp_path / "new").segments == 0


def test_secrets_are_for_one_user(made: tuple[Path, Path], tmp_path: Path) -> None:
    _, path = made
    restore(path, tmp_path / "new")
    assert path.stat().st_mode & 0o077 == 0
    for found in (tmp_path / "new").rglob("*"):
        assert found.stat().st_mode & 0o077 == 0, found
    assert (tmp_path / "new" / "tokens" / "agency.token").read_text() == "secret"
    assert (tmp_path / "new" / "tokens" / "nanjing-market" / "anna.token").read_text() == "another"
    assert not list((tmp_path / "new").rglob("*restoring*"))


Change = Callable[[Parts, dict[str, Any]], None]


def _drop(prefix: str) -> Change:
    def change(found: Parts, _: dict[str, Any]) -> None:
        for name in [each for each in found if each.startswith(prefix)]:
            del found[name]

    return change


def _flip(name: str) -> Change:
    """Change one bit of a part."""

    def change(found: Parts, _: dict[str, Any]) -> None:
        if name in found:
            found[name] = bytes([found[name][0] ^ 1]) + found[name][1:]

    return change


def _other_key(found: Parts, _: dict[str, Any]) -> None:
    found["keys/store"] = bytes(32)


def _newer_format(_: Parts, manifest: dict[str, Any]) -> None:
    manifest["format"] = 99


def _newer_schema(_: Parts, manifest: dict[str, Any]) -> None:
    manifest["schema"] = "9999"


def _missing_table(_: Parts, manifest: dict[str, Any]) -> None:
    del manifest["tables"]["event"]


def _strange_part(found: Parts, _: dict[str, Any]) -> None:
    found["keys/../../escaped"] = b"x"


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (_drop("keys/"), RestoreRefusedError, "lacks keys"),
        (_drop("keys/view-1"), RestoreRefusedError, "lacks keys .view-1"),
        (_other_key, BackupDamagedError, "not the ones the ledger was written with"),
        (_newer_format, RestoreRefusedError, "newer format"),
        (_newer_schema, RestoreRefusedError, "restore it with that version"),
        (_missing_table, BackupDamagedError, "not those of its schema"),
        (_strange_part, BackupDamagedError, "does not belong"),
    ],
)
def test_refused_before_anything_is_written(
    made: tuple[Path, Path], tmp_path: Path, change: Any, error: type[Exception], says: str
) -> None:
    rewrite(made[1], change)
    with pytest.raises(error, match=says):
        restore(made[1], tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("url", ["garbage", "mysql://u:hunter2@h/d", "postgresql://u:hunter2@h/d", "sqlite://"])
def test_an_address_that_no_ledger_has_is_refused_before_anything_is_made(
    made: tuple[Path, Path], tmp_path: Path, url: str
) -> None:
    with pytest.raises(RestoreRefusedError, match="the ledger's URL is") as refused:
        restore(made[1], tmp_path / "new", url)
    assert "hunter2" not in str(refused.value)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_that_no_ledger_could_be_opened_in_is_refused(
    made: tuple[Path, Path], tmp_path: Path, postgres: Any, encoding: str
) -> None:
    url = postgres.empty(f"ENCODING '{encoding}' LOCALE 'C'")
    with pytest.raises(RestoreRefusedError, match="a database in UTF8 is needed"):
        restore(made[1], tmp_path / "new", url)
    postgres.drop(url)


@pytest.mark.parametrize("command", [["migrate"], ["restore", "a.tar"]])
def test_a_setting_that_cannot_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Any) -> None:
    for name, value, said in (("WORKERS", "0", "workers"), ("LEDGER_URL_FILE", "/missing", "/missing")):
        with monkeypatch.context() as patch:
            patch.setenv(f"LANJIE_{name}", value)
            done = run(*command, "--state", str(tmp_path))
        assert (done.code, said in done.err, "internal" in done.err) == (2, True, False)


def test_damage_is_seen_wherever_it_is(made: tuple[Path, Path], tmp_path: Path) -> None:
    whole = made[1].read_bytes()
    chance = random.Random(7)
    for name in parts(made[1]):
        rewrite(made[1], _flip(name), digests=False)
        if name != "manifest.json":
            with pytest.raises(BackupDamagedError):
                restore(made[1], tmp_path / "new")
        made[1].write_bytes(whole)
    for _ in range(10):
        made[1].write_bytes(whole[: chance.randrange(len(whole) - 10_240)])
        with pytest.raises(BackupDamagedError):
            restore(made[1], tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "held", ["keys/store", "tokens/agency.token", "inquiry/a.segment", "ledger.sqlite3", "ledger.sqlite3-wal"]
)
def test_a_state_in_use_is_left_alone(made: tuple[Path, Path], tmp_path: Path, held: str) -> None:
    file = tmp_path / "new" / held
    file.parent.mkdir(parents=True)
    file.write_bytes(b"mine")
    with pytest.raises(RestoreRefusedError, match="is in use"):
        restore(made[1], tmp_path / "new")
    assert file.read_bytes() == b"mine"
    assert not (tmp_path / "new" / "keys" / "restoring").exists()


@pytest.mark.parametrize("apart", [7, pytest.param(3, marks=pytest.mark.long)])
def test_a_kill_at_any_point_is_seen_and_done_again(
    made: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, apart: int
) -> None:
    """A child does the restore and dies at its nth step; until it is done again, no ledger opens."""
    wanted = without_epoch(tables(url_of(made[0])))
    new = tmp_path / "new"
    steps = ("keep", "_insert", "_set_sequences", "sync_directory")
    died = 0
    for last in range(1, 100, apart):
        child = os.fork()
        if not child:
            count = 0
            for name in steps:
                real = getattr(adapter, name)

                def step(*arguments: Any, real: Any = real, last: int = last) -> Any:
                    nonlocal count
                    count += 1
                    if count == last:
                        os._exit(9)
                    return real(*arguments)

                monkeypatch.setattr(adapter, name, step)
            restore(made[1], new)
            os._exit(0)
        if not os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
            break
        died += 1
        half = (new / "keys" / "restoring").exists()
        whole = not half and bool(list((new / "keys").iterdir()))
        if half:
            with pytest.raises(KeysLostError, match="was not finished"):
                open_ledger(new)
        assert not whole or without_epoch(tables(url_of(new))) == wanted
        if last % 2 or whole:
            # Sometimes the next attempt finds what this one left, and sometimes nothing; a whole one it refuses.
            if not whole:
                _finish(made[1], new)
            assert without_epoch(tables(url_of(new))) == wanted
            open_ledger(new).close()
            for path in sorted(new.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
    assert died > 12 // apart
    open_ledger(new).close()
    assert len(tables(url_of(new))["event"]) == len(wanted["event"])


def _finish(path: Path, state: Path) -> None:
    if (state / "keys" / "restoring").exists() or not (state / "ledger.sqlite3").exists():
        restore(path, state)


def test_the_copy_goes_on_while_the_ledger_is_written(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    ledger = open_ledger(state)
    try:
        for number in range(12):
            batch = begun(ledger)
            rows = [cells(1000 * number + each, reason="事由" * 200) for each in range(150)]
            ledger.stage(
                batch,
                staged(ledger, batch, rows),
                actor="a",
                received_at=NOON,
                document="f",
                generation=ledger.generation,
            )
        copy = ledger.copy_to(tmp_path / "copy")
        done, total = copy.step()
        assert 0 < done < total
        listing = next(value for value in _ids(state, ledger))
        assert listing
        batch = begun(ledger)
        ledger.stage(batch, staged(ledger, batch, [cells(1)]), actor="a", received_at=NOON, document="f", generation=1)
        while done < total:
            done, total = copy.step()
        copy.close()
        copied = tables(f"sqlite:///{tmp_path}/copy")
        assert copied["batch"][-1][0] == batch
        ledger.close()
        assert copied == tables(url_of(state))
    finally:
        ledger.close()


def _ids(state: Path, ledger: Ledger) -> list[int]:
    del ledger
    return [row[0] for row in tables(url_of(state))["listing"]]


def test_a_copy_that_is_given_up_leaves_the_ledger_usable(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    copy = ledger.copy_to(tmp_path / "copy")
    copy.close()
    copy = ledger.copy_to(tmp_path / "copy")
    copy.step()
    copy.close()
    assert begun(ledger)
    with pytest.raises(Exception, match="unable to open"):
        ledger.copy_to(tmp_path / "nowhere" / "copy").step()
    assert ledger.head() == 0
    ledger.close()
