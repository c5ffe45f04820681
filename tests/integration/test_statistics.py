"""The statistics of a gateway agree with a count of the answers that were given."""

import csv
import dataclasses
import datetime
import random
from collections import Counter
from pathlib import Path

import pytest
import python_calamine

from lanjie_gateway.adapters.ledger import Ledger
from lanjie_gateway.domain.access import Role
from lanjie_gateway.domain.errors import Refused
from lanjie_gateway.domain.feedback import Disposition
from lanjie_gateway.domain.statistics import Line
from tests.integration.test_answers import DATA, NOW, PURPOSE, row
from tests.support.gateway import RunningGateway, person, running
from tests.support.serve import run
from tests.support.subjects import uscc

AGENCY, CLERK = person("agency", Role.AGENCY), person("inquirer", Role.INQUIRER)
LISTED = [uscc(number) for number in range(1, 5)]
FREE = [uscc(number) for number in range(100, 120)]
MONTH = NOW.astimezone(datetime.timezone(datetime.timedelta(hours=8))).strftime("%Y-%m")


def counted(gateway: RunningGateway, *by: str, who=AGENCY, **asked) -> dict[tuple[str, ...], Line]:
    report = gateway.run(gateway.inner.control.statistics.report(who, by=by, **asked))
    return dict(report.lines)


def test_they_agree_with_an_independent_count(tmp_path: Path) -> None:
    chance = random.Random(7)
    outcomes: Counter[tuple[str, str]] = Counter()
    told: Counter[str] = Counter()
    with running(tmp_path, NOW) as gateway:
        gateway.publish(DATA / "national.yaml")
        ends = (NOW + datetime.timedelta(days=12)).date().isoformat()
        gateway.import_rows([row(each, "COURT") for each in LISTED] + [row(uscc(9), "WAGE", expires_on=ends)])
        with gateway.client(local=False) as client:
            for _ in range(60):
                matter = chance.choice(("procurement.supplier", "funds.fiscal"))
                decision = client.check(chance.choice(LISTED + FREE), matter=matter, purpose=PURPOSE)
                outcomes[matter, decision.outcome.name] += 1
                if decision.outcome.name == "INTERCEPT" and chance.random() < 0.7:
                    if chance.random() < 0.5:
                        client.report(decision.decision_id, applied=["N-1"], officer="1")
                        told["applied"] += 1
                    else:
                        client.report(decision.decision_id, reason="repaired", officer="1")
                        told["repaired"] += 1
        with gateway.client() as client:
            client.wait_ready(10)
            passed = [client.check(each, matter="funds.fiscal", purpose=PURPOSE) for each in FREE]
            assert {each.source.name for each in passed} == {"LOCAL"}
        effects = sum(number for (_, outcome), number in outcomes.items() if outcome == "INTERCEPT")
        for matter, line in ((key[0], line) for key, line in counted(gateway, "matter").items()):
            local = len(FREE) if matter == "funds.fiscal" else 0
            mine = {outcome: number for (of, outcome), number in outcomes.items() if of == matter}
            assert (line.checks, line.local, dict(line.outcomes)) == (sum(mine.values()) + local, local, mine)
            assert line.hits == mine.get("INTERCEPT", 0)
        whole = counted(gateway)[()]
        assert (whole.effects, whole.asked) == (effects, effects)
        assert whole.told == {Disposition.APPLIED: told["applied"], Disposition.NOT_APPLIED: told["repaired"]}
        assert whole.reasons == Counter(repaired=told["repaired"])
        assert whole.outstanding == effects - told.total()
        by_type = counted(gateway, "list_type", "measure")
        assert {key: line.effects for key, line in by_type.items()} == {("COURT", "N-1"): effects}
        assert set(counted(gateway, "month", "department", "region")) == {(MONTH, "local", "320000")}
        report = gateway.run(gateway.inner.control.statistics.report(AGENCY, by=()))
        assert (report.open_objections, dict(report.ending)) == (0, {"WAGE": 1})
        the_command_writes_files(gateway, tmp_path)
        # What is taken in again counts no second time.
        again = gateway.run(gateway.inner.control.ledger.call(Ledger.inquiries))
        by_source = [each for each in again if each.kind == "gateway"]
        source = by_source[0].decision_id.rpartition("-")[0]
        gateway.run(gateway.inner.control.ledger.call(Ledger.add_inquiries, source, len(by_source), by_source))
        assert counted(gateway)[()].checks == whole.checks


def the_command_writes_files(gateway: RunningGateway, root: Path) -> None:
    shown = run("statistics", "--by", "matter", gateway_file=gateway.file)
    assert (shown.code, "procurement.supplier" in shown.out) == (0, True), shown.err
    lines = run("statistics", "--by", "matter,month", "--json", gateway_file=gateway.file).json["lines"]
    for name in ("out.csv", "out.xlsx"):
        assert run("statistics", "--by", "matter,month", "-o", str(root / name), gateway_file=gateway.file).code == 0
    with (root / "out.csv").open(encoding="utf-8-sig", newline="") as file:
        table = list(csv.DictReader(file))
    assert [[each["matter"], each["month"]] for each in table] == [each["key"] for each in lines]
    assert [int(each["checks"]) for each in table] == [each["checks"] for each in lines]
    sheet = python_calamine.CalamineWorkbook.from_path(str(root / "out.xlsx")).get_sheet_by_index(0).to_python()
    assert [each[2] for each in sheet[1:]] == [each["checks"] for each in lines]
    assert run("statistics", "-o", str(root / "out.pdf"), gateway_file=gateway.file).code == 2


def test_a_department_sees_its_own_alone(tmp_path: Path) -> None:
    with running(tmp_path, NOW) as gateway, gateway.client(local=False) as client:
        gateway.publish(DATA / "national.yaml")
        client.check(FREE[0], matter="funds.fiscal", purpose=PURPOSE)
        assert set(counted(gateway, "department", who=CLERK)) == {("local",)}
        elsewhere = dataclasses.replace(CLERK, department="elsewhere")
        assert counted(gateway, "department", who=elsewhere) == {}
        for asked, rule in (
            ({"by": ("officer",)}, "unknown"),
            ({"by": ("matter", "matter")}, "unknown"),
            ({"by": (), "since": "2026-13"}, "format"),
            ({"by": (), "since": "2026-1"}, "format"),
            ({"by": (), "since": "2026-05", "until": "2026-04"}, "order"),
            ({"by": (), "since": "2020-01", "until": "2026-04"}, "range"),
            ({"by": (), "since": "9999-12", "until": "9999-12"}, "format"),
        ):
            with pytest.raises(Refused) as error:
                gateway.run(gateway.inner.control.statistics.report(CLERK, **asked))
            assert error.value.metadata["rule"] == rule
        with pytest.raises(Refused) as error:
            gateway.run(gateway.inner.control.statistics.report(elsewhere, by=(), department="local"))
        assert error.value.reason == "NOT_FOUND"
        with pytest.raises(Refused):
            gateway.run(gateway.inner.control.statistics.report(person("x", Role.AUTHORITY), by=()))
