"""What only a ledger in a file does: it upgrades itself, after a copy was put aside."""

import contextlib
import sqlite3

import pytest
import sqlalchemy as sa

from lanjie_gateway.adapters.ledger import LedgerError, passes
from lanjie_gateway.adapters.ledger.database import NEWEST, migrate
from tests.support.ledger import cells, open_ledger, take, to_second_schema


def test_an_older_file_is_copied_aside_before_it_is_upgraded(tmp_path):
    with sqlite3.connect(tmp_path / "ledger.sqlite3") as old:
        old.execute("CREATE TABLE keepsake (x)")
    old.close()
    open_ledger(tmp_path).close()
    (copy,) = tmp_path.glob("ledger.sqlite3.before-*")
    engine = sa.create_engine(f"sqlite:///{copy}")
    assert sa.inspect(engine).get_table_names() == ["keepsake"]
    engine.dispose()


def test_a_file_of_a_newer_program_leaves_the_copy_alone_that_is_there(tmp_path):
    open_ledger(tmp_path).close()
    copy = tmp_path / f"ledger.sqlite3.before-{NEWEST}"
    copy.write_text("the ledger as it was before this schema")
    with sqlite3.connect(tmp_path / "ledger.sqlite3") as file:
        file.execute("UPDATE alembic_version SET version_num = '9000'")
    file.close()
    with pytest.raises(LedgerError, match="not of this version"):
        open_ledger(tmp_path)
    assert copy.read_text() == "the ledger as it was before this schema"


def test_a_new_file_needs_no_copy(tmp_path):
    assert migrate(f"sqlite:///{tmp_path}/ledger.sqlite3") == ("", NEWEST)
    assert list(tmp_path.glob("*.before-*")) == []
    open_ledger(tmp_path).close()
    assert list(tmp_path.glob("*.before-*")) == []


def test_what_is_acknowledged_is_on_disk(tmp_path):
    ledger = open_ledger(tmp_path)
    with ledger._engine.begin() as connection:
        settings = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")]
    assert settings == ["wal", 2]
    ledger.close()


def test_a_file_of_the_first_schema_is_brought_up(tmp_path):
    ledger = open_ledger(tmp_path)
    take(ledger, cells(1), cells(2))
    with ledger._engine.begin() as connection:
        to_second_schema(connection)
    ledger.close()
    with sqlite3.connect(tmp_path / "ledger.sqlite3") as file:
        file.execute("DROP INDEX ix_event_batch_id_seq")
        file.execute("CREATE INDEX ix_event_batch_id ON event (batch_id)")
        file.execute("UPDATE alembic_version SET version_num = '0001'")
    file.close()
    assert migrate(f"sqlite:///{tmp_path}/ledger.sqlite3") == ("0001", NEWEST)
    ledger = open_ledger(tmp_path)
    assert take(ledger, cells(3)).revision == 2
    assert len(ledger.changed(1, 0, 10)[0]) == 2
    ledger.close()


@pytest.mark.parametrize(
    "find", [lambda connection: passes.fresh(connection, 25), passes.search], ids=["fresh", "search"]
)
def test_passes_that_are_new_are_found_by_their_own_index(tmp_path, find):
    """However many have been looked at: thousands come at once, and each step that read all of them took seconds."""
    told = []
    with contextlib.closing(open_ledger(tmp_path)) as ledger, ledger._engine.begin() as connection:
        sa.event.listen(
            *(connection, "before_cursor_execute"), lambda _connection, _cursor, *said: told.append(said[:2])
        )
        find(connection)
        ((statement, values),) = [each for each in told if "FROM passed" in each[0]]
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values).all()
    assert ["ix_passed_new" in row[3] for row in plan] == [True], plan
