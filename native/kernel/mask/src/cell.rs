//! Detectors over one cell or field: what its name says about it, and how its type carries a token.
use std::sync::Arc;

use crate::checks::{is_aba, is_ssn};
use crate::detectors::{merge, Detectors, Finding};
use crate::types::Reading;
use crate::Counts;

/// What a column's or field's name says about its values: the detector that then takes the whole value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hint(Option<(u16, Kind)>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Account,
    Ssn,
    Routing,
    Phone,
    Secret,
}

/// What detectors made of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cell {
    /// Nothing found, nothing written.
    Clean,
    /// The masked form was written.
    Masked,
    /// Found in a type that cannot carry a token; nothing written.
    Withheld,
}

/// Words of a name, longest first where one holds another, and what they say.
const NAME_WORDS: [(&[&str], Kind); 5] = [
    (
        &[
            "account",
            "accounts",
            "acct",
            "accountnumber",
            "accountno",
            "acctno",
            "acctnum",
            "iban",
            "bban",
            "pan",
        ],
        Kind::Account,
    ),
    (
        &["ssn", "sin", "socialsecurity", "socialsecuritynumber"],
        Kind::Ssn,
    ),
    (&["routing", "aba", "rtn", "routingnumber"], Kind::Routing),
    (
        &["phone", "mobile", "telephone", "phonenumber", "fax"],
        Kind::Phone,
    ),
    (
        &[
            "password",
            "passwd",
            "pwd",
            "passphrase",
            "secret",
            "apikey",
            "token",
            "credential",
            "credentials",
        ],
        Kind::Secret,
    ),
];

/// Words that say the value is about the thing, not the thing: `account_type`, `token_count`, `account_created_at`,
/// `password_encryption`.
const NOT_THE_VALUE: [&str; 25] = [
    "id",
    "ids",
    "uuid",
    "type",
    "kind",
    "name",
    "status",
    "state",
    "balance",
    "count",
    "total",
    "created",
    "updated",
    "at",
    "date",
    "age",
    "limit",
    "currency",
    "owner",
    "manager",
    "length",
    "expires",
    "encryption",
    "algorithm",
    "method",
];

/// The most bytes of a value that a name alone marks; longer text is read by the detectors that look inside.
const MAX_NAMED_BYTES: usize = 512;

