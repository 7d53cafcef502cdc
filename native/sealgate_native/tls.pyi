"""TLS without sockets: what arrived in, plain bytes out, and the other way round. The library beneath is the system's OpenSSL."""

from typing import Literal, final

class TlsError(OSError):
    """A certificate cannot be used, or a connection cannot go on; in OpenSSL's words."""

@final
class ServerContext:
    """For listeners: certificate chain (PEM, its own first), key (PEM, unencrypted), the one ALPN name it agrees to.

    TLS 1.2 or newer, no session tickets. A client that asks for other names alone is refused (RFC 7301 3.2). Raises TlsError.
    """

    def __new__(cls, chain: bytes, key: bytes, alpn: str | None = None, /) -> ServerContext: ...
    def accept(self) -> Channel:
        """A connection to a client that is about to begin."""

@final
class ClientContext:
    """For connections to servers, which are checked as libpq's sslmode of that name says.

    `authorities` are trusted certificates (PEM), None for the system's; `own` the certificate chain and key (PEM) shown to a server that
    asks. Raises TlsError.
    """

    def __new__(
        cls,
        checks: Literal["require", "verify-ca", "verify-full"],
        authorities: bytes | None = None,
        own: tuple[bytes, bytes] | None = None,
        /,
    ) -> ClientContext: ...
    def connect(self, host: str, /) -> Channel:
        """A connection to the server dialled as `host`, a name or an address."""

@final
class Channel:
    """One connection. What failed stays so: every later call raises the same TlsError."""

    def begin(self) -> bytes:
        """The client's first bytes."""

    def receive(self, arrived: bytes, /) -> bytes:
        """Plain bytes of what the peer sent, possibly none; see `take_outgoing` each time. Raises TlsError."""

    def send(self, plain: bytes, /) -> bytes:
        """The same bytes for the peer, or nothing while `is_holding`. Raises TlsError."""

    def end(self) -> bytes:
        """Says that nothing more follows."""

    def take_outgoing(self) -> bytes:
        """What the protocol itself has for the peer: its handshake, alerts, new keys."""

    @property
    def is_open(self) -> bool:
        """Whether the handshake is over, and nothing failed since."""

    @property
    def is_over(self) -> bool:
        """Whether nothing more can come: the peer said so, or the connection failed."""

    @property
    def is_holding(self) -> bool:
        """Whether bytes wait for the peer to finish a message of the protocol; `take_outgoing` has them after a later `receive`."""

    @property
    def peer_certificate(self) -> bytes | None:
        """The peer's certificate (DER)."""

    @property
    def alpn(self) -> str | None:
        """The protocol name both sides agreed on."""

    @property
    def version(self) -> str:
        """Such as "TLSv1.3"."""
