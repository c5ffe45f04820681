"""A DB-API driver over apsw, whose SQLite takes file systems written in Python, for SQLAlchemy's pysqlite dialect."""

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import apsw


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except apsw.Error as error:
        kind = sqlite3.IntegrityError if isinstance(error, apsw.ConstraintError) else sqlite3.OperationalError
        raise kind(str(error)) from error


class Cursor:
    """All rows are fetched at once, so that no statement is left half-way when its transaction ends."""

    arraysize = 1

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection
        self._rows: Iterator[tuple[Any, ...]] = iter(())
        self.description: tuple[Any, ...] | None = None
        self.rowcount = -1
        self.lastrowid = 0

    def execute(self, sql: str, parameters: Any = ()) -> "Cursor":
        return self._run(sql, lambda cursor, text: cursor.execute(text, parameters))

    def executemany(self, sql: str, parameters: Any) -> "Cursor":
        return self._run(sql, lambda cursor, text: cursor.executemany(text, parameters))

    def _run(self, sql: str, go: Callable[[apsw.Cursor, str], apsw.Cursor]) -> "Cursor":
        raw = self._connection.raw
        columns: list[Any] = []

        def described(cursor: apsw.Cursor, _sql: str, _bindings: Any) -> bool:
            # apsw tells the columns only before the first step of a statement that gives no row.
            columns[:] = cursor.get_description()
            return True

        with _translated():
            before = raw.total_changes()
            cursor = raw.cursor()
            cursor.exec_trace = described
            self._rows = iter(go(cursor, self._connection.overridden(sql)).fetchall())
            self.rowcount = -1 if columns else raw.total_changes() - before
            self.lastrowid = raw.last_insert_rowid()
        self.description = tuple((name, kind, None, None, None, None, None) for name, kind in columns) or None
        return self

    def fetchone(self) -> tuple[Any, ...] | None:
        return next(self._rows, None)

    def fetchmany(self, size: int = arraysize) -> list[tuple[Any, ...]]:
        return [row for row, _ in zip(self._rows, range(size), strict=False)]

    def fetchall(self) -> list[tuple[Any, ...]]:
        return list(self._rows)

    def close(self) -> None:
        self._rows = iter(())


class Connection:
    isolation_level: str | None = None

    def __init__(self, raw: apsw.Connection, pragmas: Mapping[str, str], committed: Callable[[Any], None]) -> None:
        self.raw = raw
        self._pragmas = pragmas
        self._committed = committed

    def overridden(self, sql: str) -> str:
        pragma = sql.removeprefix("PRAGMA ").partition("=")[0]
        return f"PRAGMA {pragma}={self._pragmas[pragma]}" if pragma in self._pragmas else sql

    def cursor(self) -> Cursor:
        return Cursor(self)

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Cursor:
        return self.cursor().execute(sql, parameters)

    def create_function(self, name: str, arguments: int, function: Any, *, deterministic: bool = False) -> None:
        self.raw.create_scalar_function(name, function, arguments, deterministic=deterministic)

    def commit(self) -> None:
        if self.raw.in_transaction:
            self.execute("COMMIT")
            self._committed(self.raw)

    def rollback(self) -> None:
        if self.raw.in_transaction:
            self.execute("ROLLBACK")

    def close(self) -> None:
        self.raw.close()


class Driver:
    """What SQLAlchemy takes for the module.

    Args:
        vfs: name of the apsw VFS.
        pragmas: values that take the place of those the program sets.
        committed: called with the apsw connection whenever a COMMIT has returned.
    """

    paramstyle = "qmark"
    threadsafety = 1
    apilevel = "2.0"
    sqlite_version_info = tuple(int(part) for part in apsw.sqlite_lib_version().split("."))
    Warning, Error, DatabaseError = sqlite3.Warning, sqlite3.Error, sqlite3.DatabaseError
    InterfaceError, DataError, OperationalError = sqlite3.InterfaceError, sqlite3.DataError, sqlite3.OperationalError
    IntegrityError, InternalError = sqlite3.IntegrityError, sqlite3.InternalError
    ProgrammingError, NotSupportedError = sqlite3.ProgrammingError, sqlite3.NotSupportedError
    Binary = memoryview

    def __init__(self, vfs: str, pragmas: Mapping[str, str], committed: Callable[[Any], None]) -> None:
        self._vfs = vfs
        self._pragmas = pragmas
        self._committed = committed

    def connect(self, database: str, **_: Any) -> Connection:
        with _translated():
            return Connection(apsw.Connection(database, vfs=self._vfs), self._pragmas, self._committed)
