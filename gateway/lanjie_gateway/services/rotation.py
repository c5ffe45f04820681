"""Rotation of the view key (Art. 43): a new generation of the view, without a gap for the SDKs.

1. The agency asks for it; one at a time, and not while a list file is taken. Imports wait until it is over, removals
   and checks go on: the work is done in slices.
2. A caller that leaves before the switch ends it, and nothing has changed. After the switch it goes on without the
   caller.
3. The lock of the imports is let go when the view of the generation before is no longer needed: that view can follow
   events, not imports, and an SDK that holds it would pass in silence whoever is listed meanwhile (Art. 48).
"""

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from lanjie_gateway.adapters.keys import KeysLostError, make_view_key
from lanjie_gateway.adapters.ledger import Ledger, LedgerThread
from lanjie_gateway.domain.access import Principal, Role
from lanjie_gateway.domain.errors import Unanswerable
from lanjie_gateway.services.acts import carried_through

_log = structlog.get_logger("lanjie.rotation")
Told = Callable[[int, int], None]


class RotationService:
    """Gives the view a new key.

    Args:
        ledger: the ledger's thread.
        keys: directory of the keys.
        published: awaited with the revision of the switch; returns when the workers have applied it.
        grace: awaited after that; returns when nobody is served the view of the generation before any more.
    """

    def __init__(
        self,
        ledger: LedgerThread,
        keys: Path,
        published: Callable[[int], Awaitable[None]],
        grace: Callable[[], Awaitable[None]],
    ) -> None:
        self._ledger = ledger
        self._make_key = functools.partial(make_view_key, keys)
        self._published = published
        self._grace = grace
        self._work: asyncio.Task[tuple[int, int]] | None = None

    async def run(self, asker: Principal, told: Told) -> tuple[int, int]:
        """Rotate the key; return the new generation and the revision of its commit, when all is over.

        Args:
            asker: who wants it.
            told: hears (rows done, rows in all) as it goes on.

        Raises:
            Refused: NOT_PERMITTED; TRANSITION_ILLEGAL: a live listing cannot be read, see `adapters.ledger.rotation`.
            Unanswerable: OVERLOADED: somebody imports, or another rotation is under way; LEDGER_UNAVAILABLE: the
                database cannot be reached, or another host has made a newer view key that is not here.
        """
        asker.require(Role.AGENCY)
        if self._work is not None and not self._work.done():
            raise _busy()
        left = asyncio.Event()
        # (2) A task of its own: however often a caller's call is cancelled, the lock is let go once and in its time.
        self._work = asyncio.create_task(self._rotate(asker.actor, told, left))
        self._work.add_done_callback(_heard)
        try:
            return await asyncio.shield(self._work)
        except asyncio.CancelledError:
            left.set()
            raise

    async def close(self) -> None:
        """End a rotation under way: before its switch nothing has changed, after it only the grace is cut short."""
        if self._work is not None:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)

    async def _rotate(self, actor: str, told: Told, left: asyncio.Event) -> tuple[int, int]:
        try:
            if not await self._ledger.call(Ledger.begin_rotation, self._make_key):
                raise _busy()
            done, total = 0, 1
            while done < total:
                done, total = await self._ledger.call(Ledger.rotate)
                told(done, total)
                if left.is_set():
                    raise asyncio.CancelledError
            revision = await self._ledger.call(Ledger.switch_generation, actor)
            generation = self._ledger.generation
            _log.info("view_key_rotated", generation=generation, revision=revision, actor=actor)
            await self._published(revision)
            await self._grace()
        except KeysLostError as error:
            raise Unanswerable("LEDGER_UNAVAILABLE", str(error)) from error
        finally:
            # (3) A ledger that is out of reach has let go by itself.
            with contextlib.suppress(Unanswerable):
                await carried_through(self._ledger.call(Ledger.end_rotation))
        return generation, revision


def _busy() -> Unanswerable:
    return Unanswerable("OVERLOADED", "an import or another rotation is under way, try again", retry_after_ms="10000")


def _heard(work: asyncio.Task[tuple[int, int]]) -> None:
    # The caller may have left, and what went wrong then is for the log.
    if not work.cancelled() and (error := work.exception()) is not None:
        _log.warning("view_key_not_rotated", error=type(error).__name__)
