//! Check digits and number rules, on digits and letters already stripped of separators.

/// Whether the ASCII digits pass the Luhn check (ISO/IEC 7812-1, annex B).
pub fn is_luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| {
            let value = u32::from(digit - b'0') << (place % 2);
            value / 10 + value % 10
        })
        .sum();
    sum % 10 == 0
}

/// Whether a payment network issues cards with this prefix and this many digits (13 to 19).
///
/// Without this, one in ten of all timestamps in milliseconds and serial numbers would pass for a card.
pub fn is_card_number(digits: &[u8]) -> bool {
    if digits.len() < 13 || digits.len() > 19 {
        return false;
    }
    let prefix = digits[..4]
        .iter()
        .fold(0u32, |value, digit| value * 10 + u32::from(digit - b'0'));
    match prefix {
        4000..=4999 => matches!(digits.len(), 13 | 16 | 18 | 19),
        2221..=2720 | 5100..=5599 => digits.len() == 16,
        3400..=3499 | 3700..=3799 => digits.len() == 15,
        3000..=3059 | 3095 | 3600..=3699 | 3800..=3999 => (14..=19).contains(&digits.len()),
        2200..=2204 | 3528..=3589 | 8100..=8171 => digits.len() >= 16,
        6000..=6999 => true,
        5000..=5099 | 5600..=5899 => true,
        _ => false,
    }
}

/// Whether nine digits can be a United States social security number: area not 000, 666 or 900 and above, group not 00,
/// serial not 0000.
pub fn is_ssn(digits: &[u8]) -> bool {
    digits.len() == 9
        && &digits[..3] != b"000"
        && &digits[..3] != b"666"
        && digits[0] != b'9'
        && &digits[3..5] != b"00"
        && &digits[5..] != b"0000"
}

/// Whether nine digits are an ABA routing number: weights 3 7 1, and a prefix the Federal Reserve has given out
/// (00-12 government and primary, 21-32 thrift, 61-72 electronic, 80 traveller's cheques).
pub fn is_aba(digits: &[u8]) -> bool {
    if digits.len() != 9 {
        return false;
    }
    let weighted = digits
        .iter()
        .zip([3u32, 7, 1].iter().cycle())
        .map(|(digit, weight)| u32::from(digit - b'0') * weight);
    let prefix = (digits[0] - b'0') * 10 + (digits[1] - b'0');
    matches!(prefix, 0..=12 | 21..=32 | 61..=72 | 80)
        && weighted.sum::<u32>() % 10 == 0
        && digits != b"000000000"
}

/// Characters of an IBAN by country, from the IBAN registry (ISO 13616).
const IBAN_LENGTHS: [(&[u8; 2], usize); 89] = [
    (b"AD", 24),
    (b"AE", 23),
    (b"AL", 28),
    (b"AT", 20),
    (b"AZ", 28),
    (b"BA", 20),
    (b"BE", 16),
    (b"BG", 22),
    (b"BH", 22),
    (b"BI", 27),
    (b"BR", 29),
    (b"BY", 28),
    (b"CH", 21),
    (b"CR", 22),
    (b"CY", 28),
    (b"CZ", 24),
    (b"DE", 22),
    (b"DJ", 27),
    (b"DK", 18),
    (b"DO", 28),
    (b"EE", 20),
    (b"EG", 29),
    (b"ES", 24),
    (b"FI", 18),
    (b"FK", 18),
    (b"FO", 18),
    (b"FR", 27),
    (b"GB", 22),
    (b"GE", 22),
    (b"GI", 23),
    (b"GL", 18),
    (b"GR", 27),
    (b"GT", 28),
    (b"HN", 28),
    (b"HR", 21),
    (b"HU", 28),
    (b"IE", 22),
    (b"IL", 23),
    (b"IQ", 23),
    (b"IS", 26),
    (b"IT", 27),
    (b"JO", 30),
    (b"KW", 30),
    (b"KZ", 20),
    (b"LB", 28),
    (b"LC", 32),
    (b"LI", 21),
    (b"LT", 20),
    (b"LU", 20),
    (b"LV", 21),
    (b"LY", 25),
    (b"MC", 27),
    (b"MD", 24),
    (b"ME", 22),
    (b"MK", 19),
    (b"MN", 20),
    (b"MR", 27),
    (b"MT", 31),
    (b"MU", 30),
    (b"NI", 28),
    (b"NL", 18),
    (b"NO", 15),
    (b"OM", 23),
    (b"PK", 24),
    (b"PL", 28),
    (b"PS", 29),
    (b"PT", 25),
    (b"QA", 29),
    (b"RO", 24),
    (b"RS", 22),
    (b"RU", 33),
    (b"SA", 24),
    (b"SC", 31),
    (b"SD", 18),
    (b"SE", 24),
    (b"SI", 19),
    (b"SK", 24),
    (b"SM", 27),
    (b"SO", 23),
    (b"ST", 25),
    (b"SV", 28),
    (b"TL", 23),
    (b"TN", 24),
    (b"TR", 26),
    (b"UA", 29),
    (b"VA", 22),
    (b"VG", 24),
    (b"XK", 20),
    (b"YE", 30),
];

