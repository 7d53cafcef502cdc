# METADATA
# title: Personal data
# description: Masks in results.
package sealgate.policies.postgres.pii

# METADATA
# title: Sensitive columns are masked
# description: By index in the result.
# custom:
#   id: small.pii
#   severity: high
#   controls: [GLBA]
#   failure_msg: None.
#   solution: None.
masks contains {
	"rule": "small.pii",
	"selector": {"index": column.index},
	"strategy": strategy,
	"apply": "both",
} if {
	some column in input.postgres.response.columns
	strategy := object.get(data.site.own.strategies, column.sensitive, "null")
}

# METADATA
# title: Unknown origin
# description: Nothing is delivered that nobody can place.
# custom:
#   id: small.lineage
#   severity: high
#   controls: [GLBA]
#   failure_msg: Unknown origin.
#   solution: Name the columns.
deny contains {"rule": "small.lineage", "message": "unknown origin", "severity": "high", "controls": ["GLBA"]} if {
	some column in input.postgres.response.columns
	column.lineage == "unknown"
}
