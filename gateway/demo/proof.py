"""The evidence, verified offline by ours and by the stock `sigstore`, and tampered copies of it, each caught."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import orjson

from evidence.disk import Disk
from evidence.keys import load_log_key
from evidence.merkle import RightEdge, hash_leaf
from evidence.note import Checkpoint, NoteSigner, encode_verifier_key
from evidence.store import EvidenceStore
from evidence.tiles import TileWriter, decode_entries, encode_entries
from gateway.demo.scenes import Step
from gateway.demo.world import World
from gateway.testing.sigstore import DEFAULT_ISSUER

VERIFY_TIMEOUT_S: Final = 60
TAMPERED: Final = 1


def verify_command(world: World, directory: Path) -> list[str]:
    """The exact command an auditor runs: every pin is named, nothing is taken from the evidence."""
    return [
        sys.executable,
        "-m",
        "evidence.cli",
        str(directory),
        "--trust-config",
        str(world.trust_config),
        "--log-vkey",
        str(world.directory / "log.vkey"),
        "--identity",
        world.gateway_identity,
        "--issuer",
        DEFAULT_ISSUER,
        "--reviewer",
        f"* {DEFAULT_ISSUER}",
        "--development-ok",
    ]


def prove(world: World) -> Iterator[Step]:
    """Verify, let the stock tool agree, tamper with copies. The gateway has stopped."""
    _write_verifier_key(world)
    code, text = _run(verify_command(world, world.evidence))
    ours = "sealgate-verify"
    yield Step(
        "the evidence verifies offline",
        ours,
        "exit 0, verified",
        text,
        code == 0,
        None,
        shlex.join(verify_command(world, world.evidence)),
    )
    yield _ask_stock_sigstore(world)
    for name, tamper in TAMPERINGS:
        copy = world.directory / "tampered" / name.replace(" ", "-")
        shutil.copytree(world.evidence, copy)
        tamper(world, next(copy.glob("*/*/*/tile")).parent)
        code, text = _run(verify_command(world, copy))
        yield Step(f"caught: {name}", ours, f"exit {TAMPERED}, tampered", text, code == TAMPERED)


def _write_verifier_key(world: World) -> None:
    origin = EvidenceStore(world.evidence).list_origins()[0]
    key = load_log_key(world.directory / "log_key.pem")
    (world.directory / "log.vkey").write_text(encode_verifier_key(origin, key.public_key()) + "\n")


def _run(command: Sequence[str]) -> tuple[int, str]:
    environment = {**os.environ, "SIGSTORE_OFFLINE": "1"}
    done = subprocess.run(  # noqa: S603 - our own program, or the sigstore of this environment
        command, capture_output=True, text=True, timeout=VERIFY_TIMEOUT_S, check=False, env=environment
    )
    return done.returncode, f"exit {done.returncode}\n{(done.stdout + done.stderr).strip()}"[:1200]


def _ask_stock_sigstore(world: World) -> Step:
    note = max(world.evidence.rglob("attest/*.note"), key=lambda path: path.stat().st_mtime_ns)
    command = [sys.executable, "-m", "sigstore", "--trust-config", str(world.trust_config), "verify", "identity", "--offline"]
    command += ["--bundle", str(note.with_suffix(".sigstore.json")), "--cert-identity", world.gateway_identity]
    command += ["--cert-oidc-issuer", DEFAULT_ISSUER, str(note)]
    code, text = _run(command)
    ok = code == 0 and "OK" in text
    return Step("the stock sigstore command agrees", "sigstore", "OK", text, ok, None, shlex.join(command))


# --- what an insider might try; each gets the log's directory of a copy


def _edit(_world: World, log: Path) -> None:
    """Make a blocked action look allowed."""
    path = _newest_entries(log)
    path.write_bytes(path.read_bytes().replace(b'"effect":"block"', b'"effect":"allow"', 1))


def _reorder(_world: World, log: Path) -> None:
    """Swap two neighbouring records."""
    path = _newest_entries(log)
    leaves = list(decode_entries(path.read_bytes()))
    leaves[3], leaves[4] = leaves[4], leaves[3]
    path.write_bytes(encode_entries(leaves))


def _truncate(_world: World, log: Path) -> None:
    """Drop the newest records."""
    path = _newest_entries(log)
    leaves = list(decode_entries(path.read_bytes()))
    path.write_bytes(encode_entries(leaves[: len(leaves) // 2]))


def _fork(world: World, log: Path) -> None:
    """Write another history of the same length, and sign it with the stolen log key."""
    origin = EvidenceStore(world.evidence).list_origins()[0]
    reader = EvidenceStore(world.evidence).open_log(origin)
    size = reader.read_checkpoint().size
    leaves = [leaf.replace(b'"effect":"block"', b'"effect":"allow"') for leaf in reader.iterate_leaves(size)]
    shutil.rmtree(log / "tile")
    edge = RightEdge()
    writer = TileWriter(log, Disk(), edge, [])
    writer.add(leaves, [hash_leaf(leaf) for leaf in leaves])
    writer.publish_partial()
    writer.flush()
    signer = NoteSigner(origin, load_log_key(world.directory / "log_key.pem"))
    (log / "checkpoint").write_bytes(signer.sign(Checkpoint(origin, size, edge.root()).text()))


def _newest_entries(log: Path) -> Path:
    """The bundle of records that the newest checkpoint covers."""
    return max(
        (path for path in (log / "tile" / "entries").rglob("*") if path.is_file()), key=lambda path: path.stat().st_mtime_ns
    )


TAMPERINGS: Final[tuple[tuple[str, Callable[[World, Path], None]], ...]] = (
    ("a record edited", _edit),
    ("two records swapped", _reorder),
    ("the newest records cut off", _truncate),
    ("another history signed with the stolen log key", _fork),
)


def summarise(world: World, *, live: bool) -> dict[str, object]:
    """The last line of `sealgate demo --json`; `live` when the gateway goes on writing the evidence."""
    return {
        "step": "summary",
        "evidence": str(world.evidence),
        "trust": [str(world.trust_config), str(world.directory / "log.vkey")],
        "verify": verify_command(world, world.evidence) + (["--live"] if live else []),
    }


def dump_line(document: object) -> str:
    """One JSON document on one line."""
    return orjson.dumps(document).decode()
