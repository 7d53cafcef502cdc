# METADATA
# title: Git helpers
# description: What topics for Git ask of refs and repositories; pure functions of their arguments.
package sealgate.lib.git

# METADATA
# title: Member of a group
# description: Whether the subject is in one of the groups a list of the site names.
# custom:
#   id: lib.git.in_groups
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Not a rule of its own; topics that use it say why they deny.
#   solution: See the rule that uses this helper.
in_groups(groups, wanted) if {
	some group in groups
	group in wanted
}

# METADATA
# title: Matching name
# description: Whether a name is one of these, or begins like one that ends with a star.
# scope: document
# custom:
#   id: lib.git.matches
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Not a rule of its own; topics that use it say why they deny.
#   solution: See the rule that uses this helper.
matches(name, patterns) if name in patterns

matches(name, patterns) if {
	some pattern in patterns
	endswith(pattern, "*")
	startswith(name, trim_suffix(pattern, "*"))
}
