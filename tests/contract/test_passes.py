"""Passes that may be looked back at: which are noted, and which are forgotten."""

import contextlib
import datetime
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from lanjie_gateway.adapters.ledger import InquiryRow, Ledger, inquiries, passes
from lanjie_gateway.adapters.ledger.tables import LISTING, PASSED
from lanjie_gateway.domain.records import SALT_BYTES, VERSION, instant, leaf
from lanjie_matcher.catalogues import CatalogueSet
from lanjie_matcher.fingerprints import IndexKey, ViewKey
from lanjie_matcher.identifiers import parse
from tests.support.core import uscc
from tests.support.ledger import NOON, cells, open_ledger, take

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


def local(name: str, **changes: Any) -> InquiryRow:
    """The record of a local pass."""
    return row(name, **{"kind": "local", "generation": 1, "subject": bytes(8).hex(), **changes})


def about(ledger: Ledger, subject: str, kind: str) -> InquiryRow:
    """The record `a-1` of a pass of a subject."""
    key = parse(f"uscc:{subject}").key
    if kind == "local":
        return local("a-1", subject=ViewKey(ledger.keys.view, 24).digest64(key).to_bytes(8, "big").hex())
    return row("a-1", bucket=IndexKey(ledger.keys.index).token(key).hex())


def look_back(ledger: Ledger) -> list[passes.Passed]:
    """Return what was told of the only listing."""
    with ledger._engine.begin() as connection:
        (number,) = connection.execute(sa.select(LISTING.c.id)).scalars()
        none = passes.OlderKeys(lambda generation: None, lambda listing: ())
        return passes.told(connection, [number], 0, none).get(number, [])


@pytest.mark.parametrize("generation", [0, -1, 1, 7])
def test_a_spool_may_state_any_generation_and_stops_nobodys_alerts(tmp_path: Path, generation: int) -> None:
    ledger = open_ledger(tmp_path)
    ledger.add_inquiries("sdk", 1, [local("sdk-1", generation=generation)])
    order = CatalogueSet(()), ledger.head(), datetime.timedelta(days=365)
    while ledger.alert_step(*order)[0]:
        pass
    with ledger._engine.begin() as connection:
        assert passes.fresh(connection, 1) == ([], False)
        assert passes.search(connection) is None


def test_looking_back_does_not_take_longer_for_generations_that_spools_made_up(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    take(ledger, cells(1))
    ledger.add_inquiries("sdk", 500, [local(f"sdk-{number}", generation=number) for number in range(2, 502)])
    statements: list[str] = []

    def count(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    sa.event.listen(ledger._engine, "before_cursor_execute", count)
    assert look_back(ledger) == []
    assert len(statements) < 20


@pytest.mark.parametrize("listings", [0, 1])
@pytest.mark.parametrize("kind", ["gateway", "local"])
def test_a_pass_of_a_subject_that_no_listing_was_about_is_done_with(
    tmp_path: Path, ledger_url: str, kind: str, listings: int
) -> None:
    ledger = open_ledger(tmp_path, url=ledger_url)
    if listings:
        take(ledger, cells(1))
    ledger.add_inquiries("a", 1, [about(ledger, uscc(1), kind)])
    with contextlib.closing(ledger), ledger._engine.begin() as connection:
        assert connection.execute(sa.select(PASSED.c.looked)).scalars().all() == [not listings]
        _, any_left = passes.fresh(connection, 10)
    assert any_left == bool(listings)


def test_a_pass_that_is_being_noted_while_another_host_lists_its_subject_is_found(
    tmp_path: Path, shared_url: str
) -> None:
    first, second = open_ledger(tmp_path, url=shared_url), open_ledger(tmp_path, url=shared_url)
    with contextlib.closing(first), contextlib.closing(second), ThreadPoolExecutor() as other:
        with first._engine.begin() as connection:
            inquiries.add(connection, "a", 1, [about(first, uscc(1), "local")])
            take(second, cells(1))
            found = other.submit(look_back, second)
            assert not wait([found], 0.5).done
        assert [each.decision_id for each in found.result(10)] == ["a-1"]


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
