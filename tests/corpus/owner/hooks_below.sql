create table sinks (id int, b text);
create function fill_sink() returns trigger language plpgsql as
  $$begin new.b := (select ssn from customers where id = 1); return new; end$$;
create trigger fill before insert on sinks for each row execute function fill_sink();
create table sources (id int, b text);
create function pass_on() returns trigger language plpgsql as
  $$begin insert into sinks values (new.id, new.b) returning b into new.b; return new; end$$;
create trigger pass_on before insert on sources for each row execute function pass_on();
create table lookups (id int, b text);
insert into lookups values (1, 'one');
create table purges (id int);
create function purge() returns trigger language plpgsql as
  $$begin delete from lookups where id = new.id; return new; end$$;
create trigger purge before insert on purges for each row execute function purge();
