package sealgate.policies.ssh.credentials_test

import data.sealgate.lib.ssh_test as given
import data.sealgate.policies.ssh.credentials

test_credential_paths_are_denied if {
	every path in {"/etc/shadow", "~/.ssh/id_ed25519", ".aws/credentials", "/proc/1/environ", "/srv/tls/server.key"} {
		cat := given.exec([given.command("cat", {"paths": [path]})], {})
		given.rules(credentials.deny) == {"ssh.credentials.path"} with input as given.request(cat, ["execute"])
	}
}

test_also_as_files if {
	open := given.file("open", "/var/lib/app/.ssh/authorized_keys", {"flags": ["write"]})
	given.rules(credentials.deny) == {"ssh.credentials.path"} with input as given.request(open, ["write"])
}

test_also_as_the_second_path if {
	link := given.file("symlink", "/tmp/x", {"other_path": "/etc/shadow"})
	given.rules(credentials.deny) == {"ssh.credentials.path"} with input as given.request(link, ["write"])
}

test_the_environment_is_denied if {
	printenv := given.exec([given.command("printenv", {})], {})
	given.rules(credentials.deny) == {"ssh.credentials.environment"} with input as given.request(printenv, ["execute"])
	alone := {"argv0": "env", "options": [], "paths": [], "arg_count": 0, "privileged": false, "wrappers": ["env"]}
	env := given.request(given.exec([alone], {}), ["execute"])
	given.rules(credentials.deny) == {"ssh.credentials.environment"} with input as env
}

test_other_paths_pass if {
	cat := given.exec([given.command("cat", {"paths": ["/var/log/syslog"]})], {})
	count(credentials.deny) == 0 with input as given.request(cat, ["execute"])
}
