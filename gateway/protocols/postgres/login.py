"""Both sides of the login, without sockets: what a client may ask for at start-up, and the gateway's own login to the server.

The client's half follows 53.2.1 (start-up): the gateway asks for a cleartext password, inside TLS, because the password is the
agent's token. The server's half is `UpstreamLogin`: SCRAM-SHA-256 (53.3, RFC 5802, RFC 7677), bound to the server's
certificate (RFC 5929 tls-server-end-point) where the connection is encrypted and the server offers it.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from scramp import ScramClient, ScramException
from sealgate_native.postgres import decode_error, encode_message

from gateway.errors import ProtocolError, TargetError

MAX_TOKEN_BYTES: Final = 65_536
"""A token longer than this is no token: the server's own limit for a password message, and far above any signed token."""

MAX_LOGIN_MESSAGES: Final = 256
"""How many messages a server may send during login; real servers send about 20."""

SUPPORTED_MINOR: Final = 2
"""The newest minor version spoken: 3.2, whose only change is cancel keys of up to 256 bytes."""

PASSED_SETTINGS: Final = frozenset(
    {
        *("bytea_output", "datestyle", "extra_float_digits", "intervalstyle", "timezone"),
        *("client_min_messages", "jit"),
        *("idle_in_transaction_session_timeout", "lock_timeout", "statement_timeout"),
        *("default_transaction_isolation", "default_transaction_read_only", "default_transaction_deferrable"),
    }
)
"""Start-up settings that go to the server as asked: how values look, which notices come, how long things may take, what
transactions begin as. None changes what a statement means or which rows and rights it has."""

PINNED_SETTINGS: Final[Mapping[str, str]] = {"client_encoding": "UTF8", "standard_conforming_strings": "on"}
"""What the gateway fixes, because both change how the server splits a statement into words."""

UNORDERED_SETTINGS: Final[Mapping[str, str]] = {"enable_indexonlyscan": "off"}
"""What it fixes where columns are sensitive: otherwise rows could come in the order of an index on one, though nothing asked for an order."""

UNCACHED_SETTINGS: Final[Mapping[str, str]] = {"enable_memoize": "off"}
"""What it fixes there as well, where the server knows it: otherwise the planner may keep rows by the values beside them, and compare these."""

KNOWS_MEMOIZE: Final = 140_000
"""The server version from which on it has such a cache."""

HEAP_ORDER_SETTINGS: Final[Mapping[str, str]] = {
    **UNORDERED_SETTINGS,
    "enable_indexscan": "off",
    **dict.fromkeys(("enable_bitmapscan", "enable_seqscan", "enable_sort"), "on"),
}
"""What it fixes where an index holds a sensitive column with others: rows come as they are stored, and are sorted where an order is asked for."""

COST_SCALE: Final = 1e-300
"""What the planner's costs are multiplied by before PostgreSQL 18, where a scan that is off only costs 1e10 more (`disable_cost`)."""

_SCALED_BELOW: Final = 1e-200
"""Costs below are those of a role that has them scaled already."""

RANKED_BY_COST: Final = 180_000
"""From this server version on a plan with fewer scans that are off comes first, whatever it costs."""


def choose_unordered(server_version: int) -> Mapping[str, str]:
    """The settings of every session of a connection with sensitive columns."""
    return UNORDERED_SETTINGS if server_version < KNOWS_MEMOIZE else {**UNORDERED_SETTINGS, **UNCACHED_SETTINGS}


def choose_heap_order(server_version: int, costs: Mapping[str, float]) -> Mapping[str, str]:
    """The settings under which rows come as they are stored, whatever a plan seems to cost."""
    if server_version >= RANKED_BY_COST:
        return HEAP_ORDER_SETTINGS
    scale = 1.0 if 0 < costs.get("cpu_operator_cost", 0.0) < _SCALED_BELOW else COST_SCALE
    # A negative cost switches something off.
    return {**HEAP_ORDER_SETTINGS, **{name: f"{cost * scale if cost > 0 else cost:.6g}" for name, cost in sorted(costs.items())}}


UTF8_NAMES: Final = frozenset({"utf8", "unicode"})
"""Names of UTF-8 as `fold_encoding` writes them."""

SQL_ASCII: Final = "sqlascii"
"""What psql asks for on a terminal without a locale: text as the server has it (24.3.4), which is UTF-8 where the server's own encoding is."""

