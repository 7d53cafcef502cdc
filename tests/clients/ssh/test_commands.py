"""Stock ssh: commands that run, commands that are refused, and what each leaves behind."""

import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from gateway.serve.ssh import session
from gateway.testing.waiting import wait_until


def test_a_command_runs_in_both_modes(agent, target):
    done = agent.ssh(*target, "echo", "hello")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"hello\n", b"")


def test_exit_status_and_standard_error_pass(agent, target, place):
    done = agent.ssh(*target, "ls", place / "absent")
    assert done.returncode == 2
    assert b"No such file" in done.stderr


def test_pipes_of_reading_commands_run(agent):
    done = agent.ssh("web-1", "echo one two | wc -w")
    assert (done.returncode, done.stdout.strip()) == (0, b"2")


def test_a_refusal_says_what_rule_why_and_what_next(agent, target, place):
    victim = place / "victim"
    victim.write_text("still here")
    done = agent.ssh(*target, "rm", "-rf", victim)
    text = done.stderr.decode()
    assert done.returncode == 126
    assert "rm on " in text
    assert "rule ssh.destructive.program" in text
    assert "what to do:" in text
    assert "decision " in text
    assert victim.read_text() == "still here"


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("cat /etc/hostname; id", "ssh.commands.shell_syntax"),
        ("echo $(id)", "ssh.commands.shell_syntax"),
        ("echo `id`", "ssh.commands.shell_syntax"),
        ("echo $HOME", "ssh.commands.shell_syntax"),
        ("ls > /tmp/x", "ssh.commands.shell_syntax"),
        ("ls\nid", "ssh.commands.shell_syntax"),
        ("/tmp/cat /etc/hostname", "default.deny.execute"),
        ("sudo -n cat /etc/hostname", "default.deny.execute"),
        ("cat /etc/shadow", "ssh.credentials.path"),
        ("cat /etc/../etc/shadow", "ssh.credentials.path"),
        ("find /tmp -delete", "ssh.destructive.option"),
        ("env", "ssh.credentials.environment"),
        ("python3 -c 'print(1)'", "default.deny.execute"),
    ],
)
def test_ways_around_the_list_of_commands(agent, line, rule):
    done = agent.ssh("web-1", line)
    assert done.returncode == 126
    assert rule in done.stderr.decode()
    assert done.stdout == b""


def test_code_on_standard_input_is_judged_before_it_runs(operator, agent, place):
    marker = place / "ran"
    script = f"touch {marker}\n".encode()
    for who, command in ((agent, "sh"), (agent, "bash -s"), (agent, "python3 -"), (operator, "bash -s")):
        done = who.ssh("web-1", command, data=script)
        assert done.returncode == 126, command
    assert b"ticket AR-" in done.stderr
    assert not marker.exists()


def test_longer_code_than_can_be_judged_is_refused(agent):
    done = agent.ssh("web-1", "bash", "-s", data=b"#" * 100_000)
    assert done.returncode == 126
    assert b"longer than the 65536 bytes" in done.stderr


def test_code_that_never_ends_is_not_waited_for_for_ever(agent, monkeypatch, target):
    monkeypatch.setattr(session, "SCRIPT_TIMEOUT_S", 0.5)
    for command in ("bash -s", "/bin/sh -c 'python3 - && sleep 0'"):
        process = agent.start(*target, command)
        process.stdin.write(b"echo ran\n")
        process.stdin.flush()  # and it stays open
        assert process.wait(30) == 126
        assert b"would run its standard input, which did not end within 0.5 s" in process.stderr.read()
        assert process.stdout.read() == b""
        process.communicate()


def test_commands_that_are_not_text_are_refused(agent):
    done = subprocess.run(
        [b"ssh", b"-F", os.fsencode(agent.config), b"-o", b"BatchMode=yes", b"web-1", b"echo \xff"],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 126
    assert b"not UTF-8" in done.stderr


def test_findings_in_output_are_masked(agent, place):
    (place / "cards.txt").write_text("card 4111 1111 1111 1111 ok\n" * 3)
    done = agent.ssh("web-1", "cat", place / "cards.txt")
    assert done.stdout == b"card [masked:payment_card] ok\n" * 3


def test_binary_output_passes_unchanged(agent, place):
    data = bytes(range(256)) * 4_000
    (place / "binary").write_bytes(data)
    done = agent.ssh("web-1", "cat", place / "binary")
    assert done.stdout == data


def test_input_reaches_the_command(agent):
    done = agent.ssh("web-1", "wc", "-c", data=b"x" * 300_000)
    assert done.stdout.strip() == b"300000"


def test_only_listed_variables_pass(insider):
    done = insider.run("ssh", "-o", "SetEnv=LC_TEST=yes LD_PRELOAD=/tmp/x.so", "web-1", "echo", "ok")
    assert done.stdout == b"ok\n"


def test_a_shell_is_refused(agent, target):
    done = agent.ssh(*target, data=b"id\n")
    assert done.returncode == 126
    assert b"ssh.shells.shell" in done.stderr
    assert done.stdout == b""


def test_a_terminal_is_refused(agent):
    done = agent.ssh("-tt", "web-1", "uptime")
    assert done.returncode == 126
    assert b"ssh.shells.terminal" in done.stdout + done.stderr


def test_the_login_name_never_says_who_it_is(agent):
    for name in ("root", "operator-1", "deploy%other"):
        done = agent.ssh("-l", name, "web-1", "uptime")
        assert done.returncode == 255
        assert b"not as" in done.stderr


def test_unknown_and_closed_hosts_read_the_same(agent):
    done = agent.ssh("-J", "sealgate", "other-host", "uptime")
    assert b'no host "other-host" is open to you; use one of: web-1' in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-o", "ExitOnForwardFailure=yes", "-N", "-R", "0:127.0.0.1:22", "web-1"], b"remote port forwarding failed"),
        (["-W", "127.0.0.1:22", "web-1"], b"nothing passes that is not seen"),
        (["-W", "127.0.0.1:22", "sealgate"], b"no host"),
        (["-W", "web-1:5432", "sealgate"], b"is not SSH"),
        (
            ["-o", "ExitOnForwardFailure=yes", "-N", "-R", "/tmp/sealgate-test.sock:/tmp/other.sock", "web-1"],
            b"forwarding failed",
        ),
        (["-o", "ExitOnForwardFailure=yes", "-N", "-R", "0:127.0.0.1:22", "sealgate"], b"remote port forwarding failed"),
        (["-o", "Tunnel=point-to-point", "-w", "any:any", "web-1", "true"], b""),
    ],
)
def test_ways_past_the_session_are_refused(agent, arguments, words):
    done = agent.ssh(*arguments)
    assert words in done.stderr
    assert done.returncode != 0 or words == b""


