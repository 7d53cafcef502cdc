"""The structure a newcomer relies on: where things lie, what each protocol folder holds, how long a module may be."""

import ast
import importlib
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("gateway", "addons", "evidence")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
MAX_MODULE_LINES = 500
MAX_FUNCTION_LINES = 60


def name(path):
    return str(path.relative_to(ROOT))


def test_folders_that_are_not_packages_stay_so():
    for folder in ("tests", "conftest", "rego", "schemas", "docs", "deploy", "benchmarks", "native"):
        assert not list((ROOT / folder).rglob("__init__.py")), folder
    assert not (ROOT / "conftest.py").exists(), "a conftest.py at the root would shadow the folder conftest/"


@pytest.mark.parametrize(
    "folder",
    [path for path in (ROOT / "gateway/protocols").iterdir() if path.is_dir() and path.name != "__pycache__"],
    ids=lambda path: path.name,
)
def test_every_protocol_folder_has_the_same_files(folder):
    assert {path.stem for path in folder.glob("*.py")} >= {"__init__", "events", "parse", "actions", "enforce"}
    schema = ROOT / "schemas" / folder.name
    assert {path.stem for path in schema.glob("*.json")} >= {"request", "response"}
    assert (ROOT / "rego/sealgate/policies" / folder.name).is_dir()


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_modules_and_functions_stay_readable(path):
    source = path.read_text()
    tree = ast.parse(source)
    assert ast.get_docstring(tree), "every module says what it is for"
    assert len(source.splitlines()) <= MAX_MODULE_LINES
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            length = node.end_lineno - body[0].lineno + 1 if body else 0
            assert length <= MAX_FUNCTION_LINES, node.name


@pytest.mark.parametrize("path", sorted((ROOT / "rego").rglob("*.rego")), ids=name)
def test_rego_packages_are_folders_with_tests_beside_them(path):
    package = re.search(r"^package (\S+)", path.read_text(), re.MULTILINE).group(1)
    place = ".".join(path.parent.relative_to(ROOT / "rego").parts)
    assert package == (f"{place}_test" if path.stem.endswith("_test") else place)
    assert list(path.parent.glob("*_test.rego")), "tests lie beside the rules"


def test_schemas_are_flat():
    for path in (ROOT / "schemas").rglob("*.json"):
        assert '"oneOf"' not in path.read_text(), "one oneOf makes the checker miss errors anywhere in the schema"


def test_only_the_hosts_know_their_libraries():
    for path in MODULES:
        text = path.read_text()
        if re.search(r"^\s*(import|from) mitmproxy", text, re.MULTILINE):
            assert name(path).startswith("addons/") or name(path) == "gateway/serve/http/proxy.py"
        if re.search(r"^\s*(import|from) asyncssh", text, re.MULTILINE):
            assert name(path).startswith("gateway/serve/ssh") or name(path) == "gateway/testing/ssh_target.py"


def test_the_native_module_offers_what_its_stubs_say():
    for stub in (ROOT / "native/sealgate_native").glob("*.pyi"):
        module = importlib.import_module("sealgate_native" if stub.stem == "__init__" else f"sealgate_native.{stub.stem}")
        for node in ast.parse(stub.read_text()).body:
            if isinstance(node, ast.FunctionDef):
                assert callable(getattr(module, node.name)), node.name
            elif isinstance(node, ast.ClassDef):
                methods = [member.name for member in node.body if isinstance(member, ast.FunctionDef)]
                if methods:  # without methods it is the shape of a dictionary
                    assert all(hasattr(getattr(module, node.name), method) for method in methods), node.name


def test_nothing_of_a_machine_or_a_registry_is_committed():
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    home = re.compile(r"/root/|/home/[a-z]+/|/work/")
    for path in filter(None, tracked):
        if path.endswith((".py", ".rs", ".rego", ".md", ".toml", ".yaml", ".json", ".lock", ".sh")) or "/" not in path:
            text = (ROOT / path).read_text(errors="replace")
            assert path == name(Path(__file__)) or not home.search(text), path
    for lock in ("requirements.lock", "requirements-dev.lock"):
        assert "--index-url" not in (ROOT / lock).read_text()
