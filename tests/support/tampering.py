"""A ledger of inquiry records with its files, and the ways to tamper with it."""

import datetime
import functools
import random
import shutil
import sqlite3
from pathlib import Path
from typing import Any

from lanjie_gateway.adapters.examination import carry_out, examine
from lanjie_gateway.adapters.ledger import InquiryRow, Ledger, tree
from lanjie_gateway.adapters.ledger.database import reading
from lanjie_gateway.adapters.record_files import RecordFiles
from lanjie_gateway.domain.checkpoints import Checkpoint
from lanjie_gateway.domain.merkle import Range, leaf_hash
from lanjie_gateway.domain.records import instant, leaf
from lanjie_gateway.domain.verification import Report
from tests.support.ledger import NOON, Clock, open_ledger

SEGMENT = "abcdefabcdef"


def record(number: int, **more: Any) -> bytes:
    """Return a record as a worker writes it, about nobody."""
    at = NOON + datetime.timedelta(seconds=number)
    fields = {"id": f"{SEGMENT}-{number}", "at": instant(at), "department": "tax", "matter": "procurement.supplier"}
    return leaf({"v": 2, **fields, "outcome": "PASS", "subject": f"{number:032x}", "region": "320000", **more})


def fill(ledger: Ledger, files: RecordFiles, first: int, count: int, every: int, **more: Any) -> None:
    """Add records, with a checkpoint now and then, as `RecordService` makes them."""
    for start in range(first, first + count, every):
        numbers = range(start, min(start + every, first + count))
        ledger.add_inquiries(SEGMENT, numbers[-1], [InquiryRow.of(record(number, **more)) for number in numbers])
        note = ledger.checkpoint()
        size = ledger.tree().size
        assert note is not None
        files.add_digests(ledger.in_tree(functools.partial(tree.digests, start=files.written, end=size)))
        files.add_notes([note])


def verify(url: str, state: Path, ledger: Ledger, **options: Any) -> Report:
    """Verify as the command does."""
    with reading(url) as connection:
        # The clocks of tests run ahead.
        files, asked = RecordFiles(state), {"clock": lambda: NOON.replace(year=2126), **options}
        steps = examine(ledger.lineage, ledger.keys.signing_public, files, **asked)
        return carry_out(steps, connection, lambda *_: None)


def make(state: Path, url: str, count: int, every: int) -> Ledger:
    """Make a ledger with records; it stays open."""
    state.mkdir(exist_ok=True)
    ledger = open_ledger(state, Clock(), url)
    fill(ledger, RecordFiles(state), 1, count, every)
    return ledger


