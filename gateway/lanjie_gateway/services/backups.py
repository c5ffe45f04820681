"""Backups while everything goes on; see `adapters.backup` for what is in one and why it is consistent."""

import asyncio
import contextlib
import datetime
import errno
import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import structlog

from lanjie_gateway.adapters.backup import SEGMENTS, Order
from lanjie_gateway.adapters.frames import read_frame, write_frame
from lanjie_gateway.adapters.keys import KeysLostError, sync_directory
from lanjie_gateway.adapters.ledger import Ledger, LedgerThread
from lanjie_gateway.domain.access import Principal, Role
from lanjie_gateway.domain.errors import Unanswerable
from lanjie_gateway.services.acts import carried_through

PARTIAL: Final = ".partial"
_SPARE_BYTES: Final = 64 * 1024 * 1024
_COPYING: Final = "ledger"
_UNREACHABLE: Final = frozenset({"OperationalError", "InterfaceError", "DBAPIError"})
_NO_ROOM: Final = "the disk has no room for a backup below the state directory"
_log = structlog.get_logger("lanjie.backup")
Told = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup that was made."""

    path: Path
    revision: int
    sha256: bytes


class BackupService:
    """Makes backups, one at a time.

    Args:
        ledger: the ledger's thread.
        state: the state directory; backups are written to ``STATE/backup``.
        url: address of the ledger.
        version: of the program.
        clock: aware instants.
    """

    def __init__(
        self,
        ledger: LedgerThread,
        state: Path,
        url: str,
        version: str,
        clock: Callable[[], datetime.datetime],
    ) -> None:
        self._ledger = ledger
        self._state = state.resolve()
        self._url = url
        self._version = version
        self._clock = clock
        self._lock = asyncio.Lock()

    async def run(self, principal: Principal, told: Told) -> Backup:
        """Make a backup. A caller that leaves ends it, and nothing stays.

        Args:
            principal: who wants it.
            told: hears (part, done, total) as it goes on.

        Raises:
            Refused: NOT_PERMITTED.
            Unanswerable: OVERLOADED: another one is being made, or the disk is full; LEDGER_UNAVAILABLE: the ledger
                cannot be read, or a key of it is not here.
        """
        principal.require(Role.AGENCY)
        if self._lock.locked():
            raise Unanswerable("OVERLOADED", "another backup is being made", retry_after_ms="10000")
        async with self._lock:
            directory = self._state / "backup"
            directory.mkdir(mode=0o700, exist_ok=True)
            _sweep(directory)
            self._require_room(directory)
            try:
                made = await self._make(directory, told)
            except OSError as error:
                raise _failure(type(error).__name__, error.errno or 0) from error
            finally:
                _sweep(directory)
        _log.info("backup_made", revision=made.revision, actor=principal.actor)
        return made

    async def _make(self, directory: Path, told: Told) -> Backup:
        embedded = self._url.startswith("sqlite")
        order = Order(
            state=str(self._state),
            target=str(directory / f"backup{PARTIAL}"),
            url="" if embedded else self._url,
            copy=str(directory / f"ledger{PARTIAL}") if embedded else "",
            version=self._version,
        )
        async with _writer(order) as child:
            async for frame in _frames(child):
                if frame[0] == "progress":
                    told(*frame[1:])
                    if frame[1] == SEGMENTS:
                        if embedded:
                            await self._copy(Path(order.copy), told)
                        _pipe(child.stdin).write(b"\0")
                elif frame[0] == "failed":
                    raise _failure(frame[1], frame[2])
                else:
                    made_at = self._clock().astimezone(datetime.UTC)
                    path = directory / f"lanjie-{made_at:%Y%m%dT%H%M%SZ}-{frame[1]}.tar"
                    await asyncio.to_thread(_keep, Path(order.target), path)
                    return Backup(path, frame[1], frame[2])
        raise _failure("EOFError", 0)

    async def _copy(self, target: Path, told: Told) -> None:
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        copy = await self._ledger.call(Ledger.copy_to, target)
        try:
            done, total = 0, 1
            while done < total:
                done, total = await self._ledger.call(lambda _: copy.step())
                told(_COPYING, done, total)
        finally:
            await carried_through(self._ledger.call(lambda _: copy.close()))

    def _require_room(self, directory: Path) -> None:
        files = [*self._state.glob("ledger.sqlite3*"), *self._state.glob("inquiry/*")]
        size = 0
        for path in files:
            # Control deletes a segment that it has loaded.
            with contextlib.suppress(FileNotFoundError):
                size += path.stat().st_size
        # Twice: the copy, and the backup made of it.
        needed = 2 * size + _SPARE_BYTES
        if shutil.disk_usage(directory).free < needed:
            raise Unanswerable("OVERLOADED", f"{_NO_ROOM}; up to {needed >> 20} MiB are needed")


@contextlib.asynccontextmanager
async def _writer(order: Order) -> AsyncIterator[asyncio.subprocess.Process]:
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "lanjie_gateway.adapters.backup",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await write_frame(_pipe(child.stdin), asdict(order))
        yield child
    finally:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
        _pipe(child.stdin).close()
        if child.stdout is not None:
            await carried_through(child.stdout.read())
        await carried_through(child.wait())


async def _frames(child: asyncio.subprocess.Process) -> AsyncIterator[Any]:
    while child.stdout is not None and (frame := await read_frame(child.stdout)) is not None:
        yield frame


def _pipe(stdin: asyncio.StreamWriter | None) -> asyncio.StreamWriter:
    if stdin is None:
        raise BrokenPipeError("the writer has no input")
    return stdin


def _failure(kind: str, number: int) -> Exception:
    if number in (errno.ENOSPC, errno.EDQUOT):
        return Unanswerable("OVERLOADED", _NO_ROOM)
    if kind in _UNREACHABLE:
        return Unanswerable("LEDGER_UNAVAILABLE", "the ledger cannot be read; try again")
    if kind == KeysLostError.__name__:
        return Unanswerable("LEDGER_UNAVAILABLE", "keys/ lacks a key of the ledger: copy it from the host that has it")
    return RuntimeError(f"the backup failed: {kind}")


def _sweep(directory: Path) -> None:
    for path in directory.glob(f"*{PARTIAL}*"):
        path.unlink(missing_ok=True)


def _keep(partial: Path, path: Path) -> None:
    partial.rename(path)
    sync_directory(path.parent)
