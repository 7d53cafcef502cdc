"""`sealgate policy`: check, test, bundle and ask policies.

Exit codes: 0 yes, 1 the check found problems or a test failed, 3 the bundle cannot be used, 2 wrong usage.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click
import orjson

from gateway.cli.output import EXIT_NO, config_option, emit, json_option
from gateway.config import DETECTORS, load_config
from gateway.decision import Decision, Enforceable, check, fail_closed
from gateway.errors import PolicyError
from gateway.policy.bundle import Bundle, load_bundle, read_tree, write_manifest
from gateway.policy.checks import check_bundle, notes, run_opa_tests
from gateway.policy.engine import PolicyFailure
from gateway.policy.recompute import evaluate_bundle
from gateway.protocols.git.enforce import ENFORCEABLE as GIT
from gateway.protocols.http.enforce import ENFORCEABLE as HTTP
from gateway.protocols.postgres.enforce import READ_ONLY_ENFORCEABLE as POSTGRES
from gateway.protocols.ssh.enforce import ENFORCEABLE as SSH

ENFORCEABLE: Final[dict[str, Enforceable]] = {"git": GIT, "http": HTTP, "postgres": POSTGRES, "ssh": SSH}
"""What each protocol of this build can carry out."""

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.group()
def command() -> None:
    """Check, test and bundle policies."""


@command.command("check")
@click.argument("bundle", type=_FOLDER, default="rego")
@config_option(required=False)
@json_option
def check_command(bundle: Path, config_path: Path | None, as_json: bool) -> None:
    """Name every problem of the bundle in folder BUNDLE (default: rego).

    The configuration is asked for its own detectors (masking.patterns), which the site's data may name; without one only
    the built-in ones are known.
    """
    detectors = frozenset(DETECTORS) if config_path is None else load_config(config_path).masking.known_detectors
    problems = check_bundle(bundle, enforceable=ENFORCEABLE, detectors=detectors)
    remarks = [] if problems else notes(bundle)
    verdict = f"{len(problems)} problems" if problems else f"{bundle}: no problems"
    emit(
        {"ok": not problems, "problems": problems, "notes": remarks},
        [*problems, *(f"note: {remark}" for remark in remarks), verdict],
        as_json=as_json,
    )
    if problems:
        raise click.exceptions.Exit(EXIT_NO)


@command.command("test")
@click.argument("bundle", type=_FOLDER, default="rego")
@json_option
def test_command(bundle: Path, as_json: bool) -> None:
    """Run the tests beside the rules in OPA."""
    _report_tests(run_opa_tests(bundle), as_json=as_json)


@command.command("coverage")
@click.argument("bundle", type=_FOLDER, default="rego")
@click.option("--threshold", type=click.FloatRange(0, 100), default=0.0, help="Percent of lines below which the answer is no.")
@json_option
def coverage_command(bundle: Path, threshold: float, as_json: bool) -> None:
    """Run the tests in OPA and say which lines they never reach."""
    summary = run_opa_tests(bundle, coverage=True)
    _report_tests(summary, as_json=as_json)
    if summary["coverage"] < threshold:
        raise click.exceptions.Exit(EXIT_NO)


@command.command("bundle")
@click.argument("bundle", type=_FOLDER, default="rego")
@json_option
def bundle_command(bundle: Path, as_json: bool) -> None:
    """Write the manifest by which the gateway loads the folder BUNDLE."""
    read_tree(bundle)  # what would not load gets no manifest
    manifest = write_manifest(bundle)
    loaded = load_bundle(bundle)
    emit({"manifest": str(manifest), "digest": loaded.digest}, [f"{manifest}: {loaded.digest}"], as_json=as_json)


@command.command("eval")
@click.argument("document", metavar="INPUT", type=click.File("rb"))
@click.option("--bundle", type=_FOLDER, default="rego", help="Folder of the bundle.")
@json_option
def eval_command(document: Any, bundle: Path, as_json: bool) -> None:
    """Print the decision about the input document in file INPUT ("-" reads standard input)."""
    try:
        parsed = orjson.loads(document.read())
    except orjson.JSONDecodeError as error:
        raise PolicyError("the input document cannot be read", why=str(error), fix="give a sealgate.input/1 document") from error
    decision = _decide(read_tree(bundle), parsed)
    record = {**decision.as_record(), "cause": decision.cause, "bundle": decision.bundle_digest}
    lines = [f"{decision.effect}" + (f" ({decision.cause})" if decision.cause else "")]
    lines += [f"  {reason.effect:8} {reason.rule}: {reason.message}" for reason in decision.reasons]
    lines += [f"  mask     {mask.rule}: {mask.strategy} {dict(mask.selector)}" for mask in decision.masks]
    lines += [f"  must     {obligation.rule}: {obligation.kind} {dict(obligation.params)}" for obligation in decision.obligations]
    emit(record, lines, as_json=as_json)


def _decide(bundle: Bundle, document: Any) -> Decision:
    protocol, phase = (document.get("protocol"), document.get("phase")) if isinstance(document, dict) else (None, None)
    try:
        raw = evaluate_bundle(bundle, document)
    except PolicyFailure as failure:
        return replace(fail_closed(failure.kind, failure.message), bundle_digest=bundle.digest)
    nothing = Enforceable(frozenset(), frozenset(), frozenset())
    decision = check(raw, ENFORCEABLE.get(str(protocol), nothing), phase=str(phase))
    return replace(decision, bundle_digest=bundle.digest)


def _report_tests(summary: dict[str, Any], *, as_json: bool) -> None:
    lines = [f"FAIL {name}" for name in summary["failed"]]
    lines.append(f"{summary['passed']} passed, {len(summary['failed'])} failed")
    if "coverage" in summary:
        lines += [f"{name}: lines {spans}" for name, spans in sorted(summary["not_covered"].items())]
        lines.append(f"coverage {summary['coverage']:.1f} %")
    emit(summary, lines, as_json=as_json)
    if summary["failed"]:
        raise click.exceptions.Exit(EXIT_NO)
