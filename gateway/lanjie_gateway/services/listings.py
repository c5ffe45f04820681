"""Listings as those see them who may read them, and the events that end them (Art. 24, 40, 61, 64-66).

1. A listing that is not the caller's is told like one that is not there (Art. 40).
2. Its scope is looked at inside the transaction of the event (Art. 61).
3. Only the unit that identified the subject repairs (Art. 66).
4. What a reader sees of numbers and names is `lanjie_matcher.masking`'s to say (Art. 40).
5. What the agency looks up is an inquiry: natural persons count, and it leaves a record before it is shown, for the
   subject's report too (Art. 39, 63). An authority looks at what it keeps itself.
"""

import dataclasses
import datetime
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from lanjie_gateway.adapters.ledger import Ledger, LedgerThread, StoredEvent, StoredListing
from lanjie_gateway.domain import events, retention
from lanjie_gateway.domain.access import Principal, Role
from lanjie_gateway.domain.errors import Refused, invalid_argument, invalid_identifier, not_found
from lanjie_gateway.domain.events import Act, EventKind
from lanjie_gateway.domain.grants import Mode
from lanjie_gateway.domain.list_file import own_words
from lanjie_gateway.domain.packed import Details
from lanjie_gateway.domain.subject_report import READ, READING_MATTER
from lanjie_gateway.services import event_facts
from lanjie_gateway.services.acts import carried_through
from lanjie_gateway.services.event_facts import EventFacts
from lanjie_gateway.services.own_records import OwnRecords
from lanjie_matcher import identifiers
from lanjie_matcher.catalogues import CatalogueSet
from lanjie_matcher.civil_time import day_of, start_of
from lanjie_matcher.identifiers import Identifier, IdentifierError
from lanjie_matcher.listings import Listing, Standing, standing
from lanjie_matcher.masking import Reader, masked_name, masked_number, masked_text
from lanjie_matcher.subjects import SubjectKind

_NONE = "no such listing"
_NO_DETAILS = Details(identifiers=(), name="")


@dataclass(frozen=True, slots=True, kw_only=True)
class ListingView:
    """A listing as a reader sees it: identifiers masked, a person's name masked.

    Attributes:
        related_persons: number of persons marked beside it (Art. 32).
        not_in_force: why it is not in force now; empty while it is.
    """

    listing: Listing
    masked_identifiers: tuple[str, ...]
    name: str = field(repr=False)
    details: Details = field(repr=False)
    source_version: str
    related_persons: int
    not_in_force: str
    revision: int


