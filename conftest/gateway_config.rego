# METADATA
# title: Policies about sealgate.yaml
# description: |
#   What a bank would not put in front of production, however valid it is for the gateway: run with
#   `conftest test --policy conftest --namespace gateway_config sealgate.yaml`.
package gateway_config

production if {
	some connection in input.connections
	connection.environment == "production"
}

deny contains "evidence.sigstore.mode is development, which proves nothing, in front of production" if {
	production
	input.evidence.sigstore.mode == "development"
}

deny contains sprintf("connection %v is production and has no sensitive columns: nothing would be masked", [connection.name]) if {
	some connection in input.connections
	connection.environment == "production"
	connection.type == "postgres"
	count(object.get(connection, "sensitive", [])) == 0
}

deny contains sprintf("connection %v is production, and everybody may use it: name allow_groups", [connection.name]) if {
	some connection in input.connections
	connection.environment == "production"
	_admits_everybody(object.get(connection, "allow_groups", ["*"]))
}

deny contains sprintf("connection %v keeps no transcript: set transcript to head or full", [connection.name]) if {
	some connection in input.connections
	connection.environment == "production"
	object.get(connection, "transcript", "head") in {"none", "summary"}
}

deny contains sprintf("connection %v does not check the server's certificate: set target.tls.mode to verify-full", [connection.name]) if {
	some connection in input.connections
	connection.environment == "production"
	host := connection.target.host
	not is_loopback(host)
	object.get(connection.target, ["tls", "mode"], "verify-full") != "verify-full"
}

deny contains sprintf("listener %v is open to the network without tls: tokens would cross it in clear", [name]) if {
	some name, listener in input.listeners
	name != "ssh" # it brings its own encryption
	not is_loopback(object.get(listener, "bind", "127.0.0.1"))
	not listener.tls
}

deny contains sprintf("connection %v holds its password in the file: use a reference such as env:NAME or file:PATH", [connection.name]) if {
	some connection in input.connections
	password := connection.credential.password
	not regex.match(`^(env|file|vault|aws-sm|k8s):`, password)
}

deny contains "evidence.recipients is empty: nobody could ever read inputs and transcripts" if {
	production
	count(object.get(input.evidence, "recipients", [])) == 0
}

deny contains sprintf("issuer %v accepts tokens more than five minutes after they should have ended", [issuer.alias]) if {
	some issuer in input.identity.issuers
	object.get(issuer, "leeway_s", 30) > 300
}

warn contains sprintf("reviewer group %v has one person, who can never be away", [name]) if {
	some name, group in input.approval.reviewers
	count(object.get(group, "people", [])) == 1
	count(object.get(group, "groups", [])) == 0
}

_admits_everybody(groups) if count(groups) == 0

_admits_everybody(groups) if "*" in groups

is_loopback(host) if host in {"127.0.0.1", "::1", "localhost"}
