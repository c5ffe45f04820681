"""Backups taken while checks and an import go on: the restored ledger is the source's at that revision."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from lanjie_gateway.adapters import restore as adapter
from lanjie_gateway.adapters.ledger import Ledger
from lanjie_gateway.adapters.ledger.tables import METADATA
from lanjie_gateway.domain.access import Role
from tests.support.backup import AGENCY, ASK, DATA, backups, now, row, tables, url_of
from tests.support.gateway import RunningGateway, person, running
from tests.support.subjects import uscc

pytestmark = pytest.mark.drill

ROWS = 1_500


class Counter(threading.Thread):
    """Checks without a pause; `answered` are the ids of decisions that have left."""

    def __init__(self, gateway: RunningGateway) -> None:
        super().__init__(daemon=True)
        self.answered: list[str] = []
        self._gateway = gateway
        self._stop_it = threading.Event()

    def run(self) -> None:
        with self._gateway.client(local=False) as client:
            number = 0
            while not self._stop_it.is_set():
                number += 1
                # Listed and unlisted ones: records before the answer, and records within a second.
                self.answered.append(client.check(uscc(100 + number % 90), **ASK).decision_id)

    def stop(self) -> None:
        self._stop_it.set()
        self.join()


@pytest.mark.parametrize("rounds", [1, pytest.param(12, marks=pytest.mark.long)])
def test_a_backup_under_load_is_one_revision(tmp_path: Path, rounds: int) -> None:
    made: list[tuple[Any, list[str]]] = []
    with running(tmp_path / "a", now()) as gateway:
        gateway.publish(DATA / "national.yaml")
        gateway.import_rows([row(uscc(number)) for number in range(100, 160)])
        counter = Counter(gateway)
        service = backups(gateway)
        control = gateway.inner.control
        authority = person("authority", Role.AUTHORITY)
        with ThreadPoolExecutor(2) as hands:
            counter.start()
            files = [
                [row(uscc(10_000 * part + number), "WAGE") for number in range(ROWS)] for part in range(1, rounds + 1)
            ]
            importing = hands.submit(_import, gateway, files)
            try:
                for number in range(rounds):
                    (found,) = gateway.run(control.listings.find(uscc(110 + number), "test", AGENCY))
                    answered = list(counter.answered)
                    taking = hands.submit(gateway.run, service.run(AGENCY, _ignore))
                    gateway.run(control.listings.remove(found.listing.id, "测试", "测试〔2026〕1号", "", authority))
                    made.append((taking.result(), answered))
                importing.result()
            finally:
                counter.stop()
    source = tables(url_of(tmp_path / "a"))
    for number, (backup, answered) in enumerate(made):
        state = tmp_path / f"b{number}"
        done = adapter.restore(backup.path, state, url_of(state), now(), _ignore)
        _same_history(source, tables(url_of(state)), done.revision)
        _records_are_whole(state, source, answered)
    assert len({backup.path for backup, _ in made}) == rounds


def _ignore(*_: Any) -> None:
    pass


def _import(gateway: RunningGateway, files: list[list[dict[str, str]]]) -> None:
    for rows in files:
        receipt = gateway.import_rows(rows)
        if receipt.revision == 0:
            reviewer = person("reviewer", Role.AUTHORITY)
            gateway.run(gateway.inner.control.imports.confirm(receipt.receipt_id, reviewer))


def _named(rows: dict[str, list[tuple[Any, ...]]], table: str) -> list[dict[str, Any]]:
    columns = METADATA.tables[table].columns.keys()
    return [dict(zip(columns, each, strict=True)) for each in rows[table]]


def _same_history(source: Any, restored: Any, revision: int) -> None:
    """Everything up to the revision is there as it was, and nothing later is seen."""
    batches = {each["id"]: each["revision"] for each in _named(source, "batch")}
    then = {number for number, at in batches.items() if at is not None and at <= revision}

    def seen(rows: Any, table: str) -> list[dict[str, Any]]:
        return [each for each in _named(rows, table) if each["batch_id"] in then]

    commits = [[each for each in _named(rows, "batch") if each["revision"] is not None] for rows in (source, restored)]
    assert commits[1] == [each for each in commits[0] if each["revision"] <= revision]
    assert sorted(each["revision"] for each in commits[1]) == list(range(1, revision + 1))
    for table in ("event", "receipt", "edition"):
        assert seen(restored, table) == seen(source, table)
    ours = {each["id"]: each for each in seen(source, "listing")}
    theirs = {each["id"]: each for each in seen(restored, "listing")}
    assert ours.keys() == theirs.keys()
    for number, listing in theirs.items():
        assert listing["changed_by"] in then
        if ours[number]["changed_by"] in then:
            assert listing == ours[number]
        else:
            assert (listing["natural_key"], listing["content"], listing["ended"]) == (
                *(ours[number]["natural_key"], ours[number]["content"]),
                False,
            )
    keys = [
        [each for each in rows["listing_key"] if each[1] in theirs and ours[each[1]]["changed_by"] in then]
        for rows in (source, restored)
    ]
    assert keys[0] == keys[1]


def _records_are_whole(state: Path, source: Any, answered: list[str]) -> None:
    """Load the segments as a start does: each record answered before the backup is there, once and unchanged."""
    with running(state, now()) as gateway:
        control = gateway.inner.control
        gateway.run(control.inquiries.load())
        held = gateway.run(control.ledger.call(_inquiries))
        with gateway.client(local=False) as client:
            listed = client.check(uscc(150), **ASK)
            assert listed.outcome.name == "INTERCEPT"
            assert listed.epoch == control.ledger.epoch
    known = {each["decision_id"]: each["record"] for each in _named(source, "inquiry")}
    ids = [each.decision_id for each in held]
    assert len(ids) == len(set(ids))
    assert set(answered) <= set(ids)
    assert all(known[each.decision_id] == each.record for each in held)


def _inquiries(ledger: Ledger) -> list[Any]:
    return ledger.inquiries(1_000_000)
