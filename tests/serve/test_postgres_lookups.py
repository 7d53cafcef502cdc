"""Catalogue snapshots from a real server: shared, aged, invalidated, bounded in time."""

import asyncio
import dataclasses

import psycopg
import pytest

from gateway.errors import TargetError
from gateway.protocols.postgres.catalog_queries import QUERIES
from gateway.serve.postgres import lookups
from gateway.serve.postgres.lookups import CatalogCache
from gateway.serve.postgres.upstream import PostgresTarget, open_upstream
from gateway.testing.postgres import start_postgres
from gateway.testing.waiting import wait_until_async


@pytest.fixture(scope="module")
def server():
    with start_postgres() as running:
        running.run(
            "create table customers (id int primary key, ssn text); create view contacts as select ssn as number from customers"
        )
        yield running


@pytest.fixture
async def make_cache(server):
    """A cache whose connections are counted in `opened`."""
    opened = []
    caches = []

    async def give():
        return "postgres", ""

    def make(*, max_age_s=60.0, timeout_s=10.0, target=None):
        place = target or PostgresTarget("", server.port, "postgres", socket_dir=server.socket_dir)

        async def connect():
            upstream = await open_upstream(place, give, {})
            opened.append(upstream)
            return upstream

        cache = CatalogCache(connect, max_age_s=max_age_s, timeout_s=timeout_s)
        caches.append(cache)
        return cache

    make.opened = opened
    yield make
    for cache in caches:
        cache.close()


class Announced:
    def __init__(self):
        self.count = 0
        self.made = asyncio.Event()

    async def __call__(self):
        self.count += 1
        self.made.set()


async def test_a_snapshot_is_asked_for_once_by_many(make_cache):
    cache, announced = make_cache(), Announced()
    answers = await asyncio.gather(*(cache.read(announced) for _ in range(20)))
    assert announced.count == 1
    assert len({id(answer.snapshot) for answer in answers}) == 1
    assert sum(answer.fetched_ns > 0 for answer in answers) == 1
    assert len(make_cache.opened) == 1


async def test_it_is_asked_for_again_after_its_age(make_cache):
    cache, announced = make_cache(max_age_s=0.05), Announced()
    await cache.read(announced)

    async def is_old():
        return cache.current is None

    await wait_until_async(is_old)
    await cache.read(announced)
    assert announced.count == 2
    assert len(make_cache.opened) == 1  # on the same connection


async def test_an_unchanged_catalogue_is_held_once_however_often_it_is_read(make_cache, server):
    cache, announced = make_cache(), Announced()
    first = (await cache.read(announced)).snapshot
    first.remember("text", lambda: 1)
    cache.invalidate()
    again = await cache.read(announced)
    assert again.fetched_ns > 0
    assert again.snapshot is first
    assert first.remember("text", lambda: 2) == 2
    server.run("create table made_between (x int)")
    cache.invalidate()
    changed = (await cache.read(announced)).snapshot
    assert changed.digest != first.digest
    server.run("drop table made_between")
    cache.invalidate()
    assert (await cache.read(announced)).snapshot.digest == first.digest


async def test_a_change_is_seen_after_invalidation(make_cache, server):
    cache, announced = make_cache(), Announced()
    before = (await cache.read(announced)).snapshot
    server.run("create table made_later (x int)")
    assert (await cache.read(announced)).snapshot is before
    cache.invalidate()
    after = (await cache.read(announced)).snapshot
    assert after.digest != before.digest
    server.run("drop table made_later")


async def test_nothing_is_kept_while_a_definition_is_under_way(make_cache):
    """It can take effect at any moment, so that each statement needs a snapshot read after it came; those that wait share one."""
    cache, other, announced = make_cache(), make_cache(), Announced()
    other.join(cache)
    await other.read(announced)
    changes = [cache.begin_change(), other.begin_change()]
    for change in changes:
        assert other.current is None
        await other.read(announced)
        await other.read(announced)
        change.end()
        change.end()
    assert announced.count == 5
    cache.begin_change()
    first = asyncio.ensure_future(cache.read(announced))
    announced.made.clear()
    await announced.made.wait()
    await asyncio.gather(first, *(cache.read(announced) for _ in range(20)))
    assert announced.count == 7


async def test_names_are_moved_from_the_beginning_of_a_definition_for_whoever_asked_before_its_end(make_cache):
    cache = make_cache()
    before, change = cache.mark, cache.begin_change()
    change.names |= {("public", "customers")}
    during = cache.mark
    assert cache.moved_since(during) == {("public", "customers")}
    change.end()
    assert cache.moved_since(before) == cache.moved_since(during) == {("public", "customers")}
    assert cache.moved_since(cache.mark) == frozenset()


async def test_names_moved_beyond_a_bound_are_every_name(make_cache):
    cache = make_cache()
    before, change = cache.mark, cache.begin_change()
    change.names |= {("public", str(number)) for number in range(lookups.MAX_MOVED + 1)}
    change.end()
    assert cache.moved_since(before) == {(None, "*"), (None, "()")}


async def test_an_answer_overtaken_by_a_change_is_not_kept(make_cache):
    cache, announced = make_cache(), Announced()

    async def invalidate_meanwhile():
        cache.invalidate()

    await cache.read(invalidate_meanwhile)
    assert cache.current is not None  # invalidated before the question
    cache.invalidate()
    reading = asyncio.create_task(cache.read(announced))
    await announced.made.wait()
    cache.invalidate()
    await reading
    assert cache.current is None


async def test_a_lost_connection_is_opened_anew(make_cache):
    cache, announced = make_cache(), Announced()
    await cache.read(announced)
    make_cache.opened[0].wire.abort()
    cache.invalidate()

    async def can_read():
        try:
            await cache.read(announced)
        except TargetError:
            return False
        return True

    await wait_until_async(can_read)
    assert len(make_cache.opened) == 2


