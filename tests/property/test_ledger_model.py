"""Any history of events, list files, editions, rotations, restarts and days: the ledger is what the law says it is."""

import functools

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.support.ledger_machine import LedgerMachine, world

STEPS = 50
common = settings(
    deadline=None,
    stateful_step_count=STEPS,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)


@pytest.fixture(scope="module")
def made():
    with world() as one:
        yield one


def test_any_history(made):
    run_state_machine_as_test(functools.partial(LedgerMachine, made), settings=settings(common, max_examples=100))
