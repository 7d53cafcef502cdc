//! Rows of COPY in text and CSV format: where one ends, its fields, and writing a masked field back.
use crate::copy::{CopyFormat, CopyOptions};
use crate::row::{CellAction, Outcome, RowPlan, Target};
use crate::{Counts, MaskError};

/// How far the search for a row's end has come, so that no byte is looked at twice.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RowScan {
    at: usize,
    in_quotes: bool,
    is_escaped: bool,
}

/// Length of the first row with its line end; none while it is not there.
pub(crate) fn find_row_end(
    options: &CopyOptions,
    rest: &[u8],
    scan: &mut RowScan,
) -> Option<usize> {
    let is_csv = options.format == CopyFormat::Csv;
    for (place, byte) in rest.iter().enumerate().skip(scan.at) {
        if scan.is_escaped {
            scan.is_escaped = false;
            continue;
        }
        match *byte {
            b'\\' if !is_csv => scan.is_escaped = true,
            byte if is_csv
                && scan.in_quotes
                && byte == options.escape
                && options.escape != options.quote =>
            {
                // An escape counts only before a quote or another escape; before anything else it is a character, and skipping
                // that one changes nothing, because only a quote could.
                scan.is_escaped = true;
            }
            byte if is_csv && byte == options.quote => scan.in_quotes = !scan.in_quotes,
            b'\n' if !scan.in_quotes => {
                *scan = RowScan::default();
                return Some(place + 1);
            }
            _ => {}
        }
    }
    scan.at = rest.len();
    None
}

/// The row without its line end, and the line end.
fn split_line_end(row: &[u8]) -> (&[u8], &[u8]) {
    let length = match row {
        [.., b'\r', b'\n'] => 2,
        [.., b'\n'] => 1,
        _ => 0,
    };
    row.split_at(row.len() - length)
}

const WRONG_COUNT: MaskError =
    MaskError::Malformed("a row of COPY data whose column count is not that of its description");

/// Writes one row of text format with its cells masked; names of a header pass.
pub(crate) fn write_text_row(
    options: &CopyOptions,
    plan: &RowPlan,
    target: Target,
    is_names: bool,
    row: &[u8],
    out: &mut Vec<u8>,
    counts: &mut Counts,
) -> Result<(), MaskError> {
    let (line, line_end) = split_line_end(row);
    let actions = plan.actions(target);
    let (mut at, mut value, mut masked) = (0, Vec::new(), Vec::new());
    for (place, action) in actions.iter().enumerate() {
        if place > 0 {
            if line.get(at) != Some(&options.delimiter) {
                return Err(WRONG_COUNT);
            }
            out.push(options.delimiter);
            at += 1;
        }
        let end = text_field_end(line, at, options.delimiter);
        let raw = &line[at..end];
        at = end;
        let is_null = raw == options.null && !action.fills_null();
        if is_names || is_null || matches!(action, CellAction::Copy) {
            out.extend_from_slice(raw);
            continue;
        }
        value.clear();
        masked.clear();
        unescape(raw, &mut value)?;
        match plan.mask_cell(action, &value, &mut masked, counts) {
            Outcome::Unchanged => out.extend_from_slice(raw),
            Outcome::Null => out.extend_from_slice(&options.null),
            Outcome::Replaced => escape(&masked, options.delimiter, out),
        }
    }
    if at != line.len() {
        return Err(WRONG_COUNT);
    }
    out.extend_from_slice(line_end);
    Ok(())
}

fn text_field_end(line: &[u8], at: usize, delimiter: u8) -> usize {
    let mut end = at;
    while end < line.len() && line[end] != delimiter {
        end += if line[end] == b'\\' { 2 } else { 1 };
    }
    end.min(line.len())
}

/// The value of a text field: the backslash sequences of COPY, octal and hexadecimal ones too.
fn unescape(raw: &[u8], value: &mut Vec<u8>) -> Result<(), MaskError> {
    let mut at = 0;
    while at < raw.len() {
        if raw[at] != b'\\' {
            value.push(raw[at]);
            at += 1;
            continue;
        }
        let Some(kind) = raw.get(at + 1) else {
            return Err(MaskError::Malformed(
                "a backslash at the end of a COPY field",
            ));
        };
        at += 2;
        match kind {
            b'b' => value.push(8),
            b'f' => value.push(12),
            b'n' => value.push(b'\n'),
            b'r' => value.push(b'\r'),
            b't' => value.push(b'\t'),
            b'v' => value.push(11),
            b'0'..=b'7' => at = push_number(raw, at - 1, 3, 8, value),
            b'x' if raw.get(at).is_some_and(u8::is_ascii_hexdigit) => {
                at = push_number(raw, at, 2, 16, value)
            }
            other => value.push(*other),
        }
    }
    Ok(())
}

