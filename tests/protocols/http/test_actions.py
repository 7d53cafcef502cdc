"""Events to actions: effects, facts without values, and what an approval covers. Then decisions in the client's words."""

import json

import pytest

from gateway.action import Resource, Subject, compute_action_digest
from gateway.decision import Obligation
from gateway.errors import LimitExceededError, ProtocolError
from gateway.masking import build_detectors
from gateway.messages import HttpRequest, Refusal
from gateway.protocols.http import enforce
from gateway.protocols.http.actions import HttpSettings, describe, describe_response
from gateway.protocols.http.events import ResponseHead, Unreadable
from gateway.protocols.http.parse import parse_message, parse_request
from gateway.protocols.http.paths import make_operation

SETTINGS = HttpSettings(
    "ledger",
    (
        make_operation("show", ["GET"], "/people/{ssn}"),
        make_operation("search", ["POST"], "/search", ["read"]),
        make_operation("export", ["GET"], "/export", ["read", "export"], ["bulk"]),
    ),
    ("ssn", "$.a.b"),
    build_detectors(["ssn", "payment_card"]),
)


def act(method="GET", target="/people/1", body=b"", settings=SETTINGS, **headers):
    fields = (("host", "a.test"), *((name.replace("_", "-"), value) for name, value in headers.items()))
    message = HttpRequest(method, "https", "a.test", 443, target, fields, body)
    return describe(parse_request(message, max_parsed_bytes=1 << 20), settings)


@pytest.mark.parametrize(
    ("method", "target", "effects", "harmless"),
    [
        ("GET", "/people/1", {"read"}, True),
        ("HEAD", "/people/1", {"read"}, True),
        ("OPTIONS", "/x", {"read"}, True),
        ("REPORT", "/x", {"read"}, False),
        ("POST", "/x", {"write"}, False),
        ("DELETE", "/x", {"write"}, False),
        ("POST", "/search", {"read"}, False),
        ("GET", "/export", {"read", "export"}, False),
    ],
)
def test_effects(method, target, effects, harmless):
    action = act(method, target)
    assert action.effects == effects
    assert action.harmless_read is harmless


def test_a_safe_method_with_a_body_is_no_harmless_read():
    assert not act("GET", "/x", b"{}", content_type="application/json").harmless_read


def test_facts_hold_structure_and_no_values():
    action = act(
        "POST",
        "/people/123-45-6789?card=4111111111111111&ssn=1",
        b'{"ssn": "123-45-6789", "jsonrpc": "2.0"}',
        content_type="application/json",
    )
    facts = json.dumps(action.facts)
    assert "6789" not in facts
    assert "4111" not in facts
    assert action.facts["segments"] == ["people", "[ssn]"]
    assert action.facts["query_names"] == ["card", "ssn"]
    assert action.facts["sensitive"] == ["ssn"]
    assert action.facts["findings"] == ["payment_card", "ssn"]
    assert action.facts["declared"] is True
    assert "operation" not in action.facts


def test_operations_name_their_parameters_in_the_payload():
    action = act(target="/people/7")
    assert action.facts["operation"] == {"id": "show", "template": "/people/{ssn}", "labels": []}
    assert action.payload["path_parameters"] == {"ssn": "7"}


def test_secrets_of_the_client_stay_out_of_the_payload():
    action = act(authorization="Bearer xyz", cookie="a=b", accept="*/*")
    assert action.payload["headers"]["authorization"] == ["[omitted]"]
    assert action.payload["headers"]["cookie"] == ["[omitted]"]
    assert action.payload["headers"]["accept"] == ["*/*"]
    assert "authorization" in action.facts["header_names"]


def test_calls_inside_bodies_are_named():
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "transfer", "arguments": {}}}
    action = act("POST", "/mcp", json.dumps(call).encode(), content_type="application/json")
    assert action.facts["rpc"] == {"methods": ["tools/call"]}
    assert action.facts["mcp"] == {"tools": ["transfer"]}
    batch = act(
        "POST", "/mcp", json.dumps([call, {"jsonrpc": "2.0", "method": "x y\n"}]).encode(), content_type="application/json"
    )
    assert batch.facts["rpc"] == {"methods": ["[other]", "tools/call"]}
    grpc = act("POST", "/bank.Accounts/Show", b"\0\0\0\0\0", content_type="application/grpc")
    assert grpc.facts["grpc"] == {"service": "bank.Accounts", "method": "Show"}


