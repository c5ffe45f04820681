"""A gateway of its own on invented data, its people at the desk, and what its processes use.

    python -m loadtests.gateway STATE COUNT     fill a state directory, once; a million takes minutes
    python -m loadtests.gateway STATE           serve it until Ctrl-C or SIGTERM

A state that was filled is used again by `loadtests.sync --state DIR` and by `locustfile.py`.
"""

import contextlib
import csv
import hashlib
import io
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from lanjie.v1 import listing_pb2 as pb
from lanjie_gateway.cli import invented
from lanjie_gateway.cli.admin import Connection
from lanjie_gateway.cli.gateway_file import Listener, Person, Target
from loadtests.population import Population, Row

ROOT = Path(__file__).parents[1]
SETTLED_SECONDS = 1.5
"""Longer than control waits between two looks for records."""
SETTLED_SHARE = 0.05
COMMAND = [sys.executable, "-m", "lanjie_gateway.cli"]
START_SECONDS = 180.0
PURPOSE = "measurement"
SEED = 7


@contextlib.contextmanager
def serving(state: Path, **settings: str) -> Iterator[Path]:
    """Run a gateway on a state directory; yield its file when it is ready.

    Args:
        state: state directory.
        settings: ``LANJIE_*`` variables, lower case and without the prefix. Without others there is no Redis, and
            natural persons are asked about in any number, which is what a load does.
    """
    chosen = {
        "redis_url": "none",
        "log_level": "error",
        "persons_per_day": "0",
        "persons_per_day_officer": "0",
        "detectors": "alarm",
    }
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LANJIE_")}
    environment |= {f"LANJIE_{name.upper()}": value for name, value in (chosen | settings).items() if value}
    server = subprocess.Popen(
        [*COMMAND, "serve", "--state", str(state), "--listen", "127.0.0.1:0", "--allow-examples"], env=environment
    )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not (state / "gateway.json").exists():
            if time.monotonic() > deadline or server.poll() is not None:
                raise SystemExit("the gateway did not start")
            time.sleep(0.02)
        yield state / "gateway.json"
    finally:
        server.terminate()
        server.wait(30)


def write(path: Path, rows: Iterable[Row]) -> None:
    """Write rows as a list file."""
    with path.open("w", encoding="utf-8", newline="") as file:
        _write(file, rows)


def _write(file: io.TextIOBase | Any, rows: Iterable[Row]) -> None:
    writer = csv.DictWriter(file, invented.COLUMNS, restval="", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)


def run(file: Path, *arguments: str) -> dict[str, Any]:
    """Run a command against a gateway; return what it prints."""
    command = [*COMMAND, *arguments, "--gateway-file", str(file), "--json"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode not in (0, 3):
        raise SystemExit(
            f"{' '.join(arguments)}: {done.returncode} {done.stderr.strip()[-400:]} {done.stdout.strip()[-400:]}"
        )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def publish(file: Path) -> None:
    """Publish the example catalogue that `population.EFFECTS` was read from."""
    run(file, "catalogue", "publish", str(ROOT / "examples" / "catalogues" / "national-example.yaml"))


class Desk:
    """Lists and removes subjects over the admin listener, one call each, as an authority does."""

    _numbers = itertools.count(time.time_ns())

    def __init__(self, file: Path, population: Population) -> None:
        self._admin = Connection(Target(gateway_file=file).endpoint(Listener.ADMIN, Person.AUTHORITY))
        self._population = population

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._admin.channel.close()

    def take(self, rows: Iterable[Row]) -> pb.ImportReceipt:
        """Import rows as one file; return the receipt."""
        text = io.StringIO(newline="")
        _write(text, rows)
        content = text.getvalue().encode()
        digest, size = hashlib.sha256(content).digest(), len(content)
        header = pb.ImportHeader(file_name="measured.csv", format=pb.FILE_FORMAT_CSV, sha256=digest, size=size)
        pieces = (content[start : start + 250_000] for start in range(0, len(content), 250_000))
        sent = itertools.chain((pb.ImportRequest(header=header),), (pb.ImportRequest(data=each) for each in pieces))
        receipt: pb.ImportReceipt = self._admin.call(self._admin.listings.Import, sent, seconds=3_600).receipt
        if receipt.quarantined or receipt.state != pb.IMPORT_STATE_COMMITTED:
            raise SystemExit(f"a file was not taken: {receipt.state}, {receipt.reasons} {receipt.quarantine[:1]}")
        return receipt

    def enter(self, subject: str, list_type: str) -> int:
        """List a subject by a new decision; return the revision."""
        return int(self.take([self._population.row(subject, list_type, f"{next(self._numbers)}")]).revision)

    def ids(self, subject: str, list_type: str) -> list[str]:
        """Return the ids of a subject's listings of a type that are in force."""
        asked = pb.FindRequest(identifier=subject, purpose=PURPOSE)
        found = self._admin.call(self._admin.listings.Find, asked).listings
        return [each.listing_id for each in found if each.list_type == list_type and each.in_force]

    def events(self, listing_id: str) -> list[pb.ListingEvent]:
        """Return what happened to a listing."""
        asked = pb.GetRequest(listing_id=listing_id, purpose=PURPOSE)
        return list(self._admin.call(self._admin.listings.Get, asked).events)

    def remove(self, listing_id: str) -> int:
        """Remove a listing; return the revision."""
        asked = pb.RemoveRequest(listing_id=listing_id, reason=PURPOSE, document="示例文号")
        return int(self._admin.call(self._admin.listings.Remove, asked).revision)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process uses: resident megabytes, file descriptors, threads; seconds of a processor so far."""

    megabytes: float
    files: int
    threads: int
    seconds: float

    @classmethod
    def of(cls, pid: int) -> "Usage":
        """Look at a process."""
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        files = len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208  names alone
        ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        seconds = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
        return cls(int(status["VmRSS"].split()[0]) / 1024, files, int(status["Threads"]), seconds)


def children(file: Path) -> dict[str, list[int]]:
    """Return the process ids of a gateway's children by role."""
    control = json.loads(file.read_text())["pid"]
    supervisor = Path(f"/proc/{control}/stat").read_text().rpartition(")")[2].split()[1]
    found: dict[str, list[int]] = {}
    for pid in Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split():
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        role = next((each for each in ("control", "worker") if each.encode() in words), "redis")
        found.setdefault(role, []).append(int(pid))
    return found


def settle(pid: int, most: float = 60.0) -> None:
    """Wait, at most `most` seconds, until a process has nothing to do but its rounds."""
    until, used = time.monotonic() + most, Usage.of(pid).seconds
    while time.monotonic() < until:
        time.sleep(SETTLED_SECONDS)
        before, used = used, Usage.of(pid).seconds
        if used - before < SETTLED_SECONDS * SETTLED_SHARE:
            return


def fill(state: Path, count: int) -> Population:
    """Publish the example catalogue and import the wage list of `count` subjects."""
    population = Population(SEED, count)
    with serving(state) as file:
        publish(file)
        path = state.with_suffix(".csv")
        write(path, population.rows())
        started = time.monotonic()
        run(file, "list", "import", str(path))
        print(f"{count} listings imported in {time.monotonic() - started:.0f} s", file=sys.stderr)
        path.unlink()
    return population


if __name__ == "__main__":
    if len(sys.argv) > 2:
        fill(Path(sys.argv[1]), int(sys.argv[2]))
    else:
        # Also from the background, where a shell has interrupts ignored.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)
        with serving(Path(sys.argv[1])) as served, contextlib.suppress(KeyboardInterrupt):
            print(served, flush=True)
            while True:
                time.sleep(3_600)
