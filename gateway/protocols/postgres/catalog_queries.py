"""What the gateway asks a server for a catalogue snapshot (`catalog.py`), with its own credential."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from gateway.protocols.postgres.functions import TELLING, YIELDS_ANY

_HELD: Final = """
held as materialized (
    with busy as materialized (
        select l.relation from pg_catalog.pg_locks l join pg_catalog.pg_database b on b.oid = l.database
        where l.locktype = 'relation' and l.mode = 'AccessExclusiveLock' and b.datname = pg_catalog.current_database()
          and l.pid <> pg_catalog.pg_backend_pid())
    select relation from busy
    union select r.ev_class from pg_catalog.pg_rewrite r
    join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_rewrite'::regclass and d.objid = r.oid
    where d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjid in (select relation from busy))"""
"""Relations whose definition cannot be read without waiting: the functions that print one lock it and whatever it names, behind anybody
who holds or wants one of these alone (a transaction that altered it, LOCK TABLE, VACUUM FULL). It is taken as opaque meanwhile."""

PREPARING: Final = (
    """select pg_catalog.set_config('sealgate.search_path', pg_catalog.current_setting('search_path'), true),
       pg_catalog.set_config('sealgate.schemas', pg_catalog.format('%s', pg_catalog.current_schemas(false)), true),
       pg_catalog.set_config('sealgate.all_schemas', pg_catalog.format('%s', pg_catalog.current_schemas(true)), true)""",
    "set local search_path = pg_catalog, pg_temp",
)
"""What comes first in the transaction of the questions. They speak of the session's search path, and are themselves read without it: a
function or operator of an owner would be taken where its arguments fit better than those of the server's own (10.2, 10.3)."""

_PATH: Final = "coalesce(pg_catalog.current_setting('sealgate.search_path', true), pg_catalog.current_setting('search_path'))"
_SCHEMAS: Final = "coalesce(pg_catalog.current_setting('sealgate.schemas', true), pg_catalog.format('%s', pg_catalog.current_schemas(false)))::text[]"
_ALL_SCHEMAS: Final = "coalesce(pg_catalog.current_setting('sealgate.all_schemas', true), pg_catalog.format('%s', pg_catalog.current_schemas(true)))::text[]"

_CODE: Final = """
support(family, function) as materialized (
    select named.family, named.function from (
        select amprocfamily, amproc::oid from pg_catalog.pg_amproc
        union select a.amopfamily, o.oprcode::oid from pg_catalog.pg_amop a join pg_catalog.pg_operator o on o.oid = a.amopopr)
        as named(family, function)
    join pg_catalog.pg_proc p on p.oid = named.function and p.oid >= 16384
    join pg_catalog.pg_language l on l.oid = p.prolang and l.lanname not in ('c', 'internal')),
calls(classid, objid, function) as materialized (
    select classid, objid, refobjid from pg_catalog.pg_depend where refclassid = 'pg_catalog.pg_proc'::regclass
    union select d.classid, d.objid, o.oprcode::oid from pg_catalog.pg_depend d
    join pg_catalog.pg_operator o on d.refclassid = 'pg_catalog.pg_operator'::regclass and o.oid = d.refobjid
    union select d.classid, d.objid, f.function from pg_catalog.pg_depend d
    join pg_catalog.pg_opclass c on d.refclassid = 'pg_catalog.pg_opclass'::regclass and c.oid = d.refobjid
    join support f on f.family = c.opcfamily),
code(classid, objid, function) as (
    select classid, objid, function from calls where classid <> 'pg_catalog.pg_proc'::regclass
    union select code.classid, code.objid, calls.function from code
    join calls on calls.classid = 'pg_catalog.pg_proc'::regclass and calls.objid = code.function)"""
"""The functions that the expressions of an object call, by their names or behind operators, what defaults of their arguments call, and those
by which the operator classes of indexes and keys compare (38.16)."""

_EVENTS: Final = (
    "pg_catalog.concat(case when tgtype & 4 <> 0 then 'i' end, case when tgtype & 16 <> 0 then 'u' end, "
    "case when tgtype & 8 <> 0 then 'd' end)"
)
"""With which changes of a row a trigger runs, as `hooks.Hook.events` has it."""

