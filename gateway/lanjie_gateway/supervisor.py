"""`lanjie serve`: supervises control (one) and workers (one for now). Children die with it and are restarted.

It imports little, so that the children (`lanjie_gateway.processes`) start at once.
"""

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Final

import structlog

from lanjie_gateway.adapters.state_lock import SERVE, StateInUseError, hold
from lanjie_gateway.settings import Settings, configure_logs

STOP_SECONDS: Final = 15.0
RESTART_SECONDS: Final = 0.5
FATAL: Final = 2
"""Exit code of a child that would only fail again: the supervisor stops."""
_log = structlog.get_logger("lanjie.supervisor")


def serve(state: Path, listen: str, feed: str, admin: str, *, allow_examples: bool) -> int:
    """Run the gateway until SIGTERM or SIGINT; return the exit code.

    Args:
        state: state directory; made when missing.
        listen: screening listener, HOST:PORT; port 0 picks one.
        feed: feed listener.
        admin: admin listener.
        allow_examples: take catalogues marked `example: true`.
    """
    for address in (listen, feed, admin):
        if address.rpartition(":")[0] not in ("127.0.0.1", "localhost", "[::1]"):
            sys.stderr.write(f"error: {address} is not on this machine; bearer tokens travel on loopback only\n")
            return FATAL
    settings = Settings(
        state=state.resolve(),
        listen=_with_port(listen),
        feed=_with_port(feed),
        admin=_with_port(admin),
        allow_examples=allow_examples,
    )
    configure_logs(settings.log_level)
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with hold(state, SERVE):
            return asyncio.run(_supervise(settings))
    except StateInUseError as error:
        sys.stderr.write(f"error: {error}\n")
        return FATAL


async def _supervise(settings: Settings) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    keepers = [asyncio.create_task(_keep(role, settings, stop)) for role in ("worker", "control")]
    codes = await asyncio.gather(*keepers)
    return max(codes)


async def _keep(role: str, settings: Settings, stop: asyncio.Event) -> int:
    """Run a child again and again until `stop`."""
    argument = settings.model_dump_json()
    while True:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "lanjie_gateway.processes", role, argument, str(os.getpid())
        )
        ended = asyncio.create_task(child.wait())
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({ended, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if stop.is_set():
            stopped.cancel()
            return await _end(child, ended)
        stopped.cancel()
        if ended.result() == FATAL:
            stop.set()
            return FATAL
        _log.warning("child_ended", role=role, code=ended.result())
        await asyncio.sleep(RESTART_SECONDS)


async def _end(child: asyncio.subprocess.Process, ended: "asyncio.Task[int]") -> int:
    if not ended.done():
        child.terminate()
        try:
            await asyncio.wait_for(asyncio.shield(ended), STOP_SECONDS)
        except TimeoutError:
            child.kill()
            await ended
    return 0


def _with_port(address: str) -> str:
    host, _, port = address.rpartition(":")
    if port != "0":
        return address
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((host.strip("[]"), 0))
        return f"{host}:{probe.getsockname()[1]}"
