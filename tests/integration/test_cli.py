"""The command line against a running gateway: exit codes, JSON for scripts, files, and a removal that works at once."""

import csv
import datetime
import json
import os
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.gateway import COLUMNS
from tests.support.serve import LANJIE, Result, run, serving
from tests.support.signing import KEY, signed
from tests.support.subjects import citizen, org_code, uscc
from tests.support.years import INVENTED, INVENTED_TEXT

DATA = Path(__file__).parents[1] / "data"
PURPOSE = ("--purpose", "test of the command line")
SUPPLIER = ("--matter", "procurement.supplier", *PURPOSE)
LISTED, PERSON, UNLISTED, REMOVED, SILENT = uscc(101), citizen(7), uscc(102), uscc(103), uscc(104)
Lanjie = Callable[..., Result]
DEPARTMENTS = f"""
[departments.city-market]
name = "测试市监管局"
region = "320100"
list_types = ["WAGE"]
[departments.city-market.persons]
anna = {{roles = ["authority"]}}
[departments.city-credit]
name = "测试市信用办"
region = "320100"
[departments.city-credit.persons]
mara = {{roles = ["manager"], level = "municipal", signing_keys = ["{KEY.public.text}"]}}
"""


def row(identifier: str, list_type: str = "COURT", **facts: str) -> dict[str, str]:
    kind, _, number = identifier.partition(":")
    return {
        "id_kind": kind,
        "id_number": number,
        "list_type": list_type,
        "decision_no": f"测试〔2026〕{number[-5:]}号",
        "authority": "测试机关",
        "reason": "测试事由",
        "basis": "测试依据",
        "listed_on": "2026-02-01",
        "removal_conditions": "履行义务后申请移出",
        "remedies": "可申请行政复议",
        "source": "test",
        **facts,
    }


