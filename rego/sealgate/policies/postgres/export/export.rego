# METADATA
# title: Bulk export
# description: Many rows at once leave only with a reviewer's approval.
# schemas:
#   - input: schema.postgres.request
#   - data.site.postgres: schema.postgres.site
package sealgate.policies.postgres.export

# METADATA
# title: Export in bulk
# description: COPY ... TO STDOUT exports without a bound, so a reviewer sees it first.
# custom:
#   id: postgres.export.bulk
#   severity: high
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-AC-5]
#   failure_msg: A bulk export needs approval.
#   solution: Ask a reviewer to approve the ticket, or select fewer rows.
approve contains {
	"rule": "postgres.export.bulk",
	"groups": data.site.postgres.reviewers.export,
	"count": 1,
	"ttl_s": data.site.postgres.approval_ttl_s,
	"scope": "action",
} if {
	input.phase == "request"
	"export" in input.action.effects
}

# METADATA
# title: Bound on selected rows
# description: A SELECT delivers at most as many rows as the site allows; more are an error, or left out.
# custom:
#   id: postgres.export.row_limit
#   severity: medium
#   controls: [NIST-AC-3, NIST-AC-4]
#   failure_msg: The result has more rows than may leave without review.
#   solution: Select fewer rows, or export with COPY ... TO STDOUT, which asks a reviewer.
obligations contains {
	"rule": "postgres.export.row_limit",
	"kind": "row_limit",
	"rows": data.site.postgres.export_rows,
	"on_excess": _on_excess,
} if {
	input.phase == "request"
	"read" in input.action.effects
	not "export" in input.action.effects
}

# METADATA
# title: Bound on a run
# description: All results of a run together have a bound, so that many small questions are not an export.
# custom:
#   id: postgres.export.volume
#   severity: medium
#   controls: [NIST-AC-3, NIST-AC-4]
#   failure_msg: The run has received as many rows as may leave without review.
#   solution: Ask for less, or export with COPY ... TO STDOUT, which asks a reviewer.
obligations contains {
	"rule": "postgres.export.volume",
	"kind": "volume_limit",
	"rows": data.site.postgres.run_rows,
	"per": "run",
} if {
	input.phase == "request"
	"read" in input.action.effects
	not "export" in input.action.effects
}

# METADATA
# title: Rate of statements
# description: Where data.site.postgres.statements_per_minute is above zero, a run sends no more than that.
# custom:
#   id: postgres.export.rate
#   severity: low
#   controls: [NIST-AC-3, NIST-SC-5]
#   failure_msg: The run sends statements faster than it may.
#   solution: Wait, and send less at once.
obligations contains {
	"rule": "postgres.export.rate",
	"kind": "rate_limit",
	"statements": data.site.postgres.statements_per_minute,
	"per_s": 60,
} if {
	input.phase == "request"
	data.site.postgres.statements_per_minute > 0
}

# METADATA
# title: What happens to more rows
# description: Where data.site.postgres.export_excess is truncate the result ends with a warning, else an error.
# custom:
#   id: postgres.export.on_excess
#   severity: low
#   controls: [NIST-AC-3, NIST-AC-4]
#   failure_msg: Not a rule of its own.
#   solution: See postgres.export.row_limit.
default _on_excess := "block"

_on_excess := "truncate" if data.site.postgres.export_excess == "truncate"
