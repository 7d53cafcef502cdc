r"""Recorded conversations with PostgreSQL, message by message: what goes in, what is reported, what comes out.

One line each, in the order of the conversation:

    C type body    a message of the client          s type body    what the server gets
    S type body    a message of the server          c type body    what the client gets
    E {json}       an event; members that are not listed are not compared
    D verb json    what the host decides on the event before: forward, refuse, rows, copy, withhold

Bodies are text; bytes that are not printable ASCII, and the backslash, are written \xNN.
"""

from __future__ import annotations

import json
import re
from collections import deque
from pathlib import Path
from typing import Any

import pytest
from sealgate_native.postgres import Session

from tests.native import postgres_oracle as pg

VECTORS = Path(__file__).parent.parent / "vectors" / "postgres"
KEY = bytes(32)
CLIENT_KINDS = {"query", "parse", "execute", "function_call", "refused", "copy_in_end", "terminate"}


def read_body(text: str) -> bytes:
    return re.sub(rb"\\x(..)", lambda match: bytes.fromhex(match[1].decode()), text.encode("ascii"))


class Replay:
    def __init__(self, step_bytes: int) -> None:
        self.session = Session(
            max_message_bytes=1 << 20,
            max_statements=10,
            max_portals=10,
            max_pending=100,
            error_detectors=None,
            record_limit_bytes=1 << 16,
        )
        self.step_bytes = step_bytes
        self.to_client: deque[tuple[str, bytes]] = deque()
        self.to_server: deque[tuple[str, bytes]] = deque()
        self.judged: dict[str, Any] = {}

    def take(self, line: str) -> None:
        mark, rest = line[0], line[2:]
        if mark == "E":
            self.expect_event(json.loads(rest))
        elif mark == "D":
            verb, _, document = rest.partition(" ")
            self.decide(verb, json.loads(document or "null"))
        else:
            kind, body = rest[0], read_body(rest[2:])
            if mark in "CS":
                self.receive(mark, pg.message(kind, body))
            else:
                outlet = self.to_client if mark == "c" else self.to_server
                assert outlet, f"nothing came out, expected {line}"
                assert outlet.popleft() == (kind, body)

    def receive(self, mark: str, data: bytes) -> None:
        receive = self.session.receive_client if mark == "C" else self.session.receive_server
        for start in range(0, len(data), self.step_bytes):
            receive(data[start : start + self.step_bytes])
        self.collect()

    def collect(self) -> None:
        self.to_client += pg.messages(self.session.take_to_client())
        self.to_server += pg.messages(self.session.take_to_server())

    def expect_event(self, expected: dict[str, Any]) -> None:
        is_client = expected["kind"] in CLIENT_KINDS
        event = self.session.next_client_event() if is_client else self.session.next_server_event()
        assert event is not None, f"no event, expected {expected}"
        if "record" in event:
            event["record"] = event["record"].decode()
        assert {name: event.get(name) for name in expected} == expected
        if "id" in event:
            self.judged = event

    def decide(self, verb: str, document: Any) -> None:
        number = self.judged["id"]
        if verb == "forward":
            self.session.forward(number, document)
        elif verb == "refuse":
            self.session.refuse(number, document)
        elif verb == "withhold":
            self.session.withhold(number, document)
        elif verb == "rows":
            cut = (document["cut_by"], "SELECT") if "cut_by" in document else None
            self.session.resolve_rows(number, document["masks"], None, KEY, document.get("row_limit"), None, cut)
        else:
            self.session.resolve_copy(number, document["masks"], None, KEY, document["options"])
        self.collect()

    def finish(self) -> None:
        assert self.session.next_client_event() is None
        assert self.session.next_server_event() is None
        assert not self.to_client
        assert not self.to_server
        assert self.session.pending == 0


@pytest.mark.parametrize("step_bytes", [1, 1 << 20])
@pytest.mark.parametrize("path", sorted(VECTORS.glob("*.txt")), ids=lambda path: path.stem)
def test_a_recorded_conversation(path: Path, step_bytes: int) -> None:
    replay = Replay(step_bytes)
    for line in path.read_text().splitlines():
        if line and not line.startswith("#"):
            replay.take(line)
    replay.finish()


def test_there_are_recordings() -> None:
    assert len(list(VECTORS.glob("*.txt"))) >= 8
