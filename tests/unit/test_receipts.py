"""A receipt proves what a trusted key signed, and nothing else."""

import copy
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from lanjie_gateway.cli.slip import page
from lanjie_matcher.receipts import (
    FORMAT,
    SIGNED_PREFIX,
    ReceiptError,
    canonical,
    items_of,
    opened,
    proof,
    receipt_id,
    sealed,
)
from tests.support.subjects import uscc

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
TRUSTED = {"sign-test": KEY.public_key().public_bytes_raw()}
SALT = bytes(16)
ABOUT = f"uscc:{uscc(1)}"


def content(**changes):
    made = {
        "format": FORMAT,
        "issued": "2026-06-01T02:00:00.000000+00:00",
        "salt": SALT.hex(),
        "department": "local",
        "matter": "procurement.supplier",
        "matter_name": "采购",
        "lineage": "aa",
        "catalogues": [],
        "measures": {},
        "listings": {},
        "items": [
            {
                "decision": "a-1",
                "record": "00" * 32,
                "decided": "2026-06-01T02:00:00.000000+00:00",
                "as_of": "2026-06-01T02:00:00.000000+00:00",
                "epoch": 1,
                "revision": 7,
                "source": "gateway",
                "outcome": "PASS",
                "subject": "uscc:9132**********0X",
                "proof": proof(SALT, ABOUT),
            }
        ],
        **changes,
    }
    return {**made, "id": receipt_id(made)}


def signed(made, key=KEY, name="sign-test"):
    return sealed(made, name, key.sign(SIGNED_PREFIX + canonical(made)))


def refused(file, trusted=TRUSTED):
    with pytest.raises(ReceiptError) as error:
        opened(file, trusted)
    return error.value.rule


def test_what_was_signed_comes_back_and_an_organisation_can_be_proved():
    made = content()
    assert opened(signed(made), TRUSTED) == made
    assert [each["decision"] for each in items_of(made, ABOUT)] == ["a-1"]
    assert items_of(made, f"uscc:{uscc(2)}") == []


def test_the_same_facts_have_the_same_id():
    later = content(issued="2027-01-01T00:00:00.000000+00:00", salt=(b"x" * 16).hex())
    assert later["id"] == content()["id"]
    assert content(department="other")["id"] != content()["id"]


def test_another_key_or_content_proves_nothing():
    made = content()
    assert refused(signed(made), {}) == "key-unknown"
    assert refused(signed(made, Ed25519PrivateKey.generate())) == "signature"
    other = copy.deepcopy(made)
    other["items"][0]["outcome"] = "INTERCEPT"
    assert refused(sealed(other, "sign-test", KEY.sign(SIGNED_PREFIX + canonical(made)))) == "signature"
    assert refused(signed({**made, "id": "0" * 32})) == "id"
    assert refused(signed({**made, "format": "lanjie-receipt-2"})) == "format"


@pytest.mark.parametrize("file", [b"", b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"receipt": {}, "key": []}'])
def test_what_is_no_receipt_is_said_to_be_none(file):
    assert refused(file) == "format"


@settings(max_examples=300)
@given(place=st.integers(0, 10**9), bit=st.integers(0, 7))
def test_no_flipped_bit_is_taken(place, bit):
    made = content()
    file = bytearray(signed(made))
    file[place % len(file)] ^= 1 << bit
    try:
        found = opened(bytes(file), TRUSTED)
    except ReceiptError:
        return
    # White space, or the case of a hexadecimal digit of the signature: the content is the same.
    assert found == made


def test_the_slip_escapes_what_it_shows_and_loads_nothing():
    name = "<script>alert(1)</script>"
    listing = {
        "list_type": "T",
        "list_type_name": name,
        "authority": name,
        "decision_no": "1",
        "decision_date": "",
        "basis": name,
        "reason": "",
        "removal_conditions": "",
        "remedies": "",
        "objection": True,
    }
    text = page(json.loads(json.dumps(content(purpose=name, listings={"1": listing}))))
    assert "<script" not in text
    assert "http" not in text
    assert "异议处理中" in text
