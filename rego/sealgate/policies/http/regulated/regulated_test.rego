package sealgate.policies.http.regulated_test

import data.sealgate.lib.http_test as given
import data.sealgate.policies.http.regulated

test_regulated_changes_need_approval if {
	doc := given.request(given.labelled("POST", ["regulated"]), ["write"])
	given.rules(regulated.approve) == {"http.regulated.change"} with input as doc
	count(regulated.approve) == 0 with input as given.request(given.labelled("GET", ["regulated"]), ["read"])
	count(regulated.approve) == 0 with input as given.request(given.labelled("POST", []), ["write"])
}

test_sensitive_names_in_the_address_are_denied if {
	doc := given.request({"query_names": ["ssn"]}, ["read"])
	given.rules(regulated.deny) == {"http.regulated.address"} with input as doc
		with data.site.http.address_fields as ["ssn"]
	count(regulated.deny) == 0 with input as given.request({"query_names": ["page"]}, ["read"])
}

test_sensitive_fields_are_masked if {
	masks := regulated.masks with input as given.response({"sensitive": ["ssn", "$.owner.email"]})
		with data.site.http.detectors as []
		with data.site.http.strategies as {"ssn": "hash"}
	masks == {
		{"rule": "http.regulated.field", "selector": {"field": "ssn"}, "strategy": "hash", "params": {}, "apply": "both"},
		{
			"rule": "http.regulated.path",
			"selector": {"json_path": "$.owner.email"},
			"strategy": "redact",
			"params": {},
			"apply": "both",
		},
	}
}

test_detectors_read_every_response if {
	masks := regulated.masks with input as given.response({}) with data.site.http.detectors as ["ssn"]
	masks == {{
		"rule": "http.regulated.detected",
		"selector": {"detector": "ssn"},
		"strategy": "redact",
		"params": {},
		"apply": "both",
	}}
}

test_requests_carry_no_masks if {
	count(regulated.masks) == 0 with input as given.request({}, ["read"])
}
