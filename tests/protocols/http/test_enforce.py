"""Refusals in the words of each family of clients."""

import json
from urllib.parse import unquote

import pytest

from gateway.messages import Refusal
from gateway.protocols.http import enforce

REFUSAL = Refusal("denied", "http.test", "POST move blocked by policy", "100 % é\r\ngrpc-status: 0", "ask", "d-1", ticket="AR-1")


@pytest.mark.parametrize(
    ("version", "content_type", "expected"),
    [
        ("HTTP/2.0", "application/grpc", True),
        ("HTTP/2.0", "Application/GRPC+proto; charset=utf-8", True),
        ("HTTP/2.0", "application/grpc-web", False),
        ("HTTP/1.1", "application/grpc", False),
        ("HTTP/2.0", "application/json", False),
        ("HTTP/2.0", None, False),
    ],
)
def test_who_reads_grpcs_status(version, content_type, expected):
    assert enforce.speaks_grpc(version, content_type) is expected


def test_a_grpc_refusal_is_one_line_whatever_stands_in_it():
    response = enforce.refuse_grpc(REFUSAL)
    fields = dict(response.headers)
    assert (response.status, response.body, fields["grpc-status"]) == (200, b"", "7")
    assert fields["grpc-message"].isascii()
    assert fields["grpc-message"].isprintable()
    told = unquote(fields["grpc-message"])
    assert "100 % é" in told
    assert "rule http.test; ticket AR-1; decision d-1; what to do: ask" in told


def test_every_family_of_refusals_has_both_statuses():
    assert enforce.GRPC_STATUSES.keys() == enforce.STATUSES.keys()
    assert all(0 < status <= 16 for status in enforce.GRPC_STATUSES.values())


def test_everybody_else_gets_a_problem_document():
    response = enforce.refuse(REFUSAL)
    assert response.status == 403
    assert json.loads(response.body)["ticket"] == "AR-1"
