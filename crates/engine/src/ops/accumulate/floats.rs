//! Sums of floating point: an unevaluated sum of two doubles (Dekker's two-sum), so that deletes take back what
//! inserts brought.
//!
//! Where there are deletes a sum has five words: the two doubles of its finite values, and the numbers of NaNs,
//! infinities and negative infinities. Whole units of 2^1022 are taken out of the doubles and counted, in the upper
//! bits of the words of infinities: so a sum that is too large for a double is one again when what made it so is
//! deleted. Smaller sums have no units, and their words are the doubles and numbers as they are.

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray};
use arrow::datatypes::Float64Type;
use highwater_state::{Slot, Table};

/// Words of a [`super::SumKind::CountedFloat`].
pub(super) const COUNTED: usize = 5;

/// 2^1022. Four of them are too large for a double.
const UNIT: f64 = f64::from_bits((1022 + 1023) << 52);
/// 2^64, by which what is multiplied is made smaller where the product would be too large.
const SCALE: f64 = f64::from_bits((64 + 1023) << 52);

/// The lower bits of a word of infinities are their number, the others are of the number of units.
const COUNT_BITS: u32 = 43;
/// How many bits of the number of units stand in the first of the two words.
const FIRST_BITS: u32 = 20;

pub(super) fn add_floats(table: &mut Table, slots: &[Slot], column: &ArrayRef, weights: Option<&[i64]>, word: usize) {
    let values: &PrimitiveArray<Float64Type> = column.as_primitive();
    table.update(slots, |row, words| {
        if values.is_valid(row) {
            let value = values.value(row) * weights.map_or(1.0, |w| w[row] as f64);
            let (high, low) = (f64::from_bits(words[word]), f64::from_bits(words[word + 1]));
            let (high, low) = two_sum(high, low, value);
            (words[word], words[word + 1]) = (high.to_bits(), low.to_bits());
        }
    });
}

pub(super) fn add_counted_floats(
    table: &mut Table,
    slots: &[Slot],
    column: &ArrayRef,
    weights: Option<&[i64]>,
    word: usize,
) {
    let values: &PrimitiveArray<Float64Type> = column.as_primitive();
    table.update(slots, |row, words| {
        if values.is_valid(row) {
            let weight = weights.map_or(1, |w| w[row]);
            add_counted(&mut words[word..word + COUNTED], values.value(row), weight);
        }
    });
}

/// Adds a value so many times to the words of a [`super::SumKind::CountedFloat`].
fn add_counted(words: &mut [u64], value: f64, weight: i64) {
    if !value.is_finite() {
        let kind = if value.is_nan() { 2 } else { 3 + usize::from(value < 0.0) };
        words[kind] = words[kind].wrapping_add(weight as u64);
        return;
    }
    let times = weight as f64;
    let product = value * times;
    if weight.unsigned_abs() == 1 {
        add(words, product);
    } else if product.is_finite() {
        add(words, product);
        // What the product was rounded by, so that deletes one by one take it all back.
        add(words, value.mul_add(times, -product));
    } else {
        let (value, unit) = (value / SCALE, UNIT / SCALE);
        let product = value * times;
        let units = (product / unit).trunc();
        add_units(words, units as i64);
        add(words, (product - units * unit) * SCALE);
        add(words, value.mul_add(times, -product) * SCALE);
    }
}

/// Adds a finite number, which leaves less than a unit in the doubles.
fn add(words: &mut [u64], value: f64) {
    let (high, before) = parted(f64::from_bits(words[0]));
    let (rest, more) = parted(value);
    let (high, low) = two_sum(high, f64::from_bits(words[1]), rest);
    let (high, over) = parted(high);
    (words[0], words[1]) = (high.to_bits(), low.to_bits());
    let units = before + more + over;
    if units != 0 {
        add_units(words, units);
    }
}

/// A number without the whole units in it, exactly, and how many these are.
fn parted(value: f64) -> (f64, i64) {
    if value.abs() < UNIT || !value.is_finite() {
        return (value, 0);
    }
    let units = (value / UNIT).trunc();
    (value - units * UNIT, units as i64)
}

/// The lower bits of a number, the highest of which is its sign.
const fn lower(number: i64, bits: u32) -> i64 {
    (number << (64 - bits)) >> (64 - bits)
}

/// The number of infinities in a word.
const fn count(word: u64) -> i64 {
    lower(word as i64, COUNT_BITS)
}

/// What stands in a word above the number of infinities.
const fn above(word: u64) -> i64 {
    (word as i64).wrapping_sub(count(word)) >> COUNT_BITS
}

const fn units_of(words: &[u64]) -> i64 {
    above(words[3]) + (above(words[4]) << FIRST_BITS)
}

/// Counts units: there is room for 2^40, those of 2^38 rows of the largest double.
fn add_units(words: &mut [u64], more: i64) {
    let units = units_of(words).wrapping_add(more);
    let first = lower(units, FIRST_BITS);
    for (word, part) in words[3..COUNTED].iter_mut().zip([first, units.wrapping_sub(first) >> FIRST_BITS]) {
        *word = (part << COUNT_BITS).wrapping_add(count(*word)) as u64;
    }
}

