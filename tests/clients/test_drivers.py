"""Ordinary drivers and tools under the policy library that ships: what they do works, or is refused in words a person understands."""

import asyncio
import os
import shutil
import ssl
import subprocess
import sys
import urllib.parse
from pathlib import Path

import alembic.autogenerate
import alembic.migration
import asyncpg
import psycopg
import pytest
import sqlalchemy as sa
from psycopg.types.enum import EnumInfo
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from gateway.testing.gateway import start_gateway, write_config

ROOT = Path(__file__).resolve().parents[2]

PREPARATION = """
set role sealgate_owner;
create type mood as enum ('sad', 'happy');
create table moods (id int primary key, mood mood not null);
insert into moods values (1, 'sad');
create table pgbench_branches (bid int primary key, bbalance int, filler char(88));
create table pgbench_tellers (tid int primary key, bid int, tbalance int, filler char(84));
create table pgbench_accounts (aid int primary key, bid int, abalance int, filler char(84));
create table pgbench_history (tid int, bid int, aid int, delta int, mtime timestamp, filler char(22));
insert into pgbench_branches values (1, 0);
insert into pgbench_tellers select n, 1, 0 from generate_series(1, 10) n;
insert into pgbench_accounts select n, 1, 0 from generate_series(1, 100000) n;
"""


@pytest.fixture(scope="module", autouse=True)
def restored(server):
    """Object mappers and pgbench commit; other modules count the same orders."""
    yield
    text = (
        "truncate orders restart identity; insert into orders (customer, amount) select n, n * 10 from generate_series(1, 50) n;"
        "delete from events where length(note) < 100"
    )
    server.run(text, database="shop")


@pytest.fixture(scope="module")
def shipped(server, authority, issuer, make_connection, tmp_path_factory):
    """A gateway with the shipped policy library in front of the shop."""
    server.run(PREPARATION, database="shop")
    folder = tmp_path_factory.mktemp("shipped")
    connection = make_connection(environment="development")
    config = write_config(folder, issuer=issuer, bundle=ROOT / "rego", connections=[connection], tls=authority.issue("gateway"))
    with start_gateway(config) as running:
        yield running


@pytest.fixture
def options(shipped, authority, mint):
    """What libpq needs to know."""
    return {
        "host": "localhost",
        "port": shipped.port,
        "dbname": "shop",
        "user": "agent",
        "password": mint(),
        "sslmode": "verify-full",
        "sslrootcert": str(authority.ca_file),
    }


@pytest.fixture
def environment(options):
    """The same for programs."""
    names = {"dbname": "database"}
    return {"PATH": os.environ["PATH"]} | {f"PG{names.get(key, key).upper()}": str(value) for key, value in options.items()}


@pytest.fixture
def run(server, environment):
    """Runs a program of PostgreSQL; returns the finished process."""

    def run(program, *arguments, stdin=""):
        path = server.bin_dir / program
        command = [str(path) if path.exists() else program, *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, env=environment, check=False)

    return run


# --- psycopg


def test_psycopg_named_cursors(options):
    with psycopg.connect(**options) as connection:
        for query in ("select id, name, ssn from customers order by id", "select upper(name), upper(ssn) from customers"):
            with connection.cursor(name="rows") as cursor:
                cursor.itersize = 30
                cursor.execute(query)
                rows = cursor.fetchall()
            assert len(rows) == 100
            assert "-12-" not in str(rows)
        with connection.cursor(name="rows", scrollable=True) as cursor:
            cursor.execute("select id from customers where id > %s order by id", (90,))
            cursor.scroll(2)
            assert cursor.fetchone() == (93,)
        with connection.cursor(name="held", withhold=True) as cursor:
            cursor.execute("select name from customers order by id")
            connection.commit()
            assert cursor.fetchone() == ("Customer 1",)


