"""The hosts: the only code that owns sockets. Each protocol's host parses, asks the pipeline, and enforces its ruling.

listeners.py             accept, peek, read and write with backpressure; shared by every host
tls.py                   certificates toward agents, verification toward targets
postgres.py              the PostgreSQL listener: start-up, token, connection, hand-over
postgres_session.py      one session: both directions, judged event by event
postgres_upstream.py     the gateway's own connections to a server
postgres_lookups.py      catalogue snapshots, cached
postgres_paths.py        those of each search path sessions start with
postgres_hold.py         statements that run before their approval, undone until then
ssh.py                   the SSH listener: limits, sessions; ssh_servers.py who a client is and which target it asks for
ssh_wire.py              what of asyncssh is decided by us; ssh_keys.py certificates; ssh_upstream.py logins at targets, a pool per subject
ssh_session.py           one subject at one target: every channel judged; ssh_channel.py both halves of a channel
ssh_relay.py             carries commands and shells; ssh_sftp.py, ssh_scp.py, ssh_git.py what they are named for; ssh_recorder.py masks and records
admin.py                 health, metrics, and whatever routes others mount
run.py                   builds everything from the configuration and runs it

A further protocol adds one file that serves its listener and calls the same pipeline.
"""
