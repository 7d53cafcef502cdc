//! The gate only saves time: judging every position without it finds the same.
use std::path::Path;
use std::sync::Arc;

use crate::checks::{iban_length, is_iban};
use crate::classes::View;
use crate::detectors::merge;
use crate::gate::MAX_HEX_BYTES;
use crate::secrets::{find_secret_run, is_aws_byte};
use crate::{detector_names, Counts, Detectors, Finding, StreamMasker};

fn scan_without_gate(detectors: &Detectors, hay: &[u8]) -> Vec<Finding> {
    let (mut progress, mut findings) = (detectors.begin(), Vec::new());
    let view = View {
        hay,
        is_complete: true,
    };
    detectors.judge_all(view, &mut progress, &mut findings);
    findings.sort_by_key(|finding| (finding.start, finding.detector));
    findings
}

fn samples() -> Vec<Vec<u8>> {
    let folder = Path::new("../../../tests/vectors/mask");
    let read = |path: &Path| {
        let bytes = std::fs::read(path).unwrap();
        let at = bytes
            .windows(7)
            .position(|window| window == b"\n-----\n")
            .unwrap();
        bytes[at + 7..].to_vec()
    };
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths.iter().map(|path| read(path)).collect()
}

/// A fixed sequence of numbers (xorshift), so that a failure is found again.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

#[test]
fn the_gate_hides_nothing() {
    const ROUNDS: usize = 10_000;
    const INSERTS: &[u8] = b"0123456789 -+().,:=@/_\"'\n\\aAeEyJxX";
    let names: Vec<&str> = detector_names().collect();
    let all = Detectors::new(&names, &[("own".into(), r"\bCASE-\d{4,8}\b".into())]).unwrap();
    let samples = samples();
    let mut numbers = Numbers(0x9E37_79B9_7F4A_7C15);
    for _ in 0..ROUNDS {
        let mut hay = Vec::new();
        for _ in 0..=numbers.below(3) {
            let sample = &samples[numbers.below(samples.len())];
            let start = numbers.below(sample.len());
            hay.extend_from_slice(&sample[if numbers.below(2) == 0 { start } else { 0 }..]);
        }
        for _ in 0..numbers.below(4) {
            let at = numbers.below(hay.len());
            match numbers.below(3) {
                0 => hay.insert(at, INSERTS[numbers.below(INSERTS.len())]),
                1 => hay[at] = INSERTS[numbers.below(INSERTS.len())],
                _ if hay.len() > 1 => drop(hay.remove(at)),
                _ => {}
            }
        }
        assert_eq!(
            all.scan(&hay),
            scan_without_gate(&all, &hay),
            "{:?}",
            String::from_utf8_lossy(&hay)
        );
    }
}

/// Values to be found, and others that only look like them; what announces one stands before it.
const PLANTED: [&str; 28] = [
    "4111111111111111",
    "4111-1111 1111-1111",
    "378282246310005",
    "4111111111111112",
    "DE89370400440532013000",
    "be68539007547034",
    "ad12 0001 2030 2003 5910 0100",
    "DE89370400440532013001",
    "123-45-6789",
    "ssn 123456789",
    "routing 021000021",
    "021000021 is the routing number",
    "account no. 12345678",
    "acct#12345678",
    "ann@example.com",
    "+49 170 1234567",
    "+1(212)555-0123",
    "212-555-0123",
    "(212) 555-0123",
    "1.212.555.0123",
    "AKIAIOSFODNN7EXAMPLE",
    "aws secret wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    "password=Tr0ub4dor-3x",
    "postgresql://copier:heron7@standby:5432/bank",
    "https://localhost:8080/path",
    "ghp_0123456789abcdef0123456789abcdef0123",
    "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE\n-----END EC PRIVATE KEY-----",
];

/// What stands between: nothing, and bytes that end a number, a word or a key, or do not.
const BORDERS: [&[u8]; 16] = [
    b"",
    b"",
    b"",
    b" ",
    b"-",
    b".",
    b"_",
    b"/",
    b"+",
    b"@",
    b"\n",
    b"\t",
    b"\"",
    b"{",
    b"\xC3\xA9",
    b"\0",
];

/// Random text of keys and digests, with values planted in it at borders of every kind or at none.
fn keyed_text(numbers: &mut Numbers, pieces: usize) -> Vec<u8> {
    const LETTERS: [&[u8]; 5] = [
        b"0123456789abcdef",
        b"0123456789ABCDEF",
        b"0123456789",
        b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789",
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
    ];
    const LENGTHS: [usize; 12] = [1, 2, 4, 8, 9, 12, 13, 16, 32, 39, 40, 64];
    let mut hay = Vec::new();
    for _ in 0..pieces {
        if numbers.below(3) == 0 {
            hay.extend_from_slice(PLANTED[numbers.below(PLANTED.len())].as_bytes());
        } else {
            let letters = LETTERS[numbers.below(LETTERS.len())];
            let length = LENGTHS[numbers.below(LENGTHS.len())] + numbers.below(2);
            hay.extend((0..length).map(|_| letters[numbers.below(letters.len())]));
        }
        hay.extend_from_slice(BORDERS[numbers.below(BORDERS.len())]);
    }
    hay
}