def write_list(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(scope="module")
def gateway_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("cli")
    (directory / "departments.toml").write_text(DEPARTMENTS)
    settings = {"metrics": "127.0.0.1:0", "departments": str(directory / "departments.toml")}
    with serving(directory / "state", "--allow-examples", **settings) as file:
        for name in ("national", "provincial", "municipal"):
            published = run("catalogue", "publish", str(DATA / f"{name}.yaml"), gateway_file=file)
            assert published.code == 0, published.err
        rows = [row(LISTED), row(PERSON, name="张示例"), row(REMOVED), row(SILENT, "WAGE")]
        # A list in use: a file that adds a few rows to it changes little.
        rows += [row(uscc(number), "WAGE") for number in range(1_000, 1_060)]
        imported = run("list", "import", str(write_list(directory / "first.csv", rows)), gateway_file=file)
        assert imported.code == 0, imported.err + imported.out
        yield file


@pytest.fixture
def lanjie(gateway_file: Path) -> Lanjie:
    return lambda *arguments, stdin="": run(*arguments, gateway_file=gateway_file, stdin=stdin)


def token(gateway_file: Path, person: str) -> str:
    path: str = json.loads(gateway_file.read_text())["tokens"][person]
    return path


def test_a_check_shows_the_slip(lanjie: Lanjie) -> None:
    done = lanjie("check", LISTED, *SUPPLIER)
    assert done.code == 0, done.err
    for part in ("INTERCEPT", "N-1", "测试采购法第二十二条", "采购人", "测试机关", "履行义务后申请移出", "revision"):
        assert part in done.out
    assert LISTED.partition(":")[2] not in done.out + done.err
    assert "\x1b" not in done.out


def test_a_check_as_json_is_the_decision(lanjie: Lanjie) -> None:
    decision = lanjie("check", LISTED, *SUPPLIER, "--json").json
    assert decision["outcome"] == "INTERCEPT"
    assert [measure["code"] for measure in decision["measures"]] == ["N-1"]
    assert decision["listings"][0]["removal_conditions"] == "履行义务后申请移出"
    assert decision["source"] == "GATEWAY"
    assert decision["decision_id"]
    assert decision["revision"] >= 4


@pytest.mark.parametrize("subject", [UNLISTED, SILENT])
def test_a_pass_tells_nothing_of_listings(lanjie: Lanjie, subject: str) -> None:
    decision = lanjie("check", subject, *SUPPLIER, "--json").json
    assert decision["outcome"] == "PASS"
    assert decision["measures"] == decision["listings"] == []


def test_other_forms_of_one_identifier(lanjie: Lanjie) -> None:
    for form in (org_code(LISTED), LISTED.lower(), LISTED.replace("9132", "9132 ").upper().replace("USCC", "uscc")):
        assert lanjie("check", form, *SUPPLIER, "--json").json["outcome"] == "INTERCEPT"
    piped = lanjie("check", "-", *SUPPLIER, "--json", stdin=f"{LISTED}\n")
    assert piped.json["outcome"] == "INTERCEPT"


def test_a_name_and_a_past_instant(lanjie: Lanjie) -> None:
    other = lanjie("check", PERSON, *SUPPLIER, "--name", "李示例", "--json").json
    assert (other["outcome"], other["reason"]) == ("UNDETERMINED", "NAME_MISMATCH")
    before = lanjie("check", LISTED, *SUPPLIER, "--as-of", "2026-01-31T23:59", "--json").json
    assert before["outcome"] == "PASS"
    assert before["as_of"] == "2026-01-31T15:59:00+00:00"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("check", "uscc:123", *SUPPLIER), "length"),
        (("check", "9132", *SUPPLIER), "kind-missing"),
        (("check", "citizen:32010219990230001X", *SUPPLIER), "date"),
        (("check", UNLISTED, "--matter", "no.such", *PURPOSE), "no.such"),
        (("check", UNLISTED, "--matter", "procurement.supplier", "--purpose", " "), "purpose"),
        (("check", UNLISTED, *SUPPLIER, "--handling-region", "32"), "handling_region"),
        (("check", UNLISTED, "--matter", "school.enrol", *PURPOSE, "--as-of", "2026-02-01T00:00"), "AS_OF"),
        (("check", UNLISTED, *SUPPLIER, "--as-of", "2026-02-01"), "instant"),
        (("check", UNLISTED), "--matter"),
        (("list", "find", "uscc:123"), "length"),
        (("list", "show", "none"), "NOT_FOUND"),
        (("list", "remove", "none", "--reason", "r", "--document", "d"), "NOT_FOUND"),
        (("list", "confirm", "none"), "NOT_FOUND"),
        (("list", "import", "nowhere.csv"), "cannot be read"),
        (("list", "import", "list.xls"), "suffix"),
        (("list", "import", "list.csv", "--as-of", "2026-02-01T00:00"), "--mode full"),
        (("catalogue", "show", "none"), "NOT_FOUND"),
        (("calendar", "show", "2050"), "NOT_FOUND"),
        (("calendar", "publish", "nowhere.yaml"), "cannot be read"),
        (("calendar", "due", "none", "--from", "2026-02-10"), "revocation-notice"),
        (("calendar", "due", "revocation-notice", "--from", "20260210"), "started_date"),
    ],
)
def test_refusals_are_one_line_and_exit_2(lanjie: Lanjie, arguments: tuple[str, ...], named: str) -> None:
    done = lanjie(*arguments)
    assert done.code == 2
    assert done.out == ""
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert named in done.err
    assert "32010219990230001X" not in done.err


def test_no_gateway_is_one_line_and_exit_2(tmp_path: Path, gateway_file: Path) -> None:
    missing = run("status", "--gateway-file", str(tmp_path / "gateway.json"))
    assert missing.code == 2
    assert "lanjie serve" in missing.err
    inquirer = token(gateway_file, "inquirer")
    nobody = run("check", UNLISTED, *SUPPLIER, "--address", "127.0.0.1:1", "--token-file", inquirer, "--json")
    assert nobody.code == 2
    assert nobody.json["outcome"] == "UNDETERMINED"
    assert "lanjie serve" in nobody.err
    authority = token(gateway_file, "authority")
    find = run("list", "find", UNLISTED, "--address", "127.0.0.1:1", "--token-file", authority)
    assert (find.code, "lanjie serve" in find.err) == (2, True)


def test_status_asks_several_listeners(lanjie: Lanjie) -> None:
    refused = lanjie("status", "--address", "127.0.0.1:1")
    assert (refused.code, "--gateway-file" in refused.err) == (2, True)


