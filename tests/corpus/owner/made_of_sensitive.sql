-- What an owner has that is made of sensitive values further down: keys to generated columns, triggers of children, views of counters.
alter table paid add constraint paid_shown unique (shown);
create table transfers (id int primary key, shown text references paid (shown));
insert into transfers select id, shown from paid;
alter table people add words tsvector;
create trigger fill before insert or update on staff for each row execute function
  tsvector_update_trigger(words, 'pg_catalog.simple', pin);
update staff set pin = pin;
create table letters (id int, title text, body text);
create table sent_letters (title text generated always as ('Letter to ' || code) stored, code text references members (code)) inherits (letters);
insert into sent_letters (id, code) select id, code from only members;
create view log_now as select now() as at, pg_current_wal_lsn() as place, pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0') as bytes;
create view locks_now as select locktype, objid from pg_lock_status() where locktype = 'advisory' or objid = 4471;
create table alerts (id int);
create function write_alert() returns trigger language plpgsql as $$begin insert into alerts values (new.id); return new; end$$;
create trigger alert after update on customers for each row when (new.salary > 7319500) execute function write_alert();
create function set_time() returns trigger language plpgsql as $$begin new.seen := new.seen; return new; end$$;
create trigger changed after update on events for each row when (old.* is distinct from new.*) execute function write_alert();
