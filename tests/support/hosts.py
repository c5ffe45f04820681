"""A host that writes at random to a ledger which others write to as well, and remembers what was acknowledged."""

import random
import time
from collections.abc import Sequence

from lanjie_gateway.adapters.ledger import Ledger
from lanjie_gateway.domain.errors import Refused, Unanswerable
from lanjie_gateway.domain.events import Act, EventKind
from lanjie_gateway.domain.import_rules import Receipt
from lanjie_matcher.identifiers import parse
from tests.support.catalogues import edition
from tests.support.core import uscc
from tests.support.ledger import NOON, cells, receipt, staged

COMPANIES = 60
KINDS = (EventKind.REMOVED, EventKind.OBJECTION_OPENED, EventKind.OBJECTION_CLOSED)


def find(ledger: Ledger, number: int) -> list[str]:
    return [stored.id for stored in ledger.find(parse(f"uscc:{uscc(number)}"))]


def revisions(ledger: Ledger) -> list[int]:
    return [info.revision for info in ledger.commits_after(0, 1_000_000)]


def doubles(ledger: Ledger) -> Sequence[object]:
    """Natural keys with more than one listing that is seen."""
    with ledger._engine.begin() as connection:
        return connection.exec_driver_sql(
            "SELECT natural_key FROM listing JOIN batch ON batch.id = batch_id WHERE revision IS NOT NULL "
            "GROUP BY natural_key HAVING count(*) > 1"
        ).all()


class Writer:
    """Events, imports of overlapping files, some of them parked and confirmed later, and publications.

    Args:
        ledger: the host's.
        seed: of its choices.
    """

    def __init__(self, ledger: Ledger, seed: int) -> None:
        self._ledger = ledger
        self._chance = random.Random(seed)
        self._parked: list[Receipt] = []
        self._acts = (self._import, self._import, self._confirm, self._publish, self._event, self._event)
        self.acknowledged: list[int] = []
        self.lost = 0

    def run(self, until: float) -> None:
        """Write until a monotonic instant; a database that is away is counted, and asked again."""
        while time.monotonic() < until:
            try:
                revision = self._chance.choice(self._acts)()
            except Refused:
                self._end()
            except Unanswerable as error:
                self._end()
                if error.reason == "LEDGER_UNAVAILABLE":
                    self.lost += 1
                    time.sleep(0.005)
            else:
                if revision is not None:
                    self.acknowledged.append(revision)

    def _end(self) -> None:
        try:
            self._ledger.end_import()
        except Unanswerable:
            self.lost += 1

    def _import(self) -> int | None:
        batch = self._ledger.begin_import("tax/anna")
        if batch is None:
            return None
        companies = self._chance.sample(range(COMPANIES), 8)
        rows = staged(self._ledger, batch, [cells(number, reason=f"{self._chance.random()}") for number in companies])
        self._ledger.stage(
            batch,
            rows,
            actor="tax/anna",
            received_at=NOON,
            document="file list.csv",
            generation=self._ledger.generation,
        )
        if self._chance.random() < 0.3:
            self._parked.append(self._ledger.park_import(receipt(batch)))
            return None
        return self._ledger.commit_import(receipt(batch)).revision

    def _confirm(self) -> int | None:
        if not self._parked:
            return None
        return self._ledger.commit_import(self._parked.pop(), "tax/bert").revision

    def _publish(self) -> int | None:
        name = f"edition-{self._chance.random()}"
        known = len(self._ledger.editions())
        return self._ledger.publish_edition(edition(name), name.encode(), "a.yaml", "tax/mara", known=known)

    def _event(self) -> int | None:
        found = find(self._ledger, self._chance.randrange(COMPANIES))
        kind = self._chance.choice(KINDS)
        if not found:
            return None
        return self._ledger.record(found[0], Act(kind=kind, actor="tax/carl", reason="ordered", document="No. 9"))
