"""`lanjie demo`: the main job on invented data, from an empty directory to a removal that works at once.

It starts a gateway of its own in a directory of its own, and ends it. Nothing it shows exists: the subjects are made
up (`invented`), the catalogues are the examples of the repository. The answers are verified against what was made up.
"""

import contextlib
import datetime
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import typer
from rich.console import Console

from lanjie_gateway.cli import render
from lanjie_gateway.cli.gateway_file import AsJson, CommandError, Listener, Person, Target
from lanjie_matcher.civil_time import SHANGHAI

SEED: Final = 20_260_101
LISTINGS: Final = 20_000
START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 20.0
VERIFICATION_FAILED: Final = 1
CATALOGUES: Final = ("national-example.yaml", "jiangsu-example.yaml", "nanjing-example.yaml")
"""Highest level first: a lower catalogue names list types and matters of a higher one."""


class VerificationError(Exception):
    """An answer is not what the made-up data say it must be."""


def demo(
    state: Annotated[
        Path | None, typer.Option("--state", help="Empty directory to work in; a temporary one when left out.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the temporary directory.")] = False,
    as_json: AsJson = False,
) -> None:
    """Walk through the main job on invented data: counter checks, a tender, timings, a removal."""
    from lanjie_gateway.cli.demo_walk import Walk

    console = render.console()
    console.quiet = as_json
    examples = example_catalogues()
    started = time.perf_counter()
    today = datetime.datetime.now(SHANGHAI).date()
    with _directory(state, keep=keep) as directory, _ending_on_signals(), running_gateway(directory) as wait_ready:
        # Made up while the gateway starts.
        rows = make_listings(directory / "invented.csv", today)
        gateway_file = wait_ready()
        console.print("lanjie demo: every subject, listing, authority and catalogue is invented", style="bold")
        console.print(f"gateway ready after {time.perf_counter() - started:.1f} s in {directory}")
        target = Target(gateway_file=gateway_file)
        publish(target, examples, console)
        import_listings(target, directory / "invented.csv", console, quiet=as_json)
        walk = Walk(target, directory / "sdk", rows, today, console, seed=SEED)
        try:
            facts = walk.all()
        except VerificationError as error:
            raise CommandError(f"verification failed: {error}", VERIFICATION_FAILED) from None
    seconds = time.perf_counter() - started
    if as_json:
        render.emit({"invented": True, **facts, "seconds": round(seconds, 1)})
    console.print(f"all answers are as the invented data say they must be; {seconds:.1f} s in all", style="bold green")


def example_catalogues() -> list[Path]:
    """Return the example catalogues of the repository this is installed from, or of the working directory.

    Raises:
        CommandError: they are in neither.
    """
    for root in (*Path(__file__).resolve().parents, Path.cwd(), *Path.cwd().parents):
        found = [root / "examples" / "catalogues" / name for name in CATALOGUES]
        if all(path.is_file() for path in found):
            return found
    raise CommandError(
        "the demo needs examples/catalogues of the repository: run it inside a checkout, or `./run demo`"
    )


@contextlib.contextmanager
def _directory(state: Path | None, *, keep: bool) -> Iterator[Path]:
    if state is not None:
        if state.exists() and (not state.is_dir() or any(state.iterdir())):
            raise CommandError(
                f"{state} is not an empty directory; the demo never works on lists that are there already"
            )
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        yield state
        return
    directory = Path(tempfile.mkdtemp(prefix="lanjie-demo-"))
    try:
        yield directory
    finally:
        if not keep:
            shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def _ending_on_signals() -> Iterator[None]:
    """Let a termination unwind like an interrupt, so that the gateway this started ends with it."""

    def end(number: int, _frame: object) -> NoReturn:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def running_gateway(state: Path) -> Iterator[Callable[[], Path]]:
    """Run `lanjie serve` as a child; yields a function that waits until it is ready and returns its gateway file."""
    file, log = state / "gateway.json", state / "serve.log"
    # What the environment sets for a real gateway, its ledger above all, is not for this one.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LANJIE_")}
    command = [sys.executable, "-m", "lanjie_gateway.cli", "serve", "--state", str(state), "--allow-examples"]
    with log.open("wb") as stream:
        child = subprocess.Popen(  # noqa: S603  this very program
            [*command, "--listen", "127.0.0.1:0"],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            env=environment,
        )

    def wait_ready() -> Path:
        deadline = time.monotonic() + START_SECONDS
        while not file.exists():
            if child.poll() is not None or time.monotonic() > deadline:
                raise CommandError(f"the gateway did not start: {_last_line(log)}")
            time.sleep(0.02)
        return file

    try:
        yield wait_ready
    finally:
        child.terminate()
        try:
            child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def publish(target: Target, files: list[Path], console: Console) -> None:
    """Publish the example catalogues."""
    from lanjie.v1 import catalogue_pb2
    from lanjie_gateway.cli import signatures
    from lanjie_gateway.cli.admin import connect
    from lanjie_gateway.domain.signing import SignedKind

    editions: list[Any] = []
    with connect(target.endpoint(Listener.ADMIN, Person.MANAGER)) as admin:
        for file in files:
            content = file.read_bytes()
            signed = signatures.signature_of(target, SignedKind.CATALOGUE, content, signing_key=None, signature=None)
            request = catalogue_pb2.PublishRequest(file=content, file_name=file.name, **signatures.fields(signed))
            editions.append(admin.call(admin.catalogues.Publish, request).edition)
    _heading(console, "measure lists published")
    console.print(render.editions_table(editions))


def make_listings(file: Path, today: datetime.date) -> list[dict[str, str]]:
    """Make up listings of all list types, and write them as a list file."""
    from lanjie_gateway.cli import invented

    rows = list(invented.listings(SEED, LISTINGS, today=today))
    invented.write_csv(file, rows)
    return rows


def import_listings(target: Target, file: Path, console: Console, *, quiet: bool) -> None:
    """Import the listings as an operator does; a second person confirms if asked to."""
    from lanjie.v1 import listing_pb2
    from lanjie_gateway.cli import lists
    from lanjie_gateway.cli.admin import IMPORT_SECONDS, connect

    header = lists.import_header(file, list_type="", source="", mode="delta", strict=True, dry_run=False)
    started = time.perf_counter()
    with connect(target.endpoint(Listener.ADMIN, Person.AUTHORITY)) as admin:
        receipt = lists.send_file(admin, file, header, quiet=quiet)
    if lists.exit_code(receipt) == lists.WAITING:
        with connect(target.endpoint(Listener.ADMIN, Person.REVIEWER)) as admin:
            request = listing_pb2.ConfirmRequest(receipt_id=receipt.receipt_id)
            receipt = admin.call(admin.listings.Confirm, request, seconds=IMPORT_SECONDS).receipt
    seconds = time.perf_counter() - started
    _heading(console, f"{LISTINGS:,} listings imported in {seconds:.1f} s ({LISTINGS / seconds:,.0f} rows/s)")
    console.print(render.receipt_panel(receipt, "import receipt"))
    if lists.exit_code(receipt) != lists.DONE:
        raise CommandError("verification failed: the invented listings were not all taken", VERIFICATION_FAILED)


def _heading(console: Console, text: str) -> None:
    console.print()
    console.rule(f"{text} · invented data", style="dim", align="left")
