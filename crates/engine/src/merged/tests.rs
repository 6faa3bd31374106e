//! Merges against the deliveries that they must keep.

use super::*;
use crate::kept_rows::RowsFile;
use highwater_checkpoint::Digest;

fn part(checkpoint: u64, rows: KeptRows) -> OutboxPart {
    OutboxPart {
        sink: "k".into(),
        checkpoint: Some(CheckpointId(checkpoint)),
        part: 0,
        rows,
        waits: true,
        merged: None,
    }
}

fn small(checkpoint: u64) -> OutboxPart {
    // Some have no rows at all.
    part(checkpoint, KeptRows::in_memory(vec![checkpoint as u8; checkpoint as usize % 3]))
}

/// A part whose rows nobody reads.
fn sized(checkpoint: u64, length: usize) -> OutboxPart {
    let file = RowsFile { path: "nowhere".into(), digest: Digest::of(b"") };
    part(checkpoint, KeptRows::in_file(file, length))
}

fn delivered(parts: &[OutboxPart]) -> Vec<(u64, Vec<u8>)> {
    let mut all = Vec::new();
    for part in parts {
        let bytes = part.rows.read().expect("in memory");
        let deliveries = part.deliveries(part.checkpoint.expect("published"), &bytes).expect("whole");
        assert_eq!(deliveries.len(), part.waiting() as usize);
        all.extend(deliveries.iter().map(|delivery| (delivery.checkpoint.0, delivery.rows.to_vec())));
    }
    all
}

#[test]
fn many_parts_become_few_with_the_same_deliveries_and_are_written_seldom() {
    const MANY: u64 = 5000;
    let (mut parts, mut written) = (Vec::new(), 0);
    for checkpoint in 1..=MANY {
        parts.push(small(checkpoint));
        if let Some(range) = to_merge(parts.iter()) {
            let merged = merge(&parts[range.clone()]).expect("in memory");
            written += merged.waiting();
            parts.splice(range, [merged]);
        }
        assert!(parts.len() <= FAN_IN * 4, "{} parts of {checkpoint}", parts.len());
    }
    assert!(u64::from(written) <= MANY * 3, "{written} written");
    assert_eq!(delivered(&parts), delivered(&(1..=MANY).map(small).collect::<Vec<_>>()));
}

#[test]
fn what_was_delivered_of_a_merged_part_is_left_out_and_it_stays_as_it_is() {
    let mut merged = merge(&(1..=16).map(small).collect::<Vec<_>>()).expect("in memory");
    merged.merged = Some(Merged { waiting: 3, delivered: Some(CheckpointId(13)) });
    let left = delivered(std::slice::from_ref(&merged));
    assert_eq!(left.iter().map(|(checkpoint, _)| *checkpoint).collect::<Vec<_>>(), [14, 15, 16]);
    assert_eq!(merged.tier(), None);
}

#[test]
fn only_published_parts_of_one_worker_that_are_not_large_are_merged() {
    let sixteen = || (1..=16).map(|checkpoint| sized(checkpoint, 100));
    assert_eq!(to_merge(sixteen().collect::<Vec<_>>().iter()), Some(0..16));
    let with = |change: fn(&mut OutboxPart)| {
        let mut parts: Vec<_> = sixteen().collect();
        change(&mut parts[7]);
        to_merge(parts.iter())
    };
    assert_eq!(with(|part| part.part = 1), None);
    assert_eq!(with(|part| part.checkpoint = None), None);
    assert_eq!(with(|part| part.rows = sized(8, LARGEST / 2 + 1).rows), None);
    assert_eq!(with(|part| part.merged = Some(Merged { waiting: 16, delivered: None })), None);
    let large: Vec<_> = (1..=16).map(|checkpoint| sized(checkpoint, LARGEST / 2)).collect();
    assert_eq!(to_merge(large.iter()), Some(0..2), "two always fit");
}

#[test]
fn damaged_rows_are_an_error() {
    let merged = merge(&[small(1), small(2)]).expect("in memory");
    let bytes = merged.rows.read().expect("in memory");
    let newest = CheckpointId(2);
    for length in [1, HEAD - 1, HEAD, bytes.len() - 1] {
        assert!(matches!(merged.deliveries(newest, &bytes[..length]), Err(Error::Data { .. })), "{length}");
    }
    let endless = [[1; 8], [255; 8]].concat();
    assert!(matches!(merged.deliveries(newest, &endless), Err(Error::Data { .. })));
}
