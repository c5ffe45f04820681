"""Backups of a gateway that serves, restored elsewhere: what the command line does, and what an SDK makes of it."""

import asyncio
import json
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lanjie import Client, Outcome
from lanjie_gateway.adapters import restore as adapter
from lanjie_gateway.adapters.keys import RESTORING
from lanjie_gateway.domain.access import Role
from lanjie_gateway.domain.errors import Refused, Unanswerable
from lanjie_gateway.services.backups import BackupService
from tests.support.backup import AGENCY, ASK, DATA, backups, now, row, url_of
from tests.support.gateway import MovableClock, RunningGateway, person, running
from tests.support.serve import run
from tests.support.subjects import uscc

PATIENCE = 30.0

pytestmark = pytest.mark.drill


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[RunningGateway]:
    with running(tmp_path / "a", now()) as made:
        made.publish(*(DATA / f"{name}.yaml" for name in ("national", "provincial", "municipal")))
        # A list in use, so that a few rows more change little of it.
        made.import_rows([row(uscc(number)) for number in range(100, 160)])
        yield made


def test_the_command_line(gateway: RunningGateway, tmp_path: Path) -> None:
    file, new = tmp_path / "out.tar", tmp_path / "b"
    made = run("backup", "-o", str(file), "--json", gateway_file=gateway.file)
    assert made.code == 0, made.err
    revision = gateway.run(gateway.inner.control.ledger.call(lambda ledger: ledger.head()))
    assert (made.json["revision"], made.json["path"]) == (revision, str(file))
    assert file.stat().st_mode & 0o077 == 0
    assert not list((gateway.state / "backup").iterdir())
    again = run("backup", "-o", str(file), gateway_file=gateway.file)
    assert (again.code, "overwrites nothing" in again.err) == (2, True)
    tokens = json.loads(gateway.file.read_text())["tokens"]
    wrong = run("backup", "--token-file", tokens["manager"], gateway_file=gateway.file)
    assert (wrong.code, "agency" in wrong.err) == (2, True)

    done = run("restore", str(file), "--state", str(new), "--json")
    assert done.code == 0, done.err
    assert done.json["epoch"] > done.json["old_epoch"] == 1
    assert (done.json["revision"], done.json["listing_rows"]) == (revision, 60)
    second = run("restore", str(file), "--state", str(new))
    assert (second.code, "is in use" in second.err) == (2, True)
    file.write_bytes(file.read_bytes()[:20_000])
    cut = run("restore", str(file), "--state", str(tmp_path / "c"))
    assert (cut.code, "cut short" in cut.err, (tmp_path / "c").exists()) == (1, True, False)
    missing = run("restore", str(tmp_path / "none.tar"), "--state", str(tmp_path / "c"))
    assert missing.code == 2
    with running(new, now()) as other, other.client(local=False) as client:
        assert client.check(uscc(100), **ASK).outcome is Outcome.INTERCEPT
        assert client.check(uscc(99), **ASK).outcome is Outcome.PASS
        # People keep their tokens.
        kept = json.loads(other.file.read_text())["tokens"]
        assert {name: Path(path).read_text() for name, path in kept.items()} == {
            name: Path(path).read_text() for name, path in tokens.items()
        }


def test_a_backup_without_output_stays_with_the_state(gateway: RunningGateway) -> None:
    made = run("backup", gateway_file=gateway.file)
    assert made.code == 0, made.err
    (file,) = (gateway.state / "backup").iterdir()
    assert file.suffix == ".tar"
    assert file.parent.stat().st_mode & 0o077 == 0


def test_one_at_a_time_and_nothing_stays_of_one_that_was_given_up(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = backups(gateway)
    directory = gateway.state / "backup"

    async def hang_up() -> list[str]:
        begun = asyncio.Event()
        first = asyncio.create_task(service.run(AGENCY, lambda *_: begun.set()))
        await begun.wait()
        with pytest.raises(Unanswerable, match="another backup"):
            await service.run(AGENCY, lambda *_: None)
        there = [path.name for path in directory.iterdir()]
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        return there

    assert any("partial" in name for name in gateway.run(hang_up()))
    assert not list(directory.iterdir())
    with pytest.raises(Refused):
        gateway.run(service.run(person("x", Role.AUTHORITY), lambda *_: None))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1_000}))
    with pytest.raises(Unanswerable, match="no room"):
        gateway.run(service.run(AGENCY, lambda *_: None))
    monkeypatch.undo()
    made = gateway.run(service.run(AGENCY, lambda *_: None))
    assert list(directory.iterdir()) == [made.path]


