"""Tiles: names, entry bundles, writing and reading back, full tiles never rewritten."""

import errno
import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence.disk import Disk
from evidence.errors import RecoveryError, StoreError
from evidence.merkle import RightEdge, hash_leaf, root_of
from evidence.tiles import MAX_UNWRITTEN, TileReader, TileWriter, decode_entries, encode_entries, tile_path


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((0, 0), "tile/0/000"),
        ((0, 1234067), "tile/0/x001/x234/067"),
        ((2, 999, 7), "tile/2/999.p/7"),
        (("entries", 1000, 255), "tile/entries/x001/000.p/255"),
        ((63, 256_000_000), "tile/63/x256/x000/000"),
    ],
)
def test_names(arguments, expected):
    assert tile_path(*arguments) == expected


@given(st.lists(st.binary(max_size=300), max_size=20), st.data())
def test_entry_bundles_round_trip_and_cut_ones_are_refused(leaves, data):
    encoded = encode_entries(leaves)
    assert list(decode_entries(encoded)) == leaves
    cut = data.draw(st.integers(0, len(encoded)))
    boundaries = {len(encode_entries(leaves[:count])) for count in range(len(leaves) + 1)}
    if cut in boundaries:
        assert encode_entries(decode_entries(encoded[:cut])) == encoded[:cut]
    else:
        with pytest.raises(StoreError):
            list(decode_entries(encoded[:cut]))


def write(path, leaves, checkpoints=(), disk=None):
    writer = TileWriter(path, disk or Disk(), RightEdge(), [])
    stops = sorted({size for size in checkpoints if size < len(leaves)} | {len(leaves)})
    for start, stop in itertools.pairwise([0, *stops]):
        writer.add(leaves[start:stop], [hash_leaf(leaf) for leaf in leaves[start:stop]])
        writer.publish_partial()
    return writer


def read_files(path):
    return {file.relative_to(path): file.read_bytes() for file in path.rglob("*") if file.is_file()}


@given(st.lists(st.integers(0, 700), max_size=6))
def test_leaves_may_come_in_any_portions(tmp_path_factory, portions):
    leaves = [b"%d" % number for number in range(sum(portions))]
    whole, parts = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("parts")
    write(whole, leaves)
    writer, start = TileWriter(parts, Disk(), RightEdge(), []), 0
    for count in portions:
        portion = leaves[start : start + count]
        writer.add(portion, [hash_leaf(leaf) for leaf in portion])
        start += count
    writer.publish_partial()
    assert read_files(parts) == read_files(whole)


class NotedDisk(Disk):
    """A disk that notes what is done to files, and fails at the sync with this number."""

    def __init__(self, failing_sync=0):
        self.done, self.syncs, self.failing_sync = [], 0, failing_sync

    def sync_data(self, descriptor):
        self.syncs += 1
        if self.syncs == self.failing_sync:
            raise OSError(errno.EIO, "injected")
        self.done.append("sync")
        super().sync_data(descriptor)

    def replace(self, source, target):
        self.done.append("name")
        super().replace(source, target)


def test_no_tile_has_its_name_before_its_bytes_are_durable(tmp_path):
    disk = NotedDisk()
    write(tmp_path, [b"x"] * 256 * 40, disk=disk)
    assert disk.done == ["sync"] * MAX_UNWRITTEN + ["name"] * MAX_UNWRITTEN + ["sync"] * 17 + ["name"] * 17


@pytest.mark.parametrize("failing_sync", [1, 2, 3, 5])
def test_a_sync_that_fails_leaves_no_name_and_no_descriptor(tmp_path, failing_sync):
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(OSError, match="injected"):
        write(tmp_path, [b"x"] * 600, disk=NotedDisk(failing_sync))
    assert [path.name for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".tmp"] == []
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 1000, 65_536, 66_000])
def test_written_tiles_give_back_leaves_edge_and_root(tmp_path, size):
    leaves = [b"%d" % number for number in range(size)]
    writer = write(tmp_path, leaves, checkpoints={1, 300, 700})
    reader = TileReader(tmp_path)
    assert reader.edge(size, size).root() == writer.edge.root() == root_of([hash_leaf(leaf) for leaf in leaves])
    for smaller in {0, size // 2, max(0, size - 1), size - size % 256}:
        assert reader.edge(smaller, size).root() == root_of([hash_leaf(leaf) for leaf in leaves[:smaller]])
    read = [leaf for bundle in range(-(-size // 256)) for leaf in reader.leaves(bundle, min(256, size - bundle * 256))]
    assert read == leaves


def test_partial_tiles_go_once_the_full_one_is_there(tmp_path):
    write(tmp_path, [b"x"] * 300, checkpoints={5, 250})
    assert not (tmp_path / "tile/0/000.p").exists()
    assert not (tmp_path / "tile/entries/000.p").exists()
    assert [path.name for path in (tmp_path / "tile/0/001.p").iterdir()] == ["44"]
    assert not list(tmp_path.rglob("*.tmp"))


def test_publishing_again_changes_nothing(tmp_path):
    leaves = [b"%d" % number for number in range(300)]
    write(tmp_path, leaves)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    write(tmp_path, leaves)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["tile/0/000", "tile/entries/000", "tile/1/000.p/1", "tile/entries/001.p/44"])
def test_other_bytes_under_a_published_name_are_refused(tmp_path, name):
    leaves = [b"%d" % number for number in range(300)]
    write(tmp_path, leaves)
    tile = tmp_path / name
    tile.write_bytes(bytes([tile.read_bytes()[0] ^ 1]) + tile.read_bytes()[1:])
    with pytest.raises(RecoveryError, match="other bytes"):
        write(tmp_path, leaves)


def test_missing_and_short_tiles(tmp_path):
    write(tmp_path, [b"x"] * 300)
    reader = TileReader(tmp_path)
    with pytest.raises(StoreError, match="missing"):
        reader.hashes(0, 2, 10)
    (tmp_path / "tile/0/000").write_bytes(b"x" * 33)
    with pytest.raises(StoreError, match="length"):
        reader.hashes(0, 0, 1)
    (tmp_path / "tile/entries/000").write_bytes(encode_entries([b"x"] * 3))
    with pytest.raises(StoreError, match="3 of 256"):
        reader.leaves(0)
