"""Explaining an answer (Art. 65; PIPL 24(3)): what was answered then, decided again on what was known then.

`as_of` is the law at an instant by what is known now; an explanation is what an answer rested on when it was given.
"""

import dataclasses
import datetime
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final

from lanjie_gateway.adapters.ledger import GenerationGoneError, InquiryRow, Ledger, LedgerThread, Life
from lanjie_gateway.domain.access import Principal, Role
from lanjie_gateway.domain.errors import Refused, Unanswerable, invalid_argument, not_found
from lanjie_gateway.domain.explanation import Answered, Explanation, answered, differences, recorded, steps_of
from lanjie_gateway.domain.history import in_view_at, state_at
from lanjie_gateway.domain.packed import PackedListing
from lanjie_gateway.domain.record_retention import ENDED, ERASED
from lanjie_gateway.domain.records import VERSION, Asked, digest, replay, row_fields
from lanjie_gateway.domain.retention import erased
from lanjie_gateway.services.own_records import OwnRecords
from lanjie_matcher.catalogues import CatalogueSet
from lanjie_matcher.decide import Outcome, UnknownMatterError, decide
from lanjie_matcher.masking import masked_text
from lanjie_matcher.tracing import Trace

MAX_PURPOSE: Final = 200
MAX_ID: Final = 64
VIEW_DIGEST_BYTES: Final = 8
EXPLAINED: Final = "EXPLAINED"
"""Outcome in the record that an explanation leaves of itself."""
_OTHER_EPOCH: Final = (
    "answered in epoch {then} of the ledger, which is in epoch {now} since a backup was restored: "
    "its revisions may have been given again to other commits, so nothing is proved"
)
_STOOD: Final = "listing {id} stood in the set of this revision: the SDK ought to have asked the gateway"


