"""Masking (Art. 40): numbers, names, texts, lines of logs; and what a row states of its own persons."""

import importlib
import json
import logging
import pkgutil
import re
import time
from collections.abc import Iterator

import pytest
import structlog
from google.protobuf.descriptor import Descriptor, ServiceDescriptor
from hypothesis import given
from hypothesis import strategies as st

import lanjie.v1
from lanjie_gateway.domain.list_file import FileRules, ListTypeRule, RowRefused, own_words, read_row
from lanjie_gateway.services import records
from lanjie_gateway.settings import configure_logs, log_foreign_by_place
from lanjie_matcher.identifiers import normalise, parse
from lanjie_matcher.masking import (
    Reader,
    holds_personal_number,
    masked_line,
    masked_name,
    masked_number,
    masked_text,
)
from tests.support.core import day
from tests.support.subjects import citizen, uscc

PERSON, COMPANY = citizen(731), uscc(731)
NUMBER, CODE = PERSON.partition(":")[2], COMPANY.partition(":")[2]
PERSONS = st.builds(
    citizen,
    st.integers(0, 999),
    st.dates(day("1930-01-01"), day("2012-12-31")).map(lambda each: each.strftime("%Y%m%d")),
)


@pytest.mark.parametrize(
    ("identifier", "reader", "shown"),
    [
        (PERSON, Reader.ANYBODY, f"citizen:{NUMBER[0]}{'*' * 16}{NUMBER[-1]}"),
        (PERSON, Reader.DEPARTMENT, f"citizen:{NUMBER[:6]}{'*' * 8}{NUMBER[-4:]}"),
        (COMPANY, Reader.ANYBODY, f"uscc:{CODE[:4]}{'*' * 10}{CODE[-4:]}"),
        (COMPANY, Reader.DEPARTMENT, f"uscc:{CODE[:4]}{'*' * 10}{CODE[-4:]}"),
        (f"uscc:{NUMBER}", Reader.DEPARTMENT, f"uscc:{NUMBER[0]}{'*' * 16}{NUMBER[-1]}"),
        ("passport:USA:X1234567", Reader.DEPARTMENT, "passport:U**********7"),
        ("hk_macao_pass:H12345678", Reader.DEPARTMENT, "hk_macao_pass:H*******8"),
    ],
)
def test_the_table_of_readers(identifier: str, reader: Reader, shown: str) -> None:
    assert masked_number(parse(identifier), reader) == shown


def test_names_show_their_first_character() -> None:
    assert [masked_name(name) for name in ("张三", "张三丰", "张", "")] == ["张*", "张**", "*", ""]


@given(
    PERSONS, st.sampled_from(["{}", "号码{}。", "({})", "身份证{}，已核", "a {} b", "citizen:{}", "公民 citizen：{}"])
)
def test_no_number_of_a_person_stays_in_a_text(person: str, around: str) -> None:
    number = person.partition(":")[2]
    spaced = f"{number[:6]} {number[6:14]}-{number[14:]}"
    wide = "".join(chr(ord(each) + 0xFEE0) for each in number)
    short = number[:6] + number[8:17]
    apart = [
        between.join(digits[place : place + 4] for place in range(0, 18, 4))
        for digits in (number, wide)
        for between in (" ", "-", "\u3000", "－", "\u00a0", "–", "\u200b", "\t", "\n", "  ")
    ]
    assert {f"citizen:{normalise(each)}" for each in apart} == {person}
    for written in (number, number.lower(), spaced, wide, *apart, *([short] if number[6:8] == "19" else [])):
        for masked in (masked_text(around.format(written)), masked_line(around.format(written))):
            assert written not in masked
            assert number[6:14] not in masked


@pytest.mark.parametrize(
    "text",
    [
        "测试〔2026〕000123号",
        "12441500196720244T3442199806003202611260001",
        "统一社会信用代码 " + CODE,
        "注册号 320100000012345",
        "2026-11-26 09:30，金额 1234567.89 元",
        "无",
        "",
    ],
)
def test_what_is_no_number_of_a_person_stays_as_it_is(text: str) -> None:
    assert masked_text(text) == text
    assert not holds_personal_number(text)


def test_a_line_of_a_log_shows_no_code_either() -> None:
    for identifier in (COMPANY, PERSON, "passport:USA:X1234567", "org_code:" + CODE[8:17]):
        number = identifier.rpartition(":")[2]
        assert number not in masked_line(f"No such command '{identifier}'.")
    assert CODE not in masked_line(f"matter {CODE}")
    for told in ("state the kind: 'uscc:...', 'citizen:...'", "three letters: 'passport:USA:...'", "citizen:"):
        assert masked_line(told) == told
    assert "测9" not in masked_line("social_org_no:测9字第8号")
    assert "0 1 9 9" not in masked_line("3 2 0 1 9 9 1 9 8 0 0 1 0 1 0 0 7 5")
    assert masked_line("listing 0000003800000002 cannot be unsealed") == "listing 0000003800000002 cannot be unsealed"
    assert masked_line("revision 1234, 2026-11-26T09:30:00.123456Z") == "revision 1234, 2026-11-26T09:30:00.123456Z"


