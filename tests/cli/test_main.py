"""The command line: lazy commands, one path for errors, exit codes, --json."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from evidence.errors import DataKeyError
from gateway.cli import COMMANDS, main
from gateway.cli.output import show_error
from gateway.errors import (
    ApprovalError,
    ConfigError,
    EvidenceUnavailableError,
    IdentityError,
    LimitExceededError,
    PolicyError,
    SecretError,
    TargetError,
)
from gateway.policy.bundle import write_manifest
from gateway.testing.oidc import DevelopmentIssuer

ROOT = Path(__file__).parents[2]
MINIMAL = (ROOT / "tests/vectors/config/minimal.txt").read_text().partition("-----\n")[0]
SSH = (ROOT / "tests/vectors/config/ssh-minimal.txt").read_text().partition("-----\n")[0]
BROKEN = (ROOT / "tests/vectors/config/many-at-once.txt").read_text().partition("-----\n")[0]


def run(*arguments, **options):
    return CliRunner().invoke(main, [str(argument) for argument in arguments], **options)


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "sealgate.yaml"
    path.write_text(MINIMAL)
    return path


def test_help_lists_every_command_without_loading_any():
    code = "import sys; from gateway.cli import main; main(['--help'], standalone_mode=False); print([m for m in sys.modules if m.startswith('gateway.cli.')])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    for name, text in COMMANDS.items():
        assert name in answer.stdout
        assert text in answer.stdout
    assert answer.stdout.splitlines()[-1] == "['gateway.cli.output']"


def test_a_command_that_is_not_installed_does_not_break_the_others(config, monkeypatch):
    monkeypatch.setitem(COMMANDS, "absent", "Not there.")
    answer = run("absent")
    assert answer.exit_code == 1
    assert "the command absent is not available" in answer.stderr
    assert "does not contain it" in answer.stderr
    assert run("connections", "list", "-c", config).exit_code == 0


def test_a_command_whose_needs_are_missing_says_which(tmp_path, monkeypatch):
    package = tmp_path / "needy.py"
    package.write_text("import module_that_is_nowhere\n")
    import gateway.cli  # noqa: PLC0415 # its path is extended below

    monkeypatch.setattr(gateway.cli, "__path__", [*gateway.cli.__path__, str(tmp_path)])
    monkeypatch.setitem(COMMANDS, "needy", "Needs something.")
    answer = run("needy")
    assert answer.exit_code == 1
    assert "module_that_is_nowhere cannot be loaded" in answer.stderr


def test_usage_errors_end_with_2():
    assert run("no-such-command").exit_code == 2
    assert run("validate").exit_code == 2
    assert run("validate", "--nonsense").exit_code == 2


@pytest.mark.parametrize(
    ("kind", "code"),
    [(ConfigError, 2), (SecretError, 2), (PolicyError, 3), (IdentityError, 4), (TargetError, 5), (EvidenceUnavailableError, 6),
     (DataKeyError, 6), (ApprovalError, 7), (LimitExceededError, 1)],
)  # fmt: skip
def test_exit_codes_of_errors(kind, code, capsys):
    assert show_error(kind("it broke", why="a cause", fix="a remedy"), as_json=False) == code
    assert capsys.readouterr().err == "sealgate: it broke\n  why: a cause\n  what to do: a remedy\n"
    assert show_error(kind("it broke", why="a cause", fix="a remedy"), as_json=True) == code
    assert json.loads(capsys.readouterr().err) == {
        "error": {"code": kind.code, "what": "it broke", "why": "a cause", "fix": "a remedy"}
    }


def test_validate_names_all_problems(tmp_path):
    path = tmp_path / "sealgate.yaml"
    path.write_text(BROKEN)
    answer = run("validate", "-c", path)
    assert answer.exit_code == 2
    assert answer.stdout == ""
    assert answer.stderr.count("  line ") == 25
    as_json = run("validate", "-c", path, "--json")
    assert as_json.exit_code == 2
    assert len(json.loads(as_json.stderr)["error"]["problems"]) == 25


def test_validate_shows_what_a_configuration_means(config, tmp_path):
    bundle = tmp_path / "rego"
    (bundle / "sealgate" / "main").mkdir(parents=True)
    answer = run("validate", "-c", config)
    assert answer.exit_code == 3
    for source in sorted((ROOT / "rego").rglob("*")):
        if source.is_file() and not source.name.endswith("_test.rego"):
            target = bundle / source.relative_to(ROOT / "rego")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    write_manifest(bundle)
    answer = run("validate", "-c", config)
    assert answer.exit_code == 0, answer.stderr
    assert "is valid" in answer.stdout
    assert "connection payments: postgres db.example.com:5432, production, risk high" in answer.stdout
    assert "warning: evidence.sigstore.mode is development" in answer.stdout
    document = json.loads(run("validate", "-c", config, "--json").stdout)
    assert document["policy"]["rules"] > 0
    assert document["settings"]["connections"][0]["name"] == "payments"


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("other.example.com ssh-ed25519 KEY", "known_hosts has no line for web-1.example.com:22"),
        ("[web-1.example.com]:2222 ssh-ed25519 KEY", "known_hosts has no line for web-1.example.com:22"),
        ("web-1.example.com ssh-ed25519 nonsense", "known_hosts has no line for web-1.example.com:22"),
        ("web-1.example.com ssh-ed25519 KEY", None),
        ("@cert-authority *.example.com ssh-ed25519 KEY", None),
        (None, None),
    ],
)
def test_validate_says_which_ssh_target_nothing_could_prove(config, tmp_path, line, answer):
    key = "AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
    if line is not None:
        (tmp_path / "known_hosts").write_text(line.replace("KEY", key) + "\n")
    config.write_text(SSH)
    done = run("validate", "-c", config)
    if answer is None:  # then the policy bundle is what is missing
        assert (done.exit_code, "known_hosts" in done.stderr) == (3, False)
        return
    number = next(number for number, text in enumerate(SSH.splitlines(), 1) if "known_hosts:" in text)
    assert done.exit_code == 2
    assert f"line {number}, connections[0].target.known_hosts: {answer}" in done.stderr


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_validate_reads_the_certificates_that_are_there(config, tmp_path, content):
    ca_file = tmp_path / "ca.pem"
    if content is not None:
        ca_file.write_text(content)
    text = MINIMAL.replace("bundle: rego", f"bundle: {ROOT / 'rego'}")
    config.write_text(text.replace("{host: db.example.com}", f"{{host: db.example.com, tls: {{ca_file: {ca_file}}}}}"))
    done = run("validate", "-c", config)
    if content is None:
        assert done.exit_code == 0, done.stderr
        assert f"warning: connections[0].target.tls cannot be used on this machine: {ca_file}" in done.stdout
        return
    assert done.exit_code == 2
    number = next(number for number, text in enumerate(config.read_text().splitlines(), 1) if "ca_file" in text)
    assert f"line {number}, connections[0].target.tls: cannot be used: {ca_file}" in done.stderr


def test_the_configuration_may_come_from_the_environment(config):
    assert run("connections", "list", env={"SEALGATE_CONFIG": str(config)}).exit_code == 0


def test_config_schema_and_docs():
    assert json.loads(run("config", "schema").stdout)["title"] == "sealgate.yaml"
    assert run("config", "docs").stdout == (ROOT / "docs/configuration.md").read_text()


def test_connections_list(config):
    lines = run("connections", "list", "-c", config).stdout.splitlines()
    assert lines[0].split() == ["NAME", "TYPE", "ENVIRONMENT", "RISK", "ASKED-FOR", "GROUPS", "TARGET"]
    assert lines[1].split() == ["payments", "postgres", "production", "high", "payments", "agents", "db.example.com:5432"]
    document = json.loads(run("connections", "list", "-c", config, "--json").stdout)
    assert document["connections"][0]["credential"]["password"] == "env:PAYMENTS_PASSWORD"


def test_keygen_makes_a_private_file_and_never_replaces_one(tmp_path):
    path = tmp_path / "log.pem"
    assert run("keygen", path).exit_code == 0
    assert path.stat().st_mode & 0o777 == 0o600
    before = path.read_bytes()
    answer = run("keygen", path)
    assert answer.exit_code == 2
    assert path.read_bytes() == before


def test_doctor_without_a_configuration():
    document = json.loads(run("doctor", "--json").stdout)
    checks = {finding["check"]: finding["status"] for finding in document["findings"]}
    assert checks["python"] == "ok"
    assert {"native sql", "native mask", "native postgres", "native policy"} <= checks.keys()


def test_doctor_tries_what_a_configuration_names(tmp_path):
    path = tmp_path / "sealgate.yaml"
    (tmp_path / "key.pem").write_bytes(b"key")
    (tmp_path / "key.pem").chmod(0o644)
    with DevelopmentIssuer() as issuer:
        text = MINIMAL.replace("https://id.example.com/realms/bank", issuer.url).replace("log-key.pem", "key.pem")
        text = text.replace("{host: db.example.com}", f"{{host: 127.0.0.1, port: {issuer.port}}}")
        text = text.replace("port: 6432", "port: 0").replace("port: 8444", f"port: {issuer.port}")
        path.write_text(text)
        answer = run("doctor", "-c", path, "--json", env={"PAYMENTS_PASSWORD": "hunter2"})
    assert answer.exit_code == 1
    assert "hunter2" not in answer.output
    checks = {finding["check"]: (finding["status"], finding["detail"]) for finding in json.loads(answer.stdout)["findings"]}
    assert checks["issuer bank"][0] == "ok"
    assert checks["target payments"][0] == "ok"
    assert checks["secret connection payments password"][0] == "ok"
    assert checks["listener postgres"][0] == "ok"
    assert checks["listener admin"][0] == "fail"
    assert checks["evidence store"][0] == "ok"
    assert checks["secret evidence.log_key"][0] == "fail"
    assert "0644" in checks["secret evidence.log_key"][1]
    assert checks["policy bundle"][0] == "fail"


def test_a_reader_that_leaves_early_is_no_error(config):
    reading, writing = os.pipe()
    os.close(reading)
    code = f"from gateway.cli import main; main(['connections', 'list', '-c', {str(config)!r}])"
    with os.fdopen(writing, "wb") as closed:
        answer = subprocess.run(
            [sys.executable, "-c", code], stdout=closed, stderr=subprocess.PIPE, text=True, check=False, cwd=ROOT
        )
    assert "Traceback" not in answer.stderr
