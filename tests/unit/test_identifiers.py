"""Parsing, warnings, masking and canonical keys."""

import datetime
import traceback

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stdnum.cn import ric
from stdnum.cn import uscc as stdnum_uscc

from lanjie_matcher.identifiers import (
    MAX_TEXT,
    USCC_ALPHABET,
    IdentifierError,
    birth_date,
    citizen_check,
    make,
    normalise,
    org_code_check,
    parse,
    uscc_check,
)
from lanjie_matcher.subjects import SubjectKind, kind_by_code, normalise_name
from tests.support.core import citizen, org_code, uscc


def rule_of(text):
    with pytest.raises(IdentifierError) as caught:
        parse(text)
    return caught.value.rule


COMPANY = uscc(20260001)
PERSON = citizen(17)


@pytest.mark.parametrize(
    "form",
    [
        "uscc:{}",
        "USCC:{}",
        " uscc : {} ",
        "uscc：{}",
    ],
)
def test_forms_of_the_kind(form):
    assert parse(form.format(COMPANY)) == parse(f"uscc:{COMPANY}")


def test_forms_of_the_number():
    letters = uscc(7, head="91320102")[:8] + "MA1ABCDE0"
    code = letters + uscc_check(letters)
    wanted = parse(f"uscc:{code}")
    full_width = "".join(chr(ord(character) + 0xFEE0) for character in code)
    for text in (
        code.lower(),
        full_width,
        full_width.lower(),
        f"{code[:4]} {code[4:8]}\t{code[8:]}",
        f"{code[:8]}-{code[8:17]}-{code[17]}",
        f"{code[:8]}\u2013{code[8:]}",
        f"{code[:8]}\u3000{code[8:]}\u00a0",
        f"\ufeff{code[:8]}\u200b{code[8:]}",
    ):
        assert parse(f"uscc:{text}") == wanted


def test_kind_and_number_apart():
    assert make("uscc", COMPANY) == parse(f"uscc:{COMPANY}")
    assert make(" Passport ", "usa: a-1234567").reveal() == "passport:USA:A1234567"


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (COMPANY, "kind-missing"),
        ("", "kind-missing"),
        ("company:" + COMPANY, "kind-unknown"),
        (":" + COMPANY, "kind-unknown"),
        ("uscc:", "empty"),
        ("uscc: - ", "empty"),
        ("uscc:" + "1" * MAX_TEXT, "too-long"),
        ("uscc:" + "\ufdfa" * 20, "too-long"),
        ("uscc:" + COMPANY[:17], "length"),
        ("uscc:" + COMPANY + "0", "length"),
        ("uscc:" + COMPANY[:17] + "O", "alphabet"),
        ("uscc:" + COMPANY[:17] + "ı", "alphabet"),
        ("uscc:" + COMPANY[:17] + "é", "alphabet"),
        ("uscc:9132**********DE0X", "masked"),
        ("uscc:9132＊＊0X", "masked"),
        ("org_code:12345678", "length"),
        ("org_code:12345678A", "alphabet"),
        ("citizen:" + PERSON[:14], "length"),
        ("citizen:" + PERSON[:16] + "X0", "alphabet"),
        ("citizen:3201021990010A1", "alphabet"),
        ("citizen:32010290010112A", "alphabet"),
        ("citizen:320102199002301234", "date"),
        ("citizen:320102199113011234", "date"),
        ("citizen:320102000001011234", "date"),
        ("citizen:320102900230123", "date"),
        ("citizen:320102****1234", "masked"),
        ("permanent_resident:81000019900101123X", "alphabet"),
        ("permanent_resident:USA1234567890123", "length"),
        ("permanent_resident:US1234567890123", "alphabet"),
        ("passport:A1234567", "country"),
        ("passport:US:A1234567", "country"),
        ("passport:USA:A123", "length"),
        ("passport:USA:" + "1" * 16, "length"),
        ("passport:USA:A1234:67", "alphabet"),
        ("passport:USA:A1ß4567", "alphabet"),
        ("registration_no:1234567890", "length"),
        ("registration_no:32010000000012A", "alphabet"),
        ("tax_no:12345678901234", "length"),
        ("tax_no:1234567890123456789É", "alphabet"),
        ("hk_macao_pass:X12345678", "alphabet"),
        ("hk_macao_pass:H1234567", "length"),
        ("taiwan_pass:123456789", "length"),
        ("taiwan_pass:A2345678", "alphabet"),
        ("officer_card:12", "length"),
        ("officer_card:1234?", "alphabet"),
        ("institution_no:123", "length"),
        ("social_org_no:123", "length"),
    ],
)
def test_what_cannot_be_an_identifier_names_its_rule(text, rule):
    assert rule_of(text) == rule


