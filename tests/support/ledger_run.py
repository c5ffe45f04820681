"""A run of the real ledger on a recorded disk: what a gateway does with it, and what it held at every commit."""

import functools
import random
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from lanjie_gateway.adapters.ledger import InquiryRow, Ledger
from lanjie_gateway.domain.events import Act, EventKind
from lanjie_gateway.domain.import_rules import Counts, ImportMode, ImportState, Receipt
from lanjie_matcher.fingerprints import IndexKey
from lanjie_matcher.identifiers import parse
from tests.support.apsw_dbapi import Driver
from tests.support.catalogues import edition
from tests.support.core import uscc
from tests.support.ledger import NOON, Clock, cells, open_ledger, staged
from tests.support.power import Disk, Op, Recorder, read

COMPANIES: Final = 150
SPOOLS: Final = ("sdk-a", "sdk-b")


@dataclass
class Recording:
    """A run of the ledger. States are numbered; `rows` by commit of the database, `told` by call that returned."""

    tape: list[Op]
    rows: list[dict[str, int]] = field(default_factory=lambda: [{}])
    told: list[dict[str, Any]] = field(default_factory=lambda: [{}])
    receipts: list[str] = field(default_factory=list)


def rows(connection: Any) -> dict[str, int]:
    """A digest of every table."""
    tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    return {name: hash(frozenset(connection.execute(f'SELECT * FROM "{name}"').fetchall())) for (name,) in tables}


def told(ledger: Ledger, receipts: list[str]) -> dict[str, Any]:
    """What the ledger says about everything."""
    index = IndexKey(ledger.keys.index)
    companies = [parse(f"uscc:{uscc(number)}") for number in range(COMPANIES)]
    found = [listing for company in companies[:4] for listing in ledger.find(company)]
    return {
        "lineage": ledger.lineage,
        "head": ledger.head(),
        "commits": ledger.commits_after(0, 10_000),
        "buckets": ledger.buckets([index.token(company.key) for company in companies]),
        "listings": [ledger.get(listing.id) for listing in found],
        "receipts": [ledger.receipt(name) for name in receipts if ledger.receipt(name)],
        "editions": ledger.editions(),
        "inquiries": ledger.inquiries(10_000),
        "positions": [ledger.inquiry_position(spool) for spool in SPOOLS],
    }


def publish(ledger: Ledger, name: str, file: bytes) -> int | None:
    return ledger.publish_edition(edition(edition=name), file, "a.yaml", "tax/mara", known=len(ledger.editions()))


class Operator:
    """Does at random what a gateway does with its ledger."""

    def __init__(self, state: Path, rng: random.Random, recorder: Recorder, recording: Recording) -> None:
        self._state = state
        self._rng = rng
        self._recorder = recorder
        self._recording = recording
        self._clock = Clock()
        self._positions = dict.fromkeys(SPOOLS, 0)
        self._open()

    def run(self, acts: int) -> None:
        kinds = (self._import, self._remove, self._publish, self._inquire, self._purge, self._reopen)
        self._publish()
        for act in [self._import, *self._rng.choices(kinds, (5, 8, 1, 5, 1, 1), k=acts)]:
            self._clock.pass_by(minutes=1)
            act()
        self._ledger.close()

    def _returned(self) -> None:
        self._recording.told.append(told(self._ledger, self._recording.receipts))
        self._recorder.mark("told", len(self._recording.told) - 1)

    def _open(self) -> None:
        self._ledger = open_ledger(self._state, self._clock, migrated=False)
        self._returned()

    def _reopen(self) -> None:
        self._ledger.close()
        self._open()

    def _import(self) -> None:
        ledger, rng = self._ledger, self._rng
        batch = ledger.begin_import("tax/anna")
        assert batch is not None
        for chunk in range(rng.randint(1, 3)):
            numbers = rng.sample(range(COMPANIES), rng.randint(1, 15))
            changes = [cells(number, reason=rng.choice(("", "corrected"))) for number in numbers]
            taken = staged(ledger, batch, changes, first_line=2 + 100 * chunk)
            ledger.stage(
                batch,
                taken,
                actor="tax/anna",
                received_at=self._clock(),
                document="file list.csv",
                generation=ledger.generation,
            )
        end = rng.choice(("commit", "commit", "commit", "park", "give up", "leave"))
        if end in ("commit", "park"):
            receipt = Receipt(
                receipt_id=f"r{batch}",
                batch=batch,
                state=ImportState.DRY_RUN,
                sha256=batch.to_bytes(32, "big"),
                mode=ImportMode.DELTA,
                list_type="TAX",
                source="tax",
                file_name="list.csv",
                importer="tax/anna",
                received_at=NOON,
                counts=Counts(),
            )
            self._recording.receipts.append(receipt.receipt_id)
            (ledger.commit_import if end == "commit" else ledger.park_import)(receipt)
        elif end == "give up":
            ledger.give_up_import(batch)
        self._returned()

    def _remove(self) -> None:
        found = self._ledger.find(parse(f"uscc:{uscc(self._rng.randrange(COMPANIES))}"))
        if found and found[0].packed.listing.removed_at is None:
            act = Act(kind=EventKind.REMOVED, actor="tax/bert", reason="paid up", document="No. 9")
            self._ledger.record(found[0].id, act)
            self._returned()

    def _publish(self) -> None:
        name = f"edition-{len(self._recording.told)}"
        publish(self._ledger, name, self._rng.randbytes(5_000))
        self._returned()

    def _inquire(self) -> None:
        spool = self._rng.choice(SPOOLS)
        first = self._positions[spool] + 1
        self._positions[spool] += self._rng.randint(1, 8)
        records = [
            InquiryRow(
                sequence=number,
                decision_id=f"{spool}-{number}",
                decided_at=self._clock(),
                department="tax",
                matter="procurement.supplier",
                outcome="PASS",
                kind="local",
                subject_token=self._rng.randbytes(16),
                record=self._rng.randbytes(300),
                digest=bytes(32),
            )
            for number in range(first, self._positions[spool] + 1)
        ]
        self._ledger.add_inquiries(spool, self._positions[spool], records)
        self._returned()

    def _purge(self) -> None:
        self._ledger.purge()
        self._returned()


@functools.cache
def recorded(seed: int, synchronous: str | None = None, acts: int = 30) -> Recording:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        recorder = Recorder(Path(name))
        recording = Recording(recorder.tape)

        def committed(connection: Any) -> None:
            now = rows(connection)
            if now != recording.rows[-1]:
                recording.rows.append(now)
                recorder.mark("rows", len(recording.rows) - 1)

        # Small figures, so that a short run meets checkpoints and pages that are written before their commit.
        pragmas = {"wal_autocheckpoint": "60", "cache_size": "30"}
        if synchronous is not None:
            pragmas["synchronous"] = synchronous
        driver = Driver(recorder.vfs, pragmas, committed)
        patch.setattr(SQLiteDialect_pysqlite, "import_dbapi", classmethod(lambda cls: driver))
        with recorder.watching():
            Operator(Path(name), random.Random(seed), recorder, recording).run(acts)
        disk = Disk()
        for op in recorder.tape:
            disk.play(op)
        # The recording is complete: played back without a cut it gives the very files.
        assert disk.all_arrived() == read(Path(name))
    return recording
