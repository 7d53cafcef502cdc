"""The rows and their arithmetic. Nothing here measures time: a slow machine must not fail a test."""

import argparse
import os
import socket
import socketserver
import sys
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # benchmarks/ is part of the source, not of the package

from benchmarks import evidence, soak
from benchmarks.__main__ import GROUPS, USUAL_GROUPS, read_evidence, read_groups
from benchmarks.bare import run_bare_relay
from benchmarks.machine import list_tree, read_cpu_s, read_memory_mb
from benchmarks.rows import GATING_GROUPS, Bound, Row, compare, format_table, is_passed, shorten
from benchmarks.world import Way
from gateway.cli import bench, main

MEMBERS = {"group", "name", "ours", "peer", "peer_name", "unit", "ratio", "floor", "floor_met", "aim", "aim_met", "notes"}
HALF = Bound("ratio", "min", 0.5)


def make_row(group="postgres", ours=500.0, peer=1000.0, floor=HALF, aim=None):
    return compare(group, "short statements", "tps", [ours], [peer], "pgbouncer", floor=floor, aim=aim)


def test_a_row_has_every_member_and_says_its_bounds():
    row = compare("postgres", "x", "tps", [600], [1000], "pgbouncer", floor=HALF, aim=Bound("ratio", "min", 1), notes=["head"])
    document = row.as_json()
    assert document.keys() == MEMBERS
    assert (document["ours"], document["peer"], document["ratio"]) == (600, 1000, 0.6)
    assert (document["floor"], document["floor_met"]) == (">= 0.5 x pgbouncer", True)
    assert (document["aim"], document["aim_met"]) == (">= 1 x pgbouncer", False)
    assert document["notes"] == ["head"]


def test_a_row_without_peer_or_bounds_says_so_with_null():
    document = Row("memory", "idle", 178.0, "MB").as_json()
    assert document.keys() == MEMBERS
    assert [document[name] for name in ("peer", "ratio", "floor", "floor_met", "aim", "aim_met")] == [None] * 6


@pytest.mark.parametrize(
    ("bound", "value", "ratio", "expected"),
    [
        (Bound("value", "max", 0.8), 0.8, 9.0, True),
        (Bound("value", "max", 0.8), 0.81, 0.1, False),
        (Bound("value", "min", 20_000), 20_000, None, True),
        (Bound("ratio", "max", 1.2), 99.0, 1.2, True),
        (Bound("ratio", "max", 1.2), 0.1, 1.21, False),
        (Bound("ratio", "min", 0.5), 1e9, 0.49, False),
        (Bound("ratio", "min", 0.5), 1e9, None, None),
    ],
)
def test_bounds(bound, value, ratio, expected):
    assert bound.is_met(value, ratio) is expected


def test_a_bound_on_the_value_names_the_unit():
    assert Bound("value", "max", 0.8).describe("ms", "OPA") == "<= 0.8 ms"
    assert Bound("value", "min", 20_000).describe("records/s", None) == ">= 20,000 records/s"


def test_the_ratio_is_the_median_of_the_rounds_ratios_and_not_of_the_medians():
    row = compare("postgres", "x", "tps", [10, 20, 90], [10, 100, 90], "peer")
    assert (row.ours, row.peer, row.ratio) == (20, 90, 1.0)


def test_a_row_can_show_its_best_round():
    row = compare("evidence", "verification", "records/s", [10, 30, 20], [100, 100, 200], "hash", pick=max)
    assert (row.ours, row.peer, row.ratio) == (30, 200, 0.1)


@given(st.lists(st.tuples(st.floats(0.01, 1e6), st.floats(0.01, 1e6)), min_size=1, max_size=9))
def test_the_ratio_lies_between_those_of_the_rounds(rounds):
    ours, peer = zip(*rounds, strict=True)
    row = compare("postgres", "x", "tps", ours, peer, "peer")
    ratios = [mine / theirs for mine, theirs in rounds]
    assert min(ratios) <= row.ratio <= max(ratios)
    assert min(ours) <= row.ours <= max(ours)


@pytest.mark.parametrize(("ours", "peer"), [([], []), ([1.0], [1.0, 2.0])])
def test_rounds_that_do_not_match_are_refused(ours, peer):
    with pytest.raises(ValueError, match="each round"):
        compare("postgres", "x", "tps", ours, peer, "peer")


def test_only_floors_of_the_gating_groups_decide():
    missed = {group: is_passed([make_row(group, ours=1)]) for group in GROUPS}
    assert missed == {group: group not in GATING_GROUPS for group in GROUPS}
    assert is_passed([make_row(group) for group in GROUPS])
    assert is_passed([make_row("policy", floor=None, aim=Bound("ratio", "min", 9))])


