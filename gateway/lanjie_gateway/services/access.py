"""Who may ask what, as it stands now: the grants at hand in one process, and callers with theirs (Art. 39).

A change counts from the moment it is taken, for every question whatever revision it is pinned to: who lost a grant asks
nothing more, not even the rest of a batch.
"""

from typing import Final

from lanjie_gateway.domain.access import Principal, Role
from lanjie_gateway.domain.grants import GrantSet

_KNOWN: Final = 1_024


class GrantBook:
    """The grants at hand. Used from one event loop."""

    def __init__(self) -> None:
        self._set = GrantSet.made((), 0)
        # Callers with their grants; the first of each pair keeps the number of its object from being given again.
        self._resolved: dict[int, tuple[Principal, Principal]] = {}

    @property
    def current(self) -> GrantSet:
        """The grants that stand."""
        return self._set

    def take(self, grants: GrantSet) -> None:
        """Take what stands from now on."""
        self._set = grants
        self._resolved = {}

    def resolve(self, principal: Principal) -> Principal:
        """Return a caller with the grant of its department as it stands now."""
        known = self._resolved.get(id(principal))
        if known is None:
            if len(self._resolved) >= _KNOWN:
                self._resolved = {}
            known = principal, principal.granted(self._set.of(principal.department))
            self._resolved[id(principal)] = known
        return known[1]

    def identify(self, san: str) -> Principal | None:
        """Return the caller that a name in a certificate stands for by a grant: an inquirer; `None` for nobody."""
        found = self._set.person(san)
        if found is None:
            return None
        grant, person = found
        roles = frozenset({Role.INQUIRER})
        return Principal(department=grant.department, person=person, roles=roles, region=grant.region, grant=grant)
