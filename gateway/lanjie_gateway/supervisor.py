"""`lanjie serve`: supervises control (one), workers, and a private Redis server where none is given.

Children die with it and are restarted. It imports little, so that they (`lanjie_gateway.processes`) start at once.
"""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import structlog

from lanjie_gateway.adapters import redis_server
from lanjie_gateway.adapters.departments_file import read_departments
from lanjie_gateway.adapters.state_lock import SERVE, StateInUseError, hold, socket_directory
from lanjie_gateway.settings import Settings, configure_logs, log_foreign_by_place

STOP_SECONDS: Final = 15.0
RESTART_SECONDS: Final = 0.5
PORT_SECONDS: Final = 10.0
"""How long a port may still be held by the workers of a `serve` that was killed."""
FATAL: Final = 2
"""Exit code of a child that would only fail again: the supervisor stops."""
_log = structlog.get_logger("lanjie.supervisor")


def serve(settings: Settings) -> int:
    """Run the gateway until SIGTERM or SIGINT; return the exit code.

    Args:
        settings: port 0 of a listener picks one.
    """
    try:
        settings.check_listeners()
        if settings.tls is not None:
            from lanjie_gateway.adapters import certificates  # noqa: PLC0415  a gateway without TLS does not need it

            cert, key, client_ca = settings.tls
            certificates.read(certificates.CertificateFiles(cert=cert, key=key, client_ca=client_ca))
        settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        if settings.sockets is not None:
            settings.sockets.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.ExitStack() as held:
            held.enter_context(hold(settings.state, SERVE))
            ports = {"listen": held.enter_context(_reserved(settings.listen))}
            ports |= {name: _with_port(getattr(settings, name)) for name in ("feed", "admin")}
            if settings.tls is not None:
                ports["plain_listen"] = held.enter_context(_reserved(settings.plain_listen))
                ports |= {name: _with_port(getattr(settings, name)) for name in ("plain_feed", "plain_admin")}
            if settings.metrics.endswith(":0"):
                ports["metrics"] = _with_port(settings.metrics)
            settings = _with_departments(settings.model_copy(update={"state": settings.state.resolve(), **ports}))
            configure_logs(settings.log_level)
            log_foreign_by_place()
            return asyncio.run(_supervise(*_with_redis(settings)))
    except (StateInUseError, OSError, ValueError) as error:
        return _refuse(str(error))


def _refuse(message: str) -> int:
    sys.stderr.write(f"error: {message}\n")
    return FATAL


@contextlib.contextmanager
def _reserved(address: str) -> Iterator[str]:
    """Hold a port, so that all workers, and each new one, listen on the same."""
    _await_free(address)
    family, place = _place(address)
    with socket.socket(family) as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(place)
        yield f"{address.rpartition(':')[0]}:{held.getsockname()[1]}"


def _await_free(address: str) -> None:
    family, place = _place(address)
    deadline = time.monotonic() + PORT_SECONDS
    while True:
        # Sharing is among our own workers only: whoever else is on the port, even willing to share it, is in the way.
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(place)
            except OSError as error:
                if time.monotonic() > deadline:
                    raise OSError(f"{address} cannot be listened on: {error.strerror}") from None
            else:
                return
        time.sleep(0.1)


def _with_departments(settings: Settings) -> Settings:
    """Return the settings with the departments file as it stands: a child that is started later has the same.

    Raises:
        ValueError: it breaks a rule.
        OSError: it cannot be read.
    """
    content = read_departments(settings.state, settings.departments)
    if content:
        from lanjie_gateway.domain import departments  # noqa: PLC0415  most gateways have no other department

        departments.parse(content)
    return settings.model_copy(update={"departments_toml": content.decode()})


def _with_redis(settings: Settings) -> tuple[Settings, list[str]]:
    """Return the settings with the address of Redis, and the command of a private server if one is to run.

    Raises:
        ValueError: the index is to be in Redis and there is none, or its address is of no form that is known.
    """
    if settings.redis_url == "":
        binary = redis_server.find_binary()
        if binary is not None:
            path, directory = socket_directory(settings.state) / "redis.sock", settings.state / "redis"
            directory.mkdir(mode=0o700, exist_ok=True)
            for unfinished in directory.glob("temp-*.rdb"):
                unfinished.unlink()
            url = f"unix://{path}"
            return settings.model_copy(update={"redis_url": url}), redis_server.command(binary, path, directory)
        sys.stderr.write("warning: no valkey-server or redis-server found; going without\n")
    if not settings.has_redis:
        if settings.index == "redis":
            raise ValueError("LANJIE_INDEX=redis needs Redis: set LANJIE_REDIS_URL")
        return settings.model_copy(update={"redis_url": "none"}), []
    from lanjie_gateway.adapters import redis_client  # noqa: PLC0415  a gateway with a private server does not need it

    # It connects when it is first used.
    redis_client.connect(settings.redis_url, timeout=1.0)
    return settings, []


async def _supervise(settings: Settings, redis: list[str]) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    # Redis goes last: control may still be writing to it.
    alone = asyncio.Event()
    server = [asyncio.create_task(_keep("tether", redis, settings, alone))] if redis else []
    children = ["worker"] * settings.workers + ["control"]
    codes = await asyncio.gather(*(_keep("processes", [child], settings, stop) for child in children))
    alone.set()
    await asyncio.gather(*server)
    return max(codes)


async def _keep(module: str, arguments: list[str], settings: Settings, stop: asyncio.Event) -> int:
    """Run a child again and again until `stop`. Settings travel by pipe: an argument may be read by everybody."""
    while True:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", f"lanjie_gateway.{module}", str(os.getpid()), *arguments), stdin=subprocess.PIPE
        )
        assert child.stdin is not None  # noqa: S101  asked for above
        child.stdin.write(settings.model_dump_json().encode())
        child.stdin.close()
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
        _log.warning("child_ended", role=Path(arguments[0]).name, code=ended.result())
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
    """Return an address whose port, picked where 0 was asked for, was free a moment ago.

    Raises:
        OSError: somebody else is on it.
    """
    family, place = _place(address)
    if place[1]:
        _await_free(address)
        return address
    with socket.socket(family) as probe:
        probe.bind(place)
        return f"{address.rpartition(':')[0]}:{probe.getsockname()[1]}"


def _place(address: str) -> tuple[socket.AddressFamily, tuple[str, int]]:
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    return family, (host.strip("[]"), int(port))
