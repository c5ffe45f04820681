"""Workbooks: what a sheet says, and the packages that are refused."""

import datetime
import io
import re
import zipfile
from typing import Any

import pytest

from lanjie_gateway.adapters import workbook as adapter
from lanjie_gateway.adapters.workbook import MAX_COLUMNS, Workbook
from lanjie_gateway.domain.cells import CellError
from lanjie_gateway.domain.list_file import FileRefused
from tests.support.core import uscc
from tests.support.ledger import cells
from tests.support.shapes import bundled, facts, read, table, wage_row, workbook

CANONICAL = ["id_kind", "id_number", "list_type", "authority", "decision_no", "listed_on"]
DAY = datetime.date(2026, 1, 2)


def rows_of(data, sheet="Sheet1"):
    with Workbook(io.BytesIO(data)) as book:
        return list(book.rows(sheet)), book.sheets, book.since_1904


def changed(data, part, change):
    """The workbook with one part changed; `None` for the change drops it."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for each in old.namelist():
            content = old.read(each)
            if each == part:
                if change is None:
                    continue
                content = change(content)
            new.writestr(each, content)
    return target.getvalue()


SHEET = "xl/worksheets/sheet1.xml"


def test_cells_and_numbers_of_rows_are_those_a_person_sees():
    made: list[list[Any]] = [[], ["", "x", 12, 1.5, True, DAY], [], ["", "", "y"]]
    found, sheets, since_1904 = rows_of(workbook(made))
    assert (sheets, since_1904) == (["Sheet1"], False)
    assert [(line, [*row]) for line, row in found] == [
        (1, [""] * 6),
        (2, ["", "x", 12.0, 1.5, True, DAY]),
        (3, [""] * 6),
        (4, ["", "", "y", "", "", ""]),
    ]


def test_merged_cells_say_it_once_and_formulas_what_they_came_to():
    import xlsxwriter

    target = io.BytesIO()
    book = xlsxwriter.Workbook(target)
    sheet = book.add_worksheet("Sheet1")
    sheet.merge_range(0, 0, 1, 1, "merged")
    sheet.write_formula(2, 0, '="a"&"b"', None, "ab")
    sheet.write_formula(2, 1, "=1/0", None, "#DIV/0!")
    sheet.write_formula(2, 29, "=NA()", None, "#N/A")
    sheet.write_number(2, 28, 1)
    book.close()
    found = [row for _, row in rows_of(target.getvalue())[0]]
    assert [row[:2] for row in found[:2]] == [["merged", ""], ["", ""]]
    assert found[2][0] == "ab"
    assert isinstance(found[2][1], CellError)
    assert isinstance(found[2][29], CellError)
    assert found[2][28] == 1.0


def test_days_may_count_from_1904():
    found, _, since_1904 = rows_of(workbook([[DAY]], date_1904=True))
    assert since_1904
    assert found[0][1] == [DAY]


def test_canonical_columns_need_no_profile():
    rows: list[list[Any]] = [
        CANONICAL,
        ["uscc", uscc(1), "SJYZWF", "机关", 20260012, DAY],
        ["", ""],
        ["uscc", 913.0, "SJYZWF", "机关", "1", ""],
    ]
    rows.append(["uscc", uscc(2), True, "机关", "1", ""])
    good, bad = read(workbook(rows), "xlsx", b"")
    assert [(draft.line, draft.texts["decision_no"], draft.dates["listed_on"]) for draft in good] == [
        (2, "20260012", DAY)
    ]
    assert bad == [(4, "id_number", "lost-precision"), (5, "list_type", "type")]


def test_numbers_and_failed_formulas_of_a_profile_are_quarantined():
    (row,) = facts("TQNMGGZ", 1)
    made = [
        {**wage_row(row), "统一社会信用代码*": 913201021234567890},
        {**wage_row(row), "文书号*": DAY},
        {**wage_row(row), "发布机关*": True},
        {**wage_row(row), "预计退出日期": 46024.5},
    ]
    _, bad = read(workbook(table(made)), "xlsx", bundled("wage-arrears"))
    assert bad == [
        (2, "统一社会信用代码*", "lost-precision"),
        (3, "文书号*", "type"),
        (4, "发布机关*", "type"),
        (5, "预计退出日期", "date"),
    ]
    # Calamine calls a failed formula an empty cell: the end of a listing would be gone in silence.
    failed = changed(
        workbook(table([wage_row(row)])),
        SHEET,
        lambda xml: re.sub(rb'<c r="E2"[^>]*>.*?</c>', b"<c t = 'e' r=\"E2\"><v>#N/A</v></c>", xml),
    )
    assert read(failed, "xlsx", bundled("wage-arrears"))[1] == [(2, "预计退出日期", "cell-error")]


def test_the_one_sheet_that_fits_is_read_and_two_are_refused():
    good = table([wage_row(facts("TQNMGGZ", 1)[0])])
    notes = [["填表说明"]]
    for sheets in ({"a": good, "b": notes}, {"a": notes, "b": good}):
        assert len(read(workbook(sheets), "xlsx", bundled("wage-arrears"))[0]) == 1
    both = workbook({"企业": good, "附表": good})
    with pytest.raises(FileRefused, match="several sheets"):
        read(both, "xlsx", bundled("wage-arrears"))
    assert len(read(both, "xlsx", b'sheet = "\xe4\xbc\x81*"\n' + bundled("wage-arrears"))[0]) == 1
    with pytest.raises(FileRefused, match="no sheet"):
        read(both, "xlsx", b'sheet = "x"\n' + bundled("wage-arrears"))
    with pytest.raises(FileRefused) as error:
        read(workbook({"a": notes, "b": notes}), "xlsx", bundled("wage-arrears"))
    assert error.value.rule == "header-missing"
    hidden = changed(both, "xl/workbook.xml", lambda xml: xml.replace(b'sheetId="2"', b'sheetId="2" state="hidden"'))
    assert len(read(hidden, "xlsx", bundled("wage-arrears"))[0]) == 1


PLAIN = workbook([CANONICAL, list(cells(1).values())])
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)


def twice(data):
    target = io.BytesIO(data)
    with zipfile.ZipFile(target, "a") as package, pytest.warns(UserWarning, match="Duplicate"):
        package.writestr(SHEET, b"<worksheet/>")
    return target.getvalue()


def lying(data):
    """The directory states another size than the sheet has."""
    with zipfile.ZipFile(io.BytesIO(data)) as package:
        size = package.getinfo(SHEET).file_size
    place = data.rindex(SHEET.encode())
    at = data.index(size.to_bytes(4, "little"), place - 46)
    return data[:at] + (size - 50).to_bytes(4, "little") + data[at + 4 :]


def cell_at(reference):
    return lambda xml: xml.replace(b"</sheetData>", b'<row><c r = "%s"><v>1</v></c></row></sheetData>' % reference)


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"", "workbook"),
        (b"id_kind,id_number\n", "workbook"),
        (PLAIN[:-40], "workbook"),
        (PLAIN[:200] + bytes(50) + PLAIN[250:], "workbook"),
        (OLE, "workbook-old"),
        (OLE + "EncryptedPackage".encode("utf-16-le"), "workbook-encrypted"),
        (twice(PLAIN), "workbook"),
        (lying(PLAIN), "workbook"),
        (changed(PLAIN, SHEET, None), "workbook"),
        (changed(PLAIN, "xl/workbook.xml", None), "workbook"),
        (changed(PLAIN, "xl/workbook.xml", lambda _: b"<"), "workbook"),
        (
            changed(PLAIN, "xl/workbook.xml", lambda xml: xml.replace(b"<workbook", b"<!DOCTYPE x><workbook")),
            "workbook",
        ),
        (changed(PLAIN, SHEET, lambda xml: xml.decode().encode("utf-16")), "workbook"),
        (changed(PLAIN, SHEET, lambda xml: xml[:-40]), "workbook"),
        (changed(PLAIN, SHEET, lambda _: b" " * (8 << 20)), "workbook-size"),
        (changed(PLAIN, SHEET, cell_at(b"XFD1")), "workbook-size"),
        (changed(PLAIN, SHEET, cell_at(b"BM2")), "workbook-size"),
        (changed(PLAIN, SHEET, cell_at(b"A300000")), "workbook-size"),
        (changed(PLAIN, SHEET, cell_at(b"A4000000000")), "workbook-size"),
    ],
)
def test_a_hostile_package_is_refused_by_name(data, rule):
    with pytest.raises(FileRefused) as error:
        read(data, "xlsx", b"")
    assert (error.value.rule, error.value.line) == (rule, 0)


def test_bounds_of_size(monkeypatch):
    monkeypatch.setattr(adapter, "MAX_UNPACKED", 1_000)
    with pytest.raises(FileRefused, match="unpacks"):
        read(PLAIN, "xlsx", b"")
    monkeypatch.setattr(adapter, "MAX_FILE", 1_000)
    with pytest.raises(FileRefused, match="MiB"):
        read(PLAIN, "xlsx", b"")


def test_the_last_column_within_bounds_is_read():
    wide = workbook([["x"] * MAX_COLUMNS])
    assert len(rows_of(wide)[0][0][1]) == MAX_COLUMNS
