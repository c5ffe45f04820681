"""Profiles: what their files may say, and what they make of headers, cells and rows."""

import dataclasses
import datetime
import hashlib
import io
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanjie_gateway.adapters.list_records import ListReader
from lanjie_gateway.domain.cells import DATE_FORMS, ERROR, day_of_cell, text_of
from lanjie_gateway.domain.layout import Layout
from lanjie_gateway.domain.list_file import FileRefused, RowRefused
from lanjie_gateway.domain.profile import MAX_BYTES, SCHEMES, Profile, ProfileRefused, plain_header
from lanjie_matcher.identifiers import IdentifierKind
from lanjie_matcher.subjects import SubjectKind
from tests.support.core import citizen, org_code, uscc
from tests.support.shapes import (
    DAY,
    FOLDER,
    PENALTY,
    bundled,
    csv_bytes,
    facts,
    jsonl_bytes,
    judgment_record,
    penalty_row,
    procurement_row,
    read,
    samples,
    serial,
    table,
    wage_row,
    workbook,
)

NAMES = ("judgment-defaulter", "penalty-publicity", "procurement", "wage-arrears")
SMALL = """
name = "small"
title = "示例"
[[identifiers]]
kind = "uscc"
headers = ["代码"]
[columns.listed_on]
headers = ["列入时间"]
"""


def small(more: str = "", **changes: str) -> Profile:
    text = SMALL
    for old, new in changes.items():
        text = text.replace(old, new)
    return Profile.load((more + text).encode())


@pytest.mark.parametrize("name", NAMES)
def test_bundled_profiles_say_what_they_are(name):
    profile = Profile.load(bundled(name))
    assert profile.name == name
    text = bundled(name).decode()
    assert "NOT an official template" in text
    # A penalty is no listing: only the order can name a list type.
    assert bool(profile.list_type) is (name != "penalty-publicity")


@pytest.mark.parametrize(
    ("data", "key", "rule"),
    [
        (b"\xff\xfe", "", "encoding"),
        (b"name = ", "", "toml"),
        (b"a" + b"=[" * 30_000, "", "toml"),
        (b"a = " + b"9" * 5_000, "", "toml"),
        (b" " * (MAX_BYTES + 1), "", "too-large"),
        (b"title = 'x'", "name", "key-missing"),
        (b"name = 1", "name", "type"),
        (b"name = ''", "name", "value"),
        (b"name = 'a'\ntitle = 'b'", "identifiers", "key-missing"),
        (f"colour = 'red'{SMALL}".encode(), "colour", "key-unknown"),
        (f"encoding = 'big5'{SMALL}".encode(), "encoding", "value"),
        (f"delimiter = 'x'{SMALL}".encode(), "delimiter", "value"),
        (f"header_within = 0{SMALL}".encode(), "header_within", "value"),
        (f"header_within = true{SMALL}".encode(), "header_within", "type"),
        (f"dates = ['dd/mm/yyyy']{SMALL}".encode(), "dates", "value"),
        (f"ignore = ['']{SMALL}".encode(), "ignore", "type"),
        (f"ignore = ['*']{SMALL}".encode(), "ignore", "value"),
        (f"ignore = ['病史(必填)']{SMALL}".encode(), "ignore", "column-prohibited"),
        (f"ignore = ['代 码*']{SMALL}".encode(), "identifiers", "header-twice"),
        (f"constants = {{ colour = 'red' }}{SMALL}".encode(), "constants.colour", "column-unknown"),
        (f"constants = {{ id_number = '1' }}{SMALL}".encode(), "constants.id_number", "column-unknown"),
        (f"constants = 1{SMALL}".encode(), "constants", "type"),
        (f"defaults = {{ mode = 'all' }}{SMALL}".encode(), "defaults.mode", "value"),
        (f"defaults = {{ model = 'full' }}{SMALL}".encode(), "defaults.model", "key-unknown"),
        (f"record_id = {{ md5 = ['citizen'] }}{SMALL}".encode(), "record_id.md5", "value"),
        (SMALL.replace("'uscc'", "'x'").replace('"uscc"', '"x"').encode(), "identifiers[1].kind", "value"),
        (SMALL.replace('kind = "uscc"', "").encode(), "identifiers[1].kind", "value"),
        (SMALL.replace('kind = "uscc"', 'kind_headers = ["类"]').encode(), "identifiers[1].kind", "value"),
        (SMALL.replace('kind = "uscc"', 'kind = "uscc"\nscheme = "iso"').encode(), "identifiers[1].scheme", "value"),
        (
            SMALL.replace('kind = "uscc"', 'kind_headers=["类"]\nscheme="cb16"\ncodes={"10"="passport"}').encode(),
            "identifiers[1].codes",
            "value",
        ),
        (SMALL.replace('["代码"]', "[]").encode(), "identifiers[1].headers", "value"),
        (SMALL.replace("columns.listed_on", "columns.colour").encode(), "columns.colour", "column-unknown"),
        (SMALL.replace("columns.listed_on", "columns.id_number").encode(), "columns.id_number", "column-unknown"),
        (SMALL.replace("columns.listed_on", "columns").encode(), "columns.headers", "type"),
        (f"{SMALL}required = 1".encode(), "columns.listed_on.required", "type"),
        (f"{SMALL}when = 'now'".encode(), "columns.listed_on.when", "key-unknown"),
        (f"{SMALL}[[related]]\nrole='boss'".encode(), "related[1].headers", "key-missing"),
        (f"{SMALL}[[related]]\nrole='boss'\nheaders=['代码']".encode(), "related", "header-twice"),
    ],
)
def test_a_bad_profile_names_key_and_rule(data, key, rule):
    with pytest.raises(ProfileRefused) as error:
        Profile.load(data)
    assert (error.value.key, error.value.rule) == (key, rule)


