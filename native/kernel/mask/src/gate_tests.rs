//! The gate only saves time: judging every position without it finds the same.
use std::path::Path;

use crate::classes::View;
use crate::secrets::{find_aws_run, is_aws_byte};
use crate::{detector_names, Detectors, Finding};

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
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/vectors/mask");
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

#[test]
fn runs_of_key_characters_begin_where_a_plain_search_sees_them() {
    const RUN: usize = 40;
    let mut numbers = Numbers(0x2545_F491_4F6C_DD1D);
    for _ in 0..2_000 {
        let mut hay = vec![b'a'; numbers.below(130)];
        for _ in 0..numbers.below(4) {
            if !hay.is_empty() {
                let at = numbers.below(hay.len());
                hay[at] = b'.';
            }
        }
        let from = numbers.below(hay.len() + 1);
        let plain = hay[from..]
            .windows(RUN)
            .position(|window| window.iter().all(|byte| is_aws_byte(*byte)))
            .map(|at| from + at);
        assert_eq!(find_aws_run(&hay, from), plain);
    }
}
