"""Checks (比对): the numbered steps of one answer, free of transport."""

import asyncio
import datetime
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeVar

from lanjie_gateway.adapters.index import ExactIndex, MovedError, compacted
from lanjie_gateway.adapters.segments import SegmentWriter
from lanjie_gateway.domain.access import Principal, not_granted
from lanjie_gateway.domain.authorisations import NAME, Wanted
from lanjie_gateway.domain.departments import asking
from lanjie_gateway.domain.errors import Refused, Unanswerable, invalid_argument
from lanjie_gateway.domain.grants import Grant, Mode
from lanjie_gateway.domain.packed import PackedListing, unpack_bucket
from lanjie_gateway.domain.records import SALT_BYTES, VERSION, Leaves, about, digest, instant
from lanjie_gateway.services.person_gate import PersonGate
from lanjie_matcher.catalogues import APPLICANT, CatalogueSet, Matter
from lanjie_matcher.civil_time import day_of
from lanjie_matcher.decide import Outcome, Question, Reason, Ruling, UnknownMatterError, decide
from lanjie_matcher.fingerprints import IndexKey
from lanjie_matcher.grants import Case, Claim
from lanjie_matcher.identifiers import Identifier, IdentifierError, parse
from lanjie_matcher.masking import holds_personal_number, masked_number, masked_text
from lanjie_matcher.regions import REGION
from lanjie_matcher.subjects import kind_by_code, normalise_name

CATCH_UP_SECONDS: Final = 0.2
"""How long an answer waits for `at_least_revision`."""
RESOLVE_WITHIN: Final = datetime.timedelta(hours=24)
"""An officer settles an undetermined answer within this time."""
READS: Final = 3
"""How often a question is judged because what it rests on changed meanwhile."""
MAX_BATCH: Final = 500
MAX_PURPOSE: Final = 200
MAX_CODE: Final = 64
MAX_NAME: Final = 256
SLICE: Final = 16
"""Questions of a batch that are judged before others have their turn."""
_ADMISSIONS: Final = 1_024
"""Inquiries whose admission is remembered."""
_VARYING: Final = (
    *("as_of", "at", "bearers", "bucket", "catalogues", "epoch", "id", "id_kind", "implementers", "kind_hint"),
    *("lineage", "listings", "measures", "other_names", "outcome", "reason", "replaces", "revision", "salt", "subject"),
    "warnings",
)
"""Fields of a record that do not follow from the admission of the question."""
_T = TypeVar("_T")
_Asked = tuple[Identifier | IdentifierError, str]
"""What a party is by, and the name stated of it."""


class _Questions(NamedTuple):
    """Questions that share a context, as asked: on a revision of at least `at_least`, or `pinned` where it is set."""

    inquiry: "Inquiry"
    asked: Sequence[_Asked]
    at_least: int
    pinned: int = 0
    batch: bool = False


