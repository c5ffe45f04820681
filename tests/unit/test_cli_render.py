"""What the command line shows, and what it reads: answers as tables and as JSON, files of subjects, instants."""

import csv
import dataclasses
import datetime
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text

from lanjie.decision import Decision, Effect, ListingEvidence, Measure, Outcome, Source, UndeterminedReason
from lanjie.errors import InvalidIdentifier
from lanjie.v1 import catalogue_pb2, listing_pb2, statistics_pb2, subject_pb2, watch_pb2
from lanjie_gateway.cli import checks, lists, render, render_events, statistics, watches
from lanjie_gateway.cli.app import describe
from lanjie_gateway.cli.arguments import parse_instant
from lanjie_gateway.cli.gateway_file import CommandError, Listener, Person, Target
from lanjie_gateway.cli.private_files import replacing
from tests.support.subjects import citizen, uscc

AT = datetime.datetime(2026, 3, 2, 1, 30, tzinfo=datetime.UTC)
LISTING = ListingEvidence(
    listing_id="L1",
    list_type="COURT",
    list_type_name="失信被执行人名单",
    authority="示例人民法院",
    decision_no="(2026)示例执1号",
    listed_on=datetime.date(2026, 1, 6),
    reason="拒不履行 [bold]生效[/bold] 文书",
    basis="示例规定第一条",
    removal_conditions="履行义务",
    remedies="可申请复议",
    objection=True,
)
MEASURE = Measure(
    code="N-1",
    title="禁止参加政府采购活动",
    content="禁止",
    effect=Effect.DENY,
    basis="示例采购法第二十二条",
    department="采购人",
    instruction="不予通过资格审查",
    catalogue="cn@2026",
    listing_ids=("L1",),
)


def decision(outcome: Outcome = Outcome.PASS, **changes: Any) -> Decision:
    values: dict[str, Any] = {
        "outcome": outcome,
        "instruction": "按规定办理",
        "as_of": AT,
        "decided_at": AT,
        "source": Source.GATEWAY,
        "masked_identifier": "uscc:9132**********DE0X",
        "revision": 7,
        "decision_id": "d-1",
    }
    return Decision(**(values | changes))


INTERCEPT = decision(
    Outcome.INTERCEPT,
    measures=(MEASURE,),
    listings=(LISTING,),
    confirmation_required=True,
    officer_verifies=("债务数额较大",),
    warnings=("check-digit",),
    record_digest=b"\x01\xff",
)
UNDETERMINED = decision(
    Outcome.UNDETERMINED,
    reason=UndeterminedReason.UNAVAILABLE,
    source=Source.NONE,
    resolve_by=AT + datetime.timedelta(days=1),
)


def shown(renderable, width=100):
    stream = io.StringIO()
    Console(file=stream, width=width, markup=False, highlight=False, emoji=False).print(renderable)
    return stream.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_an_effect_shows_everything_it_rests_on(width):
    text = shown(render.decision_panel(INTERCEPT, title="check", question="q"), width)
    for part in (
        "INTERCEPT",
        "拦截",
        "N-1",
        "deny",
        "示例人民法院",
        "(2026)示例执1号",
        "履行义务",
        "可申请复议",
        "Art. 64",
    ):
        assert part in text
    for part in (
        "revision 7",
        "d-1",
        "check-digit",
        "债务数额较大",
        "An officer decides",
        "2026-03-02 09:30:00 +08:00",
    ):
        assert part in text
    assert all(len(line) <= width for line in text.splitlines())
    assert "\x1b" not in text


def test_remedies_stand_beside_their_listing_and_nowhere_else():
    answer = dataclasses.replace(INTERCEPT, remedies=LISTING.remedies, objection_channel="示例渠道")
    text = shown(render.decision_panel(answer))
    assert text.count(LISTING.remedies) == 1
    assert "示例渠道" in text


