# METADATA
# title: Credentials
# description: Columns that hold passwords and their hashes.
# schemas:
#   - input: schema.postgres.request
package sealgate.policies.postgres.credentials

import data.sealgate.lib.postgres as lib

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
	some statement in input.postgres.facts.statements
	some name in (lib.assigned_columns(statement) | _viewed_columns(statement))
	lower(name) in data.site.postgres.credential_columns
}

# METADATA
# title: Viewed columns
# description: Columns a new view shows, through which they could be assigned under another name.
# custom:
#   id: postgres.credentials.viewed_columns
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Not a rule of its own.
#   solution: See postgres.credentials.reset.
_viewed_columns(statement) := {column.name |
	statement.verb == "create_view"
	some column in statement.columns
}
