"""PostgreSQL wire protocol, versions 3.0 and 3.2: framing and session state without I/O.

Section numbers of the PostgreSQL manual, chapter "Frontend/Backend Protocol". Bytes go in, bytes and events come out; sockets, clocks
and decisions belong to the caller. Every object here that met a violation stays in error: each later call raises the same one.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NotRequired, TypedDict, final

from sealgate_native.mask import ColumnMask, Detectors
from sealgate_native.record import Counters, Drafts

CLIENT_EVENTS: Final = 1
SERVER_EVENTS: Final = 2
HOLDING: Final = 4
SETTLED: Final = 8
"""What a session says of itself after an arrival (`Session.pass_client`): an event of either side waits, the client's direction waits for
a reply of the server, everything sent to the server is answered."""

class ProtocolViolation(ValueError):
    """The bytes break the protocol or a limit. The text never quotes them."""

    code: Literal["malformed", "too_large", "unexpected"]

class StartupEvent(TypedDict):
    """What a client asked for with its first packet; `pid`, `secret` for cancel, `major`, `minor`, `params` for startup."""

    kind: Literal["ssl", "gssenc", "cancel", "startup"]
    pid: NotRequired[int]
    secret: NotRequired[bytes]
    major: NotRequired[int]
    minor: NotRequired[int]
    params: NotRequired[dict[str, str]]

def skeleton(sql: str, /) -> bytes | None:
    """What a text has in common with all that differ from it in constants that cannot change what it is; None for a text whose
    constants do not show their value, or that is too long."""

def parse_startup(data: bytes, max_bytes: int = 10_000) -> tuple[StartupEvent, int] | None:
    """The first packet of a connection and the bytes it took; None while its end is missing.

    Raises ProtocolViolation: malformed (also a parameter named twice), too_large (announced over `max_bytes`), unexpected (a protocol
    version other than 3).
    """

def encode_message(type: str, body: bytes) -> bytes:
    """Any message: type character, length, body."""

def encode_error(fields: Mapping[str, str]) -> bytes:
    """ErrorResponse; keys are the one-letter field codes (S V C M D H …), sent in the order given."""

def encode_notice(fields: Mapping[str, str]) -> bytes:
    """NoticeResponse, as `encode_error`."""

def encode_ready(status: str) -> bytes:
    """ReadyForQuery with I, T or E."""

def encode_parameter_status(name: str, value: str) -> bytes:
    """ParameterStatus."""

def encode_backend_key(pid: int, secret: bytes) -> bytes:
    """BackendKeyData; 4 bytes of secret in protocol 3.0, up to 256 in 3.2."""

def encode_startup(params: Mapping[str, str], minor: int = 0) -> bytes:
    """A startup packet of protocol 3.`minor`."""

def encode_query(sql: str) -> bytes:
    """Query. ValueError for a zero byte in the text."""

def encode_negotiate(minor: int, options: Sequence[str]) -> bytes:
    """NegotiateProtocolVersion: the newest minor version spoken and the options not understood."""

def decode_error(body: bytes) -> dict[str, str]:
    """The fields of an ErrorResponse or NoticeResponse body; bytes that are not UTF-8 become U+FFFD."""

class FrameReader:
    """Messages out of a byte stream, for the login phases of either side.

    Args:
        max_message_bytes: largest message, header included. A larger one is a violation as soon as its header is there.
    """

    def __init__(self, max_message_bytes: int) -> None: ...
    def receive(self, data: bytes) -> None:
        """Appends what was read."""

    def next(self) -> tuple[str, bytes] | None:
        """The next message as type character and body; None while its end is missing."""

    def take_rest(self) -> bytes:
        """What was received and not returned, to be given to a `Session`."""

@final
class RowCount:
    """Rows delivered under a bound; sessions of one run share one."""

    def __new__(cls) -> RowCount: ...
    def add(self, rows: int, /) -> None: ...
    def read(self) -> int: ...

class Session:
    """One session between a client and a server that have both logged in.

    Client events with an `id` are to be judged: `query`, `parse`, `execute` with `forward` or `refuse`, `function_call` and `refused`
    (a text that is not UTF-8) with `refuse` only. Until then the client's direction stands still. Server events with an `id` are to be
    judged with `resolve_rows`, `resolve_copy` or `withhold`: `row_description`, `copy_out`. Until then the server's direction stands
    still. What a client asks leaves only after it was judged, and rows only after their description was.

    The client's direction also waits for replies of the server at times (`is_holding`), so server bytes and resolutions can bring
    client events about: look at `has_client_events` after them.

    Client events:
        query: id, sql.   parse: id, statement, sql, param_oids.
        execute: id, portal, statement, sql, params (None or {format, type_oid, text | hex}), max_rows, needs_describe.
        function_call: id, oid, params as of execute.   refused: id, reason.
        copy_in_end: action, ok, bytes, rows (line ends; None in binary), sha256 (of the data, hex).   terminate.
    Server events:
        row_description: id, action, statement, index, described_by ("query", "statement", "portal", "execute"),
            fields [{name, table_oid, attnum, type_oid, type_size, type_modifier}], formats.
        copy_out: id, action, index, format, columns.   copy_in: action, index, format, columns.
        command_complete: action, index, tag, suspended, withheld.
        result_end: action, index, rows, bytes, rows_withheld, withheld (None, "policy", "row_limit", "cut"), cut_by (the rule, where it was cut), masked
            {rule: cells}, detected {detector: findings}, record (masked rows as JSON lines), record_truncated, sha256 (of the row messages delivered).
        action_end: action, status ("completed", "failed", "suspended", "skipped"); once per forwarded action, after all else of it.
        error: action, fields, detected.   notice: fields, detected.   notification: pid, channel, payload, detected.
        parameter_status: name, value.   ready: status.

    Args:
        max_message_bytes: largest message of either side, header included.
        max_statements: prepared statements; beyond it the one unused for the longest time is forgotten.
        max_portals: portals; beyond it a Bind is refused with 53400.
        max_pending: replies awaited; beyond it the client's messages wait.
        error_detectors: findings in errors, notices, notifications and settings are masked with these.
        record_limit_bytes: of `record`, per action.
    """

    def __init__(
        self,
        *,
        max_message_bytes: int,
        max_statements: int,
        max_portals: int,
        max_pending: int,
        error_detectors: Detectors | None,
        record_limit_bytes: int,
    ) -> None: ...
    def receive_client(self, data: bytes, now_ns: int = 0, mono_ns: int = 0, may_affect: bool = False) -> None:
        """Takes bytes of the client. With a time, what was learned may be let through in this call (`learn`). Stop reading from it while an event waits: more than one message and 1 MiB is a violation."""

    def receive_server(self, data: bytes, now_ns: int = 0, mono_ns: int = 0, may_affect: bool = False) -> None:
        """Takes bytes of the server; the same bound holds while a description waits."""

    def pass_client(
        self, data: bytes, now_ns: int, mono_ns: int, may_affect: bool
    ) -> tuple[int, bytes | None, bytes | None, Drafts | None]:
        """`receive_client`, and what came of it: state, bytes for the server, bytes for the client, records to queue before either.

        State is a sum: 1 `next_client_event` has something, 2 `next_server_event` has, 4 `is_holding`, 8 `is_settled`. While events
        wait no bytes are given: what is decided about the events comes first.
        """

    def pass_server(
        self, data: bytes, now_ns: int, mono_ns: int, may_affect: bool
    ) -> tuple[int, bytes | None, bytes | None, Drafts | None]:
        """The same for bytes of the server."""

    def set_known(self, salt: bytes, detectors: Detectors, counters: Counters, keeps_transcript: bool) -> None:
        """Lets the session answer by itself what it learns from here on.

        `salt` keys digests in records; texts and parameters in which `detectors` find something are never taken.
        """

    def learn(
        self, kind: Literal["query", "parse", "execute"], sql: str, types: Sequence[int], lesson: Mapping[str, Any]
    ) -> int | None:
        """Keeps a decision; the number of the lesson, None for a text whose like cannot be told.

        types: OIDs of the parameters' types as the event has them, 0 where one is not known.

        lesson: leaf, input, material (templates: bytes and slot names by turns), base (bytes), until_mono_ns, until_ns, is_harmless, hides_texts,
        and host, which `adopt` gives back. A message of the same types whose text differs from `sql` in constants only is then let through while the
        gate is open (`now_ns` is not 0): labelled from 2^52 on, and recorded in `take_drafts`.
        """

    def report_ready(self, is_wanted: bool) -> None:
        """Whether `ready` events are told (the default); `transaction_status` and `pending` say the same at any time."""

    def bind_rows(self, bounds: list[tuple[RowCount, int | None]]) -> None:
        """What rows that are let through as learned count on, and how many each count may reach; None for any number.

        While one is reached nothing passes as learned; a result under way is cut off there with an error.
        """

    def forget_lessons(self) -> None:
        """Forgets everything learned."""

    def take_drafts(self) -> Drafts | None:
        """Records made since the last call. Queue them after each `receive_client`, `receive_server` and `forward`, before any byte leaves."""

    def adopt(self, label: int) -> dict[str, Any] | None:
        """What is known of an action the session let through; it is the host's from now on. None when there is no such action.

        host, lesson, is_open, decision_id, sql, params (as in `execute`), rows, bytes, masked, detected, record, record_truncated, tags.
        """

    def open_labels(self) -> list[int]:
        """The actions let through by the session that have not ended."""

    def next_client_event(self) -> dict[str, Any] | None:
        """The next event of the client's direction."""

    def next_server_event(self) -> dict[str, Any] | None:
        """The next event of the server's direction."""

    def break_off(self) -> list[dict[str, Any]]:
        """The session is over: the end of the result under way, and before it every event that was not taken. Works after a violation."""

    def forward(self, id: int, action: int, now_ns: int = 0, mono_ns: int = 0, may_affect: bool = False) -> bool:
        """Sends a judged message on; `action` labels what the server answers to it. Messages behind it may be let through as learned.

        False when the server has failed the pipeline meanwhile and the message was dropped, as the server would have done.
        ValueError when nothing waits as `id`.
        """

    def show_process(self, real: int, shown: int) -> None:
        """Notifications of the session itself carry the process number its client was told."""

    def note_server_encoding(self, name: str) -> None:
        """Which encoding the server keeps text in, as it reported at login.

        Where that is UTF8, a client may set its encoding to SQL_ASCII, which means the same bytes (24.3.4).
        """

    def blur_server_limit(self) -> None:
        """Lets messages of the server be longer than the limit by up to as much again, as is drawn by lot for each.

        Whether one is refused would tell how long a masked value in it is.
        """

    def begin_epoch(self, epoch: int) -> None:
        """From now on texts may stand for other values, because a setting changes.

        What was learned is forgotten, and an `execute` tells the epoch its statement was prepared in; the first is 0.
        """

    def hide_texts(self, lasts: bool) -> None:
        """Errors and notices of the server are shown without texts that could quote data.

        Those of the pipeline of the message to be judged, or where it `lasts`, until the transaction is over.
        Errors whose class speaks of objects, limits and states only (such as 42P01, 57014) keep their message; every code stays.
        """

    def refuse(self, id: int, fields: Mapping[str, str]) -> None:
        """Answers a judged message with this error, at its place among the replies.

        A refused simple query is followed by the server's own ReadyForQuery. After a refused extended message everything up to the
        client's Sync is dropped; a pipeline that had run something is made to fail, so that its implicit transaction is undone.
        """

    def resolve_rows(
        self,
        id: int,
        masks: Sequence[ColumnMask | Mapping[str, Any]],
        detectors: Detectors | None,
        key: bytes,
        row_limit: int | None = None,
        lesson: tuple[int, Mapping[str, Any]] | None = None,
        cut: tuple[str, str | None] | None = None,
        once: bool = False,
        why: str = "",
    ) -> None:
        """Delivers a described result masked like this; a prepared statement keeps the plan while its fields stay the same.

        After `row_limit` rows the rest is withheld with error 54000 and the detail `why`. With `cut`, a rule and the first word of the command tag of a
        suspended portal, the result ends there instead: a warning 01000 that names the rule, then CommandComplete with the rows delivered.
        With `once` no plan is kept: the next result of the statement is judged again. ValueError when a mask cannot be carried out: nothing has changed
        then, and the event still waits.
        """

    def resolve_copy(
        self,
        id: int,
        masks: Sequence[ColumnMask | Mapping[str, Any]],
        detectors: Detectors | None,
        key: bytes,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Delivers COPY data masked like this. `options`: the `copy` facts of the statement; without them nothing can be masked."""

    def withhold(self, id: int, fields: Mapping[str, str]) -> None:
        """Delivers nothing of a described result and tells the client this error instead; what follows up to ReadyForQuery is kept back."""

    def forget_plans(self) -> None:
        """Has the next description of every prepared statement judged again."""

    def take_to_client(self) -> bytes:
        """Bytes for the client, once."""

    def take_to_server(self) -> bytes:
        """Bytes for the server, once."""

    @property
    def transaction_status(self) -> Literal["I", "T", "E"]:
        """As the server last said."""

    @property
    def is_settled(self) -> bool:
        """Whether everything sent to the server has been answered up to its ReadyForQuery."""

    @property
    def error_count(self) -> int:
        """Errors of the server so far, whatever they belong to: each has undone what its pipeline did, or its transaction."""

    @property
    def is_pipeline_open(self) -> bool:
        """Whether the client has begun a pipeline and not ended it: the server may keep replies back until it does."""

    @property
    def awaits_client(self) -> bool:
        """Whether nothing goes on until the client sends something: nothing that was sent runs, or it reads the data of a COPY."""

    @property
    def is_caught_up(self) -> bool:
        """Whether every statement that was sent to be run has been answered up to its ReadyForQuery.

        What was only parsed, bound or described may have replies to come.
        """

    def may_be_portal(self, name: str, /) -> bool:
        """Whether a portal that Bind made may have this name, so that it need not be a cursor of DECLARE."""

    @property
    def pending(self) -> int:
        """Replies awaited."""

    @property
    def has_client_events(self) -> bool:
        """Whether `next_client_event` has something to say."""

    @property
    def is_holding(self) -> bool:
        """Whether the client's first message waits for replies of the server."""

    @property
    def runs_alone(self) -> bool:
        """Whether the message to be judged is all that its pipeline runs, and the client's Sync follows it."""

    @property
    def client_buffered(self) -> int:
        """Bytes of the client not yet looked at."""

    @property
    def server_buffered(self) -> int:
        """Bytes of the server not yet looked at."""

    @property
    def is_failed(self) -> bool:
        """Whether a violation ended the session."""
