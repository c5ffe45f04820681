"""Invented subjects by number, their keys by generation, and the root of a set, worked out by hand from sync.proto."""

import functools
import hashlib

from lanjie_matcher.fingerprints import ViewKey
from lanjie_matcher.identifiers import Identifier, parse
from tests.support.core import citizen, uscc

COMPANIES = 40
PERSONS = 2
BITS = 40
COLLIDING = 8
"""The first of them collide in pairs."""
_LOW = (1 << (64 - BITS)) - 1


@functools.lru_cache(maxsize=COMPANIES + PERSONS)
def identifier(number: int) -> Identifier:
    """The identifier of a subject; those from `COMPANIES` on are persons."""
    text = f"uscc:{uscc(number)}" if number < COMPANIES else f"citizen:{citizen(number)}"
    return parse(text)


@functools.cache
def _twins() -> dict[str, str]:
    """Keys of subjects whose fingerprints collide with those of others: 1 with 0, 3 with 2, and so on."""
    return {identifier(2 * pair + 1).key: identifier(2 * pair).key for pair in range(COLLIDING // 2)}


_digest = ViewKey.digest


def _digest64(key: ViewKey, text: str) -> int:
    return int.from_bytes(_digest(key, text), "big")


@functools.lru_cache(maxsize=10_000)
def _of(raw: bytes, key: str) -> int:
    made = ViewKey(raw, BITS)
    twin = _twins().get(key)
    own = _digest64(made, key)
    return own if twin is None else _digest64(made, twin) & ~_LOW | own & _LOW


@functools.cache
def view_key(generation: int) -> bytes:
    """The view key of a generation."""
    return hashlib.sha256(f"view key {generation}".encode()).digest()


def digest(generation: int, number: int) -> int:
    """The 64-bit digest of a subject in a generation."""
    return _of(view_key(generation), identifier(number).key)


def colliding_digest(key: ViewKey, text: str) -> bytes:
    """What stands for `ViewKey.digest`: the same, but some subjects collide on purpose."""
    own = _digest64(key, text)
    twin = _twins().get(text)
    return (own if twin is None else _digest64(key, twin) & ~_LOW | own & _LOW).to_bytes(8, "big")


@functools.cache
def companies(generation: int) -> tuple[int, ...]:
    """The fingerprints of all companies in a generation, by number."""
    return tuple(digest(generation, number) >> (64 - BITS) for number in range(COMPANIES))


@functools.lru_cache(maxsize=4_096)
def fingerprints(generation: int, listed: frozenset[int]) -> frozenset[int]:
    """The set of a view: the listed companies, and the canaries."""
    key = ViewKey(view_key(generation), BITS)
    canaries = {_digest64(key, f"canary:hit:{number}") for number in (1, 2)}
    listed_digests = {digest(generation, number) for number in listed if number < COMPANIES}
    return frozenset(each >> (64 - BITS) for each in canaries | listed_digests)


@functools.lru_cache(maxsize=4_096)
def root(generation: int, listed: frozenset[int]) -> bytes:
    """The root of that set, as sync.proto defines it."""
    shards = [hashlib.sha256() for _ in range(256)]
    for value in sorted(fingerprints(generation, listed)):
        shards[value >> (BITS - 8)].update(value.to_bytes(BITS // 8, "big"))
    return hashlib.sha256(b"".join(each.digest() for each in shards)).digest()
