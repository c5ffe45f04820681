"""Signatures over what is published: nothing but the file, the kind and the key that were meant makes one good."""

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanjie_gateway.adapters.signing_keys import SigningKey
from lanjie_gateway.domain.signing import (
    PublicKey,
    Signature,
    SignatureRefused,
    Signed,
    SignedKind,
    message,
    require_signed,
    verify,
)
from tests.support.serve import run
from tests.support.signing import KEY, signed

FILE = b"catalogue: {id: js}\n"
OTHER = SigningKey(b"o" * 32)


SIGNATURE = signed(FILE)


def good(file: bytes = FILE, signature: Signature = SIGNATURE, kind: SignedKind = SignedKind.CATALOGUE) -> bool:
    return verify(KEY.public, kind, hashlib.sha256(file).digest(), signature)


def flipped(data: bytes, bit: int) -> bytes:
    bit %= 8 * len(data)
    return bytes(each ^ (1 << bit % 8) if place == bit // 8 else each for place, each in enumerate(data))


def test_a_signature_is_over_a_named_kind_of_file():
    assert good()
    assert message(SignedKind.CATALOGUE, b"\1" * 32) == b"lanjie catalogue v1\0" + b"\1" * 32
    assert not good(kind=SignedKind.YEAR_FILE)
    assert not good(signature=signed(FILE, kind=SignedKind.YEAR_FILE))


@settings(max_examples=30)
@given(st.integers(min_value=0))
def test_one_bit_makes_it_wrong(bit):
    assert not good(file=flipped(FILE, bit))
    signature = signed(FILE)
    assert not good(signature=dataclasses.replace(signature, value=flipped(signature.value, bit)))


@pytest.mark.parametrize(
    "signature",
    [
        signed(FILE, OTHER),
        dataclasses.replace(signed(FILE, OTHER), key_id=KEY.public.key_id),
        dataclasses.replace(signed(FILE), algorithm="sm2"),
        dataclasses.replace(signed(FILE), key_id=""),
        dataclasses.replace(signed(FILE), value=b""),
        dataclasses.replace(signed(FILE), value=signed(FILE).value + b"\0"),
    ],
)
def test_another_key_algorithm_or_length_is_none(signature):
    assert not good(signature=signature)
    with pytest.raises(SignatureRefused) as refused:
        require_signed("credit/mara", (KEY.public,), SignedKind.CATALOGUE, FILE, signature)
    assert refused.value.rule == "signature-invalid"


def test_the_keys_of_the_caller_count_and_no_others():
    done = require_signed("credit/mara", (OTHER.public, KEY.public), SignedKind.CATALOGUE, FILE, signed(FILE))
    assert (done.actor, done.key) == ("credit/mara", KEY.public)
    assert Signed.of(done.signer, done.value) == done
    assert done.signature == signed(FILE)
    assert Signed.of(None, None) is None
    for keys, signature, rule in (
        ((), signed(FILE), "signature-invalid"),
        ((KEY.public,), None, "signature-missing"),
    ):
        with pytest.raises(SignatureRefused) as refused:
            require_signed("credit/mara", keys, SignedKind.CATALOGUE, FILE, signature)
        assert refused.value.rule == rule


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"algorithm": 1}', '{"algorithm": "a", "key_id": "b"}', "\0"])
def test_what_is_no_signature_file_is_refused(text):
    with pytest.raises(ValueError):  # noqa: PT011  any message will do
        Signature.from_text(text)


def test_keys_and_signatures_are_written_and_read():
    assert PublicKey.parse(KEY.public.text) == PublicKey.parse(KEY.public.raw.hex()) == KEY.public
    assert Signature.from_text(signed(FILE).text) == signed(FILE)
    for text in ("", "ed25519:", "ed25519:zz", f"sm2:{'0' * 64}"):
        with pytest.raises(ValueError, match="public key"):
            PublicKey.parse(text)


def test_signing_and_verifying_need_no_gateway(tmp_path: Path):
    key, file, signature = tmp_path / "mara.key", tmp_path / "list.yaml", tmp_path / "list.sig"
    file.write_bytes(FILE)
    public = run("catalogue", "make-key", str(key)).out.strip()
    assert key.stat().st_mode & 0o777 == 0o600
    assert PublicKey.parse(public) == SigningKey.read(key).public
    assert run("catalogue", "make-key", str(key)).code == 2
    assert run("catalogue", "sign", str(file), "--signing-key", str(key), "-o", str(signature)).code == 0

    def verified(by: str = public) -> int:
        return run("catalogue", "verify", str(file), "--signature", str(signature), "--public-key", by).code

    assert verified() == verified(public.partition(":")[2]) == 0
    assert verified(KEY.public.text) == 1
    assert verified("ed25519:00") == 2
    file.write_bytes(flipped(FILE, 11))
    assert verified() == 1
    file.write_bytes(FILE)
    said = json.loads(signature.read_text())
    for content in (json.dumps({**said, "signature": "00" + said["signature"][2:]}), "no signature"):
        signature.write_text(content)
        assert verified() == 1
    assert run("catalogue", "sign", str(file), "--signing-key", str(file)).code == 2
