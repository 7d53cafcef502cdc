# METADATA
# title: Regulated data
# description: Sensitive fields are delivered masked, and changed only with a second person.
# schemas:
#   - data.site.http: schema.http.site
package sealgate.policies.http.regulated

import data.sealgate.lib.http as lib

# METADATA
# title: Change regulated data
# description: A change by an operation labelled regulated is seen by a second person.
# custom:
#   id: http.regulated.change
#   severity: high
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-AC-5]
#   failure_msg: A change to regulated data needs approval.
#   solution: Ask a reviewer to approve the ticket, then send the same request again.
approve contains {
	"rule": "http.regulated.change",
	"groups": data.site.http.reviewers.regulated,
	"count": 1,
	"ttl_s": data.site.http.approval_ttl_s,
	"scope": "action",
} if {
	input.phase == "request"
	lib.has_label(input.http.facts, {"regulated"})
	lib.changes(input.action.effects)
}

# METADATA
# title: Regulated values in the address
# description: A sensitive value in the path or query ends up in logs of every hop.
# custom:
#   id: http.regulated.address
#   severity: medium
#   controls: [GLBA-501b, NIST-AC-4]
#   failure_msg: the address names a sensitive field, and addresses are logged by every hop
#   solution: Send the value in the body of the request.
deny contains {
	"rule": "http.regulated.address",
	"message": "the address names a sensitive field, and addresses are logged by every hop",
	"severity": "medium",
	"controls": ["GLBA-501b", "NIST-AC-4"],
} if {
	input.phase == "request"
	some name in input.http.facts.query_names
	name in data.site.http.address_fields
}

# METADATA
# title: Mask regulated fields by name
# description: A sensitive field that a response holds, or may hold, is delivered and recorded masked.
# custom:
#   id: http.regulated.field
#   severity: high
#   controls: [FFIEC-AIO-VI.B, GLBA-501b, NIST-AC-4]
#   failure_msg: It is delivered masked.
#   solution: Nothing to do; ask for an exception where the values themselves are needed.
masks contains {
	"rule": "http.regulated.field",
	"selector": {"field": name},
	"strategy": _strategy(name),
	"params": {},
	"apply": "both",
} if {
	input.phase == "response"
	some name in input.http.response.sensitive
	not startswith(name, "$")
}

# METADATA
# title: Mask regulated fields by path
# description: As by name, for fields that are configured by their JSON path.
# custom:
#   id: http.regulated.path
#   severity: high
#   controls: [FFIEC-AIO-VI.B, GLBA-501b, NIST-AC-4]
#   failure_msg: It is delivered masked.
#   solution: Nothing to do; ask for an exception where the values themselves are needed.
masks contains {
	"rule": "http.regulated.path",
	"selector": {"json_path": name},
	"strategy": _strategy(name),
	"params": {},
	"apply": "both",
} if {
	input.phase == "response"
	some name in input.http.response.sensitive
	startswith(name, "$")
}

# METADATA
# title: Mask what detectors find
# description: Values that look regulated are masked wherever they stand, as a net under the masks by field.
# custom:
#   id: http.regulated.detected
#   severity: high
#   controls: [FFIEC-AIO-VI.B, GLBA-501b, NIST-AC-4]
#   failure_msg: It is delivered masked.
#   solution: Nothing to do; ask for an exception where the values themselves are needed.
masks contains {
	"rule": "http.regulated.detected",
	"selector": {"detector": detector},
	"strategy": "redact",
	"params": {},
	"apply": "both",
} if {
	input.phase == "response"
	some detector in data.site.http.detectors
}

# METADATA
# title: Strategy
# description: How a sensitive field is masked, as the site says, else redacted whole.
# custom:
#   id: http.regulated.strategy
#   severity: medium
#   controls: [GLBA-501b, NIST-AC-4]
#   failure_msg: Not a rule of its own.
#   solution: See http.regulated.field.
_strategy(name) := object.get(data.site.http.strategies, name, "redact")