_OWN_TRIGGER: Final = "not (tgisinternal and tgconstraint <> 0 and tgfoid < 16384)"
"""The triggers that somebody made, also where they are those of a parent: before version 15 a partition has them as internal ones."""


def _list_numbers(columns: str, least: int = 1) -> str:
    """Column numbers as a tree would have them, from `least` on; 0 stands for expressions."""
    return f"""(select pg_catalog.string_agg(pg_catalog.concat(' :varattno ', k, ' '), '')
        from pg_catalog.unnest({columns}) as k where k >= {least})"""  # noqa: S608 - a constant of this module


_HOOKED: Final = f"""(
          select d.adrelid, case a.attgenerated when '' then 'default' else 'generated' end, 'pg_catalog.pg_attrdef'::regclass, d.oid, 'iud',
                 d.adbin::text
            from pg_catalog.pg_attrdef d join pg_catalog.pg_attribute a on a.attrelid = d.adrelid and a.attnum = d.adnum
          union all select conrelid, 'constraint', 'pg_catalog.pg_constraint'::regclass, oid, 'iud',
                 concat(conbin::text, {_list_numbers("conkey", 0)})
            from pg_catalog.pg_constraint where conrelid <> 0
          union all select indrelid, 'index', 'pg_catalog.pg_class'::regclass, indexrelid, 'iud',
                 concat(indexprs::text, indpred::text,
                        {_list_numbers("indkey::int2[]")})
            from pg_catalog.pg_index
          union all select partrelid, 'partition', 'pg_catalog.pg_class'::regclass, partrelid, 'iud',
                 concat(partexprs::text, {_list_numbers("partattrs::int2[]")})
            from pg_catalog.pg_partitioned_table
          union all select stxrelid, 'index', 'pg_catalog.pg_statistic_ext'::regclass, oid, 'iud', pg_catalog.to_jsonb(s) ->> 'stxexprs'
            from pg_catalog.pg_statistic_ext s
          union all select polrelid, 'policy', 'pg_catalog.pg_policy'::regclass, oid, 'iud', concat(polqual::text, polwithcheck::text, ' :varattno 0 ')
            from pg_catalog.pg_policy
          union all select tgrelid, 'condition', 'pg_catalog.pg_trigger'::regclass, oid, {_EVENTS}, tgqual::text from pg_catalog.pg_trigger
            where {_OWN_TRIGGER} and tgenabled <> 'D') as place(relation, kind, classid, objid, events, tree)"""  # noqa: S608 - a constant of this module
"""Objects whose expressions run with statements on a relation."""

_ALIKE: Final = rf"""
alike as materialized (
    select r.oid from pg_catalog.pg_roles r
    where r.oid in (select proowner from pg_catalog.pg_proc union select relowner from pg_catalog.pg_class)
      and array(
        select o.nspname::text
        from pg_catalog.unnest(pg_catalog.regexp_split_to_array({_PATH}, '\s*,\s*'))
             with ordinality as part(name, place)
        join pg_catalog.pg_namespace o on o.nspname = case
            when part.name in ('$user', '"$user"') then r.rolname
            when part.name ~ '^"' then pg_catalog.replace(part.name, '"', '') else pg_catalog.lower(part.name) end
        where pg_catalog.has_schema_privilege(r.oid, o.oid, 'usage') order by part.place)
      = {_SCHEMAS})"""  # noqa: S608 - constants of this module
"""Owners who look for names in the very schemas the session does: `$user` and what they may use can lead them elsewhere."""

_SAME_PATH: Final = rf"""(p.proconfig is null or cardinality(p.proconfig) = 1 and p.proconfig[1] ~ '^search_path=[a-z0-9_, "]+$' and array(
        select pg_catalog.btrim(part.name, ' "') from pg_catalog.unnest(pg_catalog.string_to_array(pg_catalog.regexp_replace(
            pg_catalog.regexp_replace(p.proconfig[1], '^search_path= *("?pg_catalog"? *,)?', ''), ', *"?pg_temp"? *$', ''),
            ',')) with ordinality as part(name, place)
        order by part.place) = {_SCHEMAS})"""  # noqa: S608 - constants of this module
