"""Requests for review: an action that policy wants a person to see waits here for its verdict.

    store.py      the requests and votes, in SQLite or PostgreSQL by the same code
    desk.py       asks, waits, counts votes, grants once; every step leaves a record in evidence
    client.py     what `sealgate approvals` says to the gateway's admin listener

A request is bound to the digest of one exact action (`gateway.action.compute_action_digest`). Its reviewers sign an in-toto statement over
that digest with their own identity, so that not even the gateway can make an approval up. It can be used once, until it expires.
"""