def test_psycopg_pipelines_with_errors_in_the_middle(options):
    with psycopg.connect(**options, autocommit=True) as connection:
        with pytest.raises(psycopg.errors.DivisionByZero), connection.pipeline() as pipeline:  # noqa: PT012 - the error comes at its end
            connection.execute("select 1")
            connection.execute("select 1/0")
            connection.execute("select 2")
            pipeline.sync()
            connection.execute("select 3")
        assert connection.execute("select 4").fetchone() == (4,)


def test_psycopg_types_of_the_catalogue(options):
    with psycopg.connect(**options) as connection:
        assert list(EnumInfo.fetch(connection, "mood").labels) == ["sad", "happy"]


def test_psycopg_copy_both_formats(options):
    with psycopg.connect(**options) as connection:
        with connection.cursor().copy("copy orders (customer, amount) from stdin (format binary)") as copy:
            copy.set_types(["int4", "numeric"])
            copy.write_row((1, 2))
        connection.rollback()
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="COPY needs approval"):
            connection.execute("copy orders to stdout")


def test_direct_tls_and_protocol_3_2(options):
    with psycopg.connect(**options, sslnegotiation="direct", max_protocol_version="3.2") as connection:
        assert connection.execute("select 1").fetchone() == (1,)
        assert connection.pgconn.full_protocol_version == 30002
        connection.cancel_safe()
        assert connection.execute("select 2").fetchone() == (2,)


# --- asyncpg


async def _connect_asyncpg(options, **more):
    context = ssl.create_default_context(cafile=options["sslrootcert"])
    named = {"database": options["dbname"], **{name: options[name] for name in ("host", "port", "user", "password")}}
    return await asyncpg.connect(ssl=context, **named, **more)


def test_asyncpg_types_cursors_and_copy(options):
    async def work():
        connection = await _connect_asyncpg(options, server_settings={"jit": "off", "client_min_messages": "warning"})
        assert await connection.fetchval("select mood from moods") == "sad"  # which it looks up in the catalogue
        row = await connection.fetchrow("select id, ssn from customers where id = $1", 5)
        assert "-12-" not in row["ssn"]
        async with connection.transaction():
            assert len([record async for record in connection.cursor("select id from customers", prefetch=7)]) == 100
        transaction = connection.transaction()
        await transaction.start()
        await connection.copy_records_to_table("orders", records=[(1, 2)], columns=["customer", "amount"])
        await connection.executemany("insert into orders (customer, amount) values ($1, $2)", [(1, 2), (1, 3)])
        await transaction.rollback()
        async with connection.transaction():
            cursor = await connection.cursor("select id from orders")
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="MOVE blocked"):
                await cursor.forward(1)  # MOVE by SQL, of a portal of the protocol
            assert await cursor.fetchrow() is not None
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="LISTEN blocked"):
            await connection.add_listener("channel", print)
        await connection.close()

    asyncio.run(work())


def test_asyncpg_pools_reset_their_connections(options):
    async def work():
        context = ssl.create_default_context(cafile=options["sslrootcert"])
        named = {"database": options["dbname"], **{name: options[name] for name in ("host", "port", "user", "password")}}
        async with asyncpg.create_pool(ssl=context, min_size=1, max_size=1, **named) as pool:
            for _ in range(3):
                async with pool.acquire() as connection:
                    assert await connection.fetchval("select 1") == 1

    asyncio.run(work())


# --- SQLAlchemy, Alembic, Django


class Base(DeclarativeBase):
    """Tables of the test."""


class Thing(Base):
    """A table that SQLAlchemy makes."""

    __tablename__ = "things"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


@pytest.fixture
def engine(options):
    password = urllib.parse.quote(options["password"])
    url = f"postgresql+psycopg://agent:{password}@localhost:{options['port']}/shop"
    arguments = {"sslmode": options["sslmode"], "sslrootcert": options["sslrootcert"]}
    made = sa.create_engine(url, connect_args=arguments)
    yield made
    made.dispose()