def test_a_wrong_token_is_refused(lanjie: Lanjie, tmp_path: Path, gateway_file: Path) -> None:
    (tmp_path / "token").write_text("guess")
    assert "CREDENTIALS_INVALID" in lanjie("check", LISTED, *SUPPLIER, "--token-file", str(tmp_path / "token")).err
    inquirer = token(gateway_file, "inquirer")
    assert "NOT_PERMITTED" in lanjie("list", "find", LISTED, "--token-file", inquirer).err


def test_a_file_of_bidders(lanjie: Lanjie, tmp_path: Path) -> None:
    bidders, answers = tmp_path / "bidders.csv", tmp_path / "answers.csv"
    subjects = [LISTED, "uscc:nonsense", UNLISTED, SILENT, PERSON, ""]
    bidders.write_text("\n".join(["标识,批次", *(f"{each},{place}" for place, each in enumerate(subjects))]) + "\n")
    done = lanjie("check-file", str(bidders), "-o", str(answers), *SUPPLIER, "--json")
    assert done.code == 0, done.err
    summary = done.json
    assert summary["rows"] == 6
    assert summary["malformed"] == 2
    assert summary["outcomes"] == {
        **dict.fromkeys(("ADVISE", "HEIGHTEN", "RESTRICT"), 0),
        "PASS": 2,
        "INTERCEPT": 2,
        "UNDETERMINED": 2,
    }
    assert len(summary["revisions"]) == 1
    with answers.open(newline="") as file:
        rows = list(csv.DictReader(file))
    outcomes = [each["outcome"] for each in rows]
    assert outcomes == ["INTERCEPT", "UNDETERMINED", "PASS", "PASS", "INTERCEPT", "UNDETERMINED"]
    assert [each["批次"] for each in rows] == [str(place) for place in range(6)]
    assert [each["标识"] for each in rows] == subjects
    assert rows[0]["measures"] == "N-1"
    assert rows[1]["reason"] == rows[5]["reason"] == "IDENTIFIER_INVALID"
    assert all(each["decision_id"] for each in rows if each["reason"] == "")
    assert answers.stat().st_mode & 0o077 == 0
    shown = lanjie("check-file", str(bidders), "-o", str(answers), *SUPPLIER, "--as-of", "2026-01-31T09:30")
    assert shown.code == 0
    assert "6 rows checked" in shown.out
    assert "2 without a usable identifier" in shown.out
    assert "as of 2026-01-31 09:30:00 +08:00" in shown.out
    assert lanjie("check-file", str(bidders), "-o", str(bidders), *SUPPLIER).code == 2


def test_quarantine_is_exit_3_strict_and_dry_runs_commit_nothing(lanjie: Lanjie, tmp_path: Path) -> None:
    rows = [row(uscc(number), "WAGE") for number in range(2_000, 2_030)]
    file = write_list(tmp_path / "bad.csv", [*rows, row("uscc:12345", "WAGE")])
    dry = lanjie("list", "import", str(file), "--dry-run", "--json")
    assert (dry.code, dry.json["state"], dry.json["revision"]) == (3, "DRY_RUN", 0)
    strict = lanjie("list", "import", str(file), "--strict")
    assert strict.code == 2
    assert lanjie("list", "find", uscc(2_000), "--json").json == []
    done = lanjie("list", "import", str(file), "--json")
    assert done.code == 3
    assert done.json["added"] == 30
    bad = done.json["quarantine"][0]
    assert (bad["line"], bad["column"]) == (32, "id_number")
    assert "12345" not in done.out
    again = lanjie("list", "import", str(file), "--json")
    assert again.json["repeated_file"] is True
    assert again.json["receipt_id"] == done.json["receipt_id"]


def test_a_large_change_waits_for_a_second_person(lanjie: Lanjie, tmp_path: Path, gateway_file: Path) -> None:
    rows = [row(uscc(number), "WAGE") for number in range(3_000, 3_010)]
    file = write_list(tmp_path / "waits.csv", [*rows, *(row(f"uscc:{number}", "WAGE") for number in range(3))])
    waiting = lanjie("list", "import", str(file))
    assert waiting.code == 4
    command = waiting.out.strip().splitlines()[-1].split()
    assert command[:3] == ["lanjie", "list", "confirm"]
    assert lanjie("list", "find", uscc(3_000), "--json").json == []
    mine = lanjie("list", "confirm", command[3], "--token-file", token(gateway_file, "authority"))
    assert mine.code == 2
    assert "SECOND_PERSON_REQUIRED" in mine.err
    confirmed = lanjie(*command[1:], "--json")
    assert confirmed.code == 3
    assert confirmed.json["state"] == "COMMITTED"
    assert len(lanjie("list", "find", uscc(3_000), "--json").json) == 1


