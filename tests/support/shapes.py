"""Invented listings in the shapes that real platforms export, and workbooks for tests.

``python -m tests.support.shapes`` writes the samples into examples/shapes again: the same bytes each time.
"""

import csv
import datetime
import functools
import io
import itertools
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import xlsxwriter

from lanjie_gateway.adapters.list_records import ListReader
from lanjie_gateway.cli import invented
from lanjie_gateway.domain.list_file import FileRules, ListingDraft, ListTypeRule, RowRefused, read_row
from lanjie_gateway.domain.profile import Profile

DAY = datetime.date(2026, 11, 23)
FOLDER = Path(__file__).parents[2] / "examples" / "shapes"
TYPES = ("TQNMGGZ", "ZFCGYZ", "SXBZXR", "SJYZWF")
EPOCH = datetime.date(1899, 12, 30)

WAGE = (
    "序号 对象名称* 统一社会信用代码* 列入时间* 预计退出日期 法定代表人 证件类型 证件号 发布机关* 文书号* 列入事由 "
    "列入依据 名单名称 到期退出情况 续期原因 备注"
).split()
PROCUREMENT = (
    "序号 企业名称 统一社会信用代码(或组织机构代码) 企业地址 严重违法失信行为的具体情形 处罚种类 处罚结果 处罚依据 "
    "处罚文书号 处罚日期 公布日期 公布截止日期 执法单位"
).split()
PENALTY = (
    "cf_xdr_mc cf_xdr_lb cf_xdr_shxym cf_xdr_gszc cf_xdr_zzjg cf_xdr_swdj cf_xdr_sydw cf_xdr_shzz cf_frdb cf_fr_zjlx "
    "cf_fr_sfzh cf_xdr_zjlx cf_xdr_zjhm cf_wsh cf_wfxw cf_sy cf_yj cf_cflb cf_nr cf_nr_fk cf_nr_wfff cf_nr_zkdx "
    "cf_jdrq cf_yxq cf_gsjzq cf_cfjg cf_cfjgdm cf_sjly cf_sjlydm bz bgbs"
).split()


def bundled(name: str) -> bytes:
    """Return a bundled profile."""
    return (resources.files("lanjie_gateway") / "profiles" / f"{name}.toml").read_bytes()


def facts(list_type: str, count: int, *, persons: bool = False) -> list[dict[str, str]]:
    """Return canonical rows of one list type; their subjects are companies or persons with a citizen number."""
    kind = "citizen" if persons else "uscc"
    rows = (row for row in _listings() if row["list_type"] == list_type and row["id_kind"] == kind)
    return [dict(row) for row in itertools.islice(rows, count)]


@functools.cache
def _listings() -> tuple[dict[str, str], ...]:
    return tuple(invented.listings(11, 2_000, today=DAY))


def serial(day: str) -> int:
    """Return the day number of a workbook that counts from 1900."""
    return (datetime.date.fromisoformat(day) - EPOCH).days


def chinese(day: str) -> str:
    """Return a day as yyyy年m月d日."""
    at = datetime.date.fromisoformat(day)
    return f"{at.year}年{at.month}月{at.day}日"


def wage_row(row: Mapping[str, str], place: int = 1) -> dict[str, Any]:
    """Return a row of the wage list's return table."""
    rng = random.Random(row["id_number"])
    forms: list[Any] = [
        row["listed_on"],
        row["listed_on"].replace("-", ""),
        chinese(row["listed_on"]),
        serial(row["listed_on"]),
        datetime.date.fromisoformat(row["listed_on"]),
    ]
    boss = (invented.person_name(rng), "1", invented.citizen_number(rng, DAY))
    cells = (
        place,
        row["name"],
        row["id_number"],
        forms[place % len(forms)],
        row["expires_on"],
        *boss,
        row["authority"],
        row["decision_no"],
        row["reason"],
        row["basis"],
        "拖欠农民工工资失信联合惩戒对象名单",
        "未到期",
        "",
        "示例",
    )
    return dict(zip(WAGE, cells, strict=True))


