//! Quotients of decimals: their last digit is rounded, halves away from zero, and nothing before it is lost.
//!
//! A quotient is that of the two numbers without their points, of which the dividend has got as many digits more
//! as the quotient needs; where these are more than 128 bits hold, there are 256.

use arrow::datatypes::{Decimal128Type, DecimalType, i256};

/// The digits that 256 bits hold for sure.
const MOST: u32 = 76;

/// How decimals of some scales are divided.
#[derive(Clone, Copy, Debug)]
pub struct Division {
    /// What the dividend is multiplied with.
    wide: i256,
    /// The same, where 128 bits hold it.
    narrow: Option<u128>,
    /// A quotient is below it.
    limit: u128,
}

impl Division {
    /// Of dividends that get `digits` more, the scale of the quotient and of the divisor less that of the
    /// dividend, into quotients of `precision` digits at most.
    ///
    /// # Panics
    /// When 256 bits do not hold so many digits, which no scales of decimals ask for.
    #[must_use]
    pub fn new(digits: u32, precision: u8) -> Self {
        assert!(digits <= MOST, "a dividend gets {digits} digits");
        let wide = i256::from_i128(10).wrapping_pow(digits);
        let limit = 10_u128.pow(u32::from(precision.min(Decimal128Type::MAX_PRECISION)));
        Self { wide, narrow: 10_u128.checked_pow(digits), limit }
    }

    /// The quotient; none when it has too many digits.
    ///
    /// # Panics
    /// When the divisor is zero.
    #[must_use]
    pub fn quotient(&self, dividend: i128, divisor: i128) -> Option<i128> {
        let is_negative = (dividend < 0) != (divisor < 0);
        let (dividend, divisor) = (dividend.unsigned_abs(), divisor.unsigned_abs());
        let quotient = match self.narrow.and_then(|factor| dividend.checked_mul(factor)) {
            Some(dividend) => {
                let rest = dividend % divisor;
                (dividend / divisor).checked_add(u128::from(rest >= divisor - rest))
            }
            None => self.wide_quotient(dividend, divisor),
        };
        let quotient = quotient.filter(|quotient| *quotient < self.limit)? as i128;
        Some(if is_negative { -quotient } else { quotient })
    }

    /// The same in 256 bits. A dividend that these do not hold has a quotient of more than 38 digits.
    fn wide_quotient(&self, dividend: u128, divisor: u128) -> Option<u128> {
        let (dividend, divisor) = (i256::from_parts(dividend, 0).checked_mul(self.wide)?, i256::from_parts(divisor, 0));
        let rest = dividend.wrapping_rem(divisor);
        match dividend.wrapping_div(divisor).to_parts() {
            (quotient, 0) => quotient.checked_add(u128::from(rest >= divisor.wrapping_sub(rest))),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Long division as it is done on paper, digit by digit.
    fn on_paper(dividend: i128, divisor: i128, digits: u32, precision: u8) -> Option<i128> {
        let mut figures = dividend.unsigned_abs().to_string().into_bytes();
        figures.extend(std::iter::repeat_n(b'0', digits as usize));
        let by = divisor.unsigned_abs();
        let (mut rest, mut quotient) = (0_u128, Vec::new());
        for figure in figures {
            // Ten times the rest is added up, as 128 bits need not hold it.
            let (mut next, mut count) = (u128::from(figure - b'0'), 0_u8);
            for step in 0..=10 {
                next += if step == 0 { 0 } else { rest };
                while next >= by {
                    next -= by;
                    count += 1;
                }
            }
            rest = next;
            quotient.push(count);
        }
        if rest >= by - rest {
            let kept = quotient.iter().rposition(|figure| *figure < 9);
            quotient[kept.map_or(0, |at| at + 1)..].fill(0);
            match kept {
                Some(at) => quotient[at] += 1,
                None => quotient.insert(0, 1),
            }
        }
        let text: String = quotient.into_iter().map(|figure| char::from(b'0' + figure)).collect();
        let text = text.trim_start_matches('0');
        if text.len() > usize::from(precision) {
            return None;
        }
        let quotient: i128 = if text.is_empty() { 0 } else { text.parse().expect("38 digits at most") };
        Some(if (dividend < 0) == (divisor < 0) { quotient } else { -quotient })
    }

    #[test]
    fn halves_go_away_from_zero() {
        let division = Division::new(0, 38);
        for (dividend, divisor, quotient) in
            [(5, 2, 3), (-5, 2, -3), (5, -2, -3), (-5, -2, 3), (4, 3, 1), (5, 3, 2), (-5, 3, -2), (1, 3, 0), (0, -7, 0)]
        {
            assert_eq!(division.quotient(dividend, divisor), Some(quotient), "{dividend} / {divisor}");
        }
    }

    #[test]
    fn what_has_more_digits_than_there_are_is_none() {
        let most = 10_i128.pow(38) - 1;
        for (dividend, divisor, digits, precision, quotient) in [
            (most, 1, 0, 38, Some(most)),
            (-most, 1, 0, 38, Some(-most)),
            (most, most, 37, 38, Some(10_i128.pow(37))),
            (most, most, 38, 38, None),
            (most, -most, 16, 38, Some(-10_i128.pow(16))),
            (most, 10, 1, 38, Some(most)),
            (most, 10, 2, 38, None),
            (1, most, 76, 38, None),
            (1, most, 75, 38, Some(10_i128.pow(37))),
            (most, 2, 76, 38, None),
            (0, most, 76, 38, Some(0)),
            (999, 2, 1, 4, Some(4995)),
            (9995, 10, 0, 3, None),
            (9994, 10, 0, 3, Some(999)),
        ] {
            let found = Division::new(digits, precision).quotient(dividend, divisor);
            assert_eq!(found, quotient, "{dividend} and {digits} digits / {divisor}");
            assert_eq!(on_paper(dividend, divisor, digits, precision), quotient, "{dividend} / {divisor} on paper");
        }
    }

    /// Numbers of all lengths.
    fn numbers() -> impl Strategy<Value = i128> {
        (0_u32..39, any::<i128>()).prop_map(|(digits, number)| number % 10_i128.pow(digits))
    }

    proptest! {
        #[test]
        fn quotients_are_those_of_long_division(
            dividend in numbers(),
            divisor in numbers(),
            digits in 0_u32..77,
            precision in 1_u8..39,
        ) {
            prop_assume!(divisor != 0);
            let found = Division::new(digits, precision).quotient(dividend, divisor);
            prop_assert_eq!(found, on_paper(dividend, divisor, digits, precision));
        }
    }
}
