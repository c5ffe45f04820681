"""Erased records are told from tampered ones, whatever was recorded, erased and tampered with (Art. 39, 43, 61)."""

import dataclasses
import datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lanjie_gateway.domain import packed
from lanjie_gateway.domain.checkpoints import Checkpoint
from lanjie_gateway.domain.merkle import Range, leaf_hash
from lanjie_gateway.domain.record_retention import ERASED, ERASURE, FLOOR, ranges
from lanjie_gateway.domain.records import COLUMNS, instant, leaf, row_fields
from lanjie_gateway.domain.verification import Fault, KeptLeaf, Source, Verifier

BEGAN = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
ORIGIN = "ab" * 16
KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
PUBLIC = KEY.public_key().public_bytes_raw()
DAY = datetime.timedelta(days=1)
few = settings(max_examples=25)


class Ledger:
    """Records in a list, checkpoints, and the digests beside them."""

    def __init__(self) -> None:
        self.leaves: list[KeptLeaf] = []
        self.notes: list[str] = []
        self.tree = Range()
        self.now = BEGAN

    def add(self, **fields: object) -> None:
        index = len(self.leaves)
        said = {"id": f"abcdef-{index + 1}", "at": instant(self.now), "department": "tax", "matter": "m", **fields}
        record = leaf({"outcome": "PASS", "subject": f"{index:032x}", **said})
        derived = row_fields(record)
        derived["decided_at"] = packed.micros(derived["decided_at"])
        columns = tuple(derived[name] for name in COLUMNS)
        digest = leaf_hash(record)
        self.leaves.append(KeptLeaf(index=index, source="abcdef", columns=columns, record=record, digest=digest))
        self.tree.append(digest)

    def sign(self) -> None:
        made = Checkpoint(origin=ORIGIN, size=self.tree.size, root=self.tree.root(), epoch=1, at=self.now)
        self.notes.append(made.signed(PUBLIC, KEY.sign))

    def blank(self, index: int) -> None:
        left = {"matter": "", "outcome": ERASED, "subject_token": b""}
        columns = tuple(left.get(n, v) for n, v in zip(COLUMNS, self.leaves[index].columns, strict=True))
        self.leaves[index] = dataclasses.replace(self.leaves[index], record=b"", columns=columns)

    def erase(self, places: list[int]) -> None:
        for each in places:
            self.blank(each)
        self.add(kind=ERASURE, outcome=ERASED, erased=ranges(places), count=len(places), subject="")

    def outside(self) -> bytes:
        return b"".join(each.digest for each in self.leaves)

    def verify(self, *, since: int = 0, size: int | None = None, outside: bytes | None = None) -> Verifier:
        """Feed a verifier with `size` records; those behind came while it read the others."""
        size = len(self.leaves) if size is None else size
        whole, begun = Range(), Range()
        for place, each in enumerate(self.leaves[:size]):
            if place == since:
                begun = Range(whole.size, whole.edge)
            whole.append(each.digest)
        edge = b"".join(whole.edge)
        verifier = Verifier(
            origin=ORIGIN, public=PUBLIC, tree=begun, size=size, edge=edge, epoch=1, clock=lambda: self.now
        )
        for note in self.notes:
            if Checkpoint.read(note).size <= size:
                verifier.claim(Source.LEDGER, note)
        verifier.begin()
        verifier.feed(self.leaves[since:size], (self.outside() if outside is None else outside)[since * 32 :])
        for late in self.leaves[size:]:
            verifier.note_erasure(late.index, late.record)
        return verifier


@st.composite
def ledgers(draw: st.DrawFn) -> Ledger:
    """Years of records, a checkpoint after some of them, and erasures of what is old enough."""
    ledger = Ledger()
    for _ in range(draw(st.integers(2, 12))):
        for _ in range(draw(st.integers(1, 5))):
            ledger.add()
        if draw(st.booleans()):
            ledger.sign()
        ledger.now += DAY * draw(st.integers(0, 200))
        signed = [made for made in map(Checkpoint.read, ledger.notes) if made.at <= ledger.now - FLOOR]
        old = [each.index for each in ledger.leaves[: max((s.size for s in signed), default=0)] if _content(each)]
        gone = sorted(draw(st.sets(st.sampled_from(old)))) if old else []
        if gone:
            ledger.erase(gone)
    ledger.sign()
    return ledger


def _content(each: KeptLeaf) -> bool:
    return bool(each.record) and ERASURE.encode() not in each.record


def erased_of(ledger: Ledger) -> list[int]:
    return [each.index for each in ledger.leaves if not each.record]


