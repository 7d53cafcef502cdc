-- Sensitive values, made from a word per world, so that two worlds differ in nothing else: `word` has another length, and numbers
-- and dates another order in each.
select set_config('plant.word', :'word', false), set_config('plant.number', :'number', false);
update customers set
  ssn = current_setting('plant.word') || '-ssn-' || id,
  born = date '1931-01-01' + (id * current_setting('plant.number')::int) % 9000,
  salary = 7319443.25 + (id * current_setting('plant.number')::int) % 97,
  income = 641973517 + (id * current_setting('plant.number')::int) % 97,
  score = 0.7391845 + ((id * current_setting('plant.number')::int) % 97) / 1000.0,
  phones = array_fill(current_setting('plant.word') || '-tel-' || id, array[1 + (id * current_setting('plant.number')::int) % 4]),
  profile = jsonb_build_object('pin', current_setting('plant.word') || '-pin-' || id, 'deep', jsonb_build_object('x', array[id * current_setting('plant.number')::int])),
  legacy = json_build_object('old', current_setting('plant.word') || '-old-' || id),
  home = row(current_setting('plant.word') || '-street-' || id, current_setting('plant.number'))::place,
  employed = daterange(date '1951-01-01' + (id * current_setting('plant.number')::int) % 900, null),
  photo = convert_to(current_setting('plant.word') || '-photo-' || id, 'UTF8'),
  token = md5(current_setting('plant.word') || id)::uuid,
  motto = current_setting('plant.word') || '-motto-' || id,
  grade = left(current_setting('plant.word'), 9) || id,
  seen = timestamptz '1971-01-01' + (id * current_setting('plant.number')::int) % 9000 * interval '1 hour',
  marks = array_fill(51973 + (id * current_setting('plant.number')::int) % 97, array[1 + (id * current_setting('plant.number')::int) % 3]),
  ip = inet '10.0.0.0' + (id * current_setting('plant.number')::int) % 60000;
update events set secret = current_setting('plant.word') || '-secret-' || id;
update people set pin = current_setting('plant.word') || '-pin-' || id;
update members set code = current_setting('plant.word') || '-code-' || id;
insert into illnesses select id, current_setting('plant.word') || '-illness-' || id from patients;
update patients set illness = current_setting('plant.word') || '-illness-' || id;
update visitors set phone = current_setting('plant.word') || '-phone-' || id;
alter table arrivals add column phrase text default :'word';
alter table arrivals alter column phrase drop default;
refresh materialized view customer_cards;
refresh materialized view member_cards;
analyze;
create or replace function index_note(text) returns text immutable language plpgsql as
  $$begin perform write_note($1); return $1; end$$;
