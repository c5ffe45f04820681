"""Bugs planted on purpose, one function each: the simulation sees every one of them within a few schedules.

The same schedules pass with the code as it is. ``LANJIE_SIMULATION_PLANTED`` gives a number of schedules to play for
each bug beforehand; the share of them that sees it is printed.
"""

import datetime
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from lanjie import _core, _keeper
from lanjie._core import Core
from lanjie._keeper import SetKeeper
from lanjie._store import ViewStore
from lanjie.decision import Outcome, Source
from lanjie.v1 import sync_pb2 as pb
from lanjie_gateway.domain.view import View
from lanjie_gateway.services import views as service
from lanjie_matcher import views
from lanjie_matcher.ages import Age
from lanjie_matcher.shards import changed, digests_of
from lanjie_matcher.views import Mark, ViewState
from tests.support.simulation import gateway
from tests.support.simulation.actions import ALWAYS
from tests.support.simulation.install import install
from tests.support.simulation.judge import Violation
from tests.support.simulation.ledger import day_of
from tests.support.simulation.network import Faults
from tests.support.simulation.world import Swarm, run, scratch

ALL = int(os.environ.get("LANJIE_SIMULATION_PLANTED", "0"))
MOST = 40
"""Schedules within which each is seen."""
Patch = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Planted:
    """A bug, and the faults that bring it out. `live` bugs show only when all should be well again."""

    plant: Patch
    swarm: Swarm
    live: bool = False


def swarm(faults: Faults | None = None, *, steps: int = 20, **weights: float) -> Swarm:
    """Always the same few steps, so that a schedule is short; what is aimed at is likely."""
    return Swarm(faults=faults or Faults(), weights={**ALWAYS, **weights}, steps=steps)


def acknowledged_before_persisted(monkeypatch):
    """The file is written with the next update only."""
    keep = ViewStore.keep
    waiting: dict[ViewStore, tuple[Any, ...]] = {}

    def late(store, *args):
        before = waiting.get(store)
        waiting[store] = args
        return keep(store, *(before or args))

    monkeypatch.setattr(ViewStore, "keep", late)


def gap_accepted(monkeypatch):
    """A delta is taken whatever set it changes."""

    def apply(state, head, base_root, *rest):
        adds, removals, mark = rest
        mark.admit(head)
        shards, _ = changed(state.shards, adds, removals, head.bits)
        return ViewState(head, state.key, shards, digests_of(shards, head.bits))

    monkeypatch.setattr(ViewState, "apply", apply)


def set_unchecked(monkeypatch):
    """Neither count nor root are compared."""

    def taken(head, key, shards, digests, changes):
        adds, removals = changes
        after, _ = changed(shards, adds, removals, head.bits)
        return ViewState(head, key, after, digests_of(after, head.bits))

    monkeypatch.setattr(views, "_taken", taken)


def rollback_accepted(monkeypatch):
    """No head is too old."""
    monkeypatch.setattr(Mark, "admit", lambda mark, head: None)


def mark_forgotten(monkeypatch):
    """The mark is not read back at the start."""
    load = SetKeeper._load

    def forgetful(keeper, store):
        load(keeper, store)
        keeper.drop()
        keeper._mark = Mark(_keeper.VIEW, keeper.lineage)

    monkeypatch.setattr(SetKeeper, "_load", forgetful)


def hit_is_a_pass(monkeypatch):
    """A hit of the filter is answered like a miss."""
    answer = Core._pass

    def blind(core, local, *args):
        return answer(core, replace(local, view=replace(local.view, filter=())), *args)

    monkeypatch.setattr(Core, "_pass", blind)


def hit_is_an_answer(monkeypatch):
    """A hit of the filter is taken for the listing."""
    answer = Core._pass

    def hasty(core, local, identifier, *args):
        found = answer(core, local, identifier, *args)
        if found is None and not identifier.is_person:
            made = core.unanswered(identifier)
            return replace(made, outcome=Outcome.INTERCEPT, source=Source.LOCAL, reason=None)
        return found

    monkeypatch.setattr(Core, "_pass", hasty)


def age_by_a_job_only(monkeypatch):
    """A set is fresh until the job takes it away."""

    def may_answer(core, view, context, at_least_revision, nanos):
        return Age.FRESH if view.state.manifest.revision >= at_least_revision else None

    monkeypatch.setattr(Core, "may_answer", may_answer)


def worker_behind_believed(monkeypatch):
    """The gateway is not told what is known here."""
    monkeypatch.setattr(_core, "floor", lambda local, at_least_revision: at_least_revision)


def in_force_now_only(monkeypatch):
    """The view leaves out what is not in force on the day of the commit."""

    def listed(commit):
        today = day_of(commit.at)
        return frozenset(each.subject for each in commit.entries.values() if each.in_force(today))

    monkeypatch.setattr(gateway, "listed", listed)


