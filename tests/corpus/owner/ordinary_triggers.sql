create function count_inbox() returns trigger language plpgsql as
  $$declare r record; n int := 0; v customers.name%type;
  begin
    for r in select id, body from inbox order by id loop
      n := n + 1;
      v := r.body;
    end loop;
    new.b := v || ' of ' || n;
    return new;
  end$$;
create table counted (id int, b text);
create trigger count before insert on counted for each row execute function count_inbox();
create table titles (id int, name text);
insert into titles values (1, 'first'), (2, 'second');
create function rename_title() returns trigger language plpgsql as
  $$begin update titles set name = new.body where id = new.id; return new; end$$;
create table renames (id int, body text);
create trigger pass_on before insert on renames for each row execute function rename_title();
create function list_customers() returns trigger language plpgsql as
  $$declare r record; n int := 0; v customers.name%type;
  begin
    for r in select id, name from customers order by id loop
      n := n + 1;
      v := r.name;
    end loop;
    new.b := v || ' is number ' || n;
    return new;
  end$$;
create table listed (id int, b text);
create trigger list before insert on listed for each row execute function list_customers();
create function move_customer() returns trigger language plpgsql as
  $$begin update customers set city = new.body where id = new.id; return new; end$$;
create table moves (id int, body text);
create trigger pass_on before insert on moves for each row execute function move_customer();
