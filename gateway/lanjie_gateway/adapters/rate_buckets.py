"""How many checks a department may ask for: token buckets (GCRA), one for each department.

They live in Redis where there is one, so that all workers and hosts draw on the same; the server's own clock counts.
Where Redis is not there or does not answer, each worker counts for itself: a department may then get a multiple of its
rate, which is better than none.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

import structlog
from redis.exceptions import RedisError

from lanjie_gateway.adapters.redis_client import AsyncClient
from lanjie_gateway.domain.errors import Unanswerable

MINUTE: Final = 60_000_000
"""Microseconds. A bucket holds what flows in within a minute."""
ANSWER_SECONDS: Final = 0.1
PAUSE_SECONDS: Final = 1.0
_DRAW: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local full = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), now) + ARGV[1]
local wait = full - now - ARGV[2]
if wait > 0 then return math.ceil(wait) end
redis.call('SET', KEYS[1], string.format('%.0f', full), 'PX', 120000)
return 0
"""
_log = structlog.get_logger("lanjie.rate")


class RateBuckets:
    """The buckets. Used from one event loop.

    Args:
        per_minute: checks a department may ask for in a minute; 0 for any number.
        client: of Redis, `None` to count here.
        monotonic: seconds of a clock that never goes back.
    """

    def __init__(
        self, per_minute: int, client: AsyncClient | None = None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_minute = per_minute
        self._client = client
        self._monotonic = monotonic
        self._here: dict[str, int] = {}
        self._ask_again = float("-inf")

    async def draw(self, department: str, checks: int) -> None:
        """Take the tokens of some checks; a batch of more than a minute's counts as a minute's.

        Raises:
            Unanswerable: OVERLOADED, with the time after which there are enough.
        """
        if not self._per_minute:
            return
        cost = min(checks, self._per_minute) * MINUTE // self._per_minute
        wait = await self._draw_there(department, cost)
        if wait is None:
            wait = self._draw_here(department, cost)
        if wait > 0:
            message = "the department's checks of this minute are used up"
            raise Unanswerable("OVERLOADED", message, retry_after_ms=str(-(-wait // 1000)))

    async def _draw_there(self, department: str, cost: int) -> int | None:
        if self._client is None or self._monotonic() < self._ask_again:
            return None
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await self._client.execute_command("EVAL", _DRAW, 1, f"lanjie:rate:{department}", cost, MINUTE)
            return int(answer)
        except (RedisError, OSError, TimeoutError, TypeError, ValueError) as error:
            self._ask_again = self._monotonic() + PAUSE_SECONDS
            _log.warning("rates_counted_here", error=type(error).__name__)
            return None

    def _draw_here(self, department: str, cost: int) -> int:
        now = int(self._monotonic() * 1_000_000)
        full = max(self._here.get(department, 0), now) + cost
        wait = full - now - MINUTE
        if wait <= 0:
            self._here[department] = full
        return max(wait, 0)