class Attacker:
    """Has the database, not the key; recomputes what it can."""

    def __init__(self, path: Path, chance: random.Random, ledger: Ledger) -> None:
        self.db = sqlite3.connect(path)
        self.chance = chance
        self.ledger = ledger
        self.size = self._one("SELECT count(*) FROM inquiry")

    def _one(self, query: str) -> int:
        return int(self.db.execute(query).fetchone()[0])

    def _records(self) -> list[bytes]:
        return [row[0] for row in self.db.execute("SELECT record FROM inquiry ORDER BY tree_index")]

    def recompute(self) -> None:
        """Make digests, nodes and the tree fit the records; checkpoints beyond the end go."""
        grown = Range()
        nodes = []
        for index, one in enumerate(self._records()):
            digest = leaf_hash(one)
            self.db.execute("UPDATE inquiry SET digest = ? WHERE tree_index = ?", (digest, index))
            nodes += [(grown.size, level, root) for level, root in grown.append(digest) if level >= tree.STORED_LEVEL]
        self.db.execute("DELETE FROM record_node")
        self.db.executemany("INSERT INTO record_node VALUES (?, ?, ?)", [(n + 0, lv, h) for n, lv, h in nodes])
        self.db.execute("UPDATE record_tree SET size = ?, edge = ?", (grown.size, b"".join(grown.edge)))
        self.db.execute("DELETE FROM checkpoint WHERE size > ?", (grown.size,))

    def delete(self) -> int:
        """Delete one record."""
        at = self.chance.randrange(self.size)
        self.db.execute("DELETE FROM inquiry WHERE tree_index = ?", (at,))
        return at

    def delete_and_close_up(self) -> int:
        """Delete one record, move the later ones up and recompute everything."""
        at = self.delete()
        self.db.execute("UPDATE inquiry SET tree_index = -tree_index WHERE tree_index > ?", (at,))
        self.db.execute("UPDATE inquiry SET tree_index = -tree_index - 1 WHERE tree_index < 0")
        self.recompute()
        return at

    def _alter(self) -> int:
        at = self.chance.randrange(self.size)
        (old,) = self.db.execute("SELECT record FROM inquiry WHERE tree_index = ?", (at,)).fetchone()
        new = old.replace(b'"region":"320000"', b'"region":"330000"')
        self.db.execute("UPDATE inquiry SET record = ? WHERE tree_index = ?", (new, at))
        return at

    def alter(self) -> int:
        """Alter the bytes of a record."""
        return self._alter()

    def alter_and_recompute(self) -> int:
        """Alter a record and make everything fit that needs no key."""
        at = self._alter()
        self.recompute()
        return at

    def alter_into_nonsense(self) -> int:
        """Alter a record into what no program of ours writes, its digest too where that needs no type of another."""
        at = self.chance.randrange(self.size)
        nonsense: list[bytes | str] = [b"[" * 200_000, b"[1]", b"\xff", b"{}", "a text"]
        one = self.chance.choice(nonsense)
        digest = leaf_hash(one) if isinstance(one, bytes) else "a text"
        self.db.execute("UPDATE inquiry SET record = ?, digest = ? WHERE tree_index = ?", (one, digest, at))
        return at

    def alter_column(self) -> int:
        """Alter one column."""
        at = self.chance.randrange(self.size)
        column, value = self.chance.choice(
            [
                *(("department", "police"), ("matter", "x"), ("outcome", "INTERCEPT"), ("kind", "local")),
                *(("decision_id", "x-1"), ("decided_at", 7), ("subject_token", b"s" * 16), ("source", "other")),
                *(("digest", b"d" * 32), ("sequence", 10**6)),
            ]
        )
        self.db.execute(f"UPDATE inquiry SET {column} = ? WHERE tree_index = ?", (value, at))
        return at

    def reorder(self) -> int:
        """Let two records change places."""
        one, other = sorted(self.chance.sample(range(self.size), 2))
        for old, new in ((one, -1), (other, one), (-1, other)):
            self.db.execute("UPDATE inquiry SET tree_index = ? WHERE tree_index = ?", (new, old))
        if self.chance.random() < 0.5:
            self.recompute()
        return one

    def truncate(self) -> int:
        """Delete the last records."""
        at = self.chance.randrange(self.size)
        self.db.execute("DELETE FROM inquiry WHERE tree_index >= ?", (at,))
        return at

    def truncate_and_recompute(self) -> int:
        """Delete the last records and make everything fit."""
        at = self.truncate()
        self.recompute()
        return at

    def insert(self, place: int | None = None) -> int:
        """Add a record that the tree does not know, behind its end or at a place that no tree has."""
        columns = "source, sequence, decision_id, decided_at, department, matter, outcome, kind, subject_token, record"
        self.db.execute(
            f"INSERT INTO inquiry ({columns}, digest, tree_index) SELECT source, sequence + 100000, decision_id, "
            f"{columns.partition('decided_at')[1]}{columns.partition('decided_at')[2]}, digest, ? "
            "FROM inquiry WHERE tree_index = 0",
            (self.size if place is None else place,),
        )
        return self.size

    def insert_before(self) -> int:
        """Add a record before the first one."""
        return self.insert(-1)

    def alter_subtree(self) -> int:
        """Alter a subtree that the ledger keeps to make proofs of."""
        rows = self.db.execute("SELECT leaves, level FROM record_node ORDER BY leaves, level").fetchall()
        leaves, level = self.chance.choice(rows)
        self.db.execute("UPDATE record_node SET hash = ? WHERE leaves = ? AND level = ?", (b"n" * 32, leaves, level))
        return int(leaves) - (1 << int(level))

    def set_epoch_back(self) -> int:
        """Say that the last restore never was."""
        self.db.execute("UPDATE head SET epoch = epoch - 1")
        return self.size

    def put_checkpoint_ahead(self) -> int:
        """Keep the last checkpoint as if it were of more records: no later one is made."""
        self.db.execute("UPDATE checkpoint SET size = 1000000 WHERE size = (SELECT max(size) FROM checkpoint)")
        return self.size

    def put_checkpoint_elsewhere(self) -> int:
        """Keep an early checkpoint as if it were of a later epoch: it is the newest one for every witness."""
        self.db.execute("UPDATE checkpoint SET epoch = 7 WHERE size = (SELECT min(size) FROM checkpoint)")
        return self.size

    def exchange_checkpoint(self) -> int:
        """Keep one checkpoint twice, in the place of another."""
        first = "(SELECT note FROM checkpoint ORDER BY size LIMIT 1)"
        self.db.execute(f"UPDATE checkpoint SET note = {first} WHERE size = (SELECT max(size) FROM checkpoint)")
        return self.size

    def _rewrite(self, *, with_key: bool) -> int:
        at = self.truncate_and_recompute()
        for index in range(at, self.size + self.chance.randrange(3)):
            one = record(index + 1, region="330000")
            row = InquiryRow.of(one)
            self.db.execute(
                "INSERT INTO inquiry (source, sequence, decision_id, decided_at, department, matter, outcome, kind, "
                "subject_token, record, digest, tree_index) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
                (
                    *(SEGMENT, row.sequence, row.decision_id, int(row.decided_at.timestamp() * 1e6), "tax"),
                    *(row.matter, row.outcome, row.kind, row.subject_token, one, row.digest, index),
                ),
            )
        self.recompute()
        if with_key:
            grown = Range()
            for one in self._records():
                grown.append(leaf_hash(one))
            forged = Checkpoint(
                origin=self.ledger.lineage, size=grown.size, root=grown.root(), epoch=1, at=NOON
            ).signed(self.ledger.keys.signing_public, self.ledger.keys.sign)
            self.db.execute("DELETE FROM checkpoint WHERE size > ?", (at,))
            self.db.execute("INSERT INTO checkpoint VALUES (1, ?, ?)", (grown.size, forged))
        return at

    def rewrite(self) -> int:
        """Write another end of the history, without the key."""
        return self._rewrite(with_key=False)

    def fork(self) -> int:
        """The same with the key."""
        return self._rewrite(with_key=True)


def copy_of(state: Path, target: Path) -> Path:
    """Copy the database and the files beside it."""
    target.mkdir()
    for name in ("ledger.sqlite3", "checkpoints.log", "checkpoints.leaves"):
        shutil.copy(state / name, target / name)
    return target