"""A function has no settings of its own, or only the schemas that the session looks into anyway: `pg_catalog` first, temporary ones last."""


def _list_names(tree: str, relation: str) -> str:
    """Names of the columns of a relation that stand in a tree, as JSON; `*` for the whole row."""
    return rf"""pg_catalog.array_to_json(array(
    select case found[1] when '0' then '*' else (
        select attname from pg_catalog.pg_attribute where attrelid = {relation} and attnum = found[1]::int2) end
    from pg_catalog.regexp_matches({tree}, ':varattno (-?[0-9]+)', 'g') as found where found[1] !~ '-' order by 1))::text"""  # noqa: S608 - constants of this module


_USED: Final = _list_names("place.tree", "place.relation")
"""Names of the columns that stand in the tree of an expression; `*` for the whole row."""

_OF_CHANGE: Final = r"""'[{](?:OPEXPR|DISTINCTEXPR) [^(]*:opresulttype 16 [^(]*:args [(](?:[{][A-Z]+ :arg )?[{]VAR :varno [12] :varattno (-?[0-9]+) [^{}]*[}](?: :result[^{}]*[}])? (?:[{][A-Z]+ :arg )?[{]VAR :varno [12] :varattno \1 '"""
"""In a tree a comparison of a column of the row as it was with the same of the row as it will be, up to the second of the two."""

_CHOOSING: Final = _list_names(f"pg_catalog.regexp_replace(t.tgqual::text, {_OF_CHANGE}, '', 'g')", "t.tgrelid")
"""Names of the columns by which a WHEN chooses: all but those that are only compared with themselves, which tells of the change, and
counts as a comparison."""

_PLANNED: Final = r"""((select count(*) from pg_catalog.regexp_matches(place.tree, pg_catalog.concat(':(?:op)?funcid ', code.function, ' '), 'g'))
    > (select count(*) from pg_catalog.regexp_matches(place.tree, pg_catalog.concat(
        ':(?:op)?funcid ', code.function, ' [^{]*:args [(][{](?:RELABELTYPE [^{]*[{])?VAR '), 'g'))
    or pg_catalog.concat(place.tree, '') !~ pg_catalog.concat(':(?:op)?funcid ', code.function, ' ')
    or exists (select from pg_catalog.pg_proc inlined join pg_catalog.pg_language l on l.oid = inlined.prolang
               where inlined.oid = code.function and l.lanname = 'sql'))::int"""
"""Whether a call may have constants only, as any may that does not begin with a column, and as calls in SQL functions may, which the planner
puts in their place (38.5): it computes these for every statement."""

_YIELDING: Final = ", ".join(
    f"'{name}'" for name in sorted(YIELDS_ANY | TELLING | {"pg_current_wal_insert_lsn", "pg_current_wal_flush_lsn"})
)
"""The server's own functions that read whatever they are told to, or tell how much it worked: code, wherever they stand."""

_TOLD: Final = f"""
    select place.relation, place.kind, told.oid, place.events, '[]', {_USED}, 1 from {_HOOKED}
    cross join pg_catalog.regexp_matches(place.tree, ':funcid ([0-9]+) ', 'g') as called
    join pg_catalog.pg_proc told on told.oid = called[1]::oid and told.oid < 16384 and told.proname in ({_YIELDING})"""  # noqa: S608 - constants of this module
"""Places that call these functions: what the server itself has is not among the dependencies of an object."""

_PLACES: Final = f"place.relation, place.kind, code.function, place.events, '[]', {_USED}, {_PLANNED}"


_FOLLOWING: Final = "1199"
"""What is declared IMMUTABLE and follows a setting all the same: `age` of two times."""

_STEADY: Final = "1299, 2647, 2648, 861, 745, 746, 710, 2705, 2706, 2707, 2708, 2709, 2710, 2077, 3294"
"""Functions that are STABLE and follow no setting: the time of the transaction or statement, who is logged in, `pg_has_role`.
`current_setting` (the last two) is looked at by the name it is given."""


