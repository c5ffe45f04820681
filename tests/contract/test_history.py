"""Every listing at every revision is told exactly, whatever has happened to it since."""

import contextlib
import datetime
import random
import sys

import pytest
import sqlalchemy as sa

from lanjie_gateway.adapters.ledger.tables import BATCH, HEAD, LISTING, LISTING_KEY
from lanjie_gateway.domain.errors import Refused
from lanjie_gateway.domain.events import BY_IMPORT, Act, EventKind
from lanjie_gateway.domain.history import facts_before, in_view_at, state_at
from lanjie_gateway.domain.packed import pack
from lanjie_matcher.fingerprints import IndexKey, ViewKey
from lanjie_matcher.identifiers import parse
from tests.support.core import uscc
from tests.support.ledger import Clock, cells, open_ledger, receipt, stage, stage_rows, staged, take

KINDS = [kind for kind in EventKind if kind not in {*BY_IMPORT, EventKind.AMENDED, EventKind.ERASED}]
GENTLE = [each for each in KINDS if each.name.startswith(("OBJECTION", "STAY", "REINSTATED"))]


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def ledger(tmp_path, clock, ledger_url):
    opened = open_ledger(tmp_path, clock, ledger_url)
    yield opened
    opened.close()


def act(kind, at=None, chance=None):
    detail = {}
    if kind is EventKind.OBJECTION_CLOSED:
        outcome = chance.choice(["unfounded", "unfounded", "corrected", "deleted"]) if chance else "unfounded"
        detail = {"outcome": outcome, "reply": "told"}
    if kind is EventKind.STAYED and chance and chance.random() < 0.5:
        detail = {"until": "2026-11-03"}
    if kind is EventKind.NOTICED:
        detail = {"what": "revoked", "instrument_date": "2026-11-01"}
    return Act(kind=kind, effective_at=at, actor="tax/bert", reason="why", document="No. 9", detail=detail)


class Chronicle:
    """Does random things to a ledger and remembers what it held after each revision."""

    def __init__(self, ledger, clock, seed):
        self._ledger, self._clock, self._chance = ledger, clock, random.Random(seed)
        self.listings: dict[int, dict[str, bytes]] = {}
        self.keys: dict[int, dict[bytes, set[str]]] = {}
        self.views: dict[int, set[int]] = {}
        self._version = 0

    def go_on(self, steps):
        acts = [self._import, self._event, self._event, self._complete, self._waiting, self._waiting, self._prune]
        for _ in range(steps):
            self._clock.pass_by(minutes=7)
            try:
                self._chance.choice(acts)()
            except Refused:
                self._ledger.end_import()
            self._remember()

    def _remember(self):
        with self._ledger._engine.begin() as connection:
            revision = connection.execute(sa.select(HEAD.c.revision)).scalar_one()
            seen = BATCH.c.revision.is_not(None)
            rows = connection.execute(
                sa.select(LISTING.c.id, LISTING.c.packed).join(BATCH, BATCH.c.id == LISTING.c.batch_id).where(seen)
            ).all()
            keys = connection.execute(
                sa.select(LISTING_KEY.c.bucket, LISTING_KEY.c.listing_id)
                .join(LISTING, LISTING.c.id == LISTING_KEY.c.listing_id)
                .join(BATCH, BATCH.c.id == LISTING.c.batch_id)
                .where(seen, LISTING_KEY.c.current.is_(True))
            ).all()
        self.listings[revision] = {f"{row.id:016x}": row.packed for row in rows}
        self.keys[revision] = {}
        for key in keys:
            self.keys[revision].setdefault(key.bucket, set()).add(f"{key.listing_id:016x}")
        self.views[revision] = set(self._ledger.listed_digests())

    def _row(self):
        self._version += 1
        number = self._chance.randint(1, 6)
        changes = {"source_record_id": f"r{number}", "reason": f"version {self._version}", "source": "tax"}
        if self._chance.random() < 0.3:
            # A correction of the identifier itself: the listing moves to another bucket.
            changes["id_number"] = uscc(number + 10)
        return cells(number, **changes)

    def _rows(self):
        return list({row["source_record_id"]: row for row in (self._row(), self._row())}.values())

    def _import(self):
        rows = self._rows()
        if self._chance.random() < 0.2:
            rows[0]["op"] = "D"
        take(self._ledger, *rows)

    def _event(self):
        newest = self.listings[max(self.listings)] if self.listings else {}
        if newest:
            at = self._chance.choice([None, self._clock.now - datetime.timedelta(hours=self._chance.randint(0, 3))])
            kind = self._chance.choice(KINDS if self._chance.random() < 0.2 else GENTLE)
            self._ledger.record(self._chance.choice(sorted(newest)), act(kind, at, self._chance))

    def _complete(self):
        rows = [self._row() for _ in range(10)]
        batch, _ = stage(self._ledger, *{row["source_record_id"]: row for row in rows}.values())
        at = self._clock.now - datetime.timedelta(minutes=self._chance.choice([0, 30, 90]))
        while self._ledger.stage_absent(batch, "TAX", "tax", as_of=at, document="full", limit=10):
            pass
        self._ledger.commit_import(receipt(batch))

    def _waiting(self):
        """A file that waits while events happen: its payload holds the state of the day it was staged."""
        batch = self._ledger.begin_import("tax/anna")
        stage_rows(self._ledger, batch, staged(self._ledger, batch, self._rows()))
        parked = self._ledger.park_import(receipt(batch))
        with contextlib.suppress(Refused):
            self._event()
        self._remember()
        self._ledger.commit_import(parked)

    def _prune(self):
        chosen = self._chance.random()
        self._ledger.prune(0, 100, lambda listing: hash((listing.id, chosen)) % 2 == 0, known=0)


