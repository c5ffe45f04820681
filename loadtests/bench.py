"""``./run bench``: the short form. Local passes and confirmed answers beside a bare grpc.aio echo, in turns.

Bounded: a few seconds a row, loopback only, its own gateway on invented data in a temporary directory.
"""

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

import lanjie
from lanjie_gateway.cli import invented
from loadtests import sync
from loadtests.histogram import Histogram
from loadtests.table import print_table, row

ROOT = Path(__file__).parents[1]
ROUNDS = 3
MATTER = "tendering.bidder"
PURPOSE = "measurement"


@contextmanager
def echo_server(size: int) -> Iterator[Callable[[bytes], bytes]]:
    """Run a bare grpc.aio server that answers `size` bytes, in a process of its own; yield a call."""
    script = (
        "import asyncio, grpc, sys\n"
        "async def main():\n"
        "    answer = b'x' * int(sys.argv[1])\n"
        "    async def echo(request, context):\n"
        "        return answer\n"
        "    server = grpc.aio.server()\n"
        "    handler = grpc.unary_unary_rpc_method_handler(echo)\n"
        "    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler('echo.Echo', {'Echo': handler}),))\n"
        "    print(server.add_insecure_port('127.0.0.1:0'), flush=True)\n"
        "    await server.start()\n"
        "    await server.wait_for_termination()\n"
        "asyncio.run(main())\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(size)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        with grpc.insecure_channel(f"127.0.0.1:{process.stdout.readline().strip()}") as channel:
            echo: Any = channel.unary_unary("/echo.Echo/Echo")
            yield echo
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


@contextmanager
def gateway(rows: int) -> Iterator[tuple[Path, list[dict[str, str]]]]:
    """Run a gateway with invented listings; yield its file and the rows."""
    with tempfile.TemporaryDirectory(prefix="lanjie-bench-") as scratch:
        state = Path(scratch) / "state"
        command = [sys.executable, "-m", "lanjie_gateway.cli"]
        server = subprocess.Popen(
            [*command, "serve", "--state", str(state), "--listen", "127.0.0.1:0", "--allow-examples"]
        )
        try:
            deadline = time.monotonic() + 30
            while not (state / "gateway.json").exists():
                if time.monotonic() > deadline or server.poll() is not None:
                    raise SystemExit("bench: the gateway did not start")
                time.sleep(0.05)
            told = ["--gateway-file", str(state / "gateway.json"), "--json"]
            for name in ("national", "jiangsu", "nanjing"):
                path = ROOT / "examples" / "catalogues" / f"{name}-example.yaml"
                subprocess.run([*command, "catalogue", "publish", str(path), *told], check=True, capture_output=True)
            listed = list(invented.listings(7, rows, today=datetime.datetime.now(datetime.UTC).date()))
            path = Path(scratch) / "list.csv"
            invented.write_csv(path, listed)
            imported = subprocess.run([*command, "list", "import", str(path), *told], check=False, capture_output=True)
            if imported.returncode not in (0, 3):
                raise SystemExit("bench: the import failed")
            yield state / "gateway.json", listed
        finally:
            server.terminate()
            server.wait(20)


def timed(call: Callable[[], Any], times: int) -> Histogram:
    """Time a call so many times."""
    histogram = Histogram()
    for _ in range(times):
        started = time.perf_counter()
        call()
        histogram.add(time.perf_counter() - started)
    return histogram


def measure(rows: int, full: bool) -> list[dict[str, Any]]:  # noqa: FBT001  an argument of the command line
    """Run all races; return the rows of the table."""
    times = 4_000 if full else 800
    with gateway(rows) as (file, listed), lanjie.Client.from_file(file) as client:
        client.wait_ready(timeout=60)
        companies = [row["id_number"] for row in listed if row["id_kind"] == "uscc" and not row.get("removed")]
        subject = f"uscc:{companies[0]}"
        unlisted = "uscc:91320199MA0000001A"
        person = "citizen:320199198001010010"

        def check(identifier: str, matter: str) -> Callable[[], Any]:
            return lambda: client.check(identifier, matter=matter, purpose=PURPOSE)

        effect_matter = MATTER
        for matter in (MATTER, "procurement.supplier", "supervision.inspection", "honour.award", "funds.fiscal"):
            if client.check(subject, matter=matter, purpose=PURPOSE).outcome is not lanjie.Outcome.PASS:
                effect_matter = matter
                break
        results: dict[str, list[float]] = {}
        with echo_server(400) as echo:
            payload = b"x" * 120
            for _ in range(ROUNDS):
                base = timed(lambda: echo(payload), times)
                confirmed = timed(check(person, MATTER), times)
                effect = timed(check(subject, effect_matter), times)
                local = timed(check(unlisted, MATTER), times * 10)
                for name, value in (
                    ("local pass, p50", local.percentile(0.5)),
                    ("local pass, p99", local.percentile(0.99)),
                    ("bare grpc.aio echo, p50", base.percentile(0.5)),
                    ("bare grpc.aio echo, p99", base.percentile(0.99)),
                    ("confirmed answer without effect / echo, p50", confirmed.percentile(0.5) / base.percentile(0.5)),
                    ("confirmed answer without effect / echo, p99", confirmed.percentile(0.99) / base.percentile(0.99)),
                    (
                        "confirmed answer with effect, durable / echo, p50",
                        effect.percentile(0.5) / base.percentile(0.5),
                    ),
                ):
                    results.setdefault(name, []).append(value)
    targets = {
        "local pass, p50": 4.0,
        "confirmed answer without effect / echo, p50": 1.2,
        "confirmed answer without effect / echo, p99": 1.3,
        "confirmed answer with effect, durable / echo, p50": 1.8,
    }
    return [row(name, values, "x" if "/" in name else "us", targets.get(name)) for name, values in results.items()]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="./run bench", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--full", action="store_true", help="more listings and more calls")
    options = parser.parse_args()
    rows = measure(100_000 if options.full else 20_000, options.full)
    rows += sync.short(options.full)
    if options.json:
        print(json.dumps({"rows": rows}, indent=2))
        return
    print_table(rows, f"medians of {ROUNDS} rounds in turns, one caller, loopback")


if __name__ == "__main__":
    main()
