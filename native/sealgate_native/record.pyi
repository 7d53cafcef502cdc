"""Records of evidence made from templates, and what seals their chunks."""

from typing import final

@final
class Sealer:
    """Seals the chunks of one session, as `evidence.keys.ChunkSealer` does: zstd, then AES-256-GCM with the chunk's number as nonce."""

    def __new__(cls, data_key: bytes, origin: str, sid: str, /) -> Sealer: ...
    def seal(self, number: int, plain: bytes, /) -> bytes:
        """The ciphertext of chunk `number`, which must not be used twice. Raises ValueError for more than 16 MiB."""

@final
class Counters:
    """What a session amounts to so far; the pipeline and the session's kernel count on it together."""

    def __new__(cls) -> Counters: ...
    def add(self, *, actions: int = 0, refused: int = 0, rows: int = 0, bytes: int = 0) -> None: ...
    def read(self) -> dict[str, int]:
        """actions, refused, rows, bytes."""

@final
class Drafts:
    """Records of one session that lack only their place in the log (`evidence.drafts.Drafts`)."""

    @property
    def has_effects(self) -> bool:
        """Whether one of them lets another effect than reading through, so that it must be durable before the server sees it."""

    def finish(
        self, sealer: Sealer, sid: str, seq: int, sseq: int, previous: str, chunk: int, ts: str, mono_us: int, /
    ) -> tuple[bytes, list[bytes], list[bytes], list[tuple[int, bytes]], list[str], list[str]]: ...
