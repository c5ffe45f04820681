"""Twelve who walk through natural persons, and a normal month, on a simulated clock (Art. 39, 40, 43).

Fast ones are stopped before they have learnt of 2,000 persons, slow ones are flagged within a day, and a normal month
of three departments raises no alarm.
"""

import copy
import datetime
import itertools
import random
from collections.abc import Callable, Iterator
from typing import Final

import pytest

from lanjie_gateway.domain.askers import Asker
from lanjie_matcher.civil_time import SHANGHAI
from tests.support.enumeration import DEPARTMENTS, HIT_RATE, Province, number, somebody, traffic

SECOND: Final = datetime.timedelta(seconds=1)
MOST: Final = 2_000
ENOUGH: Final = 200
"""Questions refused one after another, after which a walk is over."""
ORDINARY: Final = 0.2
"""How much of their traffic the departments have in the ordinary run."""
LEARNT_FROM: Final = datetime.date(2026, 10, 12)
MORNING: Final = datetime.datetime(2026, 11, 2, 9, 30, tzinfo=SHANGHAI)
EVENING: Final = datetime.datetime(2026, 11, 2, 20, 30, tzinfo=SHANGHAI)
CLERK: Final = Asker(department="housing", person="counter-1", officer="N3")
Question = tuple[datetime.datetime, Asker, list[str]]
Attack = Callable[[random.Random], Iterator[Question]]


@pytest.fixture(scope="module")
def learnt() -> Province:
    """Three departments after three weeks."""
    province = Province()
    for at, asker, numbers in traffic(random.Random(20_261_012), province, LEARNT_FROM, 21, scale=ORDINARY):
        province.ask(at, asker, *numbers)
    assert not province.trips
    return province


@pytest.fixture
def province(learnt: Province) -> Province:
    return copy.deepcopy(learnt)


def every(seconds: float, numbers: Iterator[str], start: datetime.datetime = MORNING) -> Iterator[Question]:
    """Ask about one after another."""
    for place, each in enumerate(numbers):
        yield start + place * seconds * SECOND, CLERK, [each]


def dates(first: datetime.date = datetime.date(1970, 1, 1)) -> Iterator[str]:
    return ((first + place * datetime.timedelta(days=1)).strftime("%Y%m%d") for place in itertools.count())


def orders(born: str = "19850612") -> Iterator[str]:
    return (number("329901", born, order) for order in range(1_000))


def sequential(rng: random.Random) -> Iterator[Question]:
    walk = (number("329901", born, order) for born in dates() for order in range(1, 400))
    return every(0.2, walk)


def within_a_birth_date(rng: random.Random) -> Iterator[Question]:
    walk = list(orders())
    rng.shuffle(walk)
    return every(0.5, iter(walk))


def prefix_sweep(rng: random.Random) -> Iterator[Question]:
    """One or two order codes of each birth date of a county, then the next county."""
    walk = (
        number(str(region), born, rng.randrange(1, 300))
        for region in range(329_901, 329_999)
        for born in itertools.islice(dates(), 12_000)
    )
    return every(0.3, walk)


def slow_drip(rng: random.Random) -> Iterator[Question]:
    """Anybody of a county, one a minute, day and night."""
    return every(60, (somebody(rng, "329901") for _ in itertools.count()), MORNING)


def over_night(rng: random.Random) -> Iterator[Question]:
    """Anybody of a county, one in ten minutes, in the night."""
    return every(600, (somebody(rng, "329901") for _ in itertools.count()), EVENING)


def five_sdks(rng: random.Random) -> Iterator[Question]:
    walk = list(orders())
    rng.shuffle(walk)
    for place, (at, _, numbers) in enumerate(every(0.2, iter(walk))):
        yield at, Asker(department="housing", person=f"sdk-{place % 5}"), numbers


def five_officers(rng: random.Random) -> Iterator[Question]:
    for place, (at, _, numbers) in enumerate(sequential(rng)):
        yield at, Asker(department="housing", person="counter-1", officer=f"N{place % 5}"), numbers


def three_departments(rng: random.Random) -> Iterator[Question]:
    walk = (number("329901", born, rng.randrange(1, 300)) for born in dates())
    for (at, _, numbers), department in zip(every(0.3, walk), itertools.cycle(DEPARTMENTS)):
        yield at, Asker(department=department, person="counter-1", officer="N3"), numbers


def list_derived(rng: random.Random) -> Iterator[Question]:
    """Whoever has an old copy of the list asks who is still on it; `walk` lists seven of ten."""
    return every(0.7, (somebody(rng, "329901") for _ in itertools.count()))


def shuffled(rng: random.Random) -> Iterator[Question]:
    """A walk through birth dates, one in five questions; the others are parties of cases."""
    walk = sequential(rng)
    for at, asker, numbers in walk:
        for place in range(4):
            yield at - (4 - place) * SECOND / 50, asker, [somebody(rng, "329901")]
        yield at, asker, numbers


