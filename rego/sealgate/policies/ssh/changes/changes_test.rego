package sealgate.policies.ssh.changes_test

import data.sealgate.lib.ssh_test as given
import data.sealgate.policies.ssh.changes

restart := given.exec(
	[given.command("systemctl", {"subcommand": "restart", "wrappers": ["sudo"], "privileged": true})],
	{},
)

script := given.exec([given.command("bash", {"options": ["-s"]})], {"script": {"reader": "bash", "bytes": 12}})

test_operators_may_restart_after_a_review if {
	document := given.by(["operators"], given.request(restart, ["execute", "privilege"]))
	given.rules(changes.allow) == {"ssh.changes.command"} with input as document
	given.rules(changes.approve) == {"ssh.changes.review"} with input as document
}

test_others_may_not if {
	count(changes.allow) == 0 with input as given.by(["guests"], given.request(restart, ["execute", "privilege"]))
}

test_other_wrappers_are_no_listed_change if {
	odd := given.exec([given.command("systemctl", {"subcommand": "restart", "wrappers": ["env"]})], {})
	count(changes.allow) == 0 with input as given.by(["operators"], given.request(odd, ["execute"]))
}

test_an_unlisted_change_is_no_change if {
	other := given.exec([given.command("systemctl", {"subcommand": "mask"})], {})
	count(changes.approve) == 0 with input as given.by(["operators"], given.request(other, ["execute"]))
}

test_scripts_are_reviewed if {
	document := given.by(["operators"], given.request(script, ["execute"]))
	given.rules(changes.allow) == {"ssh.changes.script"} with input as document
	given.rules(changes.approve) == {"ssh.changes.script_review"} with input as document
}

test_a_script_for_sudo_is_not_even_reviewed if {
	wrapped := given.exec([given.command("bash", {"wrappers": ["sudo"]})], {"script": {"reader": "bash", "bytes": 12}})
	count(changes.allow) == 0 with input as given.by(["operators"], given.request(wrapped, ["execute", "privilege"]))
}

test_an_empty_script_is_none if {
	empty := given.exec([given.command("bash", {})], {"script": {"reader": "bash", "bytes": 0}})
	count(changes.approve) == 0 with input as given.by(["operators"], given.request(empty, ["execute"]))
}
