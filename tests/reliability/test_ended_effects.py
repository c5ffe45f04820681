"""Many SDKs ask while listings end, are stayed and reinstated.

Each answer says what its revision says, and is of no revision from before what was acknowledged when it was asked for
or decided.
"""

import datetime
import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import lanjie
from lanjie_gateway.domain.events import EventKind
from tests.support.answers import act, records, row
from tests.support.gateway import MovableClock, RunningGateway
from tests.support.subjects import uscc

pytestmark = pytest.mark.drill

DATA = Path(__file__).parents[1] / "data"
MATTER = "procurement.supplier"
PAST = datetime.datetime(2026, 1, 20, tzinfo=datetime.UTC)
STAY_AND_LIFT = (EventKind.STAYED, EventKind.STAY_LIFTED)
LIVES = [
    (EventKind.REMOVED,),
    (EventKind.REPAIRED,),
    (EventKind.REVOKED,),
    (EventKind.ANNULLED,),
    (*STAY_AND_LIFT, *STAY_AND_LIFT, EventKind.ANNULLED),
    (EventKind.REMOVED, EventKind.REINSTATED, EventKind.REVOKED, EventKind.REINSTATED, EventKind.ANNULLED),
]
IN_FORCE = {EventKind.STAY_LIFTED, EventKind.REINSTATED}


class _RealClock(MovableClock):
    def __call__(self) -> datetime.datetime:
        return datetime.datetime.now(datetime.UTC)


@dataclass(frozen=True)
class _Turn:
    """From `revision` on, which was acknowledged at these instants, an answer about now or the past has its effect."""

    revision: int
    now: bool
    past: bool
    monotonic: float = field(default_factory=time.monotonic)
    wall: datetime.datetime = field(default_factory=lambda: datetime.datetime.now(datetime.UTC))


@dataclass(frozen=True)
class _Heard:
    subject: str
    about_past: bool
    started: float
    decision: lanjie.Decision


class Ledgerbook:
    """What was done to each subject, and when that was acknowledged."""

    def __init__(self, gateway: RunningGateway, lives: list[tuple[EventKind, ...]]) -> None:
        self._gateway = gateway
        self._lives = {uscc(number): life for number, life in enumerate(lives)}
        receipt = gateway.import_rows([row(subject, "COURT") for subject in self._lives])
        self.turns = {subject: [_Turn(receipt.revision, True, True)] for subject in self._lives}

    def live(self, client: lanjie.Client) -> None:
        """Let every life go by, one event of each in turn."""
        listings = {
            each: client.check(each, matter=MATTER, purpose="test").listings[0].listing_id for each in self._lives
        }
        for kinds in itertools.zip_longest(*self._lives.values()):
            for subject, kind in zip(self._lives, kinds, strict=True):
                if kind is not None:
                    revision = act(self._gateway, listings[subject], kind)
                    self.turns[subject].append(_Turn(revision, kind in IN_FORCE, kind is not EventKind.ANNULLED))

    def judge(self, heard: _Heard) -> None:
        """Assert that an answer is one that may have been given."""
        decision, turns = heard.decision, self.turns[heard.subject]
        at = [turn for turn in turns if turn.revision <= decision.revision][-1]
        due = at.past if heard.about_past else at.now
        assert decision.outcome.name == ("INTERCEPT" if due else "PASS"), (decision, turns)
        if decision.source is lanjie.Source.LOCAL:
            return
        for turn in turns:
            asked_after = heard.started > turn.monotonic or decision.decided_at > turn.wall
            assert not asked_after or decision.revision >= turn.revision, (decision, turns)


def hammer(client: lanjie.Client, subjects: list[str], over: threading.Event, pause: float) -> list[_Heard]:
    """Ask in every way until it is over, with a pause between questions."""
    heard: list[_Heard] = []
    asked = {"matter": MATTER, "purpose": "test"}
    while not over.is_set():
        for subject in subjects:
            for as_of in (None, PAST):
                started = time.monotonic()
                decision = client.check(subject, **asked, as_of=as_of)  # type: ignore[arg-type]
                heard.append(_Heard(subject, as_of is not None, started, decision))
                over.wait(pause)
        started = time.monotonic()
        many = client.check_many(subjects, **asked)  # type: ignore[arg-type]
        heard += [_Heard(subject, False, started, each) for subject, each in zip(subjects, many, strict=True)]
    return heard


def slow(to_disk: Callable[[], None]) -> Callable[[], None]:
    """Return a sync that takes as long as one of a busy disk."""

    def sync() -> None:
        time.sleep(0.01)
        to_disk()

    return sync


@pytest.mark.parametrize(
    ("clients", "lives", "pause"),
    [(4, LIVES, 0.02), pytest.param(100, LIVES * 2, 0.3, marks=pytest.mark.long)],
    ids=["few", "many"],
)
def test_no_answer_carries_an_ended_effect(
    tmp_path: Path, clients: int, lives: list[tuple[EventKind, ...]], pause: float
) -> None:
    gateway = RunningGateway(tmp_path / "gateway", _RealClock(PAST)).start()
    over = threading.Event()
    try:
        gateway.publish(DATA / "national.yaml")
        book = Ledgerbook(gateway, lives)
        writer = gateway.inner.worker.records
        writer._sync = slow(writer._sync)  # type: ignore[method-assign]
        sdks = [
            lanjie.Client.from_file(gateway.file, state_dir=tmp_path / f"sdk-{number}", timeout=30.0)
            for number in range(clients)
        ]
        with ThreadPoolExecutor(clients) as pool:
            try:
                answers = [pool.submit(hammer, sdk, list(book.turns), over, pause) for sdk in sdks]
                book.live(sdks[0])
            finally:
                over.set()
            heard = [each for answer in answers for each in answer.result(60)]
        for sdk in sdks:
            sdk.close()
        written = records(gateway)
    finally:
        gateway.stop()
    given = [each for each in heard if each.decision.source is not lanjie.Source.NONE]
    assert len(given) > len(heard) / 2
    for each in given:
        book.judge(each)
    replaced = sum("replaces" in record for record in written.values())
    local = sum(each.decision.source is lanjie.Source.LOCAL for each in given)
    print(f"{len(heard)} answers, {len(heard) - len(given)} by nobody, {local} local, {replaced} judged anew")
    # A few may all be answered between two commits; so many never are.
    assert replaced or clients < 100
