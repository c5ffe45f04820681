"""kill -9 of `serve` while reports and receipts are on their way: what was told is told once, and nothing is lost.

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

SUBJECT = uscc(1)


def client(state: Path) -> lanjie.Client:
    return lanjie.Client.from_file(state / "gateway.json", state_dir=state.parent / "sdk", local=False, timeout=10.0)


@pytest.mark.parametrize("moments", [pytest.param(count, marks=pytest.mark.long) for count in (1, 20)])
def test_a_kill_loses_no_report_and_tells_none_twice(tmp_path: Path, moments: int) -> None:
    state = tmp_path / "state"
    state.mkdir()
    chance, told, receipts = random.Random(7), list[str](), set[str]()
    server = start(state)
    try:
        wait_ready(state, server, time.monotonic())
        command(state, "catalogue", "publish", str(DATA / "national.yaml"))
        command(state, "list", "import", str(court_list(tmp_path / "list.csv", [SUBJECT])))
        trusted = {
            name: bytes.fromhex(key)
            for name, key in json.loads((state / "gateway.json").read_text())["trusted_keys"].items()
        }
        for _ in range(moments):
            with client(state) as before:
                decisions = [before.check(SUBJECT, matter="procurement.supplier", purpose="x") for _ in range(5)]
                asked = [(decision, SUBJECT) for decision in decisions]

                def tell(using: lanjie.Client, answers: list[lanjie.Decision] = decisions) -> None:
                    for decision in answers:
                        using.report(decision.decision_id, applied=["N-1"], officer="1")

                def try_to(using: lanjie.Client = before, answers: list[tuple[lanjie.Decision, str]] = asked) -> None:
                    with contextlib.suppress(lanjie.LanjieError):
                        tell(using)
                        using.receipt(answers)

                trying = threading.Thread(target=try_to)
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
                tell(after)
                again = [opened(after.receipt(asked), trusted)["id"] for _ in range(2)]
                assert again[0] == again[1]
                receipts.add(again[0])
            told += [decision.decision_id for decision in decisions]
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(20) == 0
    with sqlite3.connect(f"file:{state / 'ledger.sqlite3'}?mode=ro", uri=True) as ledger:
        kept = [
            json.loads(record) for (record,) in ledger.execute("SELECT record FROM inquiry WHERE kind = 'feedback'")
        ]
        asked_for = dict(ledger.execute("SELECT decision_id, version FROM feedback"))
        counted = ledger.execute("SELECT sum(answers) FROM usage WHERE outcome = 'INTERCEPT'").fetchone()[0]
        answers = ledger.execute("SELECT count(*) FROM inquiry WHERE kind = 'gateway'").fetchone()[0]
    assert Counter(each["about"] for each in kept) == Counter(told), "one record for each report"
    assert asked_for == dict.fromkeys(told, 1)
    assert counted == answers == len(told)
    assert len(receipts) == moments