def procurement_row(row: Mapping[str, str], place: int = 1) -> dict[str, Any]:
    """Return a row of the procurement list; every fourth has the organisation code alone, as old records do."""
    number = row["id_number"][8:17] if place % 4 == 0 else row["id_number"]
    hints = "示例:列入不良行为记录名单,禁止参加政府采购活动"
    days = [row["decision_date"], row["listed_on"], row["publicity_until"]]
    cells = (
        place,
        row["name"],
        number,
        "示例路1号",
        row["reason"],
        "禁止参加政府采购活动",
        hints,
        row["basis"],
        row["decision_no"],
        *(serial(day) if day else "" for day in days),
        row["authority"],
    )
    return dict(zip(PROCUREMENT, cells, strict=True))


def judgment_record(row: Mapping[str, str], place: int = 1) -> dict[str, Any]:
    """Return a record of the public query: persons' numbers are masked there."""
    person = row["subject_kind"] == "natural_person"
    number = f"{row['id_number'][:10]}****{row['id_number'][-4:]}" if person else row["id_number"][8:17]
    return {
        "id": 900_000_000 + place,
        "iname": row["name"],
        "caseCode": row["decision_no"],
        "age": 45 if person else 0,
        "sexy": "男" if person else "",
        "cardNum": number,
        "businessEntity": "" if person else invented.person_name(random.Random(place)),
        "courtName": row["authority"],
        "areaName": "江苏",
        "partyTypeName": "0" if person else "1",
        "gistId": "(2024)苏示例民初1号",
        "regDate": row["decision_date"].replace("-", ""),
        "gistUnit": row["authority"],
        "duty": "示例",
        "performance": "全部未履行",
        "performedPart": None,
        "unperformPart": None,
        "disruptTypeName": row["reason"],
        "publishDate": chinese(row["listed_on"]),
    }


def penalty_row(row: Mapping[str, str], place: int = 1) -> dict[str, Any]:
    """Return a row of the double publicity of penalties."""
    person = row["subject_kind"] == "natural_person"
    kinds = {"natural_person": "自然人", "individual_business": "个体工商户"}
    return {
        **dict.fromkeys(PENALTY, ""),
        "cf_xdr_mc": row["name"],
        "cf_xdr_lb": kinds.get(row["subject_kind"], "法人及非法人组织"),
        "cf_xdr_shxym": "" if person else row["id_number"],
        "cf_xdr_swdj": "" if person or place % 3 else row["id_number"],
        "cf_xdr_zjlx": "身份证" if person else "",
        "cf_xdr_zjhm": row["id_number"] if person else "",
        "cf_frdb": "" if person else invented.person_name(random.Random(place)),
        "cf_wsh": row["decision_no"],
        "cf_wfxw": row["reason"],
        "cf_sy": "示例",
        "cf_yj": row["basis"],
        "cf_cflb": "罚款",
        "cf_nr": "示例",
        "cf_nr_fk": "1.500000",
        "cf_jdrq": row["decision_date"].replace("-", "/"),
        "cf_yxq": row["sanction_to"].replace("-", "/"),
        "cf_gsjzq": row["expires_on"].replace("-", "/"),
        "cf_cfjg": row["authority"],
        "cf_cfjgdm": row["authority_uscc"],
        "cf_sjly": row["authority"],
        "cf_sjlydm": row["authority_uscc"],
        "bgbs": "0",
    }


def table(
    rows: Iterable[Mapping[str, Any]], *, above: Sequence[Sequence[Any]] = (), indent: int = 0
) -> list[list[Any]]:
    """Return header and rows as cells, with rows above them and blank columns before them."""
    found = list(rows)
    cells = [list(found[0]), *(list(row.values()) for row in found)]
    return [[*[""] * indent, *row] for row in cells]


