"""A ledger in a directory of its own, a clock that tests move, and list files with invented subjects."""

import contextlib
import csv
import datetime
import functools
import io
import json
import tempfile
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from lanjie_gateway.adapters.keys import open_keys
from lanjie_gateway.adapters.ledger import Ledger, LedgerThread
from lanjie_gateway.adapters.ledger.database import migrate
from lanjie_gateway.adapters.ledger.staging import Staged
from lanjie_gateway.adapters.list_parser import _Maker
from lanjie_gateway.domain.access import Principal, Role
from lanjie_gateway.domain.events import BURDENS, EventKind
from lanjie_gateway.domain.import_rules import Counts, FileFormat, ImportHeader, ImportMode, ImportState, Receipt
from lanjie_gateway.domain.list_file import FileRules, ListTypeRule, read_row
from lanjie_gateway.domain.staged import StagedRow
from lanjie_gateway.services.calendar import CalendarService
from lanjie_gateway.services.duty import DutyService
from lanjie_gateway.services.imports import ImportService
from lanjie_gateway.services.listings import ListingService
from lanjie_gateway.services.waiting import WaitingService
from lanjie_matcher.catalogues import CatalogueSet
from tests.support import catalogues as catalogue
from tests.support.core import uscc
from tests.support.signing import KEY

NOON = datetime.datetime(2026, 11, 2, 4, tzinfo=datetime.UTC)
COLUMNS = (
    "op subject_kind name id_kind id_number other_ids list_type decision_no reason decision_date listed_on source "
    "source_record_id source_version related_persons"
).split()


class Clock:
    """A clock that stands still until a test moves it."""

    def __init__(self, now: datetime.datetime = NOON) -> None:
        self.now = now

    def __call__(self) -> datetime.datetime:
        return self.now

    def pass_by(self, **time: int) -> None:
        self.now += datetime.timedelta(**time)


def open_ledger(state: Path, clock: Clock | None = None, url: str = "", *, migrated: bool = True) -> Ledger:
    """Open a ledger, in a file below `state` unless told otherwise; its keys are below `state`.

    A new file begins as a copy of one that was migrated before, unless `migrated` says to make it from nothing.
    """
    path = Path(sa.make_url(url).database or "") if url else state / "ledger.sqlite3"
    if migrated and (not url or url.startswith("sqlite")) and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(0o600)
        path.write_bytes(_migrated())
    return Ledger.open(
        url or f"sqlite:///{path}",
        lambda generation, fresh: open_keys(state / "keys", generation, fresh=fresh),
        clock or Clock(),
    )


