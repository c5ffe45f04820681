"""The small world of the model of the ledger: its subjects, rows, days and people, and a ledger file to begin with.

One SQLite engine serves a whole run: "open" connects it to the file of the example, "close" closes that connection. Its
statements are compiled once and not for every example; files, connections and commits are real.
"""

import asyncio
import contextlib
import dataclasses
import datetime
import functools
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import strategies as st

from lanjie_gateway.adapters.ledger import Ledger, database
from lanjie_gateway.adapters.list_parser import _Maker
from lanjie_gateway.domain import import_rules
from lanjie_gateway.domain.events import EventKind
from lanjie_gateway.domain.list_file import FileRules, ListTypeRule, RowRefused, read_row
from lanjie_gateway.services.imports import ImportService, _Work
from lanjie_matcher.catalogues import CatalogueSet, Edition
from lanjie_matcher.identifiers import parse
from lanjie_matcher.listings import EndsWith
from tests.support.core import citizen, org_code, uscc
from tests.support.ledger import open_ledger
from tests.support.ledger_model import ADDED, ALTERED, BAD, FLOOR, KINDS, Entry, Model, Row

SHM = Path("/dev/shm")
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


def row_of(op: str, key: tuple[str, str], party: str, place: tuple[str, str], said: tuple[int, str, str]) -> Row:
    """A row: `key` are record and decision, `place` list type and source, `said` which dates, version and reason."""
    kind, _, number = PARTIES[party][0].partition(":")
    cells = {"op": op, "id_kind": kind, "id_number": number, "other_ids": ";".join(PARTIES[party][1:])}
    named = {"source_record_id": key[0], "decision_no": key[1], "list_type": place[0], "source": place[1]}
    return {**_EMPTY, **DATES[said[0]], **cells, **named, "source_version": said[1], "reason": said[2]}


KEYS = (("1", ""), ("2", ""), ("3", "7"), ("", "1"), ("", "2"), ("", ""))
PLACES = tuple((code, source) for code in TYPES for source in SOURCES)
rows = st.builds(
    row_of,
    st.sampled_from("IIIUD"),
    st.sampled_from(KEYS),
    st.sampled_from(sorted(PARTIES)),
    st.sampled_from(PLACES),
    st.tuples(st.integers(0, len(DATES) - 1), st.sampled_from(("", "1", "2", "10")), st.sampled_from(("", "x"))),
)
endings = st.tuples(
    st.fixed_dictionaries({code: st.sampled_from(list(EndsWith)) for code in TYPES}), st.sampled_from((0, 1, 10))
)
picks = st.integers(0, 99)
_LIKELY = [EventKind.REMOVED, EventKind.REINSTATED, EventKind.STAYED, EventKind.STAY_LIFTED, EventKind.REVOKED]
kinds = st.sampled_from([*_LIKELY, *KINDS, EventKind.REINSTATED])
agos = st.sampled_from([None, *(datetime.timedelta(**ago) for ago in ({"minutes": 1}, {"hours": 2}, {"days": 2}))])
whens = st.one_of(st.none(), st.none(), st.sampled_from(EARLIER))
acts = st.tuples(picks, kinds, whens, st.integers(0, 2))
BURDENS = (EventKind.AMENDED, EventKind.STAY_LIFTED, EventKind.REINSTATED)
Order = tuple[int, EventKind, datetime.timedelta | None, int]
few: st.SearchStrategy[list[Order]] = st.lists(acts, max_size=2) | st.just([])
files = st.lists(rows, max_size=5)
people = st.sampled_from(PEOPLE)


class Inline:
    """Stands for the ledger's thread: calls are carried out where they are made."""

    def __init__(self, ledger: Callable[[], Ledger]) -> None:
        self._ledger = ledger

    @property
    def keys(self) -> Any:
        return self._ledger().keys

    async def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if function is Ledger.purge:
            return False  # a rule of its own
        return function(self._ledger(), *args, **kwargs)

    async def spare(self, _: float, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return await self.call(function, *args, **kwargs)


class Imports(ImportService):
    """The service of imports with the parser in this process. `meanwhile` happens before a file is settled."""

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
        source_as_of=datetime.date.fromordinal(order["source_as_of"]) if order["source_as_of"] else None,
    )
    for line, row in enumerate(some, first):
        try:
            good.append(maker.row(read_row(row, line, rules)))
        except RowRefused as error:
            bad.append((line, error.column, error.rule, str(error)))
    return tuple(good), tuple(bad)


@dataclasses.dataclass
class World:
    """What an example begins with: a directory to copy, what is in it, and what the feed has told of it."""

    root: Path
    engine: sa.Engine
    loop: asyncio.AbstractEventLoop
    model: Model = dataclasses.field(default_factory=Model)
    editions: list[Edition] = dataclasses.field(default_factory=list)
    mirror: dict[bytes, tuple[bytes, bool]] = dataclasses.field(default_factory=dict)

    @property
    def first(self) -> Path:
        return self.root / "first"


@contextlib.contextmanager
def empty_world() -> Iterator[World]:
    """Make a world with an empty ledger, in memory where that can be."""
    with contextlib.ExitStack() as stack:
        shm = Path("/dev/shm")
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else None)))
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        limits = {"ALTERED_SHARE": ALTERED, "ADDED_SHARE": ADDED, "ADDED_FLOOR": FLOOR, "BAD_SHARE": BAD}
        for name, value in limits.items():
            patch.setattr(import_rules, name, value)
        made = World(root, _engine(patch, root / "first"), asyncio.new_event_loop())
        stack.callback(made.loop.close)
        stack.callback(made.engine.dispose)
        yield made


FIRST = (
    row_of("I", ("", "1"), "company 1", ("TAX", "tax"), (0, "2", "")),
    row_of("I", ("1", ""), "company 2", ("TAX", "tax"), (2, "2", "")),
    row_of("I", ("2", ""), "company 2", ("WAGE", "court"), (5, "2", "")),
    row_of("I", ("3", ""), "companies 4 and 5", ("TAX", "court"), (1, "2", "")),
    row_of("I", ("4", ""), "person 1", ("TAX", "tax"), (4, "2", "")),
    row_of("I", ("5", ""), "company 3", ("TAX", "tax"), (3, "2", "")),
)
"""Who is listed at first."""


def _engine(patch: pytest.MonkeyPatch, first: Path) -> sa.Engine:
    """One engine for all files, and no look at their schema: they are copies of one that is made here."""
    first.mkdir()
    open_ledger(first).close()
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
def catalogues_of(editions: tuple[Edition, ...]) -> CatalogueSet:
    return CatalogueSet.of(editions)


async def nothing(revision: int) -> None:
    del revision


async def no_bytes() -> AsyncIterator[bytes]:
    none: tuple[bytes, ...] = ()
    for each in none:
        yield each
