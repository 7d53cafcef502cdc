-- Views that show nothing sensitive, and fail over a sensitive value that they compute with.
create view members_above as select id, name from members where code::int > 5;
create view members_joined as select m.id, m.name from members m join notes n on n.id = m.code::int;
create view members_ordered as select id, name from members order by code::date;
create view members_again as select id, name from members_ordered;
