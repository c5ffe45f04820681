"""What must hold after every step, judged by the model and never by the code under test.

1. A local pass is never given for a subject whose listing stands in the ledger at the revision that the answer names,
   nor for one with a listing in force at the decision's instant that was committed longer ago than a set may be behind.
   It is unflagged while the set is fresh only. A hit is never answered locally, and no gateway's pass forgets what the
   client knew.
2. What a client holds is the model's set at its epoch and revision, and its filter answers as that set does.
3. No head is taken that is lower than one the process held, and none by who leads that is lower than what the machine
   acknowledged: acknowledged is on disk.
4. What is fresh is not older than a set may be behind, whatever the clocks say and whoever replays old heads.
5. What a gateway sends leads from the set that it names to its newest.
6. After 48 hours without contact there are neither key nor set on a disk that takes what is written.
"""

import datetime
from typing import TYPE_CHECKING

from lanjie._view import LocalView
from lanjie.decision import Outcome, Source
from lanjie.v1 import sync_pb2 as pb
from lanjie_gateway.domain.watching import Delta, Heartbeat, Position, Step
from lanjie_matcher.ages import Age
from tests.support.simulation import subjects
from tests.support.simulation.counter import FUSE
from tests.support.simulation.gateway import MOST_BEHIND
from tests.support.simulation.ledger import Entry, day_of

if TYPE_CHECKING:
    from tests.support.simulation.counter import Process
    from tests.support.simulation.world import World

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_HOLD = {Age.FRESH: 45.0, Age.SOFT: 900.0, Age.STALE: 86_400.0}
REPLAYED = 600.0
"""Seconds for which a head is news."""
SKEWED = 300.0
"""Seconds by which a clock may be behind."""
PURGED = 172_800.0


class Violation(AssertionError):
    """Something that must never be."""