/// How many characters an IBAN of this country has; none for a country without IBANs. Letters of either case.
pub fn iban_length(country: &[u8]) -> Option<usize> {
    let upper = [
        country.first()?.to_ascii_uppercase(),
        country.get(1)?.to_ascii_uppercase(),
    ];
    let at = IBAN_LENGTHS
        .binary_search_by(|(known, _)| known.as_slice().cmp(&upper))
        .ok()?;
    Some(IBAN_LENGTHS[at].1)
}

/// Whether the letters and digits leave remainder 1 modulo 97 once the first four are moved to the end (ISO 7064).
pub fn is_iban(characters: &[u8]) -> bool {
    if characters.len() < 5 || iban_length(characters) != Some(characters.len()) {
        return false;
    }
    let (head, rest) = characters.split_at(4);
    let remainder =
        rest.iter()
            .chain(head)
            .try_fold(0u32, |remainder, character| match character {
                b'0'..=b'9' => Some((remainder * 10 + u32::from(character - b'0')) % 97),
                b'A'..=b'Z' | b'a'..=b'z' => Some(
                    (remainder * 100 + u32::from(character.to_ascii_uppercase() - b'A') + 10) % 97,
                ),
                _ => None,
            });
    remainder == Some(1)
}

/// Shannon entropy of the bytes, in bits per byte.
pub fn entropy(bytes: &[u8]) -> f64 {
    let mut seen = [0u32; 256];
    for byte in bytes {
        seen[usize::from(*byte)] += 1;
    }
    let total = bytes.len() as f64;
    let part = |count: &u32| {
        let share = f64::from(*count) / total;
        -share * share.log2()
    };
    seen.iter().filter(|count| **count > 0).map(part).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_country_table_is_sorted() {
        assert!(IBAN_LENGTHS.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn known_numbers_pass_and_altered_ones_fail() {
        assert!(is_luhn(b"4111111111111111") && !is_luhn(b"4111111111111112"));
        assert!(is_card_number(b"4111111111111111") && is_card_number(b"378282246310005"));
        assert!(!is_card_number(b"1700000000000"));
        assert!(is_aba(b"021000021") && !is_aba(b"021000022") && !is_aba(b"000000000"));
        assert!(is_iban(b"GB82WEST12345698765432") && !is_iban(b"GB82WEST12345698765433"));
        assert!(is_iban(b"de89370400440532013000"));
        assert!(
            is_ssn(b"123456789")
                && !is_ssn(b"666456789")
                && !is_ssn(b"923456789")
                && !is_ssn(b"123006789")
        );
    }

    #[test]
    fn entropy_counts_bits() {
        assert_eq!(entropy(b"aaaa"), 0.0);
        assert_eq!(entropy(b"abcdefgh"), 3.0);
    }
}
