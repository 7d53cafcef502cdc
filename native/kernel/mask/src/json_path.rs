//! Masks inside one JSON document: the values that paths cover are replaced, everything else stays byte for byte.
//!
//! The reader is strict (RFC 8259) and takes nothing on trust: a text that is not one JSON document, a name that cannot be read, or
//! nesting beyond the limit is `Unreadable`, and the caller makes the whole cell null. Every occurrence of a name is masked, and names
//! are compared as what they say, whatever escapes they are written with.
use std::borrow::Cow;

use crate::path::{Active, Cover, Paths};
use crate::strategy::{Strategy, REDACTED};
use crate::structure::{Touched, Unreadable};
use crate::types::Carrier;

/// Deepest nesting that is followed.
pub const MAX_JSON_DEPTH: usize = 256;

/// Appends the document with what `active` covers replaced; whether anything was.
pub(crate) fn mask_document(
    paths: &Paths,
    active: &Active,
    text: &[u8],
    out: &mut Vec<u8>,
    touched: &mut Touched,
) -> Result<bool, Unreadable> {
    // Checked once for the whole text, so that a string in it is one too.
    std::str::from_utf8(text).map_err(|_| Unreadable)?;
    let mut walk = Walk {
        paths,
        text,
        at: 0,
        copied: 0,
        out,
        touched,
    };
    walk.value(active, 0)?;
    walk.skip_blank();
    if walk.at != text.len() {
        return Err(Unreadable);
    }
    let is_changed = walk.copied > 0;
    walk.copy_to(text.len());
    Ok(is_changed)
}

struct Walk<'a> {
    paths: &'a Paths,
    text: &'a [u8],
    at: usize,
    /// How much of the text has been written or replaced.
    copied: usize,
    out: &'a mut Vec<u8>,
    touched: &'a mut Touched,
}

