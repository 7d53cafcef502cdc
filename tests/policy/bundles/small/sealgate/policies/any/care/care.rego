# METADATA
# title: Care
# description: For every protocol.
package sealgate.policies.any.care

# METADATA
# title: Critical systems are recorded
# description: An obligation and a warning.
# custom:
#   id: small.record
#   severity: low
#   controls: [NIST-AU-3]
#   failure_msg: None.
#   solution: None.
obligations contains {"rule": "small.record", "kind": "record", "transcript": "full"} if input.resource.risk == "critical"

warn contains {"rule": "small.record", "message": "recorded in full"} if input.resource.risk == "critical"
