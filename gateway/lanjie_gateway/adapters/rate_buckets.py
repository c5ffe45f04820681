"""How many checks may be asked for: token buckets (GCRA) of a department, of each of its credentials and officers.

They live in Redis where there is one, so that all workers and hosts draw on the same; the server's own clock counts.
Where Redis is not there or does not answer, each worker counts for itself: a department may then get a multiple of its
rate, which is better than none.

All levels give, or none does. A question is let in while its bucket is not empty, up to what a minute brings, and then
pays its whole size: after a batch that is larger there is a longer wait.
"""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import structlog

from lanjie_gateway.adapters.redis_client import FAILURES, AsyncClient
from lanjie_gateway.domain.errors import Unanswerable

MINUTE: Final = 60_000_000
"""Microseconds. A bucket holds what flows in within a minute."""
ANSWER_SECONDS: Final = 0.1
PAUSE_SECONDS: Final = 1.0
MOST_HERE: Final = 10_000
"""Buckets that a worker counts by itself; of more, those drawn on longest ago are full again."""
_DRAW: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local full, worst = {}, 0
for place, key in ipairs(KEYS) do
  full[place] = math.max(tonumber(redis.call('GET', key) or '0'), now)
  worst = math.max(worst, full[place] + ARGV[2 * place] - now - ARGV[1])
end
if worst > 0 then return math.ceil(worst) end
for place, key in ipairs(KEYS) do
  local until_empty = full[place] + ARGV[2 * place + 1]
  redis.call('SET', key, string.format('%.0f', until_empty), 'PX', math.ceil((until_empty - now) / 1000) + 60000)
end
return 0
"""
_log = structlog.get_logger("lanjie.rate")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Checks in a minute; 0 for any number.

    Attributes:
        department: of a department as a whole, where its grant says nothing else.
        credential: of one of its persons or credentials, which stands for an SDK.
        officer: of one officer, where the question names one.
    """

    department: int = 0
    credential: int = 0
    officer: int = 0

    def any(self) -> bool:
        """Whether there is a rate at all."""
        return bool(self.department or self.credential or self.officer)


class _Level(NamedTuple):
    key: str
    entry: int
    """Microseconds of flow that must be free."""
    cost: int


class RateBuckets:
    """The buckets. Used from one event loop.

    Args:
        rates: of the gateway.
        client: of Redis, `None` to count here.
        monotonic: seconds of a clock that never goes back.
    """

    def __init__(
        self, rates: Rates, client: AsyncClient | None = None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._rates = rates
        self._client = client
        self._monotonic = monotonic
        self._here: OrderedDict[str, int] = OrderedDict()
        self._ask_again = float("-inf")

    async def draw(
        self, department: str, checks: int, *, credential: str = "", officer: str = "", granted: int = 0
    ) -> None:
        """Take the tokens of some checks, on every level.

        Args:
            department: the unit.
            checks: how many.
            credential: its person or credential.
            officer: the officer at the counter; empty for none named.
            granted: the department's rate by its grant; 0 for the gateway's.

        Raises:
            Unanswerable: OVERLOADED, with the time after which there are enough.
        """
        rates = self._rates
        if not (granted or rates.department or rates.credential or rates.officer):
            return
        levels = [
            _level(department, name, rate, checks)
            for name, rate in (
                ("", granted or rates.department),
                (f"c:{credential}", rates.credential),
                (officer and f"o:{officer}", rates.officer if officer else 0),
            )
            if rate
        ]
        if not levels:
            return
        wait = await self._draw_there(levels)
        if wait is None:
            wait = self._draw_here(levels)
        if wait > 0:
            message = "the checks of this minute are used up"
            raise Unanswerable("OVERLOADED", message, retry_after_ms=str(-(-wait // 1000)))

    async def _draw_there(self, levels: Sequence[_Level]) -> int | None:
        if self._client is None or self._monotonic() < self._ask_again:
            return None
        keys = [level.key for level in levels]
        costs = [number for level in levels for number in (level.entry, level.cost)]
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await self._client.execute_command("EVAL", _DRAW, len(keys), *keys, MINUTE, *costs)
            return int(answer)
        except FAILURES as error:
            self._ask_again = self._monotonic() + PAUSE_SECONDS
            _log.warning("rates_counted_here", error=type(error).__name__)
            return None

    def _draw_here(self, levels: Sequence[_Level]) -> int:
        now = int(self._monotonic() * 1_000_000)
        full = [max(self._here.get(level.key, 0), now) for level in levels]
        wait = max(each + level.entry - now - MINUTE for each, level in zip(full, levels, strict=True))
        if wait <= 0:
            for each, level in zip(full, levels, strict=True):
                self._here[level.key] = each + level.cost
                self._here.move_to_end(level.key)
            while len(self._here) > MOST_HERE:
                self._here.popitem(last=False)
        return max(wait, 0)


def _level(department: str, name: str, per_minute: int, checks: int) -> _Level:
    # The braces keep a department's keys on one node of a cluster; who an officer is, Redis need not know.
    own = hashlib.blake2b(name.encode(), digest_size=12).hexdigest() if name else "all"
    return _Level(
        f"lanjie:rate:{{{department}}}:{own}",
        min(checks, per_minute) * MINUTE // per_minute,
        checks * MINUTE // per_minute,
    )