def test_certificate_codes_keep_their_scheme():
    kinds = {kind.value for kind in IdentifierKind}
    assert all(set(codes.values()) <= kinds | {""} for codes in SCHEMES.values())
    # The same paper, three codes; the same idea of a code, three papers.
    assert (SCHEMES["return-table"]["1"], SCHEMES["cb16"]["10"], SCHEMES["gat517"]["111"]) == ("citizen",) * 3
    assert len({*SCHEMES["return-table"], *SCHEMES["cb16"], *SCHEMES["gat517"]}) == sum(map(len, SCHEMES.values()))


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        (" 统一社会信用代码 * ", "统一社会信用代码"),
        ("*对象名称（必填）", "对象名称"),
        ("ＣＦ_ＷＳＨ", "cf_wsh"),
        ("法定\n代表人(选填)*", "法定代表人"),
    ],
)
def test_headers_are_compared_without_what_only_looks(text, plain):
    assert plain_header(text) == plain


DAYS = st.dates(datetime.date(1994, 1, 3), datetime.date(2173, 10, 13))


@given(DAYS, st.sampled_from(["", " 00:00:00", "T00:00", " 0:00:00.000"]), st.sampled_from("-/."))
def test_all_forms_of_a_day_read_alike(day, time, separator):
    written = [
        day.strftime(f"%Y{separator}%m{separator}%d") + time,
        f"{day.year}{separator}{day.month}{separator}{day.day}{time}",
        f"{day:%Y%m%d}{time}",
        f"{day.year}年{day.month}月{day.day}日{time}",
        f"{day:%Y%m%d}".translate({ord("0") + n: "０１２３４５６７８９"[n] for n in range(10)}),
        str(serial(day.isoformat())),
        float(serial(day.isoformat())),
        float(f"{day:%Y%m%d}"),
        day,
        datetime.datetime.combine(day, datetime.time()),
    ]
    assert {day_of_cell(cell, "d", DATE_FORMS) for cell in written} == {day.isoformat()}
    assert day_of_cell(serial(day.isoformat()) - 1462, "d", DATE_FORMS, since_1904=True) == day.isoformat()


@pytest.mark.parametrize(
    "cell",
    [
        "26-01-02", "01/02/2026",
        "2026-01/02", "2026-02-30", "20261301", "2026-01-02 10:30", "2026年1月", "2026", "20260", "202601",
        "长期", 2026.0, 46024.5, float("inf"), float("1e300"), True, ERROR, datetime.time(1), datetime.timedelta(3),
        datetime.datetime(2026, 1, 2, 10),  # noqa: DTZ001  as a workbook hands it over
    ],
)  # fmt: skip
def test_what_may_be_several_days_or_none_is_refused(cell):
    with pytest.raises(RowRefused) as error:
        day_of_cell(cell, "d", DATE_FORMS)
    assert (error.value.column, error.value.rule) == ("d", "cell-error" if cell is ERROR else "date")