def batch_files(rng: random.Random) -> Iterator[Question]:
    """Files of 100 of one birth date each, in no order."""
    for place, born in enumerate(dates()):
        walk = [number("329901", born, order) for order in range(1, 101)]
        rng.shuffle(walk)
        yield MORNING + place * SECOND, CLERK, walk


def masked(rng: random.Random) -> Iterator[Question]:
    """Region and last four places are known: every birth date whose check digit fits."""
    for at, asker, (each,) in every(0.5, (number("329901", born, 123) for born in dates(datetime.date(1940, 1, 1)))):
        if each.endswith("4"):
            yield at, asker, [each]


FAST: Final = (
    *(sequential, within_a_birth_date, prefix_sweep, five_sdks, five_officers, three_departments),
    *(list_derived, shuffled, batch_files, masked),
)
SLOW: Final = (slow_drip, over_night)


def walk(province: Province, attack: Attack, seed: int, *, seconds: float) -> tuple[int, int, datetime.datetime | None]:
    """Let somebody walk for so long.

    Returns:
        Of how many persons he learnt, how many questions were refused at the end, and when he was flagged first.
    """
    rng = random.Random(seed)
    learnt: set[str] = set()
    start = flagged = None
    refused = 0
    for at, asker, numbers in attack(rng):
        start = start or at
        if (at - start).total_seconds() > seconds:
            break
        if refused > ENOUGH:
            break
        if attack is list_derived and rng.random() < 0.7:
            province.listed.update(numbers)
        answered = province.ask(at, asker, *numbers) is None
        refused = 0 if answered else refused + 1
        learnt.update(numbers if answered else ())
        flagged = flagged or (province.trips[0].at if province.trips else None)
    return len(learnt), refused, flagged


SEEDS: Final = [1, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(2, 21))]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("attack", FAST, ids=lambda each: each.__name__)
def test_fast_walks_are_stopped_within_2000_persons(province: Province, attack: Attack, seed: int) -> None:
    learnt, refused, flagged = walk(province, attack, seed, seconds=1_800)
    assert flagged is not None
    assert learnt <= MOST
    assert refused > 100
    print(f"{attack.__name__}: {learnt} persons, {[(t.detector, t.level.name) for t in province.trips]}")


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("attack", SLOW, ids=lambda each: each.__name__)
def test_slow_walks_are_flagged_within_a_day(province: Province, attack: Attack, seed: int) -> None:
    learnt, _, flagged = walk(province, attack, seed, seconds=86_400)
    assert flagged is not None
    print(f"{attack.__name__}: {learnt} persons, flagged {flagged}, {[t.detector for t in province.trips]}")


@pytest.mark.parametrize(
    ("seed", "scale"),
    [(n, ORDINARY) for n in (1, 2)] + [pytest.param(n, 1.0, marks=pytest.mark.long) for n in range(1, 21)],
)
def test_a_normal_month_raises_no_alarm(seed: int, scale: float) -> None:
    rng, province = random.Random(seed), Province()
    month = traffic(rng, province, datetime.date(2026, 9, 1), 30, file_on=rng.randrange(25), scale=scale)
    for at, asker, numbers in month:
        assert province.ask(at, asker, *numbers) is None
    assert not province.trips
    assert all(each.baseline.usual(working=True) > 5 for each in province.departments.values())


def test_a_file_that_the_grant_allows_is_answered_whole(province: Province) -> None:
    """Where files of more than 2,000 persons are usual, the department's grant says so; nobody lifts anything."""
    rng = random.Random(2)
    desk = Asker(department="transport", person="back-office", persons_per_day=10_000)
    persons = [somebody(rng, DEPARTMENTS["transport"][1]) for _ in range(4_000)]
    province.listed.update(each for each in persons if rng.random() < HIT_RATE)
    for place in range(0, len(persons), 500):
        assert province.ask(MORNING + place * SECOND / 50, desk, *persons[place : place + 500]) is None
    assert not province.trips


def test_what_was_lifted_for_a_day_is_held_against_no_later_one(province: Province) -> None:
    """A file of persons most of whom are found, with a document; on the next day the counters work as ever."""
    rng, department = random.Random(1), province.of("housing")
    department.turn(MORNING)
    department.lifted_by = "local/agency"
    found = [somebody(rng, "329901") for _ in range(100)]
    province.listed.update(found)
    for place, each in enumerate(found):
        assert province.ask(MORNING + place * SECOND, CLERK, each) is None
    assert "hits" in {each.detector for each in province.trips}
    province.trips.clear()
    for place in range(60):
        at = MORNING + datetime.timedelta(days=1) + place * 60 * SECOND
        assert province.ask(at, CLERK, somebody(rng, "329901")) is None
    assert not province.trips


def test_whom_the_detectors_do_not_find(province: Province) -> None:
    """Somebody who asks no more than a case would, about anybody of a county: the cap holds him, and his records."""
    rng = random.Random(1)
    for place in range(60):
        assert province.ask(MORNING + place * 400 * SECOND, CLERK, somebody(rng, "329901")) is None
    assert not province.trips
