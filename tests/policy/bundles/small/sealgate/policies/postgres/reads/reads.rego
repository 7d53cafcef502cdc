# METADATA
# title: Reads
# description: Who may read.
package sealgate.policies.postgres.reads

# METADATA
# title: Reading is allowed
# description: Analysts may read.
# custom:
#   id: small.reads
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Reading is not allowed.
#   solution: Join the analysts.
allow contains {"rule": "small.reads", "effects": ["read"]} if "analysts" in input.subject.groups
