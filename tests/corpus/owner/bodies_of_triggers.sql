-- Triggers that do in places of PL/pgSQL beside its statements what they must not.
create function body_record() returns trigger language plpgsql as
  $$declare r record := row((select ssn from customers where id = 1)); begin new.b := r.f1; return new; end$$;
create table with_record (id int, b text);
create trigger body before insert on with_record for each row execute function body_record();
create function body_target() returns trigger language plpgsql as
  $$declare j jsonb := '{}'; begin j[(select ssn from customers where id = 1)] := '1'; new.b := j::text; return new; end$$;
create table with_target (id int, b text);
create trigger body before insert on with_target for each row execute function body_target();
create function body_path() returns trigger language plpgsql set search_path = shadow, pg_catalog as
  $$begin new.b := upper(new.b); return new; end$$;
create table with_path (id int, b text);
create trigger body before insert on with_path for each row execute function body_path();
create function body_local_path() returns trigger language plpgsql as
  $$begin set local search_path = shadow, pg_catalog; new.b := upper(new.b); return new; end$$;
create table with_local_path (id int, b text);
create trigger body before insert on with_local_path for each row execute function body_local_path();
create function body_domain() returns trigger language plpgsql as
  $$declare p guarded := new.b; begin return new; end$$;
create table with_domain (id int, b text);
create trigger body before insert on with_domain for each row execute function body_domain();
