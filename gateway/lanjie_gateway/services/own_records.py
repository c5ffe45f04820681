"""Inquiry records that control leaves itself, of what it answers without a worker (Art. 39)."""

import datetime
import os
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from lanjie_gateway.adapters.ledger import InquiryRow, Ledger, LedgerThread
from lanjie_gateway.domain.records import SALT_BYTES, VERSION, instant, leaf
from lanjie_matcher.masking import masked_text


class OwnRecords:
    """Writes records straight into the ledger, under a source of its own that counts from 1.

    Args:
        ledger: the ledger's thread.
        clock: aware instants.

    Attributes:
        source: its name, for `Ledger.add_inquiries` and its likes.
    """

    def __init__(self, ledger: LedgerThread, clock: Callable[[], datetime.datetime]) -> None:
        self._ledger = ledger
        self._clock = clock
        self._name = secrets.token_hex(6)
        self._sequence = 0
        self.source = f"control-{self._name}"

    def make(
        self,
        kind: str,
        outcome: str,
        *,
        department: str,
        person: str,
        fields: Mapping[str, Any],
        at: datetime.datetime | None = None,
    ) -> InquiryRow:
        """Return the next record, for a transaction that keeps more than the record.

        Args:
            kind: what was asked for, or what happened.
            outcome: what came of it.
            department: whose act it was.
            person: who acted for it.
            fields: matter, purpose, subject and whatever else it says; numbers of persons in it are masked (Art. 40).
            at: aware instant of the act; now when left out.
        """
        self._sequence += 1
        record = leaf(
            {
                **_without_persons(fields),
                "v": VERSION,
                "salt": os.urandom(SALT_BYTES).hex(),
                "id": f"{self._name}-{self._sequence}",
                "kind": kind,
                "at": instant(at or self._clock()),
                "department": department,
                "person": person,
                "lineage": self._ledger.lineage,
                "epoch": self._ledger.epoch,
                "outcome": outcome,
            }
        )
        return InquiryRow.of(record)

    async def leave(
        self,
        kind: str,
        outcome: str,
        *,
        department: str,
        person: str,
        fields: Mapping[str, Any],
        at: datetime.datetime | None = None,
    ) -> str:
        """Keep the next record, as `make` returns it, and return its id; durable by then."""
        row = self.make(kind, outcome, department=department, person=person, fields=fields, at=at)
        await self._ledger.call(Ledger.add_inquiries, self.source, row.sequence, [row])
        return row.decision_id


def _without_persons(value: Any) -> Any:
    match value:
        case str():
            return masked_text(value)
        case Mapping():
            return {name: _without_persons(each) for name, each in value.items()}
        case list() | tuple():
            return [_without_persons(each) for each in value]
    return value
