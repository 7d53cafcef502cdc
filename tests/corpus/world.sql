-- What the corpus runs against. The gateway's role is a superuser on purpose: nothing but the gate stands between an agent and
-- the server. The world is built once and copied; in the copy `plant.sql` puts other values into the sensitive columns.
create extension dblink;
create extension file_fdw;
create extension hstore;
create extension pgcrypto;
create extension tablefunc;
create extension pg_trgm;

create type place as (street text, zip text);
create type mood as enum ('glad', 'sad');
create type size as (w int, h int);
create domain percent as int check (value between 0 and 100);
create sequence ticket_numbers;
-- Named as PostgreSQL would name the sequences of columns: with a number, and with what is left of a long name.
create sequence numbered_id_seq1;
create sequence lang_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx_identifier_seq;

create table customers (
  id int primary key, name text not null, city text, tier mood default 'glad',
  ssn text, born date, salary numeric, income int, score float8, phones text[], profile jsonb, legacy json, home place,
  employed daterange, photo bytea, token uuid, motto varchar(60), grade char(12), seen timestamptz, marks int[], ip inet
);
insert into customers (id, name, city, tier) values
  (1, 'Alice Amber', 'Lyon', 'glad'), (2, 'Bob Beryl', 'Turin', 'sad'), (3, 'Carol Coral', 'Lyon', 'glad'),
  (4, 'Dave Dune', 'Ghent', 'sad'), (5, 'Erin Ebony', 'Turin', 'glad'), (6, 'Frank Fern', null, 'glad');

create table orders (
  id serial primary key, customer int references customers, amount numeric(10, 2) check (amount >= 0),
  placed date default current_date, status text default 'open', note text, tags text[] default '{}', extra jsonb default '{}'
);
insert into orders (customer, amount, placed, status, note, tags, extra)
  select 1 + n % 6, n * 10, date '2026-01-01' + n, (array['open', 'paid', 'sent'])[1 + n % 3], 'order note ' || n,
         array['t' || n % 4, 'all'], jsonb_build_object('n', n, 'gift', n % 2 = 0)
  from generate_series(1, 30) n;
create index on orders (customer);
create table notes (id serial primary key, author text, body text, at timestamptz default now());
insert into notes (author, body) values ('ann', 'first note'), ('bob', 'second note');
create table inbox (id serial primary key, body text);
insert into inbox (body) select 'message ' || n from generate_series(1, 5) n;
create table accounts (id int primary key, owner text, balance int check (balance >= 0));
insert into accounts values (1, 'ann', 100), (2, 'bob', 50);
create table ledger (id serial primary key, account int, amount int);
create table logins (id int primary key, login text, password_hash text);
insert into logins values (1, 'ann', 'hash-1'), (2, 'bob', 'hash-2');
create table tree (id int primary key, parent int, label text);
insert into tree values (1, null, 'root'), (2, 1, 'left'), (3, 1, 'right'), (4, 2, 'leaf');

create table events (id int, at date, kind text, secret text) partition by range (at);
create table events_2025 partition of events for values from ('2025-01-01') to ('2026-01-01');
create table events_2026 partition of events for values from ('2026-01-01') to ('2027-01-01');
insert into events select n, date '2025-06-01' + n * 50, 'kind ' || n % 2 from generate_series(1, 8) n;
create table people (id int, name text, pin text);
create table staff (desk text) inherits (people);
insert into staff values (1, 'Gina', null, 'D1'), (2, 'Hugo', null, 'D2');

create view contacts as select id, name, ssn as number from customers;
create view contacts_again as select name, number from contacts;
create view by_city as select city, count(*) as people from customers group by city;
create view upper_contacts as select id, upper(name) as name, upper(ssn) as number from customers;
create view whole as select c from customers c;
create materialized view customer_cards as select id, name, ssn as card, length(ssn) as card_length from customers;
create view orders_open as select id, customer, amount, note from orders where status = 'open';

-- Code in the database, some of it meant for attacks.
create function peek(int) returns text language sql as 'select ssn from customers where id = $1';
create function peek_definer(int) returns text language plpgsql security definer as
  $$begin return (select ssn from customers where id = $1); end$$;
create function peek_all() returns setof customers language sql as 'select * from customers';
create function write_note(text) returns text language plpgsql as
  $$begin insert into notes (author, body) values ('code', $1); return $1; end$$;
create function note_both(text, text) returns boolean language plpgsql as
  $$begin insert into notes (author, body) values ('operator', $1 || $2); return true; end$$;
