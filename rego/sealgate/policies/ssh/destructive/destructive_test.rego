package sealgate.policies.ssh.destructive_test

import data.sealgate.lib.ssh_test as given
import data.sealgate.policies.ssh.destructive

denied(command) := names if {
	names := given.rules(destructive.deny) with input as given.request(given.exec([command], {}), ["execute"])
}

test_destructive_programs_are_denied if {
	every program in {"mkfs.ext4", "dd", "shutdown", "userdel", "rm"} {
		denied(given.command(program, {})) == {"ssh.destructive.program"}
	}
}

test_also_when_called_by_another_name if {
	shred := {"argv0": "shred", "options": [], "paths": [], "arg_count": 1, "privileged": false}
	denied(shred) == {"ssh.destructive.program"}
}

test_options_that_destroy_are_denied if {
	denied(given.command("find", {"options": ["-delete"]})) == {"ssh.destructive.option"}
	denied(given.command("tar", {"options": ["--to-com"]})) == {"ssh.destructive.option"}
}

test_others_pass if {
	denied(given.command("ls", {"options": ["-l"]})) == set()
}