class ExplanationService:
    """Explains answers.

    Args:
        ledger: the ledger's thread.
        catalogues: gives the catalogues as they stand.
        load: brings records that workers have written into the ledger.
        clock: aware instants.
    """

    def __init__(
        self,
        ledger: LedgerThread,
        catalogues: Callable[[], CatalogueSet],
        load: Callable[[], Awaitable[object]],
        clock: Callable[[], datetime.datetime],
    ) -> None:
        self._ledger = ledger
        self._catalogues = catalogues
        self._load = load
        self._records = OwnRecords(ledger, clock)

    async def explain(self, decision_id: str, purpose: str, principal: Principal) -> Explanation:
        """Explain one answer.

        The steps, in order; the blocks of this class carry their numbers:

        1. Only the agency that runs the system asks, and says why (Art. 19-21, 24).
        2. The record, also one that a worker has just written (Art. 39), and whether it is as it was kept.
        3. What stands in the way: another ledger, another epoch, a revision that is not here, an older record.
        4. Catalogues, deliveries of sources and the subject's listings as they were at the revision of the answer.
        5. `decide`, the same one, at the instant of the answer (Art. 45-47); a local pass: the set of that revision.
        6. What differs from what was answered.
        7. An explanation is an inquiry: it leaves a record of its own before it is given (Art. 39).

        Raises:
            Refused: NOT_PERMITTED, ARGUMENT_INVALID, NOT_FOUND.
            Unanswerable: NOT_CURRENT, the catalogues at hand are behind the ledger.
        """
        principal.require(Role.AGENCY)  # (1)
        if not purpose.strip() or len(purpose) > MAX_PURPOSE:
            raise invalid_argument("purpose", "length", f"state the purpose in 1 to {MAX_PURPOSE} characters (Art. 24)")
        if not decision_id or len(decision_id) > MAX_ID or "\0" in decision_id:
            raise invalid_argument("decision_id", "length", f"a decision id has 1 to {MAX_ID} characters")
        await self._load()  # (2)
        rows = await self._ledger.call(Ledger.inquiries_of, decision_id)
        if not rows:
            raise not_found("no such decision")
        # A spool may have been named after a gateway's segment; the gateway's own record is the one that counts.
        row = min(rows, key=lambda each: each.kind == "local")
        explanation = await self._explained(row)
        if len(rows) > 1:
            obstacle = f"{len(rows)} records bear this id; this is the first of the gateway's own"
            explanation = dataclasses.replace(explanation, obstacles=(*explanation.obstacles, obstacle))
        return dataclasses.replace(explanation, record_id=await self._record(row, purpose, principal))  # (7)

    async def _explained(self, row: InquiryRow) -> Explanation:
        fields = _fields(row.record)
        ended = row.outcome == ERASED and not row.record
        found = Explanation(
            decision_id=row.decision_id,
            kind=row.kind,
            decided_at=row.decided_at,
            as_of=_instant(fields.get("as_of")),
            department=row.department,
            matter=row.matter,
            role=str(fields.get("role", "")),
            region=str(fields.get("region", "")),
            lineage=str(fields.get("lineage", "")),
            epoch=_number(fields.get("epoch")),
            revision=_number(fields.get("revision")),
            recorded=recorded(fields),
            differences=() if ended else tuple(_changed(row)),
        )
        obstacles = [ENDED] if ended else await self._in_the_way(found)
        if obstacles:
            return _with(found, obstacles=obstacles)
        if found.epoch != self._ledger.epoch:  # (3)
            found = _with(found, obstacles=[_OTHER_EPOCH.format(then=found.epoch, now=self._ledger.epoch)])
        return await (self._local(found, fields) if row.kind == "local" else self._decided(found, fields))

    async def _in_the_way(self, found: Explanation) -> list[str]:
        """Step 3: why nothing can be decided again."""
        if found.kind not in ("gateway", "local"):
            return [f"this record is of kind {found.kind} and holds no answer"]
        if found.recorded.reason == "PERSON_FILE":
            return ["a natural person in a batch of a matter that takes no files of persons: nobody was looked up"]
        if found.recorded.reason == "IDENTIFIER_INVALID":
            return ["the text asked about could not be an identifier: no subject was looked up, and none is recorded"]
        if found.lineage != self._ledger.lineage:
            return ["answered from another ledger than this one"]
        head = await self._ledger.call(Ledger.head)
        if found.revision > head:
            return [f"answered on revision {found.revision}, and this ledger has none after {head}: it was restored"]
        return []

    async def _decided(self, found: Explanation, fields: Mapping[str, Any]) -> Explanation:
        """Steps 4 to 6 for an answer of the gateway."""
        try:
            asked = replay(fields)
        except (KeyError, TypeError, ValueError):
            old = fields.get("v") != VERSION
            obstacle = "the record is of an older version and does not hold" if old else "the record does not hold"
            return _with(found, obstacles=[f"{obstacle} the question as it was decided"])
        catalogues = await self._catalogues_at(found.revision)
        lives = await self._ledger.call(Ledger.lives, asked.bucket, found.revision)
        gone = await self._gone(found, lives)
        try:
            own = _as_they_stood(lives, found.revision, asked)
        except (Refused, ValueError):
            return _with(found, obstacles=[*gone, "the events of a listing do not follow one another"])
        vouched = await self._ledger.call(Ledger.vouched, found.revision)
        question = dataclasses.replace(
            asked.question, vouched={pair: datetime.date.fromordinal(day) for pair, day in vouched.items()}
        )
        trace = Trace()
        try:
            ruling = decide([each.listing for each in own], catalogues, question, trace)  # (5)
        except UnknownMatterError:
            return _with(found, obstacles=[*gone, "no catalogue published up to that revision defines the matter"])
        again = answered(ruling)
        return _with(
            found,
            obstacles=gone,
            replayed=again,
            differences=(*found.differences, *differences(found.recorded, again)),  # (6)
            steps=steps_of(trace),
            listings=tuple(each.listing for each in own),
        )

    async def _local(self, found: Explanation, fields: Mapping[str, Any]) -> Explanation:
        """Steps 4 to 6 for a pass of an SDK: nobody of that digest stood in the view of that revision."""
        if found.epoch != self._ledger.epoch:
            # Its generation may have been given again to another key.
            return found
        generation, revision = _number(fields.get("generation")), found.revision
        try:
            value = _view_digest(fields)
            lives = await self._ledger.call(Ledger.lives_of_digest, generation, value, revision)
            stood = [each for each in lives if each.keyed and in_view_at(each.now, each.happened, revision)]
        except GenerationGoneError:
            obstacle = f"the digests under the view key of generation {generation} are no longer held"
            return _with(found, obstacles=[obstacle])
        except (Refused, ValueError):
            return _with(found, obstacles=["the record or the events of a listing are not what the gateway wrote"])
        obstacles = [
            f"the identifiers of listing {each.listing_id} were erased" for each in lives if each.keyed is None
        ]
        wrong = [_STOOD.format(id=each.listing_id) for each in stood]
        again = None if wrong else Answered(outcome=Outcome.PASS.name)
        differ = differences(found.recorded, again) if again is not None else wrong
        return _with(
            found,
            obstacles=obstacles,
            replayed=again,
            differences=(*found.differences, *differ),
            listings=tuple(each.now.listing for each in stood),
        )

    async def _catalogues_at(self, revision: int) -> CatalogueSet:
        """Return the editions published up to a revision (4)."""
        now = self._catalogues()
        known = [edition for edition in now.editions if edition.revision <= revision]
        kept = [each for each in await self._ledger.call(Ledger.editions) if each.revision <= revision]
        if len(known) != len(kept):
            raise Unanswerable("NOT_CURRENT", "the catalogues at hand are behind the ledger, try again")
        return CatalogueSet.of(known, now.region_overrides)

    async def _gone(self, found: Explanation, lives: Iterable[Life]) -> list[str]:
        """Return which listings of the subject, or of the answer, were erased since (Art. 41)."""
        erased = {each.listing_id for each in lives if each.keyed is None or each.erased_since(found.revision)}
        unknown = set(found.recorded.listings).difference(each.listing_id for each in lives)
        for each in await self._ledger.call(Ledger.lives_of, unknown) if unknown else ():
            if each.erased_since(found.revision):
                erased.add(each.listing_id)
        return [f"the data of listing {each} were erased at the end of its retention" for each in sorted(erased)]

    async def _record(self, row: InquiryRow, purpose: str, principal: Principal) -> str:
        """Step 7; return the id of the record."""
        return await self._records.leave(
            "explain",
            EXPLAINED,
            department=principal.department,
            person=principal.person,
            fields={
                "matter": row.matter,
                "purpose": masked_text(purpose),
                "subject": row.subject_token.hex(),
                "explains": row.decision_id,
            },
        )


