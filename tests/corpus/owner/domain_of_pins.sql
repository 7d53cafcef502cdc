create domain pin_text as text;
create domain pin_again as pin_text;
alter table people alter column pin type pin_again;
alter domain pin_again add constraint known check (value::int > 0) not valid;
