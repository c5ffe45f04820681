"""00:00 in Shanghai, at the gateway and at a counter, without any message: what begins begins, what ends ends.

All is prepared before; then nobody commits, no client syncs, and only the clocks move. One table, both paths.
"""

import datetime
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import lanjie
from lanjie._runtime import Seam
from lanjie_gateway.domain.events import EventKind
from lanjie_matcher.civil_time import SHANGHAI, day_of
from tests.support.answers import act, row
from tests.support.gateway import RunningGateway, running
from tests.support.subjects import uscc

MIDNIGHT = datetime.datetime(2026, 3, 3, tzinfo=SHANGHAI)
EVENING = MIDNIGHT - datetime.timedelta(minutes=9)
SECOND = datetime.timedelta(seconds=1)
TODAY, TOMORROW = "2026-03-02", "2026-03-03"
MOMENTS = {"before": MIDNIGHT - SECOND, "after": MIDNIGHT}

HEAD = """
catalogue: {{id: {id}, level: national, region: "000000", edition: "{edition}", example: true,
  publication: {{number: 测试公告1号, date: 2026-01-05, approver: 测试机关}}, effective_from: {first}{last}}}
"""
LIST_TYPE = (
    "  - {{code: {code}, name: 测试名单{code}, authority: 机关, basis: 测试法第一条, standard: 测试法第二条, "
    'level: national, region: "000000"{more}}}\n'
)
MEASURE = (
    "  - {{code: N-{number}, title: 测试措施, content: 限制, objects: [enterprise], list_types: [{list_type}], "
    "matters: [{matter}], effect: deny, class: 1, department: 部门, basis: 测试法第三条, {more}}}\n"
)
TYPES = {
    "COURT": ", ends_with: removal",
    "WAGE": "",
    "TAX": ", ends_with: publicity",
    "PROC": "",
    "OLD": f", effective_to: {TODAY}",
}


def catalogue(
    name: str,
    edition: str,
    first: str,
    matters: dict[str, str],
    measures: list[tuple[str, str, str]],
    *,
    types: bool = True,
    last: str = "",
) -> str:
    """Return a catalogue file; a measure is list type, matter and what else is said of it."""
    text = HEAD.format(id=name, edition=edition, first=first, last=f", effective_to: {last}" if last else "")
    if types:
        text += "list_types:\n" + "".join(LIST_TYPE.format(code=code, more=more) for code, more in TYPES.items())
    text += "matters:\n" + "".join(f"  - {{code: {code}, name: 事项{more}}}\n" for code, more in matters.items())
    made = [
        MEASURE.format(number=f"{name}-{number}", list_type=list_type, matter=matter, more=more or "trigger: listing")
        for number, (list_type, matter, more) in enumerate(measures)
    ]
    return text + "measures:\n" + "".join(made)


ALWAYS = [(code, "m.any", "") for code in ("COURT", "WAGE", "TAX", "OLD")] + [
    ("COURT", "m.months", "trigger: listing, term: {months: 1}"),
    ("PROC", "m.any", "trigger: listing+decision, decision_kinds: [procurement_ban]"),
]
CATALOGUES = [
    catalogue(
        "mid",
        "1",
        "2026-01-10",
        {
            "m.any": "",
            "m.months": "",
            "m.gains": "",
            "m.loses": "",
            "m.gone": "",
            "m.case_from": "",
            "m.case_until": ", case_no_required: true",
        },
        [*ALWAYS, ("COURT", "m.loses", ""), ("COURT", "m.gone", "")],
    ),
    # Takes the place of the first one at midnight.
    catalogue(
        "mid",
        "2",
        TOMORROW,
        {
            "m.any": "",
            "m.months": "",
            "m.gains": "",
            "m.loses": "",
            "m.new": "",
            "m.case_from": ", case_no_required: true",
            "m.case_until": "",
        },
        [*ALWAYS, ("COURT", "m.gains", ""), ("COURT", "m.new", "")],
    ),
    catalogue("ending", "1", "2026-01-10", {"m.ends": ""}, [("COURT", "m.ends", "")], types=False, last=TODAY),
]


