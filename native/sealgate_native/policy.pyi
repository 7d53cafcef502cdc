"""Rego evaluation by the regorus tree interpreter (design section 4).

Every failure is an `EvaluationError` of a closed set of kinds. What the engine cannot turn into an error (a stack overflow, an
allocation failure, a builtin that never returns) ends or hangs the process: `gateway.policy.evaluator` is the process to lose.
"""

from typing import Final, Literal, final

MAX_DEPTH: Final[int]
"""Deepest nesting of an input or data document."""

FailureName = Literal["compile", "input", "error", "conflict", "deadline", "panic"]

class EvaluationError(ValueError):
    """Policy gave no value.

    Attributes:
        kind: compile (modules, data or entry point refused), input (too deep, or not exactly representable), error (a builtin or
            expression failed), conflict (two values for one rule), deadline (the engine's own timer), panic (the engine panicked).
    """

    kind: FailureName

@final
class Undefined:
    """The type of `UNDEFINED`: no rule gave a value. Never the same as None, which is JSON null; false in a condition."""

UNDEFINED: Final[Undefined]

@final
class CompiledPolicy:
    """Modules and data compiled once for one entry point; safe to share between threads, which evaluate in parallel."""

    def __init__(
        self, modules: list[tuple[str, str]], data_json: str, entrypoint: str, *, time_limit_ms: int = 250
    ) -> None:
        """Compile.

        Args:
            modules: (path, Rego text) pairs; at least one.
            data_json: the data document, a JSON object.
            entrypoint: the rule to answer, such as "data.sealgate.main.decision".
            time_limit_ms: the engine's own wall-clock limit of one evaluation, at least 250. Cooperative: it does not stop a
                single builtin.

        Raises:
            EvaluationError: kind compile or panic.
        """

    def eval(self, input: object) -> object:  # noqa: A002
        """The entry point's value, or `UNDEFINED`.

        Sets come back as lists. Integers beyond 64 bits, non-finite numbers, lone surrogates and nesting beyond `MAX_DEPTH` are
        refused rather than changed. The interpreter lock is released while the engine works.

        Raises:
            EvaluationError: kind input, error, conflict, deadline or panic.
        """

    def eval_json(self, text: str) -> object:
        """As `eval`, for an input given as JSON text. Of two equal names in one object the last wins, as in every JSON reader
        here, so text from a client is never handed over."""

def set_memory_limit(limit_bytes: int) -> None:
    """Bound the memory of evaluations in this process. Cooperative: checked between steps, not inside one builtin."""
