"""Simulated schedules: whatever the network, the disks and the clocks do, no wrong pass, and all is well in the end.

A schedule that fails names its seed; it runs again, alone and the same, with::

    LANJIE_SIMULATION_SEED=12345 ./run test tests/simulation -k schedules

A few here, some in ``./run check``, 20,000 with ``--long``; ``LANJIE_SIMULATION_SCHEDULES`` gives another number.
"""

import os
import time

import pytest

from tests.support.simulation.actions import swarm_of
from tests.support.simulation.install import install
from tests.support.simulation.world import run, scratch

SEED = os.environ.get("LANJIE_SIMULATION_SEED")
SCHEDULES = int(os.environ.get("LANJIE_SIMULATION_SCHEDULES", "20000"))
FEW, SOME = 50, 150


@pytest.mark.parametrize(
    "schedules", [FEW, pytest.param(SOME, marks=pytest.mark.drill), pytest.param(SCHEDULES, marks=pytest.mark.long)]
)
def test_schedules(schedules: int, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    first, began, asked, passed = (int(SEED), time.monotonic(), 0, 0) if SEED else (0, time.monotonic(), 0, 0)
    seeds = range(first, first + (1 if SEED else schedules))
    with scratch() as root:
        for place, seed in enumerate(seeds, 1):
            try:
                world = run(seed, swarm_of(seed), root)
            except BaseException as error:
                error.add_note(f"seed {seed}: LANJIE_SIMULATION_SEED={seed} plays it again")
                raise
            asked, passed = asked + world.judge.asked, passed + world.judge.passed
            if place % 500 == 0:
                rate = place / (time.monotonic() - began)
                print(f"{place} of {schedules} schedules, {rate:.0f} a second, {asked} questions, {passed} passes")
    rate = len(seeds) / (time.monotonic() - began)
    print(f"{len(seeds)} schedules, {rate:.0f} a second, {asked} questions, {passed} passed locally")
    assert SEED or passed > schedules
