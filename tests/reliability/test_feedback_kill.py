"""kill -9 of `serve` while reports or receipts are on their way: what was told is told once, and nothing is lost.

A receipt that somebody got has its record, and a record is of no other receipt than of those.

One random moment here, twenty under ``./run check --long``.
"""

import contextlib
import json
import random
import signal
import sqlite3
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

import lanjie
from lanjie_matcher.receipts import opened
from tests.integration.test_prefork import court_list
from tests.reliability.test_kill import DATA, gateway_pid, start, wait_ready
from tests.reliability.test_kill import lanjie as command
from tests.support.subjects import uscc

pytestmark = pytest.mark.drill

SUBJECT = uscc(1)


def client(state: Path) -> lanjie.Client:
    return lanjie.Client.from_file(state / "gateway.json", state_dir=state.parent / "sdk", local=False, timeout=10.0)


class Clerk:
    """Gets answers, tells what was done about them and has them proved.

    Args:
        using: client to ask with.
        trusted: keys of the gateway.
        given: counts the receipts that came, by id.
    """

    def __init__(self, using: lanjie.Client, trusted: dict[str, bytes], given: Counter[str]) -> None:
        self.decisions = [using.check(SUBJECT, matter="procurement.supplier", purpose="x") for _ in range(5)]
        self._trusted, self._given = trusted, given

    def tell(self, using: lanjie.Client) -> None:
        for decision in self.decisions:
            using.report(decision.decision_id, applied=["N-1"], officer="1")

    def prove(self, using: lanjie.Client) -> str:
        proved: str = opened(using.receipt([(each, SUBJECT) for each in self.decisions]), self._trusted)["id"]
        self._given[proved] += 1
        return proved

    def act(self, using: lanjie.Client, first: int) -> None:
        """Do all of it, or what comes after the first; a gateway that goes ends it."""
        with contextlib.suppress(lanjie.LanjieError):
            for act in (self.tell, self.prove, self.prove)[first:]:
                act(using)


@pytest.mark.parametrize("moments", [pytest.param(count, marks=pytest.mark.long) for count in (1, 20)])
def test_a_kill_loses_no_report_and_tells_none_twice(tmp_path: Path, moments: int) -> None:
    state = tmp_path / "state"
    state.mkdir()
    chance, told, receipts, given = random.Random(7), list[str](), set[str](), Counter[str]()
    server = start(state)
    try:
        wait_ready(state, server, time.monotonic())
        command(state, "catalogue", "publish", str(DATA / "national.yaml"))
        command(state, "list", "import", str(court_list(tmp_path / "list.csv", [SUBJECT])))
        trusted = {
            name: bytes.fromhex(key)
            for name, key in json.loads((state / "gateway.json").read_text())["trusted_keys"].items()
        }
        for moment in range(moments):
            with client(state) as before:
                clerk = Clerk(before, trusted, given)
                trying = threading.Thread(target=clerk.act, args=(before, moment % 2))
                trying.start()
                time.sleep(chance.uniform(0.0, 0.06))
                pid = gateway_pid(state)
                server.send_signal(signal.SIGKILL)
                server.wait()
                killed = time.monotonic()
                server = start(state)
                wait_ready(state, server, killed, pid)
                trying.join(60)
            with client(state) as after:
                clerk.tell(after)
                again = {clerk.prove(after) for _ in range(2)}
                assert len(again) == 1
                receipts |= again
            told += [decision.decision_id for decision in clerk.decisions]
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(20) == 0
    with sqlite3.connect(f"file:{state / 'ledger.sqlite3'}?mode=ro", uri=True) as ledger:
        kept, proofs = (
            [json.loads(record) for (record,) in ledger.execute("SELECT record FROM inquiry WHERE kind = ?", (kind,))]
            for kind in ("feedback", "receipt")
        )
        asked_for = dict(ledger.execute("SELECT decision_id, version FROM feedback"))
        counted = ledger.execute("SELECT sum(answers) FROM usage WHERE outcome = 'INTERCEPT'").fetchone()[0]
        answers = ledger.execute("SELECT count(*) FROM inquiry WHERE kind = 'gateway'").fetchone()[0]
    assert Counter(each["about"] for each in kept) == Counter(told), "one record for each report"
    assert asked_for == dict.fromkeys(told, 1)
    assert counted == answers == len(told)
    assert len(receipts) == moments
    recorded = Counter(each["receipt"] for each in proofs)
    assert set(recorded) == receipts
    assert given <= recorded
    assert {each["answers"] for each in proofs} == {5}
