"""What grows is not gone through as a whole, and what has become old goes wholly."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from lanjie_gateway.adapters.ledger import passes
from lanjie_gateway.adapters.ledger.tables import PASSED
from tests.support import plans
from tests.support.ledger import open_ledger


def test_a_statement_that_goes_through_a_table_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = open_ledger(tmp_path)
    sa.event.listen(ledger._engine, "before_cursor_execute", plans.Plans())
    assert not ledger.listed_digests()
    monkeypatch.setattr(plans, "ALLOWED", {})
    sa.event.listen(ledger._engine, "before_cursor_execute", plans.Plans())
    with pytest.raises(AssertionError, match=r"feed\.listed_digests goes through the whole of {'listing'}"):
        ledger.listed_digests()


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
