"""The policy bundle: which Rego modules and which data decide, named by one digest.

A bundle is a folder. Its manifest (`sealgate.manifest`, JSON) lists every file with its SHA-256; what is loaded is what the
manifest lists, no more and no less, and the bundle's digest covers the manifest. The loader refuses whatever would let a
contribution vanish without an error (design section 4): see `gateway.policy.lint`.

    FOLDER/sealgate.manifest
    FOLDER/sealgate/main/*.rego, FOLDER/sealgate/lib/**.rego, FOLDER/sealgate/policies/<protocol|any>/<topic>/*.rego
    FOLDER/site/**/data.json          data.site.…: the company's own values and exceptions, see `gateway.policy.site_data`

Tests (`*_test.rego`) are no part of a bundle. `data.sealgate_rules` is made here from the METADATA of the rules: an engine cannot
read METADATA while it evaluates, and the aggregator has to know which rules an exception may switch off. It lies outside every
policy root, so no data document can ever stand where a rule is expected.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway.errors import PolicyError
from gateway.policy.lint import SITE_FILE, Problem, find_problems
from gateway.policy.projection import Projection, project
from gateway.policy.rego_text import ModuleText, read_module
from gateway.policy.site_data import find_site_problems

MANIFEST_NAME: Final = "sealgate.manifest"
MANIFEST_SCHEMA: Final = "sealgate.bundle/1"

MAX_FILES: Final = 2_000
"""Files of a bundle; the shipped library has about a hundred."""

MAX_FILE_BYTES: Final = 1 << 20
"""Longest module or data file. The engine refuses longer modules itself."""


RULES_ROOT: Final = "sealgate_rules"
"""Root of the generated data: rule id to {"overridable": bool}. A rule that is not listed cannot be switched off."""


class BundleError(PolicyError):
    """A bundle the loader refuses; `problems` has every reason."""

    code = "policy.bundle"

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(
            "the policy bundle is refused",
            why="; ".join(str(problem) for problem in problems[:20]),
            fix="correct the named places; `sealgate policy check` lists all of them",
        )
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Module:
    """One Rego file: its path inside the bundle, with forward slashes, and its text."""

    path: str
    text: str


@dataclass(frozen=True, slots=True)
class Bundle:
    """A loaded bundle.

    Attributes:
        digest: "sha256:<hex>" over the manifest.
        modules: in path order.
        data: the data document, `site` and the generated `sealgate_rules`.
        topics: scope ("any" or a protocol) to the names of its topics.
        rules: the catalogue: rule id to its METADATA (title, description and the members of `custom`).
        projections: by protocol.
    """

    digest: str
    modules: tuple[Module, ...]
    data: Mapping[str, Any]
    topics: Mapping[str, tuple[str, ...]]
    rules: Mapping[str, Mapping[str, Any]]
    projections: Mapping[str, Projection]

    def projection(self, protocol: str) -> Projection:
        """What decisions about `protocol` can depend on."""
        return self.projections[protocol]

    def cacheable(self, protocol: str, phase: str) -> bool:
        """Whether decisions may be cached: no topic that judges them reads payload, time or counters.

        A topic does not say for which phase it speaks, so both phases of a protocol have one answer.
        """
        return phase in {"request", "response"} and protocol in self.projections and not self.projections[protocol].uncacheable


def load_bundle(path: Path | str, *, detectors: Collection[str] | None = None, has_decided: bool = False) -> Bundle:
    """The bundle of the folder `path`, loaded by its manifest.

    Args:
        path: the bundle's folder.
        detectors: names of detectors that exist; what the site's data names beside them is a problem. None where they are not known.
        has_decided: it is kept to decide again what it decided, whatever a gateway of today asks of the site's data.

    Raises:
        PolicyError: no manifest, or a file is missing, changed or unlisted, or the bundle breaks a rule of the loader.
    """
    folder = Path(path)
    try:
        manifest = json.loads((folder / MANIFEST_NAME).read_bytes())
    except (OSError, ValueError) as error:
        raise PolicyError(
            f"no policy bundle at {folder}", why=str(error), fix=f"write the manifest with `sealgate policy bundle {folder}`"
        ) from error
    files = _read_files(folder)
    listed = manifest.get("files") if isinstance(manifest, dict) and manifest.get("schema") == MANIFEST_SCHEMA else None
    if not isinstance(listed, dict):
        raise PolicyError(f"{folder / MANIFEST_NAME} is no bundle manifest", why=f"its schema is not {MANIFEST_SCHEMA}")
    actual = {name: _hash(text) for name, text in files.items()}
    if listed != actual:
        changed = sorted(name for name in listed.keys() | actual.keys() if listed.get(name) != actual.get(name))
        raise PolicyError(
            f"the bundle at {folder} is not what its manifest lists",
            why=f"missing, changed or unlisted: {', '.join(changed[:10])}",
            fix=f"review the files, then `sealgate policy bundle {folder}`",
        )
    return _assemble(files, detectors, checks_site=not has_decided)


def read_tree(path: Path | str, *, detectors: Collection[str] | None = None) -> Bundle:
    """The bundle a folder would make, without asking for a manifest: for checks, tests and replay of a candidate."""
    return _assemble(_read_files(Path(path)), detectors)


def write_manifest(path: Path | str) -> Path:
    """Write the manifest that lists every file of the bundle at `path` as it is now; gives the manifest's path."""
    folder = Path(path)
    target = folder / MANIFEST_NAME
    target.write_bytes(_manifest(_read_files(folder)))
    return target


