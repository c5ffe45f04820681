"""Setting and ending grants (Art. 21, 39, 61), and what every department was ever granted.

1. Only the agency that runs the system does it, and says why and on which document.
2. What widens a grant waits for a second person of the agency; what narrows it, and its end, work at once.
3. It works when every live local worker has it: who lost a grant is refused by all of them from then on.
4. History is kept: what stood at an instant can be told, also for records that arrive late.
"""

import datetime
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from lanjie_gateway.adapters.ledger import Ledger, LedgerThread, StoredGrantAct
from lanjie_gateway.adapters.ledger.grants import grants_of, require_own_names
from lanjie_gateway.domain import grant_file
from lanjie_gateway.domain.access import Principal, Role
from lanjie_gateway.domain.errors import Unanswerable, invalid_argument, not_found
from lanjie_gateway.domain.grants import LOCAL_GRANT, Grant
from lanjie_gateway.services.access import GrantBook
from lanjie_gateway.services.acts import carried_through
from lanjie_matcher.catalogues import CatalogueSet
from lanjie_matcher.masking import masked_text

MAX_REASON: Final = 500
MAX_DOCUMENT: Final = 200
_ATTEMPTS: Final = 5
"""How often a grant is judged anew because another host set one meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """What became of a grant that was set.

    Attributes:
        widens: what of it goes beyond what stood, by names of fields; then it waits.
        warnings: what is worth a look.
    """

    act: StoredGrantAct
    widens: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Act:
    """What is to be done; `grant` is `None` for an end."""

    department: str
    grant: Grant | None
    waits: bool
    actor: str
    reason: str
    document: str


class GrantService:
    """Keeps the grants of the ledger at hand, sets and ends them.

    Args:
        ledger: the ledger's thread.
        catalogues: gives the catalogues as they stand.
        published: awaited with the revision of a commit; returns when every live local worker has applied it.

    Attributes:
        book: the grants at hand in this process.
    """

    def __init__(
        self,
        ledger: LedgerThread,
        catalogues: Callable[[], CatalogueSet],
        published: Callable[[int], Awaitable[None]],
    ) -> None:
        self.book = GrantBook()
        self._ledger = ledger
        self._catalogues = catalogues
        self._published = published
        self._acts: tuple[StoredGrantAct, ...] = ()

    @property
    def newest(self) -> int:
        """Revision of the newest act at hand; 0 for none."""
        return self.book.current.revision

    async def load_all(self) -> None:
        """Read every act from the ledger."""
        self._take(await self._ledger.call(Ledger.grant_acts))

    def at(self, department: str, instant: datetime.datetime) -> Grant | None:
        """Return the grant that stood at an instant (4)."""
        if department == LOCAL_GRANT.department:
            return LOCAL_GRANT
        grant = None
        for act in self._acts:
            if act.department == department and act.settled_at is not None and act.settled_at <= instant:
                grant = act.grant
        return grant

    def ever(self, department: str) -> bool:
        """Whether anything was ever granted to a department."""
        return department == LOCAL_GRANT.department or any(act.department == department for act in self._acts)

    def lineage(self, matter: str, day: datetime.date) -> Sequence[str]:
        """Return a matter and those that hold it, by the catalogues of a day."""
        return self._catalogues().lineage(matter, day)

    async def bring(self, file: bytes, reason: str, principal: Principal) -> Brought:
        """Set the grant of a department, or let it wait.

        Args:
            file: the grant file.
            reason: why.
            principal: the caller.

        Raises:
            Refused: NOT_PERMITTED; ARGUMENT_INVALID, by key and rule of the file.
            Unanswerable: OVERLOADED, other hosts set grants at the same time.
        """
        principal.require(Role.AGENCY)  # (1)
        _require_text("reason", reason, MAX_REASON)
        grant = grant_file.parse(file)
        for _ in range(_ATTEMPTS):
            acts = await self._ledger.call(Ledger.grant_acts)
            stands = grants_of(acts)
            require_own_names(stands, grant)
            widens = grant.widens(stands.grants.get(grant.department))
            brought = _Act(
                department=grant.department,
                grant=grant,
                waits=bool(widens),
                actor=principal.actor,
                reason=masked_text(reason),
                document=grant.document,
            )
            act = await carried_through(self._bring(brought, acts))
            if act is not None:
                return Brought(act=act, widens=widens, warnings=self._warnings(grant))
        raise Unanswerable("OVERLOADED", "other hosts set grants, try again", retry_after_ms="1000")

    async def end(self, department: str, reason: str, document: str, principal: Principal) -> StoredGrantAct:
        """End the grant of a department at once (2).

        Raises:
            Refused: NOT_PERMITTED, ARGUMENT_INVALID; NOT_FOUND: none stands.
            Unanswerable: OVERLOADED, other hosts set grants at the same time.
        """
        principal.require(Role.AGENCY)  # (1)
        _require_text("reason", reason, MAX_REASON)
        _require_text("document", document, MAX_DOCUMENT)
        ended = _Act(
            department=department,
            grant=None,
            waits=False,
            actor=principal.actor,
            reason=masked_text(reason),
            document=masked_text(document),
        )
        for _ in range(_ATTEMPTS):
            acts = await self._ledger.call(Ledger.grant_acts)
            if department not in grants_of(acts).grants:
                raise not_found("no such grant")
            act = await carried_through(self._bring(ended, acts))
            if act is not None:
                return act
        raise Unanswerable("OVERLOADED", "other hosts set grants, try again", retry_after_ms="1000")

    async def confirm(self, act_id: str, principal: Principal) -> StoredGrantAct:
        """Let a waiting grant work; by another person of the agency (2).

        Raises:
            Refused: NOT_PERMITTED, NOT_FOUND, SECOND_PERSON_REQUIRED; IMPORT_OUTDATED, another was set since;
                ARGUMENT_INVALID, another department has one of its names in certificates by now.
        """
        principal.require(Role.AGENCY)
        return await carried_through(self._confirm(_number(act_id), principal))

    async def decline(self, act_id: str, reason: str, principal: Principal) -> StoredGrantAct:
        """Give a waiting grant up; also whoever set it.

        Raises:
            Refused: NOT_PERMITTED, NOT_FOUND, ARGUMENT_INVALID; IMPORT_OUTDATED, it waits no longer.
        """
        principal.require(Role.AGENCY)
        _require_text("reason", reason, MAX_REASON)
        return await self._ledger.call(Ledger.decline_grant, _number(act_id), principal.actor, masked_text(reason))

    async def standing(self, department: str, principal: Principal) -> list[StoredGrantAct]:
        """Return what stands, by department; of all, or of one.

        Raises:
            Refused: NOT_PERMITTED; NOT_FOUND: nothing stands for it.
        """
        principal.require(Role.AGENCY)
        newest = {act.department: act for act in await self._ledger.call(Ledger.grant_acts) if act.revision}
        found = [act for _, act in sorted(newest.items()) if act.grant is not None]
        found = [act for act in found if department in ("", act.department)]
        if department and not found:
            raise not_found("no such grant")
        return found

    async def history(self, department: str, principal: Principal) -> list[StoredGrantAct]:
        """Return every act on the grant of a department: those that worked in order, then those that did not.

        Raises:
            Refused: NOT_PERMITTED; NOT_FOUND: there never was one.
        """
        principal.require(Role.AGENCY)
        found = [act for act in await self._ledger.call(Ledger.grant_acts) if act.department == department]
        if not found:
            raise not_found("no such grant")
        return found

    async def waiting(self, principal: Principal) -> list[StoredGrantAct]:
        """Return what waits for a second person, oldest first.

        Raises:
            Refused: NOT_PERMITTED.
        """
        principal.require(Role.AGENCY)
        acts = await self._ledger.call(Ledger.grant_acts)
        return sorted((act for act in acts if act.state == "waiting"), key=lambda act: act.number)

    async def _bring(self, act: "_Act", acts: Sequence[StoredGrantAct]) -> StoredGrantAct | None:
        mine = [each for each in acts if each.revision and each.department == act.department]
        base = max(mine, key=_revision).number if mine else 0
        done = await self._ledger.call(
            Ledger.bring_grant,
            act.department,
            act.grant,
            base=base,
            waits=act.waits,
            actor=act.actor,
            reason=act.reason,
            document=act.document,
        )
        if done is not None and done.revision:
            await self._apply(done.revision)
        return done

    async def _confirm(self, number: int, principal: Principal) -> StoredGrantAct:
        act = await self._ledger.call(Ledger.confirm_grant, number, principal.actor)
        await self._apply(act.revision)
        return act

    async def _apply(self, revision: int) -> None:
        """Take a commit here, and wait for the workers (3)."""
        await self.load_all()
        await self._published(revision)

    def _warnings(self, grant: Grant) -> tuple[str, ...]:
        known = self._catalogues()
        unknown = sorted(matter for matter in grant.matters or () if not known.ever_knew(matter))
        return tuple(f"no catalogue ever defined the matter {matter}" for matter in unknown)

    def _take(self, acts: Sequence[StoredGrantAct]) -> None:
        grants = grants_of(acts)
        # Two calls may end in another order than they began; what was read later holds all of what was read before.
        if grants.revision >= self.newest:
            self._acts = tuple(act for act in acts if act.revision)
            self.book.take(grants)


def _revision(act: StoredGrantAct) -> int:
    return act.revision


def _number(act_id: str) -> int:
    digits = act_id.removeprefix("g")
    if not act_id.startswith("g") or not (digits.isascii() and digits.isdigit()) or len(digits) > 18:
        raise not_found("no such act")
    return int(digits)


def _require_text(field: str, text: str, most: int) -> None:
    if not text.strip() or len(text) > most or "\0" in text:
        raise invalid_argument(field, "length", f"state the {field} in 1 to {most} characters (Art. 61)")
