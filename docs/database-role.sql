-- The gateway's role, with no more than agents may ever use. Run it as the owner of the database, in that database:
--
--     psql -v role=sealgate_agent -v schema=public -f database-role.sql
--
-- What a gate cannot see, the server then refuses: see docs/database-role.md. Running it again changes nothing.
\set ON_ERROR_STOP on

begin;

select not exists (select from pg_roles where rolname = :'role') as is_new \gset
\if :is_new
  create role :"role" login nosuperuser nocreatedb nocreaterole noreplication nobypassrls noinherit;
\endif
alter role :"role" nosuperuser nocreatedb nocreaterole noreplication nobypassrls connection limit 100;

-- Nothing by way of PUBLIC: every role is a member of it.
revoke create on schema :"schema" from public;
select format('revoke create, temporary on database %I from public', current_database()) \gexec

-- Code runs with its caller's rights only; functions of one's own are granted one by one.
select format('revoke execute on function %s from public', p.oid::regprocedure)
from pg_proc p
where p.pronamespace = :'schema'::regnamespace and p.prokind in ('f', 'a', 'w')
  and not exists (select from pg_depend d where d.objid = p.oid and d.deptype = 'e') \gexec
select format('revoke execute on procedure %s from public', p.oid::regprocedure)
from pg_proc p where p.pronamespace = :'schema'::regnamespace and p.prokind = 'p' \gexec
alter default privileges revoke execute on functions from public;

-- Rows, not definitions: no TRUNCATE, REFERENCES or TRIGGER, no foreign tables, and nothing of the server's files, programs or statistics.
grant usage on schema :"schema" to :"role";
select format('grant select, insert, update, delete on %s to %I', oid::regclass, :'role')
from pg_class where relnamespace = :'schema'::regnamespace and relkind in ('r', 'p', 'v') \gexec
select format('grant select on %s to %I', oid::regclass, :'role')
from pg_class where relnamespace = :'schema'::regnamespace and relkind = 'm' \gexec
grant usage on all sequences in schema :"schema" to :"role";

-- Bounds the server keeps by itself.
alter role :"role" set statement_timeout = '5min';
alter role :"role" set lock_timeout = '10s';
alter role :"role" set idle_in_transaction_session_timeout = '10min';
alter role :"role" set search_path = :"schema";

commit;
