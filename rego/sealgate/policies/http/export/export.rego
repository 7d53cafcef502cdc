# METADATA
# title: Bulk export
# description: Much data at once leaves only with a reviewer's approval.
# schemas:
#   - input: schema.http.request
#   - data.site.http: schema.http.site
package sealgate.policies.http.export

import data.sealgate.lib.http as lib

# METADATA
# title: Export in bulk
# description: An operation that exports is seen by a reviewer first.
# custom:
#   id: http.export.bulk
#   severity: high
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-AC-5]
#   failure_msg: A bulk export needs approval.
#   solution: Ask a reviewer to approve the ticket, then send the same request again.
approve contains {
	"rule": "http.export.bulk",
	"groups": data.site.http.reviewers.export,
	"count": 1,
	"ttl_s": data.site.http.approval_ttl_s,
	"scope": "action",
} if {
	input.phase == "request"
	"export" in input.action.effects
}

# METADATA
# title: Bound on a session
# description: What a session may read without a review, summed over all its responses.
# custom:
#   id: http.export.session
#   severity: medium
#   controls: [NIST-AC-3, NIST-AC-4]
#   failure_msg: The session has read as much as may leave without review.
#   solution: Ask for an operation that exports; a reviewer approves it.
obligations contains {
	"rule": "http.export.session",
	"kind": "session_bytes",
	"bytes": data.site.http.session_bytes,
} if {
	input.phase == "request"
	not "export" in input.action.effects
}

# METADATA
# title: Stream large answers
# description: Answers larger than the gateway holds are delivered while they arrive, where the label says so.
# custom:
#   id: http.export.stream
#   severity: low
#   controls: [NIST-AC-4]
#   failure_msg: Not a denial.
#   solution: Label an operation that delivers much with bulk.
obligations contains {"rule": "http.export.stream", "kind": "stream"} if {
	input.phase == "request"
	lib.has_label(input.http.facts, {"bulk"})
	not lib.changes(input.action.effects)
}
