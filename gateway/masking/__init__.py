"""Masking: from what policy asked for and the configuration names, to what the native kernel carries out.

`plan.py` compiles the masks of decisions for one described result; `detectors.py` builds the configured detectors and the
key of tokens; `document.py` makes the form of an input document that evidence may hold, with `sql.py` for the text of statements.
What is sensitive and how a cell is replaced lives in the kernel (`sealgate_native.mask`), once for every protocol.
"""

from gateway.masking.detectors import build_detectors, derive_key
from gateway.masking.document import DocumentMasker
from gateway.masking.plan import MaskPlan, UnenforceableMaskError, compile_plan

__all__ = ["DocumentMasker", "MaskPlan", "UnenforceableMaskError", "build_detectors", "compile_plan", "derive_key"]
