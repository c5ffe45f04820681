"""Keeps the set: in memory for the threads that check, and on disk for the next start and the other processes.

`lanjie_matcher.views` decides what is taken, `_store` how it lies on disk. Obligations of this module:

1. What is refused leaves the state as it was.
2. Nobody answers by a head that is not on disk: written first, then used. Whoever acknowledges does so after that.
3. A set from disk is never fresh: nobody knows how long it lay there. One that a clock set back made young is refused,
   and so is a head that has expired by the time that went by since one was taken before.
4. One process leads and writes. Those who follow take what it wrote, verified anew, and its contacts.
5. After 48 hours without contact key and set are erased: what was removed meanwhile is not shared any longer (Art. 41).
6. Building a filter never holds the interpreter for long: slices, and a breath after each.
"""

import datetime
import itertools
import logging
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from lanjie._store import Base, Beat, ViewStore
from lanjie._view import LocalView, Scope, read_head
from lanjie.v1 import sync_pb2 as pb
from lanjie_matcher.ages import DEFAULT_BOUNDS
from lanjie_matcher.filters import BloomFilter, LocalFilter, ScreenedFilter, SortedFilter
from lanjie_matcher.shards import MAX_COUNT, RefusedError, decode_shard, decode_values
from lanjie_matcher.views import Manifest, Mark, ViewState, accept_snapshot, require_news, require_past

VIEW: Final = "companies"
KEEP_SECONDS: Final = 300.0
"""How old the head on disk may become while nothing but the time changes."""
SLICE: Final = 10
FEW_CHANGES: Final = 4_096
REBASE_SHARE: Final = 0.02
"""Changes by fingerprints from which the base is written anew."""
_HEADROOM: Final = 1.1
_IMAGE_SECONDS: Final = 2.0
_ERASE_AGAIN_SECONDS: Final = 5.0
_DRIFT: Final = 0.999
"""Of a second that goes by here, at least so much goes by elsewhere."""
_log = logging.getLogger("lanjie")


@dataclass(frozen=True, slots=True)
class _Held:
    """A set as a base and the changes since; the filter, where there is one, holds at least both."""

    base: Base
    adds: frozenset[int] = frozenset()
    removals: frozenset[int] = frozenset()
    bloom: BloomFilter | None = None

    def followed_by(self, state: ViewState, touched: Iterable[int]) -> "_Held":
        """Return how the next state is held; `touched` are the fingerprints that may have changed."""
        before, after = SortedFilter(self.base.shards, self.base.bits), _exact(state)
        differing = [each for each in {*touched, *self.adds, *self.removals} if (each in before) is not (each in after)]
        if len(differing) > max(FEW_CHANGES, REBASE_SHARE * state.manifest.count):
            return _rebased(state)
        adds = frozenset(each for each in differing if each in after)
        return replace(self, adds=adds, removals=frozenset(differing) - adds)

    def filter(self, state: ViewState) -> LocalFilter:
        """Return what is probed for the state that this holds."""
        if self.bloom is None:
            return _exact(state)
        self.bloom.add_some(iter(self.adds), len(self.adds))
        return ScreenedFilter(self.bloom, _exact(state))


