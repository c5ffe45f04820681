"""Checks and changes side by side, each answer held against what was acknowledged when it was asked.

A subject has a history of what may be answered. Before a change is asked for, both the old and the new answer are
allowed; once it is acknowledged, only the new one. A check may be answered with anything allowed between its beginning
and its end, or be refused or undetermined; everything else is a wrong answer.
"""

import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import lanjie
from lanjie_gateway.domain.access import Role
from lanjie_gateway.domain.errors import GatewayError
from tests.support.gateway import RunningGateway, person
from tests.support.subjects import uscc

MATTER = "tendering.bidder"
LISTED, FREE = "RESTRICT", "PASS"
_AUTHORITY = person("authority", Role.AUTHORITY)
_numbers = itertools.count(1)


def wage_row(subject: str, decision: int) -> dict[str, str]:
    """A listing that `MATTER` of the test catalogue restricts."""
    return {
        "id_kind": "uscc",
        "id_number": subject[5:],
        "list_type": "WAGE",
        "decision_no": f"测试〔2026〕{decision}号",
        "authority": "测试机关",
        "reason": "测试事由",
        "basis": "测试依据",
        "decision_date": "2026-01-05",
        "served_date": "2026-01-06",
        "listed_on": "2026-01-20",
        "expires_on": "2029-01-20",
        "removal_conditions": "履行义务后申请移出",
        "remedies": "六十日内申请行政复议",
        "source": "load",
    }


@dataclass(eq=False)
class Subject:
    """A subject and what may be answered of it."""

    text: str
    allowed: list[frozenset[str]]


@dataclass
class Tally:
    """What the load saw."""

    answers: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    changes: int = 0
    unsettled: int = 0


class Load:
    """Threads that check, and one that lists and removes, until the block is left.

    Args:
        gateways: where changes are made, in turn; with the test catalogue published.
        clients: what the checking threads ask through, one each.
        first: number of the first invented subject.
    """

    def __init__(self, gateways: Sequence[RunningGateway], clients: Sequence[lanjie.Client], *, first: int = 10_000):
        self.tally = Tally()
        self._gateways = gateways
        self._clients = clients
        texts = [uscc(first + number) for number in range(60)]
        self._subjects = [
            *(Subject(text, [frozenset({LISTED})]) for text in texts[:20]),
            *(Subject(text, [frozenset({FREE})]) for text in texts[20:]),
        ]
        gateways[0].import_rows([wage_row(each.text, 0) for each in self._subjects[:20]])
        self._moving = self._subjects[40:]
        self._stop = threading.Event()
        self._threads = [
            *(threading.Thread(target=self._check, args=(client, seed)) for seed, client in enumerate(clients)),
            threading.Thread(target=self._change),
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def answered(self) -> int:
        """How many checks were answered so far, neither refused nor undetermined."""
        return self.tally.answers[LISTED] + self.tally.answers[FREE]

    def recovery(self, more: int = 20, seconds: float = 60.0) -> float:
        """Wait until answers come again; return how long that took."""
        begun = time.monotonic()
        before = self.answered()
        while self.answered() < before + more:
            assert time.monotonic() - begun < seconds, f"no recovery: {self.tally.answers}"
            time.sleep(0.002)
        return time.monotonic() - begun

    def confirm(self) -> None:
        """After the load: every subject is what was acknowledged last, seen through every client."""
        for client in self._clients:
            for subject in self._subjects:
                assert subject.allowed[-1] >= {self._outcome(client, subject)}, "an acknowledged change is lost"
        assert not self.tally.wrong, self.tally.wrong[:5]

    def _outcome(self, client: lanjie.Client, subject: Subject) -> str:
        deadline = time.monotonic() + 30
        while (found := client.check(subject.text, matter=MATTER, purpose="load").outcome.name) == "UNDETERMINED":
            assert time.monotonic() < deadline, "no answer"
        return found

    def _check(self, client: lanjie.Client, seed: int) -> None:
        random_ = random.Random(seed)
        while not self._stop.is_set():
            subject = random_.choice(self._subjects)
            since = len(subject.allowed) - 1
            try:
                found = client.check(subject.text, matter=MATTER, purpose="load").outcome.name
            except lanjie.LanjieError as error:
                found = type(error).__name__
            allowed: frozenset[str] = frozenset().union(*subject.allowed[since:])
            self.tally.answers[found] += 1
            if found in (LISTED, FREE) and found not in allowed:
                self.tally.wrong.append(f"{found} instead of {sorted(allowed)}")
            time.sleep(0.001)

    def _change(self) -> None:
        random_ = random.Random(99)
        for turn in itertools.count():
            if self._stop.is_set():
                return
            subject = random_.choice(self._moving)
            old = subject.allowed[-1]
            new = frozenset({LISTED}) if old == {FREE} else frozenset({FREE})
            subject.allowed.append(old | new)
            gateway = self._gateways[turn % len(self._gateways)]
            number = next(_numbers)
            while not self._settled(gateway, subject, number, listed=new == {LISTED}):
                self.tally.unsettled += 1
                time.sleep(0.05)
            subject.allowed.append(new)
            self.tally.changes += 1
            time.sleep(0.01)

    @staticmethod
    def _settled(gateway: RunningGateway, subject: Subject, number: int, *, listed: bool) -> bool:
        """Ask for a change; asked again after an error, it does no harm if it was made."""
        listings: Any = gateway.inner.control.listings
        try:
            if listed:
                return bool(gateway.import_rows([wage_row(subject.text, number)]).revision)
            for each in gateway.run(listings.find(subject.text, "load", _AUTHORITY)):
                if not each.not_in_force:
                    gateway.run(listings.remove(each.listing.id, "已改正", f"测试移出{number}号", "", _AUTHORITY))
        except GatewayError:
            return False
        return True