def test_a_day_is_read_in_the_forms_of_its_column_only():
    with pytest.raises(RowRefused):
        day_of_cell(10**400, "d", DATE_FORMS)
    with pytest.raises(RowRefused):
        day_of_cell("46024", "d", ("yyyymmdd",))
    assert day_of_cell(datetime.date(2026, 1, 2), "d", ()) == "2026-01-02"


@pytest.mark.parametrize(
    ("cell", "text"),
    [(" x ", "x"), (None, ""), (12.0, "12"), (1.5, "1.5"), (-3.0, "-3"), (7, "7"), (10**17, "1" + "0" * 17)],
)
def test_cells_as_texts(cell, text):
    assert text_of(cell, "c") == text


@pytest.mark.parametrize(
    ("cell", "identifier", "rule"),
    [
        (9.13201021234568e17, False, "lost-precision"),
        (1234567890123456.0, False, "lost-precision"),
        (0.1 + 0.2, False, "lost-precision"),
        (1e-7, False, "lost-precision"),
        (float("nan"), False, "lost-precision"),
        (320100000000001.0, True, "lost-precision"),
        (True, False, "type"),
        (datetime.date(2026, 1, 2), False, "type"),
        (ERROR, True, "cell-error"),
    ],
)
def test_cells_that_may_have_been_another_text_are_refused(cell, identifier, rule):
    with pytest.raises(RowRefused) as error:
        text_of(cell, "c", identifier=identifier)
    assert error.value.rule == rule


def test_samples_are_what_the_generator_makes():
    for name, content in samples().items():
        stored = (FOLDER / name).read_bytes()
        if not name.endswith(".xlsx"):
            assert stored == content
            continue
        profile = bundled(name.removesuffix("-example.xlsx"))
        # Another zlib packs the same cells otherwise.
        assert [draft.content_text() for draft in read(stored, "xlsx", profile)[0]] == [
            draft.content_text() for draft in read(content, "xlsx", profile)[0]
        ]


@pytest.mark.parametrize(
    ("name", "list_type", "good", "bad"),
    [
        ("wage-arrears-example.xlsx", "", 12, []),
        ("procurement-example.xlsx", "", 12, []),
        ("judgment-defaulter-example.jsonl", "", 8, [(9, "cardNum", "masked"), (10, "cardNum", "masked")]),
        ("penalty-publicity-example.csv", "SJYZWF", 12, []),
    ],
)
def test_each_profile_reads_its_sample(name, list_type, good, bad):
    stem, _, suffix = name.rpartition(".")
    drafts, refused = read((FOLDER / name).read_bytes(), suffix, bundled(stem.removesuffix("-example")), list_type)
    assert (len(drafts), refused) == (good, bad)
    assert not any("check-digit" in each.warnings for draft in drafts for each in draft.identifiers)
    assert all("示例" in draft.name or draft.name.startswith("示") for draft in drafts)


def same_facts(drafts, rows, columns):
    """Whether drafts say what canonical rows say, in these columns; empty ones said nowhere."""
    expected = []
    for row in rows:
        kept = {name: row[name] for name in ("id_kind", "id_number", "name", "list_type")}
        if row["subject_kind"] == "natural_person":
            kept["subject_kind"] = "natural_person"
        expected.append(kept | {name: row.get(name, "") for name in columns})
    good, bad = read(csv_bytes(table(expected)), "csv", b"")
    assert not bad
    return [draft.content_text() for draft in drafts] == [draft.content_text() for draft in good]