def test_sqlalchemy_reflection(engine):
    metadata = sa.MetaData()
    metadata.reflect(engine, views=True)
    assert {"customers", "orders", "contacts"} <= set(metadata.tables)
    inspector = sa.inspect(engine)
    assert inspector.get_pk_constraint("orders")["constrained_columns"] == ["id"]
    assert inspector.get_foreign_keys("orders")[0]["referred_table"] == "customers"
    assert "mood" in {enum["name"] for enum in inspector.get_enums()}
    assert "ssn" in inspector.get_view_definition("contacts")


def test_sqlalchemy_orm_and_streams(engine):
    Base.metadata.create_all(engine)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        thing = Thing(name="x")
        session.add(thing)
        session.flush()
        thing.name = "y"
        session.flush()
        assert session.scalars(sa.select(Thing).where(Thing.name == "y")).one() is thing
        session.delete(thing)
        session.commit()
    with engine.connect() as connection:
        streaming = connection.execution_options(stream_results=True, max_row_buffer=10)
        assert len(streaming.execute(sa.text("select id from customers")).all()) == 100
        assert connection.execute(sa.text("select nextval('orders_id_seq')")).scalar_one() > 0


def test_alembic_compares_the_schema(engine):
    with engine.begin() as connection:
        context = alembic.migration.MigrationContext.configure(connection)
        context._ensure_version_table()
        assert context.get_current_heads() == ()
        found = alembic.autogenerate.compare_metadata(context, sa.MetaData())
    assert "customers" in {item[1].name for item in found if item[0] == "remove_table"}


DJANGO = """
import os, sys, django
from django.conf import settings
from django.core.management import call_command
from django.db import connection, models, transaction
settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "shop", "USER": "agent", "HOST": "localhost",
        "PORT": sys.argv[1], "PASSWORD": os.environ["PGPASSWORD"],
        "OPTIONS": {"sslmode": "verify-full", "sslrootcert": sys.argv[2]}}})
django.setup()
class Note(models.Model):
    title = models.CharField(max_length=20)
    class Meta:
        app_label = "notes"
added = models.IntegerField(null=True)
added.set_attributes_from_name("stars")
longer = models.CharField(max_length=40)
longer.set_attributes_from_name("title")
with connection.schema_editor() as editor:
    editor.create_model(Note)
    editor.add_field(Note, added)
    editor.alter_field(Note, Note._meta.get_field("title"), longer)
with transaction.atomic():
    made = Note.objects.create(title="b")
    Note.objects.filter(pk=made.pk).update(title="c")
    print(len(list(Note.objects.iterator(chunk_size=1))), Note.objects.select_for_update().get(pk=made.pk).title)
    transaction.set_rollback(True)
call_command("inspectdb", stdout=sys.stdout)
"""


def test_django_makes_tables_works_and_inspects(options, environment):
    command = [sys.executable, "-c", DJANGO, str(options["port"]), options["sslrootcert"]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-1000:]
    assert "1 c\n" in done.stdout
    assert "class Customers(models.Model)" in done.stdout
    assert "Unable to inspect" not in done.stdout


# --- programs of PostgreSQL


COMMANDS = [
    *(r"\l", r"\d", r"\d+", r"\dS", r"\d customers", r"\d+ customers", r"\d contacts", r"\dt+", r"\di+", r"\dv+", r"\ds", r"\dm"),
    *(
        r"\df",
        r"\df+",
        r"\da",
        r"\do",
        r"\dT+",
        r"\dD",
        r"\dC",
        r"\dn+",
        r"\du+",
        r"\dp",
        r"\z customers",
        r"\ddp",
        r"\dx",
        r"\dX",
    ),
    *(r"\des", r"\det", r"\dew", r"\dF", r"\dFd", r"\dFp", r"\dFt", r"\dL", r"\dO", r"\dP", r"\drds", r"\dRp", r"\dRs"),
    *(r"\dy", r"\dA", r"\dAc", r"\dAf", r"\dAo", r"\dAp", r"\dl", r"\dc", r"\dd", r"\dconfig", r"\sv contacts", r"\conninfo"),
]


