//! Speed of the hot paths, for a person to read: `cargo test --release -p sealgate-mask --test speed -- --ignored --nocapture`.
//! Nothing is asserted about time.
use std::sync::Arc;
use std::time::Instant;

use sealgate_mask::{
    detector_names, Apply, ColumnDesc, ColumnMask, CopyFormat, CopyOptions, CopyPlan, CopyStream,
    Counts, Detectors, RowPlan, Strategy, StreamMasker, Target,
};

const BYTES: usize = 50 << 20;
const ROWS: u32 = 1_000_000;
/// Of the measured rounds over keys the best counts: other programs only make one slower.
const ROUNDS: usize = 9;

/// What the configuration enables unless told otherwise.
const USUAL: [&str; 6] = ["payment_card", "ssn", "iban", "aws_key", "jwt", "pem_key"];

/// Log-like lines of about 100 bytes; every `rare`-th holds something to find.
fn text(rare: usize) -> Vec<u8> {
    let finds = [
        "card 4111 1111 1111 1111 declined",
        "mail ann@example.com bounced",
        "ssn 123-45-6789 on file",
    ];
    let mut out = Vec::with_capacity(BYTES + 200);
    let mut line = 0;
    while out.len() < BYTES {
        let find = if line % rare == 0 {
            finds[line / rare % finds.len()]
        } else {
            "and nothing else happened to it today"
        };
        let written = format!(
            "2024-05-{:02} 10:{:02}:{:02} INFO worker {} handled order {}, {find}\n",
            line % 28,
            line % 60,
            line % 59,
            line % 97,
            line
        );
        out.extend_from_slice(written.as_bytes());
        line += 1;
    }
    out
}

fn prose() -> Vec<u8> {
    b"The quick brown fox jumps over the lazy dog, and the account of it was written down by nobody in particular.\n".repeat(BYTES / 110)
}

fn row(number: u32) -> Vec<u8> {
    let cells = [
        number.to_string(),
        format!("person {number}"),
        format!(
            "{:03}-{:02}-{:04}",
            number % 899 + 1,
            number % 99 + 1,
            number % 9999 + 1
        ),
        "some ordinary remark of a clerk".into(),
        "12.50".into(),
        "2024-05-01 10:00:00".into(),
    ];
    let mut body = 6i16.to_be_bytes().to_vec();
    for cell in cells {
        body.extend_from_slice(&(cell.len() as i32).to_be_bytes());
        body.extend_from_slice(cell.as_bytes());
    }
    body
}

fn columns() -> Vec<ColumnDesc> {
    let types = [23, 25, 25, 25, 1700, 1114];
    types
        .iter()
        .map(|type_oid| ColumnDesc {
            type_oid: *type_oid,
            format: 0,
            name: String::new(),
        })
        .collect()
}

fn masks(strategy: Strategy) -> Vec<ColumnMask> {
    vec![ColumnMask {
        index: 2,
        strategy,
        rule: Arc::from("rule"),
        apply: Apply::Both,
        path: Vec::new(),
        shape: None,
        fills_null: false,
    }]
}

#[test]
#[ignore = "measures, asserts nothing"]
fn detectors_over_text() {
    let all: Vec<&str> = detector_names().collect();
    for (set, names) in [("usual", USUAL.to_vec()), ("all", all)] {
        let detectors = Arc::new(Detectors::new(&names, &[]).unwrap());
        for (kind, hay) in [
            ("prose", prose()),
            ("log lines, 1% findings", text(100)),
            ("log lines, 20% findings", text(5)),
        ] {
            let (mut out, mut counts) = (Vec::with_capacity(hay.len()), Counts::default());
            let start = Instant::now();
            detectors.mask(&hay, &mut out, &mut counts);
            let whole = hay.len() as f64 / 1e6 / start.elapsed().as_secs_f64();
            out.clear();
            let start = Instant::now();
            let mut masker = StreamMasker::new(Arc::clone(&detectors));
            for chunk in hay.chunks(16 << 10) {
                masker.feed(chunk, &mut out, &mut counts);
            }
            masker.finish(&mut out, &mut counts);
            let stream = hay.len() as f64 / 1e6 / start.elapsed().as_secs_f64();
            println!(
                "{set:5} {kind:24} whole {whole:6.0} MB/s, in 16 KiB chunks {stream:6.0} MB/s"
            );
        }
    }
}

