"""Evidence: an append-only, signed, publicly checkable record of what was decided and what was done.

This package imports nothing of the gateway, so that an auditor can run it alone. The format is specified in
`docs/evidence-format.md`; the write path starts in `evidence.log`, the read path in `evidence.store`.
"""
