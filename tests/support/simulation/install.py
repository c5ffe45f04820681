"""Puts the simulation's seams into the code under test: files that can be cut, subjects that collide, a cheap codec."""

import functools
import logging
import os
import types
from collections.abc import Sequence
from typing import Any

import pytest

from lanjie import _keeper, _runtime
from lanjie_gateway.domain import view
from lanjie_matcher import shards
from lanjie_matcher.fingerprints import ViewKey
from tests.support.simulation import counter, subjects


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put them in, until the test ends."""
    for name, real in counter._REAL.items():
        monkeypatch.setattr(os, name, counter.FUSE.wrap(real))
    monkeypatch.setattr(logging.getLogger("lanjie"), "disabled", True)
    monkeypatch.setattr(os, "getpid", lambda: counter.FUSE.pid)
    monkeypatch.setattr(_runtime, "Spool", counter.MemorySpool)
    monkeypatch.setattr(_keeper, "time", types.SimpleNamespace(sleep=lambda seconds: None))
    monkeypatch.setattr(ViewKey, "digest", subjects.colliding_digest)
    monkeypatch.setattr(view, "encode_shard", _encode_shard)
    monkeypatch.setattr(_keeper, "decode_shard", _decode_shard)


@functools.lru_cache(maxsize=50_000)
def _encoded(values: tuple[int, ...], bits: int) -> bytes:
    return shards.encode_shard(values, bits)


def _encode_shard(values: Sequence[int], bits: int) -> bytes:
    """`encode_shard`, remembered: nearly all shards of a small set are empty."""
    return _encoded(tuple(values), bits)


_decoded = functools.lru_cache(maxsize=50_000)(shards.decode_shard)


def _decode_shard(number: int, count: int, planes: bytes, bits: int) -> Any:
    """`decode_shard`, remembered; whoever changes a shard copies it first."""
    return _decoded(number, count, planes, bits)
