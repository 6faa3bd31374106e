//! How each generated column's values follow from the event number.
//!
//! Invariant: every kind but `now` is a pure function of the event number and the options, computed
//! for a run of numbers in one tight loop.

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::buffer::{Buffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use highwater_core::splitmix64;
use std::sync::Arc;

/// Event numbers at a steady distance from each other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) first: u64,
    pub(super) step: u64,
    pub(super) rows: u64,
}

impl Run {
    #[inline]
    fn each<T>(self, value: impl Fn(u64) -> T) -> Vec<T> {
        (0..self.rows).map(|row| value(self.first + row * self.step)).collect()
    }

    /// The part of the run below a number, and the rest.
    fn split_at(self, number: u64) -> (Self, Self) {
        let below = number.saturating_sub(self.first).div_ceil(self.step).min(self.rows);
        let rest = Self { first: self.first + below * self.step, rows: self.rows - below, ..self };
        (Self { rows: below, ..self }, rest)
    }
}

/// Remainders by a divisor that stays the same: a multiplication by its reciprocal, which is at most
/// one too small, and a correction without a branch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Modulo {
    divisor: u64,
    reciprocal: u64,
}

impl Modulo {
    /// For divisors from 1 to 2^63.
    pub(super) const fn new(divisor: u64) -> Self {
        assert!(divisor >= 1 && divisor <= 1 << 63, "a divisor from 1 to 2^63");
        Self { divisor, reciprocal: u64::MAX / divisor }
    }

    #[inline]
    fn of(self, number: u64) -> u64 {
        let quotient = ((u128::from(number) * u128::from(self.reciprocal)) >> 64) as u64;
        let remainder = number - quotient * self.divisor;
        remainder.min(remainder.wrapping_sub(self.divisor))
    }
}

/// The values of one column.
#[derive(Clone, Debug)]
pub(super) enum Values {
    /// The event number.
    EventNumber,
    /// `start`, `start + 1`, and so on.
    Sequence { start: i64 },
    /// The same with fractions.
    RealSequence { start: f64 },
    /// Whole numbers of `range` values from `min` on; a range of 0 stands for 2^64.
    Random { min: i64, range: u64, mix: u64 },
    /// Fractions from `min` on.
    RealRandom { min: f64, span: f64, mix: u64 },
    /// True or false.
    Flag { mix: u64 },
    /// Letters and digits.
    Text { length: usize, mix: u64 },
    /// All of `keys` once, then those below the divisor at random.
    Keyed { keys: u64, hot: Modulo },
    /// Times up to `span_us` before `before_us`, or before the stream's base time.
    Past { before_us: Option<i64>, span_us: u64, mix: u64 },
    /// Times at a steady distance.
    EventTime { start_us: i64, interval_us: i64 },
    /// The time of emission.
    Now,
}

/// What a value may depend on besides its number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// The stream's base time, the same in every replay.
    pub(super) base_us: i64,
    /// The time of emission.
    pub(super) now_us: i64,
}

/// The stream of random numbers of one column.
pub(super) const fn mix(column: usize, seed: u64) -> u64 {
    splitmix64(splitmix64(seed).wrapping_add(column as u64))
}

/// A number below `range`, by multiplication; any number when the range is 0.
#[inline]
const fn scale(random: u64, range: u64) -> u64 {
    if range == 0 { random } else { ((random as u128 * range as u128) >> 64) as u64 }
}