@pytest.mark.parametrize("width", [90, 120])
def test_statistics_fold_their_groups_and_cut_no_heading(width):
    line = statistics_pb2.StatisticsLine(key=["water-resources-bureau", "procurement.supplier"], checks=12_345)
    text = shown(statistics._table("2026-11", ("department", "matter"), [line]), width)
    assert all(heading in text for heading in statistics.COUNTS.values())
    assert "12,345" in text
    assert "…" not in text


def test_a_file_that_cannot_be_put_in_place_is_told_and_leaves_nothing(tmp_path):
    (tmp_path / "there").mkdir()
    with pytest.raises(CommandError, match="cannot be written"), replacing(tmp_path / "there") as file:
        file.write("text")
    assert [each.name for each in tmp_path.iterdir()] == ["there"]


def test_text_of_an_authority_is_no_markup():
    assert "[bold]生效[/bold]" in shown(render.decision_panel(INTERCEPT))


def test_a_pass_shows_no_measure_and_no_listing():
    text = shown(render.decision_panel(decision()))
    assert "PASS" in text
    assert "measures" not in text
    assert "listing" not in text


def test_an_undetermined_answer_says_why_and_until_when():
    text = shown(render.decision_panel(UNDETERMINED))
    assert "待核" in text
    assert "UNAVAILABLE" in text
    assert "settle by 2026-03-03" in text


def test_a_decision_as_json_holds_names_dates_and_digests():
    values = json.loads(json.dumps(render.decision_dict(INTERCEPT)))
    assert values["outcome"] == "INTERCEPT"
    assert values["reason"] is None
    assert values["source"] == "GATEWAY"
    assert values["measures"][0]["effect"] == "DENY"
    assert values["listings"][0]["listed_on"] == "2026-01-06"
    assert values["as_of"] == "2026-03-02T01:30:00+00:00"
    assert values["record_digest"] == "01ff"
    assert values["revision"] == 7


def test_a_listing_as_json_has_an_id_and_numbers_stay_numbers():
    listing = listing_pb2.Listing(
        listing_id="L1",
        revision=2**40,
        subject_kind=subject_pb2.SUBJECT_KIND_ENTERPRISE,
        masked_identifiers=["uscc:9***X"],
    )
    values = render.listing_dict(listing)
    assert values["id"] == "L1"
    assert values["revision"] == 2**40
    assert values["subject_kind"] == "ENTERPRISE"
    assert values["in_force"] is False
    assert values["masked_identifiers"] == ["uscc:9***X"]
    json.dumps(values)


def test_an_edition_as_json_holds_its_file_as_text():
    edition = catalogue_pb2.CatalogueEdition(catalogue_id="cn", sha256=b"\x00\x01", file="措施".encode())
    values = render.edition_dict(edition)
    assert values["file"] == "措施"
    assert values["sha256"] == "0001"
    assert values["published_time"] is None
    assert "file" not in render.edition_dict(catalogue_pb2.CatalogueEdition(catalogue_id="cn"))


def receipt(state, **counts):
    return listing_pb2.ImportReceipt(receipt_id="R 1", state=state, file_name="list.csv", **counts)


@pytest.mark.parametrize(
    ("state", "quarantined", "code"),
    [
        (listing_pb2.IMPORT_STATE_COMMITTED, 0, 0),
        (listing_pb2.IMPORT_STATE_DRY_RUN, 0, 0),
        (listing_pb2.IMPORT_STATE_REFUSED, 1, 2),
        (listing_pb2.IMPORT_STATE_COMMITTED, 1, 3),
        (listing_pb2.IMPORT_STATE_WAITING, 1, 4),
    ],
)
def test_exit_codes_of_an_import(state, quarantined, code):
    assert lists.exit_code(receipt(state, quarantined=quarantined)) == code


