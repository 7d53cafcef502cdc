//! Reading names out of the tree.

use pg_query::protobuf as pb;
use pg_query::NodeEnum;

use crate::facts::Name;

/// PostgreSQL's own functions that return as many rows as their arguments say; sorted.
const RETURNS_SET: [&str; 40] = [
    "_pg_expandarray",
    "aclexplode",
    "generate_series",
    "generate_subscripts",
    "json_array_elements",
    "json_array_elements_text",
    "json_each",
    "json_each_text",
    "json_object_keys",
    "json_populate_recordset",
    "json_to_recordset",
    "jsonb_array_elements",
    "jsonb_array_elements_text",
    "jsonb_each",
    "jsonb_each_text",
    "jsonb_object_keys",
    "jsonb_path_query",
    "jsonb_path_query_tz",
    "jsonb_populate_recordset",
    "jsonb_to_recordset",
    "pg_extension_update_paths",
    "pg_get_publication_tables",
    "pg_mcv_list_items",
    "pg_options_to_table",
    "pg_partition_ancestors",
    "pg_partition_tree",
    "pg_snapshot_xip",
    "pg_stat_get_activity",
    "pg_stat_get_progress_info",
    "pg_stat_get_subscription",
    "pg_tablespace_databases",
    "regexp_matches",
    "regexp_split_to_table",
    "string_to_table",
    "ts_debug",
    "ts_parse",
    "ts_stat",
    "ts_token_type",
    "txid_snapshot_xip",
    "unnest",
];

/// Those that return as many rows whatever their arguments are; sorted. PostgreSQL 18 has all that earlier versions have, but for a few.
const RETURNS_OTHER_SET: [&str; 52] = [
    "pg_available_extension_versions",
    "pg_available_extensions",
    "pg_available_wal_summaries",
    "pg_config",
    "pg_cursor",
    "pg_event_trigger_ddl_commands",
    "pg_event_trigger_dropped_objects",
    "pg_get_aios",
    "pg_get_backend_memory_contexts",
    "pg_get_catalog_foreign_keys",
    "pg_get_keywords",
    "pg_get_loaded_modules",
    "pg_get_multixact_members",
    "pg_get_replication_slots",
    "pg_get_shmem_allocations",
    "pg_get_shmem_allocations_numa",
    "pg_get_wait_events",
    "pg_get_wal_resource_managers",
    "pg_hba_file_rules",
    "pg_ident_file_mappings",
    "pg_listening_channels",
    "pg_lock_status",
    "pg_logical_slot_get_binary_changes",
    "pg_logical_slot_get_changes",
    "pg_logical_slot_peek_binary_changes",
    "pg_logical_slot_peek_changes",
    "pg_ls_archive_statusdir",
    "pg_ls_dir",
    "pg_ls_logdir",
    "pg_ls_logicalmapdir",
    "pg_ls_logicalsnapdir",
    "pg_ls_replslotdir",
    "pg_ls_summariesdir",
    "pg_ls_tmpdir",
    "pg_ls_waldir",
    "pg_prepared_statement",
    "pg_prepared_xact",
    "pg_show_all_file_settings",
    "pg_show_all_settings",
    "pg_show_replication_origin_status",
    "pg_stat_get_backend_idset",
    "pg_stat_get_backend_io",
    "pg_stat_get_io",
    "pg_stat_get_recovery_prefetch",
    "pg_stat_get_slru",
    "pg_stat_get_wal_senders",
    "pg_stop_backup",
    "pg_timezone_abbrevs",
    "pg_timezone_abbrevs_abbrevs",
    "pg_timezone_abbrevs_zone",
    "pg_timezone_names",
    "pg_wal_summary_contents",
];

/// Whether a function's arguments decide how many rows there are.
pub(super) fn returns_set(name: &str) -> bool {
    RETURNS_SET.binary_search(&name).is_ok()
}

/// Whether a function returns several rows, whatever decides how many.
pub(super) fn returns_rows(name: &str) -> bool {
    returns_set(name) || RETURNS_OTHER_SET.binary_search(&name).is_ok()
}