def test_a_file_that_cannot_be_taken(lanjie: Lanjie, tmp_path: Path) -> None:
    for name, content in (("empty.csv", b""), ("coded.csv", "证件,名称\n甲,乙\n".encode("gb18030"))):
        (tmp_path / name).write_bytes(content)
        refused = lanjie("list", "import", str(tmp_path / name))
        assert refused.code == 2
        assert refused.err.startswith("error: ")


def test_a_removal_works_at_once(lanjie: Lanjie) -> None:
    assert lanjie("check", REMOVED, *SUPPLIER, "--json").json["outcome"] == "INTERCEPT"
    (listing,) = lanjie("list", "find", REMOVED, "--json").json
    assert listing["in_force"] is True
    assert listing["masked_identifiers"] != [REMOVED]
    done = lanjie("list", "remove", listing["id"], "--reason", "履行完毕", "--document", "移出1号", "--json")
    assert done.code == 0
    decision = lanjie("check", REMOVED, *SUPPLIER, "--json").json
    assert decision["outcome"] == "PASS"
    assert decision["revision"] >= done.json["revision"]
    assert done.json["listing"]["not_in_force_reason"] == "removed"
    again = lanjie("list", "remove", listing["id"], "--reason", "again", "--document", "移出1号")
    assert (again.code, "TRANSITION_ILLEGAL" in again.err) == (2, True)
    shown = lanjie("list", "show", listing["id"], "--json").json
    assert [event["kind"] for event in shown["events"]] == ["LISTED", "REMOVED"]
    assert shown["events"][1]["document"] == "移出1号"


def test_events_of_a_listing(lanjie: Lanjie, tmp_path: Path) -> None:
    subject = uscc(105)
    assert lanjie("list", "import", str(write_list(tmp_path / "one.csv", [row(subject)]))).code == 0
    (listing,) = lanjie("list", "find", subject, "--json").json
    why = (listing["id"], "--reason", "r", "--document", "d", "--json")

    def outcome() -> str:
        text: str = lanjie("check", subject, *SUPPLIER, "--json").json["outcome"]
        return text

    assert lanjie("list", "object", *why).json["listing"]["objection"] is True
    assert outcome() == "INTERCEPT"
    closing = ("close-objection", *why, "--outcome", "unfounded", "--reply")
    assert lanjie("list", *closing, "").code == 2
    assert lanjie("list", *closing, "It was as it says.").json["listing"]["objection"] is False
    assert lanjie("list", "stay", *why, "--until", "2099-12-31").code == 0
    assert outcome() == "PASS"
    lifted = lanjie("list", "lift-stay", *why)
    assert lifted.code == 4
    assert outcome() == "PASS"
    act = lifted.json["waiting"]["act_id"]
    assert lanjie("list", "waiting", "--json").json["acts"][0]["act_id"] == act
    assert lanjie("list", "confirm", act, "--json").json["revision"] > 0
    assert outcome() == "INTERCEPT"
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    assert lanjie("list", "repair", *why, "--date", today).code == 0
    assert outcome() == "PASS"
    events = lanjie("list", "show", listing["id"], "--json").json["events"]
    assert "REPAIRED" in [event["kind"] for event in events]
    (told,) = (event for event in events if event["kind"] == "OBJECTION_CLOSED")
    assert (told["objection_outcome"], told["reply"]) == ("UNFOUNDED", "It was as it says.")