_SETTING_VALUE: Final = re.compile(r"[\w ,./+:<>-]{0,64}", re.ASCII)
_SCHEMA: Final = r"(?:[A-Za-z_][A-Za-z0-9_]{0,62}|\"[A-Za-z_$][A-Za-z0-9_]{0,62}\")"
_SEARCH_PATH: Final = re.compile(rf"{_SCHEMA}(?:\s*,\s*{_SCHEMA}){{0,15}}", re.ASCII)
_OPTION: Final = re.compile(r"(?:-c\s*|--)([A-Za-z_][\w.-]*)=((?:[^\\\s]|\\.)*)(?:\s+|$)")

USER_SCHEMA: Final = "$user"
"""In a search path: the schema named as the role (20.11.1)."""

AUTH_OK, AUTH_CLEARTEXT, AUTH_MD5, AUTH_SASL, AUTH_SASL_CONTINUE, AUTH_SASL_FINAL = 0, 3, 5, 10, 11, 12
AUTHENTICATION_OK: Final = struct.pack("!I", AUTH_OK)
PASSWORD_REQUEST: Final = struct.pack("!I", AUTH_CLEARTEXT)


class LoginRefusedError(ProtocolError):
    """A start-up the gateway does not accept; `sqlstate` is what the client is told."""

    code = "protocol.login"

    def __init__(self, what: str, *, sqlstate: str, why: str = "", fix: str = "") -> None:
        super().__init__(what, why=why, fix=fix)
        self.sqlstate = sqlstate


@dataclass(frozen=True, slots=True)
class Startup:
    """A StartupMessage the gateway accepts.

    Attributes:
        user: the login name the client wrote; recorded nowhere as an identity, because only the token proves one.
        database: names the connection.
        settings: what of the client's wishes goes to the server, lower-case name to value.
        minor: the protocol minor version to speak.
        unknown: protocol options (`_pq_.*`) the gateway does not know, to be named in NegotiateProtocolVersion.
        must_negotiate: whether the client has to be told a lower version or unknown options.
    """

    user: str
    database: str
    application_name: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    minor: int = 0
    unknown: tuple[str, ...] = ()
    must_negotiate: bool = False


def check_startup(major: int, minor: int, params: Mapping[str, str]) -> Startup:
    """The accepted form of a StartupMessage. Raises LoginRefusedError naming what is not accepted and what is."""
    if major != 3:  # noqa: PLR2004 - the protocol's own number
        raise LoginRefusedError(
            f"protocol version {major}.{minor} is not spoken here", sqlstate="08P01", fix="use a client that speaks version 3"
        )
    user = params.get("user", "")
    if not user:
        raise LoginRefusedError("no user name in the start-up message", sqlstate="28000", fix="connect with any user name")
    settings: dict[str, str] = {}
    unknown: list[str] = []
    for name, value in params.items():
        if name in {"user", "database", "application_name"}:
            continue
        if name.startswith("_pq_."):
            unknown.append(name)
        elif name == "options":
            for option, chosen in parse_options(value).items():
                _accept_setting(settings, option, chosen)
        else:
            _accept_setting(settings, name, value)
    return Startup(
        user=user,
        database=params.get("database") or user,
        application_name=params.get("application_name", ""),
        settings=settings,
        minor=min(minor, SUPPORTED_MINOR) if minor != 1 else 0,  # 3.1 was never released; PostgreSQL answers 3.0
        unknown=tuple(unknown),
        must_negotiate=bool(unknown) or minor > SUPPORTED_MINOR or minor == 1,
    )


def parse_options(text: str) -> dict[str, str]:
    r"""The settings in an `options` start-up parameter, written as `-c name=value` or `--name=value`, `\\` before a blank.

    Raises LoginRefusedError for anything else, such as the server's own command-line switches.
    """
    settings: dict[str, str] = {}
    rest = text.strip()
    while rest:
        match = _OPTION.match(rest)
        if match is None:
            raise LoginRefusedError(
                "the start-up options are not accepted",
                sqlstate="0A000",
                why="only settings written as -c name=value are understood",
                fix="leave PGOPTIONS and the options parameter empty",
            )
        settings[match[1].replace("-", "_")] = re.sub(r"\\(.)", r"\1", match[2])
        rest = rest[match.end() :]
    return settings


