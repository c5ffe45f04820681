"""Fixtures of all tests."""

from collections.abc import Iterator

import pytest

from tests.support.postgres import PostgresServer, serve


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A real PostgreSQL server; ``postgres.database()`` gives the URL of a fresh, migrated database."""
    yield from serve()
