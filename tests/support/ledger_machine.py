"""The machine that does with a real ledger whatever comes to its mind, and asks it and the model the same questions.

One SQLite engine serves a whole run: "open" connects it to the file of the example, "close" closes that connection. Its
statements are compiled once and not for every example; files, connections and commits are real.
"""

import asyncio
import contextlib
import dataclasses
import datetime
import functools
import itertools
import shutil
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from lanjie_gateway.adapters.keys import make_view_key
from lanjie_gateway.adapters.ledger import BucketState, Ledger, database
from lanjie_gateway.adapters.ledger.rows import StoredListing
from lanjie_gateway.adapters.list_parser import _Maker
from lanjie_gateway.domain import import_rules
from lanjie_gateway.domain.errors import Refused
from lanjie_gateway.domain.events import Act, EventKind
from lanjie_gateway.domain.import_rules import FileFormat, ImportHeader, ImportMode, ImportState, Receipt
from lanjie_gateway.domain.list_file import FileRules, ListTypeRule, RowRefused, read_row
from lanjie_gateway.domain.packed import PackedListing, unpack_bucket
from lanjie_gateway.services.imports import ImportService, _Work
from lanjie_gateway.services.pruning import _rule
from lanjie_matcher.catalogues import CatalogueSet, newly_ended
from lanjie_matcher.civil_time import day_of, start_of
from lanjie_matcher.fingerprints import IndexKey, ViewKey
from lanjie_matcher.identifiers import Identifier, parse
from lanjie_matcher.listings import EndsWith, Standing, ended_by_event, standing
from tests.support.catalogues import edition, list_type
from tests.support.core import citizen, org_code, uscc
from tests.support.ledger import Clock, open_ledger, person
from tests.support.ledger_model import (
    ADDED,
    ALTERED,
    BAD,
    DAY,
    FLOOR,
    KINDS,
    TICK,
    Entry,
    Model,
    Outdated,
    Plan,
    Row,
    boundaries,
    copied,
)

SHM = Path("/dev/shm")  # noqa: S108  only a faster place for what is thrown away
PARTIES: dict[str, tuple[str, ...]] = {
    **{f"company {number}": (f"uscc:{uscc(number)}",) for number in range(1, 5)},
    "companies 4 and 5": (f"uscc:{uscc(4)}", f"uscc:{uscc(5)}"),
    "company 1 by its organisation code": (f"org_code:{org_code(1)}",),
    **{f"person {number}": (f"citizen:{citizen(number)}",) for number in (1, 2)},
}
IDENTIFIERS = {text: parse(text) for party in PARTIES.values() for text in party}
TYPES = ("TAX", "WAGE")
SOURCES = ("tax", "court")
DATES: tuple[dict[str, str], ...] = (
    {"listed_on": "2026-01-02"},
    {"listed_on": "2026-01-02", "expires_on": "2026-11-02"},
    {"listed_on": "2026-10-01", "expires_on": "2026-11-10", "publicity_until": "2026-11-04"},
    {"listed_on": "2026-11-03", "expires_on": "2026-12-05", "publicity_until": "2026-11-20"},
    {"listed_on": "2026-10-30", "served_date": "2026-11-05", "retention_until": "2026-11-12"},
    {"listed_on": "2026-01-02", "expires_on": "2026-10-20", "publicity_until": "2027-03-01"},
    {"decision_date": "2026-11-01", "publicity_until": "2026-10-31"},
    {},
)
SPANS = tuple(
    datetime.timedelta(**span)
    for span in ({"minutes": 1}, {"hours": 3}, {"days": 1}, {"days": 3}, {"days": 31}, {"days": 200})
)
MIDNIGHTS = (0, 1)
EARLIER = tuple(datetime.timedelta(days=days) for days in (0, 1, 3, 30))
PEOPLE = ("anna", "bert")
_COLUMNS = "source_record_id decision_no listed_on served_date decision_date expires_on publicity_until".split()
_EMPTY = dict.fromkeys([*_COLUMNS, "retention_until", "other_ids"], "")


def row_of(op: str, key: tuple[str, str], party: str, place: tuple[str, str], dates: int, said: tuple[str, str]) -> Row:
    """A row of a list file: `key` are record and decision, `place` list type and source, `said` version and reason."""
    kind, _, number = PARTIES[party][0].partition(":")
    cells = {"op": op, "id_kind": kind, "id_number": number, "other_ids": ";".join(PARTIES[party][1:])}
    named = {"source_record_id": key[0], "decision_no": key[1], "list_type": place[0], "source": place[1]}
    return {**_EMPTY, **DATES[dates], **cells, **named, "source_version": said[0], "reason": said[1]}


