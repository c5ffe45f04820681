"""A worker's side of the limits on natural persons: it asks control before it answers, and tells what came of it.

Companies are public, and their numbers are printed on every letter: they pass by here for the price of a look at the
kind of their identifier.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from lanjie_gateway.domain.access import Principal
from lanjie_gateway.domain.askers import granted_limits
from lanjie_gateway.domain.detectors import traits
from lanjie_matcher.fingerprints import IndexKey
from lanjie_matcher.identifiers import Identifier

Send = Callable[[Sequence[Any], Sequence[Any]], Awaitable[None]]


class PersonGate:
    """Counts the natural persons of questions.

    Args:
        key: of the index.
        ask: has control count, and raises what it refuses with.
        tell: takes the outcomes to control.
    """

    def __init__(self, key: IndexKey, ask: Send, tell: Send) -> None:
        self._key = key
        self._ask = ask
        self._tell = tell

    async def admit(self, asker: Principal, officer: str, persons: Iterable[Identifier]) -> None:
        """Count persons before they are answered about.

        Raises:
            GatewayError: DAILY_CAP, OVERLOADED, NOT_CURRENT.
        """
        await self._ask(_asker(asker, officer), [traits(each, self._key) for each in persons])

    async def tell(self, asker: Principal, officer: str, outcomes: Iterable[tuple[Identifier, bool]]) -> None:
        """Say of each person whether the outcome was another than a pass."""
        told = [[self._key.token(each.reveal()), hit] for each, hit in outcomes]
        await self._tell(_asker(asker, officer), told)


def _asker(asker: Principal, officer: str) -> list[Any]:
    return [asker.department, asker.person, officer, granted_limits(asker).persons_per_day]
