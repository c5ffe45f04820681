"""The decision: which entries of the published measure lists apply to this subject, in this matter, now (Art. 45-48).

Pure. The caller brings the listings of one subject and all catalogues; nobody can add a measure or raise an effect
(Art. 47). An answer is never a boolean: only `Outcome.INTERCEPT` may stop a case, `Outcome.UNDETERMINED` means that a
person must look and is neither a pass nor a refusal.
"""

import datetime
import enum
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from lanjie_matcher.catalogues import APPLICANT, CatalogueSet, Edition, Effect, Level, ListType, Measure, Trigger
from lanjie_matcher.civil_time import day_of, last_day_after_months
from lanjie_matcher.listings import Listing, Standing, standing
from lanjie_matcher.regions import covers
from lanjie_matcher.subjects import ORGANISATION_KINDS, SubjectKind
from lanjie_matcher.tracing import Trace, Verdict


class Outcome(enum.Enum):
    """Result of a check (结果), by the strongest effect that applies."""

    PASS = "pass"
    ADVISE = "advise"
    HEIGHTEN = "heighten"
    RESTRICT = "restrict"
    INTERCEPT = "intercept"
    UNDETERMINED = "undetermined"


class Reason(enum.Enum):
    """Why an answer is undetermined."""

    CATALOGUE_MISSING = "catalogue_missing"
    FACTS_MISSING = "facts_missing"
    NAME_MISMATCH = "name_mismatch"
    UNAVAILABLE = "unavailable"
    IDENTIFIER_INVALID = "identifier_invalid"
    PERSON_FILE = "person_file"


class UnknownMatterError(LookupError):
    """No catalogue ever defined the matter (Art. 47: an unknown matter is an error, never a pass)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked of `decide`.

    Attributes:
        matter: code of the matter.
        at: aware instant to judge at.
        handling_region: region of the authority that handles the matter.
        role: part the subject plays in the case.
        department: who asks; `None` for a caller that stands for every unit.
        implementer_kinds: kinds of unit the caller is by its grant; `None` for a caller that may act as any.
        kind_hint: kind of subject that the asked identifier tells; used where a listing says only "organisation".
        name_mismatches: ids of the listings whose recorded name is not the stated one.
        vouched: by code of a list type and name of a source, the day up to which it has vouched for all it delivered.
    """

    matter: str
    at: datetime.datetime
    handling_region: str
    role: str = APPLICANT
    department: str | None = None
    implementer_kinds: frozenset[str] | None = None
    kind_hint: SubjectKind | None = None
    name_mismatches: frozenset[str] = frozenset()
    vouched: Mapping[tuple[str, str], datetime.date] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Applied:
    """A measure that applies, its edition, and the listings that bear it."""

    measure: Measure
    edition: Edition
    listings: tuple[Listing, ...]


@dataclass(frozen=True, slots=True)
class Missing:
    """A fact that a measure turns on and the record of a listing does not hold.

    `fact` is ``sanction_kind``, ``sanction_term`` or ``subject_kind``.
    """

    listing: Listing
    measure: Measure
    fact: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """The answer of `decide`. A pass has neither measures nor listings (Art. 40, 47)."""

    outcome: Outcome
    instruction: str
    reason: Reason | None = None
    measures: tuple[Applied, ...] = ()
    listings: tuple[Listing, ...] = ()
    missing: tuple[Missing, ...] = ()
    confirmation_required: bool = False
    officer_verifies: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    editions: tuple[str, ...] = ()


_PASS = Ruling(outcome=Outcome.PASS, instruction="未发现适用于本事项的惩戒措施，按正常程序办理。")
_BY_EFFECT = {
    Effect.ADVISE: Outcome.ADVISE,
    Effect.HEIGHTEN: Outcome.HEIGHTEN,
    Effect.RESTRICT: Outcome.RESTRICT,
    Effect.DENY: Outcome.INTERCEPT,
}


