"""The hash tree over inquiry records in the ledger, and its checkpoints; see `domain.merkle`, `domain.checkpoints`.

The row of ``record_tree`` is held from before a record gets its place until the commit: places follow commit order and
have no gap, also where several hosts write.
"""

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from lanjie_gateway.adapters.ledger.tables import CHECKPOINT, HEAD, INQUIRY, RECORD_NODE, RECORD_TREE
from lanjie_gateway.domain.checkpoints import Checkpoint
from lanjie_gateway.domain.merkle import HASH_BYTES, Node, Range
from lanjie_gateway.domain.record_retention import ERASURE
from lanjie_gateway.domain.verification import KeptLeaf

STORED_LEVEL: Final = 8
"""Subtrees from this level on are kept; the smaller ones are made of their 256 leaves when a proof wants them."""
_BLOCK: Final = 1 << STORED_LEVEL


@dataclass(frozen=True, slots=True)
class TreeState:
    """The tree as the ledger says it is."""

    epoch: int
    size: int
    edge: bytes


def held(connection: sa.Connection) -> Range:
    """Return the tree, and hold it until the end of the transaction."""
    row = connection.execute(sa.select(RECORD_TREE).with_for_update()).one()
    return Range(row.size, _edge(row.edge))


def grow(connection: sa.Connection, tree: Range, digests: Sequence[bytes]) -> None:
    """Add leaves to a tree that is held."""
    nodes = [
        {"leaves": tree.size, "level": level, "hash": root}
        for digest in digests
        for level, root in tree.append(digest)
        if level >= STORED_LEVEL
    ]
    if nodes:
        connection.execute(RECORD_NODE.insert(), nodes)
    connection.execute(RECORD_TREE.update().values(size=tree.size, edge=b"".join(tree.edge)))


def state(connection: sa.Connection) -> TreeState:
    """Return the tree as the ledger says it is."""
    epoch = connection.execute(sa.select(HEAD.c.epoch)).scalar_one()
    row = connection.execute(sa.select(RECORD_TREE.c.size, RECORD_TREE.c.edge)).first()
    return TreeState(epoch, row.size, row.edge) if row else TreeState(epoch, 0, b"")


def leaves(connection: sa.Connection, start: int, most: int) -> list[KeptLeaf]:
    """Return records in the order of their places, from a place on."""
    query = sa.select(INQUIRY).where(INQUIRY.c.tree_index >= start).order_by(INQUIRY.c.tree_index).limit(most)
    return [leaf_of(row) for row in connection.execute(query)]


def erasures(connection: sa.Connection, start: int) -> list[KeptLeaf]:
    """Return the records of erasures from a place on."""
    told = sa.select(INQUIRY).where(INQUIRY.c.tree_index >= start, INQUIRY.c.kind == ERASURE)
    return [leaf_of(row) for row in connection.execute(told.order_by(INQUIRY.c.tree_index))]


def leaf_of(row: Any) -> KeptLeaf:
    """Return the record of a row of the table."""
    return KeptLeaf(
        index=row.tree_index,
        source=row.source,
        columns=(
            *(row.sequence, row.decision_id, row.decided_at, row.department),
            *(row.matter, row.outcome, row.kind, row.subject_token),
        ),
        record=_bytes(row.record),
        digest=_bytes(row.digest),
    )


def _bytes(value: bytes | str) -> bytes:
    # SQLite keeps in a column whatever somebody put there by hand, and that is to be told and no error.
    return value.encode() if isinstance(value, str) else value


def unplaced(connection: sa.Connection) -> int:
    """Return how many records have no place in the tree, or none that a tree has."""
    none = INQUIRY.c.tree_index.is_(None) | (INQUIRY.c.tree_index < 0)
    return int(connection.execute(sa.select(sa.func.count()).select_from(INQUIRY).where(none)).scalar_one())


def digests(connection: sa.Connection, start: int, end: int) -> list[bytes]:
    """Return the digests of the records from one place up to another."""
    found = sa.select(INQUIRY.c.digest).where(INQUIRY.c.tree_index >= start, INQUIRY.c.tree_index < end)
    return [row.digest for row in connection.execute(found.order_by(INQUIRY.c.tree_index))]


def place_of(connection: sa.Connection, digest: bytes) -> int | None:
    """Return the first place of a record with a digest; reads the whole table."""
    return connection.execute(sa.select(sa.func.min(INQUIRY.c.tree_index)).where(INQUIRY.c.digest == digest)).scalar()


