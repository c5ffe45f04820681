"""What may follow what in the life of a listing: every state against every kind of event."""

import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanjie_gateway.domain import events
from lanjie_gateway.domain.errors import Refused
from lanjie_gateway.domain.events import Act, EventKind
from lanjie_matcher.civil_time import start_of
from lanjie_matcher.listings import EndsWith, Listing, Standing, ended_by_event, standing
from lanjie_matcher.subjects import SubjectKind

K = EventKind
NOON = datetime.datetime(2026, 3, 1, 4, tzinfo=datetime.UTC)
HOUR = datetime.timedelta(hours=1)


def fresh() -> Listing:
    return Listing(id="1", list_type="TAX", subject_kind=SubjectKind.ENTERPRISE, recorded_on=datetime.date(2026, 1, 1))


def after(*kinds: EventKind) -> Listing:
    made = fresh()
    for number, kind in enumerate(kinds):
        made = events.apply(made, kind, NOON + number * HOUR)
    return made


STATES = {
    "listed": (),
    "objected": (K.OBJECTION_OPENED,),
    "stayed": (K.STAYED,),
    "stay lifted": (K.STAYED, K.STAY_LIFTED),
    "removed": (K.REMOVED,),
    "removed while stayed": (K.STAYED, K.REMOVED),
    "removed, objected": (K.REMOVED, K.OBJECTION_OPENED),
    "repaired": (K.REPAIRED,),
    "revoked": (K.REVOKED,),
    "reinstated": (K.REMOVED, K.REINSTATED),
    "annulled": (K.ANNULLED,),
    "annulled while objected": (K.OBJECTION_OPENED, K.ANNULLED),
}
_RUNS = {K.AMENDED, K.REPAIRED, K.REMOVED, K.REVOKED, K.NOTICED, K.REPAIR_APPLIED, K.REPAIR_REFUSED}
_ALWAYS = {K.ANNULLED, K.REVIEWED}
_ENDED = {K.REINSTATED, K.PUBLICITY_WITHDRAWN}
ALLOWED = {
    "listed": _RUNS | _ALWAYS | {K.OBJECTION_OPENED, K.STAYED},
    "objected": _RUNS | _ALWAYS | {K.OBJECTION_CLOSED, K.STAYED},
    "stayed": _RUNS | _ALWAYS | {K.OBJECTION_OPENED, K.STAY_LIFTED},
    "stay lifted": _RUNS | _ALWAYS | {K.OBJECTION_OPENED, K.STAYED},
    "removed": _ENDED | _ALWAYS | {K.OBJECTION_OPENED, K.REVOKED},
    "removed while stayed": _ENDED | _ALWAYS | {K.OBJECTION_OPENED, K.REVOKED, K.STAY_LIFTED},
    "removed, objected": _ENDED | _ALWAYS | {K.OBJECTION_CLOSED, K.REVOKED},
    "repaired": _ENDED | _ALWAYS | {K.OBJECTION_OPENED, K.REVOKED},
    "revoked": _ENDED | _ALWAYS | {K.OBJECTION_OPENED},
    "reinstated": _RUNS | _ALWAYS | {K.OBJECTION_OPENED, K.STAYED},
    "annulled": {K.REVIEWED, K.PUBLICITY_WITHDRAWN},
    "annulled while objected": {K.REVIEWED, K.PUBLICITY_WITHDRAWN},
}


@pytest.mark.parametrize("kind", list(EventKind))
@pytest.mark.parametrize("state", STATES)
def test_every_state_against_every_kind(state: str, kind: EventKind) -> None:
    before = after(*STATES[state])
    if kind in ALLOWED[state]:
        events.apply(before, kind, NOON + 9 * HOUR)
        return
    with pytest.raises(Refused) as error:
        events.apply(before, kind, NOON + 9 * HOUR)
    assert error.value.reason == "TRANSITION_ILLEGAL"
    assert error.value.metadata == {"state": events.state_of(before, NOON + 9 * HOUR), "event": kind.value}


def stand(listing: Listing, at: datetime.datetime) -> Standing:
    return standing(listing, EndsWith.REMOVAL, at)


def test_a_stay_with_a_last_day_ends_by_itself_at_midnight() -> None:
    until = {"until": "2026-03-05"}
    stayed = events.apply(fresh(), K.STAYED, NOON, until)
    midnight = start_of(datetime.date(2026, 3, 6))
    second = datetime.timedelta(seconds=1)
    assert [stand(stayed, at) for at in (NOON - second, NOON, midnight - second, midnight)] == [
        *(Standing.IN_FORCE, Standing.STAYED, Standing.STAYED, Standing.IN_FORCE)
    ]
    for kind, at in ((K.STAYED, midnight - second), (K.STAY_LIFTED, midnight)):
        with pytest.raises(Refused) as error:
            events.apply(stayed, kind, at)
        assert error.value.reason == "TRANSITION_ILLEGAL"
    again = events.apply(stayed, K.STAYED, midnight)
    assert (stand(again, midnight), len(again.stays)) == (Standing.STAYED, 2)
    lifted = events.apply(stayed, K.STAY_LIFTED, NOON + HOUR)
    assert [stand(lifted, at) for at in (NOON, NOON + HOUR)] == [Standing.STAYED, Standing.IN_FORCE]
    with pytest.raises(Refused) as error:
        events.apply(fresh(), K.STAYED, NOON, {"until": "2026-02-28"})
    assert error.value.metadata == {"field": "until_date", "rule": "order"}
    events.apply(fresh(), K.STAYED, NOON, {"until": "2026-03-01"})
    with pytest.raises(Refused, match="states no last day"):
        events.apply(fresh(), K.STAYED, NOON, {"until": "9999-12-31"})


