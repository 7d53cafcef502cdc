package sealgate.policies.ssh.forwards_test

import data.sealgate.lib.ssh_test as given
import data.sealgate.policies.ssh.forwards

test_forwarding_is_denied if {
	forward := {"kind": "forward", "forward": {"channel": "direct-tcpip", "host": "db", "port": 5432}}
	given.rules(forwards.deny) == {"ssh.forwards.any"} with input as given.request(forward, ["network"])
}

test_commands_are_not_forwarding if {
	count(forwards.deny) == 0 with input as given.request(given.exec([given.command("ls", {})], {}), ["execute"])
}