@dataclass(frozen=True)
class Case:
    """One line: a company, listed with these facts unless it is in no list, and the answers before and after."""

    name: str
    before: str
    after: str
    list_type: str = ""
    matter: str = "m.any"
    facts: dict[str, str] = field(default_factory=dict)


BAN = {"sanction_kind": "procurement_ban"}
CASES = [
    Case("listed from tomorrow", "PASS", "INTERCEPT", "COURT", facts={"listed_on": TOMORROW}),
    Case("served tomorrow", "PASS", "INTERCEPT", "COURT", facts={"served_date": TOMORROW}),
    Case("term ends today", "INTERCEPT", "PASS", "WAGE", facts={"expires_on": TODAY}),
    Case("term ends tomorrow", "INTERCEPT", "INTERCEPT", "WAGE", facts={"expires_on": TOMORROW}),
    Case("publicity ends today", "INTERCEPT", "PASS", "TAX", facts={"publicity_until": TODAY}),
    Case("publicity of a term list", "INTERCEPT", "INTERCEPT", "WAGE", facts={"publicity_until": TODAY}),
    Case("all dates of a removal list", "INTERCEPT", "INTERCEPT", "COURT", facts={"expires_on": TODAY}),
    Case("the measure's own months end", "INTERCEPT", "PASS", "COURT", "m.months", {"listed_on": "2026-02-02"}),
    Case("the measure's own months run", "INTERCEPT", "INTERCEPT", "COURT", "m.months", {"listed_on": "2026-02-03"}),
    Case(
        "sanction begins",
        "PASS",
        "INTERCEPT",
        "PROC",
        facts={**BAN, "sanction_from": TOMORROW, "sanction_to": "2027-03-02"},
    ),
    Case(
        "sanction ends", "INTERCEPT", "PASS", "PROC", facts={**BAN, "sanction_from": "2026-01-06", "sanction_to": TODAY}
    ),
    Case("stayed until midnight", "PASS", "INTERCEPT", "COURT"),
    Case("list type ends", "INTERCEPT", "PASS", "OLD"),
    Case("edition brings the measure", "PASS", "INTERCEPT", "COURT", "m.gains"),
    Case("edition drops the measure", "INTERCEPT", "PASS", "COURT", "m.loses"),
    Case("edition brings the matter", "CATALOGUE_MISSING", "INTERCEPT", "COURT", "m.new"),
    Case("edition drops the matter", "INTERCEPT", "CATALOGUE_MISSING", "COURT", "m.gone"),
    Case("edition ends", "INTERCEPT", "CATALOGUE_MISSING", "COURT", "m.ends"),
    Case("edition wants a case number", "PASS", "refused", "COURT", "m.case_from"),
    Case("edition wants no case number", "refused", "PASS", "COURT", "m.case_until"),
    # In no list. The counter answers by itself wherever there is a pass.
    Case("unlisted", "PASS", "PASS"),
    Case("unlisted, edition brings the measure", "PASS", "PASS", matter="m.gains"),
    Case("unlisted, edition brings the matter", "CATALOGUE_MISSING", "PASS", matter="m.new"),
    Case("unlisted, edition drops the matter", "PASS", "CATALOGUE_MISSING", matter="m.gone"),
    Case("unlisted, edition ends", "PASS", "CATALOGUE_MISSING", matter="m.ends"),
    Case("unlisted, edition wants a case number", "PASS", "refused", matter="m.case_from"),
    Case("unlisted, edition wants no case number", "refused", "PASS", matter="m.case_until"),
]
SUBJECTS = {case.name: uscc(number) for number, case in enumerate(CASES, 1)}
Answers = dict[tuple[str, str], str]
"""By name of the case, and moment."""


@dataclass(frozen=True)
class Night:
    """What was heard: at the gateway, at a counter, and at counters whose clocks are wrong."""

    remote: Answers
    local: Answers
    behind: Answers
    ahead: Answers
    sources: Answers


