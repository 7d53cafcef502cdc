# METADATA
# title: Tests of the Git helpers
# description: Also home of the input documents that the tests of all Git topics start from.
package sealgate.lib.git_test

import data.sealgate.lib.git as lib

# A push of these updates by an agent.
push(updates) := request({"service": "receive-pack", "repository": "/srv/git/app.git", "updates": updates}, ["write"])

# A request with these facts and effects.
request(facts, effects) := {
	"schema": "sealgate.input/1",
	"phase": "request",
	"protocol": "git",
	"subject": {"id": "corp/agent-7", "kind": "agent", "groups": ["agents"]},
	"resource": {"connection": "git-1", "type": "ssh", "environment": "production", "risk": "high"},
	"action": {"name": "git.push", "effects": effects},
	"context": {
		"now": "2026-11-21T04:00:00.000000Z",
		"now_ns": 1795233600000000000,
		"session": {"id": "s1", "started_at": "2026-11-21T03:59:00.000000Z"},
		"client": {"ip": "127.0.0.1"},
		"parse": {"status": "ok"},
	},
	"git": {"facts": facts},
}

# One update of a ref that exists before and after, unless the members say otherwise.
update(ref, members) := object.union({"ref": ref, "create": false, "delete": false}, members)

# The rules that speak in a set of contributions.
rules(contributions) := {item.rule | some item in contributions}

test_groups if {
	lib.in_groups(["a"], ["a"])
	not lib.in_groups(["a"], ["b"])
}

test_names if {
	lib.matches("refs/heads/main", ["refs/heads/main"])
	lib.matches("refs/heads/release/1", ["refs/heads/release/*"])
	not lib.matches("refs/heads/mainly", ["refs/heads/main"])
}