def _as_they_stood(lives: Iterable[Life], revision: int, asked: Asked) -> list[PackedListing]:
    """Return the subject's listings at a revision, in the order in which the index held them (4)."""
    states = [state_at(each.now, each.happened, revision) for each in lives if each.keyed is not False]
    # The index held no annulled listing; `decide` passes it over too, and tells so. A tombstone is about nobody.
    return [
        state
        for state in states
        if state is not None and not erased(state) and state.concerns(asked.kind, asked.subject, asked.bucket)
    ]


def _changed(row: InquiryRow) -> list[str]:
    """Return what of a kept record is not as it was written (2)."""
    found = [] if digest(row.record) == row.digest else ["the record is not the one that its digest was made of"]
    try:
        derived = row_fields(row.record)
    except (KeyError, TypeError, ValueError, AttributeError):
        return [*found, "the record cannot be read"]
    return found + [
        f"the column {name} is not what the record says"
        for name, value in derived.items()
        if _kept(value) != getattr(row, name)
    ]


def _kept(value: Any) -> Any:
    # PostgreSQL keeps no text with a NUL in it; see `adapters.ledger.inquiries`.
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}") if isinstance(value, str) else value


def _fields(record: bytes) -> Mapping[str, Any]:
    try:
        fields = json.loads(record)
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}


def _instant(value: object) -> datetime.datetime | None:
    try:
        at = datetime.datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return at if at is not None and at.tzinfo is not None else None


def _view_digest(fields: Mapping[str, Any]) -> int:
    value = bytes.fromhex(str(fields.get("subject", "")))
    if len(value) != VIEW_DIGEST_BYTES:
        raise ValueError("no view digest")
    return int.from_bytes(value, "big")


def _number(value: object) -> int:
    return value if isinstance(value, int) and 0 <= value < 1 << 63 else 0


def _with(found: Explanation, *, obstacles: Iterable[str], **changes: Any) -> Explanation:
    return dataclasses.replace(found, obstacles=(*found.obstacles, *obstacles), **changes)
