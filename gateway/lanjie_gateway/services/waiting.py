"""What waits for a second person before it works (Art. 61): acts on one listing that may put a burden on the subject.

1. A correction by hand, the end of a stay and a reinstatement wait; what lifts a burden works at once.
2. Another person confirms, and sees before what would change; the act works from that commit on, or from the day it
   names.
3. Either person may decline; nothing of it is ever committed.

4. Both persons are of one department and may write the listing, when it is proposed and when it is confirmed; what
   waits in another department reads like what is not there.

Entries by hand are imports (`services.imports`), which wait in the same way.
"""

import dataclasses
import datetime
from collections.abc import Awaitable, Callable, Mapping

from lanjie_gateway.adapters.ledger import Ledger, LedgerThread, Proposal, StoredListing
from lanjie_gateway.domain.access import Principal, Role
from lanjie_gateway.domain.corrections import corrected
from lanjie_gateway.domain.errors import Refused, invalid_argument, not_found
from lanjie_gateway.domain.events import Act, EventKind
from lanjie_gateway.domain.list_file import ListingDraft
from lanjie_gateway.services.acts import carried_through
from lanjie_gateway.services.listings import require_permitted, without_persons
from lanjie_matcher.catalogues import CatalogueSet
from lanjie_matcher.civil_time import day_of
from lanjie_matcher.masking import masked_text

_NONE = "no such receipt"


class WaitingService:
    """Proposes, confirms and declines acts.

    Args:
        ledger: the record.
        catalogues: gives the catalogues as they stand.
        clock: aware instants.
        published: awaited after each commit with its revision; returns when the workers have applied it.
    """

    def __init__(
        self,
        ledger: LedgerThread,
        catalogues: Callable[[], CatalogueSet],
        clock: Callable[[], datetime.datetime],
        published: Callable[[int], Awaitable[None]],
    ) -> None:
        self._ledger = ledger
        self._catalogues = catalogues
        self._clock = clock
        self._published = published

    async def propose(
        self, listing_id: str, act: Act, corrections: Mapping[str, str], principal: Principal
    ) -> Proposal:
        """Let an act wait.

        Args:
            listing_id: of the listing.
            act: what is to be recorded.
            corrections: with AMENDED, new cells by canonical column.
            principal: who proposes it.

        Raises:
            Refused: NOT_FOUND, TRANSITION_ILLEGAL, ARGUMENT_INVALID.
        """
        if bool(corrections) is not (act.kind is EventKind.AMENDED):
            raise invalid_argument("corrections", "required", "a correction, and nothing else, says what it corrects")

        def permit(stored: StoredListing) -> None:
            require_permitted(stored, act.kind, principal)  # (4)

        def change(stored: StoredListing) -> ListingDraft:
            permit(stored)
            draft = self._corrected(stored, corrections)
            if not principal.may_write(draft.list_type, draft.texts["region"]):
                message = "a correction does not carry a listing out of what the department writes"
                raise Refused("NOT_PERMITTED", message, required="region")
            return draft

        found = await self._ledger.call(Ledger.get, listing_id)
        act = without_persons(act, found[0] if found is not None else None)
        made = None
        if corrections:
            act = dataclasses.replace(act, detail={**act.detail, "columns": sorted(corrections)})
            made = await self._ledger.call(Ledger.correct, listing_id, change)
        return await self._ledger.call(Ledger.propose, listing_id, act, made, permit)

    async def confirm(self, act_id: str, principal: Principal) -> Proposal:
        """Record a waiting act; a second confirmation returns it unchanged.

        Raises:
            Refused: NOT_PERMITTED, NOT_FOUND, SECOND_PERSON_REQUIRED, IMPORT_OUTDATED, TRANSITION_ILLEGAL.
        """
        principal.require(Role.AUTHORITY)
        await self._own(act_id, principal)

        def permit(stored: StoredListing) -> None:
            if not principal.may_change(stored.packed.listing):
                raise not_found(_NONE)

        async def record() -> Proposal:
            done = await self._ledger.call(Ledger.confirm_proposal, act_id, principal.actor, permit)
            await self._published(done.revision)
            return done

        return await carried_through(record())

    async def decline(self, act_id: str, reason: str, principal: Principal) -> Proposal:
        """Give a waiting act up.

        Raises:
            Refused: NOT_PERMITTED, NOT_FOUND, IMPORT_OUTDATED.
        """
        principal.require(Role.AUTHORITY)
        await self._own(act_id, principal)
        return await self._ledger.call(Ledger.decline_proposal, act_id, principal.actor, masked_text(reason))

    async def all(self, principal: Principal) -> list[Proposal]:
        """Return the acts that wait, oldest first.

        Raises:
            Refused: NOT_PERMITTED.
        """
        principal.require(Role.AUTHORITY, Role.AGENCY)
        return [each for each in await self._ledger.call(Ledger.proposals) if principal.sees(each.act.actor)]

    async def show(self, act_id: str, principal: Principal) -> tuple[Proposal, StoredListing | None]:
        """Return an act, settled or not, with the listing after it where it corrects one and still waits.

        Raises:
            Refused: NOT_PERMITTED, NOT_FOUND.
        """
        principal.require(Role.AUTHORITY, Role.AGENCY)
        return await self._own(act_id, principal)

    async def _own(self, act_id: str, principal: Principal) -> tuple[Proposal, StoredListing | None]:
        found = await self._ledger.call(Ledger.proposed, act_id)
        if found is None or not principal.sees(found[0].act.actor):  # (4)
            raise not_found(_NONE)
        return found

    def _corrected(self, stored: StoredListing, changes: Mapping[str, str]) -> ListingDraft:
        today = day_of(self._clock())
        listing = stored.packed.listing
        known = self._catalogues().list_type(listing.list_type, today)
        assert stored.details is not None  # noqa: S101  the ledger has looked
        return corrected(listing, stored.details, changes, known.required_fields if known else (), today)