FORWARD = ["-o", "ForwardAgent=yes", "-o", "IdentityAgent=SSH_AUTH_SOCK", "-o", "ForwardX11=yes"]
KEYS_STAY = b"sealgate: agent forwarding is refused; keys stay on your machine"


@pytest.fixture(scope="module")
def with_keys():
    """The environment of someone who has an agent with keys, and a display."""
    with tempfile.TemporaryDirectory(prefix="sg") as folder:  # the path of a socket is short
        socket = f"{folder}/agent"
        process = subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL)
        try:
            wait_until(lambda: Path(socket).exists())
            yield {**os.environ, "DISPLAY": ":99", "SSH_AUTH_SOCK": socket}
        finally:
            process.terminate()
            process.wait()


def test_agent_and_display_are_not_forwarded_and_it_says_so(insider, with_keys, target):
    done = insider.ssh(*FORWARD, *target, "echo", "still-works", env=with_keys)
    assert done.stdout == b"still-works\n"
    assert done.stderr.count(KEYS_STAY) == 1
    assert b"X11 forwarding request failed" in done.stderr
    shell = insider.ssh(*FORWARD, *target, data=b"test -z $SSH_AUTH_SOCK && echo none\n", env=with_keys)
    assert shell.stdout == b"none\n"
    assert shell.stderr.count(KEYS_STAY) == 1
    terminal = insider.ssh("-tt", *FORWARD, *target, "echo", "x", env=with_keys)
    assert KEYS_STAY + b"\r\n" in terminal.stdout


def test_the_word_on_forwarding_disturbs_no_transfer(agent, operator, with_keys, place, tmp_path):
    (place / "kept").mkdir()
    (place / "kept/file").write_text("as it was")
    for options in ([], ["-O"]):
        assert agent.run("scp", *FORWARD, *options, f"web-1:{place}/kept/file", tmp_path / "copy", env=with_keys).returncode == 0
        assert (tmp_path / "copy").read_text() == "as it was"
    listed = agent.run("sftp", *FORWARD, "-b", "-", "web-1", data=f"ls {place}/kept\n".encode(), env=with_keys)
    assert (listed.returncode, listed.stderr) == (0, b"")
    shell = f"{operator.ssh_command} {' '.join(FORWARD)}"
    command = ["rsync", "-a", "-e", shell, f"web-1:{place}/kept/", tmp_path / "synchronised"]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False, env=with_keys)
    assert (done.returncode, KEYS_STAY in done.stderr) == (0, True)
    assert (tmp_path / "synchronised/file").read_text() == "as it was"


def test_other_subsystems_are_refused(agent):
    done = agent.ssh("-s", "web-1", "netconf")
    assert done.returncode == 126
    assert b"default.deny.unknown" in done.stderr


def test_a_list_whose_interpreter_has_its_file_runs_while_input_stays_open(
    make_ssh_gateway, make_ssh_connection, make_client, open_bundle, place, tmp_path
):
    (place / "module.py").write_text("import sys; print('module ran', sys.stdin.readline().strip())\n")
    with make_ssh_gateway(tmp_path / "gateway", policy={"bundle": str(open_bundle)}) as running:
        process = make_client(running).start("web-1", f"/bin/sh -c 'python3 {place}/module.py && sleep 0'")
        process.stdin.write(b"with a line\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"module ran with a line\n"
        assert process.wait(30) == 0
        process.communicate()
        refused = make_client(running).ssh("web-1", f"python3 {place}/module.py && sleep 0")
    assert refused.returncode == 126
    assert b"ssh.commands.shell_syntax" in refused.stderr


@pytest.mark.parametrize("line", ["echo \udcff", "bash -s", "git-receive-pack {repository}"])
def test_what_cannot_be_read_runs_nothing_even_where_policy_allows_it(
    make_ssh_gateway, make_ssh_connection, make_client, open_bundle, tmp_path, line
):
    subprocess.run(["git", "init", "-q", "--bare", tmp_path / "repository"], check=True)
    connection = make_ssh_connection(shell=False, max_script_bytes=16)
    with make_ssh_gateway(tmp_path / "gateway", connections=[connection], policy={"bundle": str(open_bundle)}) as running:
        command = ["ssh", "-F", make_client(running).config, "-o", "BatchMode=yes", "web-1"]
        command.append(line.format(repository=tmp_path / "repository"))
        done = subprocess.run(command, input=b"echo this is a shell\n", capture_output=True, timeout=60, check=False)
    assert done.returncode == 126
    assert b"this is a shell" not in done.stdout
    assert b"protocol.malformed: no policy can allow what was not read" in done.stderr
    assert "refused" in {record["status"] for record in running.read_records() if record["type"] == "outcome"}
