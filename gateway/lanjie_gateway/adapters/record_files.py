"""What is written down of the inquiry records outside the database, so that an older file of it is noticed (Art. 61).

``DIR/checkpoints.log``: signed checkpoints, one a line, each a JSON text. ``DIR/checkpoints.leaves``: the digest of
every record, 32 bytes each, in the order of the tree: it names the record where a checkpoint says that one is wrong.

Both are behind the ledger by a few seconds and never before it. What a power cut left half-written is cut off.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from lanjie_gateway.adapters.keys import sync_directory
from lanjie_gateway.domain.checkpoints import Checkpoint, NoteError
from lanjie_gateway.domain.merkle import HASH_BYTES

LOG: Final = "checkpoints.log"
LEAVES: Final = "checkpoints.leaves"
_TAIL: Final = 65_536


class RecordFiles:
    """The two files of a state directory.

    Args:
        state: the state directory.
    """

    def __init__(self, state: Path) -> None:
        self._log = state / LOG
        self._leaves = state / LEAVES

    @property
    def has_log(self) -> bool:
        """Whether any checkpoint was written down."""
        return self._log.exists() and self._log.stat().st_size > 0

    @property
    def written(self) -> int:
        """How many digests are written down."""
        return self._leaves.stat().st_size // HASH_BYTES if self._leaves.exists() else 0

    def notes(self, since: int = 0) -> list[str]:
        """Return the checkpoints, oldest first; a line that is none comes as it is.

        Args:
            since: those of fewer records may be left out; 0 for none.
        """
        if not self._log.exists():
            return []
        tail, size = _TAIL if since else 0, self._log.stat().st_size
        while True:
            notes = self._tail(tail if tail and tail < size else size)
            if not tail or tail >= size or (notes and _size_of(notes[0]) < since):
                return notes
            tail *= 4

    def last_note(self) -> str | None:
        """Return the newest checkpoint."""
        notes = self._tail(_TAIL) if self._log.exists() else []
        return notes[-1] if notes else None

    def _tail(self, count: int) -> list[str]:
        """Return the checkpoints in the last bytes, from the first whole line on."""
        with self._log.open("rb") as file:
            place = max(self._log.stat().st_size - count, 0)
            file.seek(place)
            lines = file.read().split(b"\n")
        return [_note(line.decode(errors="replace")) for line in lines[1 if place else 0 : -1]]

    def digests(self, start: int, count: int) -> bytes:
        """Return digests from a place on, as many as are there."""
        if not self._leaves.exists():
            return b""
        with self._leaves.open("rb") as file:
            file.seek(start * HASH_BYTES)
            found = file.read(count * HASH_BYTES)
        return found[: len(found) // HASH_BYTES * HASH_BYTES]

    def add_notes(self, notes: Iterable[str]) -> None:
        """Write checkpoints down, on the disk when this returns."""
        lines = b"".join(json.dumps(note, ensure_ascii=False).encode() + b"\n" for note in notes)
        whole = 0
        if self._log.exists():
            with self._log.open("rb") as file:
                size = self._log.stat().st_size
                file.seek(max(size - _TAIL, 0))
                tail = file.read()
            whole = size - len(tail) + tail.rfind(b"\n") + 1
        _append(self._log, whole, lines)

    def add_digests(self, digests: Iterable[bytes]) -> None:
        """Write digests down behind those that are there."""
        _append(self._leaves, self.written * HASH_BYTES, b"".join(digests))

    def put_aside(self, name: str) -> None:
        """Put the digests aside, of a ledger that a restore replaces."""
        if self._leaves.exists():
            self._leaves.rename(self._leaves.with_name(f"{LEAVES}.{name}"))


def _note(line: str) -> str:
    try:
        note = json.loads(line)
    except ValueError:
        return line
    return note if isinstance(note, str) else line


def _size_of(note: str) -> int:
    try:
        return Checkpoint.read(note).size
    except NoteError:
        return 0


def _append(path: Path, position: int, data: bytes) -> None:
    if not data:
        return
    fresh = not path.exists()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.truncate(position)
        file.seek(position)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    if fresh:
        sync_directory(path.parent)
