-- What definitions of a session meet: triggers that write where they find a name, checks that touch what is sensitive.
create table session_logged (id int, body text);
create function to_session_log() returns trigger language plpgsql as
  $$begin insert into session_log (id, body) values (new.id, new.body); return new; end$$;
create trigger log before insert on session_logged for each row execute function to_session_log();
create table counted (id int, body text, n int);
create function count_conflicts() returns trigger language plpgsql as
  $$declare k int;
  begin
    insert into members (id, name, code) values (new.id + 3000, 'q', new.body) on conflict do nothing;
    get diagnostics k = row_count;
    new.n := k;
    return new;
  end$$;
create trigger count before insert on counted for each row execute function count_conflicts();
create function has_visitor(int) returns boolean language plpgsql as
  $$begin update visitors set name = name where id = $1; return true; end$$;
create table of_visitors (id int check (has_visitor(id)), body text);
create table met (id int, body text);
create function meet() returns trigger language plpgsql as
  $$begin update visitors set name = name where id = 95; return new; end$$;
create trigger meet before insert on met for each row execute function meet();
create table kept_errors (id int, body text);
create function keep_error() returns trigger language plpgsql as
  $$begin insert into met values (new.id, 'x'); return new; exception when others then new.body := sqlerrm; return new; end$$;
create trigger keep before insert on kept_errors for each row execute function keep_error();
create table kept_spelled (id int, body text);
create function keep_spelled() returns trigger language plpgsql as
  $$begin update visitors set name = name where id = 95; return new;
  exception when others then new.body := U&"sqle\0072rm"; return new; end$$;
create trigger keep before insert on kept_spelled for each row execute function keep_spelled();
insert into of_visitors values (95, 'x');
insert into visitors (id, name, phone) select 95, 'Zed', phone from visitors where id = 1;
create view keepers as select id, owner from holders;
create table targeted (id int primary key, body text);
create table by_schema (id int, body text);
create function to_targeted() returns trigger language plpgsql as
  $$begin update public.targeted set body = new.body where id = new.id; return new; end$$;
create trigger pass before insert on by_schema for each row execute function to_targeted();
create view hashes as select id, login, password_hash as h from logins;
create extension if not exists file_fdw;
create server files_of_guests foreign data wrapper file_fdw;
create foreign table far_guests (id int, name text) server files_of_guests options (filename '/dev/null', format 'csv');
alter table people inherit far_guests;
alter table branches add primary key (id);
