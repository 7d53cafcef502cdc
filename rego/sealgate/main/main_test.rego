package sealgate.main_test

import data.sealgate.main

_input := {
	"schema": "sealgate.input/1",
	"phase": "request",
	"protocol": "registry",
	"subject": {"id": "corp/agent-7", "kind": "agent", "on_behalf_of": "corp/ann"},
	"resource": {"connection": "images", "type": "registry", "environment": "test", "risk": "low"},
	"action": {"name": "registry.pull", "effects": ["read"]},
	"context": {"now_ns": 1795000000000000000},
}

_with(changes) := object.union(_input, changes)

_allow := {"rule": "t.allow", "effects": ["read"]}

_deny := {"rule": "t.deny", "message": "no", "severity": "high", "controls": ["B", "A"]}

_approve := {"rule": "t.approve", "groups": ["risk", "dba"], "count": 1, "ttl_s": 600, "scope": "action"}

_mask := {"rule": "t.mask", "selector": {"detector": "iban"}, "strategy": "redact", "apply": "both"}

_obligation := {"rule": "t.record", "kind": "record", "transcript": "full"}

_warn := {"rule": "t.warn", "message": "look out"}

_grant := {"reviewers": [{"id": "corp/dana", "groups": ["dba"]}], "expires_ns": 1795000000000000001}

_effect(topics) := result if {
	decision := main.decision with input as _input with data.sealgate.policies.registry as topics
	result := decision.effect
}

_rules(decision) := {reason.rule | some reason in decision.reasons}

test_nobody_allows if {
	decision := main.decision with input as _input with data.sealgate.policies.registry as {}
	decision.effect == "block"
	_rules(decision) == {"default.deny.read"}
}

test_allowed if {
	_effect({"t": {"allow": {_allow}}}) == "allow"
}

test_effects_may_be_a_set if {
	_effect({"t": {"allow": {{"rule": "t.allow", "effects": {"read"}}}}}) == "allow"
}

test_topics_of_any_count if {
	decision := main.decision with input as _input
		with data.sealgate.policies.registry as {}
		with data.sealgate.policies.any as {"t": {"allow": {_allow}}}
	decision.effect == "allow"
}

test_every_protocol_has_its_topics if {
	every protocol in ["postgres", "ssh", "git", "kubernetes", "registry", "aws", "http"] {
		decision := main.decision with input as _with({"protocol": protocol})
			with data.sealgate.policies as {protocol: {"t": {"allow": {_allow}, "warn": {_warn}}}}
		decision.effect == "allow"
		"t.warn" in _rules(decision)
	}
}

test_every_effect_must_be_covered if {
	decision := main.decision with input as _with({"action": {"effects": ["read", "write"]}})
		with data.sealgate.policies.registry as {"t": {"allow": {_allow}}}
	decision.effect == "block"
	"default.deny.write" in _rules(decision)
}

test_no_effects_block if {
	decision := main.decision with input as _with({"action": {"effects": []}})
		with data.sealgate.policies.registry as {"t": {"allow": {_allow}}}
	decision.effect == "block"
	"default.deny" in _rules(decision)
}

test_any_deny_blocks if {
	decision := main.decision with input as _input
		with data.sealgate.policies.registry as {"t": {"allow": {_allow}, "deny": {_deny}}}
	decision.effect == "block"
	some reason in decision.reasons
	reason.rule == "t.deny"
	reason.controls == ["A", "B"]
}

test_approval_is_asked_for if {
	decision := main.decision with input as _input
		with data.sealgate.policies.registry as {"t": {"allow": {_allow}, "approve": {_approve}}}
	decision.effect == "require_approval"
	some requirement in decision.approval.requirements
	requirement.groups == ["dba", "risk"]
}

test_a_grant_meets_the_requirement if {
	decision := main.decision with input as _with({"approval": _grant})
		with data.sealgate.policies.registry as {"t": {"allow": {_allow}, "approve": {_approve}}}
	decision.effect == "allow"
	not decision.approval
}

test_a_grant_that_ended_does_not if {
	grant := object.union(_grant, {"expires_ns": 1795000000000000000})
	decision := main.decision with input as _with({"approval": grant})
		with data.sealgate.policies.registry as {"t": {"allow": {_allow}, "approve": {_approve}}}
	decision.effect == "require_approval"
}

