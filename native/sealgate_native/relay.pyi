"""Carries what PostgreSQL sessions have learned between their sockets, on a thread that needs no interpreter."""

from typing import Final, final

from sealgate_native.postgres import Session
from sealgate_native.record import Chain, Drafts, Writer
from sealgate_native.tls import Channel

FAILED: Final = 16
"""Beside the flags of `Session.pass_client`: the kernel is in error, and tells whoever asks it next."""

Line = tuple[int, Channel | None]
"""The descriptor of a socket, of which the relay makes one of its own, and the TLS channel of what passes through it."""

Left = tuple[int, int, bool, tuple[Drafts, bytes, bytes] | None, bytes, bytes]
"""A session on its way back: number, flags of the kernel after the last arrival (0 where nothing arrived), whether records of it were
lost, records that could not be queued with the bytes for the server and for the client that follow them, and what the client and what
the server has not taken, encrypted where their connections are."""

@final
class Relay:
    """Reads, has kernels answer, queues records, and lets bytes go behind them. One thread calls `run`, any thread the rest.

    `log_started_ns` is the monotonic time at which the log of `writer` was opened.
    """

    def __new__(cls, writer: Writer, log_started_ns: int, /) -> Relay: ...
    def fileno(self) -> int:
        """Readable once a session goes back."""

    def run(self) -> None:
        """Carry until it is stopped. Raises OSError where the system gives no news of sockets any more."""

    def stop(self) -> None:
        """Has `run` come back; sessions that are here stay until they are discarded."""

    def allow_effects(self, until_mono_ns: int, /) -> None:
        """Until when other effects than reading may pass; not at all before the first call."""

    def lend(
        self, session: Session, chain: Chain, client: Line, server: Line, expires_ns: int, until_mono_ns: int, /
    ) -> int:
        """Takes a session and its two connections; gives the number it is known as.

        `expires_ns` is when the proof of identity ends (0 for never), `until_mono_ns` when what was learned is too old. Raises OSError.
        """

    def recall(self, number: int, /) -> None:
        """Has a session go back once nothing of it waits for a record; nothing more is read from now on."""

    def recall_all(self) -> None:
        """The same for every session."""

    def discard(self, number: int, /) -> tuple[bytes, bytes]:
        """Lets go of a session whatever waits for a record; it does not go back.

        What the client and the server have not taken, as in `Left`; empty where the session is not here.
        """

    def take_left(self) -> list[Left]:
        """Sessions that went back since the last call."""

    def active_ns(self, number: int, /) -> int:
        """Monotonic time of a session's last arrival; 0 where it is not here."""
