"""Restoring a backup into an empty state: the same ledger, in a new epoch.

1. Everything that can be told of the file is told before anything is written: its digests, that it holds the keys and
   that they are the ledger's, that its tables are those of its schema and that this schema is known here. An older
   schema is restored as it was and then upgraded, as a state of that age would be.
2. The target is empty, or it is what an interrupted restore left: the file ``keys/restoring`` tells, and while it is
   there no gateway serves the state. Such leftovers are cleared and the work is done again from the beginning.
3. A restored ledger knows less than its past did: SDKs, answers and records out there may name revisions that are
   given again, to other commits. So it enters a new epoch, the second of the restore, which no other restore of the
   same backup shares; (epoch, revision) goes up and SDKs take the whole set again. The view key and its generation stay
   as the backup has them: the ledger holds digests made with it. A generation that the lost future had may be given
   again, to another key; what an SDK holds of it is told apart by the epoch and by the key's own check.
4. The numbers of listings that are given out from now on begin at the epoch too, so that an id from the lost future
   never names another listing.
5. The epoch begins with a signed checkpoint of the inquiry records that says so: `lanjie audit verify` tells a restore,
   which only the holder of the keys can make, from an older file of the database put in the place of the newer one.
"""

import contextlib
import datetime
import hashlib
import json
import os
import re
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

import msgpack
import sqlalchemy as sa

from lanjie_gateway.adapters.backup import FORMAT, MANIFEST, Manifest, Part, Table
from lanjie_gateway.adapters.keys import KEY_BYTES, RESTORING, KeyRing, file_names, keep, sync_directory
from lanjie_gateway.adapters.ledger import locks, migrations, tree
from lanjie_gateway.adapters.ledger.database import NEWEST, address_of, check_server, parameters, schema_of
from lanjie_gateway.adapters.ledger.rows import LedgerError
from lanjie_gateway.adapters.ledger.tables import BATCH, HEAD
from lanjie_gateway.adapters.record_files import RecordFiles
from lanjie_gateway.adapters.state_lock import LEDGER, SERVE, hold

_NAMES: Final = re.compile(
    r"segments/[0-9a-z-]+\.segment|(keys|tokens(/[0-9a-z][0-9a-z-]*)?)/[0-9a-z][0-9a-z.-]*|tables/[0-9a-z_]+/[0-9]+"
)
_PIECE_BYTES: Final = 1 << 20
_HELD: Final = ("keys", "tokens", "inquiry")
_FIRST_SECOND: Final = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
"""Ids of listings hold the batch in 31 bits: seconds since then fit until 2088."""
Told = Callable[[str, int, int], None]


class BackupDamagedError(Exception):
    """The file is not a whole backup."""


class RestoreRefusedError(Exception):
    """The backup is sound, and it cannot be restored here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What was restored.

    Attributes:
        created: when the backup was made, ISO 8601.
        revision: newest revision in it.
        rows: by table.
        segments: number of inquiry segments that the next start loads.
    """

    lineage: str
    created: str
    old_epoch: int
    epoch: int
    revision: int
    rows: dict[str, int]
    segments: int


@dataclass(frozen=True, slots=True)
class _Verified:
    manifest: Manifest
    secrets: dict[str, bytes] = field(repr=False)
    """Keys and tokens by name of the part."""
    tables: dict[str, sa.Table]