test_a_requester_cannot_approve if {
	every requester in ["corp/agent-7", "corp/ann"] {
		grant := object.union(_grant, {"reviewers": [{"id": requester, "groups": ["dba"]}]})
		decision := main.decision with input as _with({"approval": grant})
			with data.sealgate.policies.registry as {"t": {"allow": {_allow}, "approve": {_approve}}}
		decision.effect == "require_approval"
	}
}

test_break_glass_meets_requirements_but_no_deny if {
	glass := {"reviewers": [], "expires_ns": 1795000000000000001, "break_glass": true}
	topics := {"t": {"allow": {_allow}, "approve": {_approve}}}
	decision := main.decision with input as _with({"approval": glass}) with data.sealgate.policies.registry as topics
	decision.effect == "allow"
	denied := main.decision with input as _with({"approval": glass})
		with data.sealgate.policies.registry as object.union(topics, {"u": {"deny": {_deny}}})
	denied.effect == "block"
}

test_masks_and_obligations if {
	decision := main.decision with input as _input
		with data.sealgate.policies.registry as {"t": {"allow": {_allow}, "masks": {_mask}, "obligations": {_obligation}}}
	decision.effect == "mask"
	decision.masks == {_mask}
	decision.obligations == {_obligation}
}

test_the_response_inherits_the_allow if {
	decision := main.decision with input as _with({"phase": "response"})
		with data.sealgate.policies.registry as {"t": {"masks": {_mask}}}
	decision.effect == "mask"
}

test_an_approval_in_the_response_blocks if {
	decision := main.decision with input as _with({"phase": "response"})
		with data.sealgate.policies.registry as {"t": {"approve": {_approve}}}
	decision.effect == "block"
	"policy.phase" in _rules(decision)
}

test_malformed_contributions_block if {
	every broken in [
		{"deny": {{"rule": "x"}}},
		{"deny": {"text"}},
		{"deny": []},
		{"allow": {{"rule": "x", "effects": ["fly"]}}},
		{"approve": {object.union(_approve, {"count": 0})}},
		{"masks": {object.union(_mask, {"strategy": "hide"})}},
		{"obligations": {{"rule": "x"}}},
		{"warn": {{"rule": "x", "message": 1}}},
	] {
		decision := main.decision with input as _input
			with data.sealgate.policies.registry as {"t": {"allow": {_allow}}, "u": broken}
		decision.effect == "block"
		"policy.malformed" in _rules(decision)
	}
}

test_an_input_that_cannot_be_judged_blocks if {
	every document in [
		{},
		_with({"schema": "sealgate.input/2"}),
		_with({"phase": "later"}),
		_with({"protocol": "telnet"}),
		_with({"action": {"effects": ["fly"]}}),
		_with({"context": {"now_ns": "soon"}}),
		_with({"resource": {"connection": 1}}),
	] {
		decision := main.decision with input as document
			with data.sealgate.policies.registry as {"t": {"allow": {_allow}}}
		decision.effect == "block"
		"policy.input" in _rules(decision)
	}
}

# Nothing the aggregator knows of leaves its decision undefined; what it does not know of blocks.
test_the_decision_is_always_defined if {
	decision := main.decision with input as _input with main._spoken as {}
	decision.effect == "block"
	_rules(decision) == {"policy.input"}
}

_exception := {
	"rule": "t.deny",
	"connection": "images",
	"owner": "o",
	"reason": "r",
	"ticket": "CHG-1",
	"expires_ns": 1795000000000000001,
}

_excepted(exception, overridable) := decision if {
	decision := main.decision with input as _input
		with data.sealgate.policies.registry as {"t": {"allow": {_allow}, "deny": {_deny}}}
		with data.site.exceptions as [exception]
		with data.sealgate_rules as {"t.deny": {"overridable": overridable}}
}

test_an_exception_switches_a_rule_off_and_says_so if {
	decision := _excepted(_exception, true)
	decision.effect == "allow"
	some reason in decision.reasons
	reason.rule == "t.deny"
	reason.effect == "warn"
	contains(reason.message, "CHG-1")
}

test_an_exception_is_ignored if {
	_excepted(_exception, false).effect == "block"
	every change in [
		{"connection": "other"},
		{"expires_ns": 1795000000000000000},
		{"expires_ns": "2999"},
		{"rule": "t.other"},
		{"ticket": 1},
	] {
		_excepted(object.union(_exception, change), true).effect == "block"
	}
}