class ListingService:
    """Finds, reads and ends listings.

    Args:
        ledger: the record.
        catalogues: gives the catalogues as they stand.
        clock: aware instants.
        published: awaited after each commit with its revision; returns when the workers have applied it.
        count: counts natural persons before anything is said of them, and raises what it refuses with; `None` counts
            nobody.
    """

    def __init__(
        self,
        ledger: LedgerThread,
        catalogues: Callable[[], CatalogueSet],
        clock: Callable[[], datetime.datetime],
        published: Callable[[int], Awaitable[None]],
        count: Callable[[Principal, Sequence[Identifier]], Awaitable[None]] | None = None,
    ) -> None:
        self._ledger = ledger
        self._catalogues = catalogues
        self._clock = clock
        self._published = published
        self._count = count
        self._records = OwnRecords(ledger, clock)

    async def find(self, identifier: str, purpose: str, principal: Principal) -> list[ListingView]:
        """Return those listings of an identifier that the caller may read, newest first, the ended ones included.

        Raises:
            Refused: NOT_PERMITTED, ARGUMENT_INVALID (purpose, Art. 24), IDENTIFIER_INVALID or DAILY_CAP (5).
        """
        principal.require(Role.AUTHORITY, Role.AGENCY)
        stated("purpose", purpose, 200)
        try:
            parsed = identifiers.parse(identifier)
        except IdentifierError as error:
            raise invalid_identifier(error) from None
        inquires = Role.AGENCY in principal.roles
        if inquires and self._count is not None:
            await self._count(principal, [parsed])  # (5)
        found = await self._ledger.call(Ledger.find, parsed)
        mine = (each for each in found if principal.may_read(each.packed.listing))  # (1)
        shown = [self.view(stored, principal) for stored in mine if not self._hidden(stored)]
        if inquires:
            await self.leave_reading(parsed, purpose, [each.listing.id for each in shown], principal)
        return shown

    async def get(self, listing_id: str, purpose: str, principal: Principal) -> tuple[ListingView, list[StoredEvent]]:
        """Return a listing and its events, oldest first.

        Raises:
            Refused: NOT_PERMITTED, ARGUMENT_INVALID (purpose, Art. 24), NOT_FOUND or DAILY_CAP (5).
        """
        principal.require(Role.AUTHORITY, Role.AGENCY)
        stated("purpose", purpose, 200)
        found = await self._get(listing_id)
        if self._hidden(found[0]) or not principal.may_read(found[0].packed.listing):  # (1)
            raise not_found(_NONE)
        if Role.AGENCY in principal.roles:
            subjects = [identifiers.parse(each) for each in (found[0].details or _NO_DETAILS).identifiers]
            if self._count is not None:
                await self._count(principal, subjects)  # (5)
            for each in subjects:
                await self.leave_reading(each, purpose, [listing_id], principal)
        return self.view(found[0], principal), found[1]

    async def leave_reading(
        self, subject: Identifier, purpose: str, listings: Sequence[str], principal: Principal, case_no: str = ""
    ) -> str:
        """Keep the record of a reading (5) and return its id; durable by then."""
        (token,) = await self._ledger.call(Ledger.tokens_of, [subject])
        return await self._records.leave(
            "reading",
            READ,
            department=principal.department,
            person=principal.person,
            fields={
                "subject": token.hex(),
                "id_kind": subject.kind.value,
                "mode": Mode.EX_OFFICIO.value,
                "matter": READING_MATTER,
                "asked_by": "agency" if Role.AGENCY in principal.roles else "",
                "purpose": purpose,
                "case_no": case_no,
                "listings": list(listings),
            },
        )

    async def remove(
        self, listing_id: str, reason: str, document: str, effective_date: str, principal: Principal
    ) -> tuple[int, ListingView]:
        """Remove a listing (移出); works at the commit, or from 00:00 Asia/Shanghai of an earlier day.

        Args:
            listing_id: of the listing.
            reason: why (Art. 61).
            document: number of the document that orders it (Art. 61).
            effective_date: ``YYYY-MM-DD``, not in the future; empty for the commit.
            principal: who removes it.

        Returns:
            The revision, applied by all workers, and the listing as it now stands.

        Raises:
            Refused: NOT_PERMITTED, ARGUMENT_INVALID, NOT_FOUND or TRANSITION_ILLEGAL.
        """
        return await self._record(listing_id, EventKind.REMOVED, (reason, document, effective_date), principal)

    async def record_event(
        self,
        listing_id: str,
        kind: EventKind,
        *,
        reason: str,
        document: str,
        effective_date: str,
        principal: Principal,
        facts: EventFacts = event_facts.NOTHING,
    ) -> tuple[int, ListingView]:
        """Record another event; arguments and errors as for `remove`.

        `facts` is what events of this kind say besides. SECOND_PERSON_REQUIRED is raised where who acted looks at the
        own act. What may put a burden on the subject is not recorded by one person: see `services.waiting`.
        """
        if kind in events.BY_IMPORT or kind in events.BURDENS or kind in {EventKind.REMOVED, EventKind.ERASED}:
            raise invalid_argument("kind", "kind", "this kind of event is not recorded by itself")
        return await self._record(listing_id, kind, (reason, document, effective_date), principal, facts)

    def act(
        self,
        kind: EventKind,
        grounds: tuple[str, str, str],
        principal: Principal,
        facts: EventFacts = event_facts.NOTHING,
    ) -> Act:
        """Return an event as it is to be recorded.

        Args:
            kind: what happened.
            grounds: reason, document and effective date as for `remove`.
            principal: who orders it.
            facts: what events of this kind say besides.

        Raises:
            Refused: NOT_PERMITTED or ARGUMENT_INVALID.
        """
        principal.require(Role.AUTHORITY)
        reason, document, effective_date = grounds
        stated("reason", reason, 500)
        stated("document", document, 200)
        return Act(
            kind=kind,
            effective_at=self._effective(effective_date),
            actor=principal.actor,
            reason=reason,
            document=document,
            detail=event_facts.detail(kind, facts),
        )

    async def _record(
        self,
        listing_id: str,
        kind: EventKind,
        grounds: tuple[str, str, str],
        principal: Principal,
        facts: EventFacts = event_facts.NOTHING,
    ) -> tuple[int, ListingView]:
        act = self.act(kind, grounds, principal, facts)
        found = await self._ledger.call(Ledger.get, listing_id)
        act = without_persons(act, found[0] if found is not None else None)

        def permit(stored: StoredListing) -> None:
            require_permitted(stored, kind, principal)

        async def record() -> int:
            bounded = None if principal.writes is None else permit
            recorded = await self._ledger.call(Ledger.record, listing_id, act, bounded)  # (2)
            await self._published(recorded)
            return recorded

        revision = await carried_through(record())
        return revision, await self.seen(listing_id, principal)

    def _effective(self, text: str) -> datetime.datetime | None:
        if not text:
            return None
        day = event_facts.parsed_day("effective_date", text)
        if day > day_of(self._clock()):
            raise invalid_argument("effective_date", "future", "an event works from its day or later, not ahead of it")
        if day == datetime.date.min:
            # In UTC its 00:00 lies before the first day there is: what is kept could not be read any more.
            raise invalid_argument("effective_date", "range", "there is no such instant")
        return start_of(day)

    async def _get(self, listing_id: str) -> tuple[StoredListing, list[StoredEvent]]:
        found = await self._ledger.call(Ledger.get, listing_id)
        if found is None:
            raise not_found(_NONE)
        return found

    def _hidden(self, stored: StoredListing) -> bool:
        """Whether retention has ended: from then on it reads like a listing that never was (Art. 41)."""
        return retention.erased(stored.packed) or retention.over(stored.packed.listing, day_of(self._clock()))

    def _ended_view(self, stored: StoredListing) -> ListingView:
        # What still has to be recorded can be, and tells nothing that may not be asked any more.
        return ListingView(
            listing=retention.tombstone(stored.packed.listing).listing,
            masked_identifiers=(),
            name="",
            details=_NO_DETAILS,
            source_version="",
            related_persons=0,
            not_in_force=Standing.RETENTION_ENDED.value,
            revision=stored.revision,
        )

    async def seen(self, listing_id: str, principal: Principal) -> ListingView:
        """Return a listing as it stands, to whoever has acted on it.

        Raises:
            Refused: NOT_FOUND.
        """
        stored, _ = await self._get(listing_id)
        return self._ended_view(stored) if self._hidden(stored) else self.view(stored, principal)

    def view(self, stored: StoredListing, principal: Principal) -> ListingView:
        """Return what a reader sees of a stored listing (4): a department that writes it sees more of its number."""
        listing = stored.packed.listing
        details = stored.details or _NO_DETAILS
        person = listing.subject_kind is SubjectKind.NATURAL_PERSON
        reader = Reader.DEPARTMENT if principal.may_change(listing) else Reader.ANYBODY
        return ListingView(
            listing=listing,
            masked_identifiers=tuple(masked_number(identifiers.parse(each), reader) for each in details.identifiers),
            name=masked_name(details.name) if person else details.name,
            details=dataclasses.replace(details, source_record_id=masked_text(details.source_record_id)),
            source_version=stored.source_version,
            related_persons=len(details.related_persons),
            not_in_force=self._not_in_force(listing),
            revision=stored.revision,
        )

    def _not_in_force(self, listing: Listing) -> str:
        now = self._clock()
        list_type = self._catalogues().list_type(listing.list_type, day_of(now))
        if list_type is None:
            return "list_type_unknown"
        stands = standing(listing, list_type.ends_with, now)
        return "" if stands is Standing.IN_FORCE else stands.value


