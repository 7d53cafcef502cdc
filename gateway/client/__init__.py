"""What runs on an agent's own machine: the environment its clients need, and a forwarder that adds the current token.

gateway_info.py   asks a gateway's admin listener what its clients need to know
tokens.py         where the token comes from, read again each time
contributions.py  what each protocol adds to the environment: variables and files; one function per protocol
environment.py    all of it together: files written, exports for each shell
forwarder.py      `sealgate agent`: a loopback proxy that adds the token
private_files.py  files only their owner may read
ssh_files.py      ssh_config, known_hosts and certificate for stock OpenSSH
running.py        `sealgate run`: a command with the environment and a forwarder of its own

Nothing of the gateway's serving side is imported here.
"""
