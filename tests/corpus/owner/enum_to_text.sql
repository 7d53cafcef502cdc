create function mood_as_text(mood) returns text language plpgsql as
  $$begin return (select ssn from customers where id = 1); end$$;
create cast (mood as text) with function mood_as_text(mood) as implicit;
create table days (id int, m mood);
insert into days values (1, 'glad'), (2, 'sad');