/// Reads up to `most` digits at `at` as one byte; the position behind them.
fn push_number(raw: &[u8], at: usize, most: usize, radix: u32, value: &mut Vec<u8>) -> usize {
    let digits = raw[at..]
        .iter()
        .take(most)
        .map_while(|byte| char::from(*byte).to_digit(radix));
    let (mut number, mut length) = (0u32, 0);
    for digit in digits {
        number = number * radix + digit;
        length += 1;
    }
    value.push((number & 0xff) as u8);
    at + length
}

fn escape(value: &[u8], delimiter: u8, out: &mut Vec<u8>) {
    for byte in value {
        let letter = match byte {
            8 => b'b',
            12 => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            11 => b'v',
            b'\\' => b'\\',
            byte if *byte == delimiter => *byte,
            plain => {
                out.push(*plain);
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', letter]);
    }
}

/// Writes one row of CSV with its cells masked. A replaced value is always quoted, so that it cannot be read as null.
pub(crate) fn write_csv_row(
    options: &CopyOptions,
    plan: &RowPlan,
    target: Target,
    is_names: bool,
    row: &[u8],
    out: &mut Vec<u8>,
    counts: &mut Counts,
) -> Result<(), MaskError> {
    let (line, line_end) = split_line_end(row);
    let actions = plan.actions(target);
    let (mut at, mut value, mut masked) = (0, Vec::new(), Vec::new());
    for (place, action) in actions.iter().enumerate() {
        if place > 0 {
            if line.get(at) != Some(&options.delimiter) {
                return Err(WRONG_COUNT);
            }
            out.push(options.delimiter);
            at += 1;
        }
        value.clear();
        masked.clear();
        let (end, is_quoted) = read_csv_field(options, line, at, &mut value)?;
        let raw = &line[at..end];
        at = end;
        let is_null = !is_quoted && raw == options.null && !action.fills_null();
        if is_names || is_null || matches!(action, CellAction::Copy) {
            out.extend_from_slice(raw);
            continue;
        }
        match plan.mask_cell(action, &value, &mut masked, counts) {
            Outcome::Unchanged => out.extend_from_slice(raw),
            Outcome::Null => out.extend_from_slice(&options.null),
            Outcome::Replaced => quote(options, &masked, out),
        }
    }
    if at != line.len() {
        return Err(WRONG_COUNT);
    }
    out.extend_from_slice(line_end);
    Ok(())
}

/// Appends the value of the field at `at`; its end, and whether any of it was quoted.
fn read_csv_field(
    options: &CopyOptions,
    line: &[u8],
    at: usize,
    value: &mut Vec<u8>,
) -> Result<(usize, bool), MaskError> {
    let (mut end, mut in_quotes, mut is_quoted) = (at, false, false);
    while end < line.len() {
        let byte = line[end];
        if in_quotes {
            let next = line.get(end + 1).copied();
            if byte == options.escape
                && next.is_some_and(|next| next == options.quote || next == options.escape)
            {
                value.push(next.unwrap_or_default());
                end += 2;
                continue;
            }
            if byte == options.quote {
                in_quotes = false;
            } else {
                value.push(byte);
            }
        } else if byte == options.quote {
            (in_quotes, is_quoted) = (true, true);
        } else if byte == options.delimiter {
            break;
        } else {
            value.push(byte);
        }
        end += 1;
    }
    if in_quotes {
        return Err(MaskError::Malformed(
            "a quote that is not closed in COPY data",
        ));
    }
    Ok((end, is_quoted))
}

fn quote(options: &CopyOptions, value: &[u8], out: &mut Vec<u8>) {
    out.push(options.quote);
    for byte in value {
        if *byte == options.quote || *byte == options.escape {
            out.push(options.escape);
        }
        out.push(*byte);
    }
    out.push(options.quote);
}
