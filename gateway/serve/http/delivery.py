"""How one response reaches the agent: described for policy, masked by its decisions, kept for the record."""

from __future__ import annotations

import codecs
import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import orjson

from gateway.decision import Decision
from gateway.errors import LimitExceededError, ProtocolError
from gateway.masking import BodyPlan, MaskedBody, check_plan_fits, compile_body_plan
from gateway.masking.values import CellMasker, mask_headers
from gateway.messages import HttpResponse, Outcome, OutcomeStatus
from gateway.protocols.http import enforce
from gateway.protocols.http.bodies import find_kind, find_sensitive, find_shape, fold_name, read_json, read_media_type
from gateway.protocols.http.events import Request, ResponseHead
from gateway.protocols.http.heads import HOP_BY_HOP
from gateway.serve.cell_masking import CellMasking

_KEPT_FROM_CLIENTS: Final = HOP_BY_HOP | frozenset(
    {"alt-svc", "content-encoding", "content-length", "accept-ranges", "content-md5", "digest", "content-digest", "repr-digest",
     "www-authenticate", "proxy-status", "service-worker-allowed", "sec-websocket-extensions", "public-key-pins"}
)  # fmt: skip
"""Fields of a response that are about the gateway's own way to the service, or untrue once its body was masked."""

_UPGRADE_FIELDS: Final = frozenset({"connection", "upgrade"})
_PROSE: Final = frozenset({"text/plain", "text/markdown"})
"""Texts without named members; in tables and markup the name of a sensitive field stands for its values."""

_WORD: Final = re.compile(r"[A-Za-z0-9_-]+")
HIGHEST_SHAPED_BYTES: Final = 1 << 20
"""Bodies above this are described without their shape: parsing them a second time would take as long as masking them."""


def describe_head(
    response: HttpResponse, plain: bytes, sensitive: Sequence[str], *, is_streamed: bool, has_body: bool
) -> ResponseHead:
    """What policy learns about a response. Where a body was not read, every configured field may be in it."""
    media_type, _ = read_media_type(response.find_header("content-type"))
    kind = find_kind(media_type)
    if kind == "text" and plain.lstrip()[:1] in {b"{", b"["}:
        kind = "json"  # whatever it calls itself
    shape: tuple[str, ...] = ()
    held: tuple[str, ...] = tuple(sorted(sensitive))
    if not has_body or (not is_streamed and not plain):
        kind, held = "none", ()
    elif kind == "binary" or (kind == "text" and media_type in _PROSE):
        held = ()
    elif not is_streamed and kind == "json" and len(plain) <= HIGHEST_SHAPED_BYTES:
        try:
            value = read_json(plain)
        except ProtocolError:
            held = _find_words(plain, sensitive)
        else:
            shape, held = find_shape(value), find_sensitive(value, sensitive)
    elif not is_streamed and kind in {"text", "form"}:
        held = _find_words(plain, sensitive)
    length = response.find_header("content-length")
    return ResponseHead(
        status=response.status,
        kind=kind,
        media_type=media_type,
        length=int(length) if length is not None and length.isdecimal() else None,
        shape=shape,
        sensitive=held,
        is_streamed=is_streamed,
        headers={name: "" for name, _ in response.headers},
    )


def _find_words(plain: bytes, sensitive: Sequence[str]) -> tuple[str, ...]:
    """Configured fields whose name stands in a text, where members cannot be told apart."""
    words = {fold_name(word) for word in _WORD.findall(plain.decode("utf-8", "replace"))}
    names = {item: fold_name(_WORD.findall(item)[-1]) for item in sensitive if _WORD.findall(item)}
    return tuple(sorted(item for item, name in names.items() if name in words))


def select_delivered(fields: Sequence[tuple[str, str]], *, prefix: str, request: Request | None) -> tuple[tuple[str, str], ...]:
    """The fields of a response that an agent may have; addresses lead back to the gateway where it is addressed by prefix."""
    is_upgrade = request is not None and request.upgrade is not None
    kept = []
    for name, value in fields:
        if name in _KEPT_FROM_CLIENTS and not (is_upgrade and name in _UPGRADE_FIELDS):
            continue
        if name in {"location", "content-location"} and prefix and request is not None:
            kept.append((name, _lead_back(value, prefix, request)))
        else:
            kept.append((name, value))
    return tuple(kept)


def _lead_back(value: str, prefix: str, request: Request) -> str:
    own = f"//{request.host}"
    rest = value.partition(own)[2] if own in value else value if value.startswith("/") and not value.startswith("//") else None
    if rest is None or (own in value and rest[:1] not in {"/", "", "?", ":"}):
        return value
    return prefix + (re.sub(r"^:[0-9]+", "", rest) or "/")


