"""Tessera's stock `fsck` accepts the log, and notices what was changed."""

import subprocess
from pathlib import Path

import pytest

from evidence.disk import Disk
from evidence.merkle import RightEdge, hash_leaf
from evidence.note import Checkpoint, NoteSigner, encode_verifier_key
from evidence.tiles import TileWriter

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def fsck(tmp_path_factory):
    program = subprocess.run([ROOT / "tools/build", "fsck"], capture_output=True, text=True, check=True).stdout.strip()

    def run(log_path, log_key, origin, timeout_s=60):
        vkey = tmp_path_factory.mktemp("vkey") / "log.vkey"
        vkey.write_text(encode_verifier_key(origin, log_key.public_key()))
        command = [program, "--ui=false", "--storage_url", f"file://{log_path}/", "--public_key", str(vkey), "--origin", origin]
        try:
            # It exits 0 whatever it finds, and may hang on a changed bundle: only its own words count.
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout_s)
        except subprocess.TimeoutExpired:
            return "timeout"
        return done.stdout + done.stderr

    return run


@pytest.mark.timeout(300)
@pytest.mark.parametrize("size", [1, 255, 256, 257, 1000, 65_536, 66_000])
def test_fsck_accepts_tiles_of_any_size(fsck, tmp_path, log_key, size):
    writer = TileWriter(tmp_path, Disk(), RightEdge(), [])
    leaves = [b'{"seq":%d}' % number for number in range(size)]
    writer.add(leaves, [hash_leaf(leaf) for leaf in leaves])
    writer.publish_partial()
    (tmp_path / "checkpoint").write_bytes(NoteSigner("o", log_key).sign(Checkpoint("o", size, writer.edge.root()).text()))
    assert f"Successfully fsck'd log with size {size}" in fsck(tmp_path, log_key, "o")


@pytest.mark.timeout(300)
def test_fsck_accepts_a_log_written_across_restarts(fsck, open_log, log_path, log_key):
    for start in range(0, 70_000, 35_000):
        log = open_log()
        session = log.open_session({}, "none")
        for number in range(start, start + 35_000):
            future = session.submit("lookup", {"kind": "x", "number": number})
        future.result()
        session.submit_close()
        log.close()
    assert "Successfully fsck'd log with size 70006" in fsck(log_path, log_key, log.origin)


def test_fsck_notices_a_changed_tile(fsck, open_log, log_path, log_key):
    log = open_log()
    for number in range(300):
        log.submit("lookup", {"kind": str(number)})
    log.close()
    tile = log_path / "tile/0/000"
    tile.write_bytes(bytes([tile.read_bytes()[0] ^ 1]) + tile.read_bytes()[1:])
    assert "Successfully" not in fsck(log_path, log_key, log.origin, timeout_s=5)
