"""Which lines take code on standard input: never fewer than a shell would let run it."""

import os
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.protocols.ssh.commands import read_command
from gateway.protocols.ssh.lists import split_list
from gateway.protocols.ssh.script_readers import find_script_reader


def find(line):
    return find_script_reader(read_command(line), line)


@pytest.mark.parametrize(
    ("line", "reader"),
    [
        ("sh", "sh"),
        ("bash -s", "bash"),
        ("bash -s one two", "bash"),
        ("bash --norc", "bash"),
        ("python3 -", "python3"),
        ("python3.11", "python3.11"),
        ("perl", "perl"),
        ("psql shop", "psql"),
        ("sudo bash", "bash"),
        ("sudo -u root sh -s", "sh"),
        ("sudo -i", "sudo"),
        ("env FOO=1 sh", "sh"),
        ("timeout 5 bash", "bash"),
        ("cat x | sh", "sh"),
        ("xargs", "xargs"),
        ("su -", "su"),
        ("busybox sh", "sh"),
        ("busybox", "busybox"),
        ("echo hi; bash", "bash"),
        ("/usr/bin/python3", "python3"),
        ("/opt/bin/bash", "bash"),
        ("crontab -", "crontab"),
        ("sh -c python3", "python3"),
        ("sh -c 'sleep 1 && python3'", "python3"),
        ("sh -c \"sh -c 'bash -s'\"", "bash"),
        ("su root -c bash", "bash"),
    ],
)
def test_programs_that_would_run_standard_input(line, reader):
    assert find(line) == reader


@pytest.mark.parametrize(
    "line",
    [
        "uptime",
        "bash script.sh",
        "bash -c 'id'",
        "bash -lc 'id'",
        "bash -ex script.sh -s",
        "python3 x.py",
        "python3 -u -W ignore x.py -",
        "python3 -c 1",
        "python3 -c 1 -",
        "python3 -m json.tool",
        "python3 --version",
        "psql -c 'select 1'",
        "psql -h db -U me -Atc 'select 1' shop",
        "psql -f x.sql shop",
        "grep bash /etc/passwd",
        "systemctl status mysql",
        "sudo systemctl restart mysql",
        "perl -e 1",
        "perl -pi -e s/a/b/ file",
        "perl -lne print file",
        "node --max-old-space-size=100 app.js",
        "awk '{print}'",
        "awk -F : '{print}' -",
        "xargs -0 -n 1 gzip",
        "deno run x.ts",
        "redis-cli -h cache get key",
        "crontab -l",
        "sudo -u root python3 x.py",
        "find . -name x",
    ],
)
def test_programs_that_would_not(line):
    assert find(line) is None


@pytest.mark.parametrize(
    "line",
    [
        "/bin/sh -c '/usr/bin/python3 /srv/a/.ansible/tmp/a-1.5-9/AnsiballZ_ping.py && sleep 0'",
        "/bin/sh -c 'echo PLATFORM; uname; echo FOUND; command -v '\"'\"'python3.13'\"'\"'; command -v python3; echo END && sleep 0'",
        "/bin/sh -c 'sudo -H -S -n  -u root /bin/sh -c '\"'\"'echo OK ; /usr/bin/python3 /tmp/x.py'\"'\"' && sleep 0'",
        "/bin/sh -c 'chmod u+x /srv/a/.ansible/tmp/a/ /srv/a/.ansible/tmp/a/AnsiballZ_ping.py && sleep 0'",
        "cd /srv/app && python3 manage.py check",
        "python3 x.py || echo failed",
        "python3 -c 'print(1)';",
        "bash a.sh; bash b.sh",
        "sh -c 'python3 x.py | grep y'",
    ],
)
def test_lists_whose_interpreters_have_their_code(line):
    assert find(line) is None


@pytest.mark.parametrize(
    "line",
    [
        # nothing, or standard input by name
        "python3 && sleep 0", "python3 - x.py && sleep 0", "python3 /dev/stdin && sleep 0", "python3 //dev/./fd/0; true", "python3 /proc/self/fd/0",
        "python3 /dev/fd/0", "python3 ../../dev/stdin", "cd /dev && python3 stdin", "cd / && python3 dev/stdin", "cd /dev/fd; python3 0", "bash /dev/tty",
        "ln -s /dev/stdin /tmp/x && python3 /tmp/x",
        # options that read on, or take the word that seems to be the code
        "python3 -i x.py", "python3 -ui x.py", "python3 -i x.py && true", "python3 -W ignore", "python3 -X dev", "python3 -m code", "python3 -m pdb x.py",
        "python3 -m asyncio", "python3 --check-hash-based-pycs always", "bash -s x", "bash -es x", "sh -sc id", "sh -s -c id", "sh -c", "bash -o posix",
        "bash -eo posix", "bash --rcfile x", "bash --init-file x", "bash -O extglob", "bash +O extglob", "bash -c -o posix python3", "bash -i x.sh",
        "fish -C x y", "perl -I lib", "perl -d x.pl", "ruby -r lib", "php -d x=1", "php -a x", "node -i x", "node inspect x.js", "deno repl", "bun run -", "R x",
        "lua -e 1 -", "lua -l m", "awk -f - x", "awk -f- x", "awk -f /dev/stdin x", "gawk -D -f x", "psql -f - shop", "psql -f- shop", "psql --file=- shop",
        "psql --fil=- -c 1", "psql -F -c", "psql -d -c shop", "psql -c 1 -f -", "mysql -D -e x", "redis-cli -h cache", "redis-cli -x script load",
        "su -s /bin/sh root", "su -g -c root", "su root -c id -c bash",
        # programs that run programs
        "env python3", "env -i bash -s", "env -S 'bash -s'", "env -iS 'bash -s' x", "env '--split-string=bash -s'", "env PYTHONINSPECT=1 python3 x.py",
        "env BASH_ENV=/dev/stdin bash x.sh", "nohup sh", "nice -5 bash", "xargs sh -c", "xargs -I{} {}", "xargs env", "xargs timeout 5", "parallel",
        "find / -maxdepth 0 -exec sh \\;", "strace bash", "chroot /", "unshare -r", "nsenter -t 1", "runuser -l root", "unshare --map-user 0 bash",
        "docker exec -i x sh", "systemd-run --pty", "pkexec bash",
        # what a shell does to words
        "sh -c '\"$0\"' bash", "sh -c 'exec \"$@\"' x python3", "sh -c 'bash'", "sh -c \"sh -c '\\''bash'\\''\"", "sh -c 'true && sh -c bash'",
        "b'as'h && true", "b\\ash; true", '"bash" && true', 'true && ba"s"h < x', "exec bash", "exec bash && true", "eval bash; true",
        "command bash && true", "command -p bash; true", "builtin exec bash; true", ". x; bash a.sh", "alias cat=bash; cat", "hash -p /bin/sh uname; uname",
        "PYTHONINSPECT=1 python3 x.py && true", "export PYTHONINSPECT=1 && python3 x.py", "printf -v BASH_ENV x; bash x.sh", "set -- bash; bash x.sh",
        "cp /bin/sh /usr/bin/uname; uname", "bash x.sh < /dev/stdin", "python3 < x && true", "python3 x.py <<E\nE", "true\nbash x.sh", "bash x.sh & true",
        "python3 x.py # y", "true && bash $x", "true && bash `id`", "if true; then bash x.sh; fi", "{ bash x.sh; }", "(bash x.sh)", "! bash x.sh",
        "cat x | python3 - && true", "true && cat | sh", "sudo -a sleep bash && true", "true &&bash", "true;bash", "true||bash",
    ],
)  # fmt: skip
def test_ways_to_slip_code_past(line):
    assert find(line) is not None


