create type level as enum ('low', 'high');
create function level_as_json(level) returns json language plpgsql as
  $$begin insert into notes (author, body) values ('cast', 'json'); return (select to_json(ssn) from customers where id = 1); end$$;
create cast (level as json) with function level_as_json(level);
create table levels (id int, l level);
insert into levels values (1, 'low');