class SetKeeper:
    """See the module. Used by one thread; any thread may read `view`.

    Args:
        state_dir: where sets are kept.
        trusted: raw Ed25519 public keys by key id.
        use_bloom: probe a Bloom filter once it is built, else the sorted set.
        monotonic: seconds of a clock that never goes back and that all processes of the machine share.
        now: aware instant of the wall clock.

    Attributes:
        view: the set; `None` when there is none.
        lineage: identity of the ledger; empty when it is not known yet.
        erased: whether the last set was erased because it was too old.
    """

    def __init__(
        self,
        state_dir: Path,
        trusted: Mapping[str, bytes],
        *,
        use_bloom: bool,
        monotonic: Callable[[], float],
        now: Callable[[], datetime.datetime],
    ) -> None:
        self.view: LocalView | None = None
        self.lineage = ""
        self.erased = False
        self._state_dir = state_dir
        self._trusted = trusted
        self._use_bloom = use_bloom
        self._monotonic = monotonic
        self._now = now
        self._store: ViewStore | None = None
        self._mark = Mark(VIEW, "")
        self._held: _Held | None = None
        self._tag = 0
        self._kept_at = float("-inf")
        self._purge_at = float("inf")
        self._image_at = 0.0
        self._signed: tuple[datetime.datetime, float] | None = None
        self._building: _Building | None = None

    @property
    def opened(self) -> bool:
        """Whether it is turned to a ledger."""
        return self._store is not None

    @property
    def leads(self) -> bool:
        """Whether this process leads."""
        return self._store is not None and self._store.leads

    def open(self, lineage: str) -> None:
        """Turn to a ledger, and to what is on disk of it.

        Raises:
            RefusedError: what is on disk was damaged, or the lineage is none; there is no set then.
            OSError: the directory cannot be used.
        """
        if lineage == self.lineage and self._store is not None:
            return
        self.close()
        self.lineage, self._mark, self._tag = "", Mark(VIEW, lineage), 0
        # What is there may tell an earlier time; nothing that cannot be used, or was dropped, stays for longer.
        self._purge_at = self._monotonic() + DEFAULT_BOUNDS.purge
        self._store = ViewStore(self._state_dir, lineage)
        self.lineage = lineage
        ViewStore.erase_older(self._state_dir, lineage, self._now().timestamp() - DEFAULT_BOUNDS.purge)  # (5)
        self._load(self._store)

    def recall(self) -> None:
        """Turn to the ledger whose set was written last, when no gateway says which it is."""
        newest = ViewStore.newest(self._state_dir)
        if not self.lineage and newest:
            self.open(newest)

    def lead(self) -> bool:
        """Take the lead unless another process has it, and with it what that one wrote last; return whether this leads.

        Raises:
            OSError: it cannot be read.
        """
        store = self._store
        if store is None or store.leads or not store.lead():
            return self.leads
        try:
            self._load(store)
            if self.view is None:
                store.tidy(b"")
        except RefusedError as error:
            self.drop()
            _log.warning("the set on disk is of no use: %s", error)
        return True

    def drop(self) -> None:
        """Drop the set. The mark stays, and what is on disk."""
        self.view = self._held = self._building = None

    def discard(self) -> None:
        """Drop the set, and erase it from the disk as well: it is of a past that the ledger has left."""
        self.drop()
        self._purge_at = float("-inf")

    def state(self, sdk_id: str, *, whole: bool) -> pb.ClientState:
        """Return what is held, for the gateway; with `whole` as if it were nothing."""
        state = pb.ClientState(view=VIEW, sdk_id=sdk_id, lineage=self.lineage)
        if self.view is not None:
            held = self.view.state.manifest
            state.epoch, state.generation, state.revision = held.epoch, held.generation, held.revision
            state.root = b"" if whole else held.root
            state.catalogue_revision = self.view.scope.catalogue_revision
        return state

    def take(self, parts: Sequence[pb.Update], asked: float) -> None:
        """Take an update, on disk first (2).

        Args:
            parts: one update, or all parts of a snapshot in order.
            asked: monotonic seconds at which it was asked for.

        Raises:
            RefusedError: any rule is broken, or the disk did not take it; everything is as before (1).
        """
        first, last = parts[0], parts[-1]
        head = read_head(first.head, self._trusted)
        require_news(head, self._now(), self._least_now())  # (3)
        scope = self._scope(first, head)
        if first.kind == pb.UPDATE_KIND_SNAPSHOT:
            adds, removals = _changes(last, head.bits)
            shards = _shards(parts, head.bits)
            state = accept_snapshot(head, scope.key, shards, self._mark, adds=adds, removals=removals)
            held = _rebased(state)
        else:
            before, held = self._require_view(first)
            if first.kind == pb.UPDATE_KIND_HEARTBEAT:
                state = before.confirm(head, self._mark)
            else:
                adds, removals = _changes(first, head.bits)
                state = before.apply(head, first.base_root, adds, removals, self._mark)
                held = held.followed_by(state, itertools.chain(adds, removals))
        self._settle(pb.Update(head=first.head, scope=scope.raw), state, held, scope, asked)

    def follow(self) -> bool:
        """Take what the leader wrote and told (4); return whether there is a set that it vouches for.

        Raises:
            RefusedError: what it wrote was damaged.
            OSError: it cannot be read.
        """
        store = self._store
        beat = store.told() if store is not None else None
        if store is None or beat is None:
            return False
        if beat.tag != self._tag:
            self._load(store)
        view = self.view
        if view is None or beat.tag != self._tag:
            return False
        if view.contact < beat.contact <= self._monotonic():
            self.view = view = view.confirmed(beat.contact)
            self._purge_at = beat.contact + view.bounds.purge
        held, now = self._held, self._monotonic()
        if self._use_bloom and held is not None and held.bloom is None and now >= self._image_at:
            # The leader builds it; there may be one by now.
            self._image_at = now + _IMAGE_SECONDS
            self._held = held = replace(held, bloom=store.bloom(held.base))
            self.view = replace(view, filter=held.filter(view.state))
            if held.bloom is not None:
                self._building = None
        return True

    def purge(self) -> None:
        """Erase key and set when they are too old, whether they can be used or not (5)."""
        now = self._monotonic()
        if self._store is None or now <= self._purge_at:
            return
        if self.view is not None:
            _log.warning("no contact for too long: key and set are erased")
            self.erased = True
            self.drop()
        try:
            # The disk is the leader's; a process that has only just started may be the first to see it.
            if self.lead():
                self._tag = self._store.erase()
                # Those who follow hold it, too.
                self._store.tell(Beat(self._tag, now))
                self._purge_at = now + DEFAULT_BOUNDS.purge  # a write that fails half-way leaves a set again
                self.drop()
        except OSError as error:
            self._purge_at = now + _ERASE_AGAIN_SECONDS
            _log.warning("key and set could not be erased from the disk: %s", type(error).__name__)

    def build_some(self) -> bool:
        """Go on with the filter that is being built, one slice; return whether there is more to do (6)."""
        building, held, view, store = self._building, self._held, self.view, self._store
        if building is None or held is None or view is None or store is None or not store.leads:
            return False
        if building.base is not held.base or held.bloom is not None:
            # It would deny what the set got since.
            self._building = None
            return False
        made = next(building.slices)
        if made is None:
            return True
        self._building = None
        try:
            store.keep_bloom(held.base, made)
        except OSError as error:
            _log.warning("the filter could not be kept: %s", type(error).__name__)
        self._held = replace(held, bloom=made)
        self.view = replace(view, filter=self._held.filter(view.state))
        return False

    def close(self) -> None:
        """Let go of set and disk; what is on disk stays."""
        self.drop()
        self._purge_at = float("inf")
        store, self._store = self._store, None
        if store is not None:
            store.close()

    def _settle(self, update: pb.Update, state: ViewState, held: _Held, scope: Scope, asked: float) -> None:
        before, store = self.view, self._store
        if store is None:
            raise RefusedError("store", "there is no place to keep the set")
        head = state.manifest
        news = before is None or head.mark != self._mark or held is not self._held or scope is not before.scope
        if news or self._monotonic() - self._kept_at > KEEP_SECONDS:
            try:
                self._tag = store.keep(update, held.base, _sorted(held.adds), _sorted(held.removals))
            except OSError as error:
                raise RefusedError("store", f"the set could not be written: {type(error).__name__}") from error
            self._kept_at = self._monotonic()
        # On disk: from here on it counts.
        self._note_time(head)
        self.erased = False
        rebased = self._held is None or held.base is not self._held.base
        self._mark, self._held = head.mark, held
        applied = asked if before is None or head.root != before.state.manifest.root else before.applied
        probe = held.filter(state) if news or before is None else before.filter
        self.view = LocalView.of(state, probe, scope, contact=asked, applied=applied)
        self._purge_at = asked + self.view.bounds.purge
        store.tell(Beat(self._tag, asked))
        if rebased:
            self._building = _Building(held.base) if self._use_bloom else None

    def _load(self, store: ViewStore) -> None:
        stored = store.load()
        if stored is None or stored.tag == self._tag:
            return
        head = read_head(stored.update.head, self._trusted)
        self._mark.admit(head)
        self._note_time(head)
        self._mark = head.mark  # even where the set cannot be used: no older head is ever taken for news
        require_past(head, self._now())  # (3)
        root = stored.update.base_root
        if not root:
            self.drop()
            self._tag, self._purge_at = stored.tag, self._monotonic() + DEFAULT_BOUNDS.purge
            return
        known = self._held if self._held is not None and self._held.base.root == root else None
        base = known.base if known is not None else store.base(root)
        if base.bits != head.bits:
            raise RefusedError("bits", "the set on disk is of another width than its head")
        scope = Scope.of(stored.update.scope)
        scope.require_named_by(head)
        key = scope.key
        adds, removals = stored.adds, stored.removals
        state = accept_snapshot(head, key, base.shards, self._mark, adds=adds, removals=removals)
        store.found_sound(base)
        bloom = known.bloom if known is not None else store.bloom(base) if self._use_bloom else None
        self._held = _Held(base, frozenset(adds), frozenset(removals), bloom)
        self._tag = stored.tag
        # (3) A beat of whoever leads may still show that it is younger.
        age = max((self._now() - head.issued_at).total_seconds(), DEFAULT_BOUNDS.soft + 1.0)
        contact = self._monotonic() - age
        self.view = LocalView.of(state, self._held.filter(state), scope, contact=contact)
        self._purge_at = contact + self.view.bounds.purge
        if known is None:
            self._building = _Building(base) if bloom is None and self._use_bloom else None

    def _least_now(self) -> datetime.datetime | None:
        """Return what time it is at least: that of the newest head, and what went by since then."""
        if self._signed is None:
            return None
        at, since = self._signed
        return at + datetime.timedelta(seconds=(self._monotonic() - since) * _DRIFT)

    def _note_time(self, head: Manifest) -> None:
        least = self._least_now()
        if least is None or head.issued_at > least:
            self._signed = head.issued_at, self._monotonic()

    def _scope(self, update: pb.Update, head: Manifest) -> Scope:
        """Return the scope that goes with a head."""
        held = self.view.scope if self.view is not None else None
        if update.scope:
            scope = Scope.of(update.scope)
            if update.kind != pb.UPDATE_KIND_SNAPSHOT and (held is None or held.key != scope.key):
                raise RefusedError("key", "another key without its set")
        elif held is not None:
            scope = held
        else:
            raise RefusedError("scope", "there is no scope")
        scope.require_named_by(head)
        return scope

    def _require_view(self, update: pb.Update) -> tuple[ViewState, _Held]:
        if update.kind not in (pb.UPDATE_KIND_HEARTBEAT, pb.UPDATE_KIND_DELTA):
            raise RefusedError("encoding", "an update of a kind that is not known here")
        if self.view is None or self._held is None:
            raise RefusedError("gap", "there is no set that it could follow")
        return self.view.state, self._held


