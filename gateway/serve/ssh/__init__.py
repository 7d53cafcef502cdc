"""The SSH host.

listener.py    limits, sessions; servers.py who a client is and which target it asks for
wire.py        what of asyncssh is decided by us; keys.py certificates
upstream.py    logins at targets, a pool per subject; known_hosts.py whether they can be proven
session.py     one subject at one target: every channel judged; channel.py both halves of a channel
relay.py       carries commands and shells; sftp.py, scp.py, git.py what they are named for
recorder.py    masks and records
start.py       builds the host from the configuration
"""
