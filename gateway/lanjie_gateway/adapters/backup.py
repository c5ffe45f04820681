r"""Backups: what a file of one holds, and the process that writes it.

A backup is a tar archive of

* ``segments/*``: inquiry records that may not be in the ledger yet,
* ``keys/*`` and ``tokens/*``,
* ``tables/TABLE/NNNN``: rows of the ledger, one msgpack array a row, in the order of their primary keys,
* ``manifest.json``, the last one: format, version, lineage, epoch, revision and schema, columns and number of rows of
  every table, length and SHA-256 of every part. A file that was cut short has none.

Rows are logical: a backup of SQLite is restored into PostgreSQL and the other way round.

Why it is consistent while everything goes on:

1. Segments are copied first, then the ledger as of one later instant. A record moves from a segment into the ledger
   together with the position up to which the segment was read, in one transaction, and a segment is deleted only when
   all of it is in the ledger. So a record that was written before the backup began is in the copied segment, or its
   segment was gone already and it is in the ledger; what is in both is told by the position, which counts bytes of a
   file that only ever grows, and by (source, number), which the ledger holds once.
2. Tables come from one snapshot: a copy of the SQLite file made by the ledger's own connection, or one repeatable-read
   transaction of PostgreSQL. An import that is on its way is in it, invisible; opening the restored ledger throws it
   away as after a crash.
3. Keys and tokens are made once, before anything refers to them. A host that lacks the view key of the ledger, because
   another one made it, makes no backup: nobody could restore it.

Run as ``python -m lanjie_gateway.adapters.backup``: reading a million listings would hold the interpreter of a serving
process. On stdin: the order, one frame; later one byte once the ledger's copy is whole; its end ends the child. On
stdout: frames ``("progress", part, done, total)`` and at last ``("done", revision, sha256)`` or ``("failed", kind,
errno)``; `SEGMENTS` as part means that step 1 is over. A frame is four bytes of length, big-endian, and msgpack.
"""

import datetime
import hashlib
import io
import json
import os
import sqlite3
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final
from urllib.parse import quote

import msgpack
import sqlalchemy as sa

from lanjie_gateway.adapters.keys import RESTORING, KeysLostError, open_keys
from lanjie_gateway.adapters.ledger.database import schema_of
from lanjie_gateway.adapters.ledger.tables import HEAD, METADATA
from lanjie_gateway.adapters.segments import read_records

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
SEGMENTS: Final = "segments"
CHUNK_BYTES: Final = 4 * 1024 * 1024
"""A part of a table is closed once it is this long."""
_FETCH_ROWS: Final = 2_000
_NICENESS: Final = 5
"""Checks go first."""


@dataclass(frozen=True, slots=True)
class Table:
    """What the manifest says of a table."""

    columns: list[str]
    rows: int


@dataclass(frozen=True, slots=True)
class Part:
    """What the manifest says of a part."""

    name: str
    size: int
    sha256: str


@dataclass(slots=True, kw_only=True)
class Manifest:
    """What a backup says of itself.

    Attributes:
        format: version of the layout.
        version: of the program that wrote it.
        created: aware instant in ISO 8601.
        lineage: of the ledger, as are epoch and revision.
        schema: revision of the tables.
        tables: by name.
        parts: in the order of the file.
    """

    version: str
    created: str
    format: int = FORMAT
    lineage: str = ""
    epoch: int = 0
    revision: int = 0
    schema: str = ""
    tables: dict[str, Table] = field(default_factory=dict)
    parts: list[Part] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What the writer is to do. `copy` is the copied SQLite file; empty: the ledger is read at `url`."""

    state: str
    target: str
    url: str = field(repr=False)
    copy: str
    version: str


class _Hashed(io.RawIOBase):
    """A file that is hashed as it is written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = 0
        self.sha256 = hashlib.sha256()

    def tell(self) -> int:
        return self._size

    def write(self, data: Any) -> int:
        self.sha256.update(data)
        self._size += len(data)
        return self._file.write(data)


class _Archive:
    """The file on its way."""

    def __init__(self, file: _Hashed, manifest: Manifest) -> None:
        self._tar = tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115  see `finish`
        self._created = datetime.datetime.fromisoformat(manifest.created).timestamp()
        self.manifest = manifest

    def add(self, name: str, data: bytes) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.mtime = len(data), 0o600, int(self._created)
        self._tar.addfile(info, io.BytesIO(data))
        self.manifest.parts.append(Part(name, len(data), hashlib.sha256(data).hexdigest()))

    def finish(self) -> None:
        self.add(MANIFEST, json.dumps(asdict(self.manifest), indent=1).encode())
        self._tar.close()