def _is_open(tree: str) -> str:
    """Whether the result of an expression follows a setting that an agent may give a value, or the text of the statement.

    So does `current_setting` of a name of the server's own (custom ones have a dot, 46, in theirs), whatever the server has compiled or an
    extension has that is STABLE (a part of a time follows TimeZone) or takes values of any type, which it prints, what is printed or read in
    the course of a cast, what the check of a domain is asked, and CURRENT_DATE and its like. Functions of the owner's own are judged by
    their bodies.
    """
    found = f"(select count(*) from pg_catalog.regexp_matches({tree}, '%s', 'g'))"  # noqa: S608 - constants of this module
    any_of_them = found % ":funcid (2077|3294) "
    custom = found % r":funcid (?:2077|3294) [^{]*[{]CONST [^}]* \[ (?:-?[0-9]+ )*46 (?:-?[0-9]+ )*\]"
    follows = f"""exists (
        select from pg_catalog.regexp_matches({tree}, ':(funcid|aggfnoid|winfnoid|(?:start|end)InRangeFunc|opnos?) (?:[(]o )?([0-9 ]+)', 'g') as called
        cross join pg_catalog.unnest(pg_catalog.string_to_array(pg_catalog.btrim(called[2]), ' ')) as number
        left join pg_catalog.pg_operator o on called[1] ~ '^op' and o.oid = number::oid
        join pg_catalog.pg_proc f on f.oid = case when called[1] ~ '^op' then o.oprcode::oid else number::oid end
        where (f.oid < 16384 or f.prolang in (12, 13)) and (
            f.provolatile <> 'i' and f.oid not in ({_STEADY}) or f.oid in ({_FOLLOWING})
            or f.oid >= 16384 and f.proargtypes::oid[] && '{{2249,2283,2276,2776}}'::oid[]))"""
    converts = f"coalesce({tree} ~ '[{{](COERCEVIAIO|COERCETODOMAIN|XMLEXPR|TABLEFUNC|JSON[A-Z]*|SQLVALUEFUNCTION :op ([0-25-8]|14)) ', false)"
    return f"({any_of_them} > {custom} or {follows} or {converts})::int"


def _as_argument(name: str) -> str:
    """A column of names as `encode(tgargs, 'escape')` writes them: bytes beyond ASCII, and backslashes, have numbers there."""
    return f"pg_catalog.encode(pg_catalog.convert_to({name}::text, pg_catalog.getdatabaseencoding()), 'escape')"


