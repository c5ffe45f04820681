"""What must hold of a ledger after whatever was done to it: it says what the model says, and the feed tells of it."""

import itertools
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis.stateful import RuleBasedStateMachine, invariant

from lanjie_gateway.adapters.ledger import BucketState
from lanjie_gateway.domain.events import EventKind
from lanjie_gateway.domain.packed import PackedListing, unpack_bucket
from lanjie_matcher.catalogues import CatalogueSet
from lanjie_matcher.civil_time import day_of, start_of
from lanjie_matcher.fingerprints import IndexKey, ViewKey
from lanjie_matcher.listings import Standing, ended_by_event, standing
from tests.support.ledger import Clock, open_ledger
from tests.support.ledger_model import DAY, ENDS, Entry, boundaries, copied
from tests.support.ledger_world import IDENTIFIERS, TYPES, World, catalogues_of, concerned, named


class Checked(RuleBasedStateMachine):
    """A ledger and the model of it. `every` are the steps between looks at the feed, and at everything."""

    every = (8, 1_000)

    def __init__(self, made: World, state: Path | None = None) -> None:
        super().__init__()
        self.world = made
        self.state = state or Path(tempfile.mkdtemp(dir=made.root))
        if state is None:
            shutil.copytree(made.first, self.state, dirs_exist_ok=True)
        self.model, self.editions = copied(made.model), list(made.editions)
        self.clock = Clock()
        self.ledger = open_ledger(self.state, self.clock)
        self.switched: list[ViewKey] = []
        self.steps, self.seen = 0, made.model.revision
        self.told: dict[str, list[Any]] = {}
        self.mirror = dict(made.mirror)
        index = IndexKey(self.ledger.keys.index)
        self.buckets: dict[bytes, set[str]] = {}
        for text, each in IDENTIFIERS.items():
            self.buckets.setdefault(index.token(each.key), set()).add(text)

    @invariant()
    def look(self) -> None:
        self.steps += 1
        assert self._revision() == self.model.revision, "a refused act left something, or a commit went missing"
        if self.steps % self.every[0] == 0:
            self.follow()
        if self.steps % self.every[1] == 0:
            self.whole()

    def _revision(self) -> int:
        # The head, asked without the ledger: it would take as long as a whole step.
        driver: Any = self.world.engine.raw_connection()
        try:
            return int(driver.execute("SELECT revision FROM head").fetchone()[0])
        finally:
            driver.close()

    def follow(self) -> None:
        """Whoever follows the feed knows what the model knows."""
        infos = self.ledger.commits_after(self.seen, 1_000)
        told = [info.revision for info in infos]
        assert told == list(range(self.seen + 1, self.model.revision + 1)), "a refused act left something, or a gap"
        if not infos:
            return
        touched: dict[bytes, BucketState] = {}
        for info in infos:
            cursor: int | None = 0
            while cursor is not None:
                states, cursor = self.ledger.changed(info.revision, cursor, 50)
                touched |= {each.bucket: each for each in states}
        for bucket, state in touched.items():
            self.mirror[bucket] = (state.value, state.listed)
        self.seen = self.model.revision
        live = self.model.by_id()
        for bucket in self.buckets:
            ids = self._named_in(bucket)
            value, listed = self.mirror.get(bucket, (b"", False))
            found = {each.listing.id: each for each in unpack_bucket(value)}
            assert set(found) == ids, "the feed tells of other listings than there are"
            if bucket in touched:
                for each in found.values():
                    self._same(each, live[each.listing.id])
            since = day_of(self.clock.now) - DAY
            must = any(self.model.may_act(live[each], since) for each in ids)
            assert listed or not must, "a listing that may be in force is not in the view"
            assert not listed or any(not live[each].ended for each in ids), "what an event ended is in the view"

    def _named_in(self, bucket: bytes) -> set[str]:
        texts = self.buckets[bucket]
        return {
            each.id for each in self.model.entries.values() if not each.annulled and texts.intersection(named(each))
        }

    def _same(self, packed: PackedListing, entry: Entry) -> None:
        """A listing says and does what the model's does."""
        of, said = packed.listing, entry.said
        assert (of.list_type, of.source, of.reason, of.decision_no) == tuple(
            said[each] for each in ("list_type", "source", "reason", "decision_no")
        )
        for column in ("listed_on", "served_date", "decision_date", "expires_on", "publicity_until", "retention_until"):
            assert getattr(of, column) == entry.day(column), column
        assert (of.recorded_on, of.annulled, of.objection) == (entry.recorded, entry.annulled, entry.objected)
        assert ended_by_event(of) is entry.ended
        assert [kind for kind, _ in packed.identities] == [text.partition(":")[0] for text in named(entry)]
        first = start_of(self.model.editions[0][0])
        for at in {self.clock.now, *boundaries(entry, self.model)}:
            if at >= first:
                ends_with = self.model.ends_with(of.list_type, day_of(at))
                stands = standing(of, ends_with, at)
                assert (stands is Standing.IN_FORCE) is entry.in_force(at, ends_with), f"{at}: {stands}, {entry.told}"

    def whole(self) -> None:
        """Everything that can be asked, from the ledger itself."""
        assert self.ledger.head() == self.model.revision
        for day, code in itertools.product((day_of(self.clock.now), *(each[0] for each in self.model.editions)), TYPES):
            found_type = self.known().list_type(code, day)
            assert found_type is not None
            assert found_type.ends_with is self.model.ends_with(code, day)
        self._find_all()
        for entry in self.model.entries.values():
            self._told(entry)
        self._view()
        live = [each.said["list_type"] for each in self.model.entries.values() if not each.ended]
        assert self.ledger.live_counts(TYPES) == {code: live.count(code) for code in set(live)}

    def _find_all(self) -> None:
        for text, identifier in IDENTIFIERS.items():
            found = [each.id for each in self.ledger.find(identifier)]
            entries = [each for each in self.model.entries.values() if concerned(each, text) and not each.erased]
            assert found == sorted((each.id for each in entries), reverse=True)

    def _view(self) -> None:
        """Whoever reads the ledger anew knows what whoever followed it knows."""
        shards = sorted({bucket[0] for bucket in self.buckets})
        states = [state for shard in self.ledger.shards(shards) for state in shard]
        assert {each.bucket: (each.value, each.listed) for each in states} == {
            bucket: known for bucket, known in self.mirror.items() if known[0]
        }
        digests = self._digests(ViewKey(self.ledger.keys.view, 24))
        for each in states:
            assert each.view_digest == digests.get(each.bucket)
        listed = [each.bucket for each in states if each.listed and each.bucket in digests]
        now = sorted(digests[bucket] for bucket in listed)
        assert self.ledger.listed_digests().tolist() == now
        assert sorted(digest for shard in shards for digest in self.ledger.listed_digests_of(shard)) == now
        for old in map(self._digests, self.switched):
            assert self.ledger.listed_digests(other=True).tolist() == sorted(old[bucket] for bucket in listed)

    def _digests(self, key: ViewKey) -> dict[bytes, int]:
        """Digests of the companies by bucket."""
        some = {bucket: IDENTIFIERS[min(texts)] for bucket, texts in self.buckets.items()}
        return {bucket: key.digest64(each.key) for bucket, each in some.items() if not each.is_person}

    def _told(self, entry: Entry) -> None:
        """The events of a listing are the model's, and none of those told before has changed."""
        answer = self.ledger.get(entry.id)
        assert answer is not None
        stored, told = answer
        if entry.erased:
            assert (stored.details, stored.packed.identities, told[-1].kind) == (None, (), EventKind.ERASED)
            return
        assert stored.details is not None
        assert (stored.source_version, stored.details.identifiers) == (entry.version, named(entry))
        self._same(stored.packed, entry)
        before = self.told.get(entry.id, [])
        assert told[: len(before)] == before, "an event was changed by a later one"
        self.told[entry.id] = told
        assert [each.kind for each in told] == [kind for kind, _ in entry.told]
        ends = [place for place, each in enumerate(told) if each.kind in ENDS]
        if ends and not any(each.kind is EventKind.REINSTATED for each in told[ends[-1] :]):
            assert ended_by_event(stored.packed.listing), "it runs again without a document"

    def in_view(self) -> set[str]:
        """The canonical keys of the companies in the view."""
        view = ViewKey(self.ledger.keys.view, 24)
        names = {view.digest64(each.key): each.key for each in IDENTIFIERS.values()}
        return {names[digest] for digest in self.ledger.listed_digests()}

    def known(self) -> CatalogueSet:
        return catalogues_of(tuple(self.editions))

    def teardown(self) -> None:
        try:
            self.follow()
            self.whole()
        finally:
            self.ledger.close()
            shutil.rmtree(self.state)
