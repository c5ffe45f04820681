"""Inquiry records that control leaves itself, of what it answers without a worker (Art. 39)."""

import datetime
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from lanjie_gateway.adapters.ledger import InquiryRow, Ledger, LedgerThread
from lanjie_gateway.domain.access import Principal
from lanjie_gateway.domain.records import VERSION, digest, instant, leaf, row_fields


class OwnRecords:
    """Writes records straight into the ledger: durable when `leave` returns.

    Args:
        ledger: the ledger's thread.
        clock: aware instants.
    """

    def __init__(self, ledger: LedgerThread, clock: Callable[[], datetime.datetime]) -> None:
        self._ledger = ledger
        self._clock = clock
        self._name = secrets.token_hex(6)
        self._sequence = 0

    async def leave(self, kind: str, principal: Principal, subject: bytes, fields: Mapping[str, Any]) -> str:
        """Leave a record; return its id.

        Args:
            kind: what was asked for.
            principal: who asked.
            subject: index token of the subject.
            fields: matter, purpose, outcome and whatever else it says.
        """
        self._sequence += 1
        own_id = f"{self._name}-{self._sequence}"
        record = leaf(
            {
                "v": VERSION,
                "id": own_id,
                "kind": kind,
                "at": instant(self._clock()),
                "department": principal.department,
                "person": principal.person,
                "subject": subject.hex(),
                "lineage": self._ledger.lineage,
                "epoch": self._ledger.epoch,
                **fields,
            }
        )
        own = InquiryRow(**row_fields(record), record=record, digest=digest(record))
        await self._ledger.call(Ledger.add_inquiries, f"control-{self._name}", own.sequence, [own])
        return own_id
