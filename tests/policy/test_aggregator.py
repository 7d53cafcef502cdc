"""The aggregator names every protocol. What it decides: test_algebra.py on both engines, main_test.rego in OPA."""

from __future__ import annotations

import re
from pathlib import Path

from gateway.action import PROTOCOLS
from gateway.policy.checks import run_opa_tests
from gateway.policy.lint import CONTRIBUTIONS

FOLDER = Path(__file__).resolve().parents[2] / "rego/sealgate/main"


def test_every_protocol_and_kind_is_collected() -> None:
    text = (FOLDER / "topics.rego").read_text()
    assert set(re.findall(r"data\.sealgate\.policies\.(\w+)$|data\.sealgate\.policies\.(\w+) if", text, re.MULTILINE)) == {
        ("any", ""),
        *(("", protocol) for protocol in PROTOCOLS),
    }
    (kinds,) = re.findall(r"^_kinds := \{(.*)\}$", text, re.MULTILINE)
    assert set(re.findall(r'"(\w+)"', kinds)) == CONTRIBUTIONS
    judged = (FOLDER / "contributions.rego").read_text()
    assert set(re.findall(r'some \["(\w+)", items\] in _collected', judged)) == CONTRIBUTIONS


def test_its_own_tests_pass_and_reach_all_but_the_last_resort() -> None:
    summary = run_opa_tests(FOLDER, coverage=True)
    assert summary["failed"] == []
    # The default decision stands for what no input has produced yet.
    assert summary["coverage"] >= 96.5, summary["not_covered"]
