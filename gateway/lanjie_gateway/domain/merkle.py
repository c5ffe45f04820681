"""The hash tree over inquiry records (Art. 39, 43, 61): RFC 6962, SHA-256.

The tree of ``n`` leaves is never held: appending needs its *edge*, the roots of its complete subtrees from the largest
to the smallest (`Range`), and a proof needs the roots of some complete subtrees, which are asked for by level and place
(`Node`): level 0 are the leaves, and the subtree at (level, place) has the leaves from ``place << level`` on.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Final

HASH_BYTES: Final = 32
EMPTY: Final = hashlib.sha256(b"").digest()
"""Root of the tree without a leaf."""

Node = Callable[[int, int], bytes]
"""Gives the root of the complete subtree at (level, place)."""


def leaf_hash(leaf: bytes) -> bytes:
    """Return the hash of a leaf."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Range:
    """A tree that grows: its size and its edge.

    Args:
        size: number of leaves.
        edge: roots of its complete subtrees, the largest first.
    """

    def __init__(self, size: int = 0, edge: Iterable[bytes] = ()) -> None:
        self.size = size
        self.edge = list(edge)
        if len(self.edge) != size.bit_count():
            raise ValueError("the edge of a tree has a root for each bit of its size")

    @classmethod
    def at(cls, size: int, node: Node) -> "Range":
        """Return the tree of `size` leaves from its complete subtrees."""
        edge, start = [], 0
        for level in reversed(range(size.bit_length())):
            if size >> level & 1:
                edge.append(node(level, start >> level))
                start += 1 << level
        return cls(size, edge)

    def append(self, leaf: bytes) -> list[tuple[int, bytes]]:
        """Add a leaf by its hash; return (level, root) of every subtree above it that is complete now."""
        completed = []
        place, level, root = self.size, 0, leaf
        while place & 1:
            root = node_hash(self.edge.pop(), root)
            place >>= 1
            level += 1
            completed.append((level, root))
        self.edge.append(root)
        self.size += 1
        return completed

    def root(self) -> bytes:
        """Return the root."""
        if not self.edge:
            return EMPTY
        root = self.edge[-1]
        for left in reversed(self.edge[:-1]):
            root = node_hash(left, root)
        return root


def subtree(start: int, end: int, node: Node) -> bytes:
    """Return the root over the leaves of a range that begins where a subtree of its size may begin."""
    size = end - start
    if size.bit_count() == 1:
        level = size.bit_length() - 1
        return node(level, start >> level)
    middle = start + _split(size)
    return node_hash(subtree(start, middle, node), subtree(middle, end, node))


def inclusion(index: int, size: int, node: Node) -> list[bytes]:
    """Return the proof that the leaf at `index` is in the tree of `size` leaves."""
    if not 0 <= index < size:
        raise ValueError("no such leaf")
    start, end, path = 0, size, []
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(subtree(middle, end, node))
            end = middle
        else:
            path.append(subtree(start, middle, node))
            start = middle
    return path[::-1]


def consistency(old: int, size: int, node: Node) -> list[bytes]:
    """Return the proof that the tree of `old` leaves is the beginning of the one of `size` leaves."""
    if not 0 <= old <= size:
        raise ValueError("no such earlier tree")
    if old in (0, size):
        return []
    start, end, path = 0, size, []
    while old != end:
        middle = start + _split(end - start)
        if old <= middle:
            path.append(subtree(middle, end, node))
            end = middle
        else:
            path.append(subtree(start, middle, node))
            start = middle
    if start:
        path.append(subtree(start, end, node))
    return path[::-1]


def root_of_inclusion(index: int, size: int, leaf: bytes, proof: Sequence[bytes]) -> bytes | None:
    """Return the root that a proof of inclusion leads to; `None` where it is no proof (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return None
    place, last, root = index, size - 1, leaf
    for step in proof:
        if not last:
            return None
        if place & 1 or place == last:
            root = node_hash(step, root)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            root = node_hash(root, step)
        place, last = place >> 1, last >> 1
    return None if last else root


def is_consistent(old: int, size: int, old_root: bytes, root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether a proof shows that one tree is the beginning of another (RFC 9162, 2.1.4.2)."""
    if not 0 <= old <= size:
        return False
    if old in (0, size):
        return not proof and (old_root == root if old else old_root == EMPTY)
    path = [old_root, *proof] if old.bit_count() == 1 else list(proof)
    if not path:
        return False
    place, last = old - 1, size - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    before = after = path[0]
    for step in path[1:]:
        if not last:
            return False
        if place & 1 or place == last:
            before, after = node_hash(step, before), node_hash(step, after)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            after = node_hash(after, step)
        place, last = place >> 1, last >> 1
    return not last and before == old_root and after == root


def _split(size: int) -> int:
    """Return the largest power of two below `size`."""
    return 1 << (size - 1).bit_length() - 1