def test_a_profile_says_what_the_canonical_file_says():
    rows = facts("TQNMGGZ", 40)
    drafts, _ = read(workbook(table(wage_row(row, n) for n, row in enumerate(rows))), "xlsx", bundled("wage-arrears"))
    for row, draft in zip(rows, drafts, strict=True):
        key = f"{row['id_number']}#{row['listed_on']}#{row['decision_no']}"
        row["source_record_id"] = hashlib.md5(key.encode()).hexdigest()
        row["related_persons"] = ";".join(draft.related_persons)
    columns = "listed_on expires_on authority decision_no reason basis source_record_id related_persons".split()
    assert same_facts(drafts, rows, columns)

    rows = facts("SJYZWF", 30)
    for row in rows:
        row |= {"sanction_no": row["decision_no"], "sanction_from": row["decision_date"]}
        row["publicity_until"] = row["expires_on"]
    made = table({**penalty_row(row), "cf_frdb": "", "cf_xdr_swdj": ""} for row in rows)
    drafts, bad = read(csv_bytes(made, "gb18030", ";"), "csv", in_gb18030(), "SJYZWF")
    assert not bad
    columns = (
        "decision_no sanction_no reason basis decision_date sanction_from sanction_to publicity_until authority "
        "authority_uscc"
    ).split()
    assert same_facts(drafts, rows, columns)


def in_gb18030() -> bytes:
    text = bundled("penalty-publicity").decode()
    return text.replace('name = "pen', 'encoding = "gb18030"\ndelimiter = ";"\nname = "pen').encode()


def test_an_encoding_is_stated_and_never_guessed():
    made = table([penalty_row(facts("SJYZWF", 1)[0])])
    for data, profile in (
        (csv_bytes(made, "gb18030"), bundled("penalty-publicity")),
        (csv_bytes(made, "utf-8", ";"), in_gb18030()),
    ):
        with pytest.raises(FileRefused) as error:
            read(data, "csv", profile, "SJYZWF")
        assert error.value.rule == "encoding"


SAMPLE = [*facts("SJYZWF", 2), *facts("SJYZWF", 1, persons=True)]


@settings(max_examples=25, deadline=None)
@given(st.permutations(PENALTY), st.integers(0, 15), st.integers(0, 3))
def test_columns_in_any_order_and_place_read_alike(order, above, left):
    rows = [penalty_row(row, n) for n, row in enumerate(SAMPLE, 1)]
    plain = read(csv_bytes(table(rows)), "csv", bundled("penalty-publicity"), "SJYZWF")[0]
    moved = [[], *[["示例标题"]] * above, *table([{name: row[name] for name in order} for row in rows], indent=left)]
    drafts, bad = read(csv_bytes(moved), "csv", bundled("penalty-publicity"), "SJYZWF")
    assert not bad
    assert [draft.content_text() for draft in drafts] == [draft.content_text() for draft in plain]
    assert drafts[0].line == above + 3


SLOW = "e" + "\u0301" * 15_000 + "\u0323" * 15_000
MANGLED = next(code for n in range(1, 99) if (code := uscc(n)).isdigit())[:15] + "000"


@pytest.mark.parametrize(
    ("changes", "column", "rule"),
    [
        ({"cf_xdr_shxym": MANGLED}, "cf_xdr_shxym", "lost-precision"),
        ({"cf_xdr_shxym": "9.13201E+17"}, "cf_xdr_shxym", "lost-precision"),
        ({"cf_xdr_shxym": "9132**********0X"}, "cf_xdr_shxym", "masked"),
        ({"cf_xdr_shxym": ""}, "cf_xdr_shxym", "required-field"),
        ({"cf_xdr_gszc": "12"}, "cf_xdr_gszc", "identifier-length"),
        ({"cf_xdr_swdj": "32*************"}, "cf_xdr_swdj", "masked"),
        ({"cf_xdr_zjhm": citizen(1)}, "cf_xdr_zjlx", "identifier-kind-missing"),
        ({"cf_xdr_zjlx": "99", "cf_xdr_zjhm": citizen(1)}, "cf_xdr_zjlx", "certificate-code"),
        ({"cf_xdr_zjlx": "30", "cf_xdr_zjhm": "A1234"}, "cf_xdr_zjlx", "certificate-code"),
        ({"cf_xdr_zjlx": "10", "cf_xdr_zjhm": citizen(1)}, "cf_xdr_zjhm", "subject-kind"),
        ({"cf_xdr_lb": "其他"}, "cf_xdr_lb", "subject-kind"),
        ({"cf_xdr_lb": "自然人"}, "cf_xdr_lb", "subject-kind"),
        ({"cf_jdrq": "01/02/2026"}, "cf_jdrq", "date"),
        ({"cf_jdrq": "2026/2/30"}, "cf_jdrq", "date"),
        ({"cf_yxq": "1999/01/01"}, "cf_yxq", "date-order"),
        ({"bgbs": "3"}, "bgbs", "op"),
        ({"cf_wsh": ""}, "cf_wsh", "required-field"),
        ({"cf_cfjg": "无"}, "cf_cfjg", "required-field"),
        ({"cf_wfxw": "a\x01b"}, "cf_wfxw", "characters"),
        ({"cf_wfxw": "x" * 4_001}, "cf_wfxw", "too-long"),
    ],
)
def test_a_planted_defect_names_the_column_of_the_file(changes, column, rule):
    (row,) = facts("SJYZWF", 1)
    rows = [{**penalty_row(row), "cf_xdr_swdj": ""}, {**penalty_row(row), "cf_xdr_swdj": "", **changes}]
    _, bad = read(csv_bytes(table(rows)), "csv", bundled("penalty-publicity"), "SJYZWF")
    assert bad == [(3, column, rule)]


