"""The database under the ledger: SQLite in a file, or PostgreSQL for several hosts. One code path from here on.

SQLite: one connection, WAL, full sync; upgrades itself after a copy was put aside. PostgreSQL: one connection of each
host, READ COMMITTED; `migrate` brings it to the newest schema, and nothing else does.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import psycopg
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from lanjie_gateway.adapters.ledger import locks
from lanjie_gateway.adapters.ledger.locks import shared
from lanjie_gateway.adapters.ledger.rows import LedgerError
from lanjie_gateway.domain.errors import Unanswerable

OLDEST_POSTGRESQL: Final = 13
_PRAGMAS: Final = (
    "journal_mode=WAL",
    # An acknowledged commit survives a loss of power; NORMAL may lose it.
    "synchronous=FULL",
    # KiB. Indexes over keyed hashes are met at random, so they should stay in memory.
    "cache_size=-196608",
    "wal_autocheckpoint=8000",
    "temp_store=FILE",
    # What is erased is overwritten (Art. 41). Some builds of SQLite do so anyway, others do not.
    "secure_delete=ON",
)
_SESSION: Final = {
    # An acknowledged commit is on disk, whatever the server's default says.
    "synchronous_commit": "on",
    # No transaction of ours waits for anything but the server, so an idle one belongs to a host that is frozen; it
    # would hold its locks, the one on the head among them, and stop all the others.
    "idle_in_transaction_session_timeout": "60s",
    # The same for a host that has gone without a word: its locks go within a minute.
    "tcp_keepalives_idle": "20s",
    "tcp_keepalives_interval": "10s",
    "tcp_keepalives_count": "3",
    # Everything is asked for by keyed hashes, a few rows at a time. The default is made for disks that spin, and has
    # a whole table read for a page of changes.
    "random_page_cost": "1.1",
}
_CONNECT: Final = {
    "connect_timeout": 5,
    # A database that says nothing of its encoding gives bytes else, and is then refused for a reason that nobody reads.
    "client_encoding": "utf8",
    "keepalives_idle": 20,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
    "application_name": "lanjie",
    "options": " ".join(f"-c {name}={value}" for name, value in _SESSION.items()),
}
NEWEST: Final = "0013"
"""The newest schema's version."""


def connect(url: str) -> sa.Engine:
    """Return an engine over one connection at the newest schema.

    The connection is used by the ledger's thread alone (SQLite 3.40.1 has the WAL-reset race with several).

    Args:
        url: ``sqlite:////absolute/path`` or ``postgresql+psycopg://…``.

    Raises:
        LedgerError: another URL, a schema of another version, a server that is too old or keeps no UTF-8.
        Unanswerable: LEDGER_UNAVAILABLE: PostgreSQL cannot be reached.
    """
    engine = _engine(url)
    try:
        if shared(engine):
            _check(engine)
        else:
            _upgrade(engine)
    except BaseException:
        engine.dispose()
        raise
    return engine


def migrate(url: str) -> tuple[str, str]:
    """Bring a database to the newest schema; return the version it had, empty for none, and the one it has.

    Hosts may do so at once. Errors as for `connect`.
    """
    engine = _engine(url)
    try:
        return _upgrade(engine)
    finally:
        engine.dispose()


def parameters(url: str) -> dict[str, Any]:
    """Return psycopg's connection parameters of a PostgreSQL URL; what the URL states goes before our defaults."""
    _, stated = PGDialect_psycopg().create_connect_args(sa.make_url(url))  # type: ignore[no-untyped-call]
    return {**_CONNECT, **stated}


