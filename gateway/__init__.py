"""The enforcement point: what stands between an agent's own client and the system it reaches.

cli/          argument parsing; every body lives in the package it belongs to
serve/        the only code that owns sockets: one host per protocol, look-ups, the admin listener
client/       what runs on an agent's own machine: its environment, SSH files, a forwarder that adds the token
console/      what reviewers see
pipeline.py   the one path of every action: parse, look up, describe, decide, record, enforce (read it first)
recording.py  what its records hold; lessons.py: what was recorded once, for the same action again
review.py     how an action finds its reviewer's verdict: shown first, or run and held
refusal.py    what a blocked action tells the person at the other end; what fails closed how
protocols/    one folder per protocol: bytes to events, events to actions, decisions to the client's own words; pure
policy/       asks Rego: evaluator processes, OPA, bundles, the decision cache
identity/     who is asking: tokens to subjects
approval/     requests for review and what reviewers granted
masking/      decisions to masks that the kernel applies; masked input documents
secrets/      references to credentials, resolved at each use
action.py     the input document; decision.py: the decision; messages.py: values handed between the parts
paths.py      paths into values, as policy and configuration write them
config.py     sealgate.yaml; errors.py: the exception tree
testing/      public helpers: real targets, development Sigstore, an OIDC issuer
"""
