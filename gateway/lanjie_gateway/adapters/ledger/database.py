"""The SQLite file under the ledger: one connection, WAL, full sync; upgraded by itself after a copy was put aside."""

import os
import sqlite3
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError

from lanjie_gateway.adapters.ledger.rows import LedgerError

_PRAGMAS: Final = (
    "journal_mode=WAL",
    # An acknowledged commit survives a loss of power; NORMAL may lose it.
    "synchronous=FULL",
    # KiB. Indexes over keyed hashes are met at random, so they should stay in memory.
    "cache_size=-196608",
    "wal_autocheckpoint=8000",
    "temp_store=FILE",
)
_MIGRATIONS: Final = Path(__file__).parent / "migrations"


def connect(url: str) -> sa.Engine:
    """Return an engine over one SQLite connection at the newest schema.

    The connection is used by the ledger's thread alone (3.40.1 has the WAL-reset race with several).

    Raises:
        LedgerError: not a SQLite URL, or the file is of a newer version.
    """
    parsed = sa.make_url(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        raise LedgerError("the ledger's URL is sqlite:////absolute/path")
    path = Path(parsed.database)
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists() or path.stat().st_size == 0
    if new:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    engine = sa.create_engine(
        parsed, poolclass=sa.StaticPool, connect_args={"check_same_thread": False, "isolation_level": None}
    )
    sa.event.listen(engine, "connect", _prepare)
    sa.event.listen(engine, "begin", _begin)
    try:
        _upgrade(engine, path, new=new)
    except BaseException:
        engine.dispose()
        raise
    return engine


def migration_config() -> Config:
    """Return alembic's configuration; the connection is handed over in ``attributes``."""
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _upgrade(engine: sa.Engine, path: Path, *, new: bool) -> None:
    config = migration_config()
    newest = ScriptDirectory.from_config(config).get_current_head()
    with engine.connect() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
    if current == newest:
        return
    if not new:
        _copy_aside(engine, path.with_name(f"{path.name}.before-{newest}"))
    try:
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except CommandError as error:
        raise LedgerError(f"the ledger {path} is not of this version: {error}") from error


def _copy_aside(engine: sa.Engine, target: Path) -> None:
    # The backup interface takes what is still in the write-ahead log too; a plain copy would not.
    os.close(os.open(target, os.O_CREAT | os.O_RDWR | os.O_TRUNC, 0o600))
    raw = engine.raw_connection()
    try:
        source = raw.driver_connection
        if source is None:
            raise LedgerError("the ledger's connection is closed")
        copy = sqlite3.connect(target)
        try:
            source.backup(copy)
        finally:
            copy.close()
    finally:
        raw.close()


def _prepare(connection: sqlite3.Connection, _record: Any) -> None:
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}").close()


def _begin(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