/// What the words of a [`super::SumKind::CountedFloat`] say.
pub(super) fn counted_sum(words: &[u64]) -> f64 {
    match (words[2] != 0, count(words[3]) != 0, count(words[4]) != 0) {
        (false, false, false) => finite_sum(words),
        (false, true, false) => f64::INFINITY,
        (false, false, true) => f64::NEG_INFINITY,
        _ => f64::NAN,
    }
}

/// The sum of finite values, an infinity when it is too large.
fn finite_sum(words: &[u64]) -> f64 {
    let units = units_of(words);
    let unit = UNIT.copysign(units as f64);
    let mut sum = (f64::from_bits(words[0]), f64::from_bits(words[1]));
    // Six units are too large whatever is below one.
    for _ in 0..units.unsigned_abs().min(6) {
        sum = two_sum(sum.0, sum.1, unit);
    }
    float_sum(sum.0.to_bits(), sum.1.to_bits())
}

/// Adds the words of one [`super::SumKind::CountedFloat`] to those of another.
pub(super) fn combine_counted(more: &[u64], words: &mut [u64]) {
    for part in [more[0], more[1]] {
        add(words, f64::from_bits(part));
    }
    words[2] = words[2].wrapping_add(more[2]);
    for (word, more) in words[3..COUNTED].iter_mut().zip(&more[3..COUNTED]) {
        *word = word.wrapping_add(count(*more) as u64);
    }
    add_units(words, units_of(more));
}

/// Adds to an unevaluated sum of two doubles.
pub(super) fn two_sum(high: f64, low: f64, value: f64) -> (f64, f64) {
    let sum = high + value;
    let part = sum - high;
    let error = (high - (sum - part)) + (value - part);
    if !error.is_finite() {
        return (sum, 0.0);
    }
    let low = low + error;
    let total = sum + low;
    (total, low - (total - sum))
}

pub(super) fn float_sum(high: u64, low: u64) -> f64 {
    let (high, low) = (f64::from_bits(high), f64::from_bits(low));
    if low.is_finite() { high + low } else { high }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words_of(changes: &[(f64, i64)]) -> [u64; COUNTED] {
        let mut words = [0; COUNTED];
        for (value, weight) in changes {
            add_counted(&mut words, *value, *weight);
        }
        words
    }

    fn sum_of(changes: &[(f64, i64)]) -> f64 {
        counted_sum(&words_of(changes))
    }

    #[test]
    fn sums_that_were_too_large_come_back() {
        for sign in [1.0, -1.0] {
            let (large, most) = (sign * 1e308, sign * f64::MAX);
            assert_eq!(sum_of(&[(large, 1), (large, 1)]), sign * f64::INFINITY);
            assert_eq!(sum_of(&[(large, 1), (large, 1), (large, -1)]), large);
            assert_eq!(sum_of(&[(large, 1), (5.0, 1), (large, 1), (large, -1), (large, -1)]), 5.0);
            assert_eq!(sum_of(&[(large, 1), (-large, 1), (large, 1)]), large);
            assert_eq!(sum_of(&[(most, 1), (most, 1), (most, 1), (most, -1), (most, -1)]), most);
            assert_eq!(sum_of(&[(most, 1), (large, 1), (0.25, 1), (most, -1), (large, -1)]), 0.25);
            assert_eq!(sum_of(&[(most, 1)]), most);
            assert_eq!(sum_of(&[(most, 1), (-1e300, 1), (1e300, 1)]), most);
        }
    }

    #[test]
    fn weights_are_taken_back_one_by_one() {
        assert_eq!(sum_of(&[(1e308, 2), (7.5, 1), (1e308, -1), (1e308, -1)]), 7.5);
        assert_eq!(sum_of(&[(1e308, 3), (1e308, -1), (1e308, -1)]), 1e308);
        assert_eq!(sum_of(&[(f64::MAX, 1 << 36), (1.0, 1)]), f64::INFINITY);
        assert_eq!(sum_of(&[(-f64::MAX, 1 << 30), (1.0, 1), (-f64::MAX, -(1 << 30))]), 1.0);
        assert_eq!(sum_of(&[(0.1, 3), (0.1, -1), (0.1, -1), (0.1, -1)]), 0.0);
    }

    #[test]
    fn infinities_are_counted_beside_units() {
        let large = [(1e308, 1), (1e308, 1), (-f64::INFINITY, 1), (1e308, 1)];
        assert_eq!(sum_of(&large), f64::NEG_INFINITY);
        let mut words = words_of(&large);
        for change in [(f64::INFINITY, -1), (1e308, -1), (-f64::INFINITY, -1), (f64::INFINITY, 1), (1e308, -1)] {
            add_counted(&mut words, change.0, change.1);
        }
        assert_eq!(counted_sum(&words), 1e308);
        add_counted(&mut words, 1e308, -1);
        assert_eq!(words, [0; COUNTED], "nothing is left");
    }

    #[test]
    fn sums_of_two_groups_are_that_of_both() {
        let mut words = words_of(&[(-1e308, 3), (f64::NAN, 1), (2.0, 1)]);
        combine_counted(&words_of(&[(1e308, 4), (f64::NAN, -1), (f64::INFINITY, 1)]), &mut words);
        assert_eq!(counted_sum(&words), f64::INFINITY);
        add_counted(&mut words, f64::INFINITY, -1);
        assert_eq!(counted_sum(&words), 1e308);
        add_counted(&mut words, 1e308, -1);
        assert_eq!(counted_sum(&words), 2.0);
    }
}
