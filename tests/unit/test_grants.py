"""What a grant covers, what widens it, which files are refused, and who vouches for an officer (Art. 24, 39, 49)."""

import dataclasses
import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanjie.officers import OfficerSigner
from lanjie_gateway.domain import grant_file
from lanjie_gateway.domain.access import Principal, Role
from lanjie_gateway.domain.errors import Refused
from lanjie_gateway.domain.grants import LOCAL_GRANT, Grant, GrantSet, Mode, as_json, from_json
from lanjie_gateway.domain.identities import presented
from lanjie_matcher.grants import CLAIM_SECONDS, SKEW_SECONDS, Case, Claim
from tests.support.grants import file, grant
from tests.support.subjects import citizen

DAY = datetime.date(2026, 6, 1)
CASE = Case("procurement.supplier", "A-1", "bid review")
AT = 1_780_000_000
SIGNER = OfficerSigner(b"k" * 32, "housing")
OTHER = OfficerSigner(b"o" * 32, "housing")
ABROAD = OfficerSigner(b"k" * 32, "water")
KEY = SIGNER.public_key
REQUIRED: dict[str, Any] = {"officers_required": True, "counter_key": KEY}

DAYS = st.dates(datetime.date(2025, 12, 1), datetime.date(2027, 1, 31))
CODES = ["procurement", "procurement.supplier", "license.food"]
REGIONS = ["320000", "320100", "320500", "340100"]


def some(values: list[str]) -> Any:
    return st.lists(st.sampled_from(values), min_size=1, unique=True)


@st.composite
def grants(draw: Any) -> Grant:
    first = draw(st.dates(datetime.date(2026, 1, 1), datetime.date(2026, 6, 1)))
    regions = draw(some(REGIONS))
    return grant(
        regions=regions,
        region=regions[0],
        matters=draw(some(CODES)),
        modes=draw(some([mode.value for mode in Mode])),
        valid_from=first.isoformat(),
        valid_until=(first + datetime.timedelta(days=draw(st.integers(0, 200)))).isoformat(),
        officers=dict.fromkeys(draw(st.lists(st.sampled_from(["1", "2"]), unique=True)), ""),
        counter_key=KEY,
        officers_required=draw(st.booleans()),
        reads_listings=draw(st.booleans()),
        limits={"checks_per_minute": draw(st.sampled_from([0, 5, 9]))},
    )


@settings(max_examples=50)
@given(grants(), st.sampled_from(CODES), st.sampled_from(sorted(Mode)), st.sampled_from(REGIONS), DAYS)
def test_a_grant_covers_what_it_names_and_nothing_else(
    one: Grant, matter: str, mode: Mode, region: str, day: Any
) -> None:
    lineage = [matter, "procurement"] if matter == "procurement.supplier" else [matter]
    named = (
        one.valid_from <= day <= one.valid_until
        and any(code in one.matters for code in lineage)  # type: ignore[operator]
        and mode in one.modes
        and any(region == each or (each == "320000" and region.startswith("32")) for each in one.regions)
    )
    assert (one.fault(lineage, mode, region, day) == "") is named
    asker = Principal(department="housing", person="p", roles=frozenset({Role.INQUIRER}), region=region, grant=one)
    if named:
        assert asker.require_inquiry(matter, mode, region, day, held_by=lineage) is one
    else:
        with pytest.raises(Refused) as refused:
            asker.require_inquiry(matter, mode, region, day, held_by=lineage)
        assert refused.value.reason == "NOT_PERMITTED"


@settings(max_examples=50)
@given(
    grants(), grants(), st.tuples(st.sampled_from(CODES), st.sampled_from(sorted(Mode)), st.sampled_from(REGIONS), DAYS)
)
def test_what_does_not_widen_covers_nothing_that_was_not_covered(old: Grant, new: Grant, asked: Any) -> None:
    if new.widens(old):
        return
    matter, mode, region, day = asked
    assert new.fault([matter], mode, region, day) or not old.fault([matter], mode, region, day)
    said = SIGNER.sign("1", *CASE, AT + 60)
    claims = [
        Claim(officer="1"),
        Claim(officer="1", expires=said.expires, signature=said.signature, algorithm="ed25519"),
    ]
    for claim in claims:
        assert new.officer_fault(claim, CASE, AT) or not old.officer_fault(claim, CASE, AT)
    assert old.reads_listings or not new.reads_listings


@settings(max_examples=50)
@given(grants())
def test_a_grant_comes_back_from_the_ledger_as_it_was_and_does_not_widen_itself(one: Grant) -> None:
    assert from_json(as_json(one)) == one
    assert one.widens(one) == ()
    assert one.widens(None) == ("grant",)


