"""Detectors: what they hold of a number, what they hold at all, and what they learn from."""

import datetime

from hypothesis import given
from hypothesis import strategies as st

from lanjie_gateway.domain.askers import Asker, Caps
from lanjie_gateway.domain.detectors import Baseline, Level, Neighbourhood, Outcomes, Steps, Tally, Traits, traits
from lanjie_gateway.domain.limits import MOST_ASKERS, DepartmentLimits
from lanjie_matcher.civil_time import SHANGHAI
from lanjie_matcher.identifiers import parse
from tests.support.enumeration import CALENDAR, KEY
from tests.support.subjects import citizen

AT = datetime.datetime(2026, 11, 3, 10, tzinfo=SHANGHAI)
HOUR = datetime.timedelta(hours=1)


def person(number: int) -> Traits:
    """Return a person who shares nothing with any other."""
    own = number.to_bytes(16, "big")
    return Traits(own, own, own, own, -1)


def test_traits_hold_nothing_of_the_number() -> None:
    text = citizen(123, "19850612").partition(":")[2]
    one = traits(parse(f"citizen:{text}"), KEY)
    shown = repr(one)
    for size in (17, 14, 8, 6):
        assert all(text[place : place + size] not in shown for place in range(18 - size))
    twin = traits(parse(citizen(125, "19850612")), KEY)
    assert (one.prefix, one.half) == (twin.prefix, twin.half)
    assert (one.person, one.mask) != (twin.person, twin.mask)
    assert abs(one.order - twin.order) == 2


def test_other_documents_are_near_one_another_by_their_last_places() -> None:
    one, other = (traits(parse(f"passport:UTO:L898902{end}"), KEY) for end in ("031", "032"))
    assert (one.prefix, other.order - one.order) == (other.prefix, 1)


@given(st.lists(st.integers(0, 300), max_size=2_000), st.integers(4, 64))
def test_a_full_table_never_counts_too_many_and_never_forgets_a_crowd(persons: list[int], most: int) -> None:
    near = Neighbourhood(most)
    for each in persons:
        score = near.see(person(each))
        assert len(near._cells) <= most
        assert len(near._masks) <= most
        assert score["prefix"] >= 1
    for each in set(persons):
        cell = near._cells.get(person(each).prefix)
        counted = cell.persons if cell is not None else 0
        assert persons.count(each) - len(persons) / most - 1 <= counted <= persons.count(each)


def test_a_usual_rate_of_hits_scores_nothing_and_a_walk_down_a_list_soon() -> None:
    usual = Outcomes()
    for place in range(20_000):
        usual.see(hit=place % 167 == 0)
        assert usual.hits < 2
        assert usual.misses < 2
    walk = Outcomes()
    for _ in range(5):
        walk.see(hit=True)
    assert walk.hits > 4
    assert walk.rate == Outcomes().rate


def test_a_day_out_of_the_usual_does_not_become_the_usual() -> None:
    baseline, day = Baseline(), Tally()
    day.hours[10] = 40
    for _ in range(10):
        baseline.learn(day, working=True)
    before = baseline.usual(working=True)
    day.hours[10] = 5_000
    baseline.learn(day, working=True)
    assert baseline.usual(working=True) < 2 * before


@given(st.lists(st.integers(0, 60), max_size=200), st.integers(1, 40))
def test_no_history_gets_more_persons_than_the_cap_and_known_ones_are_always_answered(
    numbers: list[int], cap: int
) -> None:
    limits = DepartmentLimits("tax", Caps(department=cap, officer=0, act=False), lambda: CALENDAR)
    answered: set[int] = set()
    for place, number in enumerate(numbers):
        asker = Asker(department="tax", person=f"sdk-{place % 3}")
        refused = limits.ask(asker, [person(number)], AT)
        if number in answered:
            assert refused is None
        assert (refused is None) == (number in answered or len(answered) < cap)
        answered |= set() if refused else {number}
    assert limits.persons == len(answered) <= cap


