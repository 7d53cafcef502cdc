package sealgate.policies.git.refs_test

import data.sealgate.lib.git_test as given
import data.sealgate.policies.git.refs

denied(update) := names if {
	names := given.rules(refs.deny) with input as given.push([given.update("refs/heads/topic", {}), update])
}

test_protected_branches if {
	denied(given.update("refs/heads/main", {})) == {"git.refs.protected"}
	denied(given.update("refs/heads/release/2", {"create": true})) == {"git.refs.protected"}
	denied(given.update("refs/heads/main", {"delete": true})) == {"git.refs.protected"}
}

test_tags_stay if {
	denied(given.update("refs/tags/v1", {})) == {"git.refs.tags"}
	denied(given.update("refs/tags/v1", {"create": true})) == set()
}

test_other_refs if {
	denied(given.update("refs/notes/commits", {})) == {"git.refs.hidden"}
}

test_topic_branches_pass if {
	denied(given.update("refs/heads/other", {})) == set()
}