def _exact(state: ViewState) -> SortedFilter:
    return SortedFilter(state.shards, state.manifest.bits)


def _rebased(state: ViewState) -> _Held:
    return _Held(Base(state.manifest.root, state.manifest.bits, state.shards))


def _sorted(values: Iterable[int]) -> "array[int]":
    return array("Q", sorted(values))


def _changes(update: pb.Update, bits: int) -> tuple["array[int]", "array[int]"]:
    adds, removals = (
        decode_values(part.count, part.planes, bits) if part.count else array("Q")
        for part in (update.adds, update.removals)
    )
    return adds, removals


def _shards(parts: Iterable[pb.Update], bits: int) -> Iterator["array[int]"]:
    """Decode the shards of a snapshot, in order and bounded, with a breath after each (6)."""
    expected = count = 0
    for part in parts:
        if part.kind != pb.UPDATE_KIND_SNAPSHOT:
            raise RefusedError("truncated", "a snapshot ends before its last part")
        for shard in part.shards:
            count += shard.count
            if count > MAX_COUNT:
                raise RefusedError("oversize", "more fingerprints than a client takes")
            if shard.number != expected:
                raise RefusedError("encoding", "the shards do not follow each other")
            expected += 1
            yield decode_shard(shard.number, shard.count, shard.planes, bits)
            time.sleep(0)


class _Building:
    """The filter of a base that is being built.

    Attributes:
        base: the base.
        slices: `None` while there is more to do, then the filter (6).
    """

    def __init__(self, base: Base) -> None:
        self.base = base
        self.slices = _build(base)


def _build(base: Base) -> Iterator[BloomFilter | None]:
    bloom = BloomFilter(int(sum(map(len, base.shards)) * _HEADROOM) + 2 * FEW_CHANGES)
    values = itertools.chain.from_iterable(base.shards)
    while bloom.add_some(values, SLICE) == SLICE:
        time.sleep(0)
        yield None
    yield bloom
