"""What a subject is told of itself (Art. 63), and a granted reading of listings with their marks (Art. 32)."""

import datetime
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from lanjie_gateway.adapters.ledger import InquiryRow, Ledger, LedgerThread, StoredEvent, StoredListing
from lanjie_gateway.domain import marks, retention
from lanjie_gateway.domain.access import Principal, Role
from lanjie_gateway.domain.authorisations import Authorisation
from lanjie_gateway.domain.complaints import Complaint
from lanjie_gateway.domain.departments import LOCAL, asking
from lanjie_gateway.domain.duties import DutyView
from lanjie_gateway.domain.errors import Refused, invalid_argument
from lanjie_gateway.domain.grants import Mode
from lanjie_gateway.domain.subject_report import (
    MAX_OTHERS,
    MOST,
    REPORT_MATTER,
    REPORTED,
    Proof,
    ReportedInquiry,
    overtaken,
    reported,
    require_proof,
    spoken_of,
)
from lanjie_gateway.services.authorisations import parsed
from lanjie_gateway.services.duty import DutyService
from lanjie_gateway.services.listings import ListingService, ListingView, stated
from lanjie_gateway.services.own_records import OwnRecords
from lanjie_matcher.catalogues import CatalogueSet, Edition, Measure
from lanjie_matcher.civil_time import day_of
from lanjie_matcher.fingerprints import ViewKey
from lanjie_matcher.identifiers import Identifier, IdentifierKind
from lanjie_matcher.subjects import ORGANISATION_KINDS, SubjectKind