@pytest.mark.parametrize("name", ["one\rtwo", "\r", "one\r\ntwo", "one\ntwo", 'a"\r"b'])
def test_no_cell_of_a_file_ends_the_row_before_its_answer(tmp_path, name):
    file = tmp_path / "in.csv"
    with file.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, quoting=csv.QUOTE_ALL).writerows([["uscc", "name"], [uscc(1).partition(":")[2], name]])
    table = checks.read_table(file)
    stream = io.StringIO(newline="")
    answers = ((row, decision()) for row in table.rows)
    checks.write_answers(stream, table, answers, checks.Tally(), lambda: None)
    (answer,) = csv.DictReader(io.StringIO(stream.getvalue(), newline=""))
    assert (answer["outcome"], answer["name"].split()) == ("PASS", name.split())


def test_a_file_of_statistics_holds_no_formula_and_no_link(tmp_path):
    # The matter of a local pass is what an SDK sent.
    sent = ["=1+1", "+1", "-1", "@a", "\t=1", "\r=1", "http://example.test/x", "mailto:a@b.test", "internal:A1"]
    for name in ("out.csv", "out.xlsx"):
        statistics._write(tmp_path / name, [["matter"], *([each] for each in sent)])
    with (tmp_path / "out.csv").open(encoding="utf-8-sig", newline="") as file:
        cells = [row[0] for row in csv.reader(file)]
    assert len(cells) == len(sent) + 1
    assert not [each for each in cells if each.lstrip().startswith(tuple("=+-@"))]
    with zipfile.ZipFile(tmp_path / "out.xlsx") as book:
        text = "".join(book.read(name).decode() for name in book.namelist())
    assert "<f>" not in text
    assert "hyperlink" not in text


@pytest.mark.parametrize("hidden", ["\x1b[2J", "\x1b]0;t\x07", "\x9b2J", "\r", "\b", "\u202e"])
def test_what_others_wrote_is_no_command_to_the_terminal(capsys, hidden):
    text = f"one{hidden}two\nthree"
    panel = render.facts_panel(text, {"reason": text})
    grid = render.decision_panel(decision(Outcome.INTERCEPT, instruction=text, objection_channel=text))
    for each in (panel, grid, Text(text), text):
        render.console().print(each)
    render.console().print(render.listings_table([listing_pb2.Listing(listing_id="1", name=text, authority=text)]))
    for line in (
        watches._line(watch_pb2.Watch(case_no=text)),
        watches._alert_line(watch_pb2.Alert(authority=text, decision_no=text)),
    ):
        print(line)
    out = capsys.readouterr().out
    assert not set(hidden) & set(out) - set("[2J]0;t")
    assert out.count("three") >= 6
    coloured = io.StringIO()
    terminal = render._Console(file=coloured, force_terminal=True, color_system="truecolor", markup=False)
    terminal.print(render.outcome_text("INTERCEPT"), text)
    assert "\x1b[1;37;41m" in coloured.getvalue(), "its own styles stay"
    assert hidden not in coloured.getvalue()


def test_a_waiting_import_tells_what_to_type(capsys):
    waiting = receipt(listing_pb2.IMPORT_STATE_WAITING, rows=3, reasons=["alters too much"])
    target = Target(gateway_file=Path("/some where/gateway.json"))
    lists.show_receipt(waiting, target, as_json=False)
    text = capsys.readouterr().out
    assert "alters too much" in text
    assert "lanjie list confirm 'R 1' --gateway-file '/some where/gateway.json'" in text
    lists.show_receipt(waiting, target, as_json=True)
    assert json.loads(capsys.readouterr().out)["confirm_command"].startswith("lanjie list confirm")


def test_quarantine_is_shown_by_line_column_and_rule():
    rows = [listing_pb2.QuarantinedRow(line=n, column="id_number", rule="alphabet", message="m") for n in range(2, 40)]
    text = shown(render.quarantine_table(receipt(listing_pb2.IMPORT_STATE_COMMITTED, quarantined=38, quarantine=rows)))
    assert "38 rows" in text
    assert "id_number" in text
    assert "first 20" in text


