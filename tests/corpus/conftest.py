"""The world of the corpus: one server with two databases that differ in their sensitive values only, and one gateway before both."""

import contextlib
import os
import select
import socket
import subprocess
from pathlib import Path

import psycopg
import pytest
from psycopg import pq

from gateway.testing.gateway import start_gateway, write_config
from gateway.testing.oidc import DevelopmentIssuer
from gateway.testing.policy import copy_library
from gateway.testing.postgres import start_postgres
from gateway.testing.sql_corpus import SITES, RawClient, Tap, read_reply

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

PASSWORD = "the-gateways-own-s3cret"

PLANTS = {"plum": ("plumwalrus", 4471), "kiwi": ("figheronfinch", 2903)}
"""Per database the word and the number its sensitive values are made of."""

COLUMNS = [
    "ssn",
    "born",
    "salary",
    "income",
    "score",
    "phones",
    "profile",
    "legacy",
    "home",
    "employed",
    "photo",
    "token",
    "motto",
    "grade",
    "seen",
    "marks",
    "ip",
]
OTHERS = [
    "events.secret",
    "people.pin",
    "illnesses.illness",
    "patients.illness",
    "visitors.phone",
    "members.code",
    "arrivals.phrase",
]
SENSITIVE = [*(f"public.customers.{name}" for name in COLUMNS), *(f"public.{name}" for name in OTHERS)]


@pytest.fixture(scope="session")
def server():
    with start_postgres(settings=["max_prepared_transactions = 4"]) as running:
        running.run(f"create role gateway superuser login password '{PASSWORD}'; create database plum owner gateway")
        running.run("set role gateway;\n" + (HERE / "world.sql").read_text(), database="plum")
        running.run("create database kiwi template plum owner gateway")
        plant = (HERE / "plant.sql").read_text()
        for database, (word, number) in PLANTS.items():
            running.run(f"\\set word {word}\n\\set number {number}\n{plant}", database=database)
            running.run(f"create database {database}_kept template {database}")
        yield running


@pytest.fixture(scope="session")
def bundles(tmp_path_factory):
    """The policy library as shipped, and with data of a site that has opened it."""
    folders = {site: tmp_path_factory.mktemp("bundle") for site in SITES}
    copy_library(ROOT / "rego", folders["shipped"])
    opened = {"sandbox_environments": ["staging"], "derived": "mask"}
    copy_library(ROOT / "rego", folders["open"], lambda site: site["postgres"].update(opened))
    return folders


@pytest.fixture(scope="session")
def world(server, bundles, tmp_path_factory):
    secret = tmp_path_factory.mktemp("secret") / "password"
    secret.touch(mode=0o600)
    secret.write_text(PASSWORD)
    with DevelopmentIssuer() as issuer, contextlib.ExitStack() as stack:
        connections = [
            {
                "name": database,
                "type": "postgres",
                "target": {"host": "127.0.0.1", "port": server.port, "database": database, "tls": {"mode": "disable"}},
                "credential": {"user": "gateway", "password": f"file:{secret}"},
                "environment": "staging",
                "allow_groups": ["agents"],
                "sensitive": SENSITIVE,
                "hold_s": 0,
            }
            for database in PLANTS
        ]
        taps = {}
        for site, bundle in bundles.items():
            config = write_config(tmp_path_factory.mktemp("gateway"), issuer=issuer, bundle=bundle, connections=connections)
            gateway = stack.enter_context(start_gateway(config))
            taps[site] = stack.enter_context(Tap(gateway.port))
        world = World(server, taps, lambda: issuer.mint("agent-7", groups=("agents",), ttl_s=3_000))
        yield world
        world.close()


