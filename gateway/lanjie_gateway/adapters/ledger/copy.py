"""A copy of the SQLite file while the ledger is in use, by the ledger's own connection."""

import contextlib
import sqlite3
import threading
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from lanjie_gateway.adapters.ledger.rows import LedgerError

SLICE_PAGES: Final = 500
"""Pages of 4 KiB that one step copies: removals wait that long."""


class _StoppedError(Exception):
    """The copy is not wanted any more."""


class OnlineCopy:
    """A copy made in steps; what is written between two steps is in it (SQLite's backup interface sees to that).

    It goes over the ledger's own connection, because a second one on the live file would meet the WAL-reset race of
    SQLite 3.40. Python runs the whole copy in one call, so that call has a thread of its own, which moves only while
    `step` waits for it: the ledger's thread and this one never use the connection at once.

    Args:
        engine: of the ledger.
        target: a file that is there and empty.

    Raises:
        LedgerError: it is no SQLite ledger.
    """

    def __init__(self, engine: sa.Engine, target: Path) -> None:
        held = engine.raw_connection()
        source = held.driver_connection
        held.close()
        if not isinstance(source, sqlite3.Connection):
            raise LedgerError("only a SQLite ledger is copied page by page")
        self._source = source
        self._target = target
        self._go = threading.Semaphore(0)
        self._paused = threading.Semaphore(0)
        self._stopped = False
        self._error: BaseException | None = None
        self._pages = (0, 0)
        self._thread = threading.Thread(target=self._run, name="ledger-copy", daemon=True)
        self._thread.start()

    def step(self) -> tuple[int, int]:
        """Copy some pages, in the ledger's thread; return (pages done, pages in all), equal once the copy is whole.

        Raises:
            OSError, sqlite3.Error: the copy cannot be written.
        """
        self._go.release()
        self._paused.acquire()
        if self._error is not None:
            raise self._error
        left, total = self._pages
        return total - left, total

    def close(self) -> None:
        """Stop, in the ledger's thread; what was copied until now is of no use."""
        self._stopped = True
        self._go.release()
        self._thread.join()

    def _run(self) -> None:
        self._go.acquire()
        try:
            if self._stopped:
                return
            with contextlib.closing(sqlite3.connect(self._target, isolation_level=None)) as copy:
                for pragma in ("journal_mode=OFF", "synchronous=OFF"):
                    copy.execute(f"PRAGMA {pragma}").close()
                self._source.backup(copy, pages=SLICE_PAGES, progress=self._pause)
        except _StoppedError:
            pass
        except BaseException as error:  # noqa: BLE001  `step` raises it where it is waited for
            self._error = error
        finally:
            self._paused.release()

    def _pause(self, _status: int, left: int, total: int) -> None:
        self._pages = (left, total)
        if left:
            self._paused.release()
            self._go.acquire()
            if self._stopped:
                raise _StoppedError
