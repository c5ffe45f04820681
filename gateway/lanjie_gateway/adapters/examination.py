"""Reading a ledger of inquiry records from one end to the other; see `domain.verification` for what is looked at.

`examine` asks for what it wants to read and is sent the answer, so that the same steps serve a running gateway, whose
ledger belongs to a thread of its own, and a database that nobody serves.
"""

import datetime
import functools
from collections.abc import Callable, Generator
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from lanjie_gateway.adapters.ledger import tree
from lanjie_gateway.adapters.record_files import RecordFiles
from lanjie_gateway.domain.checkpoints import Checkpoint, NoteError
from lanjie_gateway.domain.merkle import Range
from lanjie_gateway.domain.verification import Fault, Finding, Report, Source, Verifier

PAGE: Final = 500
_CHECKPOINTS: Final = 5_000
_LAST: Final = (1 << 63) - 1


class Wanted(NamedTuple):
    """What is to be read, and how far the examination is."""

    read: Callable[[sa.Connection], Any]
    done: int
    total: int


Examination = Generator[Wanted, Any, Report]


def examine(
    lineage: str,
    public: bytes,
    files: RecordFiles | None,
    *,
    clock: Callable[[], datetime.datetime],
    since: int = 0,
    witnessed: str = "",
) -> Examination:
    """Verify the records of a ledger.

    Args:
        lineage: of the ledger.
        public: raw Ed25519 key of its checkpoints.
        files: what was written down outside the database; `None` where that is not at hand.
        clock: aware instants.
        since: begin at the newest checkpoint of the ledger with at most so many records.
        witnessed: a checkpoint that a witness kept; empty for none.
    """
    # The files first: they are behind the ledger, never before it.
    written = files.written if files else 0
    logged = files.notes(since) if files else []
    state: tree.TreeState = yield Wanted(tree.state, 0, 0)
    begun, doubt = yield from _beginning(lineage, public, since, state.size)
    verifier = Verifier(
        origin=lineage,
        public=public,
        tree=begun,
        size=state.size,
        edge=state.edge,
        epoch=state.epoch,
        clock=clock,
        written=written,
    )
    if doubt:
        verifier.doubt(doubt)
    kept, ahead = yield from _claims(verifier, begun, state)
    for note in logged:
        verifier.claim(Source.LOG, note)
    if files and kept and not files.has_log:
        verifier.doubt(
            Finding(
                index=state.size,
                last=state.size,
                fault=Fault.FILE,
                text="checkpoints.log is gone: nothing outside the database vouches for it",
            )
        )
    if witnessed:
        verifier.claim(Source.WITNESS, witnessed)
    verifier.begin()
    yield from _read(verifier, begun, state, files)
    behind = yield Wanted(functools.partial(tree.leaves, start=state.size, most=1), state.size, state.size)
    now: tree.TreeState = yield Wanted(tree.state, state.size, state.size)
    if behind and now.size == state.size:
        verifier.feed(behind)
    if ahead > now.size:
        text = f"the ledger has a checkpoint of {ahead:,} records, and says it has {now.size:,}"
        verifier.doubt(Finding(index=now.size, last=ahead - 1, fault=Fault.TRUNCATED, text=text))
    # What was erased while the records were read is told behind them.
    for each in (yield Wanted(functools.partial(tree.erasures, start=state.size), state.size, state.size)):
        verifier.note_erasure(each.index, each.record)
    without = yield Wanted(tree.unplaced, state.size, state.size)
    if without:
        text = f"{without:,} records have no place in the tree"
        verifier.doubt(Finding(index=state.size, last=state.size, fault=Fault.INSERTED, text=text))
    wanted = verifier.unplaced()
    place = (yield Wanted(functools.partial(tree.place_of, digest=wanted), state.size, state.size)) if wanted else None
    return verifier.report(lambda _: place)


def _claims(verifier: Verifier, begun: Range, state: tree.TreeState) -> Generator[Wanted, Any, tuple[int, int]]:
    """Hand over the checkpoints of the ledger from the beginning on, and the first one of each epoch.

    There are millions of earlier ones after some years. Returns how many were handed over, and the size of the last one
    that came later.
    """
    kept, ahead = 0, 0
    for first in (yield Wanted(_first_of_epochs, begun.size, state.size)):
        rows = [first]
        while rows:
            for row in rows:
                # What came after the beginning of this examination is not of it.
                if row.size <= state.size or row.epoch != state.epoch:
                    verifier.claim(Source.LEDGER, row.note, (row.epoch, row.size))
                    kept += 1
                else:
                    ahead = row.size
            after = (first.epoch, max(rows[-1].size, begun.size - 1))
            found = yield Wanted(functools.partial(_checkpoints, after=after), begun.size, state.size)
            rows = [row for row in found if row.epoch == first.epoch]
    return kept, ahead


def _read(
    verifier: Verifier, begun: Range, state: tree.TreeState, files: RecordFiles | None
) -> Generator[Wanted, Any, None]:
    """Hand over the records."""
    while begun.size < state.size:
        at = begun.size
        leaves = yield Wanted(functools.partial(tree.leaves, start=at, most=PAGE), at, state.size)
        if not leaves:
            return
        within = [each for each in leaves if each.index < state.size]
        reach = (within[-1].index if within else state.size) - at + 2
        if within:
            verifier.feed(within, files.digests(at, reach) if files else b"")
            kept = yield Wanted(functools.partial(tree.kept_nodes, start=at, end=begun.size), begun.size, state.size)
            verifier.hold_nodes(kept, tree.STORED_LEVEL)
        else:
            return


def _beginning(
    lineage: str, public: bytes, since: int, size: int
) -> Generator[Wanted, Any, tuple[Range, Finding | None]]:
    """Return the tree at a checkpoint; the empty one, and why, where no signed one fits."""
    if since <= 0:
        return Range(), None
    note = yield Wanted(functools.partial(tree.newest_checkpoint, at_most=min(since, size)), 0, size)
    if note is None:
        return Range(), None
    try:
        checkpoint = Checkpoint.open(note, lineage, public)
        begun = yield Wanted(functools.partial(_tree_at, size=checkpoint.size), 0, size)
    except NoteError:
        # The whole is read, and says more.
        return Range(), None
    if begun is not None and begun.root() == checkpoint.root:
        return begun, None
    text = "the tree that the ledger keeps does not lead to its signed checkpoint"
    return Range(), Finding(index=0, last=max(checkpoint.size - 1, 0), fault=Fault.TREE, text=text)


def _tree_at(connection: sa.Connection, size: int) -> Range | None:
    try:
        return Range.at(size, tree.nodes_of(connection))
    except LookupError:
        return None


def _first_of_epochs(connection: sa.Connection) -> list[Any]:
    found: list[Any] = []
    while rows := tree.checkpoints(connection, (found[-1].epoch, _LAST) if found else (0, -1), 1):
        found += rows
    return found


def _checkpoints(connection: sa.Connection, after: tuple[int, int]) -> list[Any]:
    return tree.checkpoints(connection, after, _CHECKPOINTS)


def carry_out(examination: Examination, connection: sa.Connection, told: Callable[[int, int], None]) -> Report:
    """Examine a database over one connection.

    Args:
        examination: of `examine`.
        connection: to the database, at best one snapshot.
        told: hears (done, total) as it goes on.
    """
    try:
        wanted = next(examination)
        while True:
            told(wanted.done, wanted.total)
            wanted = examination.send(wanted.read(connection))
    except StopIteration as end:
        report: Report = end.value
        return report
