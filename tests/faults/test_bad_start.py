"""A gateway that cannot start says why in one JSON document on standard error and ends with the exit code of that kind of problem."""

import json
import socket
from pathlib import Path

import pytest

from gateway.policy.bundle import write_manifest
from gateway.testing.policy import copy_library

ROOT = Path(__file__).resolve().parents[2]


def copy_for_site(folder, **changes):
    """The shipped policy library, with these keys of data.site.postgres."""
    return copy_library(ROOT / "rego", folder, lambda site: site["postgres"].update(changes))


def last_error(text):
    """The error document; a traceback would not be one."""
    assert "Traceback" not in text, text[-2000:]
    return json.loads(text.splitlines()[-1])["error"]


def test_a_policy_that_does_not_compile(configure, make_bundle, tmp_path):
    broken = make_bundle()
    (broken / "sealgate/policies/postgres/reads/reads.rego").write_text(
        "package sealgate.policies.postgres.reads\n\nallow contains\n"
    )
    write_manifest(broken)
    code, text = configure(tmp_path, policy={"bundle": str(broken)}).fail_to_start()
    assert code == 3
    error = last_error(text)
    assert error["code"] == "policy.unavailable"
    assert "reads.rego" in error["what"] + error["why"]


def test_a_policy_that_was_changed_after_it_was_released(configure, make_bundle, tmp_path):
    changed = make_bundle()
    with (changed / "sealgate/policies/postgres/reads/reads.rego").open("a") as file:
        file.write("# a line nobody released\n")
    code, text = configure(tmp_path, policy={"bundle": str(changed)}).fail_to_start()
    assert code == 3
    assert "reads/reads.rego" in last_error(text)["why"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"ledgr_tables": ["public.ledger"]}, "data.site.postgres.ledgr_tables is no key of the policies, so nothing reads it; is ledger_tables meant?"),
        ({"export_rows": "many"}, 'data.site.postgres.export_rows is "many", where a whole number is wanted'),
        ({"detectors": ["ssnx"]}, 'data.site.postgres.detectors has "ssnx", which is neither a built-in detector nor a pattern of the configuration; is ssn meant?'),
    ],
    ids=["misspelt", "wrong type", "unknown detector"],
)  # fmt: skip
def test_data_of_the_site_that_no_rule_would_read_as_it_is_meant(configure, tmp_path, change, why):
    bundle = copy_for_site(tmp_path / "bundle", **change)
    code, text = configure(tmp_path, policy={"bundle": str(bundle)}).fail_to_start()
    assert code == 3
    error = last_error(text)
    assert error["code"] == "policy.bundle"
    assert f"site/data.json: {why}" in error["problems"]
    assert "policy check" in error["fix"]


def test_a_gateway_goes_on_with_the_bundle_it_has_when_its_data_is_changed(serve, mint, tmp_path):
    bundle = copy_for_site(tmp_path / "bundle")
    gateway = serve(tmp_path, policy={"bundle": str(bundle)})
    copy_for_site(bundle, ledgr_tables=["public.ledger"])
    with gateway.connect(mint()) as connection:
        assert connection.execute("select count(*) from marks").fetchone() is not None
    gateway.stop()
    code, text = gateway.make_twin().fail_to_start()
    assert code == 3
    assert "is ledger_tables meant?" in last_error(text)["problems"][0]


@pytest.mark.parametrize("how", ["missing", "not a key", "open to others"])
def test_a_log_key_that_cannot_be_used(configure, tmp_path, how):
    gateway = configure(tmp_path)
    key = tmp_path / "log-key.pem"
    if how == "missing":
        key.unlink()
    elif how == "not a key":
        key.write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    else:
        key.chmod(0o644)
    code, text = gateway.fail_to_start()
    assert code == 2
    error = last_error(text)
    assert error["code"] in {"secret.unavailable", "config.invalid"}
    assert "log" in error["what"]
    assert "AAAA" not in text


@pytest.mark.parametrize("listener", ["postgres", "admin"])
def test_a_port_that_is_taken(configure, tmp_path, listener):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        listeners = {"postgres": {"port": 0}, "admin": {"port": 0}} | {listener: {"port": port}}
        code, text = configure(tmp_path, listeners=listeners).fail_to_start()
    assert code == 2
    error = last_error(text)
    assert listener in error["what"]
    assert str(port) in error["why"]


def test_an_evidence_folder_that_cannot_be_made(configure, tmp_path):
    (tmp_path / "evidence").write_text("in the way")
    code, text = configure(tmp_path).fail_to_start()
    assert code == 6
    assert "evidence" in last_error(text)["what"]


def test_a_state_database_that_cannot_be_opened(configure, tmp_path):
    code, text = configure(tmp_path, gateway={"state": "sqlite:///missing/folder/state.db"}).fail_to_start()
    assert code == 2
    assert "state database" in last_error(text)["what"]


def test_a_limit_of_open_files_below_what_the_sessions_need(configure, tmp_path):
    gateway = configure(tmp_path, limits={"max_sessions": 1_000})
    gateway.descriptors = (256, 1_024)
    code, text = gateway.fail_to_start()
    assert code == 2
    assert "max_sessions" in last_error(text)["why"]


def test_a_low_soft_limit_of_open_files_is_raised(configure, mint, tmp_path):
    gateway = configure(tmp_path, limits={"max_sessions": 200})
    gateway.descriptors = (64, 4_096)
    try:
        gateway.start()
        silent = [socket.create_connection(("127.0.0.1", gateway.port)) for _ in range(200)]
        with gateway.connect(mint()) as connection:
            connection.execute("insert into marks values (950000)")
        for raw in silent:
            raw.close()
        assert gateway.ask_health() == (200, {})
    finally:
        assert gateway.stop() == 0


def test_two_gateways_on_one_evidence_directory(serve, mint, tmp_path):
    first = serve(tmp_path)
    code, text = first.make_twin().fail_to_start()
    assert code == 6
    error = last_error(text)
    assert error["code"] == "evidence.locked"
    assert str(first.evidence) in error["what"]
    # The first one has noticed nothing.
    with first.connect(mint()) as connection:
        assert connection.execute("select count(*) from customers").fetchone() == (20,)
    assert first.ask_health() == (200, {})
    assert first.stop() == 0
