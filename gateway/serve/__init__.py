"""The hosts: the only code that owns sockets. Each protocol's host parses, asks the pipeline, and enforces its ruling.

listeners.py             accept, peek, read and write with backpressure; shared by every host
tls.py                   certificates toward agents, verification toward targets
postgres.py              the PostgreSQL listener: start-up, token, connection, hand-over
postgres_session.py      one session: both directions, judged event by event
postgres_upstream.py     the gateway's own connections to a server
postgres_lookups.py      catalogue snapshots, cached
admin.py                 health, metrics, and whatever routes others mount
run.py                   builds everything from the configuration and runs it

A further protocol adds one file that serves its listener and calls the same pipeline.
"""
