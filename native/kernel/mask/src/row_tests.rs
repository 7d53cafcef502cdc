//! Rows: every strategy over every family of types, both formats, both targets.
use std::sync::Arc;

use super::*;

fn body(cells: &[Option<&[u8]>]) -> Vec<u8> {
    let mut body = (cells.len() as u16).to_be_bytes().to_vec();
    for cell in cells {
        match cell {
            None => body.extend_from_slice(&(-1i32).to_be_bytes()),
            Some(bytes) => {
                body.extend_from_slice(&(bytes.len() as i32).to_be_bytes());
                body.extend_from_slice(bytes);
            }
        }
    }
    body
}

fn column(type_oid: u32, format: u16) -> ColumnDesc {
    ColumnDesc {
        type_oid,
        format,
        name: String::new(),
    }
}

fn mask(index: u16, strategy: Strategy, rule: &str, apply: Apply) -> ColumnMask {
    ColumnMask {
        index,
        strategy,
        rule: Arc::from(rule),
        apply,
        path: Vec::new(),
        shape: None,
        fills_null: false,
    }
}

fn run(
    columns: &[ColumnDesc],
    masks: &[ColumnMask],
    row: &[u8],
    target: Target,
) -> (Vec<u8>, Counts) {
    let plan = RowPlan::new(columns.to_vec(), masks.to_vec(), None, [7; 32]).unwrap();
    let (mut out, mut counts) = (Vec::new(), Counts::default());
    plan.apply(row, target, &mut out, &mut counts).unwrap();
    (out, counts)
}

#[test]
fn null_and_redact_replace_one_cell_and_leave_the_others() {
    let columns = [column(25, 0), column(25, 0), column(23, 0)];
    let row = body(&[Some(b"a"), Some(b"secret"), Some(b"42")]);
    let (out, counts) = run(
        &columns,
        &[mask(1, Strategy::Redact, "r", Apply::Both)],
        &row,
        Target::Delivered,
    );
    assert_eq!(out, body(&[Some(b"a"), Some(b"[redacted]"), Some(b"42")]));
    assert_eq!(counts.masked()["r"], 1);
    let (out, _) = run(
        &columns,
        &[mask(2, Strategy::Redact, "r", Apply::Both)],
        &row,
        Target::Delivered,
    );
    assert_eq!(
        out,
        body(&[Some(b"a"), Some(b"secret"), None]),
        "a number cannot carry a text"
    );
    let (out, _) = run(
        &columns,
        &[mask(0, Strategy::Drop, "r", Apply::Both)],
        &row,
        Target::Delivered,
    );
    assert_eq!(out, body(&[None, Some(b"secret"), Some(b"42")]));
}

#[test]
fn a_mask_for_the_record_leaves_the_delivered_row() {
    let row = body(&[Some(b"secret")]);
    let masks = [mask(0, Strategy::Null, "r", Apply::Record)];
    assert_eq!(
        run(&[column(25, 0)], &masks, &row, Target::Delivered).0,
        row
    );
    assert_eq!(
        run(&[column(25, 0)], &masks, &row, Target::Record).0,
        body(&[None])
    );
}

#[test]
fn the_more_destructive_strategy_wins_in_any_order() {
    let row = body(&[Some(b"1234567890")]);
    let partial = |n| Strategy::Partial(Partial::KeepLast(n));
    let ordered = [
        Strategy::Null,
        Strategy::Redact,
        Strategy::Tokenize,
        Strategy::Hash,
        partial(2),
    ];
    for (at, one) in ordered.iter().enumerate() {
        for two in &ordered[at..] {
            let (one, two) = (
                mask(0, *one, "a", Apply::Both),
                mask(0, *two, "b", Apply::Both),
            );
            let alone = run(
                &[column(25, 0)],
                std::slice::from_ref(&one),
                &row,
                Target::Delivered,
            );
            assert_eq!(
                run(
                    &[column(25, 0)],
                    &[one.clone(), two.clone()],
                    &row,
                    Target::Delivered
                ),
                alone
            );
            assert_eq!(
                run(&[column(25, 0)], &[two, one], &row, Target::Delivered),
                alone
            );
        }
    }
    let two = [
        mask(0, partial(2), "a", Apply::Both),
        mask(0, partial(3), "b", Apply::Both),
    ];
    assert_eq!(
        run(&[column(25, 0)], &two, &row, Target::Delivered).0,
        body(&[Some(b"[redacted]")])
    );
}

#[test]
fn json_stays_json_and_binary_jsonb_keeps_its_version() {
    let row = body(&[Some(b"{\"a\":1}")]);
    let redact = [mask(0, Strategy::Redact, "r", Apply::Both)];
    assert_eq!(
        run(&[column(114, 0)], &redact, &row, Target::Delivered).0,
        body(&[Some(b"\"[redacted]\"")])
    );
    let row = body(&[Some(b"\x01{\"a\":1}")]);
    assert_eq!(
        run(&[column(3802, 1)], &redact, &row, Target::Delivered).0,
        body(&[Some(b"\x01\"[redacted]\"")])
    );
}