@pytest.mark.parametrize("part", ["passport:", "uscc : ", "1 ", "p", "a1", "１ "])
def test_a_long_text_takes_as_long_as_it_is_long(part: str) -> None:
    text = (part * 300_000)[:300_000]
    begun = time.process_time()
    masked_text(text)
    masked_line(text)
    records.masked({"purpose": text})
    # Looked at from each of its places anew, it would take a minute, and the whole gateway waits for it.
    assert time.process_time() - begun < 5


def test_a_row_states_its_own_persons() -> None:
    marks = ("法定代表人:李四四", f"股东：citizen:{NUMBER}", "王五")
    assert own_words([parse("passport:USA:X1234567")], "张三", marks) == ("X1234567", "张三", "李四四", NUMBER, "王五")


def row(**cells: str) -> dict[str, str]:
    return {"id_kind": "citizen", "id_number": NUMBER, "list_type": "WAGE", **cells}


RULES = FileRules(
    list_types={"WAGE": ListTypeRule(code="WAGE")},
    list_type="",
    source="test",
    complete=False,
    today=day("2026-03-02"),
)


def test_reasons_are_kept_without_the_persons_of_their_row() -> None:
    draft = read_row(
        row(name="张示例", reason=f"张示例（{NUMBER}）与李某某拖欠", related_persons="法定代表人:李某某"),
        2,
        RULES,
    )
    assert draft.texts["reason"] == f"张**（{NUMBER[0]}{'*' * 16}{NUMBER[-1]}）与李**拖欠"
    assert draft.name == "张示例"


def test_the_name_of_an_organisation_stays_in_its_reason() -> None:
    cells = row(id_kind="uscc", id_number=CODE, name="南京示例有限公司", reason="南京示例有限公司拖欠")
    assert read_row(cells, 2, RULES).texts["reason"] == "南京示例有限公司拖欠"


def test_a_number_in_a_column_of_codes_is_quarantined_and_never_holds_up_a_removal() -> None:
    for column in ("decision_no", "source"):
        with pytest.raises(RowRefused) as caught:
            read_row(row(**{column: NUMBER}), 2, RULES)
        assert (caught.value.column, caught.value.rule) == (column, "personal-number")
        assert NUMBER not in str(caught.value)
        assert read_row(row(op="D", **{column: NUMBER}), 2, RULES).op.value == "D"


@pytest.fixture
def logs() -> Iterator[None]:
    """Leave the log as it was: what is captured here is closed afterwards."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def test_a_persons_number_stated_as_a_companys_is_quarantined() -> None:
    with pytest.raises(RowRefused) as caught:
        read_row(row(id_kind="uscc"), 2, RULES)
    assert (caught.value.column, caught.value.rule) == ("id_number", "personal-number")
    both = "362322198709086409"
    assert read_row(row(id_kind="uscc", id_number=both), 2, RULES).identifiers[0].reveal() == f"uscc:{both}"


@pytest.mark.usefixtures("logs")
def test_a_log_masks_what_looks_like_a_number(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logs("debug")
    structlog.get_logger("test").info("said", what=f"about {PERSON} and {CODE}", count=3)
    line = json.loads(capfd.readouterr().err)
    assert NUMBER not in line["what"]
    assert CODE not in line["what"]
    assert line["count"] == 3


@pytest.mark.usefixtures("logs")
def test_libraries_are_logged_by_place_and_without_their_message(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    configure_logs("warning")
    for module in ("sys", "threading"):
        monkeypatch.setattr(f"{module}.excepthook", None)
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    log_foreign_by_place()
    try:
        int("张示例 X1234567")
    except ValueError:
        logging.getLogger("asyncio").exception("Task failed: 张示例 X1234567")
    line = capfd.readouterr().err
    assert "test_masking.py" in line
    assert "ValueError at" in line
    assert "张示例" not in line
    assert "X1234567" not in line


def fields_of(message: Descriptor, path: str = "") -> Iterator[str]:
    for field in message.fields:
        if field.message_type is None:
            yield f"{path}{field.name}"
        elif field.message_type.full_name.startswith("lanjie.") and field.message_type.name not in path:
            yield from fields_of(field.message_type, f"{path}{field.message_type.name}.")


SERVICES = [
    service
    for module in pkgutil.iter_modules(lanjie.v1.__path__)
    if module.name.endswith("_pb2")
    for service in importlib.import_module(f"lanjie.v1.{module.name}").DESCRIPTOR.services_by_name.values()
]


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_no_answer_of_any_method_has_a_place_for_a_number(service: ServiceDescriptor) -> None:
    for method in service.methods:
        places = list(fields_of(method.output_type))
        numbers = [
            each for each in places if re.search(r"(^|[._])(identifiers?|id_number|certificate|passport)$", each)
        ]
        shown = [each for each in numbers if "masked_" not in each]
        assert not shown, f"{method.name} answers with {shown}: an answer masks (Art. 40)"