def workbook(sheets: Mapping[str, Sequence[Sequence[Any]]] | Sequence[Sequence[Any]], **options: Any) -> bytes:
    """Return a workbook; dates get a date format, texts stay texts."""
    target = io.BytesIO()
    book = xlsxwriter.Workbook(target, {"in_memory": True, "strings_to_formulas": False, **options})
    book.set_properties({"created": datetime.datetime(2026, 11, 23, tzinfo=datetime.UTC), "comments": "示例,虚构数据"})
    style = book.add_format({"num_format": "yyyy-mm-dd"})
    named = sheets if isinstance(sheets, Mapping) else {"Sheet1": sheets}
    for name, rows in named.items():
        sheet = book.add_worksheet(name)
        for at, row in enumerate(rows):
            for place, cell in enumerate(row):
                if isinstance(cell, datetime.date):
                    sheet.write_datetime(at, place, cell, style)
                elif isinstance(cell, str):
                    if cell:
                        sheet.write_string(at, place, cell)
                elif cell is not None:
                    sheet.write(at, place, cell)
    book.close()
    return target.getvalue()


def csv_bytes(rows: Sequence[Sequence[Any]], encoding: str = "utf-8", delimiter: str = ",") -> bytes:
    """Return rows as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n", delimiter=delimiter).writerows(rows)
    return text.getvalue().encode(encoding)


def jsonl_bytes(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Return records as JSON lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def rules(list_type: str) -> FileRules:
    """Return rules that know the list types of the samples; each requires authority and decision number."""
    known = {code: ListTypeRule(code=code, required_fields=("authority", "decision_no")) for code in TYPES}
    return FileRules(list_types=known, list_type=list_type, source="示例平台", complete=False, today=DAY)


def read(
    data: bytes, file_format: str, profile: bytes, list_type: str = ""
) -> tuple[list[ListingDraft], list[tuple[int, str, str]]]:
    """Read a file as the parser does; returns the drafts, and line, column and rule of what is refused."""
    known = Profile.load(profile) if profile else None
    list_type = list_type or (known.list_type if known else "")
    reader = ListReader(io.BytesIO(data), file_format, profile=known, list_type_given=bool(list_type))
    good: list[ListingDraft] = []
    bad: list[tuple[int, str, str]] = []
    for line, record in reader:
        if isinstance(record, RowRefused):
            bad.append((line, record.column, record.rule))
            continue
        try:
            good.append(read_row(record, line, rules(list_type)))
        except RowRefused as refused:
            error = reader.blame(refused)
            bad.append((line, error.column, error.rule))
    return good, bad


def samples() -> dict[str, bytes]:
    """Return the sample files by name."""
    wage = [wage_row(row, place) for place, row in enumerate(facts("TQNMGGZ", 12), 1)]
    title = ["", "拖欠农民工工资失信联合惩戒对象名单返回表(示例,虚构数据)"]
    wage_sheet = [title, [], *table(wage, indent=1), ["", "合计", len(wage)], ["", "填表人:示某"]]
    bids = [procurement_row(row, place) for place, row in enumerate(facts("ZFCGYZ", 12), 1)]
    judged = [*facts("SXBZXR", 8), *facts("SXBZXR", 2, persons=True)]
    fined = [*facts("SJYZWF", 9), *facts("SJYZWF", 3, persons=True)]
    return {
        "wage-arrears-example.xlsx": workbook({"名单": wage_sheet, "填表说明": [["示例:本表数据均为虚构。"]]}),
        "procurement-example.xlsx": workbook({"示例": [[], *table(bids, indent=1)]}),
        "judgment-defaulter-example.jsonl": jsonl_bytes(judgment_record(row, n) for n, row in enumerate(judged, 1)),
        "penalty-publicity-example.csv": csv_bytes(
            table(penalty_row(row, n) for n, row in enumerate(fined, 1)), encoding="utf-8-sig"
        ),
    }


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, content in samples().items():
        (FOLDER / name).write_bytes(content)