class Judge:
    """See the module."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self.asked = 0
        self.passed = 0

    def acknowledged(self, process: "Process", state: pb.ClientState) -> None:
        """Hear what a process says to have on disk."""
        if state.root and process.runtime._keeper.leads:
            process.machine.acknowledged = max(process.machine.acknowledged, (state.epoch, state.revision))

    def look(self, process: "Process") -> None:
        """Look at the set of a process (2), (3), (4)."""
        view = process.runtime._keeper.view
        if view is None:
            self._erased(process)
            return
        world, head = self._world, view.state.manifest
        place, now = (head.epoch, head.revision), world.now
        if view is not process.seen and not self._same(process, view):
            if process.seen is None or view.contact > process.seen.contact:
                process.machine.contact_at = now
            _must(place >= process.high, f"{process.name} holds {place} after {process.high}")
            process.high = place
            self._set(process)
        process.seen = view
        least = process.machine.acknowledged
        if process.runtime._keeper.leads and place < least:
            raise Violation(f"{process.name} leads with {place}; {least} was acknowledged")
        if view.age(process.machine.monotonic()) is Age.FRESH:
            superseded = world.ledger.superseded_at(*place)
            behind = 0.0 if superseded is None else now - superseded
            if behind > 45.0 + self.allowance() and not process.doubtful:
                raise Violation(f"{process.name} is fresh at {place}, {behind:.0f} s behind")
        self._erased(process)

    def _same(self, process: "Process", view: LocalView) -> bool:
        """Whether nothing but the time of contact is another."""
        before = process.seen
        if before is None or not (
            before.state is view.state and before.filter is view.filter and before.scope is view.scope
        ):
            return False
        process.machine.contact_at = self._world.now
        return True

    def allowance(self) -> float:
        """How much older than its contact what a client knows may be."""
        return MOST_BEHIND + (0.0 if self._world.loyal else REPLAYED + SKEWED)

    def step(self, step: Step, position: Position) -> None:
        """Look at what a gateway sends (5)."""
        if not isinstance(step, (Heartbeat, Delta)):
            return
        offer = step.offer
        before = self._world.ledger.known(position.epoch, position.revision)
        after = self._world.ledger.known(offer.epoch, offer.view.revision)
        if before is None or subjects.root(position.generation, before.listed) != position.root:
            return  # the client said what never was: its message was harmed on its way
        _must(after is not None, "a gateway has a revision that never was")
        held = set(subjects.fingerprints(offer.generation, before.listed))
        if isinstance(step, Delta):
            held |= set(step.changes.adds)
            held -= set(step.changes.removals)
        newest = subjects.fingerprints(offer.generation, after.listed if after else frozenset())
        _must(held == newest, f"{type(step).__name__} from {position.revision} does not lead to {offer.view.revision}")

    def ask(self, process: "Process", number: int, matter: str) -> None:
        """Ask, and judge the answer (1)."""
        view = process.runtime.local.view if process.runtime.local is not None else None
        decision = process.ask(subjects.identifier(number).reveal(), matter)
        self.asked += 1
        world, ledger = self._world, self._world.ledger
        if decision.source is Source.NONE:
            _must(decision.outcome is Outcome.UNDETERMINED, "nobody answered, and yet there is an outcome")
            return
        held = view.state.manifest if view is not None else None
        if decision.source is Source.GATEWAY:
            known = ledger.known(held.epoch, held.revision) if held and held.epoch == decision.epoch else None
            entries = known.entries.values() if known is not None else ()
            still = {id(each) for each in ledger.head.entries.values()}
            self._no_listing(decision.outcome, number, decision.as_of, [e for e in entries if id(e) in still], "knew")
            return
        self.passed += 1
        _must(decision.outcome is Outcome.PASS, f"a local {decision.outcome}")
        _must(number < subjects.COMPANIES, "a local answer about a person")
        if held is None or view is None:
            raise Violation("a local answer without a set")
        at = ledger.known(decision.epoch, decision.revision)
        _must(at is not None and number not in at.listed, f"subject {number} passed at {held.mark}, where it is listed")
        flags = [each for each in decision.warnings if each.startswith("set-")]
        age = Age(flags[0].removeprefix("set-")) if flags else Age.FRESH
        since = process.machine.monotonic() - view.contact
        _must(age in _HOLD and since <= _HOLD[age], f"a pass as of a {age.value} set, {since:.0f} s after contact")
        (policy,) = view.scope.matters[matter]
        _must(age is Age.FRESH or not policy.high_consequence, "a flagged pass in a matter of high consequence")
        _must(age in (Age.FRESH, Age.SOFT) or policy.stale_pass, "a stale pass that the matter does not allow")
        behind = _HOLD[age] + self.allowance()
        # What a restore brought back is news to who knows only what came before it.
        restored = ledger.restored_at.get(decision.epoch, 0.0)
        old = [e for e in ledger.head.entries.values() if max(e.since, restored) < world.now - behind]
        if not process.doubtful:
            self._no_listing(decision.outcome, number, decision.as_of, old, "should know")

    def _no_listing(
        self, outcome: Outcome, number: int, as_of: datetime.datetime, entries: list[Entry], what: str
    ) -> None:
        day = day_of((as_of - _EPOCH).total_seconds())
        wrong = outcome is Outcome.PASS and any(each.subject == number and each.in_force(day) for each in entries)
        _must(not wrong, f"subject {number} passed despite a listing that the client {what}")

    def _set(self, process: "Process") -> None:
        view = process.runtime._keeper.view
        if view is None:
            return
        head = view.state.manifest
        known = self._world.ledger.known(head.epoch, head.revision)
        if known is None:
            raise Violation(f"{process.name} holds {head.mark}, which never was")
        wanted = subjects.fingerprints(head.generation, known.listed)
        held = {value for shard in view.state.shards for value in shard}
        _must(held == wanted, f"the set of {process.name} at {head.mark} is not the ledger's")
        answers = {each for each in subjects.companies(head.generation) if each in view.filter}
        _must(answers == wanted & set(subjects.companies(head.generation)), f"the filter of {process.name} is wrong")
        if self._world.loyal:
            policies = {code: (p.high_consequence, p.stale_pass) for code, p in known.policies.items()}
            told = {code: (rule.high_consequence, rule.stale_pass) for code, (rule,) in view.scope.matters.items()}
            _must(policies == told, f"the scope of {process.name} is not that of its catalogues")

    def _erased(self, process: "Process") -> None:
        """(6), where the machine could know how much time passed, and its disk took what was written."""
        machine, now = process.machine, self._world.now
        if not process.runtime._keeper.leads or process.runtime._driver.last_error == "OSError":
            process.led_from = now
        if FUSE.failed:
            machine.contact_at = now  # what had just come may lie there, though it was not taken
        # Whoever reads the set by a clock that was set back cannot know how old it is, but counts from its start on.
        since = max(machine.contact_at, process.started_at) if process.set_back else machine.contact_at
        if now < max(process.led_from + 1.0, since + PURGED) + 60.0:
            return
        keys = [subjects.view_key(generation) for generation in range(1, self._world.ledger.generation + 1)]
        for path in machine.state_dir.glob("*/*"):
            content = path.read_bytes() if path.is_file() else b""
            _must(not path.name.startswith(("base-", "bloom-")), f"the set is on disk after 48 hours: {path.name}")
            _must(not any(key in content for key in keys), f"the key is on disk after 48 hours: {path.name}")


def _must(holds: bool, otherwise: str) -> None:  # noqa: FBT001
    if not holds:
        raise Violation(otherwise)
