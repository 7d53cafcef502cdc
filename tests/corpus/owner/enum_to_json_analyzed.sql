create type phase as enum ('new', 'full');
create function phase_as_json(phase) returns json language plpgsql as
  $$begin insert into notes (author, body) values ('cast', 'json'); return '"phase"'; end$$;
create cast (phase as json) with function phase_as_json(phase);
create table phases (id int, p phase);
insert into phases select n, (array['new', 'full'])[1 + n % 2]::phase from generate_series(1, 20) n;
analyze phases;