_FACTS = {
    Verdict.SANCTION_KIND_MISSING: "sanction_kind",
    Verdict.SANCTION_TERM_MISSING: "sanction_term",
    Verdict.SUBJECT_KIND_MISSING: "subject_kind",
}
_MISSING = tuple(_FACTS)
"""Verdicts that leave open whether a measure applies, and the fact that would tell."""
# Looking a member up in its class is a call in Python 3.11, and these are looked up for every listing and measure.
_APPLIES, _IN_FORCE, _NATIONAL = Verdict.APPLIES, Standing.IN_FORCE, Level.NATIONAL
_ORGANISATION, _PERSON = SubjectKind.ORGANISATION, SubjectKind.NATURAL_PERSON


def decide(
    listings: Iterable[Listing], catalogues: CatalogueSet, question: Question, trace: Trace | None = None
) -> Ruling:
    """Decide one question.

    The obligations, in order; the blocks below carry their numbers:

    0. An unknown matter is an error; a matter no catalogue in force knows is undetermined (Art. 45, 47).
    1. Only listings in force count, a local list type only in its own region (Art. 29, 41, 65, 66), and only those
       that their list type shares with who asks (Art. 35, 39).
    2. A measure needs list type, subject kind, matter, role, implementer and region all named (Art. 45, 47).
    3. A measure that waits on a decision acts only while one of a kind it names runs.
    4. A local entry that repeats a higher one gives way to it (Art. 2, 68).
    5. The outcome is the strongest effect, and never stronger than an entry allows (Art. 47).
    6. No measure: a pass, which does not say whether the subject is listed (Art. 40, 47).
    7. Objection marks ride along (Art. 64); an old source and a wrong name are warnings; a wrong name of a natural
       person is undetermined.
    8. An officer confirms what touches a natural person, and what a measure wants verified (PIPL 24).

    Related-person marks (Art. 32) are not among the arguments, so they cannot enter.

    Args:
        listings: every listing of the subject, ended ones included.
        catalogues: every edition ever published.
        question: the question.
        trace: takes what every step finds, for an explanation; the ruling is the same with and without.

    Raises:
        UnknownMatterError: no catalogue ever defined the matter.
    """
    day = day_of(question.at)

    # (0) the matter
    if not catalogues.ever_knew(question.matter):
        raise UnknownMatterError(question.matter)
    if trace is not None:
        trace.note_editions(catalogues, question.matter, day)
    if catalogues.matter(question.matter, day) is None:
        return Ruling(
            outcome=Outcome.UNDETERMINED,
            reason=Reason.CATALOGUE_MISSING,
            instruction="待核：本事项目前没有生效的惩戒措施清单，请继续受理并报清单管理部门核实。",
        )

    # (1), (2), (3), (4) listings and measures
    found, missing = _gathered(listings, catalogues, question, day, trace)

    # (5) the strongest effect
    applied = tuple(
        Applied(measure, edition, tuple(bearing))
        for measure, edition, bearing in sorted(found, key=lambda item: (-item[0].effect, -item[1].level, item[0].code))
    )
    strongest = max((each.measure.effect for each in applied), default=None)
    # A missing fact matters only where it could make the answer stronger than it is without it.
    missing = [each for each in missing if strongest is None or each.measure.effect > strongest]
    if trace is not None:
        trace.note_strength(applied, missing)

    # (6) nothing
    if not applied and not missing:
        if trace is not None:
            trace.note(6, "pass")
        return _PASS

    # (7) doubts
    bearing = _distinct([*(listing for each in applied for listing in each.listings), *(m.listing for m in missing)])
    mismatched = [listing for listing in bearing if listing.id in question.name_mismatches]
    if trace is not None:
        trace.note_doubts(bearing, mismatched)
    if _touches_person(mismatched, question):
        return Ruling(
            outcome=Outcome.UNDETERMINED,
            reason=Reason.NAME_MISMATCH,
            instruction="待核：姓名与证件号码不一致，请核对申请人证件后重新比对，期间不影响受理。",
        )
    warnings = _warnings(bearing, catalogues, question, day, trace)
    editions = tuple(sorted({each.edition.name for each in applied}))

    if missing:
        if trace is not None:
            trace.note(8, "facts_missing")
        return Ruling(
            outcome=Outcome.UNDETERMINED,
            reason=Reason.FACTS_MISSING,
            instruction="待核：认定文书缺少决定措施所需的事实，请向列入单位核实后处理，期间不影响受理。",
            measures=applied,
            listings=bearing,
            missing=tuple(missing),
            confirmation_required=True,
            officer_verifies=_verifies(applied),
            warnings=warnings,
            editions=editions,
        )

    # (8) the officer
    assert strongest is not None  # noqa: S101  `applied` is not empty here
    outcome = _BY_EFFECT[strongest]
    verifies = _verifies(applied)
    # The operator of an individual business, asked about by the own number, is a person whatever the listing is of.
    personal = question.kind_hint is _PERSON or _touches_person(bearing, question)
    confirm = bool(verifies) or (personal and outcome in (Outcome.INTERCEPT, Outcome.RESTRICT))
    if trace is not None:
        trace.note_officer(confirm=confirm, personal=personal, verifies=bool(verifies))
    return Ruling(
        outcome=outcome,
        instruction=_instruction(outcome, applied, confirm=confirm),
        measures=applied,
        listings=bearing,
        confirmation_required=confirm,
        officer_verifies=verifies,
        warnings=warnings,
        editions=editions,
    )