def _read_files(folder: Path) -> dict[str, bytes]:
    """Every module (tests excluded) and data file below `folder`, by path inside it."""
    if not folder.is_dir():
        raise PolicyError(f"no policy bundle at {folder}", why="it is not a folder")
    files: dict[str, bytes] = {}
    for found in sorted(folder.rglob("*")):
        name = found.relative_to(folder).as_posix()
        if not found.is_file() or found.suffix not in {".rego", ".json"} or name.endswith("_test.rego"):
            continue
        if found.is_symlink():
            raise PolicyError(f"{name} in the policy bundle is a symbolic link", fix="put the file itself there")
        content = found.read_bytes()
        if len(content) > MAX_FILE_BYTES:
            raise PolicyError(f"{name} in the policy bundle has {len(content)} bytes", why=f"at most {MAX_FILE_BYTES} are loaded")
        files[name] = content
    if len(files) > MAX_FILES:
        raise PolicyError(f"the policy bundle has {len(files)} files", why=f"at most {MAX_FILES} are loaded")
    return files


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _manifest(files: Mapping[str, bytes]) -> bytes:
    document = {"schema": MANIFEST_SCHEMA, "files": {name: _hash(files[name]) for name in sorted(files)}}
    return json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"


def _assemble(files: Mapping[str, bytes], detectors: Collection[str] | None = None, *, checks_site: bool = True) -> Bundle:
    try:
        modules = tuple(Module(name, text.decode()) for name, text in sorted(files.items()) if name.endswith(".rego"))
        data = _read_data(files)
    except (ValueError, RecursionError) as error:
        raise PolicyError("the policy bundle holds a file that cannot be read", why=str(error)) from error
    if not modules:
        raise PolicyError("the policy bundle has no modules", why="nothing would ever be allowed or denied by a rule")
    texts = [read_module(module.path, module.text) for module in modules]
    problems = find_problems(texts, data)
    if checks_site:
        reads = [read.path for text in texts for read in text.data_reads]
        problems += [Problem(SITE_FILE, 0, problem) for problem in find_site_problems(data, reads, detectors=detectors)]
    if problems:
        raise BundleError(problems)
    rules = _catalogue(texts)
    switches = {name: {"overridable": rule.get("overridable", True) is True} for name, rule in rules.items()}
    return Bundle(
        digest=f"sha256:{_hash(_manifest(files))}",
        modules=modules,
        data={**data, RULES_ROOT: switches},
        topics=_topics(texts),
        rules=rules,
        projections=project(texts, data),
    )


def _read_data(files: Mapping[str, bytes]) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for name, content in sorted(files.items()):
        *folders, last = name.split("/")
        if not name.endswith(".json"):
            continue
        if last != "data.json" or not folders:
            raise ValueError(f"{name} is not a data.json in a folder below site/")
        target = data
        for folder in folders[:-1]:
            target = target.setdefault(folder, {})
            if not isinstance(target, dict):
                raise ValueError(f"{name} lies where another data.json has a value")  # noqa: TRY004 -- a bad file, not a bad argument
        if folders[-1] in target:
            raise ValueError(f"{name} lies where another data.json has a value")
        target[folders[-1]] = json.loads(content, object_pairs_hook=_unique_members)
    return data


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a data.json gives one name of an object twice")
    return members


def _topics(modules: list[ModuleText]) -> dict[str, tuple[str, ...]]:
    topics: dict[str, set[str]] = {}
    for module in modules:
        if module.package[:2] == ("sealgate", "policies"):
            topics.setdefault(module.package[2], set()).add(module.package[3])
    return {scope: tuple(sorted(names)) for scope, names in sorted(topics.items())}


def _catalogue(modules: list[ModuleText]) -> dict[str, dict[str, Any]]:
    """Every annotated rule by its id. One id on several bodies of a rule is one rule; it is overridable if all of them are."""
    rules: dict[str, dict[str, Any]] = {}
    for module in modules:
        for block in module.rule_annotations():
            custom = block.get("custom")
            if not isinstance(custom, dict) or not isinstance(custom.get("id"), str):
                continue
            rule = {"title": block.get("title"), "description": block.get("description"), "path": module.path, **custom}
            if rules.get(custom["id"], {}).get("overridable") is False:
                rule["overridable"] = False
            rules[custom["id"]] = rule
    return rules
