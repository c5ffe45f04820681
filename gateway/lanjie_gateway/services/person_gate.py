"""A worker's side of the limits on natural persons: it asks control before it answers, and tells what came of it.

Companies are public, and their numbers are printed on every letter: they pass by here for the price of a look at the
kind of their identifier. Who was counted today for an asker may be asked about again whatever holds (`domain.limits`,
2), and only the first outcome of a day counts: control is not asked, nor told, a second time.
"""

import datetime
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final

from lanjie_gateway.domain.access import Principal
from lanjie_gateway.domain.askers import granted_limits
from lanjie_gateway.domain.detectors import traits
from lanjie_matcher.fingerprints import IndexKey
from lanjie_matcher.identifiers import Identifier
from lanjie_matcher.masking import masked_text

Ask = Callable[[Sequence[Any], Sequence[Any]], Awaitable[None]]
Tell = Callable[[Sequence[Any], Sequence[Any]], None]
_REMEMBERED: Final = 50_000
"""Persons of a day who are not asked about again; of more, all are once."""


class PersonGate:
    """Counts the natural persons of questions.

    Args:
        key: of the index.
        ask: has control count, and raises what it refuses with.
        tell: takes the outcomes to control.
    """

    def __init__(self, key: IndexKey, ask: Ask, tell: Tell) -> None:
        self._key = key
        self._ask = ask
        self._tell = tell
        self._day = datetime.date.min
        # By department, credential, officer and person; and by department and person.
        self._counted: set[tuple[str, str, str, bytes]] = set()
        self._told: set[tuple[str, bytes]] = set()

    async def admit(self, asker: Principal, officer: str, persons: Iterable[Identifier], today: datetime.date) -> None:
        """Count persons before they are answered about; `today` in Shanghai.

        Raises:
            GatewayError: DAILY_CAP, OVERLOADED, NOT_CURRENT.
        """
        if today != self._day or len(self._counted) >= _REMEMBERED:
            self._day = today
            self._counted, self._told = set(), set()
        who = (asker.department, asker.person, officer)
        new = [each for each in persons if (*who, self._key.token(each.reveal())) not in self._counted]
        if new:
            counted = self._counted
            seen = [traits(each, self._key) for each in new]
            await self._ask(_asker(asker, officer), seen)
            # Not those of today, if it has become another day meanwhile.
            counted.update((*who, each.person) for each in seen)

    def tell(self, asker: Principal, officer: str, outcomes: Iterable[tuple[Identifier, bool]]) -> None:
        """Say of each person whether the outcome was another than a pass."""
        named = [(self._key.token(each.reveal()), hit) for each, hit in outcomes]
        new = [(person, hit) for person, hit in named if (asker.department, person) not in self._told]
        if new:
            self._tell(_asker(asker, officer), new)
            self._told.update((asker.department, person) for person, _ in new)


def _asker(asker: Principal, officer: str) -> list[Any]:
    # As records have it (Art. 40): control finds him in them when it starts again.
    return [asker.department, asker.person, masked_text(officer), granted_limits(asker).persons_per_day]
