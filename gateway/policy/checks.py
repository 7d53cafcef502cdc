"""Everything `sealgate policy check` looks at, and the runs of OPA behind `policy test` and `policy coverage`."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

import gateway
from gateway.decision import Enforceable
from gateway.errors import PolicyError
from gateway.policy.bundle import MANIFEST_NAME, Bundle, BundleError, load_bundle, read_tree
from gateway.policy.capabilities import CAPABILITIES_PATH
from gateway.policy.engine import ENTRYPOINT
from gateway.policy.process import end_process, load_frame, open_evaluator

OPA_DEADLINE_S: Final = 300.0
"""Longest run of the whole test suite in OPA."""

REQUIRED_CUSTOM: Final = ("id", "severity", "controls", "failure_msg", "solution")
"""What METADATA of a contribution must say beside title and description."""

_RULE_ID: Final = re.compile(r'"rule":\s*"([^"]+)"')
_KIND: Final = re.compile(r'"kind":\s*"([a-z_]+)"')


def check_bundle(
    path: Path | str, *, enforceable: Mapping[str, Enforceable] | None = None, detectors: Collection[str] | None = None
) -> list[str]:
    """Every problem of the bundle at `path`, as sentences; empty when it may be deployed.

    Args:
        path: the bundle's folder.
        enforceable: what each protocol can carry out, by protocol; asked-for masks and obligations beyond it are problems.
        detectors: names of detectors that exist; None where they are not known.
    """
    try:
        bundle = read_tree(path, detectors=detectors)
    except BundleError as error:
        return [str(problem) for problem in error.problems]
    except PolicyError as error:
        return [str(error)]
    problems = [*_manifest_problems(Path(path)), *_compile_problems(bundle), *_metadata_problems(bundle)]
    problems += _exception_problems(bundle)
    problems += _enforceable_problems(bundle, enforceable or {})
    if (opa := find_opa()) is not None:
        problems += _opa_problems(opa, Path(path))
    return problems


def notes(path: Path | str) -> list[str]:
    """What is no problem but worth knowing: protocols whose decisions cannot be cached, and a check that could not run."""
    bundle = read_tree(path)
    lines = [
        f"decisions about {protocol} are not cached: a topic reads {', '.join(bundle.projection(protocol).uncacheable)}"
        for protocol in bundle.topics
        if protocol != "any" and bundle.projection(protocol).uncacheable
    ]
    if find_opa() is None:
        lines.append("OPA was not found, so its compiler did not check the bundle; put `opa` on PATH")
    return lines


def find_opa() -> str | None:
    """The OPA program: `opa` on PATH, else the one this checkout pins (built once, kept in the cache)."""
    if (found := shutil.which("opa")) is not None:
        return found
    build = Path(gateway.__file__).resolve().parent.parent / "tools" / "build"
    if not build.is_file():
        return None
    built = subprocess.run([str(build), "opa"], capture_output=True, text=True, check=False)  # noqa: S603 -- our own script
    return built.stdout.strip() or None if built.returncode == 0 else None


def run_opa_tests(path: Path | str, *, coverage: bool = False) -> dict[str, Any]:
    """Run the tests beside the rules with OPA.

    Returns:
        {"passed": n, "failed": [names], "coverage"?: percent}.

    Raises:
        PolicyError: OPA is missing or the tests do not compile.
    """
    opa = find_opa()
    if opa is None:
        raise PolicyError("the tests cannot run", why="OPA was not found", fix="put `opa` on PATH")
    output = _run([opa, "test", "--format", "json", str(path)])
    try:
        results = json.loads(output.stdout)
    except ValueError as error:
        raise PolicyError("the tests cannot run", why=(output.stderr or output.stdout).strip()) from error
    failed = [f"{result['package']}.{result['name']}" for result in results if result.get("fail") or result.get("error")]
    summary: dict[str, Any] = {"passed": len(results) - len(failed), "failed": failed}
    if coverage:
        report = json.loads(_run([opa, "test", "--coverage", "--format", "json", str(path)]).stdout)
        summary["coverage"] = report.get("coverage", 0.0)
        summary["not_covered"] = {
            name: [[span["start"]["row"], span["end"]["row"]] for span in file["not_covered"]]
            for name, file in report.get("files", {}).items()
            if file.get("not_covered") and not name.endswith("_test.rego")
        }
    return summary


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=OPA_DEADLINE_S, check=False)  # noqa: S603 -- OPA on our own files


def _manifest_problems(path: Path) -> list[str]:
    if not (path / MANIFEST_NAME).exists():
        return []
    try:
        load_bundle(path)
    except PolicyError as error:
        return [str(error)]
    return []


def _compile_problems(bundle: Bundle) -> list[str]:
    try:
        process, channel = open_evaluator(load_frame(bundle, 250))
    except PolicyError as error:
        return [str(error)]
    channel.close()
    end_process(process)
    return []


def _metadata_problems(bundle: Bundle) -> list[str]:
    problems = []
    for name, rule in bundle.rules.items():
        missing = [member for member in ("title", "description", *REQUIRED_CUSTOM) if not rule.get(member)]
        if missing:
            problems.append(f"{rule['path']}: METADATA of rule {name} lacks {', '.join(missing)}")
    for module in bundle.modules:
        if module.path.startswith("sealgate/policies/"):
            used = set(_RULE_ID.findall(module.text))
            problems += [f"{module.path}: rule id {name} has no METADATA" for name in sorted(used - bundle.rules.keys())]
    return problems


def _exception_problems(bundle: Bundle) -> list[str]:
    problems = []
    for exception in bundle.data.get("site", {}).get("exceptions", []):
        rule = bundle.rules.get(exception["rule"])
        if rule is None:
            problems.append(
                f"site/data.json: exception {exception['ticket']} names rule {exception['rule']}, which does not exist"
            )
        elif rule.get("overridable", True) is not True:
            problems.append(f"site/data.json: exception {exception['ticket']}: rule {exception['rule']} cannot be switched off")
    return problems


def _enforceable_problems(bundle: Bundle, enforceable: Mapping[str, Enforceable]) -> list[str]:
    """Obligations written out in a topic that its protocol cannot carry out; what is computed is checked at run time."""
    problems = []
    for module in bundle.modules:
        scope = module.path.split("/")[2] if module.path.startswith("sealgate/policies/") else ""
        if scope in enforceable and "obligations contains" in module.text:
            unknown = set(_KIND.findall(module.text)) - enforceable[scope].obligations
            problems += [f"{module.path}: {scope} cannot carry out obligation {kind}" for kind in sorted(unknown)]
    return problems


def _opa_problems(opa: str, path: Path) -> list[str]:
    """What OPA's own compiler says: recursion, data over rules, unknown names, strictness, capabilities."""
    output = _run(
        [opa, "check", "--bundle", "--strict", "--ignore", "*_test.rego", "--capabilities", str(CAPABILITIES_PATH), str(path)]
    )
    text = (output.stderr or output.stdout).strip()
    return [] if output.returncode == 0 else [f"opa check ({ENTRYPOINT}): {text}"]
