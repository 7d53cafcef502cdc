"""From what the native kernel reports to typed events. Pure; a report this module does not know is an error, never ignored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final
from uuid import UUID

from gateway.errors import ProtocolError
from gateway.protocols.postgres.events import (
    ActionEnd,
    ClientEvent,
    CommandComplete,
    CopyIn,
    CopyInEnd,
    CopyOut,
    Execute,
    Field,
    FunctionCall,
    Parameter,
    ParameterStatus,
    Parse,
    Passing,
    Query,
    Ready,
    ResultEnd,
    RowDescription,
    ServerError,
    ServerEvent,
    Terminate,
    Undecodable,
)

Report = Mapping[str, Any]


def parse_client_event(report: Report) -> ClientEvent:
    """The event for one report of `Session.next_client_event`. Raises ProtocolError for an unknown or misshapen report."""
    return _build(_CLIENT, report)


def parse_server_event(report: Report) -> ServerEvent:
    """The event for one report of `Session.next_server_event`. Raises ProtocolError for an unknown or misshapen report."""
    return _build(_SERVER, report)


def _build[E](table: Mapping[str, Callable[[Report], E]], report: Report) -> E:
    kind = report.get("kind")
    build = table.get(kind) if isinstance(kind, str) else None
    if build is None:
        raise ProtocolError("the kernel reported an event the gateway does not know", why=f"kind {kind!r}")
    try:
        return build(report)
    except (KeyError, TypeError) as error:
        raise ProtocolError("the kernel reported an incomplete event", why=f"kind {kind!r}, {error}") from error


def _parameter(value: object, oids: tuple[int, ...], index: int) -> Parameter:
    declared = oids[index] if index < len(oids) else 0
    if value is None:
        return Parameter(declared, 0)
    if isinstance(value, str):
        return Parameter(declared, 0, text=value)
    if not isinstance(value, Mapping):
        raise TypeError("a parameter is neither NULL, text nor a description")
    oid, text, encoded = int(value.get("type_oid", declared)), value.get("text"), value.get("hex")
    if text is None and encoded is not None:
        text = read_binary(oid, bytes.fromhex(encoded))
    return Parameter(oid, int(value.get("format", 0)), text, None if text is not None else encoded)


def read_binary(oid: int, data: bytes) -> str | None:
    """The text form of a binary value, None where the type or the bytes are not one this module reads.

    Drivers choose the format by type and size, so the same action would otherwise have several digests.
    """
    if oid in _INTEGER_BYTES:
        return str(int.from_bytes(data, "big", signed=True)) if len(data) == _INTEGER_BYTES[oid] else None
    if oid == _BOOL and data in {b"\0", b"\1"}:
        return "t" if data == b"\1" else "f"
    if oid == _UUID and len(data) == 16:  # noqa: PLR2004 - a UUID
        return str(UUID(bytes=data))
    if oid in _TEXT_OIDS:
        try:
            return data.decode()
        except UnicodeDecodeError:
            return None
    return None


_BOOL: Final = 16
_UUID: Final = 2950
_INTEGER_BYTES: Final = {20: 8, 21: 2, 23: 4}
_TEXT_OIDS: Final = frozenset({19, 25, 114, 1042, 1043})
"""name, text, json, bpchar, varchar: their binary form is their text. `unknown` (705) is none: the server infers a type in its place."""


def _execute(report: Report) -> Execute:
    oids = tuple(report.get("param_oids", ()))
    return Execute(
        report["id"],
        report["portal"],
        report["statement"],
        report["sql"],
        tuple(_parameter(value, oids, index) for index, value in enumerate(report["params"])),
        report["max_rows"],
        report.get("needs_describe", False),
        report.get("epoch", 0),
    )


def _row_description(report: Report) -> RowDescription:
    fields = tuple(
        Field(
            item["name"],
            item["table_oid"],
            item["attnum"],
            item["type_oid"],
            item.get("type_size", 0),
            item.get("type_modifier", -1),
        )
        for item in report["fields"]
    )
    statement, index = report.get("statement"), report.get("index")
    return RowDescription(report["id"], report["action"], fields, tuple(report["formats"]), statement, index or 0)


def _result_end(report: Report) -> ResultEnd:
    return ResultEnd(
        report["action"],
        report["rows"],
        report["bytes"],
        dict(report["masked"]),
        dict(report["detected"]),
        bytes(report.get("record", b"")),
        report.get("record_truncated", False),
        report.get("withheld"),
        report.get("rows_withheld", 0),
        report.get("cut_by"),
    )


_CLIENT: Final[dict[str, Callable[[Report], ClientEvent]]] = {
    "query": lambda r: Query(r["id"], r["sql"]),
    "parse": lambda r: Parse(r["id"], r["statement"], r["sql"], tuple(r["param_oids"])),
    "execute": _execute,
    "function_call": lambda r: FunctionCall(
        r["id"], r["oid"], tuple(_parameter(value, (), n) for n, value in enumerate(r["params"]))
    ),
    "refused": lambda r: Undecodable(r["id"], r["reason"]),
    "copy_in_end": lambda r: CopyInEnd(r["action"], r["ok"], r["bytes"], r["rows"], bytes.fromhex(r["sha256"])),
    "terminate": lambda _: Terminate(),
}

_SERVER: Final[dict[str, Callable[[Report], ServerEvent]]] = {
    "row_description": _row_description,
    "copy_out": lambda r: CopyOut(r["id"], r["action"], r["format"], tuple(r["columns"]), r.get("index") or 0),
    "copy_in": lambda r: CopyIn(r["action"], r["format"], tuple(r["columns"])),
    "command_complete": lambda r: CommandComplete(r["action"], r["tag"], r["index"], r["withheld"]),
    "error": lambda r: ServerError(dict(r["fields"]), r.get("action")),
    "parameter_status": lambda r: ParameterStatus(r["name"], r["value"]),
    "ready": lambda r: Ready(r["status"]),
    "result_end": _result_end,
    "action_end": lambda r: ActionEnd(r["action"], r["status"]),
    "notice": lambda _: Passing("notice"),
    "notification": lambda _: Passing("notification"),
}
