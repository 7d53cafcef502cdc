package gateway_config_test

import data.gateway_config

good := {
	"identity": {"issuers": [{"alias": "corp", "issuer": "https://idp.bank.example", "audience": "sealgate"}]},
	"listeners": {"postgres": {"bind": "0.0.0.0", "port": 5432, "tls": {"cert_file": "tls.crt", "key_file": "tls.key"}}},
	"evidence": {"sigstore": {"mode": "private"}, "recipients": ["age1example"]},
	"approval": {"reviewers": {"payments-approvers": {"groups": ["payments"]}}},
	"connections": [{
		"name": "core",
		"type": "postgres",
		"environment": "production",
		"allow_groups": ["agents"],
		"sensitive": ["public.customers.ssn"],
		"target": {"host": "db.bank.example", "tls": {"mode": "verify-full"}},
		"credential": {"user": "sealgate", "password": "file:core.password.age"},
	}],
}

changed(path, value) := json.patch(good, [{"op": "add", "path": path, "value": value}])

test_a_good_file_passes if {
	count(gateway_config.deny) == 0 with input as good
	count(gateway_config.warn) == 0 with input as good
}

test_each_weakness_is_found if {
	every weakness in [
		["/evidence/sigstore/mode", "development"],
		["/evidence/recipients", []],
		["/connections/0/sensitive", []],
		["/connections/0/allow_groups", []],
		["/connections/0/allow_groups", ["*"]],
		["/connections/0/transcript", "none"],
		["/connections/0/target/tls/mode", "require"],
		["/connections/0/credential/password", "hunter2"],
		["/identity/issuers/0/leeway_s", 3600],
		["/listeners/admin", {"bind": "10.1.2.3", "port": 8444}],
	] {
		count(gateway_config.deny) == 1 with input as changed(weakness[0], weakness[1])
	}
}

test_a_test_environment_may_be_laxer if {
	count(gateway_config.deny) == 0 with input as json.patch(good, [
		{"op": "replace", "path": "/connections/0/environment", "value": "test"},
		{"op": "replace", "path": "/connections/0/target/tls/mode", "value": "disable"},
		{"op": "replace", "path": "/evidence/sigstore/mode", "value": "development"},
	])
}

test_a_lonely_reviewer_is_warned_about if {
	lonely := changed("/approval/reviewers/payments-approvers", {"people": ["corp/bob"]})
	count(gateway_config.warn) == 1 with input as lonely
}
