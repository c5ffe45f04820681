"""The tree against the recursive definitions of RFC 6962, written down here a second time."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanjie_gateway.domain.merkle import (
    EMPTY,
    Range,
    consistency,
    inclusion,
    is_consistent,
    leaf_hash,
    node_hash,
    root_of_inclusion,
    subtree,
)


def mth(leaves):
    """RFC 6962, 2.1."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return hashlib.sha256(b"\1" + mth(leaves[:k]) + mth(leaves[k:])).digest()


def path(m, leaves):
    """RFC 6962, 2.1.1."""
    if len(leaves) == 1:
        return []
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    if m < k:
        return [*path(m, leaves[:k]), mth(leaves[k:])]
    return [*path(m - k, leaves[k:]), mth(leaves[:k])]


def subproof(m, leaves, whole):
    """RFC 6962, 2.1.2."""
    if m == len(leaves):
        return [] if whole else [mth(leaves)]
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    if m <= k:
        return [*subproof(m, leaves[:k], whole), mth(leaves[k:])]
    return [*subproof(m - k, leaves[k:], False), mth(leaves[:k])]


LEAVES = [b"%d" % number for number in range(70)]


def node(level, place):
    return mth(LEAVES[place << level : (place + 1) << level])


def test_the_edge_of_every_size_gives_its_root_and_the_subtrees():
    tree = Range()
    assert tree.root() == EMPTY == mth([])
    for size, leaf in enumerate(LEAVES, 1):
        for level, root in tree.append(leaf_hash(leaf)):
            assert root == node(level, (size >> level) - 1)
        assert tree.root() == mth(LEAVES[:size]) == subtree(0, size, node)
        assert Range.at(size, node).edge == tree.edge
    with pytest.raises(ValueError, match="edge"):
        Range(3, [b"x"])


@given(st.data())
def test_proofs_are_those_of_the_definition_and_nothing_else_is_one(data):
    size = data.draw(st.integers(1, len(LEAVES)))
    index = data.draw(st.integers(0, size - 1))
    old = data.draw(st.integers(0, size))
    root = mth(LEAVES[:size])
    proof = inclusion(index, size, node)
    assert proof == path(index, LEAVES[:size])
    assert root_of_inclusion(index, size, leaf_hash(LEAVES[index]), proof) == root
    between = consistency(old, size, node)
    assert between == (subproof(old, LEAVES[:size], True) if old else [])
    assert is_consistent(old, size, mth(LEAVES[:old]), root, between)
    for wrong in (proof[:-1], [*proof, root], [node_hash(each, each) for each in proof]):
        if wrong != proof:
            assert root_of_inclusion(index, size, leaf_hash(LEAVES[index]), wrong) != root
    if between:
        broken = data.draw(st.integers(0, len(between) - 1))
        assert not is_consistent(old, size, mth(LEAVES[:old]), root, [*between[:broken], EMPTY, *between[broken + 1 :]])
        assert not is_consistent(old, size, EMPTY, root, between)
        assert not is_consistent(old, size, mth(LEAVES[:old]), root, [*between, EMPTY])
    assert is_consistent(old, size, mth(LEAVES[:old]), EMPTY, between) is (old == 0)


@pytest.mark.parametrize(("index", "size"), [(0, 0), (3, 3), (-1, 2)])
def test_what_is_not_in_a_tree_has_no_proof(index, size):
    with pytest.raises(ValueError, match="no such"):
        inclusion(index, size, node)
    assert root_of_inclusion(index, size, EMPTY, []) is None