def test_number_alone_may_be_too_long():
    with pytest.raises(IdentifierError) as caught:
        make("uscc", "1" * (MAX_TEXT + 1))
    assert caught.value.rule == "too-long"


@pytest.mark.parametrize(
    ("text", "warnings"),
    [
        ("uscc:" + COMPANY, ()),
        ("uscc:" + COMPANY[:17] + ("0" if COMPANY[17] != "0" else "1"), ("check-digit",)),
        ("org_code:" + org_code(5), ()),
        ("org_code:12345678X", ("check-digit",)),
        ("citizen:" + PERSON, ()),
        ("citizen:" + PERSON[:17] + ("0" if PERSON[17] != "0" else "1"), ("check-digit",)),
        ("citizen:" + citizen(3, region="990102"), ("region",)),
        ("citizen:" + citizen(3, region="810000"), ()),
        ("citizen:" + citizen(3, region="830000"), ()),
        ("registration_no:320100000000121", ("secondary-identifier",)),
        ("registration_no:3201000000001", ("secondary-identifier",)),
        ("tax_no:32010012345678X", ("secondary-identifier",)),
        ("institution_no:事证第1234号", ("secondary-identifier",)),
        ("social_org_no:苏社证字(2010)1号", ("secondary-identifier",)),
        ("passport:USA:A1234567", ()),
        ("hk_macao_pass:H12345678", ()),
        ("hk_macao_pass:M1234567801", ()),
        ("taiwan_pass:12345678", ()),
        ("taiwan_pass:1234567801B", ()),
        ("officer_card:军字第12345号", ()),
        ("permanent_resident:USA123456789012", ()),
    ],
)
def test_doubts_are_warnings(text, warnings):
    assert parse(text).warnings == warnings


def test_unsound_organisation_code_inside_a_sound_company_code():
    body = "91320102" + "12345678X"
    assert parse("uscc:" + body + uscc_check(body)).warnings == ("org-check-digit",)


def test_new_permanent_resident_card_has_a_check_digit():
    body = "91156199001011234"[:17]
    sound = body + citizen_check(body)
    assert parse("permanent_resident:" + sound).warnings == ()
    wrong = body + ("0" if sound[17] != "0" else "1")
    assert parse("permanent_resident:" + wrong).warnings == ("check-digit",)


@pytest.mark.parametrize("head", ["A1320102", "N2320102", "Y1320102", "N9320102"])
def test_codes_of_army_rural_collectives_and_others_are_sound(head):
    assert parse("uscc:" + uscc(9, head)).warnings == ()


def test_short_citizen_number_becomes_long():
    long = citizen(123, birth="19750203")
    assert parse(f"citizen:{long[:6]}{long[8:17]}") == parse(f"citizen:{long}")


@pytest.mark.parametrize("text", ["uscc:" + COMPANY, "citizen:" + PERSON, "passport:USA:A1234567", "officer_card:1234"])
def test_repr_and_str_are_masked(text):
    identifier = parse(text)
    number = text.partition(":")[2]
    for shown in (repr(identifier), str(identifier), f"{identifier}", identifier.masked):
        assert number not in shown
        assert "*" in shown
    assert identifier.reveal() == text


def test_masks():
    assert parse("uscc:" + COMPANY).masked == f"uscc:{COMPANY[:4]}**********{COMPANY[-4:]}"
    assert parse("citizen:" + PERSON).masked == f"citizen:3****************{PERSON[-1]}"
    assert parse("tax_no:" + PERSON).masked == f"tax_no:3****************{PERSON[-1]}"
    assert parse("tax_no:" + COMPANY).masked == f"tax_no:{COMPANY[:4]}**********{COMPANY[-4:]}"
    assert parse("institution_no:12345678").masked == "institution_no:********"
    assert parse("institution_no:123456789").masked == "institution_no:1234*6789"


