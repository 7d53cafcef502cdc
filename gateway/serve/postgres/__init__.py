"""The PostgreSQL host.

listener.py    start-up, token, connection, hand-over
session.py     one session: both directions, judged event by event
known.py       what the native kernel answers by itself, as it was taught
traffic.py     bytes between the two wires, each behind its record
loans.py       sessions lent to a thread of native code that carries what they have learned
hold.py        statements that run before their approval, undone until then
cursors.py     rows each cursor has given
upstream.py    the gateway's own connections to a server
lookups.py     catalogue snapshots, cached; paths.py those of each search path sessions start with
start.py       builds the host from the configuration
"""