@pytest.mark.parametrize(
    ("changes", "column", "rule"),
    [
        ({"cf_xdr_shxym": SLOW}, "cf_xdr_shxym", "identifier-too-long"),
        ({"cf_xdr_zjlx": SLOW, "cf_xdr_zjhm": citizen(1)}, "cf_xdr_zjlx", "too-long"),
        ({"cf_jdrq": SLOW}, "cf_jdrq", "date"),
    ],
)
def test_a_long_text_of_combining_marks_is_not_brought_into_one_form(changes, column, rule):
    (row,) = facts("SJYZWF", 1)
    rows = [{**penalty_row(row), "cf_xdr_swdj": "", **changes}] * 3
    began = time.process_time()
    _, bad = read(csv_bytes(table(rows)), "csv", bundled("penalty-publicity"), "SJYZWF")
    assert [each[1:] for each in bad] == [(column, rule)] * 3
    assert plain_header(SLOW)
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    ("changes", "column", "rule"),
    [
        ({"cf_xdr_zjhm": citizen(1, "20120101")}, "cf_xdr_zjhm", "minor"),
        ({"cf_xdr_zjlx": "40", "cf_xdr_zjhm": "XX1234567"}, "cf_xdr_zjhm", "identifier-country"),
        ({"cf_xdr_zjlx": "40", "cf_xdr_zjhm": "XX1234567", "国籍": "Utopia"}, "cf_xdr_zjhm", "identifier-country"),
        ({"cf_xdr_zjlx": "40", "cf_xdr_zjhm": "UTO:XX1234567"}, "", ""),
        ({"cf_xdr_zjlx": "护照", "cf_xdr_zjhm": "XX1234567", "国籍": "UTO"}, "", ""),
        ({"cf_xdr_zjlx": "1０", "cf_xdr_zjhm": "32010219900101001X"}, "", ""),
    ],
)
def test_persons_are_told_by_their_certificate(changes, column, rule):
    (row,) = facts("SJYZWF", 1, persons=True)
    good, bad = read(
        csv_bytes(table([{**penalty_row(row), "国籍": "", **changes}])), "csv", bundled("penalty-publicity"), "SJYZWF"
    )
    assert bad == ([(2, column, rule)] if rule else [])
    assert all(draft.subject_kind is SubjectKind.NATURAL_PERSON for draft in good)


def test_the_first_code_is_the_identifier_and_the_others_ride_along():
    (row,) = facts("SJYZWF", 1)
    number = row["id_number"]
    rows = [
        {**penalty_row(row), "cf_xdr_zzjg": number[8:17], "cf_xdr_gszc": "320100000000001", "cf_xdr_swdj": ""},
        {**penalty_row(row), "cf_xdr_shxym": "", "cf_xdr_gszc": "320100000000001", "cf_xdr_swdj": ""},
    ]
    drafts, bad = read(csv_bytes(table(rows)), "csv", bundled("penalty-publicity"), "SJYZWF")
    assert not bad
    assert [[each.reveal() for each in draft.identifiers] for draft in drafts] == [
        [f"uscc:{number}", f"org_code:{number[8:17]}", "registration_no:320100000000001"],
        ["registration_no:320100000000001"],
    ]


