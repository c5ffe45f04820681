"""The spool against a list: what was answered is there, in order and whole, whatever was written, sent or torn."""

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from lanjie._spool import DIGEST_BYTES, Basis, Record, Spool

LINEAGE = "ab" * 16
SEGMENT = 512
CONTEXTS = [b"", b"one", b"another" * 20]
Digests = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=90)
Steps = st.lists(
    st.one_of(
        st.tuples(st.just("one"), Digests, st.sampled_from(CONTEXTS)),
        st.tuples(st.just("many"), Digests, st.sampled_from(CONTEXTS)),
        st.tuples(st.just("acknowledge"), st.integers(0, 200)),
    ),
    max_size=8,
)


def write(spool, kind, turn, digests, context):
    """Write passes and return the records of those that were taken."""
    raw = [digest.to_bytes(DIGEST_BYTES, "big") for digest in digests]
    basis = Basis(turn, 2, 1 << 40, 3)
    if kind == "many":
        numbers = list(spool.append_many(turn, b"".join(raw), basis, context))
    else:
        numbers = [number for each in raw if (number := spool.append(turn, each, basis, context))]
    told = zip(numbers, digests, strict=False)
    return [Record(number, turn, digest, *basis, context) for number, digest in told]


def run(root, steps: Any) -> tuple[Spool, list[Record]]:
    """Play steps; return the spool and what it must hold."""
    spool = Spool.create(root, LINEAGE, segment_bytes=SEGMENT, limit_bytes=20 * SEGMENT)
    expected: list[Record] = []
    for turn, (kind, *rest) in enumerate(steps, 1):
        if kind == "acknowledge":
            taken = expected[: rest[0]]
            if taken:
                spool.acknowledge(taken[-1].sequence)
            expected = expected[len(taken) :]
        else:
            expected += write(spool, kind, turn, *rest)
        assert spool.pending(10**6) == expected
        assert spool.pending(3) == expected[:3]
        assert spool.unsent == len(expected)
    return spool, expected


@settings(max_examples=60, deadline=None)
@given(Steps)
def test_what_is_pending_is_what_was_written_and_not_acknowledged(steps):
    with tempfile.TemporaryDirectory() as scratch:
        spool, expected = run(Path(scratch), steps)
        spool.close()
        left = list(Path(scratch).rglob("*.segment"))
        assert bool(left) is bool(expected)


@settings(max_examples=40, deadline=None)
@given(Steps)
def test_who_takes_over_finds_all_that_was_not_acknowledged(steps):
    with tempfile.TemporaryDirectory() as scratch:
        spool, expected = run(Path(scratch), steps)
        spool.abandon()
        found = [record for left in Spool.left_behind(Path(scratch), LINEAGE) for record in left.pending(10**6)]
        # A segment goes as a whole: the gateway knows the records it has already.
        assert found[len(found) - len(expected) :] == expected


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["one", "many"]), Digests, st.sampled_from(CONTEXTS), st.data())
def test_a_torn_write_takes_nothing_before_it_and_never_shows_a_pass_that_was_not(kind, digests, context, data):
    """Of the last write a part reached the file: up to a byte, or from one on, as when a page of it was lost."""
    with tempfile.TemporaryDirectory() as scratch:
        spool = Spool.create(Path(scratch), LINEAGE, segment_bytes=4096)
        before = write(spool, "one", 1, [1, 2], b"one")
        (path,) = Path(scratch).rglob("*.segment")
        old = path.read_bytes()
        after = before + write(spool, kind, 7, digests, context)
        spool.abandon()
        new = bytearray(path.read_bytes())
        changed = [place for place in range(len(old)) if old[place] != new[place]]
        cut = data.draw(st.sampled_from(changed))
        lost = range(cut, len(old)) if data.draw(st.booleans()) else range(changed[0], cut + 1)
        new[lost.start : lost.stop] = bytes(len(lost))
        if kind == "one" and data.draw(st.booleans()):
            # Or one byte is another.
            new = bytearray(path.read_bytes())
            new[cut] ^= data.draw(st.integers(1, 255))
        path.write_bytes(new)
        (left,) = Spool.left_behind(Path(scratch), LINEAGE)
        found = left.pending(10**6)
        left.close()
        assert found[:2] == before
        assert found == after[: len(found)]
