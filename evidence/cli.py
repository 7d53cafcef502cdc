"""`sealgate-verify`: the auditor's program. Needs no gateway, no network, and trusts nothing it finds in the directory."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

from evidence.errors import EvidenceError
from evidence.note import VerifierKey
from evidence.report import EXIT_USAGE, Report
from evidence.sessions import neutralise
from evidence.trust import IdentityRule, SigstoreTrust
from evidence.verify import UsageError, verify_directory
from evidence.verify_records import Recompute
from evidence.verify_trust import DEFAULT_MAX_SILENCE_S, DEFAULT_MAX_SKEW_S, TrustPolicy
from evidence.witness import WitnessKey, WitnessPolicy

EXIT_INTERRUPTED: Final = 130
_SHOWN_FINDINGS: Final = 50
_EPILOG: Final = """\
exit codes: 0 verified, 1 tampered, 2 incomplete, 3 untrusted, 4 usage or unable to verify. 0 never means "could not check".
Obtain every pin apart from the evidence: the trust configuration, the log keys and the identities."""


class _Parser(argparse.ArgumentParser):
    """Ends with the exit code for wrong usage, because argparse's own means `incomplete` here."""

    def error(self, message: str) -> NoReturn:
        """Print the usage and end."""
        self.print_usage(sys.stderr)
        self.exit(EXIT_USAGE, f"{self.prog}: {message}\n")


