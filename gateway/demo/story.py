"""Plays the demonstration from beginning to end and reports each step as it happens."""

from __future__ import annotations

import shlex
import signal
import tempfile
import threading
import time
from itertools import chain
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.markup import escape

import gateway
from gateway.demo.http_scenes import play_http
from gateway.demo.proof import dump_line, prove, summarise
from gateway.demo.scenes import Stage, Step, close, play, relative
from gateway.demo.ssh_scene import HOST, write_access
from gateway.demo.world import AGENT, PRINCIPAL, REVIEWER, World, open_world
from gateway.errors import ConfigError

DEFAULT_BUNDLE: Final = Path(gateway.__file__).resolve().parent.parent / "rego"
"""Beside the package, in a checkout as in an installed wheel."""

REVIEWER_GROUPS: Final = ("platform-approvers", "data-approvers", "security-approvers")
"""What Bob may review beside payments, so that whoever plays with the demonstration can answer every request."""


def run_demo(directory: Path | None, *, keep: bool, as_json: bool) -> bool:
    """The whole story. True only if every step went as expected and the evidence verified.

    Args:
        directory: where everything is put; a new folder below the current one's temporary folder when None.
        keep: leave everything running at the end until interrupted.
        as_json: one JSON object a line instead of text.

    Raises:
        SealgateError: a part is missing or does not start.
    """
    folder = _choose_folder(directory)
    say = _Narrator(as_json=as_json)
    started = time.monotonic()
    say.title(f"Sealgate demonstration in {folder}")
    with open_world(folder, DEFAULT_BUNDLE) as world:
        say.title(
            f"PostgreSQL, an HTTPS service, issuer, Sigstore (development) and gateway are up after {time.monotonic() - started:.1f} s"
        )
        stage = Stage(world)
        for step in chain(play(stage), play_http(stage), close(stage)):
            say.step(step)
        say.title("the gateway stops; its evidence is verified offline")
        world.stop_gateway()
        for step in prove(world):
            say.step(step)
        seconds = time.monotonic() - started
        if keep:
            world.start_gateway()
            say.keep(world)
        say.summary(world, seconds, keep=keep)
        if keep:
            _wait_for_interrupt()
    return say.all_ok


class _Narrator:
    """Tells the story on standard output, for a person or as JSON lines."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._console = Console(highlight=False, soft_wrap=True)
        self.all_ok = True

    def title(self, text: str) -> None:
        if not self._as_json:
            self._console.print(f"\n[bold]{escape(text)}[/bold]")

    def step(self, step: Step) -> None:
        self.all_ok &= step.ok
        if self._as_json:
            print(dump_line(step.as_json()), flush=True)  # noqa: T201 - JSON lines are this mode's output
            return
        mark = "[green]ok[/green]" if step.ok else "[bold red]NOT AS EXPECTED[/bold red]"
        self._console.print(f"\n{mark} [bold]{escape(step.step)}[/bold]  [dim]{escape(step.client)}[/dim]")
        if step.command:
            self._console.print(f"   [cyan]{escape(step.command)}[/cyan]")
        for line in step.observed.splitlines():
            self._console.print(f"   [dim]│[/dim] {escape(line)}")
        if not step.ok:
            self._console.print(f"   expected: {escape(step.expected)}")

    def summary(self, world: World, seconds: float, *, keep: bool) -> None:
        summary = summarise(world, live=keep)
        if self._as_json:
            print(dump_line(summary), flush=True)  # noqa: T201 - as above
            return
        verify = shlex.join(str(part) for part in summary["verify"])  # type: ignore[attr-defined]
        evidence, config = shlex.quote(str(world.evidence)), shlex.quote(relative(world.config))
        key = shlex.quote(str(world.directory / "auditor.age-key"))
        self._console.print(
            f"\n[bold]{'Everything went as expected' if self.all_ok else 'Something did not go as expected'}[/bold] in {seconds:.0f} s.\n\n"
            f"The evidence is in {escape(str(world.evidence))}. What to try next:\n"
            f"  verify it yourself     {escape(verify)}\n"
            f"  look at the sessions   sealgate sessions list {escape(evidence)}\n"
            f"  replay one of them     sealgate sessions replay {escape(evidence)} SESSION --age-identity {escape(key)}\n"
            f"  see who was blocked    sealgate evidence query {escape(evidence)} --effect block\n"
            f"  read the configuration {escape(config)}, then: sealgate validate -c {escape(config)}\n"
            f"{'' if keep else '  play with it           sealgate demo --keep' + chr(10)}\n"
            "The Sigstore of this demonstration is for development: it proves nothing to anybody else."
        )

    def keep(self, world: World) -> None:
        token = world.token(PRINCIPAL, groups=("agents",), act={"sub": AGENT})
        agent = world.agent_environment(token)
        ssh: list[str] = []
        if world.ssh is not None:
            config = write_access(world.addresses["admin"], token, world.directory / "keep-ssh")
            ssh = ["ssh", "-F", str(config), HOST, "uptime"]
        reviewer = world.reviewer_environment(REVIEWER, groups=REVIEWER_GROUPS)
        if self._as_json:
            reach = {"environment": agent, "reviewer": reviewer, "admin": world.addresses["admin"]} | (
                {"ssh": ssh} if ssh else {}
            )
            print(dump_line({"step": "keep", **reach}), flush=True)  # noqa: T201 - as above
            return
        self._console.print("\n[bold]Everything keeps running.[/bold] As the agent:")
        self._console.print(f"  env {escape(_assign(agent))} psql")
        if ssh:
            self._console.print(f"  {escape(shlex.join(ssh))}   [dim]# the certificate lasts an hour[/dim]")
        self._console.print("As the reviewer (an approval is for one exact action, once):")
        self._console.print(f"  env {escape(_assign(reviewer))} sealgate approvals list")
        self._console.print(f"The admin listener is http://{world.addresses['admin']}. Interrupt (Ctrl-C) to stop everything.")


def _assign(environment: dict[str, str]) -> str:
    return " ".join(f"{name}={shlex.quote(value)}" for name, value in environment.items())


def _choose_folder(directory: Path | None) -> Path:
    if directory is None:
        return Path(tempfile.mkdtemp(prefix="sealgate-demo-"))
    if directory.exists() and any(directory.iterdir()):
        raise ConfigError(
            f"{directory} is not empty", why="the demonstration writes its own files there", fix="name a new folder"
        )
    return directory.resolve()


def _wait_for_interrupt() -> None:
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()
