# METADATA
# title: Forwarding
# description: Ports, sockets, agents, displays and tunnels lead past everything that is judged.
# schemas:
#   - input: schema.ssh.request
package sealgate.policies.ssh.forwards

# METADATA
# title: Forwarding
# description: Nothing is forwarded; other protocols have listeners of their own.
# custom:
#   id: ssh.forwards.any
#   severity: high
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-CM-7]
#   failure_msg: Forwarding is not allowed.
#   solution: Use the gateway's listener for the protocol you need.
deny contains {
	"rule": "ssh.forwards.any",
	"message": message,
	"severity": "high",
	"controls": ["FFIEC-AIO-VI.B", "NIST-AC-3", "NIST-CM-7"],
} if {
	input.phase == "request"
	input.ssh.facts.kind == "forward"
	message := sprintf("%v would carry what nobody sees", [input.ssh.facts.forward.channel])
}
