package sealgate.policies.ssh.commands_test

import data.sealgate.lib.ssh_test as given
import data.sealgate.policies.ssh.commands

test_readers_may_look if {
	pipe := given.exec([given.command("ps", {}), given.command("grep", {})], {"shell_features": ["pipe"]})
	given.rules(commands.allow) == {"ssh.commands.read"} with input as given.request(pipe, ["execute"])
}

test_a_harmless_command_never_covers_another if {
	mixed := given.exec([given.command("ps", {}), given.command("tee", {})], {"shell_features": ["pipe"]})
	count(commands.allow) == 0 with input as given.request(mixed, ["execute"])
}

test_strangers_may_not if {
	plain := given.request(given.exec([given.command("uptime", {})], {}), ["execute"])
	count(commands.allow) == 0 with input as given.by(["guests"], plain)
}

test_options_that_change_are_not_looking if {
	find := given.exec([given.command("find", {"options": ["-delete"]})], {})
	count(commands.allow) == 0 with input as given.request(find, ["execute"])
}

test_other_rights_are_not_looking if {
	sudo := given.exec([given.command("cat", {"wrappers": ["sudo"], "privileged": true})], {})
	count(commands.allow) == 0 with input as given.request(sudo, ["execute", "privilege"])
}

test_a_script_is_not_looking if {
	script := given.exec([given.command("uptime", {})], {"script": {"reader": "sh", "bytes": 10}})
	count(commands.allow) == 0 with input as given.request(script, ["execute"])
}

test_nothing_is_allowed_that_was_not_parsed if {
	plain := given.request(given.exec([given.command("uptime", {})], {}), ["execute"])
	failed := object.union(plain, {"context": {"parse": {"status": "failed", "reason": "not UTF-8"}}})
	count(commands.allow) == 0 with input as failed
}

test_shell_syntax_is_denied if {
	line := given.exec([], {"shell_features": ["variable"]})
	given.rules(commands.deny) == {"ssh.commands.shell_syntax"} with input as given.request(line, ["execute", "unknown"])
}

test_pipes_are_not if {
	pipe := given.exec([given.command("ps", {}), given.command("grep", {})], {"shell_features": ["pipe"]})
	count(commands.deny) == 0 with input as given.request(pipe, ["execute"])
}