def test_a_caller_that_hangs_up_ends_the_backup(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    import grpc

    from lanjie.v1 import ledger_pb2, ledger_pb2_grpc

    ended = threading.Event()
    real = BackupService._make

    async def make(self: BackupService, directory: Path, told: Any) -> Any:
        try:
            told("held", 0, 0)
            await asyncio.sleep(PATIENCE)
            return await real(self, directory, told)
        finally:
            ended.set()

    monkeypatch.setattr(BackupService, "_make", make)
    content = json.loads(gateway.file.read_text())
    token = Path(content["tokens"]["agency"]).read_text()
    with grpc.insecure_channel(content["admin"]) as channel:
        call = ledger_pb2_grpc.LedgerServiceStub(channel).Backup(
            ledger_pb2.BackupRequest(), metadata=(("authorization", f"Bearer {token}"),)
        )
        assert next(call).part == "held"
        call.cancel()
        assert ended.wait(PATIENCE)


def test_an_sdk_that_knew_more_follows_the_restored_ledger(tmp_path: Path) -> None:
    """The future after the backup is lost: what it listed passes again, what it removed acts again."""
    lost, removed, unlisted = uscc(900), uscc(101), uscc(901)
    first = RunningGateway(tmp_path / "a", MovableClock(now())).start()
    port = first.inner.worker.address
    seen: list[tuple[int, int, str, Outcome]] = []
    client: Client | None = None
    try:
        first.publish(DATA / "national.yaml")
        first.import_rows([row(uscc(number)) for number in range(100, 160)])
        backup = first.run(backups(first).run(AGENCY, lambda *_: None))
        client = first.client(upload_interval=0.2)
        client.wait_ready(PATIENCE)
        first.import_rows([row(lost)])
        control = first.inner.control
        (found,) = first.run(control.listings.find(removed, "test", AGENCY))
        authority = person("authority", Role.AUTHORITY)
        later, _ = first.run(control.listings.remove(found.listing.id, "测试", "测试〔2026〕1号", "", authority))
        until(lambda: client.sync_status().revision == later)
        before = {subject: client.check(subject, **ASK) for subject in (lost, removed, unlisted)}
        assert [each.outcome.name for each in before.values()] == ["INTERCEPT", "PASS", "PASS"]
        assert before[unlisted].source.name == "LOCAL"
    finally:
        first.stop()
    done = adapter.restore(backup.path, tmp_path / "b", url_of(tmp_path / "b"), now(), lambda *_: None)
    assert done.revision == backup.revision < later
    second = RunningGateway(tmp_path / "b", MovableClock(now()))
    second._settings = second._settings.model_copy(update={"listen": port})
    from lanjie_gateway.bootstrap import build

    second.inner = build(second._settings, clock=second.clock)
    second.start()
    try:
        deadline = time.monotonic() + PATIENCE
        while client.sync_status().epoch != done.epoch:
            assert time.monotonic() < deadline, client.sync_status()
            for subject in (lost, removed, unlisted):
                answer = client.check(subject, **ASK)
                seen.append((answer.epoch, answer.revision, subject, answer.outcome))
            time.sleep(0.01)
        for subject, wanted in ((lost, "PASS"), (removed, "INTERCEPT"), (unlisted, "PASS")):
            answer = client.check(subject, **ASK)
            assert answer.outcome.name == wanted, answer
            assert (answer.epoch, answer.revision) == (done.epoch, backup.revision)
        # From the first answer of the new epoch on, none came from the old set.
        epochs = [epoch for epoch, *_ in seen if epoch]
        assert epochs == sorted(epochs)
        assert {outcome for epoch, _, subject, outcome in seen if (epoch, subject) == (done.epoch, removed)} <= {
            Outcome.INTERCEPT
        }
        assert not (second.state / "keys" / RESTORING).exists()
    finally:
        client.close()
        second.stop()


def until(true: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)