class Delivery:
    """One response on its way.

    Args:
        kind: what its body is read as.
        decisions: the request's and the response's.
        secrets: the gateway's own credentials.
        record_limit_bytes: masked bytes kept for the transcript.
        spent_bytes: bytes this session has already received.

    Raises:
        UnenforceableError, UnenforceableMaskError: policy asks for what this response cannot carry.
    """

    def __init__(
        self,
        *,
        kind: str,
        decisions: Sequence[Decision],
        masking: CellMasking,
        cells: CellMasker,
        secrets: Sequence[bytes],
        record_limit_bytes: int,
        is_streamed: bool,
        spent_bytes: int = 0,
    ) -> None:
        masks = [mask for decision in decisions for mask in decision.masks]
        obligations = [item for decision in decisions for item in decision.obligations]
        self._plans = [self._compile(masks, target, masking, kind) for target in ("delivered", "record")]
        self._masking, self._cells, self._secrets = masking, cells, secrets
        self._kind = kind
        self._bodies = [self._open(kind, plan) for plan in self._plans[: 1 if self._plans[0] == self._plans[1] else 2]]
        limit, session_limit = enforce.read_byte_limit(obligations), enforce.read_byte_limit(obligations, "session_bytes")
        limits = [item for item in (limit, None if session_limit is None else session_limit - spent_bytes) if item is not None]
        self._limit = min(limits, default=None)
        self._record_limit = record_limit_bytes
        self._lines: list[bytes] = []
        self._kept = 0
        self._text = codecs.getincrementaldecoder("utf-8")("replace")
        self._digest = hashlib.sha256()
        self._is_truncated = False
        self._headers: tuple[tuple[str, str], ...] = ()
        self._masked: Counter[str] = Counter()
        self._detected: Counter[str] = Counter()
        self.is_streamed = is_streamed
        self.bytes_out = 0

    @staticmethod
    def _compile(masks: Sequence[Any], target: str, masking: CellMasking, kind: str) -> BodyPlan:
        plan = compile_body_plan(masks, target, known_detectors=masking.known, always=masking.always)
        check_plan_fits(plan, kind)
        return plan

    def _open(self, kind: str, plan: BodyPlan) -> MaskedBody:
        return MaskedBody(kind, plan, self._masking.find_detectors(plan.detectors), self._cells, self._secrets)

    def feed(self, data: bytes) -> bytes:
        """The next plain bytes, masked. Raises LimitExceededError, ProtocolError; nothing may be delivered after that."""
        shown = self._bodies[0].feed(data)
        self._keep(shown if len(self._bodies) == 1 else self._bodies[1].feed(data))
        return self._count(shown)

    def finish(self) -> bytes:
        """The rest."""
        shown = self._bodies[0].finish()
        self._keep(shown if len(self._bodies) == 1 else self._bodies[1].finish())
        return self._count(shown)

    def mask_headers(self, fields: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
        """Fields as the agent may have them."""
        masker = self._open("text", self._plans[0])
        shown = mask_headers(fields, self._plans[0].headers, masker.values, self._cells, self._masked)
        self._detected.update(masker.detected)
        self._headers = (*self._headers, *shown)
        return shown

    def mask_message(self, content: bytes, *, is_text: bool) -> bytes:
        """One WebSocket message of the service, as the agent may have it."""
        if not is_text:
            masker = self._open("binary", self._plans[0])
            shown = masker.values.overwrite(masker.feed(content) + masker.finish())
        else:
            masker = self._open("json", self._plans[0])
            shown = masker.feed(content) + masker.finish()
        self._masked.update(masker.masked)
        self._detected.update(masker.detected)
        self.keep_message(shown, is_text=is_text, from_client=False)
        return self._count(shown)

    def keep_message(self, content: bytes, *, is_text: bool, from_client: bool) -> None:
        """One WebSocket message for the record. What the agent sent is in the record of its decision, masked; here stands its size."""
        line: dict[str, Any] = {"message": "client" if from_client else "service", "bytes": len(content)}
        if is_text and not from_client:
            line["text"] = content.decode("utf-8", "replace")
        self._add(line)

    def _count(self, shown: bytes) -> bytes:
        self.bytes_out += len(shown)
        self._digest.update(shown)
        if self._limit is not None and self.bytes_out > self._limit:
            raise LimitExceededError("more is delivered than policy allows", why=f"the limit is {max(self._limit, 0)} bytes")
        return shown

    def _keep(self, shown: bytes) -> None:
        room = self._record_limit - self._kept
        if self._kind in {"binary", "grpc"} or not shown:
            self._is_truncated |= bool(shown)
            return
        self._is_truncated |= len(shown) > room
        if room > 0:
            self._add({"body": self._text.decode(shown[:room])}, size=min(len(shown), room))

    def _add(self, line: dict[str, Any], size: int | None = None) -> None:
        data = orjson.dumps(line) + b"\n"
        size = len(data) if size is None else size
        if self._kept + size > self._record_limit:
            self._is_truncated = True
            return
        self._kept += size
        self._lines.append(data)

    def make_outcome(
        self,
        status: OutcomeStatus,
        error_code: str | None,
        request: Request | None,
        response: HttpResponse | None,
        elapsed_ms: int,
    ) -> Outcome:
        """What the exchange amounted to, with its transcript."""
        masked, detected = self._masked.copy(), self._detected.copy()
        masked.update(self._bodies[0].masked)
        detected.update(self._bodies[0].detected)
        first: dict[str, Any] = {"kind": self._kind, "elapsed_ms": elapsed_ms}
        if request is not None:
            first["method"] = request.method
        if response is not None:
            first["status"] = response.status
        first["headers"] = [list(pair) for pair in self._headers]
        last = {"bytes": self.bytes_out, "kept_bytes": self._kept, "sha256": self._digest.hexdigest()}
        transcript = b"".join([orjson.dumps({"response": first}) + b"\n", *self._lines, orjson.dumps({"end": last}) + b"\n"])
        return Outcome(
            status=status,
            tag=None if response is None else str(response.status),
            bytes_out=self.bytes_out,
            masked=masked,
            detected=detected,
            error_code=error_code,
            transcript=transcript if self._record_limit else b"",
            transcript_truncated=self._is_truncated,
        )
