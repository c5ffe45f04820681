"""Any history of events, list files, editions, rotations, restarts and days: the ledger is what the law says it is.

The model is in `tests.support.ledger_model`, the machine in `tests.support.ledger_machine`. Below are bugs planted on
purpose, one function each: the machine finds every one of them within a few examples, and none without.
"""

import functools
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from lanjie_gateway.adapters.ledger import Ledger, feed, ledger, life, pruning, receipts, staging
from lanjie_gateway.adapters.ledger.rotation import Rotation
from lanjie_gateway.domain import events, import_rules
from lanjie_gateway.services import imports
from lanjie_gateway.services import pruning as daily
from lanjie_matcher import listings
from tests.support.ledger_machine import LedgerMachine, world
from tests.support.ledger_world import SOURCES, World

common = settings(
    deadline=None,
    stateful_step_count=50,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)


def run(machine: type[LedgerMachine], made: World, **changes: Any) -> None:
    factory: Any = functools.partial(machine, made)
    run_state_machine_as_test(factory, settings=settings(common, **changes))


@pytest.fixture(scope="module")
def made():
    with world() as one:
        yield one


class Thorough(LedgerMachine):
    """Looks at the feed after every step, and at everything after every fifth."""

    every = (1, 5)


@pytest.mark.parametrize("examples", [40, pytest.param(100, marks=pytest.mark.drill)])
def test_any_history(made, examples):
    run(LedgerMachine, made, max_examples=examples, stateful_step_count=10)


class Steady(LedgerMachine):
    """Looks at the feed after every second step, and at everything after every tenth."""

    every = (2, 10)


@pytest.mark.long
@pytest.mark.parametrize("part", range(4))
def test_many_long_histories(made, part):
    run(Steady, made, max_examples=500)


def another_source_ended(patch):
    """A complete list ends what other sources list, too."""
    real = Ledger.stage_absent

    def absent(self, batch, list_type, source, **rest):
        return sum(real(self, batch, list_type, each, **rest) for each in SOURCES)

    patch.setattr(Ledger, "stage_absent", absent)


def reinstated_from_the_past(patch):
    """A reinstatement may work from before the end."""
    patch.setattr(events, "_not_before", lambda at, earliest, message: None)


def gap_forgotten(patch):
    """A second end undoes the time between the first one and its reinstatement."""
    real = events._with_gap
    patch.setattr(events, "_with_gap", lambda listing, at: replace(real(listing, at), stays=listing.stays))


def stays_forgotten(patch):
    """A correction forgets that a court has suspended the listing."""
    real = events.amended
    patch.setattr(events, "amended", lambda before, corrected: replace(real(before, corrected), stays=()))


def end_not_in_view(patch):
    """Who was removed by hand stays in the view."""
    patch.setattr(life, "ended_by_event", lambda listing: False)


def digest_forgotten(patch):
    """A rotation leaves the last key of each slice without its digest."""
    real = Rotation._write
    patch.setattr(
        Rotation, "_write", lambda self, connection, table, at, rows: real(self, connection, table, at, rows[:-1])
    )


def stale_version_taken(patch):
    """An older version of a record is as good as a newer one."""
    for module in (import_rules, receipts):
        patch.setattr(module, "is_older", lambda version, known: False)


def resurrected(patch):
    """A late row brings back what was ended."""
    real = import_rules.judge
    patch.setattr(
        staging,
        "judge",
        lambda op, said, version, known: real(op, said, version, known and replace(known, ended=False)),
    )


def pruned_too_early(patch):
    """What has not begun leaves the view with what has ended."""
    real = listings.ended_by_date
    patch.setattr(
        daily, "ended_by_date", lambda listing, ends, today: listing.begins_on > today or real(listing, ends, today)
    )


def pruned_while_stayed(patch):
    """What is stayed leaves the view: nobody hears when the stay ends at midnight."""
    real = listings.ended_by_date
    patch.setattr(
        daily, "ended_by_date", lambda listing, ends, today: bool(listing.stays) or real(listing, ends, today)
    )


def unpruned_never(patch):
    """An edition that ends a list type otherwise brings nobody back into the view."""
    patch.setattr(pruning, "unprune", lambda connection, batch, list_types: None)


def half_import_found(patch):
    """The rows of a file that is on its way are found."""
    statement = ledger._STORED.order_by(None)
    statement._where_criteria = ()
    patch.setattr(ledger, "_STORED", statement)


def waits_never(patch):
    """However much a file changes, nobody has to look first."""
    patch.setattr(imports, "reasons_to_wait", lambda counts, header, types: ())


def late_list_believed(patch):
    """A list from before a reinstatement ends the listing again."""
    for module in (staging, receipts):
        patch.setattr(module, "reinstated_after", lambda value, at: False)


def annulled_told(patch):
    """The feed goes on telling of what was never in force."""
    real = feed._states
    patch.setattr(feed, "_states", lambda rows: real((*row[:6], False, *row[7:]) for row in rows))


def refusal_too_late(patch):
    """A refused event leaves an empty commit."""
    real = Ledger.record

    def record(self, listing_id, act):
        try:
            return real(self, listing_id, act)
        except Exception:
            with self._engine.begin() as connection:
                connection.exec_driver_sql("UPDATE head SET revision = revision + 1")
            raise

    patch.setattr(Ledger, "record", record)


QUICK = (refusal_too_late, end_not_in_view, waits_never)
SLOW = (
    *(another_source_ended, reinstated_from_the_past, gap_forgotten, stays_forgotten, digest_forgotten, resurrected),
    *(pruned_too_early, pruned_while_stayed, unpruned_never, late_list_believed, stale_version_taken, annulled_told),
    half_import_found,
)
MOST = 1_000
"""Examples within which each is found."""


@pytest.mark.parametrize("plant", [*QUICK, *(pytest.param(each, marks=pytest.mark.long) for each in SLOW)])
def test_planted_bug(made, monkeypatch, plant):
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        run(Thorough, made, max_examples=MOST, derandomize=True, phases=[Phase.generate], report_multiple_bugs=False)
