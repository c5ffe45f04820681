"""Migrations of the ledger."""

from pathlib import Path
from typing import Final

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.util.exc import CommandError

DIRECTORY: Final = Path(__file__).parent


class UnknownSchemaError(Exception):
    """The database, or who asks, names a version that is not among these migrations."""


def upgrade(connection: sa.Connection, version: str) -> None:
    """Bring a database to a version of the schema, if it is older.

    Raises:
        UnknownSchemaError: see there.
    """
    config = Config()
    config.set_main_option("script_location", str(DIRECTORY).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, version)
    except CommandError as error:
        raise UnknownSchemaError(str(error)) from error
