"""A Rekor v2-like transparency log: hashedrekord 0.0.2 entries, inclusion proofs and a signed-note checkpoint per entry."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, utils
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from evidence import merkle
from evidence.note import ED25519, Checkpoint, NoteSigner

KIND, VERSION = "hashedrekord", "0.0.2"
KEY_DETAILS = "PKIX_ECDSA_P256_SHA_256"
SHA256_BYTES = 32


class TransparencyLog:
    """An append-only log in one file (one canonical body per line); each addition is on disk before it is answered.

    `origin` names the log in its checkpoints. Verifiers derive the same name from the host of `baseUrl` in the trusted root.
    """

    def __init__(self, path: Path, key: ed25519.Ed25519PrivateKey, origin: str) -> None:
        self.origin = origin
        self._signer = NoteSigner(origin, key)
        self._lock = threading.Lock()
        self._tree = Tree()
        public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        # Rekor v2 names itself by the note key id before it is shortened, not by a digest of the key alone.
        self.key_id = hashlib.sha256(origin.encode() + b"\n" + bytes((ED25519,)) + public).digest()
        self._file = path.open("ab+", buffering=0)
        self._recover()

    @property
    def size(self) -> int:
        """How many entries the log holds."""
        return self._tree.size

    def add(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Log a CreateEntryRequest and return the TransparencyLogEntry; ValueError when it is not a valid signature."""
        body = canonical_body(request)
        with self._lock:
            self._file.write(body + b"\n")
            os.fdatasync(self._file.fileno())
            index = self._tree.append(body)
            return self._entry(index, body)

    def close(self) -> None:
        """Close the file; later additions fail."""
        self._file.close()

    def checkpoint(self) -> str:
        """The current tree head as a C2SP checkpoint signed by the log key."""
        return self._signer.sign(Checkpoint(self.origin, self._tree.size, self._tree.root()).text()).decode()

    def _recover(self) -> None:
        self._file.seek(0)
        stored = self._file.read()
        complete = stored.rfind(b"\n") + 1  # a torn last line was never answered, so nobody can miss it
        self._file.truncate(complete)
        for line in stored[:complete].splitlines():
            self._tree.append(line)

    def _entry(self, index: int, body: bytes) -> dict[str, Any]:
        return {
            "logIndex": str(index),
            "logId": {"keyId": _b64(self.key_id)},
            "kindVersion": {"kind": KIND, "version": VERSION},
            "inclusionProof": {
                "logIndex": str(index),
                "rootHash": _b64(self._tree.root()),
                "treeSize": str(self._tree.size),
                "hashes": [_b64(node) for node in self._tree.proof(index)],
                "checkpoint": {"envelope": self.checkpoint()},
            },
            "canonicalizedBody": _b64(body),
        }


class Tree:
    """An RFC 6962 tree that keeps every complete subtree, level by level, so that proofs need no recomputation."""

    def __init__(self) -> None:
        self._levels: list[list[bytes]] = [[]]

    @property
    def size(self) -> int:
        """Number of leaves."""
        return len(self._levels[0])

    def append(self, leaf: bytes) -> int:
        """Add a leaf and return its index."""
        index = self.size
        node, level = merkle.hash_leaf(leaf), 0
        self._levels[0].append(node)
        while len(self._levels[level]) % 2 == 0:
            node = merkle.hash_node(*self._levels[level][-2:])
            level += 1
            if level == len(self._levels):
                self._levels.append([])
            self._levels[level].append(node)
        return index

    def root(self) -> bytes:
        """The root hash; of an empty tree the hash of nothing."""
        return merkle.root_at(self.size, self._subtree)

    def proof(self, index: int) -> list[bytes]:
        """The inclusion proof of leaf `index` in the current tree, lowest sibling first."""
        return merkle.prove_inclusion(index, self.size, self._subtree)

    def _subtree(self, level: int, index: int) -> bytes:
        return self._levels[level][index]


def canonical_body(request: Mapping[str, Any]) -> bytes:
    """The canonical entry body for a hashedrekord request, after checking its signature (RFC 8785 form)."""
    try:
        asked = request["hashedRekordRequestV002"]
        digest = base64.b64decode(asked["digest"], validate=True)
        signature = base64.b64decode(asked["signature"]["content"], validate=True)
        raw = base64.b64decode(asked["signature"]["verifier"]["x509Certificate"]["rawBytes"], validate=True)
        key = x509.load_der_x509_certificate(raw).public_key()
    except (KeyError, TypeError, binascii.Error) as error:
        raise ValueError("the request is not a hashedrekord 0.0.2 with a certificate") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1) or len(digest) != SHA256_BYTES:
        raise ValueError("only P-256 signatures of SHA-256 digests are logged")
    try:
        key.verify(signature, digest, ec.ECDSA(utils.Prehashed(hashes.SHA256())))
    except InvalidSignature as error:
        raise ValueError("the signature does not verify with the certificate's key") from error
    verifier = {"keyDetails": KEY_DETAILS, "x509Certificate": {"rawBytes": _b64(raw)}}
    data = {"algorithm": "SHA2_256", "digest": _b64(digest)}
    spec = {"hashedRekordV002": {"data": data, "signature": {"content": _b64(signature), "verifier": verifier}}}
    return json.dumps({"apiVersion": VERSION, "kind": KIND, "spec": spec}, sort_keys=True, separators=(",", ":")).encode()


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()
