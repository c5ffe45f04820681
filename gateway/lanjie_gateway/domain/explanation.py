"""A past answer in words: what each step of `decide` found, and whether deciding again gives the same (Art. 65).

Holds codes, ids, and the authority and number of decision documents; no identifier, no name (Art. 40).
"""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from lanjie_matcher.decide import Ruling
from lanjie_matcher.listings import Listing
from lanjie_matcher.tracing import Finding, Trace

STEPS: Final = (
    ("the matter", "Art. 45, 47"),
    ("listings in force", "Art. 29, 41, 65, 66"),
    ("measures that name the case", "Art. 45, 47"),
    ("decisions behind the listings", "Art. 47"),
    ("entries that give way to higher ones", "Art. 2, 68"),
    ("the strongest effect", "Art. 47"),
    ("no measure: a pass", "Art. 40, 47"),
    ("doubts", "Art. 34, 64"),
    ("confirmation by an officer", "PIPL 24"),
)
"""Title and articles of each step, in order."""

RULING_WARNINGS: Final = frozenset({"name-mismatch", "verify-at-source"})
"""Warnings that `decide` gives; the others of an answer come from the identifier, which no record holds."""

_OF_LISTING: Final = {
    "in_force": "is in force",
    "not_begun": "has not begun",
    "stayed": "is stayed",
    "removed": "was removed",
    "repaired": "was repaired",
    "revoked": "was revoked",
    "annulled": "was annulled: never in force",
    "term_ended": "is past its term",
    "publicity_ended": "is past its publicity",
    "retention_ended": "is past its retention",
    "list_type_unknown": "is of list type {detail}, which no catalogue in force defines",
    "list_type_not_shared": "is of the list type {detail}, which is not shared with the department (Art. 35)",
    "list_type_of_other_region": "is of the local list type {detail}, which acts in another region only",
    "no_entry": "is of list type {detail}, which no measure in force names for this matter",
    "objection_open": "bears an objection mark, which changes nothing",
    "name_mismatch": "records another name than the one stated",
    "source_old": "was vouched for by its source up to {detail} only: verify at the source",
}
_OF_MEASURE: Final = {
    "applies": "applies",
    "other_role": "acts on another part than the subject plays",
    "other_implementer": "is carried out by other kinds of unit",
    "other_region": "acts in another region",
    "gave_way": "gives way to {detail} of a higher catalogue",
    "other_subject_kind": "does not name this kind of subject",
    "term_over": "is past its own term",
    "decision_ended": "waits on a decision, which has ended",
    "decision_not_begun": "waits on a decision, which has not begun",
    "other_decision_kind": "waits on another kind of decision",
    "sanction_kind_missing": "waits on a decision, whose kind is not recorded",
    "sanction_term_missing": "waits on a decision, whose term is not recorded",
    "subject_kind_missing": "names kinds of subject, and the exact kind is not recorded",
    "strongest": "is the strongest: {detail}",
    "may_be_stronger": "would be stronger, were {detail} known",
}
_OF_ANSWER: Final = {
    "edition_in_force": "{edition} knows the matter and is in force",
    "edition_not_in_force": "{edition} knows the matter and is not in force",
    "pass": "no measure applies; this does not say whether the subject is listed",
    "measure_to_be_verified": "a measure wants facts verified by an officer",
    "natural_person": "the subject is, or may be, a natural person: an officer confirms",
    "facts_missing": "facts are missing: an officer asks the listing authority before anything is decided",
    "no_confirmation": "none is required",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """An answer by its codes; names of `Outcome` and `Reason`, fields as in the leaf of its record."""

    outcome: str
    reason: str = ""
    measures: tuple[str, ...] = ()
    listings: tuple[str, ...] = ()
    catalogues: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One numbered step with what it found, each finding with its words."""

    number: int
    title: str
    article: str
    findings: tuple[tuple[Finding, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What was answered, what deciding again gives, and every step; fields as in audit.proto."""

    decision_id: str
    kind: str
    decided_at: datetime.datetime
    as_of: datetime.datetime | None = None
    department: str
    matter: str
    role: str = ""
    region: str = ""
    lineage: str = ""
    epoch: int = 0
    revision: int = 0
    recorded: Answered
    replayed: Answered | None = None
    differences: tuple[str, ...] = ()
    obstacles: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    listings: tuple[Listing, ...] = ()
    record_id: str = ""

    @property
    def reproduced(self) -> bool:
        """Whether deciding again gives the same answer, and nothing stands in the way of saying so."""
        return self.replayed is not None and not self.differences and not self.obstacles


def recorded(fields: Mapping[str, Any]) -> Answered:
    """Return the answer that a leaf holds; what was changed in it by other hands is read as text."""
    lists = {name: _texts(fields.get(name)) for name in ("measures", "listings", "catalogues", "warnings")}
    return Answered(outcome=str(fields.get("outcome", "")), reason=str(fields.get("reason", "")), **lists)


def answered(ruling: Ruling) -> Answered:
    """Return a ruling by its codes."""
    return Answered(
        outcome=ruling.outcome.name,
        reason=ruling.reason.name if ruling.reason else "",
        measures=tuple(each.measure.code for each in ruling.measures),
        listings=tuple(listing.id for listing in ruling.listings),
        catalogues=ruling.editions,
        warnings=ruling.warnings,
    )


def differences(held: Answered, again: Answered) -> list[str]:
    """Return what differs between an answer as recorded and as decided again, in English."""
    found = [
        f"{name}: recorded {_shown(before)}, decided again {_shown(after)}"
        for name in ("outcome", "reason", "measures", "listings", "catalogues")
        if (before := getattr(held, name)) != (after := getattr(again, name))
    ]
    before, after = RULING_WARNINGS.intersection(held.warnings), frozenset(again.warnings)
    if before != after:
        found.append(f"warnings: recorded {_shown(sorted(before))}, decided again {_shown(sorted(after))}")
    return found


def steps_of(trace: Trace) -> tuple[Step, ...]:
    """Return all nine steps with their findings in words."""
    return tuple(
        Step(
            number=number,
            title=title,
            article=article,
            findings=tuple((finding, words(finding)) for finding in trace.at(number)),
        )
        for number, (title, article) in enumerate(STEPS)
    )


def words(finding: Finding) -> str:
    """Return a finding in English."""
    places = {"edition": finding.edition, "detail": finding.detail.replace("_", " ")}
    if text := _OF_LISTING.get(finding.verdict):
        return f"listing {finding.listing} {text.format(**places)}"
    if text := _OF_MEASURE.get(finding.verdict):
        subject = f"measure {finding.measure}" + (f" of {finding.edition}" if finding.edition else "")
        borne = f" for listing {finding.listing}" if finding.listing else ""
        return f"{subject}{borne} {text.format(**places)}"
    return _OF_ANSWER[finding.verdict].format(**places)


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list) else ()


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, list | tuple) else str(value) or "none"