class World:
    """Sends cases, and knows what the databases hold."""

    def __init__(self, server, taps, mint):
        self._server, self._taps, self._mint = server, taps, mint
        self._clients, self._states = {}, {}
        self._owners = {database: self._log_in(database) for database in PLANTS}
        self._question = (HERE / "state.sql").read_text()
        self._states = {database: self.read_state(database) for database in PLANTS}

    def _log_in(self, database):
        return psycopg.connect(
            host=str(self._server.socket_dir), port=self._server.port, user="postgres", dbname=database, autocommit=True
        )

    def restore(self, database):
        """The database as it was at first, after a case did what it must not, so that the others can be believed."""
        self._owners[database].close()
        for key in [key for key in self._clients if key[1] == database]:
            self._clients.pop(key).close()
        self._server.run(f"drop database {database} with (force)")
        self._server.run(f"create database {database} template {database}_kept owner gateway")
        self._owners[database] = self._log_in(database)
        self._look_again(database)
        self._states[database] = self.read_state(database)

    def set_up(self, case, database):
        """Let the owner of the database do what the case begins with, straight at the server."""
        script = (HERE / "owner" / f"{case.owner}.sql").read_text()
        self._server.run(f"set role gateway;\n{script}", database=database)
        self._look_again(database)
        self.take_change(database)

    def _look_again(self, database):
        # A definition through a gateway makes it look at the catalogue again.
        for site in SITES:
            self._client(psycopg, database, site).pgconn.exec_(b"comment on table notes is null")

    def close(self):
        for client in [*self._clients.values(), *self._owners.values()]:
            client.close()

    def ask(self, database, sql):
        """Rows straight from the server."""
        return self._owners[database].execute(sql).fetchall()

    def describe(self, database, sql):
        """Description and rows of a query straight from the server."""
        cursor = self._owners[database].execute(sql)
        result = cursor.pgresult
        fields = [
            {"name": column.name, "table_oid": result.ftable(at), "attnum": result.ftablecol(at), "type_oid": column.type_code}
            for at, column in enumerate(cursor.description)
        ]
        return fields, cursor.fetchall()

    def read_state(self, database):
        """Everything a statement could have changed, in one text."""
        files = sorted(str(path) for path in (self._server.data_dir.parent).glob("*.leak"))
        return [*self.ask(database, self._question), files]

    def take_change(self, database):
        """Whether the database is another one than when this was last asked."""
        before, self._states[database] = self._states[database], self.read_state(database)
        return self._states[database] != before

    def run(self, case, database):
        """Send a case to the gateway of its site and return what the client received; the session is as good as new afterwards."""
        tap = self._taps[case.site]
        messages = [
            message.replace("{folder}", str(self._server.data_dir.parent)).replace("{database}", database)
            for message in case.messages
        ]
        if case.mode == "psql":
            return read_reply(self._run_psql("\n".join(messages), database, case.site))
        if case.mode in {"simple", "extended", "binary"}:
            client = self._client(psycopg, database, case.site)
            number = client.pgconn.socket
            port = _local_port(number)
            tap.take(port)
            for message in messages:
                _send(client.pgconn, message, case)
            data = tap.take(port)
            if client.pgconn.status != pq.ConnStatus.OK:
                self._clients.pop((psycopg, database, case.site)).close()
            elif client.pgconn.transaction_status != pq.TransactionStatus.IDLE:
                client.pgconn.exec_(b"rollback")
            return read_reply(data)
        client = self._client(RawClient, database, case.site)
        tap.take(client.local_port)
        try:
            if case.mode == "named":
                client.query("deallocate all")
                client.prepare("p", messages[0])
                for message in messages[1:]:
                    client.query(message)
            elif case.mode == "pipeline":
                client.run(messages, case.params, describe=True, binary=False)
            else:
                for message in messages:
                    client.run([message], case.params, describe=False, binary=case.mode == "blind-binary")
            return read_reply(tap.take(client.local_port))
        finally:
            client.query("rollback")

    def _client(self, kind, database, site):
        if (kind, database, site) not in self._clients:
            port = self._taps[site].port
            if kind is RawClient:
                client = RawClient(port, database, self._mint())
            else:
                client = psycopg.connect(
                    host="127.0.0.1", port=port, user="agent", password=self._mint(), dbname=database, autocommit=True
                )
                client.pgconn.nonblocking = 0
            self._clients[kind, database, site] = client
        return self._clients[kind, database, site]

    def _run_psql(self, script, database, site):
        tap = self._taps[site]
        environment = {"PATH": os.environ["PATH"], "PGPASSWORD": self._mint(), "PGSSLMODE": "disable", "HOME": "/nonexistent"}
        command = [str(self._server.bin_dir / "psql"), "-X", "-h", "127.0.0.1", "-p", str(tap.port), "-U", "agent"]
        tap.take()
        arguments = [*command, "-d", database]
        subprocess.run(arguments, input=script, env=environment, text=True, capture_output=True, check=False, timeout=60)
        data = tap.take()
        return data[data.index(b"Z\0\0\0\5I") :] if b"Z\0\0\0\5I" in data else data


def _local_port(number):
    with socket.socket(fileno=os.dup(number)) as probe:
        return probe.getsockname()[1]


def _send(connection, sql, case):
    """One message, and whatever COPY asks for after it."""
    if case.mode == "simple":
        result = connection.exec_(sql.encode())
    else:
        values = [None if value is None else value.encode() for value in case.params]
        result = connection.exec_params(sql.encode(), values, result_format=int(case.mode == "binary"))
    if result.status == pq.ExecStatus.COPY_OUT:
        while (size := connection.get_copy_data(1)[0]) >= 0:
            if size == 0:
                select.select([connection.socket], [], [], 30)
                connection.consume_input()
    elif result.status == pq.ExecStatus.COPY_IN:
        connection.put_copy_data(b"9001\tcopied\n")
        assert connection.put_copy_end() == 1
    while True:
        # libpq would wait with the interpreter's lock held, which the gateway in this process needs.
        while connection.is_busy():
            select.select([connection.socket], [], [], 30)
            connection.consume_input()
        if connection.get_result() is None:
            return
