package sealgate.policies.http.operations_test

import data.sealgate.lib.http_test as given
import data.sealgate.policies.http.operations

test_undeclared_operations_are_denied if {
	unknown := object.remove(given.request({}, ["read"]), ["http"])
	doc := object.union(unknown, {"http": {"facts": object.remove(given.plain, ["operation"])}})
	given.rules(operations.deny) == {"http.operations.undeclared"} with input as doc
}

test_declared_ones_are_not if {
	count(operations.deny) == 0 with input as given.request({}, ["read"])
}

test_services_without_declarations_are_judged_by_method if {
	facts := object.union(object.remove(given.plain, ["operation"]), {"declared": false})
	doc := object.union(object.remove(given.request({}, ["read"]), ["http"]), {"http": {"facts": facts}})
	count(operations.deny) == 0 with input as doc
}

test_plain_http_is_denied_unless_the_site_allows_it if {
	plain := given.request({"scheme": "http"}, ["read"])
	given.rules(operations.deny) == {"http.operations.clear"} with input as plain
		with data.site.http.plain_allowed as false
	count(operations.deny) == 0 with input as plain with data.site.http.plain_allowed as true
}
