"""What an agent does over HTTPS with stock curl, started by `sealgate run`, and what must come of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Final

from gateway.demo.http_world import HOST
from gateway.demo.scenes import COMMAND_TIMEOUT_S, Answer, Stage, Step, find_decision_id, shorten

URL: Final = f"https://{HOST}"
VALUES: Final = ("123-45-6789", "234-56-7890", "4111 1111 1111 1111")
"""What the service holds and no agent may see."""


def play_http(stage: Stage) -> Iterator[Step]:
    """The scenes in order; each yields its steps as they happen."""
    yield from _read(stage)
    yield from _blocked(stage)
    yield from _held(stage)
    yield _unseen(stage)


def _start(stage: Stage, *arguments: str) -> subprocess.Popen[str]:
    """Stock curl in the environment that `sealgate run` makes; nothing else knows of the gateway."""
    own = {name: value for name, value in os.environ.items() if name in {"PATH", "LANG", "LC_ALL", "HOME", "TMPDIR"}}
    agent = {
        "SEALGATE_ADMIN_URL": f"http://{stage.world.addresses['admin']}",
        "SEALGATE_TOKEN": stage.agent_token,
        "XDG_RUNTIME_DIR": str(stage.world.directory),
    }
    command = [sys.executable, "-m", "gateway.cli", "run", "--", "curl", "-sS", *arguments]
    return subprocess.Popen(  # noqa: S603 - our own program and stock curl
        command, env={**own, **agent}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def _finish(stage: Stage, process: subprocess.Popen[str]) -> Answer:
    text, _ = process.communicate(timeout=COMMAND_TIMEOUT_S)
    stage.seen_by_agents.append(text)
    return Answer(text, process.returncode)


def _curl(stage: Stage, *arguments: str) -> Answer:
    return _finish(stage, _start(stage, *arguments))


def _leaks(answer: Answer) -> bool:
    return any(value in answer.text for value in VALUES)


def _read(stage: Stage) -> Iterator[Step]:
    answer = _curl(stage, f"{URL}/accounts")
    ok = answer.code == 0 and "Ann Archer" in answer.text and not _leaks(answer)
    expected = "the accounts, with number and card masked"
    yield Step(
        "masked: fields of a JSON answer", "curl", expected, shorten(answer), ok, None, f"sealgate run -- curl {URL}/accounts"
    )
    answer = _curl(stage, f"{URL}/events")
    ok = answer.code == 0 and answer.text.count("event: account") == len(range(3)) and not _leaks(answer)
    yield Step("masked: an event stream, live", "curl", "three events, masked", shorten(answer), ok, None, f"curl {URL}/events")


def _blocked(stage: Stage) -> Iterator[Step]:
    attempts = (
        ("blocked: a destructive operation", ("-X", "DELETE", f"{URL}/accounts/1"), "http.destructive.operation"),
        ("blocked: an operation nobody declared", ("-X", "PUT", "-d", "x", f"{URL}/admin"), "http.operations.undeclared"),
        ("refused: a path that servers read differently", ("--path-as-is", f"{URL}/accounts;/../admin"), "http.malformed"),
    )
    for name, arguments, rule in attempts:
        answer = _curl(stage, *arguments)
        ok = rule in answer.text and '"decision_id"' in answer.text
        command = f"curl {' '.join(arguments)}"
        yield Step(name, "curl", f"a problem document naming {rule}", shorten(answer), ok, find_decision_id(answer), command)


def _held(stage: Stage) -> Iterator[Step]:
    arguments = ("-H", "content-type: application/json", "-d", '{"to": "vendor 17", "amount": 99}', f"{URL}/transfers")
    process = _start(stage, *arguments)
    ticket = stage.wait_for_ticket()
    arrived_early = bool(stage.world.http.service.find("/transfers"))
    approved = stage.approvals("approve", ticket, "--note", "matches invoice 4712")
    answer = _finish(stage, process)
    arrived = stage.world.http.service.find("/transfers")
    ok = approved.code == 0 and not arrived_early and len(arrived) == 1 and '"done":true' in answer.text.replace(" ", "")
    expected = "nothing reaches the service before the approval, one transfer after it"
    yield Step("held, approved, sent once", "curl", expected, shorten(answer), ok, None, f"curl -d … {URL}/transfers")


def _unseen(stage: Stage) -> Step:
    answer = _curl(stage, "-i", f"{URL}/echo")
    seen = stage.world.http.service.find("/echo")
    carried = bool(seen) and seen[-1].headers.get("authorization") == f"Bearer {stage.world.http.token}"
    ok = answer.code == 0 and carried and stage.world.http.token not in answer.text and "[masked:credential]" in answer.text
    expected = "the service got the gateway's credential and repeats it; the agent does not see it"
    return Step("the service shows what it was sent", "curl", expected, shorten(answer, 400), ok, None, f"curl -i {URL}/echo")