KEYS = (("1", ""), ("2", ""), ("3", "7"), ("", "1"), ("", "2"), ("", ""))
PLACES = tuple((code, source) for code in TYPES for source in SOURCES)
rows = st.builds(
    row_of,
    st.sampled_from("IIIUD"),
    st.sampled_from(KEYS),
    st.sampled_from(sorted(PARTIES)),
    st.sampled_from(PLACES),
    st.integers(0, len(DATES) - 1),
    st.tuples(st.sampled_from(("", "1", "2", "10")), st.sampled_from(("", "x"))),
)
endings = st.tuples(
    st.fixed_dictionaries({code: st.sampled_from(list(EndsWith)) for code in TYPES}), st.sampled_from((0, 1, 10))
)
picks = st.integers(0, 99)
kinds = st.sampled_from([*KINDS, EventKind.REMOVED, EventKind.REINSTATED, EventKind.REINSTATED, EventKind.STAY_LIFTED])
whens = st.one_of(st.none(), st.none(), st.sampled_from(EARLIER))
acts = st.tuples(picks, kinds, whens)
few = st.one_of(st.just([]), st.lists(acts, max_size=2))
people = st.sampled_from(PEOPLE)


class _Inline:
    """Stands for the ledger's thread: calls are carried out where they are made."""

    def __init__(self, machine: "LedgerMachine") -> None:
        self._machine = machine

    @property
    def keys(self) -> Any:
        return self._machine.ledger.keys

    async def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if function is Ledger.purge:
            return False  # a rule of its own
        return function(self._machine.ledger, *args, **kwargs)


class _Imports(ImportService):
    """The service of imports, with the parser in this process; `meanwhile` is what happens before the file is settled."""

    rows: Sequence[Row] = ()
    salt = 0
    meanwhile: Callable[[], None] = staticmethod(lambda: None)

    async def _read(self, work: _Work, chunks: AsyncIterator[bytes]) -> None:
        order = self._order(work)
        for place in range(0, len(self.rows), 2):
            await self._stage(work, *parsed(order, self.rows[place : place + 2], place + 2))
        work.rows, work.sha256 = len(self.rows), self.salt.to_bytes(32, "big")
        self.meanwhile()


def parsed(order: dict[str, Any], some: Sequence[Row], first: int) -> tuple[Any, Any]:
    """What the parser makes of some rows: good ones and bad ones."""
    maker, good, bad = _Maker(order), [], []
    rules = FileRules(
        list_types={code: ListTypeRule(code=code) for code in TYPES},
        list_type=order["list_type"],
        source=order["source"],
        complete=order["complete"],
        today=datetime.date.fromordinal(order["today"]),
    )
    for line, row in enumerate(some, first):
        try:
            good.append(maker.row(read_row(row, line, rules)))
        except RowRefused as error:
            bad.append((line, error.column, error.rule, str(error)))
    return tuple(good), tuple(bad)


@dataclasses.dataclass
class Waiting:
    """A file that waits, as the model has it; `plan` is `None` once it waits no longer."""

    receipt: Receipt
    plan: Plan | None


@dataclasses.dataclass
class World:
    """What an example begins with: a directory to copy, and what is in it."""

    root: Path
    model: Model
    editions: list[Any]
    engine: sa.Engine
    loop: asyncio.AbstractEventLoop


@contextlib.contextmanager
def world() -> Iterator[World]:
    """Make a world: a ledger with an edition and a few listings."""
    with contextlib.ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=SHM if SHM.is_dir() else None)))
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name, value in {"ALTERED_SHARE": ALTERED, "ADDED_SHARE": ADDED, "ADDED_FLOOR": FLOOR, "BAD_SHARE": BAD}.items():
            patch.setattr(import_rules, name, value)
        (root / "first").mkdir()
        open_ledger(root / "first").close()
        engine = _engine(patch)
        loop = asyncio.new_event_loop()
        stack.callback(loop.close)
        stack.callback(engine.dispose)
        made = World(root, Model(), [], engine, loop)
        first = LedgerMachine(made, "first")
        first.publish(dict(zip(TYPES, (EndsWith.TERM, EndsWith.PUBLICITY), strict=True)), -200)
        for party, code, source, dates in (
            ("company 1", "TAX", "tax", 0),
            ("company 2", "TAX", "tax", 2),
            ("company 2", "WAGE", "court", 5),
            ("companies 4 and 5", "TAX", "court", 1),
            ("person 1", "TAX", "tax", 4),
            ("company 3", "TAX", "tax", 3),
        ):
            row = row_of("I", (str(len(first.model.entries)), "") if dates else ("", "1"), party, (code, source), dates, ("2", ""))
            first.deliver([row], None, [], "anna")
        first.close()
        made.model, made.editions = first.model, first.editions
        yield made


