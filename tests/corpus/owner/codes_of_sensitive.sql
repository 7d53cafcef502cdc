-- A sensitive column that refers to plain rows, as a diagnosis does to a table of codes, and keys by which rows change by themselves.
create table mottos (motto varchar(60) primary key, label text);
insert into mottos select distinct motto, 'label' from customers where motto is not null;
alter table customers add foreign key (motto) references mottos;
create table coins (code text primary key);
insert into coins values ('usd'), ('eur');
create table pairs (base text references coins on update cascade, quote text references coins on update cascade, primary key (base, quote));
insert into pairs values ('usd', 'eur');
alter table customers add base text, add quote text, add foreign key (base, quote) references pairs on update cascade;
create function move_customer() returns trigger language plpgsql as
  $$begin update customers set city = new.body where id = new.id; return new; end$$;
create table moves (id int, body text);
create trigger moved after insert on moves for each row execute function move_customer();