async def test_a_target_that_does_not_answer_is_an_error_in_time(make_cache):
    async def say_nothing(reader, writer):
        await reader.read()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        cache = make_cache(target=PostgresTarget("127.0.0.1", port, "x", tls_mode="disable"), timeout_s=0.1)
        with pytest.raises(TargetError, match="in time"):
            await cache.read(Announced())


async def test_a_target_that_is_down_is_an_error(make_cache):
    cache = make_cache(target=dataclasses.replace(PostgresTarget("127.0.0.1", 1, "x"), tls_mode="disable"))
    with pytest.raises(TargetError, match="cannot be reached"):
        await cache.read(Announced())


def connect_past(server):
    """A connection that does not go through a gateway."""
    return psycopg.connect(host=str(server.socket_dir), port=server.port, user="postgres", dbname="postgres")


LOCKS = {
    "altered view": "create or replace view contacts as select ssn as number from customers",
    "locked table below": "lock table customers in access exclusive mode",
    "altered table below": "alter table customers alter column ssn set default 'none'",
    "dropped view": "drop view contacts",
}


@pytest.mark.parametrize("statement", LOCKS.values(), ids=LOCKS)
async def test_it_does_not_wait_for_a_transaction_that_holds_a_view(server, make_cache, statement):
    """Everybody would be refused while one migration is under way. What cannot be read is taken as opaque."""
    cache = make_cache()
    free = (await cache.read(Announced())).snapshot
    view = free.resolve("public", "contacts")
    assert not free.origins(view.oid, 1).is_opaque
    with connect_past(server) as other:
        other.execute(statement)
        cache.invalidate()
        held = (await cache.read(Announced())).snapshot
        assert held.views[view.oid].definition is None
        traced = held.origins(view.oid, 1)
        assert traced.is_opaque
        assert {column.column for column in traced.columns} == {"id", "ssn"}
        other.rollback()
    cache.invalidate()
    assert (await cache.read(Announced())).snapshot.digest == free.digest


async def test_a_lock_that_comes_in_between_is_asked_about_again(server, make_cache, monkeypatch):
    """As where nobody held one yet when the question began."""
    unaware = QUERIES["views"].replace("c.oid not in (select relation from held)", "true")
    assert unaware != QUERIES["views"]
    monkeypatch.setattr(lookups, "QUERIES", {**QUERIES, "views": unaware})
    cache = make_cache()
    with connect_past(server) as other:
        other.execute(LOCKS["altered view"])
        reading = asyncio.create_task(cache.read(Announced()))

        async def was_asked_again():
            return len(make_cache.opened) > 1

        await wait_until_async(was_asked_again)
        other.rollback()
        assert (await reading).snapshot.resolve("public", "contacts") is not None


TRAPS = """
create table watched (id int primary key, name text, loan int, income int check (income > 0));
create function looked() returns trigger language plpgsql set search_path = public as 'begin return new; end';
create trigger looked before update on watched for each row when (new.income > 5) execute function looked();
create policy seen on watched using (loan is null or loan <= income);
alter table watched enable row level security;
create unique index on watched (lower(name)) where income > 5;
"""

CAUGHT = """
create function concat(text, text) returns text language sql immutable as 'select $1 || $2';
create function cardinality(text[]) returns int language sql immutable as 'select 0';
create function array_to_json(text[]) returns json language sql immutable as $$ select '[]'::json $$;
create function array_to_json(int[]) returns json language sql immutable as $$ select '[]'::json $$;
create function array_to_json(int2[]) returns json language sql immutable as $$ select '[]'::json $$;
create function never(name, text) returns bool language sql immutable as 'select false';
create operator !~ (leftarg = name, rightarg = text, function = never);
create operator = (leftarg = name, rightarg = text, function = never);
create operator <> (leftarg = name, rightarg = text, function = never);
create function never(oid, int) returns bool language sql immutable as 'select false';
create operator >= (leftarg = oid, rightarg = int, function = never);
create operator < (leftarg = oid, rightarg = int, function = never);
create function nothing(int2, int) returns int language sql immutable as 'select 0';
create operator & (leftarg = int2, rightarg = int, function = nothing);
create function never(int2, int) returns bool language sql immutable as 'select false';
create operator >= (leftarg = int2, rightarg = int, function = never);
create operator > (leftarg = int2, rightarg = int, function = never);
create function never("char", text) returns bool language sql immutable as 'select false';
create operator = (leftarg = "char", rightarg = text, function = never);
create operator <> (leftarg = "char", rightarg = text, function = never);
create function unnest(text[]) returns setof text language sql immutable as 'select null::text where false';
"""


async def test_functions_of_an_owner_answer_no_question_about_the_catalogue(server, make_cache):
    server.run("create database trapped")
    server.run(TRAPS, database="trapped")
    target = PostgresTarget("", server.port, "trapped", socket_dir=server.socket_dir)
    plain = (await make_cache(target=target).read(Announced())).snapshot
    server.run(CAUGHT, database="trapped")
    trapped = (await make_cache(target=target).read(Announced())).snapshot
    assert plain.search_path == trapped.search_path
    assert trapped.functions.keys() >= {"concat", "cardinality", "never"}
    for member in ("relations", "hooks", "conditions", "policies", "indexes", "primary_keys", "path_names", "casts", "types"):
        assert getattr(plain, member) == getattr(trapped, member), member
    relation = plain.resolve("public", "watched")
    (hook,) = plain.hooks[relation.oid]
    assert hook.source is not None
    assert hook.columns == {"income"}
