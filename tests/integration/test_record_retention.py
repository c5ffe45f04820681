"""Records whose retention has ended, through a real gateway: what is told of them, archives, and the commands."""

import datetime
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lanjie
from lanjie_gateway.domain.access import Role
from lanjie_gateway.domain.merkle import leaf_hash
from lanjie_gateway.domain.record_retention import ENDED
from lanjie_gateway.domain.subject_report import Proof
from tests.support.backup import DATA, now, row
from tests.support.gateway import RunningGateway, person, running
from tests.support.serve import run
from tests.support.subjects import citizen, uscc

WHY = ("--purpose", "retention")
SHORT = {f"retain_{name}_days": 180 for name in ("effects", "passes", "person_passes", "rights")}
CASE = "CASE-NOBODY-7"


def shown(gateway: RunningGateway, *arguments: str, code: int = 0) -> dict[str, Any]:
    done = run(*arguments, "--json", gateway_file=gateway.file)
    assert done.code == code, done.err
    found: dict[str, Any] = done.json
    return found


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[RunningGateway]:
    with running(tmp_path / "a", now(), **SHORT, erase_archived_only=True) as made:
        made.publish(*(DATA / f"{name}.yaml" for name in ("national", "provincial", "municipal")))
        made.import_rows([row(uscc(1))])
        yield made


def ask(gateway: RunningGateway) -> list[lanjie.Decision]:
    """Two answers with an effect, the first of them reported on, a pass, and a pass about a person."""
    with gateway.client(local=False) as client:
        found = [
            client.check(each, matter="procurement.supplier", purpose="w", case_no=CASE)
            for each in (uscc(1), uscc(1), uscc(2), citizen(3))
        ]
        assert [each.outcome.name for each in found] == ["INTERCEPT", "INTERCEPT", "PASS", "PASS"]
        client.report(found[0].decision_id, reason="discretion", officer="0042")
    shown(gateway, "audit", "verify")
    return found


def archive(gateway: RunningGateway, file: Path) -> str:
    """Archive what is there; return the key that proves it."""
    gateway.clock.at += datetime.timedelta(days=170)
    archived = shown(gateway, "audit", "archive", "-o", str(file), *WHY)
    assert (archived["records"], archived["archived"], file.stat().st_mode & 0o777) == (5, 5, 0o600)
    return str(next(iter(json.loads(gateway.file.read_text())["trusted_keys"].values())))


def test_what_has_ended_is_told_to_have_ended(gateway: RunningGateway, tmp_path: Path) -> None:
    hit, other, passed, _ = ask(gateway)
    gateway.clock.at += datetime.timedelta(days=181)
    waiting = shown(gateway, "audit", "erase", "--dry-run")["ended"]
    assert [int(each.get("unarchived", 0)) for each in waiting] == [5, 5, 5, 0]
    archive(gateway, tmp_path / "archive.jsonl")
    looked = shown(gateway, "audit", "erase", "--dry-run")["ended"]
    assert [(each["rule"], int(each.get("count", 0)), int(each.get("held", 0))) for each in looked] == [
        ("person-passes", 1, 0),
        ("passes", 1, 0),
        # The hit that was told of, and what was told; the other one waits for its feedback.
        ("effects", 2, 1),
        ("rights", 0, 0),
    ]
    assert int(shown(gateway, "audit", "verify").get("erased", 0)) == 0
    done = shown(gateway, "audit", "erase")["ended"]
    assert [each.get("count") for each in done] == [each.get("count") for each in looked]
    report = shown(gateway, "audit", "verify")
    assert (int(report["erased"]), report["findings"]) == (4, [])
    status = shown(gateway, "status")["records"]
    assert (int(status["held"]), int(status["archived"])) == (1, 5)

    explained = shown(gateway, "explain", hit.decision_id, "--purpose", "x", code=1)
    assert (explained["obstacles"], explained["differences"], explained["department"]) == ([ENDED], [], "local")
    (found,) = shown(gateway, "audit", "search", *WHY, "--decision", passed.decision_id)["records"]
    assert (found["outcome"], found["kind"], found.get("case_no", "")) == ("ERASED", "gateway", "")
    assert shown(gateway, "audit", "search", uscc(2), *WHY)["records"][0]["kind"] == "search"
    with gateway.client(local=False) as client:
        with pytest.raises(lanjie.LanjieError, match="retention has ended"):
            client.report(hit.decision_id, reason="other", text="t", officer="0042", corrects=True)
        with pytest.raises(lanjie.LanjieError, match="retention has ended"):
            client.receipt([(passed, uscc(2))])
        client.report(other.decision_id, reason="discretion", officer="0042")
    proof = Proof(method="id-document", proved_at=gateway.clock.at, reference="D-17")
    rights = gateway.inner.control.rights
    told = gateway.run(rights.report(citizen(3), (), proof, None, person("agency", Role.AGENCY)))
    assert (told.inquiries, any("保存期限" in note for note in told.notes)) == ((), True)