create operator === (leftarg = text, rightarg = text, function = note_both);
create function stamp() returns trigger language plpgsql as $$begin new.at := now(); return new; end$$;
create table stamped (id int, at timestamptz);
create trigger stamp before insert or update on stamped for each row execute function stamp();
create table audited (id int, body text);
create table audit (what text);
create function log_audit() returns trigger language plpgsql as
  $$begin insert into audit (what) values (tg_op || new.id); return null; end$$;
create trigger log after insert on audited for each row execute function log_audit();
create function place_of(text) returns place language plpgsql as
  $$begin insert into notes (author, body) values ('cast', $1); return row($1, '')::place; end$$;
create cast (text as place) with function place_of(text);
create aggregate collect(text) (sfunc = textcat, stype = text);
create function run_text(text) returns void language plpgsql as $$begin execute $1; end$$;
create procedure wipe() language plpgsql as $$begin delete from notes; end$$;
create function next_code() returns text language plpgsql as
  $$begin execute 'insert into notes (author, body) values (''default'', ''ran'')'; return 'code'; end$$;
create table coded (id int, code text default next_code());
create function copy_ssn() returns trigger language plpgsql as
  $$begin new.body := (select ssn from customers where id = 1); return new; end$$;
create table trapped (id int, body text);
create trigger leak before insert on trapped for each row execute function copy_ssn();
create table ruled (id int, body text);
create rule also as on insert to ruled do also insert into notes (author, body) select 'rule', ssn from customers;
create view noisy as select id, write_note(author) as author from notes;
create function initcap(mood) returns text language sql as $$select write_note('shadow')$$;
create function write_check(text) returns boolean language plpgsql as
  $$begin insert into notes (author, body) values ('check', $1); return true; end$$;
create domain guarded as text check (write_check(value));
create domain guarded_again as guarded;
create table guarded_rows (id int, d guarded);
create domain coded_text as text default next_code();
create table coded_rows (id int, c coded_text);
create schema shadow;
create function shadow.upper(text) returns text language sql as 'select ssn from public.customers limit 1';
create server files foreign data wrapper file_fdw;
create foreign table server_file (line text) server files options (filename '/etc/hostname', format 'text');
create view through_file as select line from server_file;
create table branches (id int, city text, manager text);
insert into branches values (1, 'Lyon', 'Ida'), (2, 'Turin', 'Jon');
alter table branches enable row level security;
create policy lyon on branches using (city = 'Lyon');
select lo_from_bytea(4242, 'large object body');

-- Rows of a child are rows of its parent, which says nothing of what else they hold.
create table holders (id int, owner text);
alter table accounts inherit holders;
create table callers (id int, name text);
create table illnesses (id int, illness text, primary key (id, illness));
create table patients (id int primary key, name text not null, illness text, foreign key (id, illness) references illnesses)
  inherits (callers);
insert into patients values (1, 'Kim', null), (2, 'Lou', null);
create table guests (id int, name text);
create table visitors (phone text) inherits (guests);
insert into visitors values (1, 'Max', null), (2, 'Nia', null);
create function refuse_row() returns trigger language plpgsql as
  $$begin if new.id > 90 then raise exception 'no such visitor: %', new; end if; return new; end$$;
create trigger refuse before update on visitors for each row execute function refuse_row();

-- A sensitive column that is unique, inherited, computed from, and read by a view that is kept.
create table members (id int primary key, name text, code text constraint members_code unique);
insert into members (id, name) values (1, 'Ole'), (2, 'Pia'), (3, 'Quy');
create table paid (shown text generated always as (upper(code)) stored) inherits (members);
insert into paid (id, name) values (11, 'Rob');
create view member_codes as select id, code from members;
create materialized view member_cards as select id, code from member_codes;
create table arrivals (id int, name text);
insert into arrivals values (1, 'Sue'), (2, 'Tom');

-- Definitions that run code when they go over the rows again. `plant.sql` gives the function of the index its effect.
create function index_note(text) returns text immutable language plpgsql as 'begin return $1; end';
create table indexed (id int, body text);
insert into indexed values (1, 'one');
create index on indexed (index_note(body));
create table checked (id int, body text);
insert into checked values (1, 'one');
alter table checked add constraint checked_body check (write_check(body)) not valid;

create function note_send(hstore) returns bytea language plpgsql as
  $$begin insert into notes (author, body) values ('send', 'ran'); return hstore_send($1); end$$;
create function watch() returns event_trigger language plpgsql as 'begin end';
create event trigger watch on ddl_command_start execute function watch();
alter event trigger watch disable;
analyze;
