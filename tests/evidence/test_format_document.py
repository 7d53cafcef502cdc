"""The example and the tables of docs/evidence-format.md are true."""

import re
from pathlib import Path

from evidence.canonical import decode
from evidence.merkle import hash_leaf, root_of
from evidence.note import VerifierKey, verify_checkpoint
from evidence.record import ENVELOPE, REQUIRED, check

TEXT = (Path(__file__).parents[2] / "docs" / "evidence-format.md").read_text()
BLOCKS = re.findall(r"^```(?:json)?\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
LEAVES, NOTE, VKEY = BLOCKS[0].encode().splitlines(), BLOCKS[1].encode(), BLOCKS[2]


def test_example_verifies():
    checkpoint = verify_checkpoint(NOTE, VerifierKey.parse(VKEY))
    assert checkpoint.size == len(LEAVES)
    assert checkpoint.root == root_of([hash_leaf(leaf) for leaf in LEAVES])


def test_example_records_are_canonical_and_chained():
    last = {}
    for index, leaf in enumerate(LEAVES):
        record = decode(leaf)
        check(record["type"], {name: value for name, value in record.items() if name not in ENVELOPE})
        before = last.get(record["sid"])
        assert (record["seq"], record["sseq"]) == (index, before[0] + 1 if before else 0)
        assert record.get("sprev") == (before[1] if before else None)
        last[record["sid"]] = (record["sseq"], hash_leaf(leaf).hex())


def test_tables_name_every_type_and_field():
    rows = dict(re.findall(r"^\| `([a-z_.]+)` \|([^|]*)\|", TEXT, re.MULTILINE))
    assert rows.keys() >= ENVELOPE
    for kind, fields in REQUIRED.items():
        assert re.findall(r"`([a-z_]+)`", rows[kind]) == list(fields)
