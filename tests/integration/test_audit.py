"""`lanjie audit` on a gateway that serves, on a state that nobody serves, and after a restore (Art. 39, 43, 61)."""

import asyncio
import contextlib
import dataclasses
import functools
import hashlib
import json
import secrets
import sqlite3
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lanjie
from lanjie.v1 import audit_pb2 as pb
from lanjie.v1 import screening_pb2
from lanjie_gateway.adapters.ledger import Ledger, searching
from lanjie_gateway.adapters.record_files import RecordFiles
from lanjie_gateway.api.screening import _inquiry
from lanjie_gateway.api.sync import _pass
from lanjie_gateway.cli.admin import connect
from lanjie_gateway.cli.gateway_file import Listener, Person, Target
from lanjie_gateway.domain.access import Role
from lanjie_gateway.domain.errors import Refused
from lanjie_gateway.domain.spool_chain import Block, beginning
from lanjie_gateway.services.inquiries import UploadedPass
from lanjie_gateway.services.records import masked
from lanjie_matcher.fingerprints import ViewKey
from lanjie_matcher.grants import Claim
from lanjie_matcher.identifiers import parse
from tests.support.backup import DATA, now, row
from tests.support.gateway import RunningGateway, person, running
from tests.support.prefork import until
from tests.support.serve import run
from tests.support.subjects import org_code, uscc

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
    typed = run("audit", "search", "-", *WHY, "--json", gateway_file=gateway.file, stdin=f"{uscc(2)}\n").json
    assert [each["decision_id"] for each in typed["records"] if each["kind"] == "gateway"] == decisions[1:2]
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
    assert len(searches["records"]) == 5, "a search is an inquiry, this one included"
    with gateway.client(local=False) as client:
        client.check(uscc(9), matter=MATTER, purpose="\x1b[2Jhidden\x1b[8m")
    told = run("audit", "search", *WHY, gateway_file=gateway.file).out
    assert "hidden" in told
    assert "\x1b" not in told, "what an inquirer wrote does nothing to the terminal of whoever audits"
    tokens = json.loads(gateway.file.read_text())["tokens"]
    for other in ("inquirer", "manager"):
        refused = run("audit", "search", *WHY, "--token-file", tokens[other], gateway_file=gateway.file)
        assert (refused.code, "agency" in refused.err) == (2, True)
    assert run("audit", "search", "--purpose", " ", gateway_file=gateway.file).code == 2

    key = next(iter(json.loads(gateway.file.read_text())["trusted_keys"].values()))
    file = tmp_path / "out.jsonl"
    for wrong in (("--start", "320199196101177411"), ("--start", "2", "--end", "1")):
        assert run("audit", "export", "-o", str(file), *WHY, *wrong, gateway_file=gateway.file).code == 2
    none = run("audit", "search", *WHY, "--kind", "export", "--json", gateway_file=gateway.file).json
    assert none["records"] == [], "what was refused was not exported"
    assert run("audit", "export", "-o", str(file), *WHY, gateway_file=gateway.file).code == 0
    proved = run("audit", "verify", "--export", str(file), "--key", key, "--json")
    assert (proved.code, proved.json["first_bad"]) == (0, None)
    lines = file.read_text().splitlines(keepends=True)
    lines[2] = lines[2].replace("procurement", "procuremenT")
    file.write_text("".join(lines))
    assert run("audit", "verify", "--export", str(file), "--key", key, "--json").json["first_bad"] == 1
    assert run("audit", "verify", "--export", str(file), "--key", "00" * 32).code == 1
    # Whatever stands there, its place is named.
    one = json.loads(lines[3])
    for bad in (
        *(json.dumps({**one, "record": each}) for each in (None, 5, "\ud800", one["record"] + " ")),
        *(json.dumps({**one, name: None}) for name in ("index", "digest", "proof")),
        *("[" * 100_000, "[]", "\udcff", ""),
    ):
        text = "".join([*lines[:2], lines[2].replace("procuremenT", "procurement"), bad, "\n"])
        file.write_text(text, errors="surrogateescape")
        found = run("audit", "verify", "--export", str(file), "--key", key, "--json")
        assert (found.code, found.json["first_bad"]) == (1, 2), bad[:80]
    for nothing in ("", "[" * 100_000, "\udcff", "{}"):
        file.write_text(nothing, errors="surrogateescape")
        assert "has no checkpoint" in run("audit", "verify", "--export", str(file), "--key", key).err
    file.unlink()
    assert "cannot be read" in run("audit", "verify", "--export", str(file), "--key", key).err