WIDER: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({}, {"regions": ["320000"], "region": "320100"}, "regions"),
    ({}, {"matters": ["procurement.supplier", "license.food"]}, "matters"),
    ({}, {"modes": ["ex_officio", "self"]}, "modes"),
    ({}, {"implementer_kinds": ["buyer"]}, "implementer_kinds"),
    ({"implementer_kinds": ["buyer"]}, {}, "implementer_kinds"),
    ({}, {"identities": {"DNS:counter.example": "anna"}}, "identities"),
    ({"officers": {"1": KEY}}, {"officers": {"1": KEY, "2": KEY}}, "officers"),
    ({"officers": {"1": KEY}}, {}, "officers"),
    (REQUIRED, {"counter_key": KEY}, "officers_required"),
    ({}, {"counter_key": KEY}, "counter_key"),
    ({}, {"reads_listings": True}, "reads_listings"),
    ({"limits": {"persons_per_day": 5}}, {"limits": {"persons_per_day": 6}}, "limits"),
    ({"limits": {"persons_per_day": 5}}, {}, "limits"),
    ({}, {"valid_from": "2025-12-31"}, "valid_from"),
    ({}, {"valid_until": "2027-01-01"}, "valid_until"),
    ({}, {"unit": "peoples_organisation"}, "unit"),
]


@pytest.mark.parametrize(("before", "after", "field"), WIDER)
def test_each_field_that_widens_is_named(before: dict[str, Any], after: dict[str, Any], field: str) -> None:
    assert grant(**after).widens(grant(**before)) == (field,)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"unit": "bank"}, "unit-kind"),
    ({"unit": "credit_agency"}, "unit-kind"),
    ({"unit": "industry_association"}, "unit-kind"),
    ({"department": "local"}, "local"),
    ({"department": "Housing"}, "code"),
    ({"name": " "}, "type"),
    ({"name": "a\0b"}, "type"),
    ({"document": {"number": "a\0b", "date": "2026-01-01"}}, "type"),
    ({"officers": {"a\0b": ""}}, "code"),
    ({"officers": {citizen(1).partition(":")[2]: ""}}, "number"),
    ({"regions": ["3201"]}, "region"),
    ({"regions": []}, "empty"),
    ({"region": "340100"}, "region"),
    ({"regions": ["320100", "320500"]}, "key-missing"),
    ({"matters": []}, "empty"),
    ({"matters": None}, "key-missing"),
    ({"modes": ["any"]}, "mode-unknown"),
    ({"implementer_kinds": None}, "key-missing"),
    ({"identities": {"CN:anna": "anna"}}, "identity"),
    ({"identities": {"DNS:*.housing.example": "anna"}}, "identity"),
    ({"identities": {"URI:spiffe://test/*": "anna"}}, "identity"),
    ({"identities": {"DNS:a.example": "anna", "DNS:A.example": "bert"}}, "identity-twice"),
    ({"officers": {"1": "ed25519:12"}}, "key"),
    ({"officers_required": True}, "key-missing"),
    ({"officers_required": True, "officers": {"1": KEY, "2": ""}}, "key-missing"),
    ({"limits": {"persons_per_day": -1}}, "range"),
    ({"valid_until": None}, "key-missing"),
    ({"valid_until": "2025-12-31"}, "term"),
    ({"valid_until": "2036-01-01"}, "term"),
    ({"document": None}, "key-missing"),
    ({"document": {"number": "1"}}, "key-missing"),
    ({"everything": True}, "key-unknown"),
]


@pytest.mark.parametrize(("changes", "rule"), REFUSED)
def test_a_grant_file_that_breaks_a_rule_is_refused_by_its_name(changes: dict[str, Any], rule: str) -> None:
    with pytest.raises(Refused) as refused:
        grant_file.parse(file(**{"department": "housing", **changes}))
    assert (refused.value.reason, refused.value.metadata["rule"]) == ("ARGUMENT_INVALID", rule)


def test_a_name_in_a_grant_is_kept_in_the_form_in_which_a_certificate_presents_it() -> None:
    one = grant(identities={"DNS:Counter.Housing.Example": "anna", "URI:spiffe://Test/One": "anna"})
    shown = presented([b"spiffe://Test/One"], [b"counter.HOUSING.example"])
    assert [GrantSet.made([one], 1).person(name) for name in shown] == [(one, "anna")] * 2


DEEP, LONG = b"grant = " + b"[" * 50_000, b"[grant]\nlimits = " + b"9" * 5_000


@pytest.mark.parametrize("content", [b"\xff", b"[grant", b"", b"[grants]\n", b"x" * (1 << 20) + b"y", DEEP, LONG])
def test_what_is_no_grant_file_is_refused(content: bytes) -> None:
    with pytest.raises(Refused):
        grant_file.parse(content)


