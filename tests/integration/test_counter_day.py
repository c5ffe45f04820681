"""A counter's day through the Django example, and a tender as at bid opening; the long variants are of real size."""

import contextlib
import csv
import datetime
import functools
import json
import random
import runpy
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from lanjie_matcher.civil_time import day_of
from tests.integration.test_answers import DATA, NOW, PURPOSE, row
from tests.integration.test_prefork import Ground, free_port
from tests.support.gateway import running
from tests.support.prefork import counter, until
from tests.support.serve import run
from tests.support.subjects import uscc

COUNTERS = Path(__file__).parents[2] / "examples" / "counters"

MATTER = "procurement.supplier"


@pytest.mark.parametrize(
    ("approvals", "every"),
    [pytest.param(count, every, marks=pytest.mark.long) for count, every in ((12, 16), (500, 167))],
    ids=["small", "day"],
)
def test_a_counters_day_and_its_statistics(tmp_path: Path, approvals: int, every: int) -> None:
    """5.3 checks an approval, one of `every` is listed (167: 0.6 %); each hit is reported on."""
    ground, chance = Ground(tmp_path, free_port()), random.Random(48)
    sizes = [5 + (number % 10 < 3) for number in range(approvals)]
    checks = sum(sizes)
    hits = set(chance.sample(range(checks), round(checks / every)))
    listed = {number: uscc(1 + number) for number in hits}
    with ground.serving():
        assert run("catalogue", "publish", str(DATA / "national.yaml"), gateway_file=ground.file).code == 0
        ground.take(list(listed.values()))
        seen, told, number = Counter[tuple[str, str]](), Counter[str](), 0
        with counter(ground.file, tmp_path / "sdk", free_port(), tmp_path / "gunicorn.log", workers=2) as served:
            until(lambda: len(served.workers()) == 2 and served.all_fresh(), what="fresh workers")
            for approval, size in enumerate(sizes):
                for _ in range(size):
                    answer = served.accept(listed.get(number, uscc(100_000 + number)), f"2026-{approval}")
                    assert (answer["outcome"] == "INTERCEPT") is (number in hits), answer
                    seen[answer["outcome"], answer["source"]] += 1
                    if number in hits:
                        done = (
                            {"applied": "N-1"} if len(told) % 2 == 0 or told["applied"] < 2 else {"reason": "identity"}
                        )
                        report = served.report(decision_id=answer["decision_id"], officer="0042", **done)
                        told.update(each["what"] for each in report["told"])
                    number += 1
        # The workers have ended, and uploaded the last of their local passes.
        expected = {
            "checks": checks,
            "local": seen["PASS", "LOCAL"],
            "hits": len(hits),
            "effects": len(hits),
            "asked": len(hits),
            "applied": told["applied"],
            "not_applied": told["not_applied"],
        }

        def counted() -> dict[str, int]:
            (line,) = run("statistics", "--by", "department", "--json", gateway_file=ground.file).json["lines"]
            return {name: int(line.get(name, 0)) for name in expected}

        until(lambda: counted() == expected, what=f"{counted()} is {expected}")
        assert seen["PASS", "LOCAL"] > checks // 2
        assert seen.total() == checks
        assert told.total() == len(hits)