def nodes_of(connection: sa.Connection) -> Node:
    """Return what gives the complete subtrees of the ledger; good for one transaction.

    It raises `LookupError` where the ledger lacks what makes one.
    """
    blocks: dict[int, list[bytes]] = {}

    def node(level: int, place: int) -> bytes:
        if level >= STORED_LEVEL:
            end = place + 1 << level
            at = sa.select(RECORD_NODE.c.hash).where(RECORD_NODE.c.leaves == end, RECORD_NODE.c.level == level)
            found = connection.execute(at).scalar()
            if found is None:
                raise LookupError(f"no subtree of level {level} that ends at {end}")
            return bytes(found)
        start = place << level
        block = start // _BLOCK
        if block not in blocks:
            if len(blocks) > 2:  # a proof wants the block of a leaf and the last one
                blocks.clear()
            blocks[block] = digests(connection, block * _BLOCK, (block + 1) * _BLOCK)
        within = start - block * _BLOCK
        return _root(blocks[block][within : within + (1 << level)], 1 << level)

    return node


def kept_nodes(connection: sa.Connection, start: int, end: int) -> dict[tuple[int, int], bytes]:
    """Return the subtrees that are kept and end behind a place, up to another, by (number of records, level)."""
    some = sa.select(RECORD_NODE).where(RECORD_NODE.c.leaves > start, RECORD_NODE.c.leaves <= end)
    return {(row.leaves, row.level): row.hash for row in connection.execute(some)}


def checkpoints(connection: sa.Connection, after: tuple[int, int], most: int) -> list[Any]:
    """Return rows (epoch, size, note) of checkpoints behind one, in order."""
    behind = sa.tuple_(CHECKPOINT.c.epoch, CHECKPOINT.c.size) > sa.tuple_(*after)
    query = sa.select(CHECKPOINT).where(behind).order_by(CHECKPOINT.c.epoch, CHECKPOINT.c.size).limit(most)
    return list(connection.execute(query))


def last_place(connection: sa.Connection) -> tuple[int, int]:
    """Return epoch and size that the last checkpoint is kept under; (0, -1) for none."""
    epoch = connection.execute(sa.select(sa.func.max(CHECKPOINT.c.epoch))).scalar()
    if epoch is None:
        return 0, -1
    size = connection.execute(sa.select(sa.func.max(CHECKPOINT.c.size)).where(CHECKPOINT.c.epoch == epoch))
    return epoch, size.scalar_one()


def newest_checkpoint(connection: sa.Connection, at_most: int | None = None) -> str | None:
    """Return the note of the newest checkpoint, or of the newest with at most so many records."""
    query = sa.select(CHECKPOINT.c.note).order_by(CHECKPOINT.c.epoch.desc(), CHECKPOINT.c.size.desc()).limit(1)
    if at_most is not None:
        query = query.where(CHECKPOINT.c.size <= at_most)
    return connection.execute(query).scalar()


def signed_by(connection: sa.Connection, until: datetime.datetime, opened: Callable[[str], Checkpoint]) -> int:
    """Return how many records a checkpoint of an instant, or one before it, vouches for; 0 for none.

    Args:
        connection: of the ledger.
        until: aware instant.
        opened: reads a signed note; raises `NoteError` for one that is none.
    """
    found, low, high = 0, 0, state(connection).size
    while low < high:
        middle = (low + high + 1) // 2
        note = newest_checkpoint(connection, at_most=middle)
        made = opened(note) if note else None
        if made is None or made.at <= until:
            found, low = made.size if made else found, middle
        else:
            high = made.size - 1
    return found


def checkpoint(
    connection: sa.Connection,
    lineage: str,
    at: datetime.datetime,
    signed: Callable[[Checkpoint], str],
    *,
    restored: bool = False,
) -> str | None:
    """Sign the tree as it stands and keep the checkpoint; return its note, `None` where there is one already."""
    tree = held(connection)
    epoch = connection.execute(sa.select(HEAD.c.epoch)).scalar_one()
    mine = sa.select(sa.func.max(CHECKPOINT.c.size)).where(CHECKPOINT.c.epoch == epoch)
    newest = connection.execute(mine).scalar()
    if newest is not None and newest >= tree.size:
        return None
    made = Checkpoint(origin=lineage, size=tree.size, root=tree.root(), epoch=epoch, at=at, restored=restored)
    note = signed(made)
    connection.execute(CHECKPOINT.insert().values(epoch=epoch, size=tree.size, note=note))
    return note


def _edge(joined: bytes) -> list[bytes]:
    return [joined[place : place + HASH_BYTES] for place in range(0, len(joined), HASH_BYTES)]


def _root(hashes: list[bytes], wanted: int) -> bytes:
    if len(hashes) != wanted:
        raise LookupError("records are missing")
    tree = Range()
    for each in hashes:
        tree.append(each)
    return tree.root()
