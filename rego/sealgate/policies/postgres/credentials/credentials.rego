# METADATA
# title: Credentials
# description: Columns that hold passwords and their hashes.
# schemas:
#   - input: schema.postgres.request
#   - data.site.postgres: schema.postgres.site
package sealgate.policies.postgres.credentials

# METADATA
# title: Reset passwords
# description: A statement that assigns a credential column can lock people out or let others in, one or many at once.
# custom:
#   id: postgres.credentials.reset
#   severity: high
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-AC-5]
#   failure_msg: A password reset needs approval.
#   solution: Ask a reviewer to approve the ticket, then run the same statement again.
approve contains {
	"rule": "postgres.credentials.reset",
	"groups": data.site.postgres.reviewers.credentials,
	"count": 1,
	"ttl_s": data.site.postgres.approval_ttl_s,
	"scope": "action",
} if {
	input.phase == "request"
	some name in _named
	lower(name) in data.site.postgres.credential_columns
}

# METADATA
# title: Named columns
# description: |
#   Columns that are assigned, or shown by a new view, through which they could be assigned under another name.
# custom:
#   id: postgres.credentials.named
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Not a rule of its own.
#   solution: See postgres.credentials.reset.
_named contains column.name if {
	some statement in input.postgres.facts.statements
	some column in statement.assigned
	not column.unnamed
}

_named contains column.name if {
	some statement in input.postgres.facts.statements
	statement.verb == "create_view"
	some column in statement.columns
}