@pytest.mark.parametrize(
    ("line", "commands"),
    [
        ("a && b || c; d | e", (("a",), ("b",), ("c",), ("d",), ("e",))),
        ('a \'b && c\' "d;\\"\\e" f\\;g;', (("a", "b && c", 'd;"\\e', "f;g"),)),
        ("'if' a=b c#d ''", (("if", "a=b", "c#d", ""),)),
    ],
)
def test_lists_fall_into_their_commands(line, commands):
    assert split_list(line) == commands


@pytest.mark.parametrize(
    "line",
    ["", ";", "a;;b", "a && ", "a |", "|| a", "a;;", "a & b", "a |& b", "a=b c", "if a", "a 'b", 'a "b', "a\\", "a\\\nb", "a 'b\nc'", "a é",
     "a > b", "a # b", "a ~", "=a", "a $b", 'a "$b"', 'a "`b`"', "a *", "a {b,c}", "x" * 70_000],
)  # fmt: skip
def test_what_is_more_than_a_list_is_not_read(line):
    assert split_list(line) == ()


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """A folder of programs that write their words down, each process in a file of its own, and end as $END says."""
    folder = tmp_path_factory.mktemp("programs")
    for name in ("p", "pp"):
        (folder / name).write_text('#!/bin/sh\nprintf "%s\\0" "${0##*/}" "$@" > "$LOG/$$"\nexit $END\n')
        (folder / name).chmod(0o755)
    return folder


PIECES = ["p", "pp", " ", " ", "x", "'", '"', "\\", " && p ", " || pp ", "; p ", " | p ", "&", "|", ";", "#", "=", "$x", "`", "\t", "~", "-", "(", ")", "!", "\n", "if"]  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=12).map(lambda parts: "p " + "".join(parts)))
def test_a_shell_runs_the_commands_that_were_read(programs, line):
    """The oracle is sh itself, with programs that all succeed and then all fail, so that each command runs once at least."""
    commands = split_list(line)
    if not commands or any(argv[0] not in {"p", "pp"} for argv in commands):
        return
    ran = set()
    for end in "01":
        log = Path(tempfile.mkdtemp(dir=programs))
        environment = {"PATH": f"{programs}:{os.environ['PATH']}", "LOG": str(log), "END": end}
        done = subprocess.run(["sh", "-c", line], cwd=programs, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False)  # fmt: skip
        assert not done.stderr
        ran |= {tuple(file.read_text().split("\0")[:-1]) for file in log.iterdir()}
    assert ran == set(commands)


RUN_CODE = [
    "sh",
    "bash",
    "python3",
    "perl",
    "-",
    "-s",
    "-c",
    "-i",
    "true",
    "x.sh",
    "echo",
    "''",
    "/dev/stdin",
    "&&",
    ";",
    "|",
    "-e",
    "'echo'",
]


@example("bash python3")  # a script of a version manager, where that is what the name leads to
@settings(max_examples=150, deadline=None)
@given(line=st.lists(st.sampled_from(RUN_CODE), min_size=1, max_size=6).map(" ".join))
def test_what_is_said_to_read_no_code_runs_none(tmp_path_factory, line):
    """The oracle is sh itself: code on standard input, in a language all of them read, must leave no mark."""
    if find(line) is not None:
        return
    folder = tmp_path_factory.mktemp("run")
    (folder / "x.sh").write_text("")
    # A call of `open` where it is Python or Perl, a command where it is a shell's.
    code = f"open('{folder}/mark','w') #\n" if "python3" in line else f"open(F,'>{folder}/mark');\n" if "perl" in line else f": > {folder}/mark\n"  # fmt: skip
    subprocess.run(["sh", "-c", line], cwd=folder, input=code.encode(), capture_output=True, check=False, timeout=20)
    assert not (folder / "mark").exists()
