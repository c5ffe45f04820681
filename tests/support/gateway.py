"""A whole gateway in one background event loop, with a clock that tests move, real files and real sockets."""

import asyncio
import contextlib
import datetime
import hashlib
import shutil
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import lanjie
from lanjie_gateway.bootstrap import Gateway, build
from lanjie_gateway.domain.access import Principal, Role
from lanjie_gateway.domain.grants import LOCAL_GRANT
from lanjie_gateway.domain.import_rules import FileFormat, ImportHeader, Receipt
from lanjie_gateway.settings import Settings, configure_logs
from tests.support.signing import KEY, signed

T = TypeVar("T")
COLUMNS = (
    "op subject_kind name id_kind id_number other_ids list_type decision_no authority authority_uscc reason basis "
    "notice_date decision_date served_date listed_on expires_on publicity_until retention_until removal_conditions "
    "remedies measure_hints region sanction_no sanction_kind sanction_from sanction_to source source_record_id "
    "source_version related_persons"
).split()


class MovableClock:
    """Aware instants that move only when told, or with the real clock from a set beginning."""

    def __init__(self, at: datetime.datetime) -> None:
        self.at = at

    def __call__(self) -> datetime.datetime:
        return self.at


class _Now(MovableClock):
    def __init__(self) -> None: ...

    def __call__(self) -> datetime.datetime:
        return datetime.datetime.now(datetime.UTC)


def person(name: str, *roles: Role) -> Principal:
    """Return a caller of department `local`, who signs with the key of `tests.support.signing`."""
    return Principal(
        department="local",
        person=name,
        roles=frozenset(roles),
        region="320000",
        signing_keys=(KEY.public,),
        grant=LOCAL_GRANT,
    )


class RunningGateway:
    """A gateway that runs in a thread of its own."""

    def __init__(self, state: Path, clock: MovableClock, **settings: Any) -> None:
        self.clock = clock
        self.state = state
        configure_logs(settings.get("log_level", "error"))
        self._settings = Settings(**{"state": state, "listen": "127.0.0.1:0", "allow_examples": True, **settings})
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.inner: Gateway = build(self._settings, clock=clock)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run in the gateway's loop and wait."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)

    def start(self) -> "RunningGateway":
        """Start serving."""
        self._thread.start()
        self.run(self.inner.__aenter__())
        return self

    def stop(self) -> None:
        """Stop serving."""
        self.run(self.inner.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    @property
    def file(self) -> Path:
        """The gateway file."""
        return self.state / "gateway.json"

    def client(self, **options: Any) -> lanjie.Client:
        """Return a client of this gateway."""
        return lanjie.Client.from_file(self.file, state_dir=self.state / "sdk", **options)

    def publish(self, *files: Path) -> None:
        """Publish catalogues."""
        manager = person("manager", Role.MANAGER)
        for file in files:
            content = file.read_bytes()
            service = self.inner.control.catalogues
            self.run(service.publish(content, file.name, manager, signature=signed(content)))

    def import_rows(self, rows: list[dict[str, str]], **header: Any) -> Receipt:
        """Import rows as a CSV file; returns the receipt."""
        return self.import_bytes(csv_file(rows), **header)

    def import_bytes(self, data: bytes, *, by: str = "authority", **header: Any) -> Receipt:
        """Import a file; returns the receipt."""
        head = ImportHeader(
            file_name="test.csv",
            format=FileFormat.CSV,
            sha256=hashlib.sha256(data).digest(),
            size=len(data),
            **header,
        )

        async def chunks() -> AsyncIterator[bytes]:
            for place in range(0, len(data), 65_536):
                yield data[place : place + 65_536]

        return self.run(self.inner.control.imports.run(head, chunks(), person(by, Role.AUTHORITY)))


def joined(one: Path, other: Path) -> None:
    """Give another host what several share besides the database: keys, and the tokens of the people."""
    for name in ("keys", "tokens"):
        shutil.copytree(one / name, other / name)


def csv_file(rows: list[dict[str, str]]) -> bytes:
    """Return rows as a CSV file in canonical columns."""
    text = "\n".join([",".join(COLUMNS), *(",".join(_quoted(row.get(c, "")) for c in COLUMNS) for row in rows)])
    return text.encode() + b"\n"


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in ',"\n') else text


@contextlib.contextmanager
def running(state: Path, at: datetime.datetime, **options: Any) -> Iterator[RunningGateway]:
    """Run a gateway whose clock stands at `at`."""
    with _started(RunningGateway(state, MovableClock(at), **options)) as gateway:
        yield gateway


@contextlib.contextmanager
def running_now(state: Path, **options: Any) -> Iterator[RunningGateway]:
    """Run a gateway whose clock goes."""
    with _started(RunningGateway(state, _Now(), **options)) as gateway:
        yield gateway


@contextlib.contextmanager
def _started(gateway: RunningGateway) -> Iterator[RunningGateway]:
    gateway.start()
    try:
        yield gateway
    finally:
        gateway.stop()
