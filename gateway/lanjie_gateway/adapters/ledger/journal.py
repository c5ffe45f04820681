"""Word of commits that other hosts make on the same PostgreSQL, and locks among hosts.

1. A commit tells its revision on a channel. That is a hint only: what counts is the fresh read of the head.
2. Two connections, because the one that listens is busy listening. Each heals itself after the server was gone.
3. A standby that has not taken over yet may be behind what it has received, so it says nothing of the head.
4. A lock lives with the connection that took it, so whoever relies on one asks for it again.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any, Final

import psycopg
from psycopg import sql

from lanjie_gateway.adapters.ledger import database
from lanjie_gateway.adapters.ledger.commits import CHANNEL
from lanjie_gateway.adapters.ledger.locks import lock_number
from lanjie_gateway.domain.errors import Unanswerable

ANSWER_SECONDS: Final = 5.0
"""How long a question may take before the database counts as out of reach."""
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 2.0
_BROKEN: Final = (psycopg.OperationalError, psycopg.InterfaceError)
_HEAD: Final = "SELECT revision, pg_is_in_recovery() FROM head"
# A lock that is taken twice would have to be released twice, and stay after the first time.
_TRY_LOCK: Final = """
    SELECT coalesce(
        (SELECT true FROM pg_locks
         WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND granted AND objsubid = 1
           AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
           AND (classid::bigint << 32 | objid::bigint) = %(lock)s),
        pg_try_advisory_lock(%(lock)s))
"""


class Journal:
    """Hears of commits. Used from one event loop.

    Args:
        url: of the ledger, ``postgresql+psycopg://…``.
    """

    def __init__(self, url: str) -> None:
        self._parameters: dict[str, Any] = {**database.parameters(url), "autocommit": True}
        self._asking = asyncio.Lock()
        self._connection: psycopg.AsyncConnection | None = None
        self._stirred = asyncio.Event()
        self._listener: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to listen, now or as soon as the database can be reached."""
        self._listener = asyncio.create_task(self._listen())

    async def close(self) -> None:
        """Stop; locks are let go."""
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.gather(self._listener, return_exceptions=True)
        async with self._asking:
            await self._drop()

    async def head(self) -> int:
        """Return the newest revision as the database has it now.

        Raises:
            Unanswerable: LEDGER_UNAVAILABLE.
        """
        revision, standby = await self._ask(_HEAD)
        if standby:
            raise Unanswerable("LEDGER_UNAVAILABLE", "the ledger's database is a standby")  # (3)
        return int(revision)

    async def heard(self, timeout: float) -> None:
        """Return when a commit was told, the connection broke or came back, or after `timeout` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._stirred.wait()
        self._stirred.clear()

    async def try_lock(self, name: str) -> bool:
        """Take a lock that lives as long as the connection; return whether it is held, from before or from now on.

        Raises:
            Unanswerable: LEDGER_UNAVAILABLE.
        """
        (held,) = await self._ask(_TRY_LOCK, {"lock": lock_number(name)})
        return bool(held)

    async def _ask(self, query: str, arguments: dict[str, Any] | None = None) -> Sequence[Any]:
        async with self._asking:
            # A connection from before may have died unnoticed; a new one that fails means the database is away.
            for fresh in (self._connection is None, True):
                try:
                    return await self._answer(query, arguments)
                except (*_BROKEN, TimeoutError) as error:
                    await self._drop()
                    if fresh or isinstance(error, TimeoutError):
                        raise Unanswerable("LEDGER_UNAVAILABLE", "the ledger's database cannot be reached") from error
        raise AssertionError

    async def _answer(self, query: str, arguments: dict[str, Any] | None) -> Sequence[Any]:
        async with asyncio.timeout(ANSWER_SECONDS):
            if self._connection is None:
                self._connection = await psycopg.AsyncConnection.connect(**self._parameters)
            cursor = await self._connection.execute(query.encode(), arguments)
            row = await cursor.fetchone()
        if row is None:
            raise psycopg.InterfaceError("no answer")
        return row

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _listen(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            # Whatever it was: a standby refuses to listen until it has taken over, and nobody else would ask again.
            with contextlib.suppress(psycopg.Error):
                connection = await psycopg.AsyncConnection.connect(**self._parameters)
                try:
                    await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(CHANNEL)))
                    pause = _FIRST_PAUSE
                    # What was told before is not heard again.
                    self._stirred.set()
                    async for _ in connection.notifies():
                        self._stirred.set()
                finally:
                    self._stirred.set()
                    await connection.close()
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
