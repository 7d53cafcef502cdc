//! Arrays and composites in binary format, as array_send and record_send write them.
use crate::shape::Shape;
use crate::structure::{Structure, Touched, Unreadable, Wanted, Written};

/// Most dimensions of an array (MAXDIM).
const MAX_DIMENSIONS: i32 = 6;

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn word(&mut self) -> Result<u32, Unreadable> {
        let (head, rest) = self.rest.split_first_chunk::<4>().ok_or(Unreadable)?;
        self.rest = rest;
        Ok(u32::from_be_bytes(*head))
    }

    fn number(&mut self) -> Result<i32, Unreadable> {
        // Two's complement on the wire.
        Ok(self.word()? as i32)
    }

    /// A part behind its length; none for null.
    fn part(&mut self) -> Result<Option<&'a [u8]>, Unreadable> {
        let length = self.number()?;
        if length == -1 {
            return Ok(None);
        }
        let length = usize::try_from(length).map_err(|_| Unreadable)?;
        let (part, rest) = self.rest.split_at_checked(length).ok_or(Unreadable)?;
        self.rest = rest;
        Ok(Some(part))
    }

    fn finish(&self) -> Result<(), Unreadable> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Unreadable)
        }
    }
}

/// Writes one part behind its length; whether it is another than before, and whether it is null.
fn write_part(
    structure: &Structure,
    shape: &Shape,
    wanted: Wanted<'_>,
    part: Option<&[u8]>,
    out: &mut Vec<u8>,
    touched: &mut Touched,
) -> Result<(bool, bool), Unreadable> {
    let length_at = out.len();
    out.extend_from_slice(&(-1i32).to_be_bytes());
    let Some(part) = part else {
        return Ok((false, true));
    };
    let written = structure.part(shape, wanted, part, out, touched)?;
    match written {
        Written::Null => return Ok((true, true)),
        Written::Unchanged => out.extend_from_slice(part),
        Written::Replaced => {}
    }
    let length = i32::try_from(out.len() - length_at - 4).map_err(|_| Unreadable)?;
    out[length_at..length_at + 4].copy_from_slice(&length.to_be_bytes());
    Ok((written == Written::Replaced, false))
}

/// Appends an array with its elements masked; whether any was.
pub(crate) fn mask_array(
    structure: &Structure,
    element: &Shape,
    wanted: Wanted<'_>,
    value: &[u8],
    out: &mut Vec<u8>,
    touched: &mut Touched,
) -> Result<bool, Unreadable> {
    let mut reader = Reader { rest: value };
    let dimensions = reader.number()?;
    let has_null = reader.word()?;
    let type_oid = reader.word()?;
    if !(0..=MAX_DIMENSIONS).contains(&dimensions) || has_null > 1 || !element.is_named(type_oid) {
        return Err(Unreadable);
    }
    let mut count = usize::from(dimensions > 0);
    for _ in 0..dimensions {
        let length = usize::try_from(reader.number()?).map_err(|_| Unreadable)?;
        reader.number()?; // the lower bound may be any number
        count = count.checked_mul(length).ok_or(Unreadable)?;
    }
    let flag_at = out.len() + 4;
    out.extend_from_slice(&value[..value.len() - reader.rest.len()]);
    let mut is_changed = false;
    for index in 0..count {
        let part = reader.part()?;
        let inner = structure.element(wanted, (dimensions == 1).then_some(index));
        let (is_other, is_null) =
            write_part(structure, element, inner.wanted(), part, out, touched)?;
        is_changed |= is_other;
        if is_null {
            out[flag_at..flag_at + 4].copy_from_slice(&1u32.to_be_bytes());
        }
    }
    reader.finish()?;
    Ok(is_changed)
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
    let mut reader = Reader { rest: value };
    if usize::try_from(reader.number()?).ok() != Some(fields.len()) {
        return Err(Unreadable);
    }
    out.extend_from_slice(&value[..4]);
    let mut is_changed = false;
    for (name, shape) in fields {
        let type_oid = reader.word()?;
        if !shape.is_named(type_oid) {
            return Err(Unreadable);
        }
        out.extend_from_slice(&type_oid.to_be_bytes());
        let part = reader.part()?;
        let inner = structure.field(wanted, name);
        is_changed |= write_part(structure, shape, inner.wanted(), part, out, touched)?.0;
    }
    reader.finish()?;
    Ok(is_changed)
}