def test_a_grant_for_more_persons_is_its_officers_too() -> None:
    limits = DepartmentLimits("tax", Caps(department=20, officer=10), lambda: CALENDAR)
    file = [person(number) for number in range(60)]
    officer = Asker(department="tax", person="sdk", officer="N1", persons_per_day=100)
    assert limits.ask(officer, file[:50], AT) is None
    assert limits.ask(officer, file[50:], AT) is not None


def test_made_up_officers_are_bounded_and_held_back_ones_are_kept() -> None:
    limits = DepartmentLimits("tax", Caps(department=0, officer=1), lambda: CALENDAR)
    greedy = Asker(department="tax", person="sdk", officer="greedy")
    assert limits.ask(greedy, [person(1)], AT) is None
    assert limits.ask(greedy, [person(2)], AT) is not None
    for number in range(2 * MOST_ASKERS):
        # A minute apart, so that the department as a whole is not what is found.
        limits.ask(Asker(department="tax", person="sdk", officer=f"N{number}"), [person(10 + number)], AT)
    assert len(limits._askers) <= MOST_ASKERS
    assert limits.ask(greedy, [person(3)], AT) is not None


def day_of_cases(limits: DepartmentLimits, day: int, persons: int, hits_in: int) -> Level:
    """Let some officers ask about persons of whom every `hits_in`-th is found, 0 for nobody; return what it came to."""
    at = AT + day * 24 * HOUR
    for number in range(persons):
        asker = Asker(department="tax", person="sdk", officer=f"N{number // 10 % 4}")
        one = person(day << 32 | number)
        if limits.ask(asker, [one], at) is None:
            limits.told(asker, [(one.person, bool(hits_in) and number % hits_in == 0)], at)
    return limits.level


def test_who_often_finds_somebody_is_known_for_it_once_the_agency_has_looked() -> None:
    limits = DepartmentLimits("tax", Caps(), lambda: CALENDAR)
    assert day_of_cases(limits, 0, 700, 10) is Level.STOP
    limits.turn(AT + 24 * HOUR)
    limits.lifted_by = "agency/a"
    day_of_cases(limits, 1, 700, 10)
    limits.turn(AT + 48 * HOUR)
    kept = limits.rate
    assert day_of_cases(limits, 2, 700, 10) is Level.NONE
    again = DepartmentLimits("tax", Caps(), lambda: CALENDAR)
    again.rate = kept
    assert day_of_cases(again, 2, 700, 10) is Level.NONE
    assert day_of_cases(again, 3, 200, 1) >= Level.THROTTLE, "a walk down a list"


def test_who_finds_nobody_for_weeks_does_not_walk() -> None:
    limits = DepartmentLimits("tax", Caps(), lambda: CALENDAR)
    for day in range(28):
        day_of_cases(limits, day, 300, 0)
    assert day_of_cases(limits, 28, 650, 0) is Level.NONE


def test_nobody_is_said_to_be_stopped_where_detectors_alarm_only() -> None:
    walk = [traits(parse(citizen(number, "19850612")), KEY) for number in range(1, 31)]
    for act, level in ((True, Level.STOP), (False, Level.ALARM)):
        limits = DepartmentLimits("tax", Caps(act=act), lambda: CALENDAR)
        refused = limits.ask(Asker(department="tax", person="sdk"), walk, AT)
        assert (refused is not None, limits.level) == (act, level)
        assert Level.STOP in {trip.level for trip in limits.trips}


def test_a_clock_that_goes_back_over_midnight_forgets_nothing() -> None:
    limits = DepartmentLimits("tax", Caps(department=1, officer=0), lambda: CALENDAR)
    asker = Asker(department="tax", person="sdk")
    assert limits.ask(asker, [person(1)], AT) is None
    assert limits.ask(asker, [person(2)], AT - 20 * HOUR) is not None
    assert limits.ask(asker, [person(2)], AT + 20 * HOUR) is None


def test_steps_are_in_order() -> None:
    steps = Steps(1, 2, 3)
    assert [steps.level(score) for score in (0.5, 1, 2.5, 3)] == list(Level)
