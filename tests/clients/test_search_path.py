"""Sessions that start with a search path of their own: the same text means other objects, and every mask follows it."""

import psycopg
import pytest
from psycopg import errors

from gateway.approval.store import ApprovalStore
from gateway.errors import LimitExceededError
from gateway.serve.postgres.lookups import CatalogCache
from gateway.serve.postgres.paths import MAX_PATHS, Questions, SearchPaths

SCHEMAS = """
set role sealgate_owner;
create schema bank;
create table bank.customers (id int primary key, ssn text);
insert into bank.customers values (1, 'a word');
create view bank.people as select name, ssn as word from public.customers;
create schema decoy;
create table decoy.orders (id int, ssn text);
create table decoy.accounts (id int, balance int);
create function decoy.upper(varchar) returns text language sql as $$ select ssn from public.customers limit 1 $$;
"""


@pytest.fixture(scope="module", autouse=True)
def schemas(server):
    server.run(SCHEMAS, database="shop")
    yield
    server.run("drop schema bank cascade; drop schema decoy cascade", database="shop")


def test_the_same_text_is_masked_by_what_it_means(connect):
    other, own = connect(options="-c search_path=bank,public"), connect()
    own.execute("create table decoy.news (id int)")  # what passes through the gateway makes it read the catalogue again
    for _ in range(3):  # learned statements too
        assert other.execute("select ssn from customers where id = 1").fetchone() == ("a word",)
        assert own.execute("select ssn from customers where id = 1").fetchone() != ("001-12-0001",)
        assert other.execute("select ssn from public.customers where id = 1").fetchone() != ("001-12-0001",)
        assert "-12-" not in str(other.execute("select word from people").fetchall())
    assert own.execute("select ssn from bank.customers where id = 1").fetchone() == ("a word",)
    assert other.execute("show search_path").fetchone() == ("bank,public",)


def test_an_empty_schema_in_front_hides_nothing(connect):
    for path in ("decoy", "decoy,public", '"decoy", public', "nowhere,public"):
        connection = connect(options=f"-c search_path={path.replace(' ', chr(92) + ' ')}")
        if "public" in path:
            assert connection.execute("select ssn from customers where id = 1").fetchone() != ("001-12-0001",)
        else:
            with pytest.raises(errors.UndefinedTable):
                connection.execute("select ssn from customers")


def test_a_function_in_front_is_not_taken_for_postgresqls_own(connect):
    statement = "select upper('x'::varchar)"
    assert connect().execute(statement).fetchone() == ("X",)
    with pytest.raises(errors.InsufficientPrivilege):
        connect(options="-c search_path=decoy,public").execute(statement)


def test_what_one_session_defines_the_sessions_of_other_paths_know(connect):
    other, own = connect(options="-c search_path=decoy,public"), connect()
    assert other.execute("select ssn from customers where id = 2").fetchone() != ("002-12-0002",)
    own.execute("create table decoy.customers (id int, ssn text)")
    own.execute("insert into decoy.customers values (2, 'plain')")
    assert other.execute("select ssn from customers where id = 2").fetchone() == ("plain",)
    own.execute("alter table decoy.customers rename to gone")
    assert other.execute("select ssn from customers where id = 2").fetchone() not in {("002-12-0002",), ("plain",)}


def test_a_preview_means_what_the_session_means(connect, gateway):
    with pytest.raises(errors.InsufficientPrivilege) as refused:
        connect(options="-c search_path=decoy,public").execute("update accounts set balance = 11 where id = 1")
    ticket = next(word for word in refused.value.diag.message_hint.replace("`", " ").split() if word.startswith("AR-"))
    request = ApprovalStore(gateway.config.gateway.state).read(ticket)
    assert request.document["preview"]["rows"] == 0  # decoy.accounts is empty, public.accounts is not
    assert request.document["canonical"]["search_path"] == ["pg_catalog", "decoy", "public"]


@pytest.mark.parametrize(
    ("statement", "passes"),
    [
        ("set search_path = bank, public", True),
        ("set session search_path to BANK , public", True),
        ("set search_path to bank", False),
        ("set search_path to public, bank", False),
        ("set search_path to 'bank, public'", False),
        ("set search_path to bank, public; select 1", False),
        ("set local search_path to bank, public, pg_temp", False),
        ("set search_path to default", True),
        ("alter role current_user set search_path = decoy", False),
        ("reset search_path", True),
        ("set search_path = ''", True),
    ],
)
def test_within_a_session_only_the_same_path_can_be_set(connect, statement, passes):
    connection = connect(options=r"-c search_path=bank,\ public")
    if passes:
        connection.execute(statement)
    else:
        with pytest.raises(psycopg.Error):
            connection.execute(statement)
    assert "-12-" not in str(connection.execute("select ssn from public.customers").fetchall())


def test_the_path_of_the_server_itself_can_be_set_again(connect):
    connection = connect()
    for statement in (
        'set search_path to "$user", public',
        'set local search_path = "$user",public',
        "set search_path to default",
    ):
        connection.execute(statement)
    for statement in ("set search_path to '$user', public", 'set search_path to "$USER", public', 'set search_path to "$user"'):
        with pytest.raises(psycopg.Error, match="search_path cannot be changed"):
            connection.execute(statement)


def test_the_path_a_role_has_can_be_set_again(connect, make_gateway, server, tmp_path):
    """What JDBC's setSchema and many frameworks do first."""
    role = "alter role sealgate_owner in database shop"
    server.run(f"{role} set search_path = bank, public", database="shop")
    try:
        with make_gateway(tmp_path) as running:
            connection = connect(running=running)
            assert connection.execute("show search_path").fetchone() == ("bank, public",)
            connection.execute("set search_path = bank,public")
            assert connection.execute("select ssn from customers").fetchone() == ("a word",)
            with pytest.raises(psycopg.Error, match="search_path cannot be changed"):
                connection.execute("set search_path = public")
    finally:
        server.run(f"{role} reset search_path", database="shop")


@pytest.mark.parametrize("path", ["pg_temp", "pg_catalog,public", '"$user"', "public,pg_temp"])
def test_schemas_of_the_servers_own_are_refused_at_the_login(connect, path):
    with pytest.raises(psycopg.OperationalError, match="search_path is not accepted"):
        connect(options=f"-c search_path={path}")


def test_paths_in_use_are_bounded_and_others_make_room():
    made = []

    def make(path):
        made.append(CatalogCache(lambda: None, max_age_s=1, timeout_s=1))
        return Questions(made[-1])

    paths = SearchPaths(make)
    held = [paths.acquire(f"s{number}") for number in range(MAX_PATHS)]
    assert paths.acquire("s0") is held[0]
    with pytest.raises(LimitExceededError, match="too many different search paths"):
        paths.acquire("one_more")
    paths.release("s1")
    assert paths.acquire("one_more") is not held[1]
    with pytest.raises(LimitExceededError):
        paths.acquire("s1")
    assert paths.acquire(None) is paths.own
    paths.close()
