"""Counters as Locust users, over the SDK: 5.3 checks an approval, 0.6 % of them on listed subjects (see README.md).

Environment: ``LANJIE_GATEWAY_FILE``, and ``LANJIE_LISTED``, a file with one listed identifier a line (optional).
"""

import os
import random
import time
from pathlib import Path
from typing import Any

import grpc.experimental.gevent
from locust import User, between, events, task

import lanjie
from loadtests.histogram import Histogram

grpc.experimental.gevent.init_gevent()

HITS = 0.006
CHECKS = 5.3
LATENCIES = Histogram()


class Counter(User):
    """One counter. An approval checks the applicant for several matters."""

    wait_time = between(0.05, 0.15)

    def on_start(self) -> None:
        """Open a client without a local set: what is loaded is the gateway."""
        self.client_ = lanjie.Client.from_file(os.environ["LANJIE_GATEWAY_FILE"], local=False)
        path = os.environ.get("LANJIE_LISTED")
        self.listed = Path(path).read_text().split() if path else []

    def on_stop(self) -> None:
        """Close it."""
        self.client_.close()

    @task
    def approve(self) -> None:
        """Check one applicant."""
        draw = random.random()
        subject = random.choice(self.listed) if self.listed and draw < HITS else "uscc:91320199MA0000001A"
        for _ in range(int(CHECKS) + (random.random() < CHECKS % 1)):
            started = time.perf_counter()
            fault: Exception | None = None
            try:
                self.client_.check(subject, matter="tendering.bidder", purpose="load test")
            except lanjie.LanjieError as error:
                fault = error
            seconds = time.perf_counter() - started
            LATENCIES.add(seconds)
            events.request.fire(
                request_type="grpc", name="Check", response_time=seconds * 1000, response_length=0, exception=fault
            )


@events.test_stop.add_listener
def report(**_: Any) -> None:
    """Print microseconds, which Locust would round away."""
    values = ", ".join(f"p{share * 100:g} {LATENCIES.percentile(share):.0f} us" for share in (0.5, 0.9, 0.99, 0.999))
    print(f"{len(LATENCIES)} checks: {values}")