@given(ledgers(), st.data())
@few
def test_what_was_erased_openly_is_sound(ledger: Ledger, data: st.DataObject) -> None:
    report = ledger.verify().report()
    assert (report.findings, report.erased) == ((), len(erased_of(ledger)))
    sizes = [Checkpoint.read(note).size for note in ledger.notes]
    since = data.draw(st.sampled_from([size for size in sizes if size < len(ledger.leaves)] or [0]))
    assert ledger.verify(since=since).report().sound


@given(ledgers())
@few
def test_an_erasure_during_a_verification_is_no_fault(ledger: Ledger) -> None:
    size = len(ledger.leaves)
    ledger.now += FLOOR + DAY
    ledger.erase([each.index for each in ledger.leaves if _content(each)])
    assert ledger.verify(size=size).report().sound


@given(
    ledgers(),
    st.sampled_from(["blank", "beside", "early", "unsigned", "alter", "digest", "column", "delete"]),
    st.data(),
)
@settings(max_examples=60)
def test_the_first_bad_place_is_named(ledger: Ledger, way: str, data: st.DataObject) -> None:
    full = [each.index for each in ledger.leaves if _content(each)]
    gone = erased_of(ledger)
    some = gone if way in ("digest", "column") else full
    if way == "beside":
        some = [place for place in full if place + 1 in gone or place - 1 in gone]
    if way in ("early", "unsigned"):
        # What no checkpoint had vouched for 180 days ago, whatever the forged record says of when it was made.
        some = [place for place in full if place >= max([0, *_old_sizes(ledger)])]
    assume(some)
    bad = data.draw(st.sampled_from(some))
    was, size, outside, fault = ledger.leaves[bad], len(ledger.leaves), ledger.outside(), Fault.ALTERED
    if way in ("blank", "beside"):
        ledger.blank(bad)
        fault = Fault.ERASED
    elif way in ("early", "unsigned"):
        ledger.erase([bad])
        ledger.leaves[-1] = _dated(ledger, ledger.leaves[-1], ledger.now + 1_000 * DAY)
        ledger.now += datetime.timedelta(seconds=5)
        if way == "early":
            ledger.sign()
        size, outside, fault = size + 1, ledger.outside(), Fault.ERASED
    elif way == "alter":
        ledger.leaves[bad] = dataclasses.replace(was, record=was.record.replace(b'"PASS"', b'"HEIGHTEN"'))
    elif way == "digest":
        ledger.leaves[bad] = dataclasses.replace(was, digest=b"d" * 32)
    elif way == "column":
        ledger.leaves[bad] = dataclasses.replace(was, columns=(*was.columns[:-1], b"s" * 16))
    else:
        ledger.leaves.pop(bad)
        fault = Fault.TRUNCATED if bad == size - 1 else Fault.DELETED
    first = ledger.verify(size=size, outside=outside).report().findings[0]
    assert (first.index, first.fault) == (bad, fault), (way, first)


def _old_sizes(ledger: Ledger) -> list[int]:
    made = map(Checkpoint.read, ledger.notes)
    return [each.size for each in made if each.at <= ledger.now + datetime.timedelta(seconds=5) - FLOOR]


def _dated(ledger: Ledger, each: KeptLeaf, at: datetime.datetime) -> KeptLeaf:
    """Let the last record say that it was made at another time, and the tree fit."""
    place = each.index
    record = each.record.replace(instant(ledger.now).encode(), instant(at).encode())
    derived = row_fields(record)
    derived["decided_at"] = packed.micros(derived["decided_at"])
    ledger.tree = Range()
    for before in ledger.leaves[:place]:
        ledger.tree.append(before.digest)
    ledger.tree.append(leaf_hash(record))
    columns = tuple(derived[name] for name in COLUMNS)
    return dataclasses.replace(each, record=record, digest=leaf_hash(record), columns=columns)


@given(
    ledgers(),
    st.sampled_from([[[-1, 10_000]], [[0, 1 << 70]], [[10_000, 0]], [["a", "b"]]]),
    st.sampled_from(["0001-01-01T00:00:00", "0001-01-01T00:00:00+00:00", "9999-12-31T00:00:00+00:00"]),
)
@few
def test_a_forged_erasure_that_is_none_is_not_believed(ledger: Ledger, erased: list[object], at: str) -> None:
    full = [each.index for each in ledger.leaves if _content(each)]
    assume(full)
    ledger.blank(full[-1])
    record = leaf({"id": "a-1", "at": at, "department": "tax", "outcome": ERASED, "kind": ERASURE, "erased": erased})
    ledger.leaves.append(dataclasses.replace(ledger.leaves[-1], index=len(ledger.leaves), record=record))
    report = ledger.verify(size=len(ledger.leaves) - 1).report()
    assert [(each.index, each.fault) for each in report.findings] == [(full[-1], Fault.ERASED)]
