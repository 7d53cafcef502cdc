"""The types the gateway takes for PostgreSQL's own are those the server has."""

from gateway.protocols.postgres.type_names import SERVER_TYPES


def test_every_type_of_the_server_is_known(server):
    listed = server.run(
        "select typname from pg_catalog.pg_type where typnamespace = 'pg_catalog'::regnamespace"
        " and typname not like 'pg\\_%' and typname not like '\\_%'"
    )
    assert set(listed.split()) <= SERVER_TYPES
