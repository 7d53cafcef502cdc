//! Detectors, streams, rows and COPY data over arbitrary bytes: no panic, and no cut of a stream changes its masked form.
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use sealgate_mask::{
    detector_names, Apply, ColumnDesc, ColumnMask, CopyFormat, CopyOptions, CopyPlan, CopyStream, Counts, Detectors, RowPlan, Strategy,
    StreamMasker, Target,
};

static DETECTORS: LazyLock<Arc<Detectors>> = LazyLock::new(|| {
    let names: Vec<&str> = detector_names().collect();
    Arc::new(Detectors::new(&names, &[("own".into(), r"\bCASE-\d{4,8}\b".into())]).expect("built-in names and a bounded pattern"))
});

fn columns(format: u16) -> Vec<ColumnDesc> {
    [25, 3802, 20].iter().map(|type_oid| ColumnDesc { type_oid: *type_oid, format, name: "acct".into() }).collect()
}

fn masks() -> Vec<ColumnMask> {
    vec![ColumnMask { index: 1, strategy: Strategy::Hash, rule: Arc::from("rule"), apply: Apply::Both, path: Vec::new(), shape: None, fills_null: false }]
}

fuzz_target!(|input: (u8, Vec<u8>)| {
    let (size, data) = input;
    let size = usize::from(size).max(1);

    let (mut whole, mut whole_counts) = (Vec::new(), Counts::default());
    DETECTORS.mask(&data, &mut whole, &mut whole_counts);
    let (mut cut, mut cut_counts) = (Vec::new(), Counts::default());
    let mut masker = StreamMasker::new(Arc::clone(&DETECTORS));
    for chunk in data.chunks(size) {
        masker.feed(chunk, &mut cut, &mut cut_counts);
    }
    masker.finish(&mut cut, &mut cut_counts);
    assert_eq!(whole, cut);
    assert_eq!(whole_counts.detected(), cut_counts.detected());

    for format in [0, 1] {
        let plan = RowPlan::new(columns(format), masks(), Some(Arc::clone(&DETECTORS)), [1; 32]).expect("a plan for three columns");
        let _ = plan.apply(&data, Target::Record, &mut Vec::new(), &mut Counts::default());
    }
    for format in [CopyFormat::Text, CopyFormat::Csv, CopyFormat::Binary] {
        let run = |size: usize| {
            let options = CopyOptions { max_row_bytes: 256, ..CopyOptions::new(format) };
            let plan = CopyPlan::new(options, columns(0), masks(), Some(Arc::clone(&DETECTORS)), [1; 32]).expect("a plan for three columns");
            let mut stream = CopyStream::new(Arc::new(plan), Target::Delivered);
            let mut out = Vec::new();
            let fed = data.chunks(size).try_for_each(|chunk| stream.feed(chunk, &mut out, &mut Counts::default()));
            fed.and_then(|()| stream.finish()).map(|()| out)
        };
        // Where the data is good in one piece it is good in many, and the same.
        if let Ok(whole) = run(data.len().max(1)) {
            assert_eq!(run(size), Ok(whole));
        }
    }
});