def test_a_change_flag_is_an_operation():
    (row,) = facts("SJYZWF", 1)
    rows = [{**penalty_row(row), "bgbs": flag} for flag in ("0", "1", "2", "I", "U", "D", "", "２")]
    drafts, _ = read(csv_bytes(table(rows)), "csv", bundled("penalty-publicity"), "SJYZWF")
    assert [draft.op.value for draft in drafts] == ["I", "U", "D", "I", "U", "D", "I", "D"]


def test_who_has_left_the_wage_list_is_removed_and_a_doubtful_word_is_no_listing():
    (row,) = facts("TQNMGGZ", 1)
    rows = [{**wage_row(row), "到期退出情况": word} for word in ("未退出", "续期", "已退出", "提前退出", "", "待定")]
    drafts, bad = read(workbook(table(rows)), "xlsx", bundled("wage-arrears"))
    assert [draft.op.value for draft in drafts] == ["U", "U", "D", "D", "I"]
    assert bad == [(7, "到期退出情况", "op")]
    assert len({draft.key_text() for draft in drafts}) == 1


def test_marks_are_no_identifiers_and_change_nothing():
    (row,) = facts("TQNMGGZ", 1)
    boss = citizen(7)
    cells = wage_row(row)
    rows = [
        {**cells, "法定代表人": "示甲;示乙", "证件类型": 1.0, "证件号": boss},
        {**cells, "法定代表人": "示甲", "证件类型": "7", "证件号": "A*** 12"},
        {**cells, "法定代表人": "无", "证件类型": "1", "证件号": ""},
    ]
    drafts, bad = read(workbook(table(rows)), "xlsx", bundled("wage-arrears"))
    assert not bad
    assert [draft.related_persons for draft in drafts] == [
        (f"legal_representative:示甲、示乙:citizen:{boss}",),
        ("legal_representative:示甲:return-table-7:A*** 12",),
        (),
    ]
    for draft in drafts:
        assert [each.kind.value for each in draft.identifiers] == ["uscc"]
        assert boss not in draft.packed("1", DAY, (), None).decode("latin-1")


def test_one_column_may_hold_either_code_of_a_company():
    (row,) = facts("ZFCGYZ", 1)
    rows = [
        {**procurement_row(row), PROCUREMENT_ID: number}
        for number in (uscc(3), org_code(3), f"{org_code(3)[:8]}-{org_code(3)[8]}", "1234567")
    ]
    drafts, bad = read(workbook(table(rows)), "xlsx", bundled("procurement"))
    assert {draft.identifiers[0].key for draft in drafts} == {f"org:{org_code(3)}"}
    assert bad == [(5, PROCUREMENT_ID, "identifier-length")]


PROCUREMENT_ID = "统一社会信用代码(或组织机构代码)"


def test_a_listing_of_judgment_defaulters_has_its_own_record_id():
    (row,) = facts("SXBZXR", 1)
    drafts, bad = read(jsonl_bytes([judgment_record(row, 5)]), "jsonl", bundled("judgment-defaulter"))
    assert not bad
    assert drafts[0].key_text() == "record\x1f示例平台\x1f900000005"
    with pytest.raises(FileRefused) as error:
        read(jsonl_bytes([{**judgment_record(row), "colour": ""}]), "jsonl", bundled("judgment-defaulter"))
    assert error.value.rule == "column-unknown"
    records = [{**judgment_record(row), "iname": ["x"]}, {"iname": "x"}]
    _, bad = read(jsonl_bytes(records), "jsonl", bundled("judgment-defaulter"))
    assert bad == [(1, "iname", "type"), (2, "id_kind", "required-field")]


