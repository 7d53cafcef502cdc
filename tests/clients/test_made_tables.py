"""Tables a session made and committed are its own: keys and indexes follow, as a migration without a transaction sends them."""

from pathlib import Path

import psycopg
import pytest

from gateway.testing.gateway import start_gateway, write_config

ROOT = Path(__file__).parents[2]


@pytest.fixture
def connect(server, issuer, mint, make_connection, tmp_path):
    """Sessions under the policy as shipped."""
    config = write_config(tmp_path / "gateway", issuer=issuer, bundle=ROOT / "rego", connections=[make_connection()])
    with start_gateway(config) as running:
        options = {"host": "127.0.0.1", "port": running.port, "user": "agent", "sslmode": "disable", "dbname": "shop"}
        yield lambda sub="agent-7": psycopg.connect(password=mint(sub), autocommit=True, **options)
    server.run("drop table if exists made, made_before, made_too", database="shop")


@pytest.fixture
def session(connect):
    with connect() as connection:
        connection.execute("create table made (id int not null, note text)")
        yield connection


def test_what_a_migration_adds_passes(session):
    session.execute("alter table made add constraint made_key primary key (id)")
    session.execute("create unique index on made (note)")
    session.execute("alter table made add column at timestamptz default now()")


def test_another_session_asks(session, connect):
    with connect("agent-8") as other, pytest.raises(psycopg.errors.InsufficientPrivilege, match="needs approval"):
        other.execute("create index on made (note)")


@pytest.mark.parametrize("way", ["drop table made", "alter table made rename to made_before"])
def test_another_table_of_the_name_is_not_the_sessions(session, server, way):
    session.execute("create index on made (note)")
    server.run(f"set role sealgate_owner; {way}; create table made (id int, note text)", database="shop")
    session.execute("create table made_too (id int)")  # after which the catalogue is read again
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="needs approval"):
        session.execute("alter table made add constraint short check (note <> 'attack')")


def test_a_table_of_another_role_is_not_the_sessions_though_it_has_not_been_looked_at(session, server):
    """The number of a table is learnt with the first statement after it was made; whom it belongs to is known without."""
    server.run("drop table made; create table made (id int, note text); grant all on made to sealgate_owner", database="shop")
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="needs approval"):
        session.execute("create index on made (note)")
