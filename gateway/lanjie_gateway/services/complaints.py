"""Complaints of subjects (投诉举报, Art. 60): taken, answered, with somebody held to account where due."""

import dataclasses
import datetime
from collections.abc import Callable

from lanjie_gateway.adapters.ledger import Ledger, LedgerThread
from lanjie_gateway.domain.access import Principal, Role
from lanjie_gateway.domain.complaints import ABOUT, Complaint, ComplaintOutcome
from lanjie_gateway.domain.errors import Refused, invalid_argument, not_found
from lanjie_gateway.domain.event_detail import REPLY_LENGTH
from lanjie_gateway.services.authorisations import parsed
from lanjie_gateway.services.listings import stated
from lanjie_matcher.masking import holds_personal_number, masked_text


class ComplaintService:
    """Keeps complaints. The agency takes and closes them (Art. 60).

    Args:
        ledger: the record.
        clock: aware instants.
    """

    def __init__(self, ledger: LedgerThread, clock: Callable[[], datetime.datetime]) -> None:
        self._ledger = ledger
        self._clock = clock

    async def add(self, identifier: str, about: str, text: str, principal: Principal) -> Complaint:
        """Take a complaint.

        Raises:
            Refused: NOT_PERMITTED, ARGUMENT_INVALID, IDENTIFIER_INVALID.
        """
        principal.require(Role.AGENCY)
        subject = parsed(identifier)
        if not ABOUT.fullmatch(about) or holds_personal_number(about):
            raise invalid_argument("about", "format", "it is listing:ID, decision:ID or department:CODE")
        stated("text", text, REPLY_LENGTH)
        (token,) = await self._ledger.call(Ledger.tokens_of, [subject])
        new = Complaint(
            subject=token,
            identifier=subject.reveal(),
            about=about,
            text=masked_text(text),
            received_at=self._clock(),
            received_by=principal.actor,
        )
        return await self._ledger.call(Ledger.add_complaint, new)

    async def find(self, principal: Principal, *, about: str = "", closed: bool = False) -> list[Complaint]:
        """Return complaints, the oldest first.

        Raises:
            Refused: NOT_PERMITTED.
        """
        principal.require(Role.AGENCY)
        return await self._ledger.call(Ledger.complaints, about=about.replace("\0", ""), closed=closed)

    async def about_listing(self, listing_id: str) -> list[Complaint]:
        """Return the complaints about a listing, for whoever may read it."""
        return await self._ledger.call(Ledger.complaints, about=f"listing:{listing_id}")

    async def close(
        self, complaint_id: str, outcome: str, reply: str, accountability: str, principal: Principal
    ) -> Complaint:
        """Close a complaint with its outcome and a reply; where it is right, with who is held to account (Art. 60, 69).

        Raises:
            Refused: NOT_PERMITTED, ARGUMENT_INVALID, NOT_FOUND; TRANSITION_ILLEGAL: it was closed before.
        """
        principal.require(Role.AGENCY)
        if outcome not in set(ComplaintOutcome):
            raise invalid_argument("outcome", "known", f"an outcome is one of {', '.join(ComplaintOutcome)}")
        stated("reply", reply, REPLY_LENGTH)
        if ComplaintOutcome(outcome) is not ComplaintOutcome.UNFOUNDED or accountability:
            stated("accountability", accountability, 500)
        found = await self._ledger.call(Ledger.complaint, complaint_id)
        if found is None:
            raise not_found("no such complaint")
        done = dataclasses.replace(
            found,
            outcome=ComplaintOutcome(outcome),
            reply=masked_text(reply),
            accountability=masked_text(accountability),
            closed_at=self._clock(),
            closed_by=principal.actor,
        )
        if not await self._ledger.call(Ledger.close_complaint, done):
            raise Refused("TRANSITION_ILLEGAL", "the complaint was closed before", state="closed", event="close")
        return done
