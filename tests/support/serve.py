"""A real `lanjie serve` in processes of its own, and the command line run against it."""

import contextlib
import functools
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer.main

from lanjie_gateway.cli import main

_commands = functools.cache(typer.main.get_command)
LANJIE = [sys.executable, "-m", "lanjie_gateway.cli"]
READY_SECONDS = 180.0


@dataclass(frozen=True)
class Result:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its output, read as JSON."""
        return json.loads(self.out)


@contextlib.contextmanager
def serving(state: Path, *options: str, **settings: str) -> Iterator[Path]:
    """Run `lanjie serve` on free ports; yields the gateway file when it is ready.

    Args:
        state: state directory.
        options: of the command.
        settings: ``LANJIE_*`` variables, lower case and without the prefix.
    """
    file, log = state / "gateway.json", state.with_suffix(".log")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LANJIE_")}
    environment |= {f"LANJIE_{name.upper()}": value for name, value in settings.items()}
    command = [*LANJIE, "serve", "--state", str(state), "--listen", "127.0.0.1:0", *options]
    with log.open("wb") as stream:
        server = subprocess.Popen(command, stdout=stream, stderr=stream, env=environment)
    try:
        deadline = time.monotonic() + READY_SECONDS
        while not file.exists():
            assert server.poll() is None, log.read_text()[-2_000:]
            assert time.monotonic() < deadline, "not ready"
            time.sleep(0.02)
        yield file
    finally:
        server.terminate()
        server.wait(20)


def run(*arguments: str, gateway_file: Path | None = None, stdin: str = "") -> Result:
    """Run a command in this process: much quicker than a process for each.

    The command tree is made once: making it costs more than most commands.
    """
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["lanjie", *arguments])
        patch.setattr("typer.main.get_command", _commands)
        patch.setattr(sys, "stdin", io.StringIO(stdin))
        patch.setenv("COLUMNS", "110")
        patch.delenv("LANJIE_GATEWAY_FILE", raising=False)
        if gateway_file is not None:
            patch.setenv("LANJIE_GATEWAY_FILE", str(gateway_file))
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
            main()
    code = ended.value.code
    return Result(code if isinstance(code, int) else 1, out.getvalue(), err.getvalue())
