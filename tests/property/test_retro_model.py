"""Whatever is listed, begins, is stayed and rotated: each pass that no longer holds is told once, however late it came.

A counter asks its own set, which may be days and generations of the key old, and the gateway; their records arrive in
their time, in their order, and not before the next midnight at the latest.
"""

import datetime
import functools
from dataclasses import dataclass, field
from typing import Any

import pytest

from lanjie_gateway.adapters.keys import make_view_key
from lanjie_gateway.adapters.ledger import InquiryRow, alerting
from lanjie_gateway.domain.alerts import WITHOUT_CASE_NO
from lanjie_gateway.domain.records import VERSION, about, instant, leaf
from lanjie_matcher.decide import Question
from lanjie_matcher.fingerprints import IndexKey, ViewKey
from lanjie_matcher.identifiers import parse
from tests.property.test_watch_model import MATTERS, SUBJECTS, Entry, World
from tests.support.core import uscc


@dataclass
class Told:
    """A pass as the model knows it."""

    id: str
    subject: int
    at: datetime.datetime
    case_no: str
    record: bytes = field(repr=False)


class Counters(World):
    """A ledger, a counter with its set, and which passes no longer hold by the model."""

    retro = datetime.timedelta(days=90)
    breaks = "_tell"

    def __init__(self, state, seed: int, url: str = "") -> None:
        super().__init__(state, seed, url)
        self.queue: list[Told] = []
        self.arrived: list[Told] = []
        self.overtaken: set[tuple[str, str]] = set()
        self.sync()

    def sync(self) -> None:
        self.revision, self.generation = self.ledger.head(), self.ledger.generation
        self.view = ViewKey(self.ledger.keys.view, 24)
        self.set = {each.subject for each in self.entries if each.state in ("listed", "stayed")}

    def ask_itself(self) -> None:
        """A local pass, by a set that may be old."""
        subject = self.random.randrange(SUBJECTS)
        if subject not in self.set:
            digest = self.view.digest64(parse(f"uscc:{uscc(subject)}").key).to_bytes(8, "big")
            fields = {"kind": "local", "generation": self.generation, "subject": digest.hex()}
            self.passed(subject, {**fields, "region": "320000", "revision": self.revision})

    def ask_the_gateway(self) -> None:
        subject = self.random.randrange(SUBJECTS)
        if any(each.subject == subject and each.bears(self.today) for each in self.entries):
            return
        identifier, key = parse(f"uscc:{uscc(subject)}"), IndexKey(self.ledger.keys.index)
        question = Question(matter=MATTERS[0], at=self.clock(), handling_region="320000")
        tokens = {"subject": key.token(identifier.reveal()), "bucket": key.token(identifier.key)}
        asked = {"region": "320000", "as_of": instant(self.clock()), **about(question, kind="uscc", **tokens)}
        self.passed(subject, {**asked, "revision": self.ledger.head()})

    def passed(self, subject: int, fields: dict[str, Any]) -> None:
        self.count += 1
        name, case_no = f"test-{self.count}", self.random.choice(("", "案"))
        common = {"v": VERSION, "id": name, "at": instant(self.clock()), "department": "d", "matter": MATTERS[0],
                  "case_no": case_no, "outcome": "PASS"}  # fmt: skip
        self.queue.append(Told(name, subject, self.clock(), case_no, leaf({**common, **fields})))

    def arrive(self) -> None:
        """Some of the records come, the oldest first."""
        self.settle()
        some = self.queue[: self.random.randrange(1, 5)]
        del self.queue[: len(some)]
        for each in some:
            self.ledger.add_inquiries("test", 1, [InquiryRow.of(each.record)])
        self.arrived += some
        self.look_back()

    def rotate(self) -> None:
        self.settle()
        assert self.ledger.begin_rotation(functools.partial(make_view_key, self.state / "keys"))
        done, total = 0, 1
        while done < total:
            done, total = self.ledger.rotate()
        self.ledger.switch_generation("d/agency")
        if self.random.random() < 0.5:
            self.look_back()
        self.ledger.end_rotation()
        self.look_back()

    def tomorrow(self) -> None:
        super().tomorrow()
        self.look_back()

    def happened(self, entry: Entry, kind: str) -> None:
        del entry, kind
        self.look_back()

    def look_back(self) -> None:
        if self.random.random() < 0.3:
            self.crash()
        self.settle()
        for told in self.arrived:
            age = self.clock() - told.at
            if age > self.retro or (age > WITHOUT_CASE_NO and not told.case_no):
                continue
            for each in self.entries:
                if each.subject == told.subject and each.bears(self.today):
                    self.overtaken.add((told.id, each.id))

    def check(self) -> None:
        found = [(each.decision_id, each.listing_id) for each in self.ledger.alerts("d", 0, 10_000)]
        assert len(found) == len(set(found))
        assert set(found) == self.overtaken


def run(world: Counters, steps: int) -> None:
    acts = [world.list, world.act, world.tomorrow, world.sync, world.rotate, world.arrive, world.ask_itself,
            world.ask_the_gateway]  # fmt: skip
    for _ in range(steps):
        world.random.choices(acts, [3, 3, 2, 1, 1, 4, 6, 3])[0]()
        world.check()
    world.ledger.close()


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerting, "EVENTS", 2)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.long)])
def test_each_pass_that_no_longer_holds_is_told_once(tmp_path, seed: int) -> None:
    world = Counters(tmp_path, seed)
    run(world, 60)
    assert world.overtaken


def test_what_passed_in_the_evening_and_comes_after_midnight_is_held_against_what_began(tmp_path) -> None:
    world = Counters(tmp_path, 0)
    while not world.entries or world.entries[-1].begins <= world.today:
        world.list()
    later = world.entries[-1]
    while all(each.subject != later.subject for each in world.queue):
        world.ask_the_gateway()
    while later.begins > world.today:
        world.tomorrow()
    while world.queue:
        world.arrive()
    assert later.id in {listing for _, listing in world.overtaken}
    world.check()
    world.ledger.close()


@pytest.mark.long
@pytest.mark.parametrize("seed", range(100, 140))
def test_many_long_histories_of_passes(tmp_path, seed: int) -> None:
    run(Counters(tmp_path, seed), 250)


@pytest.mark.long
def test_each_pass_that_no_longer_holds_is_told_once_on_postgresql(tmp_path, shared_url: str) -> None:
    run(Counters(tmp_path, 1, shared_url), 60)
