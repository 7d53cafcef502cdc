"""Evaluate a bundle outside the event loop: replay, backtests, `sealgate policy eval` and the auditor's recomputation.

The evaluation runs in an evaluator process with a deadline, exactly as in the gateway.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from socket import socket
from types import TracebackType
from typing import Any, Final, Self

from gateway.policy.allowance import Allowance, bound_wall
from gateway.policy.bundle import Bundle
from gateway.policy.engine import PolicyFailure, canonical
from gateway.policy.process import encode_frame, end_process, load_frame, open_evaluator, overdue, receive_frame

RECOMPUTE_DEADLINE_S: Final = 5.0
"""Processor time of an evaluation outside the gateway, where nobody waits on a connection: many times the gateway's own deadline."""


class Recomputer:
    """One evaluator process for many evaluations of one bundle; a context manager.

    A process that dies or is killed at its deadline is replaced at the next evaluation.
    """

    def __init__(self, bundle: Bundle, *, deadline_s: float = RECOMPUTE_DEADLINE_S) -> None:
        self._bundle = bundle
        self._deadline_s = deadline_s
        self._opened: tuple[subprocess.Popen[bytes], socket] | None = None
        self._number = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        if self._opened is not None:
            process, channel = self._opened
            self._opened = None
            channel.close()
            end_process(process)

    def evaluate(self, document: Mapping[str, Any]) -> object:
        """The decision, lists in canonical order.

        Raises:
            PolicyFailure: there is none.
            PolicyError: the bundle cannot be compiled.
        """
        self._number += 1
        frame = encode_frame({"id": self._number, "bundle": self._bundle.digest, "input": document})
        if self._opened is None:
            self._opened = open_evaluator(load_frame(self._bundle, int(self._deadline_s * 800)))
        process, channel = self._opened
        allowance = Allowance(process.pid, self._deadline_s)
        try:
            channel.settimeout(bound_wall(self._deadline_s))
            channel.sendall(frame)
        except OSError:
            self.close()
            raise PolicyFailure("died", "the evaluator ended before it was asked") from None
        answer = receive_frame(channel, allowance.left_s)
        if answer is None:
            failure = overdue(allowance)
            has_ended = process.poll() is not None
            self.close()
            if has_ended:
                raise PolicyFailure("died", "the evaluator died of this input")
            raise failure
        if "value" not in answer:
            raise PolicyFailure(answer["kind"], answer["message"])
        return canonical(answer["value"])


def evaluate_bundle(bundle: Bundle, document: Mapping[str, Any], *, deadline_s: float = RECOMPUTE_DEADLINE_S) -> object:
    """The decision of `bundle` about one document; for many documents use `Recomputer`.

    Raises:
        PolicyFailure: there is none.
        PolicyError: the bundle cannot be compiled.
    """
    with Recomputer(bundle, deadline_s=deadline_s) as recomputer:
        return recomputer.evaluate(document)