def test_a_notice_is_applied_and_looked_at_by_a_second_person(lanjie: Lanjie, tmp_path: Path) -> None:
    subject = uscc(107)
    assert lanjie("list", "import", str(write_list(tmp_path / "one.csv", [row(subject)]))).code == 0
    (listing,) = lanjie("list", "find", subject, "--json").json
    why = (listing["id"], "--reason", "r", "--document", "d", "--json")

    def duties(*options: str) -> list[str]:
        found = lanjie("duties", "--json", *options).json
        return sorted(each["rule"] for each in found if each["listing_id"] == listing["id"])

    arrived = ("notice", *why, "--what", "annulled", "--instrument-date", "2026-01-05")
    assert lanjie("list", *arrived).code == 0
    assert "TRANSITION_ILLEGAL" in lanjie("list", *arrived).err
    # The provider was late; the agency is not, yet.
    assert duties() == ["revocation-apply"]
    assert duties("--overdue", "--late") == ["revocation-notice"]
    annulled = lanjie("list", "annul", *why).json["revision"]
    assert lanjie("check", subject, *SUPPLIER, "--json").json["outcome"] == "PASS"
    assert duties() == ["publicity-withdrawal", "removal-review"]
    shown = lanjie("duties")
    assert "provisional" in shown.out or "open" in shown.out
    assert lanjie("list", "withdraw-publicity", *why).code == 0
    looked = ("list", "review", listing["id"], "--revision", str(annulled))
    assert lanjie(*looked, "--contest").code == 2
    assert lanjie(*looked, "--contest", "--reason", "not the same case").code == 0
    assert duties() == ["contested"]
    text = lanjie("list", "show", listing["id"]).out
    assert "contested" in text
    assert "instrument" in text


_KEYED = {"id_kind", "id_number", "list_type", "source"}


def test_what_is_entered_by_hand_waits_for_another_person(lanjie: Lanjie) -> None:
    subject = uscc(7_107)
    cells = [f"--set={column}={value}" for column, value in row(subject).items() if column not in _KEYED]
    entered = lanjie("list", "add", subject, "--list-type", "WAGE", *cells, "--json")
    assert entered.code == 4, entered.err
    assert lanjie("list", "find", subject, "--json").json == []
    assert [each["importer"] for each in lanjie("list", "waiting", "--json").json["imports"]] == ["local/authority"]
    receipt = entered.json["receipt_id"]
    assert "***" in lanjie("list", "waiting", receipt).out
    assert lanjie("list", "confirm", receipt, "--json").code == 0
    (listing,) = lanjie("list", "find", subject, "--json").json
    why = ("--reason", "r", "--document", "d", "--json")
    act = lanjie("list", "amend", listing["id"], "--set", "reason=更正", *why)
    assert act.code == 4
    act_id = act.json["waiting"]["act_id"]
    shown = lanjie("list", "waiting", act_id).out
    assert "would be corrected" in shown
    assert "更正" in shown
    assert lanjie("list", "decline", act_id, "--reason", "no").code == 0
    assert (lanjie("list", "confirm", act_id).code, lanjie("list", "waiting").out) == (2, "nothing waits\n")
    assert lanjie("list", "find", subject, "--json").json[0]["reason"] == listing["reason"]
    bad = lanjie("list", "amend", listing["id"], "--set", "list_type=TAX", *why)
    assert (bad.code, "column" in bad.err) == (2, True)


def test_a_refused_catalogue_names_file_entry_and_rule(lanjie: Lanjie, tmp_path: Path) -> None:
    text = (DATA / "municipal.yaml").read_text()
    file = tmp_path / "unfiled.yaml"
    file.write_text("\n".join(line for line in text.splitlines() if "filing" not in line))
    refused = lanjie("catalogue", "publish", str(file))
    assert refused.code == 2
    assert "unfiled.yaml" in refused.err
    assert "filing" in refused.err


def test_a_dry_run_shows_what_an_edition_changes(lanjie: Lanjie, tmp_path: Path) -> None:
    text = (DATA / "national.yaml").read_text().replace('edition: "2026"', 'edition: "2099"')
    text = text.replace("effective_from: 2026-01-10", "effective_from: 2099-01-10")
    file = tmp_path / "next.yaml"
    file.write_text(
        text.replace("list_types: [WAGE], matters: [funds.fiscal]", "list_types: [TAX], matters: [funds.fiscal]")
    )
    dry = lanjie("catalogue", "publish", str(file), "--dry-run", "--json").json
    (period,) = dry["changes"]["periods"]
    (change,) = period["matters"]
    assert (period["first_date"], change["matter"]) == ("2099-01-10", "funds.fiscal")
    assert change["grows"] == [{"list_type": "TAX", "kinds": ["enterprise", "natural_person"]}]
    sources = lanjie("status", "--json").json["lists"]["sources"]
    live = sum(each["live_listings"] for each in sources if each["list_type"] == "WAGE")
    assert {each["list_type"]: each["live"] for each in change["listings"]} == {"TAX": 0, "WAGE": live}
    shown = lanjie("catalogue", "publish", str(file), "--dry-run")
    assert all(each in shown.out for each in ("from 2099-01-10", "funds.fiscal", "N-5", "scope grows", f"WAGE {live}"))
    (one,) = lanjie("catalogue", "show", "test-national", "--on", "2026-01-09", "--json").json
    assert (one["state"], one["approver"]) == ("not_yet_in_force", "测试机关")
    assert "in force" in lanjie("catalogue", "show", "test-national").out


