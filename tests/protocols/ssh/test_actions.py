"""Events to actions: effects, facts without any text, and what an approval covers."""

import json
from pathlib import Path

import jsonschema
import pytest

from gateway.action import EFFECTS, Context, Resource, Subject, build_input, compute_action_digest
from gateway.protocols.ssh.actions import SshSettings, describe, lookups
from gateway.protocols.ssh.commands import read_command
from gateway.protocols.ssh.events import Exec, FileRequest, Forward, Pty, Script, Shell, Subsystem, Undecodable
from gateway.protocols.ssh.parse import (
    find_transfer,
    parse_environment,
    parse_exec,
    parse_forward,
    parse_pty,
    parse_shell,
    parse_subsystem,
)

SETTINGS = SshSettings("web-1", "web-1.example.com", "deploy")
SCHEMA = json.loads((Path(__file__).parents[3] / "schemas/ssh/request.json").read_text())
SUBJECT = Subject("corp/a", "agent", "https://id", "a", ("agents",))
RESOURCE = Resource("web-1", "ssh", "production", "high")

EVENTS = [
    Exec("uptime"),
    Exec("sudo systemctl restart nginx", Pty("xterm", 80, 24), {"LANG": "C"}),
    Exec("bash -s", script=Script(b"id\n", "bash")),
    Exec("a; b"),
    Exec("scp -t /srv/x"),
    Exec("git-receive-pack '/srv/r.git'"),
    Shell(Pty("xterm", 80, 24)),
    Subsystem("sftp"),
    Subsystem("netconf"),
    FileRequest("sftp", "open", "/srv/x", flags=("write", "create"), mode=0o644),
    FileRequest("scp", "open", "/srv/x", flags=("read",), size=10),
    FileRequest("sftp", "rename", "/a", other_path="/b"),
    FileRequest("sftp", "setstat", "/a", attributes=("owner",)),
    FileRequest("sftp", "unknown", "type 99"),
    Forward("direct-tcpip", "db", 5432),
    Forward("agent"),
    Undecodable("not UTF-8"),
]


@pytest.mark.parametrize("event", EVENTS, ids=repr)
def test_every_action_fits_the_schema(event):
    action = describe(event, {}, SETTINGS)
    document = build_input(action, SUBJECT, RESOURCE, Context(1, "s", "2026-01-01T00:00:00.000000Z", "127.0.0.1"))
    jsonschema.Draft7Validator(SCHEMA).validate(document)
    assert action.effects
    assert action.effects <= EFFECTS
    assert lookups(event, SETTINGS) == ()


@pytest.mark.parametrize(
    ("event", "effects"),
    [
        (Exec("uptime"), {"execute"}),
        (Exec("ps | grep x"), {"execute"}),
        (Exec("sudo id"), {"execute", "privilege"}),
        (Exec("ps | sudo tee x"), {"execute", "privilege"}),
        (Exec("a; b"), {"execute", "unknown"}),
        (Exec(""), {"execute", "unknown"}),
        (Exec("scp -f /srv/x"), {"read"}),
        (Exec("scp -t /srv/x"), {"write"}),
        (Exec("git-upload-pack '/r'"), {"read"}),
        (Exec("git receive-pack /r"), {"write"}),
        (Exec("rsync --server --sender -vlogDtpre.iLsfxCIvu . /srv/"), {"read"}),
        (Exec("rsync --server -vlogDtpre.iLsfxCIvu . /srv/"), {"write"}),
        (Shell(), {"execute", "unknown"}),
        (FileRequest("sftp", "open", "/a", flags=("read",)), {"read"}),
        (FileRequest("sftp", "open", "/a", flags=("read", "write")), {"read", "write"}),
        (FileRequest("sftp", "open", "/a", flags=("append",)), {"write"}),
        (FileRequest("sftp", "unknown", "x"), {"unknown"}),
        (FileRequest("sftp", "setstat", "/a", attributes=("owner",)), {"write", "privilege"}),
        (Forward("x11"), {"network"}),
        (Undecodable("x"), {"unknown"}),
    ],
    ids=lambda value: repr(value) if not isinstance(value, set) else "-".join(sorted(value)),
)
def test_effects(event, effects):
    assert describe(event, {}, SETTINGS).effects == effects


def test_only_reading_files_is_harmless():
    assert describe(FileRequest("sftp", "stat", "/a"), {}, SETTINGS).harmless_read
    assert not describe(FileRequest("sftp", "remove", "/a"), {}, SETTINGS).harmless_read
    assert not describe(Exec("uptime"), {}, SETTINGS).harmless_read


def test_facts_hold_no_text():
    secret = "hunter2"
    event = Exec(f"mysql -p{secret} {secret} -e {secret}", None, {"LANG": secret}, Script(secret.encode(), "mysql"))
    action = describe(event, {}, SETTINGS)
    assert secret not in json.dumps(action.facts)
    assert secret not in action.title
    assert secret in json.dumps(action.payload)


def test_an_approval_covers_the_script_and_the_line():
    def digest(event):
        return compute_action_digest(describe(event, {}, SETTINGS), SUBJECT, RESOURCE)

    one = digest(Exec("bash -s", script=Script(b"a", "bash")))
    assert one != digest(Exec("bash -s", script=Script(b"b", "bash")))
    assert one != digest(Exec("bash -s"))
    assert digest(Exec("uptime")) == digest(Exec("uptime"))
    assert digest(Exec("uptime")) != digest(Exec("uptime "))
    assert digest(Exec("uptime")) != digest(Exec("uptime", env={"LANG": "C"}))


@pytest.mark.parametrize(
    "line",
    [
        "scp -t", "scp -t -f x", "scp -S prog -t x", "scp a b", "scp -t a b", "git-receive-pack", "git-receive-pack --x /r", "git-receive-pack /a /b",
        "/tmp/git-receive-pack /r", "rsync --daemon", "rsync --server --daemon . /x", "rsync --server", "rsync a b", "rsync --server --sender --remove-source-files -a . /srv",
        "rsync --server --backup-dir=/etc -a . /srv", "rsync --server --temp-dir /etc -a . /srv", "rsync --server --log-file=/etc/x -a . /srv", "scp -t /x; id",
    ],
)  # fmt: skip
def test_what_only_looks_like_a_transfer(line):
    assert find_transfer(read_command(line)) is None


def test_requests_that_are_no_text():
    assert isinstance(parse_exec(b"\xff", None, {}), Undecodable)
    assert isinstance(parse_exec(b"a\0b", None, {}), Undecodable)
    assert isinstance(parse_exec(b"sh", None, {}, Script(b"\xff", "sh")), Undecodable)
    assert isinstance(parse_subsystem(b"\xff"), Undecodable)
    assert isinstance(parse_subsystem(b""), Undecodable)
    assert isinstance(parse_pty(b"\xff", 1, 1), Undecodable)
    assert isinstance(parse_pty(b"xterm", 100_000, 1), Undecodable)
    assert isinstance(parse_forward("smoke"), Undecodable)
    assert parse_shell(None, {}) == Shell()


def test_only_allowed_variables_pass():
    allowed = ("LANG", "LC_*")
    assert parse_environment(b"LC_ALL", b"C", allowed) == ("LC_ALL", "C")
    for name, value in (
        (b"LD_PRELOAD", b"x"),
        (b"LANGUAGE", b"C"),
        (b"LC_\xff", b"C"),
        (b"LANG", b"\x1b[2J"),
        (b"LC_A B", b"C"),
        (b"LANG", b"x" * 5_000),
    ):
        assert parse_environment(name, value, allowed) is None
