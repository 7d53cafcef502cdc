//! Arrays and composites in text format, exactly as array_out and record_out write them.
use crate::shape::Shape;
use crate::structure::{Structure, Touched, Unreadable, Wanted, Written};

/// Most dimensions of an array (MAXDIM).
const MAX_DIMENSIONS: usize = 6;

/// An element or field as it stands in the text.
struct Item {
    end: usize,
    /// What it says; none for null.
    value: Option<Vec<u8>>,
}

/// Appends an array with its elements masked; whether any was.
pub(crate) fn mask_array(
    structure: &Structure,
    element: &Shape,
    delimiter: u8,
    wanted: Wanted<'_>,
    value: &[u8],
    out: &mut Vec<u8>,
    touched: &mut Touched,
) -> Result<bool, Unreadable> {
    let mut at = bounds_length(value)?;
    out.extend_from_slice(&value[..at]);
    // With nested braces an element's place among its neighbours is not what an index means.
    let is_flat = value.get(at) == Some(&b'{') && value.get(at + 1) != Some(&b'{');
    let (mut depth, mut index, mut is_changed) = (0usize, 0usize, false);
    let mut awaits_item = true;
    loop {
        let byte = *value.get(at).ok_or(Unreadable)?;
        match byte {
            b'{' if awaits_item && depth < MAX_DIMENSIONS => {
                depth += 1;
                out.push(byte);
                at += 1;
                if value.get(at) == Some(&b'}') {
                    // `{}` is the whole text of an array without elements.
                    awaits_item = false;
                }
            }
            b'}' if !awaits_item && depth > 0 => {
                depth -= 1;
                out.push(byte);
                at += 1;
                if depth == 0 {
                    break;
                }
            }
            byte if byte == delimiter && !awaits_item => {
                awaits_item = true;
                out.push(byte);
                at += 1;
            }
            _ if awaits_item && depth > 0 => {
                let item = read_element(value, at, delimiter)?;
                let raw = &value[at..item.end];
                let inner = structure.element(wanted, is_flat.then_some(index));
                is_changed |= write_item(
                    structure,
                    element,
                    inner.wanted(),
                    raw,
                    &item,
                    b"NULL",
                    push_quoted_element,
                    out,
                    touched,
                )?;
                (at, index, awaits_item) = (item.end, index + 1, false);
            }
            _ => return Err(Unreadable),
        }
    }
    if at == value.len() {
        Ok(is_changed)
    } else {
        Err(Unreadable)
    }
}

/// Bytes of `[l:u][l:u]=`, which stands before an array whose indexes do not begin at 1.
fn bounds_length(value: &[u8]) -> Result<usize, Unreadable> {
    if value.first() != Some(&b'[') {
        return Ok(0);
    }
    let end = value
        .iter()
        .position(|byte| *byte == b'=')
        .ok_or(Unreadable)?;
    let is_bound = |byte: &u8| byte.is_ascii_digit() || b"[]:-".contains(byte);
    if value[..end].iter().all(is_bound) {
        Ok(end + 1)
    } else {
        Err(Unreadable)
    }
}

fn read_element(text: &[u8], at: usize, delimiter: u8) -> Result<Item, Unreadable> {
    if text.get(at) == Some(&b'"') {
        let mut value = Vec::new();
        let mut end = at + 1;
        loop {
            match *text.get(end).ok_or(Unreadable)? {
                b'"' => break,
                b'\\' => {
                    value.push(*text.get(end + 1).ok_or(Unreadable)?);
                    end += 2;
                }
                byte => {
                    value.push(byte);
                    end += 1;
                }
            }
        }
        return Ok(Item {
            end: end + 1,
            value: Some(value),
        });
    }
    let mut end = at;
    while let Some(byte) = text.get(end) {
        match *byte {
            b'}' => break,
            byte if byte == delimiter => break,
            b'{' | b'"' | b'\\' | b' ' | 9..=13 => return Err(Unreadable),
            _ => end += 1,
        }
    }
    let raw = &text[at..end];
    if raw.is_empty() {
        return Err(Unreadable);
    }
    let value = (!raw.eq_ignore_ascii_case(b"null")).then(|| raw.to_vec());
    Ok(Item { end, value })
}

