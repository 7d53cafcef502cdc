"""The Merkle tree of RFC 6962, section 2.1: leaf and node hashes, roots of growing trees, inclusion and consistency proofs.

All hashes are SHA-256, 32 bytes. Nothing here reads files or clocks; proofs take a function that returns the hash of a
perfect subtree, so that they work over tiles, lists or a network alike.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from evidence.errors import ProofError

EMPTY_ROOT: Final = hashlib.sha256(b"").digest()
"""Root of the tree without leaves."""

HASH_BYTES: Final = 32
TILE_HEIGHT: Final = 8
TILE_WIDTH: Final = 1 << TILE_HEIGHT
"""A full tile covers this many nodes (C2SP tlog-tiles)."""

Subtree = Callable[[int, int], bytes]
"""(level, index) -> hash of the perfect subtree over leaves [index << level, (index + 1) << level)."""


def hash_leaf(data: bytes) -> bytes:
    """The hash of one leaf: SHA-256(0x00 || data)."""
    return hashlib.sha256(b"\x00" + data).digest()


def hash_node(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node: SHA-256(0x01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def hash_perfect(nodes: Sequence[bytes]) -> bytes:
    """The hash over a power of two of sibling nodes."""
    sha256 = hashlib.sha256
    level = nodes
    while len(level) > 1:
        level = [sha256(b"\x01" + level[i] + level[i + 1]).digest() for i in range(0, len(level), 2)]
    return level[0]


def root_of(leaf_hashes: Sequence[bytes]) -> bytes:
    """The root over leaf hashes held in memory."""
    edge = RightEdge()
    for leaf_hash in leaf_hashes:
        edge.append(leaf_hash)
    return edge.root()


class RightEdge:
    """The nodes of a growing tree that are not yet inside a full tile: what appending and computing the root need.

    `levels[L]` holds the hashes of tile level L (each over 256^L leaves) that do not yet fill a tile: fewer than 256.
    """

    def __init__(self, size: int = 0, levels: Iterable[Iterable[bytes]] = ()) -> None:
        self.size = size
        self.levels: list[list[bytes]] = [list(level) for level in levels]
        if not self.levels:
            self.levels.append([])

    def append(self, leaf_hash: bytes) -> list[tuple[int, int, list[bytes]]]:
        """Add one leaf and return the tiles it filled as (tile level, tile index, 256 hashes), lowest level first."""
        return self.extend((leaf_hash,))

    def extend(self, leaf_hashes: Sequence[bytes]) -> list[tuple[int, int, list[bytes]]]:
        """The same for several leaves, at most as many as the last tile has room for."""
        self.size += len(leaf_hashes)
        level = self.levels[0]
        level.extend(leaf_hashes)
        if len(level) > TILE_WIDTH:
            raise ValueError(f"a tile has room for {TILE_WIDTH} hashes, not for {len(level)}")
        return [] if len(level) < TILE_WIDTH else self._carry()

    def _carry(self) -> list[tuple[int, int, list[bytes]]]:
        filled: list[tuple[int, int, list[bytes]]] = []
        level = 0
        while len(self.levels[level]) == TILE_WIDTH:
            hashes = self.levels[level]
            filled.append((level, (self.size >> (TILE_HEIGHT * (level + 1))) - 1, hashes))
            self.levels[level] = []
            level += 1
            if level == len(self.levels):
                self.levels.append([])
            self.levels[level].append(hash_perfect(hashes))
        return filled

    def root(self) -> bytes:
        """The root of the tree as it stands."""
        if self.size == 0:
            return EMPTY_ROOT
        peaks: list[bytes] = []
        for hashes in reversed(self.levels):
            start = 0
            while start < len(hashes):
                width = 1 << ((len(hashes) - start).bit_length() - 1)
                peaks.append(hash_perfect(hashes[start : start + width]))
                start += width
        accumulated = peaks.pop()
        while peaks:
            accumulated = hash_node(peaks.pop(), accumulated)
        return accumulated

    def copy(self) -> RightEdge:
        """An independent edge of the same tree."""
        return RightEdge(self.size, self.levels)


def root_at(size: int, subtree: Subtree) -> bytes:
    """The root of the first `size` leaves, from hashes of perfect subtrees."""
    return EMPTY_ROOT if size == 0 else _range_hash(0, size, subtree)


def prove_inclusion(index: int, size: int, subtree: Subtree) -> list[bytes]:
    """The audit path of leaf `index` in the tree of `size` leaves (RFC 6962, 2.1.1), nearest sibling first."""
    if not 0 <= index < size:
        raise ProofError(f"leaf {index} is not in a tree of {size}", fix="ask for an index below the tree size")
    path: list[bytes] = []
    low, high = 0, size
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            path.append(_range_hash(middle, high, subtree))
            high = middle
        else:
            path.append(_range_hash(low, middle, subtree))
            low = middle
    path.reverse()
    return path


def verify_inclusion(index: int, size: int, leaf_hash: bytes, path: Sequence[bytes], root: bytes) -> None:
    """Check that a leaf lies at `index` in the tree with this size and root (RFC 9162, 2.1.3.2).

    Raises:
        ProofError: it does not, or the path has the wrong length.
    """
    if not 0 <= index < size:
        raise ProofError(f"leaf {index} is not in a tree of {size}", fix="do not trust this proof")
    node, last = index, size - 1
    computed = leaf_hash
    for sibling in path:
        if last == 0:
            raise ProofError("an inclusion proof is longer than its tree is deep", fix="do not trust this proof")
        if node & 1 or node == last:
            computed = hash_node(sibling, computed)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            computed = hash_node(computed, sibling)
        node, last = node >> 1, last >> 1
    if last or computed != root:
        raise ProofError(f"leaf {index} is not in the tree of {size} with this root", fix="do not trust this proof")


def prove_consistency(old_size: int, new_size: int, subtree: Subtree) -> list[bytes]:
    """The proof that the tree of `new_size` leaves starts with the tree of `old_size` (RFC 6962, 2.1.2)."""
    if not 0 < old_size <= new_size:
        raise ProofError(f"no consistency proof leads from {old_size} to {new_size} leaves", fix="use 0 < old <= new")
    path: list[bytes] = []
    low, high = 0, new_size
    whole = True
    while old_size != high:
        middle = low + _split(high - low)
        if old_size <= middle:
            path.append(_range_hash(middle, high, subtree))
            high = middle
        else:
            path.append(_range_hash(low, middle, subtree))
            low = middle
            whole = False
    if not whole:
        path.append(_range_hash(low, high, subtree))
    path.reverse()
    return path


def verify_consistency(old_size: int, old_root: bytes, new_size: int, new_root: bytes, path: Sequence[bytes]) -> None:
    """Check that the newer tree only grew out of the older one (RFC 9162, 2.1.4.2).

    Raises:
        ProofError: it did not, or the path has the wrong length.
    """
    refused = ProofError(f"the tree of {new_size} does not continue the tree of {old_size}", fix="treat the log as forked")
    if old_size == new_size:
        if path or old_root != new_root:
            raise refused
        return
    if not 0 < old_size < new_size or not path:
        raise refused
    rest = list(path) if old_size & (old_size - 1) else [old_root, *path]
    node, last = old_size - 1, new_size - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    old = new = rest[0]
    for sibling in rest[1:]:
        if last == 0:
            raise refused
        if node & 1 or node == last:
            old, new = hash_node(sibling, old), hash_node(sibling, new)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            new = hash_node(new, sibling)
        node, last = node >> 1, last >> 1
    if last or old != old_root or new != new_root:
        raise refused


def _split(width: int) -> int:
    """The largest power of two smaller than `width`: where RFC 6962 splits a range."""
    return 1 << ((width - 1).bit_length() - 1)


def _range_hash(low: int, high: int, subtree: Subtree) -> bytes:
    """Hash over leaves [low, high), where `low` is a multiple of the largest power of two not above the width."""
    width = high - low
    if width & (width - 1) == 0:
        level = width.bit_length() - 1
        return subtree(level, low >> level)
    middle = low + _split(width)
    return hash_node(_range_hash(low, middle, subtree), _range_hash(middle, high, subtree))
