//! Work in slices, so that nobody holds a worker: steps until a deadline, and lists by chunks.
//!
//! A step is the unit that is not interrupted. Invariant: at least one step is done in each slice, so
//! whatever goes on from slice to slice ends.

use crate::error::Result;
use std::time::Instant;

/// Rows, pairs or groups that a step takes on together: far less than a slice's work, and enough that
/// what a step costs beside them does not count.
pub(crate) const CHUNK: usize = 8192;

/// Does steps until one says that it was the last (true), or `deadline` is over (false).
pub(crate) fn until(deadline: Instant, mut step: impl FnMut() -> Result<bool>) -> Result<bool> {
    loop {
        if step()? {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
    }
}

/// Takes a chunk from the end of a list, or all of a shorter one.
pub(crate) fn last_chunk<T>(list: &mut Vec<T>) -> Vec<T> {
    if list.len() <= CHUNK { std::mem::take(list) } else { list.split_off(list.len() - CHUNK) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_slice_does_a_step_and_ends_with_its_deadline() {
        let mut steps = 0;
        let mut step = || {
            steps += 1;
            Ok(steps == 3)
        };
        let now = Instant::now();
        assert!(!until(now, &mut step).expect("a step"));
        assert!(until(now + Duration::from_secs(60), &mut step).expect("two steps"));
        assert_eq!(steps, 3);
    }

    #[test]
    fn chunks_of_a_list_are_all_of_it() {
        let mut list: Vec<usize> = (0..2 * CHUNK + 5).collect();
        let chunks: Vec<Vec<usize>> = std::iter::repeat_with(|| last_chunk(&mut list)).take(4).collect();
        assert_eq!(chunks.iter().map(Vec::len).collect::<Vec<_>>(), [CHUNK, CHUNK, 5, 0]);
        assert_eq!(chunks.concat().len(), 2 * CHUNK + 5);
    }
}
