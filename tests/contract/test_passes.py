"""Passes that may be looked back at: which are noted, and which are forgotten."""

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from lanjie_gateway.adapters.ledger import InquiryRow, passes
from lanjie_gateway.adapters.ledger.tables import PASSED
from lanjie_gateway.domain.records import SALT_BYTES, VERSION, instant, leaf
from tests.support.ledger import NOON, open_ledger

BUCKET = bytes(range(16))


def row(name: str, **changes: Any) -> InquiryRow:
    """The record of an answer of the gateway about a company."""
    fields = {
        "v": VERSION,
        "salt": bytes(SALT_BYTES).hex(),
        "id": name,
        "kind": "gateway",
        "at": instant(NOON),
        "department": "tax",
        "matter": "procurement.supplier",
        "subject": bytes(16).hex(),
        "id_kind": "uscc",
        "bucket": BUCKET.hex(),
        "outcome": "PASS",
    }
    return InquiryRow.of(leaf({**fields, **changes}))


@pytest.mark.parametrize("outcome", ["PASS", "INTERCEPT"])
def test_a_pass_that_never_left_is_not_looked_back_at(tmp_path: Path, outcome: str) -> None:
    ledger = open_ledger(tmp_path)
    ledger.add_inquiries("seg", 2, [row("seg-1"), row("seg-2")])
    ledger.add_inquiries("seg", 3, [row("seg-3", outcome=outcome, replaces="seg-1")])
    with ledger._engine.begin() as connection:
        left = set(connection.execute(sa.select(PASSED.c.decision_id)).scalars())
    assert left == {"seg-2"} | ({"seg-3"} if outcome == "PASS" else set())


def test_old_passes_are_forgotten_in_steps_until_none_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "_FORGOTTEN", 3)
    ledger = open_ledger(tmp_path)
    rows = [
        {
            "subject_key": bytes(8),
            "decision_id": f"a-{number}",
            "kind": "local",
            "generation": 1,
            "decided_at": number // 2,
            "looked": True,
        }
        for number in range(30)
    ]
    with ledger._engine.begin() as connection:
        connection.execute(PASSED.insert(), rows)
        steps = 1
        while passes.forget(connection, 10):
            steps += 1
        left = connection.execute(sa.select(PASSED.c.decided_at).order_by(PASSED.c.decided_at)).scalars().all()
    assert left == [number // 2 for number in range(20, 30)]
    assert 4 <= steps <= 7