def _gathered(
    listings: Iterable[Listing], catalogues: CatalogueSet, question: Question, day: datetime.date, trace: Trace | None
) -> tuple[Collection[tuple[Measure, Edition, list[Listing]]], list[Missing]]:
    """Steps 1 to 4: the measures that apply with the listings that bear them, and what cannot be told."""
    found: dict[tuple[str, str], tuple[Measure, Edition, list[Listing]]] = {}
    missing: list[Missing] = []
    for listing, list_type in _in_force(listings, catalogues, question, day, trace):
        entries = catalogues.entries(list_type, question.matter, day)
        if trace is not None and not entries:
            trace.note(2, "no_entry", listing=listing.id, detail=listing.list_type)
        for edition, measure in entries:
            verdict = _unaddressed(measure, edition, question, catalogues)
            if verdict is None:
                verdict = _judged(measure, listing, question, day)
            if verdict is _APPLIES:
                found.setdefault((edition.name, measure.code), (measure, edition, []))[2].append(listing)
            elif verdict in _MISSING:
                missing.append(Missing(listing, measure, _FACTS[verdict]))
            if trace is not None:
                trace.note_measure(verdict, listing, edition, measure)
    return found.values(), missing


def _in_force(
    listings: Iterable[Listing], catalogues: CatalogueSet, question: Question, day: datetime.date, trace: Trace | None
) -> list[tuple[Listing, ListType]]:
    """Step 1: the listings in force, each with its list type."""
    result = []
    for listing in listings:
        list_type = catalogues.list_type(listing.list_type, day)
        stands = _stands(listing, list_type, catalogues, question)
        if trace is not None:
            trace.note(1, stands, listing=listing.id, detail=listing.list_type)
        if list_type is not None and stands is _IN_FORCE:
            result.append((listing, list_type))
    return result


def _stands(
    listing: Listing, list_type: ListType | None, catalogues: CatalogueSet, question: Question
) -> Standing | str:
    if list_type is None:
        return "list_type_unknown"
    stands: Standing | str = standing(listing, list_type.ends_with, question.at)
    if stands is _IN_FORCE and not list_type.is_shared_with(question.department):
        stands = "list_type_not_shared"
    if stands is not _IN_FORCE or list_type.level is _NATIONAL:
        return stands
    here = covers(list_type.region, question.handling_region, catalogues.region_overrides)
    return stands if here else "list_type_of_other_region"


def _unaddressed(measure: Measure, edition: Edition, question: Question, catalogues: CatalogueSet) -> Verdict | None:
    """Steps 2 and 4, as far as they do not turn on the listing: why the measure does not apply, `None` if it may."""
    if question.role not in measure.roles:
        return Verdict.OTHER_ROLE
    if (
        measure.implementers
        and question.implementer_kinds is not None
        and not measure.implementers & question.implementer_kinds
    ):
        return Verdict.OTHER_IMPLEMENTER
    if not covers(edition.region, question.handling_region, catalogues.region_overrides):
        return Verdict.OTHER_REGION
    day = day_of(question.at)
    if measure.repeats is not None and catalogues.defines(measure.repeats, edition.level, edition.region, day):
        return Verdict.GAVE_WAY
    return None