def test_numbers_are_shortened_to_what_a_machine_repeats():
    assert [shorten(value) for value in (0.012345, 12.345, 999.4, 123_456.7)] == [0.0123, 12.3, 999.0, 123_457]


def test_the_table_shows_each_row_with_its_verdicts_and_notes():
    rows = [make_row(), Row("memory", "idle", 300.0, "MB", floor=Bound("value", "max", 250), notes=("whole tree",))]
    text = "\n".join(format_table(rows))
    assert "500.0 tps" in text
    assert "1,000 pgbouncer" in text
    assert ">= 0.5 x pgbouncer yes" in text
    assert "<= 250 MB NO" in text
    assert "idle: whole tree" in text


def test_rows_of_the_evidence_program_are_taken_over():
    found = {
        "name": "durable records, 100 concurrent",
        "ours": 30_000,
        "peer": 3_000,
        "peer_name": "write + fdatasync per record",
        "ratio": 10.0,
        "floor": 20_000,
        "aim": 80_000,
        "p50_ms": 1.2,
        "p99_ms": 3.4,
        "records_per_sync": 99.0,
        "sync_p50_ms": 0.2,
    }
    first, second = read_evidence({"rows": [found, {**found, "floor": None, "aim": None}]})
    assert (first.group, first.floor_met, first.aim_met) == ("evidence", True, False)
    assert (second.floor, second.floor_met) == (None, None)


def test_groups_are_read_from_the_command_line():
    assert read_groups("policy, memory") == {"policy", "memory"}
    for text in ("", "speed", "policy,speed"):
        with pytest.raises(argparse.ArgumentTypeError):
            read_groups(text)


def test_the_process_tree_holds_this_process():
    assert list_tree(os.getpid())[0] == os.getpid()
    assert read_memory_mb(os.getpid(), "Rss") > 1
    assert read_cpu_s(os.getpid()) >= 0


def test_an_installed_package_says_that_the_programs_are_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(bench, "CHECKOUT", tmp_path)
    result = CliRunner().invoke(main, ["bench"])
    assert result.exit_code == 5
    assert "not of the installed package" in result.output
    assert "make bench" in result.output


def test_an_unknown_group_is_wrong_usage():
    assert CliRunner().invoke(main, ["bench", "--only", "speed"]).exit_code == 2


def make_samples(memory, files):
    return [soak.Sample(float(at), rss_mb, count, 0.0) for at, (rss_mb, count) in enumerate(zip(memory, files, strict=True))]


@pytest.mark.parametrize(
    ("memory", "files", "is_flat"),
    [
        ([100, 140, 150, 150, 151, 150], [30] * 6, True),  # the first third fills caches
        ([100, 140, 150, 150, 170, 171], [30] * 6, False),
        ([100] * 6, [30, 30, 31, 31, 45, 46], False),
        ([100] * 6, [50, 50, 34, 30, 30, 29], True),
    ],
)
def test_a_load_is_flat_when_its_last_third_is_like_the_second(memory, files, is_flat):
    report = soak.judge(make_samples(memory, files))
    assert report["is_flat"] is is_flat
    assert report["first"]["rss_mb"] == memory[0]
    assert report["last"]["files"] == files[-1]


def test_volume_is_measured_only_where_it_is_named():
    assert "volume" not in USUAL_GROUPS
    assert read_groups("volume") == {"volume"}


def test_the_rows_of_evidence_are_measured(tmp_path):
    """For a moment only: that the rows come out, not what they say."""
    rows = read_evidence(evidence.run(tmp_path, 0.05))
    assert [row.unit for row in rows[:4]] == ["records/s"] * 4
    assert all(row.ours > 0 for row in rows[:4])
    assert list(tmp_path.iterdir()) == []


class Answer(socketserver.BaseRequestHandler):
    """Answers each question with itself."""

    def handle(self):
        while data := self.request.recv(64):
            self.request.sendall(data)


def test_the_bare_relay_passes_on_whole_conversations_and_writes_a_batch_before_each_answer(tmp_path):
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Answer) as target:
        threading.Thread(target=target.serve_forever, daemon=True).start()
        try:
            direct = Way("direct", *target.server_address, user="", password="", database="")
            with run_bare_relay(direct, tmp_path) as (pid, way):
                assert read_cpu_s(pid) >= 0
                streams = [socket.create_connection((way.host, way.port), timeout=10) for _ in range(3)]
                for question in (b"one", b"two"):
                    for stream in streams:
                        stream.sendall(question)
                        assert stream.recv(64) == question
                for stream in streams:
                    stream.close()
        finally:
            target.shutdown()
    assert (tmp_path / "bare-relay.segment").read_bytes().count(b"\xffSGB") == 6
