"""What grows is not gone through as a whole."""

from pathlib import Path

import pytest
import sqlalchemy as sa

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
