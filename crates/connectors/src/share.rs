//! How a numbered stream of events is dealt over splits: split `i` of `n` has the events
//! `i, i + n, i + 2n, ...`; its offset is the next number, with the stream's base time.
//!
//! Invariant: `next` is always congruent to the split's index.

use highwater_core::WallMicros;
use highwater_engine::source::Offset;
use highwater_engine::{Error, Result};
use serde_json::json;

/// A position in one split of a numbered stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    /// The number of the next event.
    pub(crate) next: u64,
    /// How many splits there are: the distance to the event after.
    pub(crate) step: u64,
    /// The time that event times are counted from.
    pub(crate) base: WallMicros,
}

/// The names of all splits.
pub(crate) fn names(splits: u64) -> Vec<String> {
    (0..splits).map(|index| format!("{index}/{splits}")).collect()
}

impl Share {
    /// Opens a split at its start, with the base time given, or where the offset says.
    pub(crate) fn open(
        connector: &str,
        split: &str,
        splits: u64,
        offset: Option<&Offset>,
        base: WallMicros,
    ) -> Result<Self> {
        let index = (0..splits).find(|index| format!("{index}/{splits}") == split).ok_or_else(|| {
            Error::data(format!("source '{connector}'"), format!("there is no split '{split}'; it has {splits} splits"))
        })?;
        let Some(offset) = offset else { return Ok(Self { next: index, step: splits, base }) };
        let field = |name: &str| offset.get(name).and_then(Offset::as_u64);
        match (field("next"), offset.get("base_us").and_then(Offset::as_i64)) {
            (Some(next), Some(base)) if next % splits == index => {
                Ok(Self { next, step: splits, base: WallMicros(base) })
            }
            _ => Err(Error::data(
                format!("source '{connector}' split '{split}'"),
                format!("{offset} is not an offset of it"),
            )),
        }
    }

    /// The offset that opens the split here again.
    pub(crate) fn offset(&self) -> Offset {
        json!({ "next": self.next, "base_us": self.base.0 })
    }

    /// How many events of this split from here on have numbers below `limit`.
    pub(crate) const fn count_below(&self, limit: u64) -> u64 {
        limit.saturating_sub(self.next).div_ceil(self.step)
    }

    /// Takes the next `rows` events: their first number.
    pub(crate) const fn take(&mut self, rows: u64) -> u64 {
        let first = self.next;
        self.next += rows * self.step;
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_share_all_numbers() {
        let mut seen: Vec<u64> = Vec::new();
        for split in names(3) {
            let mut share = Share::open("test", &split, 3, None, WallMicros(0)).expect("opens");
            let rows = share.count_below(10);
            let first = share.take(rows);
            seen.extend((0..rows).map(|row| first + row * 3));
            assert_eq!(share.count_below(10), 0);
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn an_offset_opens_where_it_was_taken() {
        let mut share = Share::open("test", "1/3", 3, None, WallMicros(77)).expect("opens");
        share.take(5);
        assert_eq!(Share::open("test", "1/3", 3, Some(&share.offset()), WallMicros(0)).expect("opens"), share);
        assert!(Share::open("test", "0/3", 3, Some(&share.offset()), WallMicros(0)).is_err(), "another split's");
        assert!(Share::open("test", "1/2", 3, None, WallMicros(0)).is_err(), "another number of splits");
        assert!(Share::open("test", "1/3", 3, Some(&json!(4)), WallMicros(0)).is_err(), "not an offset");
    }
}