def build_parser(prog: str = "sealgate-verify") -> argparse.ArgumentParser:
    """The command line."""
    parser = _Parser(
        prog=prog,
        description="Verify an evidence directory offline, against pins you bring.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("directory", metavar="DIR", type=Path, help="evidence directory, or one log's directory")
    pins = parser.add_argument_group("pins")
    pins.add_argument(
        "--trust-config", metavar="FILE", type=Path, required=True, help="Sigstore ClientTrustConfig or trusted root"
    )
    pins.add_argument(
        "--log-vkey", metavar="VKEY|FILE", action="append", default=[], help="a log's verifier key, or a file of them"
    )
    pins.add_argument("--identity", metavar="ID", required=True, help="identity that attests checkpoints")
    pins.add_argument("--issuer", metavar="URL", required=True, help="issuer of that identity")
    pins.add_argument(
        "--reviewer",
        metavar="'ID URL'",
        action="append",
        default=[],
        help="who may approve: identity (or *@domain, or *) and issuer",
    )
    pins.add_argument(
        "--known-checkpoint", metavar="FILE", type=Path, action="append", default=[], help="a note you kept from before"
    )
    pins.add_argument("--witness", metavar="VKEY", action="append", default=[], help="a witness of the logs' checkpoints")
    pins.add_argument("--witness-quorum", metavar="N", type=int, help="witnesses that must have cosigned; default all")
    pins.add_argument("--sigstore-witness", metavar="VKEY", action="append", default=[], help="a witness of the Sigstore log")
    pins.add_argument("--sigstore-witness-quorum", metavar="N", type=int, help="default all")
    options = parser.add_argument_group("options")
    options.add_argument("--age-identity", metavar="FILE", type=Path, action="append", default=[], help="opens sealed chunks too")
    options.add_argument("--development-ok", action="store_true", help="accept trust that is marked as for development")
    options.add_argument("--live", action="store_true", help="the log is still written: open sessions and a tail are only noted")
    options.add_argument("--accept-gaps", action="store_true", help="losses the log admits are only noted")
    options.add_argument("--not-strict", action="store_true", help="do not check that records are in canonical form (faster)")
    options.add_argument("--max-silence-s", type=float, default=DEFAULT_MAX_SILENCE_S, metavar="S", help="default %(default)g")
    options.add_argument("--max-skew-s", type=float, default=DEFAULT_MAX_SKEW_S, metavar="S", help="default %(default)g")
    options.add_argument("--json", action="store_true", dest="as_json", help="print the report as JSON")
    options.add_argument("--progress", action="store_true", help="show progress on standard error")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Verify and print; returns the exit code."""
    return run(build_parser().parse_args(arguments))


def run(options: argparse.Namespace, recompute: Recompute | None = None) -> int:
    """Verify as parsed options say and print the report; returns the exit code, which is never 0 after an error."""
    try:
        report = verify_directory(
            options.directory,
            build_trust(options),
            age_identities=read_age_identities(options.age_identity),
            recompute=recompute,
            strict=not options.not_strict,
            progress=_show_progress if options.progress else None,
        )
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001 - whatever went wrong, the answer is "could not check", never an exit code of a verdict
        text = str(error) if isinstance(error, (EvidenceError, OSError)) else f"{type(error).__name__}: {error}"
        print(f"sealgate-verify: could not verify: {neutralise(text)}", file=sys.stderr)  # noqa: T201 - a command line program
        return EXIT_USAGE
    _write(json.dumps(report.as_record(), indent=2) if options.as_json else "\n".join(render(report)))
    return report.exit_code


def _write(output: str) -> None:
    """Print to a reader that may leave early, as `head` does; the verdict is in the exit code all the same."""
    try:
        print(output, flush=True)  # noqa: T201 - a command line program
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains at its end


def build_trust(options: argparse.Namespace) -> TrustPolicy:
    """The pins that the options name.

    Raises:
        EvidenceError: one of them is malformed.
        OSError: a file cannot be read.
    """
    keys = tuple(VerifierKey.parse(text) for text in _expand(options.log_vkey))
    if not keys:
        raise UsageError("no log key is pinned", fix="give --log-vkey for every log")
    return TrustPolicy(
        sigstore=SigstoreTrust(options.trust_config.read_text()),
        log_keys=keys,
        gateway=(IdentityRule(options.identity, options.issuer),),
        reviewers=tuple(_read_rule(text) for text in options.reviewer),
        witnesses=_witnesses(options.witness, options.witness_quorum),
        sigstore_witnesses=_witnesses(options.sigstore_witness, options.sigstore_witness_quorum),
        last_seen=tuple(path.read_bytes() for path in options.known_checkpoint),
        accept_development=options.development_ok,
        accept_gaps=options.accept_gaps,
        live=options.live,
        max_silence_s=options.max_silence_s,
        max_skew_s=options.max_skew_s,
    )


def read_age_identities(paths: Sequence[Path]) -> list[str]:
    """The private age keys in identity files; comments and blank lines are skipped."""
    lines = [line.strip() for path in paths for line in path.read_text().splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def render(report: Report) -> list[str]:
    """The report for people. Everything from the directory is shown neutralised."""
    lines = [f"{report.verdict.upper()}  {report.directory}"]
    for origin, figures in report.logs.items():
        lines.append(
            f"  log {origin}: {figures['size']} records, {figures['attested_size']} attested, last {figures['attested_at']}"
        )
    assurance = report.assurance
    lines.append(f"  identity     {assurance.identity}")
    lines.append(f"  time         {assurance.time}")
    lines.append(f"  fork         {assurance.fork}")
    if assurance.development:
        lines.append("  DEVELOPMENT  this trust is for development only and proves nothing to anybody else")
    lines += [f"  {name.replace('_', ' '):<20} {state}" for name, state in report.checks.items()]
    for finding in report.findings[:_SHOWN_FINDINGS]:
        lines.append(f"  {finding.severity:<10} {finding.code:<24} {finding.where}: {finding.message}")
    hidden = report.as_record()["findings_total"] - min(len(report.findings), _SHOWN_FINDINGS)
    if hidden:
        lines.append(f"  and {hidden} more findings (--json shows them)")
    return [neutralise(line).replace("\n", " ") for line in lines]


def _read_rule(text: str) -> IdentityRule:
    identity, _, issuer = text.strip().rpartition(" ")
    if not identity.strip() or not issuer:
        raise UsageError(
            f"{text!r} names no reviewer", fix="give identity and issuer in one argument: '*@example.com https://idp'"
        )
    return IdentityRule(identity.strip(), issuer)


def _expand(values: Sequence[str]) -> list[str]:
    """Keys given in place, which hold a plus sign and no file has their name, and keys in files, one per line."""
    found: list[str] = []
    for value in values:
        is_file = "+" not in value or Path(value).is_file()
        lines = Path(value).read_text().splitlines() if is_file else [value]
        found += [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return found


def _witnesses(vkeys: Sequence[str], quorum: int | None) -> WitnessPolicy | None:
    witnesses = tuple(WitnessKey.parse(text) for text in _expand(vkeys))
    needed = len(witnesses) if quorum is None else quorum
    if not witnesses and not needed:
        return None
    if not 0 < needed <= len(witnesses):
        raise UsageError(f"a quorum of {needed} among {len(witnesses)} witnesses can never be met", fix="name enough witnesses")
    return WitnessPolicy(witnesses, needed)


def _show_progress(origin: str, done: int, size: int) -> None:
    end = "\n" if done == size else ""
    print(f"\r{neutralise(origin)}: {done:,} of {size:,} records", end=end, file=sys.stderr, flush=True)  # noqa: T201 - a program


if __name__ == "__main__":
    sys.exit(main())