def write(order: Order, snapshot_ready: Callable[[], None], told: Callable[[str, int, int], None]) -> tuple[int, bytes]:
    """Write a backup; return its revision and the SHA-256 of the file.

    Args:
        order: what and where to.
        snapshot_ready: called when the segments are copied; returns when the ledger may be read.
        told: hears (part, done, total).

    Raises:
        KeysLostError: the keys of the ledger are not here (3).
    """
    state = Path(order.state)
    manifest = Manifest(version=order.version, created=datetime.datetime.now(datetime.UTC).isoformat())
    with os.fdopen(os.open(order.target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        hashed = _Hashed(file)
        archive = _Archive(hashed, manifest)
        for name, data in _whole_segments(state / "inquiry"):  # (1)
            archive.add(f"{SEGMENTS}/{name}", data)
        told(SEGMENTS, len(manifest.parts), len(manifest.parts))
        snapshot_ready()
        engine = _engine(order)
        try:
            with engine.connect() as connection:  # (2)
                head = _tables(connection, archive, told)
        finally:
            engine.dispose()
        _require_keys(state / "keys", head)  # (3)
        for directory in ("keys", "tokens"):
            for path in sorted((state / directory).rglob("*")):
                # What begins with a dot was being made when a process ended.
                if path.name != RESTORING and not path.name.startswith(".") and path.is_file():
                    archive.add(path.relative_to(state).as_posix(), path.read_bytes())
        archive.finish()
        file.flush()
        os.fsync(file.fileno())
    return manifest.revision, hashed.sha256.digest()


def _whole_segments(directory: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(directory.glob("*.segment")):
        try:
            with path.open("rb") as file:
                position, records = 0, [b""]
                while records:
                    records, position = read_records(path, position)
                # What is half-written behind the last whole record belongs to an answer that has not left.
                yield path.name, file.read(position)
        except FileNotFoundError:
            # Loaded to its end and deleted since the directory was read: all of it is in the ledger.
            continue


def _engine(order: Order) -> sa.Engine:
    if order.copy:
        # Nobody writes the copy, and nothing is to be made beside it.
        address = f"file:{quote(order.copy)}?mode=ro&immutable=1"
        return sa.create_engine("sqlite://", creator=lambda: sqlite3.connect(address, uri=True))
    return sa.create_engine(order.url, isolation_level="REPEATABLE READ").execution_options(postgresql_readonly=True)


def _tables(connection: sa.Connection, archive: _Archive, told: Callable[[str, int, int], None]) -> Any:
    """Add all tables; return the head."""
    manifest = archive.manifest
    head = connection.execute(sa.select(HEAD)).one()
    manifest.lineage, manifest.epoch, manifest.revision = head.lineage, head.epoch, head.revision
    manifest.schema = schema_of(connection)
    streamed = connection.execution_options(stream_results=True, yield_per=_FETCH_ROWS)
    for table in METADATA.sorted_tables:
        total = connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
        rows = 0
        chunk = bytearray()
        number = 0

        for page in streamed.execute(sa.select(table).order_by(*table.primary_key.columns)).partitions():
            for row in page:
                chunk += msgpack.packb(tuple(row))
            rows += len(page)
            if len(chunk) >= CHUNK_BYTES:
                archive.add(f"tables/{table.name}/{number:06d}", bytes(chunk))
                chunk.clear()
                number += 1
            told(table.name, rows, total)
        if chunk:
            archive.add(f"tables/{table.name}/{number:06d}", bytes(chunk))
        manifest.tables[table.name] = Table([column.name for column in table.columns], rows)
    return head


def _require_keys(directory: Path, head: Any) -> None:
    keys = open_keys(directory, head.generation, fresh=False)
    if (keys.check, keys.view_check) != (head.key_check, head.view_check):
        raise KeysLostError(f"{directory} does not hold the keys of the ledger")


def main() -> None:
    """Carry out the order on stdin; the exit code tells nothing, the last frame does."""
    source, answers = sys.stdin.buffer, sys.stdout.buffer
    os.nice(_NICENESS)
    order = Order(**msgpack.unpackb(source.read(int.from_bytes(source.read(4), "big"))))
    ready = threading.Event()

    def listen() -> None:
        if source.read(1):
            ready.set()
            source.read(1)
        # Nobody waits for the backup any more.
        os._exit(1)

    def send(*values: Any) -> None:
        body = msgpack.packb(values)
        answers.write(len(body).to_bytes(4, "big") + body)
        answers.flush()

    threading.Thread(target=listen, daemon=True).start()
    try:
        revision, digest = write(order, lambda: (ready.wait(), None)[1], lambda *values: send("progress", *values))
    except Exception as error:  # noqa: BLE001  the message of a foreign error may hold anything, so only its kind is told
        send("failed", type(error).__name__, getattr(error, "errno", None) or 0)
    else:
        send("done", revision, digest)
    # The thread may still be reading stdin, which the interpreter's own end would wait for.
    os._exit(0)


if __name__ == "__main__":
    main()
