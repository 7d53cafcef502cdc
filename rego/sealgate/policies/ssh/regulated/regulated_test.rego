package sealgate.policies.ssh.regulated_test

import data.sealgate.lib.ssh_test as given
import data.sealgate.policies.ssh.regulated

test_findings_are_replaced_in_production if {
	cat := given.request(given.exec([given.command("cat", {})], {}), ["execute"])
	count(regulated.masks) == count(data.site.ssh.detectors) with input as cat
}

test_elsewhere_the_configuration_alone_decides if {
	cat := given.request(given.exec([given.command("cat", {})], {}), ["execute"])
	count(regulated.masks) == 0 with input as object.union(cat, {"resource": {"environment": "staging"}})
}

test_packs_are_never_rewritten if {
	transfer := {"program": "git", "direction": "read", "paths": ["/r"]}
	git := given.exec([given.command("git-upload-pack", {})], {"transfer": transfer})
	count(regulated.masks) == 0 with input as given.request(git, ["read"])
}
