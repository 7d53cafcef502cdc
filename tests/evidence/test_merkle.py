"""The Merkle tree against RFC 6962's own recursive definition."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence.errors import ProofError
from evidence.merkle import (
    EMPTY_ROOT,
    RightEdge,
    hash_leaf,
    hash_node,
    hash_perfect,
    prove_consistency,
    prove_inclusion,
    root_at,
    root_of,
    verify_consistency,
    verify_inclusion,
)

LEAVES = [hash_leaf(str(number).encode()) for number in range(1200)]
SIZES = st.integers(1, len(LEAVES))


def reference_root(leaves):
    """MTH of RFC 6962, section 2.1, word for word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hash_node(reference_root(leaves[:split]), reference_root(leaves[split:]))


def subtree(level, index):
    return hash_perfect(LEAVES[index << level : (index + 1) << level])


def test_rfc_6962_constants():
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert hash_leaf(b"").hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    # Root of the eight leaves of the Certificate Transparency test data.
    data = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
    root = root_of([hash_leaf(bytes.fromhex(text)) for text in data])
    assert root.hex() == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"


@given(SIZES)
def test_growing_root_is_the_reference_root(size):
    assert root_of(LEAVES[:size]) == reference_root(LEAVES[:size]) == root_at(size, subtree)


def test_filled_tiles_are_reported_once_and_in_order():
    edge = RightEdge()
    filled = [(level, index, hashes) for leaf in LEAVES for level, index, hashes in edge.append(leaf)]
    assert [(level, index) for level, index, _ in filled] == [(0, 0), (0, 1), (0, 2), (0, 3)]
    assert all(hashes == LEAVES[index * 256 : index * 256 + 256] for _, index, hashes in filled)
    large = RightEdge()
    tiles = [(level, index) for _ in range(65536) for level, index, _ in large.append(LEAVES[0])]
    assert tiles[-2:] == [(0, 255), (1, 0)]
    assert len(tiles) == 257
    assert large.levels == [[], [], [large.root()]]


def test_more_than_a_tile_has_room_for_is_an_error():
    edge = RightEdge()
    edge.extend(LEAVES[:200])
    with pytest.raises(ValueError, match="room for 256"):
        edge.extend(LEAVES[200:257])


@given(st.data())
def test_inclusion_proofs_hold_and_nothing_else_does(data):
    size = data.draw(SIZES)
    index = data.draw(st.integers(0, size - 1))
    root = reference_root(LEAVES[:size])
    path = prove_inclusion(index, size, subtree)
    verify_inclusion(index, size, LEAVES[index], path, root)
    broken = data.draw(st.sampled_from(["leaf", "index", "root", "short", "long", "flip"]))
    arguments = {
        "leaf": (index, size, hash_leaf(b"other"), path, root),
        "index": (index + 1, size, LEAVES[index], path, root),
        "root": (index, size, LEAVES[index], path, hash_leaf(b"other")),
        "short": (index, size, LEAVES[index], path[:-1] if path else [root], root),
        "long": (index, size, LEAVES[index], [*path, root], root),
        "flip": (index, size, LEAVES[index], [*path[:-1], hash_leaf(b"other")], root),
    }[broken]
    with pytest.raises(ProofError):
        verify_inclusion(*arguments)


@given(st.data())
def test_consistency_proofs_hold_and_nothing_else_does(data):
    new_size = data.draw(SIZES)
    old_size = data.draw(st.integers(1, new_size))
    old_root, new_root = reference_root(LEAVES[:old_size]), reference_root(LEAVES[:new_size])
    path = prove_consistency(old_size, new_size, subtree)
    verify_consistency(old_size, old_root, new_size, new_root, path)
    other = hash_leaf(b"other")
    for arguments in (
        (old_size, other, new_size, new_root, path),
        (old_size, old_root, new_size, other, path),
        (old_size, old_root, new_size, new_root, [*path, other]),
        (old_size, old_root, new_size, new_root, [*path[:-1], other]),
    ):
        with pytest.raises(ProofError):
            verify_consistency(*arguments)


@pytest.mark.parametrize(("index", "size"), [(-1, 5), (5, 5), (0, 0)])
def test_inclusion_outside_the_tree(index, size):
    with pytest.raises(ProofError):
        prove_inclusion(index, size, subtree)
    with pytest.raises(ProofError):
        verify_inclusion(index, size, LEAVES[0], [], LEAVES[0])


@pytest.mark.parametrize(("old", "new"), [(0, 5), (6, 5)])
def test_consistency_outside_the_tree(old, new):
    with pytest.raises(ProofError):
        prove_consistency(old, new, subtree)
    with pytest.raises(ProofError):
        verify_consistency(old, LEAVES[0], new, LEAVES[1], [])
