"""The slip 核查凭证: a receipt of checks as one printable page, with legal basis and remedies (Art. 31, 71)."""

import datetime
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, Final

from lanjie_matcher.civil_time import SHANGHAI

OUTCOMES: Final[Mapping[str, str]] = {
    "PASS": "未发现适用于本事项的惩戒措施",
    "ADVISE": "提示",
    "HEIGHTEN": "从严审查",
    "RESTRICT": "限制",
    "INTERCEPT": "拦截（依法不予办理）",
    "UNDETERMINED": "待核（不影响受理）",
}
REMEDIES: Final = (
    "当事人对列入决定不服的，可以依法申请行政复议或者提起行政诉讼；认为信息有误的，可以提出异议。"
    "本凭证只说明核查时的结果，未列明的名单与本事项无关，不得作为对其他事项或者第三人采取措施的依据。"
)
_STYLE: Final = (
    "@page{size:A4;margin:18mm}body{font-family:'Noto Serif CJK SC','Source Han Serif SC',SimSun,serif;font-size:11pt;"
    "line-height:1.5;color:#000}h1{text-align:center;font-size:18pt;letter-spacing:.3em}h2{font-size:12pt;margin:1em 0 "
    ".3em}table{border-collapse:collapse;width:100%}th,td{border:1px solid #444;padding:2pt 5pt;text-align:left;"
    "vertical-align:top;overflow-wrap:anywhere}thead{display:table-header-group}tr{break-inside:avoid}"
    ".facts th{width:7em;font-weight:normal}footer{margin-top:1em;font-size:9pt;overflow-wrap:anywhere}"
)


def page(content: Mapping[str, Any]) -> str:
    """Return the page of a receipt whose signature was proved: complete HTML, no scripts, nothing from elsewhere.

    Args:
        content: as `lanjie_matcher.receipts.opened` returns it.
    """
    matter = f"{content['matter_name']}（{content['matter']}）" if content["matter_name"] else content["matter"]
    facts = (
        ("凭证编号", content["id"]),
        ("核查单位", content["department"]),
        ("事项", matter),
        ("核查目的", content.get("purpose", "")),
        ("案件编号", content.get("case_no", "")),
        ("办理地", content.get("region", "")),
        ("措施清单", "、".join(content["catalogues"])),
        ("出具时间", _time(content["issued"])),
    )
    parts = [
        "<!doctype html><html lang=zh-CN><meta charset=utf-8><title>信用核查凭证</title>",
        f"<style>{_STYLE}</style><h1>信用核查凭证</h1>",
        _facts(facts),
        "<h2>核查结果</h2>",
        _table(("序号", "主体", "结果", "适用措施", "核查时点", "名单版本", "记录"), _items(content["items"])),
    ]
    if content["measures"]:
        parts += ["<h2>适用措施及依据</h2>", _table(("编号", "措施", "依据", "公布", "实施单位"), _measures(content))]
    if content["listings"]:
        headings = ("名单", "列入机关", "决定文书", "列入依据与事由", "移出条件", "救济途径")
        parts += ["<h2>列入信息</h2>", _table(headings, _listings(content["listings"].values()))]
    parts += [
        f"<p>{REMEDIES}</p>",
        f"<footer>记录摘要与签名见同名数据文件；台账 {escape(content['lineage'])}。</footer>",
    ]
    return "\n".join(parts) + "</html>\n"


def _items(items: Sequence[Mapping[str, Any]]) -> Iterable[Sequence[str]]:
    for number, item in enumerate(items, 1):
        yield (
            str(number),
            item["subject"],
            OUTCOMES.get(item["outcome"], item["outcome"]),
            "、".join(item.get("measures", ())),
            _time(item["as_of"]),
            str(item["revision"]),
            f"{item['decision']} {item['record'][:16]}",
        )


def _measures(content: Mapping[str, Any]) -> Iterable[Sequence[str]]:
    for code, each in content["measures"].items():
        yield code, each["title"], each["basis"], f"{each['catalogue']} {each['publication']}", each["department"]


def _listings(listings: Iterable[Mapping[str, Any]]) -> Iterable[Sequence[str]]:
    for each in listings:
        name = each["list_type_name"] or each["list_type"]
        yield (
            name + ("（异议处理中）" if each["objection"] else ""),
            each["authority"],
            f"{each['decision_no']} {each['decision_date']}".strip(),
            f"{each['basis']} {each['reason']}".strip(),
            each["removal_conditions"],
            each["remedies"],
        )


def _facts(rows: Iterable[tuple[str, str]]) -> str:
    cells = "".join(f"<tr><th>{escape(name)}<td>{escape(value)}" for name, value in rows if value)
    return f"<table class=facts>{cells}</table>"


def _table(headings: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(each)}" for each in headings)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}" for cell in row) for row in rows)
    return f"<table><thead><tr>{head}</thead><tbody>{body}</tbody></table>"


def _time(text: str) -> str:
    return datetime.datetime.fromisoformat(text).astimezone(SHANGHAI).strftime("%Y-%m-%d %H:%M:%S")
