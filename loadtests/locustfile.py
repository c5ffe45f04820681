"""Counters as Locust users, over the SDK: the mix of `population`, every answer compared with the truth.

Environment: ``LANJIE_GATEWAY_FILE``; ``LANJIE_LISTINGS``, the number of listings with which `loadtests.gateway` filled
the state (20000 when left out); ``LANJIE_LOCAL=1`` for SDKs with the local set; ``LANJIE_CHURN=1`` for imports and
removals beside the load, of subjects that the counters do not ask about.
"""

import os
import random
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import grpc.experimental.gevent
from locust import User, between, events, task
from locust.runners import MasterRunner, WorkerRunner

import lanjie
from loadtests.churn import MOVING, Churn
from loadtests.gateway import PURPOSE, SEED
from loadtests.histogram import Histogram
from loadtests.population import Population

grpc.experimental.gevent.init_gevent()

FILE = Path(os.environ.get("LANJIE_GATEWAY_FILE", "gateway.json"))
POPULATION = Population(SEED, int(os.environ.get("LANJIE_LISTINGS", "20000")))
STILL = POPULATION.companies[MOVING:]
MOVING_SUBJECTS, POPULATION.companies = POPULATION.companies[:MOVING], STILL
LATENCIES = Histogram()
OUTCOMES: Counter[str] = Counter()
BESIDE: list[Churn] = []


class WrongAnswer(Exception):
    """The worst that can happen."""


class Approvals(User):
    """One counter. An approval checks its applicant for some matters, and the clerk takes a while over each."""

    wait_time = between(0.05, 0.15)

    def on_start(self) -> None:
        """Open a client; without the local set what is loaded is the gateway."""
        self._scratch = tempfile.TemporaryDirectory(prefix="lanjie-locust-")
        local = os.environ.get("LANJIE_LOCAL") == "1"
        self._counter = lanjie.Client.from_file(FILE, state_dir=self._scratch.name, local=local)
        self._random = random.Random()

    def on_stop(self) -> None:
        """Close it."""
        self._counter.close()
        self._scratch.cleanup()

    @task
    def approve(self) -> None:
        """Check one applicant."""
        for subject, matter in POPULATION.approval(self._random):
            started = time.perf_counter()
            fault: Exception | None = None
            outcome = ""
            try:
                outcome = self._counter.check(subject, matter=matter, purpose=PURPOSE).outcome.name
            except lanjie.LanjieError as error:
                fault = error
            seconds = time.perf_counter() - started
            LATENCIES.add(seconds)
            OUTCOMES[outcome or type(fault).__name__] += 1
            if outcome not in ("", "UNDETERMINED", POPULATION.outcome(subject, matter)):
                fault = WrongAnswer(f"{outcome} instead of {POPULATION.outcome(subject, matter)}")
                OUTCOMES["wrong"] += 1
            kind = subject.partition(":")[0]
            events.request.fire(
                request_type=kind, name=matter, response_time=seconds * 1000, response_length=0, exception=fault
            )


@events.test_start.add_listener
def begin(environment: Any, **_: Any) -> None:
    """Begin the changes beside the load, once, wherever it is driven from."""
    if os.environ.get("LANJIE_CHURN") == "1" and not isinstance(environment.runner, WorkerRunner):
        BESIDE.append(Churn(FILE, POPULATION, MOVING_SUBJECTS))
        BESIDE[0].__enter__()


@events.report_to_master.add_listener
def tell(data: dict[str, Any], **_: Any) -> None:
    """Hand what a worker counted to the master."""
    data["lanjie"] = [dict(LATENCIES.counts), dict(OUTCOMES)]
    LATENCIES.counts.clear()
    OUTCOMES.clear()


@events.worker_report.add_listener
def told(data: dict[str, Any], **_: Any) -> None:
    """Add what a worker counted."""
    counts, outcomes = data.get("lanjie", ({}, {}))
    LATENCIES.counts.update({int(bucket): count for bucket, count in counts.items()})
    OUTCOMES.update(outcomes)


@events.quitting.add_listener
def report(environment: Any, **_: Any) -> None:
    """Print microseconds, which Locust would round away; a wrong answer ends the run with exit code 1."""
    if isinstance(environment.runner, WorkerRunner):
        return
    for churn in BESIDE:
        churn.__exit__()
        print(f"{churn.changes} listings and removals beside the load")
    print(f"{len(LATENCIES)} checks: {LATENCIES}; {dict(OUTCOMES)}")
    if OUTCOMES["wrong"] or not (len(LATENCIES) or isinstance(environment.runner, MasterRunner)):
        environment.process_exit_code = 1
