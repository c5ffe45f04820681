"""The counter of ``examples/counters/django_counter`` in a real gunicorn, and cases that come in all the time."""

import contextlib
import http.client
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.subjects import uscc

PROJECT = Path(__file__).parents[2] / "examples" / "counters" / "django_counter"
SECONDS = 10.0
PAUSE = 0.01
"""Seconds between two cases of one clerk: what is measured also wants a processor."""
_cases = itertools.count(1)


def until(holds: Callable[[], Any], seconds: float = SECONDS, what: str = "") -> Any:
    """Wait until something holds, and return it."""
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < deadline, f"not in {seconds} s: {what}"
        time.sleep(0.02)
    return found


def children(process: int) -> list[int]:
    """Return the process ids of the children of a process."""
    return [int(each) for each in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


@dataclass(frozen=True)
class Case:
    """One answer of the counter; instants are monotonic seconds."""

    number: str
    subject: str
    asked: float
    told: float
    worker: int
    outcome: str
    source: str
    revision: int


@dataclass
class Counter:
    """A running gunicorn, and how many workers it keeps."""

    process: "subprocess.Popen[bytes]"
    port: int
    size: int

    def get(self, address: str) -> Any:
        """Return the answer of whichever worker takes the request."""
        return self._call("GET", address, None)

    def accept(self, subject: str, number: str) -> Any:
        """Bring in a case."""
        return self._call("POST", "/cases/", urllib.parse.urlencode({"identifier": subject, "case_no": number}))

    def report(self, **told: str) -> Any:
        """Tell what an officer did about an answer."""
        return self._call("POST", "/feedback/", urllib.parse.urlencode(told))

    def workers(self) -> set[int]:
        """Return the process ids of the workers that live."""
        return set(children(self.process.pid))

    def statuses(self, seconds: float = SECONDS) -> dict[int, Any]:
        """Return what every worker says of its set."""
        found: dict[int, Any] = {}

        def ask() -> bool:
            status = self.get("/sync/")
            status["contact"] = time.monotonic() - (status["age_seconds"] or 0.0)
            found[status["worker"]] = status
            return self.workers() <= found.keys()

        until(ask, seconds, "an answer of every worker")
        return {worker: found[worker] for worker in self.workers()}

    def leader(self) -> int:
        """Return the worker that leads; 0 for none, or several."""
        leading = [worker for worker, status in self.statuses().items() if status["leads"]]
        return leading[0] if len(leading) == 1 else 0

    def all_fresh(self, since: float = 0.0) -> bool:
        """Whether every worker's set is fresh, with a contact since a monotonic instant."""
        return all(each["state"] == "fresh" and each["contact"] > since for each in self.statuses().values())

    def _call(self, method: str, address: str, body: str | None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        with contextlib.closing(connection):
            connection.request(method, address, body, {"Content-Type": "application/x-www-form-urlencoded"})
            response = connection.getresponse()
            content = response.read()
            assert response.status == 200, content[:500]
            return json.loads(content)


@contextlib.contextmanager
def counter(gateway_file: Path, state_dir: Path, port: int, log: Path, workers: int) -> Iterator[Counter]:
    """Run the counter with the configuration of the example, but for the number of its workers."""
    environment = {
        **os.environ,
        "LANJIE_GATEWAY_FILE": str(gateway_file),
        "LANJIE_STATE_DIR": str(state_dir),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-m", "gunicorn", "counter.wsgi", "--bind", f"127.0.0.1:{port}", f"--workers={workers}"]
    with log.open("wb") as stream:
        process = subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=stream, stderr=stream)
    made = Counter(process, port, workers)
    try:

        def answers() -> bool:
            assert process.poll() is None, log.read_text()[-2_000:]
            with contextlib.suppress(OSError):
                return bool(made.get("/sync/"))
            return False

        until(answers, what="gunicorn answers")
        yield made
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


@dataclass
class Cases:
    """Cases that come in from some threads until it is left: of free companies, and of those that `asked` names."""

    counter: Counter
    asked: list[str]
    threads: int = 4
    done: list[Case] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(self.threads)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def of(self, subject: str, since: float = 0.0) -> list[Case]:
        """Return the cases of a subject that were brought in since an instant."""
        return [case for case in tuple(self.done) if case.subject == subject and case.asked >= since]

    def first(self, subject: str, since: float, holds: Callable[[Case], bool]) -> dict[int, float]:
        """Return, for each worker, seconds from an instant to its first answer of a subject that `holds`."""
        first: dict[int, float] = {}
        for case in self.of(subject, since):
            if holds(case):
                first[case.worker] = min(first.get(case.worker, 1e9), case.told - since)
        return first

    def _run(self) -> None:
        while not self._stop.is_set():
            for subject in (*self.asked, uscc(500_000 + next(_cases))):
                number = f"case-{next(_cases)}"
                time.sleep(PAUSE)
                asked = time.monotonic()
                try:
                    answer = self.counter.accept(subject, number)
                except (OSError, http.client.HTTPException):
                    # Its worker was killed.
                    self.lost.append(number)
                    continue
                told = time.monotonic()
                facts = (answer["worker"], answer["outcome"], answer["source"], answer["revision"])
                self.done.append(Case(number, subject, asked, told, *facts))


def memory(workers: Sequence[int]) -> dict[int, dict[str, int]]:
    """Return, for each process, kilobytes by name as ``smaps_rollup`` tells them."""
    return {worker: _kilobytes(Path(f"/proc/{worker}/smaps_rollup").read_text()) for worker in workers}


def mapped(worker: int, part: str) -> dict[str, int]:
    """Return kilobytes by name of the mappings of files whose path holds `part`."""
    total: dict[str, int] = {}
    name = ""
    for line in Path(f"/proc/{worker}/smaps").read_text().splitlines():
        head = line.split()
        if not head[0].endswith(":"):
            name = line
        elif part in name and len(head) == 3 and head[2] == "kB":
            total[head[0][:-1]] = total.get(head[0][:-1], 0) + int(head[1])
    return total


def _kilobytes(text: str) -> dict[str, int]:
    rows = (line.split() for line in text.splitlines()[1:])
    return {row[0][:-1]: int(row[1]) for row in rows}
