"""The benchmark: ours beside its peers, in the same run on the same machine (`make bench`, `sealgate bench`).

    python -m benchmarks [--json] [--only policy,evidence,postgres,tls,memory,http,ssh,volume] [--quick] [--dir DIR]

Exit codes: 0 the floors of policy, evidence and memory hold, 1 one of them does not, 5 something the benchmark needs is missing or failed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any, Final

from benchmarks import audit, bulk, evidence, http, policy, postgres, ssh, volume
from benchmarks.machine import describe_machine, measure_sync_ms
from benchmarks.rows import Bound, Row, format_table, is_passed
from benchmarks.world import open_world
from gateway.errors import SealgateError

USUAL_GROUPS: Final = ("policy", "evidence", "memory", "postgres", "tls", "http", "ssh")
GROUPS: Final = (*USUAL_GROUPS, "volume")
"""What takes long and much of the machine is measured only where it is asked for by name."""

EXIT_FLOOR: Final = 1
EXIT_FAILED: Final = 5

Say = Callable[[str], None]


def main() -> int:
    options = _parse(sys.argv[1:])
    with tempfile.TemporaryDirectory(prefix="sealgate-bench-", dir=options.dir, ignore_cleanup_errors=True) as made:
        directory = Path(made)
        machine = describe_machine(directory)
        try:
            rows = measure(directory, options.only, is_quick=options.quick, say=_say)
        except (SealgateError, OSError, RuntimeError, CalledProcessError) as error:
            print(f"sealgate: the benchmark cannot run: {error}", file=sys.stderr)
            return EXIT_FAILED
        machine["disk_sync_p50_ms_after"] = round(measure_sync_ms(directory), 3)
    if options.json:
        print(json.dumps({"rows": [row.as_json() for row in rows], "machine": machine}, indent=2))
    else:
        print("\n".join([*format_table(rows), "", *(f"  {name}: {value}" for name, value in machine.items())]))
    return 0 if is_passed(rows) else EXIT_FLOOR


def measure(directory: Path, groups: frozenset[str], *, is_quick: bool, say: Say) -> list[Row]:
    """The rows of the wanted groups."""
    rows: list[Row] = []
    if "policy" in groups:
        say("policy: evaluator, cache, OPA")
        rows += policy.measure(postgres.make_directory(directory, "policy"), is_quick=is_quick)
    if "evidence" in groups:
        say("evidence: durable records, verification")
        rows += read_evidence(evidence.run(postgres.make_directory(directory, "records"), 1.0 if is_quick else 3.0))
        rows += audit.measure(postgres.make_directory(directory, "audit"), is_quick=is_quick)
    if "ssh" in groups:
        say("ssh: commands and files, direct, through a jump and by login name in turn")
        rows += ssh.measure(postgres.make_directory(directory, "ssh"), is_quick=is_quick)
    if groups & {"memory", "postgres"}:
        say("postgres: starting a server, pgbouncer and the gateway; a million rows")
        with open_world(postgres.make_directory(directory, "postgres")) as world:
            found = postgres.measure_bulk(world, is_quick=is_quick)
            if "postgres" in groups:
                say("postgres: pgbench, direct, through pgbouncer and through the gateway in turn")
                found += postgres.measure_statements(world, is_quick=is_quick)
            rows += [row for row in found if row.group in groups]
    if "tls" in groups:
        say("tls: pgbench again, with every connection encrypted")
        with open_world(postgres.make_directory(directory, "tls"), with_bulk=False, is_encrypted=True) as world:
            rows += postgres.measure_statements(world, is_quick=is_quick)
    if "http" in groups:
        say("http: nginx, bare mitmproxy and the gateway in turn")
        rows += http.measure(postgres.make_directory(directory, "http"), is_quick=is_quick)
    if groups & {"memory", "http"}:
        say("http: a gigabyte, direct and through the gateway in turn")
        found = bulk.measure(postgres.make_directory(directory, "bulk"), is_quick=is_quick)
        rows += [row for row in found if row.group in groups]
    if "volume" in groups:
        say("volume: idle sessions, COPY out and in")
        rows += volume.measure(directory, is_quick=is_quick, make_directory=postgres.make_directory)
    return rows


def read_evidence(report: dict[str, Any]) -> list[Row]:
    """The rows of `benchmarks.evidence` in the form of the others."""
    rows = []
    for found in report["rows"]:
        bounds = (None if found[name] is None else Bound("value", "min", found[name]) for name in ("floor", "aim"))
        notes = [
            f"p50 {found['p50_ms']} ms",
            f"p99 {found['p99_ms']} ms",
            f"{found['records_per_sync']} records per sync",
            f"disk sync p50 {found['sync_p50_ms']} ms",
        ]
        rows.append(
            Row(
                "evidence",
                found["name"],
                found["ours"],
                "records/s",
                found["peer"],
                found["peer_name"],
                found["ratio"],
                *bounds,
                notes,
            )
        )
    return rows


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON document instead of a table")
    parser.add_argument(
        "--only", type=read_groups, default=frozenset(USUAL_GROUPS), help=f"groups, with commas: {', '.join(GROUPS)}"
    )
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds: a look, not a result")
    parser.add_argument("--dir", type=Path, help="where everything is kept meanwhile: the disk to measure")
    return parser.parse_args(arguments)


def read_groups(text: str) -> frozenset[str]:
    """The groups named in `--only`. Raises argparse.ArgumentTypeError for another name."""
    names = frozenset(name.strip() for name in text.split(",") if name.strip())
    if not names or not names <= set(GROUPS):
        raise argparse.ArgumentTypeError(f"choose from {', '.join(GROUPS)}")
    return names


def _say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
