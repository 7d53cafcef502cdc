"""Pushes: commands cut anywhere, bounded, and answered in Git's own words."""

import json
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.action import Carrier, Context, Resource, Subject, build_input
from gateway.errors import LimitExceededError, ProtocolError
from gateway.messages import Refusal
from gateway.protocols.git.actions import describe, lookups
from gateway.protocols.git.enforce import refuse_fetch, refuse_push
from gateway.protocols.git.events import Fetch, Push, RefUpdate, Undecodable
from gateway.protocols.git.parse import FLUSH, MAX_COMMANDS_BYTES, Mark, PktReader, PushReader, encode_line

OLD, NEW, NONE = "1" * 40, "2" * 40, "0" * 40
CAPABILITIES = b"\0 report-status side-band-64k atomic push-options agent=git/2.39"
REFUSAL = Refusal("denied", "git.refs.protected", "push blocked", "main is protected", "push a branch", "id-1", "AR-1")
SCHEMA = json.loads((Path(__file__).parents[3] / "schemas/git/request.json").read_text())


def command(ref, old=OLD, new=NEW, tail=b""):
    return encode_line(f"{old} {new} {ref}".encode() + tail)


STREAM = (
    command("refs/heads/main", tail=CAPABILITIES)
    + command("refs/tags/v1", NONE)
    + FLUSH
    + encode_line(b"ci.skip")
    + FLUSH
    + b"PACK..."
)
PUSH = Push(
    "/r",
    (RefUpdate("refs/heads/main", OLD, NEW), RefUpdate("refs/tags/v1", NONE, NEW)),
    ("report-status", "side-band-64k", "atomic", "push-options", "agent"),
    ("ci.skip",),
)


@given(st.lists(st.integers(1, 50), min_size=1))
def test_a_push_however_it_is_cut(sizes):
    reader, stream, index, push = PushReader("/r"), STREAM, 0, None
    while push is None:
        size = sizes[index % len(sizes)]
        index += 1
        push = reader.receive(stream[:size])
        stream = stream[size:]
    assert push == PUSH
    assert reader.head + reader.rest + stream == STREAM


def test_an_empty_push_is_one():
    assert PushReader("/r").receive(FLUSH) == Push("/r", ())


@pytest.mark.parametrize(
    "stream",
    [
        b"zzzz", b"0001", b"ffff" + b"x" * 70_000, encode_line(b"push-cert\0 x"), encode_line(b"hello"), encode_line(b"\xff\xff"),
        command("refs/heads/../x"), command("refs/heads/a b"), command("refs/heads/a\x07"), command("/refs"), encode_line(f"{OLD} {'2' * 64} refs/x".encode()),
    ],
)  # fmt: skip
def test_what_is_no_push_is_refused(stream):
    with pytest.raises(ProtocolError):
        PushReader("/r").receive(stream)


def test_a_reader_stays_in_error():
    reader = PktReader()
    reader.receive(b"zzzz")
    for _ in range(2):
        with pytest.raises(ProtocolError):
            reader.next()
    with pytest.raises(ProtocolError):
        reader.receive(b"0000")


def test_too_many_refs_are_refused():
    reader, line = PushReader("/r"), command("refs/heads/" + "a" * 1_000)
    for _ in range(MAX_COMMANDS_BYTES // len(line) - 1):
        assert reader.receive(line) is None
    with pytest.raises(LimitExceededError):
        reader.receive(line + line)


@pytest.mark.parametrize("event", [PUSH, Push("/r", ()), Fetch("/r", "upload-pack"), Undecodable("/r", "x")], ids=repr)
def test_every_action_fits_the_schema_and_names_its_carrier(event):
    action = describe(event, {}, Carrier("ssh", "id-0"))
    resource = Resource("git-1", "ssh", "production", "high")
    context = Context(1, "s", "2026-01-01T00:00:00.000000Z", "127.0.0.1")
    document = build_input(action, Subject("corp/a", "agent", "https://id", "a"), resource, context)
    jsonschema.Draft7Validator(SCHEMA).validate(document)
    assert document["carrier"] == {"protocol": "ssh", "action_id": "id-0"}
    assert lookups(event) == ()


def test_an_approval_is_for_these_objects():
    other = Push("/r", (RefUpdate("refs/heads/main", OLD, "3" * 40), *PUSH.updates[1:]), PUSH.capabilities, PUSH.options)
    assert describe(PUSH, {}).canonical != describe(other, {}).canonical
    assert describe(PUSH, {}).facts == describe(other, {}).facts


def read_lines(data):
    reader, lines = PktReader(), []
    reader.receive(data)
    while (line := reader.next()) is not Mark.MORE:
        lines.append(line)
    return lines


def test_a_refusal_is_a_report_for_every_ref():
    bands = [line for line in read_lines(refuse_push(REFUSAL, PUSH)) if isinstance(line, bytes)]
    told = b"".join(line[1:] for line in bands if line[:1] == b"\2").decode()
    report = read_lines(b"".join(line[1:] for line in bands if line[:1] == b"\1"))
    assert "git.refs.protected" in told
    assert report[0] == b"unpack ok\n"
    assert report[1] == b"ng refs/heads/main main is protected [git.refs.protected, decision id-1, ticket AR-1]\n"
    assert report[2].startswith(b"ng refs/tags/v1 ")
    assert report[3] is Mark.FLUSH


def test_a_client_without_side_band_gets_the_bare_report():
    plain = Push("/r", PUSH.updates, ("report-status",))
    assert read_lines(refuse_push(REFUSAL, plain))[0] == b"unpack ok\n"
    assert refuse_push(REFUSAL, Push("/r", PUSH.updates)) == b""


def test_a_refused_fetch_is_an_error_line():
    (line,) = read_lines(refuse_fetch(REFUSAL))
    assert line.startswith(b"ERR sealgate: push blocked")
