package sealgate.policies.http.destructive_test

import data.sealgate.lib.http_test as given
import data.sealgate.policies.http.destructive

test_destructive_operations_are_denied if {
	doc := given.request(given.labelled("POST", ["destructive"]), ["write"])
	given.rules(destructive.deny) == {"http.destructive.operation"} with input as doc
}

test_changes_in_bulk_are_denied if {
	doc := given.request(given.labelled("POST", ["bulk"]), ["write"])
	given.rules(destructive.deny) == {"http.destructive.bulk"} with input as doc
	count(destructive.deny) == 0 with input as given.request(given.labelled("GET", ["bulk"]), ["read"])
}

test_deleting_a_collection_is_denied if {
	facts := object.union(object.remove(given.plain, ["operation"]), {"method": "DELETE", "declared": false})
	doc := object.union(object.remove(given.request({}, ["write"]), ["http"]), {"http": {"facts": facts}})
	given.rules(destructive.deny) == {"http.destructive.collection"} with input as doc
	one := json.patch(doc, [{"op": "replace", "path": "/http/facts/segments", "value": ["accounts", "7"]}])
	count(destructive.deny) == 0 with input as one
}