def test_catalogues_and_status(lanjie: Lanjie) -> None:
    editions = lanjie("catalogue", "show", "--json").json
    assert {each["catalogue_id"] for each in editions} >= {"test-national"}
    (one,) = lanjie("catalogue", "show", "test-national", "--json").json
    assert one["file"] == (DATA / "national.yaml").read_text()
    assert lanjie("catalogue", "show", "test-national", "--file").out == one["file"]
    dry = lanjie("catalogue", "publish", str(DATA / "national.yaml"), "--dry-run")
    assert dry.code in {0, 2}
    status = lanjie("status", "--json").json
    assert status["ready"] is True
    assert status["revision"] >= one["revision"]
    assert len(status["catalogues"]) == 3
    assert status["sync"]["revision"] >= one["revision"]
    assert status["sync"]["troubles"] == []
    sources = {each["list_type"]: each for each in status["lists"]["sources"]}
    assert sources["WAGE"]["source"] == "test"
    assert sources["WAGE"]["live_listings"] >= 60
    assert sources["WAGE"]["vouched_date"] == status["lists"]["today_date"]
    text = lanjie("status").out
    assert "test-national@2026" in text
    assert "No SDK has come yet" in text


def test_working_days_and_deadlines(lanjie: Lanjie, tmp_path: Path) -> None:
    due = lanjie("calendar", "due", "revocation-notice", "--from", "2026-12-25", "--json").json
    assert (due["due_date"], due["provisional"], due["number"]) == ("2027-01-04", True, 5)
    assert "Art. 65" in due["source"]
    file = tmp_path / "2027.yaml"
    file.write_text(INVENTED_TEXT.replace("2027-01-31", "2027-01-29"))
    refused = lanjie("calendar", "publish", str(file))
    assert refused.code == 2
    for part in ("2027.yaml", "working_days 2027-01-29", "weekend-only"):
        assert part in refused.err
    file.write_bytes(INVENTED)
    assert "dry run" in lanjie("calendar", "publish", str(file), "--dry-run").out
    published = lanjie("calendar", "publish", str(file), "--json").json
    assert (published["year"]["year"], published["year"]["actor"]) == (2027, "local/manager")
    assert published["year"]["revision"] > 0
    shown = lanjie("calendar", "show", "--json").json
    assert [each["year"] for each in shown["years"]] == [2025, 2026, 2027]
    assert shown["years"][2] == published["year"]
    assert "国办发明电〔2025〕7号" in lanjie("calendar", "show", "2026").out
    text = lanjie("calendar", "due", "revocation-notice", "--from", "2026-12-25").out
    assert "2027-01-04" in text
    assert "provisional" not in text


def test_metrics_stand_where_the_gateway_file_says(gateway_file: Path) -> None:
    address = json.loads(gateway_file.read_text())["metrics"]
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(f"http://{address}/metrics", timeout=5) as answer:
        assert b"lanjie_sync_current 1.0" in answer.read()


