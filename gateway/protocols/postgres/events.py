"""What was seen on the wire of one PostgreSQL session, typed; the native kernel parsed it, `parse.py` made it these values.

Section numbers refer to the chapter "Frontend/Backend Protocol" of the PostgreSQL manual (https://www.postgresql.org/docs/current/protocol.html),
53.2 Message Flow and 53.7 Message Formats. Two groups: what the client asks for, of which the judged kinds need a decision before a byte
reaches the server, and what the server answers, of which the descriptions of results need one before a row reaches the client.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Parameter:
    """One bound parameter of Bind (53.7): the value in its format, or NULL when both `text` and `hex` are absent.

    Attributes:
        type_oid: the declared type, 0 where the client left it to the server.
        format: 0 text, 1 binary.
        text: the value where it is text.
        hex: the bytes in lower-case hex where the format is binary.
    """

    type_oid: int
    format: int
    text: str | None = None
    hex: str | None = None

    @property
    def is_null(self) -> bool:
        """Whether the parameter is SQL NULL."""
        return self.text is None and self.hex is None

    def as_value(self) -> object:
        """The value as the input document holds it: None, text, or {"type_oid", "hex"} where the bytes are not readable as text."""
        if self.text is not None or self.hex is None:
            return self.text
        return {"type_oid": self.type_oid, "hex": self.hex}


@dataclass(frozen=True, slots=True)
class Query:
    """A simple query (53.2.2): one string that may hold several statements, run as one implicit transaction."""

    id: int
    sql: str


@dataclass(frozen=True, slots=True)
class Parse:
    """A statement to prepare (53.2.3). `statement` is its name, "" for the unnamed one."""

    id: int
    statement: str
    sql: str
    param_oids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Execute:
    """A bound portal to run (53.2.3), with the statement text and the parameters it was bound to.

    Attributes:
        max_rows: how many rows the client asked for, 0 for all.
        needs_describe: the portal's result was never described, so the kernel asks for the description itself.
        epoch: which settings its statement was prepared under, as the host numbers them.
    """

    id: int
    portal: str
    statement: str
    sql: str
    params: tuple[Parameter, ...] = ()
    max_rows: int = 0
    needs_describe: bool = False
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """A call by function OID (53.2.4): obsolete, and what libpq and JDBC use for large objects. `params` have no types."""

    id: int
    oid: int
    params: tuple[Parameter, ...] = ()


@dataclass(frozen=True, slots=True)
class Undecodable:
    """A message that cannot be judged, such as a statement that is not UTF-8: refused, because the server could read it otherwise."""

    id: int
    reason: str


@dataclass(frozen=True, slots=True)
class CopyInEnd:
    """The client ended the data of a COPY FROM STDIN (53.2.6).

    Attributes:
        action: label of the action that began it.
        is_done: it was all, by CopyDone; not by CopyFail.
        bytes_in: of data.
        rows: line ends of text.
        sha256: digest of the data.
    """

    action: int | None
    is_done: bool
    bytes_in: int
    rows: int | None
    sha256: bytes


@dataclass(frozen=True, slots=True)
class Terminate:
    """The client says good-bye (53.2.9)."""


@dataclass(frozen=True, slots=True)
class Field:
    """One column of RowDescription (53.7). `table_oid` and `attnum` are 0 where the column is not a plain table column."""

    name: str
    table_oid: int
    attnum: int
    type_oid: int
    type_size: int = 0
    type_modifier: int = -1


@dataclass(frozen=True, slots=True)
class RowDescription:
    """The server described a result; no row of it is delivered until it has been decided how.

    Attributes:
        action: the number the action was forwarded under.
        statement: the prepared statement described, None for a portal or a simple query.
        index: which statement of a simple query, from 0.
        formats: per field 0 text, 1 binary.
    """

    id: int
    action: int | None
    fields: tuple[Field, ...]
    formats: tuple[int, ...]
    statement: str | None = None
    index: int = 0


@dataclass(frozen=True, slots=True)
class CopyOut:
    """The server starts a COPY TO STDOUT (53.2.6); no byte of it is delivered until it has been decided how."""

    id: int
    action: int | None
    format: int
    columns: tuple[int, ...]
    index: int = 0


@dataclass(frozen=True, slots=True)
class CopyIn:
    """The server asks for the data of a COPY FROM STDIN; what follows from the client passes until it ends."""

    action: int | None
    format: int
    columns: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CommandComplete:
    """One statement ended, or paused at its row count; `tag` is the server's own summary such as "SELECT 3", else empty.

    `is_withheld` says that the agent was told an error instead.
    """

    action: int | None
    tag: str
    index: int = 0
    is_withheld: bool = False


@dataclass(frozen=True, slots=True)
class ServerError:
    """An ErrorResponse of the server, its texts already masked. `action` is None outside any action."""

    fields: dict[str, str]
    action: int | None = None

    @property
    def code(self) -> str:
        """The SQLSTATE."""
        return self.fields.get("C", "XX000")

    @property
    def is_fatal(self) -> bool:
        """Whether the server ends the session with it."""
        return self.fields.get("V", self.fields.get("S", "")) in {"FATAL", "PANIC"}


@dataclass(frozen=True, slots=True)
class ParameterStatus:
    """The server reports a run-time setting (53.2.7)."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Ready:
    """ReadyForQuery: "I" idle, "T" in a transaction, "E" in a failed transaction."""

    status: str


@dataclass(frozen=True, slots=True)
class ResultEnd:
    """One result ended: what was counted, and the masked rows for the record as JSON lines, up to the limit.

    Attributes:
        withheld: why some rows were not delivered, such as "row_limit"; None when all were.
        rows_withheld: how many were not.
        cut_by: the rule that had the result end after the rows delivered, where withheld is "cut".
    """

    action: int | None
    rows: int
    bytes_out: int
    masked: dict[str, int]
    detected: dict[str, int]
    record: bytes = b""
    record_truncated: bool = False
    withheld: str | None = None
    rows_withheld: int = 0
    cut_by: str | None = None


@dataclass(frozen=True, slots=True)
class ActionEnd:
    """No reply of this action can come any more; "skipped" when the server dropped it after an earlier error."""

    action: int
    status: Literal["completed", "failed", "suspended", "skipped"]


@dataclass(frozen=True, slots=True)
class Passing:
    """A message of the server that passes without a decision, such as a notice; named for the metrics only."""

    kind: str


JudgedEvent = Query | Parse | Execute | FunctionCall | Undecodable
"""What needs a decision before a byte of it reaches the server."""

ClientEvent = JudgedEvent | CopyInEnd | Terminate

ServerEvent = (
    RowDescription | CopyOut | CopyIn | CommandComplete | ServerError | ParameterStatus | Ready | ResultEnd | ActionEnd | Passing
)
