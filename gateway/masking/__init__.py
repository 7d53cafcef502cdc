"""Masking: from what policy asked for and the configuration names, to what the native kernel carries out.

`plan.py` compiles the masks of decisions for one described result; `detectors.py` builds the configured detectors and the
key of tokens; `document.py` makes the form of an input document that evidence may hold, with `sql.py` for the text of statements.
`body_plan.py` compiles masks for a response and opens the masker of its body: `json_stream.py` and `streams.py` by kind of body, with
`values.py` for single values, `scrub.py` for the gateway's own credentials and `codings.py` for compressed bodies.
What is sensitive and how a cell is replaced lives in the kernel (`sealgate_native.mask`), once for every protocol.
"""

from gateway.masking.body_plan import BodyPlan, MaskedBody, check_plan_fits, compile_body_plan
from gateway.masking.detectors import build_detectors, derive_key
from gateway.masking.document import DocumentMasker
from gateway.masking.plan import MaskPlan, UnenforceableMaskError, compile_plan

__all__ = [
    "BodyPlan",
    "DocumentMasker",
    "MaskPlan",
    "MaskedBody",
    "UnenforceableMaskError",
    "build_detectors",
    "check_plan_fits",
    "compile_body_plan",
    "compile_plan",
    "derive_key",
]
