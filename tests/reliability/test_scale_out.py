"""Two gateway hosts on one PostgreSQL and a cluster of three Redis nodes, all in processes of their own, under load:
a host, a node and the database's connections go away in turn. Errors are counted, and no answer is wrong.
"""

import contextlib
import json
import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import lanjie
from lanjie._options import gateway_file
from lanjie_gateway.cli.gateway_file import CommandError
from loadtests.gateway import Desk
from loadtests.population import Population
from tests.support.gateway import joined
from tests.support.load import FREE, LISTED, Load, Subject, wage_row
from tests.support.postgres import PostgresServer
from tests.support.serve import run, serving
from tests.support.valkey import cluster, free_port

pytestmark = pytest.mark.drill

DATA = Path(__file__).parents[1] / "data"
CALLERS = 3


class Host:
    """A host's place: its state, its ports, and whoever serves there now."""

    def __init__(self, state: Path, **settings: str) -> None:
        self.state = state
        self.address, admin = (f"127.0.0.1:{free_port()}" for _ in range(2))
        self._options = ("--allow-examples", "--listen", self.address, "--admin", admin)
        self._settings = settings
        self._served = contextlib.ExitStack()

    def start(self) -> "Host":
        self._served.enter_context(serving(self.state, *self._options, **self._settings))
        return self

    def kill(self) -> None:
        """End the supervisor as kill -9 does; its children die with it."""
        control = json.loads((self.state / "gateway.json").read_text())["pid"]
        supervisor = int(Path(f"/proc/{control}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(supervisor, signal.SIGKILL)
        self._served.close()
        # Left behind by the dead; the next one writes its own when it is ready.
        (self.state / "gateway.json").unlink()

    def close(self) -> None:
        self._served.close()


class Wired(Load):
    """The load, its changes made over the admin listeners of real hosts."""

    @staticmethod
    def _settled(gateway: Any, subject: Subject, number: int, *, listed: bool) -> bool:
        try:
            if listed:
                return bool(gateway.import_rows([wage_row(subject.text, number)]).revision)
            for each in gateway.ids(subject.text, "WAGE"):
                gateway.remove(each)
        except (lanjie.LanjieError, CommandError):
            return False
        return True


class Authority(Desk):
    """Its desk at a host."""

    import_rows = Desk.take


@pytest.mark.long
@pytest.mark.parametrize("rounds", [3])
def test_what_goes_away_costs_answers_and_never_a_wrong_one(
    tmp_path: Path, postgres: PostgresServer, rounds: int
) -> None:
    url = postgres.database()
    figures: dict[str, list[float]] = {"host": [], "host back": [], "node": [], "node back": [], "database": []}
    unanswered: Counter[str] = Counter()
    with contextlib.ExitStack() as stack:
        nodes, redis_url = stack.enter_context(cluster())
        hosts: list[Host] = []
        for name in ("a", "b"):
            if hosts:
                joined(hosts[0].state, tmp_path / name)
            settings = {"ledger_url": url, "redis_url": redis_url, "index": "redis"}
            hosts.append(Host(tmp_path / name, **settings).start())
            stack.callback(hosts[-1].close)
        told = gateway_file(hosts[0].state / "gateway.json", "inquirer")
        published = run(
            "catalogue", "publish", str(DATA / "national.yaml"), gateway_file=hosts[0].state / "gateway.json"
        )
        assert published.code == 0, published.err
        told["target"] = f"ipv4:{','.join(host.address for host in hosts)}"
        clients = [stack.enter_context(lanjie.Client(**told, local=False)) for _ in range(CALLERS)]
        desks = [Authority(host.state / "gateway.json", Population(1, 0, free=0)) for host in hosts]
        for desk in desks:
            stack.enter_context(desk)
        with Wired(desks, clients) as load:  # type: ignore[arg-type]
            load.recovery(100)
            for turn in range(rounds):
                for fault in ("host", "node", "database"):
                    before = Counter(load.tally.answers)
                    if fault == "host":
                        hosts[turn % 2].kill()
                    elif fault == "node":
                        nodes[turn % 3].kill()
                    else:
                        assert postgres.cut(url) > 0
                    figures[fault].append(load.recovery())
                    begun = time.monotonic()
                    if fault == "host":
                        hosts[turn % 2].start()
                        figures["host back"].append(time.monotonic() - begun)
                    elif fault == "node":
                        time.sleep(3)  # longer than the cluster takes to notice
                        nodes[turn % 3].restart()
                        figures["node back"].append(load.recovery())
                    time.sleep(1)
                    lost = Counter(load.tally.answers) - before
                    unanswered[fault] += lost.total() - lost[LISTED] - lost[FREE]
        load.confirm()
    answers = load.answered()
    print(f"{answers} answers, {load.tally.changes} changes, {load.tally.unsettled} asked again, 0 wrong")
    for fault, seconds in figures.items():
        count = f", {unanswered[fault]} checks without an answer" if fault in unanswered else ""
        print(f"{fault}: answers again after {', '.join(f'{each:.2f}' for each in seconds)} s{count}")
    assert load.tally.changes > rounds
