"""The hosts: the only code that owns sockets. Each protocol's host parses, asks the pipeline, and enforces its ruling.

postgres/, ssh/, http/   one folder for each protocol that clients speak; `start.py` in each builds its host
hosts.py                 what the gateway asks of each of them, and what it gives them to work with
listeners.py             accept, peek, read and write with backpressure; shared by every host
memory.py                gives unused memory back to the system
tls.py                   certificates toward agents, verification toward targets
budgets.py               what sessions and runs may still do
evidence.py              the log of one worker, as the pipeline writes it
memory.py                memory back to the system once sessions are silent
admin.py                 health, metrics, and whatever routes others mount
run.py                   builds everything from the configuration and runs it

A further protocol adds one folder that serves its listener and calls the same pipeline.
"""
