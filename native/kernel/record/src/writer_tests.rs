//! The writer's queue and loop.
use super::*;
use std::path::PathBuf;

struct Text(&'static [u8]);

impl Source for Text {
    fn write(&self, out: &mut Vec<u8>) -> Result<(), SealError> {
        out.extend_from_slice(self.0);
        Ok(())
    }
}

struct Broken;

impl Source for Broken {
    fn write(&self, _: &mut Vec<u8>) -> Result<(), SealError> {
        Err(SealError("cannot be made".into()))
    }
}

fn item(text: &'static [u8], starts_segment: bool) -> Item {
    Item {
        parts: vec![Box::new(Text(text))],
        records: 1,
        size: 100,
        starts_segment,
        has_thread: false,
        foreign: None,
    }
}

const PLAN: Plan = Plan {
    max_entries: 9,
    max_batch: 1 << 20,
    max_queue: 1 << 20,
    first_segment: 1_000,
    segment: 2_000,
};

fn writer(max_entries: usize) -> Writer {
    let plan = Plan {
        max_entries,
        ..PLAN
    };
    Writer::new(plan, 10).unwrap()
}

/// Entries of the host that became durable, where there are no others.
fn own(writer: &Writer) -> u64 {
    let count = |noticed| match noticed {
        Noticed::Own(count) => count,
        Noticed::Foreign(_) => panic!("not the host's"),
    };
    writer.notice().into_iter().map(count).sum()
}

fn segment(name: &str) -> (PathBuf, SegmentFile) {
    let path = std::env::temp_dir().join(format!("sealgate-{}-{name}", std::process::id()));
    std::fs::write(&path, b"").unwrap();
    let file = SegmentFile::open(&path).unwrap();
    (path, file)
}

const START: Position = Position {
    number: 3,
    first_index: 10,
    offset: 64,
};

#[test]
fn batches_end_at_the_cap_and_before_a_new_segment() {
    let (path, file) = segment("caps");
    let writer = writer(2);
    for (number, text) in [b"aa", b"bb", b"cc", b"dd"].into_iter().enumerate() {
        writer.push(item(text, number == 0 || number == 3), number == 3);
    }
    let (pause, position) = writer.run(None, START, u64::MAX);
    assert!(matches!(pause, Pause::Segment) && position == START);
    let (pause, position) = writer.run(Some(&file), START, u64::MAX);
    assert!(matches!(pause, Pause::Segment));
    let expected = Position {
        number: 5,
        first_index: 13,
        offset: 64 + 2 * 32 + 6,
    };
    assert_eq!(position, expected);
    assert_eq!((own(&writer), writer.durable()), (3, 13));
    let data = std::fs::read(&path).unwrap();
    assert_eq!(&data[96..100], b"aabb");
    assert_eq!(&data[132..134], b"cc");
    writer.stop();
    let opened = Position {
        offset: 64,
        ..position
    };
    let (pause, _) = writer.run(Some(&file), opened, u64::MAX);
    assert!(matches!(pause, Pause::Stopped));
    assert_eq!((own(&writer), writer.queued_bytes()), (1, 0));
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_segment_that_holds_something_never_takes_the_start_of_another() {
    let (path, file) = segment("pauses");
    let writer = writer(9);
    let waited_for = Item {
        has_thread: true,
        ..item(b"aa", true)
    };
    writer.push(waited_for, true);
    let (pause, position) = writer.run(Some(&file), START, u64::MAX);
    assert!(matches!(pause, Pause::Acknowledge));
    writer.push(item(b"bb", true), true);
    let (pause, after) = writer.run(Some(&file), position, u64::MAX);
    assert!(matches!(pause, Pause::Segment) && after == position);
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_mark_that_is_passed_is_told() {
    let (path, file) = segment("mark");
    let writer = writer(9);
    writer.push(item(b"aa", true), true);
    let (pause, position) = writer.run(Some(&file), START, 64);
    assert!(matches!(pause, Pause::Mark));
    assert_eq!(position.offset, 64 + 32 + 2);
    std::fs::remove_file(path).unwrap();
}

#[test]
fn what_nobody_waits_for_is_written_with_the_next_that_rings() {
    let (path, file) = segment("bell");
    let writer = Arc::new(writer(9));
    writer.push(item(b"aa", true), false);
    writer.push(item(b"bb", false), false);
    let thread = std::thread::spawn({
        let writer = Arc::clone(&writer);
        move || writer.run(Some(&file), START, u64::MAX).1
    });
    writer.push(item(b"cc", false), true);
    writer.stop();
    assert_eq!(thread.join().unwrap().number, 4);
    assert_eq!(&std::fs::read(&path).unwrap()[96..103], b"aabbcc\0");
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_record_that_cannot_be_made_ends_it_and_nothing_follows() {
    let (path, file) = segment("broken");
    let writer = writer(9);
    let broken = Item {
        parts: vec![Box::new(Broken)],
        ..item(b"", true)
    };
    writer.push(broken, true);
    let (pause, position) = writer.run(Some(&file), START, u64::MAX);
    assert!(matches!(pause, Pause::Failed(AppendError::Records(_))) && position == START);
    writer.close();
    writer.push(item(b"aa", false), true);
    writer.stop();
    let (pause, _) = writer.run(Some(&file), position, u64::MAX);
    assert!(matches!(pause, Pause::Stopped));
    assert_eq!(std::fs::read(&path).unwrap(), b"");
    std::fs::remove_file(path).unwrap();
}

fn foreign(index: u64) -> Item {
    Item {
        records: 2,
        foreign: Some(Box::new(index)),
        ..item(b"ff", false)
    }
}

#[test]
fn what_the_host_did_not_queue_is_numbered_between_its_entries_and_given_back_in_order() {
    let (path, file) = segment("foreign");
    let writer = writer(9);
    writer.push(item(b"aa", true), true);
    assert_eq!(writer.append(68, foreign), Ok(11));
    writer.push(item(b"bb", false), true);
    writer.push(item(b"cc", false), true);
    assert_eq!(
        (writer.next_index(), writer.count_foreign()),
        (15, (2, 100))
    );
    writer.stop();
    let (pause, position) = writer.run(Some(&file), START, u64::MAX);
    assert!(matches!(pause, Pause::Stopped) && position.first_index == 15);
    let noticed = writer.notice();
    assert!(matches!(noticed[0], Noticed::Own(1)) && matches!(noticed[2], Noticed::Own(2)));
    let Noticed::Foreign(index) = &noticed[1] else {
        panic!("the second is foreign");
    };
    assert_eq!(index.downcast_ref::<u64>(), Some(&11));
    assert_eq!((writer.durable(), writer.count_foreign()), (15, (0, 0)));
    std::fs::remove_file(path).unwrap();
}

#[test]
fn an_entry_that_does_not_fit_is_refused_with_the_reason() {
    let writer = writer(9);
    assert_eq!(writer.append(68, foreign), Err(Refused::Segment));
    writer.push(item(b"aa", true), true);
    assert_eq!(writer.append(900, foreign), Err(Refused::Segment));
    assert_eq!(writer.append(1 << 20, foreign), Err(Refused::Busy));
    assert_eq!(writer.append(68, foreign), Ok(11));
    let bell = Arc::new(Bell::new().unwrap());
    writer.listen(Arc::clone(&bell));
    writer.close();
    assert_eq!(writer.append(68, foreign), Err(Refused::Closed));
    assert_eq!(
        (writer.is_closed(), writer.count_foreign()),
        (true, (2, 100))
    );
    let mut buffer = [0; 8];
    assert_eq!(rustix::io::read(&bell, &mut buffer), Ok(8));
}

#[test]
fn nothing_is_numbered_while_the_host_has_the_turn() {
    let writer = Arc::new(writer(9));
    writer.push(item(b"aa", true), true);
    assert!(writer.try_hold() && !writer.try_hold());
    let thread = std::thread::spawn({
        let writer = Arc::clone(&writer);
        move || writer.append(68, foreign)
    });
    writer.push(item(b"bb", false), true);
    writer.release();
    assert_eq!(thread.join().unwrap(), Ok(12));
    writer.hold();
    assert_eq!(writer.next_index(), 14);
}
