"""A gateway with so many invented companies on its list, for the measurements of the sync.

    python -m loadtests.sync_gateway DIR COUNT      fill a state directory, once; a million takes minutes

A state that was filled is used again by `loadtests.sync --state DIR`.
"""

import contextlib
import csv
import datetime
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from lanjie_gateway.cli import invented

ROOT = Path(__file__).parents[1]
COMMAND = [sys.executable, "-m", "lanjie_gateway.cli"]
START_SECONDS = 180.0


@contextlib.contextmanager
def serving(state: Path) -> Iterator[Path]:
    """Run a gateway on a state directory, without Redis; yield its file when it is ready."""
    environment = {"PATH": "/usr/bin:/bin", "LANJIE_REDIS_URL": "none", "LANJIE_LOG_LEVEL": "warning"}
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


def companies(seed: int, count: int) -> Iterator[dict[str, str]]:
    """Yield rows of an invented wage list: companies only, because only they are in a view."""
    today = datetime.datetime.now(datetime.UTC).date()
    template = next(row for row in invented.listings(11, 500, today=today) if row["list_type"] == "TQNMGGZ")
    rng = random.Random(seed)
    for number in range(count):
        yield {
            **template,
            "id_number": invented.uscc(rng),
            "other_ids": "",
            "decision_no": f"示例列〔2026〕{number:07d}号",
            "source_record_id": f"L{seed}-{number:07d}",
            "related_persons": "",
        }


def write(path: Path, rows: Iterator[dict[str, str]]) -> None:
    """Write rows as a list file."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, invented.COLUMNS, restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def run(file: Path, *arguments: str) -> dict[str, object]:
    """Run a command against a gateway; return what it prints."""
    command = [*COMMAND, *arguments, "--gateway-file", str(file), "--json"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode not in (0, 3):
        raise SystemExit(
            f"{' '.join(arguments)}: {done.returncode} {done.stderr.strip()[-400:]} {done.stdout.strip()[-400:]}"
        )
    result: dict[str, object] = json.loads(done.stdout)
    return result


def fill(state: Path, count: int) -> None:
    """Publish the example catalogue and import `count` companies."""
    with serving(state) as file:
        run(file, "catalogue", "publish", str(ROOT / "examples" / "catalogues" / "national-example.yaml"))
        path = state.with_suffix(".csv")
        write(path, companies(11, count))
        started = time.monotonic()
        run(file, "list", "import", str(path))
        print(f"{count} companies imported in {time.monotonic() - started:.0f} s", file=sys.stderr)
        path.unlink()


if __name__ == "__main__":
    fill(Path(sys.argv[1]), int(sys.argv[2]))