def restore(path: Path, state: Path, url: str, now: datetime.datetime, told: Told) -> Restored:
    """Restore a backup.

    Args:
        path: of the backup.
        state: state directory, empty or not there yet.
        url: address of the ledger; an empty database.
        now: aware instant.
        told: hears (what is done, done, total).

    Raises:
        BackupDamagedError: the file is not a whole backup; nothing was written.
        RestoreRefusedError: it cannot be restored here; nothing was written.
        StateInUseError: a gateway holds the state.
    """
    try:
        address_of(url)
    except LedgerError as error:
        raise RestoreRefusedError(str(error)) from None
    verified = _verify(path, told)  # (1)
    manifest = verified.manifest
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    with hold(state, SERVE), hold(state, LEDGER):
        marker = state / "keys" / RESTORING
        left = marker.read_text() if marker.exists() else None
        _require_empty(state, url, left)  # (2)
        epoch = max(manifest.epoch, int(now.timestamp()) - 1) + 1  # (3)
        _clear(state, url)
        for name in _HELD:
            (state / name).mkdir(mode=0o700, exist_ok=True)
        keep(marker, f"{manifest.lineage} {epoch}".encode())
        with _target(url) as connection:
            _load(connection, path, state / "inquiry", verified, told)
            connection.execute(HEAD.update().values(epoch=epoch))
            _set_sequences(connection, max(epoch - int(_FIRST_SECOND.timestamp()), 0))  # (4)
            note = _checkpoint(connection, verified, now)  # (5)
        for name, value in verified.secrets.items():
            (state / name).parent.mkdir(mode=0o700, exist_ok=True)
            keep(state / name, value)
        files = RecordFiles(state)
        files.put_aside(f"before-{epoch}")
        files.add_notes([note])
        marker.unlink()
        sync_directory(marker.parent)
    return Restored(
        lineage=manifest.lineage,
        created=manifest.created,
        old_epoch=manifest.epoch,
        epoch=epoch,
        revision=manifest.revision,
        rows={name: table.rows for name, table in manifest.tables.items()},
        segments=sum(part.name.startswith("segments/") for part in manifest.parts),
    )


def _checkpoint(connection: sa.Connection, verified: _Verified, now: datetime.datetime) -> str:
    raw = {of: verified.secrets[f"keys/{name}"] for of, name in file_names(1).items() if of != "view"}
    keys = KeyRing(generation=1, view=b"", **raw)
    note = tree.checkpoint(
        *(connection, verified.manifest.lineage, now, lambda made: made.signed(keys.signing_public, keys.sign)),
        restored=True,
    )
    if note is None:
        raise BackupDamagedError("the backup holds a checkpoint of an epoch that has not begun")
    return note


def _verify(path: Path, told: Told) -> _Verified:
    parts: list[Part] = []
    kept: dict[str, bytes] = {}
    head = f"tables/{HEAD.name}/000000"
    try:
        for name, size, content in _members(path):
            if MANIFEST in kept or not (name == MANIFEST or _NAMES.fullmatch(name)):
                raise BackupDamagedError(f"{path}: a part that does not belong to a backup")
            digest = hashlib.sha256()
            keep_it = name in (MANIFEST, head) or name.startswith(("keys/", "tokens/"))
            while piece := content.read(_PIECE_BYTES):
                digest.update(piece)
                if keep_it:
                    kept[name] = kept.get(name, b"") + piece
            parts.append(Part(name, size, digest.hexdigest()))
            told("verifying", content.tell(), size)
    except tarfile.TarError:
        raise BackupDamagedError(f"{path} is no backup, or was cut short") from None
    manifest = _manifest(path, kept.pop(MANIFEST, b""))
    if parts[:-1] != manifest.parts:
        raise BackupDamagedError(f"{path}: a part is missing, or its digest does not fit")
    tables = _schema(manifest)
    row = msgpack.unpackb(kept.pop(head, b"\x90"))
    _require_keys(manifest, kept, row)
    return _Verified(manifest, kept, tables)


