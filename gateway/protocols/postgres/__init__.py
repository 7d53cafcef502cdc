"""PostgreSQL: the frontend/backend protocol, versions 3.0 and 3.2, as one agent's client and one server speak it through the gateway.

Specification: https://www.postgresql.org/docs/current/protocol-flow.html (messages and their order),
https://www.postgresql.org/docs/current/protocol-message-formats.html (bytes),
https://www.postgresql.org/docs/current/sasl-authentication.html (login to the server, RFC 5802, RFC 7677, RFC 5929).

    psql                         gateway                                        server
     │ SSLRequest                  │                                              │
     ├────────────────────────────▶│                                              │
     │◀──────────────── 'S', TLS ──┤                                              │
     │ StartupMessage, token as    │  check the token, find the connection by     │
     │ cleartext password in TLS   │  database name, record the session           │
     ├────────────────────────────▶│  StartupMessage with pins, TLS, SCRAM with   │
     │                             │  the stored credential                       │
     │                             ├─────────────────────────────────────────────▶│
     │◀── Ok, parameters, made-up ─┤◀───────────────── Ok, parameters, real key ──┤
     │    cancel key, Ready        │                                              │
     │ Query / Parse / Execute     │                                              │
     ├────────────────────────────▶│  look up the catalogue, describe, decide,    │
     │                             │  record                                      │
     │◀── ERROR, true Ready ───────┤  blocked: the session lives on               │
     │                             ├── allowed ──────────────────────────────────▶│
     │                             │◀─────────────────────────── RowDescription ──┤
     │                             │  decide how the result may be delivered      │
     │◀── masked rows, Complete ───┤◀──────────────────────── DataRow, Complete ──┤

The parts: `events.py` what was seen, `parse.py` native reports to events, `actions.py` events to actions with `catalog.py` for the facts,
`enforce.py` decisions to the client's words, `login.py` both sides of the login.

Understood: simple and extended queries, pipelines, cursors by portal, COPY in and out, errors, notices and notifications, cancellation.
Refused: replication and COPY BOTH, function calls by OID, GSSAPI encryption, client encodings other than UTF-8, start-up options outside
a short list, and every message this protocol version does not define. Not seen: what functions, triggers and rules do inside the
server; the role the gateway logs in with is the boundary there.
"""