/// The strings of a list of String nodes; other nodes are left out.
pub(super) fn strings(nodes: &[pb::Node]) -> Vec<String> {
    nodes
        .iter()
        .filter_map(|node| match &node.node {
            Some(NodeEnum::String(string)) => Some(string.sval.clone()),
            _ => None,
        })
        .collect()
}

/// The names of a column reference, and whether it ends in a star.
pub(super) fn fields(nodes: &[pb::Node]) -> (Vec<String>, bool) {
    let star = matches!(
        nodes.last().and_then(|node| node.node.as_ref()),
        Some(NodeEnum::AStar(_))
    );
    (strings(nodes), star)
}

/// The last two parts of a dotted name; a database in front can only be the current one.
pub(super) fn qualified(parts: &[String]) -> Option<Name> {
    match parts {
        [] => None,
        [name] => Some(Name {
            schema: None,
            name: name.clone(),
        }),
        [.., schema, name] => Some(Name {
            schema: Some(schema.clone()),
            name: name.clone(),
        }),
    }
}

/// A relation as written.
pub(super) fn range(range: &pb::RangeVar) -> Name {
    Name {
        schema: Some(range.schemaname.clone()).filter(|schema| !schema.is_empty()),
        name: range.relname.clone(),
    }
}

/// The name PostgreSQL gives an output without a label, where it is simply that of a function; `None` when not known.
pub(super) fn label_of(value: &pb::Node) -> Option<String> {
    match &value.node {
        // What is written as words calls functions of other names in other versions: EXTRACT is `date_part` before 14.
        Some(NodeEnum::FuncCall(call))
            if call.funcformat == pb::CoercionForm::CoerceSqlSyntax as i32 =>
        {
            None
        }
        Some(NodeEnum::FuncCall(call)) => strings(&call.funcname).pop(),
        // TRUE is `bool` before 15, and `1_000` an alias `_000`, which the tree does not tell from 1000.
        Some(NodeEnum::AConst(constant))
            if !matches!(
                constant.val,
                None | Some(pb::a_const::Val::Sval(_) | pb::a_const::Val::Bsval(_))
            ) =>
        {
            None
        }
        Some(NodeEnum::AExpr(expression))
            if expression.kind == pb::AExprKind::AexprNullif as i32 =>
        {
            Some("nullif".to_owned())
        }
        Some(
            NodeEnum::AConst(_)
            | NodeEnum::AExpr(_)
            | NodeEnum::BoolExpr(_)
            | NodeEnum::NullTest(_)
            | NodeEnum::ParamRef(_),
        ) => Some("?column?".to_owned()),
        _ => None,
    }
}

/// The name of the function a FROM item calls, which is its alias unless another is given.
pub(super) fn call_of(item: &pb::Node) -> Option<String> {
    match &item.node {
        Some(NodeEnum::List(list)) => list.items.first().and_then(call_of),
        Some(NodeEnum::FuncCall(_)) => label_of(item),
        Some(NodeEnum::SqlvalueFunction(value)) => name_of_value(value).map(str::to_owned),
        _ => None,
    }
}

/// What `current_date` and its like are called.
fn name_of_value(value: &pb::SqlValueFunction) -> Option<&'static str> {
    use pb::SqlValueFunctionOp as Op;
    Some(match Op::try_from(value.op).ok()? {
        Op::SvfopCurrentDate => "current_date",
        Op::SvfopCurrentTime | Op::SvfopCurrentTimeN => "current_time",
        Op::SvfopCurrentTimestamp | Op::SvfopCurrentTimestampN => "current_timestamp",
        Op::SvfopLocaltime | Op::SvfopLocaltimeN => "localtime",
        Op::SvfopLocaltimestamp | Op::SvfopLocaltimestampN => "localtimestamp",
        Op::SvfopCurrentRole => "current_role",
        Op::SvfopCurrentUser => "current_user",
        Op::SvfopUser => "user",
        Op::SvfopSessionUser => "session_user",
        Op::SvfopCurrentCatalog => "current_catalog",
        Op::SvfopCurrentSchema => "current_schema",
        Op::SqlvalueFunctionOpUndefined => return None,
    })
}