def claim(signer: OfficerSigner = SIGNER, officer: str = "1", case: Case = CASE, expires: int = AT + 60) -> Claim:
    said = signer.sign(officer, *case, expires)
    return Claim(officer=said.officer_id, expires=said.expires, signature=said.signature, algorithm=said.algorithm)


CLAIMS: list[tuple[dict[str, Any], Claim, str]] = [
    (REQUIRED, claim(), ""),
    (REQUIRED, Claim(officer="1"), "officer-missing"),
    (REQUIRED, Claim(officer=""), "officer-missing"),
    (REQUIRED, claim(OTHER), "officer-signature"),
    (REQUIRED, claim(ABROAD), "officer-signature"),
    (REQUIRED, claim(case=CASE._replace(matter="license.food")), "officer-signature"),
    (REQUIRED, claim(case=CASE._replace(case_no="A-2")), "officer-signature"),
    (REQUIRED, claim(case=CASE._replace(purpose="curiosity")), "officer-signature"),
    (REQUIRED, claim(expires=AT - SKEW_SECONDS), ""),
    (REQUIRED, claim(expires=AT - SKEW_SECONDS - 1), "officer-expired"),
    (REQUIRED, claim(expires=AT + CLAIM_SECONDS + SKEW_SECONDS), ""),
    (REQUIRED, claim(expires=AT + CLAIM_SECONDS + SKEW_SECONDS + 1), "officer-expired"),
    ({**REQUIRED, "officers": {"1": ""}}, claim(officer="2"), "officer-unknown"),
    ({**REQUIRED, "officers": {"1": OTHER.public_key}}, claim(), "officer-signature"),
    ({**REQUIRED, "officers": {"1": OTHER.public_key}}, claim(OTHER), ""),
    ({}, Claim(officer="1"), ""),
    ({}, claim(), "officer-unknown"),
    ({"counter_key": KEY}, claim(OTHER), "officer-signature"),
    ({"counter_key": KEY}, Claim(officer="1"), ""),
]


@pytest.mark.parametrize(("facts", "said", "fault"), CLAIMS)
def test_only_a_sound_claim_of_now_for_this_case_vouches_for_an_officer(
    facts: dict[str, Any], said: Claim, fault: str
) -> None:
    assert grant(**facts).officer_fault(said, CASE, AT) == fault


def test_another_algorithm_and_another_officer_are_no_claim() -> None:
    sound, one = claim(), grant(**REQUIRED)
    for changed in (
        Claim(officer="2", expires=sound.expires, signature=sound.signature, algorithm="ed25519"),
        Claim(officer="1", expires=sound.expires + 1, signature=sound.signature, algorithm="ed25519"),
        Claim(officer="1", expires=sound.expires, signature=sound.signature, algorithm="sm2"),
        Claim(officer="1", expires=sound.expires, signature=sound.signature[:-1], algorithm="ed25519"),
    ):
        assert one.officer_fault(changed, CASE, AT) == "officer-signature"


def test_nothing_is_granted_to_whom_no_grant_names_and_everything_to_the_embedded_department() -> None:
    nobody = GrantSet.made([grant("housing")], 1)
    assert nobody.of("water") is None
    assert nobody.of("local") is LOCAL_GRANT
    asker = Principal(department="water", person="p", roles=frozenset({Role.INQUIRER}), region="320100")
    with pytest.raises(Refused) as refused:
        asker.require_inquiry("procurement.supplier", "ex_officio", "320100", DAY)
    assert refused.value.metadata["required"] == "grant"
    for role in set(Role) - {Role.INQUIRER}:
        other = Principal(department="local", person="p", roles=frozenset({role}), region="320100", grant=LOCAL_GRANT)
        with pytest.raises(Refused):
            other.require_inquiry("procurement.supplier", "ex_officio", "320100", DAY)


def test_keys_of_officers_are_not_shown() -> None:
    assert "6b6b" not in repr(SIGNER)


@pytest.mark.parametrize(
    ("own", "granted", "handled"),
    [
        ("320100", "320100", "320100"),
        ("320100", "320000", "320100"),
        ("320100", "000000", "320100"),
        ("320000", "320100", "320100"),
        ("340100", "320000", "320000"),
    ],
)
def test_a_question_without_a_region_is_handled_in_the_narrower_of_grant_and_department(
    own: str, granted: str, handled: str
) -> None:
    asker = Principal(department="water", person="p", roles=frozenset({Role.INQUIRER}), region=own)
    one = dataclasses.replace(LOCAL_GRANT, region=granted, regions=frozenset({granted}))
    assert asker.granted(LOCAL_GRANT).granted(one).handling_region == handled
