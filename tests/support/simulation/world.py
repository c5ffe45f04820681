"""One schedule: a ledger, gateways, counters and the network between them, moved by one seeded generator of chance.

Time is virtual: `advance` lets it pass in slots, in each of which gateways follow and serve, messages arrive, and
processes run. There are no threads, and nothing sleeps. A schedule is a seed and a `Swarm`; the same two give the same
run, to the last byte.
"""

import contextlib
import datetime
import gc
import itertools
import os
import random
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lanjie._runtime import SyncState
from lanjie.errors import LanjieError
from tests.support.simulation import subjects
from tests.support.simulation.counter import FUSE, Machine, Process
from tests.support.simulation.gateway import Gateway
from tests.support.simulation.judge import Judge, Violation
from tests.support.simulation.ledger import LedgerModel, Policy, day_of, standing
from tests.support.simulation.network import Faults, Network

START = datetime.datetime(2026, 3, 2, 15, 40, tzinfo=datetime.UTC).timestamp()
_SLOTS = 40
_HEALED = 240.0
MATTERS = ("bid", "licence", "subsidy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Swarm:
    """What a schedule is made of; drawn anew for each, so that no two are alike.

    Attributes:
        faults: of the network.
        weights: of the actions.
        steps: number of actions.
        machines: number of processes on each machine.
        gateways: number of gateways.
        places: snapshots that a gateway sends at once.
        recalled: entries of the journal that a gateway reads back at its start.
        bloom: whether the processes build filters.
    """

    faults: Faults = field(default_factory=Faults)
    weights: dict[str, float] = field(default_factory=dict)
    steps: int = 30
    machines: tuple[int, ...] = (1,)
    gateways: int = 1
    places: int = 16
    recalled: int = 1_000
    bloom: bool = False


class World:
    """See the module. Made by `running`."""

    def __init__(self, seed: int, swarm: Swarm, root: Path) -> None:
        self.random = random.Random(seed)
        self.swarm = swarm
        self.now = START + self.random.uniform(0, 600)
        self.ledger = LedgerModel(self.now, {each: Policy(each == "licence", each == "bid") for each in MATTERS})
        self.judge = Judge(self)
        self.network = Network(self, self.random, swarm.faults)
        self.loyal = swarm.faults.loyal and "freeze" not in swarm.weights
        self.pids = itertools.count(1)
        for _ in range(self.random.randrange(12)):
            self.ledger.add(self.now, self.random.randrange(subjects.COMPANIES), day_of(self.now), None)
        self.gateways = [Gateway(self, places=swarm.places, recalled=swarm.recalled) for _ in range(swarm.gateways)]
        self.machines = [Machine(self, root / f"{number}") for number in range(len(swarm.machines))]
        self.processes = [
            Process(self, machine, f"{place:016x}{number:016x}", bloom=swarm.bloom)
            for place, (machine, count) in enumerate(zip(self.machines, swarm.machines, strict=True))
            for number in range(count)
        ]
        self._pruned_on = day_of(self.now)

    def true_time(self) -> datetime.datetime:
        """The time as it is, to the microsecond."""
        return datetime.datetime.fromtimestamp(self.now, datetime.UTC)

    def any_gateway(self) -> Gateway:
        """The gateway that a call comes to."""
        return self.random.choice(self.gateways)

    def worker_lag(self) -> float:
        """How far a worker is behind its gateway."""
        return self.random.choice((0.0, 0.0, 3.0, 8.0))

    def pass_time(self, most: float) -> None:
        """Let a call take its time, while nothing else happens."""
        if most:
            self.now += self.random.uniform(0, most)

    def advance(self, seconds: float, slot: float = 0.5) -> None:
        """Let time pass; everybody does what is due."""
        end = self.now + seconds
        slot = max(slot, seconds / _SLOTS)
        while self.now < end:
            self.now = min(self.now + slot, end)
            if day_of(self.now) != self._pruned_on:
                self._pruned_on = day_of(self.now)
                self.ledger.prune(self.now)
            self.turn()

    def turn(self) -> None:
        """Let everybody do what is due at this instant."""
        for _ in range(2):
            for gateway in self.gateways:
                gateway.follow()
            for stream in list(self.network.streams):
                stream.pump()
            for gateway in self.gateways:
                gateway.serve()
            processes = [each for each in self.processes if each.due()]
            if len(processes) > 1:
                self.random.shuffle(processes)
            for process in processes:
                if process.due():
                    process.run()

    def play(self) -> None:
        """Do the actions of the schedule."""
        from tests.support.simulation.actions import ACTIONS

        names = [name for name in ACTIONS if self.swarm.weights.get(name)]
        weights = [self.swarm.weights[name] for name in names]
        self.advance(1.0)
        for name in self.random.choices(names, weights, k=self.swarm.steps):
            ACTIONS[name](self)
            self.question(2)

    def question(self, most: int) -> None:
        """Ask some processes about some subjects, rather about those that are listed."""
        alive = [each for each in self.processes if each.alive]
        for process in alive and self.random.choices(alive, k=most):
            numbers = self.ledger.head.listed if self.random.random() < 0.5 else ()
            number = self.random.choice(sorted(numbers) or range(subjects.COMPANIES + subjects.PERSONS))
            with contextlib.suppress(LanjieError):
                self.judge.ask(process, number, self.random.choice(MATTERS))

    def heal(self) -> None:
        """End every fault but a lasting one; within minutes every process must be fresh, with the ledger's set."""
        self.network.faults = Faults(lasting=self.swarm.faults.lasting)
        self.network.frozen = False
        for machine in self.machines:
            machine.skew = self.random.uniform(-60, 60)
        for gateway in self.gateways:
            gateway.behind = 0.0
            if not gateway.up:
                gateway.start()
        for process in self.processes:
            process.frozen_until, process.fuse = 0.0, (0, False, False)
            if not process.alive:
                process.start()
        waiting, end = set(range(len(self.processes))), self.now + _HEALED
        while waiting and self.now < end:
            self.advance(1.0, slot=1.0)
            waiting -= {place for place in waiting if self._is_well(self.processes[place])}
        if waiting:
            why = {self.processes[place].runtime._driver.last_error for place in waiting}
            raise Violation(f"not fresh {_HEALED:.0f} s after the last fault: {sorted(why)}")
        if not self.swarm.faults.lasting:
            self._is_quiet()

    def _is_well(self, process: Process) -> bool:
        status, ledger = process.runtime.status(), self.ledger
        view = process.runtime._keeper.view
        place = (ledger.epoch, ledger.generation, subjects.root(ledger.generation, ledger.head.listed))
        if view is None or status.state is not SyncState.FRESH:
            return False
        head = view.state.manifest
        return (head.epoch, head.generation, head.root) == place

    def _is_quiet(self) -> None:
        """Everybody passes who is not listed, and nobody who is; the way there makes no difference to the set."""
        listed = self.ledger.head.listed
        wanted = subjects.fingerprints(self.ledger.generation, listed)
        for process in self.processes:
            for number, fingerprint in enumerate(subjects.companies(self.ledger.generation)):
                hits = fingerprint in wanted
                passed = self.judge.passed
                with contextlib.suppress(LanjieError):
                    self.judge.ask(process, number, "bid")
                if (self.judge.passed > passed) is hits:
                    raise Violation(f"subject {number} {'passes' if hits else 'hits'} in {process.name} after all")
        for gateway in self.gateways:
            if gateway.views[self.ledger.generation].head()[0] != subjects.root(self.ledger.generation, listed):
                raise Violation("the way to a set makes a difference to it")

    def standing(self) -> Sequence[int]:
        """Numbers of the listings that no event has ended."""
        return [number for number, each in self.ledger.head.entries.items() if standing(each)]


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A directory for the files of a schedule, in memory where there is one."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as name:
        yield Path(name)


def run(seed: int, swarm: Swarm, root: Path, *, live: bool = True) -> World:
    """Play one schedule in an empty directory below `root`, and see with `live` that all is well in the end.

    Raises:
        Violation: something happened that must never be.
    """
    place = root / f"{seed}"
    gc.disable()  # thousands of arrays that live as long as the schedule; what is left goes between schedules
    world = World(seed, swarm, place)
    try:
        world.play()
        if live:
            world.heal()
    finally:
        gc.enable()
        FUSE.set(0)
        for process in world.processes:
            if process.alive:
                process.kill()
        shutil.rmtree(place, ignore_errors=True)
    return world
