"""A worker that remembers whom control has counted today asks less, and nobody is answered otherwise for it."""

import asyncio
import datetime
from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from lanjie_gateway.domain.access import Principal, Role
from lanjie_gateway.domain.askers import Asker, Caps
from lanjie_gateway.domain.detectors import Traits
from lanjie_gateway.domain.errors import GatewayError
from lanjie_gateway.domain.limits import DepartmentLimits
from lanjie_gateway.services.person_gate import PersonGate
from lanjie_matcher.civil_time import SHANGHAI, day_of
from lanjie_matcher.fingerprints import IndexKey
from lanjie_matcher.identifiers import parse
from tests.support.enumeration import CALENDAR
from tests.support.subjects import citizen

KEY = IndexKey(bytes(32))
PERSONS = [parse(citizen(number)) for number in range(1, 9)]
QUESTIONS = st.tuples(
    st.sampled_from(["anna", "bert"]),
    st.sampled_from(["", "0017"]),
    st.lists(st.integers(0, 7), min_size=1, max_size=3),
    st.booleans(),
)
ACTS = st.one_of(QUESTIONS, st.sampled_from([1, 60, 86_400]))


class Control:
    """Counts for one department, and can be lifted."""

    def __init__(self) -> None:
        self.at = datetime.datetime(2026, 3, 2, 23, 58, tzinfo=SHANGHAI)
        self.limits = DepartmentLimits("housing", Caps(department=5, officer=3), lambda: CALENDAR)
        self.asked = 0

    async def ask(self, asker: Sequence[Any], persons: Sequence[Traits]) -> None:
        self.asked += 1
        refusal = self.limits.ask(_asker(*asker), persons, self.at)
        if refusal is not None:
            raise refusal

    def tell(self, asker: Sequence[Any], outcomes: Sequence[tuple[bytes, bool]]) -> None:
        self.limits.told(_asker(*asker), outcomes, self.at)


def _asker(department: str, person: str, officer: str, persons_per_day: int) -> Asker:
    return Asker(department=department, person=person, officer=officer, persons_per_day=persons_per_day)


async def _asks(gate: PersonGate, control: Control, question: tuple[str, str, list[int], bool]) -> str:
    person, officer, numbers, hit = question
    asker = Principal(department="housing", person=person, roles=frozenset({Role.INQUIRER}), region="320100")
    persons = [PERSONS[number] for number in numbers]
    try:
        await gate.admit(asker, officer, persons, day_of(control.at))
    except GatewayError as error:
        return error.reason
    gate.tell(asker, officer, [(each, hit) for each in persons])
    return ""


@settings(max_examples=30)
@given(st.lists(ACTS, max_size=25))
def test_a_gate_that_remembers_admits_what_one_that_does_not_admits(acts: list[Any]) -> None:
    remembering, plain = Control(), Control()
    gate = PersonGate(KEY, remembering.ask, remembering.tell)
    for act in acts:
        if isinstance(act, int):
            for each in (remembering, plain):
                each.at += datetime.timedelta(seconds=act)
            continue
        new = PersonGate(KEY, plain.ask, plain.tell)
        assert asyncio.run(_asks(gate, remembering, act)) == asyncio.run(_asks(new, plain, act))
        assert remembering.limits.persons == plain.limits.persons
        assert remembering.limits.trips == plain.limits.trips
    assert remembering.asked <= plain.asked


def test_the_same_person_is_asked_about_once_a_day_and_asker() -> None:
    control = Control()
    gate = PersonGate(KEY, control.ask, control.tell)
    question = ("anna", "", [0], False)
    for asked, act in ((1, question), (1, question), (2, ("anna", "0017", [0], True)), (3, ("bert", "", [0], True))):
        assert asyncio.run(_asks(gate, control, act)) == ""
        assert control.asked == asked
    control.at += datetime.timedelta(days=1)
    assert asyncio.run(_asks(gate, control, question)) == ""
    assert control.asked == 4