/// Lower-case words of a name: split at anything but letters and digits, and where camel case turns up.
fn name_words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut was_lower = false;
    for character in name.chars() {
        if !character.is_alphanumeric() || (character.is_uppercase() && was_lower) {
            words.push(String::new());
        }
        was_lower = character.is_lowercase() || character.is_numeric();
        if let (true, Some(word)) = (character.is_alphanumeric(), words.last_mut()) {
            word.extend(character.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

impl Kind {
    fn detector(self) -> &'static str {
        match self {
            Kind::Account => "account_number",
            Kind::Ssn => "ssn",
            Kind::Routing => "aba_routing",
            Kind::Phone => "phone",
            Kind::Secret => "generic_secret",
        }
    }

    /// Whether a value under such a name is what the name says.
    fn fits(self, value: &[u8]) -> bool {
        let value = value.trim_ascii();
        let digits: Vec<u8> = value.iter().copied().filter(u8::is_ascii_digit).collect();
        let only = |allowed: &[u8]| {
            value
                .iter()
                .all(|byte| byte.is_ascii_digit() || allowed.contains(byte))
        };
        match self {
            Kind::Account => {
                let is_plain = value
                    .iter()
                    .all(|byte| byte.is_ascii_alphanumeric() || b" -./*".contains(byte));
                is_plain && digits.len() >= 4 && value.len() <= 48
            }
            Kind::Ssn => only(b"- ") && is_ssn(&digits),
            Kind::Routing => only(b"- ") && is_aba(&digits),
            Kind::Phone => only(b"+-. ()/") && (7..=15).contains(&digits.len()),
            Kind::Secret => value.len() >= 4 && !value.starts_with(b"[masked:"),
        }
    }
}

impl Detectors {
    /// What `name` says, as far as the detectors concerned are enabled. `account_number` and `acctNo` say account;
    /// `account_type` says nothing.
    pub fn hint(&self, name: &str) -> Hint {
        let words = name_words(name);
        if words
            .iter()
            .any(|word| NOT_THE_VALUE.contains(&word.as_str()))
        {
            return Hint(None);
        }
        let joined = words.concat();
        let says = |known: &[&str]| {
            known
                .iter()
                .any(|known| joined == *known || words.iter().any(|word| word == known))
        };
        let kind = NAME_WORDS
            .iter()
            .filter(|(known, _)| says(known))
            .map(|(_, kind)| *kind);
        let is_api_key = joined.contains("apikey")
            || joined.contains("accesskey")
            || joined.contains("privatekey");
        let enabled = |kind: Kind| {
            let place = self
                .names()
                .iter()
                .position(|name| **name == *kind.detector())?;
            Some((u16::try_from(place).ok()?, kind))
        };
        Hint(
            kind.chain(is_api_key.then_some(Kind::Secret))
                .find_map(enabled),
        )
    }

    /// Appends the value of the field called `name` to `out` with every finding replaced; whether there was one.
    pub fn mask_field(
        &self,
        hint: Hint,
        value: &[u8],
        out: &mut Vec<u8>,
        counts: &mut Counts,
    ) -> bool {
        if self.mask_whole(hint, value, counts) {
            out.extend_from_slice(self.hint_token(hint));
            return true;
        }
        self.mask(value, out, counts)
    }

    fn hint_token(&self, hint: Hint) -> &[u8] {
        hint.0.map_or(b"", |(detector, _)| self.token(detector))
    }

    /// Whether the name gives the whole value away; counted when it does.
    fn mask_whole(&self, hint: Hint, value: &[u8], counts: &mut Counts) -> bool {
        match hint.0 {
            Some((detector, kind)) if value.len() <= MAX_NAMED_BYTES && kind.fits(value) => {
                counts.add_detected(&self.names()[usize::from(detector)]);
                true
            }
            _ => false,
        }
    }

    /// Quick answer whether [`Detectors::mask_cell`] could find anything.
    pub(crate) fn may_find(&self, reading: Reading, hint: Hint, cell: &[u8]) -> bool {
        match reading {
            Reading::Skip => false,
            Reading::HexBytes | Reading::Integer(_) => true,
            Reading::Text | Reading::Json(_) | Reading::Opaque => {
                hint.0.is_some() || self.may_match(cell)
            }
        }
    }

    /// Reads a cell as its type asks for, appending its masked form to `out` where something was found.
    pub(crate) fn mask_cell(
        &self,
        reading: Reading,
        hint: Hint,
        cell: &[u8],
        out: &mut Vec<u8>,
        counts: &mut Counts,
    ) -> Cell {
        match reading {
            Reading::Skip => Cell::Clean,
            Reading::Text => {
                let start = out.len();
                if self.mask_field(hint, cell, out, counts) {
                    return Cell::Masked;
                }
                out.truncate(start);
                Cell::Clean
            }
            Reading::Json(prefix) => self.mask_json(prefix, cell, out, counts),
            Reading::Opaque => self.search(hint, cell, counts),
            Reading::HexBytes => self.search(hint, &decode_hex(cell), counts),
            Reading::Integer(width) => match decode_integer(cell, width) {
                Some(value) => self.search(hint, value.to_string().as_bytes(), counts),
                None => self.search(hint, cell, counts),
            },
        }
    }

    fn search(&self, hint: Hint, value: &[u8], counts: &mut Counts) -> Cell {
        if self.mask_whole(hint, value, counts) {
            return Cell::Withheld;
        }
        let findings = self.scan(value);
        self.count(&findings, counts);
        if findings.is_empty() {
            Cell::Clean
        } else {
            Cell::Withheld
        }
    }

    /// Findings inside JSON strings are replaced in place; a bare number that holds one becomes a string as a whole.
    fn mask_json(
        &self,
        prefix: usize,
        cell: &[u8],
        out: &mut Vec<u8>,
        counts: &mut Counts,
    ) -> Cell {
        let Some((head, text)) = cell.split_at_checked(prefix) else {
            return Cell::Clean;
        };
        let findings = self.scan(text);
        if findings.is_empty() {
            return Cell::Clean;
        }
        self.count(&findings, counts);
        let start = out.len();
        out.extend_from_slice(head);
        let (mut copied, mut in_string) = (0, false);
        for span in merge(&findings) {
            let starts_in_string = is_in_string(&text[copied..span.start], in_string);
            let ends_in_string = is_in_string(&text[span.start..span.end], starts_in_string);
            if starts_in_string != ends_in_string {
                // The finding covers a border of the document, so no cut keeps it whole.
                out.truncate(start);
                return Cell::Withheld;
            }
            let span = if starts_in_string {
                span
            } else {
                widen_scalar(text, copied, span)
            };
            out.extend_from_slice(&text[copied..span.start]);
            let token = self.token(span.detector);
            if starts_in_string {
                out.extend_from_slice(token);
            } else {
                out.push(b'"');
                out.extend_from_slice(token);
                out.push(b'"');
            }
            (copied, in_string) = (span.end, ends_in_string);
        }
        out.extend_from_slice(&text[copied..]);
        Cell::Masked
    }

    /// Detector names with how often each is named by `findings`; for callers that show findings themselves.
    pub fn name_of(&self, finding: &Finding) -> &Arc<str> {
        &self.names()[usize::from(finding.detector)]
    }
}

/// Whether a JSON string is open after `text`, given whether one was before it.
fn is_in_string(text: &[u8], before: bool) -> bool {
    let mut in_string = before;
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' if in_string => {
                bytes.next();
            }
            b'"' => in_string = !in_string,
            _ => {}
        }
    }
    in_string
}

/// The whole number or bare word around a finding, not before `floor`.
fn widen_scalar(text: &[u8], floor: usize, span: Finding) -> Finding {
    let is_scalar = |byte: &&u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
    let before = text[floor..span.start]
        .iter()
        .rev()
        .take_while(is_scalar)
        .count();
    let after = text[span.end..].iter().take_while(is_scalar).count();
    Finding {
        start: span.start - before,
        end: span.end + after,
        ..span
    }
}

/// The bytes of `\x…`; of any other form (bytea_output = escape) the text as it is.
fn decode_hex(cell: &[u8]) -> Vec<u8> {
    let Some(digits) = cell.strip_prefix(b"\\x") else {
        return cell.to_vec();
    };
    let nibble = |digit: u8| char::from(digit).to_digit(16).map(|value| value as u8);
    let pairs = digits
        .chunks_exact(2)
        .map(|pair| Some(nibble(pair[0])? << 4 | nibble(pair[1])?));
    pairs
        .collect::<Option<Vec<u8>>>()
        .unwrap_or_else(|| cell.to_vec())
}

fn decode_integer(cell: &[u8], width: usize) -> Option<i64> {
    match width {
        2 => Some(i64::from(i16::from_be_bytes(cell.try_into().ok()?))),
        4 => Some(i64::from(i32::from_be_bytes(cell.try_into().ok()?))),
        _ => Some(i64::from_be_bytes(cell.try_into().ok()?)),
    }
}
