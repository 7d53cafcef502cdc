"""What the tests of owners' objects share: a server of their own, and a gateway before it under the policy as shipped."""

from pathlib import Path

import psycopg
import pytest

from gateway.testing.gateway import start_gateway, write_config
from gateway.testing.policy import copy_library, list_functions
from gateway.testing.postgres import find_embedded, start_postgres

ROOT = Path(__file__).parents[3]

TABLES = """
create role app login password 'app';
create table illnesses (id int, illness text);
insert into illnesses values (1, 'plum');
insert into illnesses select 100000 + n, '~' || n from generate_series(1, 5000) n;
create table visits (id int primary key, note text);
grant all on illnesses, visits to app;
"""


@pytest.fixture
def server(request):
    """A server with tables of illnesses and visits; of the version that a test names as its parameter, where it does."""
    version = getattr(request, "param", None)
    with start_postgres(bin_dir=find_embedded()[version] if version else None) as running:
        running.run(TABLES)
        yield running


@pytest.fixture
def start(server, issuer, mint, tmp_path):
    """Sessions of a gateway under the policy as shipped, and of one before a pooler where a port is named.

    `listed` is code that the site trusts, `site` other data of it.
    """

    def make(port=None, limits=None, listed=(), site=None, **changes):
        password = tmp_path / "password"
        password.touch(mode=0o600)
        password.write_text("app")
        place = {"host": "127.0.0.1", "port": port or server.port, "database": "postgres", "tls": {"mode": "disable"}}
        connection = {
            "name": "shop",
            "type": "postgres",
            "target": place,
            "credential": {"user": "app", "password": f"file:{password}"},
            "environment": "staging",
            "allow_groups": ["agents"],
            "sensitive": ["public.illnesses.illness"],
        } | changes
        bundle = list_functions(ROOT / "rego", tmp_path / "policy", listed) if listed else ROOT / "rego"
        if site:
            bundle = copy_library(bundle, tmp_path / "policy_of_site", lambda data: data["postgres"].update(site))
        config = write_config(tmp_path / "gateway", issuer=issuer, bundle=bundle, connections=[connection], limits=limits or {})
        return start_gateway(config)

    return make


@pytest.fixture
def connect(mint):
    def make(running):
        options = {"host": "127.0.0.1", "port": running.port, "user": "agent", "sslmode": "disable", "dbname": "shop"}
        return psycopg.connect(password=mint(), autocommit=True, **options)

    return make


@pytest.fixture
def people(server, request):
    """The server with the tables that the module calls PEOPLE."""
    server.run(request.module.PEOPLE)
    return server


@pytest.fixture
def assert_refused(start, connect):
    """Fails unless a session is refused each of the statements, for a reason that matches; keyword arguments are those of `start`."""

    def check(match, *statements, **options):
        with start(**options) as running, connect(running) as session:
            for statement in statements:
                with pytest.raises(psycopg.Error, match=match):
                    session.execute(statement)

    return check