@pytest.mark.parametrize(
    "text", ["uscc:91320102MA1ABCDE0V", "citizen:320102199002301234", "citizen:32010219900230", "passport:USA:A1234:67"]
)
def test_no_error_holds_the_number(text):
    with pytest.raises(IdentifierError) as caught:
        parse(text)
    shown = str(caught.value) + repr(caught.value) + "".join(traceback.format_exception_only(caught.value))
    assert text.partition(":")[2] not in shown
    assert caught.value.__cause__ is None


def test_company_and_organisation_code_share_the_canonical_key():
    assert parse("uscc:" + COMPANY).key == parse("org_code:" + COMPANY[8:17]).key == "org:" + COMPANY[8:17]


def test_birth_date():
    assert birth_date(parse("citizen:" + citizen(1, birth="20081231"))) == datetime.date(2008, 12, 31)
    assert birth_date(parse("citizen:320102750203123")) == datetime.date(1975, 2, 3)
    assert birth_date(parse("uscc:" + COMPANY)) is None


def test_normalise_drops_what_people_type_between_digits():
    assert normalise("ab 12-３４\u2014\u00adX") == "AB1234X"
    assert normalise("MA1") == "MA1"
    assert normalise("(2010)") == "(2010)"


def test_is_person():
    assert parse("citizen:" + PERSON).is_person
    assert parse("officer_card:1234").is_person
    assert not parse("uscc:" + COMPANY).is_person


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        ("91", SubjectKind.ENTERPRISE),
        ("92", SubjectKind.INDIVIDUAL_BUSINESS),
        ("93", SubjectKind.COOPERATIVE),
        ("12", SubjectKind.PUBLIC_INSTITUTION),
        ("51", SubjectKind.SOCIAL_ORG),
        ("31", SubjectKind.OTHER_ORG),
        ("81", SubjectKind.OTHER_ORG),
        ("N2", None),
        ("99", None),
        ("55", None),
    ],
)
def test_kind_of_subject_by_code(head, kind):
    assert kind_by_code(parse("uscc:" + uscc(11, head + "320102"))) is kind


def test_kind_of_subject_by_other_numbers():
    assert kind_by_code(parse("org_code:" + org_code(11))) is None
    assert kind_by_code(parse("citizen:" + PERSON)) is SubjectKind.NATURAL_PERSON


def test_names_are_compared_without_blanks_width_and_case():
    assert normalise_name(" 某某（南京）Ａ 有限公司") == normalise_name("某某(南京)a有限公司")
    assert normalise_name("甲") != normalise_name("乙")


# python-stdnum as oracle, on what it knows: codes that start with eight digits, mainland regions it has in its table.


@given(st.integers(0, 99_999_999), st.sampled_from(["91320102", "52110000", "12330100"]))
def test_oracle_agrees_on_company_codes(number, head):
    code = uscc(number, head)
    assert stdnum_uscc.is_valid(code)
    assert parse("uscc:" + code).warnings == ()


@given(st.integers(0, 99_999_999), st.integers(1, 30))
def test_oracle_agrees_on_wrong_check_characters(number, shift):
    code = uscc(number)
    wrong = code[:17] + USCC_ALPHABET[(USCC_ALPHABET.index(code[17]) + shift) % 31]
    assert not stdnum_uscc.is_valid(wrong)
    assert parse("uscc:" + wrong).warnings == ("check-digit",)


@settings(deadline=None)
@given(st.integers(0, 999), st.dates(datetime.date(1930, 1, 1), datetime.date(2020, 12, 31)), st.booleans())
def test_oracle_agrees_on_citizen_numbers(number, born, spoil):
    code = citizen(number, birth=f"{born:%Y%m%d}", region="110101")
    if spoil:
        code = code[:17] + "0123456789X"[("0123456789X".index(code[17]) + 1) % 11]
    assert ric.is_valid(code) is not spoil
    assert parse("citizen:" + code).warnings == (("check-digit",) if spoil else ())


def test_check_characters_of_known_numbers():
    assert org_code_check("D2143569"[:8]) == "X"
    assert citizen_check("11010519491231002") == "X"
    assert uscc_check("00000000000000000") == "0"
