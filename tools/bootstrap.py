"""Builds environments of this repository from its lock files; ``run`` calls it when the stamp of ``.venv`` is stale.

Needs nothing but a Python with pip: pip puts the pinned uv into ``.uv``, uv creates the environment and installs the
locked third-party packages by their hashes, and for ``.venv`` then the three packages of this repository, editable.
What pip knows about mirrors and certificates is handed on to uv, which does not read pip's configuration.
"""

from __future__ import annotations

import ast
import contextlib
import fcntl
import functools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UV_HOME = ROOT / ".uv"
UV_LOCK = ROOT / "tools" / "uv.lock"
VENV = ROOT / ".venv"
MEMBERS = ("matcher", "sdk/python", "gateway")
# Everything else comes as wheels; the lock pins what builds this one, too.
SOURCE_ONLY = ("pybloom-live",)

# pip's option -> uv's variable, and what uv expects between several values.
PIP_TO_UV = {
    "index-url": ("UV_DEFAULT_INDEX", ""),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "trusted-host": ("UV_INSECURE_HOST", " "),
    "timeout": ("UV_HTTP_TIMEOUT", ""),
    "default-timeout": ("UV_HTTP_TIMEOUT", ""),
    "cert": ("SSL_CERT_FILE", ""),
}
# Who has set one of these has configured uv; pip's indexes then stay out of it.
UV_INDEX_SETTINGS = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS")


def pip(*arguments: str) -> list[str]:
    """Returns the command line of the pip outside every environment; environments made by uv have none."""
    base = getattr(sys, "_base_executable", None) or sys.executable
    return [base, "-m", "pip", "--disable-pip-version-check", *arguments]


@functools.cache
def pip_settings() -> dict[str, str]:
    """Returns pip's effective settings by option name; the environment wins, then ``[install]``."""
    loud = {**os.environ, "PIP_QUIET": "0"}
    listing = subprocess.run(pip("config", "list"), capture_output=True, text=True, check=False, env=loud).stdout
    found: dict[str, tuple[int, str]] = {}
    for line in listing.splitlines():
        key, _, value = line.partition("=")
        section, _, option = key.rpartition(".")
        rank = {"global": 0, "install": 1, ":env:": 2}.get(section)
        if rank is not None and rank >= found.get(option, (0, ""))[0]:
            found[option] = (rank, str(ast.literal_eval(value)))
    return {option: value for option, (_, value) in found.items()}


def uv_environment() -> dict[str, str]:
    """Returns the environment for uv: the caller's, and pip's mirrors and certificates where uv has none set."""
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    configured = any(environment.get(name) for name in UV_INDEX_SETTINGS)
    for option, value in pip_settings().items():
        name, separator = PIP_TO_UV.get(option, ("", ""))
        if name and not (configured and name in UV_INDEX_SETTINGS):
            environment.setdefault(name, separator.join(value.split()) if separator else value)
    environment.setdefault("UV_SYSTEM_CERTS", "1")
    environment.setdefault("UV_PYTHON_DOWNLOADS", "never")
    # As pip does it: all indexes are equal. The hashes in the lock files make that safe.
    environment.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    home = Path(environment.get("XDG_CACHE_HOME") or environment.get("HOME") or "/nonexistent")
    if "UV_CACHE_DIR" not in environment and not os.access(home, os.W_OK):
        environment["UV_CACHE_DIR"] = str(UV_HOME / "cache")
    return environment


def uv(*arguments: str) -> None:
    """Runs the pinned uv in the root of the repository, after installing it into ``.uv`` where it is not there yet.

    Raises:
        subprocess.CalledProcessError: pip or uv failed; its own message is already on stderr.
    """
    installed = UV_HOME / "installed"
    if not installed.exists() or installed.read_text() != UV_LOCK.read_text():
        options = ("--upgrade", "--no-warn-script-location", "--only-binary=:all:", "--require-hashes")
        # Settings that forbid --target, and a warning about root that does not apply to it.
        settings = {"PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0", "PIP_ROOT_USER_ACTION": "ignore"}
        command = pip("install", "-qq", *options, "--target", str(UV_HOME), "-r", str(UV_LOCK))
        subprocess.run(command, check=True, env={**os.environ, **settings})
        installed.write_text(UV_LOCK.read_text())
    subprocess.run([str(UV_HOME / "bin" / "uv"), "--quiet", *arguments], check=True, cwd=ROOT, env=uv_environment())


def create(venv: Path) -> None:
    """Creates an empty environment, in the place of whatever is there."""
    uv("venv", "--clear", "--no-project", "--python", sys.executable, str(venv))


def sync(venv: Path, lock: str) -> None:
    """Makes an environment hold exactly what a lock file lists, checking every hash, those of build tools included."""
    hashes = ("--require-hashes", "--build-constraints", lock)
    offline = ["--no-index"] if pip_settings().get("no-index", "").lower() in {"1", "true", "yes", "on"} else []
    sources = [part for name in SOURCE_ONLY for part in ("--no-binary", name)]
    # Compiled once here: `serve` starts three processes, and some machines are told never to write byte code.
    where = ("--compile-bytecode", "--python", str(venv))
    uv("pip", "sync", *where, *hashes, *offline, "--only-binary", ":all:", *sources, lock)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Holds the lock of this checkout, so that two callers at once do not build into each other's environment."""
    UV_HOME.mkdir(exist_ok=True)
    with (UV_HOME / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def up_to_date(venv: Path, stamp: str) -> bool:
    """Tells whether an environment was finished with this stamp."""
    mark = venv / "stamp"
    return (venv / "bin" / "python").exists() and mark.exists() and mark.read_text() == f"{stamp}\n"


def build(venv: Path, lock: str, stamp: str, editable: tuple[str, ...] = ()) -> None:
    """Brings an environment up to date in place and writes its stamp last.

    A stamp begins with the path of the checkout: environments do not survive being moved, so a moved one starts afresh.
    """
    with alone():
        if up_to_date(venv, stamp):
            return
        print(f"building the environment in {venv.name} ...", file=sys.stderr, flush=True)
        mark = venv / "stamp"
        moved = not mark.exists() or not mark.read_text().startswith(f"{ROOT} ")
        mark.unlink(missing_ok=True)
        if moved or not (venv / "bin" / "python").exists():
            create(venv)
        sync(venv, lock)
        if editable:
            members = [part for member in editable for part in ("--editable", member)]
            uv("pip", "install", "--python", str(venv), "--no-deps", "--no-build-isolation", *members)
        mark.write_text(f"{stamp}\n")


def main() -> int:
    """Builds ``.venv`` with the stamp given as the only argument; returns the exit code."""
    try:
        build(VENV, "requirements.lock", sys.argv[1], MEMBERS)
    except subprocess.CalledProcessError as error:
        print(f"could not build the environment: {Path(error.cmd[0]).name} failed", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
