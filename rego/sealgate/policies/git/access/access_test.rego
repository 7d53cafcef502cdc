package sealgate.policies.git.access_test

import data.sealgate.lib.git_test as given
import data.sealgate.policies.git.access

test_readers_may_fetch if {
	fetch := given.request({"service": "upload-pack", "repository": "/r"}, ["read"])
	"git.access.fetch" in given.rules(access.allow) with input as fetch
}

test_writers_may_push if {
	"git.access.push" in given.rules(access.allow) with input as given.push([given.update("refs/heads/topic", {})])
}

test_strangers_may_neither if {
	push := given.push([given.update("refs/heads/topic", {})])
	count(access.allow) == 0 with input as object.union(push, {"subject": {"groups": ["guests"]}})
}
