"""What every implementation must agree on byte for byte: another normaliser or another hash would be a silent miss."""

import csv
import hashlib
import json
import zlib
from pathlib import Path

import pybloom_live
import pytest

from lanjie_matcher.filters import BloomFilter
from lanjie_matcher.fingerprints import IndexKey, ViewKey
from lanjie_matcher.identifiers import IdentifierError, IdentifierKind, parse
from lanjie_matcher.shards import (
    SHARDS,
    decode_shard,
    decode_values,
    digests_of,
    encode_shard,
    encode_values,
    root_of,
    shard_digest,
    split,
)

VECTORS = Path(__file__).parent / "vectors"
REAL_CODES = Path(__file__).parents[2].parent / "shared" / "vectors" / "uscc.csv"


def read(name):
    return json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))


IDENTIFIERS = read("identifiers")
FINGERPRINTS = read("fingerprints")
KEY = bytes.fromhex(FINGERPRINTS["key"])


@pytest.mark.parametrize("case", IDENTIFIERS["taken"], ids=lambda case: case["text"])
def test_identifiers_that_are_taken(case):
    identifier = parse(case["text"])
    assert identifier.reveal() == case["full"]
    assert identifier.key == case["key"]
    assert identifier.masked == case["masked"]
    assert list(identifier.warnings) == case["warnings"]


@pytest.mark.parametrize("case", IDENTIFIERS["refused"], ids=lambda case: case["text"][:40])
def test_identifiers_that_are_refused(case):
    with pytest.raises(IdentifierError) as caught:
        parse(case["text"])
    assert caught.value.rule == case["rule"]


def test_vectors_name_every_kind():
    assert {case["full"].partition(":")[0] for case in IDENTIFIERS["taken"]} == {kind.value for kind in IdentifierKind}


@pytest.mark.parametrize("case", FINGERPRINTS["cases"], ids=lambda case: case["text"])
def test_fingerprints(case):
    assert IndexKey(KEY).token(case["text"]).hex() == case["token"]
    for bits, fingerprint in case["fingerprints"].items():
        key = ViewKey(KEY, int(bits))
        assert f"{key.digest64(case['text']):016x}" == case["digest64"]
        assert f"{key.fingerprint(case['text']):x}" == fingerprint


def plain_root(values, bits):
    """The root as sync.proto words it, without regard for speed."""
    shards = [[value for value in values if value >> (bits - 8) == number] for number in range(SHARDS)]
    width = (bits + 7) // 8
    digests = [hashlib.sha256(b"".join(value.to_bytes(width, "big") for value in each)).digest() for each in shards]
    return hashlib.sha256(b"".join(digests)).digest()


@pytest.mark.parametrize("case", read("shards")["sets"], ids=lambda case: f"{case['bits']} bits")
def test_shards_and_roots(case):
    bits = case["bits"]
    key = ViewKey(KEY, bits)
    values = sorted({key.fingerprint(f"org:{number:09d}") for number in range(case["members"])})
    assert len(values) == case["count"]
    shards = split(values, bits)
    root = root_of(digests_of(shards, bits))
    assert root.hex() == case["root"]
    assert root == plain_root(values, bits)

    number, wanted = case["shard"]["number"], [int(value, 16) for value in case["shard"]["fingerprints"]]
    assert list(shards[number]) == wanted
    assert shard_digest(shards[number], bits).hex() == case["shard"]["digest"]
    assert list(decode_shard(number, len(wanted), bytes.fromhex(case["shard"]["planes"]), bits)) == wanted
    assert list(decode_shard(number, len(wanted), encode_shard(wanted, bits), bits)) == wanted


@pytest.mark.parametrize(
    "case", read("values")["cases"], ids=lambda case: f"{len(case['values'])} of {case['bits']} bits"
)
def test_values_as_byte_planes(case):
    bits, values = case["bits"], [int(value, 16) for value in case["values"]]
    planes = bytes.fromhex(case["planes"])
    assert list(decode_values(len(values), planes, bits)) == values
    # What zlib makes of a plane may differ from version to version; what it unpacks to may not.
    assert unpacked(encode_values(values, bits)) == unpacked(planes) == case["gaps"]


def unpacked(planes):
    """The planes as sync.proto words them: each behind its length, in hexadecimal digits."""
    found = []
    while planes:
        size = int.from_bytes(planes[:4], "big")
        found.append(zlib.decompress(planes[4 : 4 + size]).hex())
        planes = planes[4 + size :]
    return found


@pytest.mark.parametrize("case", read("bloom")["library"], ids=lambda case: f"capacity {case['capacity']}")
def test_the_library_keeps_the_shape_of_its_filters(case):
    bloom = pybloom_live.BloomFilter(capacity=case["capacity"], error_rate=BloomFilter.ERROR_RATE)
    assert (bloom.bits_per_slice, bloom.num_slices) == (case["bits_per_slice"], case["slices"])
    assert len(bloom.bitarray) == case["slices"] * case["bits_per_slice"]
    assert not bloom.bitarray.any()


@pytest.mark.parametrize("case", read("bloom")["filters"], ids=lambda case: f"capacity {case['capacity']}")
def test_positions_in_the_bloom_filter(case):
    for text, positions in case["positions"].items():
        bloom = BloomFilter(case["capacity"])
        fingerprint = int(text, 16)
        assert list(bloom.positions(fingerprint)) == positions
        assert fingerprint not in bloom
        bloom.add_some(iter([fingerprint]), 1)
        assert fingerprint in bloom
        assert all(bloom.bits[position] for position in positions)
        assert all(
            place * case["bits_per_slice"] <= each < (place + 1) * case["bits_per_slice"]
            for place, each in enumerate(positions)
        )
        assert len(bloom.bits) == case["slices"] * case["bits_per_slice"]


def real_codes():
    with REAL_CODES.open(encoding="utf-8", newline="") as file:
        return [(row["value"], row["status"]) for row in csv.DictReader(file)]


@pytest.mark.skipif(not REAL_CODES.exists(), reason="no file of real company codes lies beside the checkout")
def test_real_company_codes():
    # Rows are named by line number only: the codes are of real companies.
    wrong = []
    for line, (value, status) in enumerate(real_codes(), start=2):
        try:
            warnings, refused = parse(f"uscc:{value}").warnings, False
        except IdentifierError:
            warnings, refused = (), True
        right = {
            "conforming": not refused and "check-digit" not in warnings,
            "issued_bad_check": not refused and "check-digit" in warnings,
            "nonconforming": refused or bool(warnings),
        }[status]
        if not right:
            wrong.append((line, status))
    assert not wrong
