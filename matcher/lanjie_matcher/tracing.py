"""What `decide` finds on its way, step by step, for whoever explains an answer afterwards (Art. 65; PIPL 24).

`decide` is the only algorithm: it leaves its findings in a `Trace` where it is given one, and is otherwise the same.
Findings are codes and ids; no identifier, no name and no text of a listing stands in them (Art. 40).
"""

import datetime
import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lanjie_matcher.catalogues import CatalogueSet, Edition, Measure
from lanjie_matcher.listings import Listing

if TYPE_CHECKING:
    from lanjie_matcher.decide import Applied, Missing


class Verdict(enum.StrEnum):
    """Why a measure applies to a listing, or the first reason why it does not."""

    APPLIES = "applies"
    OTHER_ROLE = "other_role"
    OTHER_IMPLEMENTER = "other_implementer"
    OTHER_REGION = "other_region"
    GAVE_WAY = "gave_way"
    OTHER_SUBJECT_KIND = "other_subject_kind"
    TERM_OVER = "term_over"
    DECISION_ENDED = "decision_ended"
    DECISION_NOT_BEGUN = "decision_not_begun"
    OTHER_DECISION_KIND = "other_decision_kind"
    SANCTION_KIND_MISSING = "sanction_kind_missing"
    SANCTION_TERM_MISSING = "sanction_term_missing"
    SUBJECT_KIND_MISSING = "subject_kind_missing"

    @property
    def step(self) -> int:
        """The numbered step of `decide` that finds it."""
        return _STEPS.get(self, 2)


_STEPS = {
    Verdict.GAVE_WAY: 4,
    Verdict.TERM_OVER: 3,
    Verdict.DECISION_ENDED: 3,
    Verdict.DECISION_NOT_BEGUN: 3,
    Verdict.OTHER_DECISION_KIND: 3,
    Verdict.SANCTION_KIND_MISSING: 3,
    Verdict.SANCTION_TERM_MISSING: 3,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One finding of one numbered step.

    Attributes:
        step: number of the step, 0 to 8, as the docstring of `decide` lists them.
        verdict: what was found, a code: a `Verdict`, a `Standing`, or one of those that `decide` writes out.
        listing: id of the listing it is about.
        edition: ``id@edition`` of the catalogue it is about.
        measure: code of the measure it is about.
        detail: a code, date or number that belongs to the verdict.
    """

    step: int
    verdict: str
    listing: str = ""
    edition: str = ""
    measure: str = ""
    detail: str = ""


@dataclass(slots=True)
class Trace:
    """Collects the findings of one run of `decide`, in the order in which they were made."""

    findings: list[Finding] = field(default_factory=list)

    def note(
        self, step: int, verdict: str, *, listing: str = "", edition: str = "", measure: str = "", detail: str = ""
    ) -> None:
        """Keep a finding; fields as in `Finding`."""
        self.findings.append(
            Finding(
                step=step, verdict=str(verdict), listing=listing, edition=edition, measure=measure, detail=str(detail)
            )
        )

    def at(self, step: int) -> list[Finding]:
        """Return the findings of one step."""
        return [each for each in self.findings if each.step == step]

    def note_editions(self, catalogues: CatalogueSet, matter: str, day: datetime.date) -> None:
        """Step 0: which editions know the matter, and which of them are in force."""
        for edition in catalogues.matter_editions(matter):
            verdict = "edition_in_force" if catalogues.in_force(edition, day) else "edition_not_in_force"
            self.note(0, verdict, edition=edition.name, detail=matter)

    def note_measure(self, verdict: Verdict, listing: Listing, edition: Edition, measure: Measure) -> None:
        """Steps 2 to 4: what became of one measure for one listing."""
        detail = measure.repeats if verdict is Verdict.GAVE_WAY else ""
        where = {"listing": listing.id, "edition": edition.name, "measure": measure.code}
        self.note(verdict.step, verdict, **where, detail=detail or "")

    def note_strength(self, applied: "Sequence[Applied]", missing: "Sequence[Missing]") -> None:
        """Step 5: the strongest measure, and missing facts that could make the answer stronger."""
        for each in applied[:1]:
            effect = each.measure.effect.name.lower()
            self.note(5, "strongest", edition=each.edition.name, measure=each.measure.code, detail=effect)
        for lack in missing:
            self.note(5, "may_be_stronger", listing=lack.listing.id, measure=lack.measure.code, detail=lack.fact)

    def note_doubts(self, bearing: Iterable[Listing], mismatched: Iterable[Listing]) -> None:
        """Step 7: objections and names; the age of a source is noted where it is judged."""
        doubted = {listing.id for listing in mismatched}
        for listing in bearing:
            if listing.objection:
                self.note(7, "objection_open", listing=listing.id)
            if listing.id in doubted:
                self.note(7, "name_mismatch", listing=listing.id)

    def note_officer(self, *, confirm: bool, personal: bool, verifies: bool) -> None:
        """Step 8: why an officer confirms, or that none has to."""
        if verifies:
            self.note(8, "measure_to_be_verified")
        if confirm and personal:
            self.note(8, "natural_person")
        if not confirm:
            self.note(8, "no_confirmation")
