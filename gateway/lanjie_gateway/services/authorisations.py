"""Authorisations of subjects (授权查询, Art. 39, 69): registered by a department, used by its checks, withdrawn."""

import datetime
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lanjie_gateway.adapters.ledger import Ledger, LedgerThread
from lanjie_gateway.domain.access import Principal, Role
from lanjie_gateway.domain.authorisations import MAX_MATTERS, MAX_USES, Authorisation, Wanted, latest
from lanjie_gateway.domain.errors import invalid_argument, invalid_identifier, not_found
from lanjie_gateway.domain.grants import Mode
from lanjie_gateway.services.event_facts import parsed_day
from lanjie_gateway.services.listings import stated
from lanjie_matcher import identifiers
from lanjie_matcher.catalogues import CatalogueSet
from lanjie_matcher.civil_time import day_of
from lanjie_matcher.identifiers import Identifier, IdentifierError
from lanjie_matcher.masking import holds_personal_number, masked_text

_NONE = "no such authorisation"
_SHA256_BYTES = 32
CODE = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An authorisation to register; fields as in rights.proto."""

    department: str
    identifier: str = field(repr=False)
    matters: Sequence[str]
    purpose: str
    document_no: str
    document_date: str
    document_sha256: bytes
    valid_until: str
    uses: int


class AuthorisationService:
    """Registers, uses and ends authorisations.

    Args:
        ledger: the record.
        catalogues: gives the catalogues as they stand.
        clock: aware instants.
    """

    def __init__(
        self, ledger: LedgerThread, catalogues: Callable[[], CatalogueSet], clock: Callable[[], datetime.datetime]
    ) -> None:
        self._ledger = ledger
        self._catalogues = catalogues
        self._clock = clock

    async def register(self, order: Order, principal: Principal) -> Authorisation:
        """Register what a subject has signed.

        1. By the department itself, as far as its grant goes, or by the agency for any (Art. 39).
        2. One subject, named matters, a purpose, a document (Art. 69).
        3. Until a day, at most a year after the document's; one use unless stated, at most ten (Art. 69).
        4. A document is registered once: again, it gives the first registration, and nothing else under it.

        Raises:
            Refused: NOT_PERMITTED, ARGUMENT_INVALID, IDENTIFIER_INVALID.
        """
        now = self._clock()
        today = day_of(now)
        self._permitted(order, principal, today)  # (1)
        identifier = parsed(order.identifier)  # (2)
        stated("purpose", order.purpose, 200)
        stated("document_number", order.document_no, 128)
        if len(order.document_sha256) != _SHA256_BYTES:
            raise invalid_argument("document_sha256", "length", "a SHA-256 digest has 32 bytes")
        document_date = parsed_day("document_date", order.document_date)
        if document_date > today:
            raise invalid_argument("document_date", "future", "the document is not of the future")
        valid_until = parsed_day("valid_until_date", order.valid_until)  # (3)
        if not today <= valid_until <= latest(document_date):
            message = "it lasts from today at the least to a year after its document at the most (Art. 69)"
            raise invalid_argument("valid_until_date", "range", message)
        if order.uses > MAX_USES:
            raise invalid_argument("uses", "range", f"at most {MAX_USES} inquiries (Art. 69)")
        new = Authorisation(
            id=f"a{secrets.token_hex(12)}",
            department=order.department or principal.department,
            subject=(await self._ledger.call(Ledger.tokens_of, [identifier]))[0],
            identifier=identifier.reveal(),
            matters=tuple(sorted(set(order.matters))),
            purpose=masked_text(order.purpose.strip()),
            document_no=masked_text(order.document_no.strip()),
            document_date=document_date,
            document_sha256=order.document_sha256,
            valid_until=valid_until,
            uses=order.uses or 1,
            registered_at=now,
            registered_by=principal.actor,
        )
        kept = await self._ledger.call(Ledger.register_authorisation, new)
        if not kept.says_the_same(new):  # (4)
            raise invalid_argument("document_sha256", "registered", "this document was registered for something else")
        return kept

    async def withdraw(self, authorisation_id: str, reason: str, principal: Principal) -> Authorisation:
        """End an authorisation at the subject's request, at once; one that was ended stays as it is.

        Raises:
            Refused: NOT_PERMITTED, ARGUMENT_INVALID, NOT_FOUND.
        """
        await self.get(authorisation_id, principal)
        stated("reason", reason, 200)
        await self._ledger.call(Ledger.withdraw_authorisation, authorisation_id, principal.actor, masked_text(reason))
        return await self.get(authorisation_id, principal)

    async def get(self, authorisation_id: str, principal: Principal) -> Authorisation:
        """Return an authorisation of the caller's department, or of any to the agency.

        Raises:
            Refused: NOT_PERMITTED, NOT_FOUND: what is another department's reads like what is not there (Art. 40).
        """
        principal.require(Role.INQUIRER, Role.AGENCY)
        found = await self._ledger.call(Ledger.authorisation, authorisation_id.replace("\0", ""))
        if found is None or not (Role.AGENCY in principal.roles or found.department == principal.department):
            raise not_found(_NONE)
        return found

    async def consume(self, wanted: Mapping[str, Any]) -> bool:
        """Use an authorisation for a worker's check; see `domain.authorisations.spend`. Durable when this returns."""
        return await self._ledger.call(Ledger.consume_authorisation, Wanted(**wanted))

    def _permitted(self, order: Order, principal: Principal, today: datetime.date) -> None:
        principal.require(Role.INQUIRER, Role.AGENCY)
        if order.department and (not CODE.fullmatch(order.department) or holds_personal_number(order.department)):
            raise invalid_argument("department", "format", "a code has 1 to 32 small letters, digits and hyphens")
        own = order.department in ("", principal.department)
        if Role.AGENCY not in principal.roles and not own:
            raise invalid_argument("department", "own", "a department registers what it may ask itself")
        if not 1 <= len(order.matters) <= MAX_MATTERS:
            raise invalid_argument("matters", "count", f"an authorisation names 1 to {MAX_MATTERS} matters (Art. 69)")
        catalogues = self._catalogues()
        for matter in order.matters:
            if catalogues.matter(matter, today) is None:
                raise invalid_argument("matters", "unknown", "no catalogue in force knows one of the matters")
            if Role.AGENCY not in principal.roles:
                held_by = catalogues.lineage(matter, today)
                principal.require_inquiry(matter, Mode.AUTHORISED, principal.handling_region, today, held_by=held_by)


def parsed(text: str) -> Identifier:
    """Return the identifier of a request.

    Raises:
        Refused: IDENTIFIER_INVALID.
    """
    try:
        return identifiers.parse(text)
    except IdentifierError as error:
        raise invalid_identifier(error) from None
