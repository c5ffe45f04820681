"""`as_of` is the law at an instant by what is known now: for any life of a listing, and any instant (Art. 45, 65)."""

import datetime
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanjie_gateway.domain import events
from lanjie_gateway.domain.errors import Refused
from lanjie_gateway.domain.events import BY_IMPORT, EventKind
from lanjie_matcher.catalogues import CatalogueSet, Effect
from lanjie_matcher.civil_time import day_of, start_of
from lanjie_matcher.decide import Outcome, decide
from lanjie_matcher.listings import EndsWith
from tests.support.core import edition, list_type, listing, measure, question

KINDS = [kind for kind in EventKind if kind not in BY_IMPORT and kind is not EventKind.ERASED]
BEGIN = datetime.datetime(2026, 1, 10, 4, tzinfo=datetime.UTC)
HOUR = datetime.timedelta(hours=1)
KNOWN = CatalogueSet.of([edition(list_types=(list_type(ends_with=EndsWith.REMOVAL),))])


@st.composite
def lives(draw):
    """A listing after some legal events, each recorded at or after its own instant, and the events."""
    chance = random.Random(draw(st.integers(0, 2**32 - 1)))
    life, told, now = listing(listed_on=datetime.date(2026, 1, 1)), [], BEGIN
    for _ in range(chance.randint(1, 8)):
        now += chance.randint(1, 60) * HOUR
        kind, at = chance.choice(KINDS), now - chance.choice([0, 0, 1, 30]) * HOUR
        if kind is EventKind.ANNULLED and chance.random() < 0.6:
            continue
        try:
            life = events.apply(life, kind, at)
        except Refused:
            continue
        told.append((kind, at))
    instants = [at for _, at in told] + [now, BEGIN]
    asked = chance.choice(instants) + chance.choice([-HOUR, -1 * datetime.timedelta(microseconds=1), 0 * HOUR, HOUR])
    return life, told, asked


def effect_at(life, at):
    return bool(decide([life], KNOWN, question(at=at)).measures)


@given(lives(), st.integers(-2_000, 2_000))
@settings(max_examples=200)
def test_an_annulled_listing_carries_no_effect_at_any_instant(life, hours):
    life, told, at = life
    if any(kind is EventKind.ANNULLED for kind, _ in told):
        assert not effect_at(life, at)
        assert not effect_at(life, BEGIN + hours * HOUR)


@given(lives())
@settings(max_examples=300)
def test_an_end_works_from_its_instant_and_a_reinstatement_from_its_own(life):
    life, told, at = life
    if any(kind is EventKind.ANNULLED for kind, _ in told):
        return
    # The model: the newest end or reinstatement up to the instant tells, in the order in which they were recorded.
    ends = [each for each in (life.removed_at, life.repaired_at, life.revoked_at) if each is not None]
    back = life.reinstated_at
    ended = any(end <= at and not (back is not None and end <= back <= at) for end in ends)
    stayed = any(start <= at and (end is None or at < end) for start, end in life.stays)
    assert effect_at(life, at) is (not ended and not stayed)
    for end in ends:
        if back is None or back < end:
            assert not effect_at(life, max(end, at))


@given(st.integers(0, 400), st.integers(1, 28))
@settings(max_examples=100)
def test_the_edition_of_the_instant_tells_by_what_is_published_now(days, day):
    change = datetime.date(2026, 6, day)
    known = CatalogueSet.of(
        [
            edition(edition="a", revision=1),
            edition(edition="b", revision=2, effective_from=change, measures=(measure(effect=Effect.ADVISE),)),
        ]
    )
    at = start_of(datetime.date(2026, 1, 1)) + datetime.timedelta(days=days)
    wanted = Outcome.ADVISE if day_of(at) >= change else Outcome.INTERCEPT
    assert decide([listing()], known, question(at=at)).outcome is wanted


@pytest.mark.parametrize("ends_with", EndsWith)
def test_no_instant_before_the_first_day_counts(ends_with):
    known = CatalogueSet.of([edition(list_types=(list_type(ends_with=ends_with),))])
    first = start_of(datetime.date(2026, 3, 1))
    late = listing(listed_on=datetime.date(2026, 2, 1), served_date=datetime.date(2026, 3, 1))
    for at, outcome in ((first - datetime.timedelta(microseconds=1), Outcome.PASS), (first, Outcome.INTERCEPT)):
        assert decide([late], known, question(at=at)).outcome is outcome
