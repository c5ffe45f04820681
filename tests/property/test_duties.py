"""Whatever happens to a listing, each clock that runs can be stopped by an event that its state allows."""

import datetime
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from lanjie_gateway.domain import duties, events
from lanjie_gateway.domain.duties import DutyRule, Known
from lanjie_gateway.domain.errors import Refused
from lanjie_gateway.domain.events import Act, EventKind
from lanjie_matcher.listings import Listing
from lanjie_matcher.subjects import SubjectKind

K = EventKind
NOON = datetime.datetime(2026, 3, 1, 4, tzinfo=datetime.UTC)
DAY = datetime.date(2026, 3, 1)
DETAILS: dict[EventKind, tuple[dict[str, Any], ...]] = {
    K.OBJECTION_CLOSED: tuple({"outcome": each, "reply": "a"} for each in ("unfounded", "corrected", "deleted")),
    K.NOTICED: ({"what": "altered", "instrument_date": "2026-02-20"},),
    K.REVIEWED: tuple({"revision": 1, "verdict": each} for each in ("agreed", "contested")),
    K.STAYED: ({}, {"until": "2026-03-02"}),
}
ACTS = [(kind, detail) for kind in EventKind for detail in DETAILS.get(kind, ({},))]

STOPPED_BY = {
    DutyRule.OBJECTION_REPLY: {K.OBJECTION_CLOSED},
    DutyRule.REVOCATION_APPLY: {K.REVOKED},
    DutyRule.REPAIR_DECISION: {K.REPAIRED, K.REPAIR_REFUSED},
    DutyRule.PUBLICITY_WITHDRAWAL: {K.PUBLICITY_WITHDRAWN},
    DutyRule.REMOVAL_REVIEW: {K.REVIEWED},
}


class Life:
    """A listing and its duties, by the rules alone."""

    def __init__(self) -> None:
        self.listing = Listing(id="1", list_type="TAX", subject_kind=SubjectKind.ENTERPRISE, recorded_on=DAY)
        self.known = Known()
        self.hours = 0

    def after(self, kind: EventKind, detail: dict[str, Any]) -> "Life | None":
        """The life after an event; `None` where it is refused."""
        at = NOON + datetime.timedelta(hours=self.hours)
        act = Act(kind=kind, effective_at=at, actor="a", reason="b", document="c", detail=detail)
        reviews = "another" if DutyRule.REMOVAL_REVIEW in self.known.open else None
        try:
            events.require_complete(act)
            listing = events.apply(self.listing, kind, at, detail)
            step = duties.step(act, listing, DAY, DAY, replace(self.known, reviewed_actor=reviews))
        except Refused:
            return None
        made = Life()
        made.listing, made.hours = listing, self.hours + 1
        begun = {each.rule for each in step.opens if not each.closed}
        withdrawn = kind is not K.REINSTATED and (self.known.withdrawn or DutyRule.PUBLICITY_WITHDRAWAL in begun)
        made.known = Known(open=(self.known.open - step.closes) | begun, withdrawn=withdrawn)
        return made


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(ACTS), min_size=12, max_size=30))
def test_every_clock_that_runs_can_be_stopped(acts: list[tuple[EventKind, dict[str, Any]]]) -> None:
    life = Life()
    for act in acts:
        life = life.after(*act) or life
        for rule in life.known.open - {DutyRule.CONTESTED}:
            ways = [made for act in ACTS if act[0] in STOPPED_BY[rule] and (made := life.after(*act)) is not None]
            assert any(rule not in made.known.open for made in ways), rule
        # And an objection that is open is one that waits for a reply.
        assert (DutyRule.OBJECTION_REPLY in life.known.open) == life.listing.objection
