"""Detectors and maskers over bytes, DataRow bodies and COPY data.

Every error is a ValueError that names rules, detectors and positions, never a value. Everything runs without the interpreter lock.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NotRequired, TypedDict

DETECTORS: Final[list[str]]
"""Names of the built-in detectors."""

REDACTED: Final[str]
"""What stands in place of a redacted text."""

class MaskParams(TypedDict, total=False):
    """Parameters of `partial`, exactly one: characters kept (1 to 16, at most half of the value), or the e-mail form."""

    keep_last: int
    keep_first: int
    email: bool

class ColumnMask(TypedDict):
    """One mask on the column at `index` (from 0). `apply` is "both" unless it is given.

    `path` leads to the parts of each value that are masked: names, indexes from 0, None for every member or element. A path that meets
    another shape than it was written for covers more, never less. `shape` says what is known of the column's type beyond its OID:
    ("own", oid), ("scalar", oid, base), ("text", oid), ("array", oid, delimiter, element), ("composite", oid, [(name, shape), …]) or
    ("opaque", oid), whose values become null.
    """

    index: int
    strategy: str
    rule: str
    apply: NotRequired[str]
    params: NotRequired[MaskParams]
    path: NotRequired[list[str | int | None]]
    shape: NotRequired[tuple[Any, ...]]

class CopyOptions(TypedDict):
    """Options of a COPY statement; what is absent is what PostgreSQL assumes. `max_row_bytes` bounds what is held back."""

    format: Literal["text", "csv", "binary"]
    delimiter: NotRequired[str]
    null: NotRequired[str]
    quote: NotRequired[str]
    escape: NotRequired[str]
    header: NotRequired[bool]
    max_row_bytes: NotRequired[int]

class Counts(TypedDict):
    """Masked cells by rule id, findings by detector name."""

    masked: dict[str, int]
    detected: dict[str, int]

type Column = tuple[int, int] | tuple[int, int, str]
"""Type OID (0: not known), format (0 text, 1 binary), and the column's name as a hint for detectors that go by it."""

type Target = Literal["delivered", "record"]

class Detectors:
    """A compiled set of detectors.

    Args:
        enabled: names out of `DETECTORS`.
        custom: (name, regular expression) pairs. ASCII classes, matched on bytes; every repetition needs an end, a match may not
            exceed 1024 bytes, a pattern 1024 bytes, and there are at most 64.
    """

    def __init__(self, enabled: Sequence[str], custom: Sequence[tuple[str, str]] = ()) -> None: ...
    @property
    def names(self) -> list[str]:
        """Names of the enabled detectors."""

    def scan(self, data: bytes) -> list[tuple[str, int, int]]:
        """Every finding as (detector, start, end), sorted by start; findings of different detectors may overlap."""

    def mask(self, data: bytes) -> tuple[bytes, dict[str, int]]:
        """The bytes with every finding replaced by `[masked:<detector>]`, and findings by detector."""

    def mask_field(self, name: str, data: bytes) -> tuple[bytes, dict[str, int]]:
        """As `mask`, for the value of a field whose name may say what it is, such as `account_number` or `password`."""

class StreamMasker:
    """Masks a byte stream: the output over all calls is that of `Detectors.mask` over the whole, however it is cut."""

    def __init__(self, detectors: Detectors) -> None: ...
    def feed(self, data: bytes) -> bytes:
        """Takes the next bytes; gives what is settled."""

    def finish(self) -> bytes:
        """Ends the stream; gives the rest. The masker is then at the start of a new stream."""

    @property
    def counts(self) -> dict[str, int]:
        """Findings by detector so far."""

    @property
    def held_bytes(self) -> int:
        """Bytes held back because a finding may be beginning in them."""

class RowPlan:
    """Masks DataRow bodies of one result description.

    A strategy that a column's type and format cannot carry becomes null; of several masks on a column the more destructive wins.

    Args:
        key: 32 bytes, for tokens and hashes.
    """

    def __init__(
        self, columns: Sequence[Column], masks: Sequence[ColumnMask | Mapping[str, Any]], detectors: Detectors | None, key: bytes
    ) -> None: ...
    def apply(self, body: bytes, target: Target) -> tuple[bytes, Counts]:
        """The masked body for this target. ValueError when the body does not follow the description."""

class CopyPlan:
    """Masks the data of one COPY on its way to one target. After an error every call raises the same error."""

    def __init__(
        self,
        options: CopyOptions | Mapping[str, Any],
        columns: Sequence[Column],
        masks: Sequence[ColumnMask | Mapping[str, Any]],
        detectors: Detectors | None,
        key: bytes,
        target: Target = "delivered",
    ) -> None: ...
    def feed(self, data: bytes) -> bytes:
        """Takes the bytes of one CopyData message; gives the masked rows that are complete."""

    def finish(self) -> None:
        """Ends the data. ValueError when it ends inside a row or, in binary, without its trailer."""

    @property
    def rows(self) -> int:
        """Rows given so far, without a header."""

    @property
    def counts(self) -> Counts:
        """Masked cells and findings so far."""
