"""What the policy tests share: bundles made of a few topics, an input document, and one real OPA server."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.policy.bundle import Bundle, read_tree
from gateway.policy.checks import find_opa
from gateway.testing.policy import OpaServer, add_topic

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent

MakeBundle = Callable[..., Bundle]


@pytest.fixture
def bundle_folder(tmp_path: Path) -> Path:
    """A folder with the aggregator and nothing else."""
    folder = tmp_path / "bundle"
    shutil.copytree(ROOT / "rego/sealgate/main", folder / "sealgate/main", ignore=shutil.ignore_patterns("*_test.rego"))
    return folder


@pytest.fixture
def make_bundle(bundle_folder: Path) -> MakeBundle:
    """Bundle of the aggregator and topics given as {"postgres/reads": rules}; the package line is added."""

    def make(topics: Mapping[str, str], site: Mapping[str, Any] | None = None) -> Bundle:
        for name, rules in topics.items():
            add_topic(bundle_folder, name, rules)
        if site is not None:
            (bundle_folder / "site").mkdir(exist_ok=True)
            (bundle_folder / "site/data.json").write_text(json.dumps(site))
        return read_tree(bundle_folder)

    return make


@pytest.fixture(scope="session")
def small_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """tests/policy/bundles/small with the real aggregator."""
    folder = tmp_path_factory.mktemp("small")
    shutil.copytree(HERE / "bundles/small", folder, dirs_exist_ok=True)
    shutil.copytree(ROOT / "rego/sealgate/main", folder / "sealgate/main", ignore=shutil.ignore_patterns("*_test.rego"))
    return read_tree(folder)


@pytest.fixture(scope="session")
def opa_program() -> str:
    """The pinned OPA."""
    program = find_opa()
    assert program is not None, "tools/build opa must work where the policy tests run"
    return program


@pytest.fixture
def opa_server(opa_program: str) -> Iterator[OpaServer]:
    """An empty OPA server of the test's own."""
    server = OpaServer(opa_program)
    server.start()
    yield server
    server.stop()