/// The text with every finding replaced, as [`Detectors::mask`] writes it, from findings made without the gate.
fn mask_without_gate(detectors: &Detectors, hay: &[u8]) -> Vec<u8> {
    let (mut out, mut copied) = (Vec::new(), 0);
    for span in merge(&scan_without_gate(detectors, hay)) {
        out.extend_from_slice(&hay[copied..span.start]);
        out.extend_from_slice(detectors.token(span.detector));
        copied = span.end;
    }
    out.extend_from_slice(&hay[copied..]);
    out
}

#[test]
fn the_gate_hides_nothing_among_keys_and_digests() {
    const ROUNDS: usize = 20_000;
    let names: Vec<&str> = detector_names().collect();
    let all = Detectors::new(&names, &[]).unwrap();
    let each: Vec<Detectors> = names
        .iter()
        .map(|name| Detectors::new(&[name], &[]).unwrap())
        .collect();
    let mut numbers = Numbers(0xD1B5_4A32_D192_ED03);
    let mut found = vec![0; names.len()];
    for round in 0..ROUNDS {
        let pieces = 1 + numbers.below(5);
        let hay = keyed_text(&mut numbers, pieces);
        let text = String::from_utf8_lossy(&hay);
        let findings = all.scan(&hay);
        assert_eq!(findings, scan_without_gate(&all, &hay), "{text:?}");
        assert!(findings.is_empty() || all.may_match(&hay), "{text:?}");
        for finding in findings {
            found[usize::from(finding.detector)] += 1;
        }
        let one = &each[round % each.len()];
        assert_eq!(one.scan(&hay), scan_without_gate(one, &hay), "{text:?}");
    }
    assert!(found.iter().all(|count| *count > ROUNDS / 100), "{found:?}");
}

#[test]
fn the_gate_hides_nothing_in_a_stream_of_keys_and_digests() {
    const ROUNDS: usize = 2_000;
    const PIECES: usize = 60;
    let names: Vec<&str> = detector_names().collect();
    let all = Arc::new(Detectors::new(&names, &[]).unwrap());
    let mut numbers = Numbers(0xA076_1D64_78BD_642F);
    for _ in 0..ROUNDS {
        let hay = keyed_text(&mut numbers, PIECES);
        let (mut masker, mut counts) = (StreamMasker::new(Arc::clone(&all)), Counts::default());
        let (mut out, mut rest) = (Vec::new(), hay.as_slice());
        while !rest.is_empty() {
            let most = if numbers.below(2) == 0 { 8 } else { 900 };
            let (chunk, after) = rest.split_at(1 + numbers.below(rest.len().min(most)));
            masker.feed(chunk, &mut out, &mut counts);
            rest = after;
        }
        masker.finish(&mut out, &mut counts);
        let text = String::from_utf8_lossy(&hay);
        assert_eq!(out, mask_without_gate(&all, &hay), "{text:?}");
    }
}

#[test]
fn the_gate_knows_the_countries_of_the_table() {
    let iban = Detectors::new(&["iban"], &[]).unwrap();
    let letters = (b'A'..=b'Z').chain(b'a'..=b'z');
    for (one, two) in letters
        .clone()
        .flat_map(|one| letters.clone().map(move |two| (one, two)))
    {
        let hay = [b"\t".as_slice(), &[one, two], b"00 ABCDE"].concat();
        assert_eq!(iban.may_match(&hay), iban_length(&[one, two]).is_some());
    }
}

/// An IBAN of hexadecimal digits alone, with right check digits.
fn hex_iban(numbers: &mut Numbers, country: &[u8; 2]) -> Vec<u8> {
    let length = iban_length(country).unwrap();
    let body: Vec<u8> = (4..length)
        .map(|_| b"0123456789abcdefABCDEF"[numbers.below(22)])
        .collect();
    (0..100)
        .map(|check| [country.as_slice(), format!("{check:02}").as_bytes(), &body].concat())
        .find(|characters| is_iban(characters))
        .unwrap()
}

