"""`lanjie audit` on a gateway that serves, on a state that nobody serves, and after a restore (Art. 39, 43, 61)."""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from lanjie_gateway.services.records import masked
from tests.support.backup import DATA, now, row
from tests.support.gateway import RunningGateway, running
from tests.support.serve import run
from tests.support.subjects import uscc

WHY = ("--purpose", "yearly audit")
MATTER, WRITTEN = "procurement.supplier", "bid of 913200001234567890"


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[RunningGateway]:
    with running(tmp_path / "a", now()) as made:
        made.publish(*(DATA / f"{name}.yaml" for name in ("national", "provincial", "municipal")))
        made.import_rows([row(uscc(1))])
        yield made


def ask(gateway: RunningGateway, *numbers: int) -> list[str]:
    with gateway.client(local=False) as client:
        return [client.check(uscc(number), matter=MATTER, purpose=WRITTEN).decision_id for number in numbers]


def test_the_records_are_read_by_the_agency_and_proved_to_anybody(gateway: RunningGateway, tmp_path: Path) -> None:
    decisions = ask(gateway, 1, 2, 1)
    sound = run("audit", "verify", "--json", gateway_file=gateway.file)
    assert (sound.code, sound.json["size"], sound.json["proven"], sound.json["findings"]) == (0, 3, 3, [])

    found = run("audit", "search", uscc(1), *WHY, "--page-size", "1", "--json", gateway_file=gateway.file).json
    assert [each["decision_id"] for each in found["records"]] == decisions[:1]
    rest = run(
        *("audit", "search", uscc(1), *WHY, "--page", str(found["next_page_token"]), "--json"),
        gateway_file=gateway.file,
    )
    # A search for a subject is an inquiry about it, and is found by the next one.
    assert [each["kind"] for each in rest.json["records"]] == ["gateway", "search", "search"]
    assert rest.json["records"][0]["decision_id"] == decisions[2]
    assert "1234567890" not in rest.out
    assert uscc(1)[5:] not in rest.out
    narrow = run("audit", "search", *WHY, "--decision", decisions[1], "--json", gateway_file=gateway.file).json
    assert [each["index"] for each in narrow["records"]] == [1]
    searches = run("audit", "search", *WHY, "--kind", "search", "--json", gateway_file=gateway.file).json
    assert len(searches["records"]) == 4, "a search is an inquiry, this one included"
    tokens = json.loads(gateway.file.read_text())["tokens"]
    for person in ("inquirer", "manager"):
        refused = run("audit", "search", *WHY, "--token-file", tokens[person], gateway_file=gateway.file)
        assert (refused.code, "agency" in refused.err) == (2, True)
    assert run("audit", "search", "--purpose", " ", gateway_file=gateway.file).code == 2

    key = next(iter(json.loads(gateway.file.read_text())["trusted_keys"].values()))
    file = tmp_path / "out.jsonl"
    assert run("audit", "export", "-o", str(file), *WHY, gateway_file=gateway.file).code == 0
    proved = run("audit", "verify", "--export", str(file), "--key", key, "--json")
    assert (proved.code, proved.json["first_bad"]) == (0, None)
    lines = file.read_text().splitlines(keepends=True)
    lines[2] = lines[2].replace("procurement", "procuremenT")
    file.write_text("".join(lines))
    assert run("audit", "verify", "--export", str(file), "--key", key, "--json").json["first_bad"] == 1
    assert run("audit", "verify", "--export", str(file), "--key", "00" * 32).code == 1


def test_a_witness_keeps_what_an_attacker_with_every_file_cannot_undo(gateway: RunningGateway, tmp_path: Path) -> None:
    ask(gateway, 1, 2, 3)
    first, second = tmp_path / "first", tmp_path / "second"
    assert run("audit", "witness", "-o", str(first), gateway_file=gateway.file).code == 0
    ask(gateway, 4, 5)
    assert run("audit", "witness", "--from", str(first), "-o", str(second), gateway_file=gateway.file).code == 0
    assert second.read_text().startswith("old 3\n")
    held = run("audit", "verify", "--witnessed", str(first), "--json", gateway_file=gateway.file)
    assert (held.code, held.json["findings"]) == (0, [])
    gateway.stop()
    try:
        offline = run("audit", "verify", "--state", str(gateway.state), "--json")
        assert (offline.code, offline.json["size"], offline.json["findings"]) == (0, 5, [])
        with sqlite3.connect(gateway.state / "ledger.sqlite3") as ledger:
            ledger.execute("UPDATE inquiry SET outcome = 'PASS' WHERE tree_index = 0")
        broken = run("audit", "verify", "--state", str(gateway.state), "--json")
        assert (broken.code, broken.json["findings"][0]["index"]) == (1, 0)
        assert broken.json["findings"][0]["fault"] == "altered"
    finally:
        again = RunningGateway(gateway.state, gateway.clock).start()
        again.run(again.inner.control.records.check())
        gateway.__dict__.update(again.__dict__)
    # The counters go on, and the operator is told.
    assert ask(gateway, 6)
    status = run("status", "--json", gateway_file=gateway.file)
    assert (status.code, status.json["records"]["findings"][0]["fault"]) == (0, "altered")


def test_a_restore_is_told_from_an_older_file(gateway: RunningGateway, tmp_path: Path) -> None:
    ask(gateway, 1, 2)
    backup, new = tmp_path / "out.tar", tmp_path / "b"
    assert run("backup", "-o", str(backup), gateway_file=gateway.file).code == 0
    ask(gateway, 3, 4, 5)
    assert run("audit", "verify", gateway_file=gateway.file).code == 0
    # What the lost past had written down stays beside the restored ledger.
    new.mkdir()
    for name in ("checkpoints.log", "checkpoints.leaves"):
        (new / name).write_bytes((gateway.state / name).read_bytes())
    assert run("restore", str(backup), "--state", str(new)).code == 0
    restored = run("audit", "verify", "--state", str(new), "--json")
    assert (restored.code, restored.json["findings"]) == (0, [])
    assert "restored from a backup" in restored.json["notes"][0]
    assert "later records" in restored.json["notes"][0]
    with running(new, gateway.clock.at) as second:
        ask(second, 7)
        report = run("audit", "verify", "--json", gateway_file=second.file)
        assert (report.code, report.json["findings"]) == (0, [])
    # An epoch that no signed checkpoint begins is no restore.
    with sqlite3.connect(new / "ledger.sqlite3") as ledger:
        ledger.execute("UPDATE head SET epoch = epoch + 1")
    forged = run("audit", "verify", "--state", str(new), "--json")
    assert (forged.code, forged.json["findings"][0]["fault"]) == (1, "forked")


def test_what_an_inquirer_wrote_is_shown_without_long_numbers() -> None:
    shown = masked({"purpose": "bid 913200001234567890, lot 12", "case_no": "A-2026-7", "subject": "aa", "bucket": "b"})
    assert shown == {"purpose": "bid 91****90, lot 12", "case_no": "A-2026-7"}