def test_psql_commands(run):
    done = run("psql", "-XAt", "-v", "ON_ERROR_STOP=1", stdin="\n".join(COMMANDS) + "\n\\echo the end\n")
    assert done.returncode == 0, done.stderr
    assert "ERROR" not in done.stderr
    assert done.stdout.endswith("the end\n")


def test_psql_runs_what_people_type(run):
    script = r"""
\set FETCH_COUNT 10
select id from customers order by id;
\set FETCH_COUNT 0
select id, name from customers \gdesc
select 1 as x \gset
select :x;
select 'select 7' \gexec
begin; declare c cursor for select ssn from customers; fetch 2 from c; close c; commit;
prepare p(int) as select name from customers where id = $1; execute p(4); deallocate p;
set search_path = '';
reset search_path;
reset all;
discard all;
\copy orders (customer, amount) from stdin
1	5
\.
"""
    done = run("psql", "-XAt", "-v", "ON_ERROR_STOP=1", stdin=script)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Customer 4" in done.stdout
    assert "-12-" not in done.stdout


REFUSED = {
    "listen c": "LISTEN leaves or uses something in the session that cannot be judged",
    "notify c, 'x'": "NOTIFY leaves or uses something in the session that cannot be judged",
    "execute p": "EXECUTE uses a name and it is not certain what that stands for",
    "set role postgres": "are changed by database administrators",
    "set search_path = pg_temp": "This setting makes them mean",
    "lock table orders": "No rule allows the effect lock",
    "vacuum orders": "No rule allows the effect write",
    "drop table orders": "DROP destroys an object",
    "alter table orders drop column amount": "ALTER ... DROP destroys a column",
    "select pg_sleep(1)": "Function pg_catalog.pg_sleep is unknown, or not on the allow-list",
    "select lo_create(0)": "Function pg_catalog.lo_create is unknown, or not on the allow-list",
    r"\lo_import /etc/hostname": "Function pg_catalog.lo_creat is unknown, or not on the allow-list",
    r"\lo_export 1 /dev/null": "Function pg_catalog.lo_open is unknown, or not on the allow-list",
    r"\lo_unlink 1": "Function pg_catalog.lo_unlink is unknown, or not on the allow-list",
    r"\copy orders to stdout": "Needs approval by 1 of data-approvers",
}


def test_what_is_refused_says_why(run):
    for statement, why in REFUSED.items():
        done = run("psql", "-XAtc", statement)
        assert why.lower() in done.stderr.lower(), (statement, done.stderr)
        assert "Decision " in done.stderr, statement


def test_pg_dump_of_the_schema(run):
    done = run("pg_dump", "--schema-only", "--schema=public", "--no-owner")
    assert (done.returncode, done.stderr) == (0, "")
    assert "CREATE TABLE public.customers" in done.stdout
    assert "CREATE VIEW public.contacts" in done.stdout


@pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
def test_pgbench(run, mode):
    for script in ("tpcb-like", "simple-update", "select-only"):
        done = run("pgbench", "-n", "-b", script, "-M", mode, "-t", "5", "-c", "1")
        assert done.returncode == 0, (script, done.stderr)
        assert "number of transactions actually processed: 5/5" in done.stdout


# --- JDBC, and a business-intelligence tool's catalogue


def test_jdbc(shipped, authority, mint, tmp_path):
    jar = subprocess.run([str(ROOT / "tools/jdbc-driver")], capture_output=True, text=True, check=True).stdout.strip()
    source = Path(__file__).with_name("Jdbc.java")
    subprocess.run(["javac", "-cp", jar, "-d", str(tmp_path), str(source)], check=True, timeout=120)
    command = ["java", "-XX:TieredStopAtLevel=1", "-cp", f"{jar}:{tmp_path}", "Jdbc", str(shipped.port), str(authority.ca_file)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env={"PATH": os.environ["PATH"], "PGPASSWORD": mint()}, check=True
    )
    lines = done.stdout.splitlines()
    refused = [line for line in lines if not line.startswith("ok ")]
    assert len(lines) == 21, done.stdout
    assert refused[0].startswith("refused drop: 42501 ERROR: DROP blocked by policy")
    assert refused[1].startswith("large object: 42501")
    assert len(refused) == 2, refused


