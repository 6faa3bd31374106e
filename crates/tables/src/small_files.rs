//! Small files of the store that RocksDB leaves as they are. Each opening writes what the write-ahead log had into
//! files of their own. Where the keys of such a file come after those of all others, as those of the log and of rows
//! with numbers do, it goes to the last level as it is, and nothing is ever merged with it there: one more at each
//! opening, all of which are opened. So they are made one when the store is opened, once many stand beside each other.

use rocksdb::{BottommostLevelCompaction, CompactOptions, DB, LiveFile};
use std::collections::BTreeMap;

/// Files below this are worth being written once more.
const SMALL: usize = 256 << 10;
/// So many of them beside each other become one.
const MANY: usize = 16;

/// A column family, and the first and last key of some of its files.
type Run = (String, Vec<u8>, Vec<u8>);

/// Makes small files of the last level one where many stand beside each other. What goes wrong is told: the files are
/// as good as before.
pub(crate) fn merge(db: &DB) {
    let files = match db.live_files() {
        Ok(files) => files,
        Err(error) => {
            tracing::warn!(%error, "small files of the tables stay as they are");
            return;
        }
    };
    let mut options = CompactOptions::default();
    options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
    for (family, first, last) in runs(&files) {
        let Some(family) = db.cf_handle(&family) else { continue };
        db.compact_range_cf_opt(family, Some(&first), Some(&last), &options);
    }
}

/// Which files become one.
fn runs(files: &[LiveFile]) -> Vec<Run> {
    let mut deepest: BTreeMap<&str, i32> = BTreeMap::new();
    for file in files {
        let level = deepest.entry(&file.column_family_name).or_default();
        *level = file.level.max(*level);
    }
    let is_deepest = |file: &&LiveFile| deepest.get(file.column_family_name.as_str()) == Some(&file.level);
    let mut last: Vec<&LiveFile> = files.iter().filter(is_deepest).filter(|file| file.level > 0).collect();
    last.sort_by(|a, b| (&a.column_family_name, &a.start_key).cmp(&(&b.column_family_name, &b.start_key)));
    let are_small =
        |a: &&LiveFile, b: &&LiveFile| a.column_family_name == b.column_family_name && a.size.max(b.size) < SMALL;
    let run = |files: &[&LiveFile]| {
        let (first, last) = (files.first()?, files.last()?);
        Some((first.column_family_name.clone(), first.start_key.clone()?, last.end_key.clone()?))
    };
    last.chunk_by(are_small).filter(|files| files.len() >= MANY).filter_map(run).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(family: &str, level: i32, key: u8, size: usize) -> LiveFile {
        LiveFile {
            column_family_name: family.to_owned(),
            name: format!("{key}.sst"),
            size,
            level,
            start_key: Some(vec![key, 0]),
            end_key: Some(vec![key, 9]),
            num_entries: 1,
            num_deletions: 0,
        }
    }

    #[test]
    fn many_small_files_beside_each_other_become_one() {
        let many = MANY as u8;
        let mut files: Vec<LiveFile> = (0..many).rev().map(|key| file("log", 6, key, 1000)).collect();
        files.extend((0..many - 1).map(|key| file("rows", 6, key, 1000)));
        assert_eq!(runs(&files), [("log".to_owned(), vec![0, 0], vec![many - 1, 9])]);
        files.push(file("rows", 6, many, SMALL));
        assert_eq!(runs(&files).len(), 1, "a large one is left alone");
        files.push(file("rows", 6, many - 1, 1000));
        assert_eq!(runs(&files)[1], ("rows".to_owned(), vec![0, 0], vec![many - 1, 9]));
        files.push(file("log", 6, many / 2, SMALL));
        assert_eq!(runs(&files).len(), 1, "it stands between the small ones");
    }

    #[test]
    fn files_above_the_last_level_are_left_alone() {
        let mut files: Vec<LiveFile> = (0..100).map(|key| file("log", 0, key, 1000)).collect();
        assert!(runs(&files).is_empty());
        files.extend((0..100).map(|key| file("log", 5, key, 1000)));
        assert_eq!(runs(&files).len(), 1);
        files.push(file("log", 6, 100, 1000));
        assert!(runs(&files).is_empty());
    }
}
