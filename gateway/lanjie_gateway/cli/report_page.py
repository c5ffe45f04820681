"""A subject's report as a page to print (Art. 63): Chinese, A4, no script, nothing from elsewhere."""

import datetime
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any, Final

from lanjie_matcher.civil_time import SHANGHAI

_STYLE: Final = """
@page { size: A4; margin: 18mm 15mm; }
body { font-family: "Songti SC", "SimSun", "Noto Serif CJK SC", serif; font-size: 10.5pt; color: #000; margin: 0 auto;
  max-width: 180mm; line-height: 1.5; }
h1 { font-size: 18pt; text-align: center; } h2 { font-size: 13pt; border-bottom: 1px solid #000; }
h3 { font-size: 11pt; }
table { border-collapse: collapse; width: 100%; table-layout: fixed; }
th, td { border: 1px solid #666; padding: 2pt 4pt; text-align: left; vertical-align: top; overflow-wrap: anywhere; }
th { background: #eee; } thead { display: table-header-group; } tr, section.listing { break-inside: avoid; }
dl { display: grid; grid-template-columns: 7em 1fr; gap: 1pt 6pt; } dt { color: #333; } dd { margin: 0; }
"""
_OUTCOMES: Final[Mapping[str, str]] = {
    "PASS": "通过（未发现适用措施）",
    "ADVISE": "提示",
    "HEIGHTEN": "从严",
    "RESTRICT": "限制",
    "INTERCEPT": "拦截",
    "UNDETERMINED": "待核",
    "EXPLAINED": "说明既往结果",
    "REPORTED": "信用主体查询报告",
    "READ": "授权范围内查阅列入信息",
}
_MODES: Final[Mapping[str, str]] = {"ex_officio": "依职权查询", "authorised": "授权查询", "self": "实名认证查询"}
_ROLES: Final[Mapping[str, str]] = {"inquirer": "查询人员", "agency": "公共信用信息工作机构"}
_SOURCES: Final[Mapping[str, str]] = {"gateway": "网关", "local": "本地比对"}
_STATES: Final[Mapping[str, str]] = {
    "": "生效中",
    "not_begun": "尚未生效",
    "stayed": "中止执行",
    "removed": "已移出",
    "repaired": "已修复",
    "revoked": "已撤销",
    "annulled": "自始无效",
    "term_ended": "期满",
    "publicity_ended": "公示期满",
    "retention_ended": "保存期满",
    "list_type_unknown": "名单类型未生效",
}
_EVENTS: Final[Mapping[str, str]] = {
    "listed": "列入",
    "amended": "更正",
    "removed": "移出",
    "repaired": "信用修复",
    "revoked": "撤销",
    "annulled": "确认自始无效",
    "reinstated": "恢复列入",
    "stayed": "中止执行",
    "stay_lifted": "恢复执行",
    "objection_opened": "异议受理",
    "objection_closed": "异议办结",
    "noticed": "收到撤销、变更通报",
    "reviewed": "事后复核",
    "repair_applied": "申请信用修复",
    "repair_refused": "不予信用修复",
    "publicity_withdrawn": "停止公示",
}
_OBJECTIONS: Final[Mapping[str, str]] = {"unfounded": "异议不成立", "corrected": "已更正", "deleted": "已删除"}
_COMPLAINTS: Final[Mapping[str, str]] = {
    "": "办理中",
    "founded": "成立",
    "partly_founded": "部分成立",
    "unfounded": "不成立",
}


def page(report: Any) -> str:
    """Return a `SubjectReportResponse` as one HTML document."""
    parts = [
        '<!DOCTYPE html>\n<html lang="zh-CN"><head><meta charset="utf-8"><title>信用主体查询报告</title>',
        f"<style>{_STYLE}</style></head><body>",
        "<h1>信用主体查询报告</h1>",
        _facts(
            {
                "主体标识": "、".join(report.masked_identifiers),
                "生成时间": _time(report.made_time),
                "报告编号": report.record_id,
                "依据": "《江苏省社会信用条例》第六十三条",
            }
        ),
        "<h2>一、谁查询过</h2>",
        _inquiries(report),
        "<h2>二、列入信息</h2>",
        *(map(_listing, report.listings) if report.listings else ["<p>无列入信息。</p>"]),
        "<h2>三、授权</h2>",
        _authorisations(report.authorisations),
        "<h2>四、投诉</h2>",
        _complaints(report.complaints),
        "<h2>五、异议与救济</h2>",
        f"<p>异议渠道：{escape(report.objection_channel)}</p>",
        *(f"<p>说明：{escape(note)}</p>" for note in report.notes),
        "</body></html>\n",
    ]
    return "\n".join(parts)


