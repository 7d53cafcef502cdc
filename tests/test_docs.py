"""Documentation that cannot rot: every command, error code, record type and environment variable appears where a reader looks."""

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from evidence.record import REQUIRED
from gateway.cli import COMMANDS, main
from gateway.decision import FailureKind

ROOT = Path(__file__).parents[1]


def read(page):
    return (ROOT / page).read_text()


def walk(command, path=()):
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from walk(command.get_command(context, name), (*path, name))


COMMAND_TREE = [(" ".join(("sealgate", *path)), command) for path, command in walk(main) if path]


@pytest.mark.parametrize(("name", "command"), COMMAND_TREE, ids=[name for name, _ in COMMAND_TREE])
def test_every_command_is_documented(name, command):
    page = read("docs/commands.md")
    assert f"`{name}" in page
    for parameter in command.params:
        for option in parameter.opts:
            if option.startswith("--") and option not in {"--help", "--version"}:
                assert f"`{option}`" in page, f"{name} {option}"


def test_every_command_exists():
    assert {path[0] for path, _ in walk(main) if path} == set(COMMANDS)


def test_no_text_names_a_command_that_does_not_exist():
    texts = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    texts += [path for package in ("gateway", "evidence", "rego", "conftest", "tools") for path in (ROOT / package).rglob("*.*")]
    known = {name.removeprefix("sealgate ") for name, _ in COMMAND_TREE}
    for path in texts:
        if path.suffix not in {".md", ".py", ".rego", ".yaml"}:
            continue
        for words in re.findall(r"`sealgate ([a-z][a-z-]*(?: [a-z]+)?)", path.read_text()):
            assert {words, words.split()[0]} & known, f"{path}: sealgate {words}"


def test_every_error_code_is_documented():
    sources = [path for package in ("gateway", "evidence") for path in (ROOT / package).rglob("*.py")]
    codes = {code for path in sources for code in re.findall(r'^    code = "([a-z._]+)"$', path.read_text(), re.MULTILINE)}
    assert len(codes) > 20, "the codes are class members"
    causes = (
        {f"policy.{kind}" for kind in FailureKind.__value__.__args__}
        if hasattr(FailureKind, "__value__")
        else {f"policy.{kind}" for kind in FailureKind.__args__}
    )
    page = read("docs/errors.md")
    assert {code for code in codes | causes if f"`{code}`" not in page} == set()


def test_every_record_type_is_specified():
    page = read("docs/evidence-format.md")
    assert {kind for kind in REQUIRED if f"`{kind}`" not in page} == set()


def test_every_environment_variable_is_documented():
    used = set()
    for package in ("gateway", "evidence", "tools"):
        for path in (ROOT / package).rglob("*"):
            if path.is_file() and path.suffix in {".py", ""} and "__pycache__" not in path.parts:
                used |= set(re.findall(r"SEALGATE_[A-Z_]+[A-Z]", path.read_text(errors="replace")))
    page = read("docs/commands.md")
    assert {name for name in used if f"`{name}`" not in page} == set()


def test_links_between_pages_lead_somewhere():
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_limitation_names_tests_that_exist():
    named = re.findall(r"`((?:tests|rego)/[\w/.-]+?)(?:::(\w+))?`", read("LIMITATIONS.md"))
    assert named
    for path, function in named:
        assert (ROOT / path).exists(), path
        if function:
            assert re.search(rf"def {function}\b", (ROOT / path).read_text()), f"{path}::{function}"


def test_generated_pages_are_up_to_date():
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools/generate-docs"), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_readme_shows_both_commands():
    for command in ("make demo", "make test"):
        assert command in read("README.md")