def _members(path: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    with tarfile.open(path, "r:") as archive:
        for member in archive:
            content = archive.extractfile(member)
            if content is None:
                raise BackupDamagedError(f"{path}: a part that does not belong to a backup")
            yield member.name, member.size, content


def _manifest(path: Path, text: bytes) -> Manifest:
    if not text:
        raise BackupDamagedError(f"{path} was cut short: it has no {MANIFEST}")
    try:
        values = json.loads(text)
        if values["format"] > FORMAT:
            raise RestoreRefusedError(
                f"the backup was written by lanjie {values['version']}, in a newer format; restore it with that version"
            )
        values["tables"] = {name: Table(**table) for name, table in values["tables"].items()}
        values["parts"] = [Part(**part) for part in values["parts"]]
        return Manifest(**values)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BackupDamagedError(f"{path}: {MANIFEST} cannot be read") from None


def _schema(manifest: Manifest) -> dict[str, sa.Table]:
    """Return the tables as they were at the backup's schema."""
    engine = sa.create_engine("sqlite://")
    with engine.begin() as connection:
        try:
            migrations.upgrade(connection, manifest.schema)
        except migrations.UnknownSchemaError:
            raise RestoreRefusedError(
                f"the backup was written by lanjie {manifest.version}, with tables that are not known here; "
                "restore it with that version"
            ) from None
        known = sa.MetaData()
        known.reflect(connection)
    engine.dispose()
    tables = {name: table for name, table in known.tables.items() if name != "alembic_version"}
    wanted = {name: sorted(table.columns.keys()) for name, table in tables.items()}
    if {name: sorted(table.columns) for name, table in manifest.tables.items()} != wanted:
        raise BackupDamagedError("the backup's tables are not those of its schema")
    return tables


def _require_keys(manifest: Manifest, secrets: dict[str, bytes], head: list[Any]) -> None:
    row = dict(zip(manifest.tables[HEAD.name].columns, head, strict=False))
    # Before there were generations, view keys were named by epoch.
    generation = row.get("generation", manifest.epoch)
    names = file_names(generation)
    values = {field_: secrets.get(f"keys/{name}", b"") for field_, name in names.items()}
    missing = [names[field_] for field_, value in values.items() if len(value) != KEY_BYTES]
    if missing:
        raise RestoreRefusedError(
            f"the backup lacks keys ({', '.join(missing)}): without them its listings can be neither read nor found"
        )
    keys = KeyRing(generation=generation, **values)
    if row.get("key_check") != keys.check or row.get("view_check") not in {None, keys.view_check}:
        raise BackupDamagedError("the keys are not the ones the ledger was written with")


def _require_empty(state: Path, url: str, left: str | None) -> None:
    """Refuse a target that holds anything but what an interrupted restore left; `left` is what its marker says."""
    held = [name for name in _HELD if (state / name).is_dir() and any((state / name).iterdir())]
    if sqlite := _sqlite_path(url):
        held += [path.name for path in sqlite.parent.glob(f"{sqlite.name}*") if path.stat().st_size]
    if held and left is None:
        raise RestoreRefusedError(
            f"{state} is in use: it holds {', '.join(held)}. Move that away, or give another directory"
        )
    if not sqlite and (head := _head(url)) is not None and head != left:
        raise RestoreRefusedError("the database is in use: give one that is empty")


def _head(url: str) -> str | None:
    """Return what the marker of a database's restore would say; `None` for an empty one."""
    engine = sa.create_engine(url, connect_args=parameters(url))
    try:
        with engine.connect() as connection:
            check_server(connection)
            tables = sa.inspect(connection).get_table_names()
            if HEAD.name not in tables:
                return "another program's" if tables else None
            row = connection.execute(sa.select(HEAD.c.lineage, HEAD.c.epoch)).first()
    except sa.exc.OperationalError:
        raise RestoreRefusedError("the database cannot be reached") from None
    except LedgerError as error:
        raise RestoreRefusedError(str(error)) from None
    finally:
        engine.dispose()
    return None if row is None else f"{row.lineage} {row.epoch}"


def _clear(state: Path, url: str) -> None:
    """Clear what an interrupted restore left; the marker goes last."""
    for name in ("inquiry", "tokens", "keys"):
        for path in sorted((state / name).rglob("*"), reverse=True):
            if path.is_dir():
                path.rmdir()
            elif path.name != RESTORING:
                path.unlink()
    if sqlite := _sqlite_path(url):
        for path in sqlite.parent.glob(f"{sqlite.name}*"):
            path.unlink()


@contextlib.contextmanager
def _target(url: str) -> Iterator[sa.Connection]:
    """Yield one transaction that holds the whole ledger; a SQLite file takes its name once it is complete."""
    sqlite = _sqlite_path(url)
    if sqlite is None:
        engine = sa.create_engine(url)
        try:
            with engine.begin() as connection:
                # A host that starts meanwhile waits, and then finds a ledger whose keys it lacks.
                locks.wait(connection, "head")
                yield connection
        finally:
            engine.dispose()
        return
    sqlite.parent.mkdir(parents=True, exist_ok=True)
    partial = sqlite.with_name(f"{sqlite.name}.restoring")
    os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    engine = sa.create_engine(f"sqlite:///{partial}")
    try:
        with engine.connect() as connection:
            # Nothing is to be rolled back: an incomplete file is never used.
            for pragma in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-196608"):
                connection.exec_driver_sql(f"PRAGMA {pragma}")
            yield connection
            connection.commit()
    finally:
        engine.dispose()
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.rename(sqlite)
    sync_directory(sqlite.parent)


def _load(connection: sa.Connection, path: Path, inquiry: Path, verified: _Verified, told: Told) -> None:
    manifest = verified.manifest
    migrations.upgrade(connection, manifest.schema)
    if schema_of(connection) != manifest.schema:
        raise RestoreRefusedError("the database has newer tables than the backup: give one that is wholly empty")
    for table in verified.tables.values():
        # There is something only where a restore into PostgreSQL was interrupted after its commit.
        connection.execute(table.delete())
    rows = dict.fromkeys(manifest.tables, 0)
    for name, _, content in _members(path):
        kind, _, rest = name.partition("/")
        if kind == "segments":
            keep(inquiry / rest, content.read())
        elif kind == "tables":
            of = rest.partition("/")[0]
            rows[of] += _insert(connection, verified.tables[of], manifest.tables[of].columns, content.read())
            told(of, rows[of], manifest.tables[of].rows)
    for name, table in verified.tables.items():
        found = connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
        if not found == rows[name] == manifest.tables[name].rows:
            raise BackupDamagedError(
                f"table {name} has {found} rows where the backup counts {manifest.tables[name].rows}"
            )
    migrations.upgrade(connection, NEWEST)


def _insert(connection: sa.Connection, table: sa.Table, columns: list[str], packed: bytes) -> int:
    """Insert a part as the driver takes it: converting values one by one costs more than the insert."""
    unpacker = msgpack.Unpacker(max_buffer_size=0)
    unpacker.feed(packed)
    rows = list(unpacker)
    for place, name in enumerate(columns):
        if isinstance(table.c[name].type, sa.JSON):
            for row in rows:
                row[place] = json.dumps(row[place])
    names = ", ".join(f'"{name}"' for name in columns)
    if connection.dialect.name == "postgresql":
        cursor: Any = connection.connection.cursor()
        with cursor.copy(f'COPY "{table.name}" ({names}) FROM STDIN') as copy:
            for row in rows:
                copy.write_row(row)
    else:
        places = ", ".join("?" * len(columns))
        insert = f'INSERT INTO "{table.name}" ({names}) VALUES ({places})'  # noqa: S608  names of our own tables
        connection.exec_driver_sql(insert, [tuple(row) for row in rows])
    return len(rows)


def _set_sequences(connection: sa.Connection, first_batch: int) -> None:
    """Let no number be given twice: neither of this backup nor of what came after it."""
    newest = connection.execute(sa.select(sa.func.max(BATCH.c.id))).scalar() or 0
    first_batch = max(newest, first_batch)
    if connection.dialect.name != "postgresql":
        # The other tables go on from their newest row by themselves.
        connection.exec_driver_sql("DELETE FROM sqlite_sequence WHERE name = ?", (BATCH.name,))
        connection.exec_driver_sql("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (BATCH.name, first_batch))
        return
    for table in BATCH.metadata.sorted_tables:
        (column, *others) = table.primary_key.columns
        sequence = connection.execute(sa.select(sa.func.pg_get_serial_sequence(table.name, column.name))).scalar()
        if sequence is not None and not others:
            newest = connection.execute(sa.select(sa.func.max(column))).scalar() or 0
            last = first_batch if table is BATCH else newest
            connection.execute(sa.select(sa.func.setval(sequence, max(last, 1), last > 0)))


def _sqlite_path(url: str) -> Path | None:
    parsed = sa.make_url(url)
    return Path(parsed.database) if parsed.get_backend_name() == "sqlite" and parsed.database else None