impl Walk<'_> {
    fn value(&mut self, active: &Active, depth: usize) -> Result<(), Unreadable> {
        if depth > MAX_JSON_DEPTH {
            return Err(Unreadable);
        }
        self.skip_blank();
        let start = self.at;
        let nothing = Active::new();
        match self.peek()? {
            b'{' => {
                let cover = self.paths.cover_object(active);
                self.object(if cover.is_some() { &nothing } else { active }, depth)?;
                self.replace(cover, start)
            }
            b'[' => {
                let cover = self.paths.cover(active);
                self.array(if cover.is_some() { &nothing } else { active }, depth)?;
                self.replace(cover, start)
            }
            b'"' => {
                self.string()?;
                self.replace(self.paths.cover_all(active), start)
            }
            b'n' => self.word(b"null"),
            b't' | b'f' => {
                let word: &[u8] = if self.peek()? == b't' {
                    b"true"
                } else {
                    b"false"
                };
                self.word(word)?;
                self.replace(self.paths.cover_all(active), start)
            }
            _ => {
                self.number()?;
                self.replace(self.paths.cover_all(active), start)
            }
        }
    }

    fn object(&mut self, active: &Active, depth: usize) -> Result<(), Unreadable> {
        self.at += 1;
        self.skip_blank();
        if self.peek()? == b'}' {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.skip_blank();
            let start = self.at;
            if self.peek()? != b'"' {
                return Err(Unreadable);
            }
            self.string()?;
            let member = if active.is_empty() {
                Active::new()
            } else {
                let name = unescape(&self.text[start + 1..self.at - 1])?;
                self.paths.member(active, &name)
            };
            self.skip_blank();
            self.word(b":")?;
            self.value(&member, depth + 1)?;
            if self.ends_list(b'}')? {
                return Ok(());
            }
        }
    }

    fn array(&mut self, active: &Active, depth: usize) -> Result<(), Unreadable> {
        self.at += 1;
        self.skip_blank();
        if self.peek()? == b']' {
            self.at += 1;
            return Ok(());
        }
        for index in 0.. {
            let element = self.paths.element(active, Some(index));
            self.value(&element, depth + 1)?;
            if self.ends_list(b']')? {
                break;
            }
        }
        Ok(())
    }

    /// Takes a comma, or the end of the list.
    fn ends_list(&mut self, end: u8) -> Result<bool, Unreadable> {
        self.skip_blank();
        let byte = self.peek()?;
        self.at += 1;
        match byte {
            b',' => Ok(false),
            byte if byte == end => Ok(true),
            _ => Err(Unreadable),
        }
    }

    /// Takes a string with its quotes, checking its escapes.
    fn string(&mut self) -> Result<(), Unreadable> {
        self.at += 1;
        loop {
            let byte = self.peek()?;
            self.at += 1;
            match byte {
                b'"' => return Ok(()),
                b'\\' => {
                    let kind = self.peek()?;
                    self.at += 1;
                    match kind {
                        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                        b'u' => {
                            let digits = self.text.get(self.at..self.at + 4).ok_or(Unreadable)?;
                            if !digits.iter().all(u8::is_ascii_hexdigit) {
                                return Err(Unreadable);
                            }
                            self.at += 4;
                        }
                        _ => return Err(Unreadable),
                    }
                }
                0..=0x1f => return Err(Unreadable),
                _ => {}
            }
        }
    }

    fn number(&mut self) -> Result<(), Unreadable> {
        if self.text.get(self.at) == Some(&b'-') {
            self.at += 1;
        }
        if self.text.get(self.at) == Some(&b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.text.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.text.get(self.at), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Unreadable> {
        let start = self.at;
        while self.text.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        if self.at == start {
            Err(Unreadable)
        } else {
            Ok(())
        }
    }

    fn word(&mut self, word: &[u8]) -> Result<(), Unreadable> {
        if !self.text[self.at..].starts_with(word) {
            return Err(Unreadable);
        }
        self.at += word.len();
        Ok(())
    }

    fn skip_blank(&mut self) {
        while matches!(self.text.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Result<u8, Unreadable> {
        self.text.get(self.at).copied().ok_or(Unreadable)
    }

    fn copy_to(&mut self, end: usize) {
        self.out.extend_from_slice(&self.text[self.copied..end]);
        self.copied = end;
    }

    /// Writes what stands in place of the value from `start` to here, where something covers it.
    fn replace(&mut self, cover: Option<Cover>, start: usize) -> Result<(), Unreadable> {
        let Some(cover) = cover else {
            return Ok(());
        };
        let end = self.at;
        self.copy_to(start);
        self.touched.note(cover.counted);
        let entry = self.paths.entry(cover.by);
        let raw = &self.text[start..end];
        let mut text = Vec::new();
        let is_text = match (raw.first(), entry.strategy) {
            (Some(b'"'), _) => entry.write(
                Carrier::Text,
                unescape(&raw[1..raw.len() - 1])?.as_bytes(),
                &mut text,
            ),
            // What a part of an object, an array or a truth value would be is not defined.
            (Some(b'{' | b'[' | b't' | b'f'), Strategy::Partial(_)) => {
                text.extend_from_slice(REDACTED);
                true
            }
            _ => entry.write(Carrier::Text, raw, &mut text),
        };
        if is_text {
            push_string(&text, self.out);
        } else {
            self.out.extend_from_slice(b"null");
        }
        self.copied = end;
        Ok(())
    }
}

/// What a string says, without its quotes. Half of a surrogate pair says nothing that could be compared.
fn unescape(raw: &[u8]) -> Result<Cow<'_, str>, Unreadable> {
    let text = std::str::from_utf8(raw).map_err(|_| Unreadable)?;
    if !text.contains('\\') {
        return Ok(Cow::Borrowed(text));
    }
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        plain.push_str(&rest[..at]);
        let kind = rest[at + 1..].chars().next().ok_or(Unreadable)?;
        rest = &rest[at + 1 + kind.len_utf8()..];
        plain.push(match kind {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let (character, length) = escaped(rest)?;
                rest = &rest[length..];
                character
            }
            other => other,
        });
    }
    plain.push_str(rest);
    Ok(Cow::Owned(plain))
}

/// The character whose four digits `rest` begins with, and the bytes taken: 10 for a surrogate pair.
fn escaped(rest: &str) -> Result<(char, usize), Unreadable> {
    let unit = |at: usize| {
        let digits = rest.get(at..at + 4).ok_or(Unreadable)?;
        u16::from_str_radix(digits, 16).map_err(|_| Unreadable)
    };
    let first = unit(0)?;
    if let Some(character) = char::from_u32(u32::from(first)) {
        return Ok((character, 4));
    }
    if rest.get(4..6) != Some("\\u") {
        return Err(Unreadable);
    }
    let pair = [first, unit(6)?];
    match char::decode_utf16(pair).next() {
        Some(Ok(character)) => Ok((character, 10)),
        _ => Err(Unreadable),
    }
}

fn push_string(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            0..=0x1f => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(*byte),
        }
    }
    out.push(b'"');
}