def collisions_forgotten(monkeypatch):
    """A fingerprint leaves with the first of those that share it."""
    put = View.put

    def hasty(view, digest64, *, listed):
        put(view, digest64, listed=listed)
        fingerprint = view.key.narrow(digest64)
        shard = view._shards[digest64 >> 56]
        if not listed and fingerprint in shard:
            shard.remove(fingerprint)
            view._shard_digests[digest64 >> 56] = None
            view._journal.append((view.revision + 1, fingerprint))
            view._forget()

    monkeypatch.setattr(View, "put", hasty)


def mark_before_verification(monkeypatch):
    """The mark of a head is kept before anybody looks who signed it."""
    take = SetKeeper.take

    def trusting(keeper, parts, asked):
        head = pb.Manifest.FromString(parts[0].head.manifest)
        mark = keeper._mark
        keeper._mark = replace(mark, epoch=head.epoch, revision=max(head.revision, mark.revision))
        take(keeper, parts, asked)

    monkeypatch.setattr(SetKeeper, "take", trusting)


def long_lived_heads(monkeypatch):
    """A head is news for a day."""
    monkeypatch.setattr(service, "EXPIRES", datetime.timedelta(days=1))


def journal_floor_ignored(monkeypatch):
    """A gateway that was restarted tells what it remembers, from whatever revision it is asked."""
    merge = View._merge

    def carefree(view, revision):
        return merge(view, max(revision, view.journal_from))

    monkeypatch.setattr(View, "_merge", carefree)


def contact_at_the_answer(monkeypatch):
    """A set counts as fresh from when the answer came."""
    take = SetKeeper.take
    monkeypatch.setattr(SetKeeper, "take", lambda keeper, parts, asked: take(keeper, parts, keeper._monotonic()))


def fresh_from_disk(monkeypatch):
    """A set that lay on the disk counts as confirmed at the start."""
    load = SetKeeper._load

    def hopeful(keeper, store):
        load(keeper, store)
        if keeper.view is not None:
            keeper.view = keeper.view.confirmed(keeper._monotonic())

    monkeypatch.setattr(SetKeeper, "_load", hopeful)


def erased_never(monkeypatch):
    """Key and set stay."""
    monkeypatch.setattr(SetKeeper, "purge", lambda keeper: None)


BUGS = {
    "acknowledged before persisted": Planted(acknowledged_before_persisted, swarm(kill=4.0)),
    "gap accepted": Planted(
        gap_accepted,
        replace(swarm(Faults(replay=0.7, delay=20.0, lasting="watch-refused"), steps=40, list=6.0), machines=(1, 1, 1)),
    ),
    "set unchecked": Planted(set_unchecked, swarm(Faults(forge=0.3))),
    "rollback accepted": Planted(rollback_accepted, swarm(Faults(replay=0.3))),
    "mark forgotten": Planted(mark_forgotten, swarm(freeze=2.0, kill=4.0)),
    "a hit is a pass": Planted(hit_is_a_pass, swarm()),
    "a hit is an answer": Planted(hit_is_an_answer, swarm()),
    "age by a job only": Planted(age_by_a_job_only, swarm(gateway=3.0)),
    "a worker behind is believed": Planted(worker_behind_believed, swarm(steps=40)),
    "in force now only": Planted(in_force_now_only, swarm()),
    "collisions forgotten": Planted(collisions_forgotten, swarm(steps=40)),
    "mark before verification": Planted(mark_before_verification, swarm(Faults(forge=0.3)), live=True),
    "long-lived heads": Planted(long_lived_heads, swarm(freeze=3.0, quarter=3.0)),
    "journal floor ignored": Planted(journal_floor_ignored, replace(swarm(gateway=4.0), recalled=1)),
    "contact at the answer": Planted(contact_at_the_answer, swarm(Faults(delay=30.0), steps=80, list=8.0)),
    "fresh from disk": Planted(fresh_from_disk, swarm(kill=2.0, gateway=2.0, hour=1.0)),
    "erased never": Planted(erased_never, swarm(days=2.0, gateway=3.0)),
}


def seen_by(bug: Planted, root: Path, most: int) -> Iterator[int]:
    """The seeds whose schedules see a bug."""
    for seed in range(most):
        try:
            run(seed, bug.swarm, root, live=bug.live)
        except Violation:
            yield seed


SLOW = {"contact at the answer", "mark forgotten", "long-lived heads"}
"""Seen after many schedules only."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.long) if name in SLOW else name for name in BUGS]
)
def test_planted_bug(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bug = BUGS[name]
    install(monkeypatch)
    with scratch() as root:
        with monkeypatch.context() as planted:
            bug.plant(planted)
            if ALL:
                seeds = list(seen_by(bug, root, ALL))
                print(f"{name}: seen by {len(seeds)} of {ALL} schedules, first by {seeds[:1]}")
            seen = next(seen_by(bug, root, MOST), None)
        assert seen is not None, f"not seen within {MOST} schedules"
        for seed in range(seen + 1):
            run(seed, bug.swarm, root, live=bug.live)
