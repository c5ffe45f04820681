"""Many rows at once."""

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa
from psycopg import sql

from lanjie_gateway.adapters.ledger import database, locks

_COPY_TYPES: Final = {sa.BigInteger: "int8", sa.Boolean: "bool", sa.LargeBinary: "bytea", sa.String: "varchar"}


def insert(
    connection: sa.Connection,
    table: sa.Table,
    columns: tuple[str, ...],
    rows: Sequence[tuple[Any, ...]],
    *,
    known_stay: bool = False,
) -> None:
    """Insert rows by the driver's quickest way.

    Args:
        connection: of the ledger.
        table: of the ledger.
        columns: names, in the order of the values.
        rows: values as the driver takes them.
        known_stay: pass over rows whose key is there.
    """
    if not rows:
        return
    statement = database.insert(connection, table)
    if known_stay:
        statement = statement.on_conflict_do_nothing()
    if locks.shared(connection):
        if known_stay:
            connection.execute(statement, [dict(zip(columns, row, strict=True)) for row in rows])
        else:
            _copy(connection, table, columns, rows)
        return
    # Compiled here, handed to the driver as it is: converting parameters one by one costs more than the insert.
    compiled = statement.inline().compile(dialect=connection.dialect, column_keys=columns)
    order = list(compiled.positiontup or columns)
    if order != list(columns):
        places = [columns.index(name) for name in order]
        rows = [tuple(row[place] for place in places) for row in rows]
    connection.exec_driver_sql(str(compiled), rows)


def _copy(
    connection: sa.Connection, table: sa.Table, columns: tuple[str, ...], rows: Sequence[tuple[Any, ...]]
) -> None:
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(sql.Identifier(table.name), names)
    driver: Any = connection.connection
    with driver.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types([_COPY_TYPES[type(table.c[name].type)] for name in columns])
        for row in rows:
            copy.write_row(row)
