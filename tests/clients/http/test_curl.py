"""Stock curl through the gateway: allowed, masked, blocked, held, and asked for a token."""

import json

import pytest

POST = ("-X", "POST", "-H", "content-type: application/json", "-d")


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_a_read_is_masked(curl, version):
    answer = curl("/accounts", version)
    assert answer.status == 200, answer.all + answer.error
    first = answer.json["accounts"][0]
    assert first["owner"] == "Ann Archer"
    assert first["balance"] == 1200.5
    assert first["ssn"] == first["card"] == "[redacted]"
    assert "45-6789" not in answer.all
    assert "11111111" not in answer.all


def test_plain_http_through_the_proxy(curl):
    answer = curl("/accounts/1", scheme="http")
    assert answer.status == 200, answer.all + answer.error
    assert answer.json["ssn"] == "[redacted]"


def test_a_destructive_operation_is_blocked_and_never_arrives(curl, service):
    answer = curl("/accounts/2", "-X", "DELETE")
    assert answer.status == 403
    assert answer.json["rule"] == "http.destructive.operation"
    assert "content-type: application/problem+json" in answer.head.lower()
    assert {"title", "detail", "fix", "decision_id"} <= answer.json.keys()
    assert not service.find("/accounts/2", "DELETE")


def test_an_undeclared_operation_is_blocked(curl, service):
    answer = curl("/transfers/all", "-X", "PUT", "-d", "x")
    assert answer.status == 403
    assert answer.json["rule"] == "http.operations.undeclared"
    assert not service.find("/transfers/all")


def test_a_regulated_change_waits_for_a_reviewer(curl, service):
    before = len(service.find("/transfers"))
    answer = curl("/transfers", *POST, json.dumps({"amount": 5}))
    assert answer.status == 403
    assert answer.json["error"] == "approval_required"
    assert answer.json["ticket"]
    assert answer.json["retry_after"] == 30
    assert "retry-after: 30" in answer.head.lower()
    again = curl("/transfers", *POST, json.dumps({"amount": 5}))
    assert again.json["ticket"] == answer.json["ticket"], "the same action, the same ticket"
    other = curl("/transfers", *POST, json.dumps({"amount": 6}))
    assert other.json["ticket"] != answer.json["ticket"]
    assert len(service.find("/transfers")) == before


def test_without_a_token_the_proxy_asks_for_one(curl, gateway):
    answer = curl(proxy=f"http://127.0.0.1:{gateway.http_port}")
    assert answer.code != 0
    assert "407" in answer.error
    plain = curl(proxy=f"http://127.0.0.1:{gateway.http_port}", scheme="http")
    assert plain.status == 407
    assert 'proxy-authenticate: basic realm="sealgate"' in plain.head.lower()


def test_a_wrong_token_is_refused(curl, gateway):
    answer = curl(proxy=f"http://agent:not-a-token@127.0.0.1:{gateway.http_port}")
    assert "407" in answer.error


def test_curl_answers_the_challenge(curl):
    assert curl("/accounts", "--proxy-anyauth").status == 200


def test_a_stranger_reaches_nothing(curl, gateway, mint):
    answer = curl(proxy=f"http://agent:{mint('x', groups=['guests'])}@127.0.0.1:{gateway.http_port}")
    assert "403" in answer.error


def test_unregistered_hosts_and_ports_are_refused(gateway, proxy_url, ca_file, curl):
    for place in ("https://example.com/", "https://127.0.0.1/", "https://ledger.bank.test:9999/"):
        answer = curl("/", "--url", place, "-o", "/dev/null")
        assert "403" in answer.error, place


def test_the_gateways_own_proof_reaches_the_service_and_the_agents_does_not(curl, service):
    before = len(service.find("/echo"))
    answer = curl("/echo", "-H", "authorization: Bearer something-else", "-H", "x-forwarded-for: 10.0.0.1", "-H", "via: 1.1 me")
    assert answer.status == 200
    seen = service.find("/echo")[before].headers
    assert seen["authorization"].startswith("Bearer s3rvice")
    assert not {"proxy-authorization", "proxy-connection", "x-forwarded-for", "via"} & seen.keys()
    assert seen["host"] == "ledger.bank.test"
    assert seen["accept-encoding"] == "identity"


def test_the_service_never_shows_the_gateways_proof(curl):
    for path in ("/echo", "/redirect", "/cookie"):
        answer = curl(path)
        assert answer.status in {200, 307}
        assert "s3rvice" not in answer.all, path
        assert "[masked:credential]" in answer.all, path


def test_other_kinds_of_bodies_are_masked(curl):
    for path in ("/text", "/gzip", "/events", "/ndjson"):
        answer = curl(path)
        assert answer.status == 200, answer.all + answer.error
        assert "45-6789" not in answer.body, path
        assert "masked" in answer.body or "redacted" in answer.body, path
    events = curl("/events").body
    assert events.count("\n\n") == 3
    assert events.startswith("id: 0\nevent: account\ndata: {")


def test_alternative_services_are_taken_away(curl):
    assert "alt-svc" not in curl("/cookie").head.lower()


def test_a_large_export_is_streamed(curl):
    answer = curl("/export?bytes=40000000", "-o", "/dev/null", "-w", "%{http_code} %{size_download}")
    assert answer.all.split()[-2:] == ["200", "40000000"] or "40000000" in answer.all


def test_a_head_request_has_no_body(curl):
    answer = curl("/accounts", "-I")
    assert answer.status in {200, 405}


def test_errors_of_the_service_pass(curl):
    answer = curl("/nothing-here")
    assert answer.status == 404
    assert answer.body == "no such thing\n"