@pytest.fixture
def run_program(shipped, authority, mint):
    """Run a program of one line per step; its lines that do not begin with "ok"."""

    def run(*command, expected):
        environment = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "PGPASSWORD": mint()}
        done = subprocess.run(
            [*command, str(shipped.port), str(authority.ca_file)],
            capture_output=True,
            text=True,
            timeout=120,
            env=environment,
            check=True,
        )
        lines = done.stdout.splitlines()
        assert len(lines) == expected, done.stdout + done.stderr
        return [line for line in lines if not line.startswith("ok ")]

    return run


@pytest.mark.timeout(900)
def test_go(run_program, tmp_path):
    program = tmp_path / "drivers"
    subprocess.run(["go", "build", "-o", str(program), "."], cwd=Path(__file__).with_name("go_drivers"), check=True, timeout=600)
    (refused,) = run_program(str(program), expected=37)
    assert refused.startswith("refused drop: pq: DROP blocked by policy")


@pytest.mark.timeout(900)
def test_node(run_program, tmp_path):
    shutil.copytree(Path(__file__).with_name("node_drivers"), tmp_path, dirs_exist_ok=True)
    subprocess.run(["npm", "ci", "--silent", "--no-audit", "--no-fund"], cwd=tmp_path, check=True, timeout=300)
    (refused,) = run_program("node", str(tmp_path / "main.js"), expected=17)
    assert refused == "refused drop: 42501 DROP blocked by policy"


METABASE = [
    # Database syncs of business-intelligence tools: tables, columns, keys, row estimates.
    (
        "select n.nspname as schema, c.relname as name, case c.relkind when 'r' then 'TABLE' when 'v' then 'VIEW' end as type,"
        " d.description, stat.n_live_tup from pg_catalog.pg_class c join pg_catalog.pg_namespace n on c.relnamespace = n.oid"
        " left join pg_catalog.pg_description d on c.oid = d.objoid and d.objsubid = 0 and d.classoid = 'pg_class'::regclass"
        " left join pg_stat_user_tables stat on n.nspname = stat.schemaname and c.relname = stat.relname"
        " where n.nspname !~ '^pg_' and n.nspname <> 'information_schema' and c.relkind in ('r', 'p', 'v', 'f', 'm')"
    ),
    (
        "select c.column_name as name, c.udt_name, c.ordinal_position, c.table_schema, c.table_name,"
        " pg_catalog.col_description(format('%I.%I', c.table_schema, c.table_name)::regclass, c.ordinal_position)"
        " from information_schema.columns c where c.table_schema !~ '^information_schema|catalog_history|pg_'"
    ),
    (
        "select fk_ns.nspname, fk.relname, a.attname from pg_constraint c join pg_class fk on c.conrelid = fk.oid"
        " join pg_namespace fk_ns on fk.relnamespace = fk_ns.oid join pg_attribute a on c.conrelid = a.attrelid"
        " where c.contype = 'f' and a.attnum = any(c.conkey)"
    ),
    (
        "with table_privileges as (select null as role, t.schemaname as schema, t.objectname as table,"
        " pg_catalog.has_any_column_privilege(current_user, '\"' || t.schemaname || '\".\"' || t.objectname || '\"', 'select')"
        " from (select schemaname, tablename as objectname from pg_catalog.pg_tables union select schemaname, viewname"
        " from pg_catalog.pg_views) t where t.schemaname !~ '^pg_' and t.schemaname <> 'information_schema')"
        " select * from table_privileges"
    ),
    "show timezone",
    "select count(*) from public.customers",
    "select substring(name, 1, 1234) from public.customers limit 10000",
    "select date_trunc('month', now()), sum(amount) from public.orders group by 1 order by 1",
]


@pytest.mark.parametrize("query", METABASE)
def test_catalogue_queries_of_a_business_intelligence_tool(options, query):
    with psycopg.connect(**options) as connection:
        assert connection.execute(query).fetchall()