def test_a_record_that_was_altered_into_no_text_ends_no_export(gateway: RunningGateway, tmp_path: Path) -> None:
    ask(gateway, 1, 2, 3)
    run("audit", "verify", gateway_file=gateway.file)
    alter = sa.text("UPDATE inquiry SET record = :bytes WHERE tree_index = 1")
    altered = functools.partial(sa.Connection.execute, statement=alter, parameters={"bytes": b"\xff"})
    gateway.run(gateway.inner.control.ledger.call(Ledger.in_tree, altered))
    key = next(iter(json.loads(gateway.file.read_text())["trusted_keys"].values()))
    file = str(tmp_path / "out.jsonl")
    assert run("audit", "export", "-o", file, *WHY, gateway_file=gateway.file).code == 0
    assert run("audit", "verify", "--export", file, "--key", key, "--json").json["first_bad"] == 1


@pytest.mark.parametrize(
    ("where", "said"),
    [
        (("--ledger-url", "nonsense"), "is no URL"),
        (("--ledger-url", "mysql://a:secret@b/c"), "is no URL"),
        (("--ledger-url", "postgresql+psycopg://a:secret@127.0.0.1:1/c"), "cannot be read (OperationalError)"),
        (("--state", "/none"), "cannot be read: No such file or directory"),
    ],
)
def test_a_ledger_that_is_not_there_is_said_to_be_not_there(where: tuple[str, str], said: str) -> None:
    found = run("audit", "verify", *where, "--key", "00" * 32)
    assert (found.code, said in found.err, "secret" in found.err) == (2, True, False)


