"""Fixtures of all tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings

from tests.support.plans import Plans
from tests.support.postgres import PostgresServer, serve

# How quick an example is says how busy the machine is, and nothing of the code.
settings.register_profile("lanjie", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("lanjie")

sa.event.listen(sa.Engine, "before_cursor_execute", Plans())


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A real PostgreSQL server; ``postgres.database()`` gives the URL of a fresh, migrated database."""
    yield from serve()


@pytest.fixture
def shared_url(postgres: PostgresServer) -> Iterator[str]:
    """URL of a fresh ledger on PostgreSQL."""
    url = postgres.lend()
    yield url
    postgres.give_back(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a fresh ledger, once on each database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.sqlite3"
    return str(request.getfixturevalue("shared_url"))
