# METADATA
# title: Schema changes
# description: Changes to the schema of a production database are seen by a second person.
# schemas:
#   - input: schema.postgres.request
package sealgate.policies.postgres.schema_changes

# METADATA
# title: Change the schema in production
# description: CREATE and ALTER in an environment the site calls production need a reviewer.
# custom:
#   id: postgres.schema_changes.production
#   severity: high
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-AC-5]
#   failure_msg: A schema change in production needs approval.
#   solution: Ask a reviewer to approve the ticket, then run the same statement again.
approve contains {
	"rule": "postgres.schema_changes.production",
	"groups": data.site.postgres.reviewers.schema,
	"count": 1,
	"ttl_s": data.site.postgres.approval_ttl_s,
	"scope": "action",
} if {
	input.phase == "request"
	"define" in input.action.effects
	input.resource.environment in data.site.postgres.production_environments
}