def table_of(tmp_path, text, encoding="utf-8"):
    file = tmp_path / "bidders.csv"
    file.write_bytes(text.encode(encoding))
    return checks.read_table(file)


@pytest.mark.parametrize(
    ("heading", "cells", "text", "name"),
    [
        ("identifier,name", "uscc:1,甲", "uscc:1", "甲"),
        ("名称,统一社会信用代码", "甲,1", "uscc:1", "甲"),
        ("ID_KIND,ID_NUMBER", "citizen,1", "citizen:1", ""),
        ("证件类型,证件号码,姓名", "passport,USA:X1,乙", "passport:USA:X1", "乙"),
    ],
)
def test_columns_of_a_bidders_file(tmp_path, heading, cells, text, name):
    (row,) = table_of(tmp_path, f"{heading}\n{cells}\n").rows
    assert (row.text, row.name, row.malformed) == (text, name, False)


def test_a_row_with_a_cell_too_many_is_asked_about_nothing(tmp_path):
    table = table_of(tmp_path, "identifier,name\nuscc:1,甲,乙\nuscc:2\n\nuscc:3,丙\n", "utf-8-sig")
    assert table.marked
    assert [row.malformed for row in table.rows] == [True, True, False]
    assert [row.text for row in table.rows] == ["", "", "uscc:3"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"identifier\n", "has no rows"),
        (b"number\n1\n", "no column with identifiers"),
        ("名称\n甲\n".encode("gb18030"), "not UTF-8"),
        (b"identifier,subject\na,b\n", "two columns"),
        (b'identifier\n"a\n', "no CSV"),
    ],
)
def test_files_that_are_no_bidders_file(tmp_path, content, message):
    file = tmp_path / "bad.csv"
    file.write_bytes(content)
    with pytest.raises(CommandError, match=message):
        checks.read_table(file)


def test_answers_are_written_beside_the_rows_as_they_came(tmp_path):
    table = table_of(tmp_path, "name,identifier,outcome\n甲,uscc:1,old\n乙,uscc:2,old\n丙,bad,old\n")
    invalid = decision(Outcome.UNDETERMINED, reason=UndeterminedReason.IDENTIFIER_INVALID, revision=0, decision_id="")
    stream, tally, steps = io.StringIO(), checks.Tally(), []
    answers = zip(table.rows, [INTERCEPT, decision(), invalid], strict=True)
    checks.write_answers(stream, table, answers, tally, lambda: steps.append(1))
    rows = list(csv.DictReader(io.StringIO(stream.getvalue())))
    assert list(rows[0]) == ["row", "name", "identifier", *checks.RESULT_COLUMNS]
    assert [row["outcome"] for row in rows] == ["INTERCEPT", "PASS", "UNDETERMINED"]
    assert rows[0]["measures"] == "N-1"
    assert rows[2]["reason"] == "IDENTIFIER_INVALID"
    assert rows[2]["revision"] == ""
    assert (tally.malformed, tally.revisions, len(steps)) == (1, {7}, 3)


def test_rows_never_show_their_identifier(tmp_path):
    (row,) = table_of(tmp_path, f"identifier\n{citizen(1)}\n").rows
    assert citizen(1) not in repr(row)


@pytest.mark.parametrize(
    "text", ["0001-01-01T00:00", "9999-12-31T23:59:59-08:00", "2026-03-02", "yesterday", "", "25:00"]
)
def test_instants_are_whole(text):
    with pytest.raises(CommandError, match="an instant"):
        parse_instant(text)


def test_an_instant_without_a_zone_is_in_shanghai():
    assert parse_instant("2026-03-02T09:30") == AT
    assert parse_instant("2026-03-02T01:30Z") == AT


def test_errors_are_one_line_with_the_rule():
    error = InvalidIdentifier(
        "a company code has\n18 characters", reason="IDENTIFIER_INVALID", metadata={"rule": "length"}
    )
    assert describe(error) == "a company code has 18 characters (IDENTIFIER_INVALID: rule length)"
    assert uscc(1) not in describe(error)


