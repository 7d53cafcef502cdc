create type stage as enum ('early', 'late');
create function stage_of(text) returns stage language plpgsql as
  $$begin insert into notes (author, body) values ('cast', $1); return enum_first(null::stage); end$$;
create cast (text as stage) with function stage_of(text) as assignment;
create table stages (id int, s stage);
insert into stages values (1, 'early');