def test_an_objection_ends_as_its_outcome_says() -> None:
    objected = after(K.OBJECTION_OPENED)
    for outcome, annulled in (("unfounded", False), ("corrected", False), ("deleted", True)):
        closed = events.apply(objected, K.OBJECTION_CLOSED, NOON, {"outcome": outcome})
        assert (closed.objection, closed.annulled, ended_by_event(closed)) == (False, annulled, annulled)


def test_a_second_end_keeps_the_time_between_the_first_and_the_reinstatement() -> None:
    twice = after(K.REMOVED, K.REINSTATED, K.REVOKED)
    found = [stand(twice, NOON + hours * HOUR) for hours in (-1, 0, 1, 2)]
    assert found == [Standing.IN_FORCE, Standing.STAYED, Standing.IN_FORCE, Standing.REVOKED]
    # No lift of a stay reaches that time.
    with pytest.raises(Refused):
        events.apply(twice, K.STAY_LIFTED, NOON)
    with pytest.raises(Refused):
        events.apply(events.apply(twice, K.REINSTATED, NOON + 3 * HOUR), K.STAY_LIFTED, NOON)


@pytest.mark.parametrize(
    ("kind", "detail", "field"),
    [
        (K.OBJECTION_CLOSED, {}, "objection_outcome"),
        (K.OBJECTION_CLOSED, {"outcome": "founded", "reply": "a"}, "objection_outcome"),
        (K.OBJECTION_CLOSED, {"outcome": "unfounded"}, "reply"),
        (K.OBJECTION_CLOSED, {"outcome": "unfounded", "reply": " "}, "reply"),
        (K.OBJECTION_CLOSED, {"outcome": "unfounded", "reply": "a" * 2_001}, "reply"),
        (K.NOTICED, {"instrument_date": "2026-01-01"}, "notice"),
        (K.NOTICED, {"what": "altered"}, "instrument_date"),
        (K.NOTICED, {"what": "altered", "instrument_date": "x"}, "instrument_date"),
        (K.REVIEWED, {"verdict": "agreed"}, "reviewed_revision"),
        # More than a database counts to.
        (K.REVIEWED, {"revision": 1 << 63, "verdict": "agreed"}, "reviewed_revision"),
        (K.REVIEWED, {"verdict": "maybe", "revision": 1}, "verdict"),
    ],
)
def test_an_event_says_what_its_kind_has_to_say(kind: EventKind, detail: dict[str, Any], field: str) -> None:
    with pytest.raises(Refused) as error:
        events.require_complete(Act(kind=kind, actor="a", reason="b", document="c", detail=detail))
    assert (error.value.reason, error.value.metadata["field"]) == ("ARGUMENT_INVALID", field)


# What moves a listing comes often, and mostly in the order of time.
_MOVES = [K.REMOVED, K.REPAIRED, K.REVOKED, K.REINSTATED, K.REINSTATED, K.STAYED, K.STAY_LIFTED]
_ACTS = st.lists(
    st.tuples(
        st.one_of(st.sampled_from(_MOVES), st.sampled_from([kind for kind in EventKind if kind is not K.ERASED])),
        st.sampled_from((1, 1, 1, 2, 0, -1, -3)),
        st.sampled_from(({}, {"until": "2026-03-02"}, {"outcome": "deleted"})),
    ),
    min_size=8,
    max_size=20,
)


@settings(max_examples=120, deadline=None)
@given(_ACTS)
def test_nothing_brings_a_listing_back_but_a_reinstatement(acts: list[tuple[EventKind, int, dict[str, str]]]) -> None:
    listing, known = fresh(), dict.fromkeys(range(-4, 30), True)
    annulled, hours = False, 0
    for kind, later, detail in acts:
        hours = max(0, hours + later)
        at = NOON + hours * HOUR
        lifts = listing.stays[-1] if kind is K.STAY_LIFTED and listing.stays else None
        try:
            listing = events.apply(listing, kind, at, detail)
        except Refused:
            continue
        annulled = annulled or listing.annulled
        now = {each: stand(listing, NOON + each * HOUR) is Standing.IN_FORCE for each in known}
        assert not (annulled and any(now.values()))
        for each, was in known.items():
            # Only a reinstatement from its own instant on, and the lifting of a stay, put a listing in force again.
            if now[each] and not was:
                assert kind in {K.REINSTATED, K.STAY_LIFTED}
                assert each >= hours
                assert kind is K.REINSTATED or lifts is not None
        known = now