def told(client: lanjie.Client, case: Case) -> tuple[str, str]:
    """Return the answer and where it comes from."""
    try:
        decision = client.check(SUBJECTS[case.name], matter=case.matter, purpose="test")
    except lanjie.InvalidArgument as error:
        return "refused" if error.metadata["field"] == "case_no" else str(error), ""
    return (decision.reason or decision.outcome).name, decision.source.name


def counter(gateway: RunningGateway, directory: Path, skew: datetime.timedelta) -> lanjie.Client:
    """Return a client with a set, whose clock is off by so much, and which from now on hears nothing."""

    def nanos() -> int:
        return int((gateway.clock.at + skew).timestamp() * 1_000_000_000)

    seam = Seam(unix_nanos=nanos, monotonic=lambda: 1_000.0, thread=False)
    made = lanjie.Client.from_file(gateway.file, state_dir=directory, seam=seam, timeout=20.0)
    runtime = made._handle.running()
    until(lambda: runtime.poll_now() and runtime.status().revision == gateway.inner.worker.index.revision)
    return made


def until(met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Night]:
    directory = tmp_path_factory.mktemp("midnight")
    with running(directory / "gateway", EVENING) as gateway:
        for number, text in enumerate(CATALOGUES):
            (directory / f"{number}.yaml").write_text(text)
            gateway.publish(directory / f"{number}.yaml")
        rows = [row(SUBJECTS[case.name], case.list_type, **case.facts) for case in CASES if case.list_type]
        receipt = gateway.import_rows(rows)
        assert not receipt.quarantine, receipt.quarantine
        stay_until_midnight(gateway, SUBJECTS["stayed until midnight"])
        clients = {
            "remote": gateway.client(local=False, timeout=20.0),
            "local": counter(gateway, directory / "sdk", 0 * SECOND),
            "behind": counter(gateway, directory / "behind", -3 * SECOND),
            "ahead": counter(gateway, directory / "ahead", 3 * SECOND),
        }
        revision = gateway.inner.worker.index.revision
        heard: dict[str, Answers] = {name: {} for name in (*clients, "sources")}
        for moment, at in MOMENTS.items():
            gateway.clock.at = at
            for name, client in clients.items():
                for case in CASES:
                    heard[name][case.name, moment], source = told(client, case)
                    if name == "local":
                        heard["sources"][case.name, moment] = source
        assert gateway.inner.worker.index.revision == revision
        for name, client in clients.items():
            assert name == "remote" or client._handle.running().status().revision == revision
            client.close()
        yield Night(**heard)


def stay_until_midnight(gateway: RunningGateway, subject: str) -> None:
    """Stay a listing until 24:00 of the day before."""
    with gateway.client(local=False) as client:
        decision = client.check(subject, matter="m.any", purpose="test")
    eve = day_of(MIDNIGHT) - datetime.timedelta(days=1)
    act(gateway, decision.listings[0].listing_id, EventKind.STAYED, until=eve.isoformat())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("path", ["remote", "local"])
def test_midnight(night: Night, path: str, case: Case) -> None:
    answers: Answers = getattr(night, path)
    assert [answers[case.name, moment] for moment in MOMENTS] == [case.before, case.after]


@pytest.mark.parametrize("case", [case for case in CASES if not case.list_type], ids=lambda case: case.name)
def test_a_counter_passes_by_itself_who_is_in_no_list(night: Night, case: Case) -> None:
    due = {"PASS": "LOCAL", "CATALOGUE_MISSING": "GATEWAY", "refused": ""}
    sources = [night.sources[case.name, moment] for moment in MOMENTS]
    assert sources == [due[case.before], due[case.after]]


@pytest.mark.parametrize("path", ["behind", "ahead"])
@pytest.mark.parametrize("case", [case for case in CASES if case.list_type], ids=lambda case: case.name)
def test_a_counter_whose_clock_is_wrong_has_the_gateways_answer_about_the_listed(
    night: Night, path: str, case: Case
) -> None:
    answers: Answers = getattr(night, path)
    assert [answers[case.name, moment] for moment in MOMENTS] == [case.before, case.after]