@pytest.mark.parametrize("bidders", [40, pytest.param(1_000, marks=pytest.mark.long)], ids=["small", "tender"])
def test_a_tender_is_judged_as_at_its_opening(tmp_path: Path, bidders: int) -> None:
    """All bidders at once, by file and by call, and the file's receipt is proved without the gateway.

    One who is listed after the opening passes as at it; a watch tells of him.
    """
    subjects = [uscc(1 + number) for number in range(bidders)]
    listed, later = set(subjects[:: bidders // 8]), subjects[1]
    file, out = tmp_path / "bidders.csv", tmp_path / "answers.csv"
    receipts: list[Path] = []
    file.write_text("\n".join(["identifier", *subjects]) + "\n")
    with running(tmp_path / "gateway", NOW) as gateway, gateway.client() as client:
        gateway.publish(DATA / "national.yaml")
        gateway.import_rows([row(subject, "COURT") for subject in listed])
        opening = NOW

        def intercepted(as_of: datetime.datetime | None) -> set[str]:
            found = client.check_many(subjects, matter=MATTER, purpose=PURPOSE, as_of=as_of)
            return {subject for subject, each in zip(subjects, found, strict=True) if each.outcome.name == "INTERCEPT"}

        def by_file() -> set[str]:
            asked = ["check-file", str(file), "-o", str(out), "--matter", MATTER, "--purpose", PURPOSE]
            receipts.append(tmp_path / f"receipt-{len(receipts)}.json")
            also = ("--as-of", opening.isoformat(), "--receipt", str(receipts[-1]), "--json")
            done = run(*asked, *also, gateway_file=gateway.file)
            assert done.code == 0, done.err
            with out.open(newline="") as stream:
                return {each["identifier"] for each in csv.DictReader(stream) if each["outcome"] == "INTERCEPT"}

        assert intercepted(opening) == by_file() == listed
        term = day_of(NOW) + datetime.timedelta(days=90)
        watch = functools.partial(client.watch, matter=MATTER, purpose=PURPOSE, until=term)
        watches = {watch(subject).watch_id: subject for subject in subjects[:3]}
        gateway.clock.at += datetime.timedelta(days=2)
        day = day_of(NOW + datetime.timedelta(days=1)).isoformat()
        receipt = gateway.import_rows([row(later, "COURT", served_date=day, listed_on=day)])
        assert intercepted(opening) == by_file() == listed
        now = client.check(later, matter=MATTER, purpose=PURPOSE, at_least_revision=receipt.revision)
        assert now.outcome.name == "INTERCEPT"
        told: set[tuple[str, str]] = set()

        def heard() -> bool:
            told.update((watches[each.watch_id], each.kind.name) for each in client.alerts() if each.watch_id)
            return len(told) > 1

        until(heard, what="what watches tell")
        assert told == {(subjects[0], "STANDING"), (later, "LISTED")}
        keys = [f"{name}:{key}" for name, key in json.loads(gateway.file.read_text())["trusted_keys"].items()]
    # The gateway is gone, and its clock was two days ahead of the one here.
    for each in receipts:
        proved = run("receipt", "verify", str(each), *(part for key in keys for part in ("--key", key)), "--json")
        assert (proved.code, proved.json["proved"]) == (0, True), proved.err
        outcomes = [item["outcome"] for item in proved.json["receipt"]["items"]]
        assert (len(outcomes), outcomes.count("INTERCEPT")) == (bidders, len(listed))


@pytest.mark.parametrize("framework", ["fastapi", "flask"])
def test_the_other_examples_ask_a_real_gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, framework: str) -> None:
    with running(tmp_path / "gateway", NOW) as gateway:
        gateway.publish(DATA / "national.yaml")
        gateway.import_rows([row(uscc(1), "COURT")])
        monkeypatch.setenv("LANJIE_GATEWAY_FILE", str(gateway.file))
        monkeypatch.setenv("LANJIE_STATE_DIR", str(tmp_path / "sdk"))
        made = runpy.run_path(str(COUNTERS / f"{framework}_counter" / "counter.py"))
        with contextlib.ExitStack() as stack:
            if framework == "flask":
                app = made["create_app"]()
                stack.callback(made["lanjie"].close, app)
                web = app.test_client()
            else:
                web = stack.enter_context(TestClient(made["app"]))

            def post(address: str, **form: str) -> tuple[int, Any]:
                answer = web.post(address, data=form, headers={"Accept": "application/json"})
                return answer.status_code, json.loads(answer.text)

            status, told = post("/cases/", identifier=uscc(1), case_no="2026-1")
            assert (status, told["outcome"], bool(told["remedies"])) == (409, "INTERCEPT", True)
            done = post("/feedback/", decision_id=str(told["decision_id"]), officer="0042", applied="N-1")
            assert (done[0], done[1]["told"][0]["what"]) == (200, "applied")
            assert post("/cases/", identifier=uscc(2), case_no="2026-2")[1]["outcome"] == "PASS"