def require_permitted(stored: StoredListing, kind: EventKind, principal: Principal) -> None:
    """Refuse an event on a listing that the caller may not change (1, 3).

    Raises:
        Refused: NOT_FOUND, NOT_PERMITTED.
    """
    listing = stored.packed.listing
    if not principal.may_change(listing):
        raise not_found(_NONE)  # (1)
    uscc = stored.details.authority_uscc if stored.details is not None else ""
    if kind is EventKind.REPAIRED and not principal.identified(listing.authority, uscc):  # (3)
        message = "only the unit that identified the subject repairs its credit (Art. 66)"
        raise Refused("NOT_PERMITTED", message, required="identifying unit")


def stated(name: str, text: str, limit: int) -> None:
    """Refuse a text that says nothing, or too much.

    Raises:
        Refused: ARGUMENT_INVALID.
    """
    if not text.strip():
        raise invalid_argument(name, "required", f"a {name} is required")
    if len(text) > limit:
        raise invalid_argument(name, "too-long", f"a {name} has at most {limit} characters")
    if "\0" in text:
        raise invalid_argument(name, "characters", f"a {name} holds no NUL")


def without_persons(act: Act, stored: StoredListing | None) -> Act:
    """Return an act whose texts are without the numbers of persons, and without the persons its listing states (4)."""
    own: tuple[str, ...] = ()
    if stored is not None and stored.details is not None:
        details, natural = stored.details, stored.packed.listing.subject_kind is SubjectKind.NATURAL_PERSON
        known = [identifiers.parse(each) for each in details.identifiers]
        own = own_words(known, details.name if natural else "", details.related_persons)
    detail = dict(act.detail)
    if "reply" in detail:
        detail["reply"] = masked_text(detail["reply"], own)
    return dataclasses.replace(
        act, reason=masked_text(act.reason, own), document=masked_text(act.document, own), detail=detail
    )