@pytest.mark.parametrize(
    ("seed", "steps"), [(0, 30), *(pytest.param(seed, 80, marks=pytest.mark.long) for seed in range(1, 12))]
)
def test_every_listing_at_every_revision_is_told_exactly(ledger, clock, seed, steps):
    chronicle = Chronicle(ledger, clock, seed)
    chronicle.go_on(steps)
    newest = max(chronicle.listings)
    lives = ledger.lives_of(chronicle.listings[newest])
    assert {life.listing_id for life in lives} == set(chronicle.listings[newest])
    assert sum(each.payload is not None for life in lives for each in life.happened) > 4
    for revision, held in chronicle.listings.items():
        for life in lives:
            state = state_at(life.now, life.happened, revision)
            assert (None if state is None else pack(state)) == held.get(life.listing_id)
    buckets = {bucket for keys in chronicle.keys.values() for bucket in keys}
    view = ViewKey(ledger.keys.view, 24)
    digests = {view.digest64(parse(f"uscc:{uscc(number)}").key) for number in (*range(1, 7), *range(11, 17))}
    for revision in range(max(newest - 8, 1), newest + 1, 2):
        for bucket in buckets:
            told = [each for each in ledger.lives(bucket, revision) if each.keyed]
            there = {each.listing_id for each in told if state_at(each.now, each.happened, revision) is not None}
            assert there == chronicle.keys.get(revision, {}).get(bucket, set())
        for digest in digests:
            told = [each for each in ledger.lives_of_digest(1, digest, revision) if each.keyed]
            listed = any(in_view_at(each.now, each.happened, revision) for each in told)
            assert listed is (digest in chronicle.views[revision])


def test_a_removal_by_a_list_of_the_instant_of_a_reinstatement_is_told_with_its_microsecond(ledger, clock):
    take(ledger, cells(1, source="tax"))
    (listing,) = ledger.find(parse(f"uscc:{uscc(1)}"))
    ledger.record(listing.id, act(EventKind.REMOVED))
    clock.pass_by(hours=1)
    ledger.record(listing.id, act(EventKind.REINSTATED))
    batch, _ = stage(ledger, cells(2, source="tax"))
    ledger.stage_absent(batch, "TAX", "tax", as_of=clock.now, document="full", limit=10)
    ledger.commit_import(receipt(batch))
    (stored,) = ledger.find(parse(f"uscc:{uscc(1)}"))
    (life,) = ledger.lives_of([listing.id])
    state = state_at(life.now, life.happened, ledger.head())
    assert state is not None
    assert pack(state) == pack(stored.packed)
    assert state.listing.removed_at == clock.now + datetime.timedelta(microseconds=1)


def test_a_key_is_told_from_the_sealed_identifiers_of_then(ledger):
    take(ledger, cells(1, source_record_id="r"))
    take(ledger, cells(1, source_record_id="r", id_number=uscc(2)))
    index = IndexKey(ledger.keys.index)
    old, new = (index.token(parse(f"uscc:{uscc(number)}").key) for number in (1, 2))
    assert [(each.keyed, bool(facts_before(each.happened, 1))) for each in ledger.lives(old, 1)] == [(True, True)]
    assert [each.keyed for each in ledger.lives(new, 1)] == [False]
    assert [each.keyed for each in ledger.lives(old, 2)] == [False]
    assert [each.keyed for each in ledger.lives(new, 2)] == [True]
    assert ledger.lives(index.token("nobody"), 2) == []
    assert ledger.lives_of(["nonsense", f"{sys.maxsize:016x}"]) == []
