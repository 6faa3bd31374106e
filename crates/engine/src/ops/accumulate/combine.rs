//! Two groups that become one: what both keep in their words, together.
//!
//! It is for streams that only insert and for aggregates without DISTINCT, whose words say all that is
//! kept of a group.

use super::floats::{COUNTED, combine_counted, two_sum};
use super::{Carries, Layout, Other, ROWS, decimal_of, in_set, sums_words};
use crate::error::{Error, Result};
use crate::plan::{Aggregate, AggregateFunction};
use highwater_state::{Slot, Table};

/// Whether what an aggregate keeps of two groups of a stream that only inserts tells what it keeps of both.
pub(crate) fn is_combinable(aggregate: &Aggregate) -> bool {
    let adds = matches!(aggregate.function, AggregateFunction::Sum | AggregateFunction::Avg);
    !aggregate.distinct && !in_set(aggregate, true) && (!adds || sums_words(aggregate).is_some())
}

impl Carries {
    /// What was counted of one group counts for another.
    fn hand_over(&mut self, from: Slot, into: Slot) {
        if self.0.is_empty() {
            return;
        }
        let of_group = self.0.range((from, 0)..=(from, usize::MAX));
        let counted: Vec<(usize, i64)> = of_group.map(|((_, word), carry)| (*word, *carry)).collect();
        for (word, carry) in counted {
            self.0.remove(&(from, word));
            self.add(into, word, carry);
        }
    }
}

impl Layout {
    /// Adds what is kept of one group to another, and leaves the one without rows. `carries` are those of
    /// the table.
    ///
    /// # Errors
    /// `Data` when a sum of numerics leaves its range.
    pub(crate) fn combine(&self, table: &mut Table, from: Slot, into: Slot, carries: &mut Carries) -> Result<()> {
        let more = table.words(from)[..self.words].to_vec();
        let mut overflow = false;
        carries.hand_over(from, into);
        table.update(&[into], |_, words| {
            let additive = words.iter_mut().zip(&more).take(1 + self.additive.len());
            for (word, (sum, addend)) in additive.enumerate() {
                let (total, around) = (*sum as i64).overflowing_add(*addend as i64);
                *sum = total as u64;
                if around {
                    carries.add(into, word, (*addend as i64).signum());
                }
            }
            for (_, other) in &self.others {
                overflow |= !other.combine(&more, words);
            }
        });
        table.update(&[from], |_, words| words[ROWS] = 0);
        if overflow { Err(Error::data("sum", "numeric out of range")) } else { Ok(()) }
    }
}

impl Other {
    /// Adds the words of one group to those of another; false when they leave their range.
    fn combine(self, more: &[u64], words: &mut [u64]) -> bool {
        match self {
            Self::Float { word } => add_sum(more, words, word),
            Self::CountedFloat { word } => {
                let words_of = word..word + COUNTED;
                combine_counted(&more[words_of.clone()], &mut words[words_of]);
            }
            Self::Decimal { word } => {
                let (one, other) = (decimal_of(words[word], words[word + 1]), decimal_of(more[word], more[word + 1]));
                let Some(sum) = one.checked_add(other) else { return false };
                (words[word], words[word + 1]) = (sum as u64, (sum >> 64) as u64);
            }
            Self::Extreme { word, .. } => words[word] = words[word].max(more[word]),
        }
        true
    }
}

/// Adds one unevaluated sum of two doubles to another.
fn add_sum(more: &[u64], words: &mut [u64], word: usize) {
    let mut sum = (f64::from_bits(words[word]), f64::from_bits(words[word + 1]));
    for part in [more[word], more[word + 1]] {
        sum = two_sum(sum.0, sum.1, f64::from_bits(part));
    }
    (words[word], words[word + 1]) = (sum.0.to_bits(), sum.1.to_bits());
}
