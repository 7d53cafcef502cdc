//! What fills the templates of input documents: times, counters, the text and its parameters.
use sealgate_record::{push_string, Slot, Value, Values};

use crate::counters::Counters;
use crate::event::BoundParameter;
use crate::lesson::Gate;
use crate::masking::TextCheck;

/// Types whose binary form is read as text, as the host reads them: integers by their size, and text itself.
const BOOL: u32 = 16;
const INT8: u32 = 20;
const INT2: u32 = 21;
const INT4: u32 = 23;
const TEXTS: [u32; 5] = [19, 25, 114, 1042, 1043];

/// The member of the payload that holds parameters: detectors read a value with the name of what holds it.
const PARAMS: &str = "params";

pub(crate) struct InputFilling<'a> {
    pub gate: Gate,
    pub counters: &'a Counters,
    pub sql: &'a str,
    pub params: &'a [u8],
}

impl Values for InputFilling<'_> {
    fn value(&self, slot: Slot) -> Option<Value<'_>> {
        let [actions, refused, rows, bytes] = self.counters.read();
        Some(match slot {
            Slot::Now => Value::Time(self.gate.now_ns),
            Slot::NowNs => Value::Number(self.gate.now_ns),
            Slot::Actions => Value::Number(actions),
            Slot::Refused => Value::Number(refused),
            Slot::Rows => Value::Number(rows),
            Slot::Bytes => Value::Number(bytes),
            Slot::Text => Value::Text(self.sql),
            Slot::Params => Value::Json(self.params),
            _ => return None,
        })
    }
}

/// Appends parameters as the input document holds them; none when a detector finds something in one, or its type is not read here:
/// such an action is the host's.
pub(crate) fn push_params(
    out: &mut Vec<u8>,
    bound: &[BoundParameter],
    check: &dyn TextCheck,
) -> Option<()> {
    out.push(b'[');
    for (index, bound) in bound.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        let Some(bytes) = &bound.parameter.value else {
            out.extend_from_slice(b"null");
            continue;
        };
        if bound.parameter.format == 0 {
            let text = std::str::from_utf8(bytes).ok()?;
            push_checked(out, text, check)?;
            continue;
        }
        push_checked(out, &read_binary(bound.type_oid, bytes)?, check)?;
    }
    out.push(b']');
    Some(())
}

fn push_checked(out: &mut Vec<u8>, text: &str, check: &dyn TextCheck) -> Option<()> {
    if !check.is_clean(PARAMS, text.as_bytes()) {
        return None;
    }
    push_string(out, text);
    Some(())
}

fn read_binary(type_oid: u32, bytes: &[u8]) -> Option<String> {
    match type_oid {
        BOOL => match bytes {
            [0] => Some("f".to_owned()),
            [1] => Some("t".to_owned()),
            _ => None,
        },
        INT2 => Some(i16::from_be_bytes(bytes.try_into().ok()?).to_string()),
        INT4 => Some(i32::from_be_bytes(bytes.try_into().ok()?).to_string()),
        INT8 => Some(i64::from_be_bytes(bytes.try_into().ok()?).to_string()),
        oid if TEXTS.contains(&oid) => std::str::from_utf8(bytes).ok().map(str::to_owned),
        _ => None,
    }
}
