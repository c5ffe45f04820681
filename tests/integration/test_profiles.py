"""Files in real shapes through the import service: profiles, workbooks, retries, and `lanjie profile`."""

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from lanjie_gateway.cli.app import app
from lanjie_gateway.cli.gateway_file import CommandError
from lanjie_gateway.domain.access import Role
from lanjie_gateway.domain.errors import Refused
from lanjie_gateway.domain.import_rules import Counts, FileFormat, ImportState
from tests.support import catalogues as catalogue
from tests.support.ledger import cells, csv_file, desk, person
from tests.support.shapes import (
    FOLDER,
    TYPES,
    bundled,
    csv_bytes,
    facts,
    penalty_row,
    table,
    wage_row,
    workbook,
)

WAGE = bundled("wage-arrears")
KNOWN = catalogue.catalogues(
    catalogue.edition("n", list_types=tuple(catalogue.list_type(code) for code in TYPES), measures=())
)
XLSX: dict[str, Any] = {"format": FileFormat.XLSX, "profile": WAGE, "list_type": "TQNMGGZ", "file_name": "list.xlsx"}


async def test_a_workbook_under_a_profile_is_imported(tmp_path):
    async with desk(tmp_path, KNOWN) as at:
        rows = facts("TQNMGGZ", 25)
        made = [wage_row(row, n) for n, row in enumerate(rows)]
        other = {**made[0], "列入事由": "说法不一"}
        receipt = await at.take(workbook(table([*made, other])), **XLSX)
        assert receipt.state is ImportState.COMMITTED
        assert receipt.counts == Counts(rows=26, added=25, quarantined=1)
        assert [(row.line, row.column, row.rule) for row in receipt.quarantine] == [(27, "", "duplicate-key")]
        found = await at.listings.find(f"uscc:{rows[0]['id_number']}", "test", person("reader", Role.AGENCY))
        assert [(str(view.listing.expires_on), view.related_persons) for view in found] == [(rows[0]["expires_on"], 1)]
        left = [{**row, "到期退出情况": "已退出"} for row in made[:2]]
        receipt = await at.take(workbook(table(left)), **XLSX)
        assert receipt.counts == Counts(rows=2, removed=2)


async def test_the_same_bytes_under_another_profile_are_another_order(tmp_path):
    async with desk(tmp_path, KNOWN) as at:
        file = workbook(table(wage_row(row) for row in facts("TQNMGGZ", 5)))
        first = await at.take(file, **XLSX)
        again = await at.take(file, **XLSX)
        assert (again.repeated, again.receipt_id) == (True, first.receipt_id)
        other = await at.take(file, **{**XLSX, "profile": WAGE + b"\n# read again\n"})
        assert not other.repeated
        assert other.counts == Counts(rows=5, unchanged=5)
        assert first.sha256 != other.sha256


async def test_a_workbook_in_canonical_columns_says_what_csv_says(tmp_path):
    async with desk(tmp_path) as at:
        rows = [cells(number) for number in range(20)]
        await at.take(csv_file(rows))
        receipt = await at.take(workbook(table(rows)), format=FileFormat.XLSX)
        assert receipt.counts == Counts(rows=20, unchanged=20)


@pytest.mark.parametrize(
    ("file", "order", "rule"),
    [
        (b"PK\x03\x04 no workbook", {}, "workbook"),
        (workbook([["代码"]]), {"profile": WAGE}, "header-missing"),
        (workbook([["代码"]]), {"profile": b"name = "}, "profile-toml"),
        (workbook([["代码"]]), {}, "column-unknown"),
        (workbook([[]]), {}, "empty"),
        (workbook(table([wage_row(facts("TQNMGGZ", 1)[0])])[:1]), {"profile": WAGE}, "no-rows"),
    ],
)
async def test_what_cannot_be_read_is_refused_by_name(tmp_path, file, order, rule):
    async with desk(tmp_path, KNOWN) as at:
        with pytest.raises(Refused) as error:
            await at.take(file, **{**XLSX, "profile": b"", **order})
        assert (error.value.reason, error.value.metadata["rule"]) == ("FILE_REFUSED", rule)


def lanjie(*arguments):
    result = CliRunner().invoke(app, ["profile", *arguments], standalone_mode=False)
    return result, result.return_value if result.exception is None else getattr(result.exception, "exit_code", 1)


def test_the_command_line_lists_and_shows_profiles(tmp_path):
    listed, _ = lanjie("list", "--json")
    assert [each["name"] for each in json.loads(listed.output)] == [
        "judgment-defaulter", "penalty-publicity", "procurement", "wage-arrears",
    ]  # fmt: skip
    shown, _ = lanjie("show", "wage-arrears")
    assert shown.output.encode() == WAGE
    missing, _ = lanjie("show", "nothing")
    assert isinstance(missing.exception, CommandError)
    bad = tmp_path / "bad.toml"
    bad.write_text("name = 1", encoding="utf-8")
    refused, _ = lanjie("show", str(bad))
    assert "rule type" in str(refused.exception)


def test_a_file_is_tried_without_a_gateway(tmp_path):
    good, bad = (penalty_row(row, 1) for row in facts("SJYZWF", 2))
    twin = {**good, "cf_wfxw": "说法不一"}
    file = tmp_path / "list.csv"
    file.write_bytes(csv_bytes(table([good, {**bad, "cf_jdrq": "昨天"}, twin])))
    arguments = ("try", str(file), "--profile", "penalty-publicity", "--list-type", "SJYZWF", "--json")
    result, code = lanjie(*arguments)
    assert code == 3
    told = json.loads(result.output)
    assert (told["header_line"], told["rows"], told["good"], told["quarantined"]) == (1, 3, 1, 2)
    assert [(each["line"], each["column"], each["rule"]) for each in told["quarantine"]] == [
        (3, "cf_jdrq", "date"),
        (4, "", "duplicate-key"),
    ]
    assert told["shown"][0]["sanction_no"] == good["cf_wsh"]
    assert {each["header"]: each["becomes"] for each in told["columns"]}["cf_nr"] == "left out"
    for each in (good, bad):
        assert each["cf_xdr_shxym"] not in result.output
        assert each["cf_xdr_mc"] not in result.output
        assert each["cf_frdb"] not in result.output
    plain, code = lanjie(*arguments[:-1])
    assert code == 3
    assert good["cf_xdr_shxym"] not in plain.output
    assert "昨天" not in plain.output


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("wage-arrears-example.xlsx", "--profile", "wage-arrears"), 0, "header in line 3"),
        (("judgment-defaulter-example.jsonl", "--profile", "judgment-defaulter"), 3, "masked"),
        (("wage-arrears-example.xlsx", "--profile", "procurement"), 2, "line 3: columns are missing"),
        (("penalty-publicity-example.csv", "--profile", "penalty-publicity"), 2, "rule column-missing"),
        (("wage-arrears-example.xlsx",), 2, "rule column-unknown"),
        (("nothing.xls",), 2, "save an .xls workbook as .xlsx"),
    ],
)
def test_exit_codes_of_a_trial(arguments, code, words):
    national = FOLDER.parent / "catalogues" / "national-example.yaml"
    file = FOLDER / arguments[0]
    result, found = lanjie("try", str(file), *arguments[1:], "--catalogue", str(national))
    if code == 2:
        assert isinstance(result.exception, CommandError)
        assert result.exception.code == 2
        assert words in str(result.exception)
    else:
        assert found == code
        assert words in result.output
