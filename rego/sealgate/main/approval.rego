# What reviewers must grant, and whether the grant in the input satisfies it. Only this file reads input.approval.
package sealgate.main

# METADATA
# title: Approval part
# description: The requirements a reviewer must meet, present only while the action waits for approval.
# custom:
#   id: main.approval_part
#   severity: high
#   controls: [NIST-AC-3, NIST-AC-5]
#   failure_msg: The action waits for approval.
#   solution: Ask a reviewer of the named groups.
default _approval_part := {}

_approval_part := {"approval": {"requirements": _requirements}} if _effect == "require_approval"

# METADATA
# title: Approval requirements
# description: What reviewers must grant before the action may happen; a union, so every one must be met.
# custom:
#   id: main.requirements
#   severity: high
#   controls: [NIST-AC-5]
#   failure_msg: The action waits for approval.
#   solution: Ask a reviewer of the named groups.
_requirements contains {
	"rule": item.rule,
	"groups": sort(item.groups),
	"count": item.count,
	"ttl_s": item.ttl_s,
	"scope": item.scope,
} if {
	some item in _spoken.approve
}

# METADATA
# title: Unmet requirements
# description: Requirements the grant in input.approval does not satisfy.
# custom:
#   id: main.unmet
#   severity: high
#   controls: [NIST-AC-5]
#   failure_msg: The action waits for approval.
#   solution: Ask a reviewer of the named groups.
_unmet contains requirement if {
	some requirement in _requirements
	not _is_met(requirement)
}

# METADATA
# title: Requirement met
# description: Enough distinct reviewers of the right groups, none of whom asked for the action; or break-glass.
# custom:
#   id: main.is_met
#   severity: high
#   controls: [NIST-AC-5]
#   failure_msg: The action waits for approval.
#   solution: Ask a reviewer of the named groups.
_is_met(_) if {
	_has_grant
	input.approval.break_glass == true
}

_is_met(requirement) if {
	_has_grant
	granting := {reviewer.id |
		some reviewer in input.approval.reviewers
		not reviewer.id in _requesters
		some group in reviewer.groups
		group in requirement.groups
	}
	count(granting) >= requirement.count
}

# METADATA
# title: Has grant
# description: Whether a grant is there that has not ended.
# custom:
#   id: main.has_grant
#   severity: high
#   controls: [NIST-AC-5]
#   failure_msg: The grant has ended.
#   solution: Ask for approval again.
_has_grant if {
	is_number(input.approval.expires_ns)
	input.approval.expires_ns > input.context.now_ns
}

# METADATA
# title: Requesters
# description: Everyone the action is attempted for; none of them may approve it.
# custom:
#   id: main.requesters
#   severity: high
#   controls: [NIST-AC-5]
#   failure_msg: A requester cannot approve.
#   solution: Ask another reviewer.
_requesters contains name if {
	some member in ["id", "person", "on_behalf_of"]
	name := input.subject[member]
}

# METADATA
# title: Approve reasons
# description: The rules that ask for approval.
# custom:
#   id: main.approve_reasons
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: The action is not allowed.
#   solution: Read the reasons of the decision.
_approve_reasons contains {
	"rule": requirement.rule,
	"effect": "approve",
	"severity": "medium",
	"message": sprintf("needs approval by %v of %v", [requirement.count, concat(" or ", requirement.groups)]),
	"controls": [],
} if {
	some requirement in _requirements
}