def digest(action, subject="corp/agent"):
    return compute_action_digest(action, Subject(subject, "agent", "https://i", "agent"), Resource("ledger", "http", "x", "high"))


def test_an_approval_covers_exactly_what_the_service_would_act_on():
    same = digest(act("POST", "/x?a=1", b"{}", content_type="application/json"))
    assert digest(act("POST", "/./x?a=1", b"{}", content_type="application/json", accept="*/*", user_agent="other")) == same
    for other in (
        act("PUT", "/x?a=1", b"{}", content_type="application/json"),
        act("POST", "/y?a=1", b"{}", content_type="application/json"),
        act("POST", "/x?a=2", b"{}", content_type="application/json"),
        act("POST", "/x?a=1", b"[]", content_type="application/json"),
        act("POST", "/x?a=1", b"{}", content_type="application/vnd.x+json"),
    ):
        assert digest(other) != same
    assert digest(act("POST", "/x?a=1", b"{}", content_type="application/json"), "corp/other") != same


def test_websockets_are_judged_at_the_upgrade_and_message_by_message():
    message = HttpRequest(
        "GET", "https", "a.test", 443, "/people/1", (("host", "a.test"), ("connection", "Upgrade"), ("upgrade", "websocket"))
    )
    request = parse_request(message, max_parsed_bytes=100)
    opened = describe(request, SETTINGS)
    assert (opened.name, opened.effects, opened.harmless_read) == ("http.websocket", {"read", "write"}, False)
    said = describe(parse_message(request, b'{"ssn": "1"}', is_text=True, max_parsed_bytes=100), SETTINGS)
    assert said.name == "http.message"
    assert said.facts["message"] == {"kind": "text", "bytes": 12}
    assert said.facts["sensitive"] == ["ssn"]


def test_what_cannot_be_read_is_no_action():
    with pytest.raises(ProtocolError):
        describe(Unreadable("http.path", "x"), SETTINGS)
    with pytest.raises(LimitExceededError):
        describe(Unreadable("http.path", "x", kind="limit"), SETTINGS)


def test_a_response_inherits_its_request():
    request = act()
    action = describe_response(request, ResponseHead(200, "json", "application/json", 12, ("a",), ("ssn",), headers={"x": ""}))
    assert action.phase == "response"
    assert action.facts == request.facts
    assert action.response == {
        "status": 200, "body_kind": "json", "streamed": False, "sensitive": ["ssn"], "media_type": "application/json", "length": 12,
        "shape": ["a"], "header_names": ["x"],
    }  # fmt: skip


# --- in the client's words


def test_a_refusal_is_a_problem_document():
    refusal = Refusal("approval", "http.regulated.change", "POST x needs approval", "why\n\x1b[2J", "do this", "d-1", "AR-1", 30)
    response = enforce.refuse(refusal)
    document = json.loads(response.body)
    assert response.status == document["status"] == 403
    assert document["ticket"] == "AR-1"
    assert document["error"] == "approval_required"
    assert document["retry_after"] == 30
    assert response.find_header("retry-after") == "30"
    assert response.find_header("content-type") == "application/problem+json"
    assert "\x1b" not in document["detail"]
    assert {"title", "rule", "fix", "decision_id", "type"} <= document.keys()


@pytest.mark.parametrize("kind", enforce.STATUSES)
def test_every_kind_of_refusal_has_a_status(kind):
    assert enforce.refuse(Refusal(kind, "r", "w", "y", "f", "d")).status == enforce.STATUSES[kind]


def test_challenges():
    assert enforce.challenge("w", "y", "f", "d", is_proxy=True).find_header("proxy-authenticate").startswith("Basic realm=")
    assert enforce.challenge("w", "y", "f", "d", is_proxy=False).find_header("www-authenticate").startswith("Bearer")


def test_obligations():
    limit = Obligation("r", "byte_limit", {"bytes": 5})
    assert enforce.read_byte_limit([limit, Obligation("q", "byte_limit", {"bytes": 3})]) == 3
    assert enforce.read_byte_limit([limit], "session_bytes") is None
    assert enforce.may_stream([Obligation("r", "stream")])
    assert not enforce.may_stream([limit])
    for wrong in ({}, {"bytes": True}, {"bytes": "5"}, {"bytes": -1}):
        with pytest.raises(enforce.UnenforceableError):
            enforce.read_byte_limit([Obligation("r", "byte_limit", wrong)])