#[test]
#[ignore = "measures, asserts nothing"]
fn rows_and_copies() {
    let rows: Vec<Vec<u8>> = (0..ROWS).map(row).collect();
    let all: Vec<&str> = detector_names().collect();
    for strategy in [Strategy::Null, Strategy::Redact, Strategy::Tokenize] {
        for (set, names) in [
            ("none", None),
            ("usual", Some(USUAL.to_vec())),
            ("all", Some(all.clone())),
        ] {
            let detectors = names.map(|names| Arc::new(Detectors::new(&names, &[]).unwrap()));
            let plan = RowPlan::new(columns(), masks(strategy), detectors, [1; 32]).unwrap();
            let (mut out, mut counts) = (Vec::with_capacity(64 << 10), Counts::default());
            let start = Instant::now();
            for row in &rows {
                if out.len() > 60 << 10 {
                    out.clear();
                }
                plan.apply(row, Target::Delivered, &mut out, &mut counts)
                    .unwrap();
            }
            println!(
                "row, {strategy:?}, detectors {set:5}: {:.3} us",
                start.elapsed().as_secs_f64()
            );
        }
    }
    let lines: Vec<u8> = (0..ROWS)
        .flat_map(|number| {
            format!("{number}\tperson {number}\t123-45-6789\tsome remark\t12.50\t2024-05-01\n")
                .into_bytes()
        })
        .collect();
    let plan = CopyPlan::new(
        CopyOptions::new(CopyFormat::Text),
        columns(),
        masks(Strategy::Redact),
        None,
        [1; 32],
    )
    .unwrap();
    let mut stream = CopyStream::new(Arc::new(plan), Target::Delivered);
    let (mut out, mut counts) = (Vec::new(), Counts::default());
    let start = Instant::now();
    for chunk in lines.chunks(8 << 10) {
        out.clear();
        stream.feed(chunk, &mut out, &mut counts).unwrap();
    }
    stream.finish().unwrap();
    println!(
        "COPY text row, Redact, detectors none: {:.3} us",
        start.elapsed().as_secs_f64()
    );
}

/// Hexadecimal and other random text: (kind, letters, groups of so many with a dash between).
const KEYS: [(&str, &[u8], &[usize]); 6] = [
    ("32 hexadecimal digits", b"0123456789abcdef", &[32]),
    ("40 hexadecimal digits", b"0123456789abcdef", &[40]),
    ("64 hexadecimal digits", b"0123456789abcdef", &[64]),
    ("64 of upper case", b"0123456789ABCDEF", &[64]),
    ("UUID", b"0123456789abcdef", &[8, 4, 4, 4, 12]),
    (
        "43 characters of base64",
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
        &[43],
    ),
];

/// Cells of one kind, the same in every run.
fn keys(letters: &[u8], groups: &[usize]) -> Vec<Vec<u8>> {
    const CELLS: usize = 20_000;
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut letter = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        letters[(state >> 33) as usize % letters.len()]
    };
    let mut cell = || {
        let parts = groups
            .iter()
            .map(|length| (0..*length).map(|_| letter()).collect::<Vec<u8>>());
        parts.collect::<Vec<_>>().join(&b'-')
    };
    (0..CELLS).map(|_| cell()).collect()
}

#[test]
#[ignore = "measures, asserts nothing"]
fn detectors_over_keys() {
    let all: Vec<&str> = detector_names().collect();
    let sets = [("usual", USUAL.to_vec()), ("all", all.clone())];
    let each = all.iter().map(|name| (*name, vec![*name]));
    for (kind, letters, groups) in KEYS {
        let cells = keys(letters, groups);
        for (set, names) in sets.iter().cloned().chain(each.clone()) {
            let column = ColumnDesc {
                type_oid: 25,
                format: 0,
                name: String::new(),
            };
            let detectors = Some(Arc::new(Detectors::new(&names, &[]).unwrap()));
            let plan = RowPlan::new(vec![column], vec![], detectors, [1; 32]).unwrap();
            let (mut out, mut counts) = (Vec::with_capacity(64 << 10), Counts::default());
            let mut body = Vec::new();
            let mut round = || {
                let start = Instant::now();
                for cell in &cells {
                    out.clear();
                    body.clear();
                    body.extend_from_slice(&[0, 1]);
                    body.extend_from_slice(&(cell.len() as i32).to_be_bytes());
                    body.extend_from_slice(cell);
                    plan.apply(&body, Target::Delivered, &mut out, &mut counts)
                        .unwrap();
                }
                start.elapsed().as_nanos() / cells.len() as u128
            };
            let best = (0..ROUNDS).map(|_| round()).min().unwrap();
            println!("{kind:24} {set:14} {best:6} ns a cell");
        }
    }
}
