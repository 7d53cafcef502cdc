select (select md5(string_agg(md5(query_to_xml(format('select * from %I.%I', n.nspname, c.relname), true, false, '')::text), '' order by c.oid))
        from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where c.relkind in ('r', 'm', 'S') and n.nspname in ('public', 'shadow')),
  (select md5(string_agg(t::text, '' order by t.oid)) from (select oid, relname, relkind, relacl, relowner, relrowsecurity, relpersistence, reloptions, relhasrules, relhastriggers from pg_class where relnamespace not in (select oid from pg_namespace where nspname like 'pg\_%')) t),
  (select md5(string_agg(t::text, '' order by t.oid)) from (select oid, proname, prosrc, proacl, prosecdef, proowner, proconfig from pg_proc where oid >= 16384) t),
  (select md5(string_agg(t::text, '' order by t.oid)) from (select oid, rolname, rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls, rolpassword, rolvaliduntil from pg_authid) t),
  (select md5(string_agg(t::text, '' order by t::text)) from (select roleid, member from pg_auth_members union all select setdatabase, setrole from pg_db_role_setting) t),
  (select md5(string_agg(t::text, '' order by t::text)) from (select attrelid, attnum, attname, atttypid, attnotnull, attacl from pg_attribute where attrelid >= 16384 and attrelid not in (select oid from pg_class where relnamespace in (select oid from pg_namespace where nspname like 'pg\_%')) and attnum > 0) t),
  (select md5(string_agg(t::text, '' order by t::text)) from (
     select oid, 'trigger' || tgname || tgenabled::text from pg_trigger union all select oid, 'policy' || polname from pg_policy
     union all select oid, 'rule' || rulename || ev_enabled::text from pg_rewrite where oid >= 16384 and ev_class not in (select oid from pg_class where relnamespace in (select oid from pg_namespace where nspname like 'pg\_t%')) union all select oid, 'extension' || extname from pg_extension
     union all select oid, 'event' || evtname from pg_event_trigger union all select oid, 'publication' || pubname from pg_publication
     union all select oid, 'server' || srvname from pg_foreign_server union all select oid, 'large' || lomowner from pg_largeobject_metadata
     union all select oid, 'operator' || oprname from pg_operator where oid >= 16384 union all select oid, 'type' || typname from pg_type where oid >= 16384 and typnamespace in (select oid from pg_namespace where nspname not like 'pg\_%')
     union all select oid, 'cast' || casttarget from pg_cast where oid >= 16384 union all select oid, 'language' || lanname from pg_language
     union all select oid, 'schema' || nspname || coalesce(nspacl::text, '') from pg_namespace where nspname not like 'pg\_t%' union all select 0, 'database' || datname || coalesce(datacl::text, '') from pg_database
     union all select objoid, 'comment' || description from pg_description where objoid >= 16384 union all select oid, 'constraint' || conname from pg_constraint where oid >= 16384 and conrelid not in (select oid from pg_class where relnamespace in (select oid from pg_namespace where nspname like 'pg\_t%'))
     union all select 0, 'label' || label from pg_seclabels union all select oid, 'default' || adnum::text from pg_attrdef where adrelid not in (select oid from pg_class where relnamespace in (select oid from pg_namespace where nspname like 'pg\_t%')) union all select oid, 'tablespace' || spcname from pg_tablespace) t),
  (select md5(coalesce(string_agg(data, '' order by loid, pageno), '')) from pg_largeobject),
  (select md5(string_agg(gid, '')) from pg_prepared_xacts),
  (select count(*) from pg_replication_slots),
  (select count(*) from pg_locks where locktype = 'advisory'),
  md5(pg_read_file('postgresql.auto.conf'))