def test_a_search_goes_through_records_in_steps(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever wants the ledger waits for one of them, and not for millions of records."""
    decisions = ask(gateway, *range(1, 8))
    monkeypatch.setattr(searching, "STEP", 2)
    page, found = "0", []
    while page:
        asked = ("--person", "inquirer", "--kind", "gateway", "--page-size", "2", "--page", page, "--json")
        answer = run("audit", "search", *WHY, *asked, gateway_file=gateway.file).json
        found.append([each["decision_id"] for each in answer["records"]])
        page = str(answer["next_page_token"] or "")
    assert found == [decisions[place : place + 2] for place in range(0, 7, 2)]


def test_what_is_broken_keeps_nobody_from_hearing_of_it(gateway: RunningGateway, tmp_path: Path) -> None:
    ask(gateway, 1, 2, 3)
    run("audit", "verify", gateway_file=gateway.file)

    def alter(statement: str) -> None:
        def execute(connection: sa.Connection) -> None:
            connection.execute(sa.text(statement))

        gateway.run(gateway.inner.control.ledger.call(Ledger.in_tree, execute))

    kept = gateway.run(gateway.inner.control.ledger.call(Ledger.tree)).edge.hex()
    alter("UPDATE record_tree SET edge = x'00'")
    found = run("audit", "verify", "--json", gateway_file=gateway.file)
    assert (found.code, [each["fault"] for each in found.json["findings"]]) == (1, ["tree"])
    alter(f"UPDATE record_tree SET edge = x'{kept}'")
    alter("UPDATE checkpoint SET note = 'none'")
    gateway.run(gateway.inner.control.records.check())
    status = run("status", "--json", gateway_file=gateway.file)
    assert (status.code, status.json["records"]["findings"][0]["fault"]) == (0, "signature")
    for command in (("witness",), ("erase", "--dry-run"), ("archive", "-o", str(tmp_path / "new"), *WHY)):
        refused = run("audit", *command, gateway_file=gateway.file)
        assert (refused.code, "run `lanjie audit verify`" in refused.err) == (2, True), refused.err


def test_a_search_finds_local_passes_under_every_view_key_and_what_was_asked_by_organisation_code(
    gateway: RunningGateway,
) -> None:
    subject = uscc(70)
    asked: dict[str, Any] = {"matter": MATTER, "purpose": WRITTEN}
    expected = []
    for _ in range(2):
        with gateway.client(upload_interval=0.05) as client:
            client.wait_ready(timeout=20)
            decision = client.check(subject, **asked)
            assert decision.source is lanjie.Source.LOCAL
            assert client.check(uscc(71), **asked).source is lanjie.Source.LOCAL
        expected.append(("local", "PASS"))
        assert run("rotate-view-key", gateway_file=gateway.file).code == 0
    with gateway.client(local=False) as client:
        client.check(org_code(subject), **asked)
    expected.append(("gateway", "PASS"))
    (gateway.state / "keys" / "view-1.old").write_bytes(b"what somebody left there is no key")
    found = run("audit", "search", subject, *WHY, "--json", gateway_file=gateway.file).json["records"]
    assert [(each["kind"], each["outcome"]) for each in found if each["kind"] != "search"] == expected


def test_a_gap_or_a_break_of_a_spool_has_a_record_and_loses_no_pass(gateway: RunningGateway) -> None:
    service, asker, sdk = gateway.inner.control.inquiries, person("inquirer", Role.INQUIRER), "ab" * 16

    def passed(number: int) -> UploadedPass:
        return UploadedPass(
            sequence=number,
            at=gateway.clock(),
            view_digest=number,
            epoch=1,
            generation=1,
            revision=1,
            set_age=0,
            matter=MATTER,
            purpose=WRITTEN,
            message=b"pass %d" % number,
        )

    def upload(*numbers: int, **block: Any) -> tuple[int, int]:
        return gateway.run(service.upload(asker, sdk, "l", list(map(passed, numbers)), Block(number=1, **block)))

    def behind(before: bytes, *numbers: int) -> bytes:
        return functools.reduce(lambda chain, each: hashlib.sha256(chain + b"pass %d" % each).digest(), numbers, before)

    first = behind(beginning(sdk), 1, 2)
    assert upload(1, 2, before=beginning(sdk), after=first) == (2, 0)
    assert upload(1, 2, before=beginning(sdk), after=first) == (2, 0), "again, nothing happens"
    assert service.spool_faults == 0
    # Three passes are missing; then one is replaced on its way; then the uploader has lost its place.
    after_gap = behind(first, 6, 7)
    assert upload(6, 7, before=first, after=after_gap) == (7, 3)
    assert upload(8, before=after_gap, after=b"c" * 32) == (8, 0)
    assert upload(9, before=b"d" * 32, after=behind(b"d" * 32, 9)) == (9, 0)
    rows = gateway.run(gateway.inner.control.ledger.call(Ledger.inquiries, 1_000))
    kept = [json.loads(row.record) for row in rows]
    told = [(each["before"], each.get("gap"), each.get("chain")) for each in kept if each["kind"] == "spool"]
    assert told == [(6, 3, None), (8, None, "changed"), (9, None, "cut")]
    whose = {(each["spool"], each["department"], each["outcome"]) for each in kept if each["kind"] == "spool"}
    assert whose == {(sdk, "local", "GAP")}
    passes = {each["id"]: (each.get("gap"), each.get("chain")) for each in kept if each["kind"] == "local"}
    sound = (None, None)
    marks = {1: sound, 2: sound, 6: (3, None), 7: sound, 8: (None, "changed"), 9: (None, "cut")}
    assert passes == {f"abababababab-{number}": mark for number, mark in marks.items()}
    assert service.spool_faults == 3
    verified = run("audit", "verify", "--json", gateway_file=gateway.file)
    assert (verified.code, verified.json["findings"]) == (0, [])


def test_a_spool_that_was_set_back_loses_no_pass(gateway: RunningGateway) -> None:
    """A virtual machine may be set back while it serves: then it gives numbers again, to other passes."""
    service, asker = gateway.inner.control.inquiries, person("inquirer", Role.INQUIRER)

    def upload(*passes: tuple[int, int]) -> tuple[int, int]:
        found = [pb.LocalPass(sequence=number, view_digest=subject, generation=1) for number, subject in passes]
        return gateway.run(service.upload(asker, "ab" * 16, "l", [_pass(each) for each in found]))

    assert upload((1, 11), (2, 12), (3, 13)) == (3, 0)
    assert upload((2, 22)) == (3, 0), "set back behind the first pass"
    assert upload((2, 22)) == (3, 0), "its answer was lost"
    assert upload((3, 23), (4, 24)) == (4, 0)
    assert upload((6, 26)) == (6, 1)
    assert upload((5, 25)) == (6, 0), "behind time"
    rows = gateway.run(gateway.inner.control.ledger.call(Ledger.inquiries, 1_000))
    kept = [int.from_bytes(row.subject_token) for row in rows if row.kind == "local"]
    assert kept == [11, 12, 13, 22, 23, 24, 26, 25]
    assert upload((1, 11), (2, 22), (3, 23), (4, 24), (5, 25), (6, 26), (7, 27)) == (7, 0), "by who took it over"
    assert len(gateway.run(gateway.inner.control.ledger.call(Ledger.inquiries, 1_000))) == len(rows) + 1
    told = [json.loads(row.record).get("chain") for row in rows if row.kind == "spool"]
    assert told == ["forked", "forked", None, "forked"]
    assert len({row.decision_id for row in rows}) == len(rows)


def test_an_upload_that_is_overtaken_by_its_repetition_makes_no_gap(gateway: RunningGateway) -> None:
    service, asker = gateway.inner.control.inquiries, person("inquirer", Role.INQUIRER)

    async def upload(*numbers: int) -> tuple[int, int]:
        passes = [_pass(pb.LocalPass(sequence=each, view_digest=each, generation=1)) for each in numbers]
        return await service.upload(asker, "ab" * 16, "l", passes)

    async def both() -> None:
        # The SDK did not hear of the first in time, and has one more by now.
        await asyncio.gather(upload(1, 2, 3), upload(1, 2))

    gateway.run(both())
    assert gateway.run(upload(4)) == (4, 0)
    assert service.spool_faults == 0


def _whole(bits: int) -> st.SearchStrategy[int]:
    most = (1 << bits) - 1
    return st.integers(0, most) | st.sampled_from([0, 1, 2, most >> 1, most])


TEXTS = ("matter", "purpose", "case_no", "role", "handling_region")
STATED = {
    "sequence": _whole(64),
    "unix_nanos": st.integers(-(1 << 63), (1 << 63) - 1),
    "view_digest": _whole(64),
    "epoch": _whole(32),
    "revision": _whole(64),
    "generation": _whole(32),
    "set_age_seconds": _whole(32),
    **dict.fromkeys(TEXTS, st.text(max_size=20)),
}


@given(wild=st.fixed_dictionaries({}, optional=STATED))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_spool_states_is_refused_or_kept_and_stops_nobody(
    gateway: RunningGateway, wild: dict[str, Any]
) -> None:
    """Anybody with a token may upload: a number that no SDK writes once ended the alerts of all departments."""
    control, asker = gateway.inner.control, person("inquirer", Role.INQUIRER)
    listed = ViewKey(control.ledger.keys.view, 24).digest64(parse(uscc(1)).key)

    def upload(**stated: Any) -> str:
        one = {"sequence": 1, "view_digest": listed, "generation": 1, "matter": MATTER, "purpose": WRITTEN, **stated}
        one.setdefault("unix_nanos", int(gateway.clock().timestamp() * 1e9))
        texts = {name: one.pop(name) for name in TEXTS if name in one}
        message = pb.LocalPass(**one, context=screening_pb2.InquiryContext(**texts))
        spool = secrets.token_hex(16)
        gateway.run(control.inquiries.upload(asker, spool, "l", [_pass(message)]))
        return f"{spool[:12]}-1"

    def told() -> set[str]:
        gateway.run(control.alerts.catch_up())
        found = gateway.run(control.ledger.call(Ledger.alerts, "local", 0, 1_000))
        return {each.decision_id for each in found}

    with contextlib.nullcontext() if 1 <= wild.get("sequence", 1) < 1 << 63 else pytest.raises(Refused):
        upload(**wild)
    assert upload() in told(), "a pass of the listed company is overtaken still"
    gateway.run(control.records.check())
    assert not control.records.findings


@pytest.mark.parametrize(
    ("changed", "lineage"),
    [
        ({}, "l" * 65),
        ({"purpose": "p" * 201}, "l"),
        ({"officer": Claim(officer="o" * 65)}, "l"),
        *(({name: "t" * 65}, "l") for name in ("matter", "case_no", "role", "region")),
    ],
)
def test_what_no_sdk_writes_so_long_is_not_kept_once_for_each_pass(
    gateway: RunningGateway, changed: dict[str, Any], lineage: str
) -> None:
    """An upload of 5 MiB would have become records of as much each, in the process that all departments need."""
    asker, one = person("inquirer", Role.INQUIRER), _pass(pb.LocalPass(sequence=1))
    upload = gateway.inner.control.inquiries.upload
    with pytest.raises(Refused) as refused:
        gateway.run(upload(asker, "ab" * 16, lineage, [dataclasses.replace(one, **changed)]))
    assert refused.value.metadata["rule"] == "length"


def test_a_case_number_with_a_nul_stops_nobodys_alerts(tmp_path: Path, shared_url: str) -> None:
    """PostgreSQL takes no such text, not even to look for it."""
    with running(tmp_path / "a", now(), ledger_url=shared_url) as gateway:
        gateway.publish(*(DATA / f"{name}.yaml" for name in ("national", "provincial", "municipal")))
        gateway.import_rows([row(uscc(1))])
        control, asker = gateway.inner.control, person("inquirer", Role.INQUIRER)
        listed = ViewKey(control.ledger.keys.view, 24).digest64(parse(uscc(1)).key)
        nanos = int(gateway.clock().timestamp() * 1e9)
        for spool, case in (("ab" * 16, "case\0 1"), ("cd" * 16, "case 2")):
            context = screening_pb2.InquiryContext(matter=MATTER, purpose=WRITTEN, case_no=case)
            one = pb.LocalPass(sequence=1, view_digest=listed, generation=1, unix_nanos=nanos, context=context)
            gateway.run(control.inquiries.upload(asker, spool, "l", [_pass(one)]))
        gateway.run(control.alerts.catch_up())
        found = gateway.run(control.ledger.call(Ledger.alerts, "local", 0, 10))
        assert {each.case_no for each in found} == {"case\N{REPLACEMENT CHARACTER} 1", "case 2"}


def test_a_spool_named_after_another_takes_no_alert_from_it(gateway: RunningGateway) -> None:
    """The first digits of a spool stand in the ids of its answers, for everybody who sees one."""
    control, asker = gateway.inner.control, person("inquirer", Role.INQUIRER)
    listed = ViewKey(control.ledger.keys.view, 24).digest64(parse(uscc(1)).key)
    nanos = int(gateway.clock().timestamp() * 1e9)

    def upload(spool: str, number: int, case: str) -> None:
        context = screening_pb2.InquiryContext(matter=MATTER, purpose=WRITTEN, case_no=case)
        one = pb.LocalPass(sequence=number, view_digest=listed, generation=1, unix_nanos=nanos, context=context)
        gateway.run(control.inquiries.upload(asker, spool, "l", [_pass(one)]))

    first, other = "ab" * 16, "ab" * 6 + "cd" * 10
    upload(first, 1, "first")
    upload(other, 1, "other")
    upload(other, 2, "squatter")
    upload(first, 2, "second")
    gateway.run(control.alerts.catch_up())
    found = gateway.run(control.ledger.call(Ledger.alerts, "local", 0, 10))
    assert {each.decision_id: each.case_no for each in found} == {
        "abababababab-1": "first",
        "abababababab-2": "second",
        f"{other}-1": "other",
        f"{other}-2": "squatter",
    }


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


@pytest.mark.drill
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


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.SearchRecordsRequest(page_token=(1 << 63) - 1), "page_token"),
        (pb.SearchRecordsRequest(from_time=Timestamp(seconds=1 << 62)), "from_time"),
        (pb.SearchRecordsRequest(to_time=Timestamp(seconds=1, nanos=-1)), "to_time"),
        (pb.ArchiveRecordsRequest(until_time=Timestamp(seconds=253_402_300_799)), "until_time"),
    ],
)
def test_numbers_and_instants_that_are_none_are_refused(gateway: RunningGateway, request_: Any, field: str) -> None:
    request_.purpose = "yearly audit"
    target = Target(gateway_file=gateway.file, address=None, token_file=None)
    with connect(target.endpoint(Listener.ADMIN, Person.AGENCY)) as admin:
        archived = isinstance(request_, pb.ArchiveRecordsRequest)
        method = admin.audit.ArchiveRecords if archived else admin.audit.SearchRecords
        with pytest.raises(lanjie.LanjieError) as refused:
            list(admin.stream(method, request_, seconds=20)) if archived else admin.call(method, request_)
    assert refused.value.metadata["field"] == field


def test_an_instant_that_is_none_is_refused_before_a_check() -> None:
    context = screening_pb2.InquiryContext(as_of_time=Timestamp(seconds=1 << 62))
    with pytest.raises(Refused, match="no such instant"):
        _inquiry(context)


def test_what_an_inquirer_wrote_is_shown_without_long_numbers() -> None:
    shown = masked({"purpose": "bid 913200001234567890, lot 12", "case_no": "A-2026-7", "subject": "aa", "bucket": "b"})
    assert shown == {"purpose": "bid 91****90, lot 12", "case_no": "A-2026-7"}


def test_a_first_start_on_a_slow_disk_finds_nothing_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_notes = RecordFiles.add_notes

    def slowly(files: RecordFiles, notes: Iterable[str]) -> None:
        time.sleep(0.3)
        add_notes(files, notes)

    monkeypatch.setattr(RecordFiles, "add_notes", slowly)
    with running(tmp_path, now()) as gateway:
        records = gateway.inner.control.records
        until(lambda: records.checked_at is not None)
        assert records.findings == ()