def _judged(measure: Measure, listing: Listing, question: Question, day: datetime.date) -> Verdict:
    """Steps 2 and 3 for one listing: whether the measure applies, and if not, why."""
    # (2) subject kind
    kinds = _possible_kinds(listing, question)
    reached = measure.objects | ORGANISATION_KINDS if _ORGANISATION in measure.objects else measure.objects
    if kinds.isdisjoint(reached):
        return Verdict.OTHER_SUBJECT_KIND
    # the measure's own term
    if measure.term_months is not None and day > last_day_after_months(listing.begins_on, measure.term_months):
        return Verdict.TERM_OVER
    # (3) the decision behind the listing
    if measure.trigger is Trigger.LISTING_AND_DECISION:
        if listing.sanction_to is not None and listing.sanction_to < day:
            return Verdict.DECISION_ENDED
        if listing.sanction_from is not None and listing.sanction_from > day:
            return Verdict.DECISION_NOT_BEGUN
        if listing.sanction_kind and listing.sanction_kind not in measure.decision_kinds:
            return Verdict.OTHER_DECISION_KIND
        if not listing.sanction_kind:
            return Verdict.SANCTION_KIND_MISSING
        if listing.sanction_from is None or listing.sanction_to is None:
            return Verdict.SANCTION_TERM_MISSING
    return _APPLIES if kinds <= reached else Verdict.SUBJECT_KIND_MISSING


def _possible_kinds(listing: Listing, question: Question) -> frozenset[SubjectKind]:
    """The kinds the subject may be of. A record that says "organisation" is narrowed by the number asked about."""
    if listing.subject_kind is not _ORGANISATION:
        return frozenset({listing.subject_kind})
    if question.kind_hint is _PERSON:
        # Record and number contradict each other: neither is believed.
        return ORGANISATION_KINDS | {_PERSON}
    if question.kind_hint is None or question.kind_hint is _ORGANISATION:
        return ORGANISATION_KINDS
    return frozenset({question.kind_hint})


def _touches_person(listings: Iterable[Listing], question: Question) -> bool:
    """Whether one of the listings is, or may be, of a natural person."""
    return any(_PERSON in _possible_kinds(listing, question) for listing in listings)


def _warnings(
    bearing: Iterable[Listing], catalogues: CatalogueSet, question: Question, day: datetime.date, trace: Trace | None
) -> tuple[str, ...]:
    """Step 7: doubts that change nothing."""
    found = set()
    for listing in bearing:
        if listing.id in question.name_mismatches:
            found.add("name-mismatch")
        list_type = catalogues.list_type(listing.list_type, day)
        if list_type is not None and list_type.source_max_age_days is not None:
            vouched = _vouched(listing, list_type, question)
            if (day - vouched).days > list_type.source_max_age_days:
                found.add("verify-at-source")
                if trace is not None:
                    trace.note(7, "source_old", listing=listing.id, detail=vouched.isoformat())
    return tuple(sorted(found))


def _vouched(listing: Listing, list_type: ListType, question: Question) -> datetime.date:
    """The last day for which its own row or a later delivery of its source vouches for a listing."""
    codes = (listing.list_type, list_type.code, *list_type.aliases)
    days = [question.vouched[code, listing.source] for code in codes if (code, listing.source) in question.vouched]
    return max([listing.source_as_of or listing.recorded_on, *days])


def _verifies(applied: Sequence[Applied]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text for each in applied for text in each.measure.officer_verifies))


def _distinct(listings: Iterable[Listing]) -> tuple[Listing, ...]:
    return tuple({listing.id: listing for listing in listings}.values())


def _instruction(outcome: Outcome, applied: Sequence[Applied], *, confirm: bool) -> str:
    lead = {
        Outcome.INTERCEPT: "拦截：依据{basis}，对本事项适用“{title}”",
        Outcome.RESTRICT: "限制：依据{basis}，办理时适用“{title}”",
        Outcome.HEIGHTEN: "从严：依据{basis}，办理时适用“{title}”",
        Outcome.ADVISE: "提示：依据{basis}，办理时参考“{title}”",
    }[outcome]
    first = applied[0].measure
    text = lead.format(basis=first.basis, title=first.instruction)
    if len(applied) > 1:
        text += f"等{len(applied)}项措施"
    tail = "；须经办人核实并具名确认后执行" if confirm else ""
    return f"{text}{tail}，并告知当事人依据、理由和救济途径。"
