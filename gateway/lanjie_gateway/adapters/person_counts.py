"""How many distinct natural persons departments asked about today, over all gateways on one Redis.

One HyperLogLog a department and day holds keyed hashes under the day's name: it can tell how many they were (to about
one in a hundred), and neither who, nor whether anybody is among them, nor that two days had the same. It is an aid:
where Redis does not answer, each gateway goes by its own count.
"""

import asyncio
import datetime
from collections.abc import Sequence
from typing import Any, Final

import structlog

from lanjie_gateway.adapters.redis_client import FAILURES, AsyncClient
from lanjie_matcher.fingerprints import IndexKey

ANSWER_SECONDS: Final = 0.5
KEPT_SECONDS: Final = 2 * 86_400
_log = structlog.get_logger("lanjie.limits")


class PersonCounts:
    """The counts.

    Args:
        client: of Redis.
        key: key of the hashes.
    """

    def __init__(self, client: AsyncClient, key: IndexKey) -> None:
        self._client = client
        self._key = key
        self._failing = False

    async def add(self, department: str, day: datetime.date, persons: Sequence[bytes]) -> int | None:
        """Add persons by their tokens; return how many distinct ones there are, `None` where nobody can say."""
        name = f"lanjie:persons:{{{department}}}:{day.isoformat()}"
        hashes = [self._key.token(f"{day.isoformat()}:{each.hex()}") for each in persons]
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                if hashes:
                    await self._do("PFADD", name, *hashes)
                    await self._do("EXPIRE", name, KEPT_SECONDS)
                counted = int(await self._do("PFCOUNT", name))
        except FAILURES as error:
            if not self._failing:
                _log.warning("persons_counted_here", error=type(error).__name__)
            self._failing = True
            return None
        self._failing = False
        return counted

    async def _do(self, *command: Any) -> Any:
        return await self._client.execute_command(*command)
