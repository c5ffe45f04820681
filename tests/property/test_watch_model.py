"""Whatever acts, days, crashes and acknowledgements follow one another, each due alert is told once and in order."""

import datetime
import random
from dataclasses import dataclass, field

import pytest

from lanjie_gateway.adapters.ledger import InquiryRow, alerting
from lanjie_gateway.domain.alerts import Watch
from lanjie_gateway.domain.events import Act, EventKind
from lanjie_gateway.domain.records import leaf
from lanjie_matcher.civil_time import day_of
from lanjie_matcher.decide import Question
from lanjie_matcher.fingerprints import IndexKey
from lanjie_matcher.identifiers import parse
from tests.support import catalogues as catalogue
from tests.support.core import uscc
from tests.support.ledger import Clock, open_ledger, take

MATTERS = ("procurement.supplier", "other.matter")
KNOWN = catalogue.catalogues(
    catalogue.edition(matters=tuple(catalogue.matter(code) for code in MATTERS), list_types=(catalogue.list_type(),))
)
"""Listings of TAX bear on the first matter alone."""
SUBJECTS = 4
DAY = datetime.timedelta(days=1)


class CrashError(Exception):
    """The process ended in the middle of a step."""


@dataclass
class Entry:
    """A listing as the model knows it."""

    id: str
    subject: int
    begins: datetime.date
    state: str = "listed"
    objected: bool = False

    def bears(self, today: datetime.date) -> bool:
        return self.state == "listed" and self.begins <= today


@dataclass
class Watched:
    """A watch as the model knows it."""

    number: int
    subject: int
    matter: str
    begins: datetime.date
    until: datetime.date
    ended: bool = False
    known: set[str] = field(default_factory=set)
    told: set[str] = field(default_factory=set)

    def runs(self, today: datetime.date) -> bool:
        return not self.ended and today <= self.until and self.matter == MATTERS[0]