def test_a_removal_under_a_profile_is_not_held_up_by_what_it_says_besides():
    profile = SMALL + "[columns.op]\nheaders = ['状态']\nvalues = { '在列' = 'I', '退出' = 'D' }\n"
    profile += "[columns.expires_on]\nheaders = ['到期时间']\n[columns.decision_no]\nheaders = ['文号']\n"
    rows = [["代码", "文号", "状态", "到期时间"], [uscc(1), "1", "退出", "长期"], [uscc(2), "2", "在列", "长期"]]
    drafts, bad = read(csv_bytes(rows), "csv", profile.encode(), "SJYZWF")
    assert [(draft.line, draft.op) for draft in drafts] == [(2, "D")]
    assert bad == [(3, "到期时间", "date")]


def test_half_of_a_surrogate_in_a_part_of_the_record_id_is_no_text():
    profile = f"record_id = {{ md5 = ['decision_no', 'uscc'] }}{SMALL}[columns.decision_no]\nheaders = ['文号']\n"
    file = "".join(f'{{"代码": "{uscc(n)}", "文号": "{no}"}}\n' for n, no in ((1, "\\ud800"), (2, "2")))
    _, bad = read(file.encode(), "jsonl", profile.encode(), "SJYZWF")
    # The second row is read for itself: only facts are missing.
    assert bad == [(1, "文号", "characters"), (2, "authority", "required-field")]


@pytest.mark.parametrize(
    ("rows", "rule", "line"),
    [
        ([["标题"], ["说明"]], "header-missing", 0),
        ([["代码", "列入时间", "备注"]], "column-unknown", 1),
        ([["代码", "列入时间", "宗教信仰"]], "column-prohibited", 1),
        ([["代码", "代 码*"]], "column-twice", 1),
        ([["列入时间"]], "column-missing", 1),
    ],
)
def test_a_bad_header_refuses_the_file(rows, rule, line):
    with pytest.raises(FileRefused) as error:
        read(csv_bytes(rows), "csv", SMALL.encode(), "SJYZWF")
    assert (error.value.rule, error.value.line) == (rule, line)
    assert "备注" not in str(error.value)


def test_a_list_type_is_named_by_somebody():
    with pytest.raises(FileRefused, match="list type"):
        read(csv_bytes([["代码"], [uscc(1)]]), "csv", SMALL.encode())


def test_two_headers_for_one_column_refuse_the_file():
    profile = small(**{'["代码"]': '["代码", "编码"]'})
    with pytest.raises(FileRefused) as error:
        Layout(profile, ["编码", "代码"], 1, list_type_given=True)
    assert error.value.rule == "column-twice"


def test_rows_that_are_none_are_passed_over_and_shifted_ones_are_not():
    profile = 'skip_rows_where = ["合计", "填表人"]\nempty_values = ["无"]\nignore = ["序号"]\n' + SMALL
    rows: list[list[Any]] = [
        ["", "序号", "代码", "列入时间"],
        ["", "序号", "代码", "列入时间"],
        ["", 1, uscc(1), "20260102"],
        ["", 2, "", ""],
        [],
        ["", "合计", 2, ""],
        ["", "合计", uscc(2), "20260102"],
        ["x", 3, uscc(3), "20260102"],
        ["", 4, "", "20260102"],
        ["", 5, "无", "20260102"],
        ["", 6, uscc(4), "20260102", "x"],
        ["", 7, uscc(5)],
        ["填表人:示某"],
    ]
    drafts, bad = read(csv_bytes(rows), "csv", profile.encode(), "SJYZWF")
    assert drafts == []
    lines = {line: (column, rule) for line, column, rule in bad}
    # The list type requires more than these columns say: lines 3 and 7 are rows of the list.
    assert lines == {
        3: ("authority", "required-field"),
        7: ("authority", "required-field"),
        8: ("", "cells"),
        9: ("代码", "required-field"),
        10: ("代码", "required-field"),
        11: ("", "cells"),
        12: ("", "cells"),
    }


def test_no_error_shows_a_cell():
    (row,) = facts("SJYZWF", 1)
    secret = "ZQ77SECRET"
    for name in PENALTY:
        data = csv_bytes(table([{**penalty_row(row), name: secret}]))
        reader = ListReader(
            io.BytesIO(data), "csv", profile=Profile.load(bundled("penalty-publicity")), list_type_given=True
        )
        errors = [str(record) for _, record in reader if isinstance(record, RowRefused)]
        assert not any(secret in error for error in errors)


def test_a_profile_may_not_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        small().name = "x"  # type: ignore[misc]
