"""Keyed fingerprints."""

import hashlib

import pytest

from lanjie_matcher.fingerprints import IndexKey, ViewKey

KEY = bytes(range(32))
OTHER = bytes(range(1, 33))
TEXT = "org:MA1ABCDE0"


def test_token_is_keyed_blake2b():
    assert IndexKey(KEY).token(TEXT) == hashlib.blake2b(TEXT.encode(), key=KEY, digest_size=16).digest()
    assert IndexKey(KEY).token(TEXT) != IndexKey(OTHER).token(TEXT)


def test_digest_is_keyed_blake2b():
    wanted = int.from_bytes(hashlib.blake2b(TEXT.encode(), key=KEY, digest_size=8).digest(), "big")
    assert ViewKey(KEY, 40).digest64(TEXT) == wanted


@pytest.mark.parametrize("bits", [24, 31, 40, 56])
def test_fingerprint_is_the_top_of_the_digest(bits):
    key = ViewKey(KEY, bits)
    assert key.fingerprint(TEXT) == key.digest64(TEXT) >> (64 - bits) == key.narrow(key.digest64(TEXT))
    assert key.fingerprint(TEXT) < 1 << bits
    assert key.bits == bits


def test_one_key_serves_many_texts():
    key = ViewKey(KEY, 40)
    first = key.digest64("a")
    key.digest64("b")
    assert key.digest64("a") == first


def test_key_check_tells_keys_apart():
    assert len(ViewKey(KEY, 40).key_check()) == 8
    assert ViewKey(KEY, 40).key_check() == ViewKey(KEY, 24).key_check() != ViewKey(OTHER, 40).key_check()


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_keys_of_another_length_are_refused(length):
    with pytest.raises(ValueError, match="32 bytes"):
        IndexKey(bytes(length))
    with pytest.raises(ValueError, match="32 bytes"):
        ViewKey(bytes(length), 40)


@pytest.mark.parametrize("bits", [0, 23, 57, 64])
def test_widths_out_of_range_are_refused(bits):
    with pytest.raises(ValueError, match="24 to 56"):
        ViewKey(KEY, bits)


def test_keys_are_not_shown():
    for shown in (repr(IndexKey(KEY)), repr(ViewKey(KEY, 40))):
        assert KEY.hex() not in shown
        assert repr(KEY) not in shown
