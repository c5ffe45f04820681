"""The drivers measure what they say: no latency hidden, no wrong answer missed, no record counted that is not there."""

import datetime
import random
import re
import statistics
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lanjie.v1 import screening_pb2 as pb
from lanjie_gateway.domain.catalogue_file import load
from lanjie_matcher.identifiers import parse
from loadtests import echo, openloop, population
from loadtests.histogram import Histogram
from loadtests.openloop import Checks, closed, offered, schedule
from loadtests.population import COURT, MATTERS, WAGE, Model, Population, expected, sample
from loadtests.races import Race
from loadtests.soak import Records, slope
from loadtests.table import row

ROOT = Path(__file__).parents[2]
PEOPLE = Population(3, 300, free=300)


@given(st.lists(st.floats(1e-6, 100), min_size=1, max_size=300), st.sampled_from([0.5, 0.9, 0.99]))
def test_a_percentile_is_within_a_bucket_of_the_sorted_list(seconds: list[float], share: float) -> None:
    histogram = Histogram()
    for each in seconds:
        histogram.add(each)
    exact = sorted(seconds)[max(0, -int(-share * len(seconds) // 1) - 1)] * 1e6
    assert histogram.percentile(share) == pytest.approx(exact, rel=0.031)


@given(st.lists(st.floats(1e-6, 10), max_size=50), st.lists(st.floats(1e-6, 10), max_size=50))
def test_histograms_of_several_processes_add_up(one: list[float], other: list[float]) -> None:
    parts = Histogram(), Histogram(), Histogram()
    for histogram, values in zip(parts, (one, other, one + other), strict=True):
        for each in values:
            histogram.add(each)
    assert Histogram(parts[0].counts + parts[1].counts).counts == parts[2].counts


@given(st.floats(1, 5_000), st.floats(0.01, 2))
def test_the_schedule_is_even_and_whole(rate: float, seconds: float) -> None:
    due = list(schedule(rate, seconds))
    assert len(due) == round(rate * seconds)
    assert all(abs(each - number / rate) < 1e-9 for number, each in enumerate(due))


def test_no_schedule_is_without_bounds() -> None:
    for rate, seconds in ((20_001, 1), (1, 3_601), (0, 1), (1, 0)):
        with pytest.raises(ValueError, match="at most"):
            schedule(rate, seconds)


async def test_a_stall_shows_in_every_call_that_was_due_in_it() -> None:
    answered = 0

    async def stalls(request: bytes) -> bytes:
        nonlocal answered
        answered += 1
        if answered == 10:
            time.sleep(0.2)  # noqa: ASYNC251  the server is one, so everybody waits
        return request

    load = await offered(stalls, [b"a"], 500, 0.5)
    assert (load.due, load.answered, load.lost) == (250, 250, 0)
    # A hundred calls were due in these 0.2 s. A driver that waits for one answer before it sends the next has one slow.
    slow = sum(count for bucket, count in load.latency.counts.items() if 1.03**bucket > 0.05)
    assert slow > 50
    loop = await closed(stalls, [b"a"], 1, 0.01)
    assert loop.lost == 0


async def test_failed_calls_are_counted_and_none_is_lost() -> None:
    with echo.running(8) as (address, _):
        good, bad = openloop.Wire(address, echo.METHOD), openloop.Wire(address, "/echo.Echo/Nobody")
        assert await good(b"hello") == b"hello..." == echo.reply(b"hello", 8)
        loads = [await offered(call, [b"a", b"b"], 200, 0.1) for call in (good, bad)]
        for wire in (good, bad):
            await wire.channel.close()
    assert [(load.answered, load.failed.total(), load.lost) for load in loads] == [(20, 0, 0), (0, 20, 0)]
    heard: list[int] = []
    load = await offered(good_answer, [b"a", b"b"], 200, 0.05, lambda number, _: heard.append(number))
    assert (sorted(heard), load.answers, load.lost) == ([0] * 5 + [1] * 5, [], 0)


async def good_answer(request: bytes) -> bytes:
    return request


def _answer(outcome: str) -> bytes:
    return pb.CheckResponse(decision=pb.Decision(outcome=pb.Outcome.Value(f"OUTCOME_{outcome}"))).SerializeToString()


def test_a_planted_wrong_answer_is_found_among_right_ones() -> None:
    checks = Checks(PEOPLE, 1, 3_000)
    right = [(number, _answer(PEOPLE.outcome(*asked))) for number, asked in enumerate(checks.asked)]
    assert checks.wrong(right) == 0
    for planted in ("PASS", "INTERCEPT", "UNDETERMINED"):
        place = next(n for n, asked in enumerate(checks.asked) if PEOPLE.outcome(*asked) != planted)
        assert checks.wrong([*right[:place], (place, _answer(planted)), *right[place + 1 :]]) == 1


def test_a_race_counts_wrong_answers() -> None:
    race = Race()
    race.enter("right", lambda each: each % 2, range(50), lambda each: each % 2)
    race.enter("wrong once", lambda each: each == 7, range(50), lambda _: False)
    race.run()
    rounds = 3
    assert (race.asked, race.wrong) == (2 * 50 * rounds, rounds)
    assert set(race.p50) == {"right", "wrong once"}


changes = st.lists(st.tuples(st.integers(0, 3), st.sampled_from([(), (WAGE,), (COURT,), (WAGE, COURT)])), max_size=8)


@given(changes, st.randoms(use_true_random=False))
def test_the_model_finds_exactly_the_planted_differences(
    history: list[tuple[int, tuple[str, ...]]], rng: random.Random
) -> None:
    model = Model()
    states: list[dict[str, tuple[str, ...]]] = [dict.fromkeys("0123", ())]
    for revision, (subject, live) in enumerate(history, 1):
        model.change(str(subject), revision, live)
        states.append({**states[-1], str(subject): live})
    answers = [
        (subject, matter, revision, expected(state[subject], matter))
        for revision, state in enumerate(states)
        for subject in state
        for matter in MATTERS
    ]
    assert model.differences(answers) == []
    assert model.revision == len(history)
    *asked, outcome = rng.choice(answers)
    planted = (*asked, "PASS" if outcome != "PASS" else "RESTRICT")
    assert len(model.differences([*answers, planted])) == 1  # type: ignore[list-item]


def test_the_truth_is_what_the_example_catalogue_publishes() -> None:
    path = ROOT / "examples" / "catalogues" / "national-example.yaml"
    assert load(path.read_bytes(), path.name, [])
    words = {"deny": "INTERCEPT", "restrict": "RESTRICT"}
    told: dict[tuple[str, str], set[str]] = {}
    for measure in yaml.safe_load(path.read_text(encoding="utf-8"))["measures"]:
        for pair in ((each, matter) for each in measure["list_types"] for matter in measure["matters"]):
            if pair[0] in (WAGE, COURT) and pair[1] in MATTERS:
                assert measure["trigger"] == "listing"
                assert {"enterprise", "natural_person"} <= set(measure["objects"])
                told.setdefault(pair, set()).add(words[measure["effect"]])
    assert told == {pair: {outcome} for pair, outcome in population.EFFECTS.items()}


def test_the_mix_is_that_of_the_city() -> None:
    rng = random.Random(1)
    approvals = [PEOPLE.approval(rng) for _ in range(6_000)]
    assert statistics.mean(map(len, approvals)) == pytest.approx(17_954 / 3_357, rel=0.02)
    applicants = [each[0][0] for each in approvals]
    assert sum(each in PEOPLE.live for each in applicants) / 6_000 == pytest.approx(12 / 2_027, rel=0.4)
    assert len(sample(PEOPLE, rng, 100)) == 100


def test_subjects_are_sound_and_the_same_seed_gives_the_same_on_any_day() -> None:
    again = Population(3, 300, free=300, today=datetime.date(2027, 3, 1))
    assert (again.listed, again.companies, again.persons) == (PEOPLE.listed, PEOPLE.companies, PEOPLE.persons)
    assert not PEOPLE.live.keys() & {*PEOPLE.companies, *PEOPLE.persons}
    for text in (*PEOPLE.listed, *PEOPLE.companies, *PEOPLE.persons):
        assert parse(text).warnings == ()
    rows = list(PEOPLE.rows())
    assert len({each["source_record_id"] for each in rows}) == len(rows) == len(PEOPLE.live)


@given(st.floats(-5, 5), st.floats(-5, 5))
def test_the_slope_of_a_line_is_found(rise: float, start: float) -> None:
    assert slope([(x, start + rise * x) for x in range(10)]) == pytest.approx(rise, abs=1e-9)
    assert slope([(1.0, start)]) == 0


@given(st.sets(st.tuples(st.sampled_from(["ab", "cd-e"]), st.integers(1, 5_000)), max_size=60), st.integers(0, 10))
def test_a_missing_record_is_missed(promised: set[tuple[str, int]], lost: int) -> None:
    records, ids = Records(), [f"{source}-{number}" for source, number in promised]
    for each in ids:
        records.promise(each)
    kept = ids[min(lost, len(ids)) :]
    assert records.missing([*kept, "other-7", "ab-999999"]) == min(lost, len(ids))
    assert records.missing(ids) == 0


def test_a_target_is_met_from_its_own_side() -> None:
    assert row("a", [3, 1, 2], "x", 2)["met"] is True
    assert row("a", [3, 1, 2], "x", 1.9)["met"] is False
    assert row("a", [3, 1, 2], "x", 2, at_least=True)["met"] is True
    assert row("a", [3, 1, 2], "x", 2.1, at_least=True)["met"] is False
    assert row("a", [3, 1, 2], "x", None)["met"] is None
    assert row("a", [3, 1, 2], "x", None)["spread"] == [1, 3]


def test_the_figures_of_scaling_follow_from_those_they_name() -> None:
    table = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("| ")]
    known: list[dict[str, float]] = [{}, {}]
    derived = 0
    for letter, _, province, nation, how in rows[1:]:
        for values, told in zip(known, (province, nation), strict=True):
            values[letter] = float(told.replace(",", ""))
            formula = how.replace("×", "*")
            if re.fullmatch(r"[A-Z0-9 ()+*/.-]+", formula):
                derived += 1
                # What they were worked out from is itself rounded to three places.
                assert values[letter] == pytest.approx(eval(formula, {}, values), rel=0.01), letter
    assert derived == 22