_NO_OFFICER: Final = Claim(officer="")
_PERSON_FILE: Final = Ruling(
    outcome=Outcome.UNDETERMINED,
    reason=Reason.PERSON_FILE,
    instruction="待核：本事项未开通自然人批量比对，请对该主体单独比对，期间不影响受理。",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inquiry:
    """Why and for whom a question is asked; fields as in `InquiryContext` of screening.proto."""

    matter: str
    purpose: str
    mode: str = Mode.EX_OFFICIO
    case_no: str = ""
    role: str = APPLICANT
    handling_region: str = ""
    officer: Claim = _NO_OFFICER
    as_of: datetime.datetime | None = None
    authorisation: str = ""
    request: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """The party a question is about, as the caller wrote it."""

    identifier: str
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer that may leave: its record is written, and on disk where it has an effect."""

    ruling: Ruling
    catalogues: CatalogueSet
    masked: str
    warnings: tuple[str, ...]
    lineage: str
    epoch: int
    revision: int
    as_of: datetime.datetime
    decided_at: datetime.datetime
    resolve_by: datetime.datetime | None
    decision_id: str
    record_digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Admission:
    """What step 1 found, for as long as caller with grant, catalogues and day are these.

    Attributes:
        person_files: whether a batch may ask about natural persons.
        region: the handling region.
        implementer_kinds: kinds of unit the caller is.
        leaves: records of such questions.
    """

    asker: Principal
    inquiry: Inquiry
    catalogues: CatalogueSet
    today: datetime.date
    person_files: bool
    region: str
    implementer_kinds: frozenset[str] | None
    leaves: Leaves


class _Admitted(NamedTuple):
    """A question that may be asked: why it may, on which revision and as at which instant.

    `leaves` are those of the admission, or such as leave out the persons whom the question names (Art. 40).
    """

    by: _Admission
    revision: int
    at: datetime.datetime
    batch: bool
    leaves: Leaves

    def looks_up(self, asked: Identifier | IdentifierError) -> bool:
        """Whether the index is read for a party: not for a person in a batch that takes none."""
        return isinstance(asked, Identifier) and (not self.batch or self.by.person_files or not asked.is_person)


class ScreeningService:
    """Answers checks from the exact index.

    Args:
        index: the worker's index.
        key: key of the index.
        records: where inquiry records go.
        clock: aware instants.
        current: whether the index can be proved to be up to date.
        ledger: (lineage, epoch) of the ledger behind the index.
        gate: counts natural persons; `None` counts nobody.
        grants: gives a caller with what is granted now.
        consume: uses a subject's authorisation, durably; whether it covers the inquiry. Without it none does.
    """

    def __init__(
        self,
        *,
        index: ExactIndex[Any],
        key: IndexKey,
        records: SegmentWriter,
        clock: Callable[[], datetime.datetime],
        current: Callable[[], bool],
        ledger: Callable[[], tuple[str, int]],
        grants: Callable[[Principal], Principal],
        gate: PersonGate | None = None,
        consume: Callable[[Wanted], Awaitable[bool]] | None = None,
    ) -> None:
        self._index = index
        self._key = key
        self._records = records
        self._clock = clock
        self._current = current
        self._ledger = ledger
        self._gate = gate
        self._grants = grants
        self._consume = consume
        self._admissions: dict[int, _Admission] = {}

    async def check(
        self,
        asker: Principal,
        party: Party,
        inquiry: Inquiry,
        at_least_revision: int = 0,
        *,
        shape: Callable[[Answer], _T],
    ) -> _T:
        """Answer one question.

        `shape` gives the answer the form it leaves in, while its record is on its way to the disk.

        The steps, in order; the blocks of this class carry their numbers:

        1. The grant of the caller's department covers matter, mode, region and day, by the catalogues of the day; the
           officer's claim is sound; the caller says why it asks (Art. 24, 39, 40). Natural persons are counted before
           anything is said of them. An authorised inquiry uses the subject's authorisation, and that is durable before
           anything is looked up (Art. 39, 69).
        2. The exact index, by keyed token: absent is a pass (Art. 34: by number, never by name).
        3. Packed listings: the full identity is compared, so that a shared bucket is no match.
        4. `decide` (Art. 45-47).
        5. The inquiry record (Art. 39): on disk before an effect leaves, written before a pass does.
        6. The answer, with revision, instant, decision id and digest of its record. It leaves only on what still stands
           (Art. 48, 65, 66): what was committed while a record was read or synced, a grant that was changed meanwhile,
           and 00:00 in Shanghai, have the question judged anew.

        Raises:
            GatewayError: ARGUMENT_INVALID, NOT_PERMITTED, AS_OF_NOT_ALLOWED, NOT_CURRENT, REVISION_NOT_REACHED,
                INDEX_UNAVAILABLE, DAILY_CAP, OVERLOADED.
            IdentifierError: the text cannot be an identifier.
            UnknownMatterError: no catalogue ever defined the matter.
        """
        asked = (parse(party.identifier), party.name)
        _bounded(party)
        shaped, _ = await self._answers(asker, _Questions(inquiry, [asked], at_least_revision), shape)
        return shaped[0]

    async def check_batch(
        self,
        asker: Principal,
        parties: Sequence[Party],
        inquiry: Inquiry,
        *,
        at_least_revision: int,
        pinned: int,
        shape: Callable[[Answer], _T],
    ) -> tuple[list[_T], int]:
        """Answer questions that share a context, in order, all on one revision; others have their turn in between.

        A party that is no identifier gets an undetermined answer of its own; the others are answered. So does a natural
        person where the matter takes no files of persons (Art. 40): nobody's bidders wait because one of them is a
        person, and that one is not looked up. At a pinned
        revision absence is a pass whatever was listed since, but nothing is said of a listing that has changed since.

        Raises:
            GatewayError: as `check`; REVISION_COMPACTED when `pinned` is no longer held, or a catalogue was published
                or one of the listings found has changed since: the batch must start again.
            UnknownMatterError: no catalogue ever defined the matter.
        """
        if not 1 <= len(parties) <= MAX_BATCH:
            raise invalid_argument("subjects", "count", f"a batch has 1 to {MAX_BATCH} subjects")
        if inquiry.mode == Mode.AUTHORISED:
            raise invalid_argument(
                "mode", "one-subject", "an authorisation is one subject's: ask one question (Art. 69)"
            )
        asked = [(_readable(party), party.name) for party in parties]
        questions = _Questions(inquiry, asked, at_least_revision, pinned, batch=True)
        return await self._answers(asker, questions, shape)

    async def _answers(
        self, asker: Principal, questions: _Questions, shape: Callable[[Answer], _T]
    ) -> tuple[list[_T], int]:
        """Count the natural persons (1), judge, and tell what they came to."""
        gate, asked = self._gate, questions.asked
        persons = [] if gate is None else [each for each, _ in asked if isinstance(each, Identifier) and each.is_person]
        if gate is None or not persons:
            _, shaped, revision = await self._judge(asker, questions, shape)
            return shaped, revision
        admitted = self._admit(self._grants(asker), questions, self._index.revision)
        persons = [each for each in persons if admitted.looks_up(each)]
        officer = questions.inquiry.officer.officer
        await gate.admit(admitted.by.asker, officer, persons, admitted.by.today)
        answers, shaped, revision = await self._judge(asker, questions, shape)
        hits = [
            (each, answer.ruling.outcome is not Outcome.PASS)
            for (each, _), answer in zip(asked, answers, strict=True)
            if isinstance(each, Identifier)
            and each in persons
            # Where no catalogue is in force everybody is undetermined: nothing is found out about anybody.
            and answer.ruling.reason is not Reason.CATALOGUE_MISSING
        ]
        gate.tell(admitted.by.asker, officer, hits)
        return shaped, revision

    async def _judge(
        self, asker: Principal, questions: _Questions, shape: Callable[[Answer], _T]
    ) -> tuple[list[Answer], list[_T], int]:
        """Judge until the answers may leave.

        What the index no longer has at the newest revision is asked for again at the one that replaced it.
        """
        _, asked, at_least, pinned, _ = questions
        overtaken: Sequence[Answer] = ()
        for turn in range(READS):
            revision = await self._revision(at_least, pinned)
            admitted = self._admit(self._grants(asker), questions, revision)
            if turn == 0:
                await self._authorised(admitted, asked)
            looked_up = [each for each, _ in asked if isinstance(each, Identifier) and admitted.looks_up(each)]
            buckets = [self._key.token(each.key) for each in looked_up]
            try:
                values = await self._index.read(buckets, revision)  # (2)
            except MovedError as moved:
                if pinned:
                    raise compacted(moved.revision) from None
                at_least = max(at_least, moved.revision)
                continue
            # An effect needs a listing; a pass at a pinned revision is what that revision says.
            rests_on = [each for each, value in zip(buckets, values, strict=True) if value or not pinned]
            if not self._stands(admitted, rests_on, pinned):
                continue
            found = zip(buckets, values, strict=True)
            answers, shaped = await self._in_slices(admitted, asked, found, overtaken, shape)
            synced = None
            if any(answer.ruling.outcome is not Outcome.PASS for answer in answers):
                synced = self._records.durable()  # (5)
            # While records are on their way to the disk.
            shaped += map(shape, answers[len(shaped) :])
            if synced is not None:
                await synced
            elif len(asked) <= SLICE:
                return answers, shaped, revision
            if self._stands(admitted, rests_on, pinned):
                return answers, shaped, revision
            overtaken = answers
        raise Unanswerable("INDEX_UNAVAILABLE", "the list changes faster than it can be read")

    async def _in_slices(
        self,
        admitted: _Admitted,
        asked: Sequence[_Asked],
        found: Iterator[tuple[bytes, bytes]],
        overtaken: Sequence[Answer],
        shape: Callable[[Answer], _T],
    ) -> tuple[list[Answer], list[_T]]:
        """Judge all, and shape all but the last slice; whoever asks one question waits for a slice, not for a batch."""
        answers: list[Answer] = []
        shaped: list[_T] = []
        for start in range(0, len(asked), SLICE):
            if start:
                shaped += map(shape, answers[len(shaped) :])
                await asyncio.sleep(0)
            end = start + SLICE
            answers += self._judged(admitted, asked[start:end], found, overtaken[start:end])
        return answers, shaped

    def _stands(self, admitted: _Admitted, rests_on: Sequence[bytes], pinned: int) -> bool:
        """Step 6, asked after every wait: nothing may come between a yes and the leaving of the answer.

        An answer leaves on the day it was judged on: everything that ends or begins by itself does so at 00:00, grants
        too.
        """
        if not self._index.stands(rests_on, admitted.revision):
            if pinned:
                raise compacted(self._index.revision)
            return False
        by = admitted.by
        granted = self._grants(by.asker).grant is by.asker.grant
        return granted and day_of(self._clock()) == by.today and self._current()

    async def _revision(self, at_least: int, pinned: int) -> int:
        """The revision to read at; it is provably the newest, or pinned by an earlier part of the same batch."""
        if not self._current():
            raise Unanswerable("NOT_CURRENT", "this worker cannot prove that it is current")
        if not await self._index.reached(at_least, CATCH_UP_SECONDS):
            raise Unanswerable(
                "REVISION_NOT_REACHED", "this worker has not reached the revision asked for", revision=str(at_least)
            )
        return self._index.pin(pinned)

    def _admit(self, asker: Principal, questions: _Questions, revision: int) -> _Admitted:
        """Step 1, from memory while nothing that it turns on has changed."""
        now, catalogues, inquiry = self._clock(), self._index.catalogues(revision), questions.inquiry
        known = self._admissions.get(id(inquiry))
        if (
            known is None
            or known.inquiry is not inquiry
            or known.asker is not asker
            or known.catalogues is not catalogues
            or known.today != day_of(now)
        ):
            known = self._admission(asker, inquiry, catalogues, now)
            # What is said of the past, and a claim that ends, turn on the instant too.
            if inquiry.as_of is None and not inquiry.officer.signature:
                if len(self._admissions) >= _ADMISSIONS:
                    self._admissions.clear()
                self._admissions[id(inquiry)] = known
        own = [each for each in _persons_stated(questions.asked) if each in inquiry.purpose or each in inquiry.case_no]
        leaves = Leaves(_told(known.asker, inquiry, own), _VARYING) if own else known.leaves
        return _Admitted(known, revision, inquiry.as_of or now, questions.batch, leaves)

    def _admission(
        self, asker: Principal, inquiry: Inquiry, catalogues: CatalogueSet, now: datetime.datetime
    ) -> _Admission:
        """Step 1."""
        at = inquiry.as_of or now
        grant = self._admit_grant(asker, inquiry, catalogues, now)
        if not inquiry.purpose.strip() or len(inquiry.purpose) > MAX_PURPOSE:
            raise invalid_argument("purpose", "length", f"state the purpose in 1 to {MAX_PURPOSE} characters (Art. 24)")
        for field, value in (("case_no", inquiry.case_no), ("role", inquiry.role)):
            if len(value) > MAX_CODE:
                raise invalid_argument(field, "length", f"{field} has at most {MAX_CODE} characters")
        if inquiry.handling_region and not REGION.fullmatch(inquiry.handling_region):
            raise invalid_argument("handling_region", "format", "a region has six digits (GB/T 2260)")
        if not catalogues.ever_knew(inquiry.matter):
            raise UnknownMatterError(inquiry.matter)
        then, current = (catalogues.matter(inquiry.matter, day_of(each)) for each in (at, now))
        # Where no catalogue of then knows the matter, the one of now says whether it may be asked about the past.
        self._admit_as_of(inquiry, then or current, now)
        # What an inquirer has to state, and may ask in bulk, is a matter of now, whatever instant is asked about.
        matter = current or then
        if matter is not None and matter.case_no_required and not inquiry.case_no.strip():
            raise invalid_argument("case_no", "required", "this matter wants a case number")
        return _Admission(
            asker=asker,
            inquiry=inquiry,
            catalogues=catalogues,
            today=day_of(now),
            person_files=current is not None and current.person_files,
            region=_region(asker, inquiry),
            implementer_kinds=grant.implementer_kinds,
            leaves=Leaves(_told(asker, inquiry), _VARYING),
        )

    @staticmethod
    def _admit_grant(asker: Principal, inquiry: Inquiry, catalogues: CatalogueSet, now: datetime.datetime) -> Grant:
        """Step 1: what is granted today; whatever instant is asked about, access is a matter of now."""
        today, claim = day_of(now), inquiry.officer
        grant = asker.require_inquiry(
            *(inquiry.matter, inquiry.mode, _region(asker, inquiry), today),
            held_by=catalogues.lineage(inquiry.matter, today),
        )
        _admit_mode(inquiry)
        if len(claim.officer) > MAX_CODE:
            raise invalid_argument("officer", "length", f"officer has at most {MAX_CODE} characters")
        case = Case(inquiry.matter, inquiry.case_no, inquiry.purpose)
        if fault := grant.officer_fault(claim, case, int(now.timestamp())):
            raise not_granted(fault)
        return grant

    async def _authorised(self, admitted: _Admitted, asked: Sequence[_Asked]) -> None:
        """Step 1: use the authorisation. One text for whatever is wrong with it (Art. 40)."""
        inquiry, ((identifier, name), *_) = admitted.by.inquiry, asked
        if inquiry.mode != Mode.AUTHORISED or not isinstance(identifier, Identifier):
            return
        wanted = Wanted(
            authorisation=inquiry.authorisation,
            request=inquiry.request,
            department=admitted.by.asker.department,
            person=admitted.by.asker.actor,
            subject=self._key.token(identifier.reveal()),
            matter=inquiry.matter,
            purpose=masked_text(inquiry.purpose),
            case_no=inquiry.case_no,
            role=inquiry.role,
            region=admitted.by.region,
            name=self._name_token(name) or b"",
            as_of=instant(inquiry.as_of) if inquiry.as_of is not None else "",
        )
        if self._consume is None or not await self._consume(wanted):
            raise Refused("NOT_PERMITTED", "no authorisation covers this inquiry", required="authorisation")

    @staticmethod
    def _admit_as_of(inquiry: Inquiry, matter: Matter | None, now: datetime.datetime) -> None:
        if inquiry.as_of is None:
            return
        if matter is not None and not matter.as_of_allowed:
            raise Refused("AS_OF_NOT_ALLOWED", "this matter is judged as of now only", matter=inquiry.matter)
        if inquiry.as_of > now:
            raise invalid_argument("as_of_time", "future", "as_of lies in the future")

    def _judged(
        self,
        admitted: _Admitted,
        asked: Sequence[_Asked],
        found: Iterator[tuple[bytes, bytes]],
        overtaken: Sequence[Answer],
    ) -> list[Answer]:
        """Steps 3 to 6 for each question: `found` is bucket and value of each that is looked up.

        `overtaken` are the answers to the same questions that did not leave.
        """
        replaced = iter(overtaken)
        answers = []
        for each, name in asked:
            earlier = next(replaced, None)
            replaces = earlier.decision_id if earlier is not None else ""
            if isinstance(each, IdentifierError):
                answers.append(self._unreadable(admitted, each, replaces))
            elif admitted.looks_up(each):
                answers.append(self._answer(admitted, each, next(found), name, replaces))
            else:
                told = {"subject": self._key.token(each.reveal()).hex(), "id_kind": each.kind.value}
                answers.append(self._recorded(admitted, _PERSON_FILE, (), each.masked, told, replaces=replaces))
        return answers

    def _answer(
        self, admitted: _Admitted, identifier: Identifier, found: tuple[bytes, bytes], name: str, replaces: str
    ) -> Answer:
        bucket, value = found
        token = self._key.token(identifier.reveal())
        # (3)
        kind = identifier.kind.value
        own = [packed for packed in unpack_bucket(value) if packed.concerns(kind, token, bucket)] if value else []
        # (4)
        admitted = _not_before_events(admitted, own)
        stated = self._name_token(name)
        by = admitted.by
        question = Question(
            matter=by.inquiry.matter,
            at=admitted.at,
            handling_region=by.region,
            role=by.inquiry.role or APPLICANT,
            department=asking(by.asker.department),
            implementer_kinds=by.implementer_kinds,
            kind_hint=kind_by_code(identifier),
            vouched=self._index.sources(admitted.revision),
            name_mismatches=frozenset(
                packed.listing.id for packed in own if stated and packed.name_token and packed.name_token != stated
            ),
        )
        ruling = decide([packed.listing for packed in own], by.catalogues, question)
        asked = about(question, kind=kind, subject=token, bucket=bucket)
        warnings = (*identifier.warnings, *ruling.warnings)
        return self._recorded(admitted, ruling, warnings, masked_number(identifier), asked, replaces=replaces)

    def _name_token(self, name: str) -> bytes | None:
        return self._key.token(normalise_name(name)) if name.strip() else None

    def _unreadable(self, admitted: _Admitted, error: IdentifierError, replaces: str) -> Answer:
        ruling = Ruling(
            outcome=Outcome.UNDETERMINED,
            reason=Reason.IDENTIFIER_INVALID,
            instruction="待核：证件号码无法识别，请核对后重新比对，期间不影响受理。",
        )
        return self._recorded(admitted, ruling, (f"identifier-{error.rule}",), "", {}, replaces=replaces)

    def _recorded(
        self,
        admitted: _Admitted,
        ruling: Ruling,
        warnings: tuple[str, ...],
        masked: str,
        asked: Mapping[str, Any],
        *,
        replaces: str,
    ) -> Answer:
        """Steps 5 and 6. A record says what was judged; one that replaces another says that the other never left."""
        by, revision = admitted.by, admitted.revision
        now = self._clock()
        lineage, epoch = self._ledger()
        decision_id = self._records.next_id()
        record = admitted.leaves.leaf(
            {
                "salt": os.urandom(SALT_BYTES).hex(),
                "id": decision_id,
                "replaces": replaces,
                "at": instant(now),
                "as_of": instant(admitted.at),
                **asked,
                "lineage": lineage,
                "epoch": epoch,
                "revision": revision,
                "outcome": ruling.outcome.name,
                "reason": ruling.reason.name if ruling.reason else "",
                "measures": [each.measure.code for each in ruling.measures],
                "bearers": [[listing.id for listing in each.listings] for each in ruling.measures],
                "listings": [listing.id for listing in ruling.listings],
                "catalogues": list(ruling.editions),
                "warnings": list(warnings),
            }
        )
        self._records.append(record)
        undetermined = ruling.outcome is Outcome.UNDETERMINED
        return Answer(
            ruling=ruling,
            catalogues=by.catalogues,
            masked=masked,
            warnings=warnings,
            lineage=lineage,
            epoch=epoch,
            revision=revision,
            as_of=admitted.at,
            decided_at=now,
            resolve_by=now + RESOLVE_WITHIN if undetermined else None,
            decision_id=decision_id,
            record_digest=digest(record),
        )


def _persons_stated(asked: Sequence[_Asked]) -> Iterator[str]:
    """Yield the names and numbers of natural persons that a question states, or that may be such."""
    for each, name in asked:
        if isinstance(each, Identifier) and not each.is_person:
            continue
        if name:
            yield name
        if isinstance(each, Identifier):
            yield each.reveal().rpartition(":")[2]


def _told(asker: Principal, inquiry: Inquiry, own: Sequence[str] = ()) -> dict[str, Any]:
    """Return the fields of a record that follow from its admission, without `own`, the persons it names."""
    return {
        "v": VERSION,
        "department": asker.department,
        "person": asker.person,
        "officer": masked_text(inquiry.officer.officer),
        "officer_verified": bool(inquiry.officer.signature) or None,
        "grant": (asker.grant.revision or None) if asker.grant is not None else None,
        "mode": inquiry.mode,
        "authorisation": inquiry.authorisation,
        "request": inquiry.request,
        "matter": inquiry.matter,
        "purpose": masked_text(inquiry.purpose, own),
        "case_no": masked_text(inquiry.case_no, own),
        "role": masked_text(inquiry.role),
        "region": _region(asker, inquiry),
    }


def _region(asker: Principal, inquiry: Inquiry) -> str:
    return inquiry.handling_region or asker.handling_region


def _admit_mode(inquiry: Inquiry) -> None:
    """Step 1: what a mode that rests on the subject wants beside the grant (Art. 39)."""
    if inquiry.mode == Mode.SELF:
        # A check tells a counter what bears on its matter; to a subject all of its own is told (Art. 63).
        message = "a subject's own inquiry is its report, not a check (Art. 39, 63)"
        raise Refused("NOT_PERMITTED", message, required="RightsService.SubjectReport")
    authorised = inquiry.mode == Mode.AUTHORISED
    for field, value in (("authorisation_id", inquiry.authorisation), ("request_id", inquiry.request)):
        if authorised and not NAME.fullmatch(value):
            raise invalid_argument(field, "format", f"{field} has 1 to {MAX_CODE} letters, digits, '.', '_', '-'")
        if holds_personal_number(value):
            raise invalid_argument(field, "personal-number", f"{field} holds no number of a person (Art. 40)")
        if not authorised and value:
            raise invalid_argument(field, "mode", f"{field} goes with the mode authorised alone")


def _readable(party: Party) -> Identifier | IdentifierError:
    _bounded(party)
    try:
        return parse(party.identifier)
    except IdentifierError as error:
        return error


def _bounded(party: Party) -> None:
    if len(party.name) > MAX_NAME:
        raise invalid_argument("name", "length", f"a name has at most {MAX_NAME} characters")


def _not_before_events(admitted: _Admitted, own: Sequence[PackedListing]) -> _Admitted:
    """Judge a question about now no earlier than what has ended or stayed a listing.

    Nothing is recorded ahead of its time, so a clock that says otherwise is behind that of the host which took it.
    """
    if not own or admitted.by.inquiry.as_of is not None:
        return admitted
    known = [
        instant
        for listing in (packed.listing for packed in own)
        for instant in (
            listing.removed_at,
            listing.repaired_at,
            listing.revoked_at,
            *(since for since, _ in listing.stays),
        )
        if instant is not None and instant > admitted.at
    ]
    return admitted._replace(at=max(known)) if known else admitted
