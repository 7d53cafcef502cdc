"""SSH: what one agent's client and one server say to each other through the gateway.

Specification: RFC 4251 to 4254 (architecture, authentication, transport, connection), draft-ietf-secsh-filexfer-02 (sftp version 3,
what OpenSSH speaks), the `scp` protocol as OpenSSH's scp.c writes it, OpenSSH's PROTOCOL and PROTOCOL.certkeys.

    ssh -J gateway db-1 uptime   gateway                                          db-1
     │ login with certificate or    │                                              │
     │ token; direct-tcpip to db-1  │  the channel is answered by an inner server  │
     ├─────────────────────────────▶│  whose host certificate names db-1           │
     │ session, env, exec "uptime"  │                                              │
     ├─────────────────────────────▶│  parse, describe, decide, record             │
     │◀── stderr, exit 126 ─────────┤  blocked: nothing was opened at the target   │
     │                              ├── allowed: own login, own credential ───────▶│
     │◀── masked output, status ────┤◀──────────────── output, exit status ────────┤

The parts: `events.py` what was asked, `commands.py` a command line to its argv or to the shell syntax in it, `sftp.py` and `scp.py` the
file protocols, `parse.py` channel requests to events, `actions.py` events to actions, `enforce.py` decisions to the client's words,
`recording.py` the transcript (asciicast v3).

Understood: exec, shell with a terminal where policy allows it, the sftp subsystem, scp in both protocols, rsync as one action, git.
Refused: port, socket, agent, X11 and tunnel forwarding, other subsystems, commands that are not UTF-8, code on standard input beyond
a bound. Not seen: what a program does at the target; the account the gateway logs in with is the boundary there.
"""
