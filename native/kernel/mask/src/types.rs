//! What a PostgreSQL type can carry, by its OID and the format of the cell.
use crate::shape::FIRST_USER_OID;

/// One column of a described result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnDesc {
    /// OID of the type as RowDescription gives it; 0 where it is not known, as in COPY.
    pub type_oid: u32,
    /// 0 for text, 1 for binary.
    pub format: u16,
    /// The column's name, a hint for detectors that go by field name; empty where it is not known.
    pub name: String,
}

/// How a replacement value has to be written so that a client can still read the column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carrier {
    /// Any text is a value of this type.
    Text,
    /// A replacement must be a JSON string.
    Json,
    /// As `Json`, after the version byte of binary jsonb.
    BinaryJsonb,
    /// No replacement is a value of this type, so it becomes null.
    None,
}

/// How detectors read a cell that no mask covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Findings are replaced inside the text.
    Text,
    /// Findings are replaced so that the document stays JSON; the number says how many bytes come before it.
    Json(usize),
    /// The bytes are searched, and a finding makes the whole cell null: the type cannot carry a token.
    Opaque,
    /// Text form of bytea: decoded, then as `Opaque`.
    HexBytes,
    /// Binary integer of this many bytes: searched in its decimal form, then as `Opaque`.
    Integer(usize),
    /// The type's own syntax leaves no room for such a value (dates, booleans, uuid): not searched.
    Skip,
}

const BOOL: u32 = 16;
const BYTEA: u32 = 17;
const NAME: u32 = 19;
const INT8: u32 = 20;
const INT2: u32 = 21;
const INT4: u32 = 23;
const TEXT: u32 = 25;
const JSON: u32 = 114;
const XML: u32 = 142;
const UNKNOWN: u32 = 705;
const BPCHAR: u32 = 1042;
const VARCHAR: u32 = 1043;
const JSONB: u32 = 3802;

/// Types whose values follow a fixed syntax checked by the server: bool, oid family, macaddr, date, time, timestamp,
/// timestamptz, interval, timetz, uuid, pg_lsn, macaddr8.
const FIXED_SYNTAX: [u32; 15] = [
    BOOL, 26, 27, 28, 29, 829, 1082, 1083, 1114, 1184, 1186, 1266, 2950, 3220, 774,
];

/// Whether replacements for a type of PostgreSQL's own are written as text, as JSON, or not at all.
///
/// Types that are not text (numbers, dates, uuid, bytea, ranges, multiranges) carry nothing. A type that is not known carries text where
/// only texts are written (COPY), else nothing.
pub(crate) fn carrier(type_oid: u32, is_binary: bool) -> Carrier {
    match type_oid {
        TEXT | VARCHAR | BPCHAR | NAME | XML | UNKNOWN => Carrier::Text,
        JSON => Carrier::Json,
        JSONB if is_binary => Carrier::BinaryJsonb,
        JSONB => Carrier::Json,
        0 if !is_binary => Carrier::Text,
        _ => Carrier::None,
    }
}

/// How detectors read a cell of this type and format. A finding is replaced inside the text of a type of a user, whatever type that is:
/// its token has no character that arrays or composites give a meaning.
pub(crate) fn reading(column: &ColumnDesc) -> Reading {
    let is_binary = column.format != 0;
    match (carrier(column.type_oid, is_binary), column.type_oid) {
        (Carrier::Text, _) => Reading::Text,
        (Carrier::Json, _) => Reading::Json(0),
        (Carrier::BinaryJsonb, _) => Reading::Json(1),
        (Carrier::None, oid) if oid >= FIRST_USER_OID && !is_binary => Reading::Text,
        (Carrier::None, oid) if FIXED_SYNTAX.contains(&oid) => Reading::Skip,
        (Carrier::None, BYTEA) if !is_binary => Reading::HexBytes,
        (Carrier::None, INT2) if is_binary => Reading::Integer(2),
        (Carrier::None, INT4) if is_binary => Reading::Integer(4),
        (Carrier::None, INT8) if is_binary => Reading::Integer(8),
        (Carrier::None, _) => Reading::Opaque,
    }
}