/// Appends a composite with its fields masked; whether any was.
pub(crate) fn mask_composite(
    structure: &Structure,
    fields: &[(String, Shape)],
    wanted: Wanted<'_>,
    value: &[u8],
    out: &mut Vec<u8>,
    touched: &mut Touched,
) -> Result<bool, Unreadable> {
    structure.check_fields(wanted, fields)?;
    if value.first() != Some(&b'(') {
        return Err(Unreadable);
    }
    out.push(b'(');
    let (mut at, mut is_changed) = (1, false);
    for (place, (name, shape)) in fields.iter().enumerate() {
        if place > 0 {
            if value.get(at) != Some(&b',') {
                return Err(Unreadable);
            }
            out.push(b',');
            at += 1;
        }
        let item = read_field(value, at)?;
        let raw = &value[at..item.end];
        at = item.end;
        let inner = structure.field(wanted, name);
        is_changed |= write_item(
            structure,
            shape,
            inner.wanted(),
            raw,
            &item,
            b"",
            push_quoted_field,
            out,
            touched,
        )?;
    }
    if value.get(at..) != Some(b")") {
        return Err(Unreadable);
    }
    out.push(b')');
    Ok(is_changed)
}

fn read_field(text: &[u8], at: usize) -> Result<Item, Unreadable> {
    if text.get(at) == Some(&b'"') {
        let mut value = Vec::new();
        let mut end = at + 1;
        loop {
            let byte = *text.get(end).ok_or(Unreadable)?;
            let next = text.get(end + 1).copied();
            match byte {
                b'"' if next == Some(b'"') => {
                    value.push(b'"');
                    end += 2;
                }
                b'"' => break,
                b'\\' => {
                    value.push(next.ok_or(Unreadable)?);
                    end += 2;
                }
                byte => {
                    value.push(byte);
                    end += 1;
                }
            }
        }
        return Ok(Item {
            end: end + 1,
            value: Some(value),
        });
    }
    let mut end = at;
    while let Some(byte) = text.get(end) {
        match *byte {
            b',' | b')' => break,
            b'(' | b'"' | b'\\' | b' ' | 9..=13 => return Err(Unreadable),
            _ => end += 1,
        }
    }
    let raw = &text[at..end];
    let value = (!raw.is_empty()).then(|| raw.to_vec());
    Ok(Item { end, value })
}

/// Writes an element or field; whether it is another than before.
#[allow(clippy::too_many_arguments)] // one call for elements and one for fields, which differ in null and quotes only
fn write_item(
    structure: &Structure,
    shape: &Shape,
    wanted: Wanted<'_>,
    raw: &[u8],
    item: &Item,
    null: &[u8],
    push_quoted: fn(&[u8], &mut Vec<u8>),
    out: &mut Vec<u8>,
    touched: &mut Touched,
) -> Result<bool, Unreadable> {
    let mut masked = Vec::new();
    let written = match &item.value {
        None => Written::Unchanged,
        Some(value) => structure.part(shape, wanted, value, &mut masked, touched)?,
    };
    match written {
        Written::Unchanged => out.extend_from_slice(raw),
        Written::Null => out.extend_from_slice(null),
        Written::Replaced => push_quoted(&masked, out),
    }
    Ok(written != Written::Unchanged)
}

fn push_quoted_element(value: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in value {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    out.push(b'"');
}

fn push_quoted_field(value: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in value {
        if matches!(byte, b'"' | b'\\') {
            out.push(*byte);
        }
        out.push(*byte);
    }
    out.push(b'"');
}
