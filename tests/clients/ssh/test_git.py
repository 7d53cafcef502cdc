"""Stock git over ssh: the exec carries, the refs decide."""

import os
import subprocess

import pytest


@pytest.fixture
def repository(tmp_path, place):
    bare, work = place / f"{tmp_path.name}.git", tmp_path / "work"
    for arguments in (["init", "-q", "--bare", "-b", "main", bare], ["init", "-q", "-b", "main", work]):
        subprocess.run(["git", *map(str, arguments)], check=True)
    (work / "file").write_text("x" * 50_000)
    git(work, None, "add", ".")
    git(work, None, "commit", "-qm", "one")
    return bare, work


def git(folder, client, *arguments):
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_GLOBAL": "/dev/null"}
    if client is not None:
        environment["GIT_SSH_COMMAND"] = client.ssh_command
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@example.com", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)


def read_refs(bare):
    return subprocess.run(
        ["git", "for-each-ref", "--format=%(refname)"], cwd=bare, capture_output=True, text=True, check=True
    ).stdout.split()


def test_a_topic_branch_is_pushed_and_cloned(agent, repository, tmp_path):
    bare, work = repository
    done = git(work, agent, "push", f"web-1:{bare}", "main:topic")
    assert done.returncode == 0, done.stderr
    assert read_refs(bare) == ["refs/heads/topic"]
    done = git(tmp_path, agent, "clone", "-q", "-b", "topic", f"web-1:{bare}", "clone")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "clone/file").read_text() == "x" * 50_000


@pytest.mark.parametrize("version", [0, 1, 2])
def test_every_protocol_version_is_understood(agent, repository, version):
    bare, work = repository
    assert git(work, agent, "-c", f"protocol.version={version}", "push", f"web-1:{bare}", "main:topic").returncode == 0
    done = git(work, agent, "-c", f"protocol.version={version}", "ls-remote", f"web-1:{bare}")
    assert "refs/heads/topic" in done.stdout


def test_a_protected_branch_is_rejected_in_gits_own_words(agent, repository):
    bare, work = repository
    done = git(work, agent, "push", f"web-1:{bare}", "main", "main:topic")
    assert done.returncode == 1
    assert "! [remote rejected] main -> main (" in done.stderr
    assert "git.refs.protected" in done.stderr
    assert read_refs(bare) == []


def test_tags_stay(agent, repository):
    bare, work = repository
    git(work, None, "tag", "v1")
    assert git(work, agent, "push", f"web-1:{bare}", "v1").returncode == 0
    done = git(work, agent, "push", f"web-1:{bare}", "--delete", "v1")
    assert "git.refs.tags" in done.stderr
    assert read_refs(bare) == ["refs/tags/v1"]


def test_a_large_refused_push_ends_in_order(agent, repository):
    bare, work = repository
    (work / "large").write_bytes(os.urandom(6_000_000))
    git(work, None, "add", ".")
    git(work, None, "commit", "-qm", "large")
    done = git(work, agent, "push", f"web-1:{bare}", "main")
    assert "! [remote rejected]" in done.stderr


def test_other_ways_to_name_the_program_are_no_way_around(agent, repository):
    bare, work = repository
    for program in ("/tmp/git-receive-pack", "git-receive-pack --x", "sh -c git-receive-pack"):
        done = git(work, agent, "push", f"--receive-pack={program}", f"web-1:{bare}", "main:topic")
        assert done.returncode != 0
    assert read_refs(bare) == []
