//! Any bytes in a journal end in a typed error or a cut tail, never in a panic and never in a silently shorter journal.

use std::path::Path;

use crate::support::*;
use dividend_meter::journal::{JournalError, Reader, Record};
use dividend_meter::{CloseReason, MeterError, audit};
use proptest::prelude::*;

/// A journal of several segments with every kind of record.
fn write_journal(dir: &Path) -> u64 {
    let (meter, _) = open(dir);
    for round in 0..4u8 {
        meter.journal_voucher(voucher(1, 1, u128::from(round) + 1), [round; 65]).unwrap();
        for payer in [key(round), channel(1)] {
            let guard = meter.open_call(opening(payer, model(1))).unwrap();
            guard.generated(3);
            guard.close(CloseReason::Stop).unwrap();
        }
        meter.seal_window().unwrap();
    }
    drop(meter);
    count(dir).unwrap()
}

fn count(dir: &Path) -> Result<u64, JournalError> {
    let mut reader = Reader::open(dir)?.expect("a journal was begun");
    let mut records = 0;
    while reader.next_entry()?.is_some() {
        records += 1;
    }
    Ok(records)
}

/// The last whole frame of a segment file is `(start, end)`.
fn last_frame(path: &Path) -> (u64, u64) {
    let bytes = std::fs::read(path).unwrap();
    let (mut start, mut next) = (0, 140);
    while next < bytes.len() {
        start = next;
        next += 8 + u32::from_le_bytes(bytes[start..start + 4].try_into().unwrap()) as usize;
    }
    (start as u64, next as u64)
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_and_the_rest_kept() {
    let dir = tempfile::tempdir().unwrap();
    let records = write_journal(dir.path());
    let last = segments(dir.path()).pop().unwrap();
    let (start, end) = last_frame(&last);
    // The last record is a seal, which its file would outlive.
    std::fs::remove_dir_all(dir.path().join("seals")).unwrap();
    for length in start..end {
        let torn = tempfile::tempdir().unwrap();
        copy_dir(dir.path(), torn.path());
        let path = torn.path().join("journal").join(last.file_name().unwrap());
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(length).unwrap();
        assert_eq!(count(torn.path()).unwrap(), records - 1, "torn at {length}");
        let (_meter, recovered) = open(torn.path());
        assert_eq!(recovered.cut_bytes, length - start);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), start);
    }
}

#[test]
fn damage_before_the_tail_names_file_and_offset() {
    let dir = tempfile::tempdir().unwrap();
    write_journal(dir.path());
    let first = segments(dir.path()).remove(0);
    let mut bytes = std::fs::read(&first).unwrap();
    bytes[200] ^= 1;
    std::fs::write(&first, bytes).unwrap();
    let error = try_open(dir.path(), clock()).err().unwrap();
    let MeterError::Journal(JournalError::Corrupt { path, offset, .. }) = &error else { panic!("{error}") };
    assert_eq!((path, *offset), (&first, 140));
    assert!(matches!(audit(dir.path()).unwrap_err(), MeterError::Journal(_)));
}

#[test]
fn a_missing_segment_is_not_the_end() {
    let dir = tempfile::tempdir().unwrap();
    write_journal(dir.path());
    for (index, path) in segments(dir.path()).into_iter().enumerate() {
        let gap = tempfile::tempdir().unwrap();
        copy_dir(dir.path(), gap.path());
        std::fs::remove_file(gap.path().join("journal").join(path.file_name().unwrap())).unwrap();
        let error = try_open(gap.path(), clock()).err();
        assert!(error.is_some(), "segment {index} is missing, and nobody noticed");
    }
}

#[test]
fn a_record_out_of_place_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    write_journal(dir.path());
    let first = segments(dir.path()).remove(0);
    let mut bytes = std::fs::read(&first).unwrap();
    // The first two frames change places: both whole, neither after its predecessor.
    let frame = |at: usize| at + 8 + u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let (a, b) = (frame(140), frame(frame(140)));
    let swapped = [&bytes[..140], &bytes[a..b], &bytes[140..a], &bytes[b..]].concat();
    bytes = swapped;
    std::fs::write(&first, bytes).unwrap();
    let error = count(dir.path()).unwrap_err().to_string();
    assert!(error.contains("does not follow"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_flipped_bit_is_found_or_cut_with_the_last_record(
        segment in any::<prop::sample::Index>(), byte in any::<prop::sample::Index>(), bit in 0u8..8,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let records = write_journal(dir.path());
        let paths = segments(dir.path());
        let chosen = segment.index(paths.len());
        let mut bytes = std::fs::read(&paths[chosen]).unwrap();
        let at = byte.index(bytes.len());
        bytes[at] ^= 1 << bit;
        std::fs::write(&paths[chosen], &bytes).unwrap();
        let in_last_record = chosen + 1 == paths.len() && at as u64 >= last_frame_start(dir.path(), records);
        match count(dir.path()) {
            Ok(read) => prop_assert!(in_last_record && read == records - 1, "byte {} of segment {}", at, chosen),
            Err(JournalError::Corrupt { path, .. }) => {
                prop_assert!(!in_last_record);
                prop_assert_eq!(path, paths[chosen].clone());
            }
            Err(other) => prop_assert!(false, "{}", other),
        }
    }

    #[test]
    fn random_bytes_are_an_error_or_a_tail(noise in prop::collection::vec(any::<u8>(), 0..600), keep_header in any::<bool>()) {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path()));
        let path = segments(dir.path()).remove(0);
        let mut bytes = std::fs::read(&path).unwrap();
        if keep_header {
            bytes.extend(&noise);
        } else {
            bytes = noise.clone();
        }
        std::fs::write(&path, bytes).unwrap();
        match try_open(dir.path(), clock()) {
            Ok((_, recovered)) => {
                prop_assert!(keep_header);
                prop_assert_eq!(recovered.cut_bytes, noise.len() as u64);
            }
            Err(error) => prop_assert!(matches!(error, MeterError::Journal(JournalError::Corrupt { .. })), "{}", error),
        }
    }
}

/// Offset in its file of the last record, found while the record may be damaged.
fn last_frame_start(dir: &Path, records: u64) -> u64 {
    let sound = tempfile::tempdir().unwrap();
    let total = write_journal(sound.path());
    assert_eq!(total, records);
    assert_eq!(segments(sound.path()).len(), segments(dir).len());
    last_frame(&segments(sound.path()).pop().unwrap()).0
}

#[test]
fn records_are_read_back_as_written() {
    let dir = tempfile::tempdir().unwrap();
    write_journal(dir.path());
    let mut reader = Reader::open(dir.path()).unwrap().unwrap();
    let Some(Record::Voucher(first)) = reader.next_entry().unwrap().map(|entry| entry.record) else {
        panic!("the first record is a voucher")
    };
    assert_eq!(first.voucher, voucher(1, 1, 1));
    assert_eq!((first.signature, first.at_ms), ([0; 65], START_MS));
}