@functools.cache
def _migrated() -> bytes:
    """A file at the newest schema, nobody's until a ledger opens it. To make it takes longer than most tests do."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "ledger.sqlite3"
        migrate(f"sqlite:///{path}")
        return path.read_bytes()


def person(name: str, *roles: Role) -> Principal:
    """A caller without bounds, who signs with the key of `tests.support.signing`."""
    roles_of = frozenset(roles or (Role.AUTHORITY,))
    return Principal(department="tax", person=name, roles=roles_of, region="320000", signing_keys=(KEY.public,))


def cells(number: int, **changes: Any) -> dict[str, Any]:
    """A row that obeys all rules; `number` tells company, decision and name."""
    return {
        "id_kind": "uscc",
        "id_number": uscc(number),
        "name": f"示例企业{number}号",
        "list_type": "TAX",
        "decision_no": f"No. {number}",
        "listed_on": "2026-01-02",
        **changes,
    }


def csv_file(rows: Iterable[Mapping[str, str]], columns: Iterable[str] = COLUMNS) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), restval="")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def jsonl_file(rows: Iterable[Mapping[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def staged(ledger: Ledger, batch: int, rows: Iterable[Mapping[str, str]], first_line: int = 2) -> list[StagedRow]:
    """Rows as the parser would hand them over."""
    day = datetime.date(2026, 11, 2)
    rules = FileRules(
        list_types={"TAX": ListTypeRule(code="TAX")}, list_type="TAX", source="tax", complete=False, today=day
    )
    maker = _Maker(
        {
            "batch": batch,
            "today": day.toordinal(),
            "store_key": ledger.keys.store,
            "index_key": ledger.keys.index,
            "view_key": ledger.keys.view,
        }
    )
    return [maker.row(read_row(row, line, rules)) for line, row in enumerate(rows, first_line)]


def receipt(batch: int, **changes: Any) -> Receipt:
    """The receipt of a batch as the import service would write it."""
    return Receipt(
        **{
            "receipt_id": f"r{batch}",
            "batch": batch,
            "state": ImportState.DRY_RUN,
            "sha256": batch.to_bytes(32, "big"),
            "mode": ImportMode.DELTA,
            "list_type": "TAX",
            "source": "tax",
            "file_name": "list.csv",
            "importer": "tax/anna",
            "received_at": NOON,
            "counts": Counts(),
            **changes,
        }
    )


def stage(ledger: Ledger, *rows: Mapping[str, str]) -> tuple[int, Staged]:
    """Begin an import and stage rows."""
    batch = ledger.begin_import("tax/anna")
    assert batch is not None
    return batch, stage_rows(ledger, batch, staged(ledger, batch, rows))


def stage_rows(ledger: Ledger, batch: int, rows: list[StagedRow]) -> Staged:
    """Stage rows of an import that was begun."""
    document, generation = "file list.csv", ledger.generation
    return ledger.stage(batch, rows, actor="tax/anna", received_at=NOON, document=document, generation=generation)


TREE_TABLES = ("record_tree", "record_node", "checkpoint")
WATCH_TABLES = (
    "watch",
    "watch_listing",
    "watch_position",
    "begins_later",
    "passed",
    "closed_case",
    "alert",
    "alert_head",
)
TABLES_SINCE = (
    *TREE_TABLES,
    *WATCH_TABLES,
    "grant_act",
    "authorisation",
    "authorisation_use",
    "complaint",
    "limit_day",
    "feedback",
    "usage",
    "retention",
    "record_held",
)
NEW_TABLES = ("duty", "proposal", "delivery", "year_file", *TABLES_SINCE)
NEW_COLUMNS = {
    "event": ("detail", "second"),
    "edition": ("signature", "signer"),
    "inquiry": ("tree_index",),
    "inquiry_source": ("chain",),
    "head": ("generation", "view_slot", "other_generation", "view_check"),
    "listing": ("pruned", "corrected"),
    "listing_key": ("other_digest",),
    "staged_key": ("other_digest",),
}
"""What the schemas after the second added."""


def to_second_schema(connection: sa.Connection) -> None:
    """Make a ledger what it was before there were generations; the view key was named by the epoch."""
    for index in (
        *("ix_inquiry_tree_index", "ix_inquiry_subject_token_decided_at"),
        *("ix_listing_key_view_digest", "ix_listing_key_other_digest"),
    ):
        connection.exec_driver_sql(f"DROP INDEX {index}")
    for table in NEW_TABLES:
        connection.exec_driver_sql(f"DROP TABLE {table}")
    for table, columns in NEW_COLUMNS.items():
        for column in columns:
            connection.exec_driver_sql(f"ALTER TABLE {table} DROP COLUMN {column}")
    connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0002'")


def take(ledger: Ledger, *rows: Mapping[str, str]) -> Receipt:
    """Import rows."""
    batch, _ = stage(ledger, *rows)
    return ledger.commit_import(receipt(batch))


class Desk:
    """Import and listing services over one ledger, and what they published."""

    def __init__(self, state: Path, known: CatalogueSet | None = None, url: str = "") -> None:
        self.clock = Clock()
        self.published: list[int] = []
        self.known = known or catalogue.catalogues()
        self.thread = LedgerThread(lambda: open_ledger(state, self.clock, url))

    async def start(self) -> None:
        await self.thread.start()
        shared = (self.thread, lambda: self.known, self.clock, self._publish)
        self.imports = ImportService(*shared)
        self.listings = ListingService(*shared)
        self.waiting = WaitingService(*shared)
        calendar = CalendarService(self.thread, self._publish, self.clock, allow_examples=True)
        self.duties = DutyService(self.thread, calendar, self.clock)

    async def take(self, file: bytes, who: str | Principal = "anna", **order: Any) -> Any:
        """Import a file; a repeated call takes it a minute later."""
        self.clock.pass_by(minutes=1)
        header = ImportHeader(
            **{"file_name": "list.csv", "format": FileFormat.CSV, "list_type": "TAX", "source": "tax", **order}
        )
        return await self.imports.run(header, chunks(file), person(who) if isinstance(who, str) else who)

    async def record(self, listing_id: str, kind: EventKind, **order: Any) -> Any:
        """Record an event, by a second person where it waits for one; return the listing as it then stands."""
        if kind not in BURDENS:
            return (await self.listings.record_event(listing_id, kind, **order))[1]
        grounds = (order["reason"], order["document"], order["effective_date"])
        waits = await self.waiting.propose(
            listing_id, self.listings.act(kind, grounds, order["principal"]), {}, order["principal"]
        )
        await self.waiting.confirm(waits.id, person("bert"))
        return await self.listings.seen(listing_id, order["principal"])

    async def full(self, file: bytes, **order: Any) -> Any:
        """Import a complete list."""
        return await self.take(file, mode=ImportMode.FULL, **order)

    async def find(self, number: int) -> list[Any]:
        return await self.listings.find(f"uscc:{uscc(number)}", "test", person("reader", Role.AGENCY))

    async def _publish(self, revision: int) -> None:
        self.published.append(revision)


async def chunks(file: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    for start in range(0, len(file), size):
        yield file[start : start + size]


@contextlib.asynccontextmanager
async def desk(state: Path, known: CatalogueSet | None = None, url: str = "") -> AsyncIterator[Desk]:
    made = Desk(state, known, url)
    await made.start()
    try:
        yield made
    finally:
        await made.thread.close()
