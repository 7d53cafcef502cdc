package sealgate.policies.http.export_test

import data.sealgate.lib.http_test as given
import data.sealgate.policies.http.export

test_exports_need_approval if {
	doc := given.request(given.labelled("GET", ["bulk"]), ["export", "read"])
	given.rules(export.approve) == {"http.export.bulk"} with input as doc
	given.rules(export.obligations) == {"http.export.stream"} with input as doc
}

test_sessions_are_bound if {
	doc := given.request({}, ["read"])
	count(export.approve) == 0 with input as doc
	export.obligations == {{"rule": "http.export.session", "kind": "session_bytes", "bytes": 50}} with input as doc
		with data.site.http.session_bytes as 50
}

test_bulk_changes_are_not_streamed if {
	doc := given.request(given.labelled("POST", ["bulk"]), ["write"])
	given.rules(export.obligations) == {"http.export.session"} with input as doc
}
