-- Harmless tables, behind which a row with a sensitive column is written to, so that errors and notices quote it.
alter table members alter name set not null;
create function write_member() returns trigger language plpgsql as
  $$begin insert into members (id, name) values (new.id, new.b) on conflict (id) do update set name = nullif(excluded.name, 'zap'); return new; end$$;
create table by_trigger (id int, b text);
create trigger below before insert on by_trigger for each row execute function write_member();
create table by_rule (id int, b text);
create rule below as on insert to by_rule do also
  insert into members (id, name) values (new.id, new.b) on conflict (id) do update set name = nullif(excluded.name, 'zap');
create function write_by_trigger() returns trigger language plpgsql as
  $$begin insert into by_trigger values (new.id, new.b); return new; end$$;
create table by_two (id int, b text);
create trigger below before insert on by_two for each row execute function write_by_trigger();
create function tell_row() returns trigger language plpgsql as $$begin raise notice 'the row is %', new; return new; end$$;
create trigger tell before update on visitors for each row execute function tell_row();
create function write_visitor() returns trigger language plpgsql as
  $$begin update visitors set name = 'Maxi' where id = 1; return new; end$$;
create table by_notice (id int, b text);
create trigger below before insert on by_notice for each row execute function write_visitor();
create function write_and_tell() returns trigger language plpgsql as
  $$begin update visitors set id = 99 where name = 'Max'; return new; exception when others then new.b := sqlerrm; return new; end$$;
create table by_handler (id int, b text);
create trigger below before insert on by_handler for each row execute function write_and_tell();