def test_an_archive_proves_itself(gateway: RunningGateway, tmp_path: Path) -> None:
    ask(gateway)
    file, other = tmp_path / "archive.jsonl", tmp_path / "other.jsonl"
    key = archive(gateway, file)
    again = run("audit", "archive", "-o", str(file), *WHY, gateway_file=gateway.file)
    assert (again.code, "new name" in again.err) == (2, True)

    def first_bad(lines: list[str]) -> int | None:
        other.write_text("".join(lines))
        done = run("audit", "verify", "--export", str(other), "--key", key, "--json")
        first: int | None = done.json["first_bad"]
        assert (done.code == 1) == (first is not None)
        return first

    lines = file.read_text().splitlines(keepends=True)
    assert first_bad(lines) is None
    altered = lines[2].replace(CASE, CASE.lower())
    assert first_bad([*lines[:2], altered, *lines[3:]]) == 1
    each = json.loads(altered)
    fitting = json.dumps({**each, "digest": leaf_hash(each["record"].encode()).hex()}) + "\n"
    assert first_bad([*lines[:2], fitting, *lines[3:]]) == 0, "somewhere from the beginning on"
    assert first_bad([*lines[:3], *lines[4:]]) == 2
    assert first_bad(lines[:-1]) == 0
    assert run("audit", "verify", "--export", str(file), "--key", "00" * 32).code == 1
    # The next one goes on where this one ends.
    nothing = run("audit", "archive", "-o", str(tmp_path / "next.jsonl"), *WHY, gateway_file=gateway.file)
    assert (nothing.code, (tmp_path / "next.jsonl").exists()) == (2, False)
    gateway.clock.at += datetime.timedelta(days=170)
    rest = shown(gateway, "audit", "archive", "-o", str(tmp_path / "next.jsonl"), *WHY)
    assert (int(rest["archived"]) > 5, rest["first_bad"]) == (True, None)


@pytest.mark.drill
def test_a_restored_backup_is_erased_again(tmp_path: Path) -> None:
    backup = tmp_path / "out.tar"
    with running(tmp_path / "a", now(), **SHORT) as gateway:
        gateway.publish(*(DATA / f"{name}.yaml" for name in ("national", "provincial", "municipal")))
        with gateway.client(local=False) as client:
            client.check(citizen(3), matter="procurement.supplier", purpose="w", case_no=CASE)
        shown(gateway, "audit", "verify")
        assert run("backup", "-o", str(backup), gateway_file=gateway.file).code == 0
    assert run("restore", str(backup), "--state", str(tmp_path / "b")).code == 0
    at = now() + datetime.timedelta(days=181)
    with running(tmp_path / "b", at, **SHORT) as gateway:
        done = gateway.run(gateway.inner.control.retention.run())
        assert [each.count for each in done] == [1, 0, 0, 0]
        assert shown(gateway, "audit", "verify")["findings"] == []
    assert CASE.encode() not in (tmp_path / "b" / "ledger.sqlite3").read_bytes()
