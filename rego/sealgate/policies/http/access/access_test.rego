package sealgate.policies.http.access_test

import data.sealgate.lib.http_test as given
import data.sealgate.policies.http.access

test_readers_may_read if {
	"http.access.read" in given.rules(access.allow) with input as given.request({}, ["read"])
}

test_strangers_may_not if {
	stranger := object.union(given.request({}, ["read"]), {"subject": {"groups": ["guests"]}})
	count(access.allow) == 0 with input as stranger
}

test_a_subject_without_groups_may_not if {
	nobody := object.union(given.request({}, ["read"]), {"subject": {"groups": []}})
	count(access.allow) == 0 with input as nobody
}

test_nothing_is_allowed_that_was_not_parsed if {
	unparsed := object.union(given.request({}, ["read"]), {"context": {"parse": {"status": "failed", "reason": "x"}}})
	count(access.allow) == 0 with input as unparsed
}

test_writers_may_write if {
	"http.access.write" in given.rules(access.allow) with input as given.request({"method": "POST"}, ["write"])
	analyst := object.union(given.request({"method": "POST"}, ["write"]), {"subject": {"groups": ["analysts"]}})
	not "http.access.write" in given.rules(access.allow) with input as analyst
}

test_operators_may_operate if {
	"http.access.operate" in given.rules(access.allow) with input as given.request({"method": "POST"}, ["execute"])
		with data.site.http.groups.operators as ["agents"]
	not "http.access.operate" in given.rules(access.allow) with input as given.request({"method": "POST"}, ["execute"])
		with data.site.http.groups.operators as ["platform"]
}

test_nobody_may_grant_privileges if {
	every item in access.allow {
		not "privilege" in item.effects
	} with input as given.request({"method": "POST"}, ["privilege"])
}

test_responses_need_no_allow if {
	count(access.allow) == 0 with input as given.response({})
}