QUERIES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "session": f"""
select pg_catalog.current_database(), current_user, pg_catalog.array_to_json({_ALL_SCHEMAS})::text,
       pg_catalog.current_setting('server_version_num'), {_PATH}""",
        "relations": """
select c.oid, n.nspname, c.relname, c.relkind, c.relrowsecurity::int,
       (c.relowner = (select oid from pg_catalog.pg_roles where rolname = current_user))::int
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S') and n.nspname !~ '^pg_(toast|temp)'""",
        "columns": """
select a.attrelid, a.attnum, a.attname, a.atttypid, (a.attgenerated <> '')::int,
       (a.attidentity <> '' or coalesce(d.adbin::text, t.typdefaultbin::text, '{CONST') !~ '^[{]CONST')::int,
       (a.attidentity <> '' or coalesce(d.adbin::text, t.typdefault) is not null)::int
from pg_catalog.pg_attribute a
join pg_catalog.pg_type t on t.oid = a.atttypid
left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum and a.attgenerated = ''
join pg_catalog.pg_class c on c.oid = a.attrelid join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where a.attnum > 0 and not a.attisdropped and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S') and n.nspname !~ '^pg_(toast|temp)'""",
        "views": f"""
with {_HELD}
select oid, case when pg_catalog.octet_length(definition) <= 524288 then definition end
from (select c.oid, case when c.oid not in (select relation from held) then pg_catalog.pg_get_viewdef(c.oid) end as definition
      from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
      where c.relkind in ('v', 'm') and c.oid >= 16384 and n.nspname !~ '^pg_(toast|temp)') as v""",  # noqa: S608 - a constant of this module
        "dependencies": """
select distinct r.ev_class, case when d.refclassid = 'pg_catalog.pg_class'::regclass then 'relation' else 'function' end,
       d.refobjid, d.refobjsubid
from pg_catalog.pg_rewrite r
join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_rewrite'::regclass and d.objid = r.oid
where d.refclassid in ('pg_catalog.pg_class'::regclass, 'pg_catalog.pg_proc'::regclass)
  and r.ev_type = '1' and r.ev_class >= 16384 and not (d.refobjid = r.ev_class)
union
select r.ev_class, 'function', o.oprcode::oid, 0
from pg_catalog.pg_rewrite r
join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_rewrite'::regclass and d.objid = r.oid
join pg_catalog.pg_operator o on d.refclassid = 'pg_catalog.pg_operator'::regclass and o.oid = d.refobjid
where r.ev_type = '1' and r.ev_class >= 16384
union
select r.ev_class, 'type', d.refobjid, 0
from pg_catalog.pg_rewrite r
join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_rewrite'::regclass and d.objid = r.oid
where d.refclassid = 'pg_catalog.pg_type'::regclass and d.refobjid >= 16384 and r.ev_type = '1' and r.ev_class >= 16384""",
        "policies": f"""
select distinct p.polrelid, d.refobjid, d.refobjsubid, (p.polcmd in ('r', '*'))::int
from pg_catalog.pg_policy p join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_policy'::regclass and d.objid = p.oid
where d.refclassid = 'pg_catalog.pg_class'::regclass and (
  d.refobjid <> p.polrelid or d.refobjsubid <> 0 or concat(p.polqual::text, p.polwithcheck::text) ~ ':varattno 0 ')
union
select polrelid, 0, 0, (polcmd in ('r', '*'))::int from pg_catalog.pg_policy
where {_is_open("concat(polqual::text, polwithcheck::text)")} = 1 or concat(polqual::text, polwithcheck::text) ~ ':relid [1-9]'
union
select polrelid, named[1]::oid, 0, (polcmd in ('r', '*'))::int from pg_catalog.pg_policy
cross join pg_catalog.regexp_matches(concat(polqual::text, polwithcheck::text), ':relid ([1-9][0-9]*)', 'g') as named
where concat(polqual::text, polwithcheck::text) ~ ':varattno 0 '""",  # noqa: S608 - constants of this module
        "parents": "select inhrelid, inhparent from pg_catalog.pg_inherits",
        "generated": f"""
select a.adrelid, a.adnum, d.refobjsubid
from pg_catalog.pg_attrdef a
join pg_catalog.pg_attribute t on t.attrelid = a.adrelid and t.attnum = a.adnum and t.attgenerated <> ''
join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_attrdef'::regclass and d.objid = a.oid
where d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjid = a.adrelid and d.refobjsubid not in (0, a.adnum)
union
select d.objid, d.objsubid, d.refobjsubid
from pg_catalog.pg_depend d
join pg_catalog.pg_attribute t on t.attrelid = d.objid and t.attnum = d.objsubid and t.attgenerated <> ''
where d.classid = 'pg_catalog.pg_class'::regclass and d.refclassid = 'pg_catalog.pg_class'::regclass
  and d.refobjid = d.objid and d.refobjsubid not in (0, d.objsubid)
union
select t.tgrelid, v.attnum, s.attnum
from pg_catalog.pg_trigger t join pg_catalog.pg_proc p on p.oid = t.tgfoid and p.oid < 16384 and p.proname ~ '^tsvector_update_trigger'
cross join lateral (select pg_catalog.string_to_array(pg_catalog.encode(t.tgargs, 'escape'), '\\000') as args) as a
join pg_catalog.pg_attribute v on v.attrelid = t.tgrelid and {_as_argument("v.attname")} = a.args[1]
join pg_catalog.pg_attribute s on s.attrelid = t.tgrelid and {_as_argument("s.attname")} = any(a.args[3:])
where {_OWN_TRIGGER} and tgenabled <> 'D'""",  # noqa: S608 - a constant of this module
        "functions": """
select p.oid, n.nspname, p.proname, l.lanname, p.provolatile, p.prosecdef::int, p.pronargs, (p.provariadic <> 0)::int, p.pronargdefaults,
       p.proretset::int,
       (select e.extname from pg_catalog.pg_depend d join pg_catalog.pg_extension e on e.oid = d.refobjid
        where d.classid = 'pg_catalog.pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e'
          and d.refclassid = 'pg_catalog.pg_extension'::regclass)
from pg_catalog.pg_proc p
join pg_catalog.pg_namespace n on n.oid = p.pronamespace join pg_catalog.pg_language l on l.oid = p.prolang
where p.oid >= 16384 and n.nspname !~ '^pg_temp'""",
        "operators": """
select n.nspname, o.oprname, o.oprcode::oid,
       (case o.oprname when '||' then least(o.oprleft, o.oprright) else o.oprleft end between 1 and 16383)::int
from pg_catalog.pg_operator o join pg_catalog.pg_namespace n on n.oid = o.oprnamespace
where o.oid >= 16384""",
        "hooks": f"""
with recursive {_CODE}, {_ALIKE}, h(relation, kind, function, events, transitions, columns, planned) as (
      select tgrelid, 'trigger', tgfoid, {_EVENTS}, pg_catalog.array_to_json(array[tgoldtable, tgnewtable])::text, {_CHOOSING}, 0
      from pg_catalog.pg_trigger t where {_OWN_TRIGGER} and tgenabled <> 'D'
      union select {_PLACES} from {_HOOKED} join code on code.classid = place.classid and code.objid = place.objid
        where place.kind <> 'condition' or not exists (
          select from pg_catalog.pg_trigger t where t.oid = place.objid and t.tgfoid = code.function)
      union {_TOLD})
select h.relation, h.kind, h.function, p.proname, n.nspname, l.lanname, p.prosecdef::int,
       case when l.lanname in ('sql', 'plpgsql') and pg_catalog.octet_length(p.prosrc) <= 65536 and {_SAME_PATH}
             and not (p.prosecdef and p.proowner not in (select oid from alike)) then p.prosrc end,
       h.events, h.transitions, (c.relowner in (select oid from alike))::int, h.columns, h.planned
from h join pg_catalog.pg_class c on c.oid = h.relation join pg_catalog.pg_proc p on p.oid = h.function and (p.oid >= 16384 or p.proname in ({_YIELDING}))
join pg_catalog.pg_namespace n on n.oid = p.pronamespace join pg_catalog.pg_language l on l.oid = p.prolang""",  # noqa: S608 - constants of this module
        "type_hooks": f"""
with recursive {_CODE}, places as materialized (select relation, kind, classid, objid from {_HOOKED}), typed as materialized (
      select classid, objid, refobjid as type from pg_catalog.pg_depend
      where refclassid = 'pg_catalog.pg_type'::regclass and refobjid >= 16384)
select place.relation, place.kind, typed.type from typed
join places place on place.classid = typed.classid and place.objid = typed.objid
union
select place.relation, place.kind, typed.type from typed
join code on typed.classid = 'pg_catalog.pg_proc'::regclass and typed.objid = code.function
join places place on place.classid = code.classid and place.objid = code.objid""",  # noqa: S608 - constants of this module
        "rules": f"""
with {_HELD}
select r.ev_class, r.rulename, case when pg_catalog.octet_length(d.definition) <= 524288 then d.definition end,
       case r.ev_type when '2' then 'u' when '3' then 'i' when '4' then 'd' end
from pg_catalog.pg_rewrite r cross join lateral (
    select case when r.ev_class not in (select relation from held) then pg_catalog.pg_get_ruledef(r.oid) end as definition) d
where r.ev_type <> '1' and r.ev_enabled <> 'D'""",  # noqa: S608 - a constant of this module
        "casts": f"""
with recursive {_CODE}
select n.nspname, t.typname, t.oid, c.castsource, c.castcontext, f.proname, l.lanname
from pg_catalog.pg_cast c join pg_catalog.pg_type t on t.oid = c.casttarget join pg_catalog.pg_namespace n on n.oid = t.typnamespace
join pg_catalog.pg_proc f on f.oid = c.castfunc join pg_catalog.pg_language l on l.oid = f.prolang
where c.castfunc >= 16384
union
select n.nspname, t.typname, t.oid, 0, 'd', f.proname, l.lanname
from pg_catalog.pg_type t join pg_catalog.pg_namespace n on n.oid = t.typnamespace
left join pg_catalog.pg_constraint c on c.contypid = t.oid
join code on code.classid = 'pg_catalog.pg_constraint'::regclass and code.objid = c.oid
  or code.classid = 'pg_catalog.pg_type'::regclass and code.objid = t.oid
join pg_catalog.pg_proc f on f.oid = code.function and f.oid >= 16384 join pg_catalog.pg_language l on l.oid = f.prolang
where t.typtype = 'd'
union
select n.nspname, t.typname, t.oid, 0, 'd', f.proname, l.lanname
from pg_catalog.pg_opclass c join pg_catalog.pg_type t on t.oid = c.opcintype join pg_catalog.pg_namespace n on n.oid = t.typnamespace
join support on support.family = c.opcfamily
join pg_catalog.pg_proc f on f.oid = support.function join pg_catalog.pg_language l on l.oid = f.prolang
where c.opcdefault and t.oid >= 16384""",  # noqa: S608 - a constant of this module
        "type_parts": """
select coalesce(c.contypid, d.objid), d.refobjid
from pg_catalog.pg_depend d
left join pg_catalog.pg_constraint c on d.classid = 'pg_catalog.pg_constraint'::regclass and c.oid = d.objid and c.contypid <> 0
where d.refclassid = 'pg_catalog.pg_type'::regclass and d.refobjid >= 16384
  and (d.classid = 'pg_catalog.pg_type'::regclass or c.oid is not null)""",
        "keys": """
select confrelid, conrelid, pg_catalog.array_to_json(conkey)::text, pg_catalog.array_to_json(confkey)::text, confdeltype, confupdtype
from pg_catalog.pg_constraint
where contype = 'f' and (confdeltype not in ('a', 'r') or confupdtype not in ('a', 'r'))""",
        "references": """
select conname, conrelid, pg_catalog.array_to_json(conkey)::text, confrelid, pg_catalog.array_to_json(confkey)::text, condeferrable::int
from pg_catalog.pg_constraint where contype = 'f' and conrelid >= 16384""",
        "partition_keys": """
select partrelid, pg_catalog.array_to_json(partattrs::int2[])::text from pg_catalog.pg_partitioned_table""",
        "indexes": """
select i.indexrelid::pg_catalog.regclass::text, i.indrelid, i.indnkeyatts, (i.indpred is not null)::int, i.indkey::text,
       array_to_json(array(select m[1] from pg_catalog.regexp_matches(i.indexprs::text, ':varattno (-?[0-9]+)', 'g') as m))::text,
       (i.indisunique and i.indimmediate and i.indisvalid and not i.indisexclusion and i.indpred is null and i.indexprs is null and not exists (
           select from pg_catalog.generate_series(0, i.indnkeyatts - 1) as k(at)
           join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[k.at]
           join pg_catalog.pg_opclass o on o.oid = i.indclass[k.at]
           where a.attcollation <> i.indcollation[k.at] or not o.opcdefault))::int,
       (select m.amname from pg_catalog.pg_class c join pg_catalog.pg_am m on m.oid = c.relam where c.oid = i.indexrelid),
       (i.indisunique or i.indisexclusion)::int,
       array_to_json(array(select m[1] from pg_catalog.regexp_matches(i.indpred::text, ':varattno (-?[0-9]+)', 'g') as m))::text,
       coalesce((pg_catalog.to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false)::int, (not i.indimmediate)::int
from pg_catalog.pg_index i
where i.indrelid >= 16384""",
        "conditions": f"""
select conrelid, 0, pg_catalog.array_to_json(conkey)::text, (contype <> 'f' and not convalidated or {_is_open("conbin::text")} = 1)::int
from pg_catalog.pg_constraint
where (contype = 'c' or contype = 'f' and cardinality(conkey) > 1 or contype = 'n' and not convalidated) and conrelid >= 16384 and conkey is not null
union all
select tgrelid, 1, pg_catalog.array_to_json(array(select m[1]::int from pg_catalog.regexp_matches(tgqual::text, ':varattno (-?[0-9]+)', 'g') as m))::text,
       {_is_open("tgqual::text")}
from pg_catalog.pg_trigger where tgqual is not null and {_OWN_TRIGGER} and tgenabled <> 'D'
union all
select t.tgrelid, 1, '[0]', 0 from pg_catalog.pg_trigger t
join pg_catalog.pg_proc p on p.oid = t.tgfoid and p.oid < 16384 and p.proname = 'suppress_redundant_updates_trigger'
where {_OWN_TRIGGER} and tgenabled <> 'D'
union all
select polrelid, 0, pg_catalog.array_to_json(array(
           select m[1]::int from pg_catalog.regexp_matches(concat(polqual::text, polwithcheck::text), ':varattno (-?[0-9]+)', 'g') as m))::text,
       {_is_open("concat(polqual::text, polwithcheck::text)")}
from pg_catalog.pg_policy
union all
select indrelid, 0, pg_catalog.array_to_json(array(select m[1]::int from pg_catalog.regexp_matches(indpred::text, ':varattno (-?[0-9]+)', 'g') as m))::text, 0
from pg_catalog.pg_index where indpred is not null and indrelid >= 16384
union all
select d.adrelid, 0, pg_catalog.array_to_json(array(select m[1]::int from pg_catalog.regexp_matches(d.adbin::text, ':varattno (-?[0-9]+)', 'g') as m))::text, 1
from pg_catalog.pg_attrdef d join pg_catalog.pg_attribute a on a.attrelid = d.adrelid and a.attnum = d.adnum and a.attgenerated <> ''
where {_is_open("d.adbin::text")} = 1""",  # noqa: S608 - constants of this module
        "costs": """
select name, setting from pg_catalog.pg_settings
where name in ('seq_page_cost', 'random_page_cost', 'cpu_tuple_cost', 'cpu_index_tuple_cost', 'cpu_operator_cost',
               'parallel_setup_cost', 'parallel_tuple_cost', 'jit_above_cost', 'jit_inline_above_cost', 'jit_optimize_above_cost')""",
        "primary_keys": """
select conrelid, pg_catalog.array_to_json(conkey)::text
from pg_catalog.pg_constraint
where contype = 'p' and conrelid >= 16384""",
        "types": """
select n.nspname, t.typname, t.typtype
from pg_catalog.pg_type t join pg_catalog.pg_namespace n on n.oid = t.typnamespace
where t.oid >= 16384 and t.typtype in ('b', 'd', 'e', 'r', 'm') and t.typelem = 0""",
        "shapes": """
select t.oid, t.typtype, t.typcategory, coalesce(e.oid, 0), coalesce(e.typdelim, ','), t.typbasetype, t.typrelid, n.nspname, t.typname,
       coalesce((select r.rngsubtype from pg_catalog.pg_range r
                 where r.rngtypid = t.oid or (pg_catalog.to_jsonb(r) ->> 'rngmultitypid')::oid = t.oid), 0)
from pg_catalog.pg_type t join pg_catalog.pg_namespace n on n.oid = t.typnamespace
left join pg_catalog.pg_type e on e.oid = t.typelem and e.typarray = t.oid
where t.oid >= 16384 and n.nspname !~ '^pg_(toast|temp)'""",
        "fields": """
select a.attrelid, a.attnum, a.attname, a.atttypid
from pg_catalog.pg_attribute a
join pg_catalog.pg_class c on c.oid = a.attrelid join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where a.attnum > 0 and not a.attisdropped and c.relkind = 'c' and n.nspname !~ '^pg_(toast|temp)'""",
    }
)
"""What the gateway asks, by name. Every value may be taken in text format; the order of rows does not matter.

16384 is `catalog.FIRST_NORMAL_OID` and 524288 is `MAX_VIEW_BYTES`; relations of temporary and TOAST schemas are left out."""