@contextlib.contextmanager
def transaction(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Run a transaction; the one place where a database that is out of reach gets its name.

    A refusal leaves nothing behind. When the connection breaks during the commit itself, nobody can tell whether the
    commit was made.

    Raises:
        Unanswerable: LEDGER_UNAVAILABLE: the server is gone, starts, ends, is out of resources, or is a standby that
            has not taken over; the next transaction connects anew.
    """
    try:
        with engine.begin() as connection:
            yield connection
    except (sa.exc.DBAPIError, psycopg.Error) as error:
        # With SQLite these are defects of the file or of ours, and no other attempt would do better.
        if shared(engine) and _out_of_reach(error):
            raise Unanswerable("LEDGER_UNAVAILABLE", "the ledger's database cannot be reached; try again") from error
        raise


def _out_of_reach(error: sa.exc.DBAPIError | psycopg.Error) -> bool:
    if isinstance(error, psycopg.Error):
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    if isinstance(error.orig, psycopg.errors.ReadOnlySqlTransaction):
        return True
    return error.connection_invalidated or isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError)


@contextlib.contextmanager
def reading(url: str) -> Iterator[sa.Connection]:
    """Yield a connection that only reads, at best in one snapshot, of a ledger that nobody here serves.

    Raises:
        LedgerError: another URL.
    """
    if url.startswith("sqlite"):
        path = quote(sa.make_url(url).database or "")
        engine = sa.create_engine("sqlite://", creator=lambda: sqlite3.connect(f"file:{path}?mode=ro", uri=True))
    else:
        options = {"isolation_level": "REPEATABLE READ", "connect_args": {"connect_timeout": 5}}
        engine = sa.create_engine(url, **options).execution_options(postgresql_readonly=True)
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def empty_log(engine: sa.Engine) -> None:
    """Write SQLite's log into the file and empty it; another time if a copy is under way."""
    if shared(engine):
        return
    held = engine.raw_connection()
    try:
        if isinstance(held.driver_connection, sqlite3.Connection):
            with contextlib.suppress(sqlite3.OperationalError):
                held.driver_connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").close()
    finally:
        held.close()


def insert(connection: sa.Connection, table: sa.Table) -> Any:
    """Return an INSERT that knows ON CONFLICT, which both databases spell alike."""
    return postgresql_insert(table) if shared(connection) else sqlite_insert(table)


def schema_of(connection: sa.Connection) -> str:
    """Return the version of a database's schema; empty for none."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return ""
    return str(connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() or "")


def address_of(url: str) -> sa.URL:
    """Return the address of a ledger, read.

    Raises:
        LedgerError: it is of neither form.
    """
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError:
        # Its text would repeat the URL, and a password in it.
        raise LedgerError(_ADDRESSES) from None
    if not parsed.database or (parsed.drivername != "postgresql+psycopg" and parsed.get_backend_name() != "sqlite"):
        raise LedgerError(_ADDRESSES)
    return parsed


def _engine(url: str) -> sa.Engine:
    parsed = address_of(url)
    if parsed.drivername == "postgresql+psycopg":
        return sa.create_engine(
            parsed,
            pool_size=1,
            max_overflow=0,
            pool_pre_ping=True,
            isolation_level="READ COMMITTED",
            hide_parameters=True,
            connect_args=parameters(url),
        )
    path = Path(str(parsed.database))
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    engine = sa.create_engine(
        parsed,
        poolclass=sa.StaticPool,
        hide_parameters=True,
        connect_args={"check_same_thread": False, "isolation_level": None},
    )
    sa.event.listen(engine, "connect", _prepare)
    sa.event.listen(engine, "begin", _begin)
    return engine


_ADDRESSES: Final = "the ledger's URL is sqlite:////absolute/path or postgresql+psycopg://user:password@host/database"


def _check(engine: sa.Engine) -> None:
    with transaction(engine) as connection:
        check_server(connection)
        current = schema_of(connection)
    if current > NEWEST:
        raise LedgerError(f"{_shown(engine)} has schema {current}, and this version knows {NEWEST}: run the newer one")
    if current != NEWEST:
        at = f"has schema {current}" if current else "has no ledger in it yet"
        raise LedgerError(f"{_shown(engine)} {at}, this version wants {NEWEST}: run `lanjie migrate`")


def check_server(connection: sa.Connection) -> None:
    """See that a PostgreSQL server and its database can hold a ledger.

    Raises:
        LedgerError: it is too old, or the database is not kept in UTF8.
    """
    version = int((connection.dialect.server_version_info or (0,))[0])
    if version < OLDEST_POSTGRESQL:
        raise LedgerError(f"the server is PostgreSQL {version}; {OLDEST_POSTGRESQL} or later is needed")
    encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
    if encoding != "UTF8":
        raise LedgerError(f"{_shown(connection.engine)} is kept in {encoding}; a database in UTF8 is needed")


def _upgrade(engine: sa.Engine) -> tuple[str, str]:
    if not shared(engine):
        _put_aside(engine)
    with transaction(engine) as connection:
        if shared(engine):
            check_server(connection)
            locks.wait(connection, "migrate")
        current = schema_of(connection)
        if current != NEWEST:
            # Here, because alembic takes a fifth of a second, and most starts find the newest schema.
            from lanjie_gateway.adapters.ledger import migrations  # noqa: PLC0415

            try:
                migrations.upgrade(connection, NEWEST)
            except migrations.UnknownSchemaError as error:
                raise LedgerError(f"{_shown(engine)} is not of this version: {error}") from error
    return current, NEWEST


def _put_aside(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        current = schema_of(connection)
        empty = not sa.inspect(connection).get_table_names()
    # A newer one is refused: what was put aside before this schema must not give way to it.
    if current < NEWEST and not empty:
        path = Path(engine.url.database or "")
        _copy_aside(engine, path.with_name(f"{path.name}.before-{NEWEST}"))


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


def _shown(engine: sa.Engine) -> str:
    return f"the ledger {engine.url.set(query={}).render_as_string(hide_password=True)}"


def _prepare(connection: sqlite3.Connection, _record: Any) -> None:
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}").close()


def _begin(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