def fold_encoding(name: str) -> str:
    """The name of an encoding as the server tells them apart: by letters and digits."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _accept_setting(settings: dict[str, str], name: str, value: str) -> None:
    lower = name.lower()
    if lower == "client_encoding":
        if fold_encoding(value) not in UTF8_NAMES | {SQL_ASCII}:  # whoever starts with SQL_ASCII is told that it is UTF8
            raise LoginRefusedError(
                "this client encoding is not accepted",
                sqlstate="0A000",
                why="the gateway reads statements as UTF-8, and another encoding could hide words from it",
                fix="set client_encoding to UTF8 (PGCLIENTENCODING=UTF8)",
            )
    elif lower == "replication":
        if value.lower() not in {"false", "off", "no", "0", ""}:
            raise LoginRefusedError(
                "replication connections are not accepted",
                sqlstate="0A000",
                why="a replication stream carries whole tables past every decision",
                fix="connect without the replication parameter",
            )
    elif lower == "search_path":
        if USER_SCHEMA in (read_search_path(value) or (USER_SCHEMA,)):
            raise LoginRefusedError(
                "this search_path is not accepted",
                sqlstate="0A000",
                why="it may list up to 16 plain names of schemas, none of which begins with pg_",
                fix="leave out $user, pg_catalog and pg_temp: the server searches the latter two by itself",
            )
        settings[lower] = value
    elif lower in PASSED_SETTINGS and _SETTING_VALUE.fullmatch(value):
        settings[lower] = value
    else:
        raise LoginRefusedError(
            f"the start-up setting {lower[:64]!r} is not accepted",
            sqlstate="0A000",
            why=f"only search_path, {', '.join(sorted(PASSED_SETTINGS))} can be set at start-up, to plain values",
            fix="leave it out of the connection string, PGOPTIONS and the environment",
        )


def read_search_path(value: str) -> tuple[str, ...] | None:
    """The schemas a search path lists, as the server writes them, `$user` among them; None for one that is made of something else.

    Names of the server's own schemas are not: with pg_catalog further down, other functions would stand in for PostgreSQL's own,
    and pg_temp would do the same with whatever the session makes.
    """
    if _SEARCH_PATH.fullmatch(value) is None:
        return None
    found = (part.strip() for part in value.split(","))
    names = tuple(part[1:-1] if part.startswith('"') else part.lower() for part in found)
    return None if any(name.lower().startswith("pg_") for name in names) else names


def read_token(body: bytes) -> str:
    """The token in a PasswordMessage (53.7). Raises LoginRefusedError when it is none."""
    text = body[:-1]
    if not body or body[-1] != 0 or 0 in text or not text or not text.isascii():
        raise LoginRefusedError(
            "no token was given",
            sqlstate="28P01",
            why="the password of this connection is the agent's access token",
            fix="set PGPASSWORD to the token",
        )
    return text.decode("ascii")


def hash_certificate(certificate_der: bytes) -> bytes:
    """The tls-server-end-point binding of a certificate (RFC 5929 4.1): its hash under its signature's hash function.

    MD5 and SHA-1 are replaced by SHA-256, as the RFC says. Raises TargetError where no hash function is defined.
    """
    certificate = x509.load_der_x509_certificate(certificate_der)
    try:
        algorithm = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        algorithm = None
    if algorithm is None:
        raise TargetError("the target's certificate cannot be bound to the login", why="its signature names no hash function")
    if isinstance(algorithm, hashes.MD5 | hashes.SHA1):
        algorithm = hashes.SHA256()
    return certificate.fingerprint(algorithm)


class UpstreamLogin:
    """The gateway's login to a server, message by message, up to the first ReadyForQuery.

    Args:
        user: the stored credential's login name.
        password: the stored credential's password.
        nonce: fresh random printable text for SCRAM; made by the caller so that this stays without randomness.
        certificate_hash: `hash_certificate` of the server's certificate when the connection is TLS, else None.
        methods: accepted ways to log in; "md5" and "password" only where the configuration says so.
    """

    def __init__(
        self,
        *,
        user: str,
        password: str,
        nonce: str,
        certificate_hash: bytes | None = None,
        methods: frozenset[str] = frozenset({"scram-sha-256", "trust"}),
    ) -> None:
        self._user = user
        self._password = password
        self._nonce = nonce
        self._certificate_hash = certificate_hash
        self._methods = methods
        self._scram: ScramClient | None = None
        self._server_proved = False
        self._asked = False
        self._authenticated = False
        self._seen = 0
        self.mechanism = ""
        self.parameters: dict[str, str] = {}
        self.key: tuple[int, bytes] | None = None
        self.is_ready = False

    def receive(self, kind: str, body: bytes) -> bytes:
        """Take one server message; returns what to send next, often nothing. Raises TargetError when the login fails."""
        self._seen += 1
        if self._seen > MAX_LOGIN_MESSAGES or self.is_ready:
            raise TargetError("the target's login does not end", why=f"more than {MAX_LOGIN_MESSAGES} messages")
        if kind == "R":
            return self._authenticate(body)
        if kind == "E":
            fields = decode_error(body)
            raise TargetError("the target refused the login", why=f"{fields.get('C', '')} {fields.get('M', '')}".strip())
        if kind == "N":
            return b""
        if not self._authenticated:
            raise TargetError("the target sent an unexpected message during login", why=f"type {kind!r}")
        self._settle(kind, body)
        return b""

    def _settle(self, kind: str, body: bytes) -> None:
        if kind == "S":
            name, _, rest = body.partition(b"\0")
            self.parameters[name.decode("utf-8", "replace")] = rest.rstrip(b"\0").decode("utf-8", "replace")
        elif kind == "K" and len(body) >= 8:  # noqa: PLR2004 - int32 process id and at least four bytes of key
            self.key = (struct.unpack("!i", body[:4])[0], body[4:])
        elif kind == "Z" and body == b"I":
            self.is_ready = True
        elif kind != "v":
            raise TargetError("the target sent an unexpected message during login", why=f"type {kind!r}")

    def _authenticate(self, body: bytes) -> bytes:
        if len(body) < 4:  # noqa: PLR2004 - int32 code
            raise TargetError("the target's login message is too short")
        code, rest = int(struct.unpack("!I", body[:4])[0]), body[4:]
        if code == AUTH_OK:
            self._accept_ok()
            return b""
        if code == AUTH_SASL and self._scram is None and not self._asked:
            return self._start_scram(rest)
        if code == AUTH_SASL_CONTINUE and self._scram is not None:
            return self._continue_scram(rest)
        if code == AUTH_SASL_FINAL and self._scram is not None:
            self._finish_scram(rest)
            return b""
        return self._answer_plain(code, rest)

    def _accept_ok(self) -> None:
        if self._scram is not None and not self._server_proved:
            raise TargetError("the target did not prove that it knows the credential", why="it ended SCRAM early")
        if self._scram is None and not self._asked and "trust" not in self._methods:
            raise TargetError("the target asked for no credential", why="login without one is not accepted for this connection")
        self._authenticated = True

    def _start_scram(self, rest: bytes) -> bytes:
        offered = [name.decode("ascii", "replace") for name in rest.split(b"\0") if name]
        known = [name for name in offered if name in {"SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"}]
        binding = None if self._certificate_hash is None else ("tls-server-end-point", self._certificate_hash)
        usable = [name for name in known if binding is not None or not name.endswith("-PLUS")]
        if not usable or "scram-sha-256" not in self._methods:
            raise TargetError("the target offers no accepted way to log in", why=f"it offers {', '.join(offered)[:200]}")
        try:
            # The server takes the name from the start-up message; the one inside SCRAM is ignored, as in libpq.
            self._scram = ScramClient(usable, "*", self._password, channel_binding=binding, c_nonce=self._nonce)
            first = self._scram.get_client_first().encode()
        except ScramException as error:
            raise TargetError(
                "the login to the target cannot start", why="the stored password is not usable for SCRAM"
            ) from error
        self.mechanism = str(self._scram.mechanism_name)
        return encode_message("p", self.mechanism.encode() + b"\0" + struct.pack("!i", len(first)) + first)

    def _continue_scram(self, rest: bytes) -> bytes:
        try:
            self._scram.set_server_first(rest.decode("ascii"))  # type: ignore[union-attr]
            return encode_message("p", self._scram.get_client_final().encode())  # type: ignore[union-attr]
        except (ScramException, UnicodeDecodeError) as error:
            raise TargetError("the target's SCRAM answer is not valid", why=type(error).__name__) from error

    def _finish_scram(self, rest: bytes) -> None:
        try:
            self._scram.set_server_final(rest.decode("ascii"))  # type: ignore[union-attr]
        except (ScramException, UnicodeDecodeError) as error:
            raise TargetError("the target did not prove that it knows the credential", why=type(error).__name__) from error
        self._server_proved = True

    def _answer_plain(self, code: int, rest: bytes) -> bytes:
        if code == AUTH_CLEARTEXT and "password" in self._methods and not self._asked:
            self._asked, self.mechanism = True, "password"
            return encode_message("p", self._password.encode() + b"\0")
        if code == AUTH_MD5 and "md5" in self._methods and len(rest) == 4 and not self._asked:  # noqa: PLR2004 - four bytes of salt
            self._asked, self.mechanism = True, "md5"
            inner = hashlib.md5(self._password.encode() + self._user.encode()).hexdigest()  # noqa: S324 - the server's own scheme
            return encode_message("p", b"md5" + hashlib.md5(inner.encode() + rest).hexdigest().encode() + b"\0")  # noqa: S324
        raise TargetError(
            "the target asks for a login the gateway does not give",
            why=f"authentication request {code}; accepted: {', '.join(sorted(self._methods))}",
            fix="set password_encryption and pg_hba.conf of the target to scram-sha-256",
        )