impl Values {
    /// The column for a run of event numbers, in the type it is declared as.
    pub(super) fn make(&self, run: Run, times: Times, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
        let array: ArrayRef = match *self {
            Self::EventNumber => longs(run.each(|i| i as i64)),
            Self::Sequence { start } => longs(run.each(|i| start.wrapping_add(i as i64))),
            Self::RealSequence { start } => reals(run.each(|i| start + i as f64)),
            Self::Random { min, range, mix } => {
                longs(run.each(|i| min.wrapping_add(scale(splitmix64(mix ^ i), range) as i64)))
            }
            Self::RealRandom { min, span, mix } => {
                const UNIT: f64 = 1.0 / (1u64 << 53) as f64;
                reals(run.each(|i| min + span * ((splitmix64(mix ^ i) >> 11) as f64 * UNIT)))
            }
            Self::Flag { mix } => Arc::new(BooleanArray::from(run.each(|i| splitmix64(mix ^ i) >> 63 == 1))),
            Self::Text { length, mix } => Arc::new(text(run, length, mix)?),
            Self::Keyed { keys, hot } => longs(keyed(run, keys, hot)),
            Self::Past { before_us, span_us, mix } => {
                let before = before_us.unwrap_or(times.base_us);
                micros(run.each(|i| before - scale(splitmix64(mix ^ i), span_us.max(1)) as i64))
            }
            Self::EventTime { start_us, interval_us } => {
                micros(run.each(|i| start_us.wrapping_add((i as i64).wrapping_mul(interval_us))))
            }
            Self::Now => micros(vec![times.now_us; run.rows as usize]),
        };
        if array.data_type() == data_type { Ok(array) } else { cast(&array, data_type) }
    }
}

fn longs(values: Vec<i64>) -> ArrayRef {
    Arc::new(Int64Array::from(values))
}

fn reals(values: Vec<f64>) -> ArrayRef {
    Arc::new(Float64Array::from(values))
}

fn micros(values: Vec<i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from(values))
}

fn keyed(run: Run, keys: u64, hot: Modulo) -> Vec<i64> {
    let (first_visits, rest) = run.split_at(keys);
    if first_visits.rows == 0 {
        return rest.each(|i| hot.of(splitmix64(i)) as i64);
    }
    let mut values = first_visits.each(|i| i as i64);
    values.extend(rest.each(|i| hot.of(splitmix64(i)) as i64));
    values
}

/// Twelve characters from each random number, five bits each.
fn text(run: Run, length: usize, mix: u64) -> Result<StringArray, ArrowError> {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    const PER_NUMBER: usize = 12;
    let mut bytes = Vec::with_capacity(length * run.rows as usize);
    for row in 0..run.rows {
        let mut state = splitmix64(mix ^ (run.first + row * run.step));
        let mut left = length;
        while left > 0 {
            let count = left.min(PER_NUMBER);
            bytes.extend((0..count).map(|place| LETTERS[(state >> (5 * place)) as usize & 31]));
            left -= count;
            state = splitmix64(state);
        }
    }
    let offsets = OffsetBuffer::from_repeated_length(length, run.rows as usize);
    StringArray::try_new(offsets, Buffer::from_vec(bytes), None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_remainder_is_the_processors(divisor in 1u64..=1 << 63, number: u64) {
            prop_assert_eq!(Modulo::new(divisor).of(number), number % divisor);
        }

        #[test]
        fn the_remainder_is_right_at_the_edges(divisor in 1u64..=1 << 63, near in 0u64..3, times: u64) {
            let number = (times / divisor * divisor).wrapping_add(near).wrapping_sub(1);
            prop_assert_eq!(Modulo::new(divisor).of(number), number % divisor);
        }
    }

    #[test]
    fn small_divisors_and_great_numbers() {
        for divisor in [1, 2, 3, 10_000_000, (1 << 63) - 1, 1 << 63] {
            for number in [0, 1, divisor - 1, divisor, u64::MAX - 1, u64::MAX] {
                assert_eq!(Modulo::new(divisor).of(number), number % divisor, "{number} % {divisor}");
            }
        }
    }

    #[test]
    fn a_run_is_split_where_it_should() {
        let run = Run { first: 1, step: 3, rows: 5 };
        for number in 0..20 {
            let (below, rest) = run.split_at(number);
            let mut all = below.each(|i| i);
            assert!(all.iter().all(|i| *i < number));
            let rest = rest.each(|i| i);
            assert!(rest.iter().all(|i| *i >= number));
            all.extend(rest);
            assert_eq!(all, [1, 4, 7, 10, 13]);
        }
    }
}