#[test]
fn partial_keeps_at_most_half_and_never_cuts_a_character() {
    let keep = |strategy, value: &[u8]| {
        run(
            &[column(25, 0)],
            &[mask(0, strategy, "r", Apply::Both)],
            &body(&[Some(value)]),
            Target::Delivered,
        )
        .0
    };
    let last4 = Strategy::Partial(Partial::KeepLast(4));
    assert_eq!(keep(last4, b"4111111111111234"), body(&[Some(b"****1234")]));
    assert_eq!(keep(last4, b"1234567"), body(&[Some(b"****")]));
    assert_eq!(
        keep(Strategy::Partial(Partial::KeepLast(1)), "zäöü".as_bytes()),
        body(&[Some("****ü".as_bytes())])
    );
    assert_eq!(
        keep(Strategy::Partial(Partial::KeepFirst(2)), "zäöü".as_bytes()),
        body(&[Some("zä****".as_bytes())])
    );
    assert_eq!(
        keep(Strategy::Partial(Partial::Email), b"ann@example.com"),
        body(&[Some(b"a****@example.com")])
    );
    assert_eq!(
        keep(Strategy::Partial(Partial::Email), b"ann@ex.com 123-45-6789"),
        body(&[Some(b"[redacted]")])
    );
    assert_eq!(
        keep(last4, b"\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8"),
        body(&[Some(b"[redacted]")])
    );
}

#[test]
fn malformed_rows_are_refused_and_leave_nothing() {
    let plan = RowPlan::new(
        vec![column(25, 0), column(25, 0)],
        vec![mask(0, Strategy::Redact, "r", Apply::Both)],
        None,
        [0; 32],
    )
    .unwrap();
    let good = body(&[Some(b"ab"), Some(b"cd")]);
    let mut bad: Vec<Vec<u8>> = (0..good.len())
        .map(|length| good[..length].to_vec())
        .collect();
    bad.push([good.as_slice(), b"x"].concat());
    bad.push(body(&[Some(b"ab")]));
    bad.push(
        [
            b"\0\x02".as_slice(),
            &(-2i32).to_be_bytes(),
            &(-1i32).to_be_bytes(),
        ]
        .concat(),
    );
    bad.push([b"\0\x02".as_slice(), &i32::MAX.to_be_bytes(), b"ab"].concat());
    for row in bad {
        let (mut out, mut counts) = (b"before".to_vec(), Counts::default());
        assert!(plan
            .apply(&row, Target::Delivered, &mut out, &mut counts)
            .is_err());
        assert_eq!(out, b"before");
    }
}

#[test]
fn a_plan_that_names_no_column_or_no_format_is_refused() {
    assert!(RowPlan::new(
        vec![column(25, 0)],
        vec![mask(1, Strategy::Null, "r", Apply::Both)],
        None,
        [0; 32]
    )
    .is_err());
    assert!(RowPlan::new(vec![column(25, 2)], vec![], None, [0; 32]).is_err());
}

#[test]
fn tokens_and_hashes_depend_on_key_rule_and_strategy_only() {
    let of = |strategy, rule: &str, key: u8, value: &[u8]| {
        let plan = RowPlan::new(
            vec![column(25, 0)],
            vec![mask(0, strategy, rule, Apply::Both)],
            None,
            [key; 32],
        )
        .unwrap();
        let mut out = Vec::new();
        plan.apply(
            &body(&[Some(value)]),
            Target::Delivered,
            &mut out,
            &mut Counts::default(),
        )
        .unwrap();
        out
    };
    for strategy in [Strategy::Tokenize, Strategy::Hash] {
        let first = of(strategy, "r", 1, b"value");
        assert_eq!(first, of(strategy, "r", 1, b"value"));
        assert_ne!(first, of(strategy, "r", 2, b"value"));
        assert_ne!(first, of(strategy, "s", 1, b"value"));
        assert_ne!(first, of(strategy, "r", 1, b"other"));
    }
    assert!(!of(Strategy::Hash, "r", 1, b"value")
        .ends_with(&of(Strategy::Tokenize, "r", 1, b"value")[10..]));
}

#[test]
fn detectors_read_what_no_mask_covers() {
    let names: Vec<&str> = detector_names().collect();
    let detectors = Arc::new(Detectors::new(&names, &[]).unwrap());
    let columns = vec![
        column(25, 0),
        column(20, 0),
        column(20, 1),
        column(114, 0),
        column(1009, 1),
        ColumnDesc {
            type_oid: 25,
            format: 0,
            name: "accountNumber".into(),
        },
        column(17, 0),
        column(25, 0),
    ];
    let plan = RowPlan::new(
        columns,
        vec![mask(7, Strategy::Redact, "r", Apply::Both)],
        Some(detectors),
        [0; 32],
    )
    .unwrap();
    let number = 4_111_111_111_111_111i64.to_be_bytes();
    let row = body(&[
        Some(b"card 4111 1111 1111 1111."),
        Some(b"4111111111111111"),
        Some(&number),
        Some(b"{\"card\":4111111111111111,\"mail\":\"to ann@example.com\"}"),
        Some(b"\0\0\0\x0b123-45-6789"),
        Some(b"12-3456"),
        Some(b"\\x3132332d34352d36373839"),
        Some(b"ann@example.com"),
    ]);
    let (mut out, mut counts) = (Vec::new(), Counts::default());
    plan.apply(&row, Target::Delivered, &mut out, &mut counts)
        .unwrap();
    let masked = body(&[
        Some(b"card [masked:payment_card]."),
        None,
        None,
        Some(b"{\"card\":\"[masked:payment_card]\",\"mail\":\"to [masked:email]\"}"),
        None,
        Some(b"[masked:account_number]"),
        None,
        Some(b"[redacted]"),
    ]);
    assert_eq!(
        String::from_utf8_lossy(&out),
        String::from_utf8_lossy(&masked)
    );
    assert_eq!(counts.detected()["payment_card"], 4);
    assert_eq!(counts.masked().len(), 1);
}
