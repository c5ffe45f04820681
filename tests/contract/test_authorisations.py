"""Uses of authorisations in the ledger, on both databases (Art. 39, 69)."""

import datetime
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lanjie_gateway.domain.authorisations import Authorisation, Wanted
from tests.support.ledger import NOON, Clock, open_ledger

TODAY = NOON.date()


def authorisation(**changes: Any) -> Authorisation:
    facts: dict[str, Any] = {
        "id": "a1",
        "department": "market",
        "subject": b"s" * 16,
        "identifier": "uscc:91320199000001T000",
        "matters": ("procurement.supplier",),
        "purpose": "核实",
        "document_no": "授1",
        "document_date": TODAY,
        "document_sha256": b"d" * 32,
        "valid_until": TODAY,
        "uses": 1,
        "registered_at": NOON,
        "registered_by": "market/anna",
    }
    return Authorisation(**(facts | changes))


def wanted(request: str = "r1", **changes: Any) -> Wanted:
    facts: dict[str, Any] = {
        "authorisation": "a1",
        "request": request,
        "department": "market",
        "person": "market/anna",
        "subject": b"s" * 16,
        "matter": "procurement.supplier",
        "purpose": "核实",
    }
    return Wanted(**(facts | changes))


def test_art39_two_hosts_cannot_both_have_the_last_use(tmp_path: Path, ledger_url: str) -> None:
    shared = ledger_url.startswith("postgresql")
    ledgers = [open_ledger(tmp_path, url=ledger_url) for _ in range(4 if shared else 1)]
    assert ledgers[0].register_authorisation(authorisation(uses=2)).uses == 2

    def use(number: int) -> int:
        # Each ledger is one thread's.
        return sum(ledgers[number].consume_authorisation(wanted(f"{number}-{turn}")) for turn in range(3))

    with ThreadPoolExecutor(len(ledgers)) as pool:
        assert sum(pool.map(use, range(len(ledgers)))) == 2
    (kept,) = ledgers[0].authorisations_of([b"s" * 16])
    assert kept.used == 2
    for ledger in ledgers:
        ledger.close()


def test_art39_a_use_is_durable_and_sealed(tmp_path: Path, ledger_url: str) -> None:
    clock = Clock()
    ledger = open_ledger(tmp_path, clock, ledger_url)
    first = ledger.register_authorisation(authorisation())
    assert ledger.register_authorisation(authorisation(id="a2")) == first
    assert ledger.consume_authorisation(wanted())
    ledger.close()
    ledger = open_ledger(tmp_path, clock, ledger_url)
    assert ledger.consume_authorisation(wanted())
    clock.pass_by(minutes=11)
    assert not ledger.consume_authorisation(wanted())
    assert not ledger.consume_authorisation(wanted(authorisation="a2"))
    (kept,) = ledger.authorisations_of([b"s" * 16])
    assert (kept.used, kept.identifier) == (1, first.identifier)
    ledger.withdraw_authorisation("a1", "market/anna", "撤1")
    clock.pass_by(minutes=1)
    ledger.withdraw_authorisation("a1", "market/bert", "撤2")
    withdrawn = ledger.authorisation("a1")
    assert withdrawn is not None
    assert withdrawn.withdrawn_at == NOON + datetime.timedelta(minutes=11)
    ledger.close()
    if ledger_url.startswith("sqlite"):
        assert b"91320199000001T000" not in (tmp_path / "ledger.sqlite3").read_bytes()