def _engine(patch: pytest.MonkeyPatch) -> sa.Engine:
    """One engine for all files, and no look at their schema: they are copies of one that was just made."""
    at = [""]
    engine = sa.create_engine(
        "sqlite://",
        poolclass=sa.StaticPool,
        creator=lambda: sqlite3.connect(at[0], check_same_thread=False, isolation_level=None),
    )
    sa.event.listen(engine, "connect", database._prepare)
    sa.event.listen(engine, "begin", database._begin)

    def one(url: str) -> sa.Engine:
        at[0] = sa.make_url(url).database or ""
        return engine

    patch.setattr(database, "_engine", one)
    patch.setattr(database, "_upgrade", lambda engine: ("", ""))
    return engine


class LedgerMachine(RuleBasedStateMachine):
    """See above. `every` are the steps between two looks at the feed, and at everything."""

    every = (4, 1_000)

    def __init__(self, made: World, name: str = "") -> None:
        super().__init__()
        self.world = made
        self.state = made.root / name if name else Path(tempfile.mkdtemp(dir=made.root))
        if not name:
            shutil.copytree(made.root / "first", self.state, dirs_exist_ok=True)
        self.model, self.editions = copied(made.model), list(made.editions)
        self.clock = Clock()
        self.waiting: list[Waiting] = []
        self.orders: list[tuple[tuple[Any, ...], Receipt]] = []
        self.told: dict[str, list[Any]] = {}
        self.mirror: dict[bytes, tuple[bytes, bool]] = {}
        self.rotating = self.left = False
        self.switched: list[ViewKey] = []
        self.steps = self.seen = 0
        self.sent = 0 if name else 1_000
        self.ledger = open_ledger(self.state, self.clock)
        index = IndexKey(self.ledger.keys.index)
        self.buckets: dict[bytes, set[str]] = {}
        for text, each in IDENTIFIERS.items():
            self.buckets.setdefault(index.token(each.key), set()).add(text)
        self.imports = _Imports(_Inline(self), self.known, self.clock, _nothing)  # type: ignore[arg-type]
        self.follow()

    # What happens.

    @rule(span=st.sampled_from((*SPANS, *MIDNIGHTS)))
    def pass_by(self, span: datetime.timedelta | int) -> None:
        """Time passes, or it is midnight, or one microsecond before."""
        now = self.clock.now
        midnight = start_of(day_of(now) + DAY)
        self.clock.now = now + span if isinstance(span, datetime.timedelta) else max(now, midnight - span * TICK)

    @rule(act=acts)
    def act_of(self, act: tuple[int, EventKind, datetime.timedelta | None]) -> None:
        self.act(act)

    @rule(acts=st.lists(acts, min_size=1, max_size=3))
    def acts_of(self, acts: list[tuple[int, EventKind, datetime.timedelta | None]]) -> None:
        for each in acts:
            self.act(each)

    def act(self, act: tuple[int, EventKind, datetime.timedelta | None]) -> None:
        """An event, legal or not."""
        pick, kind, earlier = act
        if not self.model.entries:
            return
        entry = list(self.model.entries.values())[pick % len(self.model.entries)]
        at = None if earlier is None else start_of(day_of(self.clock.now)) - earlier
        expected = self.model.refusal(entry, kind, at or self.clock.now)
        order = Act(kind=kind, effective_at=at, actor="tax/bert", reason="because", document="No. 9")
        refused = ""
        try:
            revision = self.ledger.record(entry.id, order)
        except Refused as error:
            refused = error.reason
            assert "TRANSITION_ILLEGAL" not in refused or error.metadata["event"] == kind.value
        assert refused == expected, f"{kind} of {entry.id}: {refused or 'recorded'}, not {expected or 'recorded'}"
        if not refused:
            entry.told.append((kind, at or self.clock.now))
            self.model.revision += 1
            assert revision == self.model.revision

    files = st.lists(rows, max_size=5)

    @precondition(lambda self: not self.rotating)
    @rule(file=files, meanwhile=few, who=people)
    def deliver_some(self, file: list[Row], meanwhile: list[Any], who: str) -> None:
        """A file of changes."""
        self.deliver(file, None, meanwhile, who)

    @precondition(lambda self: not self.rotating)
    @rule(file=st.lists(rows, max_size=2), place=st.sampled_from(PLACES), as_of=whens, meanwhile=few, who=people, kept=st.integers(0, 7))
    def deliver_all(self, file: list[Row], place: Any, as_of: Any, meanwhile: list[Any], who: str, kept: int) -> None:
        """A complete list, of now or of an earlier day."""
        self.deliver(file, (place, as_of), meanwhile, who, kept)

    def deliver(self, file: list[Row], complete: Any, meanwhile: list[Any], who: str, kept: int = 0) -> None:
        """A list file is brought; events go on while it is read. `kept` are bits: which listings a complete one holds."""
        model, now = self.model, self.clock.now
        told = None
        header: dict[str, Any] = {"file_name": "list.csv", "format": FileFormat.CSV, "source": who}
        if complete is not None:
            (code, source), earlier = complete
            as_of = now if earlier is None else start_of(day_of(now)) - earlier
            told = (code, source, as_of)
            header |= {"mode": ImportMode.FULL, "list_type": code, "source": source, "as_of": as_of}
            mine = [each.said for each in model.entries.values() if (each.said["list_type"], each.said["source"]) == told[:2]]
            file = [{**each, "op": "I"} for place, each in enumerate(mine) if kept >> place & 1 or place > 2] + file
        plan = model.read(file, now, told)
        self.sent += 1
        self.imports.rows, self.imports.salt = file, self.sent
        self.imports.meanwhile = lambda: [self.act(each) for each in meanwhile] and None  # type: ignore[func-returns-value]
        order = (ImportHeader(**header), self.imports.salt)
        self.left = False
        waits_of = functools.partial(model.waits, plan, complete is not None)
        refused, receipt = self._run(self.imports.run(order[0], _no_bytes(), person(who)))
        if waits_of():
            assert receipt is not None, refused
            assert receipt.state is ImportState.WAITING, "a file that should wait did not"
            self.waiting.append(Waiting(receipt, plan))
        else:
            self._committed(plan, refused, receipt)
        if receipt is not None:
            assert {(row.line, row.rule) for row in receipt.quarantine} == plan.bad
            self.orders.append((order, receipt))

    @precondition(lambda self: self.orders and not self.rotating)
    @rule(pick=picks)
    def repeat(self, pick: int) -> None:
        """A file is sent again: its first receipt, if it was taken or still waits."""
        (header, salt), first = self.orders[pick % len(self.orders)]
        now = self.ledger.receipt(first.receipt_id)
        assert now is not None
        if now.state in (ImportState.COMMITTED, ImportState.WAITING):
            self.imports.rows, self.imports.salt, self.imports.meanwhile = (), salt, lambda: None
            self.left = False
            refused, receipt = self._run(self.imports.run(header, _no_bytes(), person("carl")))
            assert refused == ""
            assert receipt == dataclasses.replace(now, repeated=True)

    @precondition(lambda self: self.waiting and not self.rotating)
    @rule(pick=picks, who=st.sampled_from((*PEOPLE, *PEOPLE, "")))
    def confirm(self, pick: int, who: str) -> None:
        """Somebody confirms a file that waits, or waits no longer; or it is given up."""
        if not who:
            self.give_up(pick)
            return
        found = self.waiting[pick % len(self.waiting)]
        state = self.ledger.receipt(found.receipt.receipt_id)
        self.left = False
        refused, receipt = self._run(self.imports.confirm(found.receipt.receipt_id, person(who)))
        if found.receipt.importer == f"tax/{who}":
            assert refused == "SECOND_PERSON_REQUIRED"
        elif found.plan is None:
            assert state is not None
            assert refused == ("" if state.state is ImportState.COMMITTED else "IMPORT_OUTDATED")
        else:
            plan, found.plan = found.plan, None
            self._committed(plan, refused, receipt)

    def give_up(self, pick: int) -> None:
        found = self.waiting[pick % len(self.waiting)]
        self.ledger.give_up_import(found.receipt.batch)
        found.plan = None

    @precondition(lambda self: not self.rotating)
    @rule(file=files, restarted=st.booleans())
    def leave(self, file: list[Row], restarted: bool) -> None:
        """An import is left half-way."""
        self.left = False
        batch = self.ledger.begin_import("tax/anna")
        assert batch is not None
        self.left = True
        work: Any = _Work(ImportHeader(file_name="a", format=FileFormat.CSV), "tax/anna", self.clock.now, batch, *(None,) * 2)  # type: ignore[arg-type]
        work.keys = self.ledger.keys
        good, _ = parsed(self.imports._order(work), file, 2)
        document, generation = "file a", self.ledger.generation
        self.ledger.stage(
            batch, good, actor="tax/anna", received_at=self.clock.now, document=document, generation=generation
        )
        if restarted:
            self.reopen()

    def publish(self, ends: dict[str, EndsWith], ahead: int) -> None:
        """An edition that ends list types otherwise, at once or later."""
        first = day_of(self.clock.now) + ahead * DAY
        revision = self.model.revision + 1
        types = tuple(list_type(code, ends_with=each) for code, each in ends.items())
        made = edition(
            edition=str(revision), effective_from=first, publication_date=first, list_types=types, revision=revision
        )
        until = day_of(self.clock.now) + 2 * DAY
        told = self.ledger.publish_edition(
            made, b"%d" % revision, "a.yaml", "tax/mara", known=len(self.editions), unprune=newly_ended(self.known(), made, until)
        )
        self.editions.append(made)
        self.model.editions.append((first, revision, ends))
        self.model.revision += 1
        assert told == revision

    def prune(self, limit: int = 4) -> None:
        """The daily look: whatever has ended by date for a whole day leaves the view."""
        after: int | None = 0
        today = day_of(self.clock.now)
        while after is not None:
            done = self.ledger.prune(after, limit, _rule(self.known(), today), known=len(self.editions))
            assert done is not None
            after = done.after
            self.model.revision += done.revision is not None
        self.follow()
        left = {text for each in self.model.entries.values() if not each.ended and not self.model.past(each, today - DAY) for text in named(each)}
        assert self._in_view() == {IDENTIFIERS[text].key for text in left if not IDENTIFIERS[text].is_person}

    @rule(chore=st.sampled_from(("reopen", "purge", "prune", "prune", "publish", "publish")), data=st.data())
    def chore(self, chore: str, data: Any) -> None:
        ends = data.draw(endings) if chore == "publish" else ()
        getattr(self, chore)(*ends)

    def reopen(self) -> None:
        """The gateway is restarted, whatever is under way."""
        self.ledger.close()
        self.rotating, self.left, self.switched = False, False, []
        self.ledger = open_ledger(self.state, self.clock)

    def purge(self) -> None:
        while self.ledger.purge():
            pass

    @rule(limit=st.sampled_from((3, 50)))
    def rotate(self, limit: int) -> None:
        """The next part of a rotation of the view key: begin, some slices, the switch, the end of the grace."""
        if not self.rotating:
            begun = self.ledger.begin_rotation(functools.partial(make_view_key, self.state / "keys"))
            assert begun is not self.left
            self.rotating, self.left = begun, self.left
        elif self.switched:
            assert self.ledger.begin_import("tax/anna") is None
            self.ledger.end_rotation()
            self.rotating, self.switched = False, []
        elif self.ledger._rotating.complete:
            old = ViewKey(self.ledger.keys.view, 24)
            self.model.revision += 1
            assert self.ledger.switch_generation("tax/anna") == self.model.revision
            self.switched = [old]
        else:
            assert self.ledger.begin_import("tax/anna") is None
            self.ledger.rotate(limit)

    # What must hold.

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
        """The head is the model's, and whoever follows the feed knows what the model knows."""
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
        now = {bucket: self._named_in(bucket) for bucket in self.buckets}
        for bucket, ids in now.items():
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
        return {each.id for each in self.model.entries.values() if not each.annulled and texts.intersection(named(each))}

    def _same(self, packed: PackedListing, entry: Entry) -> None:
        """A listing says and does what the model's does."""
        of, said = packed.listing, entry.said
        assert (of.list_type, of.source, of.reason, of.decision_no) == tuple(said[each] for each in ("list_type", "source", "reason", "decision_no"))
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
        for text, identifier in IDENTIFIERS.items():
            found = {each.id: each for each in self.ledger.find(identifier)}
            assert set(found) == {each.id for each in self.model.entries.values() if concerned(each, text)}
            assert list(found) == sorted(found, reverse=True)
        for entry in self.model.entries.values():
            self._told(entry)
        states = [state for bucket in sorted({each[0] for each in self.buckets}) for state in self.ledger.shard(bucket)]
        assert {each.bucket: (each.value, each.listed) for each in states} == {key: each for key, each in self.mirror.items() if each[0]}
        view = ViewKey(self.ledger.keys.view, 24)
        digests = {bucket: view.digest64(IDENTIFIERS[min(texts)].key) for bucket, texts in self.buckets.items() if not IDENTIFIERS[min(texts)].is_person}
        assert {each.bucket: each.view_digest for each in states if each.view_digest} == {each.bucket: digests[each.bucket] for each in states if each.bucket in digests}
        listed = sorted(digests[each.bucket] for each in states if each.listed and each.bucket in digests)
        assert self.ledger.listed_digests().tolist() == listed
        parts = [digest for number in sorted({each[0] for each in self.buckets}) for digest in self.ledger.listed_digests_of(number)]
        assert sorted(parts) == listed
        for old in self.switched:
            before = sorted(old.digest64(IDENTIFIERS[min(self.buckets[each.bucket])].key) for each in states if each.listed and each.bucket in digests)
            assert self.ledger.listed_digests(other=True).tolist() == before
        live = {code: sum(each.said["list_type"] == code and not each.ended for each in self.model.entries.values()) for code in TYPES}
        assert self.ledger.live_counts(TYPES) == {code: count for code, count in live.items() if count}

    def _told(self, entry: Entry) -> None:
        """The events of a listing are the model's, and none of those told before has changed."""
        answer = self.ledger.get(entry.id)
        assert answer is not None
        stored, told = answer
        assert stored.details is not None
        assert (stored.source_version, stored.details.identifiers) == (entry.version, named(entry))
        self._same(stored.packed, entry)
        before = self.told.get(entry.id, [])
        assert told[: len(before)] == before, "an event was changed by a later one"
        self.told[entry.id] = told
        assert [each.kind for each in told] == [kind for kind, _ in entry.told]
        ends = [place for place, each in enumerate(told) if each.kind in ("removed", "repaired", "revoked")]
        if ends and not any(each.kind is EventKind.REINSTATED for each in told[ends[-1] :]):
            assert ended_by_event(stored.packed.listing), "it runs again without a document"

    def _in_view(self) -> set[str]:
        """The canonical keys of the companies in the view."""
        view = ViewKey(self.ledger.keys.view, 24)
        names = {view.digest64(each.key): each.key for each in IDENTIFIERS.values()}
        return {names[digest] for digest in self.ledger.listed_digests()}

    def known(self) -> CatalogueSet:
        return _catalogues(tuple(self.editions))

    def _committed(self, plan: Plan, refused: str, receipt: Receipt | None) -> None:
        batch = receipt.batch if receipt is not None else 0
        try:
            self.model.commit(plan, self.clock.now, batch)
        except Outdated:
            assert refused == "IMPORT_OUTDATED"
            return
        assert refused == ""
        assert receipt is not None
        assert (receipt.state, receipt.revision) == (ImportState.COMMITTED, self.model.revision)

    def _run(self, act: Any) -> tuple[str, Receipt | None]:
        """Run an act of the service; return the name of its refusal, or the receipt."""
        try:
            return "", self.world.loop.run_until_complete(act)
        except Refused as error:
            return error.reason, None

    def close(self) -> None:
        self.ledger.close()

    def teardown(self) -> None:
        try:
            self.follow()
            self.whole()
        finally:
            self.close()
            shutil.rmtree(self.state)


def named(entry: Entry) -> tuple[str, ...]:
    """The identifiers of a listing."""
    first = f"{entry.said['id_kind']}:{entry.said['id_number']}"
    return (first, *filter(None, entry.said["other_ids"].split(";")))


def concerned(entry: Entry, text: str) -> bool:
    """Whether whoever asks for an identifier finds the listing: an organisation code names its company, too."""
    same = IDENTIFIERS[text].key
    return text in named(entry) or any(
        IDENTIFIERS[each].key == same and IDENTIFIERS[each].kind is not IDENTIFIERS[text].kind for each in named(entry)
    )


@functools.lru_cache(maxsize=16)
def _catalogues(editions: tuple[Any, ...]) -> CatalogueSet:
    return CatalogueSet.of(editions)


async def _nothing(revision: int) -> None:
    del revision


async def _no_bytes() -> AsyncIterator[bytes]:
    for each in ():
        yield each
