"""``./run bench``: a short form of every measurement, in one table with the targets.

Bounded in count and time, on loopback, on invented data, with servers of its own in a temporary directory. A part is a
module; `PARTS` and `ALONE` say what of it runs, with and without the gateway that the import filled.
"""

import argparse
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from loadtests import churn, growth, imports, matcher, openloop, races, sync
from loadtests.population import Population
from loadtests.table import Row, report

LISTINGS = 40_000
FULL = 1_000_000


def _sync(file: Path, _: Population, full: bool) -> list[Row]:  # noqa: FBT001  as the others
    return sync.short(file, full)


PARTS: dict[str, Callable[[Path, Population, bool], list[Row]]] = {
    "races": races.short,
    "loads": openloop.short,
    "churn": churn.short,
    "sync": _sync,
}
ALONE: dict[str, Callable[[bool], list[Row]]] = {"matcher": matcher.short, "growth": growth.short}


def measure(chosen: set[str], *, full: bool) -> list[Row]:
    """Run the chosen parts; return the rows of the table."""
    console = Console(stderr=True)
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    rows: list[Row] = []
    with Progress(*columns, console=console) as progress, tempfile.TemporaryDirectory(prefix="lanjie-bench-") as name:

        def part(what: str, run: Callable[[], list[Row]]) -> None:
            task = progress.add_task(what, total=1)
            rows.extend(run())
            progress.update(task, completed=1)

        for each, alone in ALONE.items():
            if each in chosen:
                part(each, lambda alone=alone: alone(full))  # type: ignore[misc]
        if chosen - ALONE.keys():
            task = progress.add_task("imports", total=1)
            with imports.filled(Path(name) / "state", FULL if full else LISTINGS) as (file, population, imported):
                rows += imported
                progress.update(task, completed=1)
                for each, run in PARTS.items():
                    if each in chosen:
                        part(each, lambda run=run: run(file, population, full))  # type: ignore[misc]
    return rows


def main() -> None:
    """Measure and print."""
    every = {*PARTS, *ALONE, "imports"}
    parser = argparse.ArgumentParser(prog="./run bench", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--full", action="store_true", help="a million listings, ten million in the growth series")
    parser.add_argument("--only", nargs="+", choices=sorted(every), default=sorted(every), help="some parts alone")
    options = parser.parse_args()
    begun = time.monotonic()
    rows = measure(set(options.only), full=options.full)
    python = f"{platform.python_implementation()} {platform.python_version()}"
    title = f"{python}, medians of rounds in turns, loopback, {time.monotonic() - begun:.0f} s in all"
    report(rows, title, as_json=options.json)


if __name__ == "__main__":
    main()
