package sealgate.policies.ssh.files_test

import data.sealgate.lib.ssh_test as given
import data.sealgate.policies.ssh.files

allowed(facts, effects) := names if {
	names := given.rules(files.allow) with input as given.request(facts, effects)
}

test_sftp_may_be_opened if {
	allowed({"kind": "subsystem", "subsystem": "sftp"}, ["read"]) == {"ssh.files.session"}
	allowed({"kind": "subsystem", "subsystem": "netconf"}, ["unknown"]) == set()
}

test_reading_below_listed_folders if {
	"ssh.files.read" in allowed(given.file("open", "/var/log/syslog", {"flags": ["read"]}), ["read"])
	not "ssh.files.read" in allowed(given.file("open", "/etc/hosts", {"flags": ["read"]}), ["read"])
}

test_attributes_anywhere if {
	allowed(given.file("stat", "/", {}), ["read"]) == {"ssh.files.look"}
}

test_writing_below_listed_folders if {
	"ssh.files.write" in allowed(given.file("open", "/srv/upload/x", {"flags": ["write"]}), ["write"])
	not "ssh.files.write" in allowed(given.file("open", "/var/log/x", {"flags": ["write"]}), ["write"])
}

test_both_paths_count if {
	moved := given.file("rename", "/srv/upload/x", {"other_path": "/etc/cron.d/x"})
	not "ssh.files.write" in allowed(moved, ["write"])
}

test_transfers_begin_with_a_command if {
	transfer := {"program": "scp", "direction": "write", "paths": ["/srv/upload"]}
	scp := given.exec([given.command("scp", {})], {"transfer": transfer})
	allowed(scp, ["write"]) == {"ssh.files.transfer"}
}

test_rsync_only_for_named_groups if {
	transfer := {"program": "rsync", "direction": "read", "paths": ["/var/log"]}
	rsync := given.exec([given.command("rsync", {})], {"transfer": transfer})
	allowed(rsync, ["read"]) == set()
	given.rules(files.allow) == {"ssh.files.rsync"} with input as given.by(["operators"], given.request(rsync, ["read"]))
}

test_set_user_id_is_denied if {
	chmod := given.file("setstat", "/srv/upload/x", {"mode": 2541})
	given.rules(files.deny) == {"ssh.files.setuid"} with input as given.request(chmod, ["write"])
}

test_ordinary_modes_pass if {
	chmod := given.file("setstat", "/srv/upload/x", {"mode": 420})
	count(files.deny) == 0 with input as given.request(chmod, ["write"])
}