class TestTarget:
    def gateway_file(self, tmp_path):
        token = tmp_path / "inquirer.token"
        token.write_text("secret\n")
        file = tmp_path / "gateway.json"
        file.write_text(json.dumps({"screening": "127.0.0.1:1", "tokens": {"inquirer": str(token)}}))
        return file

    def test_a_gateway_file_names_address_and_token(self, tmp_path):
        target = Target(gateway_file=self.gateway_file(tmp_path))
        endpoint = target.endpoint(Listener.SCREENING, Person.INQUIRER)
        assert (endpoint.address, endpoint.token) == ("127.0.0.1:1", "secret")
        assert "secret" not in repr(endpoint)
        with pytest.raises(CommandError, match=r"tokens\.manager"):
            target.endpoint(Listener.SCREENING, Person.MANAGER)

    def test_explicit_options_go_first(self, tmp_path):
        other = tmp_path / "other"
        other.write_text("mine")
        target = Target(gateway_file=self.gateway_file(tmp_path), token_file=other)
        assert target.endpoint(Listener.SCREENING, Person.INQUIRER).token == "mine"
        target = Target(gateway_file=None, address="127.0.0.1:9", token_file=other)
        assert target.endpoint(Listener.ADMIN, Person.MANAGER).address == "127.0.0.1:9"

    @pytest.mark.parametrize("content", [None, "", "[]", "\x00"])
    def test_what_is_missing_or_broken_is_said(self, tmp_path, content):
        file = tmp_path / "gateway.json"
        if content is not None:
            file.write_text(content)
        with pytest.raises(CommandError, match=r"gateway\.json"):
            Target(gateway_file=file).endpoint(Listener.ADMIN, Person.MANAGER)
        with pytest.raises(CommandError, match="which gateway"):
            Target(gateway_file=None).endpoint(Listener.ADMIN, Person.MANAGER)


def test_events_tell_what_they_say_and_duties_who_has_to_do_what_by_when():
    events = [
        listing_pb2.ListingEvent(kind=listing_pb2.LISTING_EVENT_KIND_STAYED, until_date="2026-12-31"),
        listing_pb2.ListingEvent(
            kind=listing_pb2.LISTING_EVENT_KIND_OBJECTION_CLOSED,
            objection_outcome=listing_pb2.OBJECTION_OUTCOME_DELETED,
            reply="You [were] right.",
        ),
        listing_pb2.ListingEvent(
            kind=listing_pb2.LISTING_EVENT_KIND_NOTICED,
            notice=listing_pb2.INSTRUMENT_NOTICE_ALTERED,
            instrument_date="2026-01-05",
        ),
        listing_pb2.ListingEvent(
            kind=listing_pb2.LISTING_EVENT_KIND_REVIEWED, reviewed_revision=7, contested=True, second_person="tax/carl"
        ),
    ]
    assert [render_events.event_says(each) for each in events] == [
        "until 2026-12-31, 24:00",
        "deleted\nreply: You [were] right.",
        "instrument altered from 2026-01-05",
        "revision 7: contested\nconfirmed by tax/carl",
    ]
    assert "You [were] right." in shown(render.listing_panel(listing_pb2.Listing(), events), 160)
    duty = {"rule": "revocation-apply", "bound": "the agency", "listing_id": "0" * 16, "due_date": "2026-03-02"}
    for facts, words in (
        ({"overdue": True}, "overdue by 2 days"),
        ({"late": True, "closed_date": "2026-03-03"}, "done on 2026-03-03, 1 day too late"),
        ({"provisional": True}, "provisional"),
        ({"due_date": ""}, "contested"),
        ({}, "open"),
    ):
        one = listing_pb2.Duty(**(duty | facts))
        assert words in shown(render_events.duties_table([one], datetime.date(2026, 3, 4)), 200)
