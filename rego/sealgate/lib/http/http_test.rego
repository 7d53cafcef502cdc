# METADATA
# title: Tests of the HTTP helpers
# description: Also home of the input documents that the tests of all HTTP topics start from.
package sealgate.lib.http_test

import data.sealgate.lib.http as lib

# A request by a reader and writer to a production service, with these facts and effects.
request(facts, effects) := {
	"schema": "sealgate.input/1",
	"phase": "request",
	"protocol": "http",
	"subject": {"id": "corp/agent-7", "kind": "agent", "groups": ["agents"]},
	"resource": {"connection": "ledger", "type": "http", "environment": "production", "risk": "high"},
	"action": {"name": "http.request", "effects": effects},
	"context": context,
	"http": {"facts": object.union(plain, facts)},
}

# The head of one response with these members.
response(members) := {
	"schema": "sealgate.input/1",
	"phase": "response",
	"protocol": "http",
	"subject": {"id": "corp/agent-7", "kind": "agent", "groups": ["agents"]},
	"resource": {"connection": "ledger", "type": "http", "environment": "production", "risk": "high"},
	"action": {"name": "http.request", "effects": ["read"]},
	"context": context,
	"http": {
		"facts": plain,
		"response": object.union({"status": 200, "body_kind": "json", "streamed": false, "sensitive": []}, members),
	},
}

context := {
	"now": "2026-11-21T04:00:00.000000Z",
	"now_ns": 1795233600000000000,
	"session": {"id": "s1", "started_at": "2026-11-21T03:59:00.000000Z"},
	"client": {"ip": "127.0.0.1"},
	"parse": {"status": "ok"},
}

plain := {
	"method": "GET",
	"scheme": "https",
	"host": "ledger.bank.test",
	"port": 443,
	"segments": ["accounts"],
	"declared": true,
	"body_kind": "none",
	"body_bytes": 0,
	"query_names": [],
	"header_names": [],
	"operation": {"id": "accounts.list", "template": "/accounts", "labels": []},
}

# The facts of an operation with these labels.
labelled(method, labels) := {
	"method": method,
	"operation": {"id": "some.operation", "template": "/some", "labels": labels},
}

# The names of the rules that contribute to a set.
rules(contributions) := {item.rule | some item in contributions}

test_in_groups if {
	lib.in_groups(["agents", "x"], ["agents"])
	not lib.in_groups(["x"], ["agents"])
	not lib.in_groups([], ["agents"])
}

test_has_label if {
	lib.has_label(labelled("POST", ["regulated"]), {"regulated"})
	not lib.has_label(labelled("POST", []), {"regulated"})
	not lib.has_label({"method": "POST"}, {"regulated"})
}

test_changes if {
	lib.changes(["read", "write"])
	lib.changes(["privilege"])
	not lib.changes(["read"])
	not lib.changes(["read", "export"])
}