def test_another_department_writes_its_own_and_publishes_what_it_signs(
    lanjie: Lanjie, gateway_file: Path, tmp_path: Path
) -> None:
    tokens = gateway_file.parent / "tokens"
    anna, mara = (("--token-file", str(tokens / path)) for path in ("city-market/anna.token", "city-credit/mara.token"))
    rows = [row(uscc(7_001), "WAGE", source=""), row(uscc(7_002), "COURT", source="")]
    done = lanjie("list", "import", str(write_list(tmp_path / "list.csv", rows)), *anna, "--json")
    assert done.code == 4
    assert [(bad["column"], bad["rule"]) for bad in done.json["quarantine"]] == [("list_type", "not-permitted")]
    assert "--token-file THEIR_TOKEN_FILE" in done.json["confirm_command"]
    one = write_list(tmp_path / "one.csv", rows[:1])
    assert lanjie("list", "import", str(one), *anna).code == 0
    (own,) = lanjie("list", "find", uscc(7_001), *anna, "--json").json
    (other,) = lanjie("list", "find", LISTED, "--json").json
    assert lanjie("list", "find", LISTED, *anna, "--json").json == []
    why = ("--reason", "test", "--document", "1", *anna)
    refused, unknown = (lanjie("list", "remove", listing, *why) for listing in (other["id"], "0" * 16))
    assert (refused.code, refused.out, refused.err) == (unknown.code, unknown.out, unknown.err)
    assert lanjie("list", "remove", own["id"], *why).code == 0

    # An edition that acts in 2031 only.
    later = (DATA / "municipal.yaml").read_text().replace("2026-01-10", "2031-01-10")
    file, key, signature = tmp_path / "later.yaml", tmp_path / "mara.key", tmp_path / "later.sig"
    file.write_text(later.replace('edition: "2026"', 'edition: "2031"'))
    key.write_bytes(bytes(range(32)))
    assert lanjie("catalogue", "publish", str(DATA / "provincial.yaml"), *mara, "--dry-run").code == 2
    assert lanjie("catalogue", "publish", str(file), *mara, "--dry-run").code == 0
    unsigned = lanjie("catalogue", "publish", str(file), *mara)
    assert (unsigned.code, "--signing-key" in unsigned.err) == (2, True)
    signature.write_text(signed(b"another file").text)
    assert "signature-invalid" in lanjie("catalogue", "publish", str(file), *mara, "--signature", str(signature)).err
    assert lanjie("catalogue", "sign", str(file), "--signing-key", str(key), "-o", str(signature)).code == 0
    assert lanjie("catalogue", "publish", str(file), *mara, "--signature", str(signature)).code == 0
    assert lanjie("catalogue", "publish", str(file), *mara, "--signing-key", str(key)).code == 0
    show = ("catalogue", "show", "test-municipal", "--edition", "2031")
    assert "signed by city-credit/mara with key ed25519-" in " ".join(lanjie(*show).out.split())
    signature.write_text(lanjie(*show, "--signature").out)
    verify = ("catalogue", "verify", str(file), "--signature", str(signature), "--public-key", KEY.public.text)
    assert lanjie(*verify).code == 0


@pytest.mark.parametrize("address", ["9464", "0.0.0.0:9464", "127.0.0.1:x"])
def test_metrics_stand_on_loopback_only(tmp_path: Path, address: str) -> None:
    refused = run("serve", "--state", str(tmp_path / "state"), "--metrics", address)
    assert refused.code == 2
    assert "loopback" in refused.err or "HOST:PORT" in refused.err


def test_help_and_wrong_usage_as_processes() -> None:
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    shown = subprocess.run([*LANJIE, "--help"], capture_output=True, text=True, check=True, env=environment)
    for command in ("serve", "check-file", "list", "catalogue", "demo"):
        assert command in shown.stdout
    wrong = subprocess.run(
        [*LANJIE, "check", "uscc:", "91320102MA1ABCDE0X"], capture_output=True, text=True, check=False
    )
    assert wrong.returncode == 2
    assert "91320102MA1ABCDE0X" not in wrong.stderr + wrong.stdout


@pytest.mark.long
def test_the_demo_ends_well(tmp_path: Path) -> None:
    command = [*LANJIE, "demo", "--state", str(tmp_path / "demo"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["tender"]["with_measures"] == 8


def test_a_file_in_its_own_shape_is_imported_under_a_profile(lanjie: Lanjie) -> None:
    file = str(Path(__file__).parents[2] / "examples" / "shapes" / "procurement-example.xlsx")
    # The command line wins over the profile, whose list type this gateway does not know.
    order = ("list", "import", file, "--profile", "procurement", "--dry-run", "--json")
    told = lanjie(*order, "--list-type", "PROC")
    assert told.code == 0, told.err
    receipt = json.loads(told.out)
    assert (receipt["rows"], receipt["added"], receipt["quarantined"]) == (12, 12, 0)
    refused = lanjie(*order)
    assert (refused.code, "list-type-unknown" in refused.err) == (2, True)
    plain = lanjie("list", "import", file)
    assert (plain.code, "column-unknown" in plain.err) == (2, True)
