"""A small real service with an OpenAPI document, and with two faults of its own that a property-based test finds.

The document is served at /openapi.json. The faults: an account number beyond 32 bits is a 500, and a transfer of more than a million is
answered with a text where the document says number. Whoever tests the service through a gateway must find exactly these.
"""

from __future__ import annotations

import json
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

ACCOUNTS: Final = {
    1: {"id": 1, "owner": "Ann Archer", "ssn": "123-45-6789"},
    2: {"id": 2, "owner": "Bob Brewer", "ssn": "234-56-7890"},
}
"""Made-up people."""

HIGHEST_PAGE: Final = 100
HIGHEST_ID: Final = 2**31
MAX_DIGITS: Final = 40
LARGE_AMOUNT: Final = 1_000_000

_PROBLEM: Final = {
    "description": "The request is refused, by the service or on the way.",
    "content": {
        "application/problem+json": {
            "schema": {
                "type": "object",
                "required": ["title", "status"],
                "properties": {"title": {"type": "string"}, "status": {"type": "integer"}, "rule": {"type": "string"}},
            }
        }
    },
}
_ACCOUNT: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["id", "owner", "ssn"],
    "properties": {"id": {"type": "integer"}, "owner": {"type": "string"}, "ssn": {"type": "string"}},
}
_TRANSFER: Final[dict[str, Any]] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["to", "amount"],
    "properties": {
        "to": {"type": "integer", "minimum": 1, "maximum": 1_000},
        "amount": {"type": "integer", "minimum": 1, "maximum": 2 * LARGE_AMOUNT},
        "note": {"type": "string", "maxLength": 100},
    },
}


def _answers(schema: dict[str, Any]) -> dict[str, Any]:
    good = {"description": "It is so.", "content": {"application/json": {"schema": schema}}}
    return {"200": good, **dict.fromkeys(("400", "403", "404", "405", "413", "431"), _PROBLEM)}


DOCUMENT: Final[dict[str, Any]] = {
    "openapi": "3.0.3",
    "info": {"title": "Accounts", "version": "1"},
    "paths": {
        "/accounts": {
            "get": {
                "operationId": "listAccounts",
                "parameters": [
                    {
                        "name": "page",
                        "in": "query",
                        "schema": {"type": "integer", "minimum": 1, "maximum": HIGHEST_PAGE},
                    }
                ],
                "responses": _answers({"type": "array", "items": _ACCOUNT}),
            }
        },
        "/accounts/{id}": {
            "get": {
                "operationId": "showAccount",
                "parameters": [
                    {
                        "name": "id",
                        "in": "path",
                        "required": True,
                        "schema": {"type": "integer", "minimum": 1, "maximum": 2 * HIGHEST_ID},
                    }
                ],
                "responses": _answers(_ACCOUNT),
            }
        },
        "/transfers": {
            "post": {
                "operationId": "makeTransfer",
                "requestBody": {"required": True, "content": {"application/json": {"schema": _TRANSFER}}},
                "responses": _answers({"type": "object", "required": ["amount"], "properties": {"amount": {"type": "number"}}}),
            }
        },
    },
}


def make_app() -> Starlette:
    """The service, to be run by uvicorn."""
    return Starlette(
        routes=[
            Route("/openapi.json", lambda _: JSONResponse(DOCUMENT)),
            Route("/accounts", _list_accounts),
            Route("/accounts/{id}", _show_account),
            Route("/transfers", _make_transfer, methods=["POST"]),
        ]
    )


def _list_accounts(request: Request) -> Response:
    pages = request.query_params.getlist("page")
    if set(request.query_params) - {"page"} or len(pages) > 1:
        return _refuse("no such parameter")
    if pages and (_read_number(pages[0]) is None or not 1 <= int(pages[0]) <= HIGHEST_PAGE):
        return _refuse("the page is a number from 1 to 100")
    return JSONResponse(list(ACCOUNTS.values()))


def _show_account(request: Request) -> Response:
    number = _read_number(request.path_params["id"])
    if number is None or not 1 <= number <= 2 * HIGHEST_ID or request.query_params:
        return _refuse("the id is out of range")
    if number >= HIGHEST_ID:
        return JSONResponse({"error": "integer out of range"}, status_code=500)
    found = ACCOUNTS.get(number)
    return _refuse("no such account", 404) if found is None else JSONResponse(found)


async def _make_transfer(request: Request) -> Response:
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json" or request.query_params:
        return _refuse("a transfer is JSON")
    try:
        body = json.loads(await request.body())
    except ValueError:
        return _refuse("a transfer is JSON")
    wanted = _TRANSFER["properties"]
    if not isinstance(body, dict) or not {"to", "amount"} <= set(body) <= set(wanted):
        return _refuse("a transfer has to, amount and perhaps a note")
    for name in ("to", "amount"):
        if type(body[name]) is not int or not wanted[name]["minimum"] <= body[name] <= wanted[name]["maximum"]:
            return _refuse(f"{name} is out of range")
    if not isinstance(body.get("note", ""), str) or len(body.get("note", "")) > wanted["note"]["maxLength"]:
        return _refuse("a note is a short text")
    return JSONResponse({"amount": "plenty" if body["amount"] > LARGE_AMOUNT else body["amount"]})


def _read_number(text: str) -> int | None:
    return (
        int(text)
        if text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS and not (len(text) > 1 and text[0] == "0")
        else None
    )


def _refuse(title: str, status: int = 400) -> Response:
    return JSONResponse({"title": title, "status": status}, status_code=status, media_type="application/problem+json")