ORG_CODE_ONLY: Final = "仅以组织机构代码查询：以统一社会信用代码提出的查询未列入，请同时提供该代码。"
KEYS_MISSING: Final = "部分历史密钥不在本机，使用这些密钥记录的本地比对可能未列入。"
RETENTION: Final = "已超过保存期限并依规定清除的记录不在本报告之列。"
_SEARCHED_GENERATIONS: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnListing:
    """A listing of the subject with its life and the clocks that run for it."""

    view: ListingView
    events: tuple[StoredEvent, ...] = ()
    duties: tuple[DutyView, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A report; fields as in rights.proto."""

    record_id: str
    made_at: datetime.datetime
    masked_identifiers: tuple[str, ...]
    inquiries: tuple[ReportedInquiry, ...] = field(repr=False)
    more: bool
    listings: tuple[OwnListing, ...] = field(repr=False)
    notes: tuple[str, ...]
    complaints: tuple[Complaint, ...] = field(repr=False)
    authorisations: tuple[Authorisation, ...] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadListing:
    """A listing in force with the measures that may follow from it and the persons marked beside it."""

    view: ListingView
    measures: tuple[tuple[Edition, Measure], ...]
    related_persons: tuple[str, ...] = field(repr=False)


class RightsService:
    """Makes reports and readings.

    Args:
        ledger: the record.
        catalogues: gives the catalogues as they stand.
        load: brings records that workers have written into the ledger.
        clock: aware instants.
        listings: shows stored listings.
        duties: the clocks of the law.
        view_keys: every view key by generation, the retired ones too.
        count: counts natural persons before anything is said of them, and raises what it refuses with.
    """

    def __init__(
        self,
        ledger: LedgerThread,
        catalogues: Callable[[], CatalogueSet],
        load: Callable[[], Awaitable[object]],
        clock: Callable[[], datetime.datetime],
        *,
        listings: ListingService,
        duties: DutyService,
        view_keys: Callable[[], Mapping[int, ViewKey]],
        count: Callable[[Principal, Sequence[Identifier]], Awaitable[None]],
    ) -> None:
        self._ledger = ledger
        self._catalogues = catalogues
        self._load = load
        self._clock = clock
        self._listings = listings
        self._duties = duties
        self._view_keys = view_keys
        self._count = count
        self._records = OwnRecords(ledger, clock)

    async def report(
        self,
        identifier: str,
        others: Sequence[str],
        proof: Proof,
        before: datetime.datetime | None,
        principal: Principal,
    ) -> Report:
        """Tell a subject who asked about it and what is listed of it (Art. 63).

        The steps, in order; the blocks carry their numbers:

        1. The agency, or a real-name desk by its grant (实名认证查询, Art. 39), states how it made sure of the subject.
           Natural persons count as those of checks do: reports are no way around the limits on walks (Art. 40).
        2. Records of the gateway's answers name the subject by its index token; those that workers have just written
           count (Art. 39). A company is asked about by its USCC and by its organisation code.
        3. Records of local passes name it by digests under the view keys of all generations, the retired ones too.
        4. All of its own listings, whatever matter they bear on, until their retention ends (Art. 41), each with its
           life, remedies and the clocks that run (Art. 31, 64-66, 71). Persons marked beside them are others' data.
        5. The report leaves a record before it is given (Art. 39), one for each number it was asked by: what was said
           to be another number of the subject, and is somebody else's, stands in that one's report.

        Raises:
            Refused: NOT_PERMITTED, ARGUMENT_INVALID, IDENTIFIER_INVALID, DAILY_CAP.
            Unanswerable: OVERLOADED, with the time to wait.
        """
        now = self._clock()
        self._require_desk(principal, now)  # (1)
        require_proof(proof, now)
        own = self._own(identifier, others)
        await self._count(principal, own)
        await self._load()  # (2)
        tokens = await self._ledger.call(Ledger.tokens_of, spoken_of(own))
        digests, notes = self._digests(own)  # (3)
        rows = await self._ledger.call(Ledger.inquiries_about, [*tokens, *digests], before, MOST + 1)
        listings = await self._own_listings(own, principal)  # (4)
        complaints = await self._ledger.call(Ledger.complaints, tokens=tokens)
        authorisations = await self._ledger.call(Ledger.authorisations_of, tokens)
        fields = {
            "mode": Mode.SELF.value,
            "matter": REPORT_MATTER,
            "asked_by": "agency" if Role.AGENCY in principal.roles else "",
            "proof": {
                "method": proof.method,
                "at": proof.proved_at.isoformat() if proof.proved_at else "",
                "reference": proof.reference,
            },
            "listings": [each.view.listing.id for each in listings],
        }
        left = [  # (5)
            await self._records.leave(
                "report",
                REPORTED,
                department=principal.department,
                person=principal.person,
                fields={**fields, "subject": token.hex(), "id_kind": each.kind.value},
            )
            for each, token in zip(own, tokens, strict=False)
        ]
        return Report(
            record_id=left[0],
            made_at=now,
            masked_identifiers=tuple(each.masked for each in own),
            inquiries=_told(_page(rows)),
            more=len(rows) > MOST,
            listings=tuple(listings),
            notes=(*notes, RETENTION),
            complaints=tuple(complaints),
            authorisations=tuple(authorisations),
        )

    async def read(
        self, identifier: str, purpose: str, case_no: str, principal: Principal
    ) -> tuple[str, list[ReadListing]]:
        """Read the listings in force of a subject with the persons marked beside them (Art. 32).

        1. By a grant that reads listings, or by the agency; with a purpose and a case (Art. 24, 39, 40). Natural
           persons count as those of checks do.
        2. Listings in force alone that their list type shares with the department (Art. 35), each with the measures in
           force that name its list type and kind of subject.
        3. Marks are shown masked; they have no effect, here or anywhere (Art. 47).
        4. The reading leaves a record before it is given (Art. 39).

        Raises:
            Refused: NOT_PERMITTED, ARGUMENT_INVALID, IDENTIFIER_INVALID, DAILY_CAP.
            Unanswerable: OVERLOADED, with the time to wait.
        """
        now = self._clock()
        self._require_reader(principal, now)  # (1)
        stated("purpose", purpose, 200)
        stated("case_no", case_no, 64)
        subject = parsed(identifier)
        await self._count(principal, [subject])
        found = [self._listings.view(each, principal) for each in await self._visible(subject)]
        read = [
            ReadListing(
                view=view,
                measures=self._measures(view, day_of(now)),  # (2)
                related_persons=tuple(map(marks.shown, view.details.related_persons)),
            )
            for view in found
            if not view.not_in_force and self._is_shared(view, principal, day_of(now))
        ]
        told = [each.view.listing.id for each in read]
        return await self._listings.leave_reading(subject, purpose, told, principal, case_no), read  # (4)

    def _require_desk(self, principal: Principal, now: datetime.datetime) -> None:
        principal.require(Role.AGENCY, Role.INQUIRER)
        if Role.AGENCY not in principal.roles and not _granted(principal, now, mode=Mode.SELF):
            raise Refused("NOT_PERMITTED", "the grant does not cover this mode of inquiry", required=Mode.SELF)

    def _require_reader(self, principal: Principal, now: datetime.datetime) -> None:
        principal.require(Role.AGENCY, Role.INQUIRER)
        if Role.AGENCY not in principal.roles and not _granted(principal, now, mode=None):
            raise Refused("NOT_PERMITTED", "the grant does not cover reading listings", required="reads_listings")

    @staticmethod
    def _own(identifier: str, others: Sequence[str]) -> list[Identifier]:
        if len(others) > MAX_OTHERS:
            raise invalid_argument("other_identifiers", "count", f"at most {MAX_OTHERS} further numbers")
        own = list(dict.fromkeys(parsed(each) for each in (identifier, *others)))
        if len({each.is_person for each in own}) > 1:
            # An individual business and its operator are two subjects, each with a report of its own.
            raise invalid_argument("other_identifiers", "subject-kind", "these are not the numbers of one subject")
        return own

    def _digests(self, own: Iterable[Identifier]) -> tuple[list[bytes], list[str]]:
        """Step 3; return the digests, and what cannot be told."""
        keys = self._view_keys()
        wanted = range(1, self._ledger.generation + 1) if self._ledger.generation < _SEARCHED_GENERATIONS else ()
        notes = [KEYS_MISSING] if any(generation not in keys for generation in wanted) else []
        kinds = {each.kind for each in own}
        if IdentifierKind.ORG_CODE in kinds and IdentifierKind.USCC not in kinds:
            notes.append(ORG_CODE_ONLY)
        return [key.digest64(each.key).to_bytes(8, "big") for each in own for key in keys.values()], notes

    async def _own_listings(self, own: Iterable[Identifier], principal: Principal) -> list[OwnListing]:
        """Step 4."""
        found = {each.id: each for one in own for each in await self._visible(one)}
        clocks: dict[str, list[DutyView]] = {}
        for duty in await self._duties.of_listings(found):
            clocks.setdefault(duty.listing_id, []).append(duty)
        listings = []
        for listing_id, stored in sorted(found.items(), reverse=True):
            told = await self._ledger.call(Ledger.get, listing_id)
            listings.append(
                OwnListing(
                    view=self._listings.view(stored, principal),
                    events=tuple(told[1]) if told else (),
                    duties=tuple(clocks.get(listing_id, ())),
                )
            )
        return listings

    async def _visible(self, subject: Identifier) -> list[StoredListing]:
        today = day_of(self._clock())
        return [
            each
            for each in await self._ledger.call(Ledger.find, subject)
            if not retention.erased(each.packed) and not retention.over(each.packed.listing, today)
        ]

    def _is_shared(self, view: ListingView, principal: Principal, today: datetime.date) -> bool:
        list_type = self._catalogues().list_type(view.listing.list_type, today)
        return (
            Role.AGENCY in principal.roles
            or list_type is None
            or list_type.is_shared_with(asking(principal.department))
        )

    def _measures(self, view: ListingView, today: datetime.date) -> tuple[tuple[Edition, Measure], ...]:
        catalogues, listing = self._catalogues(), view.listing
        list_type = catalogues.list_type(listing.list_type, today)
        codes = {listing.list_type, *((list_type.code, *list_type.aliases) if list_type else ())}
        return tuple(
            (edition, measure)
            for edition in catalogues.editions
            if catalogues.in_force(edition, today)
            for measure in edition.measures
            if codes & measure.list_types and _reaches(measure, listing.subject_kind)
        )


def _granted(principal: Principal, now: datetime.datetime, *, mode: Mode | None) -> bool:
    """Whether the department's grant covers a mode, or, without one, reading listings."""
    if principal.department == LOCAL:
        return True
    grant, today = principal.grant, day_of(now)
    if grant is None or not grant.valid_from <= today <= grant.valid_until:
        return False
    return grant.reads_listings if mode is None else mode in grant.modes


def _page(rows: Sequence[InquiryRow]) -> Sequence[InquiryRow]:
    """Return what one report tells of `MOST` records and one: it ends between two instants, for the next goes on there.

    Records of one batch have one instant.
    """
    told = rows[:MOST]
    if len(rows) > MOST:
        told = [row for row in told if row.decided_at > rows[MOST].decided_at] or told
    return told


def _told(rows: Sequence[InquiryRow]) -> tuple[ReportedInquiry, ...]:
    replaced = overtaken(row.record for row in rows)
    return tuple(
        reported(
            decision_id=row.decision_id,
            at=row.decided_at,
            department=row.department,
            matter=row.matter,
            outcome=row.outcome,
            kind=row.kind,
            record=row.record,
            never_left=row.decision_id in replaced,
        )
        for row in rows
    )


def _reaches(measure: Measure, kind: SubjectKind) -> bool:
    if kind in measure.objects:
        return True
    organisation = SubjectKind.ORGANISATION
    if kind is organisation:
        return not measure.objects.isdisjoint(ORGANISATION_KINDS)
    return organisation in measure.objects and kind in ORGANISATION_KINDS
