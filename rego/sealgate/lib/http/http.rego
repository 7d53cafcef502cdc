# METADATA
# title: HTTP helpers
# description: What topics for HTTP ask of requests; pure functions of their arguments.
package sealgate.lib.http

# METADATA
# title: Member of a group
# description: Whether the subject is in one of the groups a list of the site names.
# custom:
#   id: lib.http.in_groups
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Not a rule of its own; topics that use it say why they deny.
#   solution: See the rule that uses this helper.
in_groups(groups, wanted) if {
	some group in groups
	group in wanted
}

# METADATA
# title: Label of the operation
# description: Whether the declared operation of a request carries one of these labels.
# custom:
#   id: lib.http.has_label
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Not a rule of its own; topics that use it say why they deny.
#   solution: See the rule that uses this helper.
has_label(facts, wanted) if {
	some label in facts.operation.labels
	label in wanted
}

# METADATA
# title: Changing effects
# description: Whether the effects of an action go beyond reading.
# custom:
#   id: lib.http.changes
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Not a rule of its own; topics that use it say why they deny.
#   solution: See the rule that uses this helper.
changes(effects) if {
	some effect in effects
	not effect in ["read", "export"]
}