class World:
    """A ledger, a model of it, and what is due by the model."""

    retro = datetime.timedelta()
    breaks = "_keep"
    """Where a step is broken."""

    def __init__(self, state, seed: int, url: str = "") -> None:
        self.random = random.Random(seed)
        self.clock = Clock()
        self.state, self.url = state, url
        self.ledger = open_ledger(state, self.clock, url)
        self.entries: list[Entry] = []
        self.watches: list[Watched] = []
        self.due: list[tuple[int, str, str]] = []
        self.taken: list[tuple[int, int, str, str]] = []
        self.count = 0
        self.settle()

    @property
    def today(self) -> datetime.date:
        return day_of(self.clock())

    def step(self) -> bool:
        more, _ = self.ledger.alert_step(KNOWN, self.ledger.head(), self.retro)
        return more

    def settle(self) -> None:
        while self.step():
            pass

    # What happens.

    def watch(self) -> None:
        self.settle()
        subject, matter = self.random.randrange(SUBJECTS), self.random.choice(MATTERS)
        until = self.today + self.random.choice((1, 5, 60)) * DAY
        identifier, key = parse(f"uscc:{uscc(subject)}"), IndexKey(self.ledger.keys.index)
        self.count += 1
        record = leaf({"id": f"test-{self.count}", "at": self.clock().isoformat(), "department": "d",
                       "matter": matter, "outcome": "WATCH", "kind": "watch"})  # fmt: skip
        kept, repeated = self.ledger.register_watch(
            Watch(
                department="d",
                kind="uscc",
                subject=key.token(identifier.reveal()),
                bucket=key.token(identifier.key),
                question=Question(matter=matter, at=self.clock(), handling_region="320000"),
                case_no="",
                purpose="test",
                from_on=self.today,
                until_on=until,
                made_at=self.clock(),
                actor="d/p",
            ),
            identifier,
            "test",
            InquiryRow.of(record),
        )
        held = [each for each in self.watches if each.number == kept.number]
        if held:
            assert repeated == ((held[0].begins, held[0].until) == (self.today, until))
            held[0].begins, held[0].until = self.today, until
        else:
            assert not repeated
            made = Watched(kept.number, subject, matter, self.today, until)
            self.watches.append(made)
            self.look(made, "standing")
        self.settle()

    def end(self) -> None:
        self.settle()
        if self.watches:
            watch = self.random.choice(self.watches)
            self.ledger.end_watch("d", watch.number)
            watch.ended = True

    def list(self) -> None:
        subject = self.random.randrange(SUBJECTS)
        begins = self.today + self.random.choice((0, 0, 0, 2)) * DAY
        number = f"N{len(self.entries)}"
        row = {"id_kind": "uscc", "id_number": uscc(subject), "decision_no": number, "listed_on": begins.isoformat()}
        take(self.ledger, {**row, "source": "tax", "list_type": "TAX", "source_record_id": number})
        known = {each.id for each in self.entries}
        (listing,) = [e for e in self.ledger.find(parse(f"uscc:{uscc(subject)}")) if e.id not in known]
        entry = Entry(listing.id, subject, begins)
        self.entries.append(entry)
        self.happened(entry, "listed")

    def act(self) -> None:
        if not self.entries:
            return
        entry = self.random.choice(self.entries)
        running = entry.state in ("listed", "stayed")
        kind = self.random.choice(["removed", "repaired", "stayed", "stay_lifted", "objection_opened",
                                   "objection_closed", "annulled"])  # fmt: skip
        allowed = {
            "removed": running,
            "repaired": running,
            "stayed": entry.state == "listed",
            "stay_lifted": entry.state == "stayed",
            "objection_opened": not entry.objected and entry.state != "annulled",
            "objection_closed": entry.objected and entry.state != "annulled",
            "annulled": entry.state != "annulled",
        }[kind]
        if not allowed:
            return
        detail = {"outcome": "unfounded", "reply": "checked"} if kind == "objection_closed" else {}
        act = Act(kind=EventKind(kind), actor="tax/anna", reason="test", document="D", detail=detail)
        self.ledger.record(entry.id, act)
        entry.state = {"removed": "ended", "repaired": "ended", "annulled": "annulled", "stayed": "stayed",
                       "stay_lifted": "listed"}.get(kind, entry.state)  # fmt: skip
        entry.objected = {"objection_opened": True, "objection_closed": False}.get(kind, entry.objected)
        self.happened(entry, kind)

    def tomorrow(self) -> None:
        self.settle()
        self.clock.pass_by(days=self.random.choice((1, 1, 3)))
        for watch in self.watches:
            if watch.runs(self.today):
                self.look(watch, "began")
        self.settle()

    def crash(self) -> None:
        """Break a step at a random point, and open the ledger anew."""
        calls, real = self.random.randrange(1, 4), getattr(alerting.Alerting, self.breaks)

        def broken(*arguments) -> None:
            nonlocal calls
            calls -= 1
            if not calls:
                raise CrashError
            real(*arguments)

        setattr(alerting.Alerting, self.breaks, broken)
        try:
            self.step()
        except CrashError:
            self.ledger.close()
            self.ledger = open_ledger(self.state, self.clock, self.url)
        finally:
            setattr(alerting.Alerting, self.breaks, real)

    def acknowledge(self) -> None:
        found = self.ledger.alerts("d", 0, self.random.choice((1, 3, 100)))
        for each in found:
            if (each.number, each.watch, each.listing_id, each.kind.value) not in self.taken:
                self.taken.append((each.number, each.watch, each.listing_id, each.kind.value))
        if found and self.random.random() < 0.8:
            self.ledger.acknowledge_alerts("d", found[-1].number, [])

    # What is due.

    def happened(self, entry: Entry, kind: str) -> None:
        for watch in self.watches:
            if watch.subject != entry.subject or not watch.runs(self.today):
                continue
            if entry.bears(self.today) or entry.id in watch.known:
                self.due.append((watch.number, entry.id, kind))
            self.remember(watch, entry)

    def look(self, watch: Watched, kind: str) -> None:
        if watch.matter != MATTERS[0]:
            return
        for entry in sorted(self.entries, key=lambda each: each.id):
            if entry.subject == watch.subject and entry.bears(self.today) and entry.id not in watch.known:
                self.due.append((watch.number, entry.id, kind))
                watch.known.add(entry.id)

    def remember(self, watch: Watched, entry: Entry) -> None:
        stays = entry.id in watch.known and entry.state == "stayed"
        if entry.bears(self.today) or stays:
            watch.known.add(entry.id)
        else:
            watch.known.discard(entry.id)


def run(world: World, steps: int) -> None:
    acts = [world.watch, world.list, world.act, world.act, world.act, world.tomorrow, world.end, world.crash,
            world.step, world.acknowledge]  # fmt: skip
    for _ in range(steps):
        world.random.choices(acts, [3, 4, 3, 3, 3, 2, 1, 3, 3, 3])[0]()
    world.settle()
    while world.ledger.alerts("d", 0, 1):
        world.acknowledge()
    world.ledger.close()
    assert [each[0] for each in world.taken] == list(range(1, len(world.taken) + 1))
    assert sorted(each[1:] for each in world.taken) == sorted(world.due)
    for watch in world.watches:
        mine = [each[2:] for each in world.taken if each[1] == watch.number]
        assert mine == [each[1:] for each in world.due if each[0] == watch.number]


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.long)])
def test_each_due_alert_is_told_once_and_in_order(tmp_path, seed: int) -> None:
    world = World(tmp_path, seed)
    run(world, 60)
    assert world.due


@pytest.mark.long
@pytest.mark.parametrize("seed", range(100, 140))
def test_many_long_histories_of_alerts(tmp_path, seed: int) -> None:
    run(World(tmp_path, seed), 250)


@pytest.mark.long
def test_each_due_alert_is_told_once_on_postgresql(tmp_path, shared_url: str) -> None:
    run(World(tmp_path, 1, shared_url), 25)
