package sealgate.policies.ssh.shells_test

import data.sealgate.lib.ssh_test as given
import data.sealgate.policies.ssh.shells

shell := {"kind": "shell", "tty": true}

test_shells_are_denied if {
	given.rules(shells.deny) == {"ssh.shells.shell"} with input as given.request(shell, ["execute", "unknown"])
	count(shells.allow) == 0 with input as given.request(shell, ["execute", "unknown"])
}

test_named_groups_may if {
	document := given.by(["break-glass"], given.request(shell, ["execute", "unknown"]))
	count(shells.deny) == 0 with input as document
	given.rules(shells.allow) == {"ssh.shells.named"} with input as document
}

test_terminals_are_denied if {
	top := given.exec([given.command("top", {})], {"tty": true})
	given.rules(shells.deny) == {"ssh.shells.terminal"} with input as given.request(top, ["execute"])
}