def _inquiries(report: Any) -> str:
    rows = [
        (
            _time(each.decided_time),
            f"{each.department_name or each.department}（{_ROLES.get(each.role, each.role)}）",
            " ".join(part for part in (each.matter_name, each.matter) if part),
            _MODES.get(each.mode, each.mode),
            _OUTCOMES.get(each.outcome, each.outcome) + ("（未送达，已重新判断）" if each.overtaken else ""),
            "、".join(each.measures),
            _SOURCES.get(each.source, each.source),
        )
        for each in report.inquiries
    ]
    older = "<p>尚有更早的查询记录，可另行打印。</p>" if report.more else ""
    return _table(("时间", "查询部门", "事项", "方式", "结果", "措施", "来源"), rows, "无查询记录。") + older


def _listing(each: Any) -> str:
    facts = {
        "名单": f"{each.list_type_name}（{each.list_type}）",
        "状态": _STATES.get(each.not_in_force_reason, each.not_in_force_reason)
        + ("（异议处理中）" if each.objection else ""),
        "决定机关": each.authority,
        "决定文书": " ".join(part for part in (each.decision_no, each.decision_date) if part),
        "列入日期": each.listed_date,
        "期限至": each.expires_date,
        "事由": each.reason,
        "依据": each.basis,
        "信息来源": each.source,
        "移出条件": each.removal_conditions,
        "救济途径": each.remedies,
        "异议渠道": each.objection_channel,
    }
    events = [
        (_time(event.effective_time), _EVENTS.get(event.kind, event.kind), _why(event), event.document)
        for event in each.events
    ]
    duties = [
        (duty.rule, duty.bound, duty.started_date, duty.due_date + ("（已逾期）" if duty.overdue else ""))
        for duty in each.duties
    ]
    return (
        f'<section class="listing"><h3>列入 {escape(each.listing_id)}</h3>{_facts(facts)}</section>'
        f"<p>变更情况</p>{_table(('时间', '事件', '原因及结果', '文书'), events, '无。')}"
        f"<p>办理时限</p>{_table(('时限', '责任单位', '起算日', '届满日'), duties, '无正在计算的时限。')}"
    )


def _why(event: Any) -> str:
    said = (event.reason, _OBJECTIONS.get(event.outcome, event.outcome), event.reply)
    return "；".join(part for part in said if part)


def _authorisations(found: Iterable[Any]) -> str:
    rows = [
        (
            each.department,
            "、".join(each.matters),
            each.document_number,
            each.valid_until_date,
            f"{each.used}/{each.uses}" + ("（已撤回）" if each.HasField("withdrawn_time") else ""),
        )
        for each in found
    ]
    return _table(("部门", "事项", "文书", "有效期至", "已用/可用次数"), rows, "无授权。")


def _complaints(found: Iterable[Any]) -> str:
    rows = [
        (each.complaint_id, each.received_date, each.about, _COMPLAINTS.get(each.outcome, each.outcome), each.reply)
        for each in found
    ]
    return _table(("编号", "受理日期", "对象", "结果", "答复"), rows, "无投诉。")


def _facts(facts: Mapping[str, str]) -> str:
    told = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts.items() if value)
    return f"<dl>{told}</dl>"


def _table(headings: Iterable[str], rows: Iterable[Iterable[str]], none: str) -> str:
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    if not body:
        return f"<p>{escape(none)}</p>"
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _time(stamp: Any) -> str:
    return str(stamp.ToDatetime(datetime.UTC).astimezone(SHANGHAI).strftime("%Y-%m-%d %H:%M:%S"))