#[test]
fn what_passes_for_a_digest_holds_nothing_to_find() {
    const ROUNDS: usize = 100_000;
    let names: Vec<&str> = detector_names().collect();
    let all = Detectors::new(&names, &[]).unwrap();
    let mut numbers = Numbers(0x8EBC_6AF0_9C88_C6E3);
    let letters: [&[u8]; 4] = [
        b"0123456789abcdef",
        b"0123456789ABCDEF",
        b"0123456789",
        b"0123456789abcdefABCDEF",
    ];
    for _ in 0..ROUNDS {
        let letters = letters[numbers.below(4)];
        let length = MAX_HEX_BYTES - 4 + numbers.below(70);
        let hay: Vec<u8> = (0..length)
            .map(|_| letters[numbers.below(letters.len())])
            .collect();
        let text = String::from_utf8_lossy(&hay);
        assert_eq!(all.scan(&hay), scan_without_gate(&all, &hay), "{text}");
        assert!(hay.len() <= MAX_HEX_BYTES || !all.may_match(&hay), "{text}");
    }
    // The longest that a country whose code is hexadecimal has, with one digit more it is none.
    let countries = (b'A'..=b'F').flat_map(|one| (b'A'..=b'F').map(move |two| [one, two]));
    let known: Vec<[u8; 2]> = countries
        .filter(|country| iban_length(country).is_some())
        .collect();
    let longest = known
        .iter()
        .filter_map(|country| iban_length(country))
        .max();
    assert_eq!(longest, Some(MAX_HEX_BYTES));
    for country in known.iter().cycle().take(1000) {
        let mut hay = hex_iban(&mut numbers, country);
        assert_eq!(all.scan(&hay).len(), 1);
        hay.push(b"0f"[numbers.below(2)]);
        assert_eq!(all.scan(&hay), scan_without_gate(&all, &hay));
    }
}

#[test]
fn a_pattern_of_the_configuration_is_looked_for_in_digests_too() {
    let own = Detectors::new(&["iban"], &[("own".into(), "[0-9a-f]{32}".into())]).unwrap();
    let hay = b"0123456789abcdef0123456789abcdef";
    assert!(own.may_match(hay));
    assert_eq!(own.scan(hay), scan_without_gate(&own, hay));
    assert_eq!(own.scan(hay).len(), 1);
}

/// Each detector alone, because another one that waits for more bytes would hide that it does not.
#[test]
fn a_value_behind_any_border_is_found_wherever_the_stream_is_cut() {
    let detectors = detector_names().map(|name| Arc::new(Detectors::new(&[name], &[]).unwrap()));
    let detectors: Vec<_> = detectors.collect();
    for (value, border) in PLANTED
        .iter()
        .flat_map(|value| BORDERS.map(|border| (value, border)))
    {
        for before in ["0 cafe".into(), "cafe".repeat(11)] {
            let hay = [before.as_bytes(), border, value.as_bytes(), b" 12ab34cd"].concat();
            for one in detectors.iter().filter(|one| one.may_match(&hay)) {
                assert_masked_at_every_cut(one, &hay);
            }
        }
    }
}

fn assert_masked_at_every_cut(detectors: &Arc<Detectors>, hay: &[u8]) {
    let whole = mask_without_gate(detectors, hay);
    for at in 0..hay.len() {
        let mut masker = StreamMasker::new(Arc::clone(detectors));
        let (mut out, mut counts) = (Vec::new(), Counts::default());
        masker.feed(&hay[..at], &mut out, &mut counts);
        masker.feed(&hay[at..], &mut out, &mut counts);
        masker.finish(&mut out, &mut counts);
        let text = String::from_utf8_lossy(hay);
        assert_eq!(
            out,
            whole,
            "{:?} in {text:?} cut at {at}",
            detectors.names()
        );
    }
}

#[test]
fn runs_as_long_as_a_secret_begin_where_a_plain_search_sees_them() {
    const RUN: usize = 40;
    let mut numbers = Numbers(0x2545_F491_4F6C_DD1D);
    for _ in 0..20_000 {
        let mut hay = vec![b'a'; numbers.below(190)];
        for _ in 0..numbers.below(4) {
            if !hay.is_empty() {
                let at = numbers.below(hay.len());
                hay[at] = b".A/9"[numbers.below(4)];
                if let Some(after) = hay.get_mut(at + RUN + 1) {
                    *after = b'.';
                }
            }
        }
        let from = numbers.below(hay.len() + 1);
        let is_key = |at: usize| hay.get(at).is_some_and(|byte| is_aws_byte(*byte));
        let is_secret = |at: &usize| {
            let run = &hay[*at..*at + RUN];
            (*at == 0 || !is_key(at - 1))
                && !is_key(at + RUN)
                && run.iter().all(|byte| is_aws_byte(*byte))
                && run.iter().any(u8::is_ascii_lowercase)
                && run.iter().any(u8::is_ascii_uppercase)
        };
        let plain = (from..(hay.len() + 1).saturating_sub(RUN)).find(is_secret);
        assert_eq!(find_secret_run(&hay, from), plain);
    }
}
