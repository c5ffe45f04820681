"""Measures the import of a big list, removals meanwhile, memory, and the start of a worker on what was imported.

python -m loadtests.imports STATE [--rows 1000000] [--json]      STATE is filled, and stays for the other drivers
"""

import argparse
import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import lanjie
from lanjie_gateway.cli.gateway_file import CommandError
from loadtests import gateway
from loadtests.beside import Beside
from loadtests.gateway import PURPOSE, SEED, Desk, Usage
from loadtests.population import COURT, MATTERS, Population
from loadtests.table import Row, report, row

EVERY = 0.05
STARTS = 3


class Watched(Beside):
    """Looks at control and its parser every so often: how much memory they used at the most."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        (self._control,) = gateway.children(file)["control"]
        self.before = self.after = self.most = Usage.of(self._control).megabytes
        self.parser = 0.0

    def _work(self) -> None:
        children = Path(f"/proc/{self._control}/task/{self._control}/children")
        while not self._stop.wait(EVERY):
            self.most = max(self.most, Usage.of(self._control).megabytes)
            for pid in children.read_text().split():
                with contextlib.suppress(OSError, KeyError):
                    self.parser = max(self.parser, Usage.of(int(pid)).megabytes)

    def _ended(self) -> None:
        self.after = Usage.of(self._control).megabytes

    @property
    def passing(self) -> float:
        """Megabytes that were used for a while and given back, or will be used again."""
        return self.most - max(self.before, self.after)


class Removals(Beside):
    """Removes listings, one after the other, while something else goes on."""

    def __init__(self, desk: Desk, subjects: list[str]) -> None:
        super().__init__()
        self._desk = desk
        self._subjects = subjects
        self.seconds: list[float] = []

    def _work(self) -> None:
        for listing in (each for subject in self._subjects for each in self._desk.ids(subject, COURT)):
            if self._stop.wait(EVERY):
                return
            begun = time.perf_counter()
            # One that was not made in time counts with the time that was waited for it.
            with contextlib.suppress(CommandError, lanjie.LanjieError):
                self._desk.remove(listing)
            self.seconds.append(time.perf_counter() - begun)


def measured(file: Path, population: Population, scratch: Path) -> list[Row]:
    """Import the population's list into an empty gateway that has the catalogue; return what that took."""
    passing: list[float] = []
    parsers: list[float] = []
    # A quarter as many of another list first: memory that grows with the file shows in the difference.
    rehearsal = Population(SEED + 1, len(population.live) // 4, free=0)
    before = (rehearsal.row(subject, COURT, f"{place}") for place, subject in enumerate(rehearsal.listed))
    paths = scratch / "quarter.csv", scratch / "whole.csv"
    for path, rows in zip(paths, (before, population.rows()), strict=True):
        gateway.write(path, rows)
    # Not in the big list, so that truth stays what the population says.
    own = [each for each in rehearsal.listed if each not in population.live]
    with Desk(file, population) as desk:
        with Watched(file) as watched:
            gateway.run(file, "list", "import", str(paths[0]))
        passing.append(watched.passing)
        parsers.append(watched.parser)
        quiet = Removals(desk, own[:20])
        with quiet:
            time.sleep(2)
        with Removals(desk, own[20:]) as removals, Watched(file) as watched:
            begun = time.perf_counter()
            gateway.run(file, "list", "import", str(paths[1]))
            seconds = time.perf_counter() - begun
        passing.append(watched.passing)
        parsers.append(watched.parser)
    count = len(population.live)
    waits = sorted(each * 1e3 for each in removals.seconds)
    return [
        row(f"import of {count:,} rows into SQLite, all included", [count / seconds], "rows/s", 10_000, at_least=True),
        row(f"removals meanwhile ({len(waits)}), slowest", waits[-1:], "ms", 100),
        row("removals meanwhile, p50", waits[len(waits) // 2 :][:1], "ms", None),
        row("removals without an import, slowest", [max(quiet.seconds) * 1e3], "ms", None),
        row("import, parser's memory for 4x the rows / 1x", [parsers[1] / parsers[0]], "x", 1.1),
        row("import, control's passing memory for 1x", passing[:1], "MB", None),
        row("import, control's passing memory for 4x", passing[1:], "MB", None),
    ]


def starts(file: Path, count: int) -> list[Row]:
    """Kill the worker and see how soon its follower answers; its memory."""
    # Time for what control writes to Redis by and by: a start without it is that of a machine without Redis.
    deadline = time.monotonic() + 600
    newest = _answer(file).revision
    while _copied(file) < newest and time.monotonic() < deadline:
        time.sleep(0.5)
    seconds = []
    (worker,) = gateway.children(file)["worker"]
    for _ in range(STARTS):
        os.kill(worker, signal.SIGKILL)
        begun = time.perf_counter()
        _answer(file)
        seconds.append(time.perf_counter() - begun)
        (worker,) = gateway.children(file)["worker"]
    return [
        row(f"start of a worker with {count:,} listings, from the death of another", seconds, "s", 5),
        row("memory of that worker", [Usage.of(worker).megabytes], "MB", None, 0),
    ]


def _answer(file: Path) -> lanjie.Decision:
    """Return the first answer of a worker that can prove what it says."""
    with lanjie.Client.from_file(file, local=False) as client:
        while (
            answer := client.check("uscc:91320199MA0000001A", matter=MATTERS[0], purpose=PURPOSE)
        ).reason is not None:
            time.sleep(0.01)
        return answer


def _copied(file: Path) -> int:
    """Return the revision that the copy in Redis is complete to."""
    import redis  # noqa: PLC0415  the gateway's own, behind its own socket

    from lanjie_gateway.adapters.state_lock import socket_directory  # noqa: PLC0415

    with redis.Redis(unix_socket_path=str(socket_directory(file.parent) / "redis.sock"), protocol=2) as client:
        heads = [client.get(key) for key in client.scan_iter("lanjie:*:head", count=1_000)]
        # Behind eight bytes that seal it.
        return max((int.from_bytes(head[8:16]) for head in heads if head), default=0)


@contextlib.contextmanager
def filled(state: Path, count: int) -> Iterator[tuple[Path, Population, list[Row]]]:
    """Run a gateway with a private Redis and import into it; yield its file, the subjects, and what was measured."""
    population = Population(SEED, count)
    with gateway.serving(state, redis_url="") as file:
        gateway.publish(file)
        rows = measured(file, population, state.parent)
        yield file, population, [*rows, *starts(file, count)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.imports", description=__doc__)
    parser.add_argument("state", type=Path, help="a directory that does not exist yet")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    with filled(options.state, options.rows) as (_, _, rows):
        report(rows, "imports", as_json=options.json)


if __name__ == "__main__":
    main()
